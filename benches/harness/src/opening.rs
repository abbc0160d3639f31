//! Opening many connections, timed: by `warm_up()`, and bare with as many attempts in flight.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use mysql_warm_pool::{
    Pool, PoolConfig,
    mysql_async::{Conn, Opts},
};

use crate::{Error, Result};

pub async fn warm_up(opts: &Opts, connections: usize, in_flight: usize) -> Result<Duration> {
    let config = PoolConfig::from_opts(opts.clone());
    let pool = Pool::new(config.size(connections).max_connecting(in_flight))?;
    let start = Instant::now();
    pool.warm_up().await?;
    let took = start.elapsed();
    pool.close().await;
    Ok(took)
}

/// Each in a task of its own, as the pool does it: so all threads take part.
pub async fn bare(opts: &Opts, connections: usize, in_flight: usize) -> Result<Duration> {
    let start = Instant::now();
    let conns: Vec<Conn> = stream::iter(0..connections)
        .map(|_| {
            let opts = opts.clone();
            async { tokio::spawn(Conn::new(opts)).await }
        })
        .buffer_unordered(in_flight)
        .map(|joined| joined?.map_err(Error::from))
        .try_collect()
        .await?;
    let took = start.elapsed();
    for conn in conns {
        conn.disconnect().await?;
    }
    Ok(took)
}
