//! Readiness, health and secrets: what the pool says of itself.

use std::time::{Duration, Instant};

use mysql_warm_pool::{
    Pool, PooledConn, Readiness,
    mysql_async::{TxOpts, prelude::Queryable},
};
use test_support::{HANGING, Proxy, Server, attempted, config, eventually, pool, warm};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn readiness_goes_from_cold_over_warming_to_ready_and_closed() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.delay_opening(Duration::from_millis(50));
    let settings = config(&server.url_via(proxy.port())).size(3);
    // One that hung is a failure, of which readiness tells.
    attempted("none of the openings hung", async || {
        a_life(&pool(settings.clone())).await
    })
    .await;
}

/// `None` if an opening hung.
async fn a_life(pool: &Pool) -> Option<()> {
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
    if report.connect_time?.max >= HANGING {
        return None;
    }
    assert_eq!(seen, [Readiness::Warming, Readiness::Ready]);
    assert!(pool.readiness().is_serving());
    let health = pool.health();
    assert_eq!(
        (health.readiness, health.last_error),
        (Readiness::Ready, None)
    );
    assert_eq!(health.status, pool.status());
    pool.close().await;
    assert_eq!(watch.changed().await, Readiness::Closed);
    Some(())
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
    // Nobody asks any more; the pool goes on by itself.
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
    // For longer than a server that does not answer would have been noticed: but it was not asked.
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
    let settings = config(&server.url()).size(1).overflow(0);
    attempted("the opening did not hang", async || {
        let pool = warm(settings.clone()).await;
        let mut watch = pool.watch();
        let before = pool.metrics().create_time.sum();
        PooledConn::discard(pool.get().await.expect("a connection"));
        drop(pool.get().await.expect("another"));
        let changed = tokio::time::timeout(Duration::from_millis(20), watch.changed()).await;
        if pool.metrics().create_time.sum() - before >= HANGING {
            return None;
        }
        assert!(changed.is_err(), "{changed:?}");
        eventually(SOON, "it is idle", async || pool.status().idle == 1).await;
        Some(())
    })
    .await;
}

#[tokio::test]
async fn no_debug_text_and_no_error_holds_the_password() {
    let server = Server::shared().await;
    let password = server.opts().pass().expect("a password").to_owned();
    let pool = warm(config(&server.url()).size(2)).await;
    let mut conn = pool.get().await.expect("a connection");
    let mut texts = vec![
        format!("{pool:?}"),
        format!("{conn:?}"),
        format!("{:?}", pool.config()),
        format!("{:?}", pool.health()),
        format!("{:?}", pool.metrics()),
        format!("{:?}", pool.watch()),
    ];
    let transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    texts.push(format!("{transaction:?}"));
    drop(transaction);
    let refused = test_support::pool(config(&format!("mysql://app:{password}@127.0.0.1:1/test")));
    let error = refused
        .get_within(Duration::from_millis(20))
        .await
        .expect_err("refused");
    texts.extend([
        format!("{error:?}"),
        error.to_string(),
        format!("{:?}", refused.health()),
    ]);
    for text in texts {
        assert!(!text.contains(&password), "{text}");
    }
}

#[test]
fn a_pool_has_the_name_it_was_given_or_that_of_its_database() {
    let unnamed = config("mysql://app:secret@db/shop");
    assert_eq!(pool(unnamed.clone()).name(), "db:3306/shop");
    assert_eq!(pool(unnamed.name("orders".to_owned())).name(), "orders");
}

#[test]
fn the_handles_can_be_shared_and_sent() {
    fn is_shared<T: Clone + Send + Sync + Unpin + 'static>() {}
    fn is_sent<T: Send + Unpin>() {}
    is_shared::<Pool>();
    is_shared::<mysql_warm_pool::Error>();
    is_sent::<PooledConn>();
    is_sent::<mysql_warm_pool::Transaction<'_>>();
    is_sent::<mysql_warm_pool::ReadinessWatch>();
}

#[tokio::test]
async fn metrics_tell_what_became_of_gets_and_connections_and_how_long_it_took() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(2).overflow(0);
    let pool = warm(settings.leak_after(Duration::from_secs(60))).await;
    let mut one = pool.get().await.expect("one");
    let two = pool.get().await.expect("two");
    let waiting = pool.get_within(Duration::from_millis(30));
    drop(waiting.await.expect_err("all in use"));
    let begun = Instant::now();
    let (three, ()) = tokio::join!(pool.get(), async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        drop(two);
    });
    let waited_at_most = begun.elapsed();
    one.query_drop("SET @name = 1").await.expect("set");
    drop(one);
    drop(three.expect("three"));
    eventually(SOON, "it is cleaned", async || pool.status().idle == 2).await;

    let metrics = pool.metrics();
    assert_eq!(metrics.gets, 3);
    assert_eq!((metrics.gets_waited, metrics.timeouts), (2, 1));
    assert_eq!(metrics.wait_time.count(), 3);
    assert_eq!(metrics.wait_time.counts()[0], 2, "two were there at once");
    let waited = metrics.wait_time.sum();
    assert!(
        waited >= Duration::from_millis(25) && waited <= waited_at_most,
        "{waited:?}"
    );
    assert_eq!((metrics.opened, metrics.create_time.count()), (2, 2));
    assert!(metrics.create_time.sum() > Duration::ZERO);
    assert_eq!(metrics.use_time.count(), 3);
    assert!(
        metrics.use_time.sum() >= 2 * Duration::from_millis(55),
        "two were held all the while"
    );
    assert!(metrics.cleanings.contains(&("reset", 1)), "{metrics:?}");
    assert_eq!((metrics.cleaned, metrics.resets), (1, 1));
    assert!(
        metrics
            .warm_up_time
            .is_some_and(|time| time > Duration::ZERO)
    );
    assert_eq!(metrics.readiness, Readiness::Ready.number());
}

#[tokio::test]
async fn proofs_asked_for_because_another_connection_was_dead_are_told_apart() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(3).overflow(0);
    let pool = warm(settings).await;
    let mut conn = pool.get().await.expect("a connection");
    let id = conn.id();
    assert_eq!(pool.metrics().suspects, 0);
    let killed = conn.query_drop(format!("KILL {id}")).await;
    drop(killed.expect_err("its own connection"));
    drop(conn);
    eventually(SOON, "the others were asked", async || {
        let metrics = pool.metrics();
        (metrics.suspects, metrics.proofs) == (2, 2)
    })
    .await;
}
