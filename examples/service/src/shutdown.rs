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

/// What is left after the last request's time for its answer to go out.
const MARGIN: Duration = Duration::from_secs(1);

/// Resolves at SIGTERM, as Kubernetes and systemd send it, or at Ctrl-C.
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

/// Ends the service; each step has its own limit: `SHUTDOWN_DELAY`, `REQUEST_TIMEOUT` and a second, `close_timeout`.
pub(crate) async fn in_order(
    app: &App,
    server: JoinHandle<io::Result<()>>,
    delay: Duration,
) -> CloseReport {
    // Readiness says 503 from here on. Whoever sends requests needs a moment to notice, and until then is served.
    // A service that was never ready is sent none.
    if app.life.stage() == Stage::Serving {
        app.life.enter(Stage::Draining);
        sleep(delay).await;
    }
    // Nothing is accepted any more, streams end, and what has begun is finished.
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
    // Only now: the last requests needed the pool. It logs what became of its connections.
    app.pool.close().await
}

/// Resolves when nothing is to be accepted any more.
pub(crate) async fn ending(app: Arc<App>) {
    app.life.until(Stage::Ending).await;
}
