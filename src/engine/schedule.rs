//! Decides when things are due, and what to do with idle connections. Pure: takes the time and
//! random numbers as arguments.

use std::time::Duration;

use crate::time::Timestamp;

/// The first step of the back-off between attempts to open a connection.
const FIRST_STEP: Duration = Duration::from_millis(20);
/// The longest step in the first 3 s of an outage.
const STEP_CAP: Duration = Duration::from_millis(300);
/// The longest step of all.
const LONGEST_STEP: Duration = Duration::from_secs(2);
/// The shortest delay: long enough for the socket of the failed attempt to be closed.
const SHORTEST_DELAY: Duration = Duration::from_millis(5);
/// How long maintenance sleeps at most while nothing wakes it.
const LONGEST_TICK: Duration = Duration::from_secs(1);
/// The same while connections are in use, so that a silent server is noticed soon.
const LONGEST_BUSY_TICK: Duration = Duration::from_millis(100);
const SHORTEST_TICK: Duration = Duration::from_millis(10);

/// When a connection opened at `opened` reaches its maximum age: up to 10 % before `recycle`,
/// spread by `chance`.
pub(crate) fn expires_at(
    opened: Timestamp,
    recycle: Option<Duration>,
    chance: u64,
) -> Option<Timestamp> {
    let recycle = recycle?;
    Some(opened.after(recycle.saturating_sub(up_to(part(recycle, 10), chance))))
}

/// When the replacement of a connection is opened: 5 % of `recycle` before its deadline.
pub(crate) fn due_at(
    expires_at: Option<Timestamp>,
    recycle: Option<Duration>,
) -> Option<Timestamp> {
    let lead = part(recycle.unwrap_or_default(), 20);
    expires_at.map(|at| at.before(lead))
}

/// An attempt that takes longer counts as hanging, and another is made beside it.
pub(crate) const HANGING: Duration = Duration::from_millis(300);
/// A hanging attempt that the server has accepted is expected to succeed for so long since it began:
/// it waits in the queue of a server that is busy with others. After that, the server is more likely
/// to be frozen.
pub(crate) const COMING: Duration = Duration::from_secs(1);

/// The attempts to open a connection that are under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnderWay {
    pub(crate) all: usize,
    /// Those of them that hang.
    pub(crate) hanging: usize,
    /// Those of the hanging that are expected to succeed.
    pub(crate) coming: usize,
}

impl UnderWay {
    /// Whether another attempt may begin, if `wanted` connections are missing and the back-off
    /// allows so many attempts at a time.
    pub(crate) fn may_begin(self, wanted: usize, allowed: usize) -> bool {
        self.all.saturating_sub(self.hanging) < allowed && !self.is_enough(wanted)
    }

    /// Whether the attempts that are expected to succeed are enough.
    pub(crate) fn is_enough(self, wanted: usize) -> bool {
        let uncertain = self.hanging.saturating_sub(self.coming);
        self.all.saturating_sub(uncertain) >= wanted
    }
}

/// How long to wait before the next attempt, after `failures` in a row that began `outage` ago.
///
/// Exponential with full jitter. The cap is a tenth of the outage, between 300 ms and 2 s, so that
/// the back-off prolongs an outage only a little.
pub(crate) fn back_off(failures: u32, outage: Duration, chance: u64) -> Duration {
    let cap = part(outage, 10).clamp(STEP_CAP, LONGEST_STEP);
    let doublings = failures.saturating_sub(1).min(16);
    let step = FIRST_STEP.saturating_mul(1 << doublings).min(cap);
    SHORTEST_DELAY.saturating_add(up_to(step.saturating_sub(SHORTEST_DELAY), chance))
}

/// A pause that doubles each time it is over, up to `longest`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrowingPause {
    pause: Duration,
    longest: Duration,
    /// `None` before the first time.
    ends_at: Option<Timestamp>,
    last: Duration,
}

impl GrowingPause {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            pause: first,
            longest,
            ends_at: None,
            last: Duration::ZERO,
        }
    }

    /// Whether the pause is over or was never started. If so, the next one begins.
    pub(crate) fn is_over(&mut self, now: Timestamp) -> bool {
        if self.ends_at.is_some_and(|at| now < at) {
            return false;
        }
        self.ends_at = Some(now.after(self.pause));
        self.last = self.pause;
        self.pause = self.pause.saturating_mul(2).min(self.longest);
        true
    }

    /// Whether it ended longer ago than it lasted, and at least 1 s ago.
    pub(crate) fn is_long_over(&self, now: Timestamp) -> bool {
        let long = self.last.max(Duration::from_secs(1));
        self.ends_at
            .is_some_and(|at| now >= at && now.since(at) >= long)
    }
}

