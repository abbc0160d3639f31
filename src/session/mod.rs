//! One physical connection: what was sent on it, whether it is in step, how it is proved and ended.

pub(crate) mod activity;
pub(crate) mod apart;
pub(crate) mod effect;
pub(crate) mod sever;
pub(crate) mod signal;
pub(crate) mod statement;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use mysql_async::{
    Conn, Opts, QueryResult, Row, Statement, TextProtocol,
    consts::StatusFlags,
    from_value_opt,
    prelude::{FromValue, Queryable},
};
use tokio::{runtime::Handle, time::timeout};

use crate::{
    config::Reset,
    error::{Error, means_loss, means_read_only},
    report::discard::DiscardReason,
    session::{
        activity::Pulse, effect as sql, effect::Effect, sever as severing, signal::Signal,
        statement::Text,
    },
    time::Timestamp,
};

/// How long a goodbye may take before the socket is closed without one.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// A connection with all the pool knows of it.
pub(crate) struct Session {
    pub(crate) conn: Conn,
    pub(crate) follow: Follow,
    pub(crate) birth: Birth,
}

/// What is fixed when a connection is opened.
pub(crate) struct Birth {
    /// The server's number for it.
    pub(crate) id: u32,
    /// What it was opened with.
    pub(crate) opts: Opts,
    /// The runtime whose reactor drives the socket.
    pub(crate) runtime: Handle,
    /// When it reaches its maximum age.
    pub(crate) expires_at: Option<Timestamp>,
    /// When its replacement is to be begun.
    pub(crate) due_at: Option<Timestamp>,
    /// Whether autocommit was on after `init`.
    pub(crate) autocommit: bool,
    /// Which `refresh()` it came after.
    pub(crate) generation: u64,
    /// Sets its pace among the others.
    pub(crate) chance: u64,
    /// What tells this server and this connection from all others; known only where statements are to be killed.
    pub(crate) identity: Option<Identity>,
    /// With which rights it was opened, where that was asked on this connection.
    pub(crate) rights: Option<Rights>,
}

/// Whose rights a session has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    /// `CURRENT_USER()`
    account: Option<String>,
    /// `CURRENT_ROLE()`; on MySQL there may be several.
    role: Option<String>,
}

impl Rights {
    /// What to ask the server for.
    pub(crate) const COLUMNS: &str = "CURRENT_USER(), CURRENT_ROLE()";

    /// From the answer, in which they begin at this column.
    pub(crate) fn read(row: &Row, index: usize) -> Self {
        Self {
            account: column(row, index),
            role: column(row, index.saturating_add(1)),
        }
    }
}

/// A connection as the server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `@@server_uuid`, or `MariaDB`'s `@@server_uid`.
    pub(crate) server: String,
    /// The address the server sees it come from, with the port.
    pub(crate) host: String,
}

/// A connection whose abandoned statement is to be ended on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    /// The server's number for it.
    pub(crate) id: u32,
    pub(crate) identity: Identity,
}

/// What a return asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As good as new: straight back.
    Good,
    /// To be cleaned first.
    Clean(Needs),
    /// Of no more use.
    Discard(DiscardReason),
}

/// What a connection needs to be as good as new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Rows are waiting to be read.
    pub(crate) drain: bool,
    /// Used in a way that was not followed.
    pub(crate) proof: bool,
    /// A transaction is open, or may be.
    pub(crate) rollback: bool,
    /// The session was changed, or may have been.
    pub(crate) reset: bool,
    /// The default database was changed, or may have been.
    pub(crate) database: bool,
    /// A role was taken or given up, or may have been.
    pub(crate) role: bool,
}

impl Session {
    pub(crate) fn new(conn: Conn, birth: Birth, pulse: Arc<Pulse>) -> Self {
        Self {
            conn,
            follow: Follow::new(pulse),
            birth,
        }
    }

