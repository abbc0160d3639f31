//! Kills the statement of a cancelled caller on the server (`OnCancel::Kill`).
//!
//! One worker kills one statement after another, on a connection of the pool, so many cancellations
//! at once open no more connections than one waiting caller would.

use std::{sync::Arc, time::Duration};

use mysql_async::{Row, prelude::Queryable};
use tokio::{
    sync::{mpsc::UnboundedReceiver, oneshot},
    time::timeout,
};
use tracing::debug;

use crate::{
    engine::slots::{Cleaning, Lease},
    report::discard::DiscardReason,
    session::{Session, column},
    shared::{Abandoned, Shared},
    time::Timestamp,
};

use super::{
    discard::discard_cleaning,
    open::{Demand, fill},
};

/// How long the slot of a cancelled connection stays occupied while the kill is pending. No longer,
/// because waiting callers need the slots, and so does the worker if all callers were cancelled.
const HOLD_SLOT: Duration = Duration::from_millis(20);
/// How long the worker waits for a connection to send the `KILL` on.
const BORROW_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the worker to kill the statement on a cancelled connection, and waits for it for up to
/// [`HOLD_SLOT`].
pub(super) async fn kill(shared: &Shared, cleaning: &mut Cleaning) {
    let Some(session) = cleaning.session() else {
        return;
    };
    let Some(identity) = session.origin.identity.clone() else {
        return;
    };
    let (done, is_done) = oneshot::channel();
    let abandoned = Abandoned {
        id: session.origin.id,
        identity,
        since: Timestamp::now(),
        done,
    };
    if shared.abandoned.sender.send(abandoned).is_ok() {
        drop(timeout(HOLD_SLOT, is_done).await);
    }
}

/// The worker. Ends when the pool closes.
pub(super) async fn work(shared: Arc<Shared>) {
    let working = async {
        let mut queue = shared.abandoned.receiver.lock().await;
        while let Some(abandoned) = queue.recv().await {
            kill_all(&shared, abandoned, &mut queue).await;
        }
    };
    shared.unless_closing(working).await;
}

/// Kills the statements in the queue on one connection, as long as that works.
async fn kill_all(
    shared: &Arc<Shared>,
    first: Abandoned,
    queue: &mut UnboundedReceiver<Abandoned>,
) {
    let Ok(lease) = timeout(BORROW_TIMEOUT, borrow(shared)).await else {
        return;
    };
    let limit = shared.config.connect_timeout;
    // Statements that were abandoned longer ago are given up.
    let patience = limit.saturating_add(BORROW_TIMEOUT);
    let mut cleaning = shared.slots.begin_cleaning(lease);
    let mut next = Some(first);
    while let Some(session) = cleaning.session()
        && let Some(abandoned) = next.take().or_else(|| queue.try_recv().ok())
    {
        if Timestamp::now().since(abandoned.since) > patience {
            continue;
        }
        match timeout(limit, kill_if_certain(session, &abandoned)).await {
            Ok(Ok(is_killed)) => {
                if is_killed {
                    let (pool, connection) = (&shared.name, abandoned.id);
                    debug!(pool, connection, "abandoned statement killed");
                }
                // An error only means that the slot is not held any more.
                _ = abandoned.done.send(());
            }
            Ok(Err(_)) | Err(_) => {
                let reason = DiscardReason::ValidationFailed;
                return discard_cleaning(shared, cleaning, reason).await;
            }
        }
    }
    if let Some(lease) = cleaning.finish() {
        lease.release();
    }
}

/// Takes a connection as a caller would. If dropped while it waits, it leaves the queue.
async fn borrow(shared: &Arc<Shared>) -> Lease {
    if let Some(lease) = shared.slots.try_take() {
        return lease;
    }
    let mut take = std::pin::pin!(shared.slots.take(shared.slots.turn()));
    // It counts as waiting from its first poll on.
    if let Ok(lease) = timeout(Duration::ZERO, &mut take).await {
        return lease;
    }
    fill(shared, Demand::Overdue);
    take.await
}

/// Kills only if the id certainly belongs to the abandoned connection: same server, same client
/// address and port. Nodes of a cluster use the same ids, and so does a server after a restart.
/// Returns whether the statement is gone.
async fn kill_if_certain(
    session: &mut Session,
    abandoned: &Abandoned,
) -> mysql_async::Result<bool> {
    let identity = session.origin.identity.as_ref();
    if identity.is_none_or(|own| own.server != abandoned.identity.server) {
        return Ok(false);
    }
    session
        .command(async |conn| {
            let id = abandoned.id;
            let question =
                format!("SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = {id}");
            let row: Option<Row> = conn.query_first(question).await?;
            let host: Option<String> = row.and_then(|row| column(&row, 0));
            if host.as_ref() != Some(&abandoned.identity.host) {
                return Ok(false);
            }
            match conn.query_drop(format!("KILL {id}")).await {
                // The connection has ended by itself.
                Err(mysql_async::Error::Server(error)) if error.code == 1094 => Ok(true),
                outcome => outcome.map(|()| true),
            }
        })
        .await
}
