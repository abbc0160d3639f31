//! The back-off between attempts to open a connection, and the record of how they went.

use std::{collections::VecDeque, time::Duration};

use crate::{error::ConnectError, telemetry::RateLimit, time::Timestamp};

use super::schedule::{self, GrowingPause};

/// The longest pause between giving up one login that hangs and the next. The server counts them,
/// and refuses the host after `max_connect_errors` (100 by default) in a row.
const LONGEST_GIVE_UP_PAUSE: Duration = Duration::from_secs(300);

/// One back-off for all attempts of a pool. Pure: takes the time and random numbers as arguments.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// Failures in a row.
    failures: u32,
    /// When the first of them was recorded.
    failing_since: Option<Timestamp>,
    /// No attempt before this.
    retry_at: Option<Timestamp>,
    /// Attempts that hang: without an answer for 300 ms, and not given up.
    pub(crate) hanging: usize,
    /// How many of them the server has accepted, and is expected to answer.
    pub(crate) coming: usize,
    /// How many of them have passed `connect_timeout`, but still wait for their login.
    pub(crate) overdue: usize,
    /// The pause between giving up one overdue login and the next.
    give_up_pause: Option<GrowingPause>,
    /// The last failure, with its number among `ended`.
    last_failure: Option<(u64, ConnectError)>,
    /// Attempts that have ended, and how many of them failed.
    ended: u64,
    failed: u64,
    /// How long the last openings took, each with its number among `ended`.
    times: VecDeque<(u64, Duration)>,
    /// Limits WARN events to one a second if outages follow each other closely.
    warnings: RateLimit,
    /// The beginning of this outage was logged at WARN, so its end is logged too.
    is_logged: bool,
}

/// An attempt under way. If several attempts made at the same time fail, only the first failure is
/// a step of the back-off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    /// Failures in a row when it began; `None` once it has been counted as a failure itself.
    failures_before: Option<u32>,
}

/// A point in the record of attempts, to ask what happened [since](Backoff::since).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    ended: u64,
    failed: u64,
}

/// What happened since a [`Mark`].
pub(crate) struct Since {
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    pub(crate) times: Vec<Duration>,
    pub(crate) last_error: Option<ConnectError>,
}

/// An outage that has ended, and whose beginning was logged.
pub(crate) struct Outage {
    pub(crate) failures: u32,
    pub(crate) lasted: Duration,
}

impl Backoff {
    /// How many attempts may be in flight now: `most` normally, one after a failure, none during a
    /// pause. Those that hang do not count.
    pub(crate) fn allows(&self, most: usize, now: Timestamp) -> usize {
        if self.retry_at.is_some_and(|at| now < at) {
            0
        } else if self.failures > 0 {
            1
        } else {
            most
        }
    }

    pub(crate) fn begin(&self) -> Attempt {
        Attempt {
            failures_before: Some(self.failures),
        }
    }

    /// Records an attempt that succeeded. Returns the outage that it ended, if that was logged.
    pub(crate) fn succeeded(
        &mut self,
        took: Duration,
        remember: usize,
        now: Timestamp,
    ) -> Option<Outage> {
        self.ended = self.ended.saturating_add(1);
        self.times.push_back((self.ended, took));
        if self.times.len() > remember.max(1) {
            self.times.pop_front();
        }
        self.retry_at = None;
        self.give_up_pause = None;
        let failures = std::mem::take(&mut self.failures);
        let since = self.failing_since.take()?;
        std::mem::take(&mut self.is_logged).then(|| Outage {
            failures,
            lasted: now.since(since),
        })
    }

    /// Records an attempt that failed. Returns whether it is to be logged as an outage.
    pub(crate) fn failed(
        &mut self,
        attempt: Attempt,
        error: ConnectError,
        now: Timestamp,
        chance: u64,
    ) -> bool {
        self.ended = self.ended.saturating_add(1);
        self.failed = self.failed.saturating_add(1);
        self.last_failure = Some((self.ended, error));
        self.step(attempt, now, chance)
    }

