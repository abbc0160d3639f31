//! Decides whether the pool can serve, and keeps the facts that this depends on.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use crate::{
    error::Error,
    report::{Readiness, ReadinessSnapshot, ReadinessWatch},
    session::activity::Sample,
    time::{Timestamp, nanos},
};

use super::schedule::GrowingPause;

/// How long there may be fewer than `ready_at` working connections before the readiness changes.
///
/// A cancelled statement costs a connection, but its replacement takes milliseconds, which is no
/// reason to change the readiness.
pub(crate) const GRACE: Duration = Duration::from_millis(500);
/// After this time without an answer on any connection in use, the pool looks for a sign of life.
const QUIET: Duration = Duration::from_millis(300);
/// Returns closer together than this count as one sign of life.
const RETURNS_APART: Duration = Duration::from_millis(1);
/// If the whole limit is in use, callers wait and no connection answers for this long, the pool is
/// no longer Ready.
const SILENCE: Duration = Duration::from_millis(700);
/// The silence ends after this many samples in a row that show answers, so that slow queries on all
/// connections do not make the readiness flap.
const ANSWERS: u32 = 3;
/// The pause between two refreshes because the server is read-only. A failover that is not over at
/// the first refresh is caught by a later one, after at most about twice its duration.
const REFRESH_PAUSE: GrowingPause =
    GrowingPause::new(Duration::from_millis(250), Duration::from_secs(60));
/// The pause between two searches for a sign of life while no connection is returned.
const SIGN_PAUSE: GrowingPause = GrowingPause::new(Duration::from_secs(1), Duration::from_secs(60));

/// The pause between giving up one connection that does not answer, to open another in its place,
/// and giving up the next.
const GIVE_UP_PAUSE: GrowingPause =
    GrowingPause::new(Duration::from_secs(1), Duration::from_secs(60));

/// When the server last answered, and which connections are suspect. Lock-free: written at each
/// return, read at each get.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// Connections last validated before this are suspect; in [`Timestamp::nanos`], as all here.
    suspect_before: AtomicU64,
    /// When the server last answered, as far as the pool knows.
    last_answer: AtomicU64,
    /// When the last statement on a returned connection was answered.
    last_return: AtomicU64,
    /// When the latest successful attempt began.
    opened: AtomicU64,
    /// Connections without an answer to the pool's own command for 300 ms, but not yet at
    /// `connect_timeout`.
    unresponsive: AtomicUsize,
}

impl Liveness {
    /// Whether another connection was found dead since this one was last validated.
    #[inline]
    pub(crate) fn is_suspect(&self, validated_at: Timestamp) -> bool {
        validated_at.nanos() < self.suspect_before.load(Ordering::Relaxed)
    }

    /// Makes every connection not validated since then suspect.
    pub(crate) fn suspect_all(&self, then: Timestamp) {
        self.suspect_before
            .fetch_max(then.nanos(), Ordering::Relaxed);
    }

    pub(crate) fn record_answer(&self, now: Timestamp) {
        self.last_answer.fetch_max(now.nanos(), Ordering::Relaxed);
    }

    /// Records that an attempt that began at `then` has opened a connection.
    pub(crate) fn record_opened(&self, began: Timestamp) {
        self.opened.fetch_max(began.nanos(), Ordering::Relaxed);
    }

    /// Whether an attempt that began after `then` has opened a connection.
    pub(crate) fn opened_since(&self, then: Timestamp) -> bool {
        self.opened.load(Ordering::Relaxed) > then.nanos()
    }

    /// Records a returned connection, and when its last statement was answered.
    #[inline]
    pub(crate) fn record_return(&self, answered_at: Timestamp) {
        let at = answered_at.nanos();
        let known = self.last_return.load(Ordering::Relaxed);
        // Written rarely, because all threads read it. A connection whose statements were not
        // followed has an old answer, but its return is still a sign of life.
        if at.abs_diff(known) > nanos(RETURNS_APART) {
            self.last_answer.fetch_max(at, Ordering::Relaxed);
            self.last_return.store(at, Ordering::Relaxed);
        }
    }

