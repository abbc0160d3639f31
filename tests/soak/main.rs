//! Callers at work while everything that can go wrong does: nothing is lost, mixed up or left
//! behind.
//!
//! Sixty-four callers, half of them on other runtimes than the pool's, do a mix of lookups,
//! transfers, streams, cancelled work, leaks and panics.
//! Meanwhile fault injection kills, restarts, freezes, cuts, exhausts, rotates the password, turns
//! the server read-only, resizes and refreshes. The server's tables and an account of every request
//! decide whether the run passes.
//!
//! A run lasts `SOAK_SECONDS` (default 10). The work is drawn from `SEED`, printed at the start;
//! the interleaving is not. `--nocapture` shows a summary, and so does every failure:
//!
//! ```sh
//! SOAK_SECONDS=600 cargo test --test soak -- --nocapture
//! ```
//!
//! | file | job |
//! |---|---|
//! | `plan.rs` | the work and the faults, drawn from the seed |
//! | `caller.rs` | does a caller's work |
//! | `faults.rs` | injects faults |
//! | `bank.rs` | the tables, and what must be true of them |
//! | `account.rs` | the account of every request, and which errors have a cause |
//! | `witness.rs` | observes status, server, readiness and memory |
//! | `cluster/` | the same through a `Cluster`: failovers, partitions, frozen members, lag |
//!
//! The tests of clusters are ignored by default:
//!
//! ```sh
//! SOAK_SECONDS=600 cargo test --test soak -- --nocapture --ignored galera
//! SOAK_SECONDS=600 cargo test --test soak -- --nocapture --ignored replication
//! ```

mod account;
mod bank;
mod caller;
mod cluster;
mod faults;
mod plan;
mod witness;

