//! A `size` of 0: nothing is kept, so that a serverless database can sleep.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use mysql_warm_pool::{Error, PoolConfig, Readiness};
use test_support::{Proxy, Server, config, eventually, pool, warm};

const LINGER: Duration = Duration::from_millis(200);

/// Settings whose maintenance has much to do if it does anything.
fn keep_nothing(url: &str) -> PoolConfig {
    config(url)
        .size(0)
        .overflow(4)
        .overflow_linger(LINGER)
        .recycle(Duration::from_secs(1))
        .keepalive(Duration::from_millis(50))
}

#[tokio::test]
async fn a_warm_up_opens_one_connection_that_lingers() {
    let server = Server::start().await;
    let pool = pool(keep_nothing(&server.url()).overflow_linger(Duration::from_secs(60)));
    assert_eq!(pool.readiness(), Readiness::Cold);
    let reports = try_join_all((0..3).map(|_| pool.warm_up()))
        .await
        .expect("warm");
    for report in reports {
        assert!(report.is_complete(), "{report}");
        assert_eq!((report.target, report.open, report.opened), (1, 1, 1));
        assert!(report.server.is_some());
    }
    assert_eq!(pool.readiness(), Readiness::Ready);
    assert_eq!((pool.status().open, pool.status().idle), (1, 1));
    let again = pool.warm_up().await.expect("warm");
    assert_eq!((again.open, again.opened, again.attempts), (1, 0, 0));
    drop(pool.get().await.expect("the one that lingers"));
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn without_a_linger_the_warm_up_still_reports_its_connection() {
    let server = Server::start().await;
    let pool = pool(keep_nothing(&server.url()).overflow_linger(Duration::ZERO));
    for _ in 0..10 {
        let report = pool.warm_up().await.expect("warm");
        assert!(report.is_complete(), "{report}");
        assert_eq!((report.target, report.open, report.opened), (1, 1, 1));
        assert_eq!(pool.readiness(), Readiness::Ready);
        eventually("it is closed", async || pool.status().open == 0).await;
    }
}

#[tokio::test]
async fn a_warm_up_that_finds_its_connection_dead_opens_another() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port())).size(0).overflow(2);
    let pool = pool(settings.overflow_linger(Duration::from_secs(600)));
    pool.warm_up().await.expect("warm");
    proxy.cut().await;
    // It shows only when it is used.
    assert_eq!(pool.status().idle, 1);
    let report = pool.warm_up().await.expect("warm again");
    assert_eq!((report.open, report.opened), (1, 1), "{report}");
}

#[tokio::test]
async fn the_server_sees_nothing_of_an_idle_pool() {
    let server = Server::start().await;
    let pool = warm(keep_nothing(&server.url())).await;
    let get_and_return = async || {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("SET @a = 1").await.expect("set");
    };
    for _ in 0..3 {
        join_all((0..3).map(|_| get_and_return())).await;
        eventually("nothing is open", async || {
            let status = pool.status();
            status.open + status.connecting == 0 && server.threads_connected().await == 0
        })
        .await;
        // Ten times as long as any of its times, the longest of which is `overflow_linger`.
        let opened = pool.metrics().opened;
        let before = server.status_value("Connections").await;
        tokio::time::sleep(LINGER * 10).await;
        assert_eq!(server.status_value("Connections").await, before);
        assert_eq!(pool.metrics().opened, opened);
        assert_eq!(pool.readiness(), Readiness::Ready);
        assert_eq!(pool.status().open, 0);
    }
}

