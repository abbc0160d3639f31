//! Measures the first 200 requests of a service: on a cold pool, and after `warm_up()`.
//!
//! `scripts/with-database cargo run --example cold_vs_warm`
//!
//! Twenty callers start at the same moment, as when traffic is switched to a new instance. Each
//! then goes on, with a pause after every request. A request is a `get()`, a `SELECT` and the
//! return; its latency counts from the call of `get()`. All pools have the same settings. Cold and
//! warm take turns, five times each, after one rehearsal, so that neither pays for one-time costs
//! of the server or this program. Nothing is written: `DATABASE_URL` may name any server.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mysql_warm_pool::mysql_async;
use mysql_warm_pool::{Error, Pool, PoolConfig};
use tokio::{sync::Barrier, task::JoinSet, time::sleep};

const CALLERS: usize = 20;
const REQUESTS: usize = 200;
/// Requests after the first ones, which show the cost in the long run.
const LATER: usize = 400;
const TURNS: usize = 5;

/// In milliseconds; `None` if the request failed.
type Latency = Option<f64>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = PoolConfig::from_env()?.size(CALLERS).overflow(0);
    let (mut cold, mut warm, mut later) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cold_queries, mut warm_queries) = (None, None);
    let mut warm_up = Duration::ZERO;
    for turn in 0..=TURNS {
        let unprepared = Pool::new(config.clone())?;
        let first = serve(&unprepared, REQUESTS).await;
        let cold_times = unprepared.metrics();
        unprepared.close().await;

        let prepared = Pool::new(config.clone())?;
        let report = prepared.warm_up().await?;
        let mut all = serve(&prepared, REQUESTS + LATER).await;
        prepared.close().await;

        // The first turn is the rehearsal.
        if turn > 0 {
            cold_queries = Some(cold_times);
            warm_queries = Some(prepared.metrics());
            later.extend(all.split_off(REQUESTS));
            warm.push(all);
            cold.push(first);
            warm_up = warm_up.max(report.elapsed);
        }
    }

    let slow = 2.0 * percentile(&later, 50);
    println!("The first {REQUESTS} requests of {CALLERS} callers, {TURNS} times, latency in ms\n");
    println!("{:22}    p50     p95     max    slow  failed", "");
    for (name, requests) in [
        ("without warm_up()", &cold.concat()),
        ("with warm_up()", &warm.concat()),
        ("later requests", &later),
    ] {
        let [p50, p95, max] = [50, 95, 100].map(|percent| percentile(requests, percent));
        let is_slow = |ms: &&f64| **ms > slow;
        let slow = requests.iter().flatten().filter(is_slow).count() * 100 / requests.len();
        let failed = requests.iter().filter(|latency| latency.is_none()).count();
        println!("{name:22}{p50:7.2} {p95:7.2} {max:7.2} {slow:5} % {failed:7}");
    }
    println!("\nslow: above {slow:.2}, twice the median of the later requests");
    // What of it is the server's: the time of the statements is the same, cold or warm.
    println!("\nof that in the last turn: to get a connection, and the query itself");
    for (name, metrics) in [
        ("without warm_up()", cold_queries),
        ("with warm_up()", warm_queries),
    ] {
        if let Some(metrics) = metrics {
            println!("{name:22}get    {}", metrics.wait_time);
            println!("{:22}query  {}", "", metrics.query_time);
        }
    }
    println!("\nwarm_up() itself took at most {warm_up:.1?}, before the first request\n");
    chart(&cold, &warm);
    Ok(())
}

/// Returns the latencies of this many requests, in the order in which they were made.
async fn serve(pool: &Pool, requests: usize) -> Vec<Latency> {
    let start = Arc::new(Barrier::new(CALLERS));
    let mut callers = JoinSet::new();
    for caller in (0..).take(CALLERS) {
        let (pool, start) = (pool.clone(), Arc::clone(&start));
        callers.spawn(async move {
            let mut latencies = Vec::new();
            start.wait().await;
            for n in (0..).take(requests / CALLERS) {
                let asked = Instant::now();
                let answered = request(&pool).await.is_ok();
                let ms = asked.elapsed().as_secs_f64() * 1000.0;
                latencies.push((asked, answered.then_some(ms)));
                // A different pause for each, from 1 to 40 ms, so that callers do not stay in step.
                sleep(Duration::from_millis(1 + (caller * 7 + n * 13) % 40)).await;
            }
            latencies
        });
    }
    let mut latencies = callers.join_all().await.concat();
    latencies.sort_by_key(|(asked, _)| *asked);
    latencies.into_iter().map(|(_, latency)| latency).collect()
}

async fn request(pool: &Pool) -> mysql_async::Result<Option<u64>> {
    let mut conn = pool.get().await?;
    conn.query_first("SELECT 6 * 7").await
}

/// The latency that this many percent of the answered requests do not exceed.
fn percentile(run: &[Latency], percent: usize) -> f64 {
    let mut answered: Vec<f64> = run.iter().flatten().copied().collect();
    answered.sort_by(f64::total_cmp);
    let rank = (answered.len() * percent).div_ceil(100).saturating_sub(1);
    answered.get(rank).copied().unwrap_or(f64::NAN)
}

/// One line for every ten requests: their median over all turns, cold and warm on the same scale.
fn chart(cold: &[Vec<Latency>], warm: &[Vec<Latency>]) {
    let medians = |turns: &[Vec<Latency>]| -> Vec<f64> {
        let tens = (0..REQUESTS).step_by(10).map(|first| first..first + 10);
        tens.map(|ten| {
            let requests: Vec<_> = turns
                .iter()
                .flat_map(|turn| turn[ten.clone()].to_vec())
                .collect();
            percentile(&requests, 50)
        })
        .collect()
    };
    let (cold, warm) = (medians(cold), medians(warm));
    let most = cold.iter().chain(&warm).copied().fold(0.0, f64::max);
    let column = |ms: f64| format!("{} {ms:.2}", bar(ms / most));
    println!("requests  {:32}with warm_up()", "without warm_up()");
    for (n, (cold, warm)) in (0..).zip(cold.into_iter().zip(warm)) {
        let (first, last) = (n * 10 + 1, n * 10 + 10);
        println!("{first:>3}-{last:<3}   {:32}{}", column(cold), column(warm));
    }
    println!("\nbars: the median of ten requests in {TURNS} turns");
}

/// A bar as long as `share` of 24 characters, in eighths of a character.
fn bar(share: f64) -> String {
    let eighths = (0..24 * 8)
        .take_while(|n| f64::from(*n) + 0.5 < share * 192.0)
        .count();
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + rest
}
