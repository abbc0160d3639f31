//! `statement_timeout`: a statement under way for too long is ended, and nothing else is.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mysql_warm_pool::{
    Error, OnCancel, Pool, PoolConfig,
    error::is_transient,
    mysql_async::{self, Conn, TxOpts, prelude::Queryable},
};
use test_support::{PATIENCE, Proxy, Server, config, eventually, timed, warm};

const LIMIT: Duration = Duration::from_millis(300);

fn settings(url: &str) -> PoolConfig {
    config(url).overflow(0).statement_timeout(LIMIT)
}

fn discarded(pool: &Pool, name: &str) -> u64 {
    let metrics = pool.metrics();
    let mut discarded = metrics.discarded.iter();
    discarded
        .find(|(reason, _)| reason.name() == name)
        .map_or(0, |(_, count)| *count)
}

fn is_timeout(error: &mysql_async::Error) -> bool {
    match Error::of(error) {
        Some(Error::StatementTimeout { after }) => *after == LIMIT,
        // The outcome of a `COMMIT` that was ended is not known.
        Some(error @ Error::CommitUnknown { source }) => {
            !error.is_transient() && is_timeout(source)
        }
        _ => false,
    }
}

async fn running(admin: &mut Conn) -> usize {
    let list = "SELECT id FROM information_schema.processlist \
                WHERE user = 'app' AND info LIKE '%SLEEP%'";
    admin.query::<u64, _>(list).await.expect("the list").len()
}

#[tokio::test]
async fn a_slow_statement_is_ended_and_its_connection_replaced() {
    let server = Server::start().await;
    let pool = warm(settings(&server.url()).size(2)).await;
    let mut conn = pool.get().await.expect("a connection");
    let (outcome, took) = timed(conn.query_drop("SELECT SLEEP(60)")).await;
    let error = outcome.expect_err("too slow");
    assert!(is_timeout(&error) && is_transient(&error), "{error}");
    assert!(error.to_string().contains("300 ms"), "{error}");
    assert!(took >= LIMIT && took < PATIENCE, "{took:?}");
    // Its answer would be taken for this one's.
    let next = conn.query_drop("DO 1").await.expect_err("nothing was sent");
    assert!(!is_timeout(&next), "{next}");
    drop(conn);
    eventually("it is replaced", async || pool.status().idle == 2).await;
    assert_eq!(discarded(&pool, "statement_timeout"), 1);
    assert_eq!(pool.metrics().opened, 3);
    // By default the server finishes it.
    assert_eq!(running(&mut server.admin().await).await, 1);
}

#[tokio::test]
async fn with_kill_it_is_ended_on_the_server_too() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    for size in [3, 1] {
        let pool = warm(settings(&server.url()).size(size).on_cancel(OnCancel::Kill)).await;
        let mut conn = pool.get().await.expect("a connection");
        let outcome = conn.query_drop("SELECT SLEEP(60)").await;
        assert!(is_timeout(&outcome.expect_err("too slow")));
        drop(conn);
        eventually("it is gone", async || running(&mut admin).await == 0).await;
        eventually("it is replaced", async || pool.status().idle == size).await;
        pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_statement_in_a_black_hole_is_ended() {
    let server = Server::start().await;
    server.execute("CREATE TABLE test.t (a INT)").await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port())).size(12)).await;
    let all = join_all((0..12).map(|_| pool.get())).await;
    let mut all = all.into_iter().map(|conn| conn.expect("a connection"));
    let mut next = || all.next().expect("one of 12");
    let (mut query, mut exec, mut ping, mut prep) = (next(), next(), next(), next());
    let (mut batch, mut begin, mut stream, mut close) = (next(), next(), next(), next());
    let (mut first, mut second, mut third, mut fourth) = (next(), next(), next(), next());
    let prepared = close.prep("SELECT 7").await.expect("prepared");
    let begun = join_all(
        [&mut first, &mut second, &mut third, &mut fourth]
            .map(|conn| conn.start_transaction(TxOpts::default())),
    );
    let [commit, rollback, mut transaction, mut generic] = begun
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .expect("transactions")
        .try_into()
        .expect("four");
    proxy.stall();
    let began = Instant::now();
    let outcomes = tokio::join!(
        query.query_drop("DO 1"),
        async {
            exec.exec_first::<u64, _, _>("SELECT ?", (1,))
                .await
                .map(drop)
        },
        ping.ping(),
        async { prep.prep("SELECT 1").await.map(drop) },
        batch.exec_batch("INSERT INTO t VALUES (?)", [(1,), (2,)]),
        async { begin.start_transaction(TxOpts::default()).await.map(drop) },
        async {
            stream
                .exec_stream::<u64, _, _>("SELECT 1", ())
                .await
                .map(drop)
        },
        close.exec_drop(&prepared, ()),
        commit.commit(),
        rollback.rollback(),
        transaction.exec_drop("SELECT ?", (1,)),
        async { generic.query_iter("SELECT 1").await.map(drop) },
    );
    let (a, b, c, d, e, f, g, h, i, j, k, l) = outcomes;
    for (n, outcome) in [a, b, c, d, e, f, g, h, i, j, k, l].into_iter().enumerate() {
        let error = outcome.expect_err("a black hole");
        assert!(is_timeout(&error), "{n}: {error}");
    }
    assert!(began.elapsed() >= LIMIT);
    drop((query, exec, ping, prep, batch, begin, stream, close));
    drop((transaction, generic));
    drop((first, second, third, fourth));
    let mut conn = pool.get_within(PATIENCE).await.expect("a new connection");
    conn.query_drop("DO 1").await.expect("an answer");
    drop(conn);
    eventually("all are replaced", async || pool.status().idle == 12).await;
    assert_eq!(discarded(&pool, "statement_timeout"), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_behind_a_full_black_hole_are_served_after_it() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(settings(&server.url_via(proxy.port())).size(4)).await;
    let all = join_all((0..4).map(|_| pool.get())).await;
    proxy.stall();
    let stuck = join_all(all.into_iter().map(async |conn| {
        let mut conn = conn.expect("a connection");
        let outcome = conn.query_drop("DO 1").await;
        is_timeout(&outcome.expect_err("a black hole"))
    }));
    let waiting = join_all((0..8).map(async |_| {
        let mut conn = pool.get_within(PATIENCE).await.expect("a connection");
        conn.query_first::<u64, _>("SELECT 7")
            .await
            .expect("an answer")
    }));
    let (stuck, served) = tokio::join!(stuck, waiting);
    assert_eq!(stuck, [true; 4]);
    assert_eq!(served, [Some(7); 8]);
    eventually("all are replaced", async || pool.status().idle == 4).await;
    assert_eq!(pool.metrics().opened, 8);
}

