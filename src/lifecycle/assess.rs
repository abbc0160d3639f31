//! Updates the readiness from the current state of the pool's parts.

use tracing::info;

use crate::{
    engine::{
        backoff::Backoff,
        health::{Facts, HealthRecord},
    },
    report::{self, PoolStatus, Readiness},
    session::activity::Sample,
    shared::{Shared, State},
    time::Timestamp,
};

/// Updates the readiness, and logs a change.
pub(super) fn assess(shared: &Shared) {
    let now = Timestamp::now();
    let mut state = shared.state();
    let status = shared.slots.status();
    let ready_at = shared.config.ready_threshold(state.to_keep(status.size));
    let State { backoff, health } = &mut *state;
    // The server has been quiet and new connections hang, so those in use count as hanging too.
    let out_of_reach = if backoff.hanging > 0 && shared.liveness.is_quiet(now) {
        status.in_use
    } else {
        0
    };
    let unresponsive = shared.liveness.unresponsive_count();
    let working = status
        .open
        .saturating_sub(unresponsive)
        .saturating_sub(out_of_reach);
    let sample = sample(shared, &status, unresponsive);
    let facts = Facts {
        first_fill: health.first_fill(shared.config.warm_up_timeout, now),
        working,
        ready_at,
        is_failing: backoff.is_failing(),
        is_silent: health.record_sample(sample, now),
        short_for: health.record_short(working < ready_at, now),
    };
    // Under the lock, so that changes are logged in the order in which they happen.
    let change = shared.readiness.update(facts);
    let error = change.and_then(|_| trouble(health, backoff, &status, now));
    drop(state);
    log_change(shared, change, error);
}

/// Samples the connections' activity if the whole limit is in use with statements under way and
/// callers wait. Then no connection can be validated or opened, so the answers to callers'
/// statements are the only sign of life.
fn sample(shared: &Shared, status: &PoolStatus, unresponsive: usize) -> Option<Sample> {
    let is_full = status.open >= status.limit() && status.connecting == 0;
    let none_to_validate = status.idle == 0 && status.cleaning <= unresponsive;
    if status.waiting == 0 || !is_full || !none_to_validate {
        return None;
    }
    let sample = shared.activities.sample();
    (sample.under_way >= status.in_use).then_some(sample)
}

pub(super) fn log_change(
    shared: &Shared,
    change: Option<(Readiness, Readiness)>,
    error: Option<String>,
) {
    if let Some((was, now)) = change {
        info!(pool = shared.name, %was, %now, error, "readiness changed");
    }
}

/// The readiness with its context: since when, the status, the last error.
pub(crate) fn health(shared: &Shared) -> report::Health {
    let state = shared.state();
    let snapshot = shared.readiness.snapshot();
    let status = shared.slots.status();
    report::Health {
        readiness: snapshot.readiness,
        since: snapshot.since,
        status,
        last_error: trouble(&state.health, &state.backoff, &status, Timestamp::now()),
    }
}

/// Describes what is wrong now, for people.
fn trouble(
    health: &HealthRecord,
    backoff: &Backoff,
    status: &PoolStatus,
    now: Timestamp,
) -> Option<String> {
    let error = backoff.error().map(ToString::to_string);
    error.or_else(|| {
        let silent_for = health.silent_for(now)?;
        Some(format!(
            "all {} connections are in use, and none has answered for {silent_for:.1?} while {} callers wait",
            status.in_use, status.waiting
        ))
    })
}
