//! Graceful shutdown: report not ready, wait for load balancers, finish requests, close the pool.

use std::{io, sync::Arc, time::Duration};

use mysql_warm_pool::report::CloseReport;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{app::App, stage::Stage};

/// The time for the last answer to be sent after its request's time is up.
const MARGIN: Duration = Duration::from_secs(1);

/// Resolves at SIGTERM, which Kubernetes and systemd send, or at Ctrl-C.
///
/// # Errors
///
/// If the process may not listen for signals.
pub fn asked_to_stop() -> io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
        }
    })
}

/// Shuts the service down. Each step has its own limit: `SHUTDOWN_DELAY`, then `REQUEST_TIMEOUT`
/// plus 1 s, then `close_timeout`.
pub(crate) async fn in_order(
    app: &App,
    server: JoinHandle<io::Result<()>>,
    delay: Duration,
) -> CloseReport {
    // Readiness returns 503 from here on. Load balancers need a moment to notice, and their
    // requests are served until then. A service that was never ready gets none.
    if app.life.stage() == Stage::Serving {
        app.life.enter(Stage::Draining);
        sleep(delay).await;
    }
    // Nothing more is accepted, streams end, and requests under way are finished.
    app.life.enter(Stage::Ending);
    let abort = server.abort_handle();
    match timeout(app.request_timeout + MARGIN, server).await {
        Ok(Ok(Ok(()))) => info!("all requests are answered"),
        Ok(Ok(Err(error))) => warn!(%error, "the server failed"),
        Ok(Err(error)) => warn!(%error, "the server panicked"),
        Err(_elapsed) => {
            warn!("some clients still hold their connections");
            abort.abort();
        }
    }
    // The pool is closed last, because requests needed it. It logs what became of its connections.
    app.pool.close().await
}

/// Resolves when no more requests are to be accepted.
pub(crate) async fn ending(app: Arc<App>) {
    app.life.until(Stage::Ending).await;
}
