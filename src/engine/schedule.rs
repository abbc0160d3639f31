//! Pure: when things are due, and what becomes of idle connections. Takes `now` and chance as arguments.

use std::time::Duration;

use crate::time::Timestamp;

/// The first step of the back-off between attempts to open a connection.
const FIRST_STEP: Duration = Duration::from_millis(20);
/// The longest step while an outage is young.
const STEP_CAP: Duration = Duration::from_millis(300);
/// The longest step of all.
const LONGEST_STEP: Duration = Duration::from_secs(2);
/// The shortest delay: long enough for the socket of the failed attempt to be closed.
const SHORTEST_DELAY: Duration = Duration::from_millis(5);

/// When a connection opened at `opened` reaches its maximum age: up to 10 % before `recycle`, by `chance`.
pub(crate) fn expires_at(
    opened: Timestamp,
    recycle: Option<Duration>,
    chance: u64,
) -> Option<Timestamp> {
    let recycle = recycle?;
    Some(opened.after(recycle.saturating_sub(up_to(part(recycle, 10), chance))))
}

/// When the replacement of a connection is begun: a little before its deadline.
pub(crate) fn due_at(
    expires_at: Option<Timestamp>,
    recycle: Option<Duration>,
) -> Option<Timestamp> {
    let lead = part(recycle.unwrap_or_default(), 20);
    expires_at.map(|at| at.before(lead))
}

/// How long to wait before the next attempt, after `failures` in a row that began `outage` ago.
///
/// Exponential with full jitter. The cap grows with the outage, to a tenth of it and at most to
/// 2 s, so that what the back-off adds to an outage is short beside the outage itself.
pub(crate) fn back_off(failures: u32, outage: Duration, chance: u64) -> Duration {
    let cap = part(outage, 10).clamp(STEP_CAP, LONGEST_STEP);
    let doublings = failures.saturating_sub(1).min(16);
    let step = FIRST_STEP.saturating_mul(1 << doublings).min(cap);
    SHORTEST_DELAY.saturating_add(up_to(step.saturating_sub(SHORTEST_DELAY), chance))
}

/// What the keeper goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upkeep {
    pub(crate) recycle: Option<Duration>,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) overflow_linger: Duration,
}

impl Upkeep {
    /// How long the keeper may sleep while nothing wakes it: a fraction of the shortest time it has to keep.
    pub(crate) fn tick(&self, busy: bool) -> Duration {
        // While connections are in use, a server that has gone quiet is to be noticed soon.
        let longest = if busy {
            Duration::from_millis(100)
        } else {
            Duration::from_secs(1)
        };
        let times = [
            self.recycle.map(|time| part(time, 40)),
            self.keepalive.map(|time| part(time, 32)),
            Some(part(self.overflow_linger, 4)).filter(|time| !time.is_zero()),
        ];
        let shortest = times.into_iter().flatten().min().unwrap_or(longest);
        shortest.clamp(Duration::from_millis(10), longest)
    }

    fn is_due(&self, expires_at: Option<Timestamp>, now: Timestamp) -> bool {
        due_at(expires_at, self.recycle).is_some_and(|at| now >= at)
    }

