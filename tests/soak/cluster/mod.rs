//! Callers at work through a cluster while its members fail over, are cut off, stand still and fall
//! behind.
//!
//! | file | job |
//! |---|---|
//! | `plan.rs` | the settings and the faults, drawn from the seed |
//! | `caller.rs` | writes and reads, and checks where each call leads |
//! | `faults.rs` | injects faults |
//! | `ledger.rs` | the account of every row |
//! | `truth.rs` | what the members say themselves |

mod caller;
mod faults;
mod ledger;
mod plan;
mod truth;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    PoolConfig, Readiness,
    cluster::Cluster,
    mysql_async::{Conn, Opts, OptsBuilder},
};
use test_support::{Galera, PATIENCE, Proxy, Replication, Server, config, eventually};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    caller::{Caller, Shared, Tenure},
    faults::{Injector, Servers, Tally, World},
    ledger::{Ledger, TABLE},
    plan::{Deck, LIMIT},
    truth::Truth,
};
use crate::account::{Account, TICK};

const WRITERS: u64 = 10;
const READERS: u64 = 14;
/// The cluster's user, and that of the direct questions to the servers.
const USER: &str = "soak";
const OBSERVER: &str = "observer";
const PASSWORD: &str = "Qz8vKt4n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    Galera,
    /// A primary with two semi-synchronous replicas.
    Replication,
}

/// Runs the soak on a cluster of three, where it is installed.
pub(crate) async fn run(topology: Topology) {
    let seed = super::seed();
    let lasts = super::lasts();
    let Some(world) = world(topology).await else {
        return;
    };
    let members = world.nodes().iter().zip(&world.proxies);
    let members = members.map(|(node, proxy)| member(node, proxy)).collect();
    let settings = plan::settle(members, topology, &mut seed.fork(1_000));
    println!("SEED={seed:?}, {lasts:?}, {topology:?}, {settings:?}");
    let shared = Arc::new(Shared {
        topology,
        account: Account::default(),
        ledger: Ledger::default(),
        truth: Truth::new(
            topology,
            world.proxies.len(),
            settings.check_every,
            settings.max_lag,
        ),
        tenures: Mutex::new(vec![Tenure {
            member: 0,
            to: None,
        }]),
        stop: AtomicBool::new(false),
        ports: world
            .nodes()
            .iter()
            .zip(&world.proxies)
            .map(|(node, proxy)| (proxy.port(), node.port()))
            .collect(),
        tokens: AtomicU64::new(1),
    });
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let cluster = Cluster::new(settings).expect("valid settings");
    println!("{}", cluster.warm_up().await.expect("a warm cluster"));
    // A server that has just started may take longer than a warm-up waits for it.
    eventually("all members are ready", async || {
        cluster.readiness() == Readiness::Ready
    })
    .await;

    let timer = time_the_machine(Arc::clone(&shared));
    let begun = Instant::now();
    let mut observers = JoinSet::new();
    for n in 0..world.proxies.len() {
        let (shared, opts) = (Arc::clone(&shared), observer(&world.nodes()[n]));
        let flavor = world.nodes()[n].flavor();
        observers.spawn(async move {
            let is_stopped = || shared.is_stopped();
            let observing = shared
                .truth
                .observe(n, opts, flavor, &shared.account, is_stopped);
            observing.await;
        });
    }
    observers.spawn(watch(cluster.clone(), Arc::clone(&shared)));
    let mut callers = JoinSet::new();
    for number in 0..WRITERS + READERS {
        let caller = Caller {
            cluster: cluster.clone(),
            seed: seed.fork(number),
            shared: Arc::clone(&shared),
            writes: number < WRITERS,
        };
        callers.spawn(caller.work());
    }
    let injector = Injector {
        world: Arc::clone(&world),
        cluster: cluster.clone(),
        shared: Arc::clone(&shared),
        deck: Deck::new(seed.fork(2_000), topology),
        tally: Tally::default(),
    };
    let tally = injector.run(begun + lasts).await;
    shared.stop.store(true, Ordering::Relaxed);
    let account = &shared.account;
    for mut tasks in [callers, observers] {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                account.violation(format!("a task ended: {error}"));
            }
        }
    }
    timer.join().expect("no panic");

    let failovers = cluster.failovers();
    full_and_quiet(&cluster, &world, account).await;
    let compared = compare(&cluster, &world, &shared).await;
    nothing_is_left(cluster, &world, account, tasks_before).await;

    println!("{account}");
    println!(
        "rows: {} acknowledged and there, {} not committed and not there, {} unknown of which {} \
         are there; looked for after {} faults",
        compared.done, compared.undone, compared.unknown, compared.found_of_unknown, tally.audits
    );
    for (n, proxy) in world.proxies.iter().enumerate() {
        let peak = proxy.peak().await;
        if peak > LIMIT + 1 {
            account.violation(format!(
                "member {n} saw {peak} connections, of {LIMIT} and 1"
            ));
        }
        println!(
            "member {n}: at most {peak} connections at once of {LIMIT} and 1, {} opened in all",
            proxy.accepted()
        );
    }
    println!(
        "{failovers} failovers; at most {} attempts to connect in a fault of {:.1?}; the members \
         gave {} answers about themselves; half of the recoveries took {:?} and more",
        tally.most_attempts.0,
        tally.most_attempts.1,
        shared.truth.answers(),
        account.median_recovery()
    );
    let violations = account.violations();
    println!("violations: {}", violations.len());
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

