//! Callers on other runtimes than the pool's: all are served, and none hangs or loses a connection.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use mysql_warm_pool::{
    Error, Pool, PooledConn, Readiness,
    cluster::{Cluster, ClusterConfig},
    error::TimeoutCause,
    mysql_async::{self, TxOpts, prelude::Queryable},
};
use test_support::{Elsewhere, PATIENCE, Seed, Server, config, eventually, pool, warm};
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// The URL of the shared server, which outlives every runtime of a test.
fn url() -> String {
    runtime().block_on(async { Server::shared().await.url() })
}

/// Gets a connection and asks a question, again if the pool's runtime ends meanwhile.
async fn ask(pool: &Pool, interrupted: &AtomicUsize) -> u64 {
    loop {
        let mut conn = pool.get().await.expect("a connection");
        match conn.query_first("SELECT 7").await {
            Ok(Some(answer)) => return answer,
            Ok(None) => panic!("no row"),
            Err(error) => assert!(is_stopped(&error), "{error}"),
        }
        interrupted.fetch_add(1, Ordering::Relaxed);
    }
}

fn is_stopped(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Other(error) => {
            matches!(error.downcast_ref(), Some(Error::RuntimeStopped))
        }
        _ => false,
    }
}

/// Uses a connection in every way that a caller may.
async fn use_all(pool: &Pool, n: u64) {
    let mut conn = pool.get().await.expect("a connection");
    let answer: Option<u64> = conn.exec_first("SELECT ?", (n,)).await.expect("an answer");
    assert_eq!(answer, Some(n));
    match n % 5 {
        0 => {
            let mut transaction = conn
                .start_transaction(TxOpts::default())
                .await
                .expect("begun");
            let answer = transaction.query_first(format!("SELECT {n}")).await;
            assert_eq!(answer.expect("an answer"), Some(n));
            transaction.commit().await.expect("committed");
        }
        1 => {
            let rows = "SELECT 1 AS n UNION ALL SELECT 2";
            let stream = conn.exec_stream::<u64, _, _>(rows, ()).await.expect("rows");
            let rows: Vec<_> = stream.map(|row| row.expect("a row")).collect().await;
            assert_eq!(rows, [1, 2]);
        }
        2 => conn.query_drop("SET @a = 1").await.expect("set"),
        3 => {
            let begun = conn.start_transaction(TxOpts::default()).await;
            drop(begun.expect("a transaction"));
        }
        _ => drop(conn.query_iter("SELECT 1; SELECT 2").await.expect("rows")),
    }
}

async fn serves_its_limit(pool: &Pool) {
    let limit = pool.status().limit();
    let all = join_all((0..limit).map(|_| pool.get_within(PATIENCE))).await;
    let all: Result<Vec<_>, _> = all.into_iter().collect();
    assert_eq!(all.expect("no slot is lost").len(), limit);
}

/// The pool's runtime and another one, both current on this thread only.
fn undriven(settings: impl FnOnce(&str) -> mysql_warm_pool::PoolConfig) -> (Runtime, Pool) {
    let home = runtime();
    let settings = settings(&url());
    let pool = home.block_on(async { warm(settings).await });
    (home, pool)
}

#[test]
fn four_single_threaded_runtimes_are_served_by_a_fifth() {
    let url = url();
    let home = Elsewhere::start();
    let pool = home.block_on(async move { warm(config(&url).size(4).overflow(4)).await });
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (pool, answered) = (&pool, &answered);
            scope.spawn(move || {
                runtime().block_on(async {
                    for round in 0..10 {
                        let requests = (0..5).map(|n| use_all(pool, worker * 50 + round * 5 + n));
                        let done = join_all(requests).await.len();
                        answered.fetch_add(done, Ordering::Relaxed);
                    }
                });
            });
        }
    });
    assert_eq!(answered.into_inner(), 200);
    runtime().block_on(serves_its_limit(&pool));
}

