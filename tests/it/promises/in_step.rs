//! An answer always belongs to the query that asked for it, whatever was cancelled before.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::StreamExt;
use mysql_warm_pool::{
    Pool, PooledConn, Reset,
    mysql_async::{self, Conn, TxOpts, prelude::*},
};
use test_support::{Elsewhere, Seed, Server, config, eventually, warm};
use tokio::{runtime::Handle, task::JoinSet};

const ROWS: &str = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 200) SELECT n FROM r";

/// Returns a number that no other question uses.
fn token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Queries in one of the ordinary ways and checks the answer.
async fn ask(conn: &mut impl Queryable) -> mysql_async::Result<()> {
    let token = token();
    let answer: Option<u64> = if token.is_multiple_of(2) {
        conn.query_first(format!("SELECT {token}")).await?
    } else {
        conn.exec_first("SELECT ?", (token,)).await?
    };
    assert_eq!(
        answer,
        Some(token),
        "the answer belongs to another question"
    );
    Ok(())
}

/// Work that may be cancelled at any point.
async fn work(conn: &mut PooledConn, kind: u64) -> mysql_async::Result<()> {
    let token = token();
    match kind {
        0 => ask(conn).await?,
        1 => {
            conn.query_drop(format!("DO SLEEP(0.0005), {token}"))
                .await?;
        }
        2 => {
            let rows = (0..20).map(|n| (token + n,));
            conn.exec_batch("DO ?", rows).await.or_else(unsupported)?;
        }
        3 => {
            let statement = conn.prep(format!("SELECT ?, {token}")).await?;
            let row: Option<(u64, u64)> = conn.exec_first(&statement, (7,)).await?;
            assert_eq!(row, Some((7, token)));
            conn.close(statement).await?;
        }
        4 => {
            let mut stream = conn.exec_stream::<u64, _, _>(ROWS, ()).await?;
            for n in 1..=100 {
                assert_eq!(stream.next().await.transpose()?, Some(n));
            }
        }
        5 => {
            let mut result = conn
                .query_iter(format!("SELECT {token}; DO 1; SELECT {token} + 1"))
                .await?;
            assert_eq!(result.collect::<u64>().await?, [token]);
            if token.is_multiple_of(2) {
                result.collect::<u64>().await?;
                assert_eq!(result.collect::<u64>().await?, [token + 1]);
            }
        }
        6 => {
            let mut transaction = conn.start_transaction(TxOpts::default()).await?;
            ask(&mut transaction).await?;
        }
        7 => {
            let mut transaction = conn.start_transaction(TxOpts::default()).await?;
            ask(&mut transaction).await?;
            transaction.commit().await?;
            ask(conn).await?;
        }
        8 => {
            let transaction = conn.start_transaction(TxOpts::default()).await?;
            transaction.rollback().await?;
            ask(conn).await?;
        }
        9 => {
            let mut transaction = conn.start_transaction(TxOpts::default()).await?;
            let short = Duration::from_micros(token % 200);
            if let Ok(outcome) = tokio::time::timeout(short, ask(&mut transaction)).await {
                outcome?;
                transaction.commit().await?;
            }
        }
        10 => {
            // Dropped: its rollback is left to the next command.
            drop(conn.start_transaction(TxOpts::default()).await?);
            ask(conn).await?;
        }
        11 => {
            drop(conn.query_iter("SELECT 1; SELECT 2").await?);
            ask(conn).await?;
        }
        12 => {
            let bare: &mut Conn = conn;
            ask(bare).await?;
        }
        13 => {
            let bare: &mut Conn = conn;
            drop(bare.start_transaction(TxOpts::default()).await?);
            ask(bare).await?;
        }
        14 => {
            let answer: Option<u64> = format!("SELECT {token}").first(&mut *conn).await?;
            assert_eq!(answer, Some(token));
        }
        15 => {
            let answer: Option<u64> = "SELECT ?".with((token,)).first(&mut *conn).await?;
            assert_eq!(answer, Some(token));
        }
        16 => conn.ping().await?,
        17 => {
            conn.query_drop("BEGIN").await?;
            ask(conn).await?;
        }
        18 => {
            let error = conn
                .query_drop("SELECT FROM nothing")
                .await
                .expect_err("bad SQL");
            if !matches!(error, mysql_async::Error::Server(_)) {
                return Err(error);
            }
            ask(conn).await?;
        }
        _ => {
            conn.query_drop(format!("SET @a = {token}")).await?;
            let answer: Option<u64> = conn.query_first("SELECT @a").await?;
            assert_eq!(answer, Some(token));
        }
    }
    Ok(())
}

const KINDS: u64 = 20;
/// Kinds that use the connection as the bare driver's. How the driver answers the same caller after
/// a cancellation is its own affair; the pool is responsible for the next caller.
const BARE: [u64; 4] = [12, 13, 14, 15];

