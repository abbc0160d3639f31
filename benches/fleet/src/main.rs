//! Prints what the simulation gives, and writes the data for the picture.

use std::{env, fs, path::Path};

use serde_json::json;

use fleet::scenario::{Outcome, SCENARIOS};

const SEED: u64 = 14;
const FLEETS: [usize; 4] = [10, 100, 1_000, 10_000];

fn main() {
    let given = env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(SEED);
    println!("seed {seed}");
    println!(
        "{:16} {:>8} {:>9} {:>9} {:>6} {:>11} {:>9} {:>9} {:>9}",
        "scenario",
        "replicas",
        "99 % in",
        "at best",
        "ratio",
        "peak SYN/s",
        "refused",
        "needless",
        "most open"
    );
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        for replicas in FLEETS {
            let outcome = (scenario.run)(replicas, seed);
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
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pictures/fleet.json");
    let data = json!({ "seed": seed, "rows": rows });
    let text = serde_json::to_string_pretty(&data).expect("plain data");
    fs::write(file, text + "\n").expect("the file can be written");
}

fn print(name: &str, replicas: usize, outcome: &Outcome) {
    println!(
        "{name:16} {replicas:>8} {:>7.2} s {:>7.2} s {:>6.2} {:>11} {:>9} {:>9} {:>4} of {}",
        outcome.ready_in,
        outcome.at_best,
        outcome.ready_in / outcome.at_best,
        outcome.peak,
        outcome.refused,
        outcome.needless,
        outcome.most_open,
        outcome.limit,
    );
}
