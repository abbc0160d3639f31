//! What the members are, as they say themselves without the cluster in between, and whether the
//! cluster led callers accordingly.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mysql_warm_pool::mysql_async::{
    self, Conn, Opts, Row, Value, from_value_opt, prelude::Queryable,
};
use test_support::Flavor;
use tokio::time::{sleep, timeout};

use super::Topology;
use crate::account::{Account, Moment};

/// Between two questions to a member.
const EVERY: Duration = Duration::from_millis(50);
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// What the machine may need beside the time that is promised.
const SLACK: Duration = Duration::from_millis(300);

/// A connection that a caller got.
#[derive(Clone, Debug)]
pub(crate) struct HandOut {
    pub(crate) to_write: bool,
    /// When the call began and ended.
    pub(crate) called: Moment,
    pub(crate) got: Instant,
    /// The member as the cluster saw it then.
    pub(crate) seen: String,
}

#[derive(Debug)]
pub(crate) struct Truth {
    topology: Topology,
    max_lag: Option<Duration>,
    /// How soon a change must be noticed.
    noticed_within: Duration,
    members: Vec<Mutex<Member>>,
}

/// Locked only briefly.
#[derive(Debug, Default)]
struct Member {
    /// It answers no clients.
    gone: Option<Moment>,
    /// Since when each of its answers has been that it takes no writes, or must serve no reads.
    barred: Barred<Option<Moment>>,
    /// Hand-outs that are not judged yet.
    hand_outs: Vec<HandOut>,
    answers: u64,
    /// Its last answer.
    said: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Barred<T> {
    from_writes: T,
    from_reads: T,
}

impl Truth {
    pub(crate) fn new(
        topology: Topology,
        count: usize,
        check_every: Duration,
        max_lag: Option<Duration>,
    ) -> Self {
        Self {
            topology,
            max_lag,
            noticed_within: check_every + Duration::from_millis(500),
            members: (0..count).map(|_| Mutex::default()).collect(),
        }
    }

    /// From now on the member answers no clients, or it may do so again.
    pub(crate) fn set_gone(&self, n: usize, is_gone: bool, account: &Account) {
        self.member(n).gone = is_gone.then(|| account.now());
    }

    /// Something is about to change at this member; what it said before does not count any more.
    pub(crate) fn disturb(&self, n: usize) {
        self.member(n).barred = Barred::default();
    }

    /// Checks that the cluster may have led a caller to this member.
    pub(crate) fn judge(&self, n: usize, hand_out: HandOut, account: &Account) {
        let mut member = self.member(n);
        let gone = member.gone;
        member.hand_outs.push(hand_out.clone());
        drop(member);
        if self.is_late(gone, &hand_out) {
            account.violation(format!(
                "member {n} had been gone for {:?} when a call to {} began that led there; {}",
                gone.map(|since| hand_out.called.since(since)),
                verb(hand_out.to_write),
                hand_out.seen
            ));
        }
    }

    fn is_late(&self, since: Option<Moment>, hand_out: &HandOut) -> bool {
        let allowed = self.noticed_within + SLACK;
        since.is_some_and(|since| hand_out.called.since(since) > allowed)
    }

    /// Asks a member until it is stopped, and judges the hand-outs before each question.
    pub(crate) async fn observe(
        &self,
        n: usize,
        opts: Opts,
        flavor: Flavor,
        account: &Account,
        is_stopped: impl Fn() -> bool,
    ) {
        let mut conn = None;
        while !is_stopped() {
            let asked = Instant::now();
            let asking = async {
                let mut asking = match conn.take() {
                    Some(conn) => conn,
                    None => Conn::new(opts.clone()).await?,
                };
                let barred = self.ask(&mut asking, flavor).await?;
                Ok::<_, mysql_async::Error>((asking, barred))
            };
            let barred = match timeout(ANSWERS_WITHIN, asking).await {
                Ok(Ok((again, barred))) => {
                    conn = Some(again);
                    Some(barred)
                }
                // It is away, or too slow to know.
                Ok(Err(_)) | Err(_) => None,
            };
            self.record(n, asked, barred, account);
            sleep(EVERY).await;
        }
        if let Some(conn) = conn {
            conn.disconnect().await.ok();
        }
    }

