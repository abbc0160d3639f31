//! The account of every row that was to be written.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mysql_warm_pool::mysql_async::{self, prelude::Queryable};
use tokio::time::sleep;

use crate::account::Account;

/// `server` is the port of the server that executed the insert.
pub(crate) const TABLE: &str = "CREATE TABLE test.entry (id BIGINT UNSIGNED PRIMARY KEY, \
                                content BIGINT UNSIGNED NOT NULL, server INT NOT NULL)";
pub(crate) const INSERT: &str = "INSERT INTO entry (id, content, server) VALUES (?, ?, @@port)";

/// A node that has just taken over may still have to apply what it has received.
const APPLIES_WITHIN: Duration = Duration::from_secs(10);

/// More rows than can be under way at once.
const UNDER_WAY: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Certainly not there.
    Undone,
    /// It may be there or not.
    Unknown,
    /// Acknowledged by the server at this port: it is there.
    Done(u16),
}

/// Rows by their number. Locked only briefly.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    acknowledged: u64,
    /// All acknowledged rows below were found after a fault.
    found_below: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    /// The first row of the same transaction.
    first: u64,
}

/// The rows of one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Rows {
    pub(crate) fn params(self) -> Vec<(u64, u64)> {
        self.ids().map(|id| (id, content(id))).collect()
    }

    fn ids(self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

/// The rows that a server has: content, and the port of the server that executed the insert.
pub(crate) type Found = BTreeMap<u64, (u64, u16)>;

/// How many rows were compared, by state, and how many in unknown state were there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Compared {
    pub(crate) done: u64,
    pub(crate) undone: u64,
    pub(crate) unknown: u64,
    pub(crate) found_of_unknown: u64,
}

impl Ledger {
    /// Enters rows that are to be written together.
    pub(crate) fn enter(&self, count: u64) -> Rows {
        let mut inner = self.lock();
        let first = inner.next;
        inner.next += count;
        let rows = Rows { first, count };
        let state = State::Undone;
        inner
            .entries
            .extend(rows.ids().map(|id| (id, Entry { state, first })));
        rows
    }

    pub(crate) fn settle(&self, rows: Rows, state: State) {
        let mut inner = self.lock();
        inner.acknowledged += u64::from(matches!(state, State::Done(_)));
        for id in rows.ids() {
            inner
                .entries
                .entry(id)
                .and_modify(|entry| entry.state = state);
        }
    }

    /// Settles rows whose insert or commit was sent and failed.
    pub(crate) fn settle_failed(&self, rows: Rows, error: &mysql_async::Error) {
        if let mysql_async::Error::Server(error) = error
            && matches!(error.code, 1020 | 1205 | 1213 | 1290 | 1836)
        {
            self.settle(rows, State::Undone);
        }
    }

    /// How many writes were acknowledged until now.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }

    /// An acknowledged row, if there is one.
    pub(crate) fn any(&self, chance: u64) -> Option<u64> {
        let inner = self.lock();
        let below = chance % inner.next.max(1);
        let mut earlier = inner.entries.range(..=below).rev();
        let found = earlier
            .find(|(_, entry)| matches!(entry.state, State::Done(_)))
            .map(|(id, _)| *id);
        drop(inner);
        found
    }

    /// Checks that every row acknowledged until now, and not found before, is on this server.
    pub(crate) async fn check_new(
        &self,
        conn: &mut impl Queryable,
        account: &Account,
    ) -> mysql_async::Result<u64> {
        let (from, done) = {
            let inner = self.lock();
            let new = inner.entries.range(inner.found_below..);
            let done = new.filter(|(_, entry)| matches!(entry.state, State::Done(_)));
            (
                inner.found_below,
                done.map(|(id, _)| *id).collect::<Vec<_>>(),
            )
        };
        let mut waited = Duration::ZERO;
        let missing = loop {
            let found: Vec<u64> = conn
                .exec("SELECT id FROM entry WHERE id >= ? ORDER BY id", (from,))
                .await?;
            let missing: Vec<_> = done
                .iter()
                .filter(|id| found.binary_search(id).is_err())
                .copied()
                .collect();
            if missing.is_empty() || waited > APPLIES_WITHIN {
                break missing;
            }
            sleep(Duration::from_millis(100)).await;
            waited += Duration::from_millis(100);
        };
        for id in &missing {
            account.violation(format!(
                "row {id} was acknowledged, and is not on the writer: {:?}",
                self.state(*id)
            ));
        }
        if let Some(last) = done.last() {
            // Those under way may still be acknowledged.
            self.lock().found_below = last.saturating_sub(UNDER_WAY).max(from);
        }
        Ok(done.len() as u64)
    }

    fn state(&self, id: u64) -> Option<State> {
        self.lock().entries.get(&id).map(|entry| entry.state)
    }

    /// Compares all rows with those of the writer, once no caller is left.
    pub(crate) fn compare(&self, found: &Found, account: &Account) -> Compared {
        let inner = self.lock();
        let mut compared = Compared::default();
        for (id, entry) in &inner.entries {
            let row = found.get(id);
            if row.is_some() != found.contains_key(&entry.first) {
                account.violation(format!("row {id} and {} are not together", entry.first));
            }
            match entry.state {
                State::Done(port) => {
                    compared.done += 1;
                    match row {
                        None => account.violation(format!(
                            "row {id} was acknowledged by {port}, and is not there"
                        )),
                        Some((_, server)) if *server != port => account.violation(format!(
                            "row {id} was acknowledged by {port} and executed by {server}"
                        )),
                        Some(_) => {}
                    }
                }
                State::Undone => {
                    compared.undone += 1;
                    if let Some((_, server)) = row {
                        account.violation(format!(
                            "row {id} was never committed, and is there, from {server}"
                        ));
                    }
                }
                State::Unknown => {
                    compared.unknown += 1;
                    compared.found_of_unknown += u64::from(row.is_some());
                }
            }
        }
        for (id, (of, _)) in found {
            if *of != content(*id) || !inner.entries.contains_key(id) {
                account.violation(format!("row {id} was never asked for: {of}"));
            }
        }
        compared
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value that only this row has.
pub(crate) fn content(id: u64) -> u64 {
    id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1
}

/// All rows of a server.
pub(crate) async fn rows(conn: &mut impl Queryable) -> mysql_async::Result<Found> {
    let rows: Vec<(u64, u64, u16)> = conn
        .query("SELECT id, content, server FROM test.entry")
        .await?;
    let rows = rows.into_iter();
    Ok(rows.map(|(id, of, server)| (id, (of, server))).collect())
}
