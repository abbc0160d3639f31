//! Decides which member takes writes. Pure: the members' answers are arguments.

use crate::time::Timestamp;

use super::ask::{Answer, Usable};

/// What is known about a member.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) claim: Claim,
    /// When the question was sent whose answer is the claim.
    asked_at: Option<Timestamp>,
    /// Since when each of its answers has been that it takes writes.
    writable_since: Option<Timestamp>,
    /// Its last answer was that it takes writes.
    took_writes: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Claim {
    /// It has not been asked yet.
    #[default]
    Unknown,
    /// It does not answer.
    Unreachable {
        error: String,
    },
    Answered(Answer),
}

/// Which member takes writes, by its place in the list of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// Not every member has answered for the first time.
    Undecided,
    None,
    One(usize),
    /// Several answered that they do, but perhaps not at the same time: the first may have stopped
    /// since. All of them have to be asked again.
    Unclear(Vec<usize>),
    Several(Vec<usize>),
}

impl Standing {
    /// Records the answer to a question, or that there was none.
    pub(super) fn record(&mut self, claim: Claim, asked_at: Timestamp, now: Timestamp) {
        let is_writable = claim.usable().is_some_and(|usable| usable.is_writable);
        if matches!(claim, Claim::Answered(_)) {
            self.took_writes = is_writable;
        }
        self.claim = claim;
        self.asked_at = Some(asked_at);
        if is_writable {
            self.writable_since.get_or_insert(now);
        } else {
            self.writable_since = None;
        }
    }

    pub(super) fn usable(&self) -> Option<&Usable> {
        self.claim.usable()
    }

    /// Forgets everything: its answer may be long out of date.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether both certainly took writes at the same time: one of them before and after the other
    /// began to.
    fn overlaps(&self, other: &Self) -> bool {
        let certain = |early: &Self, late: &Self| {
            let began = (early.writable_since, late.writable_since);
            matches!(began, (Some(early_began), Some(late_began))
                if early_began <= late_began && early.asked_at >= Some(late_began))
        };
        certain(self, other) || certain(other, self)
    }
}

impl Claim {
    pub(super) fn usable(&self) -> Option<&Usable> {
        match self {
            Self::Answered(Answer::Usable(usable)) => Some(usable),
            _ => None,
        }
    }
}

/// Decides which member takes writes; `previous` did so far.
///
/// At first it waits for every member, so that the order of their answers decides nothing.
pub(super) fn writer(members: &[Standing], previous: Option<usize>) -> Writer {
    let is_unknown = |member: &Standing| member.claim == Claim::Unknown;
    let known_writer = previous.and_then(|index| members.get(index));
    if known_writer.is_none_or(is_unknown) && members.iter().any(is_unknown) {
        return Writer::Undecided;
    }
    let mut claimants: Vec<(usize, &Standing)> = members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.usable().is_some_and(|usable| usable.is_writable))
        .collect();
    keep_primary_of_most(&mut claimants, members);
    let indexes = || claimants.iter().map(|(index, _)| *index).collect();
    match claimants.as_slice() {
        [] => {
            // It is the most likely to take writes again.
            let is_silent = |index: &usize| {
                members.get(*index).is_some_and(|member| {
                    member.took_writes && matches!(member.claim, Claim::Unreachable { .. })
                })
            };
            previous.filter(is_silent).map_or(Writer::None, Writer::One)
        }
        [(index, _)] => Writer::One(*index),
        [(first, _), ..] if claimants.iter().all(|(_, member)| shares_writes(member)) => {
            let is_claimant = |index: &usize| claimants.iter().any(|(other, _)| other == index);
            Writer::One(previous.filter(is_claimant).unwrap_or(*first))
        }
        [first, rest @ ..] => {
            let all_overlap = rest.iter().all(|other| first.1.overlaps(other.1));
            if all_overlap {
                Writer::Several(indexes())
            } else {
                Writer::Unclear(indexes())
            }
        }
    }
}

fn shares_writes(member: &Standing) -> bool {
    member.usable().is_some_and(|usable| usable.shares_writes)
}

