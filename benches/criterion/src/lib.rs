//! Runs the harness's peers under criterion.
//!
//! Each bench is a group that compares the pool with bare connections, deadpool alone (no checks)
//! and the driver's own pool, as far as they can do the work. `DATABASE_URL` names the server;
//! `scripts/bench` runs them.

use std::{
    env,
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use harness::{Peer, Result, Work, item};
use mysql_warm_pool::mysql_async::{Conn, Opts};
use tokio::runtime::Runtime;

/// A runtime and a server with the lookup table, which is dropped with it.
pub struct Bench {
    pub runtime: Runtime,
    pub opts: Opts,
}

impl Bench {
    /// # Panics
    ///
    /// If no server answers.
    pub fn new() -> Self {
        let begin = || -> Result<Self> {
            let bench = Self {
                runtime: tokio::runtime::Builder::new_multi_thread()
                    .enable_all()
                    .build()?,
                opts: harness::database()?,
            };
            bench.runtime.block_on(async {
                let mut conn = Conn::new(bench.opts.clone()).await?;
                item::create(&mut conn).await?;
                conn.disconnect().await?;
                Result::Ok(())
            })?;
            Ok(bench)
        };
        begin().expect("a server")
    }

    /// Measures one kind of work by `tasks` tasks on `connections` connections, for each peer.
    ///
    /// # Panics
    ///
    /// If a peer fails.
    pub fn work(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        peers: &[Peer],
        work: Work,
        (tasks, connections): (u32, usize),
    ) {
        for peer in peers {
            let open = self
                .runtime
                .block_on(peer.open(&self.opts, connections))
                .expect("open connections");
            group.throughput(Throughput::Elements(u64::from(tasks)));
            group.bench_function(peer.title, |bencher| {
                bencher.iter_custom(|times| {
                    self.runtime.block_on(async {
                        let times = u32::try_from(times).expect("fewer than 2^32 iterations");
                        let start = Instant::now();
                        open.times(work, tasks, times * tasks)
                            .await
                            .expect("done work");
                        start.elapsed()
                    })
                });
            });
            // The pools close their connections on the runtime.
            self.runtime.block_on(async { drop(open) });
        }
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let dropped: Result<()> = self.runtime.block_on(async {
            let mut conn = Conn::new(self.opts.clone()).await?;
            item::drop_table(&mut conn).await?;
            conn.disconnect().await?;
            Ok(())
        });
        if let Err(error) = dropped {
            eprintln!("the table was not dropped: {error}");
        }
    }
}

/// Short, unless `BENCH_LONG` is set.
pub fn criterion() -> Criterion {
    let times = if env::var_os("BENCH_LONG").is_some() {
        6
    } else {
        1
    };
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500) * times)
        .configure_from_args()
}

/// A group whose samples all have the same length, as rounds on a server take milliseconds.
pub fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}
