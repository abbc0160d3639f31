//! Points in time as numbers, cheap to compare and to keep in atomics.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// A point in time: nanoseconds since an arbitrary epoch of the process, and never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(u64);

/// An hour before the first timestamp, so that earlier ones exist, even if a test's paused clock
/// lags behind.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
});

impl Timestamp {
    /// Reads tokio's clock, which tests can pause.
    #[inline]
    pub(crate) fn now() -> Self {
        let epoch = *EPOCH;
        let now = tokio::time::Instant::now().into_std();
        Self(nanos(now.saturating_duration_since(epoch)).max(1))
    }

    /// `self - then`, or zero if `then` is later.
    #[inline]
    pub(crate) fn since(self, then: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(then.0))
    }

    /// `self + time`, saturating.
    #[inline]
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// `self - time`, saturating.
    #[inline]
    pub(crate) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)).max(1))
    }

    /// Converts to a number to store in an atomic, where 0 means none.
    #[inline]
    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// Converts back from [`nanos`](Self::nanos).
    #[inline]
    pub(crate) const fn from_nanos(nanos: u64) -> Option<Self> {
        match nanos {
            0 => None,
            nanos => Some(Self(nanos)),
        }
    }
}

/// The duration in nanoseconds, saturating.
#[inline]
pub(crate) fn nanos(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(time.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let (first, second) = (Timestamp::now(), Timestamp::now());
        assert!(first <= second && first.nanos() > 0);
        let hour = Duration::from_secs(3600);
        assert_eq!(first.after(hour).since(first), hour);
        assert_eq!(first.since(first.after(hour)), Duration::ZERO);
        assert!(first.after(Duration::MAX) > first.after(hour));
        assert_eq!(first.after(hour).before(hour), first);
        assert_eq!(first.before(Duration::MAX).nanos(), 1);
        assert_eq!(nanos(hour), 3_600_000_000_000);
    }
}
