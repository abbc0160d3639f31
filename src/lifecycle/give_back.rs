//! Takes a connection back from its caller: idle at once, cleaned first, or discarded.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tracing::{info, trace, warn};

use crate::{
    engine::slots::Lease,
    report::DiscardReason,
    session::{Session, verdict::Verdict},
    shared::Shared,
    time::Timestamp,
};

use super::{
    clean,
    discard::discard,
    maintain,
    open::{Demand, fill},
};

/// Takes back a connection. Never blocks; works outside a runtime.
pub(crate) fn give_back(shared: &Arc<Shared>, mut lease: Lease) {
    end_hold(shared, &lease);
    trace!(
        pool = shared.name,
        connection = lease.conn.id(),
        "connection returned"
    );
    shared.liveness.record_return(lease.follow.answer.ended_at);
    if has_met_read_only(shared, &lease) && refresh_for_read_only(shared, &lease) {
        return discard(shared, lease, DiscardReason::ReadOnly);
    }
    match lease.verdict(shared.config.reset) {
        Verdict::Discard(reason) => {
            if lease.follow.others_may_be_lost {
                refresh_for_lost_session(shared, &lease);
            }
            discard(shared, lease, reason);
        }
        _ if shared.is_closing() => discard(shared, lease, DiscardReason::Closing),
        Verdict::Idle => make_idle(shared, lease),
        Verdict::Clean(needs) => clean::clean_in_background(shared, lease, needs),
    }
}

/// Records that the caller no longer holds the connection, and for how long it did.
#[inline]
pub(crate) fn end_hold(shared: &Shared, lease: &Lease) {
    let since = lease.end_hold();
    if let Some(since) = since
        && (cfg!(feature = "metrics") || shared.config.leak_after.is_some())
    {
        let held_for = Timestamp::now().since(since);
        shared.metrics.use_time.record(held_for);
        if shared.config.leak_after.is_some() {
            log_long_held(shared, lease, held_for);
        }
    }
}

fn log_long_held(shared: &Shared, lease: &Lease, held_for: Duration) {
    if let Some(details) = lease.take_details()
        && details.is_reported
    {
        let (pool, connection) = (&shared.name, details.connection);
        let (held_for, got_at) = (held_for.as_secs_f64(), details.got_at);
        info!(pool, connection, held_for, %got_at, "long-held connection returned");
    }
}

/// Releases a connection that is as good as new: it becomes idle, or goes to the first waiting
/// caller. If the pool is closing, has too many or is to replace it, it is discarded instead.
pub(super) fn make_idle(shared: &Arc<Shared>, lease: Lease) {
    if shared.is_closing() {
        return discard(shared, lease, DiscardReason::Closing);
    }
    if shared.trims_on_return.load(Ordering::Relaxed) && is_surplus(shared) {
        return discard(shared, lease, DiscardReason::Surplus);
    }
    if is_due(shared, &lease) {
        return retire(shared, lease);
    }
    lease.release();
}

fn is_surplus(shared: &Shared) -> bool {
    let status = shared.slots.status();
    let must_not_linger = shared.config.overflow_linger.is_zero() && status.waiting == 0;
    status.open > status.limit() || must_not_linger && status.open > status.size
}

/// Whether to replace the connection, because of its age or a refresh.
#[inline]
fn is_due(shared: &Shared, session: &Session) -> bool {
    // Compared with the time of its last answer, which is close to now and saves reading the clock.
    let used_at = session.follow.answer.ended_at;
    shared.is_outdated(session) || session.origin.due_at.is_some_and(|at| used_at >= at)
}

/// Retires a connection if its replacement is open, or if there is no room for one.
fn retire(shared: &Arc<Shared>, lease: Lease) {
    let status = shared.slots.status();
    let is_full = status.open >= status.limit();
    if status.open > status.size || is_full && !shared.slots.is_retiring() {
        return discard(shared, lease, DiscardReason::Retired);
    }
    // The connection is kept until its replacement is open, which notifies maintenance.
    lease.release();
    // Raised after the release, so that a sweep in between sees either the connection or this
    // count. Only the first due connection opens a replacement here: further attempts are paced by
    // the back-off, not by returns.
    if shared.due.fetch_max(1, Ordering::Relaxed) == 0 {
        fill(shared, Demand::Waiting);
    }
}

/// Refreshes the pool, if the pauses between refreshes allow it, because this connection has lost
/// its session. Others have probably lost theirs to the same cause: they lack what `init` has set,
/// and nothing shows it.
fn refresh_for_lost_session(shared: &Shared, session: &Session) {
    if may_refresh(shared, session) {
        let (pool, connection) = (&shared.name, session.conn.id());
        warn!(pool, connection, "session lost");
        maintain::refresh(shared);
    }
}

/// Whether a statement on the connection got an error that means that its server takes no writes.
fn has_met_read_only(shared: &Shared, session: &Session) -> bool {
    let follow = &session.follow;
    follow.met_read_only || follow.met_read_only_table && shared.opener.is_innodb_read_only()
}

/// Refreshes the pool, if the pauses between refreshes allow it, because this connection met a
/// read-only error. Returns whether the connection is to be replaced.
fn refresh_for_read_only(shared: &Shared, session: &Session) -> bool {
    if may_refresh(shared, session) {
        let (pool, connection) = (&shared.name, session.conn.id());
        warn!(pool, connection, "the server has become read-only");
        maintain::refresh(shared);
    }
    shared.is_outdated(session)
}

/// Whether an error on this connection may refresh the pool now.
fn may_refresh(shared: &Shared, session: &Session) -> bool {
    !shared.is_outdated(session)
        && shared
            .state()
            .health
            .may_refresh_after_error(Timestamp::now())
}
