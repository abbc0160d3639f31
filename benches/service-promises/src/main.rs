//! The promises of the example service: probes that callers do not notice, and a start before its
//! database.
//!
//! `scripts/with-database scripts/bench promises service`

mod queries;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use accounts_service::{Config, Service};
use axum::{Router, body::Body};
use harness::{
    Result,
    measure::{median, median_ratio, quantile, turns, until},
    table::{Table, Unit},
    via,
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use mysql_warm_pool::{PoolConfig, mysql_async::Opts};
use serde_json::{Value, json};
use test_support::Proxy;
use tokio::{net::TcpListener, sync::oneshot, task::JoinSet};
use tower::ServiceExt;

const READINESS: &str = "/api/v1/common/health/readiness";
const ACCOUNTS: &str = "/api/v1/accounts";
/// 200 requests a second.
const APART: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() -> Result<()> {
    let opts = harness::database()?;
    let mut table = Table::begin();
    table.group("service");
    probing(&mut table, &opts).await?;
    starting(&mut table, &opts).await?;
    table.group("statements");
    queries::measure(&mut table, &opts).await
}

/// The service on its own threads, as in the real program.
struct Running {
    client: Client,
    router: Router,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Running {
    /// Returns when the service listens, long before it is ready.
    async fn start(pool: PoolConfig) -> Result<Self> {
        let mut config = Config::new(pool);
        config.shutdown_delay = Duration::ZERO;
        let service = Service::new(config)?;
        let router = service.router();
        let (stop, stopped) = oneshot::channel::<()>();
        let (listening, address) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                listening.send(listener.local_addr()?).ok();
                let stopped = async { stopped.await.unwrap_or_default() };
                service.run(listener, stopped).await?;
                Ok(())
            })
        });
        let client = Client::to(address.await?);
        Ok(Self {
            client,
            router,
            stop,
            thread,
        })
    }

    async fn stop(self) -> Result<()> {
        self.stop.send(()).ok();
        let ending = tokio::task::spawn_blocking(|| self.thread.join());
        ending.await?.expect("no panic")
    }
}

/// Sends HTTP requests on persistent connections.
#[derive(Clone)]
struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

impl Client {
    fn to(address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = HttpClient::builder(TokioExecutor::new()).build(connector);
        Self { http, address }
    }

    /// With a body, the request is a POST.
    async fn send(&self, path: &str, body: Option<Value>) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri(format!("http://{}{path}", self.address))
            .header("content-type", "application/json");
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let response = self.http.request(request.body(Full::from(body))?).await?;
        let (head, body) = response.into_parts();
        Ok((head.status, body.collect().await?.to_bytes()))
    }

    async fn is_ready(&self) -> Result<bool> {
        Ok(self.send(READINESS, None).await?.0 == StatusCode::OK)
    }
}

/// Ten thousand readiness probes a second, beside callers.
async fn probing(table: &mut Table, opts: &Opts) -> Result<()> {
    const ROUNDS: usize = 21;
    let running = Running::start(PoolConfig::from_opts(opts.clone()).size(5).overflow(5)).await?;
    let client = &running.client;
    until("it is ready", async || client.is_ready().await).await?;
    let new = json!({"owner": "Ada", "balance": 1});
    let (_, account) = client.send(ACCOUNTS, Some(new)).await?;
    let account: Value = serde_json::from_slice(&account)?;
    let path = format!("{ACCOUNTS}/{}", account["id"]);

    callers(client, &path).await?;
    let (mut medians, mut p95s) = ([vec![], vec![]], [vec![], vec![]]);
    let mut rates = Vec::new();
    for side in turns(ROUNDS, 2) {
        let probing = (side == 0).then(|| Probing::start(running.router.clone()));
        let (half, most) = callers(client, &path).await?;
        if let Some(probing) = probing {
            rates.push(probing.end().await?);
        }
        medians[side].push(half.as_secs_f64());
        p95s[side].push(most.as_secs_f64());
    }
    running.stop().await?;
    let [with, without] = &medians;
    let rate = median(rates);
    let promise = format!("requests while {rate:.0} probes a second come, to none: median");
    table.at_most(&promise, Unit::Times, median_ratio(with, without), 1.15);
    let [with, without] = &p95s;
    let promise = "the same: p95";
    table.at_most(promise, Unit::Times, median_ratio(with, without), 1.5);
    Ok(())
}

/// Half a second of requests; returns the median and the p95 of their times.
async fn callers(client: &Client, path: &str) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    let mut requests = JoinSet::new();
    for n in 0..100 {
        tokio::time::sleep_until((start + APART * n).into()).await;
        let (client, path) = (client.clone(), path.to_owned());
        requests.spawn(async move {
            let sent = Instant::now();
            let (status, _) = client.send(&path, None).await?;
            if status != StatusCode::OK {
                return Err(format!("{path}: {status}").into());
            }
            Result::Ok(sent.elapsed())
        });
    }
    let mut times = Vec::new();
    while let Some(time) = requests.join_next().await {
        times.push(time??);
    }
    times.sort_unstable();
    let share = |of| quantile(&times, of).ok_or("no request");
    Ok((share(0.5)?, share(0.95)?))
}

