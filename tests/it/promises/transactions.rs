//! A statement meant for a transaction runs in it or not at all, and nothing is committed unless
//! its caller commits it.

use mysql_warm_pool::{
    Error, Pool, PooledConn, Reset,
    error::is_transient,
    mysql_async::{self, Conn, TxOpts, prelude::*},
};
use test_support::{Flavor, Server, config, eventually, skip, warm};

/// A server with a table of counters, all 0.
async fn server_with_counters(options: &[&str]) -> Server {
    let mut builder = Server::builder();
    for option in options {
        builder = builder.option(option);
    }
    let server = builder.start().await;
    server
        .execute("CREATE TABLE test.counter (id INT PRIMARY KEY, value INT) ENGINE=InnoDB")
        .await;
    server
        .execute("INSERT INTO test.counter VALUES (1, 0), (2, 0), (3, 0)")
        .await;
    server
}

async fn pool_of(server: &Server, size: usize) -> Pool {
    warm(config(&server.url()).size(size).overflow(0)).await
}

/// The values of all counters, as others see them.
async fn values(server: &Server) -> Vec<i32> {
    let mut admin = server.admin().await;
    let values = admin
        .query("SELECT value FROM test.counter ORDER BY id")
        .await;
    values.expect("the values")
}

fn kind(error: &mysql_async::Error) -> Option<&Error> {
    match error {
        mysql_async::Error::Other(error) => error.downcast_ref(),
        _ => None,
    }
}

fn is_rolled_back(error: &mysql_async::Error) -> bool {
    matches!(kind(error), Some(Error::RolledBack))
}

fn has_ended(error: &mysql_async::Error) -> bool {
    matches!(kind(error), Some(Error::TransactionEnded))
}

fn is_nested(error: &mysql_async::Error) -> bool {
    matches!(kind(error), Some(Error::InTransaction))
}

fn code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(error) => Some(error.code),
        _ => None,
    }
}

const ADD: &str = "UPDATE counter SET value = value + 1 WHERE id = ?";

/// Two transactions lock the same two rows in opposite order. Returns the one that the server
/// rolled back, which has added 1 to `counter` 1 or 2 before.
macro_rules! deadlocked {
    ($one:ident, $other:ident) => {{
        $one.exec_drop(ADD, (1,)).await.expect("added");
        $other.exec_drop(ADD, (2,)).await.expect("added");
        let (first, second) = tokio::join!($one.exec_drop(ADD, (2,)), $other.exec_drop(ADD, (1,)));
        match (first, second) {
            (Err(error), Ok(())) => {
                assert_eq!(code(&error), Some(1213), "{error}");
                ($one, $other)
            }
            (Ok(()), Err(error)) => {
                assert_eq!(code(&error), Some(1213), "{error}");
                ($other, $one)
            }
            both => panic!("{both:?}"),
        }
    }};
}

#[tokio::test]
async fn after_a_deadlock_nothing_runs_outside_the_transaction() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 2).await;
    for end in 0..3 {
        let mut conn = pool.get().await.expect("a connection");
        let mut other_conn = pool.get().await.expect("a connection");
        let mut one = begin(&mut conn).await;
        let mut other = begin(&mut other_conn).await;
        let (mut victim, survivor) = deadlocked!(one, other);
        survivor.rollback().await.expect("rolled back");
        for _ in 0..2 {
            let error = victim.exec_drop(ADD, (3,)).await.expect_err("refused");
            assert!(is_rolled_back(&error) && is_transient(&error), "{error}");
            let error = victim
                .query_drop("UPDATE counter SET value = 9")
                .await
                .expect_err("refused");
            assert!(is_rolled_back(&error), "{error}");
            let error = victim.ping().await.expect_err("refused");
            assert!(is_rolled_back(&error), "{error}");
        }
        match end {
            0 => victim.rollback().await.expect("nothing is left open"),
            1 => {
                let error = victim.commit().await.expect_err("nothing to commit");
                assert!(is_rolled_back(&error), "{error}");
            }
            _ => drop(victim),
        }
        // The connections are as good as before.
        conn.exec_drop(ADD, (1,)).await.expect("added");
        other_conn.exec_drop(ADD, (1,)).await.expect("added");
        let expected = 2 * (end + 1);
        assert_eq!(values(&server).await, [expected, 0, 0], "{end}");
    }
    assert_eq!(pool.metrics().opened, 2);
}

