//! Runtimes that come and go: a pool moves to the next one and leaves nothing behind.

use std::{
    sync::{LazyLock, mpsc},
    thread,
};

use mysql_warm_pool::{Error, Pool, PooledConn};
use test_support::{PATIENCE, Server, config, pool, warm};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
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
fn a_pool_in_a_static_moves_on_when_its_runtime_is_gone() {
    static URL: LazyLock<String> =
        LazyLock::new(|| runtime().block_on(async { Server::shared().await.url() }));
    // Built before any runtime exists.
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
fn a_return_after_the_runtime_is_gone_opens_nothing_there() {
    let give_back: [fn(PooledConn); 3] = [drop, PooledConn::discard, |conn| {
        drop(PooledConn::detach(conn));
    }];
    for give_back in give_back {
        let runtime = runtime();
        let (pool, conn) = runtime.block_on(async {
            let server = Server::shared().await;
            let pool = warm(config(&server.url()).size(2).overflow(1)).await;
            let conn = pool.get().await.expect("a connection");
            // It will be replaced as soon as there is another runtime.
            pool.refresh();
            (pool, conn)
        });
        drop(runtime);
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            give_back(conn);
            done.send(()).expect("the receiver waits");
        });
        is_done.recv_timeout(PATIENCE).expect("an end");
        assert_eq!(pool.status().connecting, 0);
    }
}

#[test]
fn a_connection_from_a_runtime_that_is_gone_is_discarded() {
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
fn a_get_outside_a_tokio_runtime_is_an_error() {
    let pool = pool(config("mysql://app@127.0.0.1:1/test"));
    let outcome = futures_util::future::FutureExt::now_or_never(pool.get());
    assert!(
        matches!(outcome, Some(Err(Error::NoRuntime))),
        "{outcome:?}"
    );
}
