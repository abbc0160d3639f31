//! A real HAProxy in front of a server. It accepts and closes at once while the server is down.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mysql_warm_pool::Pool;
use test_support::{HaProxy, Server, config, skip_for_lack_of, warm};

use super::router::eight_callers;

/// Ways to treat open connections when a server is found down.
const OPTIONS: [&str; 2] = ["", "on-marked-down shutdown-sessions"];

async fn start(server: &Server, options: &str) -> Option<HaProxy> {
    let proxy = HaProxy::start(server, options).await;
    if proxy.is_none() {
        skip_for_lack_of("HAProxy (apt-get install haproxy)");
    }
    proxy
}

#[tokio::test]
async fn a_server_that_starts_late_is_waited_for() {
    let server = Server::builder().prepare().await;
    let Some(proxy) = start(&server, "").await else {
        return;
    };
    let pool = Pool::new(config(&server.url_via(proxy.port())).size(4)).expect("valid");
    let callers = join_all((0..8).map(async |_| pool.get().await.map(drop)));
    let late = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        server.start_again().await;
    };
    let (report, gets, ()) = tokio::join!(pool.warm_up(), callers, late);
    assert!(report.expect("a warm-up").is_complete());
    for get in gets {
        get.expect("a connection");
    }
}

#[tokio::test]
async fn no_get_fails_while_the_server_behind_is_away() {
    let away = OPTIONS.map(async |options| {
        let server = Server::start().await;
        let Some(proxy) = start(&server, options).await else {
            return;
        };
        let settings = config(&server.url_via(proxy.port())).size(4).overflow(4);
        let pool = warm(settings).await;
        let until = Instant::now() + Duration::from_secs(5);
        let away = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            server.shutdown().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            server.start_again().await;
        };
        let callers = eight_callers(&pool, until, "SELECT SLEEP(0.01)");
        let ([gets, statements], ()) = tokio::join!(callers, away);
        assert!(gets.is_empty(), "{options}: {gets:?}");
        // One for each caller at work when the server went, and one for each connection that had
        // just been validated.
        assert!(statements.len() <= 16, "{options}: {statements:?}");
    });
    join_all(away).await;
}
