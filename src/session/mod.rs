//! One physical connection: what was sent on it, how it is validated, and how it is closed.

pub(crate) mod activity;
pub(crate) mod effect;
pub(crate) mod follow;
pub(crate) mod runtime;
pub(crate) mod sever;
pub(crate) mod statement;
pub(crate) mod statements;
pub(crate) mod verdict;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use mysql_async::{
    Conn, Opts, QueryResult, Row, TextProtocol,
    consts::StatusFlags,
    from_value_opt,
    prelude::{FromValue, Queryable},
};
use tokio::time::timeout;

use crate::{error::ends_connection, time::Timestamp};

use self::{
    activity::Activity,
    follow::{Follow, LastStatus},
    runtime::SocketRuntime,
    sever::severing_all,
};

/// How long `COM_QUIT` may take before the socket is closed without it.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection with everything the pool knows about it.
pub(crate) struct Session {
    pub(crate) conn: Conn,
    pub(crate) follow: Follow,
    pub(crate) origin: Origin,
}

/// What is fixed when a connection is opened.
pub(crate) struct Origin {
    /// The server's connection id.
    pub(crate) id: u32,
    /// The options it was opened with.
    pub(crate) opts: Opts,
    /// The runtime that drives its socket.
    pub(crate) runtime: Arc<SocketRuntime>,
    /// When it reaches its maximum age.
    pub(crate) expires_at: Option<Timestamp>,
    /// When its replacement is opened.
    pub(crate) due_at: Option<Timestamp>,
    /// Whether autocommit is certainly on, unless a caller has turned it off.
    pub(crate) autocommit: bool,
    /// How many refreshes came before it.
    pub(crate) generation: u64,
    /// Spreads the connections' validations over time.
    pub(crate) chance: u64,
    /// Read only with `OnCancel::Kill`; `None` if the server does not report it.
    pub(crate) identity: Option<Identity>,
    /// `None` if they were not read on this connection.
    pub(crate) rights: Option<Rights>,
    /// The largest packet that the server takes on it, in bytes; `None` if that was not read.
    pub(crate) max_allowed_packet: Option<usize>,
}

/// What distinguishes a connection from all others on all servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `@@server_uuid`, or MariaDB's `@@server_uid`.
    pub(crate) server: String,
    /// The client's address and port as the server sees them.
    pub(crate) host: String,
}

/// The rights of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// `CURRENT_USER()`
    account: Option<Vec<u8>>,
    /// `CURRENT_ROLE()`: one role, or on MySQL a list of them.
    role: Option<Vec<u8>>,
}

impl Rights {
    /// The columns to select. They are in hexadecimal, so that a charset set by a caller does not
    /// change them.
    pub(crate) const COLUMNS: &str = "HEX(CURRENT_USER()), HEX(CURRENT_ROLE())";
    pub(crate) const ACCOUNT: &str = "HEX(CURRENT_USER())";
    pub(crate) const ROLE: &str = "HEX(CURRENT_ROLE())";

    pub(crate) const fn new(account: Option<Vec<u8>>, role: Option<Vec<u8>>) -> Self {
        Self { account, role }
    }

    /// Reads them from the columns of a row, starting at `index`.
    pub(crate) fn read(row: &Row, index: usize) -> Self {
        Self::new(column(row, index), column(row, index.saturating_add(1)))
    }
}

/// Why a connection is not valid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error(transparent)]
    Driver(#[from] mysql_async::Error),
    #[error("the answer belonged to another question")]
    OutOfStep,
}

impl Session {
    pub(crate) fn new(conn: Conn, origin: Origin, activity: Arc<Activity>) -> Self {
        Self {
            follow: Follow::new(activity, conn.opts().stmt_cache_size()),
            conn,
            origin,
        }
    }

    /// Asks for a fresh random number and compares the answer: one round trip, after which the
    /// connection is known to be alive and its answers to be in step.
    ///
    /// If dropped midway, the connection counts as in flight.
    pub(crate) async fn validate(&mut self) -> Result<(), Invalid> {
        let nonce = random();
        self.select_and_compare(nonce, format!("SELECT {nonce}"))
            .await
            .map(drop)
    }

    /// Like [`validate`](Self::validate), and selects `columns` in the same round trip.
    pub(crate) async fn validate_with(&mut self, columns: &str) -> Result<Row, Invalid> {
        let nonce = random();
        self.select_and_compare(nonce, format!("SELECT {nonce}, {columns}"))
            .await
    }

    /// Like [`validate_with`](Self::validate_with), after these statements, which return no rows: all
    /// in one text and one round trip.
    pub(crate) async fn validate_after(
        &mut self,
        statements: &[String],
        columns: &str,
    ) -> Result<Row, Invalid> {
        let nonce = random();
        let question = format!("SELECT {nonce}, {columns}");
        let text = if statements.is_empty() {
            question
        } else {
            format!("{}; {question}", in_one_text(statements))
        };
        self.select_and_compare(nonce, text).await
    }

