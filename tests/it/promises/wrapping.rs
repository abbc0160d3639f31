//! What code that wraps a pool can learn from it, and tell it.

use std::{panic::Location, time::Duration};

use mysql_warm_pool::{Error, Pool, PooledConn};
use test_support::{Server, config, eventually, pool, warm};
use tokio::time::timeout;

struct Wrapper(Pool);

impl Wrapper {
    #[track_caller]
    fn conn(&self) -> impl Future<Output = Result<PooledConn, Error>> {
        let limit = Duration::from_millis(50);
        self.0.get_called_at(limit, Location::caller())
    }
}

#[tokio::test]
async fn an_error_names_the_line_of_the_wrappers_caller() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(1).overflow(0);
    let pool = warm(settings.leak_after(Duration::from_secs(60))).await;
    let wrapper = Wrapper(pool);
    let line = line!() + 1;
    let held = wrapper.conn().await.expect("a connection");
    let error = wrapper.conn().await.expect_err("exhausted").to_string();
    let here = format!("{}:{line}", file!());
    assert!(error.contains(&here), "{here}: {error}");
    drop(held);
}

#[tokio::test]
async fn a_refresh_is_noticed_whatever_caused_it() {
    let server = Server::start().await;
    server.execute("CREATE TABLE test.entry (id INT)").await;
    let pool = warm(config(&server.url()).size(1)).await;
    let mut refreshed = Box::pin(pool.refreshed());
    timeout(Duration::from_millis(50), &mut refreshed)
        .await
        .expect_err("nothing has happened");
    pool.refresh();
    refreshed.await;
    // An error on a connection that is about to be replaced refreshes nothing.
    eventually("it is replaced", async || {
        let status = pool.status();
        pool.metrics().opened == 2 && status.open == 1 && status.idle == 1
    })
    .await;

    let mut refreshed = Box::pin(pool.refreshed());
    timeout(Duration::from_millis(1), &mut refreshed)
        .await
        .expect_err("nothing has happened since");
    server.execute("SET GLOBAL read_only = ON").await;
    let error = pool.query_drop("INSERT INTO entry VALUES (1)").await;
    error.expect_err("read-only");
    refreshed.await;
}

#[tokio::test]
async fn suspect_connections_are_validated_before_they_are_handed_out() {
    let server = Server::start().await;
    let settings = config(&server.url()).size(4).overflow(0);
    let pool = warm(settings.validate_after_idle(Duration::from_secs(600))).await;
    server.kill_all_of("app").await;
    pool.suspect_all();
    for _ in 0..8 {
        pool.query_drop("DO 1").await.expect("a living connection");
    }
    eventually("all are validated", async || pool.metrics().suspects >= 4).await;
}

#[tokio::test]
async fn a_retry_opens_nothing_that_is_not_missing() {
    let server = Server::start().await;
    let pool = pool(config(&server.url()).size(2));
    pool.retry_now();
    assert_eq!(pool.status().open, 0, "it has not been used yet");
    pool.warm_up().await.expect("warm");
    for _ in 0..10 {
        pool.retry_now();
    }
    assert_eq!(pool.status().connecting, 0);
    assert_eq!(pool.metrics().opened, 2);
    pool.close().await;
    pool.retry_now();
    pool.suspect_all();
    assert_eq!(pool.metrics().opened, 2);
}