    pub(crate) fn last_return(&self) -> u64 {
        self.last_return.load(Ordering::Relaxed)
    }

    /// Whether the server has not answered for longer than [`QUIET`], as far as the pool knows.
    pub(crate) fn is_quiet(&self, now: Timestamp) -> bool {
        let answered = self.last_answer.load(Ordering::Relaxed);
        now.nanos().saturating_sub(answered) > nanos(QUIET)
    }

    /// Counts a connection as not working until the returned guard is dropped.
    pub(crate) fn unresponsive(&self) -> Unresponsive<'_> {
        self.unresponsive.fetch_add(1, Ordering::Relaxed);
        Unresponsive(self)
    }

    pub(crate) fn unresponsive_count(&self) -> usize {
        self.unresponsive.load(Ordering::Relaxed)
    }
}

/// Counts one connection as not working while it lives.
pub(crate) struct Unresponsive<'a>(&'a Liveness);

impl Drop for Unresponsive<'_> {
    fn drop(&mut self) {
        self.0.unresponsive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What readiness depends on besides the connections now. Pure: takes `now` as an argument.
#[derive(Debug)]
pub(crate) struct HealthRecord {
    /// When the pool began to open connections.
    begun_at: Option<Timestamp>,
    /// Since when fewer than `ready_at` connections work.
    short_since: Option<Timestamp>,
    silence: Option<Silence>,
    refresh_pause: GrowingPause,
    sign_pause: GrowingPause,
    give_up_pause: GrowingPause,
    /// The last return before the pool last looked for a sign of life.
    sign_after: u64,
}

/// While the whole limit is in use and callers wait: the last sample of activity, and its age.
#[derive(Clone, Copy, Debug)]
struct Silence {
    last: Sample,
    since: Timestamp,
    /// The sample has not changed for [`SILENCE`].
    is_trouble: bool,
    /// Samples in a row that showed answers.
    answers: u32,
}

impl Default for HealthRecord {
    fn default() -> Self {
        Self {
            begun_at: None,
            short_since: None,
            silence: None,
            refresh_pause: REFRESH_PAUSE,
            sign_pause: SIGN_PAUSE,
            give_up_pause: GIVE_UP_PAUSE,
            sign_after: 0,
        }
    }
}

impl HealthRecord {
    /// Records that the pool opens connections. Only the first call counts.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.begun_at.get_or_insert(now);
    }

    /// Whether the first fill has begun, and whether its time, `warm_up_timeout`, is over.
    pub(crate) fn first_fill(&self, warm_up_timeout: Duration, now: Timestamp) -> FirstFill {
        match self.begun_at {
            None => FirstFill::NotBegun,
            Some(at) if now.since(at) < warm_up_timeout => FirstFill::InTime,
            Some(_) => FirstFill::TimeOver,
        }
    }

    /// When the time for the first fill ends, if that is later than now.
    pub(crate) fn first_fill_ends(
        &self,
        warm_up_timeout: Duration,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let ends = self.begun_at?.after(warm_up_timeout);
        (ends > now).then_some(ends)
    }

    /// Records whether the pool is short of connections. Returns for how long it has been.
    pub(crate) fn record_short(&mut self, is_short: bool, now: Timestamp) -> Duration {
        if !is_short {
            self.short_since = None;
            return Duration::ZERO;
        }
        now.since(*self.short_since.get_or_insert(now))
    }

    /// When [`GRACE`] ends for a shortage, if that is later than now.
    pub(crate) fn grace_ends(&self, now: Timestamp) -> Option<Timestamp> {
        let ends = self.short_since?.after(GRACE);
        (ends > now).then_some(ends)
    }

    /// Records a sample of the connections' activity, which is `None` unless the whole limit is in
    /// use and callers wait. Returns whether no connection has answered for too long.
    pub(crate) fn record_sample(&mut self, sample: Option<Sample>, now: Timestamp) -> bool {
        let Some(sample) = sample else {
            self.silence = None;
            return false;
        };
        let silence = self.silence.get_or_insert(Silence {
            last: sample,
            since: now,
            is_trouble: false,
            answers: 0,
        });
        if silence.last == sample {
            silence.answers = 0;
            silence.is_trouble |= now.since(silence.since) >= SILENCE;
        } else {
            (silence.last, silence.since) = (sample, now);
            silence.answers = silence.answers.saturating_add(1);
            silence.is_trouble &= silence.answers < ANSWERS;
        }
        silence.is_trouble
    }

    /// For how long no connection has answered, if that is trouble.
    pub(crate) fn silent_for(&self, now: Timestamp) -> Option<Duration> {
        let silence = self.silence.filter(|silence| silence.is_trouble)?;
        Some(now.since(silence.since))
    }

    /// Whether to look for a sign of life now: at once after a return, then after growing pauses.
    pub(crate) fn wants_sign_of_life(&mut self, last_return: u64, now: Timestamp) -> bool {
        if std::mem::replace(&mut self.sign_after, last_return) != last_return {
            self.sign_pause = SIGN_PAUSE;
        }
        self.sign_pause.is_over(now)
    }

    /// Whether to give up a connection that does not answer: at once, then after growing pauses.
    pub(crate) fn may_give_up(&mut self, now: Timestamp) -> bool {
        if self.give_up_pause.is_long_over(now) {
            self.give_up_pause = GIVE_UP_PAUSE;
        }
        self.give_up_pause.is_over(now)
    }

    /// Whether to refresh the pool now because of an error that concerns all connections, such as a
    /// read-only server: at once, then after growing pauses while it lasts.
    pub(crate) fn may_refresh_after_error(&mut self, now: Timestamp) -> bool {
        if self.refresh_pause.is_long_over(now) {
            self.refresh_pause = REFRESH_PAUSE;
        }
        self.refresh_pause.is_over(now)
    }
}