async fn begin(conn: &mut PooledConn) -> mysql_warm_pool::Transaction<'_> {
    let begun = conn.start_transaction(TxOpts::default()).await;
    begun.expect("begun")
}

/// Locks a row, so that others wait for it.
async fn lock_row(server: &Server, id: u8) -> Conn {
    let mut blocker = server.admin().await;
    blocker.query_drop("BEGIN").await.expect("begun");
    let update = format!("UPDATE test.counter SET value = value WHERE id = {id}");
    blocker.query_drop(update).await.expect("locked");
    blocker
}

#[tokio::test]
async fn after_a_lock_timeout_the_server_is_asked() {
    for rolls_back in [false, true] {
        let option = if rolls_back {
            "--innodb-rollback-on-timeout=ON"
        } else {
            "--innodb-rollback-on-timeout=OFF"
        };
        let server = server_with_counters(&[option, "--innodb-lock-wait-timeout=1"]).await;
        let pool = pool_of(&server, 1).await;
        let mut conn = pool.get().await.expect("a connection");
        let blocker = lock_row(&server, 2).await;
        let mut transaction = begin(&mut conn).await;
        transaction.exec_drop(ADD, (1,)).await.expect("added");
        let error = transaction.exec_drop(ADD, (2,)).await.expect_err("locked");
        assert_eq!(code(&error), Some(1205), "{error}");
        let next = transaction.exec_drop(ADD, (3,)).await;
        if rolls_back {
            assert!(is_rolled_back(&next.expect_err("refused")));
            let error = transaction.commit().await.expect_err("nothing to commit");
            assert!(is_rolled_back(&error), "{error}");
            assert_eq!(values(&server).await, [0, 0, 0]);
        } else {
            next.expect("the transaction goes on");
            transaction.commit().await.expect("committed");
            assert_eq!(values(&server).await, [1, 0, 1]);
        }
        drop(blocker);
    }
}

#[tokio::test]
async fn an_error_that_rolls_nothing_back_ends_nothing() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    for last in 0..3 {
        let mut transaction = begin(&mut conn).await;
        transaction.exec_drop(ADD, (1,)).await.expect("added");
        let insert = "INSERT INTO counter VALUES (?, 0)";
        match last {
            0 => transaction.exec_drop(insert, (1,)).await,
            1 => transaction.query_drop("SELECT FROM nothing").await,
            _ => transaction.exec_batch(insert, [(50,), (1,)]).await,
        }
        .expect_err("a mistake");
        transaction.exec_drop(ADD, (2,)).await.expect("added");
        transaction.rollback().await.expect("rolled back");
    }
    assert_eq!(values(&server).await, [0, 0, 0]);
}

#[tokio::test]
async fn savepoints_work_in_a_transaction() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    let mut transaction = begin(&mut conn).await;
    transaction.exec_drop(ADD, (1,)).await.expect("added");
    for (text, id) in [
        ("SAVEPOINT a", 2),
        ("ROLLBACK TO SAVEPOINT a", 3),
        ("SAVEPOINT b", 2),
        ("ROLLBACK WORK TO b", 3),
        ("RELEASE SAVEPOINT b", 1),
    ] {
        transaction.query_drop(text).await.expect(text);
        transaction.exec_drop(ADD, (id,)).await.expect("added");
    }
    transaction.commit().await.expect("committed");
    assert_eq!(values(&server).await, [2, 0, 2]);
}

