//! Opening 20 connections, 8 at a time: by `warm_up()`, bare, and by deadpool.

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use criterion_benches::{Bench, criterion, group};
use harness::{Result, Work, opening, pools::DEADPOOL};
use mysql_warm_pool::mysql_async::Opts;

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
    let (runtime, opts) = (&bench.runtime, &bench.opts);
    measure("mysql-warm-pool, validated", &|| {
        runtime.block_on(opening::warm_up(opts, CONNECTIONS, IN_FLIGHT))
    });
    measure("bare connections", &|| {
        runtime.block_on(opening::bare(opts, CONNECTIONS, IN_FLIGHT))
    });
    measure("deadpool, no checks", &|| runtime.block_on(deadpool(opts)));
}

/// deadpool has no warm-up: it opens as many connections as there are concurrent gets, all at once.
async fn deadpool(opts: &Opts) -> Result<Duration> {
    let pool = DEADPOOL.open(opts, CONNECTIONS).await?;
    let start = Instant::now();
    let tasks = u32::try_from(CONNECTIONS)?;
    pool.times(Work::Hold, tasks, tasks).await?;
    Ok(start.elapsed())
}

criterion_group!(name = benches; config = criterion(); targets = warm_up);
criterion_main!(benches);
