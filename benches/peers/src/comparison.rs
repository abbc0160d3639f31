//! All comparisons, one after another.

use harness::{
    Result, Work,
    pools::{BARE, DRIVER, OURS},
};
use mysql_warm_pool::mysql_async::Opts;

use crate::{
    get_and_return,
    plan::{ALL, Plan},
    sqlalchemy::{SQLALCHEMY, SQLALCHEMY_PING},
    throughput, warm_up,
};

/// The results of each comparison.
pub struct Found {
    pub conditions: String,
    pub get_and_return: get_and_return::Compared,
    pub even: throughput::Compared,
    pub crowded: throughput::Compared,
    pub cleaning: Vec<(&'static str, throughput::Compared)>,
}

pub async fn run(plan: &Plan, opts: &Opts, conditions: String) -> Result<Found> {
    let title = "get() and return, nothing sent, 1 task";
    let get_and_return = get_and_return::compare(plan, opts, title).await?;

    let title = "Primary-key lookups, prepared, 8 tasks on 8 connections";
    let even = throughput::compare(plan, opts, title, Work::Lookup, 8, &ALL).await?;

    let title = "Primary-key lookups, prepared, 64 tasks on 8 connections";
    let pools = &ALL[1..];
    let crowded = throughput::compare(plan, opts, title, Work::Lookup, 64, pools).await?;

    let mut cleaning = Vec::new();
    for (what, work) in [
        ("a committed transaction", Work::CommittedTransaction),
        ("a transaction dropped open", Work::DroppedTransaction),
        ("a user variable set", Work::UserVariable),
    ] {
        let title = format!("Lookup with {what} after each get, 8 tasks on 8 connections");
        let peers = [BARE, OURS, DRIVER, SQLALCHEMY, SQLALCHEMY_PING];
        let compared = throughput::compare(plan, opts, &title, work, 8, &peers).await?;
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
