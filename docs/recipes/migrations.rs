//! Migrations with `refinery`, before the pool is warmed up.
//!
//! In a checkout, `scripts/with-database cargo run --manifest-path examples/recipes/Cargo.toml
//! --bin migrations`
//!
//! refinery 0.10 takes `mysql_async` up to 0.37, so both use one driver. It needs a pool of the
//! driver, so it gets one with a single connection, which is closed after the migrations. They must
//! run before `warm_up()` if statements in `prepare` or `init` need the new schema. The driver's
//! pool has only the driver's options: the password must be in the URL or the environment, not in
//! `password_file` or `credentials`.

use std::error::Error;

use mysql_warm_pool::mysql_async::{self, OptsBuilder, PoolConstraints, PoolOpts};
use mysql_warm_pool::{Pool, PoolConfig};

mod embedded {
    // Compiled in, from files such as V1__create_items.sql.
    refinery::embed_migrations!("migrations");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = PoolConfig::from_env()?;
    migrate(&config).await?;

    let pool = Pool::new(config.prepare(["SELECT name FROM item WHERE id = ?"]))?;
    println!("{}", pool.warm_up().await?);
    let items: Option<u64> = pool.query_first("SELECT COUNT(*) FROM item").await?;
    println!("there are {} items", items.unwrap_or_default());
    println!("{}", pool.close().await);
    Ok(())
}

async fn migrate(config: &PoolConfig) -> Result<(), Box<dyn Error>> {
    // Waits for the server, as every `warm_up()` does.
    let gate = Pool::new(config.clone().size(1).overflow(0).ready_at(None))?;
    gate.warm_up().await?;
    // One replica at a time: the others wait here, and then find nothing left to do. The server
    // releases the lock when the connection ends, even if this process dies.
    let mut lock = gate.get().await?;
    let taken: Option<Option<u8>> = lock
        .exec_first("SELECT GET_LOCK(CONCAT(DATABASE(), '.migrations'), 60)", ())
        .await?;
    if taken != Some(Some(1)) {
        return Err("another replica has been migrating for 60 s".into());
    }
    let outcome = run(config).await;
    drop(lock);
    gate.close().await;
    outcome
}

async fn run(config: &PoolConfig) -> Result<(), Box<dyn Error>> {
    let one = PoolConstraints::new(1, 1).ok_or("not a range")?;
    let opts = PoolOpts::new().with_constraints(one);
    let opts = OptsBuilder::from_opts(config.opts().clone()).pool_opts(opts);
    let mut own = mysql_async::Pool::new(opts);
    let report = embedded::migrations::runner().run_async(&mut own).await;
    own.disconnect().await?;
    for migration in report?.applied_migrations() {
        println!("applied {migration}");
    }
    Ok(())
}
