//! Opening many connections: by `warm_up()`, and bare with as many attempts in flight.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use mysql_warm_pool::mysql_async::{Conn, Opts, OptsBuilder};
use mysql_warm_pool::{Pool, PoolConfig};

use peers::{
    Name, Result,
    measure::{median, median_ratio},
};

use crate::Plan;

const CONNECTIONS: usize = 20;
const IN_FLIGHT: usize = 8;

pub async fn compare(plan: &Plan, opts: &Opts) -> Result<()> {
    let told = OptsBuilder::from_opts(opts.clone())
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(28_800));
    let told = Opts::from(told);
    if !plan.peers.contains(&Name::Ours) {
        return Ok(());
    }
    let mut ours = Vec::new();
    let mut bare = Vec::new();
    let mut barest = Vec::new();
    // The first is the rehearsal.
    for turn in 0..=plan.warm_ups {
        let times = [warm_up(opts).await?, open(opts).await?, open(&told).await?];
        if turn > 0 {
            for (all, time) in [&mut ours, &mut bare, &mut barest].into_iter().zip(times) {
                all.push(time.as_secs_f64() * 1e3);
            }
        }
    }

    println!("\nOpening {CONNECTIONS} connections, {IN_FLIGHT} in flight\n");
    println!("{:40}{:>9}{:>12}", "", "ms", "to bare");
    for (name, all) in [
        ("mysql-warm-pool, proved", &ours),
        ("bare, as they come (1 turn of settings)", &bare),
        ("bare, settings given (no such turn)", &barest),
    ] {
        println!(
            "{name:40}{:9.2}{:12.2}",
            median(all.iter().copied()),
            median_ratio(all, &bare)
        );
    }
    Ok(())
}

async fn warm_up(opts: &Opts) -> Result<Duration> {
    let config = PoolConfig::from_opts(opts.clone())
        .size(CONNECTIONS)
        .max_connecting(IN_FLIGHT);
    let pool = Pool::new(config)?;
    let begun = Instant::now();
    pool.warm_up().await?;
    let took = begun.elapsed();
    pool.close().await;
    Ok(took)
}

/// Each in a task of its own, as the pool does it: so they have all threads.
async fn open(opts: &Opts) -> Result<Duration> {
    let begun = Instant::now();
    let conns: Vec<Conn> = stream::iter(0..CONNECTIONS)
        .map(|_| {
            let opts = opts.clone();
            async { tokio::spawn(Conn::new(opts)).await }
        })
        .buffer_unordered(IN_FLIGHT)
        .map(|joined| joined?.map_err(peers::Error::from))
        .try_collect()
        .await?;
    let took = begun.elapsed();
    for conn in conns {
        conn.disconnect().await?;
    }
    Ok(took)
}
