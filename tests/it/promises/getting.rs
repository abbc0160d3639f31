//! `get()`: which caller is served, from where, and that a caller that gives up wastes nothing.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::{join_all, poll_immediate};
use mysql_warm_pool::{Error, error::TimeoutCause, mysql_async::prelude::Queryable};
use test_support::{HANGING, PATIENCE, Proxy, Server, config, eventually, pool, warm};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_get_from_a_warm_pool_is_ready_at_its_first_poll() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(2);
    let pool = warm(settings.validate_after_idle(Duration::from_secs(60))).await;
    let conn = poll_immediate(pool.get())
        .await
        .expect("at its first poll")
        .expect("a connection");
    assert_eq!(pool.status().in_use, 1);
    drop(conn);
    assert_eq!((pool.status().in_use, pool.status().idle), (0, 2));
    assert!(pool.try_get().is_some());
}

#[tokio::test]
async fn a_get_from_a_cold_pool_opens_one_and_fills_up_to_size() {
    let server = Server::shared().await;
    let pool = pool(config(&server.url()).size(4));
    let mut conn = pool.get().await.expect("a connection");
    assert_eq!(
        conn.query_first("SELECT 7").await.expect("an answer"),
        Some(7_u8)
    );
    eventually("the pool is full", async || pool.status().open == 4).await;
}

#[tokio::test]
async fn a_hanging_opening_ends_at_connect_timeout_and_frees_its_slot() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.accept_and_stall();
    let settings = config(&server.url_via(proxy.port()))
        .size(2)
        .overflow(0)
        .connect_timeout(Duration::from_millis(100));
    let pool = pool(settings);
    let error = pool
        .get_within(Duration::from_millis(400))
        .await
        .expect_err("the server does not answer");
    assert!(
        error.to_string().contains("no answer within 100 ms"),
        "{error}"
    );
    let peak = proxy.peak().await;
    assert!(peak <= 2, "{peak} connections of 2");
    proxy.forward();
    pool.get()
        .await
        .expect("a connection, now that the server answers");
}

#[tokio::test]
async fn waiting_callers_are_served_in_the_order_they_came() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let held = pool.get().await.expect("a connection");
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut callers = JoinSet::new();
    for n in 0..20 {
        let (of, order) = (pool.clone(), Arc::clone(&order));
        callers.spawn(async move {
            let _conn = of.get().await.expect("a connection");
            order.lock().expect("no panic").push(n);
        });
        eventually("it waits", async || pool.status().waiting == n + 1).await;
    }
    drop(held);
    callers.join_all().await;
    assert_eq!(
        *order.lock().expect("no panic"),
        (0..20).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_waiting_caller_takes_a_returned_before_a_slow_new_one() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(config(&server.url_via(proxy.port())).size(1).overflow(1)).await;
    // The server's greetings are held back until the end of the test.
    proxy.accept_and_stall();
    let held = pool.get().await.expect("a connection");
    let (got, ()) = tokio::join!(pool.get(), async {
        eventually("one is being opened", async || {
            pool.status().connecting == 1
        })
        .await;
        drop(held);
    });
    got.expect("the returned one");
    proxy.forward();
    // The requested connection becomes idle.
    eventually("both are idle", async || pool.status().idle == 2).await;
}

#[tokio::test]
async fn a_waiting_caller_takes_a_new_before_a_long_held_one() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(1)).await;
    let _held = pool.get().await.expect("a connection");
    let mut conn = pool.get_within(PATIENCE).await.expect("a new one");
    assert_eq!(
        conn.query_first("SELECT 7").await.expect("an answer"),
        Some(7_u8)
    );
}

#[tokio::test]
async fn a_caller_that_gives_up_wastes_no_connection() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.accept_and_stall();
    let pool = pool(
        config(&server.url_via(proxy.port()))
            .size(1)
            .overflow(9)
            .max_connecting(4),
    );
    let start = Instant::now();
    for round in 0..4 {
        let given_up = join_all((0..4).map(|_| pool.get_within(Duration::from_millis(10)))).await;
        assert!(given_up.iter().all(Result::is_err), "round {round}");
    }
    proxy.forward();
    eventually("the opened connections are idle", async || {
        let status = pool.status();
        status.connecting == 0 && status.idle as u64 == proxy.accepted()
    })
    .await;
    // On a busy machine one opening may hang, and another is started beside it.
    let hung = start.elapsed().as_millis() / HANGING.as_millis();
    let most = 4 + 4 * u64::try_from(hung).expect("few");
    assert!(
        proxy.accepted() <= most,
        "{} openings for 4 callers at a time",
        proxy.accepted()
    );
}

#[tokio::test]
async fn a_caller_that_gives_up_during_validation_wastes_none() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(3)
        .overflow(0)
        .validate_after_idle(Duration::ZERO);
    let pool = warm(settings).await;
    proxy.stall();
    for _ in 0..3 {
        let error = pool
            .get_within(Duration::from_millis(20))
            .await
            .expect_err("no validation");
        assert!(
            matches!(
                error,
                Error::Timeout {
                    cause: TimeoutCause::Validating,
                    ..
                }
            ),
            "{error}"
        );
    }
    proxy.resume();
    eventually("all are idle", async || pool.status().idle >= 3).await;
    assert_eq!(pool.metrics().opened, proxy.accepted());
    assert!(
        pool.metrics()
            .discarded
            .iter()
            .all(|(_, count)| *count == 0)
    );
}

