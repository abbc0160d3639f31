//! A program that has both of rustls's providers compiled in, `ring` and `aws-lc-rs`, and has
//! installed none: rustls cannot choose, and the driver panics at each login over TLS.

#![cfg(test)]

use std::time::{Duration, Instant};

use mysql_warm_pool::{
    Error, PoolConfig,
    mysql_async::{Opts, OptsBuilder, prelude::*},
};
use rustls::crypto::{CryptoProvider, ring};
use test_support::{PATIENCE, Server, eventually, pool, tls};

#[tokio::test]
async fn without_a_provider_one_attempt_says_what_to_do() {
    let mut builder = Server::builder().without_required_tls();
    for option in tls::options(tls::GOOD) {
        builder = builder.option(&option);
    }
    let server = builder.start().await;
    server.execute("ALTER USER app@'%' REQUIRE SSL").await;
    let opts = Opts::from_url(&server.url()).expect("a URL");
    let opts = OptsBuilder::from_opts(opts).ssl_opts(tls::trusting(tls::AUTHORITY));
    let settings = PoolConfig::from_opts(opts)
        .size(2)
        .overflow(0)
        .max_connecting(1)
        .timeout(PATIENCE)
        .warm_up_timeout(PATIENCE);
    let pool = pool(settings);

    assert!(CryptoProvider::get_default().is_none());
    let begun = Instant::now();
    let error = pool.warm_up().await.expect_err("no provider");
    let text = error.to_string();
    assert!(text.contains("CryptoProvider::install_default"), "{text}");
    assert!(!text.contains("ed25519"), "{text}");
    assert!(!error.is_transient(), "{text}");
    assert_eq!(pool.metrics().failed_attempts, 1, "{text}");

    let error = pool.get().await.expect_err("no provider");
    let text = error.to_string();
    assert!(matches!(error, Error::Connect { .. }), "{text}");
    assert!(text.contains("CryptoProvider::install_default"), "{text}");
    assert!(begun.elapsed() < PATIENCE / 2);
    // No slot is lost, and the server keeps no connection.
    eventually("the attempts have ended", async || {
        pool.status().connecting == 0 && server.threads_connected().await == 0
    })
    .await;
    assert_eq!(pool.status().open, 0);

    ring::default_provider()
        .install_default()
        .expect("none installed yet");
    pool.warm_up().await.expect("warm");
    let mut conn = pool
        .get_within(Duration::from_secs(10))
        .await
        .expect("a connection");
    let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
    assert_eq!(answer, Some(7));
    drop(conn);
    pool.close().await;
}
