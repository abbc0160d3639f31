//! Upkeep: no caller pays for age, idleness or a burst.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mysql_warm_pool::{
    Credentials, CredentialsSource, Error, Pool, PooledConn, Reset, mysql_async::prelude::Queryable,
};
use test_support::{Proxy, Server, attempted, best_of_three, config, eventually, pool, warm};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(5);

/// Ids of the server's connections for the pool's account.
async fn ids(server: &Server) -> Vec<u64> {
    let mut admin = server.admin().await;
    let list = "SELECT id FROM information_schema.processlist WHERE user = 'app' ORDER BY id";
    admin.query(list).await.expect("the list")
}

/// With those whose handshake is under way, the account of which is not known yet.
async fn ids_with_guests(server: &Server) -> Vec<u64> {
    let mut admin = server.admin().await;
    let list = "SELECT id FROM information_schema.processlist \
                WHERE user IN ('app', 'unauthenticated user') ORDER BY id";
    admin.query(list).await.expect("the list")
}

async fn kill_all(server: &Server) {
    let mut admin = server.admin().await;
    for id in ids(server).await {
        drop(admin.query_drop(format!("KILL {id}")).await);
    }
}

async fn query(pool: &Pool) -> Result<(), String> {
    let mut conn = pool.get().await.map_err(|error| error.to_string())?;
    let answer: Option<u8> = conn
        .query_first("SELECT 7")
        .await
        .map_err(|error| error.to_string())?;
    assert_eq!(answer, Some(7));
    Ok(())
}

fn discarded(pool: &Pool, reason: &str) -> u64 {
    let metrics = pool.metrics();
    metrics
        .discarded
        .iter()
        .filter(|(of, _)| *of == reason)
        .map(|(_, count)| *count)
        .sum()
}

#[tokio::test]
async fn what_is_discarded_is_replaced_without_any_caller_asking() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(5).overflow(0)).await;
    for _ in 0..3 {
        PooledConn::discard(pool.get().await.expect("a connection"));
    }
    eventually(SOON, "five are open again", async || {
        pool.status().idle == 5
    })
    .await;
    assert_eq!(pool.metrics().opened, 8);
}

#[tokio::test]
async fn idle_connections_outlive_the_servers_wait_timeout() {
    let server = Server::builder().option("--wait-timeout=3").start().await;
    let settings = config(&server.url())
        .size(8)
        .keepalive(Duration::from_secs(1));
    let pool = warm(settings).await;
    let start = Instant::now();
    // The idleness itself: ten times the server's patience.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(
        pool.metrics().opened,
        8,
        "none was lost in {:?}",
        start.elapsed()
    );
    join_all((0..8).map(|_| async { query(&pool).await.expect("an answer") })).await;
    let proofs = pool.metrics().proofs;
    // Every 0.5 to 1 s each, and not more.
    assert!((8 * 25..=8 * 62).contains(&proofs), "{proofs} proofs");
}

#[tokio::test]
async fn proofs_of_idle_connections_are_spread_over_time() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(30)
        .keepalive(Duration::from_secs(1));
    let pool = warm(settings).await;
    eventually(Duration::from_secs(10), "three rounds", async || {
        pool.metrics().proofs > 90
    })
    .await;
    // Those of suspects come at once, and there are some whenever a proof takes long.
    let proofs = || {
        let metrics = pool.metrics();
        metrics.proofs.saturating_sub(metrics.suspects)
    };
    let mut most = 0;
    let mut before = proofs();
    for _ in 0..20 {
        let start = Instant::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = proofs();
        // On a busy machine the sleep may be longer than asked for: then it says nothing.
        if start.elapsed() < Duration::from_millis(75) {
            most = most.max(now.saturating_sub(before));
        }
        before = now;
    }
    assert!(most <= 15, "{most} of 30 in one twentieth of a second");
}

#[tokio::test]
async fn one_connection_found_dead_has_all_the_others_proved_and_replaced_at_once() {
    let server = Server::start().await;
    for cut in [false, true] {
        attempted(
            "most are suspects, and replaced within a second",
            async || {
                let (suspects, took) = suspects_after_the_end_of_all(&server, cut).await;
                println!("cut {cut}: {suspects} suspects, all replaced after {took:?}");
                (suspects >= 5 && took < Duration::from_secs(1)).then_some(())
            },
        )
        .await;
    }
}

/// Nobody asks: the keeper notices, within one keepalive. How many were then proved at once, being suspects, and not
/// when their own turn came; and how long it took until all were replaced.
async fn suspects_after_the_end_of_all(server: &Server, cut: bool) -> (u64, Duration) {
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(10)
        .overflow(0)
        .keepalive(Duration::from_millis(300));
    let pool = warm(settings).await;
    let before = pool.metrics();
    let start = Instant::now();
    if cut {
        proxy.cut().await;
    } else {
        kill_all(server).await;
    }
    eventually(SOON, "ten new ones", async || {
        pool.metrics().opened >= 20 && pool.status().idle == 10
    })
    .await;
    let (suspects, took) = (pool.metrics().suspects - before.suspects, start.elapsed());
    for n in 0..1000 {
        query(&pool)
            .await
            .unwrap_or_else(|error| panic!("{n}: {error}"));
    }
    (suspects, took)
}