async fn world(topology: Topology) -> Option<Arc<World>> {
    let (servers, right) = match topology {
        Topology::Galera => (Servers::Galera(Galera::start(3, &[]).await?), ""),
        Topology::Replication => (
            Servers::Replication(Replication::start_semi_synchronous(2).await),
            Replication::right_to_read_lag(),
        ),
    };
    let mut world = World {
        servers,
        proxies: Vec::new(),
    };
    let first = &world.nodes()[0];
    first.create_user(USER, PASSWORD, right).await;
    first.create_user(OBSERVER, PASSWORD, right).await;
    first.execute(TABLE).await;
    if let Servers::Replication(replication) = &world.servers {
        replication.wait_caught_up().await;
    }
    let ports: Vec<_> = world.nodes().iter().map(Server::port).collect();
    for port in ports {
        world.proxies.push(Proxy::start(port).await);
    }
    Some(Arc::new(world))
}

fn member(node: &Server, proxy: &Proxy) -> PoolConfig {
    let port = proxy.port();
    config(&node.url_as(USER, PASSWORD)).map_opts(|opts| opts.tcp_port(port))
}

/// How the server is asked directly.
fn observer(node: &Server) -> Opts {
    let opts = OptsBuilder::from_opts(node.opts()).user(Some(OBSERVER));
    opts.pass(Some(PASSWORD)).into()
}

fn time_the_machine(shared: Arc<Shared>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while !shared.is_stopped() {
            shared.account.tick();
            thread::sleep(TICK);
        }
    })
}

/// Checks every snapshot of the members' pools.
async fn watch(cluster: Cluster, shared: Arc<Shared>) {
    while !shared.is_stopped() {
        for member in cluster.members() {
            let status = &member.status;
            let adds_up = status.open == status.idle + status.in_use + status.cleaning
                && status.open + status.connecting <= LIMIT;
            if !adds_up {
                let text = format!("a status that does not add up: {member:?}");
                shared.account.violation(text);
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Checks that the cluster, with no caller left, is ready with `size` connections to each server
/// and the monitor's, and no others.
async fn full_and_quiet(cluster: &Cluster, world: &World, account: &Account) {
    let is_so = async {
        loop {
            let mut members = cluster.members().into_iter().zip(&world.proxies);
            let is_quiet = members.all(|(member, proxy)| {
                let status = member.status;
                status.open == status.size
                    && status.idle == status.size
                    && status.connecting + status.waiting == 0
                    && proxy.open() == status.size + 1
            });
            if is_quiet && cluster.readiness() == Readiness::Ready {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, is_so).await.is_err() {
        let open: Vec<_> = world.proxies.iter().map(Proxy::open).collect();
        account.violation(format!(
            "not full and quiet {PATIENCE:?} after the last caller: {:?}, {open:?} open",
            cluster.health()
        ));
    }
}

/// Compares all rows with the writer's, and the writer's with those of every other member.
async fn compare(cluster: &Cluster, world: &World, shared: &Shared) -> ledger::Compared {
    let mut conn = cluster.writer().await.expect("a writer");
    let found = ledger::rows(&mut conn).await.expect("rows");
    drop(conn);
    for (n, node) in world.nodes().iter().enumerate() {
        let mut differ = 0;
        let are_same = async {
            loop {
                let mut conn = Conn::new(observer(node)).await.expect("a connection");
                let own = ledger::rows(&mut conn).await.expect("rows");
                conn.disconnect().await.ok();
                if own == found {
                    return;
                }
                let others = own.iter().filter(|(id, row)| found.get(id) != Some(row));
                differ = others.count() + found.len().saturating_sub(own.len());
                sleep(Duration::from_millis(100)).await;
            }
        };
        if timeout(PATIENCE, are_same).await.is_err() {
            shared.account.violation(format!(
                "member {n} has other rows than the writer: {differ} of {} differ",
                found.len()
            ));
        }
    }
    shared.ledger.compare(&found, &shared.account)
}

/// Checks that a closed cluster leaves no task, no socket and no thread of the servers.
async fn nothing_is_left(cluster: Cluster, world: &World, account: &Account, tasks_before: usize) {
    let held = cluster.writer().await;
    let (report, ()) = tokio::join!(cluster.close(), async {
        sleep(Duration::from_millis(50)).await;
        drop(held);
    });
    if report.cut > 0 || cluster.readiness() != Readiness::Closed {
        account.violation(format!("at the end: {report}, {}", cluster.readiness()));
    }
    drop(cluster);
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let open = || world.proxies.iter().map(Proxy::open).sum::<usize>();
    let listed = async || {
        let mut listed = 0;
        for node in world.nodes() {
            listed += node.connections_of(USER).await;
        }
        listed
    };
    let is_so = async {
        while open() > 0 || listed().await > 0 || tasks() > tasks_before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, is_so).await.is_err() {
        account.violation(format!(
            "left behind: {} connections, {} listed by the servers, {} tasks",
            open(),
            listed().await,
            tasks() - tasks_before
        ));
    }
}