/// The settings that maintenance follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) recycle: Option<Duration>,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) overflow_linger: Duration,
    pub(crate) statement_timeout: Option<Duration>,
    pub(crate) leak_after: Option<Duration>,
}

impl Schedule {
    /// How long maintenance may sleep while nothing wakes it: a fraction of the shortest time set.
    pub(crate) fn tick(&self, is_busy: bool) -> Duration {
        let longest = if is_busy {
            LONGEST_BUSY_TICK
        } else {
            LONGEST_TICK
        };
        let times = [
            self.recycle.map(|time| part(time, 40)),
            self.keepalive.map(|time| part(time, 32)),
            self.statement_timeout.map(|time| part(time, 10)),
            self.leak_after.map(|time| part(time, 8)),
            Some(part(self.overflow_linger, 4)).filter(|time| !time.is_zero()),
        ];
        let shortest = times.into_iter().flatten().min().unwrap_or(longest);
        shortest.clamp(SHORTEST_TICK, longest)
    }

    /// Decides what to do with the idle connections. They are sorted, the longest unused first.
    pub(crate) fn plan(&self, now: Timestamp, pool: Occupancy, idle: &[IdleConnection]) -> Plan {
        let mut plan = Plan {
            actions: vec![Action::Keep; idle.len()],
            due: 0,
        };
        let is_due = |idle: &IdleConnection| {
            let due_at = due_at(idle.expires_at, self.recycle);
            idle.is_outdated || due_at.is_some_and(|at| now >= at)
        };
        let mut open = pool.open;

        // Beyond the limit, after it was lowered.
        let most = open.saturating_sub(pool.limit());
        let closed = plan.assign(idle, Action::Close, most, |_| true);
        open = open.saturating_sub(closed);
        // With more than `size` open, the replacement of a due connection is already open.
        let most = open.saturating_sub(pool.size);
        let retired = plan.assign(idle, Action::Retire, most, is_due);
        open = open.saturating_sub(retired);
        // If there is no room for a replacement, one connection at a time is retired first; before
        // its deadline only while at least half of the connections are idle.
        let is_at_rest = pool.vacant == 0 && pool.connecting == 0 && pool.retiring == 0;
        if is_at_rest && open == pool.open && open <= pool.size {
            let is_busy = idle.len().saturating_mul(2) < pool.open || idle.len() < 2;
            let is_overdue = |idle: &IdleConnection| {
                idle.is_outdated || idle.expires_at.is_some_and(|at| now >= at)
            };
            let retired = plan.assign(idle, Action::Retire, 1, |idle| {
                is_due(idle) && (!is_busy || is_overdue(idle))
            });
            open = open.saturating_sub(retired);
        }
        let most = open.saturating_sub(pool.size);
        plan.assign(idle, Action::Close, most, |idle| {
            !is_due(idle) && now.since(idle.used_at) >= self.overflow_linger
        });

        plan.due = plan.kept(idle).filter(|idle| is_due(idle)).count();
        plan.assign(idle, Action::Validate, usize::MAX, |idle| {
            idle.is_suspect || self.keepalive_is_due(now, idle)
        });
        plan
    }

    /// Each connection has its own interval, from half of `keepalive` to all of it, so that
    /// validations spread over time.
    fn keepalive_is_due(&self, now: Timestamp, idle: &IdleConnection) -> bool {
        self.keepalive.is_some_and(|keepalive| {
            let pace = keepalive.saturating_sub(up_to(part(keepalive, 2), idle.chance));
            now.since(idle.validated_at) >= pace
        })
    }
}

/// How full the pool is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Occupancy {
    pub(crate) size: usize,
    pub(crate) overflow: usize,
    /// Idle connections included.
    pub(crate) open: usize,
    pub(crate) connecting: usize,
    pub(crate) cleaning: usize,
    /// Those of `cleaning` that are closed because they are old.
    pub(crate) retiring: usize,
    pub(crate) vacant: usize,
}

impl Occupancy {
    const fn limit(&self) -> usize {
        self.size.saturating_add(self.overflow)
    }
}

/// What the plan for an idle connection depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdleConnection {
    pub(crate) used_at: Timestamp,
    pub(crate) validated_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    /// It was opened before the last refresh.
    pub(crate) is_outdated: bool,
    /// It was not validated since another connection was found dead.
    pub(crate) is_suspect: bool,
    pub(crate) chance: u64,
}

/// What to do with an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Keep,
    Validate,
    /// Close it because of its age.
    Retire,
    /// Close it because it is beyond `size` or beyond the limit.
    Close,
}

/// What to do with the idle connections, in their order.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// How many more have to be replaced once a replacement is open.
    pub(crate) due: usize,
}

