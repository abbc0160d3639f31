//! What the pool costs with many callers waiting, with many connections idle, and while somebody asks how it is.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Pool,
    mysql_async::{Conn, OptsBuilder},
};
use peak_alloc::PeakAlloc;
use test_support::{Server, config, eventually, warm};
use tokio::task::{JoinSet, yield_now};

use crate::alone;

/// Counts the bytes that are allocated now.
#[global_allocator]
pub(crate) static ALLOCATED: PeakAlloc = PeakAlloc;

const SOON: Duration = Duration::from_secs(10);

/// All on one thread: nothing but the handovers, and what is theirs in the scheduler.
#[tokio::test]
async fn handing_over_grows_no_faster_than_the_logarithm_of_the_waiting_callers() {
    const CALLERS: [u32; 4] = [1, 100, 1_000, 10_000];
    let _turn = alone().await;
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut rounds = Vec::new();
    for _ in 0..9 {
        let mut costs = [0.0; CALLERS.len()];
        for (cost, callers) in costs.iter_mut().zip(CALLERS) {
            *cost = handing_over(&pool, callers).await.as_secs_f64() * 1e6;
        }
        rounds.push(costs);
    }
    let costs: [f64; 4] = std::array::from_fn(|at| median(rounds.iter().map(|round| round[at])));
    println!("µs for each get and return, of {CALLERS:?} callers on one connection: {costs:.2?}");
    let [_, of_100, of_1_000, of_10_000] = costs;
    let logarithm = |callers: f64| callers.ln() / 100_f64.ln();
    assert!(of_1_000 <= of_100 * logarithm(1_000.0), "{costs:?}");
    assert!(of_10_000 <= of_100 * logarithm(10_000.0), "{costs:?}");
}

