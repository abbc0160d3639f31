//! What an error says of a transaction: nothing is called not committed that may be committed.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use mysql_warm_pool::{
    Error, Pool, TransactionOptions,
    mysql_async::{self, TxOpts, prelude::Queryable},
};
use test_support::{Proxy, Server, config, eventually, warm};
use tokio::time::timeout;

const ADD: &str = "UPDATE counter SET value = value + 1";
const LIMIT: Duration = Duration::from_millis(100);

async fn server_with_counter() -> Server {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.counter (value INT) ENGINE=InnoDB")
        .await;
    server.execute("INSERT INTO test.counter VALUES (0)").await;
    server
        .execute("CREATE TABLE test.other (id INT) ENGINE=InnoDB")
        .await;
    server
}

async fn pool_of(server: &Server) -> Pool {
    warm(config(&server.url()).size(1).overflow(0)).await
}

async fn value(server: &Server) -> i32 {
    let mut admin = server.admin().await;
    let value = admin.query_first("SELECT value FROM test.counter").await;
    value.expect("an answer").expect("the value")
}

fn is_unknown(error: impl Into<Error>) -> bool {
    let error = error.into();
    error.is_commit_unknown() && !error.is_transient() && !error.is_deadlock()
}

/// The code of the server's answer.
fn code(error: impl Into<Error>) -> Option<u16> {
    match error.into() {
        Error::Driver(mysql_async::Error::Server(error)) => Some(error.code),
        _ => None,
    }
}

#[tokio::test]
async fn after_a_cancelled_commit_the_outcome_is_unknown() {
    let server = server_with_counter().await;
    let proxy = Proxy::start(server.port()).await;
    let pool = warm(config(&server.url_via(proxy.port())).size(1)).await;
    let outcome: Result<(), Error> = pool
        .transaction(async |mut transaction| {
            transaction.query_drop(ADD).await?;
            proxy.stall();
            assert!(timeout(LIMIT, transaction.commit()).await.is_err());
            proxy.resume();
            Ok(())
        })
        .await;
    assert!(is_unknown(outcome.expect_err("out of step")));
    for text in [
        "COMMIT",
        "UPDATE counter SET value = 7; COMMIT",
        "DROP TABLE other",
        "ANALYZE TABLE other",
        "FLUSH TABLES",
    ] {
        let mut owned = pool.begin().await.expect("begun");
        proxy.stall();
        assert!(timeout(LIMIT, owned.query_drop(text)).await.is_err());
        proxy.resume();
        let error = owned.query_drop("DO 1").await.expect_err("out of step");
        assert!(is_unknown(error), "{text}");
        assert!(
            is_unknown(owned.commit().await.expect_err("out of step")),
            "{text}"
        );

        let mut conn = pool.get().await.expect("a connection");
        let begun = conn.start_transaction(TxOpts::default()).await;
        let mut transaction = begun.expect("begun");
        proxy.stall();
        assert!(timeout(LIMIT, transaction.query_drop(text)).await.is_err());
        proxy.resume();
        let error = transaction.commit().await.expect_err("out of step");
        assert!(is_unknown(error), "{text}");
        let error = conn.query_drop("DO 1").await.expect_err("out of step");
        assert!(is_unknown(error), "{text}");
    }
    // Another statement does not commit.
    let mut transaction = pool.begin().await.expect("begun");
    proxy.stall();
    assert!(timeout(LIMIT, transaction.query_drop(ADD)).await.is_err());
    proxy.resume();
    let error = transaction.commit().await.expect_err("out of step");
    assert!(matches!(error, Error::ConnectionLost), "{error}");
}

#[tokio::test]
async fn a_transaction_ended_by_a_statement_of_maintenance_is_committed() {
    let server = server_with_counter().await;
    let pool = pool_of(&server).await;
    for (count, text) in (1..).zip([
        "ANALYZE TABLE other",
        "OPTIMIZE TABLE other",
        "CHECK TABLE other",
    ]) {
        let mut transaction = pool.begin().await.expect("begun");
        transaction.query_drop(ADD).await.expect("added");
        transaction.query_drop(text).await.expect(text);
        transaction.commit().await.expect("it is committed");
        assert_eq!(value(&server).await, count, "{text}");
    }
}

#[tokio::test]
async fn a_commit_that_begins_another_transaction_is_refused_in_one() {
    let server = server_with_counter().await;
    let pool = pool_of(&server).await;
    for text in ["COMMIT AND CHAIN", "ROLLBACK WORK AND CHAIN"] {
        let mut transaction = pool.begin().await.expect("begun");
        transaction.query_drop(ADD).await.expect("added");
        let error = transaction.query_drop(text).await.expect_err(text);
        assert!(matches!(error, Error::InTransaction), "{error}");
        transaction.rollback().await.expect("rolled back");
        assert_eq!(value(&server).await, 0, "nothing was sent");
    }
    // Without a handle it is the caller's own.
    let mut conn = pool.get().await.expect("a connection");
    for text in ["BEGIN", ADD, "COMMIT AND CHAIN", ADD] {
        conn.query_drop(text).await.expect(text);
    }
    drop(conn);
    drop(pool.get().await.expect("cleaned"));
    assert_eq!(value(&server).await, 1, "the second one is rolled back");
}

