//! Outage and restart, with callers at work: which calls fail, what the pool reports, and that it
//! recovers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{join_all, try_join_all};
use mysql_warm_pool::{
    Error, Pool, PoolConfig, Readiness,
    error::TimeoutCause,
    mysql_async::{Conn, prelude::Queryable},
};
use test_support::{PATIENCE, Proxy, Server, config, eventually, pool, warm};
use tokio::{sync::Semaphore, task::JoinSet};

/// One call: a get and a query.
#[derive(Clone, Debug)]
struct Call {
    begun: Instant,
    ended: Instant,
    error: Option<String>,
}

/// Fifty callers at work until they are stopped.
struct Callers {
    calls: Arc<Mutex<Vec<Call>>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Callers {
    fn start(pool: &Pool) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let (pool, calls, stop) = (pool.clone(), Arc::clone(&calls), Arc::clone(&stop));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let error = call(&pool).await.err();
                    let call = Call {
                        begun,
                        ended: Instant::now(),
                        error,
                    };
                    calls.lock().expect("no panic").push(call);
                    tokio::time::sleep(Duration::from_millis(2)).await; // the caller's own work
                }
            });
        }
        Self { calls, stop, tasks }
    }

    fn successes_since(&self, moment: Instant) -> usize {
        let calls = self.calls.lock().expect("no panic");
        calls
            .iter()
            .filter(|call| call.error.is_none() && call.ended > moment)
            .count()
    }

    async fn stop(self) -> Vec<Call> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        self.calls.lock().expect("no panic").clone()
    }
}

async fn call(pool: &Pool) -> Result<(), String> {
    // Shorter than an outage, and far longer than the wait in the queue.
    let mut conn = pool
        .get_within(Duration::from_secs(2))
        .await
        .map_err(|error| error.to_string())?;
    conn.query_drop("DO SLEEP(0.0005)")
        .await
        .map_err(|error| error.to_string())
}

pub(crate) fn settings(url: &str) -> PoolConfig {
    config(url)
        .size(10)
        .overflow(10)
        .keepalive(Duration::from_millis(400))
}

