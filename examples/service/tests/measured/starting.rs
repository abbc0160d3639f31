//! The service and its database started together, the database late, under load from the first moment.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use serde_json::json;
use test_support::{Proxy, Server};
use tokio::task::JoinSet;

use crate::{
    alone,
    driving::{ACCOUNTS, Client, Program, READINESS},
    quantile,
};

/// 200 requests a second.
const APART: Duration = Duration::from_millis(5);
const LATE: Duration = Duration::from_secs(3);
const FIRST: Duration = Duration::from_secs(1);
const STEADY: Duration = Duration::from_secs(3);
/// The slowest of two hundred requests is as much a matter of what else happens on two cores, which server, service and
/// load share, as of the service: so the median of the starts is held to the promise, and no single one; and where the
/// machine stalls for moments, that of one set of three.
const STARTS: usize = 5;
const SETS: usize = 3;

#[derive(Debug)]
struct Start {
    early: usize,
    /// From the moment the server listens.
    warm: Duration,
    first_answer: Duration,
    slowest_early: Duration,
    slowest_at_first: Duration,
    steady_p99: Duration,
    /// Of each of the later seconds.
    slowest_later: Vec<Duration>,
}

impl Start {
    fn ratio(&self) -> f64 {
        self.slowest_at_first.as_secs_f64() / self.steady_p99.as_secs_f64()
    }
}

struct Request {
    sent: Instant,
    answered: Instant,
}

impl Request {
    fn took(&self) -> Duration {
        self.answered - self.sent
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_database_3_s_late_no_request_fails_and_the_first_second_is_like_the_others() {
    let _alone = alone().await;
    let mut sets = Vec::new();
    for _ in 0..SETS {
        let set = some_starts().await;
        if set.0 <= Duration::from_millis(300) && set.1 <= 2.0 {
            return;
        }
        sets.push(set);
    }
    panic!("not as promised in any set: {sets:?}");
}

/// The medians of some starts: how soon the first answer came, and how many times the steady p99 the slowest request of
/// the first second took.
async fn some_starts() -> (Duration, f64) {
    let (mut first_answers, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let start = start_together().await;
        println!(
            "{:.2} times: ready {:.0?} after the server listens, first answer {:.1?} after the first accept; slowest of {} early ones {:.0?}, of the first \
             second {:.1?}, of each later second {:.1?}; p99 of those {:.1?}",
            start.ratio(),
            start.warm,
            start.first_answer,
            start.early,
            start.slowest_early,
            start.slowest_at_first,
            start.slowest_later,
            start.steady_p99
        );
        assert!(start.early > 500, "{start:?}: the load came first");
        first_answers.push(start.first_answer);
        ratios.push(start.ratio());
    }
    first_answers.sort_unstable();
    ratios.sort_by(f64::total_cmp);
    let medians = (first_answers[STARTS / 2], ratios[STARTS / 2]);
    println!("medians of {STARTS} starts: {medians:.2?}");
    medians
}

/// One start; every request that failed ends the test.
async fn start_together() -> Start {
    // It is there, and nobody can tell before the time: how long it takes to start is not what is measured.
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.refuse().await;
    let program = Program::start(&server.url_via(proxy.port()), &[("SHUTDOWN_DELAY", "0")]).await;
    let begin = Instant::now();

    let answered = Arc::new(Mutex::new(Vec::new()));
    let load = tokio::spawn(load(program.client.clone(), begin, Arc::clone(&answered)));
    let ready = tokio::spawn(first_readiness(Client::to(program.client.address)));
    tokio::time::sleep_until((begin + LATE).into()).await; // the lateness itself
    proxy.accept_again().await;
    let listened = Instant::now();
    let ready = tokio::time::timeout(Duration::from_secs(20), ready).await;
    let ready = ready.expect("ready soon").expect("readiness");
    tokio::time::sleep_until((ready + FIRST + STEADY).into()).await; // the load itself
    load.abort();
    let failed = load.await.err().filter(|error| !error.is_cancelled());
    program.signal("TERM").await;
    let (status, log) = program.end().await;
    assert!(status.success() && failed.is_none(), "{failed:?}: {log}");

    let requests = std::mem::take(&mut *answered.lock().expect("no panic"));
    let accepted = proxy.first_accept().expect("a connection");
    let between = |from: Instant, to: Instant| -> Vec<Duration> {
        let sent = requests
            .iter()
            .filter(|request| (from..to).contains(&request.sent));
        sent.map(Request::took).collect()
    };
    let slowest = |times: Vec<Duration>| times.into_iter().max().expect("requests");
    let steady = ready + FIRST;
    Start {
        early: between(begin, ready).len(),
        warm: ready - listened,
        first_answer: requests
            .iter()
            .map(|request| request.answered)
            .min()
            .expect("an answer")
            .saturating_duration_since(accepted),
        slowest_early: slowest(between(begin, ready)),
        slowest_at_first: slowest(between(ready, steady)),
        steady_p99: quantile(&mut between(steady, steady + STEADY), 0.99),
        slowest_later: (0..3)
            .map(|n| {
                let from = steady + Duration::from_secs(n);
                slowest(between(from, from + Duration::from_secs(1)))
            })
            .collect(),
    }
}

/// Sends requests at their times, whether or not earlier ones have been answered, until it is aborted.
async fn load(client: Client, begin: Instant, answered: Arc<Mutex<Vec<Request>>>) {
    let mut requests = JoinSet::new();
    for n in 0_u32.. {
        let due = begin + APART * n;
        tokio::time::sleep_until(due.into()).await;
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        requests.spawn(async move {
            let sent = Instant::now();
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
            let request = Request {
                sent,
                answered: Instant::now(),
            };
            answered.lock().expect("no panic").push(request);
        });
        while let Some(done) = requests.try_join_next() {
            done.expect("no request fails");
        }
    }
}

/// Probes until it is told to send requests; returns when that was.
async fn first_readiness(client: Client) -> Instant {
    loop {
        if client.get(READINESS).await.status == StatusCode::OK {
            return Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
