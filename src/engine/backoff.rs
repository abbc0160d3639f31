//! Pure: how opening connections goes, and what may be done when: the next attempt, telling of an outage, asking for a sign
//! of life, a refresh. Takes `now` and chance.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{engine::schedule, error::ConnectError, session::activity::Look};

/// Between two refreshes because the server is read-only. A failover that is not over at the first is found by a later
/// one, after at most about twice its own time; a server that is read-only for good is refreshed more and more rarely.
const FIRST_REFRESH_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_REFRESH_PAUSE: Duration = Duration::from_secs(60);

/// Callers wait, all of the limit is in use, and no connection answers: for so long that is no trouble.
const SILENCE: Duration = Duration::from_millis(700);
/// Looks in a row that must have seen an answer for the trouble to be over: slow queries on all connections are
/// not to be told over and over.
const ANSWERING: u32 = 3;

/// The beginning of an outage is told aloud this often at most: a server that refuses every other connection begins one
/// with each.
const ALOUD_EVERY: Duration = Duration::from_secs(1);

/// Between two signs of life that the server is asked for while none of the connections in use comes back.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How opening connections goes: one gate for all attempts of a pool. What it says rests on what was noted before, and on
/// nothing else.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// A first fill was asked for.
    pub(crate) begun: bool,
    /// Failures in a row.
    failures: u32,
    /// When the first of them was.
    failing_since: Option<Instant>,
    /// When the beginning of an outage was last told aloud, and whether that was this one's.
    told_at: Option<Instant>,
    is_told: bool,
    /// No attempt before this.
    retry_at: Option<Instant>,
    /// Attempts that have not answered for long, and are still given their time.
    pub(crate) hanging: usize,
    /// The last failure, with its number among `ended`.
    last_failure: Option<(u64, ConnectError)>,
    /// Attempts that have ended, and how many of them failed.
    ended: u64,
    failed: u64,
    /// How long the last openings took, each with its number among `ended`.
    times: VecDeque<(u64, Duration)>,
    /// Since when fewer connections than `ready_at` are open.
    short_since: Option<Instant>,
    /// Since when nothing has answered while all of the limit is in use.
    silence: Option<Silence>,
    /// The last refresh because the server had become read-only.
    read_only: Option<ReadOnlyRefresh>,
    /// How the server was asked for signs of life since a connection last came back.
    asked: Option<Asked>,
}

/// All of the limit is in use, and callers wait.
#[derive(Clone, Copy, Debug)]
struct Silence {
    last: Look,
    since: Instant,
    /// It has lasted too long.
    is_trouble: bool,
    /// Looks in a row that saw an answer.
    answering: u32,
}

/// Connections were to be replaced because the server had become read-only.
#[derive(Clone, Copy, Debug)]
struct ReadOnlyRefresh {
    again_at: Instant,
    pause: Duration,
}

/// How the server was asked for signs of life.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The last return before.
    after: u64,
    again_at: Instant,
    pause: Duration,
}

/// What an attempt takes along from the gate, and shows when it has failed: of attempts that were in flight together the
/// first failure counts, and the others are no further step of the back-off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    /// Failures in a row when it began; `None` once it has been counted as one itself.
    failures_before: Option<u32>,
}

/// A moment, by how many attempts had ended: what happened [`since`](Gate::since) can be asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) ended: u64,
    failed: u64,
}

/// What happened since a [`Mark`].
pub(crate) struct Since {
    pub(crate) attempts: u64,
    pub(crate) failed: u64,
    pub(crate) times: Vec<Duration>,
    pub(crate) last_error: Option<ConnectError>,
}

/// An outage that has ended, of which the beginning was told.
pub(crate) struct Outage {
    pub(crate) failures: u32,
    pub(crate) lasted: Duration,
}

impl Gate {
    /// How many attempts may be in flight now: `most` in good times, one after a failure, none during a pause. Those that
    /// hang do not count.
    pub(crate) fn opens_for(&self, most: usize, now: Instant) -> usize {
        if self.retry_at.is_some_and(|at| now < at) {
            0
        } else if self.failures > 0 {
            1
        } else {
            most
        }
    }

    pub(crate) fn pass(&mut self) -> Pass {
        self.begun = true;
        Pass {
            failures_before: Some(self.failures),
        }
    }

