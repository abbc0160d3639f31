//! What callers notice while connections reach their maximum age: nothing.

use std::time::{Duration, Instant};

use mysql_warm_pool::{Pool, PoolConfig, mysql_async::prelude::Queryable};
use test_support::{Proxy, Server, config, warm};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::alone;

/// How long each load lasts. By hand: `LOAD_SECONDS=30 cargo test --test measured maximum_age -- --nocapture`.
fn lasting() -> Duration {
    let seconds = std::env::var("LOAD_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

/// Calls that are under way at once at most: half of the connections.
const OUTSTANDING: usize = 10;

/// Latencies of a steady load of 500 get+query a second, in order.
async fn steady_load(pool: &Pool) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_millis(2));
    // After a stall of the machine no burst that would need all connections at once makes up for it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < lasting() {
        ticks.tick().await;
        while let Some(latency) = calls.try_join_next() {
            latencies.push(latency.expect("no panic"));
        }
        if calls.len() >= OUTSTANDING {
            continue;
        }
        let pool = pool.clone();
        calls.spawn(async move {
            let start = Instant::now();
            let mut conn = pool.get().await.expect("a connection");
            let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
            assert_eq!(answer, Some(7));
            drop(conn);
            start.elapsed()
        });
    }
    latencies.extend(calls.join_all().await);
    latencies.sort_unstable();
    assert!(
        latencies.len() >= usize::try_from(lasting().as_secs()).expect("few") * 250,
        "a load of {} calls",
        latencies.len()
    );
    latencies
}

fn per_mille(sorted: &[Duration], share: usize) -> Duration {
    sorted[(sorted.len() - 1) * share / 1000]
}

/// The load on a pool that replaces its connections every 2 s, and on one that keeps them.
async fn replaced_and_kept(server: &Server, overflow: usize) {
    let settings = |url: &str| -> PoolConfig { config(url).size(20).overflow(overflow) };
    let proxy = Proxy::start(server.port()).await;
    let url = server.url_via(proxy.port());
    let kept = warm(settings(&url).recycle(None)).await;
    let kept_latencies = steady_load(&kept).await;
    kept.close().await;
    let replaced = warm(settings(&url).recycle(Duration::from_secs(2))).await;
    let latencies = steady_load(&replaced).await;

    let metrics = replaced.metrics();
    let retired = metrics
        .discarded
        .iter()
        .find(|(why, _)| *why == "retired")
        .map_or(0, |d| d.1);
    println!(
        "overflow {overflow}: p50 {:?} and {:?}, p99.9 {:?} and {:?} with and without; {retired} retired, {} of {} gets \
         waited, {} for an opening; {} connections at once",
        per_mille(&latencies, 500),
        per_mille(&kept_latencies, 500),
        per_mille(&latencies, 999),
        per_mille(&kept_latencies, 999),
        metrics.gets_waited,
        metrics.gets,
        metrics.gets_waited_below_size,
        proxy.peak().await,
    );
    // Of 3,000 calls the p99.9 is the third slowest, which says little; of 15,000 it says something.
    if lasting() >= Duration::from_secs(30) {
        let most = if overflow > 0 { 3 } else { 6 };
        let (with, without) = (per_mille(&latencies, 999), per_mille(&kept_latencies, 999));
        assert!(
            with * 2 <= without * most,
            "p99.9 {with:?} against {without:?}"
        );
    }
    assert_eq!(
        metrics.gets_waited_below_size, 0,
        "gets that waited for an opening"
    );
    // Each lives at most 2 s.
    let rounds = lasting().as_secs() / 2 - 1;
    assert!(retired >= 20 * rounds, "{retired} replaced");
    assert!(proxy.peak().await <= 20 + overflow);
    assert!(replaced.status().open >= 19, "{}", replaced.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_maximum_age_replacements_come_first_and_no_get_waits_for_an_opening() {
    let _turn = alone().await;
    let server = Server::start().await;
    replaced_and_kept(&server, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_maximum_age_without_room_for_replacements_one_is_replaced_at_a_time() {
    let _turn = alone().await;
    let server = Server::start().await;
    replaced_and_kept(&server, 0).await;
}