/// The first fill of a pool: from its first use until `warm_up_timeout` is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstFill {
    NotBegun,
    InTime,
    TimeOver,
}

/// The facts that determine the readiness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) first_fill: FirstFill,
    /// Open connections that are not known to be unresponsive or out of reach.
    pub(crate) working: usize,
    /// How many working connections make the pool Ready.
    pub(crate) ready_at: usize,
    /// Whether the last attempt to open a connection failed.
    pub(crate) is_failing: bool,
    /// Whether no connection has answered for too long though all are in use and callers wait.
    pub(crate) is_silent: bool,
    /// For how long there have been fewer than `ready_at`.
    pub(crate) short_for: Duration,
}

/// The state that follows `was`. `was_ready`: the pool has been Ready before.
fn next_state(was: Readiness, was_ready: bool, facts: Facts) -> Readiness {
    let is_warming = !was_ready && facts.first_fill != FirstFill::TimeOver;
    let trouble = facts.is_failing || facts.is_silent || facts.short_for >= GRACE;
    match was {
        Readiness::Closed => Readiness::Closed,
        _ if facts.first_fill == FirstFill::NotBegun => Readiness::Cold,
        _ if facts.working >= facts.ready_at && !facts.is_silent => Readiness::Ready,
        _ if is_warming && facts.working == 0 && facts.is_failing => Readiness::Unavailable,
        _ if is_warming => Readiness::Warming,
        Readiness::Ready if !trouble => Readiness::Ready,
        _ if facts.working > 0 => Readiness::Degraded,
        Readiness::Degraded if !trouble => Readiness::Degraded,
        _ => Readiness::Unavailable,
    }
}

/// The readiness, and its watchers.
#[derive(Debug)]
pub(crate) struct ReadinessState {
    sender: watch::Sender<ReadinessSnapshot>,
}

impl ReadinessState {
    pub(crate) fn new() -> Self {
        let snapshot = ReadinessSnapshot {
            readiness: Readiness::Cold,
            since: SystemTime::now(),
            times_ready: 0,
        };
        Self {
            sender: watch::Sender::new(snapshot),
        }
    }

    pub(crate) fn snapshot(&self) -> ReadinessSnapshot {
        *self.sender.borrow()
    }

    pub(crate) fn watch(&self) -> ReadinessWatch {
        ReadinessWatch::new(self.sender.subscribe())
    }