/// Kills every connection on the server, or cuts it in the proxy; then `at_once` callers come, and a thousand more
/// one by one. Says how many of each kind failed.
async fn failures_after_the_end_of_all(
    server: &Server,
    cut: bool,
    at_once: usize,
    idle: Duration,
) -> (usize, usize) {
    let proxy = Proxy::start(server.port()).await;
    // As it comes: proved after 1 s of idleness.
    let pool = warm(config(&server.url_via(proxy.port())).size(10)).await;
    join_all((0..10).map(|_| async { query(&pool).await.expect("an answer") })).await;
    tokio::time::sleep(idle).await; // the idleness itself
    if cut {
        proxy.cut().await;
    } else {
        kill_all(server).await;
    }
    let first = join_all((0..at_once).map(|_| query(&pool))).await;
    let mut later = 0;
    for _ in 0..1000 {
        later += usize::from(query(&pool).await.is_err());
    }
    pool.close().await;
    (first.iter().filter(|call| call.is_err()).count(), later)
}

#[tokio::test]
async fn of_connections_that_died_idle_only_those_proved_within_the_last_second_fail_a_query_each()
{
    let server = Server::start().await;
    for cut in [false, true] {
        for at_once in [1, 4] {
            let (first, later) =
                failures_after_the_end_of_all(&server, cut, at_once, Duration::ZERO).await;
            // Those who ask before the first failure is known; that makes all the others suspect.
            println!("cut {cut}: {first} of {at_once} failed");
            assert_eq!(later, 0, "after {first} of {at_once}");
        }
        let idle = Duration::from_millis(1100);
        let failures = failures_after_the_end_of_all(&server, cut, 4, idle).await;
        assert_eq!(failures, (0, 0), "after more than a second");
    }
}

#[tokio::test]
async fn with_proof_at_every_get_not_even_the_first_query_after_a_kill_fails() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(10)
        .prove_after_idle(Duration::ZERO);
    let pool = warm(settings).await;
    for cut in [false, true] {
        if cut {
            proxy.cut().await;
        } else {
            kill_all(&server).await;
        }
        for n in 0..1000 {
            query(&pool)
                .await
                .unwrap_or_else(|error| panic!("{n}: {error}"));
        }
    }
}

#[tokio::test]
async fn after_a_burst_the_overflow_is_closed_once_it_has_lingered() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(2).overflow(8);
    for linger in [Duration::from_millis(500), Duration::ZERO] {
        let within = linger + Duration::from_secs(1);
        let took = best_of_three(within, async || {
            let pool = warm(settings.clone().overflow_linger(linger)).await;
            // Before they are lent: a connection lingers from its last use on.
            let start = Instant::now();
            let burst = join_all((0..10).map(|_| pool.get())).await;
            assert!(burst.iter().all(Result::is_ok));
            assert_eq!(pool.status().in_use, 10);
            drop(burst);
            eventually(linger + SOON, "back at size", async || {
                pool.status().open == 2
            })
            .await;
            let took = start.elapsed();
            assert!(took >= linger, "{took:?}");
            pool.close().await;
            took
        })
        .await;
        assert!(took <= within, "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_load_slightly_above_size_connections_are_not_opened_over_and_over() {
    let server = Server::shared().await;
    let pool = warm(
        config(&server.url())
            .size(4)
            .overflow(10)
            .reset(Reset::Never),
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..6 {
        let (pool, stop) = (pool.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let mut conn = pool.get().await.expect("a connection");
                conn.query_drop("DO SLEEP(0.005)").await.expect("an answer");
            }
        });
    }
    // The load itself: longer than an overflow connection may linger.
    tokio::time::sleep(Duration::from_secs(10)).await;
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let opened = pool.metrics().opened;
    assert!(opened <= 4 + 10, "{opened} openings for 6 callers in 10 s");
}

#[tokio::test]
async fn a_refresh_replaces_every_connection_and_none_that_was_being_opened_slips_in() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(config(&server.url_via(proxy.port())).size(5).overflow(5)).await;
    let held = pool.get().await.expect("a connection");
    // Greetings are held back until all has been looked at.
    proxy.stall_after(0);
    let burst = join_all((0..8).map(|_| pool.get_within(Duration::from_millis(50)))).await;
    drop(burst);
    // Their handshakes are under way: the server has given them their numbers.
    eventually(SOON, "some are being opened", async || {
        ids_with_guests(&server).await.len() > 5
    })
    .await;
    assert!(pool.status().connecting > 0);
    let last_of_before = *ids_with_guests(&server).await.last().expect("some");
    pool.refresh();
    proxy.forward();
    eventually(SOON, "only new ones are idle", async || {
        let now = ids(&server).await;
        let old = now.iter().filter(|id| **id <= last_of_before).count();
        old == 1 && pool.status().connecting == 0 && pool.status().idle >= 4
    })
    .await;
    assert!(pool.metrics().opened >= 9);
    drop(held);
    eventually(SOON, "the one in use is replaced too", async || {
        ids(&server).await.iter().all(|id| *id > last_of_before)
    })
    .await;
    let peak = proxy.peak().await;
    assert!(peak <= 10, "{peak}");
}

