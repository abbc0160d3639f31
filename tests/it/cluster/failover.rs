//! Failover under 200 writes and 400 reads a second, on real clusters. Each test causes one
//! failover, or `CLUSTER_FAILOVERS` of them, and prints the times.

use std::{
    collections::BTreeMap,
    env,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Error,
    cluster::{Cluster, ClusterConfig, Role},
};
use test_support::{Flavor, Galera, Group, Replication, Server, config, eventually, skip};
use tokio::{task::JoinSet, time::sleep};

use super::{
    load::{Account, Load, TABLES, takes_writes},
    roles,
};

const SIZE: usize = 10;
const OVERFLOW: usize = 10;

/// The cluster and its callers during some failovers.
struct Trial<'a> {
    nodes: &'a [Server],
    cluster: Cluster,
    load: Load,
    rounds: Vec<Round>,
}

/// One failover.
struct Round {
    began: Instant,
    ended: Instant,
    /// The port of the server that took writes before.
    old: u16,
    /// When each other server took writes, by its port.
    took_writes: BTreeMap<u16, Instant>,
}

fn rounds() -> usize {
    let given = env::var("CLUSTER_FAILOVERS").ok();
    given.and_then(|count| count.parse().ok()).unwrap_or(1)
}

impl<'a> Trial<'a> {
    async fn start(nodes: &'a [Server]) -> Self {
        let members = nodes.iter().map(|node| config(&node.url()));
        let members = members.map(|member| member.size(SIZE).overflow(OVERFLOW));
        let cluster = super::warm(ClusterConfig::new(members)).await;
        let writer = cluster
            .members()
            .iter()
            .position(|member| member.role == Role::Writer);
        let writer = nodes.get(writer.expect("a writer")).expect("a node");
        for table in TABLES {
            writer.execute(table).await;
        }
        let load = Load::start(&cluster);
        load.write(200).await;
        Self {
            nodes,
            cluster,
            load,
            rounds: Vec::new(),
        }
    }

    fn writer(&self) -> usize {
        let members = self.cluster.members();
        let found = members
            .iter()
            .position(|member| member.role == Role::Writer);
        found.expect("a writer")
    }

    /// Waits until every member is usable again.
    async fn whole(&self) {
        eventually("all members are usable", async || {
            let roles = roles(&self.cluster);
            let writers = roles.iter().filter(|role| **role == Role::Writer).count();
            let replicas = roles.iter().filter(|role| **role == Role::Replica).count();
            writers == 1 && replicas == self.nodes.len() - 1
        })
        .await;
        self.load.write(200).await;
    }

    /// Causes a failover, and waits until the callers write again.
    async fn fail_over(&mut self, cause: impl AsyncFnOnce(usize)) {
        let old = self.writer();
        let began = Instant::now();
        let took_writes = Arc::new(Mutex::new(BTreeMap::new()));
        let mut probes = JoinSet::new();
        for (_, node) in self.nodes.iter().enumerate().filter(|(n, _)| *n != old) {
            let (opts, port, found) = (node.opts(), node.port(), Arc::clone(&took_writes));
            probes.spawn(async move {
                let at = takes_writes(opts).await;
                found.lock().expect("unpoisoned").insert(port, at);
            });
        }
        cause(old).await;
        eventually("another server takes writes", async || {
            !took_writes.lock().expect("unpoisoned").is_empty()
        })
        .await;
        self.load.write(200).await;
        probes.shutdown().await;
        let took_writes = took_writes.lock().expect("unpoisoned").clone();
        self.rounds.push(Round {
            began,
            ended: Instant::now(),
            old: self.nodes[old].port(),
            took_writes,
        });
    }

    /// Stops the callers, and checks what is promised of every failover.
    async fn end(self, what: &str) {
        self.load.write(200).await;
        let failovers = self.cluster.failovers();
        let account = self.load.stop().await;
        let writer = self.cluster.writer().await;
        drop(writer.expect("a writer"));
        let members = self.cluster.members();
        let last = members
            .iter()
            .position(|member| member.role == Role::Writer);
        let last = &self.nodes[last.expect("a writer")];
        let rows = account.is_kept_by(last).await;

        let mut delays: Vec<_> = self
            .rounds
            .iter()
            .map(|round| round.delay(&account, &rows))
            .collect();
        for (round, delay) in self.rounds.iter().zip(&delays) {
            let before = round
                .began
                .checked_sub(Duration::from_secs(1))
                .unwrap_or(round.began);
            println!(
                "{what}: served {delay:.0?} after the new writer took writes; p99 of reads {:.1?} \
                 before, {:.1?} meanwhile",
                account.p99_of_reads(before, round.began),
                account.p99_of_reads(round.began, round.ended),
            );
        }
        delays.sort();
        println!(
            "{what}: median {:.0?} of {} failovers; {} writes acknowledged, {} failed; {} reads, {} \
             failed",
            delays.get(delays.len() / 2),
            delays.len(),
            account.acknowledged.len(),
            account.failed_writes.len(),
            account.reads.len(),
            account.failed_reads.len(),
        );
        assert!(
            failovers >= u64::try_from(self.rounds.len()).expect("few"),
            "{failovers}"
        );
        // Callers waited for the new writer; only what was under way failed.
        for error in account.failed_writes.iter().chain(&account.failed_reads) {
            assert!(
                matches!(error, Error::Driver(_) | Error::ConnectionLost),
                "{error}"
            );
        }
        // Ten times as long as promised.
        for round in &self.rounds {
            let late = round.late_writes(&account, &rows);
            assert!(late.is_empty(), "written on the old one: {late:?}");
        }
        assert!(
            delays.iter().all(|delay| *delay < Duration::from_secs(15)),
            "{delays:?}"
        );
        for node in self.nodes {
            let most = node.status_value("Max_used_connections").await;
            // And the monitor's, the replicas' and this test's own.
            let limit = u64::try_from(SIZE + OVERFLOW).expect("small") + 1 + 9;
            assert!(most <= limit, "{most} connections");
        }
    }
}