    /// Sorts idle connections, the one unused for longest first. `idle` counts in `open`.
    pub(crate) fn plan(&self, now: Timestamp, pool: Occupancy, idle: &[Age]) -> Plan {
        let mut fates = vec![Fate::Keep; idle.len()];
        let mut open = pool.open;
        let mut give =
            |fates: &mut [Fate], fate: Fate, most: usize, fits: &dyn Fn(&Age) -> bool| {
                let free = fates
                    .iter_mut()
                    .zip(idle)
                    .filter(|(fate, age)| **fate == Fate::Keep && fits(age));
                let given = free.take(most).map(|(place, _)| *place = fate).count();
                open = open.saturating_sub(given);
                open
            };
        let over_limit = pool.open.saturating_sub(pool.limit());
        let open_now = give(&mut fates, Fate::Close, over_limit, &|_| true);
        let is_due = |age: &Age| age.outdated || self.is_due(age.expires_at, now);
        // Beyond `size` there is a replacement already.
        let open_now = give(
            &mut fates,
            Fate::Retire,
            open_now.saturating_sub(pool.size),
            &is_due,
        );
        let at_rest = pool.vacant == 0 && pool.connecting == 0 && pool.cleaning == 0;
        let mut open_after = open_now;
        if at_rest && open_now == pool.open && open_now <= pool.size {
            // No room for a replacement: one at a time, and before it must be only where half of them rest.
            let is_busy = idle.len().saturating_mul(2) < pool.open || idle.len() < 2;
            let must = |age: &Age| age.outdated || age.expires_at.is_some_and(|at| now >= at);
            open_after = give(&mut fates, Fate::Retire, 1, &|age| {
                is_due(age) && (!is_busy || must(age))
            });
        }
        let lingered = |age: &Age| now.since(age.used_at) >= self.overflow_linger;
        let surplus = open_after.saturating_sub(pool.size);
        give(&mut fates, Fate::Close, surplus, &|age| {
            !is_due(age) && lingered(age)
        });

        let mut due = 0_usize;
        for (fate, age) in fates.iter_mut().zip(idle) {
            if *fate != Fate::Keep {
                continue;
            }
            if is_due(age) {
                due = due.saturating_add(1);
            }
            let proof_due = self.keepalive.is_some_and(|keepalive| {
                // Each at its own pace, so that they do not stay together.
                let pace = keepalive.saturating_sub(up_to(part(keepalive, 2), age.chance));
                now.since(age.proved_at) >= pace
            });
            if age.suspect || proof_due {
                *fate = Fate::Prove;
            }
        }
        Plan { fates, due }
    }
}

/// How full the pool is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Occupancy {
    pub(crate) size: usize,
    pub(crate) overflow: usize,
    pub(crate) open: usize,
    pub(crate) connecting: usize,
    pub(crate) cleaning: usize,
    pub(crate) vacant: usize,
}

impl Occupancy {
    const fn limit(&self) -> usize {
        self.size.saturating_add(self.overflow)
    }
}

/// What the keeper knows of an idle connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    pub(crate) used_at: Timestamp,
    pub(crate) proved_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    /// Opened before the last refresh.
    pub(crate) outdated: bool,
    /// Not proved since another was found dead.
    pub(crate) suspect: bool,
    pub(crate) chance: u64,
}

/// What becomes of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Keep,
    Prove,
    /// Closed because of its age; its replacement is there.
    Retire,
    /// Closed because it is beyond `size`, or beyond the limit.
    Close,
}

/// The fates of the idle connections, in their order.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) fates: Vec<Fate>,
    /// How many more are to be replaced, once a replacement is open.
    pub(crate) due: usize,
}

fn part(time: Duration, of: u32) -> Duration {
    time.checked_div(of).unwrap_or_default()
}

