//! The service and its database started together, the database late, under load from the first
//! moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use serde_json::json;
use test_support::{Proxy, Server, eventually};
use tokio::task::JoinSet;

use crate::driving::{ACCOUNTS, Client, Program};

/// 200 requests a second.
const APART: Duration = Duration::from_millis(5);
/// Less than the time for which the service holds a request.
const LATE: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn with_a_late_database_no_request_fails() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.refuse().await;
    let program = Program::start(&server.url_via(proxy.port()), &[("SHUTDOWN_DELAY", "0")]).await;
    let (sent, answered) = (Arc::default(), Arc::default());
    let load = load(
        program.client.clone(),
        Arc::clone(&sent),
        Arc::clone(&answered),
    );
    let load = tokio::spawn(load);
    tokio::time::sleep(LATE).await; // the lateness itself
    let early: usize = sent.load(Ordering::Relaxed);
    assert!(early > 0, "the load came first");
    assert_eq!(
        answered.load(Ordering::Relaxed),
        0,
        "nothing to answer with"
    );
    proxy.accept_again().await;
    program.client.until_ready().await;
    // The early requests, and as many again.
    eventually("requests are answered", async || {
        assert!(!load.is_finished(), "a request failed");
        answered.load(Ordering::Relaxed) > 2 * early
    })
    .await;
    load.abort();
    let failed = load.await.err().filter(|error| !error.is_cancelled());
    program.signal("TERM").await;
    let (status, log) = program.end().await;
    assert!(status.success() && failed.is_none(), "{failed:?}: {log}");
}

/// Sends requests at fixed times, whether or not earlier ones have been answered, until it is
/// aborted.
async fn load(client: Client, sent: Arc<AtomicUsize>, answered: Arc<AtomicUsize>) {
    let begin = Instant::now();
    let mut requests = JoinSet::new();
    for n in 0_u32.. {
        tokio::time::sleep_until((begin + APART * n).into()).await;
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        sent.fetch_add(1, Ordering::Relaxed);
        requests.spawn(async move {
            let status = if n % 10 == 0 {
                let new = json!({ "owner": format!("owner {n}"), "balance": n });
                client
                    .send(Method::POST, ACCOUNTS, Some(new.to_string()))
                    .await
            } else {
                let path = format!("{ACCOUNTS}?limit=10");
                client.send(Method::GET, &path, None).await
            };
            let status = status.map(|answer| (answer.status, answer.text()));
            let is_good = matches!(status, Ok((StatusCode::OK | StatusCode::CREATED, _)));
            assert!(is_good, "request {n}: {status:?}");
            answered.fetch_add(1, Ordering::Relaxed);
        });
        while let Some(done) = requests.try_join_next() {
            done.expect("no request fails");
        }
    }
}
