//! Callers that write and read through a cluster at a steady rate, and record the outcome.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql_warm_pool::{
    Error,
    cluster::Cluster,
    mysql_async::{Conn, Opts, prelude::Queryable},
};
use test_support::Server;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// Each of 20 writes ten times a second.
const WRITERS: usize = 20;
/// Each of 40 reads ten times a second.
const READERS: usize = 40;
const EVERY: Duration = Duration::from_millis(100);

/// `server` is the port of the server that executed the insert.
pub(super) const TABLES: [&str; 2] = [
    "CREATE TABLE test.entry (id BIGINT UNSIGNED PRIMARY KEY, server INT NOT NULL)",
    "CREATE TABLE test.probe (id INT AUTO_INCREMENT PRIMARY KEY)",
];

pub(super) struct Load {
    tasks: JoinSet<Account>,
    stop: watch::Sender<bool>,
    acknowledged: Arc<AtomicU64>,
}

/// What the callers did.
#[derive(Default)]
pub(super) struct Account {
    /// The acknowledged writes, with the time of their answer.
    pub(super) acknowledged: BTreeMap<u64, Instant>,
    pub(super) failed_writes: Vec<Error>,
    /// When each read ended, and how long it took.
    pub(super) reads: Vec<(Instant, Duration)>,
    pub(super) failed_reads: Vec<Error>,
}

impl Load {
    pub(super) fn start(cluster: &Cluster) -> Self {
        let stop = watch::Sender::new(false);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let ids = Arc::new(AtomicU64::new(1));
        let mut tasks = JoinSet::new();
        for n in 0..WRITERS + READERS {
            let (cluster, stopped) = (cluster.clone(), stop.subscribe());
            let (ids, acknowledged) = (Arc::clone(&ids), Arc::clone(&acknowledged));
            tasks.spawn(async move {
                let mut account = Account::default();
                let mut ticks = interval(EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                while !*stopped.borrow() {
                    ticks.tick().await;
                    if n < WRITERS {
                        let id = ids.fetch_add(1, Ordering::Relaxed);
                        match write(&cluster, id).await {
                            Ok(()) => {
                                account.acknowledged.insert(id, Instant::now());
                                acknowledged.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => account.failed_writes.push(error),
                        }
                    } else {
                        let began = Instant::now();
                        match read(&cluster).await {
                            Ok(()) => account.reads.push((Instant::now(), began.elapsed())),
                            Err(error) => account.failed_reads.push(error),
                        }
                    }
                }
                account
            });
        }
        Self {
            tasks,
            stop,
            acknowledged,
        }
    }

    /// Waits until this many more writes are acknowledged.
    pub(super) async fn write(&self, count: u64) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        test_support::eventually("they write", async || {
            self.acknowledged.load(Ordering::Relaxed) >= before + count
        })
        .await;
    }

    pub(super) async fn stop(self) -> Account {
        self.stop.send_replace(true);
        let mut sum = Account::default();
        for account in self.tasks.join_all().await {
            sum.acknowledged.extend(account.acknowledged);
            sum.failed_writes.extend(account.failed_writes);
            sum.reads.extend(account.reads);
            sum.failed_reads.extend(account.failed_reads);
        }
        sum
    }
}

async fn write(cluster: &Cluster, id: u64) -> Result<(), Error> {
    let mut conn = cluster.writer().await?;
    let insert = "INSERT INTO entry (id, server) VALUES (?, @@port)";
    Ok(conn.exec_drop(insert, (id,)).await?)
}

async fn read(cluster: &Cluster) -> Result<(), Error> {
    let mut conn = cluster.reader().await?;
    let select = "SELECT id FROM entry WHERE id = ?";
    conn.exec_first::<u64, _, _>(select, (1,)).await?;
    Ok(())
}

impl Account {
    /// Asserts that this server has every acknowledged write, and returns which server executed
    /// each of them.
    pub(super) async fn is_kept_by(&self, server: &Server) -> BTreeMap<u64, u16> {
        let mut conn = server.admin().await;
        let select = "SELECT id, server FROM test.entry";
        let rows: Vec<(u64, u16)> = conn.query(select).await.expect("rows");
        let rows: BTreeMap<_, _> = rows.into_iter().collect();
        let kept: BTreeSet<_> = rows.keys().copied().collect();
        let lost: Vec<_> = self
            .acknowledged
            .keys()
            .filter(|id| !kept.contains(id))
            .collect();
        assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
        rows
    }

    /// The 99th percentile of the reads that ended within these times.
    pub(super) fn p99_of_reads(&self, from: Instant, to: Instant) -> Duration {
        let within = self.reads.iter().filter(|(at, _)| (from..to).contains(at));
        let mut times: Vec<_> = within.map(|(_, took)| *took).collect();
        times.sort();
        let place = times.len() * 99 / 100;
        times.get(place).copied().unwrap_or_default()
    }
}

/// Waits until the server at these options takes a write of the tests' user. Returns when it did.
pub(super) async fn takes_writes(opts: Opts) -> Instant {
    loop {
        let probe = async {
            let mut conn = Conn::new(opts.clone()).await?;
            conn.query_drop("INSERT INTO probe () VALUES ()").await
        };
        if let Ok(Ok(())) = timeout(Duration::from_millis(500), probe).await {
            return Instant::now();
        }
        sleep(Duration::from_millis(5)).await;
    }
}
