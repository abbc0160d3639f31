//! From listening to serving: warms up the pool and creates the table, retrying transient errors.

use std::{convert::Infallible, time::Duration};

use mysql_warm_pool::{error::is_transient, mysql_async};
use tracing::{info, warn};

use crate::{Error, accounts, app::App, stage::Stage};

/// The pause between two tries after a transient error. The pool itself pauses between attempts to
/// connect; this only prevents a busy loop on errors that are returned at once.
const PAUSE: Duration = Duration::from_millis(500);

/// Enters [`Stage::Serving`] as soon as the pool is warm, or after its `warm_up_timeout` with at least
/// one connection, and the table exists. Then never returns.
///
/// Returns only a permanent error: wrong password, unknown database, no privilege to create the
/// table. Operators should see it at once, in the log and as a process that exits, rather than as a
/// probe that never succeeds.
pub(crate) async fn start(app: &App) -> Result<Infallible, Error> {
    loop {
        match app.pool.warm_up().await {
            Ok(_report) => break, // The pool has logged it.
            // During a roll-out at the server's limit, the old replicas hold connections until this
            // one serves.
            Err(error) if error.is_transient() && app.pool.readiness().is_serving() => {
                warn!(%error, "serving with fewer connections");
                break;
            }
            Err(error) if error.is_transient() => warn!(%error, "not warm yet, trying again"),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    loop {
        match make_table(app).await {
            Ok(()) => break,
            Err(error) if is_transient(&error) => warn!(%error, "no table yet, trying again"),
            Err(error) => return Err(Error::Table(error)),
        }
        tokio::time::sleep(PAUSE).await;
    }
    app.life.enter(Stage::Serving);
    info!(early = app.life.early(), "serving");
    std::future::pending().await
}

async fn make_table(app: &App) -> mysql_async::Result<()> {
    let mut conn = app.pool.get().await?;
    accounts::make_table(&mut conn).await
}