    /// What the connection needs now that its borrower has let go of it. Sends nothing, and reads nothing.
    pub(crate) fn verdict(&mut self, reset: Reset) -> Verdict {
        let follow = &mut self.follow;
        if follow.in_flight {
            return Verdict::Discard(DiscardReason::Cancelled);
        }
        if follow.guarded && !follow.ended || self.conn.is_disconnected() && follow.misused {
            return Verdict::Discard(DiscardReason::Misused);
        }
        if self.conn.is_disconnected() || follow.ended {
            // Followed to its end, a command leaves the driver's flag up only if it failed. Up without
            // such a failure means that reading a result was cancelled, or failed outside our sight.
            return Verdict::Discard(DiscardReason::Lost);
        }
        if !follow.used {
            return Verdict::Good;
        }
        if follow.unfollowed && !self.is_as_born() {
            return Verdict::Discard(DiscardReason::Misused);
        }
        let drain = QueryResult::<TextProtocol>::new(&mut self.conn)
            .columns()
            .is_some();
        if !drain && self.conn.last_ok_packet().is_none() {
            // The last answer was an error. That of a later result set may still be waiting to be
            // raised by the next command, whoever sends it: take it out. This reads nothing.
            let settled = pin!(QueryResult::<TextProtocol>::new(&mut self.conn).drop_result());
            if settled
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_pending()
            {
                return Verdict::Discard(DiscardReason::Lost);
            }
        }
        let status = self.status_flags();
        let follow = &self.follow;
        let needs = Needs {
            drain,
            proof: follow.unfollowed,
            rollback: follow.in_transaction
                || match status {
                    Some(flags) => flags.contains(StatusFlags::SERVER_STATUS_IN_TRANS),
                    // Without resets an earlier borrower may have turned autocommit off.
                    None => {
                        follow.effect.transaction || !self.birth.autocommit || reset == Reset::Never
                    }
                },
            reset: match reset {
                Reset::Always => true,
                Reset::WhenChanged => follow.effect.session,
                Reset::Never => false,
            },
            database: follow.effect.database,
            // Also where it is hidden in a view or a trigger, if the session is to be reset at every return.
            role: follow.effect.role || reset == Reset::Always,
        };
        if needs == Needs::default() {
            self.follow.begin_borrower();
            Verdict::Good
        } else {
            Verdict::Clean(needs)
        }
    }

    /// Whether it is still the connection, and the account, that was opened: no reset brings those back.
    fn is_as_born(&self) -> bool {
        let (now, born) = (self.conn.opts(), &self.birth.opts);
        self.conn.id() == self.birth.id
            && (now.user(), now.pass(), now.db_name()) == (born.user(), born.pass(), born.db_name())
    }

    /// The server's status after the last command, where the driver knows it.
    fn status_flags(&self) -> Option<StatusFlags> {
        // What the driver keeps after a prepare is not the server's status.
        self.conn
            .last_ok_packet()
            .filter(|_| !self.follow.status_stale)
            .map(|ok| ok.status_flags())
    }

    /// Proves by a round trip that the connection is alive and in step: asks for a number nobody
    /// else knows, and compares.
    pub(crate) async fn prove(&mut self) -> Result<(), ProofError> {
        let nonce = random();
        self.follow.in_flight = true;
        let answer: Option<Row> = self.conn.query_first(format!("SELECT {nonce}")).await?;
        self.follow.in_flight = false;
        self.compare(answer, nonce).map(drop)
    }

    /// Like [`prove`](Self::prove), asking for `columns` in the same turn.
    pub(crate) async fn prove_with(&mut self, columns: &str) -> Result<Row, ProofError> {
        let nonce = random();
        self.follow.in_flight = true;
        let answer: Option<Row> = self
            .conn
            .query_first(format!("SELECT {nonce}, {columns}"))
            .await?;
        self.follow.in_flight = false;
        self.compare(answer, nonce)
    }

