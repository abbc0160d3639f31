//! Lets one peer do one kind of work a given number of times, on one connection and one thread, so
//! that a profiler's counts are repeatable.
//!
//! `repeat TIMES PEER WORK TASKS`, with `DATABASE_URL` set.

use std::env;

use harness::{Peer, Result, Work, item, pools};
use mysql_warm_pool::mysql_async::Conn;

const USAGE: &str = "\
usage: repeat TIMES PEER WORK TASKS
peers: bare ours deadpool mysql_async-no-reset mysql_async
work:  nothing hold lookup committed-transaction dropped-transaction user-variable";

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let Some((times, peer, work, tasks)) = parsed(&arguments) else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(repeat(times, peer, work, tasks))
}

fn parsed(arguments: &[String]) -> Option<(u32, Peer, Work, u32)> {
    let [times, name, work, tasks] = arguments else {
        return None;
    };
    Some((
        times.parse().ok()?,
        pools::ALL.into_iter().find(|peer| peer.name == name)?,
        Work::ALL.into_iter().find(|known| known.name() == work)?,
        tasks.parse().ok()?,
    ))
}

/// Work without lookups does not touch the table, so it may run beside a comparison that uses it.
async fn repeat(times: u32, peer: Peer, work: Work, tasks: u32) -> Result<()> {
    let opts = harness::database()?;
    let needs_table = !matches!(work, Work::Nothing | Work::Hold);
    let mut conn = Conn::new(opts.clone()).await?;
    if needs_table {
        item::create(&mut conn).await?;
    }
    let connections = peer.open(&opts, 1).await?;
    let outcome = connections.times(work, tasks, times).await;
    drop(connections);
    if needs_table {
        item::drop_table(&mut conn).await?;
    }
    outcome
}
