//! Opening many connections: by `warm_up()`, and bare with as many attempts in flight.

use harness::{
    Result,
    measure::{median, median_ratio},
    opening,
    pools::OURS,
};
use mysql_warm_pool::mysql_async::{Opts, OptsBuilder};

use crate::plan::Plan;

const CONNECTIONS: usize = 20;
const IN_FLIGHT: usize = 8;

pub async fn compare(plan: &Plan, opts: &Opts) -> Result<()> {
    if !plan.peers.contains(&OURS) {
        return Ok(());
    }
    let given = OptsBuilder::from_opts(opts.clone())
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(28_800));
    let given = Opts::from(given);
    let mut ours = Vec::new();
    let mut bare = Vec::new();
    let mut barest = Vec::new();
    // The first round is not counted.
    for turn in 0..=plan.warm_ups {
        let times = [
            opening::warm_up(opts, CONNECTIONS, IN_FLIGHT).await?,
            opening::bare(opts, CONNECTIONS, IN_FLIGHT).await?,
            opening::bare(&given, CONNECTIONS, IN_FLIGHT).await?,
        ];
        if turn > 0 {
            for (all, time) in [&mut ours, &mut bare, &mut barest].into_iter().zip(times) {
                all.push(time.as_secs_f64() * 1e3);
            }
        }
    }

    println!("\nOpening {CONNECTIONS} connections, {IN_FLIGHT} in flight\n");
    println!("{:44}{:>9}{:>12}", "", "ms", "to bare");
    for (name, all) in [
        ("mysql-warm-pool, validated", &ours),
        ("bare, as they come (settings queried)", &bare),
        ("bare, settings given (no such round trip)", &barest),
    ] {
        println!(
            "{name:44}{:9.2}{:12.2}",
            median(all.iter().copied()),
            median_ratio(all, &bare)
        );
    }
    Ok(())
}
