//! What warming up costs, compared with bare connections opened with as many attempts in flight.

use std::time::{Duration, Instant};

use harness::{
    Result,
    measure::{SideBySide, median_of},
    opening,
    table::{Table, Unit},
    via,
};
use mysql_warm_pool::{Pool, mysql_async::Opts};
use test_support::Proxy;

use crate::pools::settings;

const CONNECTIONS: usize = 20;
/// Latency of the link, each way.
const DELAY: Duration = Duration::from_millis(5);

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    let both = beside_bare(41, opts, 8).await?;
    let promise = "warming 20 connections, 8 in flight, to bare openings";
    table.at_most(promise, Unit::Times, both.ratio(), 1.3);

    let proxy = Proxy::start(opts.tcp_port()).await;
    proxy.delay(DELAY);
    let far = via(opts, proxy.port());
    for (in_flight, promise) in [
        (4, "over a link of 10 ms, 4 in flight, to bare openings"),
        (8, "over a link of 10 ms, 8 in flight, to bare openings"),
    ] {
        let both = beside_bare(15, &far, in_flight).await?;
        table.at_most(promise, Unit::Times, both.ratio(), 1.15);
    }
    // Once the first connection is open, the pool counts the server's connections for a warning; if
    // there are later openings, they hide that round trip.
    let both = beside_bare(15, &far, CONNECTIONS).await?;
    let promise = "the same, all 20 in flight, to bare openings and a round trip";
    table.at_most(promise, Unit::Times, both.ratio_to_more(2 * DELAY), 1.15);

    late(table, opts).await
}

async fn beside_bare(rounds: usize, opts: &Opts, in_flight: usize) -> Result<SideBySide> {
    SideBySide::run(
        rounds,
        async || opening::warm_up(opts, CONNECTIONS, in_flight).await,
        async || opening::bare(opts, CONNECTIONS, in_flight).await,
    )
    .await
}

/// A server that starts to listen only after the warm-up has begun.
async fn late(table: &mut Table, opts: &Opts) -> Result<()> {
    let took = median_of(5, async || {
        let proxy = Proxy::start(opts.tcp_port()).await;
        proxy.refuse().await;
        let pool = Pool::new(settings(&via(opts, proxy.port())).size(10))?;
        let warming = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.warm_up().await })
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.accept_again().await;
        let start = Instant::now();
        warming.await??;
        let took = start.elapsed();
        pool.close().await;
        Ok(took)
    })
    .await?;
    let promise = "warm after a server that is 2 s late listens";
    table.at_most_time(promise, took, Duration::from_millis(500));
    Ok(())
}
