//! Warms a pool up, runs queries on it, shows its status, closes it.
//!
//! `scripts/with-database cargo run --example quickstart`

use std::time::Duration;

use mysql_warm_pool::mysql_async::{TxOpts, prelude::*};
use mysql_warm_pool::{Pool, PoolConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // DATABASE_URL, and DATABASE_POOL_SIZE and the like if they are set.
    let config = PoolConfig::from_env()?.timeout(Duration::from_secs(5));
    let pool = Pool::new(config)?;

    println!("{}", pool.warm_up().await?);
    println!("readiness: {}", pool.readiness());

    let mut conn = pool.get().await?;
    conn.query_drop("CREATE TEMPORARY TABLE item (id INT PRIMARY KEY, name VARCHAR(20))")
        .await?;
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    transaction
        .exec_batch(
            "INSERT INTO item VALUES (?, ?)",
            [(1, "apple"), (7, "pear"), (9, "plum")],
        )
        .await?;
    transaction.commit().await?;
    let name: Option<String> = conn
        .exec_first("SELECT name FROM item WHERE id = ?", (7,))
        .await?;
    println!("item 7 is a {}", name.unwrap_or_default());
    drop(conn); // Returned, and as good as new for the next: the temporary table is gone.

    println!("{}", pool.status());
    println!("{}", pool.close().await);
    Ok(())
}
