//! How soon a cancelled caller's statement is gone from the server, and its locks with it.

use std::time::{Duration, Instant};

use mysql_warm_pool::{
    OnCancel, Pool,
    mysql_async::{Conn, TxOpts, prelude::Queryable},
};
use test_support::{Server, best_of_three, config, eventually, warm};

use crate::alone;

const SOON: Duration = Duration::from_secs(5);
const WITHIN: Duration = Duration::from_millis(200);

#[tokio::test]
async fn an_abandoned_statement_is_gone_from_the_server_within_200_ms() {
    let _turn = alone().await;
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let list =
        "SELECT id FROM information_schema.processlist WHERE user = 'app' AND info LIKE '%SLEEP%'";
    for size in [5, 1] {
        let settings = config(&server.url())
            .size(size)
            .overflow(0)
            .on_cancel(OnCancel::Kill);
        let pool = warm(settings).await;
        let took = best_of_three(WITHIN, async || {
            let mut conn = pool.get().await.expect("a connection");
            let sleeping = conn.query_drop("SELECT SLEEP(60)");
            let cancelled = tokio::time::timeout(Duration::from_millis(100), sleeping).await;
            assert!(cancelled.is_err(), "it ended by itself");
            drop(conn);
            let start = Instant::now();
            eventually(SOON, "it is gone", async || {
                let running: Vec<u64> = admin.query(list).await.expect("the list");
                running.is_empty()
            })
            .await;
            let took = start.elapsed();
            println!("of {size}: gone after {took:?}");
            eventually(SOON, "it is replaced", async || pool.status().idle == size).await;
            took
        })
        .await;
        assert!(took <= WITHIN, "of {size}: {took:?}");
        pool.close().await;
    }
}

#[tokio::test]
async fn the_locks_of_an_abandoned_update_are_gone_within_200_ms() {
    let _turn = alone().await;
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.account (id INT PRIMARY KEY, amount INT)")
        .await;
    server
        .execute("INSERT INTO test.account VALUES (1, 100), (2, 100)")
        .await;
    let pool = warm(config(&server.url()).size(3).on_cancel(OnCancel::Kill)).await;
    let mut other = Conn::new(server.opts()).await.expect("a connection");
    let took = best_of_three(WITHIN, async || {
        until_locks_are_free(&pool, &mut other).await
    })
    .await;
    assert!(took <= WITHIN, "{took:?}");
}

/// Abandons an update in a transaction, whose changes must not be there; how long the other waits for its locks.
async fn until_locks_are_free(pool: &Pool, other: &mut Conn) -> Duration {
    let mut conn = pool.get().await.expect("a connection");
    let mut transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    transaction
        .query_drop("UPDATE account SET amount = 0 WHERE id = 1")
        .await
        .expect("taken");
    let slow = transaction.query_drop("UPDATE account SET amount = SLEEP(60) WHERE id = 2");
    let cancelled = tokio::time::timeout(Duration::from_millis(100), slow).await;
    assert!(cancelled.is_err());
    drop(transaction);
    drop(conn);
    let start = Instant::now();
    other
        .query_drop("UPDATE account SET amount = amount - 1")
        .await
        .expect("free");
    let took = start.elapsed();
    println!("free after {took:?}");
    let amounts: Vec<i32> = other
        .query("SELECT amount FROM account")
        .await
        .expect("rows");
    assert_eq!(amounts, [99, 99]);
    other
        .query_drop("UPDATE account SET amount = 100")
        .await
        .expect("put back");
    took
}
