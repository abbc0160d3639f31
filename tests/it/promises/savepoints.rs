//! Savepoints of both transactions: released, rolled back, dropped, nested.

use mysql_warm_pool::{
    Error, Executor, Pool,
    mysql_async::{self, Conn, TxOpts, prelude::Queryable as _},
};
use test_support::{Server, config, warm};

async fn server_with_log() -> (Server, Pool) {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.log (entry VARCHAR(20) PRIMARY KEY) ENGINE=InnoDB")
        .await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    (server, pool)
}

async fn write(db: &mut impl Executor, entry: &str) {
    db.exec_drop("INSERT INTO log VALUES (?)", (entry,))
        .await
        .expect(entry);
}

/// What is committed.
async fn entries(server: &Server) -> Vec<String> {
    let mut admin = server.admin().await;
    let entries = admin
        .query("SELECT entry FROM test.log ORDER BY entry")
        .await;
    admin
        .query_drop("DELETE FROM test.log")
        .await
        .expect("deleted");
    entries.expect("the entries")
}

/// Runs the same on both types of transactions.
macro_rules! in_both {
    ($pool:expr, |$transaction:ident| $work:block) => {{
        let mut conn = $pool.get().await.expect("a connection");
        let mut $transaction = conn
            .start_transaction(TxOpts::default())
            .await
            .expect("begun");
        $work
        drop(conn);
        let mut $transaction = $pool.begin().await.expect("begun");
        $work
    }};
}

#[tokio::test]
async fn what_ran_at_a_savepoint_is_kept_or_undone() {
    let (server, pool) = server_with_log().await;
    in_both!(pool, |transaction| {
        write(&mut transaction, "a").await;
        let mut kept = transaction.savepoint().await.expect("set");
        write(&mut kept, "b kept").await;
        kept.release().await.expect("released");
        let mut undone = transaction.savepoint().await.expect("set");
        write(&mut undone, "c undone").await;
        undone.rollback().await.expect("rolled back");
        write(&mut transaction, "d").await;
        let mut dropped = transaction.savepoint().await.expect("set");
        write(&mut dropped, "e dropped").await;
        drop(dropped);
        write(&mut transaction, "f").await;
        transaction.commit().await.expect("committed");
        assert_eq!(entries(&server).await, ["a", "b kept", "d", "f"]);
    });
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn a_savepoint_dropped_last_is_not_committed() {
    let (server, pool) = server_with_log().await;
    in_both!(pool, |transaction| {
        write(&mut transaction, "a").await;
        {
            let mut dropped = transaction.savepoint().await.expect("set");
            write(&mut dropped, "b").await;
        }
        transaction.commit().await.expect("committed");
        assert_eq!(entries(&server).await, ["a"]);
    });
}

#[tokio::test]
async fn savepoints_nest() {
    let (server, pool) = server_with_log().await;
    in_both!(pool, |transaction| {
        let mut outer = transaction.savepoint().await.expect("set");
        write(&mut outer, "a").await;
        {
            let mut inner = outer.savepoint().await.expect("set");
            write(&mut inner, "b dropped").await;
            let mut innermost = inner.savepoint().await.expect("set");
            write(&mut innermost, "c dropped").await;
            innermost.release().await.expect("released");
        }
        write(&mut outer, "d").await;
        let mut inner = outer.savepoint().await.expect("set");
        write(&mut inner, "e kept").await;
        drop(inner.savepoint().await.expect("set"));
        inner.release().await.expect("released");
        outer.release().await.expect("released");
        let mut undone = transaction.savepoint().await.expect("set");
        let mut inner = undone.savepoint().await.expect("set");
        write(&mut inner, "f").await;
        inner.release().await.expect("released");
        undone.rollback().await.expect("rolled back");
        // The caller's own ones are others.
        for text in [
            "SAVEPOINT mine",
            "INSERT INTO log VALUES ('g')",
            "ROLLBACK TO SAVEPOINT mine",
        ] {
            transaction.query_drop(text).await.expect(text);
        }
        transaction.commit().await.expect("committed");
        assert_eq!(entries(&server).await, ["a", "d", "e kept"]);
    });
}

#[tokio::test]
async fn a_savepoint_of_a_rolled_back_transaction_says_so() {
    let (server, pool) = server_with_log().await;
    server
        .execute("CREATE TABLE test.item (id INT PRIMARY KEY) ENGINE=InnoDB")
        .await;
    server
        .execute("INSERT INTO test.item VALUES (1), (2)")
        .await;
    in_both!(pool, |transaction| {
        write(&mut transaction, "a").await;
        let mut savepoint = transaction.savepoint().await.expect("set");
        deadlock(&server, &mut savepoint).await;
        let insert = "INSERT INTO log VALUES ('b')";
        let error = savepoint.query_drop(insert).await.expect_err("refused");
        assert!(matches!(error, Error::RolledBack), "{error}");
        let error = savepoint.savepoint().await.expect_err("refused");
        assert!(matches!(error, Error::RolledBack), "{error}");
        let error = savepoint.rollback().await.expect_err("refused");
        assert!(matches!(error, Error::RolledBack), "{error}");
        let error = transaction.savepoint().await.expect_err("refused");
        assert!(matches!(error, Error::RolledBack), "{error}");
        transaction.rollback().await.expect("nothing is left open");
        assert!(entries(&server).await.is_empty());
    });
    in_both!(pool, |transaction| {
        let mut savepoint = transaction.savepoint().await.expect("set");
        write(&mut savepoint, "a").await;
        savepoint.query_drop("COMMIT").await.expect("committed");
        let error = savepoint.release().await.expect_err("refused");
        assert!(matches!(error, Error::TransactionEnded), "{error}");
        transaction.commit().await.expect("it is committed");
        assert_eq!(entries(&server).await, ["a"]);
    });
}

/// Makes the server roll this transaction back: the other one has changed more rows.
async fn deadlock(server: &Server, victim: &mut impl Executor) {
    const LOCK: &str = "SELECT id FROM item WHERE id = ? FOR UPDATE";
    let mut other: Conn = server.admin().await;
    other.query_drop("USE test").await.expect("used");
    other.query_drop("BEGIN").await.expect("begun");
    let values: Vec<_> = (0..200).map(|n| format!("('other {n}')")).collect();
    let insert = format!("INSERT INTO log VALUES {}", values.join(", "));
    other.query_drop(insert).await.expect("inserted");
    other.exec_drop(LOCK, (2,)).await.expect("locked");
    victim.exec_drop(LOCK, (1,)).await.expect("locked");
    let (first, second) = tokio::join!(victim.exec_drop(LOCK, (2,)), other.exec_drop(LOCK, (1,)));
    let error = first.expect_err("a deadlock");
    assert!(error.is_deadlock(), "{error}");
    second.expect("locked");
    let rolled_back: mysql_async::Result<()> = other.query_drop("ROLLBACK").await;
    rolled_back.expect("rolled back");
}