/// Breaks the link between callers and server, mends it after `duration`, and checks the
/// guarantees: readiness and health report the outage, the pool recovers by itself, and only calls
/// made during the outage fail.
pub(crate) async fn outage(
    pool: &Pool,
    reason: &[&str],
    duration: Duration,
    breaking: impl AsyncFn(),
    mending: impl AsyncFn(),
) {
    // Fifty callers keep a processor busy, so only two outages run at once.
    static TURNS: Semaphore = Semaphore::const_new(2);
    let _turn = TURNS.acquire().await.expect("never closed");
    let callers = Callers::start(pool);
    let began = Instant::now();
    eventually("all is well", async || callers.successes_since(began) > 200).await;

    let broken = Instant::now();
    breaking().await;
    let unreachable = Instant::now();
    eventually("readiness leaves Ready", async || {
        pool.readiness() != Readiness::Ready
    })
    .await;
    let noticed = unreachable.elapsed();
    eventually("health says why", async || {
        let error = pool.health().last_error;
        error.is_some_and(|error| reason.iter().any(|reason| error.contains(reason)))
    })
    .await;
    tokio::time::sleep(duration.saturating_sub(broken.elapsed())).await; // the outage lasts

    mending().await;
    let mended = Instant::now();
    eventually("callers are served", async || {
        callers.successes_since(mended) > 0
    })
    .await;
    let first_served = mended.elapsed();
    eventually("all callers are served", async || {
        callers.successes_since(mended) > 500
    })
    .await;
    eventually("it is ready and full", async || {
        pool.readiness() == Readiness::Ready && pool.status().open >= 10
    })
    .await;
    let well = Instant::now();
    eventually("all is well", async || callers.successes_since(well) > 200).await;
    let calls = callers.stop().await;
    let failed: Vec<_> = calls.iter().filter(|call| call.error.is_some()).collect();
    println!(
        "noticed after {noticed:?}, served again after {first_served:?}, ready after {:?}; {} of {} calls failed",
        well - mended,
        failed.len(),
        calls.len()
    );
    for call in failed {
        assert!(
            call.ended >= broken && call.begun < well,
            "a call made outside the outage failed: {call:?}"
        );
    }
    // An opening that hung may still get its answer.
    eventually("nothing is wrong", async || {
        pool.health().last_error.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again() {
    let server = Server::start().await;
    let pool = warm(settings(&server.url())).await;
    let second = Duration::from_secs(1);
    outage(
        &pool,
        &["refused"],
        second,
        async || server.kill().await,
        async || server.start_again().await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_restarted_cleanly() {
    let server = Server::start().await;
    let pool = warm(settings(&server.url())).await;
    let second = Duration::from_secs(1);
    let reasons = ["refused", "1053", "reset", "closed", "end of file", "eof"];
    outage(
        &pool,
        &reasons,
        second,
        async || server.shutdown().await,
        async || server.start_again().await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_frozen_for_three_seconds() {
    let server = Server::start().await;
    let pool = warm(settings(&server.url()).overflow(60)).await;
    let frozen = Mutex::new(None);
    outage(
        &pool,
        &["no answer"],
        Duration::from_secs(3),
        async || {
            let guard = server.freeze().await;
            frozen.lock().expect("no panic").replace(guard);
        },
        async || drop(frozen.lock().expect("no panic").take()),
    )
    .await;
    // Frozen is not dead.
    let dead = pool
        .metrics()
        .discarded
        .iter()
        .filter(|(why, _)| ["lost", "validation_failed"].contains(&why.name()))
        .map(|d| d.1)
        .sum::<u64>();
    assert_eq!(dead, 0, "{:?}", pool.metrics());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_while_all_of_the_limit_is_in_use() {
    let server = Server::start().await;
    let pool = warm(settings(&server.url()).overflow(0)).await;
    let mut watch = pool.watch();
    let frozen = Mutex::new(None);
    outage(
        &pool,
        &["all 10 connections are in use, and none has answered"],
        Duration::from_secs(3),
        async || {
            let guard = server.freeze().await;
            frozen.lock().expect("no panic").replace(guard);
        },
        async || drop(frozen.lock().expect("no panic").take()),
    )
    .await;
    assert_eq!(watch.changed().await, Readiness::Ready);
    assert_eq!(pool.metrics().opened, 10, "frozen is not dead");
}

#[tokio::test]
async fn slow_queries_on_all_connections_only_degrade_the_pool() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(2).overflow(0)).await;
    let mut watch = pool.watch();
    let mut other = Conn::new(server.opts()).await.expect("a connection");
    other
        .query_drop("DO GET_LOCK('slow', 0)")
        .await
        .expect("the lock");
    // Runs until the other connection releases the lock.
    let slow = async || {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("DO GET_LOCK('slow', 60)")
            .await
            .expect("the lock");
        conn.query_drop("DO RELEASE_LOCK('slow')")
            .await
            .expect("an answer");
    };
    let waiting = async {
        eventually("all are in use", async || pool.status().in_use == 2).await;
        pool.get().await.map(drop)
    };
    let looking = async {
        let first = tokio::time::timeout(PATIENCE, watch.changed()).await;
        let error = pool.health().last_error;
        other
            .query_drop("DO RELEASE_LOCK('slow')")
            .await
            .expect("an answer");
        let second = tokio::time::timeout(PATIENCE, watch.changed()).await;
        (first, error, second)
    };
    let ((first, error, second), (), (), waited) = tokio::join!(looking, slow(), slow(), waiting);
    waited.expect("it was its turn");
    assert_eq!(
        (first, second),
        (Ok(Readiness::Degraded), Ok(Readiness::Ready))
    );
    assert!(Readiness::Degraded.is_serving());
    let error = error.expect("the reason");
    assert!(error.contains("all 2 connections are in use"), "{error}");
    assert_eq!((pool.health().last_error, pool.metrics().opened), (None, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_refuses() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port()))).await;
    outage(
        &pool,
        &["refused"],
        Duration::from_secs(2),
        async || {
            proxy.refuse().await;
            proxy.cut().await;
        },
        async || proxy.accept_again().await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_whose_servers_are_all_down() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port()))).await;
    outage(
        &pool,
        &["connect"],
        Duration::from_secs(2),
        async || {
            proxy.accept_and_close();
            proxy.cut().await;
        },
        async || proxy.forward(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_hang() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port())).overflow(40)).await;
    outage(
        &pool,
        &["no answer"],
        Duration::from_secs(3),
        async || {
            proxy.accept_and_stall();
            proxy.cut().await;
        },
        async || proxy.forward(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_the_servers_connections_used_up_by_others() {
    let server = Server::builder().max_connections(30).start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port()))).await;
    let others = Mutex::new(Vec::new());
    outage(
        &pool,
        &["1040"],
        Duration::from_secs(2),
        async || {
            proxy.refuse().await;
            proxy.cut().await;
            eventually("the server is empty", async || {
                server.threads_connected().await == 0
            })
            .await;
            let all =
                try_join_all((server.own_connections()..30).map(|_| Conn::new(server.opts())))
                    .await;
            others
                .lock()
                .expect("no panic")
                .extend(all.expect("all that the server has"));
            proxy.accept_again().await;
        },
        async || {
            let all = std::mem::take(&mut *others.lock().expect("no panic"));
            try_join_all(all.into_iter().map(Conn::disconnect))
                .await
                .expect("goodbyes");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_changed() {
    let server = Server::start().await;
    server
        .execute("CREATE USER other@'%' IDENTIFIED BY 'first'")
        .await;
    server.execute("GRANT ALL ON test.* TO other@'%'").await;
    let pool = warm(settings(&server.url_as("other", "first"))).await;
    outage(
        &pool,
        &["1045"],
        Duration::from_secs(2),
        async || {
            server
                .execute("ALTER USER other@'%' IDENTIFIED BY 'second'")
                .await;
            server.kill_all_of("other").await;
        },
        async || {
            server
                .execute("ALTER USER other@'%' IDENTIFIED BY 'first'")
                .await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_reported_and_tried_again() {
    let pool = pool(config("mysql://app:x@no-such-host.invalid/test").size(2));
    let error = pool
        .get_within(Duration::from_secs(2))
        .await
        .expect_err("no such host");
    assert!(error.is_transient(), "{error}");
    let Error::Timeout {
        cause: TimeoutCause::Unavailable,
        ..
    } = error
    else {
        panic!("{error}")
    };
    let health = pool.health();
    assert_eq!(health.readiness, Readiness::Unavailable);
    let error = health.last_error.expect("a reason");
    assert!(
        error.contains("lookup") || error.contains("resol"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_callers_of_a_refusing_server_cause_no_storm() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(config(&server.url_via(proxy.port())).size(20).overflow(30)).await;
    proxy.refuse().await;
    proxy.cut().await;
    let failed_before = pool.metrics().failed_attempts;
    let start = Instant::now();
    let errors = join_all((0..200).map(|_| async {
        loop {
            let left = Duration::from_secs(2).saturating_sub(start.elapsed());
            match pool.get_within(left.max(Duration::from_millis(1))).await {
                // A caller whose connection was cut tries again, like all of them.
                Ok(mut conn) => drop(conn.query_drop("DO 1").await),
                Err(error) => return error.to_string(),
            }
        }
    }))
    .await;
    let attempts = pool.metrics().failed_attempts - failed_before;
    let lasted = start.elapsed();
    println!("{attempts} attempts in {lasted:?}");
    assert!(
        errors.iter().all(|error| error.contains("refused")),
        "{errors:?}"
    );
    // Usually about 18: the pauses are random, and one attempt runs at a time.
    let most = 60 * (lasted.as_secs() + 1);
    assert!((1..=most).contains(&attempts), "{attempts} in {lasted:?}");
    proxy.accept_again().await;
    join_all(
        (0..200).map(|_| async { drop(pool.get_within(PATIENCE).await.expect("a connection")) }),
    )
    .await;
    eventually("it is ready and full", async || {
        pool.readiness() == Readiness::Ready && pool.status().open >= 20
    })
    .await;
}

#[tokio::test]
async fn a_hanging_old_connection_delays_no_caller_after_an_outage() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(1)
        .overflow(3)
        .validate_after_idle(Duration::ZERO);
    let pool = warm(settings).await;
    proxy.stall();
    proxy.refuse().await;
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.map(drop) }
    });
    eventually("openings fail", async || pool.metrics().failed_attempts > 2).await;
    proxy.accept_again().await;
    // The old connection hangs to the end.
    waiting.await.expect("no panic").expect("a connection");
}
