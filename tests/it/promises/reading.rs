//! While rows are read, `close()` and `statement_timeout` cut a caller off as they do before the
//! first row.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt};
use mysql_warm_pool::{
    Error, PooledConn, RowStream,
    mysql_async::{self, Row, TxOpts, prelude::*},
};
use test_support::{PATIENCE, Server, config, eventually, timed, warm};

/// 300 rows, one every 0.2 s. Each fills the server's buffer, so that it is sent at once.
const SLOW: &str = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                    SELECT i, REPEAT('x', 50000), SLEEP(0.2) FROM n";

type Work = Pin<Box<dyn Future<Output = mysql_async::Result<()>> + Send>>;
type Way = fn(PooledConn, Arc<AtomicUsize>) -> Work;

fn is_closed(error: &mysql_async::Error) -> bool {
    match error {
        mysql_async::Error::Other(error) => matches!(error.downcast_ref(), Some(Error::Closed)),
        _ => false,
    }
}

async fn all<T: Unpin + FromRow + Send + 'static, P: Protocol + Unpin>(
    rows: RowStream<'_, T, P>,
    seen: &AtomicUsize,
) -> mysql_async::Result<()> {
    let counted = rows.try_for_each(|_| {
        seen.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(()))
    });
    counted.await
}

/// Each way to read rows, on a connection and in a transaction.
macro_rules! ways {
    ($(($conn:ident, $seen:ident) => $work:expr;)*) => {
        [$(
            |mut connection, $seen| {
                Box::pin(async move {
                    let $conn = &mut connection;
                    let _ = &$seen;
                    $work
                })
            },
            |mut connection, $seen| {
                Box::pin(async move {
                    let mut transaction = connection.start_transaction(TxOpts::default()).await?;
                    let $conn = &mut transaction;
                    let _ = &$seen;
                    $work
                })
            },
        )*]
    };
}

fn ways() -> [Way; 30] {
    ways! {
        (conn, seen) => conn.query::<Row, _>(SLOW).await.map(drop);
        (conn, seen) => conn.query_first::<Row, _>(SLOW).await.map(drop);
        (conn, seen) => conn.query_drop(SLOW).await;
        (conn, seen) => conn.query_map(SLOW, |_: Row| seen.fetch_add(1, Ordering::Relaxed)).await.map(drop);
        (conn, seen) => conn.query_fold(SLOW, 0, |n, _: Row| n + seen.fetch_add(1, Ordering::Relaxed)).await.map(drop);
        (conn, seen) => conn.exec::<Row, _, _>(SLOW, ()).await.map(drop);
        (conn, seen) => conn.exec_first::<Row, _, _>(SLOW, ()).await.map(drop);
        (conn, seen) => conn.exec_drop(SLOW, ()).await;
        (conn, seen) => conn.exec_map(SLOW, (), |_: Row| seen.fetch_add(1, Ordering::Relaxed)).await.map(drop);
        (conn, seen) => conn.exec_fold(SLOW, (), 0, |n, _: Row| n + seen.fetch_add(1, Ordering::Relaxed)).await.map(drop);
        (conn, seen) => all::<Row, _>(conn.exec_stream(SLOW, ()).await?, &seen).await;
        (conn, seen) => all::<Row, _>(conn.query_stream(SLOW).await?, &seen).await;
        (conn, seen) => Queryable::exec::<Row, _, _>(conn, SLOW, ()).await.map(drop);
        (conn, seen) => Queryable::exec_drop(conn, SLOW, ()).await;
        (conn, seen) => Queryable::exec_map(conn, SLOW, (), |_: Row| seen.fetch_add(1, Ordering::Relaxed)).await.map(drop);
    }
}

/// How many of the ways above count their rows.
const COUNTING: usize = 14;

