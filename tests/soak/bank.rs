//! The tables, and what must be true of them.

use std::collections::BTreeMap;

use mysql_warm_pool::mysql_async::{self, Conn, Value, prelude::Queryable};
use test_support::{Flavor, Server};

use crate::account::Account;

/// The number of accounts, and the initial balance of each.
pub(crate) const ACCOUNTS: u64 = 60;
pub(crate) const DEPOSIT: i64 = 1_000_000;
/// The table for streaming.
pub(crate) const NUMBERS: u64 = 2_000;

/// The user of the pool.
pub(crate) const USER: &str = "soak";

/// Makes the tables and the pool's user.
pub(crate) async fn open(server: &Server, password: &str) {
    let last = ACCOUNTS - 1;
    let deposit = DEPOSIT;
    let mut statements = account_statements(password);
    statements.extend([
        "USE test".to_owned(),
        "CREATE TABLE account (id INT PRIMARY KEY, balance BIGINT NOT NULL)".to_owned(),
        format!(
            "INSERT INTO account WITH RECURSIVE r AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM r WHERE n < {last}) \
             SELECT n, {deposit} FROM r"
        ),
        "CREATE TABLE transfer (caller INT, n INT, source INT NOT NULL, target INT NOT NULL, amount BIGINT NOT NULL, \
         PRIMARY KEY (caller, n))"
            .to_owned(),
        "CREATE TABLE note (caller INT, n INT, content BIGINT UNSIGNED NOT NULL, PRIMARY KEY (caller, n))"
            .to_owned(),
        "CREATE TABLE number (n INT PRIMARY KEY, padding CHAR(100) NOT NULL)".to_owned(),
        format!(
            "INSERT INTO number SELECT a.n * {ACCOUNTS} + b.n + 1, REPEAT('x', 100) FROM \
             (SELECT id AS n FROM account) a, (SELECT id AS n FROM account) b WHERE a.n * {ACCOUNTS} + b.n < {NUMBERS}"
        ),
        // Hidden by a temporary table of the same name, if one is left over.
        "CREATE TABLE trace (v INT PRIMARY KEY)".to_owned(),
        "INSERT INTO trace VALUES (0)".to_owned(),
    ]);
    for statement in statements {
        server.execute(&statement).await;
    }
}

/// Creates the pool's user, whether or not the server already has it.
pub(crate) fn account_statements(password: &str) -> Vec<String> {
    vec![
        format!("CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{password}'"),
        format!("ALTER USER {USER}@'%' IDENTIFIED BY '{password}'"),
        format!("GRANT ALL ON test.* TO {USER}@'%'"),
        format!("GRANT ALL ON other.* TO {USER}@'%'"),
    ]
}

/// A value that only this caller and this number produce.
pub(crate) fn content(caller: u64, n: u64) -> u64 {
    (caller << 32 | n).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1
}

/// Selects everything of a session that a caller may have changed, after a number that identifies
/// the question.
pub(crate) fn session_question(token: u64, flavor: Flavor) -> String {
    let of_flavor = match flavor {
        Flavor::MariaDb => "@@tx_isolation, @@in_transaction",
        Flavor::MySql => "@@transaction_isolation, 0",
    };
    format!(
        "SELECT {token}, @mark, @of_init, DATABASE(), @@time_zone, @@sql_mode, @@autocommit, \
         @@character_set_client, @@collation_connection, {of_flavor}, \
         COALESCE(IS_USED_LOCK('soak') = CONNECTION_ID(), 0), (SELECT v FROM trace)"
    )
}

/// The answer to [`session_question`] on a new connection, without its number.
pub(crate) async fn session_as_new(
    conn: &mut Conn,
    flavor: Flavor,
    init: &[String],
) -> mysql_async::Result<Vec<Value>> {
    for statement in init {
        conn.query_drop(statement).await?;
    }
    let row: Option<mysql_async::Row> = conn.query_first(session_question(0, flavor)).await?;
    let mut values = row.expect("a row").unwrap();
    values.remove(0);
    Ok(values)
}

/// The state of one write, as far as its caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteState {
    /// Acknowledged: it is there.
    Done,
    /// Certainly not there.
    Undone,
    /// It may be there or not.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Note,
    Transfer,
}

/// One caller's writes since they were last compared with the server's tables.
#[derive(Debug)]
pub(crate) struct WriteLog {
    caller: u64,
    next: u64,
    entries: BTreeMap<u64, (Table, WriteState)>,
    /// How many writes were compared, by state.
    pub(crate) compared: [u64; 3],
    /// How many of the writes in unknown state were found.
    pub(crate) found_of_unknown: u64,
}

