//! What the pool tells by events: changes and faults, once, and no secret.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use mysql_warm_pool::{Readiness, mysql_async::prelude::Queryable};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::support::{Proxy, Server, config, eventually, warm};

const SOON: Duration = Duration::from_secs(5);

/// Collects events as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }

    fn count(&self, of: &str) -> usize {
        self.text().lines().filter(|line| line.contains(of)).count()
    }

    /// What runs in it, and what that spawns on a runtime of one thread, tells its events here.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_writer(self.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_full_life_is_told_without_a_secret_or_a_flood() {
    let lines = Lines::default();
    let _listening = lines.listen();
    let server = Server::start().await;
    let password = server.opts().pass().expect("a password").to_owned();
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port()))
        .size(5)
        .init(["SET @key = 'init-secret'"])
        .slow_get(None);
    let pool = warm(settings).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("SELECT 1").await.expect("an answer");
    drop(conn);

    proxy.refuse().await;
    proxy.cut().await;
    join_all((0..200).map(|_| async {
        while let Ok(mut conn) = pool.get_within(Duration::from_millis(500)).await {
            drop(conn.query_drop("DO 1").await);
        }
    }))
    .await;
    assert_eq!(pool.readiness(), Readiness::Unavailable);
    proxy.accept_again().await;
    pool.wait_ready().await.expect("ready");
    pool.close().await;

    let wrong = server.url().replace(&password, "wr0ng-s3cret");
    crate::support::pool(config(&wrong))
        .warm_up()
        .await
        .expect_err("1045");

    let text = lines.text();
    for secret in [password.as_str(), "init-secret", "wr0ng-s3cret"] {
        assert!(!text.contains(secret), "{text}");
    }
    for told in [
        "was=cold now=warming",
        "was=warming now=ready",
        "now=unavailable",
        "was=unavailable now=",
        "now=ready",
        "now=closed",
        "connections can be opened again",
        "pool closed",
    ] {
        assert!(text.contains(told), "{told:?} is not in {text}");
    }
    // Once for the outage, not for each caller; and once for the wrong password.
    assert_eq!(
        lines.count("WARN mysql_warm_pool::connector: connections cannot be opened"),
        2,
        "{text}"
    );
    let loud = text
        .lines()
        .filter(|line| line.contains(" INFO ") || line.contains(" WARN "))
        .count();
    assert!(loud < 20, "{loud} lines: {text}");
}

#[tokio::test]
async fn a_connection_held_for_long_is_told_once_with_the_line_that_got_it() {
    let lines = Lines::default();
    let _listening = lines.listen();
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(2)
        .leak_after(Duration::from_millis(50));
    let pool = warm(settings).await;
    drop(pool.get().await.expect("a connection"));
    let line = line!() + 1;
    let held = pool.get().await.expect("a connection");
    eventually(SOON, "it is told", async || {
        lines.count("connection held for long") == 1
    })
    .await;
    assert!(
        lines.text().contains(&format!("telling.rs:{line}:")),
        "{}",
        lines.text()
    );
    drop(held);
    assert_eq!(lines.count("held for long came back"), 1);
    assert_eq!(lines.count("held for long"), 2);
}

#[tokio::test]
async fn a_slow_get_is_told_with_the_pools_status() {
    let lines = Lines::default();
    let _listening = lines.listen();
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(1)
        .overflow(0)
        .slow_get(Duration::from_millis(20));
    let pool = warm(settings).await;
    let _held = pool.get().await.expect("a connection");
    drop(
        pool.get_within(Duration::from_millis(40))
            .await
            .expect_err("exhausted"),
    );
    assert_eq!(lines.count("slow get"), 1, "{}", lines.text());
    assert!(
        lines.text().contains("1 of 1 connections open (1 in use"),
        "{}",
        lines.text()
    );
}
