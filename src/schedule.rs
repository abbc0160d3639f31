//! Pure: when things are due. Ages with jitter, back-off; takes `now` and chance as arguments.

use std::time::{Duration, Instant};

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
    opened: Instant,
    recycle: Option<Duration>,
    chance: u64,
) -> Option<Instant> {
    let recycle = recycle?;
    opened.checked_add(recycle.saturating_sub(up_to(recycle / 10, chance)))
}

/// How long to wait before the next attempt, after `failures` in a row that began `outage` ago.
///
/// Exponential with full jitter. The cap grows with the outage, to a tenth of it and at most to
/// 2 s, so that what the back-off adds to an outage is short beside the outage itself.
pub(crate) fn back_off(failures: u32, outage: Duration, chance: u64) -> Duration {
    let cap = (outage / 10).clamp(STEP_CAP, LONGEST_STEP);
    let doublings = failures.saturating_sub(1).min(16);
    let step = FIRST_STEP.saturating_mul(1 << doublings).min(cap);
    SHORTEST_DELAY.saturating_add(up_to(step.saturating_sub(SHORTEST_DELAY), chance))
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
        assert_eq!(expires_at(Instant::now(), None, 7), None);
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

    proptest! {
        #[test]
        fn every_deadline_lies_in_the_last_tenth(seconds in 1u64..1_000_000, chance: u64) {
            let (now, recycle) = (Instant::now(), Duration::from_secs(seconds));
            let age = expires_at(now, Some(recycle), chance).expect("a deadline") - now;
            prop_assert!(age <= recycle && age >= recycle - recycle / 10);
        }

        #[test]
        fn no_delay_is_outside_its_bounds(failures: u32, seconds in 0u64..1_000_000, chance: u64) {
            let delay = back_off(failures, Duration::from_secs(seconds), chance);
            prop_assert!((SHORTEST_DELAY..=LONGEST_STEP).contains(&delay));
        }
    }
}
