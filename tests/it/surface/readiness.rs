//! Readiness, health and secrets: what the pool reports about itself.

use std::time::Duration;

use mysql_warm_pool::{PooledConn, Readiness};
use test_support::{HANGING, Proxy, Server, config, eventually, pool, warm};

#[tokio::test]
async fn readiness_goes_from_cold_over_warming_to_ready_and_closed() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.delay_opening(Duration::from_millis(50));
    let pool = pool(config(&server.url_via(proxy.port())).size(3));
    let mut watch = pool.watch();
    assert_eq!(
        (pool.readiness(), watch.current()),
        (Readiness::Cold, Readiness::Cold)
    );
    assert!(!pool.readiness().is_serving());
    let (warmed, seen, ready) = tokio::join!(
        pool.warm_up(),
        async {
            let mut seen = vec![watch.changed().await];
            while seen.last() != Some(&Readiness::Ready) {
                seen.push(watch.changed().await);
            }
            seen
        },
        pool.wait_ready(),
    );
    let report = warmed.expect("warm");
    ready.expect("ready");
    // On a busy machine an opening may take so long that it counts as hanging: then the pool is
    // Unavailable in between.
    if report.connect_time.is_some_and(|took| took.max < HANGING) {
        assert_eq!(seen, [Readiness::Warming, Readiness::Ready]);
    }
    assert_eq!(seen.first(), Some(&Readiness::Warming));
    assert!(pool.readiness().is_serving());
    let health = pool.health();
    assert_eq!(
        (health.readiness, health.last_error),
        (Readiness::Ready, None)
    );
    assert_eq!(health.status, pool.status());
    pool.close().await;
    assert_eq!(watch.changed().await, Readiness::Closed);
}

#[tokio::test]
async fn a_first_fill_that_fails_is_unavailable_and_recovers() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.refuse().await;
    let pool = pool(config(&server.url_via(proxy.port())).size(2));
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.wait_ready().await }
    });
    drop(
        pool.get_within(Duration::from_millis(50))
            .await
            .expect_err("refused"),
    );
    assert_eq!(pool.readiness(), Readiness::Unavailable);
    let error = pool.health().last_error.expect("a reason");
    assert!(
        error.contains("refused") && error.contains("start the server"),
        "{error}"
    );
    // No caller is active any more; the pool continues by itself.
    proxy.accept_again().await;
    waiting.await.expect("no panic").expect("ready by itself");
    assert_eq!(pool.readiness(), Readiness::Ready);
}

#[tokio::test]
async fn busy_is_not_down() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(2).overflow(0)).await;
    let _held = (
        pool.get().await.expect("one"),
        pool.get().await.expect("two"),
    );
    let mut watch = pool.watch();
    // Longer than it takes to notice a server that does not answer: but the server was not queried.
    drop(
        pool.get_within(Duration::from_millis(1200))
            .await
            .expect_err("all in use"),
    );
    assert_eq!(pool.readiness(), Readiness::Ready);
    let changed = tokio::time::timeout(Duration::ZERO, watch.changed()).await;
    assert!(changed.is_err(), "{changed:?}");
}

#[tokio::test]
async fn one_lost_connection_does_not_take_the_pool_out_of_service() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut watch = pool.watch();
    let before = pool.metrics().create_time.sum();
    PooledConn::discard(pool.get().await.expect("a connection"));
    drop(pool.get().await.expect("another"));
    let changed = tokio::time::timeout(Duration::from_millis(20), watch.changed()).await;
    // On a busy machine the opening may take so long that it counts as hanging.
    let took = pool.metrics().create_time.sum() - before;
    assert!(changed.is_err() || took >= HANGING, "{changed:?}");
    eventually("it is idle", async || pool.status().idle == 1).await;
}