#[tokio::test]
async fn after_a_statement_that_commits_nothing_more_runs() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    server
        .execute("CREATE PROCEDURE test.commits() COMMIT")
        .await;
    let mut expected = 0;
    for text in [
        "COMMIT",
        "COMMIT WORK",
        "CREATE TABLE other_1 (id INT)",
        "CREATE TABLE other_1 (id INT)",
        "TRUNCATE other_1",
        "DROP TABLE other_1",
        "CALL commits()",
        "/*! COMMIT */",
    ] {
        for ends_by_commit in [true, false] {
            let mut conn = pool.get().await.expect("a connection");
            let mut transaction = begin(&mut conn).await;
            transaction.exec_drop(ADD, (1,)).await.expect("added");
            // One of them fails, but commits first.
            drop(transaction.query_drop(text).await);
            expected += 1;
            let error = transaction.exec_drop(ADD, (2,)).await.expect_err("refused");
            assert!(
                has_ended(&error) && !is_transient(&error),
                "{text}: {error}"
            );
            let error = transaction.prep(ADD).await.expect_err("refused");
            assert!(has_ended(&error), "{text}: {error}");
            let is_known = !["CALL commits()", "/*! COMMIT */"].contains(&text);
            if ends_by_commit && is_known {
                // All of it is committed, as was asked for.
                transaction.commit().await.expect(text);
            } else {
                let ended = if ends_by_commit {
                    transaction.commit().await
                } else {
                    transaction.rollback().await
                };
                let error = ended.expect_err("it was committed before");
                assert!(has_ended(&error), "{text}: {error}");
            }
            assert_eq!(values(&server).await, [expected, 0, 0], "{text}");
            drop(conn);
        }
    }
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn commit_after_a_statement_that_commits_is_no_error() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    let mut transaction = begin(&mut conn).await;
    transaction.exec_drop(ADD, (1,)).await.expect("added");
    transaction
        .query_drop("CREATE TABLE other (id INT)")
        .await
        .expect("created");
    transaction.commit().await.expect("it is committed");
    let mut transaction = begin(&mut conn).await;
    transaction.exec_drop(ADD, (1,)).await.expect("added");
    transaction
        .query_drop("DROP TABLE other")
        .await
        .expect("dropped");
    assert!(has_ended(
        &transaction.rollback().await.expect_err("too late")
    ));
    // Both were committed by the server.
    assert_eq!(values(&server).await, [2, 0, 0]);
}

