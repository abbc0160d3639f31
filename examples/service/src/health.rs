//! Routes for probes and scrapers. None of them queries the database.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use mysql_warm_pool::report::Health;
use serde::Serialize;

use crate::{app::App, stage::Stage};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/common/health", get(health))
        .route("/api/v1/common/health/liveness", get(liveness))
        .route("/api/v1/common/health/readiness", get(readiness))
        .route("/metrics", get(metrics))
}

#[derive(Serialize)]
struct Readiness {
    /// Whether new requests should be sent here.
    ready: bool,
    stage: Stage,
    /// Requests that came too early and have no answer yet.
    early_requests: usize,
    database: Health,
}

impl Readiness {
    fn of(app: &App) -> (StatusCode, Self) {
        let ready = app.is_ready();
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let body = Self {
            ready,
            stage: app.life.stage(),
            early_requests: app.life.early(),
            database: app.pool.health(),
        };
        (status, body)
    }
}

async fn readiness(State(app): State<Arc<App>>) -> impl IntoResponse {
    let (status, body) = Readiness::of(&app);
    (status, Json(body))
}

#[derive(Serialize)]
struct Everything {
    service: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    #[serde(flatten)]
    readiness: Readiness,
}

/// For people: the same readiness, with the version and the uptime.
async fn health(State(app): State<Arc<App>>) -> impl IntoResponse {
    let (status, readiness) = Readiness::of(&app);
    let body = Everything {
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: app.started.elapsed().as_secs(),
        readiness,
    };
    (status, Json(body))
}

#[derive(Serialize)]
struct Alive {
    alive: bool,
}

/// Alive if it answers at all: restarting the service would not repair the database.
async fn liveness() -> impl IntoResponse {
    Json(Alive { alive: true })
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    app.pool.publish_metrics();
    let form = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], app.metrics.render())
}
