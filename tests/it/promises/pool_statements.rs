//! Statements on the pool itself, and on everything that is an `Executor`.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use mysql_warm_pool::{
    Error,
    Executor,
    OwnedTransaction,
    Pool,
    TransactionOptions,
    error::TimeoutCause,
    // Both traits in scope: the methods of the types themselves win.
    mysql_async::{self, Row, TxOpts, Value, prelude::*},
};
use test_support::{Proxy, Server, config, eventually, warm};

async fn server_with_items() -> Server {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.item (id INT PRIMARY KEY, stock INT) ENGINE=InnoDB")
        .await;
    server
        .execute("INSERT INTO test.item VALUES (1, 10), (2, 20), (3, 30)")
        .await;
    server
}

async fn pool_of(server: &Server, size: usize) -> Pool {
    warm(config(&server.url()).size(size).overflow(0)).await
}

/// Polls a future at most so often, and then drops it.
pub(super) async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Every method, on anything that has them.
async fn use_all(db: &mut impl Executor) -> Result<(), Error> {
    const BY_ID: &str = "SELECT stock FROM item WHERE id <= ? ORDER BY id";
    const ALL: &str = "SELECT stock FROM item ORDER BY id";
    let mut seen = Vec::new();
    assert_eq!(db.query::<i32, _>(ALL).await?, [10, 20, 30]);
    assert_eq!(db.query_first(ALL).await?, Some(10));
    assert_eq!(
        db.query_map(ALL, |stock: i32| stock * 2).await?,
        [20, 40, 60]
    );
    let add = |sum: i32, stock: i32| sum + stock;
    assert_eq!(db.query_fold(ALL, 0, add).await?, 60);
    assert_eq!(db.exec::<i32, _, _>(BY_ID, (2,)).await?, [10, 20]);
    assert_eq!(db.exec_first(BY_ID, (2,)).await?, Some(10));
    let map = |stock: i32| seen.push(stock);
    db.exec_map(BY_ID, (3,), map).await?;
    assert_eq!(seen, [10, 20, 30]);
    assert_eq!(db.exec_fold(BY_ID, (2,), 1, add).await?, 31);
    db.query_drop("UPDATE item SET stock = stock + 1").await?;
    db.exec_drop("UPDATE item SET stock = stock - ?", (1,))
        .await?;
    db.exec_batch("UPDATE item SET stock = stock + ?", [(2,), (3,), (-5,)])
        .await?;
    let none: Option<Row> = db.exec_first(BY_ID, (0,)).await?;
    assert!(none.is_none());
    let error = db
        .query_drop("SELECT nothing")
        .await
        .expect_err("a mistake");
    assert!(
        matches!(&error, Error::Driver(mysql_async::Error::Server(error)) if error.code == 1054),
        "{error}"
    );
    Ok(())
}

/// The same by value, for a pool or a borrowed connection.
async fn stock(mut db: impl Executor, id: u64) -> Result<Option<i32>, Error> {
    db.exec_first("SELECT stock FROM item WHERE id = ?", (id,))
        .await
}