#[tokio::test]
async fn a_temporary_table_does_not_end_a_transaction() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    let mut transaction = begin(&mut conn).await;
    transaction.exec_drop(ADD, (1,)).await.expect("added");
    transaction
        .query_drop("CREATE TEMPORARY TABLE other (id INT)")
        .await
        .expect("created");
    transaction.exec_drop(ADD, (2,)).await.expect("added");
    transaction.rollback().await.expect("rolled back");
    assert_eq!(values(&server).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_rollback_by_statement_ends_the_transaction() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    for ends_by_commit in [true, false] {
        let mut transaction = begin(&mut conn).await;
        transaction.exec_drop(ADD, (1,)).await.expect("added");
        transaction
            .query_drop("ROLLBACK")
            .await
            .expect("rolled back");
        let error = transaction.exec_drop(ADD, (2,)).await.expect_err("refused");
        assert!(has_ended(&error), "{error}");
        if ends_by_commit {
            assert!(has_ended(
                &transaction.commit().await.expect_err("nothing is left")
            ));
        } else {
            transaction.rollback().await.expect("as asked");
        }
    }
    assert_eq!(values(&server).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_transaction_is_not_begun_within_another() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    for text in ["BEGIN", "START TRANSACTION", "begin work", "DO 1; BEGIN"] {
        let mut transaction = begin(&mut conn).await;
        transaction.exec_drop(ADD, (1,)).await.expect("added");
        let error = transaction.query_drop(text).await.expect_err("refused");
        assert!(is_nested(&error) && !is_transient(&error), "{error}");
        let error = transaction.exec_drop(text, ()).await;
        error.expect_err("refused, by the server or before");
        transaction.exec_drop(ADD, (2,)).await.expect("added");
        transaction.rollback().await.expect("rolled back");
        assert_eq!(values(&server).await, [0, 0, 0]);
    }
}

#[tokio::test]
async fn a_transaction_begun_by_statement_is_not_committed_by_another() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    for how in 0..4 {
        for last in 0..6 {
            let mut conn = pool.get().await.expect("a connection");
            if how == 3 {
                conn.query_drop("SET autocommit = 0").await.expect("set");
            } else {
                let text = ["BEGIN", "START TRANSACTION", "SELECT 1; BEGIN"][how];
                conn.query_drop(text).await.expect("begun");
            }
            conn.query_drop("UPDATE counter SET value = value + 1 WHERE id = 1")
                .await
                .expect("added");
            match last {
                0 => {}
                1 => drop(conn.prep(ADD).await.expect("prepared")),
                2 => conn.exec_batch(ADD, [(2,), (3,)]).await.expect("added"),
                3 => {
                    let mistake = conn.query_drop("SELECT FROM nothing").await;
                    drop(mistake.expect_err("a mistake"));
                }
                4 => drop(
                    conn.query_iter("SELECT * FROM counter")
                        .await
                        .expect("rows"),
                ),
                _ => {
                    let bare: &mut Conn = &mut conn;
                    bare.ping().await.expect("an answer");
                }
            }
            for _ in 0..2 {
                let error = conn
                    .start_transaction(TxOpts::default())
                    .await
                    .expect_err("refused");
                assert!(is_nested(&error) && !is_transient(&error), "{error}");
                assert!(error.to_string().contains("commit it or roll it back"));
            }
            assert_eq!(values(&server).await, [0, 0, 0], "{how}, {last}");
            conn.query_drop("ROLLBACK").await.expect("rolled back");
            let mut transaction = begin(&mut conn).await;
            transaction.exec_drop(ADD, (1,)).await.expect("added");
            transaction.rollback().await.expect("rolled back");
            drop(conn);
            assert_eq!(values(&server).await, [0, 0, 0], "{how}, {last}");
        }
    }
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_before_the_next() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    for _ in 0..3 {
        let mut transaction = begin(&mut conn).await;
        transaction.exec_drop(ADD, (1,)).await.expect("added");
    }
    let mut transaction = begin(&mut conn).await;
    transaction.exec_drop(ADD, (2,)).await.expect("added");
    transaction.commit().await.expect("committed");
    assert_eq!(values(&server).await, [0, 1, 0]);
    // One begun by a statement after it is open, though.
    drop(begin(&mut conn).await);
    conn.query_drop("BEGIN").await.expect("begun");
    conn.exec_drop(ADD, (3,)).await.expect("added");
    let nested = conn.start_transaction(TxOpts::default()).await;
    assert!(is_nested(&nested.expect_err("refused")));
    drop(conn);
    assert_eq!(values(&server).await, [0, 1, 0]);
}

#[tokio::test]
async fn a_killed_statement_leaves_no_doubt() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    let id = conn.id();
    let blocker = lock_row(&server, 2).await;
    let mut transaction = begin(&mut conn).await;
    transaction.exec_drop(ADD, (1,)).await.expect("added");
    let killing = async {
        let mut admin = server.admin().await;
        let list = format!(
            "SELECT COUNT(*) FROM information_schema.processlist \
             WHERE id = {id} AND info LIKE 'UPDATE counter%'"
        );
        eventually("it waits for the lock", async || {
            let count: Option<u8> = admin.query_first(&list).await.expect("the list");
            count == Some(1)
        })
        .await;
        admin
            .query_drop(format!("KILL QUERY {id}"))
            .await
            .expect("killed");
    };
    let (outcome, ()) = tokio::join!(transaction.exec_drop(ADD, (2,)), killing);
    outcome.expect_err("killed");
    // The servers differ in how much they roll back.
    let next = transaction.exec_drop(ADD, (3,)).await;
    let ended = transaction.commit().await;
    drop(blocker);
    match next {
        Ok(()) => {
            ended.expect("committed");
            assert_eq!(values(&server).await, [1, 0, 1]);
        }
        Err(error) => {
            assert!(is_rolled_back(&error), "{error}");
            assert!(is_rolled_back(&ended.expect_err("nothing to commit")));
            assert_eq!(values(&server).await, [0, 0, 0]);
        }
    }
}

