//! The simulation repeats itself, keeps to the servers' limits, and shows what is promised.

use fleet::scenario::SCENARIOS;

#[test]
fn the_same_seed_gives_the_same_result() {
    for scenario in SCENARIOS {
        let run = || format!("{:?}", (scenario.run)(100, 7));
        assert_eq!(run(), run(), "{}", scenario.name);
    }
}

#[test]
fn no_server_is_above_its_limit() {
    for scenario in SCENARIOS {
        for seed in 0..3 {
            let outcome = (scenario.run)(1_000, seed);
            assert!(
                outcome.most_open <= outcome.limit,
                "{}: {outcome:?}",
                scenario.name
            );
        }
    }
}

#[test]
fn a_cold_start_takes_little_longer_than_the_servers_need() {
    for (replicas, seed) in [(10, 1), (100, 2), (1_000, 3), (10_000, 4)] {
        let outcome = (SCENARIOS[0].run)(replicas, seed);
        assert!(
            outcome.ready_in <= 1.2 * outcome.at_best,
            "{replicas}: {outcome:?}"
        );
    }
}
