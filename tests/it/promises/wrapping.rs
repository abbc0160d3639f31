//! What code that wraps a pool can learn from it, and tell it.

use std::{
    panic::Location,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use mysql_warm_pool::{
    Error, OwnedTransaction, Pool, PooledConn, TransactionOptions, mysql_async::TxOpts,
};
use test_support::{Server, config, eventually, pool, warm};
use tokio::time::timeout;

struct Wrapper(Pool);

impl Wrapper {
    #[track_caller]
    fn conn(&self) -> impl Future<Output = Result<PooledConn, Error>> {
        let limit = Duration::from_millis(50);
        self.0.get_called_at(limit, Location::caller())
    }
}

#[tokio::test]
async fn an_error_names_the_line_of_the_wrappers_caller() {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(1).overflow(0);
    let pool = warm(settings.leak_after(Duration::from_secs(60))).await;
    let wrapper = Wrapper(pool);
    let line = line!() + 1;
    let held = wrapper.conn().await.expect("a connection");
    let error = wrapper.conn().await.expect_err("exhausted").to_string();
    let here = format!("{}:{line}", file!());
    assert!(error.contains(&here), "{here}: {error}");
    drop(held);
}

#[tokio::test]
async fn a_refresh_is_noticed_whatever_caused_it() {
    let server = Server::start().await;
    server.execute("CREATE TABLE test.entry (id INT)").await;
    let pool = warm(config(&server.url()).size(1)).await;
    let mut refreshed = Box::pin(pool.refreshed());
    timeout(Duration::from_millis(50), &mut refreshed)
        .await
        .expect_err("nothing has happened");
    pool.refresh();
    refreshed.await;
    // An error on a connection that is about to be replaced refreshes nothing.
    eventually("it is replaced", async || {
        let status = pool.status();
        pool.metrics().opened == 2 && status.open == 1 && status.idle == 1
    })
    .await;

    let mut refreshed = Box::pin(pool.refreshed());
    timeout(Duration::from_millis(1), &mut refreshed)
        .await
        .expect_err("nothing has happened since");
    server.execute("SET GLOBAL read_only = ON").await;
    let error = pool.query_drop("INSERT INTO entry VALUES (1)").await;
    error.expect_err("read-only");
    refreshed.await;
}

#[tokio::test]
async fn suspect_connections_are_validated_before_they_are_handed_out() {
    let server = Server::start().await;
    let settings = config(&server.url()).size(4).overflow(0);
    let pool = warm(settings.validate_after_idle(Duration::from_secs(600))).await;
    server.kill_all_of("app").await;
    pool.suspect_all();
    for _ in 0..8 {
        pool.query_drop("DO 1").await.expect("a living connection");
    }
    eventually("all are validated", async || pool.metrics().suspects >= 4).await;
}

#[tokio::test]
async fn a_retry_opens_nothing_that_is_not_missing() {
    let server = Server::start().await;
    let pool = pool(config(&server.url()).size(2));
    pool.retry_now();
    assert_eq!(pool.status().open, 0, "it has not been used yet");
    pool.warm_up().await.expect("warm");
    for _ in 0..10 {
        pool.retry_now();
    }
    assert_eq!(pool.status().connecting, 0);
    assert_eq!(pool.metrics().opened, 2);
    pool.close().await;
    pool.retry_now();
    pool.suspect_all();
    assert_eq!(pool.metrics().opened, 2);
}

async fn pool_with_entries(server: &Server) -> Pool {
    server
        .execute("CREATE TABLE test.entry (id INT) ENGINE=InnoDB")
        .await;
    warm(config(&server.url()).size(1).overflow(0)).await
}

async fn count(pool: &Pool) -> Option<u32> {
    let count = pool.query_first("SELECT COUNT(*) FROM entry").await;
    count.expect("an answer")
}

const INSERT: &str = "INSERT INTO entry VALUES (1)";

#[tokio::test]
#[expect(clippy::mem_forget, reason = "the pool must tolerate a leak")]
async fn a_transaction_begins_on_a_connection_at_hand() {
    let server = Server::start().await;
    let pool = pool_with_entries(&server).await;
    let begin = async |conn| OwnedTransaction::begin(conn, TxOpts::default()).await;

    // One that was used before.
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop(INSERT).await.expect("inserted");
    let started = conn.start_transaction(TxOpts::default()).await;
    let mut dropped = started.expect("begun");
    dropped.query_drop(INSERT).await.expect("inserted");
    drop(dropped);
    let mut transaction = begin(conn).await.expect("begun");
    transaction.query_drop(INSERT).await.expect("inserted");
    transaction.commit().await.expect("committed");
    assert_eq!(count(&pool).await, Some(2));

    // One with an open transaction, which would be committed.
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("BEGIN").await.expect("begun");
    conn.query_drop(INSERT).await.expect("inserted");
    let error = begin(conn).await.expect_err("a transaction is open");
    assert!(matches!(error, Error::InTransaction), "{error}");
    assert_eq!(count(&pool).await, Some(2));
    let mut conn = pool.get().await.expect("a connection");
    let started = conn.start_transaction(TxOpts::default()).await;
    std::mem::forget(started.expect("begun"));
    let error = begin(conn).await.expect_err("a transaction is open");
    assert!(matches!(error, Error::InTransaction), "{error}");
    let mut next = pool.get().await.expect("a connection");
    let started = next.start_transaction(TxOpts::default()).await;
    drop(started.expect("no other is open"));
    drop(next);

    // One whose statement was cancelled.
    let mut conn = pool.get().await.expect("a connection");
    let hanging = timeout(Duration::from_millis(20), conn.query_drop("DO SLEEP(1)")).await;
    hanging.expect_err("cancelled");
    let error = begin(conn).await.expect_err("out of step");
    assert!(matches!(error, Error::ConnectionLost), "{error}");
    assert_eq!(count(&pool).await, Some(2));
}

#[tokio::test]
async fn a_closure_runs_in_a_transaction_at_hand() {
    let server = Server::start().await;
    let pool = pool_with_entries(&server).await;
    let transaction = pool.begin().await.expect("begun");
    let inserted = transaction.run(async |mut transaction| transaction.query_drop(INSERT).await);
    inserted.await.expect("committed");
    let transaction = pool.begin().await.expect("begun");
    let refused: Result<(), Error> = transaction
        .run(async |mut transaction| {
            transaction.query_drop(INSERT).await?;
            Err(Error::Closed)
        })
        .await;
    refused.expect_err("rolled back");
    assert_eq!(count(&pool).await, Some(1));
}

#[tokio::test]
async fn what_a_closure_within_a_closure_does_is_known_to_both() {
    let server = Server::start().await;
    server
        .execute(
            "CREATE PROCEDURE test.lose() BEGIN ROLLBACK; \
             SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'a deadlock'; END",
        )
        .await;
    let pool = pool_with_entries(&server).await;
    // The inner one commits.
    let committed: Result<(), Error> = pool
        .transaction(async |transaction| {
            let insert = async |mut inner: OwnedTransaction| inner.query_drop(INSERT).await;
            transaction.run(insert).await
        })
        .await;
    committed.expect("committed");
    assert_eq!(count(&pool).await, Some(1));
    // The inner one rolls back.
    let refused: Result<(), Error> = pool
        .transaction(async |transaction| {
            let refuse = async |mut inner: OwnedTransaction| {
                inner.query_drop(INSERT).await?;
                Err(Error::Closed)
            };
            transaction.run(refuse).await
        })
        .await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    assert_eq!(count(&pool).await, Some(1));
    // The inner one is cancelled, which rolls back, and the outer one takes no notice.
    let cancelled: Result<(), Error> = pool
        .transaction(async |transaction| {
            let wait = async |mut inner: OwnedTransaction| {
                inner.query_drop(INSERT).await?;
                std::future::pending::<Result<(), Error>>().await
            };
            let waiting = transaction.run(wait);
            timeout(Duration::from_millis(50), waiting).await.ok();
            Ok(())
        })
        .await;
    assert!(
        matches!(cancelled, Err(Error::TransactionInUse)),
        "{cancelled:?}"
    );
    assert_eq!(count(&pool).await, Some(1));
    // A deadlock in the inner one is repeated by the outer one.
    let runs = AtomicU32::new(0);
    let repeated: Result<(), Error> = pool
        .transaction_with(
            TransactionOptions::new().retries(2),
            async |transaction: OwnedTransaction| {
                let first = runs.fetch_add(1, Ordering::SeqCst) == 0;
                let lose = async |mut inner: OwnedTransaction| {
                    inner.query_drop(INSERT).await?;
                    if first {
                        inner.query_drop("CALL lose()").await?;
                    }
                    Ok(())
                };
                transaction.run(lose).await
            },
        )
        .await;
    repeated.expect("repeated");
    assert_eq!(runs.into_inner(), 2);
    assert_eq!(count(&pool).await, Some(2));
    assert_eq!(pool.status().open, 1);
}

#[tokio::test]
async fn a_wrapper_chooses_where_each_attempt_runs() {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    let pools = [pool_with_entries(&one).await, pool_with_entries(&two).await];
    one.execute(
        "CREATE PROCEDURE test.lose() BEGIN ROLLBACK; \
         SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'a deadlock'; END",
    )
    .await;
    let begun = AtomicU32::new(0);
    let outcome = TransactionOptions::new().retries(1).run(
        async |options| {
            let number = begun.fetch_add(1, Ordering::SeqCst);
            let pool = if number == 0 { &pools[0] } else { &pools[1] };
            pool.begin_with(options).await
        },
        async |mut transaction: OwnedTransaction| {
            transaction.query_drop(INSERT).await?;
            if begun.load(Ordering::SeqCst) == 1 {
                transaction.query_drop("CALL lose()").await?;
            }
            Ok::<_, Error>(())
        },
    );
    outcome.await.expect("repeated");
    assert_eq!(begun.into_inner(), 2);
    assert_eq!(count(&pools[0]).await, Some(0));
    assert_eq!(count(&pools[1]).await, Some(1));

    let work = async |_transaction| panic!("nothing was begun");
    let refused = async |_options| Err(Error::Closed);
    let options = TransactionOptions::new().retries(3);
    let outcome: Result<(), Error> = options.run(refused, work).await;
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
}
