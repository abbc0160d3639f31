//! Prometheus: the pool's metrics at `/metrics`, with buckets that fit a database.
//!
//! In a checkout, `scripts/with-database cargo run --manifest-path examples/recipes/Cargo.toml
//! --bin prometheus`
//!
//! Needs the pool's feature `metrics`. docs/observability.md lists the metrics. In a checkout,
//! examples/service/grafana has a dashboard for them.

use std::{env, error::Error, time::Duration};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use mysql_warm_pool::{Pool, PoolConfig, metrics::Histogram};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::interval,
};

/// The upper limits of the buckets for the rows of a statement.
const ROWS: [f64; 6] = [1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Before the pool, which registers its metrics once, with the recorder installed by then.
    // Histograms, unlike summaries, can be added up over the instances of a service.
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_time".to_owned()), &Histogram::BOUNDS)?
        .set_buckets_for_metric(
            Matcher::Suffix("_duration".to_owned()),
            &Histogram::OPERATION_BOUNDS,
        )?
        .set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), &ROWS)?
        .install_recorder()?;

    // The label `db_client_connection_pool_name` is the pool's name; give one to each pool.
    let pool = Pool::new(PoolConfig::from_env()?.name("orders"))?;
    println!("{}", pool.warm_up().await?);

    // Between scrapes, what was recorded is kept in memory until it is sorted into buckets.
    let upkeep = prometheus.clone();
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });

    let scraped = pool.clone();
    let metrics = async move || {
        scraped.publish_metrics(); // Gauges then show what is true now, not a second ago.
        prometheus.render()
    };
    let app = Router::new().route("/metrics", get(metrics));
    let listen = env::var("LISTEN").unwrap_or("127.0.0.1:9090".into());
    let listener = TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    println!("{}", pool.close().await);
    Ok(())
}
