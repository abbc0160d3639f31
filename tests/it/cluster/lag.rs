//! The lag of real replicas, and what follows from it.

use std::time::Duration;

use mysql_warm_pool::{
    Error,
    cluster::{Cluster, ClusterConfig, ClusterWarning, Reads},
};
use test_support::{Flavor, Replication, config, eventually};

use super::{address, warm};

const USER: &str = "watcher";
const PASSWORD: &str = "w4tcher";

/// The settings of an account with these rights beside those on its own schema.
async fn settings(servers: &Replication, rights: &str) -> ClusterConfig {
    let primary = servers.node(servers.primary());
    primary.create_user(USER, PASSWORD, rights).await;
    servers.wait_caught_up().await;
    let nodes = servers.nodes().iter();
    let members = nodes.map(|node| config(&node.url_as(USER, PASSWORD)).size(1).overflow(1));
    ClusterConfig::new(members).check_every(Duration::from_millis(200))
}

fn lags(cluster: &Cluster) -> Vec<Option<Duration>> {
    cluster.members().iter().map(|member| member.lag).collect()
}

fn serving(cluster: &Cluster) -> Vec<bool> {
    let members = cluster.members();
    members.iter().map(|member| member.serves_reads).collect()
}

async fn until_lags(cluster: &Cluster, expected: [Option<Duration>; 3]) {
    eventually("they are so far behind", async || lags(cluster) == expected).await;
}

async fn until_serving(cluster: &Cluster, expected: [bool; 3]) {
    eventually("these serve reads", async || serving(cluster) == expected).await;
}

#[tokio::test]
async fn a_replica_behind_serves_no_reads_until_it_has_caught_up() {
    let servers = Replication::start(2).await;
    let primary = servers.node(0);
    primary
        .execute("CREATE TABLE test.entry (id INT PRIMARY KEY)")
        .await;
    let settings = settings(&servers, Replication::right_to_read_lag()).await;
    let strict = settings
        .max_lag(Duration::from_secs(2))
        .reads(Reads::ReplicaOnly);
    let cluster = warm(strict).await;
    until_serving(&cluster, [false, true, true]).await;
    until_lags(&cluster, [Some(Duration::ZERO); 3]).await;

    servers.delay(1, Duration::from_secs(3600)).await;
    primary.execute("INSERT INTO test.entry VALUES (1)").await;
    until_serving(&cluster, [false, false, true]).await;
    eventually("its lag is shown", async || {
        lags(&cluster)[1].is_some_and(|lag| lag > Duration::from_secs(2))
    })
    .await;
    for _ in 0..10 {
        assert_eq!(super::reader_port(&cluster).await, servers.node(2).port());
    }
    servers.stop_applying(2).await;
    until_serving(&cluster, [false, false, false]).await;
    eventually("its lag is unknown", async || lags(&cluster)[2].is_none()).await;
    let error = cluster.reader().await.expect_err("no replica");
    assert!(matches!(error, Error::NoReplica { .. }), "{error}");

    servers.delay(1, Duration::ZERO).await;
    servers.start_applying(2).await;
    until_serving(&cluster, [false, true, true]).await;
}

/// It waits for all replicas at once, and gets none that has fallen behind meanwhile.
#[tokio::test]
async fn a_reader_that_waits_gets_no_replica_that_falls_behind() {
    let servers = Replication::start(2).await;
    let primary = servers.node(0);
    primary
        .execute("CREATE TABLE test.entry (id INT PRIMARY KEY)")
        .await;
    let rights = Replication::right_to_read_lag();
    let strict = settings(&servers, rights)
        .await
        .max_lag(Duration::from_secs(2));
    let cluster = warm(strict).await;
    cluster.resize(1, 0).expect("a limit of 1");
    until_serving(&cluster, [false, true, true]).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut conn = cluster.reader().await.expect("a reader");
        held.push((super::port(&mut conn).await, conn));
    }
    held.sort_by_key(|(port, _)| *port == servers.node(2).port());
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.reader().await }
    });
    eventually("it waits for both", async || {
        let members = cluster.members();
        members
            .iter()
            .filter(|member| member.status.waiting == 1)
            .count()
            == 2
    })
    .await;
    servers.delay(1, Duration::from_secs(3600)).await;
    primary.execute("INSERT INTO test.entry VALUES (1)").await;
    until_serving(&cluster, [false, false, true]).await;
    // The connection to the replica that is behind is returned first.
    let (_, behind) = held.remove(0);
    drop(behind);
    eventually("nobody gets that one", async || {
        cluster.members()[1].status.idle == 1
    })
    .await;
    assert!(!waiting.is_finished(), "it waits for the other");
    held.clear();
    let mut conn = waiting.await.expect("no panic").expect("a reader");
    assert_eq!(super::port(&mut conn).await, servers.node(2).port());
}

#[tokio::test]
async fn without_the_right_a_warning_names_the_grant() {
    let servers = Replication::start(2).await;
    let settings = settings(&servers, "")
        .await
        .max_lag(Duration::from_secs(60));
    let cluster = Cluster::new(settings).expect("valid settings");
    let report = cluster.warm_up().await.expect("a writer is enough");
    let grants: Vec<_> = report
        .warnings
        .iter()
        .map(|warning| match warning {
            ClusterWarning::LagUnknown { address, grant } => (address.clone(), grant.clone()),
            other => panic!("{other}"),
        })
        .collect();
    let right = match Flavor::chosen() {
        Flavor::MariaDb => "SLAVE MONITOR",
        Flavor::MySql => "REPLICATION CLIENT",
    };
    let grant = format!("GRANT {right} ON *.* TO '{USER}'@'%'");
    let expected: Vec<_> = servers
        .nodes()
        .iter()
        .map(|node| (address(node), grant.clone()))
        .collect();
    assert_eq!(grants, expected, "{report}");
    until_lags(&cluster, [Some(Duration::ZERO), None, None]).await;
    until_serving(&cluster, [false, false, false]).await;
    // By the policy, the writer serves reads.
    assert_eq!(super::reader_port(&cluster).await, servers.node(0).port());

    servers.node(0).execute(&grant).await;
    servers.wait_caught_up().await;
    cluster.refresh();
    until_serving(&cluster, [false, true, true]).await;
    until_lags(&cluster, [Some(Duration::ZERO); 3]).await;
    eventually("nothing is warned of", async || {
        let report = cluster.warm_up().await.expect("warm");
        report.warnings.is_empty()
    })
    .await;
}