#[tokio::test]
async fn a_dead_connection_is_replaced_without_an_error_to_callers() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(5)
        .overflow(0)
        .validate_after_idle(Duration::ZERO);
    let pool = warm(settings).await;
    let mut admin = server.admin().await;
    let ids: Vec<u64> = admin
        .query("SELECT id FROM information_schema.processlist WHERE user = 'app'")
        .await
        .expect("the list");
    assert_eq!(ids.len(), 5);
    for id in ids {
        admin
            .query_drop(format!("KILL {id}"))
            .await
            .expect("killed");
    }
    for n in 0..1000_u64 {
        let mut conn = pool.get().await.expect("a connection");
        assert_eq!(
            conn.query_first(format!("SELECT {n}"))
                .await
                .expect("an answer"),
            Some(n)
        );
    }
    eventually("it is full again", async || pool.status().idle == 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_adds_up_in_every_snapshot_under_load() {
    let server = Server::shared().await;
    let pool = pool(config(&server.url()).size(5).overflow(5));
    let mut callers = JoinSet::new();
    for n in 0..64_u64 {
        let pool = pool.clone();
        callers.spawn(async move {
            for round in 0..60 {
                let Ok(mut conn) = pool.get().await else {
                    panic!("no connection")
                };
                match (n + round) % 7 {
                    0 => drop(
                        tokio::time::timeout(
                            Duration::from_micros(50),
                            conn.query_drop("DO SLEEP(0.001)"),
                        )
                        .await,
                    ),
                    1 => mysql_warm_pool::PooledConn::discard(conn),
                    2 => conn.query_drop("SET @a = 1").await.expect("an answer"),
                    _ => conn.query_drop("DO 1").await.expect("an answer"),
                }
            }
        });
    }
    let mut snapshots = 0_u64;
    while callers.try_join_next().is_none() || !callers.is_empty() {
        let status = pool.status();
        assert_eq!(
            status.open,
            status.idle + status.in_use + status.cleaning,
            "{status}"
        );
        assert!(
            status.open + status.connecting <= status.limit(),
            "{status}"
        );
        assert!(status.waiting <= 64, "{status}");
        snapshots += 1;
        if snapshots.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
    println!("{snapshots} snapshots; {:?}", pool.metrics());
    eventually("all is quiet", async || {
        let status = pool.status();
        status.in_use + status.cleaning + status.connecting + status.waiting == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_never_sees_more_connections_than_the_limit() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = pool(config(&server.url_via(proxy.port())).size(5).overflow(5));
    let mut callers = JoinSet::new();
    for n in 0..32_u64 {
        let pool = pool.clone();
        callers.spawn(async move {
            for round in 0..50 {
                let mut conn = pool.get().await.expect("a connection");
                match (n + round) % 5 {
                    0 => mysql_warm_pool::PooledConn::discard(conn),
                    1 => drop(
                        tokio::time::timeout(
                            Duration::from_micros(200),
                            conn.query_drop("DO SLEEP(0.01)"),
                        )
                        .await,
                    ),
                    _ => drop(conn.query_drop("DO 1").await),
                }
            }
        });
    }
    callers.join_all().await;
    println!(
        "{} connections in all, {} at once",
        proxy.accepted(),
        proxy.peak().await
    );
    assert!(proxy.accepted() > 100);
    let peak = proxy.peak().await;
    assert!(peak <= 10, "{peak} of 10");
}

#[tokio::test]
async fn callers_waiting_for_validation_do_not_collect_connections() {
    const CALLERS: u64 = 40;
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port())).size(5).overflow(0);
    let pool = warm(settings.validate_after_idle(Duration::ZERO).keepalive(None)).await;
    // A validation takes longer than a caller waits for it before it looks elsewhere.
    proxy.delay(Duration::from_millis(15));
    let before = pool.metrics();
    let callers = (0..CALLERS).map(|n| {
        let pool = &pool;
        async move {
            let conn = pool.get().await.expect("a connection");
            // Staggered, so that connections come back while others are being validated.
            tokio::time::sleep(Duration::from_millis(n * 13 % 40)).await;
            drop(conn);
        }
    });
    join_all(callers).await;
    let validations = pool.metrics().validations - before.validations;
    println!("{validations} validations for {CALLERS} callers");
    // Usually one each; if every caller validated all five, there would be 200.
    assert!(validations <= 2 * CALLERS, "{validations}");
}

/// A caller that waits for a new connection takes a returned one if that comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spike_is_served_by_open_connections_while_others_open() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(config(&server.url_via(proxy.port())).size(5).overflow(15)).await;
    proxy.accept_and_stall();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let pool = pool.clone();
        callers.spawn(async move {
            let mut conn = pool.get_within(PATIENCE).await.expect("a connection");
            conn.query_drop("DO SLEEP(0.002)").await.expect("an answer");
        });
    }
    callers.join_all().await;
    assert_eq!(pool.metrics().opened, 5, "no opening has ended");
    proxy.forward();
    eventually("the unneeded connections are idle", async || {
        let status = pool.status();
        status.connecting == 0 && status.idle == status.open
    })
    .await;
    let peak = proxy.peak().await;
    assert!(peak <= 20, "{peak} of 20");
}

#[tokio::test]
async fn a_suspect_is_validated_before_it_is_handed_out() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(5)
        .overflow(0)
        .keepalive(None)
        .validate_after_idle(Duration::from_secs(60));
    let pool = warm(settings).await;
    let mut held = pool.get().await.expect("a connection");
    server.kill_all_of("app").await;
    held.query_drop("DO 1").await.expect_err("killed");
    drop(held);
    // At once, before maintenance can have looked. The connection was validated recently, but
    // before the other was found dead.
    for _ in 0..5 {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("DO 1").await.expect("an answer");
    }
}