#[tokio::test]
async fn readiness_follows_the_last_attempt() {
    let server = Server::start().await;
    let pool = warm(keep_nothing(&server.url()).timeout(Duration::from_millis(300))).await;
    eventually("it is closed", async || pool.status().open == 0).await;
    server.shutdown().await;
    // Nobody has asked since.
    assert_eq!(pool.readiness(), Readiness::Ready);
    pool.get().await.expect_err("the server is down");
    assert_eq!(pool.readiness(), Readiness::Unavailable);
    assert!(pool.health().last_error.is_some());
    // No request comes to a service that is not ready, so the pool tries again by itself.
    server.start_again().await;
    pool.wait_ready().await.expect("ready");
    eventually("nothing is kept", async || {
        let status = pool.status();
        status.open + status.connecting == 0 && server.threads_connected().await == 0
    })
    .await;
    assert_eq!(pool.readiness(), Readiness::Ready);
    let opened = pool.metrics().opened;
    tokio::time::sleep(LINGER * 5).await;
    assert_eq!(pool.metrics().opened, opened);
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for() {
    let server = Server::builder().prepare().await;
    let pool = pool(keep_nothing(&server.url()));
    let (report, ()) = tokio::join!(pool.warm_up(), async {
        eventually("attempts fail", async || {
            pool.metrics().failed_attempts >= 3
        })
        .await;
        assert_eq!(pool.readiness(), Readiness::Unavailable);
        server.start_again().await;
    });
    let report = report.expect("warm");
    assert_eq!((report.open, report.opened), (1, 1), "{report}");
    assert!(report.failed_attempts >= 3);
    assert_eq!(pool.readiness(), Readiness::Ready);
}

#[tokio::test]
async fn wrong_settings_end_the_warm_up_at_once() {
    let server = Server::start().await;
    let wrong_password = keep_nothing(&server.url_as("app", "wrong"));
    let wrong_statement = keep_nothing(&server.url()).init(["SELECT * FROM no_such_table"]);
    for config in [wrong_password, wrong_statement] {
        let pool = pool(config);
        let error = pool.warm_up().await.expect_err("wrong settings");
        let Error::WarmUp { report, source } = error else {
            panic!("another error: {error}");
        };
        assert!(!report.is_complete(), "{report}");
        assert!(source.is_some_and(|error| !error.is_transient()));
        assert_eq!(pool.readiness(), Readiness::Unavailable);
    }
}

#[tokio::test]
async fn a_refresh_and_the_maximum_age_open_nothing() {
    let server = Server::start().await;
    // One connection at most, so that no other can be opened to look for a sign of life.
    let config = keep_nothing(&server.url()).overflow(1);
    let pool = warm(config.overflow_linger(Duration::from_secs(60))).await;
    pool.refresh();
    eventually("the idle one is closed", async || pool.status().open == 0).await;
    assert_eq!(pool.metrics().opened, 1);
    let conn = pool.get().await.expect("a connection");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    drop(conn);
    eventually("the old one is closed", async || pool.status().open == 0).await;
    tokio::time::sleep(LINGER * 2).await;
    assert_eq!(pool.metrics().opened, 2);
    assert_eq!(pool.readiness(), Readiness::Ready);
}

#[tokio::test]
async fn the_size_can_be_changed_to_0_and_back() {
    let server = Server::start().await;
    let pool = warm(keep_nothing(&server.url()).size(3).overflow(1)).await;
    let error = pool.resize(0, 0).expect_err("no connection at all");
    assert!(error.to_string().contains("size is 0"), "{error}");
    pool.resize(0, 2).expect("resized");
    eventually("all are closed", async || {
        pool.status().open == 0 && pool.readiness() == Readiness::Ready
    })
    .await;
    pool.resize(2, 0).expect("resized");
    eventually("two are open", async || {
        pool.status().open == 2 && pool.readiness() == Readiness::Ready
    })
    .await;
    assert_eq!(pool.close().await.cut, 0);
}

#[tokio::test]
async fn callers_that_give_up_leave_nothing_open() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(keep_nothing(&server.url_via(proxy.port()))).await;
    eventually("it is closed", async || pool.status().open == 0).await;
    proxy.delay(Duration::from_millis(20));
    for _ in 0..20 {
        let gets = join_all((0..8).map(|_| pool.get_within(Duration::from_millis(5))));
        drop(gets.await);
        let status = pool.status();
        assert!(status.open + status.connecting <= 4, "{status}");
    }
    eventually("nothing is open", async || {
        let status = pool.status();
        status.open + status.connecting + status.waiting == 0
    })
    .await;
    assert_eq!(pool.readiness(), Readiness::Ready);
}