    /// Compares the answer to a proof: another question's may be no number at all, at which the driver would panic.
    fn compare(&mut self, answer: Option<Row>, nonce: u64) -> Result<Row, ProofError> {
        match answer {
            Some(row) if column(&row, 0) == Some(nonce) => {
                self.follow.proved_at = Timestamp::now();
                Ok(row)
            }
            _ => Err(ProofError::OutOfStep),
        }
    }

    /// Sends commands of the pool's own on an idle connection. Dropped midway, or failed, it is of no more use.
    pub(crate) async fn maintain<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Conn) -> mysql_async::Result<T>,
    ) -> mysql_async::Result<T> {
        self.follow.in_flight = true;
        let outcome = work(&mut self.conn).await?;
        self.follow.in_flight = false;
        self.follow.proved_at = Timestamp::now();
        Ok(outcome)
    }

    /// Whether a transaction is open, after a command that tells.
    pub(crate) fn is_in_transaction(&self) -> bool {
        let told = self.conn.last_ok_packet();
        told.is_none_or(|ok| {
            ok.status_flags()
                .contains(StatusFlags::SERVER_STATUS_IN_TRANS)
        })
    }

    /// Whether autocommit is on, after a command that tells.
    pub(crate) fn is_autocommit(&self) -> bool {
        self.status_flags()
            .is_some_and(|flags| flags.contains(StatusFlags::SERVER_STATUS_AUTOCOMMIT))
    }

    /// Ends the connection with a goodbye to the server. The socket is closed when this resolves.
    pub(crate) async fn say_goodbye(self) {
        if self.follow.in_flight || self.follow.ended {
            return self.sever();
        }
        // An error means that the server was faster; out of time, the socket is closed without a goodbye.
        drop(timeout(GOODBYE_TIME, self.conn.disconnect()).await);
    }

    /// Closes the socket now, whatever the server still has to say.
    pub(crate) fn sever(self) {
        severing::sever(self);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.conn.id())
            .finish_non_exhaustive()
    }
}

/// Why a connection gave no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error(transparent)]
    Driver(#[from] mysql_async::Error),
    #[error("the answer belonged to another question")]
    OutOfStep,
}

/// Follows what is sent on a connection.
pub(crate) struct Follow {
    /// A command was begun and has not been followed to its end. Never taken back by anything but that end.
    in_flight: bool,
    /// Shows others whether a borrower's command is under way.
    pulse: Arc<Pulse>,
    /// The server said its last words on this connection.
    ended: bool,
    /// The driver closed the connection because of a mistake of the borrower's.
    misused: bool,
    /// Something was sent by the present borrower.
    used: bool,
    /// The connection was lent out bare by the present borrower.
    unfollowed: bool,
    /// A transaction was started by the driver's means and not ended by them.
    in_transaction: bool,
    /// The driver's guard of a transaction has not ended; if it was leaked, it never will.
    pub(crate) guarded: bool,
    /// What the driver keeps as the server's status may be a prepare's answer, which is none.
    status_stale: bool,
    /// What the present borrower's statements may have left behind.
    effect: Effect,
    /// When the connection last gave an answer that was in step.
    pub(crate) proved_at: Timestamp,
    /// When a borrower last had an answer on it.
    pub(crate) used_at: Timestamp,
    /// The server said that it is read-only, though the borrower did not ask for that.
    pub(crate) read_only: bool,
    /// The present borrower asked for a read-only transaction, or may have.
    asked_read_only: bool,
    /// What the statements that borrowers prepared may leave behind, by the server's number for them.
    statements: HashMap<u32, Effect>,
    /// What the texts sent lately may leave behind.
    judged: Judged,
}

/// Remembers the judgement of texts that are sent again and again.
#[derive(Default)]
struct Judged {
    /// Each text has one place, and the last one there stays.
    places: [Option<Judgement>; 16],
}

struct Judgement {
    text: Box<[u8]>,
    effect: Effect,
    read_only: bool,
}

