//! Measures what the crate promises and prints it beside the bounds.
//!
//! `scripts/with-database scripts/bench promises [GROUP...]`
//!
//! Times are medians over several rounds. Ratios are the median of the ratios within each round,
//! whose sides take turns. Other load on the machine shifts them, so a run reports them and does
//! not fail. `exact` measures what repeats exactly, `service-promises` the example service, and
//! `compare-peers` the promises that compare the pool with others.
//!
//! | file | job |
//! |---|---|
//! | `pools.rs` | pools on the server |
//! | the others | one group of promises each |

mod cleaning;
mod deadlines;
mod elsewhere;
mod killing;
mod memory;
mod outage;
mod pools;
mod scale;
mod spike;
mod statements;
mod upkeep;
mod warming;

use std::{env, process::ExitCode};

use harness::{Result, table::Table};
use mysql_warm_pool::mysql_async::Opts;
use tokio::runtime::Runtime;

const USAGE: &str = "\
usage: promises [GROUP...]
groups: scale memory spike warming upkeep deadlines killing cleaning outage elsewhere statements
        (all of them, unless some are named)";

const GROUPS: [&str; 11] = [
    "scale",
    "memory",
    "spike",
    "warming",
    "upkeep",
    "deadlines",
    "killing",
    "cleaning",
    "outage",
    "elsewhere",
    "statements",
];

fn main() -> Result<ExitCode> {
    let mut names = Vec::new();
    for argument in env::args().skip(1) {
        if GROUPS.contains(&argument.as_str()) {
            names.push(argument);
        } else {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    let opts = harness::database()?;
    let mut table = Table::begin();
    for name in GROUPS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            table.group(name);
            // A new runtime, so that nothing of the previous group still runs.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(measure(name, &mut table, &opts))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(group: &str, table: &mut Table, opts: &Opts) -> Result<()> {
    match group {
        "scale" => scale::measure(table, opts).await,
        "memory" => memory::measure(table, opts).await,
        "spike" => spike::measure(table, opts).await,
        "warming" => warming::measure(table, opts).await,
        "upkeep" => upkeep::measure(table, opts).await,
        "deadlines" => deadlines::measure(table, opts).await,
        "killing" => killing::measure(table, opts).await,
        "cleaning" => cleaning::measure(table, opts).await,
        "outage" => outage::measure(table).await,
        "elsewhere" => elsewhere::measure(table, opts).await,
        "statements" => statements::measure(table, opts).await,
        other => Err(format!("there is no group {other}").into()),
    }
}

/// Runs the work alone on a single-threaded runtime.
fn on_one_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::task::block_in_place(|| {
        let runtime: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(work)
    })
}
