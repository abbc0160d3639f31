//! What has happened since the pool was made: counters.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has happened since the pool was made. All are counts since creation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolMetrics {
    /// Connections handed out.
    pub gets: u64,
    /// Calls that found no idle connection and waited.
    pub gets_waited: u64,
    /// Calls that found no idle connection while fewer than `size` were in use or being cleaned: they
    /// waited for an opening.
    pub gets_waited_below_size: u64,
    /// Calls that ended with a time-out.
    pub timeouts: u64,
    /// Connections opened.
    pub opened: u64,
    /// Attempts to open a connection that failed.
    pub failed_attempts: u64,
    /// Connections discarded, by reason: `cancelled` in the middle of a command, `lost` to the server or the
    /// network, `misused` (the driver closed it at a mistake), `unproved`, `too_much_pending` rows, `asked` by
    /// its user, `runtime_gone`, `closing`, `retired` at its age or by a refresh, `surplus`, `read_only`.
    pub discarded: Vec<(&'static str, u64)>,
    /// Returned connections that were cleaned before they were idle again.
    pub cleaned: u64,
    /// Sessions that were reset.
    pub resets: u64,
    /// Idle connections proved by a round trip.
    pub proofs: u64,
}

/// The counters behind [`PoolMetrics`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) gets: Counter,
    pub(crate) gets_waited: Counter,
    pub(crate) gets_waited_below_size: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) opened: Counter,
    pub(crate) failed_attempts: Counter,
    pub(crate) cleaned: Counter,
    pub(crate) resets: Counter,
    pub(crate) proofs: Counter,
}

impl Metrics {
    pub(crate) fn read(&self, discarded: Vec<(&'static str, u64)>) -> PoolMetrics {
        PoolMetrics {
            gets: self.gets.get(),
            gets_waited: self.gets_waited.get(),
            gets_waited_below_size: self.gets_waited_below_size.get(),
            timeouts: self.timeouts.get(),
            opened: self.opened.get(),
            failed_attempts: self.failed_attempts.get(),
            discarded,
            cleaned: self.cleaned.get(),
            resets: self.resets.get(),
            proofs: self.proofs.get(),
        }
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