    pub(crate) fn note_success(
        &mut self,
        took: Duration,
        remember: usize,
        now: Instant,
    ) -> Option<Outage> {
        self.ended = self.ended.saturating_add(1);
        self.times.push_back((self.ended, took));
        if self.times.len() > remember.max(1) {
            self.times.pop_front();
        }
        self.retry_at = None;
        let failures = std::mem::take(&mut self.failures);
        let since = self.failing_since.take()?;
        std::mem::take(&mut self.is_told).then(|| Outage {
            failures,
            lasted: now.saturating_duration_since(since),
        })
    }

    /// Notes an attempt that failed; says whether an outage is to be told aloud with it.
    pub(crate) fn note_failure(
        &mut self,
        pass: Pass,
        error: ConnectError,
        now: Instant,
        chance: u64,
    ) -> bool {
        self.ended = self.ended.saturating_add(1);
        self.failed = self.failed.saturating_add(1);
        self.last_failure = Some((self.ended, error));
        self.step_back(pass, now, chance)
    }

    /// Notes an attempt that hangs, and lets the next one be made beside it; says whether an outage is to be told aloud
    /// with it.
    pub(crate) fn note_hanging(
        &mut self,
        pass: &mut Pass,
        error: ConnectError,
        now: Instant,
        chance: u64,
    ) -> bool {
        self.hanging = self.hanging.saturating_add(1);
        self.last_failure = Some((self.ended, error));
        let aloud = self.step_back(*pass, now, chance);
        // How it ends, perhaps long after others have succeeded, is no further news.
        pass.failures_before = None;
        aloud
    }

    /// One step of the back-off; attempts that were in flight together are one step.
    fn step_back(&mut self, pass: Pass, now: Instant, chance: u64) -> bool {
        if pass.failures_before != Some(self.failures) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        let outage = now.saturating_duration_since(since);
        self.retry_at = now.checked_add(schedule::back_off(self.failures, outage, chance));
        self.tell(now)
    }

    /// Whether to tell of this outage now: once, and a short one that follows another at once not at all.
    fn tell(&mut self, now: Instant) -> bool {
        let last = self.told_at.map(|at| now.saturating_duration_since(at));
        let aloud = !self.is_told && last.is_none_or(|ago| ago >= ALOUD_EVERY);
        if aloud {
            self.told_at = Some(now);
            self.is_told = true;
        }
        aloud
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Why connections cannot be opened now; `None` when the last attempt succeeded.
    pub(crate) fn error(&self) -> Option<&ConnectError> {
        let failing = self.is_failing();
        self.last_failure
            .as_ref()
            .filter(|_| failing)
            .map(|(_, error)| error)
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            ended: self.ended,
            failed: self.failed,
        }
    }

    /// The last failure after so many attempts had ended.
    fn failure_since(&self, ended: u64) -> Option<&ConnectError> {
        self.last_failure
            .as_ref()
            .filter(|(n, _)| *n > ended)
            .map(|(_, error)| error)
    }

    /// The last failure after so many attempts had ended, if it is one that trying again does not mend.
    pub(crate) fn lasting_since(&self, ended: u64) -> Option<ConnectError> {
        self.failure_since(ended)
            .filter(|error| !error.is_transient())
            .cloned()
    }

    pub(crate) fn since(&self, mark: Mark) -> Since {
        let last_error = self.failure_since(mark.ended);
        Since {
            attempts: self.ended.saturating_sub(mark.ended),
            failed: self.failed.saturating_sub(mark.failed),
            times: self
                .times
                .iter()
                .filter(|(n, _)| *n > mark.ended)
                .map(|(_, time)| *time)
                .collect(),
            last_error: last_error.cloned(),
        }
    }

    /// Notes whether the pool is short of connections; says for how long it has been.
    pub(crate) fn note_short(&mut self, short: bool, now: Instant) -> Duration {
        if !short {
            self.short_since = None;
            return Duration::ZERO;
        }
        now.saturating_duration_since(*self.short_since.get_or_insert(now))
    }