impl Round {
    /// Writes that the old writer acknowledged although another server took writes. Answers that
    /// were on their way are not late.
    fn late_writes(&self, account: &Account, rows: &BTreeMap<u64, u16>) -> Vec<u64> {
        let taken_over = self.took_writes.values().min().expect("it took writes");
        let late = *taken_over + Duration::from_secs(1)..self.ended;
        let acknowledged = account.acknowledged.iter();
        let late = acknowledged
            .filter(|(id, at)| late.contains(at) && rows.get(id) == Some(&self.old))
            .map(|(id, _)| *id);
        late.collect()
    }

    /// How long after the new writer took writes the first caller was served by it.
    fn delay(&self, account: &Account, rows: &BTreeMap<u64, u16>) -> Duration {
        let acknowledged = account.acknowledged.iter();
        let served = acknowledged.filter_map(|(id, at)| Some((*at, *rows.get(id)?)));
        let during = |at: &Instant| (self.began..self.ended).contains(at);
        let on_new = served.filter(|(at, port)| during(at) && *port != self.old);
        let (at, port) = on_new.min().expect("a write on the new writer");
        let able = self.took_writes.get(&port).expect("it took writes");
        at.saturating_duration_since(*able)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_switchover_loses_nothing() {
    let servers = Replication::start(2).await;
    let mut trial = Trial::start(servers.nodes()).await;
    for _ in 0..rounds() {
        trial.whole().await;
        trial
            .fail_over(async |old| servers.switchover((old + 1) % 3).await)
            .await;
    }
    trial.whole().await;
    trial.end("switchover").await;
}

/// Semi-synchronous, because otherwise the dead primary takes acknowledged writes with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_replaced_by_the_promoted_replica() {
    let servers = Replication::start_semi_synchronous(2).await;
    let mut trial = Trial::start(servers.nodes()).await;
    for _ in 0..rounds() {
        trial.whole().await;
        let old = trial.writer();
        trial
            .fail_over(async |old| {
                servers.node(old).kill().await;
                sleep(Duration::from_millis(500)).await; // what a tool takes to notice
                let to = servers.most_advanced().await;
                servers.promote(to).await;
            })
            .await;
        servers.rejoin(old).await;
    }
    trial.whole().await;
    trial.end("kill and promotion").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_galera_node_is_replaced_by_another() {
    let Some(servers) = Galera::start(3, &[]).await else {
        return;
    };
    let mut trial = Trial::start(servers.nodes()).await;
    for _ in 0..rounds() {
        trial.whole().await;
        let old = trial.writer();
        trial.fail_over(async |old| servers.kill(old).await).await;
        servers.start_again(old).await;
    }
    trial.whole().await;
    trial.end("Galera, kill").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_galera_node_cut_off_is_replaced_by_another() {
    let Some(servers) = Galera::start(3, &[]).await else {
        return;
    };
    let mut trial = Trial::start(servers.nodes()).await;
    for _ in 0..rounds() {
        trial.whole().await;
        let old = trial.writer();
        trial
            .fail_over(async |old| servers.isolate(old).await)
            .await;
        servers.rejoin(old).await;
    }
    trial.whole().await;
    trial.end("Galera, cut off").await;
}

/// It takes a minute: an unreachable primary is expelled after some 6 s, and its group elects
/// another after 20 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; scripts/check-release runs it"]
async fn a_killed_primary_of_a_group_is_replaced_by_the_elected_one() {
    if Flavor::chosen() == Flavor::MariaDb {
        return skip("Group Replication is MySQL's");
    }
    let servers = Group::start(&[]).await;
    let mut trial = Trial::start(servers.nodes()).await;
    for _ in 0..rounds() {
        trial.whole().await;
        let old = trial.writer();
        trial
            .fail_over(async |old| {
                servers.node(old).kill().await;
                let others: Vec<_> = (0..3).filter(|n| *n != old).collect();
                servers.new_primary(&others).await;
            })
            .await;
        servers.node(old).start_again().await;
        servers.join(old).await;
    }
    trial.whole().await;
    trial.end("Group Replication, kill").await;
}
