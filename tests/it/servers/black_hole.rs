//! Connections whose packets are dropped silently, as by a firewall that has forgotten them:
//! callers are served by new ones, and a server that is only frozen keeps its connections.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mysql_warm_pool::{Pool, PoolConfig, PooledConn, Readiness};
use test_support::{
    PATIENCE, Proxy, Server, config, eventually,
    scripted::{QuestionKind, Scripted, Wire},
    warm,
};

/// Far longer than it takes, and shorter than `connect_timeout` here.
const SOON: Duration = Duration::from_secs(15);

fn settings(url: &str) -> PoolConfig {
    config(url)
        .size(4)
        .overflow(0)
        .validate_after_idle(Duration::ZERO)
        .keepalive(None)
        .connect_timeout(Duration::from_secs(60))
}

fn discarded(pool: &Pool) -> u64 {
    let metrics = pool.metrics();
    metrics.discarded.iter().map(|(_, count)| count).sum()
}

/// Gets a connection, runs a statement, holds the connection for a while; returns how long the get
/// took.
async fn call(pool: &Pool, hold: Duration) -> Duration {
    let began = Instant::now();
    let mut conn = pool.get_within(PATIENCE).await.expect("a connection");
    let took = began.elapsed();
    let answer = conn.query_first::<u64, _>("SELECT 7").await;
    assert_eq!(answer.expect("an answer"), Some(7));
    tokio::time::sleep(hold).await; // the caller's own work
    took
}

async fn eight_calls(pool: &Pool, hold: Duration) {
    let took = join_all((0..8).map(|_| call(pool, hold))).await;
    println!("served after {took:?}");
    assert!(took.iter().all(|took| *took < SOON), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_limit_full_of_dead_connections_callers_are_served() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    for hold in [Duration::ZERO, Duration::from_millis(200)] {
        let pool = warm(settings(&server.url_via(proxy.port()))).await;
        proxy.stall();
        eight_calls(&pool, hold).await;
        eventually("all are replaced", async || pool.status().idle == 4).await;
        assert_eq!((pool.metrics().opened, discarded(&pool)), (8, 4));
        assert!(proxy.peak().await <= 4, "{} at once", proxy.peak().await);
        pool.close().await;
        proxy.resume();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_finds_all_but_one_connection_in_place() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port()))).await;
    let frozen = server.freeze().await;
    let calls = tokio::spawn({
        let pool = pool.clone();
        async move { join_all((0..8).map(|_| call(&pool, Duration::ZERO))).await }
    });
    // The one opened in its place hangs.
    let hangs = || (proxy.accepted(), pool.status().connecting) == (5, 1);
    eventually("one is given up", async || hangs()).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // the server is frozen
    assert!(hangs(), "{} {}", proxy.accepted(), pool.status());
    drop(frozen);
    calls.await.expect("served");
    eventually("it is full", async || pool.status().idle == 4).await;
    assert_eq!((proxy.accepted(), discarded(&pool)), (5, 1));
    assert!(proxy.peak().await <= 4, "{} at once", proxy.peak().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_without_callers_finds_all_in_place() {
    let server = Server::start().await;
    let settings = settings(&server.url()).keepalive(Duration::from_millis(50));
    let pool = warm(settings).await;
    let frozen = server.freeze().await;
    eventually("all are validated", async || pool.status().cleaning == 4).await;
    tokio::time::sleep(Duration::from_secs(2)).await; // the server is frozen
    drop(frozen);
    eventually("all are idle", async || pool.status().idle == 4).await;
    assert_eq!((pool.metrics().opened, discarded(&pool)), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_one_dead_connection_serves_callers() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port())).size(1)).await;
    proxy.stall();
    eight_calls(&pool, Duration::ZERO).await;
    assert_eq!((pool.metrics().opened, discarded(&pool)), (2, 1));
    assert!(proxy.peak().await <= 1, "{} at once", proxy.peak().await);
}