#[test]
fn callers_on_every_kind_of_runtime_are_served() {
    let url = url();
    let threads = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let threads = threads.expect("a runtime");
    let single = Elsewhere::start();
    for own in [true, false] {
        let settings = config(&url).size(2).overflow(1);
        let pool = if own {
            threads.block_on(async { warm(settings).await })
        } else {
            single.block_on(async move { warm(settings).await })
        };
        let spawned = {
            let pool = pool.clone();
            threads.spawn(async move { use_all(&pool, 1).await })
        };
        threads.block_on(spawned).expect("no panic");
        threads.block_on(use_all(&pool, 2));
        let here = pool.clone();
        single.block_on(async move { use_all(&here, 3).await });
        // A future that is not `Send`.
        let local = runtime();
        LocalSet::new().block_on(&local, async {
            let pool = pool.clone();
            let work = tokio::task::spawn_local(async move {
                let shared = std::rc::Rc::new(pool);
                use_all(&shared, 4).await;
            });
            work.await.expect("no panic");
        });
        // A blocking thread of another runtime.
        local.block_on(async {
            let pool = pool.clone();
            let blocking = tokio::task::spawn_blocking(move || {
                tokio::runtime::Handle::current().block_on(use_all(&pool, 5));
            });
            blocking.await.expect("no panic");
        });
        local.block_on(serves_its_limit(&pool));
        assert_eq!(local.block_on(pool.close()).cut, 0);
    }
}

#[test]
fn try_get_serves_other_runtimes() {
    let url = url();
    let home = Elsewhere::start();
    let pool = home.block_on(async move { warm(config(&url).size(1).overflow(0)).await });
    runtime().block_on(async {
        let mut conn = pool.try_get().expect("an idle connection");
        assert_eq!(
            conn.query_first("SELECT 7").await.expect("an answer"),
            Some(7)
        );
        assert!(pool.try_get().is_none());
    });
    drop(home);
    runtime().block_on(async {
        assert!(pool.try_get().is_none(), "its runtime has ended");
        serves_its_limit(&pool).await;
        assert!(pool.try_get().is_some());
    });
}

#[test]
fn warm_up_and_readiness_work_from_other_runtimes() {
    let url = url();
    let home = Elsewhere::start();
    let pool = pool(config(&url).size(4));
    let first = pool.clone();
    home.block_on(async move { drop(first.get().await.expect("a connection")) });
    runtime().block_on(async {
        let mut watch = pool.watch();
        let (report, ready) = tokio::join!(pool.warm_up(), pool.wait_ready());
        assert!(report.expect("warm").is_complete());
        ready.expect("ready");
        assert_eq!(pool.readiness(), Readiness::Ready);
        while watch.current() != Readiness::Ready {
            watch.changed().await;
        }
        pool.refresh();
        pool.resize(2, 1).expect("valid");
        eventually("the surplus is closed, and the rest replaced", async || {
            let status = pool.status();
            status.open == 2 && status.idle == 2 && pool.metrics().opened >= 6
        })
        .await;
        let (one, two) = (
            pool.get().await.expect("one"),
            pool.get().await.expect("two"),
        );
        PooledConn::discard(one);
        drop(PooledConn::detach(two));
        serves_its_limit(&pool).await;
    });
}

#[test]
fn close_from_another_runtime_closes_all() {
    let url = url();
    let home = Elsewhere::start();
    let pool = home.block_on(async move { warm(config(&url).size(3)).await });
    let held = {
        let pool = pool.clone();
        home.block_on(async move { pool.get().await.expect("a connection") })
    };
    let report = runtime().block_on(async {
        let returned = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(held);
        };
        tokio::join!(pool.close(), returned).0
    });
    assert_eq!((report.drained, report.cut), (3, 0));
    let outcome = runtime().block_on(pool.get());
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
}