#[tokio::test]
async fn close_cuts_off_the_reading_of_rows() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(30)
        .overflow(0)
        .close_timeout(Duration::from_millis(100));
    let pool = warm(settings).await;
    let mut counts = Vec::new();
    let mut works = Vec::new();
    for way in ways() {
        let seen = Arc::new(AtomicUsize::new(0));
        let conn = pool.get().await.expect("a connection");
        works.push(tokio::spawn(way(conn, Arc::clone(&seen))));
        counts.push(seen);
    }
    let counting = || {
        let counting = counts.iter();
        counting
            .filter(|seen| seen.load(Ordering::Relaxed) > 0)
            .count()
    };
    eventually("rows have come", async || counting() == COUNTING).await;
    let (report, took) = timed(pool.close()).await;
    assert_eq!((report.drained, report.cut), (0, 30));
    assert!(took < PATIENCE, "{took:?}");
    for (n, work) in works.into_iter().enumerate() {
        let (outcome, took) = timed(work).await;
        let error = outcome.expect("no panic").expect_err("cut off");
        assert!(is_closed(&error) && took < PATIENCE, "{n}: {error}");
    }
    eventually("nothing is open", async || pool.status().open == 0).await;
}

#[tokio::test]
async fn reading_for_too_long_is_a_statement_for_too_long() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(1)
        .overflow(0)
        .statement_timeout(Duration::from_secs(2));
    let pool = warm(settings).await;
    let mut conn = pool.get().await.expect("a connection");
    let error = conn.query::<Row, _>(SLOW).await.expect_err("too long");
    assert!(error.to_string().contains("statement_timeout"), "{error}");
    conn.query_drop("DO 1").await.expect_err("out of use");
    drop(conn);
    // Each row of a stream has this time.
    let mut conn = pool.get().await.expect("a connection");
    let rows = conn.exec_stream::<Row, _, _>(SLOW, ()).await.expect("rows");
    let rows: Vec<_> = rows.take(8).collect().await;
    assert!(rows.len() == 8 && rows.iter().all(Result::is_ok));
}

#[tokio::test]
async fn reading_may_be_cancelled() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    let rows = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) \
                SELECT i, REPEAT('x', 50000), SLEEP(0.02) FROM n";
    for wait in [1, 30, 60] {
        let wait = Duration::from_millis(wait);
        let mut stream = conn.query_stream::<Row, _>(rows).await.expect("rows");
        drop(tokio::time::timeout(wait, stream.next()).await);
        drop(tokio::time::timeout(wait, stream.next()).await);
        drop(stream);
        let two: Option<u8> = conn.query_first("SELECT 2").await.expect("in step");
        assert_eq!(two, Some(2));
    }
    let (id, opened) = (conn.id(), pool.metrics().opened);
    drop(conn);
    let conn = pool.get().await.expect("a connection");
    assert_eq!((conn.id(), pool.metrics().opened), (id, opened));
}

#[tokio::test]
async fn a_statement_without_rows_cannot_be_streamed() {
    let server = Server::start().await;
    server.execute("CREATE TABLE test.entry (id INT)").await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    let is_no_result = |error: mysql_async::Error| match error {
        mysql_async::Error::Other(error) => {
            matches!(error.downcast_ref(), Some(Error::NoResultSet))
        }
        _ => false,
    };
    for (n, text) in ["DO 1", "INSERT INTO entry VALUES (1)", "SET @a = 1"]
        .into_iter()
        .enumerate()
    {
        let streamed = conn.exec_stream::<Row, _, _>(text, ()).await;
        assert!(is_no_result(streamed.expect_err(text)), "{text}");
        let streamed = conn.query_stream::<Row, _>(text).await;
        assert!(is_no_result(streamed.expect_err(text)), "{text}");
        let mut transaction = conn
            .start_transaction(TxOpts::default())
            .await
            .expect("begun");
        let streamed = transaction.exec_stream::<Row, _, _>(text, ()).await;
        assert!(is_no_result(streamed.expect_err(text)), "{text}");
        transaction.rollback().await.expect("rolled back");
        // They were executed.
        let count: Option<usize> = conn
            .query_first("SELECT COUNT(*) FROM entry")
            .await
            .expect("a row");
        assert_eq!(count, Some(if n == 0 { 0 } else { 2 }), "{text}");
    }
    let rows = conn
        .exec_stream::<Row, _, _>("SELECT * FROM entry WHERE id > ?", (7,))
        .await
        .expect("a result set");
    assert_eq!(rows.columns_ref().len(), 1);
    assert_eq!(rows.count().await, 0);
}