/// Neither a caller that keeps a connection nor one whose statements are answered hides the dead
/// ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_connections_beside_callers_at_work_are_given_up() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port()))).await;
    let kept = pool.get().await.expect("a connection");
    let replaced = pool.get().await.expect("a connection");
    proxy.stall();
    PooledConn::discard(replaced);
    eventually("it is replaced", async || pool.status().idle == 3).await;
    // The newest comes first.
    let mut busy = pool.get().await.expect("a connection");
    let works = async {
        loop {
            busy.query_drop("DO SLEEP(0.01)").await.expect("an answer");
        }
    };
    tokio::select! {
        () = works => {}
        () = eight_calls(&pool, Duration::from_millis(50)) => {}
    }
    eventually("the dead are replaced", async || pool.status().idle == 2).await;
    assert_eq!(pool.metrics().opened, 7);
    drop(kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_connections_that_are_being_cleaned_are_given_up() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    // Those that no caller waits for are given up only then.
    let settings = settings(&server.url_via(proxy.port())).connect_timeout(Duration::from_secs(20));
    let pool = warm(settings).await;
    let held = join_all((0..4).map(async |_| {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("SET @changed = 1")
            .await
            .expect("an answer");
        conn
    }))
    .await;
    proxy.stall();
    drop(held);
    eight_calls(&pool, Duration::from_millis(200)).await;
    eventually("all are replaced", async || pool.status().idle == 4).await;
    assert_eq!((pool.metrics().opened, discarded(&pool)), (8, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_that_takes_long_is_not_given_up_for_nobody() {
    let scripted = Scripted::start().await;
    scripted.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            if question.kind() == QuestionKind::Reset {
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }
            wire.raw(&question.answer()).await?;
        }
    });
    let pool = warm(settings(&scripted.url()).size(2)).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("SET @changed = 1")
        .await
        .expect("an answer");
    drop(conn);
    // Opened after the reset began.
    PooledConn::discard(pool.get().await.expect("a connection"));
    eventually("both are idle", async || pool.status().idle == 2).await;
    assert_eq!((pool.metrics().opened, discarded(&pool)), (3, 1));
}

/// Callers that come later find the dead connections known to be dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_found_by_keepalive_delays_later_callers_little() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = settings(&server.url_via(proxy.port())).keepalive(Duration::from_millis(50));
    let pool = warm(settings).await;
    proxy.stall();
    eventually("readiness notices", async || {
        pool.readiness() != Readiness::Ready
    })
    .await;
    assert_eq!(discarded(&pool), 0, "nobody waits");
    eight_calls(&pool, Duration::from_millis(50)).await;
    eventually("all are replaced", async || pool.status().idle == 4).await;
    assert_eq!(pool.readiness(), Readiness::Ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_that_heals_gives_the_connections_back() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port()))).await;
    proxy.stall();
    // New ones do not get through either.
    proxy.accept_and_stall();
    let calls = tokio::spawn({
        let pool = pool.clone();
        async move { join_all((0..8).map(|_| call(&pool, Duration::ZERO))).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await; // packets are swallowed
    proxy.resume();
    calls.await.expect("served");
    eventually("it is full", async || pool.status().idle == 4).await;
    assert_eq!((proxy.accepted(), discarded(&pool)), (5, 1));
}

/// The server still counts the connection that was given up, so it refuses the one in its place:
/// the others are kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_room_costs_one_connection() {
    let server = Server::start().await;
    server
        .execute("CREATE USER few@'%' IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 4")
        .await;
    server.execute("GRANT ALL ON test.* TO few@'%'").await;
    let proxy = Proxy::start(server.port()).await;
    let url = server
        .url_as("few", "x")
        .replace(&server.port().to_string(), &proxy.port().to_string());
    let pool = warm(settings(&url)).await;
    proxy.stall();
    let error = pool
        .get_within(Duration::from_secs(6))
        .await
        .expect_err("no room");
    assert!(error.to_string().contains("1226"), "{error}");
    assert_eq!((pool.status().open, discarded(&pool)), (3, 1));
    proxy.resume();
    eight_calls(&pool, Duration::ZERO).await;
    eventually("it is full", async || pool.status().idle == 4).await;
    assert_eq!((pool.metrics().opened, discarded(&pool)), (5, 1));
}
