//! Pools on the server, and conditions to wait for.

use std::time::{Duration, Instant};

use harness::{Result, measure::median};
use mysql_warm_pool::{
    Pool, PoolConfig,
    mysql_async::{Opts, OptsBuilder},
};
use test_support::Proxy;

pub fn settings(opts: &Opts) -> PoolConfig {
    PoolConfig::from_opts(opts.clone())
}

pub async fn warm(config: PoolConfig) -> Result<Pool> {
    let pool = Pool::new(config)?;
    pool.warm_up().await?;
    Ok(pool)
}

/// The same server by way of that proxy.
pub fn via(opts: &Opts, proxy: &Proxy) -> Opts {
    OptsBuilder::from_opts(opts.clone())
        .ip_or_hostname("127.0.0.1")
        .tcp_port(proxy.port())
        .into()
}

/// Waits until it holds; fails after half a minute.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !holds().await? {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(format!("not so after {:?}: {what}", start.elapsed()).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// The median of so many tries.
pub async fn median_of(
    tries: usize,
    mut attempt: impl AsyncFnMut() -> Result<Duration>,
) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..tries {
        times.push(attempt().await?.as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(times)))
}
