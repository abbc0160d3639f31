//! The simulation repeats itself, keeps to the servers' limits, and shows what is promised.

use fleet::{
    scenario::SCENARIOS,
    server::{Conditions, USUAL},
};

/// The usual ones, MySQL's longer queue, a fast server, and a short queue.
const CONDITIONS: [Conditions; 4] = [
    USUAL,
    Conditions {
        rate: 5_000,
        back_log: 4_096,
    },
    Conditions {
        rate: 20_000,
        back_log: 4_096,
    },
    Conditions {
        rate: 5_000,
        back_log: 128,
    },
];

#[test]
fn the_same_seed_gives_the_same_result() {
    for scenario in SCENARIOS {
        let run = || format!("{:?}", (scenario.run)(100, 7, USUAL));
        assert_eq!(run(), run(), "{}", scenario.name);
    }
}

/// A simulated server never exceeds its limit, but it refuses what is beyond. So none may refuse.
#[test]
fn no_server_has_to_refuse_at_its_limit() {
    for scenario in SCENARIOS {
        for (seed, conditions) in (0..).zip(CONDITIONS) {
            let outcome = (scenario.run)(1_000, seed, conditions);
            let kept = outcome.over_limit == 0 && outcome.most_open < outcome.limit;
            assert!(kept, "{}, {conditions:?}: {outcome:?}", scenario.name);
        }
    }
}

/// On average 55 attempts of each replica in an outage of 10 s, 17 in one of 1 s.
#[test]
fn replicas_make_few_attempts_while_the_server_is_down() {
    for (name, most) in [("server restart", 80), ("failover", 25)] {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
        let outcome = (scenario.expect("a scenario").run)(1_000, 5, USUAL);
        assert!(outcome.refused <= most * 1_000, "{name}: {outcome:?}");
    }
}

#[test]
fn a_cold_start_takes_little_longer_than_the_servers_need() {
    let fleets = [(10, 1), (100, 2), (1_000, 3), (10_000, 4)];
    let usual = fleets.map(|(replicas, seed)| (replicas, seed, USUAL));
    let others = CONDITIONS.map(|conditions| (1_000, 5, conditions));
    for (replicas, seed, conditions) in usual.into_iter().chain(others) {
        let outcome = (SCENARIOS[0].run)(replicas, seed, conditions);
        let is_soon = outcome.ready_in <= 1.2 * outcome.at_best;
        assert!(is_soon, "{replicas}, {conditions:?}: {outcome:?}");
    }
}
