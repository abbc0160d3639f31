//! The pool with many waiting callers, with many idle connections, and while its status is polled.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    Result, Work,
    measure::{median, median_ratio},
    pools::OURS,
    table::{Table, Unit},
};
use mysql_warm_pool::{Pool, mysql_async::Opts};

use crate::{
    on_one_thread,
    pools::{settings, warm},
};

const ROUNDS: usize = 9;

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    on_one_thread(handovers(table, opts))?;
    asked_for_its_status(table, opts).await?;
    // Maintenance runs on another thread than the gets.
    meeting_maintenance(table, opts).await
}

/// The cost of a handover may grow with the logarithm of the number of waiting callers.
async fn handovers(table: &mut Table, opts: &Opts) -> Result<()> {
    const CALLERS: [u32; 3] = [100, 1_000, 10_000];
    let pool = OURS.open(opts, 1).await?;
    let mut costs = [const { Vec::new() }; CALLERS.len()];
    for _ in 0..ROUNDS {
        for (costs, callers) in costs.iter_mut().zip(CALLERS) {
            let times = callers.max(100_000);
            let start = Instant::now();
            pool.times(Work::Hold, callers, times).await?;
            costs.push(start.elapsed().as_secs_f64() / f64::from(times));
        }
    }
    for (at, callers) in CALLERS.into_iter().enumerate().skip(1) {
        table.at_most(
            &format!("handover with {callers} callers waiting, to one with 100"),
            Unit::Times,
            median_ratio(&costs[at], &costs[0]),
            f64::from(callers).ln() / 100_f64.ln(),
        );
    }
    Ok(())
}

async fn asked_for_its_status(table: &mut Table, opts: &Opts) -> Result<()> {
    let pool = warm(settings(opts).size(50).overflow(0)).await?;
    let ask = {
        let pool = pool.clone();
        move || {
            black_box(pool.status());
            black_box(pool.health());
        }
    };
    // The processor has the same work in both cases.
    let spin = || {
        black_box((0..100_u64).map(black_box).sum::<u64>());
    };
    let (mut asked, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        asked.push(Gets::beside(&pool, 10_000, ask.clone()).await?.p999());
        alone.push(Gets::beside(&pool, 10_000, spin).await?.p999());
    }
    table.at_most(
        "p99.9 of get and return while status() and health() are called all the time",
        Unit::Microseconds,
        median(asked),
        20_f64.max(median(alone) * 3.0),
    );
    Ok(())
}

/// Takes as many of the slowest gets as there were maintenance passes; the figure is their median.
async fn meeting_maintenance(table: &mut Table, opts: &Opts) -> Result<()> {
    const BETWEEN_PASSES: Duration = Duration::from_micros(100);
    let pool = warm(settings(opts).size(50).overflow(0)).await?;
    let pass = {
        let pool = pool.clone();
        move || {
            // Changes nothing, but wakes maintenance.
            pool.resize(50, 0).expect("a good size");
            thread::sleep(BETWEEN_PASSES);
        }
    };
    let mut met = Vec::new();
    for _ in 0..ROUNDS {
        met.push(Gets::beside(&pool, 500, pass.clone()).await?.that_met_it());
    }
    let promise = "get and return that meets a maintenance pass";
    table.at_most(promise, Unit::Microseconds, median(met), 100.0);
    Ok(())
}

/// Gets and returns, while another thread repeats some work.
struct Gets {
    /// Sorted.
    latencies: Vec<Duration>,
    /// How often the other thread did its work meanwhile.
    times: usize,
}

impl Gets {
    /// Runs until the other thread has done its work at least `least` times.
    async fn beside(pool: &Pool, least: u64, work: impl Fn() + Send + 'static) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let times = Arc::new(AtomicU64::new(0));
        let beside = thread::spawn({
            let (is_over, times) = (Arc::clone(&is_over), Arc::clone(&times));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    work();
                    times.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut latencies = Vec::new();
        // With few processors, the other thread may have to wait for its turn.
        while latencies.len() < 100_000 || times.load(Ordering::Relaxed) < least {
            let start = Instant::now();
            drop(pool.get().await?);
            latencies.push(start.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
        beside.join().expect("no panic");
        latencies.sort_unstable();
        let times = usize::try_from(times.load(Ordering::Relaxed))?;
        Ok(Self { latencies, times })
    }

    /// In microseconds.
    fn p999(&self) -> f64 {
        self.latencies[self.latencies.len() * 999 / 1000].as_secs_f64() * 1e6
    }

    /// In microseconds: the median of the slowest gets, as many as may have met the work.
    fn that_met_it(&self) -> f64 {
        self.latencies[self.latencies.len() - 1 - self.times / 2].as_secs_f64() * 1e6
    }
}
