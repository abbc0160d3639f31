//! Limits how often a warning is logged.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::time::{Timestamp, nanos};

const INTERVAL: Duration = Duration::from_secs(1);

/// Allows an event at most once a second, from any thread and without a lock.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    /// The [`Timestamp`] of the last event that was allowed, in nanoseconds; 0 if there was none.
    last: AtomicU64,
}

impl RateLimit {
    /// Whether an event may happen at `now`. Of several calls at the same time, one is allowed.
    pub(crate) fn allows(&self, now: Timestamp) -> bool {
        let now = now.nanos();
        let last = self.last.load(Ordering::Relaxed);
        (last == 0 || now.saturating_sub(last) >= nanos(INTERVAL))
            && self
                .last
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_a_second_is_allowed() {
        let limit = RateLimit::default();
        let start = Timestamp::now();
        let allowed = [0, 1, 999, 1000, 1001, 1999, 3500, 4499, 4500]
            .map(|ms| limit.allows(start.after(Duration::from_millis(ms))));
        assert_eq!(
            allowed,
            [true, false, false, true, false, false, true, false, true]
        );
    }

    #[test]
    fn an_earlier_timestamp_is_not_allowed() {
        let limit = RateLimit::default();
        let now = Timestamp::now();
        assert!(limit.allows(now));
        assert!(!limit.allows(now.before(Duration::from_secs(60))));
    }

    #[test]
    fn of_threads_at_the_same_moment_one_is_allowed() {
        let limit = RateLimit::default();
        let now = Timestamp::now();
        let allowed = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| limit.allows(now)));
            threads.map(|thread| thread.join().expect("no panic"))
        });
        assert_eq!(allowed.into_iter().filter(|allowed| *allowed).count(), 1);
    }
}