    /// Records an attempt that hangs, so that another may be made beside it. Returns whether it is
    /// to be logged as an outage.
    pub(crate) fn hangs(
        &mut self,
        attempt: &mut Attempt,
        error: ConnectError,
        now: Timestamp,
        chance: u64,
    ) -> bool {
        self.hanging = self.hanging.saturating_add(1);
        self.last_failure = Some((self.ended, error));
        let is_outage = self.step(*attempt, now, chance);
        // Its end must not be another step: others may have succeeded long before.
        attempt.failures_before = None;
        is_outage
    }

    /// Records that a login goes on after `connect_timeout`, which is `limit`.
    pub(crate) fn begin_overdue(&mut self, limit: Duration, now: Timestamp) {
        self.overdue = self.overdue.saturating_add(1);
        if self.give_up_pause.is_none() {
            let longest = LONGEST_GIVE_UP_PAUSE.max(limit);
            let mut pause = GrowingPause::new(limit, longest);
            pause.is_over(now);
            self.give_up_pause = Some(pause);
        }
    }

    /// Whether an overdue login may be given up now: `connect_timeout` after the first of them, and
    /// then after growing pauses until an attempt succeeds.
    pub(crate) fn may_give_up(&mut self, now: Timestamp) -> bool {
        let pause = self.give_up_pause.as_mut();
        pause.is_some_and(|pause| pause.is_over(now))
    }

    fn step(&mut self, attempt: Attempt, now: Timestamp, chance: u64) -> bool {
        if attempt.failures_before != Some(self.failures) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        let delay = schedule::back_off(self.failures, now.since(since), chance);
        self.retry_at = Some(now.after(delay));
        let is_outage = !self.is_logged && self.warnings.allows(now);
        self.is_logged |= is_outage;
        is_outage
    }

    /// Ends the pause, if there is one.
    pub(crate) fn end_pause(&mut self) {
        self.retry_at = None;
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether the last attempt has opened a connection. False before the first one.
    pub(crate) fn last_succeeded(&self) -> bool {
        !self.is_failing() && !self.times.is_empty()
    }

    /// When the next attempt may be made, if that is later than now.
    pub(crate) fn next_attempt(&self, now: Timestamp) -> Option<Timestamp> {
        self.retry_at.filter(|at| *at > now)
    }

    /// Why connections cannot be opened now; `None` if the last attempt succeeded.
    pub(crate) fn error(&self) -> Option<&ConnectError> {
        let last = self.last_failure.as_ref().map(|(_, error)| error);
        last.filter(|_| self.is_failing())
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            ended: self.ended,
            failed: self.failed,
        }
    }

    pub(crate) fn since(&self, mark: Mark) -> Since {
        let times = self.times.iter().filter(|(n, _)| *n > mark.ended);
        Since {
            attempts: self.ended.saturating_sub(mark.ended),
            failed: self.failed.saturating_sub(mark.failed),
            times: times.map(|(_, time)| *time).collect(),
            last_error: self.failure_since(mark).cloned(),
        }
    }

    /// Whether a connection has been opened since `mark`.
    pub(crate) fn has_opened_since(&self, mark: Mark) -> bool {
        let last = self.times.back();
        last.is_some_and(|(number, _)| *number > mark.ended)
    }

    /// The last failure since `mark`, if it is permanent.
    pub(crate) fn permanent_since(&self, mark: Mark) -> Option<ConnectError> {
        let failure = self.failure_since(mark);
        failure.filter(|error| !error.is_transient()).cloned()
    }

