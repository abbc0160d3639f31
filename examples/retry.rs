//! Tries again what may be tried again, with the crate `backon`, while its connection is killed under it.
//!
//! `scripts/with-database cargo run --example retry`
//!
//! In place of three tries two seconds apart, whatever went wrong: pauses that grow, at random, so that many callers do
//! not come back together; only after errors that may pass; and only where the work may be done twice.

use std::{cell::Cell, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use mysql_warm_pool::mysql_async::{self, prelude::*};
use mysql_warm_pool::{Pool, PoolConfig, is_transient};

/// Five tries at most. The pauses between them begin at 50 ms and double, each with as much again at random.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(4)
        .with_jitter()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The time-out is for each try: it must leave time for the next.
    let config = PoolConfig::from_env()?
        .size(4)
        .timeout(Duration::from_secs(2));
    let pool = Pool::new(config)?;
    println!("{}", pool.warm_up().await?);

    // A read may be done twice. Each try gets a connection of its own: the last one is lost, most likely.
    let tries = Cell::new(0);
    let read = async || {
        tries.set(tries.get() + 1);
        let mut conn = pool.get().await?;
        if tries.get() == 1 {
            println!("try 1: connection {} is killed", conn.id());
            let kill = format!("KILL {}", conn.id());
            pool.get().await?.query_drop(kill).await?;
        }
        conn.query_first("SELECT 6 * 7").await
    };
    let answer: mysql_async::Result<Option<u32>> = read
        .retry(pauses())
        .when(is_transient)
        .notify(|error, pause| println!("try {}: {error}; next in {pause:.0?}", tries.get()))
        .await;
    println!("try {}: {:?}", tries.get(), answer?);

    // What will be wrong again is not tried again.
    let tries = Cell::new(0);
    let wrong = async || {
        tries.set(tries.get() + 1);
        pool.get().await?.query_drop("SELEKT 1").await
    };
    let outcome: mysql_async::Result<()> = wrong.retry(pauses()).when(is_transient).await;
    if let Err(error) = outcome {
        println!("{} try: {error}", tries.get());
    }

    // A write that must not be done twice is not tried again: a connection lost in the middle of it, or at COMMIT,
    // leaves open whether it was done. To get the connection for it may be.
    let get = async || pool.get().await;
    let mut conn = get
        .retry(pauses())
        .when(mysql_warm_pool::Error::is_transient)
        .await?;
    conn.query_drop("CREATE TEMPORARY TABLE payment (id INT PRIMARY KEY)")
        .await?;
    conn.query_drop("INSERT INTO payment VALUES (7)").await?;
    println!("written once");
    drop(conn);
    pool.close().await;
    Ok(())
}
