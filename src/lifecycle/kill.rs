//! Kills the statement of a cancelled caller on the server (`OnCancel::Kill`).
//!
//! One worker kills one statement after another, on a connection of the pool, so many cancellations
//! at once open no more connections than one waiting caller would.

use std::{sync::Arc, time::Duration};

use mysql_async::{Row, prelude::Queryable};
use tokio::{sync::oneshot, time::timeout};
use tracing::{debug, warn};

use crate::{
    engine::slots::{Cleaning, Lease},
    report::DiscardReason,
    session::{Identity, Session, column},
    shared::{Abandoned, AbandonedQueue, Shared},
    time::Timestamp,
};

use super::{
    discard::discard_cleaning,
    open::{Demand, fill},
};

/// How long the slot of a cancelled connection stays occupied while no connection is free to send
/// the `KILL` on. No longer, because waiting callers need the slots.
const HOLD_SLOT: Duration = Duration::from_millis(20);
/// How long the worker waits for a connection to send the `KILL` on.
const GET_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the worker to kill the statement on a cancelled connection. Waits until that is done, or
/// until no connection was free for it for [`HOLD_SLOT`].
pub(super) async fn kill(shared: &Shared, queue: &AbandonedQueue, cleaning: &mut Cleaning) {
    let Some(session) = cleaning.session() else {
        return;
    };
    let Some(identity) = session.origin.identity.clone() else {
        let reason = shared.opener.kill_obstacle();
        let (pool, connection) = (&shared.name, session.origin.id);
        if shared.opener.warns_of_kill() {
            warn!(
                pool,
                connection, reason, "abandoned statements cannot be killed"
            );
        }
        return;
    };
    let ((begun, has_begun), (done, is_done)) = (oneshot::channel(), oneshot::channel());
    let abandoned = Abandoned {
        id: session.origin.id,
        identity,
        since: Timestamp::now(),
        begun,
        done,
    };
    // The worker ends when the pool closes.
    if shared.is_closing() || queue.sender.send(abandoned).is_err() {
        return;
    }
    let status = shared.slots.status();
    let has_other = status.idle > 0 || status.in_use > 0 || status.connecting > 0;
    if !has_other && status.open >= status.limit() {
        // Every slot holds a cancelled connection, so the worker needs this one.
        return;
    }
    if let Ok(Ok(())) = timeout(HOLD_SLOT, has_begun).await {
        // An error means that the kill was given up.
        drop(is_done.await);
    }
}

/// The worker, if the pool needs one. Ends when the pool closes, once the queue is empty.
pub(super) async fn work(shared: Arc<Shared>) {
    let Some(queue) = &shared.abandoned else {
        return;
    };
    let mut queue = queue.receiver.lock().await;
    while let Some(Some(first)) = shared.unless_closing(queue.recv()).await {
        let mut batch = vec![first];
        batch.extend(std::iter::from_fn(|| queue.try_recv().ok()));
        // In a new task, so that a panic of the driver ends this batch and not the worker.
        drop(tokio::spawn(kill_all(Arc::clone(&shared), batch)).await);
    }
}

/// Kills the statements of a batch. Gives up the rest if no connection becomes free in time.
async fn kill_all(shared: Arc<Shared>, batch: Vec<Abandoned>) {
    let mut batch = batch.into_iter().peekable();
    while batch.peek().is_some() {
        let Ok(lease) = timeout(GET_TIMEOUT, get_connection(&shared)).await else {
            return;
        };
        let mut cleaning = shared.slots.begin_cleaning(lease);
        if kill_on(&shared, &mut cleaning, &mut batch).await {
            return drop(cleaning.finish());
        }
        // A dead connection costs one statement; the others are killed on the next connection.
        let reason = DiscardReason::ValidationFailed;
        discard_cleaning(&shared, cleaning, reason).await;
    }
}

/// Kills statements over one connection. Returns false if that connection turns out to be dead.
async fn kill_on(
    shared: &Shared,
    cleaning: &mut Cleaning,
    batch: &mut impl Iterator<Item = Abandoned>,
) -> bool {
    let limit = shared.config.connect_timeout;
    // Statements that were abandoned longer ago are given up.
    let patience = limit.saturating_add(GET_TIMEOUT);
    while let Some(session) = cleaning.session()
        && let Some(abandoned) = batch.next()
    {
        if Timestamp::now().since(abandoned.since) > patience {
            continue;
        }
        // A send fails if nobody waits any more.
        _ = abandoned.begun.send(());
        let (id, identity) = (abandoned.id, &abandoned.identity);
        match timeout(limit, kill_if_certain(session, id, identity)).await {
            Ok(Ok(true)) => {
                let (pool, connection) = (&shared.name, id);
                debug!(pool, connection, "abandoned statement killed");
            }
            Ok(Ok(false)) => {}
            Ok(Err(_)) | Err(_) => return false,
        }
        _ = abandoned.done.send(());
    }
    true
}

/// Takes a connection as a caller would. If dropped while it waits, it leaves the queue.
async fn get_connection(shared: &Arc<Shared>) -> Lease {
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
    id: u32,
    identity: &Identity,
) -> mysql_async::Result<bool> {
    let own = session.origin.identity.as_ref();
    if own.is_none_or(|own| own.server != identity.server) {
        return Ok(false);
    }
    session
        .command(async |conn| {
            let question =
                format!("SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = {id}");
            let row: Option<Row> = conn.query_first(question).await?;
            let host: Option<String> = row.and_then(|row| column(&row, 0));
            if host.as_ref() != Some(&identity.host) {
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
