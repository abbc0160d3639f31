//! The page that shows the pool, and the event stream that updates it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::get,
};
use futures_util::stream;
use tokio::sync::watch;

use crate::app::App;

/// How long a browser waits before it reconnects to a stream that broke off.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/",
            get(async || file("text/html", include_str!("page.html"))),
        )
        .route(
            "/page.css",
            get(async || file("text/css", include_str!("page.css"))),
        )
        .route(
            "/page.js",
            get(async || file("text/javascript", include_str!("page.js"))),
        )
        .route("/events", get(events))
}

/// The policy loads nothing from other sites, and runs no injected script.
fn file(form: &'static str, text: &'static str) -> Response {
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                  img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (CONTENT_TYPE, format!("{form}; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, policy.to_owned()),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
        (CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, text).into_response()
}

/// Streams every sample from now on, beginning with the last one. Ends when the service ends.
async fn events(State(app): State<Arc<App>>) -> impl IntoResponse {
    let samples = stream::unfold((app.live.clone(), true), next);
    // Proxies that buffer responses would delay the stream.
    ([("x-accel-buffering", "no")], Sse::new(samples))
}

type Samples = (watch::Receiver<Arc<str>>, bool);

async fn next((mut live, is_first): Samples) -> Option<(Result<Event, Infallible>, Samples)> {
    if !is_first {
        live.changed().await.ok()?;
    }
    let event = Event::default().data(live.borrow_and_update().as_ref());
    let event = if is_first { event.retry(RETRY) } else { event };
    Some((Ok(event), (live, false)))
}
