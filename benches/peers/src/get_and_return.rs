//! Getting and returning alone: the pool's own cost.

use std::time::Instant;

use harness::{
    Peer, Result, Work, instructions,
    measure::{median, median_ratio, turns},
    pools::{DEADPOOL, DRIVER_UNRESET, OURS},
};
use mysql_warm_pool::mysql_async::Opts;

use crate::plan::{CONNECTIONS, Plan};

/// The peers that need no round trip for it.
const PEERS: [Peer; 3] = [OURS, DEADPOOL, DRIVER_UNRESET];

pub struct Compared(Vec<Cost>);

struct Cost {
    peer: Peer,
    /// Nanoseconds per get and return, batch by batch.
    ns: Vec<f64>,
    instructions: Option<f64>,
}

pub async fn compare(plan: &Plan, opts: &Opts, title: &str) -> Result<Compared> {
    let mut open = Vec::new();
    for peer in PEERS.into_iter().filter(|peer| plan.peers.contains(peer)) {
        let connections = peer.open(opts, CONNECTIONS).await?;
        // Lets pools that open nothing by themselves open their connection.
        connections.times(Work::Lookup, 1, 10).await?;
        open.push((peer, connections, Vec::new()));
    }
    for at in turns(plan.rounds * plan.batches, open.len()) {
        let (_, connections, ns) = &mut open[at];
        // Not counted: wakes up the pool and brings it into the processor's caches.
        connections.times(Work::Nothing, 1, plan.batch / 10).await?;
        let start = Instant::now();
        connections.times(Work::Nothing, 1, plan.batch).await?;
        ns.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(plan.batch));
    }
    let mut costs = Vec::new();
    for (peer, _, ns) in open {
        let instructions = instructions::count(peer, Work::Nothing)?;
        costs.push(Cost {
            peer,
            ns,
            instructions,
        });
    }
    let compared = Compared(costs);
    compared.print(title);
    Ok(compared)
}

impl Compared {
    pub fn ratio(&self, peer: Peer, to: Peer) -> Option<f64> {
        Some(median_ratio(&self.cost(peer)?.ns, &self.cost(to)?.ns))
    }

    pub fn instructions(&self, peer: Peer) -> Option<f64> {
        self.cost(peer)?.instructions
    }

    /// The median of nanoseconds per get and return.
    pub fn ns(&self, peer: Peer) -> Option<f64> {
        Some(median(self.cost(peer)?.ns.iter().copied()))
    }

    fn cost(&self, peer: Peer) -> Option<&Cost> {
        self.0.iter().find(|cost| cost.peer == peer)
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
                .ratio(cost.peer, DEADPOOL)
                .map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let instructions = cost
                .instructions
                .map_or_else(|| "no valgrind".to_owned(), |count| format!("{count:.0}"));
            println!(
                "{:28}{:9.0}{:>18}{ratio:>14}{instructions:>15}",
                cost.peer.title,
                median(ns.iter().copied()),
                format!("({low:.0}-{high:.0})"),
            );
        }
    }
}
