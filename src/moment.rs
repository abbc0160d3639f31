//! Points in time as numbers: a clock is read once, and compared and stored many times.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Nanoseconds since some time before the first moment that the process asked for, and never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// An hour before the first moment: there are moments before it, also where a paused clock stands behind.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(3600)).unwrap_or(now)
});

impl Moment {
    /// By the clock of the runtime's timers.
    #[inline]
    pub(crate) fn now() -> Self {
        let epoch = *EPOCH;
        let now = tokio::time::Instant::now().into_std();
        Self(nanos(now.saturating_duration_since(epoch)).max(1))
    }

    /// The time since then; none if that is still to come.
    #[inline]
    pub(crate) fn since(self, then: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(then.0))
    }

    /// So much later, or in some 500 years.
    #[inline]
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// So much earlier, or at the beginning.
    #[inline]
    pub(crate) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)).max(1))
    }

    /// For what is kept in an atomic, where 0 stands for none.
    #[inline]
    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

/// In nanoseconds, or 584 years.
#[inline]
pub(crate) fn nanos(time: Duration) -> u64 {
    let seconds = time.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(time.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_on_and_never_overflow() {
        let (first, second) = (Moment::now(), Moment::now());
        assert!(first <= second && first.number() > 0);
        let hour = Duration::from_secs(3600);
        assert_eq!(first.after(hour).since(first), hour);
        assert_eq!(first.since(first.after(hour)), Duration::ZERO);
        assert!(first.after(Duration::MAX) > first.after(hour));
        assert_eq!(first.after(hour).before(hour), first);
        assert_eq!(first.before(Duration::MAX).number(), 1);
        assert_eq!(nanos(hour), 3_600_000_000_000);
    }
}
