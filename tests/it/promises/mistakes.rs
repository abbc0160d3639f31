//! Nobody else pays for one caller's mistake: its connection may be closed, but no other becomes
//! suspect.

use mysql_warm_pool::{
    Pool, PoolConfig, PooledConn,
    metrics::DiscardReason,
    mysql_async::{self, OptsBuilder, prelude::*},
};
use test_support::{PATIENCE, Server, config, eventually, warm};

const SIZE: usize = 4;
const MIB: usize = 1 << 20;

/// Idle connections are not validated for their age.
fn settings(config: PoolConfig) -> PoolConfig {
    let config = config.size(SIZE).overflow(0);
    config.validate_after_idle(PATIENCE).keepalive(None)
}

/// How many connections were discarded, for each reason that occurred.
fn discarded(pool: &Pool) -> Vec<(DiscardReason, u64)> {
    let all = pool.metrics().discarded.into_iter();
    all.filter(|(_, count)| *count > 0).collect()
}

/// Waits until this many connections were discarded for this reason and replaced. No other reason
/// may occur, and no other connection may have become suspect.
async fn only_discarded(pool: &Pool, reason: DiscardReason, count: u64) {
    eventually("the connections are replaced", async || {
        pool.status().idle == SIZE && discarded(pool).iter().map(|(_, n)| n).sum::<u64>() >= count
    })
    .await;
    assert_eq!(discarded(pool), [(reason, count)]);
    assert_eq!(pool.metrics().suspects, 0);
}

/// Sends a statement with so many bytes in one way.
async fn send(conn: &mut PooledConn, how: &str, bytes: usize) -> mysql_async::Result<()> {
    let text = "x".repeat(bytes);
    match how {
        "query" => conn.query_drop(format!("DO LENGTH('{text}')")).await,
        "exec" => conn.exec_drop("DO LENGTH(?)", (text,)).await,
        "parameters" => {
            let sum = "DO LENGTH(?), LENGTH(?), LENGTH(?)";
            conn.exec_drop(sum, (&text, &text, &text)).await
        }
        "batch" => {
            let insert = "INSERT INTO large VALUES (?)";
            conn.exec_batch(insert, [(&text,), (&text,)]).await
        }
        "prep" => conn.prep(format!("DO LENGTH('{text}')")).await.map(drop),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_packet_that_is_too_large_costs_one_connection() {
    let server = Server::builder()
        .option("--max-allowed-packet=1M")
        .start()
        .await;
    server.execute("CREATE TABLE test.large (a LONGTEXT)").await;
    let agreed = settings(config(&server.url()));
    // A client that assumes that the server accepts more.
    let opts = OptsBuilder::from_opts(agreed.opts().clone());
    let opts = opts.max_allowed_packet(Some(64 * MIB));
    let mistaken = settings(PoolConfig::from_opts(opts));
    for settings in [agreed, mistaken] {
        for how in ["query", "exec", "parameters", "batch", "prep"] {
            for bytes in [MIB, 2 * MIB, 20 * MIB] {
                let pool = warm(settings.clone()).await;
                for _ in 0..3 {
                    let mut conn = pool.get().await.expect("a connection");
                    let sent = send(&mut conn, how, bytes).await;
                    sent.expect_err("too large");
                    let again = conn.query_drop("DO 1").await;
                    let again = again.expect_err("the connection is closed").to_string();
                    assert!(again.contains("nothing was sent"), "{how} {bytes}: {again}");
                }
                only_discarded(&pool, DiscardReason::Misused, 3).await;
            }
        }
    }
}

#[tokio::test]
async fn a_packet_of_the_largest_allowed_size_is_taken() {
    let server = Server::builder()
        .option("--max-allowed-packet=1M")
        .start()
        .await;
    let pool = warm(settings(config(&server.url()))).await;
    let mut conn = pool.get().await.expect("a connection");
    for how in ["query", "exec", "prep"] {
        send(&mut conn, how, MIB - 100).await.expect(how);
    }
}

#[tokio::test]
async fn a_cleaning_that_the_server_refuses_costs_one_connection() {
    // What is taken away from the server makes the cleaning fail: `prepare`, `init`, the database.
    for (take_away, give_back) in [
        (
            "SET GLOBAL max_prepared_stmt_count = 0",
            "SET GLOBAL max_prepared_stmt_count = 16382",
        ),
        (
            "DROP TABLE other.setting",
            "CREATE TABLE other.setting (a INT)",
        ),
        ("DROP DATABASE test", "CREATE DATABASE test"),
    ] {
        let server = Server::start().await;
        server.execute("CREATE TABLE other.setting (a INT)").await;
        let settings = settings(config(&server.url()))
            .init(["SELECT a FROM other.setting"])
            .prepare(["SELECT 1"]);
        let pool = warm(settings).await;
        server.execute(take_away).await;
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("SET @changed = 1").await.expect("changed");
        conn.query_drop("USE other").await.expect("moved");
        drop(conn);
        eventually("it is discarded", async || {
            discarded(&pool) == [(DiscardReason::CleaningFailed, 1)]
        })
        .await;
        server.execute(give_back).await;
        only_discarded(&pool, DiscardReason::CleaningFailed, 1).await;
    }
}

/// Whether the connection takes a packet of this size.
async fn takes(conn: &mut PooledConn, bytes: usize) -> bool {
    send(conn, "query", bytes).await.is_ok()
}

#[tokio::test]
async fn every_connection_takes_what_the_server_takes_now() {
    let server = Server::builder()
        .option("--max-allowed-packet=1M")
        .start()
        .await;
    let pool = warm(settings(config(&server.url()))).await;
    // Raised, then lowered again. Sessions keep the limit they began with.
    for (allowed, taken, refused) in [(8, 4, 16), (2, 1, 4)] {
        server
            .execute(&format!(
                "SET GLOBAL max_allowed_packet = {}",
                allowed * MIB
            ))
            .await;
        let before = pool.metrics().create_time.count();
        pool.refresh();
        eventually("all are replaced", async || {
            let opened = pool.metrics().create_time.count() - before;
            opened >= SIZE as u64 && pool.status().idle == SIZE
        })
        .await;
        let before = pool.metrics().suspects;
        let mut held = Vec::new();
        for _ in 0..SIZE {
            let mut conn = pool.get().await.expect("a connection");
            assert!(takes(&mut conn, taken * MIB - 100).await, "{allowed} MiB");
            held.push(conn);
        }
        for mut conn in held {
            assert!(!takes(&mut conn, refused * MIB).await, "{allowed} MiB");
        }
        assert_eq!(pool.metrics().suspects, before);
        eventually("all are back", async || pool.status().idle == SIZE).await;
    }
}

#[tokio::test]
async fn the_clients_own_smaller_limit_for_packets_holds() {
    let server = Server::builder()
        .option("--max-allowed-packet=8M")
        .start()
        .await;
    let opts = config(&server.url()).opts().clone();
    let opts = OptsBuilder::from_opts(opts).max_allowed_packet(Some(2 * MIB));
    let pool = warm(settings(PoolConfig::from_opts(opts))).await;
    let opened = pool.metrics().create_time.count();
    let mut conn = pool.get().await.expect("a connection");
    assert!(takes(&mut conn, MIB).await);
    assert!(!takes(&mut conn, 4 * MIB).await);
    drop(conn);
    only_discarded(&pool, DiscardReason::Misused, 1).await;
    assert_eq!(opened, SIZE as u64, "none was opened twice");
}