#[tokio::test]
async fn a_lost_answer_after_a_commit_in_a_text_is_unknown() {
    let server = server_with_counter().await;
    let pool = pool_of(&server).await;
    let text = &format!("{ADD}; COMMIT; DO SLEEP(60)");
    let begun = &format!("BEGIN; {text}");
    for way in 0..4 {
        let mut conn = pool.get().await.expect("a connection");
        let id = conn.id();
        let killing = async {
            let mut admin = server.admin().await;
            let find = format!(
                "SELECT COUNT(*) FROM information_schema.processlist \
                 WHERE id = {id} AND info LIKE '%SLEEP%' AND info NOT LIKE '%COUNT%'"
            );
            // It sleeps after the commit.
            eventually("committed", async || value(&server).await == way + 1).await;
            eventually("it sleeps", async || {
                admin.query_first(&find).await.expect("an answer") == Some(1)
            })
            .await;
            admin
                .query_drop(format!("KILL {id}"))
                .await
                .expect("killed");
        };
        let sending = async {
            match way {
                0 => Error::from(conn.query_drop(begun).await.expect_err("killed")),
                1 => {
                    conn.query_drop("BEGIN").await.expect("begun");
                    Queryable::query::<u8, _>(&mut conn, text)
                        .await
                        .expect_err("killed")
                        .into()
                }
                2 => {
                    let begun = conn.start_transaction(TxOpts::default()).await;
                    let mut transaction = begun.expect("begun");
                    transaction
                        .query_drop(text)
                        .await
                        .expect_err("killed")
                        .into()
                }
                _ => {
                    conn.query_drop("BEGIN").await.expect("begun");
                    let map = |value: u8| value;
                    conn.query_map(text, map).await.expect_err("killed").into()
                }
            }
        };
        let (error, ()) = tokio::join!(sending, killing);
        assert!(is_unknown(error), "{way}");
    }
}

#[tokio::test]
async fn what_a_statement_commits_before_it_fails_stays() {
    let server = server_with_counter().await;
    let settings = config(&server.url()).size(1).overflow(0);
    let pool = warm(settings.init(["SET SESSION lock_wait_timeout = 1"])).await;
    let mut reader = server.admin().await;
    for text in ["BEGIN", "SELECT * FROM test.other"] {
        reader.query_drop(text).await.expect(text);
    }
    let alter = "ALTER TABLE other ADD name INT";
    // Outside of a transaction, it is the server's answer.
    let error = pool.query_drop(alter).await.expect_err("locked");
    assert!(error.is_transient());
    assert_eq!(code(error), Some(1205));
    let tries = AtomicU32::new(0);
    let outcome: Result<(), Error> = pool
        .transaction_with(
            TransactionOptions::new().retries(3),
            async |mut transaction| {
                tries.fetch_add(1, Ordering::SeqCst);
                transaction.query_drop(ADD).await?;
                transaction.exec_drop(alter, ()).await
            },
        )
        .await;
    assert!(is_unknown(outcome.expect_err("locked")));
    assert_eq!(tries.load(Ordering::SeqCst), 1);
    assert_eq!(value(&server).await, 1);
    // An error that the closure does not return.
    let outcome: Result<(), Error> = pool
        .transaction_with(
            TransactionOptions::new().retries(3),
            async |mut transaction| {
                transaction.query_drop(ADD).await?;
                let error = transaction.query_drop(alter).await.expect_err("locked");
                assert!(is_unknown(error));
                Ok(())
            },
        )
        .await;
    let error = outcome.expect_err("it is not known how it ended");
    assert!(matches!(error, Error::TransactionEnded), "{error}");
    assert_eq!(value(&server).await, 2);
    // One begun by a statement.
    let mut conn = pool.get().await.expect("a connection");
    for text in ["BEGIN", ADD] {
        conn.query_drop(text).await.expect(text);
    }
    assert!(is_unknown(
        conn.query_drop(alter).await.expect_err("locked")
    ));
    assert_eq!(value(&server).await, 3);
}

