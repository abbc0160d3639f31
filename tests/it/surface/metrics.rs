//! `Pool::metrics`: what is counted and timed.

use std::time::{Duration, Instant};

use mysql_warm_pool::Readiness;
use test_support::{Server, config, eventually, warm};

#[tokio::test]
async fn gets_openings_and_cleanings_are_counted_and_timed() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(2).overflow(0);
    let minute = Duration::from_secs(60);
    let pool = warm(settings.leak_after(minute).validate_after_idle(minute)).await;
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
    one.query_drop("PREPARE name FROM 'DO 1'")
        .await
        .expect("prepared");
    drop(one);
    drop(three.expect("three"));
    eventually("it is cleaned", async || pool.status().idle == 2).await;

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
async fn validations_of_suspects_are_counted_apart() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(3).overflow(0);
    let pool = warm(settings).await;
    let mut conn = pool.get().await.expect("a connection");
    let id = conn.id();
    assert_eq!(pool.metrics().suspects, 0);
    let killed = conn.query_drop(format!("KILL {id}")).await;
    drop(killed.expect_err("its own connection"));
    drop(conn);
    eventually("the others were validated", async || {
        let metrics = pool.metrics();
        (metrics.suspects, metrics.validations) == (2, 2)
    })
    .await;
}