    /// Runs the text, which may hold several statements, and returns the first row of the last result.
    async fn last_row(&mut self, query: String) -> mysql_async::Result<Option<Row>> {
        let mut results = self.conn.query_iter(query).await?;
        let mut answer = None;
        while !results.is_empty() {
            let mut first = None;
            let read = results.for_each(|row| {
                first.get_or_insert(row);
            });
            read.await?;
            answer = first;
        }
        // Otherwise the error of a later statement would show at the next command.
        results.drop_result().await?;
        Ok(answer)
    }

    async fn select_and_compare(&mut self, nonce: u64, query: String) -> Result<Row, Invalid> {
        self.follow.in_flight = true;
        let answer = self.last_row(query).await;
        self.follow.in_flight = answer.as_ref().is_err_and(ends_connection);
        match answer? {
            // The answer to another query may not be a number, which must not panic.
            Some(row) if column(&row, 0) == Some(nonce) => {
                self.follow.last_status = LastStatus::InDriver;
                self.follow.validated_at = Timestamp::now();
                Ok(row)
            }
            _ => Err(Invalid::OutOfStep),
        }
    }

    /// Sends the pool's own commands on an idle connection.
    ///
    /// If this is dropped midway, or fails and not only because the server refuses, the connection
    /// counts as in flight.
    pub(crate) async fn command<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Conn) -> mysql_async::Result<T>,
    ) -> mysql_async::Result<T> {
        self.follow.in_flight = true;
        let outcome = work(&mut self.conn).await;
        self.follow.in_flight = outcome.as_ref().is_err_and(ends_connection);
        if !self.follow.in_flight {
            self.follow.validated_at = Timestamp::now();
        }
        outcome
    }

    /// The server's status after the last answer, if the driver knows it.
    pub(crate) fn status_flags(&self) -> Option<StatusFlags> {
        self.conn
            .last_ok_packet()
            .filter(|_| matches!(self.follow.last_status, LastStatus::InDriver))
            .map(|ok| ok.status_flags())
    }

    /// Whether a transaction is open, after an answer that carries the server's status.
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.conn.last_ok_packet().is_none_or(|ok| {
            ok.status_flags()
                .contains(StatusFlags::SERVER_STATUS_IN_TRANS)
        })
    }

    /// Whether autocommit is on, after an answer that carries the server's status.
    pub(crate) fn is_autocommit(&self) -> bool {
        self.status_flags()
            .is_some_and(|flags| flags.contains(StatusFlags::SERVER_STATUS_AUTOCOMMIT))
    }

    /// Sends `COM_QUIT`, if the connection is in a state to take one, and closes the socket.
    pub(crate) async fn quit(mut self) {
        if self.follow.in_flight || self.follow.is_lost {
            return self.sever();
        }
        // The driver would do this too, but not where a handler for local files can run.
        match timeout(GOODBYE_TIMEOUT, self.read_rest()).await {
            Ok(read) if !read.as_ref().is_err_and(ends_connection) => {}
            _ => return self.sever(),
        }
        // An error means that the server closed it first, or refuses the rollback that the driver
        // sends if a `Transaction` was dropped.
        let goodbye = severing_all(self.conn.disconnect());
        drop(timeout(GOODBYE_TIMEOUT, goodbye).await);
    }

    /// Whether a result of the last answer is unread.
    fn has_rows(&mut self) -> bool {
        QueryResult::<TextProtocol>::new(&mut self.conn)
            .columns()
            .is_some()
    }

    /// Reads the rest of the last answer. Returns the error of a later result.
    pub(crate) async fn read_rest(&mut self) -> mysql_async::Result<()> {
        let mut outcome = Ok(());
        // With rows left, the error is only that of a row of a prepared statement, which does not
        // parse as text. It has been read.
        while self.has_rows() {
            let result = QueryResult::<TextProtocol>::new(&mut self.conn);
            outcome = result.drop_result().await;
        }
        outcome
    }

    /// Closes the socket now, without reading what the server still sends.
    pub(crate) fn sever(self) {
        sever::sever(self);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.conn.id())
            .finish_non_exhaustive()
    }
}

/// Joins statements, of which any may end with a semicolon or a comment.
pub(crate) fn in_one_text(statements: &[String]) -> String {
    let is_end = |last: char| last == ';' || last.is_ascii_whitespace();
    let mut text = String::new();
    for statement in statements {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(statement.trim_end_matches(is_end));
        if statement.contains("--") || statement.contains('#') {
            // Ends a comment.
            text.push('\n');
        }
    }
    text
}

/// The value in this column, if it has that type.
pub(crate) fn column<T: FromValue>(row: &Row, index: usize) -> Option<T> {
    row.as_ref(index)
        .cloned()
        .and_then(|value| from_value_opt(value).ok())
}

/// A number nobody else can guess: the keys of `RandomState` are random, and differ at each call.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
