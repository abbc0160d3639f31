//! Gets an idle connection at once. If none can be handed out, [`wait`](super::wait) takes over.

use std::{panic::Location, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tracing::{Instrument, Span, level_filters::LevelFilter, trace, trace_span};

use crate::{
    engine::slots::{HoldDetails, Lease},
    error::Error,
    report::DiscardReason,
    session::Session,
    shared::Shared,
    time::Timestamp,
};

use super::{discard::discard, maintain, validate::validate_in_background, wait::Waiting};

/// The line that called `get()`.
pub(crate) type CalledAt = &'static Location<'static>;

/// Gets a connection within `limit`.
///
/// If dropped at any await, it leaves the queue; what was opened or validated for it becomes idle.
pub(crate) async fn get(
    shared: &Arc<Shared>,
    limit: Duration,
    called_at: CalledAt,
) -> Result<Lease, Error> {
    // Creating a span that nobody listens to would cost more than all the rest.
    let is_traced = LevelFilter::current() == LevelFilter::TRACE;
    let stale = match take_idle(shared, limit)? {
        Idle::Fresh(lease, now) => {
            shared.metrics.wait_time.record_none();
            hand_out(shared, &lease, now, called_at);
            if is_traced {
                span(shared).in_scope(|| log_handed_out(shared, &lease, Duration::ZERO));
            }
            return Ok(lease);
        }
        Idle::Stale(lease) => Some(lease),
        Idle::None => None,
    };
    let waiting = Waiting::get(shared, limit, stale, called_at);
    if is_traced {
        Box::pin(waiting.instrument(span(shared))).await
    } else {
        waiting.await
    }
}

/// Gets an idle connection that needs no validation, without waiting.
pub(crate) fn try_get(shared: &Arc<Shared>, called_at: CalledAt) -> Option<Lease> {
    match take_idle(shared, Duration::ZERO) {
        Ok(Idle::Fresh(lease, now)) => {
            shared.metrics.wait_time.record_none();
            hand_out(shared, &lease, now, called_at);
            log_handed_out(shared, &lease, Duration::ZERO);
            Some(lease)
        }
        Ok(Idle::Stale(lease)) => {
            // Validated for the next caller.
            drop(validate_in_background(shared, lease));
            None
        }
        Ok(Idle::None) | Err(_) => None,
    }
}

/// An idle connection, if there is one.
enum Idle {
    /// It can be handed out as it is.
    Fresh(Lease, Timestamp),
    /// It must be validated first.
    Stale(Lease),
    None,
}

/// Takes an idle connection. None if `limit` gives the caller the time to find out first whether its
/// runtime is driven.
fn take_idle(shared: &Arc<Shared>, limit: Duration) -> Result<Idle, Error> {
    if shared.is_closing() {
        return Err(Error::Closed);
    }
    let lease = loop {
        let Some(lease) = shared.slots.try_take() else {
            maintain::enter(shared)?;
            return Ok(Idle::None);
        };
        if !lease.origin.runtime.has_ended() {
            break lease;
        }
        discard(shared, lease, DiscardReason::RuntimeGone);
    };
    let here = Handle::try_current().map_err(|_outside_of_any| Error::NoRuntime)?;
    let now = Timestamp::now();
    let runtime = &lease.origin.runtime;
    if !limit.is_zero() && !runtime.is_driven(here.id(), now) {
        // Taken again once its runtime is seen to be driven.
        lease.release();
        return Ok(Idle::None);
    }
    if needs_validation(shared, &lease, now) {
        Ok(Idle::Stale(lease))
    } else {
        Ok(Idle::Fresh(lease, now))
    }
}

/// Whether a connection must be validated before it is handed out.
#[inline]
pub(super) fn needs_validation(shared: &Shared, session: &Session, now: Timestamp) -> bool {
    let validated_at = session.follow.validated_at;
    now.since(validated_at) > shared.config.validate_after_idle
        || shared.liveness.is_suspect(validated_at)
}

/// Records that the caller holds the connection from now on.
#[inline]
pub(super) fn hand_out(shared: &Shared, lease: &Lease, now: Timestamp, called_at: CalledAt) {
    if shared.config.leak_after.is_none() {
        return lease.hold(now);
    }
    lease.hold_by(HoldDetails {
        since: now,
        got_at: called_at,
        connection: lease.conn.id(),
        is_reported: false,
    });
}

pub(super) fn log_handed_out(shared: &Shared, lease: &Lease, waited: Duration) {
    trace!(
        pool = shared.name,
        connection = lease.conn.id(),
        waited = waited.as_secs_f64(),
        "connection handed out"
    );
}

#[cold]
fn span(shared: &Shared) -> Span {
    trace_span!("get", pool = shared.name)
}