/// Of several primaries of one group, keeps the one that most members see. A primary that was cut
/// off takes itself for the primary a while longer.
fn keep_primary_of_most(claimants: &mut Vec<(usize, &Standing)>, members: &[Standing]) {
    let votes = |member: &Standing| {
        let identity = member.usable()?.identity.as_ref()?;
        let seen = members.iter().filter_map(Standing::usable);
        let votes = seen.filter(|other| other.primary_seen.as_ref() == Some(identity));
        Some(votes.count())
    };
    let most = claimants
        .iter()
        .filter_map(|(_, member)| votes(member))
        .max();
    if let Some(most) = most.filter(|most| *most > 0) {
        claimants.retain(|(_, member)| votes(member) == Some(most));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        static START: std::sync::LazyLock<Timestamp> = std::sync::LazyLock::new(Timestamp::now);
        START.after(Duration::from_millis(ms))
    }

    fn says(writable: bool) -> Claim {
        Claim::Answered(Answer::Usable(Usable {
            is_writable: writable,
            ..Usable::default()
        }))
    }

    fn silent() -> Claim {
        Claim::Unreachable {
            error: "refused".to_owned(),
        }
    }

    /// Members that have given these answers, each asked 1 ms before.
    fn members<const N: usize>(answers: [&[(u64, Claim)]; N]) -> [Standing; N] {
        answers.map(|answers| {
            let mut standing = Standing::default();
            for (ms, claim) in answers {
                standing.record(claim.clone(), at(ms - 1), at(*ms));
            }
            standing
        })
    }

    #[test]
    fn the_member_that_takes_writes_is_the_writer() {
        let known = members([&[(1, says(false))], &[(2, says(true))], &[(3, silent())]]);
        assert_eq!(writer(&known, None), Writer::One(1));
        assert_eq!(writer(&known, Some(0)), Writer::One(1));
        let none = members([&[(1, says(false))], &[(1, says(false))]]);
        assert_eq!(writer(&none, Some(0)), Writer::None);
    }

    #[test]
    fn a_silent_writer_stays_it_until_another_takes_writes() {
        let lost = members([&[(1, says(true)), (9, silent())], &[(2, says(false))]]);
        assert_eq!(writer(&lost, Some(0)), Writer::One(0));
        let promoted = members([&[(1, says(true)), (9, silent())], &[(10, says(true))]]);
        assert_eq!(writer(&promoted, Some(0)), Writer::One(1));
    }

    /// The old one was asked before the switchover, the new one after it.
    #[test]
    fn a_switchover_is_not_taken_for_two_writers() {
        let mut known = members([&[(1, says(true)), (10, says(true))], &[(20, says(true))]]);
        assert_eq!(writer(&known, Some(0)), Writer::Unclear(vec![0, 1]));
        known[0].record(says(false), at(21), at(22));
        assert_eq!(writer(&known, Some(0)), Writer::One(1));
    }

    #[test]
    fn two_that_take_writes_at_once_are_no_writer() {
        let mut known = members([
            &[(10, says(true))],
            &[(20, says(true))],
            &[(5, says(false))],
        ]);
        known[0].record(says(true), at(21), at(22));
        assert_eq!(writer(&known, Some(0)), Writer::Several(vec![0, 1]));
        known[1].record(silent(), at(30), at(31));
        assert_eq!(writer(&known, Some(0)), Writer::One(0));
        // The order of the list does not matter.
        known.swap(0, 1);
        known[0].record(says(true), at(40), at(41));
        known[1].record(says(true), at(42), at(43));
        assert_eq!(writer(&known, Some(1)), Writer::Several(vec![0, 1]));
    }

    #[test]
    fn where_many_may_write_one_does_until_it_fails() {
        let shared = |writable| {
            Claim::Answered(Answer::Usable(Usable {
                is_writable: writable,
                shares_writes: true,
                ..Usable::default()
            }))
        };
        let mut known = members([
            &[(1, shared(true))],
            &[(1, shared(true))],
            &[(1, shared(true))],
        ]);
        assert_eq!(writer(&known, None), Writer::One(0));
        known[0].record(silent(), at(2), at(3));
        assert_eq!(writer(&known, Some(0)), Writer::One(1));
        known[0].record(shared(true), at(4), at(5));
        assert_eq!(writer(&known, Some(1)), Writer::One(1));
        known[1].record(shared(false), at(6), at(7));
        assert_eq!(writer(&known, Some(1)), Writer::One(0));
    }

    #[test]
    fn the_primary_that_most_members_see_is_the_writer() {
        let member = |id: &str, primary: &str| {
            Claim::Answered(Answer::Usable(Usable {
                is_writable: id == primary,
                identity: Some(id.to_owned()),
                primary_seen: Some(primary.to_owned()),
                ..Usable::default()
            }))
        };
        let known = members([
            &[(1, member("a", "a")), (20, member("a", "a"))],
            &[(10, member("b", "b"))],
            &[(10, member("c", "b"))],
        ]);
        assert_eq!(writer(&known, Some(0)), Writer::One(1));
    }

    /// Before each has answered, the order of the answers would decide.
    #[test]
    fn the_first_writer_waits_for_all_members() {
        let mut known = members([&[], &[(1, says(true))], &[(1, says(false))]]);
        assert_eq!(writer(&known, None), Writer::Undecided);
        // That one is asked again, after a pause in which nobody asked.
        assert_eq!(writer(&known, Some(0)), Writer::Undecided);
        known[0].record(silent(), at(2), at(3));
        assert_eq!(writer(&known, None), Writer::One(1));
        // One that is discovered later stops nothing.
        let more = [known[0].clone(), known[1].clone(), Standing::default()];
        assert_eq!(writer(&more, Some(1)), Writer::One(1));
    }

    /// What a member does at a time, and what it is asked.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Makes this one the only one that takes writes, or none.
        Move(Option<usize>),
        /// Asks this one; the answer arrives at a later step.
        Ask(usize),
        Answer(usize),
        Silent(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let member = 0..3_usize;
        let step = prop_oneof![
            1 => proptest::option::of(member.clone()).prop_map(Step::Move),
            4 => member.clone().prop_map(Step::Ask),
            4 => member.clone().prop_map(Step::Answer),
            1 => member.prop_map(Step::Silent),
        ];
        proptest::collection::vec(step, 1..80)
    }

    proptest! {
        /// While at most one takes writes at a time, the writer is one that took writes at its last
        /// answer.
        #[test]
        fn the_writer_took_writes_at_its_last_answer(steps in steps()) {
            let mut known = vec![Standing::default(); 3];
            let mut truth = None;
            let mut asked = [None; 3];
            let mut last_answer = [None; 3];
            let mut previous = None;
            for (now, step) in (1_u64..).step_by(10).zip(steps) {
                match step {
                    Step::Move(to) => truth = to,
                    Step::Ask(n) => asked[n] = Some((now, truth == Some(n))),
                    Step::Answer(n) => {
                        if let Some((then, writable)) = asked[n].take() {
                            known[n].record(says(writable), at(then), at(now));
                            last_answer[n] = Some(writable);
                        }
                    }
                    Step::Silent(n) => {
                        asked[n] = None;
                        known[n].record(silent(), at(now), at(now + 1));
                    }
                }
                match writer(&known, previous) {
                    Writer::One(index) => {
                        prop_assert_eq!(last_answer[index], Some(true));
                        previous = Some(index);
                    }
                    Writer::Several(several) => {
                        // Only if one of them has ceased and begun again between two answers.
                        prop_assert!(several.len() >= 2);
                    }
                    Writer::Unclear(several) => prop_assert!(several.len() >= 2),
                    Writer::Undecided | Writer::None => {}
                }
            }
        }

        /// Two that take writes are found out as soon as each has been asked twice.
        #[test]
        fn two_at_once_are_found_out(order in proptest::collection::vec(0..2_usize, 0..20)) {
            let mut known = vec![Standing::default(); 2];
            let mut now = 1;
            for n in order.into_iter().chain([0, 1, 0, 1]) {
                known[n].record(says(true), at(now), at(now + 5));
                now += 10;
            }
            prop_assert_eq!(writer(&known, Some(0)), Writer::Several(vec![0, 1]));
        }
    }
}