/// A task that calls the router as a connection's task would with a parsed request: over HTTP,
/// client and server would take all of two cores.
struct Probing {
    start: Instant,
    count: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Probing {
    fn start(router: Router) -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let ends = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (count, ends) = (Arc::clone(&count), Arc::clone(&ends));
            async move {
                // Ten at once each millisecond, since a timer is no finer.
                let mut ticks = tokio::time::interval(Duration::from_millis(1));
                while !ends.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    for _ in 0..10 {
                        let request = Request::get(READINESS).body(Body::empty())?;
                        let Ok(response) = router.clone().oneshot(request).await;
                        if response.status() != StatusCode::OK {
                            return Err("not ready".into());
                        }
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            }
        });
        Self {
            start: Instant::now(),
            count,
            ends,
            task,
        }
    }

    /// Returns how many there were per second.
    async fn end(self) -> Result<f64> {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.count.load(Ordering::Relaxed) as f64 / self.start.elapsed().as_secs_f64())
    }
}

/// The service under load from its first moment, its database 3 s late.
async fn starting(table: &mut Table, opts: &Opts) -> Result<()> {
    let (mut first_answers, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let (first_answer, ratio) = start(opts).await?;
        first_answers.push(first_answer.as_secs_f64() * 1e3);
        ratios.push(ratio);
    }
    let first_answer = median(first_answers);
    let promise = "service started 3 s before its database: first answer after it listens";
    table.at_most(promise, Unit::Milliseconds, first_answer, 300.0);
    let promise = "the same: slowest request of the first second, to the p99 of the next three";
    table.at_most(promise, Unit::Times, median(ratios), 2.0);
    Ok(())
}

/// When a request was sent and answered.
type Times = (Instant, Instant);

/// How long after the database listens the first answer came, and the ratio of the slowest request
/// of the first second to the steady p99. Fails if a request fails.
async fn start(opts: &Opts) -> Result<(Duration, f64)> {
    const LATE: Duration = Duration::from_secs(3);
    const FIRST: Duration = Duration::from_secs(1);
    const STEADY: Duration = Duration::from_secs(3);
    let proxy = Proxy::start(opts.tcp_port()).await;
    proxy.refuse().await;
    let running = Running::start(PoolConfig::from_opts(via(opts, proxy.port()))).await?;
    let begin = Instant::now();
    let answered = Arc::<Mutex<Vec<Times>>>::default();
    let load = tokio::spawn(load(running.client.clone(), begin, Arc::clone(&answered)));
    tokio::time::sleep_until((begin + LATE).into()).await;
    proxy.accept_again().await;
    let listens = Instant::now();
    until("it is ready", async || running.client.is_ready().await).await?;
    let ready = Instant::now();
    tokio::time::sleep_until((ready + FIRST + STEADY).into()).await;
    if load.is_finished() {
        load.await??;
        return Err("the load ended".into());
    }
    load.abort();
    running.stop().await?;

    let requests = std::mem::take(&mut *answered.lock().expect("no panic"));
    let first_answer = requests.iter().map(|(_, answered)| *answered).min();
    let first_answer = first_answer.ok_or("no answer")?;
    let between = |from: Instant, to: Instant| {
        let sent = requests
            .iter()
            .filter(|(sent, _)| (from..to).contains(sent));
        let mut times: Vec<Duration> = sent.map(|(sent, answered)| *answered - *sent).collect();
        times.sort_unstable();
        times
    };
    let steady = ready + FIRST;
    let slowest = between(ready, steady).pop().ok_or("no request")?;
    let p99 = quantile(&between(steady, steady + STEADY), 0.99).ok_or("no request")?;
    let ratio = slowest.as_secs_f64() / p99.as_secs_f64();
    Ok((first_answer.saturating_duration_since(listens), ratio))
}

/// Sends requests on schedule, whether or not earlier ones have been answered, until aborted.
async fn load(client: Client, begin: Instant, answered: Arc<Mutex<Vec<Times>>>) -> Result<()> {
    let mut requests = JoinSet::new();
    for n in 0_u32.. {
        tokio::time::sleep_until((begin + APART * n).into()).await;
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        requests.spawn(async move {
            let sent = Instant::now();
            let (status, body) = if n % 10 == 0 {
                let new = json!({"owner": format!("owner {n}"), "balance": n});
                client.send(ACCOUNTS, Some(new)).await?
            } else {
                client.send(&format!("{ACCOUNTS}?limit=10"), None).await?
            };
            if !status.is_success() {
                return Err(format!("request {n}: {status}: {body:?}").into());
            }
            let times = (sent, Instant::now());
            answered.lock().expect("no panic").push(times);
            Result::Ok(())
        });
        while let Some(done) = requests.try_join_next() {
            done??;
        }
    }
    Ok(())
}
