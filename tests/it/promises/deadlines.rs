//! A `get()` ends at its deadline whatever the server does, and its error names the cause.

use std::time::Duration;

use mysql_warm_pool::{Error, Pool, error::TimeoutCause};
use test_support::{
    HANGING, PATIENCE, Proxy, Server, config, eventually, free_port, pool, timed, warm,
};
use tokio::net::TcpListener;

const DEADLINE: Duration = Duration::from_millis(200);

/// Requests a connection that cannot be obtained before the deadline. Returns the error's text if
/// it names this cause.
async fn times_out(pool: &Pool, cause: TimeoutCause) -> String {
    let (outcome, took) = timed(pool.get_within(DEADLINE)).await;
    let error = outcome.expect_err("nothing to be had");
    // Usually a millisecond late; `connect_timeout` and `timeout` are 10 s and 60 s.
    assert!((DEADLINE..10 * DEADLINE).contains(&took), "{took:?}");
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
    // On a busy machine the deadline may pass so late that the opening already counts as hanging.
    let hung = cause == TimeoutCause::Connecting && waited >= HANGING;
    assert!(
        found == cause || hung && found == TimeoutCause::Unavailable,
        "{text}"
    );
    assert!(text.contains(&status.to_string()), "{text}");
    assert!(waited >= DEADLINE);
    text
}

#[tokio::test]
async fn exhausted_is_reported_at_the_deadline() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(1)).await;
    let first = pool.get().await.expect("a connection");
    let second = pool.get().await.expect("one of the overflow");
    let text = times_out(&pool, TimeoutCause::Exhausted).await;
    assert!(text.contains("2 of 2 connections open (2 in use"), "{text}");
    assert!(pool.try_get().is_none());
    drop((first, second));
    assert_eq!(pool.metrics().timeouts, 1);
}

#[tokio::test]
async fn a_get_that_is_not_polled_is_named_as_the_cause() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let held = pool.get().await.expect("a connection");
    let mut first = Box::pin(pool.get());
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(held);
    let text = times_out(&pool, TimeoutCause::Exhausted).await;
    assert!(
        text.contains("1 kept by a `get()` that is not polled"),
        "{text}"
    );
    // If polled again it is served; if dropped it gives way.
    drop(first.await.expect("its turn has come"));
    let held = pool.get().await.expect("a connection");
    let mut first = Box::pin(pool.get());
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(held);
    drop(first);
    drop(pool.get().await.expect("a connection"));
}

#[tokio::test]
async fn a_refusing_server_is_reported_at_the_deadline() {
    let pool = pool(config(&format!(
        "mysql://app:x@127.0.0.1:{}/test",
        free_port()
    )));
    let text = times_out(&pool, TimeoutCause::Unavailable).await;
    assert!(
        text.contains("refused") && text.contains("start the server"),
        "{text}"
    );
}

#[tokio::test]
async fn a_silent_server_is_reported_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let pool = pool(config(&format!("mysql://app:x@127.0.0.1:{port}/test")));
    times_out(&pool, TimeoutCause::Connecting).await;
}

#[tokio::test]
async fn a_stalled_handshake_is_reported_at_the_deadline() {
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.stall_after(20);
    let pool = pool(config(&server.url_via(proxy.port())));
    times_out(&pool, TimeoutCause::Connecting).await;
}

#[tokio::test]
async fn a_frozen_server_is_reported_at_the_deadline() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(5)
        .overflow(0)
        .validate_after_idle(Duration::ZERO);
    let pool = warm(settings).await;
    let frozen = server.freeze().await;
    times_out(&pool, TimeoutCause::Validating).await;
    frozen.thaw();
    pool.get_within(PATIENCE).await.expect("it serves again");
    eventually("all are idle", async || pool.status().idle == 5).await;
    // Frozen is not dead: no connection was discarded.
    assert_eq!(pool.metrics().opened, 5);
}