    /// Updates the readiness. Returns the old and the new one if they differ.
    pub(crate) fn update(&self, facts: Facts) -> Option<(Readiness, Readiness)> {
        self.change(|snapshot| next_state(snapshot.readiness, snapshot.times_ready > 0, facts))
    }

    pub(crate) fn close(&self) -> Option<(Readiness, Readiness)> {
        self.change(|_| Readiness::Closed)
    }

    fn change(
        &self,
        next: impl FnOnce(&ReadinessSnapshot) -> Readiness,
    ) -> Option<(Readiness, Readiness)> {
        let mut change = None;
        self.sender.send_if_modified(|snapshot| {
            let next = next(snapshot);
            if next == snapshot.readiness {
                return false;
            }
            change = Some((snapshot.readiness, next));
            snapshot.readiness = next;
            snapshot.since = SystemTime::now();
            if next == Readiness::Ready {
                snapshot.times_ready = snapshot.times_ready.saturating_add(1);
            }
            true
        });
        change
    }

    /// Resolves once the pool is Ready, or has been since the call.
    pub(crate) async fn wait_ready(&self) -> Result<(), Error> {
        let mut receiver = self.sender.subscribe();
        let before = receiver.borrow().times_ready;
        let snapshot = receiver
            .wait_for(|snapshot| {
                snapshot.times_ready > before
                    || matches!(snapshot.readiness, Readiness::Ready | Readiness::Closed)
            })
            .await
            .map(|snapshot| *snapshot);
        match snapshot {
            Ok(snapshot)
                if snapshot.times_ready > before || snapshot.readiness == Readiness::Ready =>
            {
                Ok(())
            }
            Ok(_) | Err(_) => Err(Error::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{activity::Activities, runtime::SocketRuntime};

    const FACTS: Facts = Facts {
        first_fill: FirstFill::InTime,
        working: 0,
        ready_at: 3,
        is_failing: false,
        is_silent: false,
        short_for: Duration::ZERO,
    };

    #[test]
    fn each_state_follows_from_the_facts() {
        use FirstFill::{InTime, NotBegun, TimeOver};
        use Readiness::{Closed, Cold, Degraded, Ready, Unavailable, Warming};
        let short = GRACE;
        let table = [
            // was, was_ready, working, failing, short for, first fill => becomes
            (Cold, false, 0, false, Duration::ZERO, NotBegun, Cold),
            (Cold, false, 0, false, Duration::ZERO, InTime, Warming),
            (Warming, false, 0, true, Duration::ZERO, InTime, Unavailable),
            (
                Unavailable,
                false,
                1,
                false,
                Duration::ZERO,
                InTime,
                Warming,
            ),
            (Warming, false, 2, true, short, InTime, Warming),
            (Warming, false, 3, false, Duration::ZERO, InTime, Ready),
            (Warming, false, 3, false, Duration::ZERO, TimeOver, Ready),
            (Warming, false, 2, true, short, TimeOver, Degraded),
            (Warming, false, 1, false, short, TimeOver, Degraded),
            (Warming, false, 0, true, short, TimeOver, Unavailable),
            (Warming, false, 0, false, short, TimeOver, Unavailable),
            (Unavailable, false, 1, true, short, TimeOver, Degraded),
            (Degraded, false, 2, false, short, TimeOver, Degraded),
            (Degraded, false, 0, true, short, TimeOver, Unavailable),
            (Ready, true, 0, false, Duration::ZERO, InTime, Ready),
            (Ready, true, 2, false, short, InTime, Degraded),
            (Ready, true, 2, true, Duration::ZERO, TimeOver, Degraded),
            (Ready, true, 0, true, Duration::ZERO, TimeOver, Unavailable),
            (Degraded, true, 2, false, Duration::ZERO, TimeOver, Degraded),
            (Degraded, true, 0, false, short, TimeOver, Unavailable),
            (Unavailable, true, 1, false, short, TimeOver, Degraded),
            (Unavailable, true, 3, false, Duration::ZERO, TimeOver, Ready),
            (Closed, true, 3, false, Duration::ZERO, TimeOver, Closed),
        ];
        for (was, was_ready, working, failing, short_for, first_fill, becomes) in table {
            let facts = Facts {
                first_fill,
                working,
                is_failing: failing,
                short_for,
                ..FACTS
            };
            assert_eq!(
                next_state(was, was_ready, facts),
                becomes,
                "from {was} with {facts:?}"
            );
        }
    }

    #[test]
    fn silence_degrades_the_readiness() {
        use Readiness::{Degraded, Ready, Unavailable, Warming};
        let silent = Facts {
            working: 3,
            is_silent: true,
            ..FACTS
        };
        for was in [Ready, Degraded, Unavailable] {
            assert_eq!(next_state(was, true, silent), Degraded, "from {was}");
        }
        assert_eq!(next_state(Warming, false, silent), Warming);
        let answering = Facts {
            is_silent: false,
            ..silent
        };
        assert_eq!(next_state(Degraded, true, answering), Ready);
    }

    #[tokio::test]
    async fn wait_ready_skips_no_ready_state_however_short() {
        let state = ReadinessState::new();
        state.update(FACTS);
        let waiting = state.wait_ready();
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        state.update(Facts {
            working: 3,
            ..FACTS
        });
        state.update(Facts {
            is_failing: true,
            ..FACTS
        });
        assert_eq!(state.snapshot().readiness, Readiness::Unavailable);
        waiting.await.expect("it was ready");
    }

    #[tokio::test]
    async fn closing_ends_wait_ready_and_shows_in_the_watch() {
        let state = ReadinessState::new();
        let mut watch = state.watch();
        let (ready, change) = tokio::join!(state.wait_ready(), async {
            state.close();
            watch.changed().await
        });
        assert!(ready.is_err());
        assert_eq!(change, Readiness::Closed);
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn signs_of_life_are_sought_in_growing_pauses() {
        let start = Timestamp::now();
        let mut health = HealthRecord::default();
        let sought: Vec<_> = (0..200_u64)
            .filter(|s| health.wants_sign_of_life(7, start.after(Duration::from_secs(*s))))
            .collect();
        assert_eq!(sought, [0, 1, 3, 7, 15, 31, 63, 123, 183]);
        assert!(health.wants_sign_of_life(8, start.after(Duration::from_secs(200))));
    }

    #[tokio::test]
    async fn silence_is_trouble_until_answers_come_again() {
        let activities = Activities::default();
        let activity = activities.add(&SocketRuntime::current());
        let start = Timestamp::now();
        let mut health = HealthRecord::default();
        let mut sample_after = |at, is_answered: bool| {
            if is_answered {
                activity.end();
            }
            activity.begin();
            health.record_sample(Some(activities.sample()), start.after(ms(at)))
        };
        let trouble: Vec<_> = (0..800)
            .step_by(100)
            .map(|at| sample_after(at, false))
            .collect();
        assert_eq!(trouble.iter().position(|trouble| *trouble), Some(7));
        // One answer amid slow queries does not end it.
        assert!(sample_after(800, true) && sample_after(900, false));
        assert!(sample_after(1000, true) && sample_after(1100, true));
        assert!(!sample_after(1200, true));
        assert!(!sample_after(1300, false));
        assert!(sample_after(1900, false));
        assert!(!health.record_sample(None, start.after(ms(2000))));
        assert!(health.silent_for(start).is_none());
    }

    #[test]
    fn a_read_only_server_causes_ever_fewer_refreshes() {
        let start = Timestamp::now();
        let mut health = HealthRecord::default();
        let mut refreshed = (0..240_000_u64)
            .step_by(50)
            .filter(|at| health.may_refresh_after_error(start.after(ms(*at))));
        let first: Vec<_> = refreshed.by_ref().take(6).collect();
        assert_eq!(first, [0, 250, 750, 1750, 3750, 7750]);
        assert_eq!(refreshed.count(), 2 + 3, "then one a minute");
        // After a time without it, it starts over.
        let later = start.after(Duration::from_secs(600));
        assert!(health.may_refresh_after_error(later));
        assert!(health.may_refresh_after_error(later.after(ms(250))));
    }
}