impl Judged {
    /// Longer texts are judged anew each time, and so are those with strings in them.
    const LONGEST: usize = 512;

    /// The effect of the text, and whether it may ask for a read-only transaction.
    fn judge(&mut self, text: &[u8]) -> (Effect, bool) {
        let last = text.last().copied().map_or(0, usize::from);
        let place = self.places.get_mut((text.len() ^ last) & 15);
        if let Some(Some(known)) = &place
            && *known.text == *text
        {
            return (known.effect, known.read_only);
        }
        let (effect, read_only) = (sql::effect_of(text), asks_read_only(text));
        // A text with strings in it may hold a secret, and comes again with others.
        let is_kept =
            text.len() <= Self::LONGEST && !text.iter().any(|b| matches!(b, b'\'' | b'"'));
        if let Some(place) = place
            && is_kept
        {
            *place = Some(Judgement {
                text: text.into(),
                effect,
                read_only,
            });
        }
        (effect, read_only)
    }
}

/// Prepared statements remembered at most; more than any cache of them holds.
const STATEMENTS_REMEMBERED: usize = 1024;

impl Follow {
    fn new(pulse: Arc<Pulse>) -> Self {
        let now = Timestamp::now();
        Self {
            in_flight: false,
            pulse,
            ended: false,
            misused: false,
            used: false,
            unfollowed: false,
            in_transaction: false,
            guarded: false,
            status_stale: false,
            effect: Effect::NEUTRAL,
            proved_at: now,
            used_at: now,
            read_only: false,
            asked_read_only: false,
            statements: HashMap::new(),
            judged: Judged::default(),
        }
    }

    /// Marks a command as begun, unless an earlier one was not followed to its end: then the next
    /// answer would be that one's.
    pub(crate) fn begin(&mut self, conn: &Conn, cut: &Signal) -> Result<(), mysql_async::Error> {
        if cut.is_given() {
            return Err(Error::Closed.into());
        }
        if self.in_flight || self.ended || conn.is_disconnected() {
            return Err(out_of_use(self.misused));
        }
        self.in_flight = true;
        self.pulse.begin();
        self.used = true;
        Ok(())
    }

    /// The outcome of a command; an error if the pool is cut off first. The command counts as in flight then.
    pub(crate) async fn unless_cut<T>(
        &self,
        cut: &Signal,
        command: impl Future<Output = mysql_async::Result<T>> + Unpin,
    ) -> mysql_async::Result<mysql_async::Result<T>> {
        match self.pulse.unless_cut(cut, command).await {
            Some(outcome) => Ok(outcome),
            None => Err(Error::Closed.into()),
        }
    }

    /// Marks the command as followed to its end.
    pub(crate) fn end<T>(&mut self, result: &Result<T, mysql_async::Error>) {
        self.in_flight = false;
        self.pulse.end();
        match result {
            Err(error) if means_loss(error) => self.ended = true,
            // If it closed the connection, its flag says so.
            Err(mysql_async::Error::Driver(_)) => self.misused = true,
            _ => {
                self.proved_at = Timestamp::now();
                self.used_at = self.proved_at;
            }
        }
        if let Err(error) = result {
            self.read_only |= means_read_only(error, self.asked_read_only);
        }
    }

    /// Notes the text of a statement that is about to be sent.
    pub(crate) fn note_text(&mut self, text: &[u8]) {
        let (effect, read_only) = self.judged.judge(text);
        self.effect = self.effect.union(effect);
        self.asked_read_only |= read_only;
    }

    /// Notes that a statement is about to be executed whose text the driver does not show.
    pub(crate) fn note_unseen(&mut self) {
        self.asked_read_only = true;
        self.effect = Effect::UNKNOWN;
    }

    /// Notes a statement that is about to be executed.
    pub(crate) fn note_executed(&mut self, text: Text<'_>) {
        match text {
            Text::Sql(text) => self.note_text(text),
            Text::Prepared(statement) => match self.statements.get(&statement.id()) {
                Some(effect) => self.effect = self.effect.union(*effect),
                None => self.note_unseen(),
            },
        }
    }