/// For `exec_batch`, the server reports statements that cannot be sent in bulk as an error.
fn unsupported(error: mysql_async::Error) -> mysql_async::Result<()> {
    match error {
        mysql_async::Error::Server(error) if error.code == 1295 => Ok(()),
        other => Err(other),
    }
}

/// Polls `work` at most `times` times and then drops it. Returns `None` if it had not finished.
async fn polled_at_most<T>(times: u64, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == times {
            return Poll::Ready(None);
        }
        polls += 1;
        match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if polls == times => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Cancels callers of `pool` until `enough` were cancelled, while others query and must get the
/// right answers.
async fn cancel_and_ask(pool: &Pool, seed: &Seed, enough: u64) {
    cancel_and_ask_on(&[Handle::current()], pool, seed, enough).await;
}

/// The same with the callers spread over these runtimes.
async fn cancel_and_ask_on(runtimes: &[Handle], pool: &Pool, seed: &Seed, enough: u64) {
    let mut runtimes = runtimes.iter().cycle();
    let mut next = || runtimes.next().expect("there is one");
    let cancelled = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for n in 0..6 {
        let (pool, cancelled, mut seed) = (pool.clone(), Arc::clone(&cancelled), seed.fork(n));
        let task = async move {
            while cancelled.load(Ordering::Relaxed) < enough {
                let mut conn = pool.get().await.expect("a connection");
                let kind = seed.below(KINDS);
                let work = work(&mut conn, kind);
                let outcome = if seed.chance(60) {
                    polled_at_most(seed.below(12), work).await
                } else {
                    tokio::time::timeout(seed.duration_below(Duration::from_micros(600)), work)
                        .await
                        .ok()
                };
                match outcome {
                    None => drop(cancelled.fetch_add(1, Ordering::Relaxed)),
                    Some(Ok(())) => {}
                    // A time-out inside the work cancelled a command, and the work continued.
                    Some(Err(error)) => assert!(
                        kind == 9 && error.to_string().contains("cancelled"),
                        "kind {kind}: an error that this caller did not cause: {error}"
                    ),
                }
                if seed.chance(10) && !BARE.contains(&kind) {
                    // Whatever was cancelled, the same caller too gets right answers or none.
                    drop(ask(&mut conn).await);
                }
            }
        };
        tasks.spawn_on(task, next());
    }
    let mut askers = JoinSet::new();
    for _ in 0..3 {
        let (pool, done) = (pool.clone(), Arc::clone(&done));
        let task = async move {
            let mut answers = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let mut conn = pool.get().await.expect("a connection");
                for _ in 0..3 {
                    ask(&mut conn)
                        .await
                        .expect("an answer, and no error of another caller's");
                    answers += 1;
                }
            }
            answers
        };
        askers.spawn_on(task, next());
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no wrong answer to a cancelled caller");
    }
    done.store(true, Ordering::Relaxed);
    let answers: u64 = askers.join_all().await.into_iter().sum();
    println!(
        "{} cancelled, {answers} answers, {:?}",
        cancelled.load(Ordering::Relaxed),
        pool.metrics()
    );
    assert!(answers > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_cancelled_callers_cause_no_wrong_answer() {
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(6).overflow(2)).await;
    cancel_and_ask(&pool, &Seed::new(), 10_000).await;
}

#[tokio::test]
async fn cancelled_callers_on_five_runtimes_cause_no_wrong_answer() {
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(6).overflow(2)).await;
    let others = [(); 4].map(|()| Elsewhere::start());
    let mut runtimes = vec![Handle::current()];
    runtimes.extend(others.iter().map(|other| other.handle().clone()));
    cancel_and_ask_on(&runtimes, &pool, &Seed::new(), 4000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_callers_cause_no_wrong_answer_without_resets() {
    let server = Server::start().await;
    let pool = warm(
        config(&server.url())
            .size(6)
            .overflow(2)
            .reset(Reset::Never),
    )
    .await;
    cancel_and_ask(&pool, &Seed::new(), 10_000).await;
}

/// A command that does not finish before this lock is released.
const COMMAND: &str = "DO GET_LOCK('the other caller', 60)";

#[tokio::test]
async fn a_nested_command_that_clears_the_drivers_flag_hides_nothing() {
    let server = Server::start().await;
    let mut other = Conn::new(server.opts()).await.expect("a connection");
    for kind in 0..3 {
        let pool = warm(config(&server.url()).size(1).overflow(0)).await;
        other
            .query_drop("DO GET_LOCK('the other caller', 0)")
            .await
            .expect("the lock");
        let mut conn = pool.get().await.expect("a connection");
        let id = conn.id();
        cancel_after_the_nested_command(&server, &mut conn, kind).await;
        drop(conn);
        other
            .query_drop("DO RELEASE_LOCK('the other caller')")
            .await
            .expect("released");
        for _ in 0..3 {
            let mut next = pool.get().await.expect("a connection");
            assert_ne!(next.id(), id, "kind {kind}: the connection is out of step");
            ask(&mut next).await.expect("an answer");
        }
        pool.close().await;
    }
}

/// Cancels a command after a nested command has made the driver consider the connection fine,
/// although the answer to the outer command is still to come.
async fn cancel_after_the_nested_command(server: &Server, conn: &mut PooledConn, kind: u8) {
    match kind {
        0 => {
            drop(
                conn.start_transaction(TxOpts::default())
                    .await
                    .expect("a transaction"),
            );
            cancelled_while_it_runs(server, conn.query_drop(COMMAND)).await;
            assert!(!conn.is_disconnected(), "the nested one cleared the flag");
            let refused = conn.query_drop("DO 1").await.expect_err("out of step");
            assert!(refused.to_string().contains("cancelled"), "{refused}");
        }
        1 => {
            // Moving to the next result set is the nested command.
            drop(
                conn.query_iter("SELECT 'the other'; SELECT 'caller'")
                    .await
                    .expect("a result"),
            );
            cancelled_while_it_runs(server, conn.query_drop(COMMAND)).await;
        }
        _ => {
            // On the bare connection nothing is tracked: only the validation on return can detect
            // it.
            let bare: &mut Conn = conn;
            drop(
                bare.start_transaction(TxOpts::default())
                    .await
                    .expect("a transaction"),
            );
            cancelled_while_it_runs(server, bare.query_drop(COMMAND)).await;
            assert!(!bare.is_disconnected(), "the nested one cleared the flag");
        }
    }
}

/// Drops the command once the server runs it; by then the nested one has been answered.
async fn cancelled_while_it_runs(
    server: &Server,
    command: impl Future<Output = mysql_async::Result<()>>,
) {
    let mut admin = server.admin().await;
    let running = "SELECT COUNT(*) FROM information_schema.processlist \
                   WHERE user = 'app' AND info LIKE 'DO GET_LOCK%'";
    let runs = eventually("the command runs", async || {
        admin.query_first(running).await.expect("the list") == Some(1)
    });
    tokio::select! {
        outcome = command => panic!("it ended by itself: {outcome:?}"),
        () = runs => {}
    }
}

#[tokio::test]
async fn a_command_that_was_never_polled_costs_nothing() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    let id = conn.id();
    drop(conn.query_drop("DO 1"));
    drop(conn);
    assert_eq!(pool.get().await.expect("a connection").id(), id);
}

#[tokio::test]
async fn the_error_of_a_later_result_set_never_meets_the_next_caller() {
    let server = Server::shared().await;
    for reset in [Reset::Always, Reset::WhenChanged, Reset::Never] {
        let pool = warm(config(&server.url()).size(1).overflow(0).reset(reset)).await;
        for statements in ["DO 1; SELECT FROM nothing", "SELECT 1; SELECT FROM nothing"] {
            let mut conn = pool.get().await.expect("a connection");
            let mut result = conn.query_iter(statements).await.expect("the first result");
            // Advances to the second set, whose error surfaces with the next command.
            drop(result.next().await);
            drop(result);
            drop(conn);
            let mut next = pool.get().await.expect("a connection");
            ask(&mut next).await.expect("no error of the caller before");
        }
    }
}

#[tokio::test]
async fn a_caller_that_panics_leaves_a_connection_in_step_or_none() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    for in_the_middle in [false, true] {
        let of = pool.clone();
        let panicked = tokio::spawn(async move {
            let mut conn = of.get().await.expect("a connection");
            if in_the_middle {
                // With the result half read.
                let refuse = |_: u64| -> u64 { panic!("the caller's own") };
                conn.query_map("SELECT 7 UNION ALL SELECT 8", refuse)
                    .await
                    .map(drop)
            } else {
                panic!("the caller's own")
            }
        })
        .await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
        let mut next = pool.get().await.expect("a connection");
        ask(&mut next).await.expect("an answer");
    }
    eventually("none is lost", async || pool.status().idle == 1).await;
}

#[tokio::test]
async fn after_a_cancelled_command_the_bare_connection_is_refused_too() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    let command = conn.query_drop("DO SLEEP(30)");
    let cancelled = tokio::time::timeout(Duration::from_millis(10), command).await;
    assert!(cancelled.is_err());
    let answer = "SELECT 7".first::<u8, _>(&mut conn).await;
    assert!(answer.is_err_and(|error| error.to_string().contains("cancelled")));
}
