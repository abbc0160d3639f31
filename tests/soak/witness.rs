//! Observes the pool's status, the server's view, readiness and memory.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use mysql_warm_pool::{Pool, Readiness, mysql_async::prelude::Queryable};
use peak_alloc::PeakAlloc;
use tokio::time::{sleep, timeout};

use crate::{account::TICK, bank::USER, caller::Shared, faults::World};

/// Counts the bytes that are allocated now.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

pub(crate) fn allocated() -> usize {
    ALLOCATED.current_usage()
}

/// Ticks until the callers are stopped, so that the account learns how late the machine schedules
/// this process.
pub(crate) fn time_the_machine(shared: Arc<Shared>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while !shared.stop.load(Ordering::Relaxed) {
            shared.account.tick();
            thread::sleep(TICK);
        }
    })
}

/// The observations.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The most connections of the pool's user that the server listed at once.
    pub(crate) listed: u64,
    /// The fewest bytes allocated in each quarter of the run. The value depends on the faults in it
    /// (without connections there is less), so it is printed, not judged.
    quarters: [Option<usize>; 4],
    pub(crate) looks: u64,
    pub(crate) changes: u64,
}

pub(crate) struct Witness {
    pub(crate) world: Arc<World>,
    pub(crate) pool: Pool,
    pub(crate) shared: Arc<Shared>,
    pub(crate) begun: Instant,
    pub(crate) lasts: Duration,
}

impl Witness {
    /// Observes until the callers are stopped.
    pub(crate) async fn observe(self) -> Seen {
        let mut seen = Seen::default();
        let mut watch = self.pool.watch();
        let mut readiness = watch.current();
        let mut admin = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            seen.looks += 1;
            self.look_at_status();
            self.weigh(&mut seen);
            if let Ok(_here) = self.world.away.try_read() {
                let question = format!(
                    "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{USER}'"
                );
                let mut conn = match admin.take() {
                    Some(conn) => conn,
                    None => self.world.server.admin().await,
                };
                if let Ok(count) = conn.query_first::<u64, _>(question).await {
                    seen.listed = seen.listed.max(count.unwrap_or_default());
                    admin = Some(conn);
                }
            }
            if let Ok(next) = timeout(Duration::from_millis(10), watch.changed()).await {
                seen.changes += 1;
                self.judge(readiness, next);
                readiness = next;
            }
            sleep(Duration::from_millis(5)).await;
        }
        seen
    }

    fn look_at_status(&self) {
        let status = self.pool.status();
        let adds_up = status.open == status.idle + status.in_use + status.cleaning;
        if !adds_up {
            let text = format!("a status that does not add up: {status:?}");
            self.shared.account.violation(text);
        }
    }

    fn weigh(&self, seen: &mut Seen) {
        let part = self.begun.elapsed().as_secs_f64() / self.lasts.as_secs_f64();
        let quarter = (0..3).find(|n| part < f64::from(n + 1) / 4.0).unwrap_or(3);
        let least = &mut seen.quarters[usize::try_from(quarter).unwrap_or(3)];
        let now = allocated();
        *least = Some(least.map_or(now, |least| least.min(now)));
    }

    /// Some states may be missed between two looks, but some must never come back.
    fn judge(&self, was: Readiness, now: Readiness) {
        use Readiness::{Closed, Cold, Degraded, Ready, Unavailable, Warming};
        let is_legal = match now {
            Cold | Closed => false,
            Warming => was == Cold,
            Ready | Degraded | Unavailable => true,
            _ => false,
        };
        if !is_legal {
            let text = format!("readiness went from {was} to {now}");
            self.shared.account.violation(text);
        }
    }
}

/// The fewest bytes in each quarter.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, last] =
            self.quarters.map(|least| least.unwrap_or_default() / 1024);
        write!(f, "{first}, {second}, {third}, {last} KiB")
    }
}