#[tokio::test]
async fn one_helper_serves_all_that_runs_statements() {
    let server = server_with_items().await;
    let mut pool = pool_of(&server, 1).await;
    use_all(&mut pool).await.expect("on the pool");
    use_all(&mut &pool).await.expect("on a borrowed pool");
    assert_eq!(stock(&pool, 2).await.expect("an answer"), Some(20));

    let mut conn = pool.get().await.expect("a connection");
    use_all(&mut conn).await.expect("on a connection");
    conn.ping().await.expect("the driver's");
    assert_eq!(stock(&mut conn, 2).await.expect("an answer"), Some(20));
    let mut inner = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    use_all(&mut inner).await.expect("in a transaction");
    let mut savepoint = inner.savepoint().await.expect("set");
    use_all(&mut savepoint).await.expect("at a savepoint");
    savepoint.release().await.expect("released");
    inner.commit().await.expect("committed");
    drop(conn);

    let mut owned = pool.begin().await.expect("begun");
    use_all(&mut owned).await.expect("in an owned transaction");
    let mut savepoint = owned.savepoint().await.expect("set");
    use_all(&mut savepoint).await.expect("at a savepoint");
    savepoint.rollback().await.expect("rolled back");
    owned.commit().await.expect("committed");
    eventually("it is returned", async || pool.status().idle == 1).await;
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn a_connection_returns_when_the_answer_is_complete() {
    let server = server_with_items().await;
    let pool = pool_of(&server, 1).await;
    for n in 0..100_u64 {
        let answer: Option<u64> = pool.exec_first("SELECT ?", (n,)).await.expect("an answer");
        assert_eq!((answer, pool.status().idle), (Some(n), 1));
    }
    let values: Vec<Value> = pool.query("SELECT 1 UNION SELECT 2").await.expect("rows");
    assert_eq!((values.len(), pool.status().idle), (2, 1));
    // Nothing of these needs a reset.
    let metrics = pool.metrics();
    assert!(
        metrics.cleanings.iter().all(|(_, count)| *count == 0),
        "{metrics:?}"
    );
    // What a statement leaves in its session is gone before the next.
    pool.query_drop("SET @left = 1").await.expect("set");
    let left: Option<Option<u64>> = pool.query_first("SELECT @left").await.expect("an answer");
    assert_eq!(left, Some(None));
    pool.query_drop("BEGIN").await.expect("begun");
    pool.exec_drop("UPDATE item SET stock = 0 WHERE id = ?", (1,))
        .await
        .expect("on another, or rolled back before");
    assert_eq!(stock(&pool, 1).await.expect("an answer"), Some(0));
}

#[tokio::test]
async fn a_statement_on_the_pool_returns_the_errors_of_a_get() {
    let server = server_with_items().await;
    let limit = Duration::from_millis(100);
    let pool = warm(config(&server.url()).size(1).overflow(0).timeout(limit)).await;
    let held = pool.get().await.expect("a connection");
    let error = pool.query_drop("DO 1").await.expect_err("all are in use");
    let Error::Timeout { cause, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*cause, TimeoutCause::Exhausted);
    assert!(matches!(pool.begin().await, Err(Error::Timeout { .. })));
    drop(held);
    pool.close().await;
    assert!(matches!(pool.query_drop("DO 1").await, Err(Error::Closed)));
    let outcome: Result<(), Error> = pool.transaction(async |_transaction| Ok(())).await;
    assert!(matches!(outcome, Err(Error::Closed)));
}

/// The work that is dropped at every poll.
async fn everything(pool: &Pool) -> Result<(), Error> {
    pool.exec_drop("UPDATE item SET stock = stock + 0", ())
        .await?;
    let _: Option<i32> = pool.query_first("SELECT 7").await?;
    pool.exec_batch("UPDATE item SET stock = stock + ?", [(0,), (0,)])
        .await?;
    let mut owned = pool.begin().await?;
    owned.exec_drop("UPDATE item SET stock = 99", ()).await?;
    let mut savepoint = owned.savepoint().await?;
    savepoint.query_drop("UPDATE item SET stock = 98").await?;
    savepoint.rollback().await?;
    let mut savepoint = owned.savepoint().await?;
    savepoint.query_drop("UPDATE item SET stock = 97").await?;
    savepoint.release().await?;
    owned.rollback().await?;
    let options = TransactionOptions::new().retries(2);
    let outcome: Result<(), Error> = pool
        .transaction_with(options, async |mut transaction| {
            transaction
                .exec_drop("UPDATE item SET stock = 96", ())
                .await?;
            drop(transaction.savepoint().await?);
            Err(Error::NoResultSet)
        })
        .await;
    assert!(matches!(outcome, Err(Error::NoResultSet)));
    Ok(())
}

#[tokio::test]
async fn dropped_at_any_poll_nothing_is_lost_or_committed() {
    let server = server_with_items().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url()).map_opts(|opts| opts.tcp_port(proxy.port()));
    let pool = warm(settings.size(2).overflow(0)).await;
    // No answer is there at the first poll that waits for it.
    proxy.delay(Duration::from_millis(1));
    let mut polls = 0;
    loop {
        let done = drop_after(polls, everything(&pool)).await;
        let (one, other) = tokio::join!(stock(&pool, 1), pool.query_first("SELECT 5"));
        assert_eq!(one.expect("an answer"), Some(10), "{polls}");
        assert_eq!(other.expect("an answer"), Some(5), "{polls}");
        if let Some(outcome) = done {
            outcome.expect("done");
            break;
        }
        polls += 1;
        assert!(polls < 1_000);
    }
    assert!(polls > 15, "{polls}");
    eventually("both are there", async || pool.status().idle == 2).await;
}

#[test]
fn futures_of_executors_are_sent() {
    fn is_sent<T: Send>(value: T) -> T {
        value
    }
    fn is_static<T: Send + 'static>() {}
    async fn generic<E: Executor>(db: &mut E) -> Result<Option<i32>, Error> {
        let sum = db
            .query_fold("SELECT 1", 0, |sum: i32, n: i32| sum + n)
            .await?;
        db.exec_first("SELECT ?", (sum,)).await
    }
    fn check<E: Executor>(db: &mut E) {
        drop(is_sent(generic(db)));
    }
    is_static::<OwnedTransaction>();
    let _: fn(&mut Pool) = check;
    let _: fn(&mut OwnedTransaction) = check;
}
