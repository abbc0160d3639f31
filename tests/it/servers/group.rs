//! A real group of MySQL servers (Group Replication, single primary), without a Router.
//!
//! These tests need `scripts/with-database --server mysql --router`; elsewhere they are skipped.

use std::time::{Duration, Instant};

use mysql_warm_pool::{
    Pool, Readiness,
    mysql_async::{TxOpts, prelude::Queryable},
};
use test_support::{Group, Proxy, config, eventually, timed, warm};

use super::router::{ONE_GROUP, TABLE, counted, is_there};

const INSERT: &str = "INSERT INTO entry () VALUES ()";

/// How many connections were discarded because their server takes no writes.
fn left(pool: &Pool) -> u64 {
    let discarded = pool.metrics().discarded;
    let read_only = discarded
        .iter()
        .find(|(reason, _)| reason.name() == "read_only");
    read_only.map_or(0, |(_, count)| *count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_leaves_its_group_is_left_at_once() {
    if !is_there() {
        return;
    }
    let _turn = ONE_GROUP.lock().await;
    let group = Group::start(&[]).await;
    group.node(0).execute(TABLE).await;
    let proxy = Proxy::start(group.node(0).port()).await;
    let pool = warm(config(&group.node(0).url_via(proxy.port())).size(4)).await;
    let until = Instant::now() + Duration::from_secs(12);
    let writing = pool.clone();
    let writers =
        tokio::spawn(async move { super::router::eight_callers(&writing, until, INSERT).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut leaving = group.node(0).admin().await;
    let leave = leaving.query_drop("STOP GROUP_REPLICATION");
    let (left_group, first) = tokio::join!(leave, async {
        // The first error is 3100; it turns read-only about 3 s later.
        eventually("a connection is discarded", async || left(&pool) > 0).await;
        let mut conn = group.node(0).admin().await;
        let question = "SELECT @@global.super_read_only";
        conn.query_first::<u8, _>(question)
            .await
            .expect("an answer")
    });
    left_group.expect("it leaves");
    assert_eq!(first, Some(0), "not read-only yet");
    let primary = group.new_primary(&[1, 2]).await;
    proxy.switch_to(group.node(primary).port());
    let switched = Instant::now();
    eventually("the pool writes elsewhere", async || {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop(INSERT).await.is_ok()
    })
    .await;
    println!("written again after {:?}", switched.elapsed());
    let [gets, statements] = writers.await.expect("no panic");
    println!("{:?}", counted(&statements));
    assert!(gets.is_empty(), "{gets:?}");
    for error in &statements {
        assert!(error.contains("3100") || error.contains("1290"), "{error}");
    }
}

#[tokio::test]
async fn a_member_in_offline_mode_is_waited_for() {
    if !is_there() {
        return;
    }
    let _turn = ONE_GROUP.lock().await;
    let group = Group::start(&[
        "--loose-group-replication-unreachable-majority-timeout=1",
        "--loose-group-replication-exit-state-action=OFFLINE_MODE",
    ])
    .await;
    let alone = group.node(0);
    let pool = warm(config(&alone.url()).size(4)).await;
    group.node(1).kill().await;
    group.node(2).kill().await;
    // It closes the connections of accounts without special rights.
    eventually("it has shut the pool out", async || {
        let sessions = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'app'";
        let mut conn = alone.admin().await;
        conn.query_first(sessions).await.expect("a count") == Some(0)
    })
    .await;
    let open = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        alone.execute("SET GLOBAL offline_mode = OFF").await;
    };
    let get = async {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_first::<u8, _>("SELECT 1").await
    };
    let (get, ()) = tokio::join!(get, open);
    // A connection that it closed a moment before may still be handed out.
    if let Err(error) = get {
        println!("{error}");
    }
    eventually("the pool is full", async || pool.status().idle >= 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_without_quorum_end_by_the_statement_timeout() {
    if !is_there() {
        return;
    }
    let _turn = ONE_GROUP.lock().await;
    let group = Group::start(&[]).await;
    group.node(0).execute(TABLE).await;
    let settings = config(&group.node(0).url()).size(4);
    let pool = warm(settings.statement_timeout(Duration::from_secs(1))).await;
    let frozen = [group.node(1).freeze().await, group.node(2).freeze().await];
    eventually("it sees that it is alone", async || {
        group.states(0).await == ["ONLINE", "UNREACHABLE", "UNREACHABLE"]
    })
    .await;
    for in_transaction in [false, true] {
        let mut conn = pool.get().await.expect("a connection");
        let (written, took) = timed(async {
            if in_transaction {
                let mut transaction = conn.start_transaction(TxOpts::default()).await?;
                transaction.query_drop(INSERT).await?;
                transaction.commit().await
            } else {
                conn.query_drop(INSERT).await
            }
        })
        .await;
        let error = written.expect_err("no quorum");
        assert!(error.to_string().contains("statement_timeout"), "{error}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
    // Reads are answered, and the pool has nothing against this server.
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("SELECT COUNT(*) FROM entry")
        .await
        .expect("read");
    drop(conn);
    assert_eq!(pool.readiness(), Readiness::Ready);
    let waiting = group.node(0).threads_connected().await;
    println!("{waiting} sessions on the server");
    drop(frozen);
    eventually("writes go on", async || {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop(INSERT).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_member_becomes_the_primary_as_planned_or_when_it_dies() {
    if !is_there() {
        return;
    }
    let _turn = ONE_GROUP.lock().await;
    let (group, started) = timed(Group::start(&[Group::EXPEL_SOON])).await;
    println!("started in {started:?}");
    let (_, took) = timed(group.switchover(1)).await;
    println!("switched over in {took:?}");
    group.node(1).execute(TABLE).await;
    group.node(1).kill().await;
    let (primary, took) = timed(group.new_primary(&[0, 2])).await;
    println!("node {primary} is elected after {took:?}");
    let (_, took) = timed(group.start_again(1)).await;
    println!("joined in {took:?}");
    eventually("it is a member again", async || {
        group.states(1).await == ["ONLINE"; 3]
    })
    .await;
}
