//! Probes, ten thousand a second of them: nobody else notices, the database least of all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body, http::Request};
use hyper::StatusCode;
use test_support::{Server, attempted};
use tower::ServiceExt;

use crate::{
    alone,
    driving::{ACCOUNTS, Client, READINESS, Running, settings},
    quantile,
};

/// Many and short, so that whatever else the machine does for seconds meets requests without probes and with them alike.
const ROUNDS: usize = 21;
const ROUND: Duration = Duration::from_millis(500);
const SETS: usize = 3;
const PROBES_PER_SECOND: u64 = 10_000;
/// Over HTTP each takes client and server together some 50 µs of two cores that callers and database share: more
/// than this would measure the want of cores.
const HTTP_PROBES_PER_SECOND: u64 = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_readiness_probes_a_second_change_nothing_for_callers() {
    let _alone = alone().await;
    let server = Server::shared().await;
    let running = Running::ready(settings(&server.url())).await;
    let account = running.client.account("Ada", 1).await;
    let path = format!("{ACCOUNTS}/{account}");

    let mut sets = Vec::new();
    loop {
        let set = with_and_without_probes(&running, &path).await;
        sets.push(set);
        if set.0 <= 1.15 && set.1 <= 1.5 {
            break;
        }
        assert!(sets.len() < SETS, "in no set: {sets:.2?}");
    }

    // The same over HTTP, fewer.
    attempted("so many probes a second over HTTP", async || {
        let probing = Probing::start(Way::Http(running.client.clone()), HTTP_PROBES_PER_SECOND);
        let with = callers(&running.client, &path).await;
        let rate = probing.end().await;
        println!("with {rate:.0} probes/s over HTTP {with:.0?}");
        (rate >= 0.8 * per_second(HTTP_PROBES_PER_SECOND)).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_readiness_probes_send_the_database_nothing() {
    let _alone = alone().await;
    let server = Server::start().await;
    let mut settings = settings(&server.url());
    // No proof of idle connections is due meanwhile.
    settings.pool = settings.pool.keepalive(None);
    let running = Running::ready(settings).await;
    // Whatever is done in the background right after the start is over when two looks are alike.
    let mut before = server.status_value("Questions").await;
    test_support::eventually("it is quiet", async || {
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
        let path = if n % 2 == 0 {
            READINESS
        } else {
            "/api/v1/common/health"
        };
        assert_eq!(probe(&running.router, path).await, StatusCode::OK);
    }
    // One is the question itself.
    assert_eq!(server.status_value("Questions").await, before + 1);
    assert_eq!(server.status_value("Connections").await, opened);
    running.stop().await;
}

/// How many times as long requests take while there are probes, by their median and their p95: the medians of all rounds.
async fn with_and_without_probes(running: &Running, path: &str) -> (f64, f64) {
    let (mut medians, mut p95s) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (without, with) = attempted("so many probes a second", async || {
            let without = callers(&running.client, path).await;
            let probing = Probing::start(Way::Router(running.router.clone()), PROBES_PER_SECOND);
            let with = callers(&running.client, path).await;
            let rate = probing.end().await;
            println!("round {round}: without {without:.0?}, with {rate:.0} probes/s {with:.0?}");
            (rate >= 0.9 * per_second(PROBES_PER_SECOND)).then_some((without, with))
        })
        .await;
        medians.push(with.0.as_secs_f64() / without.0.as_secs_f64());
        p95s.push(with.1.as_secs_f64() / without.1.as_secs_f64());
    }
    medians.sort_by(f64::total_cmp);
    p95s.sort_by(f64::total_cmp);
    let (median, p95) = (medians[ROUNDS / 2], p95s[ROUNDS / 2]);
    println!("median {median:.2} times, p95 {p95:.2} times");
    (median, p95)
}

async fn probe(router: &Router, path: &str) -> StatusCode {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let Ok(response) = router.clone().oneshot(request).await;
    response.status()
}

/// Two hundred callers' requests a second; the median and the p95 of their times; of a hundred, the p99
/// would be the slowest, which says more of the machine than of the service.
async fn callers(client: &Client, path: &str) -> (Duration, Duration) {
    let begin = Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for n in 0_u32.. {
        let due = begin + Duration::from_millis(5) * n;
        if due >= begin + ROUND {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let (client, path) = (client.clone(), path.to_owned());
        requests.spawn(async move {
            let sent = Instant::now();
            assert_eq!(client.get(&path).await.status, StatusCode::OK);
            sent.elapsed()
        });
    }
    let mut times = requests.join_all().await;
    (quantile(&mut times, 0.5), quantile(&mut times, 0.95))
}

/// A task that probes at a steady rate.
struct Probing {
    began: Instant,
    count: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

/// How a probe comes to the service.
enum Way {
    /// The router is called, as a connection's task does with a request it has read.
    Router(Router),
    Http(Client),
}

impl Way {
    async fn probe(&self) -> StatusCode {
        match self {
            Self::Router(router) => probe(router, READINESS).await,
            Self::Http(client) => client.get(READINESS).await.status,
        }
    }
}

impl Probing {
    fn start(way: Way, per_second: u64) -> Self {
        let (count, ends) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let began = Instant::now();
        let task = {
            let (count, ends) = (Arc::clone(&count), Arc::clone(&ends));
            tokio::spawn(async move {
                // So many at once each millisecond, as a timer is no finer.
                let mut ticks = tokio::time::interval(Duration::from_millis(1));
                while !ends.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    for _ in 0..per_second / 1000 {
                        assert_eq!(way.probe().await, StatusCode::OK);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        Self {
            began,
            count,
            ends,
            task,
        }
    }

    /// Ends it; returns how many there were in a second.
    async fn end(self) -> f64 {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.expect("no probe fails");
        per_second(self.count.load(Ordering::Relaxed)) / self.began.elapsed().as_secs_f64()
    }
}

fn per_second(count: u64) -> f64 {
    f64::from(u32::try_from(count).expect("not that many"))
}
