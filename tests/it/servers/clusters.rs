//! The clusters that other tests use do what real ones do.

use mysql_warm_pool::mysql_async::{Conn, Error, prelude::Queryable};
use test_support::{Galera, Replication, Server, eventually};

const TABLE: &str = "CREATE TABLE test.entry (id INT AUTO_INCREMENT PRIMARY KEY)";

/// Writes a row as the tests' user.
async fn write(server: &Server) -> Result<(), Error> {
    let mut conn = Conn::new(server.opts()).await?;
    let insert = "INSERT INTO entry () VALUES ()";
    conn.query_drop(insert).await
}

/// The number of rows that user sees.
async fn rows(server: &Server) -> Result<u64, Error> {
    let mut conn = Conn::new(server.opts()).await?;
    let rows = conn.query_first("SELECT COUNT(*) FROM entry").await?;
    Ok(rows.expect("a count"))
}

async fn has(server: &Server, count: u64) {
    eventually("it has all rows", async || {
        rows(server).await.is_ok_and(|rows| rows == count)
    })
    .await;
}

async fn refuses(server: &Server, code: &str) {
    eventually("it takes no writes", async || {
        let error = write(server).await.err().map(|error| error.to_string());
        error.is_some_and(|error| error.contains(code))
    })
    .await;
}

#[tokio::test]
async fn a_galera_node_that_was_cut_off_or_killed_comes_back() {
    let Some(cluster) = Galera::start(3, &[]).await else {
        return;
    };
    let [one, two, three] = [0, 1, 2].map(|n| cluster.node(n));
    one.execute(TABLE).await;
    write(two).await.expect("any node takes writes");
    has(three, 1).await;

    cluster.isolate(0).await;
    refuses(one, "1047").await;
    eventually("the others go on", async || write(two).await.is_ok()).await;
    cluster.rejoin(0).await;
    cluster.wait_size(3).await;
    has(one, 2).await;
    write(one).await.expect("it takes writes again");

    cluster.kill(2).await;
    cluster.wait_size(2).await;
    write(one).await.expect("two are enough");
    cluster.start_again(2).await;
    has(three, 4).await;
    write(three).await.expect("it takes writes again");

    cluster.desync(1).await;
    assert_eq!(two.status_value("wsrep_local_state").await, 2);
    cluster.resync(1).await;
}

#[tokio::test]
async fn a_galera_cluster_that_was_killed_forms_anew() {
    let Some(cluster) = Galera::start(2, &[]).await else {
        return;
    };
    let [one, two] = [0, 1].map(|n| cluster.node(n));
    one.execute(TABLE).await;
    write(two).await.expect("written");
    has(one, 1).await;
    one.kill().await;
    two.kill().await;
    cluster.start_again(1).await;
    write(two).await.expect("written");
    cluster.start_again(0).await;
    has(one, 2).await;
}

#[tokio::test]
async fn a_replica_becomes_the_primary_as_planned_and_back() {
    let cluster = Replication::start(2).await;
    let [one, two, three] = [0, 1, 2].map(|n| cluster.node(n));
    one.execute(TABLE).await;
    write(one).await.expect("the primary takes writes");
    cluster.wait_caught_up().await;
    has(three, 1).await;
    refuses(two, "1290").await;

    cluster.switchover(1).await;
    assert_eq!(cluster.primary(), 1);
    refuses(one, "1290").await;
    write(two).await.expect("the new primary takes writes");
    cluster.wait_caught_up().await;
    has(one, 2).await;
    has(three, 2).await;
    cluster.switchover(0).await;
    write(one)
        .await
        .expect("the old primary takes writes again");
    cluster.wait_caught_up().await;
    has(two, 3).await;
}

#[tokio::test]
async fn a_killed_primary_comes_back_as_a_replica() {
    let cluster = Replication::start_semi_synchronous(2).await;
    let [one, two, three] = [0, 1, 2].map(|n| cluster.node(n));
    one.execute(TABLE).await;
    write(one).await.expect("written");
    one.kill().await;
    let new = cluster.most_advanced().await;
    cluster.promote(new).await;
    has(cluster.node(new), 1).await;
    write(cluster.node(new)).await.expect("it takes writes");
    cluster.rejoin(0).await;
    refuses(one, "1290").await;
    for node in [one, two, three] {
        has(node, 2).await;
    }
}

#[tokio::test]
async fn what_was_written_on_a_replica_is_lost_when_it_rejoins() {
    let cluster = Replication::start(1).await;
    let [one, two] = [0, 1].map(|n| cluster.node(n));
    one.execute(TABLE).await;
    cluster.wait_caught_up().await;
    cluster.split(1).await;
    for _ in 0..3 {
        write(two).await.expect("written on the other side");
    }
    write(one).await.expect("written");
    cluster.heal(1).await;
    has(two, 1).await;
    refuses(two, "1290").await;
    // Nothing was written: nothing is copied.
    cluster.split(1).await;
    cluster.heal(1).await;
    // A former primary loses what the new one did not get.
    cluster.promote(1).await;
    for _ in 0..3 {
        write(one).await.expect("written on the old primary");
    }
    write(two).await.expect("written");
    cluster.rejoin(0).await;
    has(one, 2).await;
    write(two).await.expect("written");
    has(one, 3).await;
}

#[tokio::test]
async fn a_replica_that_does_not_apply_falls_behind() {
    let cluster = Replication::start(1).await;
    let [one, two] = [0, 1].map(|n| cluster.node(n));
    let right = Replication::right_to_read_lag();
    one.create_user("watcher", "Vb6nRw3xPq8T", right).await;
    one.execute(TABLE).await;
    cluster.wait_caught_up().await;
    cluster.stop_applying(1).await;
    write(one).await.expect("written");
    assert_eq!(rows(two).await.expect("stale"), 0);
    cluster.start_applying(1).await;
    has(two, 1).await;
    let watcher = two.url_as("watcher", "Vb6nRw3xPq8T");
    let mut conn = Conn::from_url(&watcher).await.expect("a connection");
    let status = "SHOW REPLICA STATUS";
    conn.query_drop(status).await.expect("it may read the lag");
}