#[test]
fn a_get_from_elsewhere_fails_at_its_deadline_if_undriven() {
    let limit = Duration::from_millis(300);
    let (home, pool) = undriven(|url| config(url).size(2).overflow(0).timeout(limit));
    for _ in 0..3 {
        let start = Instant::now();
        let error = runtime()
            .block_on(pool.get())
            .expect_err("nobody drives its sockets");
        assert!(start.elapsed() >= limit);
        assert!(
            error
                .to_string()
                .contains("the pool's runtime is not driven"),
            "{error}"
        );
        assert!(error.is_transient());
        let Error::Timeout { cause, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(cause, TimeoutCause::RuntimeNotDriven);
    }
    assert_eq!(pool.status().idle, 2);
    // Driven again, it serves at once.
    let here = home.block_on(async {
        let elsewhere = Elsewhere::start();
        let pool = pool.clone();
        let asked = elsewhere.spawn(async move { use_all(&pool, 1).await });
        asked.await
    });
    here.expect("no panic");
    assert_eq!(pool.metrics().opened, 2);
    // Gone, and the pool moves.
    drop(home);
    runtime().block_on(serves_its_limit(&pool));
}

#[test]
fn a_statement_from_elsewhere_ends_if_undriven() {
    let (home, pool) = undriven(|url| config(url).size(2).overflow(0));
    let mut held = home.block_on(pool.get()).expect("a connection");
    let other = runtime();
    let (queried, streamed) = other.block_on(async {
        let mut tried = pool.try_get().expect("an idle connection");
        // An answer that is there before anybody waits for it may be read at once.
        let query = held.query_first::<u64, _>("SELECT SLEEP(0.2)");
        let stream = async {
            tried
                .exec_stream::<u64, _, _>("SELECT SLEEP(0.2)", ())
                .await
                .map(drop)
        };
        tokio::join!(query, stream)
    });
    let error = queried.expect_err("nobody drives its socket");
    assert!(is_stopped(&error), "{error}");
    assert!(mysql_warm_pool::error::is_transient(&error));
    assert!(is_stopped(&streamed.expect_err("nobody drives its socket")));
    let error = other
        .block_on(held.query_drop("DO 1"))
        .expect_err("out of step");
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    drop(held);
    // What was left to its tasks is done when it is driven again.
    home.block_on(serves_its_limit(&pool));
}

#[test]
fn a_slow_statement_from_elsewhere_is_left_alone() {
    let url = url();
    let home = Elsewhere::start();
    let pool = home.block_on(async move { warm(config(&url).size(1)).await });
    runtime().block_on(async {
        let mut conn = pool.get().await.expect("a connection");
        let slept = conn.query_first("SELECT SLEEP(6.5)").await;
        assert_eq!(slept.expect("an answer"), Some(0));
    });
}

#[test]
fn warm_up_and_close_end_at_their_limits_if_undriven() {
    let limit = Duration::from_millis(300);
    let (home, pool) = undriven(|url| {
        config(url)
            .size(2)
            .warm_up_timeout(limit)
            .close_timeout(limit)
    });
    let held = home.block_on(pool.get()).expect("a connection");
    PooledConn::discard(held);
    let other = runtime();
    let start = Instant::now();
    let error = other.block_on(pool.warm_up()).expect_err("one is missing");
    assert!(
        error
            .to_string()
            .contains("the pool's runtime is not driven"),
        "{error}"
    );
    let report = other.block_on(pool.close());
    assert!(start.elapsed() < PATIENCE);
    // One was idle, but its goodbye waits for the runtime.
    assert_eq!((report.drained, report.cut), (0, 2));
    drop(home);
    assert_eq!(pool.status().open, 0, "closed with their runtime");
}

#[test]
fn waiting_calls_move_over_when_the_runtime_ends() {
    let server = runtime().block_on(async { Server::shared().await });
    for _ in 0..5 {
        let url = server.url();
        let home = Elsewhere::start();
        // The limit is in use, so callers wait in the queue.
        let pool = home.block_on(async move { warm(config(&url).size(2).overflow(0)).await });
        let held = {
            let pool = pool.clone();
            home.block_on(async move { join_all([pool.get(), pool.get()]).await })
        };
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || {
                    runtime().block_on(async { ask(&pool, &AtomicUsize::new(0)).await })
                })
            })
            .collect();
        let other = runtime();
        other.block_on(eventually("all wait", async || pool.status().waiting == 4));
        drop(home);
        // On this runtime nothing else happens than the returns.
        drop(held);
        for waiting in waiting {
            waiting.join().expect("served");
        }
        other.block_on(serves_its_limit(&pool));
    }
}

