//! Maintenance as callers notice it: connections that reach their maximum age, overflow that is
//! closed, dead connections that are replaced.

use std::{
    env, fs,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use harness::{
    Result,
    measure::{median, median_of, quantile, until},
    table::{Table, Unit},
    via,
};
use mysql_warm_pool::{Pool, mysql_async::Opts};
use test_support::Proxy;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    on_one_thread,
    pools::{settings, warm},
};

const ROUNDS: usize = 3;

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    maximum_age(table, opts, 10, 1.5).await?;
    maximum_age(table, opts, 0, 3.0).await?;
    overflow(table, opts).await?;
    dead_connections(table, opts).await?;
    on_one_thread(idleness(table, opts))
}

/// How long each load lasts; use `LOAD_SECONDS=30` for figures to quote.
fn lasting() -> Duration {
    let seconds = env::var("LOAD_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

/// A load on a pool that replaces its connections every 2 s, and on one that keeps them.
async fn maximum_age(table: &mut Table, opts: &Opts, overflow: usize, bound: f64) -> Result<()> {
    let proxy = Proxy::start(opts.tcp_port()).await;
    let config = settings(&via(opts, proxy.port()))
        .size(20)
        .overflow(overflow);
    let (mut ratios, mut waited) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let kept = warm(config.clone().recycle(None)).await?;
        let without = p999(&kept).await?;
        kept.close().await;
        let replaced = warm(config.clone().recycle(Duration::from_secs(2))).await?;
        let with = p999(&replaced).await?;
        waited += replaced.metrics().gets_waited_below_size;
        replaced.close().await;
        ratios.push(with / without);
    }
    let load = format!("maximum age of 2 s, overflow {overflow}");
    let promise = format!("{load}: p99.9 of a steady load, to none");
    table.at_most(&promise, Unit::Times, median(ratios), bound);
    let promise = format!("{load}: gets that waited for an opening");
    table.exactly(&promise, waited, 0);
    let peak = u64::try_from(proxy.peak().await)?;
    let limit = f64::from(u32::try_from(20 + overflow)?);
    let promise = format!("{load}: connections at once");
    table.at_most(&promise, Unit::Count, peak as f64, limit);
    Ok(())
}

/// The latencies of 500 gets and queries a second, in seconds.
async fn p999(pool: &Pool) -> Result<f64> {
    /// Calls in progress at once: half of the connections.
    const OUTSTANDING: usize = 10;
    let mut ticks = interval(Duration::from_millis(2));
    // After the machine stalls, no burst that needs all connections at once makes up for it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    let mut latencies = Vec::new();
    let start = Instant::now();
    while start.elapsed() < lasting() {
        ticks.tick().await;
        while let Some(call) = calls.try_join_next() {
            latencies.push(call??);
        }
        if calls.len() >= OUTSTANDING {
            continue;
        }
        let pool = pool.clone();
        calls.spawn(async move {
            let start = Instant::now();
            let mut conn = pool.get().await?;
            conn.query_drop("SELECT 7").await?;
            drop(conn);
            Result::Ok(start.elapsed())
        });
    }
    while let Some(call) = calls.join_next().await {
        latencies.push(call??);
    }
    latencies.sort_unstable();
    let p999 = quantile(&latencies, 0.999).ok_or("no call")?;
    Ok(p999.as_secs_f64())
}

/// From the start of a burst until the overflow is closed.
async fn overflow(table: &mut Table, opts: &Opts) -> Result<()> {
    for linger in [Duration::from_millis(500), Duration::ZERO] {
        let config = settings(opts).size(2).overflow(8).overflow_linger(linger);
        let took = median_of(5, async || {
            let pool = warm(config.clone()).await?;
            let start = Instant::now();
            let burst = join_all((0..10).map(|_| pool.get())).await;
            drop(burst);
            until("back at size", async || Ok(pool.status().open == 2)).await?;
            let took = start.elapsed();
            pool.close().await;
            Ok(took)
        });
        let promise = format!("overflow closed after a burst, linger {linger:?}");
        let bound = linger + Duration::from_secs(1);
        table.at_most_time(&promise, took.await?, bound);
    }
    Ok(())
}

/// With no caller active, maintenance finds one dead connection within one keepalive, and then
/// validates the others at once.
async fn dead_connections(table: &mut Table, opts: &Opts) -> Result<()> {
    let proxy = Proxy::start(opts.tcp_port()).await;
    let config = settings(&via(opts, proxy.port()))
        .size(10)
        .overflow(0)
        .keepalive(Duration::from_millis(300));
    let took = median_of(5, async || {
        let pool = warm(config.clone()).await?;
        let start = Instant::now();
        proxy.cut().await;
        until("ten new ones", async || {
            Ok(pool.metrics().opened >= 20 && pool.status().idle == 10)
        })
        .await?;
        let took = start.elapsed();
        pool.close().await;
        Ok(took)
    });
    let promise = "10 dead connections found and replaced, keepalive 300 ms";
    table.at_most_time(promise, took.await?, Duration::from_secs(1));
    Ok(())
}

async fn idleness(table: &mut Table, opts: &Opts) -> Result<()> {
    let pool = warm(settings(opts).size(20)).await?;
    let before = processor_time()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let used = processor_time()? - before;
    drop(pool);
    let promise = "processor time of an idle pool of 20 in 5 s";
    table.at_most_time(promise, used, Duration::from_millis(20));
    Ok(())
}

/// The CPU time of this thread.
fn processor_time() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}