#[tokio::test]
async fn a_waiting_caller_is_not_given_what_was_being_opened_before_a_refresh() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = pool(config(&server.url_via(proxy.port())).size(1).overflow(0));
    proxy.stall_after(0);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await }
    });
    eventually(SOON, "one is being opened", async || {
        ids_with_guests(&server).await.len() == 1
    })
    .await;
    let before = ids_with_guests(&server).await;
    pool.refresh();
    proxy.forward();
    let given = waiting.await.expect("no panic").expect("a connection");
    assert!(!before.contains(&given.id().into()), "{before:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_rotated_under_load_without_a_failing_get() {
    let server = Server::start().await;
    server
        .execute("CREATE USER turning@'%' IDENTIFIED BY 'first'")
        .await;
    server.execute("GRANT ALL ON test.* TO turning@'%'").await;
    let turned = Arc::new(AtomicBool::new(false));
    let source = CredentialsSource::new({
        let turned = Arc::clone(&turned);
        move || {
            let password = if turned.load(Ordering::Relaxed) {
                "second"
            } else {
                "first"
            };
            async move { Ok::<_, Error>(Credentials::new("turning", password)) }
        }
    });
    let pool = warm(
        config(&server.url())
            .size(5)
            .overflow(5)
            .credentials(source),
    )
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (pool, stop) = (pool.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                query(&pool).await.expect("an answer, whatever is turned");
            }
        });
    }
    for _ in 0..3 {
        let opened = pool.metrics().opened;
        let password = if turned.load(Ordering::Relaxed) {
            "first"
        } else {
            "second"
        };
        server
            .execute(&format!(
                "ALTER USER turning@'%' IDENTIFIED BY '{password}'"
            ))
            .await;
        turned.fetch_xor(true, Ordering::Relaxed);
        pool.refresh();
        eventually(SOON, "all are replaced", async || {
            discarded(&pool, "retired") >= 5 && pool.metrics().opened >= opened + 5
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_changed_under_load_and_never_exceeded() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(config(&server.url_via(proxy.port())).size(10).overflow(5)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for n in 0..24_u64 {
        let (pool, stop) = (pool.clone(), Arc::clone(&stop));
        callers.spawn(async move {
            let mut round = n;
            while !stop.load(Ordering::Relaxed) {
                let mut conn = pool.get().await.expect("a connection");
                conn.query_drop("DO SLEEP(0.001)").await.expect("an answer");
                round += 1;
                if round.is_multiple_of(10) {
                    PooledConn::discard(conn);
                }
            }
        });
    }
    for (size, overflow) in [
        (2, 1),
        (12, 3),
        (1, 0),
        (5, 10),
        (3, 3),
        (15, 0),
        (1, 0),
        (10, 5),
    ] {
        pool.resize(size, overflow).expect("a good limit");
        eventually(SOON, "it fits the new limit", async || {
            let status = pool.status();
            assert_eq!((status.size, status.overflow), (size, overflow));
            status.open + status.connecting <= size + overflow && status.open >= size
        })
        .await;
        for _ in 0..20 {
            let status = pool.status();
            assert!(
                status.open + status.connecting <= size + overflow,
                "{status}"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let peak = proxy.peak().await;
    assert!(peak <= 15, "{peak} at once");
    let error = pool.resize(0, 200_000).expect_err("two faults");
    let text = error.to_string();
    assert!(
        text.contains("size is 0") && text.contains("overflow is 200000"),
        "{text}"
    );
    assert_eq!(pool.status().size, 10);
}

#[tokio::test]
async fn an_idle_pool_uses_no_measurable_time_of_the_processor() {
    fn used() -> Duration {
        // Fields 14 and 15 count clock ticks of 10 ms, for this thread.
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: u64 = [11, 12]
            .iter()
            .map(|i| fields[*i].parse::<u64>().expect("ticks"))
            .sum();
        Duration::from_millis(ticks * 10)
    }
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(20)).await;
    let before = used();
    // The idleness itself.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let took = used() - before;
    assert!(took <= Duration::from_millis(20), "{took:?} of 5 s");
    drop(pool);
}

#[tokio::test]
async fn a_cold_pool_that_was_never_used_has_no_keeper() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let pool = pool(config("mysql://app@127.0.0.1:1/test"));
    assert_eq!(tasks(), before);
    drop(pool);
}
