//! Pools on the server.

use harness::Result;
use mysql_warm_pool::{Pool, PoolConfig, mysql_async::Opts};

pub fn settings(opts: &Opts) -> PoolConfig {
    PoolConfig::from_opts(opts.clone())
}

pub async fn warm(config: PoolConfig) -> Result<Pool> {
    let pool = Pool::new(config)?;
    pool.warm_up().await?;
    Ok(pool)
}
