//! A steady load while all connections reach their maximum age, again and again.

use std::time::{Duration, Instant};

use mysql_warm_pool::{
    Pool, PoolConfig,
    mysql_async::{self, OptsBuilder, PoolConstraints, PoolOpts},
};
use serde_json::{Value, json};
use test_support::{Proxy, Server};

use crate::{
    DELAY, SIZE,
    load::{RATE, Source, ms, requests},
};

const LASTING: Duration = Duration::from_secs(10);
const AGE: Duration = Duration::from_secs(2);
/// As much as ours takes off, the driver's puts on.
const JITTER: Duration = Duration::from_millis(200);

pub async fn measure() -> Value {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.delay(DELAY);
    let url = server.url_via(proxy.port());

    let constraints = PoolConstraints::new(SIZE, SIZE).expect("room for connections");
    let options = PoolOpts::new()
        .with_constraints(constraints)
        .with_abs_conn_ttl(Some(AGE))
        .with_abs_conn_ttl_jitter(Some(JITTER))
        .with_ttl_check_interval(Duration::from_secs(1));
    let opts = mysql_async::Opts::from_url(&url).expect("a good URL");
    let opts = OptsBuilder::from_opts(opts).prefer_socket(false);
    let drivers = mysql_async::Pool::new(opts.pool_opts(options));
    let of_drivers = loaded(&drivers, &proxy).await;
    drivers.disconnect().await.expect("a goodbye");

    let config = PoolConfig::from_url(&url).expect("a good URL");
    let ours = Pool::new(config.size(SIZE).overflow(0).recycle(AGE)).expect("good settings");
    let report = ours.warm_up().await.expect("a warm pool");
    let of_ours = loaded(&ours, &proxy).await;
    ours.close().await;

    json!({
        "size": SIZE,
        "requests_per_second": RATE,
        "maximum_age_s": AGE.as_secs(),
        "delay_each_way_ms": ms(DELAY),
        "server": report.server.expect("a server").version,
        "panels": [
            {"pool": "mysql_async", "opened": of_drivers.1, "requests": of_drivers.0},
            {"pool": "ours", "opened": of_ours.1, "requests": of_ours.0},
        ],
    })
}

/// What each request took, and how many connections were opened meanwhile. All connections are in
/// use once before.
async fn loaded(source: &impl Source, proxy: &Proxy) -> (Vec<Value>, u64) {
    let all = (0..SIZE).map(|_| {
        let source = source.clone();
        tokio::spawn(async move { source.request().await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.expect("no panic").expect("an answer");
    }
    let before = proxy.accepted();
    let requests = requests(source, Instant::now(), LASTING).await;
    (requests, proxy.accepted() - before)
}