/// The time for each get and return, with all of the callers but one waiting.
async fn handing_over(pool: &Pool, callers: u32) -> Duration {
    let turns = (100_000 / callers).max(10);
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for _ in 0..callers {
        let pool = pool.clone();
        tasks.spawn(async move {
            for _ in 0..turns {
                let conn = pool.get().await.expect("a connection");
                // The others have their turn, find nothing idle, and wait.
                yield_now().await;
                drop(conn);
            }
        });
    }
    tasks.join_all().await;
    start.elapsed() / (callers * turns)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_takes_at_most_a_tenth_more_memory_than_a_bare_one() {
    /// Bytes that a pool takes once, for its keeper, counters and histograms.
    const OF_A_POOL: f64 = 6_000.0;

    let _turn = alone().await;
    let server = Server::builder().max_connections(1_100).start().await;
    // What is allocated once, by anybody.
    warm(config(&server.url()).size(2)).await.close().await;
    for count in [1, 20, 500] {
        let bare = bytes_for_each(count, async || {
            let opts = OptsBuilder::from_opts(server.opts()).prefer_socket(false);
            let mut conns = Vec::with_capacity(count);
            for _ in 0..count {
                conns.push(Conn::new(opts.clone()).await.expect("a connection"));
            }
            conns
        })
        .await;
        let ours = bytes_for_each(count, async || {
            let settings = config(&server.url()).size(count).overflow(0);
            let pool = warm(settings).await;
            eventually(SOON, "all are idle", async || pool.status().idle == count).await;
            pool
        })
        .await;
        let ratio = ours / bare;
        println!("{count} connections: {ours:.0} bytes for each, bare {bare:.0}, ratio {ratio:.3}");
        // Of a single one, the pool itself is a part that shows.
        let pool = if count == 1 { OF_A_POOL } else { 0.0 };
        assert!(
            ours <= bare * 1.1 + pool,
            "{count}: {ours} bytes, bare {bare}"
        );
    }
}

/// Bytes that stay allocated for what is made, by the connections in it: the median of three tries, as the runtime of
/// another test may begin or end in the middle of one.
async fn bytes_for_each<T>(connections: usize, make: impl AsyncFn() -> T) -> f64 {
    let mut tries = Vec::new();
    for _ in 0..3 {
        let before = at_rest().await;
        let made = make().await;
        tries.push(at_rest().await - before);
        drop(made);
    }
    median(tries) / f64::from(u32::try_from(connections).expect("not so many"))
}

/// The bytes allocated once nothing is allocated or freed any more: what was dropped is closed in the background, and
/// the runtime of the test before this one ends after its turn.
async fn at_rest() -> f64 {
    const REST: Duration = Duration::from_millis(100);

    let (mut allocated, mut since) = (ALLOCATED.current_usage(), Instant::now());
    eventually(SOON, "nothing is allocated or freed", async || {
        let now = ALLOCATED.current_usage();
        if now != allocated {
            (allocated, since) = (now, Instant::now());
        }
        since.elapsed() >= REST
    })
    .await;
    f64::from(u32::try_from(allocated).expect("less than 4 GiB"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn asking_how_the_pool_is_does_not_stall_callers() {
    let _turn = alone().await;
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(50).overflow(0)).await;
    let ask = {
        let pool = pool.clone();
        move || {
            black_box(pool.status());
            black_box(pool.health());
        }
    };
    // The processor has as much to do either way.
    let spin = || {
        black_box((0..100_u64).map(black_box).sum::<u64>());
    };
    let (mut asked, mut left_alone) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        asked.push(Gets::beside(&pool, 10_000, ask.clone()).await.p999());
        left_alone.push(Gets::beside(&pool, 10_000, spin).await.p999());
    }
    let (asked, left_alone) = (median(asked), median(left_alone));
    println!(
        "p99.9 of get and return: {asked:.2} µs while asked all the time, else {left_alone:.2} µs"
    );
    assert!(
        asked <= 20.0_f64.max(left_alone * 3.0),
        "{asked} µs, else {left_alone} µs"
    );
}

/// What a pass costs a `get()` that meets it: of as many of the slowest as there were passes, half took longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_keepers_pass_does_not_stall_callers() {
    const BETWEEN_PASSES: Duration = Duration::from_micros(100);

    let _turn = alone().await;
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(50).overflow(0)).await;
    let pass = {
        let pool = pool.clone();
        move || {
            // Changes nothing, and wakes the keeper.
            pool.resize(50, 0).expect("a good size");
            thread::sleep(BETWEEN_PASSES);
        }
    };
    let rest = || thread::sleep(BETWEEN_PASSES);
    let (mut passed, mut left_alone) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        passed.push(Gets::beside(&pool, 500, pass.clone()).await.of_who_met_it());
        left_alone.push(Gets::beside(&pool, 500, rest).await.of_who_met_it());
    }
    let (passed, left_alone) = (median(passed), median(left_alone));
    println!(
        "a get and return that meets the keeper's pass: {passed:.2} µs, else {left_alone:.2} µs"
    );
    // Or else too few met a pass to tell.
    assert!(passed > left_alone, "{passed} µs, else {left_alone} µs");
    assert!(passed <= 100.0, "{passed} µs, else {left_alone} µs");
}

/// Gets and returns, with a thread beside them that does something over and over.
struct Gets {
    /// In order.
    latencies: Vec<Duration>,
    /// How often it was done meanwhile.
    times: usize,
}

impl Gets {
    /// Until it was done so many times at least.
    async fn beside(pool: &Pool, least: u64, beside: impl Fn() + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let times = Arc::new(AtomicU64::new(0));
        let beside = thread::spawn({
            let (is_over, times) = (Arc::clone(&is_over), Arc::clone(&times));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    beside();
                    times.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let mut latencies = Vec::new();
        // Where processors are few, the other may have to wait for its turn.
        while latencies.len() < 100_000 || times.load(Ordering::Relaxed) < least {
            let start = Instant::now();
            drop(pool.get().await.expect("a connection"));
            latencies.push(start.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
        beside.join().expect("no panic");
        latencies.sort_unstable();
        let times = usize::try_from(times.load(Ordering::Relaxed)).expect("few");
        Self { latencies, times }
    }

    /// In microseconds.
    fn p999(&self) -> f64 {
        self.latencies[self.latencies.len() * 999 / 1000].as_secs_f64() * 1e6
    }

    /// In microseconds: the median of the slowest, as many as may have met what was done.
    fn of_who_met_it(&self) -> f64 {
        self.latencies[self.latencies.len() - 1 - self.times / 2].as_secs_f64() * 1e6
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