impl Plan {
    /// Assigns an action to at most `most` connections that fit and have no action yet. Returns how
    /// many.
    fn assign(
        &mut self,
        idle: &[IdleConnection],
        action: Action,
        most: usize,
        fits: impl Fn(&IdleConnection) -> bool,
    ) -> usize {
        let places = self.actions.iter_mut().zip(idle);
        let free = places.filter(|(place, idle)| **place == Action::Keep && fits(idle));
        free.take(most).map(|(place, _)| *place = action).count()
    }

    /// The connections that have no other action yet.
    fn kept<'a>(
        &'a self,
        idle: &'a [IdleConnection],
    ) -> impl Iterator<Item = &'a IdleConnection> + 'a {
        let places = self.actions.iter().zip(idle);
        places
            .filter(|(action, _)| **action == Action::Keep)
            .map(|(_, idle)| idle)
    }
}

fn part(time: Duration, of: u32) -> Duration {
    time.checked_div(of).unwrap_or_default()
}

/// A share of `most`, uniform over the values of `chance`.
fn up_to(most: Duration, chance: u64) -> Duration {
    let nanos = most.as_nanos().saturating_mul(u128::from(chance)) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attempts_that_will_succeed_are_not_made_twice() {
        let under_way = |all, hanging, coming| UnderWay {
            all,
            hanging,
            coming,
        };
        assert!(under_way(0, 0, 0).may_begin(10, 8));
        assert!(!under_way(8, 0, 0).may_begin(10, 8), "as many as allowed");
        assert!(!under_way(3, 0, 0).may_begin(3, 8), "as many as wanted");
        // Those that hang leave room for another, unless they wait in the server's queue.
        assert!(under_way(3, 3, 0).may_begin(3, 1));
        assert!(!under_way(3, 3, 3).may_begin(3, 1));
        assert!(under_way(3, 3, 2).may_begin(3, 1));
        assert!(!under_way(4, 3, 2).may_begin(3, 1));
    }

    #[test]
    fn a_connection_that_never_expires_has_no_deadline() {
        assert_eq!(expires_at(Timestamp::now(), None, 7), None);
    }

    #[test]
    fn back_off_reaches_its_cap_and_the_cap_grows_with_the_outage() {
        let step = |failures, outage| {
            back_off(failures, Duration::from_secs(outage), u64::MAX).as_millis()
        };
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 60].map(|n| step(n, 0)),
            [19, 39, 79, 159, 299, 299, 299]
        );
        assert_eq!(
            [2, 5, 10, 3600].map(|seconds| step(60, seconds)),
            [299, 499, 999, 1999]
        );
    }

    const SCHEDULE: Schedule = Schedule {
        recycle: Some(Duration::from_secs(100)),
        keepalive: Some(Duration::from_secs(10)),
        overflow_linger: Duration::from_secs(5),
        statement_timeout: None,
        leak_after: None,
    };

    /// So that there is a time before it.
    fn long_after_the_beginning() -> Timestamp {
        Timestamp::now().after(Duration::from_secs(1000))
    }

    fn age(now: Timestamp) -> IdleConnection {
        IdleConnection {
            used_at: now,
            validated_at: now,
            expires_at: Some(now.after(Duration::from_secs(50))),
            is_outdated: false,
            is_suspect: false,
            chance: 0,
        }
    }

    #[test]
    fn a_due_connection_goes_only_when_its_replacement_is_there() {
        let now = long_after_the_beginning();
        let due = IdleConnection {
            expires_at: Some(now),
            ..age(now)
        };
        let full = Occupancy {
            size: 2,
            overflow: 1,
            open: 2,
            vacant: 1,
            ..Occupancy::default()
        };
        let plan = SCHEDULE.plan(now, full, &[due, due]);
        assert_eq!((plan.actions, plan.due), (vec![Action::Keep; 2], 2));
        let replaced = Occupancy {
            open: 3,
            vacant: 0,
            ..full
        };
        let plan = SCHEDULE.plan(now, replaced, &[due, due, age(now)]);
        assert_eq!(
            (plan.actions, plan.due),
            (vec![Action::Retire, Action::Keep, Action::Keep], 1)
        );
    }

    #[test]
    fn without_room_one_due_connection_at_a_time_is_replaced() {
        let now = long_after_the_beginning();
        let due = IdleConnection {
            expires_at: Some(now),
            ..age(now)
        };
        let full = Occupancy {
            size: 3,
            open: 3,
            ..Occupancy::default()
        };
        assert_eq!(
            SCHEDULE.plan(now, full, &[due, due, age(now)]).actions,
            [Action::Retire, Action::Keep, Action::Keep]
        );
        let replacing = Occupancy {
            open: 2,
            connecting: 1,
            ..full
        };
        assert_eq!(
            SCHEDULE.plan(now, replacing, &[due, age(now)]).actions,
            [Action::Keep, Action::Keep]
        );
        let closing = Occupancy {
            retiring: 1,
            ..full
        };
        assert_eq!(
            SCHEDULE.plan(now, closing, &[due, age(now)]).actions,
            [Action::Keep, Action::Keep]
        );
        // The last idle one stays until it must go.
        let nearly = IdleConnection {
            expires_at: Some(now.after(Duration::from_secs(1))),
            ..age(now)
        };
        assert_eq!(SCHEDULE.plan(now, full, &[nearly]).actions, [Action::Keep]);
        assert_eq!(SCHEDULE.plan(now, full, &[due]).actions, [Action::Retire]);
    }

    #[test]
    fn overflow_goes_once_it_has_lingered_and_excess_at_once() {
        let now = long_after_the_beginning();
        let old = IdleConnection {
            used_at: now.before(Duration::from_secs(5)),
            ..age(now)
        };
        let pool = Occupancy {
            size: 1,
            overflow: 3,
            open: 4,
            ..Occupancy::default()
        };
        let plan = SCHEDULE.plan(now, pool, &[old, old, age(now), age(now)]);
        assert_eq!(
            plan.actions,
            [Action::Close, Action::Close, Action::Keep, Action::Keep]
        );
        let shrunk = Occupancy {
            overflow: 0,
            ..pool
        };
        let plan = SCHEDULE.plan(now, shrunk, &[age(now); 4]);
        assert_eq!(
            plan.actions,
            [Action::Close, Action::Close, Action::Close, Action::Keep]
        );
    }

    #[test]
    fn suspects_and_long_unused_connections_are_validated() {
        let now = long_after_the_beginning();
        let is_suspect = IdleConnection {
            is_suspect: true,
            ..age(now)
        };
        let quiet = IdleConnection {
            validated_at: now.before(Duration::from_secs(10)),
            ..age(now)
        };
        let early = IdleConnection {
            validated_at: now.before(Duration::from_secs(8)),
            chance: u64::MAX,
            ..age(now)
        };
        let later = IdleConnection { chance: 0, ..early };
        let pool = Occupancy {
            size: 4,
            open: 4,
            ..Occupancy::default()
        };
        let plan = SCHEDULE.plan(now, pool, &[is_suspect, quiet, early, later]);
        assert_eq!(
            plan.actions,
            [
                Action::Validate,
                Action::Validate,
                Action::Validate,
                Action::Keep
            ]
        );
    }

    proptest! {
        #[test]
        fn no_plan_closes_below_size_unless_there_is_no_room_or_no_limit_for_more(
            size in 0usize..6, overflow in 0usize..6, in_use in 0usize..6, vacant in 0usize..3,
            ages in proptest::collection::vec((0u64..12, 0u64..12, 10u64..50, any::<bool>()), 0..8),
        ) {
            let now = long_after_the_beginning();
            let ages: Vec<_> = ages.into_iter().map(|(used, validated, expires, is_outdated)| IdleConnection {
                used_at: now.before(Duration::from_secs(used)),
                validated_at: now.before(Duration::from_secs(validated)),
                expires_at: Some(now.after(Duration::from_secs(50)).before(Duration::from_secs(expires))),
                is_outdated,
                ..age(now)
            }).collect();
            let pool = Occupancy { size, overflow, open: in_use + ages.len(), vacant, ..Occupancy::default() };
            let plan = SCHEDULE.plan(now, pool, &ages);
            let closed = plan.actions.iter().filter(|action| matches!(action, Action::Retire | Action::Close)).count();
            let left = pool.open - closed;
            let exchanged = usize::from(vacant == 0);
            prop_assert!(left + exchanged >= size.min(pool.open));
            prop_assert!(left <= size + overflow || left == in_use);
        }

        #[test]
        fn every_deadline_lies_in_the_last_tenth(seconds in 1u64..1_000_000, chance: u64) {
            let (now, recycle) = (long_after_the_beginning(), Duration::from_secs(seconds));
            let age = expires_at(now, Some(recycle), chance).expect("a deadline").since(now);
            prop_assert!(age <= recycle && age >= recycle - recycle / 10);
        }

        #[test]
        fn no_delay_is_outside_its_bounds(failures: u32, seconds in 0u64..1_000_000, chance: u64) {
            let delay = back_off(failures, Duration::from_secs(seconds), chance);
            prop_assert!((SHORTEST_DELAY..=LONGEST_STEP).contains(&delay));
        }
    }
}