/// Statements that end at the very moment they are ended: each gets its own answer or the error,
/// and no slot is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_ends_at_that_moment_gets_its_own_answer() {
    let server = Server::start().await;
    let limit = Duration::from_millis(50);
    let pool = warm(
        config(&server.url())
            .size(8)
            .overflow(0)
            .statement_timeout(limit),
    )
    .await;
    let outcomes = join_all((0..16_u64).map(|task| {
        let pool = pool.clone();
        async move {
            let (mut answered, mut ended) = (0, 0);
            for n in 0..12 {
                let number = task * 100 + n;
                let seconds = 0.048 + 0.001 * f64::from(u8::try_from(number % 17).expect("small"));
                let mut conn = pool.get_within(PATIENCE).await.expect("a connection");
                let query = format!("SELECT {number}, SLEEP({seconds})");
                match conn.query_first::<(u64, u64), _>(query).await {
                    Ok(answer) => {
                        assert_eq!(answer, Some((number, 0)));
                        answered += 1;
                        match conn.exec_first::<u64, _, _>("SELECT ?", (number,)).await {
                            Ok(next) => assert_eq!(next, Some(number)),
                            // A busy machine took as long for this one.
                            Err(error) => {
                                assert!(error.to_string().contains("50 ms"), "{error}");
                                ended += 1;
                            }
                        }
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("50 ms"), "{error}");
                        ended += 1;
                    }
                }
            }
            (answered, ended)
        }
    }))
    .await;
    let ended: u64 = outcomes.iter().map(|(_, ended)| ended).sum();
    println!("{outcomes:?}");
    eventually("no slot is lost", async || pool.status().idle == 8).await;
    assert_eq!(discarded(&pool, "statement_timeout"), ended);
    assert_eq!(pool.metrics().opened, 8 + ended);
}

#[tokio::test]
async fn many_short_statements_and_a_long_hold_are_not_ended() {
    let server = Server::shared().await;
    let pool = warm(settings(&server.url()).size(2)).await;
    let mut conn = pool.get().await.expect("a connection");
    let began = Instant::now();
    while began.elapsed() < 2 * LIMIT {
        conn.query_drop("DO SLEEP(0.02)").await.expect("short");
    }
    tokio::time::sleep(2 * LIMIT).await; // the caller's own work
    conn.query_drop("DO 1").await.expect("not cut");
    drop(conn);
    eventually("both are idle", async || pool.status().idle == 2).await;
    assert_eq!(pool.metrics().opened, 2);
}

#[tokio::test]
async fn the_bare_conn_is_not_ended() {
    let server = Server::shared().await;
    let pool = warm(settings(&server.url()).size(1)).await;
    let mut conn = pool.get().await.expect("a connection");
    let bare: &mut Conn = &mut conn;
    bare.query_drop("DO SLEEP(0.9)")
        .await
        .expect("not followed");
    drop(conn);
    eventually("it is idle again", async || pool.status().idle == 1).await;
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn a_statement_is_ended_while_close_waits_for_it() {
    let server = Server::start().await;
    let pool = warm(settings(&server.url()).size(1).close_timeout(PATIENCE)).await;
    let mut conn = pool.get().await.expect("a connection");
    let statement = async {
        let outcome = conn.query_drop("SELECT SLEEP(60)").await;
        drop(conn);
        outcome
    };
    let (outcome, report) = tokio::join!(statement, pool.close());
    assert!(is_timeout(&outcome.expect_err("too slow")));
    assert_eq!(report.cut, 0, "{report:?}");
}

/// A statement that timed out may mean that the network is gone: connections that have been silent
/// for as long are validated before they are handed out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_caller_of_a_black_hole_is_enough() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let minute = Duration::from_secs(60);
    let settings = settings(&server.url_via(proxy.port()))
        .size(4)
        .overflow(4)
        .validate_after_idle(minute);
    let pool = warm(settings).await;
    proxy.stall();
    let mut conn = pool.get().await.expect("a connection");
    let outcome = conn.query_drop("DO 1").await;
    assert!(is_timeout(&outcome.expect_err("a black hole")));
    drop(conn);
    for _ in 0..8 {
        let mut conn = pool.get_within(PATIENCE).await.expect("a connection");
        conn.query_drop("DO 1").await.expect("an answer");
    }
    assert_eq!(discarded(&pool, "statement_timeout"), 1);
}
