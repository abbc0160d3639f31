//! Closing and dropping a pool: callers are notified, and nothing is left behind.

use std::time::{Duration, Instant};

use mysql_warm_pool::{Error, Readiness, mysql_async::prelude::Queryable};
use test_support::{PATIENCE, Proxy, Server, config, eventually, pool, warm};

#[tokio::test]
async fn closing_says_goodbye_on_every_idle_connection() {
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(10).overflow(0)).await;
    let aborted = server.status_value("Aborted_clients").await;
    let report = pool.close().await;
    assert_eq!((report.drained, report.cut), (10, 0));
    assert_eq!(report.to_string(), "10 connections drained, 0 cut");
    eventually("all are gone", async || {
        server.threads_connected().await == 0
    })
    .await;
    assert_eq!(server.status_value("Aborted_clients").await, aborted);
    assert_eq!(pool.readiness(), Readiness::Closed);
    assert_eq!(pool.status().open, 0);
    assert_eq!(pool.close().await, report, "what the first call did");
}

#[tokio::test]
async fn waiting_and_new_callers_get_closed_at_once() {
    let server = Server::shared().await;
    let settings = config(&server.url())
        .size(1)
        .overflow(0)
        .close_timeout(Duration::from_secs(60));
    let pool = warm(settings).await;
    let held = pool.get().await.expect("a connection");
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.get().await })
        })
        .collect();
    let mut watch = pool.watch();
    let readying = tokio::spawn({
        let cold = test_support::pool(config(&server.url()));
        let same = cold.clone();
        let waiting = tokio::spawn(async move { same.wait_ready().await });
        async move {
            tokio::task::yield_now().await;
            cold.close().await;
            waiting.await.expect("no panic")
        }
    });
    eventually("they wait", async || pool.status().waiting == 5).await;
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    for caller in waiting {
        let answer = tokio::time::timeout(PATIENCE, caller)
            .await
            .expect("an answer");
        let error = answer.expect("no panic").expect_err("closed");
        assert!(matches!(error, Error::Closed), "{error}");
    }
    assert!(!closing.is_finished(), "it waits for the one in use");
    assert!(matches!(pool.get().await, Err(Error::Closed)));
    assert!(matches!(pool.warm_up().await, Err(Error::Closed)));
    assert!(matches!(pool.wait_ready().await, Err(Error::Closed)));
    assert!(pool.try_get().is_none());
    assert_eq!(watch.changed().await, Readiness::Closed);
    assert!(matches!(
        readying.await.expect("no panic"),
        Err(Error::Closed)
    ));
    drop(held);
    assert_eq!(closing.await.expect("no panic").drained, 1);
}

#[tokio::test]
async fn connections_in_use_are_awaited_and_count_as_drained() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(2).overflow(0)).await;
    let mut held = pool.get().await.expect("a connection");
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    eventually("it is closing", async || {
        pool.readiness() == Readiness::Closed
    })
    .await;
    held.query_drop("DO SLEEP(0.05)")
        .await
        .expect("still usable");
    assert!(!closing.is_finished());
    drop(held);
    let report = closing.await.expect("no panic");
    assert_eq!((report.drained, report.cut), (2, 0));
}

#[tokio::test]
async fn concurrent_calls_get_the_same_report() {
    let server = Server::shared().await;
    let settings = config(&server.url())
        .size(4)
        .overflow(0)
        .close_timeout(Duration::from_millis(100));
    let pool = warm(settings).await;
    let held = pool.get().await.expect("a connection");
    // The first one begins to close, and is dropped.
    let first = tokio::time::timeout(Duration::from_millis(10), pool.close());
    first.await.expect_err("one is in use");
    let closing: Vec<_> = (0..5)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.close().await })
        })
        .collect();
    for closing in closing {
        let report = closing.await.expect("no panic");
        assert_eq!((report.drained, report.cut), (3, 1));
    }
    drop(held);
}

#[tokio::test]
async fn connections_in_use_after_close_timeout_are_cut() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(3)
        .overflow(0)
        .close_timeout(Duration::from_millis(100));
    let pool = warm(settings).await;
    let mut resting = pool.get().await.expect("a connection");
    let mut working = pool.get().await.expect("a connection");
    let work = tokio::spawn(async move {
        let start = Instant::now();
        (working.query_drop("DO SLEEP(60)").await, start.elapsed())
    });
    let start = Instant::now();
    let report = pool.close().await;
    assert_eq!((report.drained, report.cut), (1, 2));
    // At once, and not when the statement ends.
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    let (outcome, took) = work.await.expect("no panic");
    let error = outcome.expect_err("cut off");
    assert!(
        error.to_string().contains("closed") && took < PATIENCE,
        "{error}"
    );
    let error = resting
        .query_drop("SET GLOBAL max_connections = 77")
        .await
        .expect_err("cut off");
    assert!(error.to_string().contains("closed"), "{error}");
    let sent: Option<u16> = server
        .admin()
        .await
        .query_first("SELECT @@max_connections")
        .await
        .expect("an answer");
    assert_ne!(sent, Some(77), "what is refused is not sent");
    drop(resting);
    eventually("nothing is open", async || pool.status().open == 0).await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_idle_connections_and_tasks() {
    let server = Server::start().await;
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let aborted = server.status_value("Aborted_clients").await;
    let pool = warm(config(&server.url()).size(5)).await;
    let clone = pool.clone();
    drop(pool);
    let mut held = clone.get().await.expect("a clone is as good");
    drop(clone);
    held.query_drop("DO 1")
        .await
        .expect("a connection in use stays usable");
    drop(held);
    eventually("no connection is left", async || {
        server.threads_connected().await == 0
    })
    .await;
    eventually("no task is left", async || tasks() == before).await;
    assert_eq!(server.status_value("Aborted_clients").await, aborted);
}

#[tokio::test]
async fn dropping_a_pool_while_it_connects_leaves_nothing_behind() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.accept_and_stall();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let pool = pool(config(&server.url_via(proxy.port())).size(5));
    drop(
        pool.get_within(Duration::from_millis(50))
            .await
            .expect_err("the server does not answer"),
    );
    proxy.until_accepted(1).await;
    assert!(proxy.open() > 0);
    drop(pool);
    eventually("no connection is left", async || proxy.open() == 0).await;
    eventually("no task is left", async || tasks() == before).await;
}

#[tokio::test]
async fn a_connection_being_validated_at_close_is_closed_afterwards() {
    let server = Server::start().await;
    for close in [true, false] {
        let proxy = Proxy::start(server.port()).await;
        let settings = config(&server.url_via(proxy.port()))
            .size(2)
            .overflow(0)
            .validate_after_idle(Duration::ZERO)
            .close_timeout(Duration::from_millis(100));
        let pool = warm(settings).await;
        proxy.stall();
        for _ in 0..2 {
            drop(
                pool.get_within(Duration::from_millis(20))
                    .await
                    .expect_err("no validation"),
            );
        }
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        if close {
            let report = pool.close().await;
            assert_eq!((report.drained, report.cut), (0, 2));
        }
        drop(pool);
        proxy.resume();
        eventually("both are closed", async || proxy.open() == 0).await;
        eventually("no task is left", async || tasks() == 0).await;
    }
}