    fn record(
        &self,
        n: usize,
        asked: Instant,
        answer: Option<(Barred<bool>, String)>,
        account: &Account,
    ) {
        let mut member = self.member(n);
        member.answers += u64::from(answer.is_some());
        let (now, said) = answer.unwrap_or_default();
        member.said = said;
        let since = member.barred;
        let next = |since: Option<Moment>, barred: bool| {
            barred.then(|| since.unwrap_or_else(|| account.now()))
        };
        member.barred = Barred {
            from_writes: next(since.from_writes, now.from_writes),
            from_reads: next(since.from_reads, now.from_reads),
        };
        // Between two answers, everything may have been different for a moment; it was not if this
        // answer is still the same, as nothing changes that often.
        let (due, later) = member
            .hand_outs
            .drain(..)
            .partition(|hand_out| hand_out.got < asked);
        member.hand_outs = later;
        let said = member.said.clone();
        drop(member);
        let due: Vec<HandOut> = due;
        for hand_out in due {
            let since = if hand_out.to_write {
                since.from_writes.filter(|_| now.from_writes)
            } else {
                since.from_reads.filter(|_| now.from_reads)
            };
            if self.is_late(since, &hand_out) {
                account.violation(format!(
                    "member {n} had not been one to {verb} for {:?} when a call to {verb} began \
                     that led there; it said {said}, the cluster that {}",
                    since.map(|since| hand_out.called.since(since)),
                    hand_out.seen,
                    verb = verb(hand_out.to_write),
                ));
            }
        }
    }

    async fn ask(
        &self,
        conn: &mut Conn,
        flavor: Flavor,
    ) -> mysql_async::Result<(Barred<bool>, String)> {
        let read_only: Option<bool> = conn.query_first("SELECT @@global.read_only").await?;
        let read_only = read_only.unwrap_or_default();
        if self.topology == Topology::Galera {
            let question = "SHOW GLOBAL STATUS WHERE Variable_name IN \
                            ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state')";
            let rows: Vec<(String, String)> = conn.query(question).await?;
            let status: HashMap<_, _> = rows.into_iter().collect();
            let is = |name, value| status.get(name).is_some_and(|of| of == value);
            let is_synced = is("wsrep_ready", "ON")
                && is("wsrep_cluster_status", "Primary")
                && is("wsrep_local_state", "4");
            let barred = Barred {
                from_writes: !is_synced || read_only,
                from_reads: !is_synced,
            };
            return Ok((barred, format!("{status:?}")));
        }
        let question = match flavor {
            Flavor::MariaDb => "SHOW ALL SLAVES STATUS",
            Flavor::MySql => "SHOW REPLICA STATUS",
        };
        let rows: Vec<Row> = conn.query(question).await?;
        let lag = rows.first().and_then(seconds_behind);
        let is_behind = self
            .max_lag
            .is_some_and(|most| read_only && lag.is_none_or(|lag| lag > most));
        let barred = Barred {
            from_writes: read_only,
            from_reads: is_behind,
        };
        Ok((barred, format!("read-only {read_only}, lag {lag:?}")))
    }

    fn member(&self, n: usize) -> MutexGuard<'_, Member> {
        let member = self.members.get(n).expect("one of the members");
        member.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many answers all members gave.
    pub(crate) fn answers(&self) -> u64 {
        (0..self.members.len())
            .map(|n| self.member(n).answers)
            .sum()
    }
}

fn seconds_behind(row: &Row) -> Option<Duration> {
    let names = ["Seconds_Behind_Master", "Seconds_Behind_Source"];
    let value: Value = names.iter().find_map(|name| row.get(*name))?;
    from_value_opt(value).ok().map(Duration::from_secs)
}

const fn verb(to_write: bool) -> &'static str {
    if to_write { "write" } else { "read" }
}