#[tokio::test]
async fn a_conflict_with_a_snapshot_rolls_back() {
    if Flavor::chosen() != Flavor::MariaDb || !Flavor::MariaDb.is_since(10, 6) {
        return skip("the server does not detect such conflicts");
    }
    let server = server_with_counters(&["--innodb-snapshot-isolation=ON"]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    let mut transaction = begin(&mut conn).await;
    transaction.exec_drop(ADD, (1,)).await.expect("added");
    let seen: Option<i32> = transaction
        .query_first("SELECT value FROM counter WHERE id = 2")
        .await
        .expect("a row");
    assert_eq!(seen, Some(0));
    server
        .execute("UPDATE test.counter SET value = 5 WHERE id = 2")
        .await;
    let error = transaction.exec_drop(ADD, (2,)).await.expect_err("changed");
    assert_eq!(code(&error), Some(1020), "{error}");
    let error = transaction.exec_drop(ADD, (3,)).await.expect_err("refused");
    assert!(is_rolled_back(&error), "{error}");
    transaction.rollback().await.expect("nothing is left open");
    assert_eq!(values(&server).await, [0, 5, 0]);
}

/// The driver takes the answer to preparing statement 252 for a status with an open transaction.
#[tokio::test]
async fn a_statement_that_an_earlier_caller_prepared_is_not_taken_for_a_transaction() {
    const STATEMENTS: usize = 252;
    let server = Server::shared().await;
    let pool = pool_of(server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    for n in 0..STATEMENTS {
        conn.prep(format!("SELECT {n}")).await.expect("prepared");
    }
    drop(conn);
    let mut conn = pool.get().await.expect("a connection");
    // Only a caller that has sent something may have begun a transaction.
    conn.prep("SELECT 0").await.expect("prepared");
    let transaction = conn.start_transaction(TxOpts::new()).await;
    transaction
        .expect("no other one is open")
        .rollback()
        .await
        .expect("rolled back");
}

/// As above, for what the pool prepares after each reset.
#[tokio::test]
async fn statements_prepared_after_a_reset_are_not_taken_for_a_transaction() {
    let server = Server::shared().await;
    let settings = config(&server.url())
        .size(1)
        .overflow(0)
        .reset(Reset::Always)
        .prepare(["SELECT 1"]);
    let pool = warm(settings).await;
    for round in 0..300 {
        let mut conn = pool.get().await.expect("a connection");
        // With the pool's own, three a round: one round's is number 252 or 508, whether the server
        // counts on after a reset or not.
        for text in ["SELECT 2", "SELECT 3"] {
            conn.prep(text).await.expect("prepared");
        }
        let transaction = conn.start_transaction(TxOpts::new()).await;
        let transaction = transaction.unwrap_or_else(|error| panic!("round {round}: {error}"));
        transaction.rollback().await.expect("rolled back");
    }
    let metrics = pool.metrics();
    assert!(metrics.resets >= 299, "{metrics:?}");
}

/// The driver's trait does not show the text of a batch, so it may begin a transaction, or end one.
#[tokio::test]
async fn a_batch_that_the_pool_does_not_see_hides_no_transaction() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("SET autocommit = 0").await.expect("off");
    let batch = Queryable::exec_batch(&mut conn, ADD, [(1,), (2,)]);
    batch.await.expect("added");
    let outcome = conn.start_transaction(TxOpts::new()).await;
    let error = outcome.expect_err("one is open");
    assert!(is_nested(&error), "{error}");
    let batch = Queryable::exec_batch(&mut conn, "ROLLBACK", [()]);
    batch.await.expect("rolled back");
    let outcome = conn.start_transaction(TxOpts::new()).await;
    outcome
        .expect("none is open")
        .rollback()
        .await
        .expect("rolled back");
    drop(conn);
    assert_eq!(values(&server).await, [0, 0, 0]);

    let mut conn = pool.get().await.expect("a connection");
    let mut transaction = begin(&mut conn).await;
    let batch = Queryable::exec_batch(&mut transaction, "COMMIT", [()]);
    batch.await.expect("committed");
    let error = transaction.exec_drop(ADD, (3,)).await.expect_err("refused");
    assert!(has_ended(&error), "{error}");
    drop(transaction);
    // Nothing is executed, so nothing has ended.
    let mut transaction = begin(&mut conn).await;
    let batch = Queryable::exec_batch(&mut transaction, "COMMIT", Vec::<()>::new());
    batch.await.expect("prepared");
    transaction.exec_drop(ADD, (3,)).await.expect("added");
    transaction.commit().await.expect("committed");
    assert_eq!(values(&server).await, [0, 0, 1]);
}

/// The status comes at the end of an answer, which its caller may not have read.
#[tokio::test]
async fn an_unread_answer_hides_no_transaction() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    for (text, is_open) in [
        ("DO 1; BEGIN", true),
        ("SELECT 1; BEGIN; SELECT 2", true),
        (
            "SET autocommit = 0; SELECT value FROM counter FOR UPDATE",
            true,
        ),
        ("BEGIN; ROLLBACK", false),
        ("BEGIN; SELECT 1; COMMIT; SELECT 2", false),
    ] {
        for prepares in [false, true] {
            let mut conn = pool.get().await.expect("a connection");
            drop(conn.query_iter(text).await.expect("an answer"));
            if prepares {
                conn.prep("SELECT 3").await.expect("prepared");
            }
            match conn.start_transaction(TxOpts::new()).await {
                Err(error) => assert!(is_open && is_nested(&error), "{text}: {error}"),
                Ok(transaction) => {
                    assert!(!is_open, "{text}");
                    transaction.rollback().await.expect("rolled back");
                }
            }
        }
    }
}

