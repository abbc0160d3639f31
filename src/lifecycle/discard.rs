//! Takes an open connection out of the pool for good: closes it, or detaches it.

use std::sync::Arc;

use mysql_async::Conn;
use tracing::debug;

use crate::{
    engine::slots::{Cleaning, Lease},
    report::DiscardReason,
    shared::Shared,
    time::Timestamp,
};

use super::{
    assess::assess,
    kill,
    open::{Demand, fill},
    validate,
};

/// Closes a connection in the background. Works outside a runtime.
pub(crate) fn discard(shared: &Arc<Shared>, lease: Lease, reason: DiscardReason) {
    record(
        shared,
        lease.origin.id,
        reason,
        Some(lease.follow.validated_at),
    );
    let runtime = lease.origin.runtime.clone();
    let mut cleaning = if reason == DiscardReason::Retired {
        shared.slots.begin_retiring(lease)
    } else {
        shared.slots.begin_cleaning(lease)
    };
    let shared = Arc::clone(shared);
    // On a runtime that has ended the task is dropped at once, which closes the connection.
    drop(runtime.spawn(async move {
        let is_abandoned = matches!(
            reason,
            DiscardReason::Cancelled | DiscardReason::StatementTimeout
        );
        if is_abandoned && let Some(queue) = &shared.abandoned {
            kill::kill(&shared, queue, &mut cleaning).await;
        }
        close(&shared, cleaning, reason).await;
    }));
}

/// Records that a connection being cleaned or validated is discarded, and closes it.
pub(super) async fn discard_cleaning(
    shared: &Arc<Shared>,
    mut cleaning: Cleaning,
    reason: DiscardReason,
) {
    let Some(session) = cleaning.session() else {
        return;
    };
    let (id, validated_at) = (session.origin.id, session.follow.validated_at);
    record(shared, id, reason, Some(validated_at));
    close(shared, cleaning, reason).await;
}

/// Takes a connection out of the pool without closing it.
pub(crate) fn detach(shared: &Arc<Shared>, lease: Lease) -> Conn {
    record(shared, lease.origin.id, DiscardReason::Requested, None);
    let mut cleaning = shared.slots.begin_cleaning(lease);
    let session = cleaning.take_session();
    drop(cleaning);
    fill(shared, Demand::Waiting);
    match session {
        Some(session) => session.conn,
        None => unreachable!("a lease holds a connection"),
    }
}

/// Counts and logs a discarded connection. If it was found dead, all others become suspect, unless
/// `validated_at` shows that it was suspect itself.
pub(super) fn record(
    shared: &Shared,
    id: u32,
    reason: DiscardReason,
    validated_at: Option<Timestamp>,
) {
    shared.metrics.record_discard(reason);
    debug!(
        pool = shared.name,
        connection = id,
        reason = reason.name(),
        "connection discarded"
    );
    if matches!(
        reason,
        DiscardReason::Lost | DiscardReason::ValidationFailed
    ) {
        validate::suspect_others(shared, validated_at);
    } else if reason == DiscardReason::StatementTimeout {
        validate::suspect_quiet(shared);
    }
}

/// Closes a connection, with `COM_QUIT` if it is in a state to take one, and makes its slot vacant.
async fn close(shared: &Arc<Shared>, mut cleaning: Cleaning, reason: DiscardReason) {
    if let Some(session) = cleaning.take_session() {
        match reason {
            DiscardReason::Requested
            | DiscardReason::Closing
            | DiscardReason::Retired
            | DiscardReason::Surplus
            | DiscardReason::ReadOnly
            | DiscardReason::RoleChanged
            | DiscardReason::Unresettable
            | DiscardReason::CleaningFailed
            | DiscardReason::SessionLost => session.quit().await,
            DiscardReason::Cancelled
            | DiscardReason::Lost
            | DiscardReason::Misused
            | DiscardReason::ValidationFailed
            | DiscardReason::TooManyRows
            | DiscardReason::RuntimeGone
            | DiscardReason::StatementTimeout => session.sever(),
        }
        cleaning.is_drained = reason == DiscardReason::Closing;
    }
    drop(cleaning);
    assess(shared);
    fill(shared, Demand::Waiting);
}
