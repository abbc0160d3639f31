//! How soon a transaction left open releases its locks.

use std::time::{Duration, Instant};

use harness::{Result, measure::median_of, table::Table};
use mysql_warm_pool::mysql_async::{Conn, Opts, TxOpts, prelude::Queryable};

use crate::pools::{settings, warm};

const TABLE: &str = "mysql_warm_pool_promises";

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    let pool = warm(settings(opts).size(2).overflow(0)).await?;
    let mut other = Conn::new(opts.clone()).await?;
    other
        .query_drop(format!("DROP TABLE IF EXISTS {TABLE}"))
        .await?;
    other
        .query_drop(format!(
            "CREATE TABLE {TABLE} (id INT PRIMARY KEY, amount INT)"
        ))
        .await?;
    other
        .query_drop(format!("INSERT INTO {TABLE} VALUES (1, 100)"))
        .await?;
    let update = format!("UPDATE {TABLE} SET amount = amount + 1");
    for (promise, by_statement) in [
        (
            "locks free after the return of a transaction dropped open",
            false,
        ),
        (
            "locks free after the return of a transaction begun by statement",
            true,
        ),
    ] {
        let took = median_of(15, async || {
            let mut conn = pool.get().await?;
            if by_statement {
                conn.query_drop("START TRANSACTION").await?;
                conn.query_drop(&update).await?;
            } else {
                let mut transaction = conn.start_transaction(TxOpts::default()).await?;
                transaction.query_drop(&update).await?;
            }
            let start = Instant::now();
            drop(conn);
            other.query_drop(&update).await?;
            Ok(start.elapsed())
        });
        table.at_most_time(promise, took.await?, Duration::from_millis(100));
    }
    pool.close().await;
    other.query_drop(format!("DROP TABLE {TABLE}")).await?;
    Ok(())
}
