//! How soon the server ends a cancelled caller's statement, and frees its locks.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::{
    Result,
    measure::{median_of, until},
    table::Table,
};
use mysql_warm_pool::{
    OnCancel, Pool,
    mysql_async::{Conn, Opts, TxOpts, prelude::Queryable},
};

use crate::pools::{settings, warm};

const TRIES: usize = 7;
const BOUND: Duration = Duration::from_millis(200);
/// The callers' own statements that sleep.
const RUNNING: &str = "SELECT COUNT(*) FROM information_schema.processlist \
     WHERE info LIKE '%SLEEP(60)%' AND info NOT LIKE '%processlist%'";

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    let mut watch = Conn::new(opts.clone()).await?;
    for size in [5, 1] {
        let pool = killing(opts, size).await?;
        let took = median_of(TRIES, async || {
            let mut conn = pool.get().await?;
            abandon(conn.query_drop("SELECT SLEEP(60)")).await?;
            drop(conn);
            let start = Instant::now();
            until_none_runs(&mut watch).await?;
            let took = start.elapsed();
            until("it is replaced", async || Ok(pool.status().idle == size)).await?;
            Ok(took)
        });
        let promise = format!("abandoned statement gone from the server, pool of {size}");
        table.at_most_time(&promise, took.await?, BOUND);
        pool.close().await;
    }
    locks(table, opts, &mut watch).await?;
    all_abandoned(table, opts, &mut watch).await
}

async fn locks(table: &mut Table, opts: &Opts, other: &mut Conn) -> Result<()> {
    const TABLE: &str = "mysql_warm_pool_promises";
    let pool = killing(opts, 3).await?;
    other
        .query_drop(format!("DROP TABLE IF EXISTS {TABLE}"))
        .await?;
    other
        .query_drop(format!(
            "CREATE TABLE {TABLE} (id INT PRIMARY KEY, amount INT)"
        ))
        .await?;
    other
        .query_drop(format!("INSERT INTO {TABLE} VALUES (1, 100), (2, 100)"))
        .await?;
    let took = median_of(TRIES, async || {
        let mut conn = pool.get().await?;
        let mut transaction = conn.start_transaction(TxOpts::default()).await?;
        let quick = format!("UPDATE {TABLE} SET amount = 0 WHERE id = 1");
        transaction.query_drop(quick).await?;
        let slow = format!("UPDATE {TABLE} SET amount = SLEEP(60) WHERE id = 2");
        abandon(transaction.query_drop(slow)).await?;
        drop(transaction);
        drop(conn);
        let start = Instant::now();
        let update = format!("UPDATE {TABLE} SET amount = amount + 1");
        other.query_drop(update).await?;
        Ok(start.elapsed())
    })
    .await;
    pool.close().await;
    other.query_drop(format!("DROP TABLE {TABLE}")).await?;
    let promise = "locks of an abandoned UPDATE free for others";
    table.at_most_time(promise, took?, BOUND);
    Ok(())
}

/// No connection may be opened to kill on until most of the victims are closed.
async fn all_abandoned(table: &mut Table, opts: &Opts, watch: &mut Conn) -> Result<()> {
    let took = median_of(TRIES, async || {
        let pool = killing(opts, 8).await?;
        let held = join_all((0..8).map(|_| pool.get())).await;
        pool.resize(2, 0)?;
        let abandoned = held.into_iter().map(async |conn| {
            let mut conn = conn?;
            abandon(conn.query_drop("SELECT SLEEP(60)")).await
        });
        for outcome in join_all(abandoned).await {
            outcome?;
        }
        let start = Instant::now();
        drop(pool.get().await?);
        let took = start.elapsed();
        until_none_runs(watch).await?;
        pool.close().await;
        Ok(took)
    });
    let promise = "get() served with all 8 statements abandoned and a limit of 2";
    table.at_most_time(promise, took.await?, Duration::from_millis(800));
    Ok(())
}

async fn killing(opts: &Opts, size: usize) -> Result<Pool> {
    let config = settings(opts).size(size).overflow(0);
    warm(config.on_cancel(OnCancel::Kill)).await
}

/// Cancels it once it runs.
async fn abandon<T>(statement: impl Future<Output = T>) -> Result<()> {
    match tokio::time::timeout(Duration::from_millis(100), statement).await {
        Ok(_) => Err("the statement ended by itself".into()),
        Err(_) => Ok(()),
    }
}

async fn until_none_runs(watch: &mut Conn) -> Result<()> {
    until("no statement runs", async || {
        let running: Option<u64> = watch.query_first(RUNNING).await?;
        Ok(running == Some(0))
    })
    .await
}
