//! Closing, dropping, and runtimes that come and go.

use std::{
    sync::{LazyLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use mysql_warm_pool::{Error, Pool, PooledConn, Readiness, mysql_async::prelude::Queryable};
use test_support::{Proxy, Server, config, eventually, pool, warm};
use tokio::runtime::{Builder, Runtime};

const SOON: Duration = Duration::from_secs(5);

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[tokio::test]
async fn closing_says_goodbye_on_every_idle_connection() {
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(10)).await;
    let aborted = server.status_value("Aborted_clients").await;
    let report = pool.close().await;
    assert_eq!((report.drained, report.cut), (10, 0));
    assert_eq!(report.to_string(), "10 connections drained, 0 cut");
    eventually(SOON, "all are gone", async || {
        server.threads_connected().await == 0
    })
    .await;
    assert_eq!(server.status_value("Aborted_clients").await, aborted);
    assert_eq!(pool.readiness(), Readiness::Closed);
    assert_eq!(pool.status().open, 0);
    assert_eq!(pool.close().await.drained, 0);
}

#[tokio::test]
async fn a_closed_pool_says_so_at_once_to_all_who_ask_and_who_wait() {
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
    eventually(SOON, "they wait", async || pool.status().waiting == 5).await;
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    for caller in waiting {
        let told = tokio::time::timeout(SOON, caller).await.expect("told soon");
        let error = told.expect("no panic").expect_err("closed");
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
async fn connections_in_use_are_awaited_and_count_as_drained_when_they_come_back() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(2)).await;
    let mut held = pool.get().await.expect("a connection");
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    eventually(SOON, "it is closing", async || {
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
async fn what_is_in_use_when_the_time_is_over_is_cut() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(3)
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
    // And not when the statement ends.
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let (outcome, took) = work.await.expect("no panic");
    let error = outcome.expect_err("cut off");
    assert!(
        error.to_string().contains("closed") && took < SOON,
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
    eventually(SOON, "nothing is open", async || pool.status().open == 0).await;
}

#[tokio::test]
async fn the_last_handle_takes_idle_connections_and_tasks_with_it() {
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
        .expect("what is in use stays usable");
    drop(held);
    eventually(SOON, "no connection is left", async || {
        server.threads_connected().await == 0
    })
    .await;
    eventually(SOON, "no task is left", async || tasks() == before).await;
    assert_eq!(server.status_value("Aborted_clients").await, aborted);
}

#[tokio::test]
async fn dropping_a_pool_that_is_still_connecting_leaves_nothing_behind() {
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
            .expect_err("nobody answers"),
    );
    proxy.until_accepted(1, SOON).await;
    assert!(proxy.open() > 0);
    drop(pool);
    eventually(SOON, "no connection is left", async || proxy.open() == 0).await;
    eventually(SOON, "no task is left", async || tasks() == before).await;
}

#[test]
fn everything_can_be_dropped_outside_a_runtime_and_after_it() {
    for keep_runtime in [true, false] {
        let runtime = runtime();
        let (pool, conn, sent) = runtime.block_on(async {
            let server = Server::shared().await;
            let pool = warm(config(&server.url()).size(3)).await;
            let conn = pool.get().await.expect("a connection");
            let mut sent = pool.get().await.expect("a connection");
            sent.query_drop("SET @a = 1").await.expect("set");
            (pool, conn, sent)
        });
        let runtime = keep_runtime.then_some(runtime);
        drop(conn);
        drop(sent);
        drop(pool);
        drop(runtime);
    }
}

#[test]
fn a_pool_in_a_static_moves_to_the_next_runtime_when_its_own_is_gone() {
    static URL: LazyLock<String> =
        LazyLock::new(|| runtime().block_on(async { Server::shared().await.url() }));
    // Built before any runtime is.
    static POOL: LazyLock<Pool> = LazyLock::new(|| pool(config(&URL).size(3)));
    LazyLock::force(&POOL);
    for n in 0..3_u8 {
        let runtime = runtime();
        let answer: Option<u8> = runtime.block_on(async {
            POOL.warm_up().await.expect("warm");
            let mut conn = POOL.get().await.expect("a connection");
            conn.query_first(format!("SELECT {n}"))
                .await
                .expect("an answer")
        });
        assert_eq!(answer, Some(n));
    }
    assert!(POOL.status().open <= 3);
}

#[test]
fn a_pool_in_use_on_another_runtime_says_so_and_never_hangs() {
    let (one, other) = (runtime(), runtime());
    let pool = one.block_on(async {
        let server = Server::shared().await;
        warm(config(&server.url()).size(2)).await
    });
    let start = Instant::now();
    other.block_on(async {
        assert!(matches!(pool.get().await, Err(Error::WrongRuntime)));
        assert!(matches!(pool.warm_up().await, Err(Error::WrongRuntime)));
        assert!(pool.try_get().is_none());
    });
    assert!(start.elapsed() < Duration::from_secs(1));
    // Nothing was lost over there.
    one.block_on(async {
        drop((
            pool.get().await.expect("one"),
            pool.get().await.expect("two"),
        ));
    });
    assert_eq!(pool.metrics().opened, 2);
    drop(one);
    other.block_on(async {
        let mut conn = pool
            .get()
            .await
            .expect("its own runtime is gone, so it moved here");
        assert_eq!(
            conn.query_first("SELECT 7").await.expect("an answer"),
            Some(7_u8)
        );
    });
}

#[test]
fn what_comes_back_after_its_runtime_is_gone_has_nothing_opened_there() {
    let give_back: [fn(PooledConn); 3] = [drop, PooledConn::discard, |conn| {
        drop(PooledConn::detach(conn));
    }];
    for give_back in give_back {
        let runtime = runtime();
        let (pool, conn) = runtime.block_on(async {
            let server = Server::shared().await;
            let pool = warm(config(&server.url()).size(2).overflow(1)).await;
            let conn = pool.get().await.expect("a connection");
            // To be replaced, as soon as there is another.
            pool.refresh();
            (pool, conn)
        });
        drop(runtime);
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            give_back(conn);
            done.send(()).expect("somebody waits");
        });
        is_done.recv_timeout(SOON).expect("an end");
        assert_eq!(pool.status().connecting, 0);
    }
}

#[test]
fn a_connection_from_a_runtime_that_is_gone_is_not_lent_again() {
    let one = runtime();
    let (pool, held) = one.block_on(async {
        let server = Server::shared().await;
        let pool = warm(config(&server.url()).size(1).overflow(1)).await;
        let held = pool.get().await.expect("a connection");
        (pool, held)
    });
    let id = held.id();
    drop(one);
    runtime().block_on(async {
        drop(pool.get().await.expect("a new one"));
        drop(held);
        for _ in 0..3 {
            let mut conn = pool.get().await.expect("a connection");
            assert_ne!(conn.id(), id);
            assert_eq!(
                conn.query_first("SELECT 7").await.expect("an answer"),
                Some(7_u8)
            );
        }
    });
}

#[test]
fn outside_a_tokio_runtime_a_get_says_so() {
    let pool = pool(config("mysql://app@127.0.0.1:1/test"));
    let outcome = futures_util::future::FutureExt::now_or_never(pool.get());
    assert!(
        matches!(outcome, Some(Err(Error::WrongRuntime))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_was_being_proved_when_the_pool_closed_is_closed_when_it_answers() {
    let server = Server::start().await;
    for close in [true, false] {
        let proxy = Proxy::start(server.port()).await;
        let settings = config(&server.url_via(proxy.port()))
            .size(2)
            .overflow(0)
            .prove_after_idle(Duration::ZERO)
            .close_timeout(Duration::from_millis(100));
        let pool = warm(settings).await;
        proxy.stall();
        for _ in 0..2 {
            drop(
                pool.get_within(Duration::from_millis(20))
                    .await
                    .expect_err("no proof"),
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
        eventually(SOON, "both are closed", async || proxy.open() == 0).await;
        eventually(SOON, "no task is left", async || tasks() == 0).await;
    }
}
