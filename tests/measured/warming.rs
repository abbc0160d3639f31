//! What warming costs, against bare connections.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use mysql_warm_pool::mysql_async::{Conn, Opts, OptsBuilder};
use test_support::{Proxy, Server, config, pool, side_by_side};
use tokio::sync::Semaphore;

use crate::alone;

const CONNECTIONS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warming_costs_at_most_1_3_times_bare_openings_with_as_many_in_flight() {
    let _turn = alone().await;
    let server = Server::start().await;
    let both = side_by_side(41, || warm(server.url(), 8), || open_bare(server.opts(), 8)).await;
    println!("warming {CONNECTIONS} connections, against bare openings: {both:?}");
    assert!(both.ratio() <= 1.3, "{both:?}");
}

/// Latency of the link, each way.
const DELAY: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_link_of_10_ms_warming_costs_at_most_1_15_times_bare_openings() {
    let _turn = alone().await;
    for in_flight in [4, 8] {
        let ratio = over_a_link(in_flight, Duration::ZERO).await;
        assert!(ratio <= 1.15, "{in_flight} in flight: {ratio}");
    }
}

/// The server's connections are counted once the first is open, for a warning: a turn that is hidden by later openings,
/// if there are any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_openings_in_flight_at_once_warming_costs_one_turn_more() {
    let _turn = alone().await;
    let ratio = over_a_link(CONNECTIONS, 2 * DELAY).await;
    assert!(ratio <= 1.15, "{ratio}");
}

/// How many times as long warming takes as bare openings and that much more.
async fn over_a_link(in_flight: usize, more: Duration) -> f64 {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.delay(DELAY);
    let both = side_by_side(
        15,
        || warm(server.url_via(proxy.port()), in_flight),
        || open_bare(server.opts_via(proxy.port()), in_flight),
    )
    .await;
    println!(
        "warming {CONNECTIONS} connections, {in_flight} in flight, {DELAY:?} each way: {:.0?} against {:.0?} bare, ratio \
         {:.3}",
        both.ours,
        both.theirs,
        both.ratio(),
    );
    both.ratio_to_more(more)
}

async fn warm(url: String, max_connecting: usize) -> Duration {
    let pool = pool(
        config(&url)
            .size(CONNECTIONS)
            .max_connecting(max_connecting),
    );
    let start = Instant::now();
    pool.warm_up().await.expect("a warm pool");
    let took = start.elapsed();
    pool.close().await;
    took
}

/// Each in a task of its own, as the pool does it: so they have all threads.
async fn open_bare(opts: Opts, in_flight: usize) -> Duration {
    let opts = Opts::from(OptsBuilder::from_opts(opts).prefer_socket(false));
    let gate = Semaphore::new(in_flight);
    let start = Instant::now();
    let open = (0..CONNECTIONS).map(|_| async {
        let _place = gate.acquire().await.expect("never closed");
        tokio::spawn(Conn::new(opts.clone()))
            .await
            .expect("no panic")
    });
    let conns = try_join_all(open).await.expect("20 connections");
    let took = start.elapsed();
    for conn in conns {
        conn.disconnect().await.expect("a goodbye");
    }
    took
}