#[test]
fn a_warm_up_moves_over_when_the_runtime_ends() {
    let url = url();
    for pause in 0..10 {
        let home = Elsewhere::start();
        let pool = pool(config(&url).size(8));
        let first = pool.clone();
        home.block_on(async move {
            assert!(first.try_get().is_none());
        });
        let warming = {
            let pool = pool.clone();
            thread::spawn(move || runtime().block_on(pool.warm_up()))
        };
        thread::sleep(Duration::from_micros(200 * pause));
        drop(home);
        let report = warming.join().expect("no panic").expect("warm");
        assert_eq!(report.target, 8);
        runtime().block_on(serves_its_limit(&pool));
    }
}

#[test]
fn connections_of_a_runtime_that_ended_fail_and_are_replaced() {
    let url = url();
    let home = Elsewhere::start();
    let pool = home.block_on(async move { warm(config(&url).size(2).overflow(0)).await });
    let other = runtime();
    let mut held = other.block_on(pool.get()).expect("a connection");
    let mut working = other.block_on(pool.get()).expect("a connection");
    let mut work = Box::pin(working.query_first::<u64, _>("SELECT SLEEP(30)"));
    let error = other.block_on(async {
        let pause = tokio::time::timeout(Duration::from_millis(50), &mut work).await;
        assert!(pause.is_err());
        drop(home);
        work.await.expect_err("its runtime has ended")
    });
    assert!(is_stopped(&error), "{error}");
    let error = other
        .block_on(held.query_drop("DO 1"))
        .expect_err("so has this one's");
    assert!(is_stopped(&error), "{error}");
    drop((held, working));
    other.block_on(serves_its_limit(&pool));
    assert!(pool.status().open <= 2);
}

#[test]
fn nothing_is_sent_once_its_runtime_has_ended() {
    let url = url();
    let home = Elsewhere::start();
    let pool = home.block_on(async move { warm(config(&url).size(2).overflow(0)).await });
    let other = runtime();
    let owned = other.block_on(pool.begin()).expect("begun");
    let mut conn = other.block_on(pool.get()).expect("a connection");
    let begun = other.block_on(conn.start_transaction(TxOpts::default()));
    let transaction = begun.expect("begun");
    drop(home);
    // So these are certainly not committed.
    let error = other.block_on(owned.commit()).expect_err("it has ended");
    assert!(matches!(error, Error::RuntimeStopped), "{error}");
    let error = other
        .block_on(transaction.commit())
        .expect_err("it has ended");
    assert!(is_stopped(&error), "{error}");
    drop(conn);
    other.block_on(serves_its_limit(&pool));
}

#[test]
fn a_caller_whose_runtime_ends_loses_no_connection() {
    let url = url();
    let home = Elsewhere::start();
    let pool = home.block_on(async move { warm(config(&url).size(3).overflow(0)).await });
    for _ in 0..20 {
        let other = runtime();
        let (held, got) = tokio::sync::oneshot::channel();
        let pool = Arc::new(pool.clone());
        let holder = Arc::clone(&pool);
        other.spawn(async move {
            let mut idle = holder.get().await.expect("a connection");
            let mut changed = holder.get().await.expect("a connection");
            let mut working = holder.get().await.expect("a connection");
            changed.query_drop("SET @a = 1").await.expect("set");
            idle.query_drop("DO 1").await.expect("done");
            held.send(()).expect("it is awaited");
            working
                .query_drop("DO SLEEP(30)")
                .await
                .expect("dropped before");
        });
        let waiter = Arc::clone(&pool);
        other.spawn(async move { waiter.get().await });
        other.block_on(async { got.await.expect("they are held") });
        drop(other);
    }
    runtime().block_on(serves_its_limit(&pool));
}

