//! Where MariaDB and MySQL differ, callers see no difference. Runs against whichever the suite runs against.

use std::time::Duration;

use mysql_warm_pool::{Reset, mysql_async::prelude::*};

use crate::support::{Flavor, Server, config, eventually, warm};

const SOON: Duration = Duration::from_secs(10);

/// MySQL's goes back to the server's charset, MariaDB's to that of the handshake.
#[tokio::test]
async fn after_a_reset_the_charset_is_that_of_a_new_connection() {
    let server = Server::builder()
        .option("--character-set-server=latin1")
        .start()
        .await;
    let pool = warm(
        config(&server.url())
            .size(1)
            .overflow(0)
            .reset(Reset::Always),
    )
    .await;
    let question = "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, \
                    @@collation_connection, '\u{e9}\u{1f980}'";
    let mut conn = pool.get().await.expect("a connection");
    let first: Option<(String, String, String, String, String)> =
        conn.query_first(question).await.expect("an answer");
    drop(conn);
    eventually(SOON, "it was reset", async || pool.metrics().resets == 1).await;
    let mut conn = pool.get().await.expect("a connection");
    let second = conn.query_first(question).await.expect("an answer");
    assert_eq!(first, second);
    assert_eq!(second.map(|row| row.4), Some("\u{e9}\u{1f980}".to_owned()));
}

/// MySQL's `caching_sha2_password` wants the password itself, encrypted, until it has seen it once; MariaDB's
/// `mysql_native_password` never does.
#[tokio::test]
async fn accounts_as_the_server_makes_them_log_in_the_first_time_and_again() {
    let server = Server::start().await;
    let expected = match server.flavor() {
        Flavor::MariaDb => "mysql_native_password",
        Flavor::MySql => "caching_sha2_password",
    };
    let question = "SELECT plugin FROM mysql.user WHERE user = 'app'";
    let plugin: Option<String> = server
        .admin()
        .await
        .query_first(question)
        .await
        .expect("an answer");
    assert_eq!(plugin.as_deref(), Some(expected));
    for _ in 0..2 {
        // What the server has seen is forgotten.
        server.execute("FLUSH PRIVILEGES").await;
        let pool = warm(config(&server.url()).size(4).overflow(0)).await;
        assert_eq!(pool.metrics().failed_attempts, 0);
        pool.close().await;
    }
}

/// MySQL says why (4031) before it closes what was idle for too long, MariaDB closes.
#[tokio::test]
async fn a_connection_that_the_server_ended_for_being_idle_reaches_no_caller() {
    let server = Server::builder().option("--wait-timeout=1").start().await;
    let settings = config(&server.url())
        .size(2)
        .overflow(0)
        .keepalive(None)
        .prove_after_idle(Duration::from_millis(500));
    let pool = warm(settings).await;
    eventually(SOON, "the server has ended all", async || {
        server.threads_connected().await == 0
    })
    .await;
    let mut conn = pool.get().await.expect("a connection");
    let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
    assert_eq!(answer, Some(7));
}

/// Their words for it differ; the number (1290) is the same, and is used for other refusals as well.
#[tokio::test]
async fn a_server_that_became_read_only_is_known_by_its_words() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.entry (id INT PRIMARY KEY)")
        .await;
    let pool = warm(config(&server.url()).size(2).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    server.execute("SET GLOBAL read_only = 1").await;
    let refused = conn.query_drop("INSERT INTO entry VALUES (1)").await;
    let refused = refused.expect_err("read-only").to_string();
    assert!(
        refused.contains("1290") && refused.contains("read-only"),
        "{refused}"
    );
    drop(conn);
    eventually(SOON, "the connection is discarded", async || {
        pool.metrics().discarded.contains(&("read_only", 1))
    })
    .await;
}
