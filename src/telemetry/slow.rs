//! Where the time of one `get()` goes: waiting, opening, proving; and how slow ones are told of without a flood.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tracing::{debug, warn};

use crate::{
    error::Error,
    report::PoolStatus,
    time::{Timestamp, nanos},
};

/// Slow gets are told of aloud this often at most: an outage makes all of them slow.
const ALOUD_EVERY: Duration = Duration::from_secs(1);

/// What a caller's time goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// All connections are in use, or being cleaned.
    Waiting,
    /// Connections are being opened, or cannot be.
    Opening,
    /// An idle connection was asked for a proof.
    Proving,
}

/// Follows one caller. Looks at the clock only where the stage changes.
#[derive(Debug)]
pub(crate) struct Trail {
    stage: Stage,
    since: Timestamp,
    spent: Spent,
}

/// How long one caller's `get()` took, by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    waiting: Duration,
    opening: Duration,
    proving: Duration,
}

impl Trail {
    pub(crate) fn begin(now: Timestamp) -> Self {
        Self {
            stage: Stage::Waiting,
            since: now,
            spent: Spent::default(),
        }
    }

    #[inline]
    pub(crate) fn enter(&mut self, stage: Stage) {
        if stage != self.stage {
            self.leave(Timestamp::now());
            self.stage = stage;
        }
    }

    pub(crate) fn end(mut self, now: Timestamp) -> Spent {
        self.leave(now);
        self.spent
    }

    fn leave(&mut self, now: Timestamp) {
        let spent = match self.stage {
            Stage::Waiting => &mut self.spent.waiting,
            Stage::Opening => &mut self.spent.opening,
            Stage::Proving => &mut self.spent.proving,
        };
        *spent = spent.saturating_add(now.since(self.since));
        self.since = now;
    }
}

impl Spent {
    pub(crate) fn all(&self) -> Duration {
        let waited = self.waiting.saturating_add(self.opening);
        waited.saturating_add(self.proving)
    }
}

/// Tells of slow gets: of one in a while aloud, with how many were told of quietly since.
#[derive(Debug, Default)]
pub(crate) struct SlowGets {
    /// When one was last told of aloud: the number of a [`Timestamp`].
    told_at: AtomicU64,
    /// How many were told of quietly since then.
    quiet: AtomicU64,
}

impl SlowGets {
    pub(crate) fn tell(
        &self,
        pool: &str,
        spent: Spent,
        status: PoolStatus,
        error: Option<&Error>,
        now: Timestamp,
    ) {
        /// The level is part of an event's static data.
        macro_rules! tell {
            ($level:ident, $($more:tt)*) => {
                $level!(
                    pool,
                    waited = spent.all().as_secs_f64(),
                    waiting = spent.waiting.as_secs_f64(),
                    opening = spent.opening.as_secs_f64(),
                    proving = spent.proving.as_secs_f64(),
                    in_use = status.in_use,
                    idle = status.idle,
                    cleaning = status.cleaning,
                    connecting = status.connecting,
                    limit = status.limit(),
                    callers_waiting = status.waiting,
                    error = error.map(tracing::field::display),
                    $($more)*
                    "slow get"
                )
            };
        }
        if self.is_aloud(now.nanos()) {
            let quiet = self.quiet.swap(0, Ordering::Relaxed);
            tell!(warn, quiet,);
        } else {
            self.quiet.fetch_add(1, Ordering::Relaxed);
            tell!(debug,);
        }
    }

    fn is_aloud(&self, now: u64) -> bool {
        let every = nanos(ALOUD_EVERY);
        let told_at = self.told_at.load(Ordering::Relaxed);
        // Of those that come at once, one wins.
        (told_at == 0 || now.saturating_sub(told_at) >= every)
            && self
                .told_at
                .compare_exchange(told_at, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_time() {
        let begun = Timestamp::now();
        let mut trail = Trail::begin(begun);
        let mut at = begun;
        for (stage, ms) in [
            (Stage::Proving, 1),
            (Stage::Waiting, 20),
            (Stage::Opening, 300),
            (Stage::Opening, 4000),
        ] {
            at = at.after(Duration::from_millis(ms));
            trail.leave(at);
            trail.stage = stage;
        }
        let spent = trail.end(at.after(Duration::from_millis(50_000)));
        let ms = Duration::from_millis;
        assert_eq!(
            spent,
            Spent {
                waiting: ms(1 + 300),
                opening: ms(4000 + 50_000),
                proving: ms(20),
            }
        );
        assert_eq!(spent.all(), ms(54_321));
    }

    #[test]
    fn entering_the_stage_one_is_in_changes_nothing() {
        let mut trail = Trail::begin(Timestamp::now());
        trail.enter(Stage::Waiting);
        assert_eq!(trail.spent, Spent::default());
        trail.enter(Stage::Opening);
        assert_eq!(trail.stage, Stage::Opening);
    }

    #[test]
    fn one_slow_get_a_second_is_told_aloud() {
        let slow = SlowGets::default();
        let second = 1_000_000_000;
        let aloud: Vec<_> = [1, 2, second, second + 1, second + 2, 2 * second + 1]
            .into_iter()
            .map(|now| slow.is_aloud(now))
            .collect();
        assert_eq!(aloud, [true, false, false, true, false, true]);
    }
}