/// The driver takes the answer to preparing statement 252 for a status with an open transaction.
#[tokio::test]
async fn an_unread_answer_is_not_taken_for_a_transaction() {
    let server = Server::shared().await;
    // One of them executes the statement with that number, the other one prepares it.
    for first in [None, Some("SELECT 1")] {
        let pool = pool_of(server, 1).await;
        let mut conn = pool.get().await.expect("a connection");
        if let Some(text) = first {
            conn.prep(text).await.expect("prepared");
        }
        for n in 0..130 {
            let rows = conn.exec_iter(format!("SELECT 'rows {n}'"), ()).await;
            drop(rows.expect("an answer"));
            conn.prep(format!("SELECT {n}")).await.expect("prepared");
            let transaction = conn.start_transaction(TxOpts::new()).await;
            let transaction = transaction.unwrap_or_else(|error| panic!("{n}: {error}"));
            transaction.rollback().await.expect("rolled back");
        }
    }
}

/// A reset takes autocommit from the server's setting, which may have changed since the connection
/// was opened.
#[tokio::test]
async fn with_autocommit_turned_off_on_the_server_nothing_is_left_open() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    server.execute("SET GLOBAL autocommit = 0").await;
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("PREPARE a FROM 'SELECT 1'")
        .await
        .expect("prepared");
    drop(conn);
    let mut conn = pool.get().await.expect("a connection");
    let autocommit: Option<u8> = conn
        .query_first("SELECT @@autocommit")
        .await
        .expect("a row");
    assert_eq!(autocommit, Some(0), "the session was reset");
    conn.exec_drop(ADD, (1,)).await.expect("added");
    conn.query_drop("SELECT nothing")
        .await
        .expect_err("unknown");
    drop(conn);
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("COMMIT").await.expect("nothing to commit");
    assert_eq!(values(&server).await, [0, 0, 0]);
}
