//! Ten thousand probes: all are answered, and none reaches the database.

use std::time::Duration;

use axum::{Router, body::Body, http::Request};
use hyper::StatusCode;
use test_support::{Server, eventually};
use tower::ServiceExt;

use crate::driving::{HEALTH, READINESS, Running, settings};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_readiness_probes_send_the_database_nothing() {
    let server = Server::start().await;
    let mut settings = settings(&server.url());
    // No validation of idle connections is due meanwhile.
    settings.pool = settings.pool.keepalive(None);
    let running = Running::ready(settings).await;
    // Background work right after the start is over once only the reading itself is counted.
    let mut before = server.status_value("Questions").await;
    eventually("it is quiet", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let questions = server.status_value("Questions").await;
        let is_quiet = questions == before + 1;
        before = questions;
        is_quiet
    })
    .await;
    let opened = server.status_value("Connections").await;
    let before = server.status_value("Questions").await;
    for n in 0..10_000 {
        let path = if n % 2 == 0 { READINESS } else { HEALTH };
        assert_eq!(probe(&running.router, path).await, StatusCode::OK);
    }
    // One of them is the reading itself.
    assert_eq!(server.status_value("Questions").await, before + 1);
    assert_eq!(server.status_value("Connections").await, opened);
    running.stop().await;
}

/// Calls the router as the task of a connection does.
async fn probe(router: &Router, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let Ok(response) = router.clone().oneshot(request).await;
    response.status()
}
