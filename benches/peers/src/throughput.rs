//! Work by many tasks: how much they get done, and how long each piece takes.

use harness::{
    Peer, Result, Round, Work,
    measure::{median, median_ratio, turns},
    pools::BARE,
};
use mysql_warm_pool::mysql_async::Opts;

use crate::plan::{CONNECTIONS, Plan};

/// Each peer's results, in the order of the tables.
pub struct Compared(Vec<(Peer, Vec<Round>)>);

/// One peer's line in a table.
pub struct Row {
    pub peer: Peer,
    pub per_second: f64,
    pub lowest: f64,
    pub highest: f64,
    /// The median of the ratios to the [base](Compared::base) within each round.
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
    peers: &[Peer],
) -> Result<Compared> {
    let mut open = Vec::new();
    for &peer in peers.iter().filter(|peer| plan.peers.contains(peer)) {
        open.push((peer, peer.open(opts, CONNECTIONS).await?, Vec::new()));
    }
    for at in turns(plan.rounds, open.len()) {
        let (_, connections, rounds) = &mut open[at];
        rounds.push(connections.round(work, tasks, plan.length).await?);
    }
    let compared = open.into_iter().map(|(peer, _, rounds)| (peer, rounds));
    let compared = Compared(compared.collect());
    compared.print(title);
    Ok(compared)
}

impl Compared {
    /// The median of work done per second.
    pub fn per_second(&self, peer: Peer) -> Option<f64> {
        Some(median(self.all_per_second(peer)?))
    }

    /// How many times as much work one does as the other.
    pub fn ratio(&self, peer: Peer, to: Peer) -> Option<f64> {
        Some(median_ratio(
            &self.all_per_second(peer)?,
            &self.all_per_second(to)?,
        ))
    }

    /// The median of the rounds' 99th percentiles, in microseconds.
    pub fn p99(&self, peer: Peer) -> Option<f64> {
        Some(median(self.rounds(peer)?.iter().map(|round| round.p99)))
    }

    /// The fastest of these.
    pub fn fastest(&self, among: impl Fn(Peer) -> bool) -> Option<Peer> {
        let peers = self.0.iter().map(|(peer, _)| *peer);
        let speed = |peer: &Peer| self.per_second(*peer).unwrap_or_default();
        peers
            .filter(|peer| among(*peer))
            .max_by(|a, b| speed(a).total_cmp(&speed(b)))
    }

    fn rounds(&self, peer: Peer) -> Option<&[Round]> {
        let found = self.0.iter().find(|(other, _)| *other == peer);
        found.map(|(_, rounds)| &rounds[..])
    }

    fn all_per_second(&self, peer: Peer) -> Option<Vec<f64>> {
        let rounds = self.rounds(peer)?.iter();
        Some(rounds.map(|round| round.per_second).collect())
    }

    /// The row's figures: medians over the rounds.
    pub fn rows(&self) -> Vec<Row> {
        let base = self.base();
        let row = |(peer, rounds): &(Peer, Vec<Round>)| {
            let mut speeds: Vec<_> = rounds.iter().map(|round| round.per_second).collect();
            speeds.sort_unstable_by(f64::total_cmp);
            Row {
                peer: *peer,
                per_second: median(speeds.iter().copied()),
                lowest: speeds.first().copied().unwrap_or(f64::NAN),
                highest: speeds.last().copied().unwrap_or(f64::NAN),
                ratio: base.and_then(|base| self.ratio(*peer, base)),
                p50: median(rounds.iter().map(|round| round.p50)),
                p99: median(rounds.iter().map(|round| round.p99)),
            }
        };
        self.0.iter().map(row).collect()
    }

    /// The base of the ratios: bare connections, or else the fastest peer without safety.
    pub fn base(&self) -> Option<Peer> {
        match self.rounds(BARE) {
            Some(_) => Some(BARE),
            None => self.fastest(|peer| peer.is_unsafe()),
        }
    }

    fn print(&self, title: &str) {
        let to = match self.base() {
            Some(base) if base == BARE => "to bare",
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
                row.peer.title,
                row.per_second,
                format!("({:.0}-{:.0})", row.lowest, row.highest),
                ratio,
                row.p50,
                row.p99,
            );
        }
    }
}