#[tokio::test]
async fn a_conflict_before_the_commit_in_a_text_is_repeated() {
    let server = server_with_counter().await;
    server
        .execute(
            "CREATE PROCEDURE test.lose() BEGIN ROLLBACK; \
             SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'a deadlock'; END",
        )
        .await;
    let pool = pool_of(&server).await;
    let tries = AtomicU32::new(0);
    let outcome: Result<(), Error> = pool
        .transaction_with(
            TransactionOptions::new().retries(2),
            async |mut transaction| {
                let number = tries.fetch_add(1, Ordering::SeqCst);
                let lose = if number < 2 { "CALL lose();" } else { "" };
                let text = format!("{ADD}; {lose} COMMIT");
                transaction.query_drop(text).await
            },
        )
        .await;
    outcome.expect("repeated, and committed by its text");
    assert_eq!((tries.into_inner(), value(&server).await), (3, 1));
    // The same on the pool itself.
    let text = format!("BEGIN; {ADD}; CALL lose(); COMMIT");
    let error = pool.query_drop(text).await.expect_err("a deadlock");
    assert!(error.is_deadlock() && error.is_transient(), "{error}");
    // What was committed before stays.
    let mut conn = pool.get().await.expect("a connection");
    let begun = format!("BEGIN; {ADD}");
    conn.query_drop(begun).await.expect("added");
    let text = format!("BEGIN; {ADD}; CALL lose(); COMMIT");
    assert!(is_unknown(
        conn.query_drop(text).await.expect_err("a deadlock")
    ));
    assert_eq!(value(&server).await, 2);
}

/// The server has rolled back only what came after.
#[tokio::test]
async fn a_conflict_after_a_part_was_committed_is_not_repeated() {
    let server = server_with_counter().await;
    server
        .execute(
            "CREATE PROCEDURE test.lose() \
             SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'a deadlock'",
        )
        .await;
    let pool = pool_of(&server).await;
    for (committed, text) in (1..).zip([
        format!("{ADD}; COMMIT; CALL lose()"),
        format!("{ADD}; COMMIT; CALL lose(); ROLLBACK"),
        format!("ROLLBACK; SET autocommit = 1; {ADD}; CALL lose()"),
        format!("ROLLBACK; {ADD}; CALL lose()"),
    ]) {
        let tries = AtomicU32::new(0);
        let outcome: Result<(), Error> = pool
            .transaction_with(
                TransactionOptions::new().retries(2),
                async |mut transaction| {
                    tries.fetch_add(1, Ordering::SeqCst);
                    transaction.query_drop(text.as_str()).await
                },
            )
            .await;
        assert!(is_unknown(outcome.expect_err("a deadlock")), "{text}");
        assert_eq!(tries.into_inner(), 1, "{text}");
        assert_eq!(value(&server).await, committed, "{text}");
    }
}

#[tokio::test]
async fn a_statement_that_commits_and_is_refused_says_why() {
    let server = server_with_counter().await;
    let pool = pool_of(&server).await;
    for (text, expected) in [
        ("CREATE TABLE other (id INT)", 1050),
        ("DROP TABLE nothing", 1051),
        ("ALTER TABLE other ADD id INT", 1060),
        ("TRUNCATE nothing", 1146),
        ("COMMITT", 1064),
    ] {
        let error = pool.query_drop(text).await.expect_err(text);
        assert_eq!(code(error), Some(expected), "{text}");
        let mut conn = pool.get().await.expect("a connection");
        let error = conn.exec_drop(text, ()).await.expect_err(text);
        assert_eq!(code(error), Some(expected), "{text}");
        let begun = conn.start_transaction(TxOpts::default()).await;
        let error = begun.expect("begun").query_drop(text).await;
        assert_eq!(code(error.expect_err(text)), Some(expected), "{text}");
    }
    // What came before is committed, and the transaction knows.
    let mut transaction = pool.begin().await.expect("begun");
    transaction.query_drop(ADD).await.expect("added");
    let error = transaction.query_drop("DROP TABLE nothing").await;
    assert_eq!(code(error.expect_err("unknown")), Some(1051));
    transaction
        .commit()
        .await
        .expect("the server has committed it");
    assert_eq!(value(&server).await, 1);
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn a_text_that_a_read_only_server_refuses_committed_nothing() {
    let server = server_with_counter().await;
    let pool = pool_of(&server).await;
    server.execute("SET GLOBAL read_only = 1").await;
    let text = format!("BEGIN; {ADD}; COMMIT");
    let error = pool.query_drop(&*text).await.expect_err("read-only");
    assert!(error.is_transient(), "{error}");
    assert_eq!(code(error), Some(1290));
    server.execute("SET GLOBAL read_only = 0").await;
    assert_eq!(value(&server).await, 0);
    // After the `COMMIT`, that would be no answer.
    let mut transaction = pool.begin().await.expect("begun");
    transaction.query_drop(ADD).await.expect("added");
    server.execute("SET GLOBAL read_only = 1").await;
    let error = transaction.query_drop(&*format!("COMMIT; {ADD}")).await;
    assert!(is_unknown(error.expect_err("read-only")));
    server.execute("SET GLOBAL read_only = 0").await;
}