#[test]
fn a_runtime_without_timers_is_an_error_and_no_panic() {
    let url = url();
    let bare = Builder::new_current_thread().build().expect("a runtime");
    let cold = pool(config(&url).size(1).overflow(0));
    assert!(matches!(bare.block_on(cold.get()), Err(Error::NoRuntime)));
    assert!(matches!(
        bare.block_on(cold.warm_up()),
        Err(Error::NoRuntime)
    ));
    let home = Elsewhere::start();
    let pool = cold.clone();
    let held = home.block_on(async move { pool.get().await.expect("a connection") });
    assert!(matches!(bare.block_on(cold.get()), Err(Error::NoRuntime)));
    drop(held);
}

#[test]
fn a_cluster_on_a_runtime_without_timers_is_an_error_and_no_panic() {
    let settings = ClusterConfig::new([config(&url()).size(1).overflow(0)]);
    let bare = Builder::new_current_thread().enable_io().build();
    let bare = bare.expect("a runtime");
    let cluster = Cluster::new(settings).expect("valid settings");
    let is_error = |outcome| matches!(outcome, Err(Error::NoRuntime));
    let all_are = || {
        let warm_up = bare.block_on(cluster.warm_up());
        assert!(is_error(warm_up.map(drop)));
        assert!(is_error(bare.block_on(cluster.writer()).map(drop)));
        assert!(is_error(bare.block_on(cluster.reader()).map(drop)));
    };
    all_are();
    let home = Elsewhere::start();
    let warm = cluster.clone();
    home.block_on(async move { drop(warm.warm_up().await.expect("warm")) });
    all_are();
}

#[test]
fn a_runtime_that_is_shutting_down_is_an_error() {
    let url = url();
    let home = runtime();
    let pool = home.block_on(async { warm(config(&url).size(1)).await });
    let handle = home.handle().clone();
    drop(home);
    let _entered = handle.enter();
    assert!(pool.try_get().is_none());
    let got = futures_util::FutureExt::now_or_never(pool.get());
    assert!(matches!(got, Some(Err(Error::NoRuntime))), "{got:?}");
}

#[test]
fn parallel_runtimes_share_a_static_pool_whichever_ends_first() {
    static URL: LazyLock<String> = LazyLock::new(url);
    static POOL: LazyLock<Pool> = LazyLock::new(|| pool(config(&URL).size(4).overflow(4)));
    LazyLock::force(&POOL);
    let seed = Seed::new();
    println!("SEED={seed:?}");
    let interrupted = AtomicUsize::new(0);
    for round in 0..20 {
        thread::scope(|scope| {
            for n in 0..20_u64 {
                let pauses = seed.fork(round * 20 + n).below(2000);
                let interrupted = &interrupted;
                scope.spawn(move || {
                    runtime().block_on(async {
                        assert_eq!(ask(&POOL, interrupted).await, 7);
                        tokio::time::sleep(Duration::from_micros(pauses)).await;
                        assert_eq!(ask(&POOL, interrupted).await, 7);
                    });
                });
            }
        });
    }
    println!("interrupted {interrupted:?}");
    let status = POOL.status();
    assert!(status.open + status.connecting <= 8, "{status}");
    runtime().block_on(serves_its_limit(&POOL));
}

#[test]
fn a_pool_on_a_runtime_of_its_own_is_not_interrupted() {
    static URL: LazyLock<String> = LazyLock::new(url);
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut threads = Builder::new_multi_thread();
        let runtime = threads.worker_threads(1).enable_all().build();
        runtime.expect("a runtime")
    });
    static POOL: LazyLock<Pool> = LazyLock::new(|| {
        let pool = pool(config(&URL).size(4).overflow(4));
        let _inside = RUNTIME.enter();
        drop(pool.try_get());
        pool
    });
    LazyLock::force(&URL);
    let interrupted = AtomicUsize::new(0);
    for _ in 0..10 {
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    runtime().block_on(async { assert_eq!(ask(&POOL, &interrupted).await, 7) });
                });
            }
        });
    }
    assert_eq!(interrupted.into_inner(), 0);
    let metrics = POOL.metrics();
    let mut discarded = metrics.discarded.iter();
    assert!(discarded.all(|(reason, count)| reason.name() != "runtime_gone" || *count == 0));
}
