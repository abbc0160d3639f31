//! Opening 20 connections, 8 at a time: by `warm_up()`, bare, and by deadpool.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use criterion_benches::{Bench, criterion, group};
use mysql_warm_pool::{Pool, PoolConfig, mysql_async::{Conn, Opts}};
use peers::{Name, Result, Work};
use tokio::{sync::Semaphore, task::JoinSet};

const CONNECTIONS: usize = 20;
const IN_FLIGHT: usize = 8;

fn warm_up(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = group(criterion, "opening 20 connections, 8 at a time");
    let mut measure = |name: &str, open: &dyn Fn() -> Result<Duration>| {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| open().expect("all open")).sum());
        });
    };
    measure("mysql-warm-pool, proved", &|| {
        bench.runtime.block_on(ours(&bench.opts))
    });
    measure("bare connections", &|| {
        bench.runtime.block_on(bare(&bench.opts))
    });
    measure("deadpool, no checks", &|| {
        bench.runtime.block_on(deadpool(&bench.opts))
    });
}

async fn ours(opts: &Opts) -> Result<Duration> {
    let config = PoolConfig::from_opts(opts.clone());
    let pool = Pool::new(config.size(CONNECTIONS).max_connecting(IN_FLIGHT))?;
    let begun = Instant::now();
    pool.warm_up().await?;
    let took = begun.elapsed();
    pool.close().await;
    Ok(took)
}

/// Each in a task of its own, as the pool does it: so they have all threads.
async fn bare(opts: &Opts) -> Result<Duration> {
    let begun = Instant::now();
    let gate = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut opening = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (gate, opts) = (Arc::clone(&gate), opts.clone());
        opening.spawn(async move {
            let _place = gate.acquire().await?;
            Result::Ok(Conn::new(opts).await?)
        });
    }
    let conns = opening.join_all().await;
    let took = begun.elapsed();
    for conn in conns {
        conn?.disconnect().await?;
    }
    Ok(took)
}

/// Has no warm-up: so many are got at once. All are opened at the same time.
async fn deadpool(opts: &Opts) -> Result<Duration> {
    let pool = Name::Deadpool.open(opts, CONNECTIONS).await?;
    let begun = Instant::now();
    let tasks = u32::try_from(CONNECTIONS)?;
    pool.times(Work::Hold, tasks, tasks).await?;
    Ok(begun.elapsed())
}

criterion_group!(name = benches; config = criterion(); targets = warm_up);
criterion_main!(benches);
