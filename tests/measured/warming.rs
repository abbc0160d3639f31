//! What warming costs, against bare connections.

use std::time::Instant;

use futures_util::future::try_join_all;
use mysql_warm_pool::mysql_async::{Conn, OptsBuilder};
use tokio::sync::Semaphore;

use crate::{
    alone,
    support::{Server, config, pool, side_by_side},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warming_costs_at_most_1_3_times_bare_openings_with_as_many_in_flight() {
    let _turn = alone().await;
    let server = Server::start().await;
    let bare = async || {
        let gate = Semaphore::new(8);
        let start = Instant::now();
        let open = (0..20).map(|_| async {
            let _place = gate.acquire().await.expect("never closed");
            let opts = OptsBuilder::from_opts(server.opts()).prefer_socket(false);
            tokio::spawn(Conn::new(opts)).await.expect("no panic")
        });
        let conns = try_join_all(open).await.expect("20 connections");
        let took = start.elapsed();
        for conn in conns {
            conn.disconnect().await.expect("a goodbye");
        }
        took
    };
    let warm = async || {
        let pool = pool(config(&server.url()).size(20).max_connecting(8));
        let start = Instant::now();
        pool.warm_up().await.expect("a warm pool");
        let took = start.elapsed();
        pool.close().await;
        took
    };
    let both = side_by_side(41, warm, bare).await;
    println!("warming 20 connections, against bare openings: {both:?}");
    assert!(both.ratio() <= 1.3, "{both:?}");
}