    /// Remembers what a prepared statement may leave behind.
    pub(crate) fn remember(&mut self, statement: &Statement, effect: Effect) {
        if self.statements.len() >= STATEMENTS_REMEMBERED {
            self.statements.clear();
        }
        self.statements.insert(statement.id(), effect);
    }

    /// A reset has ended all prepared statements, and their numbers may come again.
    pub(crate) fn forget_statements(&mut self) {
        self.statements.clear();
    }

    /// Notes that a statement may be prepared, after which only an answer that is the server's own tells its status.
    pub(crate) fn note_prepare(&mut self) {
        self.status_stale = true;
    }

    /// As [`end`](Self::end), for a command whose answer tells the server's status.
    pub(crate) fn end_with_status<T>(&mut self, result: &Result<T, mysql_async::Error>) {
        self.end(result);
        if result.is_ok() {
            self.status_stale = false;
        }
    }

    pub(crate) fn note_transaction(&mut self, open: bool) {
        self.in_transaction = open;
        self.effect.transaction = true;
    }

    pub(crate) fn note_read_only_transaction(&mut self) {
        self.asked_read_only = true;
    }

    /// Notes that the connection is lent out bare: what is sent on it is not followed.
    pub(crate) fn note_unfollowed(&mut self, conn: &Conn) {
        // Read before anything is sent: a nested command of the driver would clear its flag.
        if conn.is_disconnected() {
            self.ended = true;
        }
        self.used = true;
        self.unfollowed = true;
        self.asked_read_only = true;
        self.effect = Effect::UNKNOWN;
    }

    /// Lends the connection out bare, unless an earlier command was not followed to its end.
    pub(crate) fn lend(&mut self, conn: &Conn, cut: &Signal) -> Result<(), mysql_async::Error> {
        self.begin(conn, cut)?;
        self.in_flight = false;
        self.pulse.end();
        self.note_unfollowed(conn);
        Ok(())
    }

    /// Forgets what the last borrower did: the next one begins.
    pub(crate) fn begin_borrower(&mut self) {
        self.used = false;
        self.unfollowed = false;
        self.in_transaction = false;
        self.status_stale = false;
        self.misused = false;
        self.read_only = false;
        self.asked_read_only = false;
        self.effect = Effect::NEUTRAL;
    }
}

/// Whether the text may ask for a read-only transaction or session.
fn asks_read_only(text: &[u8]) -> bool {
    // Only ever asked for by START or SET, or by what hides one of them: in a comment, or behind another statement.
    let text = text.trim_ascii_start();
    let begins = |word: &[u8]| {
        text.get(..word.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    let may_hide = matches!(text.first(), Some(b'/' | b'-' | b'#' | b'(')) || text.contains(&b';');
    (begins(b"start") || begins(b"set") || may_hide)
        && text
            .windows(4)
            .any(|window| window.eq_ignore_ascii_case(b"only"))
}

fn out_of_use(misused: bool) -> mysql_async::Error {
    let (kind, text) = if misused {
        // Not worth another try: so will the mistake be.
        (
            io::ErrorKind::Other,
            "nothing was sent: the driver closed this connection at an earlier mistake in its use",
        )
    } else {
        let text = "nothing was sent: an earlier command on this connection was cancelled or lost; get another connection";
        (io::ErrorKind::ConnectionAborted, text)
    };
    io::Error::new(kind, text).into()
}

/// What the server answered in this column, if it is there and is of that kind.
pub(crate) fn column<T: FromValue>(row: &Row, index: usize) -> Option<T> {
    row.as_ref(index)
        .cloned()
        .and_then(|value| from_value_opt(value).ok())
}

/// A number nobody else knows: the keys of `RandomState` are random for each thread and differ at each call.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
