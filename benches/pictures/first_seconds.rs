//! The first seconds of a service that is started together with its database.
//!
//! Without `warm_up()` traffic comes at once, as when nothing asks for readiness; with it, when
//! `warm_up()` is done, as when a readiness probe asks the pool.

use std::time::{Duration, Instant};

use mysql_warm_pool::{
    Pool, PoolConfig,
    mysql_async::{self, OptsBuilder, PoolConstraints, PoolOpts},
};
use serde_json::{Value, json};
use test_support::{Proxy, Server};

use crate::{
    DELAY, SIZE,
    load::{RATE, ms, requests},
};

const LASTING: Duration = Duration::from_secs(5);
/// How long after the service the database is started.
const LATE: Duration = Duration::from_millis(500);

pub async fn measure() -> Value {
    let server = Server::start().await;
    let mut version = String::new();
    let mut panels = Vec::new();
    for which in ["mysql_async", "cold", "warm"] {
        let proxy = Proxy::start(server.port()).await;
        proxy.delay(DELAY);
        let url = server.url_via(proxy.port());
        server.shutdown().await;
        proxy.refuse().await;

        let start = Instant::now();
        let database = async {
            tokio::time::sleep_until((start + LATE).into()).await;
            server.start_again().await;
            proxy.accept_again().await;
            start.elapsed()
        };
        let service = async {
            match which {
                "mysql_async" => (None, requests(&drivers(&url), start, LASTING).await),
                "cold" => (None, requests(&ours(&url), start, LASTING).await),
                _ => {
                    let pool = ours(&url);
                    let report = pool.warm_up().await.expect("a warm pool");
                    version = report.server.expect("a server").version;
                    let ready = ms(start.elapsed());
                    (Some(ready), requests(&pool, start, LASTING).await)
                }
            }
        };
        let (up, (ready, requests)) = tokio::join!(database, service);
        panels.push(
            json!({"pool": which, "database_up": ms(up), "ready": ready, "requests": requests}),
        );
    }
    json!({
        "size": SIZE,
        "requests_per_second": RATE,
        "delay_each_way_ms": ms(DELAY),
        "server": version,
        "panels": panels,
    })
}

fn ours(url: &str) -> Pool {
    let config = PoolConfig::from_url(url).expect("a good URL");
    Pool::new(config.size(SIZE).overflow(0)).expect("good settings")
}

fn drivers(url: &str) -> mysql_async::Pool {
    let opts = mysql_async::Opts::from_url(url).expect("a good URL");
    let constraints = PoolConstraints::new(SIZE, SIZE).expect("room for connections");
    let options = PoolOpts::new().with_constraints(constraints);
    let opts = OptsBuilder::from_opts(opts).prefer_socket(false);
    mysql_async::Pool::new(opts.pool_opts(options))
}
