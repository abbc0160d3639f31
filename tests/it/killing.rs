//! `OnCancel::Kill`: what a cancelled caller left running is ended on the server, and nothing else is.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mysql_warm_pool::{
    OnCancel, Pool,
    mysql_async::{Conn, TxOpts, prelude::Queryable},
};

use crate::support::{Proxy, Server, config, eventually, warm};

const SOON: Duration = Duration::from_secs(5);
const GONE_WITHIN: Duration = Duration::from_millis(200);

/// Begins a statement on a connection of the pool, and is cancelled once it runs.
async fn cancelled(pool: &Pool, statement: &str) {
    let mut conn = pool.get().await.expect("a connection");
    let running =
        tokio::time::timeout(Duration::from_millis(100), conn.query_drop(statement)).await;
    assert!(running.is_err(), "{statement} ended by itself");
}

/// How many of the account's connections run a statement like this.
async fn running(admin: &mut Conn, like: &str) -> usize {
    let list = format!(
        "SELECT id FROM information_schema.processlist WHERE user = 'app' AND info LIKE '%{like}%'"
    );
    admin.query::<u64, _>(list).await.expect("the list").len()
}

#[tokio::test]
async fn an_abandoned_statement_is_gone_from_the_server_within_200_ms() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    for size in [5, 1] {
        let settings = config(&server.url())
            .size(size)
            .overflow(0)
            .on_cancel(OnCancel::Kill);
        let pool = warm(settings).await;
        cancelled(&pool, "SELECT SLEEP(60)").await;
        let start = Instant::now();
        eventually(SOON, "it is gone", async || {
            running(&mut admin, "SLEEP").await == 0
        })
        .await;
        let took = start.elapsed();
        println!("of {size}: gone after {took:?}");
        assert!(took < GONE_WITHIN, "of {size}: {took:?}");
        eventually(SOON, "it is replaced", async || pool.status().idle == size).await;
        pool.close().await;
    }
}

#[tokio::test]
async fn by_default_it_is_left_to_end_by_itself() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let pool = warm(config(&server.url()).size(2)).await;
    cancelled(&pool, "SELECT SLEEP(2)").await;
    eventually(SOON, "it is replaced", async || pool.status().idle == 2).await;
    assert_eq!(running(&mut admin, "SLEEP").await, 1);
}

#[tokio::test]
async fn the_locks_of_an_abandoned_update_are_gone_with_it() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.account (id INT PRIMARY KEY, amount INT)")
        .await;
    server
        .execute("INSERT INTO test.account VALUES (1, 100), (2, 100)")
        .await;
    let pool = warm(config(&server.url()).size(3).on_cancel(OnCancel::Kill)).await;
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
    let mut other = Conn::new(server.opts()).await.expect("a connection");
    other
        .query_drop("UPDATE account SET amount = amount - 1")
        .await
        .expect("free");
    assert!(start.elapsed() < GONE_WITHIN, "{:?}", start.elapsed());
    let amounts: Vec<i32> = other
        .query("SELECT amount FROM account")
        .await
        .expect("rows");
    assert_eq!(amounts, [99, 99]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_50_cancellations_opens_no_50_more_connections() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let mut admin = server.admin().await;
    let settings = config(&server.url_via(proxy.port()))
        .size(50)
        .overflow(5)
        .on_cancel(OnCancel::Kill);
    let pool = warm(settings).await;
    let opened = proxy.accepted();
    let most = std::sync::atomic::AtomicU64::new(0);
    join_all((0..50).map(|_| cancelled(&pool, "SELECT SLEEP(60)"))).await;
    let start = Instant::now();
    eventually(SOON, "all are gone", async || {
        most.fetch_max(
            server.threads_connected().await,
            std::sync::atomic::Ordering::Relaxed,
        );
        running(&mut admin, "SLEEP").await == 0
    })
    .await;
    println!("50 are gone after {:?}", start.elapsed());
    eventually(SOON, "all are replaced", async || pool.status().idle >= 50).await;
    assert!(proxy.peak().await <= 55, "{} at once", proxy.peak().await);
    assert!(
        proxy.accepted() - opened <= 55,
        "{} opened",
        proxy.accepted() - opened
    );
    assert!(most.into_inner() <= 55);
}

#[tokio::test]
async fn on_another_server_with_the_same_numbers_nothing_is_killed() {
    let (one, other) = (Server::start().await, Server::start().await);
    let proxy = Proxy::start(one.port()).await;
    let settings = config(&one.url_via(proxy.port()))
        .size(1)
        .overflow(1)
        .on_cancel(OnCancel::Kill);
    let pool = warm(settings).await;
    // Bystanders over there, with every number that a victim here may have.
    let mut bystanders = Vec::new();
    for _ in 0..40 {
        bystanders.push(Conn::new(other.opts()).await.expect("a connection"));
    }
    let id = pool.get().await.expect("a connection").id();
    assert!(
        bystanders.iter().any(|conn| conn.id() == id),
        "no bystander with the number {id}"
    );
    proxy.switch_to(other.port());
    cancelled(&pool, "SELECT SLEEP(3)").await;
    eventually(SOON, "another is open, over there", async || {
        pool.status().idle >= 1
    })
    .await;
    // The look for a killer is over when the victim is closed.
    eventually(SOON, "nothing is being ended", async || {
        pool.status().cleaning == 0
    })
    .await;
    for conn in &mut bystanders {
        conn.ping().await.expect("a bystander lives");
    }
}