/// A share of `most` that is even over all values of `chance`.
fn up_to(most: Duration, chance: u64) -> Duration {
    let nanos = most.as_nanos().saturating_mul(u128::from(chance)) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    const UPKEEP: Upkeep = Upkeep {
        recycle: Some(Duration::from_secs(100)),
        keepalive: Some(Duration::from_secs(10)),
        overflow_linger: Duration::from_secs(5),
    };

    /// So that there is a time before it.
    fn long_after_the_beginning() -> Timestamp {
        Timestamp::now().after(Duration::from_secs(1000))
    }

    fn age(now: Timestamp) -> Age {
        Age {
            used_at: now,
            proved_at: now,
            expires_at: Some(now.after(Duration::from_secs(50))),
            outdated: false,
            suspect: false,
            chance: 0,
        }
    }

    #[test]
    fn a_due_connection_goes_only_when_its_replacement_is_there() {
        let now = long_after_the_beginning();
        let due = Age {
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
        let plan = UPKEEP.plan(now, full, &[due, due]);
        assert_eq!((plan.fates, plan.due), (vec![Fate::Keep; 2], 2));
        let replaced = Occupancy {
            open: 3,
            vacant: 0,
            ..full
        };
        let plan = UPKEEP.plan(now, replaced, &[due, due, age(now)]);
        assert_eq!(
            (plan.fates, plan.due),
            (vec![Fate::Retire, Fate::Keep, Fate::Keep], 1)
        );
    }

    #[test]
    fn without_room_one_due_connection_at_a_time_is_replaced() {
        let now = long_after_the_beginning();
        let due = Age {
            expires_at: Some(now),
            ..age(now)
        };
        let full = Occupancy {
            size: 3,
            open: 3,
            ..Occupancy::default()
        };
        assert_eq!(
            UPKEEP.plan(now, full, &[due, due, age(now)]).fates,
            [Fate::Retire, Fate::Keep, Fate::Keep]
        );
        let replacing = Occupancy {
            open: 2,
            connecting: 1,
            ..full
        };
        assert_eq!(
            UPKEEP.plan(now, replacing, &[due, age(now)]).fates,
            [Fate::Keep, Fate::Keep]
        );
        // The last idle one stays until it must go.
        let nearly = Age {
            expires_at: Some(now.after(Duration::from_secs(1))),
            ..age(now)
        };
        assert_eq!(UPKEEP.plan(now, full, &[nearly]).fates, [Fate::Keep]);
        assert_eq!(UPKEEP.plan(now, full, &[due]).fates, [Fate::Retire]);
    }

    #[test]
    fn overflow_goes_once_it_has_lingered_and_excess_at_once() {
        let now = long_after_the_beginning();
        let old = Age {
            used_at: now.before(Duration::from_secs(5)),
            ..age(now)
        };
        let pool = Occupancy {
            size: 1,
            overflow: 3,
            open: 4,
            ..Occupancy::default()
        };
        let plan = UPKEEP.plan(now, pool, &[old, old, age(now), age(now)]);
        assert_eq!(
            plan.fates,
            [Fate::Close, Fate::Close, Fate::Keep, Fate::Keep]
        );
        let shrunk = Occupancy {
            overflow: 0,
            ..pool
        };
        let plan = UPKEEP.plan(now, shrunk, &[age(now); 4]);
        assert_eq!(
            plan.fates,
            [Fate::Close, Fate::Close, Fate::Close, Fate::Keep]
        );
    }

    #[test]
    fn suspects_are_proved_and_so_is_what_nobody_used_for_long() {
        let now = long_after_the_beginning();
        let suspect = Age {
            suspect: true,
            ..age(now)
        };
        let quiet = Age {
            proved_at: now.before(Duration::from_secs(10)),
            ..age(now)
        };
        let early = Age {
            proved_at: now.before(Duration::from_secs(8)),
            chance: u64::MAX,
            ..age(now)
        };
        let later = Age { chance: 0, ..early };
        let pool = Occupancy {
            size: 4,
            open: 4,
            ..Occupancy::default()
        };
        let plan = UPKEEP.plan(now, pool, &[suspect, quiet, early, later]);
        assert_eq!(
            plan.fates,
            [Fate::Prove, Fate::Prove, Fate::Prove, Fate::Keep]
        );
    }

    proptest! {
        #[test]
        fn no_plan_closes_below_size_unless_there_is_no_room_or_no_limit_for_more(
            size in 1usize..6, overflow in 0usize..6, in_use in 0usize..6, vacant in 0usize..3,
            ages in proptest::collection::vec((0u64..12, 0u64..12, 10u64..50, any::<bool>()), 0..8),
        ) {
            let now = long_after_the_beginning();
            let ages: Vec<_> = ages.into_iter().map(|(used, proved, expires, outdated)| Age {
                used_at: now.before(Duration::from_secs(used)),
                proved_at: now.before(Duration::from_secs(proved)),
                expires_at: Some(now.after(Duration::from_secs(50)).before(Duration::from_secs(expires))),
                outdated,
                ..age(now)
            }).collect();
            let pool = Occupancy { size, overflow, open: in_use + ages.len(), vacant, ..Occupancy::default() };
            let plan = UPKEEP.plan(now, pool, &ages);
            let closed = plan.fates.iter().filter(|fate| matches!(fate, Fate::Retire | Fate::Close)).count();
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
