//! `mysql-warm-pool` beside other pools and beside bare connections, doing the same work in the same run.
//!
//! `scripts/with-database scripts/compare-peers [--quick] [--check] [--readme FILE] [--json FILE] [PEER...]`
//!
//! Peers take turns: in each round every one works for the same time, and the order moves on from round to round.
//! Numbers are medians over the rounds; a ratio is the median of the ratios within each round, so that what
//! disturbs a round disturbs both sides of it. `DATABASE_URL` names the server; one table of an own name is made
//! in its database, and dropped.

mod get_and_return;
mod promises;
mod report;
mod throughput;
mod warm_up;

use std::{env, path::PathBuf, time::Duration};

use mysql_warm_pool::mysql_async::{Conn, Opts, OptsBuilder, prelude::Queryable};

use peers::{Length, Name, Result, Work, item};

use crate::promises::Promises;

const CONNECTIONS: usize = 8;

const USAGE: &str = "\
usage: compare-peers [--quick] [--check] [--readme FILE] [--json FILE] [PEER...]
       compare-peers --times TIMES PEER WORK TASKS   just that, on one connection and one thread, for a profiler
--quick   shorter, and less certain
--check   end with status 1 unless every promise is met
--readme  write the README's tables into a file
--json    write what was measured into a file
peers: bare ours deadpool mysql_async-no-reset mysql_async bb8 mobc sqlx sqlalchemy sqlalchemy-ping
       (all that can be had here, unless some are named)
work:  nothing hold lookup committed-transaction dropped-transaction user-variable";

/// How much is measured.
pub struct Plan {
    pub rounds: usize,
    pub length: Length,
    /// Gets and returns in a row, and how often in each round.
    pub batch: u32,
    pub batches: usize,
    pub warm_ups: usize,
    pub peers: Vec<Name>,
}

#[derive(Debug)]
enum Asked {
    Comparison(Comparison),
    Times {
        times: u32,
        peer: Name,
        work: Work,
        tasks: u32,
    },
}

#[derive(Debug, Default)]
struct Comparison {
    quick: bool,
    check: bool,
    readme: Option<PathBuf>,
    json: Option<PathBuf>,
    peers: Vec<Name>,
}

fn main() -> Result<()> {
    let asked = match asked(env::args().skip(1).collect()) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            std::process::exit(2);
        }
    };
    let url = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL is not set")?;
    // Without it the driver may open a second connection, past a proxy, to the server's Unix socket.
    let opts = OptsBuilder::from_opts(Opts::from_url(&url)?).prefer_socket(false);
    let opts = Opts::from(opts);
    match asked {
        Asked::Comparison(asked) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(async { tokio::spawn(compare(asked, opts)).await? }),
        // On one thread, as a profiler's counts are to repeat.
        Asked::Times {
            times,
            peer,
            work,
            tasks,
        } => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(by_itself(peer, work, (tasks, times), opts)),
    }
}

fn asked(mut arguments: Vec<String>) -> Result<Asked> {
    let peer = |name: &String| {
        let found = Name::ALL.into_iter().find(|peer| peer.short() == name);
        found.ok_or_else(|| format!("there is no peer {name:?}"))
    };
    if let [first, times, name, work, tasks] = &arguments[..]
        && first == "--times"
    {
        let known = Work::ALL.into_iter().find(|known| known.name() == work);
        return Ok(Asked::Times {
            times: times.parse()?,
            peer: peer(name)?,
            work: known.ok_or_else(|| format!("there is no work {work:?}"))?,
            tasks: tasks.parse()?,
        });
    }
    let file = |name: Option<String>| name.map(PathBuf::from).ok_or("a file has to be named");
    let mut asked = Comparison::default();
    let mut arguments = arguments.drain(..);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => asked.quick = true,
            "--check" => asked.check = true,
            "--readme" => asked.readme = Some(file(arguments.next())?),
            "--json" => asked.json = Some(file(arguments.next())?),
            name => {
                let peer = peer(&name.to_owned())?;
                if !peer.is_at_hand() {
                    return Err(
                        format!("{name} cannot be had here: PEERS_PYTHON is not set").into(),
                    );
                }
                asked.peers.push(peer);
            }
        }
    }
    if asked.peers.is_empty() {
        asked
            .peers
            .extend(Name::ALL.into_iter().filter(|peer| peer.is_at_hand()));
    }
    Ok(Asked::Comparison(asked))
}

