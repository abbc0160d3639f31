//! `get()` ends at its deadline whatever the server does, and says what it waited for.

use std::time::Duration;

use mysql_warm_pool::{Error, Pool, TimeoutCause};
use test_support::{Proxy, Server, best_of_three, config, eventually, pool, timed, warm};
use tokio::net::TcpListener;

use crate::alone;

const SOON: Duration = Duration::from_millis(200);

/// What a machine may add.
const MORE: Duration = Duration::from_millis(50);

/// Each on a pool of its own, that it is told in time.
async fn in_time(attempt: impl AsyncFnMut() -> Duration) {
    let took = best_of_three(SOON + MORE, attempt).await;
    assert!(took <= SOON + MORE, "{took:?}");
}

/// Asks for a connection that cannot be had within 200 ms, and checks how that is told; with the time it took.
async fn times_out(pool: &Pool, cause: TimeoutCause) -> (String, Duration) {
    let (outcome, took) = timed(pool.get_within(SOON)).await;
    let error = outcome.expect_err("nothing to be had");
    assert!(took >= SOON, "{took:?}");
    let text = error.to_string();
    let Error::Timeout {
        cause: found,
        status,
        waited,
        ..
    } = error
    else {
        panic!("no time-out: {error}")
    };
    assert_eq!(found, cause, "{text}");
    assert!(text.contains(&status.to_string()), "{text}");
    assert!(waited >= SOON);
    (text, took)
}

#[tokio::test]
async fn exhausted_is_told_in_time() {
    let _turn = alone().await;
    let server = Server::start().await;
    in_time(async || {
        let pool = warm(config(&server.url()).size(1).overflow(1)).await;
        let first = pool.get().await.expect("a connection");
        let second = pool.get().await.expect("one of the overflow");
        let (text, took) = times_out(&pool, TimeoutCause::Exhausted).await;
        assert!(text.contains("2 of 2 connections open (2 in use"), "{text}");
        assert!(pool.try_get().is_none());
        drop((first, second));
        assert_eq!(pool.metrics().timeouts, 1);
        took
    })
    .await;
}

#[tokio::test]
async fn a_refusing_server_is_told_in_time() {
    let _turn = alone().await;
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.refuse().await;
    in_time(async || {
        let pool = pool(config(&server.url_via(proxy.port())));
        let (text, took) = times_out(&pool, TimeoutCause::Unavailable).await;
        assert!(
            text.contains("refused") && text.contains("start the server"),
            "{text}"
        );
        took
    })
    .await;
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_told_in_time() {
    let _turn = alone().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    in_time(async || {
        let pool = pool(config(&format!("mysql://app:x@127.0.0.1:{port}/test")));
        times_out(&pool, TimeoutCause::Connecting).await.1
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_stalls_half_way_is_told_in_time() {
    let _turn = alone().await;
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.stall_after(20);
    in_time(async || {
        let pool = pool(config(&server.url_via(proxy.port())));
        times_out(&pool, TimeoutCause::Connecting).await.1
    })
    .await;
}

#[tokio::test]
async fn a_frozen_server_with_idle_connections_to_be_proved_is_told_in_time() {
    let _turn = alone().await;
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(5)
        .overflow(0)
        .prove_after_idle(Duration::ZERO);
    in_time(async || {
        let pool = warm(settings.clone()).await;
        let frozen = server.freeze().await;
        let (_, took) = times_out(&pool, TimeoutCause::Proving).await;
        frozen.thaw();
        eventually(Duration::from_secs(5), "it serves again", async || {
            pool.get().await.is_ok()
        })
        .await;
        // Frozen is not dead: nothing was thrown away.
        assert_eq!(pool.metrics().opened, 5);
        took
    })
    .await;
}