    fn failure_since(&self, mark: Mark) -> Option<&ConnectError> {
        let (number, error) = self.last_failure.as_ref()?;
        (*number > mark.ended).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConnectPhase;

    fn error() -> ConnectError {
        ConnectError::timed_out(ConnectPhase::Connect, Duration::from_secs(1))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn after_a_failure_there_is_one_attempt_at_a_time() {
        let now = Timestamp::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.allows(8, now), 8);
        let side_by_side = [backoff.begin(), backoff.begin()];
        assert!(backoff.failed(side_by_side[0], error(), now, 0));
        assert_eq!(backoff.allows(8, now), 0);
        let due = backoff.next_attempt(now).expect("a next attempt");
        assert!(!backoff.failed(side_by_side[1], error(), now, 0));
        assert_eq!(backoff.next_attempt(now), Some(due), "one step for both");
        assert_eq!(backoff.allows(8, due), 1);
        assert!(backoff.error().is_some());
        let outage = backoff.succeeded(ms(0), 9, due).expect("an outage");
        assert_eq!((outage.failures, outage.lasted), (1, due.since(now)));
        assert!(backoff.allows(8, due) == 8 && backoff.error().is_none());
    }

    #[test]
    fn a_pause_that_was_ended_leaves_one_attempt_at_a_time() {
        let now = Timestamp::now();
        let mut backoff = Backoff::default();
        backoff.failed(backoff.begin(), error(), now, u64::MAX);
        assert_eq!(backoff.allows(8, now), 0);
        backoff.end_pause();
        assert_eq!(backoff.allows(8, now), 1);
        backoff.failed(backoff.begin(), error(), now, u64::MAX);
        assert_eq!(backoff.allows(8, now), 0, "the next failure begins another");
    }

    #[test]
    fn a_late_failure_of_a_hanging_attempt_is_no_outage() {
        let now = Timestamp::now();
        let mut backoff = Backoff::default();
        let (mut hanging, other) = (backoff.begin(), backoff.begin());
        assert!(backoff.hangs(&mut hanging, error(), now, 0));
        assert!(backoff.is_failing());
        assert!(backoff.succeeded(ms(0), 9, now).is_some());
        assert!(!backoff.failed(hanging, error(), now, 0));
        assert!(!backoff.is_failing() && backoff.error().is_none());
        backoff.failed(other, error(), now, 0);
        assert!(backoff.is_failing(), "that one did not hang");
    }

    #[test]
    fn outages_in_quick_succession_are_logged_once_a_second() {
        let start = Timestamp::now();
        let mut backoff = Backoff::default();
        let mut logged = Vec::new();
        for at in (0..2_500).step_by(10) {
            let now = start.after(ms(at));
            let attempt = backoff.begin();
            let began = backoff.failed(attempt, error(), now, 0);
            let ended = backoff.succeeded(ms(0), 9, now).is_some();
            assert_eq!(began, ended);
            logged.extend(began.then_some(at));
        }
        assert_eq!(logged, [0, 1_000, 2_000]);
        // An outage that goes on is logged once.
        let mut fails = |at| {
            let attempt = backoff.begin();
            backoff.failed(attempt, error(), start.after(ms(at)), 0)
        };
        assert!(!fails(2_600) && !fails(2_990) && fails(3_010) && !fails(9_000));
        let end = backoff.succeeded(ms(0), 9, start.after(ms(10_000)));
        assert_eq!(end.map(|outage| outage.failures), Some(4));
    }

    #[test]
    fn few_logins_are_given_up_in_a_long_outage() {
        let (limit, start) = (Duration::from_secs(10), Timestamp::now());
        let mut backoff = Backoff::default();
        assert!(!backoff.may_give_up(start));
        backoff.begin_overdue(limit, start);
        let mut given_up = Vec::new();
        for at in 0..3600 {
            let now = start.after(Duration::from_secs(at));
            given_up.extend(backoff.may_give_up(now).then_some(at));
        }
        assert_eq!(given_up[..6], [10, 30, 70, 150, 310, 610]);
        assert_eq!(given_up.len(), 15);
        assert!(backoff.succeeded(ms(0), 9, start).is_none());
        assert!(!backoff.may_give_up(start.after(limit)));
    }

    #[test]
    fn a_mark_separates_what_happened_before_and_after() {
        let now = Timestamp::now();
        let mut backoff = Backoff::default();
        let attempt = backoff.begin();
        backoff.failed(attempt, error(), now, 0);
        let mark = backoff.mark();
        assert!(backoff.since(mark).last_error.is_none());
        backoff.succeeded(ms(3), 9, now);
        let since = backoff.since(mark);
        assert_eq!((since.attempts, since.failed), (1, 0));
        assert_eq!(since.times, [ms(3)]);
    }
}