fn plan(quick: bool, peers: Vec<Name>) -> Plan {
    let ms = Duration::from_millis;
    let (rounds, counted, batches, warm_ups) = if quick {
        (5, ms(200), 10, 5)
    } else {
        // Short rounds and many: what disturbs them disturbs few.
        (25, ms(300), 12, 21)
    };
    Plan {
        rounds,
        length: Length {
            rehearsal: ms(50),
            counted,
        },
        batch: 2000,
        batches,
        warm_ups,
        peers,
    }
}

/// What needs no table makes and drops none: it may run beside a comparison, which has its own.
async fn by_itself(peer: Name, work: Work, (tasks, times): (u32, u32), opts: Opts) -> Result<()> {
    let mut conn = Conn::new(opts.clone()).await?;
    if work != Work::Nothing {
        item::create(&mut conn).await?;
    }
    let peer = peer.open(&opts, 1).await?;
    let outcome = peer.times(work, tasks, times).await;
    drop(peer);
    if work != Work::Nothing {
        item::drop_table(&mut conn).await?;
    }
    outcome
}

async fn compare(asked: Comparison, opts: Opts) -> Result<()> {
    let plan = plan(asked.quick, asked.peers);
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
    let outcome = all(&plan, &opts, conditions).await;
    item::drop_table(&mut conn).await?;
    conn.disconnect().await?;
    let found = outcome?;

    println!("\nPromises\n");
    let promises = Promises::judge(&found);
    print!("{promises}");
    if let Some(file) = asked.readme {
        std::fs::write(file, report::markdown(&found))?;
    }
    if let Some(file) = asked.json {
        std::fs::write(file, report::json(&found))?;
    }
    if asked.check && !promises.are_met() {
        std::process::exit(1);
    }
    Ok(())
}

/// What was found, comparison by comparison.
pub struct Found {
    pub conditions: String,
    pub get_and_return: get_and_return::Compared,
    pub even: throughput::Compared,
    pub crowded: throughput::Compared,
    pub cleaning: Vec<(&'static str, throughput::Compared)>,
}

async fn all(plan: &Plan, opts: &Opts, conditions: String) -> Result<Found> {
    let title = "get() and return, nothing sent, 1 task";
    let get_and_return = get_and_return::compare(plan, opts, title).await?;

    let title = "Primary-key lookups, prepared, 8 tasks on 8 connections";
    let even = throughput::compare(plan, opts, title, Work::Lookup, 8, &Name::ALL).await?;

    let title = "Primary-key lookups, prepared, 64 tasks on 8 connections";
    let pools = &Name::ALL[1..];
    let crowded = throughput::compare(plan, opts, title, Work::Lookup, 64, pools).await?;

    let mut cleaning = Vec::new();
    for (what, work) in [
        ("a committed transaction", Work::CommittedTransaction),
        ("a transaction dropped open", Work::DroppedTransaction),
        ("a user variable set", Work::UserVariable),
    ] {
        let title = format!("Lookup with {what} in each borrow, 8 tasks on 8 connections");
        let names = [
            Name::Bare,
            Name::Ours,
            Name::Driver,
            Name::Sqlalchemy,
            Name::SqlalchemyPing,
        ];
        let compared = throughput::compare(plan, opts, &title, work, 8, &names).await?;
        cleaning.push((what, compared));
    }

    warm_up::compare(plan, opts).await?;
    Ok(Found {
        conditions,
        get_and_return,
        even,
        crowded,
        cleaning,
    })
}