use std::{
    env, panic,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use mysql_warm_pool::{Error, Pool, Readiness, error::TimeoutCause, mysql_async::Conn};
use test_support::{Elsewhere, PATIENCE, Proxy, Seed, Server, config, warm};
use tokio::{
    runtime::Handle,
    sync::RwLock,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    caller::{Caller, DETACHED_AT_ONCE, Deliberate, Shared},
    cluster::Topology,
    faults::{Injector, Password, World},
    plan::Deck,
    witness::{Witness, allocated},
};

const CALLERS: u64 = 64;
/// The most connections that any of the pool's settings allow.
const LIMIT: usize = 24;
const MAX_CONNECTIONS: u32 = 60;
/// Bytes that may remain when the pool is gone: leaked futures, and what the runtime keeps.
const LEFT_AT_MOST: usize = 512 * 1024;
/// Bytes per idle connection: the driver's buffers, which grow with use.
const PER_CONNECTION_AT_MOST: usize = 128 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_mixed_up_or_left_behind_whatever_goes_wrong() {
    let seed = seed();
    let lasts = lasts();
    silence_deliberate_panics();
    let world = world().await;
    let settings =
        config(&world.server.url_via(world.proxy.port())).credentials(world.password.source());
    let settings = plan::settle(settings, &mut seed.fork(1_000), LIMIT);
    println!("SEED={seed:?}, {lasts:?}, {settings:?}");
    let as_new = {
        let mut conn = Conn::new(world.server.opts()).await.expect("a connection");
        let flavor = world.server.flavor();
        let values = bank::session_as_new(&mut conn, flavor, &settings.init).await;
        conn.disconnect().await.expect("a goodbye");
        values.expect("an answer")
    };
    let others = [(); 4].map(|()| Elsewhere::start());
    // Half of the callers run on the pool's runtime.
    let runtimes = others
        .iter()
        .flat_map(|other| [Handle::current(), other.handle().clone()]);
    let runtimes: Vec<_> = runtimes.collect();
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let allocated_before = allocated();
    let pool = warm(settings).await;
    let shared = Shared::new(world.server.flavor(), as_new);

    let timer = witness::time_the_machine(Arc::clone(&shared));
    let begun = Instant::now();
    let witness = tokio::spawn(
        Witness {
            world: Arc::clone(&world),
            pool: pool.clone(),
            shared: Arc::clone(&shared),
            begun,
            lasts,
        }
        .observe(),
    );
    let mut callers = JoinSet::new();
    for (number, runtime) in (0..CALLERS).zip(runtimes.iter().cycle()) {
        let caller = Caller::new(number, pool.clone(), &seed, Arc::clone(&shared));
        callers.spawn_on(caller.work(), runtime);
    }
    let injector = Injector {
        world: Arc::clone(&world),
        pool: pool.clone(),
        shared: Arc::clone(&shared),
        deck: Deck::new(seed.fork(2_000), LIMIT),
    };
    injector.run(begun + lasts).await;
    shared.stop.store(true, Ordering::Relaxed);
    let account = &shared.account;
    let mut logs = Vec::new();
    while let Some(ended) = callers.join_next().await {
        match ended {
            Ok(log) => logs.push(log),
            Err(error) => account.violation(format!("a caller ended: {error}")),
        }
    }
    let seen = witness.await.expect("no panic");
    timer.join().expect("no panic");

    full_and_quiet(&pool, &world, &shared).await;
    let of_the_quiet_pool = allocated().saturating_sub(allocated_before);
    let open = pool.status().open;
    every_slot_is_there(&pool, &shared).await;
    nothing_is_left(pool, &world, &shared, tasks_before).await;
    let of = |at: usize| logs.iter().map(|log| log.compared[at]).sum::<u64>();
    let [there, not_there, unknown] = [0, 1, 2].map(of);
    let found: u64 = logs.iter().map(|log| log.found_of_unknown).sum();
    drop(logs);
    let left = allocated().saturating_sub(allocated_before);
    if left > LEFT_AT_MOST || of_the_quiet_pool > LEFT_AT_MOST + open * PER_CONNECTION_AT_MOST {
        account.violation(format!(
            "memory grew: {of_the_quiet_pool} bytes with {open} idle connections, {left} after the end of the pool"
        ));
    }
    let mut conn = Conn::new(world.server.opts()).await.expect("a connection");
    let (transfers, notes) = bank::audit(&mut conn, account).await.expect("an audit");
    conn.disconnect().await.expect("a goodbye");

    let peak = world.proxy.peak().await;
    if peak > LIMIT + DETACHED_AT_ONCE {
        account.violation(format!(
            "{peak} connections at once, of {LIMIT} and {DETACHED_AT_ONCE} detached"
        ));
    }
    println!("{account}");
    println!(
        "writes: {there} acknowledged and there, {not_there} not committed and not there, {unknown} unknown of \
         which {found} are there"
    );
    println!(
        "tables: {transfers} transfers, {notes} notes; the money is compared account by account"
    );
    println!(
        "connections: at most {peak} at once of {LIMIT} and {DETACHED_AT_ONCE} detached, {} opened in all; \
         the server listed at most {}",
        world.proxy.accepted(),
        seen.listed
    );
    println!(
        "memory: {} KiB with {open} idle connections, {} KiB after the end of the pool, at least {seen} in the \
         quarters of the run; {} looks, {} changes of readiness",
        of_the_quiet_pool / 1024,
        left / 1024,
        seen.looks,
        seen.changes
    );
    println!(
        "half of the recoveries took {:?} and more",
        account.median_recovery()
    );
    let violations = account.violations();
    println!("violations: {}", violations.len());
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; scripts/check-release runs it"]
async fn no_write_is_lost_or_led_astray_on_galera() {
    cluster::run(Topology::Galera).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; scripts/check-release runs it"]
async fn no_write_is_lost_or_led_astray_on_replication() {
    cluster::run(Topology::Replication).await;
}

/// Like `Seed::new`, but known from the start.
fn seed() -> Seed {
    let root = match env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a whole number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| {
            since.as_secs() * 1_000 + u64::from(since.subsec_millis())
        }),
    };
    Seed::from(root)
}

fn lasts() -> Duration {
    let seconds = env::var("SOAK_SECONDS").map_or(10, |text| {
        text.parse().expect("SOAK_SECONDS is a whole number")
    });
    Duration::from_secs(seconds)
}

/// A server that loses no acknowledged write when it is killed, and the proxy in front of it.
async fn world() -> Arc<World> {
    let server = Server::builder()
        .max_connections(MAX_CONNECTIONS)
        .option("--innodb-flush-log-at-trx-commit=2")
        .option("--innodb-doublewrite=ON")
        .option("--innodb-lock-wait-timeout=2")
        .start()
        .await;
    let proxy = Proxy::start(server.port()).await;
    let password = Password::default();
    bank::open(&server, &password.text()).await;
    Arc::new(World {
        server,
        proxy,
        password,
        away: RwLock::new(()),
    })
}

fn silence_deliberate_panics() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Deliberate>() {
            default_hook(info);
        }
    }));
}

