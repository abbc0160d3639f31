//! Galera: which nodes are members, which one is written to, and nodes that no setting names.

use std::time::Duration;

use futures_util::future::join_all;
use mysql_warm_pool::{
    Error, Executor, OwnedTransaction, Pool,
    cluster::{Cluster, ClusterConfig, Role},
    mysql_async::TxOpts,
    report::Warning,
};
use test_support::{Galera, Server, config, eventually};
use tokio::{runtime::Handle, time::sleep};

use super::{address, roles, settings, until_roles, warm, writer_port};

use Role::{Replica, Unreachable, Unusable, Writer};

const OFTEN: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_synced_serves_nothing() {
    let Some(servers) = Galera::start(3, &[]).await else {
        return;
    };
    let nodes: Vec<_> = servers.nodes().iter().collect();
    let cluster = warm(settings(&nodes).check_every(OFTEN)).await;
    // The first in the URL, whichever answers first.
    until_roles(&cluster, &[Writer, Replica, Replica]).await;
    assert_eq!(cluster.failovers(), 0);

    servers.desync(1).await;
    until_roles(&cluster, &[Writer, Unusable, Replica]).await;
    for _ in 0..10 {
        assert_eq!(super::reader_port(&cluster).await, nodes[2].port());
    }
    servers.resync(1).await;
    until_roles(&cluster, &[Writer, Replica, Replica]).await;

    servers.isolate(0).await;
    until_roles(&cluster, &[Unusable, Writer, Replica]).await;
    assert_eq!(writer_port(&cluster).await, nodes[1].port());
    let members = cluster.members();
    let reason = members[0].last_error.as_deref().unwrap_or_default();
    assert!(reason.contains("no quorum in Galera"), "{reason}");
    servers.rejoin(0).await;
    // The second stays the writer.
    until_roles(&cluster, &[Replica, Writer, Replica]).await;
    assert_eq!(cluster.failovers(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_quorum_there_is_no_writer_and_a_reason() {
    let Some(servers) = Galera::start(3, &[]).await else {
        return;
    };
    let nodes: Vec<_> = servers.nodes().iter().collect();
    let cluster = warm(settings(&nodes).check_every(OFTEN)).await;
    join_all((0..3).map(|n| servers.isolate(n))).await;
    until_roles(&cluster, &[Unusable; 3]).await;
    let error = cluster
        .writer_within(Duration::from_millis(100))
        .await
        .expect_err("no quorum");
    let Error::NoWriter { members, .. } = &error else {
        panic!("{error}");
    };
    for (node, member) in nodes.iter().zip(members) {
        let part = format!("{} is unusable (no quorum in Galera", address(node));
        assert!(member.starts_with(&part), "{error}");
    }
    let error = cluster
        .reader_within(Duration::from_millis(100))
        .await
        .expect_err("no quorum");
    assert!(matches!(error, Error::NoWriter { .. }), "{error}");
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    let members = cluster.members();
    members.into_iter().map(|member| member.address).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_no_setting_names_are_discovered() {
    let Some(servers) = Galera::start(3, &[]).await else {
        return;
    };
    let nodes: Vec<_> = servers.nodes().iter().collect();
    // Its own name differs from the one that the nodes use.
    let url = nodes[1].url().replace("127.0.0.1", "localhost");
    let members = [config(&url)
        .size(2)
        .overflow(2)
        .close_timeout(Duration::from_secs(60))];
    let settings = ClusterConfig::new(members)
        .discover(true)
        .check_every(OFTEN);
    let cluster = Cluster::new(settings).expect("valid settings");
    let report = cluster.warm_up().await.expect("warm");
    // The default of `warm_up_timeout` is 30 s.
    assert!(report.elapsed < Duration::from_secs(20), "{report}");
    let expected = [
        format!("localhost:{}", nodes[1].port()),
        address(nodes[0]),
        address(nodes[2]),
    ];
    eventually("the others are members, each once", async || {
        let mut found = addresses(&cluster);
        found.sort();
        let mut expected = expected.clone();
        expected.sort();
        found == expected && roles(&cluster).iter().all(|role| role.number() >= 3)
    })
    .await;
    assert_eq!(writer_port(&cluster).await, nodes[1].port());
    for node in &nodes {
        eventually("each has its pool and a monitor", async || {
            node.threads_connected().await == 3
        })
        .await;
        let most = node.status_value("Max_used_connections").await;
        // The second name of a node has a monitor of its own for a moment.
        assert!(most <= 2 + 1 + 1 + 1, "{most}");
    }

    let tasks = || Handle::current().metrics().num_alive_tasks();
    let mut before = tasks();
    // Some tasks last for a moment only.
    for _ in 0..20 {
        sleep(OFTEN / 4).await;
        before = before.min(tasks());
    }
    let gone = nodes[2];
    let pool = cluster.pool(&address(gone)).expect("a member");
    let held = pool.get().await.expect("a connection");
    servers.kill(2).await;
    eventually("it is removed", async || addresses(&cluster).len() == 2).await;
    eventually("its pool is closed", async || {
        matches!(pool.get_within(Duration::ZERO).await, Err(Error::Closed))
    })
    .await;
    servers.start_again(2).await;
    // The others list it again. That it is not added can only be watched for some checks.
    servers.wait_size(3).await;
    for _ in 0..10 {
        sleep(OFTEN).await;
        let is_back = addresses(&cluster).contains(&address(gone));
        assert!(!is_back, "a caller has a connection of its old pool");
    }
    drop(held);
    eventually("it is back", async || {
        addresses(&cluster).contains(&address(gone))
    })
    .await;
    eventually("no task of the removed member is left", async || {
        tasks() <= before
    })
    .await;
}

/// A network failure on this side must not empty the list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovered_nodes_stay_while_nobody_answers() {
    let Some(servers) = Galera::start(2, &[]).await else {
        return;
    };
    let nodes: Vec<&Server> = servers.nodes().iter().collect();
    let members = [config(&nodes[0].url()).size(1)];
    let settings = ClusterConfig::new(members)
        .discover(true)
        .check_every(OFTEN);
    let cluster = warm(settings).await;
    until_roles(&cluster, &[Writer, Replica]).await;
    {
        let _frozen = (servers.freeze(0).await, servers.freeze(1).await);
        until_roles(&cluster, &[Unreachable, Unreachable]).await;
    }
    eventually("both are back", async || {
        roles(&cluster).iter().all(|role| role.number() >= 3)
    })
    .await;
    assert_eq!(addresses(&cluster), [address(nodes[0]), address(nodes[1])]);
}

/// A node that rolls back an idle transaction, because another node's write was first, says so in
/// place of the next answer, whatever was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_lost_while_idle_costs_no_connection() {
    let Some(servers) = Galera::start(2, &[]).await else {
        return;
    };
    let (one, other) = (&servers.nodes()[0], &servers.nodes()[1]);
    one.execute("CREATE TABLE counter (id INT PRIMARY KEY, value INT)")
        .await;
    one.execute("INSERT INTO counter VALUES (1, 0)").await;
    // It applies what the others have written, then asks.
    other.execute("SET GLOBAL wsrep_sync_wait = 7").await;
    let settings = config(&one.url()).size(1).overflow(0);
    let pool = Pool::new(settings).expect("valid settings");
    pool.warm_up().await.expect("warm");
    let id = pool.get().await.expect("a connection").id();
    // The first needs only a rollback, the second is undone, the third needs a reset.
    let changes = ["DO 1", "SET @a = 1", "PREPARE a FROM 'DO 1'"];
    // After an error the server is asked first whether the transaction is still open.
    let last = ["DO 1", "INSERT INTO counter VALUES (1, 0)"];
    let cases = changes
        .iter()
        .flat_map(|change| last.map(|last| (*change, last)));
    for (change, last) in cases {
        for end in [End::Drop, End::Rollback, End::DropOwned, End::RollbackOwned] {
            let mut conn = pool.get().await.expect("a connection");
            assert_eq!(conn.id(), id, "{change}, {last}, {end:?}");
            conn.query_drop(change).await.expect(change);
            match end {
                End::Drop | End::Rollback => {
                    let begun = conn.start_transaction(TxOpts::default()).await;
                    let mut transaction = begun.expect("begun");
                    write_and_lose(&mut transaction, last, one, other).await;
                    if end == End::Rollback {
                        transaction.rollback().await.expect("rolled back");
                    }
                }
                End::DropOwned | End::RollbackOwned => {
                    let begun = OwnedTransaction::begin(conn, TxOpts::default()).await;
                    let mut transaction = begun.expect("begun");
                    write_and_lose(&mut transaction, last, one, other).await;
                    if end == End::RollbackOwned {
                        transaction.rollback().await.expect("rolled back");
                    }
                }
            }
        }
    }
    let mut conn = pool.get().await.expect("a connection");
    assert_eq!(conn.id(), id);
    let is_clean: Option<bool> = conn
        .query_first("SELECT @a IS NULL")
        .await
        .expect("an answer");
    assert_eq!(is_clean, Some(true));
    let report = pool.warm_up().await.expect("warm");
    assert!(
        !report.warnings.contains(&Warning::ResetRefused),
        "{report}"
    );
}

/// Writes in a transaction on one node, which then loses to a write on the other.
async fn write_and_lose(db: &mut impl Executor, last: &str, one: &Server, other: &Server) {
    let update = "UPDATE counter SET value = value + 1";
    db.query_drop(update).await.expect("updated");
    assert_eq!(db.query_drop(last).await.is_ok(), last == "DO 1");
    let aborts = async || one.status_value("wsrep_local_bf_aborts").await;
    let before = aborts().await;
    other.execute("UPDATE counter SET value = value + 10").await;
    eventually("it has lost", async || aborts().await > before).await;
}

/// How a caller ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Drop,
    Rollback,
    DropOwned,
    RollbackOwned,
}
