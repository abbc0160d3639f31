//! Work by many tasks: how much they get done, and how long each piece takes.

use mysql_warm_pool::mysql_async::Opts;

use peers::{
    Name, Result, Round, Work,
    measure::{median, median_ratio},
};

use crate::{CONNECTIONS, Plan};

/// What the peers did, in the order of their names.
pub struct Compared(Vec<(Name, Vec<Round>)>);

/// One peer's line in a table.
pub struct Row {
    pub name: Name,
    pub per_second: f64,
    pub lowest: f64,
    pub highest: f64,
    /// Median of the ratios to the [base](Compared::base) within each round.
    pub ratio: Option<f64>,
    /// Microseconds.
    pub p50: f64,
    pub p99: f64,
}

pub async fn compare(
    plan: &Plan,
    opts: &Opts,
    title: &str,
    work: Work,
    tasks: usize,
    names: &[Name],
) -> Result<Compared> {
    let mut open = Vec::new();
    for &name in names.iter().filter(|name| plan.peers.contains(name)) {
        open.push((name, name.open(opts, CONNECTIONS).await?, Vec::new()));
    }
    for round in 0..plan.rounds {
        for turn in 0..open.len() {
            let at = (round + turn) % open.len();
            let (_, peer, rounds) = &mut open[at];
            rounds.push(peer.round(work, tasks, plan.length).await?);
        }
    }
    let compared = open.into_iter().map(|(name, _, rounds)| (name, rounds));
    let compared = Compared(compared.collect());
    compared.print(title);
    Ok(compared)
}

impl Compared {
    /// Median of work done per second.
    pub fn per_second(&self, name: Name) -> Option<f64> {
        Some(median(self.all_per_second(name)?))
    }

    /// How much work one does for each of the other's.
    pub fn ratio(&self, name: Name, to: Name) -> Option<f64> {
        Some(median_ratio(
            &self.all_per_second(name)?,
            &self.all_per_second(to)?,
        ))
    }

    /// Median of the rounds' 99th percentiles, in microseconds.
    pub fn p99(&self, name: Name) -> Option<f64> {
        Some(median(self.rounds(name)?.iter().map(|round| round.p99)))
    }

    /// The one of these that does the most.
    pub fn fastest(&self, among: impl Fn(Name) -> bool) -> Option<Name> {
        let names = self.0.iter().map(|(name, _)| *name);
        let speed = |name: &Name| self.per_second(*name).unwrap_or_default();
        names
            .filter(|name| among(*name))
            .max_by(|a, b| speed(a).total_cmp(&speed(b)))
    }

    fn rounds(&self, name: Name) -> Option<&[Round]> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        found.map(|(_, rounds)| &rounds[..])
    }

    fn all_per_second(&self, name: Name) -> Option<Vec<f64>> {
        let rounds = self.rounds(name)?.iter();
        Some(rounds.map(|round| round.per_second).collect())
    }

    /// What stands in the table: medians over the rounds.
    pub fn rows(&self) -> Vec<Row> {
        let base = self.base();
        let row = |(name, rounds): &(Name, Vec<Round>)| {
            let mut speeds: Vec<_> = rounds.iter().map(|round| round.per_second).collect();
            speeds.sort_unstable_by(f64::total_cmp);
            Row {
                name: *name,
                per_second: median(speeds.iter().copied()),
                lowest: speeds.first().copied().unwrap_or(f64::NAN),
                highest: speeds.last().copied().unwrap_or(f64::NAN),
                ratio: base.and_then(|base| self.ratio(*name, base)),
                p50: median(rounds.iter().map(|round| round.p50)),
                p99: median(rounds.iter().map(|round| round.p99)),
            }
        };
        self.0.iter().map(row).collect()
    }

    /// What the ratios are to: where there are no bare connections, the fastest without safety stands in for them.
    pub fn base(&self) -> Option<Name> {
        match self.rounds(Name::Bare) {
            Some(_) => Some(Name::Bare),
            None => self.fastest(Name::is_unsafe),
        }
    }

    fn print(&self, title: &str) {
        let to = match self.base() {
            Some(Name::Bare) => "to bare",
            Some(_) => "to best unsafe",
            None => "",
        };
        println!("\n{title}\n");
        println!(
            "{:28}{:>9}  {:>17}{:>16}{:>9}{:>9}",
            "", "per s", "(lowest-highest)", to, "p50 µs", "p99 µs"
        );
        for row in self.rows() {
            let ratio = row
                .ratio
                .map_or_else(String::new, |ratio| format!("{ratio:.3}"));
            println!(
                "{:28}{:9.0}  {:>17}{:>16}{:9.0}{:9.0}",
                row.name.long(),
                row.per_second,
                format!("({:.0}-{:.0})", row.lowest, row.highest),
                ratio,
                row.p50,
                row.p99,
            );
        }
    }
}
