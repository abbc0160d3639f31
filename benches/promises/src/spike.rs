//! A spike of callers on few open connections, while openings are slow.

use std::time::{Duration, Instant};

use harness::{
    Result,
    measure::{SideBySide, until},
    table::{Table, Unit},
    via,
};
use mysql_warm_pool::{Pool, mysql_async::Opts};
use test_support::Proxy;
use tokio::task::JoinSet;

use crate::pools::{settings, warm};

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    let proxy = Proxy::start(opts.tcp_port()).await;
    let pool = warm(settings(&via(opts, proxy.port())).size(5).overflow(0)).await?;
    proxy.delay_opening(Duration::from_millis(150));
    let spike = async |overflow| {
        pool.resize(5, overflow)?;
        let took = fifty_callers(&pool).await?;
        until("all openings have ended", async || {
            let status = pool.status();
            Ok(status.connecting == 0 && status.idle == status.open)
        })
        .await?;
        pool.resize(5, 0)?;
        until("five are open", async || Ok(pool.status().open == 5)).await?;
        Ok(took)
    };
    let both = SideBySide::run(7, async || spike(15).await, async || spike(0).await).await?;
    let best = both.best() * 1e3;
    // Ten rounds of 2 ms, plus an allowance for a busy machine.
    let promise = "50 callers, 2 ms each, on 5 connections while 15 open for 150 ms (best)";
    table.at_most(promise, Unit::Milliseconds, best, 45.0);
    // A caller that waits for an opening takes several times as long.
    let promise = "the same, to a pool that may open none";
    table.at_most(promise, Unit::Times, both.ratio(), 1.5);
    Ok(())
}

async fn fifty_callers(pool: &Pool) -> Result<Duration> {
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let pool = pool.clone();
        callers.spawn(async move {
            let mut conn = pool.get().await?;
            conn.query_drop("DO SLEEP(0.002)").await?;
            Result::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}
