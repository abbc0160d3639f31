//! OpenTelemetry: metrics, and spans with the pool's log events, to a collector by OTLP over gRPC.
//!
//! In a checkout, `scripts/with-database cargo run --manifest-path examples/recipes/Cargo.toml
//! --bin otlp`
//!
//! Needs the pool's feature `metrics`. The collector's address is in `OTEL_EXPORTER_OTLP_ENDPOINT`,
//! by default `http://localhost:4317`. The pool's metrics have OpenTelemetry's names; the crate
//! `metrics-opentelemetry` passes them on. Its version names those of both sides: 0.24033 is
//! `metrics` 0.24 and `opentelemetry` 0.33.

use std::{error::Error, time::Duration};

use metrics_opentelemetry::{
    OpenTelemetryMetrics, OpenTelemetryRecorder, metrics::set_global_recorder,
};
use mysql_warm_pool::{Error as PoolError, Pool, PoolConfig, metrics::Histogram};
use opentelemetry::{metrics::MeterProvider as _, trace::TracerProvider as _};
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};
use tracing::{Instrument, Level, info, info_span};
use tracing_subscriber::{filter::Targets, prelude::*};

/// The upper limits of the buckets. By default, the first one ends at 5 seconds.
const BUCKETS: [(&str, &[f64]); 5] = [
    ("db.client.connection.create_time", &Histogram::BOUNDS),
    ("db.client.connection.wait_time", &Histogram::BOUNDS),
    ("db.client.connection.use_time", &Histogram::BOUNDS),
    ("db.client.operation.duration", &Histogram::OPERATION_BOUNDS),
    (
        "db.client.response.returned_rows",
        &[1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0],
    ),
];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let resource = Resource::builder().with_service_name("orders").build();

    let exporter = MetricExporter::builder().with_tonic().build()?;
    let reader = PeriodicReader::builder(exporter)
        .with_interval(Duration::from_secs(15))
        .build();
    let meters = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_reader(reader)
        .build();
    // Before the pool, which registers its metrics once, with the recorder installed by then.
    let metrics = OpenTelemetryMetrics::new(meters.meter("mysql-warm-pool"));
    let recorder = OpenTelemetryRecorder::new(metrics);
    for (name, limits) in BUCKETS {
        recorder.set_histogram_bounds([name].into_iter(), limits);
    }
    set_global_recorder(recorder)?;

    let exporter = SpanExporter::builder().with_tonic().build()?;
    let tracers = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build();
    // Only what is named, so that the exporter's own events cause no further export.
    let wanted = Targets::new()
        .with_target(module_path!(), Level::INFO) // This program.
        .with_target("mysql_warm_pool", Level::DEBUG);
    let layer = tracing_opentelemetry::layer().with_tracer(tracers.tracer("orders"));
    tracing_subscriber::registry()
        .with(layer.with_filter(wanted))
        .init();

    let pool = Pool::new(PoolConfig::from_env()?)?;
    println!("{}", pool.warm_up().await?);
    let answer = checkout(&pool)
        .instrument(info_span!("checkout", order = 7))
        .await?;
    println!("the answer is {answer}");
    println!("{}", pool.close().await);

    // Sends what has not been sent yet.
    tracers.shutdown()?;
    meters.shutdown()?;
    Ok(())
}

/// What the pool logs meanwhile, such as a slow get, becomes an event of the span around it.
async fn checkout(pool: &Pool) -> Result<u64, PoolError> {
    let answer: Option<u64> = pool.query_first("SELECT 6 * 7").await?;
    info!("checked out");
    Ok(answer.unwrap_or_default())
}