impl WriteLog {
    pub(crate) const fn new(caller: u64) -> Self {
        Self {
            caller,
            next: 0,
            entries: BTreeMap::new(),
            compared: [0; 3],
            found_of_unknown: 0,
        }
    }

    pub(crate) const fn caller(&self) -> u64 {
        self.caller
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Begins a write; returns its number.
    pub(crate) fn enter(&mut self, table: Table, state: WriteState) -> u64 {
        let n = self.next;
        self.next += 1;
        self.entries.insert(n, (table, state));
        n
    }

    pub(crate) fn settle(&mut self, n: u64, state: WriteState) {
        self.entries.entry(n).and_modify(|entry| entry.1 = state);
    }

    /// Settles a write that was sent and failed.
    pub(crate) fn settle_failed(&mut self, n: u64, error: &mysql_async::Error) {
        if let mysql_async::Error::Server(error) = error
            && matches!(error.code, 1020 | 1205 | 1213 | 1290 | 1836)
        {
            self.settle(n, WriteState::Undone);
        }
    }

    /// Compares all entries with the server's tables and forgets them.
    pub(crate) async fn compare(
        &mut self,
        conn: &mut impl Queryable,
        account: &Account,
    ) -> mysql_async::Result<()> {
        let Some((first, _)) = self.entries.first_key_value() else {
            return Ok(());
        };
        let (caller, first, end) = (self.caller, *first, self.next);
        let condition = format!("caller = {caller} AND n >= {first} AND n < {end}");
        let notes: Vec<(u64, u64)> = conn
            .query(format!("SELECT n, content FROM note WHERE {condition}"))
            .await?;
        let transfers: Vec<u64> = conn
            .query(format!("SELECT n FROM transfer WHERE {condition}"))
            .await?;
        let mut found = BTreeMap::new();
        for (n, of) in notes {
            if of != content(caller, n) {
                account.violation(format!("caller {caller} wrote something else as {n}"));
            }
            found.insert(n, Table::Note);
        }
        found.extend(transfers.into_iter().map(|n| (n, Table::Transfer)));
        for (n, (table, state)) in std::mem::take(&mut self.entries) {
            let is_there = found.remove(&n) == Some(table);
            self.compared[state as usize] += 1;
            match state {
                WriteState::Done if !is_there => account.violation(format!(
                    "{table:?} {n} of caller {caller} was acknowledged, and is not there"
                )),
                WriteState::Undone if is_there => account.violation(format!(
                    "{table:?} {n} of caller {caller} was never committed, and is there"
                )),
                WriteState::Unknown if is_there => self.found_of_unknown += 1,
                _ => {}
            }
        }
        for (n, table) in found {
            account.violation(format!(
                "{table:?} {n} of caller {caller} was never asked for"
            ));
        }
        Ok(())
    }
}

/// The final audit: all the money is there, and each account's balance matches the transfers.
pub(crate) async fn audit(conn: &mut Conn, account: &Account) -> mysql_async::Result<(u64, u64)> {
    let off: Vec<(u64, i64, i64)> = conn
        .query(format!(
            "SELECT id, balance, CAST({DEPOSIT} + COALESCE(given, 0) - COALESCE(taken, 0) AS SIGNED) AS due FROM account \
             LEFT JOIN (SELECT target, SUM(amount) AS given FROM transfer GROUP BY target) g ON g.target = id \
             LEFT JOIN (SELECT source, SUM(amount) AS taken FROM transfer GROUP BY source) t ON t.source = id \
             HAVING balance <> due"
        ))
        .await?;
    for (id, balance, due) in off {
        account.violation(format!("account {id} holds {balance}, and {due} is due"));
    }
    let sum: Option<i64> = conn
        .query_first("SELECT CAST(SUM(balance) AS SIGNED) FROM account")
        .await?;
    if sum != Some(total()) {
        account.violation(format!("{sum:?} is in all accounts, of {}", total()));
    }
    let wrong: Option<u64> = conn
        .query_first("SELECT COUNT(*) FROM trace WHERE v <> 0")
        .await?;
    if wrong != Some(0) {
        account.violation(format!("{wrong:?} rows went into the wrong table"));
    }
    let transfers: Option<u64> = conn.query_first("SELECT COUNT(*) FROM transfer").await?;
    let notes: Option<u64> = conn.query_first("SELECT COUNT(*) FROM note").await?;
    Ok((transfers.unwrap_or_default(), notes.unwrap_or_default()))
}

pub(crate) fn total() -> i64 {
    i64::try_from(ACCOUNTS).expect("the number of accounts fits") * DEPOSIT
}
