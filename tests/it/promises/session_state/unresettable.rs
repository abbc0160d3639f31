//! What a reset leaves behind never reaches the next caller: the connection is discarded.

use mysql_warm_pool::{
    Pool, PooledConn, Reset,
    metrics::DiscardReason,
    mysql_async::{Conn, Row, prelude::*},
};
use test_support::{Flavor, Server, config, eventually, warm};

async fn pool_of_one(reset: Reset) -> Pool {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(1).overflow(0);
    warm(settings.reset(reset)).await
}

fn unresettable(pool: &Pool) -> u64 {
    let discarded = pool.metrics().discarded.into_iter();
    let found = discarded.filter(|(reason, _)| *reason == DiscardReason::Unresettable);
    found.map(|(_, count)| count).sum()
}

/// How a caller sends its statements.
const WAYS: [&str; 3] = ["query", "exec", "bare Conn"];

async fn send(conn: &mut PooledConn, way: &str, statement: &str) {
    let sent = match way {
        "query" => conn.query_drop(statement).await,
        "exec" => match conn.exec_drop(statement, ()).await {
            // Not supported in the protocol of prepared statements.
            Err(error) if error.to_string().contains("1295") => conn.query_drop(statement).await,
            sent => sent,
        },
        _ => {
            let bare: &mut Conn = conn;
            bare.query_drop(statement).await
        }
    };
    sent.unwrap_or_else(|error| panic!("{way}: {statement}: {error}"));
}

/// Runs the statements, and returns what the next caller of a pool of one finds.
async fn next_finds(pool: &Pool, way: &str, statements: &[&str], question: &str) -> Vec<Row> {
    let mut conn = pool.get().await.expect("a connection");
    for statement in statements {
        send(&mut conn, way, statement).await;
    }
    drop(conn);
    let mut next = pool.get().await.expect("a connection");
    next.query(question).await.expect("an answer")
}

#[tokio::test]
async fn statements_of_one_caller_are_not_shown_to_the_next() {
    let profile: &[&str] = &["SET profiling = 1", "DO 'a secret'", "SET profiling = 0"];
    let trace: &[&str] = &[
        "SET optimizer_trace = 'enabled=on'",
        "SELECT 'a secret'",
        "SET optimizer_trace = 'enabled=off'",
    ];
    let traced = "SELECT QUERY FROM information_schema.OPTIMIZER_TRACE";
    for reset in [Reset::WhenChanged, Reset::Always, Reset::Never] {
        let pool = pool_of_one(reset).await;
        // Without resets only the text can show it.
        let ways = &WAYS[..if reset == Reset::Never { 2 } else { 3 }];
        for way in ways {
            for (statements, question) in [(profile, "SHOW PROFILES"), (trace, traced)] {
                let found = next_finds(&pool, way, statements, question).await;
                assert!(found.is_empty(), "{reset:?} {way}: {found:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_hidden_profile_or_trace_is_found_too() {
    let server = Server::shared().await;
    for statement in [
        "CREATE PROCEDURE test.profiled() BEGIN SET profiling = 1; DO 'a secret'; END",
        "CREATE PROCEDURE test.traced()
         BEGIN SET optimizer_trace = 'enabled=on'; SELECT 'a secret'; END",
    ] {
        server.execute(statement).await;
    }
    let pool = pool_of_one(Reset::WhenChanged).await;
    for way in WAYS {
        let found = next_finds(&pool, way, &["CALL profiled()"], "SHOW PROFILES").await;
        assert!(found.is_empty(), "{way}: {found:?}");
        let traced = "SELECT QUERY FROM information_schema.OPTIMIZER_TRACE";
        let found = next_finds(&pool, way, &["CALL traced()"], traced).await;
        assert!(found.is_empty(), "{way}: {found:?}");
    }
    assert!(unresettable(&pool) > 0, "found, and not by chance");
}

/// On MariaDB an XA transaction that was prepared stays with its connection, which then refuses all
/// changes of rows.
#[tokio::test]
async fn after_an_xa_transaction_the_next_caller_can_write() {
    let server = Server::shared().await;
    server.execute("CREATE TABLE test.of_xa (a INT)").await;
    let insert = "INSERT INTO of_xa VALUES (1)";
    let mut number = 0;
    for reset in [Reset::WhenChanged, Reset::Always, Reset::Never] {
        let pool = pool_of_one(reset).await;
        // Preparing a statement last hides the server's status.
        for way in ["query", "exec", "bare Conn", "bare Conn, prep"] {
            for steps in 1..=4 {
                number += 1;
                let xid = format!("'of {number}'");
                let all = [
                    format!("XA START {xid}"),
                    insert.to_owned(),
                    format!("XA END {xid}"),
                    format!("XA PREPARE {xid}"),
                ];
                let mut conn = pool.get().await.expect("a connection");
                for statement in all.iter().take(steps) {
                    send(&mut conn, way, statement).await;
                }
                if way == "bare Conn, prep" {
                    let bare: &mut Conn = &mut conn;
                    bare.prep("SELECT 1").await.expect("prepared");
                }
                drop(conn);
                let mut next = pool.get().await.expect("a connection");
                let inserted = next.query_drop(insert).await;
                inserted.unwrap_or_else(|error| panic!("{reset:?} {way} {steps}: {error}"));
                drop(next);
                if steps == 4 {
                    // Its coordinator ends it, on any connection.
                    let end = format!("XA ROLLBACK {xid}");
                    eventually("the transaction is ended", async || {
                        let mut conn = server.admin().await;
                        conn.query_drop(&end).await.is_ok()
                    })
                    .await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_resource_group_does_not_stay() {
    let server = Server::start().await;
    if server.flavor() != Flavor::MySql {
        return;
    }
    for statement in [
        "CREATE RESOURCE GROUP slow TYPE = USER",
        "CREATE USER grouped@'%' IDENTIFIED BY 'x'",
        "GRANT ALL ON test.* TO grouped@'%'",
        "GRANT RESOURCE_GROUP_USER ON *.* TO grouped@'%'",
    ] {
        server.execute(statement).await;
    }
    let pool = warm(config(&server.url_as("grouped", "x")).size(1).overflow(0)).await;
    for statements in [
        &["SET RESOURCE GROUP slow"][..],
        &["PREPARE s FROM 'SET RESOURCE GROUP slow'", "EXECUTE s"],
    ] {
        let mut conn = pool.get().await.expect("a connection");
        for statement in statements {
            conn.query_drop(*statement).await.expect("taken");
        }
        let id = conn.id();
        drop(conn);
        let next = pool.get().await.expect("a connection");
        assert_ne!(next.id(), id, "{statements:?}");
    }
    assert_eq!(unresettable(&pool), 2);
}
