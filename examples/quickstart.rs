//! Warms up a pool, runs a transaction and a query, and closes the pool.
//!
//! `scripts/with-database cargo run --example quickstart`

use mysql_warm_pool::mysql_async::TxOpts;
use mysql_warm_pool::{Pool, PoolConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Reads DATABASE_URL, and settings such as DATABASE_POOL_SIZE if they are set.
    let pool = Pool::new(PoolConfig::from_env()?)?;
    println!("{}", pool.warm_up().await?);

    let mut conn = pool.get().await?;
    conn.query_drop("CREATE TEMPORARY TABLE item (id INT PRIMARY KEY, name VARCHAR(20))")
        .await?;
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    transaction
        .exec_drop("INSERT INTO item VALUES (?, ?)", (7, "pear"))
        .await?;
    transaction.commit().await?;
    let name: Option<String> = conn
        .exec_first("SELECT name FROM item WHERE id = ?", (7,))
        .await?;
    println!("item 7 is a {}", name.unwrap_or_default());
    drop(conn); // Back to the pool. The next caller will not see the temporary table.

    println!("{}: {}", pool.readiness(), pool.status());
    println!("{}", pool.close().await);
    Ok(())
}
