//! Maintenance: no caller pays for a connection's age or idleness, or for a burst.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mysql_warm_pool::{
    Error, Pool, PooledConn, Readiness, Reset,
    config::{Credentials, CredentialsSource},
    mysql_async::prelude::Queryable,
};
use test_support::{Proxy, Server, config, eventually, pool, warm};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// Ids of the server's connections for the pool's account.
async fn ids(server: &Server) -> Vec<u64> {
    let mut admin = server.admin().await;
    let list = "SELECT id FROM information_schema.processlist WHERE user = 'app' ORDER BY id";
    admin.query(list).await.expect("the list")
}

/// Like [`ids`], with connections still in their handshake, whose account is not known yet.
async fn ids_with_handshakes(server: &Server) -> Vec<u64> {
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
        .filter(|(of, _)| of.name() == reason)
        .map(|(_, count)| *count)
        .sum()
}

#[tokio::test]
async fn discarded_connections_are_replaced_without_a_caller_asking() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(5).overflow(0)).await;
    for _ in 0..3 {
        PooledConn::discard(pool.get().await.expect("a connection"));
    }
    eventually("five are open again", async || pool.status().idle == 5).await;
    assert_eq!(pool.metrics().opened, 8);
}

#[tokio::test]
async fn idle_connections_outlive_the_servers_wait_timeout() {
    let server = Server::builder().option("--wait-timeout=4").start().await;
    let settings = config(&server.url())
        .size(8)
        .keepalive(Duration::from_secs(1));
    let pool = warm(settings).await;
    let start = Instant::now();
    // Stays idle for three times the server's `wait_timeout`.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let validations = pool.metrics().validations;
    let lasted = start.elapsed().as_secs();
    assert_eq!(pool.metrics().opened, 8, "none was lost in {lasted} s");
    join_all((0..8).map(|_| async { query(&pool).await.expect("an answer") })).await;
    assert_eq!(pool.metrics().opened, 8, "all were alive");
    // Each connection every 0.5 to 1 s, and not more often.
    assert!(
        (8..=8 * 2 * (lasted + 1)).contains(&validations),
        "{validations} validations in {lasted} s"
    );
}

#[tokio::test]
async fn validations_of_idle_connections_are_spread_over_time() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(30)
        .keepalive(Duration::from_secs(4));
    let pool = warm(settings).await;
    // Suspects are validated at once, and a connection becomes a suspect whenever a validation
    // takes long.
    let validations = || {
        let metrics = pool.metrics();
        metrics.validations.saturating_sub(metrics.suspects)
    };
    eventually("one round", async || validations() >= 30).await;
    let mut most = 0;
    let mut before = validations();
    // One more round, at a pace of about one validation in each of these steps.
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = validations();
        most = most.max(now - before);
        before = now;
    }
    assert!(most <= 15, "{most} of 30 at once");
}

#[tokio::test]
async fn one_dead_connection_has_all_others_validated_at_once() {
    let server = Server::start().await;
    tokio::join!(
        all_are_validated_after_the_end_of_all(&server, false),
        all_are_validated_after_the_end_of_all(&server, true),
    );
}

/// With no caller active, maintenance finds the first dead connection within one keepalive. The
/// others are then suspects and validated at once, not when their own turn comes.
async fn all_are_validated_after_the_end_of_all(server: &Server, cut: bool) {
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(10)
        .overflow(0)
        .keepalive(Duration::from_secs(4));
    let pool = warm(settings).await;
    let before = pool.metrics();
    if cut {
        proxy.cut().await;
    } else {
        for id in ids_of_ten(&pool).await {
            server.execute(&format!("KILL {id}")).await;
        }
    }
    eventually("ten new ones", async || {
        pool.metrics().opened >= 20 && pool.status().idle == 10
    })
    .await;
    let suspects = pool.metrics().suspects - before.suspects;
    println!("cut {cut}: {suspects} suspects");
    // Nine, unless the keepalive of some was due at the same moment.
    assert!(suspects >= 5, "{suspects} suspects");
    for n in 0..1000 {
        query(&pool)
            .await
            .unwrap_or_else(|error| panic!("{n}: {error}"));
    }
}