    /// Notes a look at connections all of which are in use while callers wait, if it is so; says whether they
    /// have not answered for too long.
    pub(crate) fn note_silence(&mut self, look: Option<Look>, now: Instant) -> bool {
        let Some(look) = look else {
            self.silence = None;
            return false;
        };
        let silence = self.silence.get_or_insert(Silence {
            last: look,
            since: now,
            is_trouble: false,
            answering: 0,
        });
        if silence.last == look {
            silence.answering = 0;
            let lasted = now.saturating_duration_since(silence.since);
            silence.is_trouble |= lasted >= SILENCE;
        } else {
            (silence.last, silence.since) = (look, now);
            silence.answering = silence.answering.saturating_add(1);
            silence.is_trouble &= silence.answering < ANSWERING;
        }
        silence.is_trouble
    }

    /// For how long no connection has answered, if that is trouble.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        let silence = self.silence.filter(|silence| silence.is_trouble)?;
        Some(now.saturating_duration_since(silence.since))
    }

    /// When the keeper is to look again: at the next attempt, or when `grace` for a shortage ends.
    pub(crate) fn next_due(&self, grace: Duration, now: Instant) -> Option<Instant> {
        let grace_ends = self.short_since.and_then(|since| since.checked_add(grace));
        [self.retry_at, grace_ends]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// Whether the server is to be asked for a sign of life now: at once after a return, then in pauses that double.
    pub(crate) fn is_to_ask(&mut self, last_return: u64, now: Instant) -> bool {
        let pause = match self.asked.filter(|asked| asked.after == last_return) {
            Some(asked) if now < asked.again_at => return false,
            Some(asked) => asked.pause.saturating_mul(2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        let again_at = now.checked_add(pause).unwrap_or(now);
        self.asked = Some(Asked {
            after: last_return,
            again_at,
            pause,
        });
        true
    }

    /// Whether the pool may be refreshed because the server says it is read-only: at once, then in pauses that double
    /// for as long as it goes on.
    pub(crate) fn may_refresh_for_read_only(&mut self, now: Instant) -> bool {
        let goes_on = |last: ReadOnlyRefresh| {
            now.saturating_duration_since(last.again_at) < last.pause.max(FIRST_PAUSE)
        };
        let pause = match self.read_only {
            Some(last) if now < last.again_at => return false,
            Some(last) if goes_on(last) => last.pause.saturating_mul(2).min(LONGEST_REFRESH_PAUSE),
            _ => FIRST_REFRESH_PAUSE,
        };
        let again_at = now.checked_add(pause).unwrap_or(now);
        self.read_only = Some(ReadOnlyRefresh { again_at, pause });
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{FIRST_REFRESH_PAUSE, Gate};
    use crate::{
        error::{ConnectError, ConnectPhase},
        session::activity::Pulses,
    };

    fn error() -> ConnectError {
        ConnectError::timed_out(ConnectPhase::Connect, Duration::from_secs(1))
    }

    #[test]
    fn after_a_failure_one_probe_at_a_time_and_after_a_success_all_at_once() {
        let now = Instant::now();
        let mut gate = Gate::default();
        assert_eq!(gate.opens_for(8, now), 8);
        let together = [gate.pass(), gate.pass()];
        assert!(gate.note_failure(together[0], error(), now, 0));
        assert_eq!(gate.opens_for(8, now), 0);
        let due = gate.next_due(Duration::ZERO, now).expect("a next attempt");
        assert!(!gate.note_failure(together[1], error(), now, 0));
        assert_eq!(
            gate.next_due(Duration::ZERO, now),
            Some(due),
            "one step for both"
        );
        assert_eq!(gate.opens_for(8, due), 1);
        assert!(gate.error().is_some());
        let outage = gate
            .note_success(Duration::ZERO, 9, due)
            .expect("an outage");
        assert_eq!((outage.failures, outage.lasted), (1, due - now));
        assert_eq!((gate.opens_for(8, due), gate.error().is_none()), (8, true));
    }

    #[test]
    fn an_attempt_that_hung_and_fails_after_another_succeeded_is_no_new_outage() {
        let now = Instant::now();
        let mut gate = Gate::default();
        let (mut hanging, other) = (gate.pass(), gate.pass());
        assert!(gate.note_hanging(&mut hanging, error(), now, 0));
        assert!(gate.is_failing());
        assert!(gate.note_success(Duration::ZERO, 9, now).is_some());
        assert!(!gate.note_failure(hanging, error(), now, 0));
        assert!(!gate.is_failing() && gate.error().is_none());
        gate.note_failure(other, error(), now, 0);
        assert!(gate.is_failing(), "that one is");
    }

    #[test]
    fn of_outages_that_follow_each_other_at_once_one_a_second_is_told_with_its_end() {
        let start = Instant::now();
        let mut gate = Gate::default();
        let mut told = Vec::new();
        for ms in (0..2_500).step_by(10) {
            let now = start + Duration::from_millis(ms);
            let pass = gate.pass();
            let began = gate.note_failure(pass, error(), now, 0);
            let ended = gate.note_success(Duration::ZERO, 9, now).is_some();
            assert_eq!(began, ended);
            told.extend(began.then_some(ms));
        }
        assert_eq!(told, [0, 1_000, 2_000]);
        // One that goes on is told of when its time has come.
        let mut fails = |ms| {
            let pass = gate.pass();
            gate.note_failure(pass, error(), start + Duration::from_millis(ms), 0)
        };
        assert!(!fails(2_600) && !fails(2_990) && fails(3_010) && !fails(9_000));
        let end = gate.note_success(Duration::ZERO, 9, start + Duration::from_secs(10));
        assert_eq!(end.map(|outage| outage.failures), Some(4));
    }

    #[test]
    fn what_happened_since_a_mark_is_told_once() {
        let now = Instant::now();
        let mut gate = Gate::default();
        let pass = gate.pass();
        gate.note_failure(pass, error(), now, 0);
        let mark = gate.mark();
        assert!(gate.since(mark).last_error.is_none());
        gate.note_success(Duration::from_millis(3), 9, now);
        let since = gate.since(mark);
        assert_eq!((since.attempts, since.failed), (1, 0));
        assert_eq!(since.times, [Duration::from_millis(3)]);
    }

    #[test]
    fn signs_of_life_are_asked_for_more_and_more_rarely_until_a_connection_comes_back() {
        let start = Instant::now();
        let mut gate = Gate::default();
        let asked: Vec<_> = (0..200_u64)
            .filter(|s| gate.is_to_ask(7, start + Duration::from_secs(*s)))
            .collect();
        assert_eq!(asked, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert!(gate.is_to_ask(8, start + Duration::from_secs(200)));
    }

    #[test]
    fn silence_is_trouble_until_answers_come_again_and_again() {
        let pulses = Pulses::default();
        let pulse = pulses.begin();
        let start = Instant::now();
        let mut gate = Gate::default();
        let mut look_after = |ms, answered: bool| {
            if answered {
                pulse.end();
            }
            pulse.begin();
            gate.note_silence(Some(pulses.look()), start + Duration::from_millis(ms))
        };
        let mut told = Vec::new();
        for ms in (0..800).step_by(100) {
            told.push(look_after(ms, false));
        }
        assert_eq!(told.iter().position(|told| *told), Some(7), "after 700 ms");
        // One answer in the middle of slow queries.
        assert!(look_after(800, true) && look_after(900, false));
        assert!(look_after(1000, true) && look_after(1100, true));
        assert!(!look_after(1200, true));
        assert!(!look_after(1300, false));
        assert!(look_after(1900, false));
        assert!(!gate.note_silence(None, start + Duration::from_secs(2)));
        assert!(gate.silence(start).is_none());
    }

    #[test]
    fn a_server_that_is_read_only_for_good_is_refreshed_more_and_more_rarely() {
        let start = Instant::now();
        let mut gate = Gate::default();
        let mut refreshed = (0..240_000_u64)
            .step_by(50)
            .filter(|ms| gate.may_refresh_for_read_only(start + Duration::from_millis(*ms)));
        let first: Vec<_> = refreshed.by_ref().take(6).collect();
        assert_eq!(first, [0, 250, 750, 1750, 3750, 7750]);
        assert_eq!(refreshed.count(), 2 + 3, "then one a minute");
        // After a time without it, it is news again.
        let later = start + Duration::from_secs(600);
        assert!(gate.may_refresh_for_read_only(later));
        assert!(gate.may_refresh_for_read_only(later + FIRST_REFRESH_PAUSE));
    }
}