/// Checks that the pool, with no caller left, is ready with exactly `size` connections, all idle,
/// and that the server has no others.
async fn full_and_quiet(pool: &Pool, world: &World, shared: &Shared) {
    let start = Instant::now();
    let is_so = async {
        loop {
            let status = pool.status();
            let quiet = status.in_use + status.cleaning + status.connecting + status.waiting == 0;
            if quiet
                && status.open == status.size
                && status.idle == status.size
                && pool.readiness() == Readiness::Ready
                && world.proxy.open() == status.size
                && world.listed().await == status.size as u64
            {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    match timeout(PATIENCE, is_so).await {
        Ok(()) => println!("full and quiet {:?} after the last caller", start.elapsed()),
        Err(_) => shared.account.violation(format!(
            "not full and quiet {PATIENCE:?} after the last caller: {:?}, {} open, {} listed",
            pool.health(),
            world.proxy.open(),
            world.listed().await
        )),
    }
}

/// Checks that the whole limit can be obtained at once, and no more.
async fn every_slot_is_there(pool: &Pool, shared: &Shared) {
    let limit = pool.status().limit();
    let mut held = Vec::new();
    for n in 0..limit {
        match pool.get_within(PATIENCE).await {
            Ok(conn) => held.push(conn),
            Err(error) => {
                shared
                    .account
                    .violation(format!("slot {n} of {limit} is lost: {error}"));
                return;
            }
        }
    }
    match pool.get_within(Duration::from_millis(20)).await {
        Err(Error::Timeout {
            cause: TimeoutCause::Exhausted,
            ..
        }) => {}
        Ok(_) => shared.account.violation(format!("a slot beyond {limit}")),
        Err(error) => shared
            .account
            .violation(format!("beyond the limit: {error}")),
    }
}

/// Checks that a closed pool leaves no task, no socket and no thread of the server.
async fn nothing_is_left(pool: Pool, world: &World, shared: &Shared, tasks_before: usize) {
    let held = pool.try_get();
    let report = pool.close();
    let (report, ()) = tokio::join!(report, async {
        sleep(Duration::from_millis(50)).await;
        drop(held);
    });
    if report.cut > 0 {
        shared.account.violation(format!("at the end: {report}"));
    }
    let status = pool.status();
    if status.open + status.connecting > 0 || pool.readiness() != Readiness::Closed {
        shared.account.violation(format!("closed, and {status}"));
    }
    drop(pool);
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let is_so = async {
        while world.proxy.open() > 0 || world.listed().await > 0 || tasks() > tasks_before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, is_so).await.is_err() {
        shared.account.violation(format!(
            "left behind: {} connections, {} listed by the server, {} tasks",
            world.proxy.open(),
            world.listed().await,
            tasks() - tasks_before
        ));
    }
}
