//! Statements on a pool that exports each of them to Prometheus's recorder, beside bare connections.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use harness::{
    Result,
    measure::SideBySide,
    table::{Table, Unit},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use mysql_warm_pool::{
    Pool, PoolConfig,
    metrics::Histogram,
    mysql_async::{Conn, Opts, prelude::Queryable},
};
use tokio::task::JoinSet;

const TASKS: usize = 8;
const STATEMENTS: u64 = 2_000;
const ROUNDS: usize = 11;
const LOOKUP: &str = "SELECT ?";

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&Histogram::BOUNDS)?
        .build_recorder();
    let handle = recorder.handle();
    let settings = PoolConfig::from_opts(opts.clone()).size(TASKS).overflow(0);
    let pool = Pool::with_recorder(settings, Arc::new(recorder))?;
    pool.warm_up().await?;
    let mut bare = Vec::new();
    for _ in 0..TASKS {
        bare.push(Some(Conn::new(opts.clone()).await?));
    }
    let sides = SideBySide::run(
        ROUNDS,
        async || {
            let took = on_the_pool(&pool).await;
            // As when Prometheus has asked for them.
            handle.run_upkeep();
            took
        },
        async || on_bare_connections(&mut bare).await,
    )
    .await?;
    table.at_most(
        "8 tasks on 8 connections, each statement exported, to bare connections",
        Unit::Times,
        sides.ratio(),
        1.0 / 0.95,
    );
    pool.close().await;
    Ok(())
}

async fn on_the_pool(pool: &Pool) -> Result<Duration> {
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for _ in 0..TASKS {
        let pool = pool.clone();
        tasks.spawn(async move {
            for n in 0..STATEMENTS {
                let mut conn = pool.get().await?;
                let _: Option<u64> = conn.exec_first(LOOKUP, (n,)).await?;
            }
            Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}

async fn on_bare_connections(bare: &mut [Option<Conn>]) -> Result<Duration> {
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for (at, conn) in bare.iter_mut().enumerate() {
        let mut conn = conn.take().ok_or("it is in use")?;
        tasks.spawn(async move {
            for n in 0..STATEMENTS {
                let _: Option<u64> = conn.exec_first(LOOKUP, (n,)).await?;
            }
            Result::Ok((at, conn))
        });
    }
    let mut back = Vec::new();
    while let Some(done) = tasks.join_next().await {
        back.push(done??);
    }
    let took = start.elapsed();
    for (at, conn) in back {
        bare[at] = Some(conn);
    }
    Ok(took)
}
