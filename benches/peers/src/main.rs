//! `mysql-warm-pool` beside other pools and bare connections, doing the same work in one run.
//!
//! `scripts/with-database scripts/compare-peers [--quick] [--check] [--readme FILE] [--json FILE]
//! [PEER...]`
//!
//! Peers take turns: in each round every peer works for the same time, and the order rotates from
//! round to round. Numbers are medians over the rounds; a ratio is the median of the ratios within
//! each round, so that a disturbance affects both sides. `DATABASE_URL` names the server; one table
//! with a unique name is created in its database and dropped.
//!
//! Each file imports only from files below it.
//!
//! | file | job |
//! |---|---|
//! | `report.rs` | the results, for the README and as data |
//! | `promises.rs` | the promises that the run could check |
//! | `comparison.rs` | all comparisons, one after another |
//! | `get_and_return.rs`, `throughput.rs`, `warm_up.rs` | one comparison each |
//! | `plan.rs` | how much to measure, and which peers |
//! | `others.rs`, `sqlalchemy.rs` | the peers that are not in the harness |

mod comparison;
mod get_and_return;
mod others;
mod plan;
mod promises;
mod report;
mod sqlalchemy;
mod throughput;
mod warm_up;

use std::{env, path::PathBuf};

use harness::{Peer, Result, item};
use mysql_warm_pool::mysql_async::{Conn, Opts, prelude::Queryable};

use crate::{plan::Plan, promises::Promises};

const USAGE: &str = "\
usage: compare-peers [--quick] [--check] [--readme FILE] [--json FILE] [PEER...]
--quick   shorter, and less certain
--check   end with status 1 unless every promise is met
--readme  write the README's tables into a file
--json    write what was measured into a file
peers: bare ours deadpool mysql_async-no-reset mysql_async bb8 mobc sqlx sqlalchemy sqlalchemy-ping
       (all that can run here, unless some are named)";

#[derive(Debug, Default)]
struct Arguments {
    quick: bool,
    check: bool,
    readme: Option<PathBuf>,
    json: Option<PathBuf>,
    peers: Vec<Peer>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = match parsed(env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            std::process::exit(2);
        }
    };
    let opts = harness::database()?;
    // On a worker thread, like the work itself.
    tokio::spawn(compare(arguments, opts)).await?
}

fn parsed(mut arguments: impl Iterator<Item = String>) -> Result<Arguments> {
    let file = |name: Option<String>| name.map(PathBuf::from).ok_or("a file has to be named");
    let mut parsed = Arguments::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => parsed.quick = true,
            "--check" => parsed.check = true,
            "--readme" => parsed.readme = Some(file(arguments.next())?),
            "--json" => parsed.json = Some(file(arguments.next())?),
            name => {
                let peer = plan::ALL.into_iter().find(|peer| peer.name == name);
                let peer = peer.ok_or_else(|| format!("there is no peer {name:?}"))?;
                if !plan::is_at_hand(peer) {
                    return Err(format!("{name} cannot run here: PEERS_PYTHON is not set").into());
                }
                parsed.peers.push(peer);
            }
        }
    }
    if parsed.peers.is_empty() {
        parsed
            .peers
            .extend(plan::ALL.into_iter().filter(|peer| plan::is_at_hand(*peer)));
    }
    Ok(parsed)
}

async fn compare(arguments: Arguments, opts: Opts) -> Result<()> {
    let plan = Plan::new(arguments.quick, arguments.peers);
    let mut conn = Conn::new(opts.clone()).await?;
    item::create(&mut conn).await?;
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    let conditions = format!(
        "Server {}, {} threads, {} rounds of {:?} for each peer",
        version.unwrap_or_default(),
        std::thread::available_parallelism()?,
        plan.rounds,
        plan.length.counted,
    );
    println!("{conditions}");
    let outcome = comparison::run(&plan, &opts, conditions).await;
    item::drop_table(&mut conn).await?;
    conn.disconnect().await?;
    let found = outcome?;

    println!("\nPromises\n");
    let promises = Promises::judge(&found);
    print!("{promises}");
    if let Some(file) = arguments.readme {
        std::fs::write(file, report::markdown(&found))?;
    }
    if let Some(file) = arguments.json {
        std::fs::write(file, report::json(&found))?;
    }
    if arguments.check && !promises.are_met() {
        std::process::exit(1);
    }
    Ok(())
}
