//! From listening to serving: warms up the pool and creates the table, retrying transient errors.

use std::{convert::Infallible, time::Duration};

use mysql_warm_pool::{error::is_transient, mysql_async};
use tracing::{info, warn};

use crate::{Error, accounts, app::App, stage::Stage};

/// Between two tries at something that failed and may pass. The pool has pauses of its own between attempts to
/// connect; this one only keeps a fault that is told at once from being tried in a loop.
const PAUSE: Duration = Duration::from_millis(500);

/// Enters [`Stage::Serving`] as soon as it can, and then stays.
///
/// Returns only with a fault that lasts: wrong password, unknown database, no right to make the table. Whoever runs the
/// service has to see it at once, in the log and in a process that ends, rather than in probes that never turn.
pub(crate) async fn start(app: &App) -> Result<Infallible, Error> {
    loop {
        match app.pool.warm_up().await {
            Ok(_report) => break, // The pool has logged it.
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