async fn ids_of_ten(pool: &Pool) -> Vec<u32> {
    let all = join_all((0..10).map(|_| pool.get())).await;
    let ids = all.iter().map(|conn| conn.as_ref().map(|conn| conn.id()));
    ids.collect::<Result<_, _>>().expect("ten connections")
}

/// Kills every connection on the server, or cuts them in the proxy. Then `at_once` callers come,
/// and a thousand more one by one. Returns how many of each group failed.
async fn failures_after_the_end_of_all(
    server: &Server,
    cut: bool,
    at_once: usize,
    idle: Duration,
) -> (usize, usize) {
    let proxy = Proxy::start(server.port()).await;
    // With the default: validated after 1 s of idleness.
    let pool = warm(config(&server.url_via(proxy.port())).size(10)).await;
    join_all((0..10).map(|_| async { query(&pool).await.expect("an answer") })).await;
    tokio::time::sleep(idle).await; // stays idle
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
async fn only_connections_validated_just_before_fail_a_query_each() {
    let server = Server::start().await;
    for cut in [false, true] {
        for at_once in [1, 4] {
            let (first, later) =
                failures_after_the_end_of_all(&server, cut, at_once, Duration::ZERO).await;
            // Callers that query before the first failure is known; that failure makes all the
            // others suspects.
            println!("cut {cut}: {first} of {at_once} failed");
            assert_eq!(later, 0, "after {first} of {at_once}");
        }
        let idle = Duration::from_millis(1100);
        let failures = failures_after_the_end_of_all(&server, cut, 4, idle).await;
        assert_eq!(failures, (0, 0), "after more than a second");
    }
}

#[tokio::test]
async fn with_validation_at_every_get_no_query_after_a_kill_fails() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(10)
        .validate_after_idle(Duration::ZERO);
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
        let pool = warm(settings.clone().overflow_linger(linger)).await;
        // Before the burst: a connection lingers from its last use on.
        let start = Instant::now();
        let burst = join_all((0..10).map(|_| pool.get())).await;
        assert!(burst.iter().all(Result::is_ok));
        assert_eq!(pool.status().in_use, 10);
        drop(burst);
        eventually("back at size", async || pool.status().open == 2).await;
        assert!(start.elapsed() >= linger, "{:?}", start.elapsed());
        let surplus = discarded(&pool, "surplus");
        assert!(surplus >= 8, "{surplus} closed");
        pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_slightly_above_size_causes_no_repeated_openings() {
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
    // Runs longer than an overflow connection may linger.
    tokio::time::sleep(Duration::from_secs(7)).await;
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let opened = pool.metrics().opened;
    assert!(opened <= 4 + 10, "{opened} openings for 6 callers");
}

/// Returns that are being cleaned do not delay the replacement of old connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_of_a_full_pool_replaces_all_under_load() {
    const SIZE: usize = 20;
    let server = Server::start().await;
    let settings = config(&server.url()).size(SIZE).overflow(0);
    let pool = warm(settings.reset(Reset::Always)).await;
    let old = ids(&server).await;
    assert_eq!(old.len(), SIZE);
    let mut callers = JoinSet::new();
    for _ in 0..2 * SIZE {
        let pool = pool.clone();
        callers.spawn(async move {
            loop {
                let mut conn = pool.get().await.expect("a connection");
                conn.query_drop("DO 1").await.expect("an answer");
            }
        });
    }
    eventually("they are at work", async || pool.status().waiting > 0).await;
    pool.refresh();
    eventually("all are replaced", async || {
        let now = ids(&server).await;
        old.iter().all(|id| !now.contains(id))
    })
    .await;
    callers.shutdown().await;
}

