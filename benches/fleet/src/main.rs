//! Prints the results of the simulation, and writes the data for the picture.

use std::{env, fs, path::Path, str::FromStr};

use serde_json::json;

use fleet::{
    scenario::{Outcome, SCENARIOS},
    server::{Conditions, USUAL},
};

const SEED: u64 = 14;
const FLEETS: [usize; 4] = [10, 100, 1_000, 10_000];

fn main() {
    let conditions = Conditions {
        rate: variable("RATE").unwrap_or(USUAL.rate),
        back_log: variable("BACK_LOG").unwrap_or(USUAL.back_log),
    };
    let is_usual = (conditions.rate, conditions.back_log) == (USUAL.rate, USUAL.back_log);
    let seed = variable("SEED").unwrap_or(SEED);
    println!("seed {seed}, {conditions:?}");
    println!(
        "{:16} {:>8} {:>9} {:>9} {:>6} {:>11} {:>9} {:>6} {:>9} {:>9}",
        "scenario",
        "replicas",
        "99 % in",
        "at best",
        "ratio",
        "peak SYN/s",
        "refused",
        "1040",
        "needless",
        "most open"
    );
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        for replicas in FLEETS {
            let outcome = (scenario.run)(replicas, seed, conditions);
            print(scenario.name, replicas, &outcome);
            rows.push(json!({
                "scenario": scenario.name,
                "replicas": replicas,
                "ready_in": outcome.ready_in,
                "at_best": outcome.at_best,
                "peak": outcome.peak,
                "refused": outcome.refused,
                "needless": outcome.needless,
            }));
        }
    }
    if !is_usual {
        println!("other conditions than the picture's: its data stay");
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures/fleet.json");
    let data = json!({ "seed": seed, "rows": rows });
    let text = serde_json::to_string_pretty(&data).expect("plain data");
    fs::write(file, text + "\n").expect("the file can be written");
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}

fn print(name: &str, replicas: usize, outcome: &Outcome) {
    println!(
        "{name:16} {replicas:>8} {:>7.2} s {:>7.2} s {:>6.2} {:>11} {:>9} {:>6} {:>9} {:>4} of {}",
        outcome.ready_in,
        outcome.at_best,
        outcome.ready_in / outcome.at_best,
        outcome.peak,
        outcome.refused,
        outcome.over_limit,
        outcome.needless,
        outcome.most_open,
        outcome.limit,
    );
}
