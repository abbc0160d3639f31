//! Getting and returning alone: what a pool costs where it has nothing to do.

use std::{
    env,
    process::{Command, Stdio},
    time::Instant,
};

use mysql_warm_pool::mysql_async::Opts;

use peers::{
    Name, Result, Work,
    measure::{median, median_ratio},
};

use crate::{CONNECTIONS, Plan};

/// Those that can do it without a round trip.
const NAMES: [Name; 3] = [Name::Ours, Name::Deadpool, Name::DriverUnreset];

pub struct Compared(Vec<Cost>);

struct Cost {
    name: Name,
    /// Nanoseconds for each get and return, batch by batch.
    ns: Vec<f64>,
    instructions: Option<f64>,
}

pub async fn compare(plan: &Plan, opts: &Opts, title: &str) -> Result<Compared> {
    let mut open = Vec::new();
    for name in NAMES.into_iter().filter(|name| plan.peers.contains(name)) {
        let peer = name.open(opts, CONNECTIONS).await?;
        // The pools that open nothing by themselves get their connection.
        peer.times(Work::Lookup, 1, 10).await?;
        open.push((name, peer, Vec::new()));
    }
    for batch in 0..plan.rounds * plan.batches {
        for turn in 0..open.len() {
            let at = (batch + turn) % open.len();
            let (_, peer, ns) = &mut open[at];
            // Not counted: wakes up the pool, and brings it into the processor's caches.
            peer.times(Work::Nothing, 1, plan.batch / 10).await?;
            let begun = Instant::now();
            peer.times(Work::Nothing, 1, plan.batch).await?;
            ns.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(plan.batch));
        }
    }
    let mut costs = Vec::new();
    for (name, _, ns) in open {
        let instructions = instructions(name)?;
        costs.push(Cost {
            name,
            ns,
            instructions,
        });
    }
    let compared = Compared(costs);
    compared.print(title);
    Ok(compared)
}

/// Instructions for each get and return, counted by callgrind; `None` where there is no valgrind.
fn instructions(name: Name) -> Result<Option<f64>> {
    const FEW: u32 = 1_000;
    const MANY: u32 = 11_000;
    let Some(few) = collected(name, FEW)? else {
        return Ok(None);
    };
    let many = collected(name, MANY)?;
    Ok(many.map(|many| (many - few) / f64::from(MANY - FEW)))
}

/// All instructions of a process of its own.
fn collected(name: Name, times: u32) -> Result<Option<f64>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([
            "--times",
            &times.to_string(),
            name.short(),
            Work::Nothing.name(),
            "1",
        ])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return Ok(None);
    };
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind failed: {told}").into());
    }
    let collected = told
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.ok_or("valgrind did not say what it collected")?;
    Ok(Some(number.trim().parse()?))
}

impl Compared {
    pub fn ratio(&self, name: Name, to: Name) -> Option<f64> {
        Some(median_ratio(&self.cost(name)?.ns, &self.cost(to)?.ns))
    }

    pub fn instructions(&self, name: Name) -> Option<f64> {
        self.cost(name)?.instructions
    }

    /// Median of nanoseconds for each get and return.
    pub fn ns(&self, name: Name) -> Option<f64> {
        Some(median(self.cost(name)?.ns.iter().copied()))
    }

    fn cost(&self, name: Name) -> Option<&Cost> {
        self.0.iter().find(|cost| cost.name == name)
    }

    fn print(&self, title: &str) {
        println!("\n{title}\n");
        println!(
            "{:28}{:>9}{:>18}{:>14}{:>15}",
            "", "ns", "(middle 80 %)", "to deadpool", "instructions"
        );
        for cost in &self.0 {
            let mut ns = cost.ns.clone();
            ns.sort_unstable_by(f64::total_cmp);
            let (low, high) = (ns[ns.len() / 10], ns[ns.len() * 9 / 10]);
            let ratio = self
                .ratio(cost.name, Name::Deadpool)
                .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let instructions = cost
                .instructions
                .map_or_else(|| "no valgrind".to_owned(), |count| format!("{count:.0}"));
            println!(
                "{:28}{:9.0}{:>18}{ratio:>14}{instructions:>15}",
                cost.name.long(),
                median(ns.iter().copied()),
                format!("({low:.0}-{high:.0})"),
            );
        }
    }
}