#[tokio::test]
async fn a_refresh_replaces_every_connection_even_one_being_opened() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(config(&server.url_via(proxy.port())).size(5).overflow(5)).await;
    let held = pool.get().await.expect("a connection");
    // Greetings are held back until the test has checked the state.
    proxy.stall_after(0);
    let burst = join_all((0..8).map(|_| pool.get_within(Duration::from_millis(50)))).await;
    drop(burst);
    // Their handshakes are under way: the server has already assigned their ids.
    eventually("some are being opened", async || {
        ids_with_handshakes(&server).await.len() > 5
    })
    .await;
    assert!(pool.status().connecting > 0);
    let last_of_before = *ids_with_handshakes(&server).await.last().expect("some");
    pool.refresh();
    proxy.forward();
    eventually("only new ones are idle", async || {
        let now = ids(&server).await;
        let old = now.iter().filter(|id| **id <= last_of_before).count();
        old == 1 && pool.status().connecting == 0 && pool.status().idle >= 4
    })
    .await;
    assert!(pool.metrics().opened >= 9);
    drop(held);
    eventually("the one in use is replaced too", async || {
        ids(&server).await.iter().all(|id| *id > last_of_before)
    })
    .await;
    let peak = proxy.peak().await;
    assert!(peak <= 10, "{peak}");
}

#[tokio::test]
async fn an_opening_from_before_a_refresh_serves_no_waiting_caller() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = pool(config(&server.url_via(proxy.port())).size(1).overflow(0));
    proxy.stall_after(0);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await }
    });
    eventually("one is being opened", async || {
        ids_with_handshakes(&server).await.len() == 1
    })
    .await;
    let before = ids_with_handshakes(&server).await;
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
                query(&pool).await.expect("an answer, whatever is rotated");
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
        eventually("all are replaced", async || {
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
        eventually("it fits the new limit", async || {
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
    let error = pool.resize(100_001, 200_000).expect_err("two faults");
    let text = error.to_string();
    assert!(
        text.contains("size is 100001") && text.contains("overflow is 200000"),
        "{text}"
    );
    assert_eq!(pool.status().size, 10);
}

#[tokio::test]
async fn an_idle_pool_uses_hardly_any_cpu_time() {
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
    // Stays idle.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let took = used() - before;
    // Usually one clock tick or none; a pool that polls would use all it can get.
    assert!(took <= Duration::from_millis(200), "{took:?} of 3 s");
    drop(pool);
}

#[tokio::test]
async fn a_pool_that_was_never_used_has_no_task() {
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

#[tokio::test]
async fn a_long_held_connection_causes_no_repeated_openings() {
    let server = Server::shared().await;
    let settings = config(&server.url())
        .size(1)
        .overflow(1)
        .overflow_linger(Duration::ZERO);
    let pool = warm(settings).await;
    let _held = pool.get().await.expect("a connection");
    // Holds the connection.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let opened = pool.metrics().opened;
    // Openings that probe the server after about 0, 1 and 3 s; without back-off, one every 0.3 s.
    assert!(opened <= 1 + 5, "{opened} opened");
    assert_eq!(pool.readiness(), Readiness::Ready);
}

/// A steady load of 500 gets and queries a second for this time, using at most half of the twenty
/// connections at once.
async fn steady_load(pool: &Pool, duration: Duration) {
    let mut ticks = interval(Duration::from_millis(2));
    // After the machine stalls, no burst that would need all connections at once makes up for it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    let start = Instant::now();
    while start.elapsed() < duration {
        ticks.tick().await;
        while let Some(call) = calls.try_join_next() {
            call.expect("no panic");
        }
        if calls.len() < 10 {
            let pool = pool.clone();
            calls.spawn(async move { query(&pool).await.expect("an answer") });
        }
    }
    calls.join_all().await;
}

/// Under load, all connections reach their maximum age at least twice.
async fn replaced_under_load(overflow: usize) {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(20)
        .overflow(overflow)
        .recycle(Duration::from_secs(2));
    let pool = warm(settings).await;
    steady_load(&pool, Duration::from_secs(5)).await;
    let metrics = pool.metrics();
    println!(
        "{} retired, {} of {} gets waited",
        discarded(&pool, "retired"),
        metrics.gets_waited,
        metrics.gets
    );
    assert_eq!(
        metrics.gets_waited_below_size, 0,
        "gets that waited for an opening"
    );
    eventually("each was replaced twice", async || {
        discarded(&pool, "retired") >= 40
    })
    .await;
    let (peak, limit) = (proxy.peak().await, 20 + overflow);
    assert!(peak <= limit, "{peak} of {limit}");
    eventually("all are open", async || pool.status().open >= 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_maximum_age_no_get_waits_for_an_opening() {
    replaced_under_load(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_maximum_age_without_room_one_is_replaced_at_a_time() {
    replaced_under_load(0).await;
}
