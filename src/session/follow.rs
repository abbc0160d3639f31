//! Follows what is sent on a connection, so that its return needs no round trip to know its state.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use mysql_async::{Conn, Statement, consts::StatusFlags};

use crate::{
    error::{
        Error, is_deadlock, is_read_only_table, is_too_large, means_loss, means_read_only,
        rolls_back,
    },
    time::Timestamp,
};

use super::{
    activity::{Activity, Cut},
    effect::{
        Effect,
        changes::reads_user_variables,
        changes::{Change, Changes},
        control::{Control, Ends},
        effect_of,
    },
    runtime::Silence,
    statements::{Prepared, Statements},
};

/// The most user variables that a session may keep as `NULL`. Before it has more, it is reset.
const KEPT_UNDONE: usize = 64;

/// What was sent on a connection since its caller got it.
pub(crate) struct Follow {
    /// A statement was begun and not followed to its end. Nothing but that end clears it: a future
    /// dropped in between leaves the mark, and the mark means discard.
    pub(super) in_flight: bool,
    activity: Arc<Activity>,
    /// The connection was lost.
    pub(super) is_lost: bool,
    /// The driver or the server closed the connection because of a mistake in its use.
    pub(super) is_misused: bool,
    /// Something was sent.
    pub(super) is_used: bool,
    /// The caller was given the driver's bare `Conn`.
    pub(super) is_unfollowed: bool,
    /// A [`Transaction`](crate::Transaction) was started and not ended.
    pub(super) in_transaction: bool,
    /// The driver's `Transaction` has not been dropped. If it was leaked, it never will be.
    pub(super) is_guarded: bool,
    pub(super) last_status: LastStatus,
    /// The server has forgotten the session's prepared statements, and with them all other state.
    pub(super) is_session_lost: bool,
    /// Other connections are likely to have lost their sessions too.
    pub(crate) others_may_be_lost: bool,
    /// Whether the server's status has shown the open [`Transaction`](crate::Transaction). Some
    /// proxies never show one.
    shows_transaction: bool,
    /// How the transaction has ended, if it has.
    ending: Ending,
    /// The statement that was begun commits. If its answer is lost, so is whether it has.
    commits: bool,
    /// The server has certainly rolled the transaction back, because of a conflict.
    is_deadlocked: bool,
    savepoints: Savepoints,
    /// What the statements may have left behind.
    pub(super) effect: Effect,
    /// The pool's own statements may have made the session read-only.
    pub(crate) is_set_up_read_only: bool,
    /// What they changed in the session, if `effect.session` says that they may have.
    changes: Changes,
    /// The user variables of earlier callers that were undone. The server keeps them, as `NULL`,
    /// until a reset.
    undone: Vec<Box<str>>,
    /// When the connection last gave an answer that was in step.
    pub(crate) validated_at: Timestamp,
    /// The answer to a caller's last statement.
    pub(crate) answer: Answer,
    /// The server said that it is read-only, though the caller did not ask for that.
    pub(crate) met_read_only: bool,
    /// The server said that a table is read-only, as a server whose tables all are would say.
    pub(crate) met_read_only_table: bool,
    pub(crate) statements: Statements,
}

/// Where the server's last status is.
#[derive(Clone, Copy, Debug)]
pub(super) enum LastStatus {
    /// The driver has it.
    InDriver,
    /// What the driver has may be the answer to preparing a statement, which carries none. This is
    /// the status from before, if it is known.
    Kept(Option<StatusFlags>),
}

/// When an answer was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// When the reading of its rows began, if that took long; otherwise when it ended.
    pub(crate) began_at: Timestamp,
    pub(crate) ended_at: Timestamp,
}

impl Answer {
    const fn at(now: Timestamp) -> Self {
        Self {
            began_at: now,
            ended_at: now,
        }
    }
}

/// The open savepoints of a transaction, counted from 1.
///
/// Their handles borrow each other, so a command comes from the innermost one that is left. Those
/// beyond it were dropped.
#[derive(Clone, Copy, Debug, Default)]
struct Savepoints {
    open: u32,
    /// The one at which the next command is meant to run.
    wanted: u32,
}

/// How a transaction has most likely ended, if it is found to have ended before its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The server rolled it back, as the last error said.
    ByServer,
    /// The last statement rolled it back.
    ByRollback,
    /// The last statement committed it.
    ByCommit,
    /// The last text committed it, and did more. A conflict in the rest has rolled back the rest
    /// only.
    ByCommitWithin,
    /// The last text may have committed a part of what it did. A conflict in another part has rolled
    /// back that part only.
    InParts,
    /// The last statement may have committed it.
    Unknown,
}

impl Ending {
    pub(crate) fn is_commit(self) -> bool {
        matches!(self, Self::ByCommit | Self::ByCommitWithin)
    }
}

/// What a statement about to be sent commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    Nothing,
    /// It commits, and does nothing else.
    Alone,
    /// It commits a transaction at its end.
    AtEnd,
    /// It commits a transaction that may be open, and does more.
    Within,
}

impl Follow {
    pub(super) fn new(activity: Arc<Activity>, cache_size: usize) -> Self {
        let now = Timestamp::now();
        Self {
            in_flight: false,
            statements: Statements::new(cache_size, activity.cache_counts()),
            activity,
            is_lost: false,
            is_misused: false,
            is_used: false,
            is_unfollowed: false,
            in_transaction: false,
            is_guarded: false,
            last_status: LastStatus::InDriver,
            is_session_lost: false,
            others_may_be_lost: false,
            shows_transaction: false,
            ending: Ending::Unknown,
            commits: false,
            is_deadlocked: false,
            savepoints: Savepoints::default(),
            effect: Effect::NEUTRAL,
            is_set_up_read_only: false,
            changes: Changes::default(),
            undone: Vec::new(),
            validated_at: now,
            answer: Answer::at(now),
            met_read_only: false,
            met_read_only_table: false,
        }
    }

    /// Marks a statement as begun. Refuses it after one that was not followed to its end, whose
    /// answer would be taken for this one's.
    pub(crate) fn begin(&mut self, conn: &Conn) -> mysql_async::Result<()> {
        if self.activity.is_cut() {
            return Err(Error::Closed.into());
        }
        if self.is_session_lost {
            return Err(Error::SessionLost.into());
        }
        if self.in_flight || self.is_lost || conn.is_disconnected() {
            return Err(self.out_of_use());
        }
        if self.activity.has_lost_runtime() {
            return Err(Error::RuntimeStopped.into());
        }
        self.in_flight = true;
        self.is_used = true;
        self.activity.begin();
        Ok(())
    }

    /// Runs the statement that was begun; if the pool cuts it off, it stays in flight.
    pub(crate) async fn unless_cut<T>(
        &self,
        statement: impl Future<Output = mysql_async::Result<T>> + Unpin,
    ) -> mysql_async::Result<mysql_async::Result<T>> {
        let outcome = self.activity.unless_cut(statement).await;
        let outcome = outcome.map_err(cut_off)?;
        match &outcome {
            Err(error) if self.has_lost_runtime(error) => Err(cut_off(Cut::RuntimeStopped)),
            _ => Ok(outcome),
        }
    }

    /// Continues to read an answer that has begun. This may be cancelled: the next statement or the
    /// return reads the rest.
    ///
    /// `is_long`: what has arrived of it may take long to read too.
    pub(crate) async fn read<T>(
        &mut self,
        reading: impl Future<Output = mysql_async::Result<T>>,
        is_long: bool,
    ) -> mysql_async::Result<T> {
        let mut began_at = is_long.then(Timestamp::now);
        let (answer, validated_at) = (&mut self.answer, &mut self.validated_at);
        // Recorded here in case that this is cancelled.
        let record_wait = || {
            *validated_at = *began_at.get_or_insert_with(Timestamp::now);
            *answer = Answer::at(*validated_at);
        };
        let outcome = self.activity.read(pin!(reading), record_wait).await;
        match outcome {
            Ok(outcome) => {
                self.record_answer();
                if let Some(began_at) = began_at {
                    self.answer.began_at = began_at;
                }
                outcome.map_err(|error| self.record_read_error(error))
            }
            Err(cut) => {
                self.in_flight = true;
                Err(cut_off(cut))
            }
        }
    }

    /// Registers the task that reads a stream, which has begun to wait if `waits` is empty. Ready
    /// once the stream is cut off.
    pub(crate) fn poll_cut(
        &mut self,
        waits: &mut Option<Silence>,
        cx: &mut Context<'_>,
    ) -> Poll<mysql_async::Error> {
        let silence = waits.get_or_insert_with(|| {
            self.activity.begin();
            Silence::default()
        });
        self.activity.poll_cut(silence, cx).map(|cut| {
            self.in_flight = true;
            cut_off(cut)
        })
    }

    /// Marks the end of waiting for a stream's next row.
    pub(crate) fn end_waiting(&self, waits: &mut Option<Silence>) {
        if waits.take().is_some() {
            self.activity.end();
            self.activity.clear_waker();
        }
    }

    /// Whether a statement was cut off because it was under way for too long.
    pub(super) fn has_timed_out(&self) -> bool {
        self.activity.has_timed_out()
    }

    /// Marks the statement as followed to its end.
    pub(crate) fn end<T>(&mut self, result: &mysql_async::Result<T>) {
        self.in_flight = false;
        self.activity.end();
        match result {
            Err(error) if means_loss(error) => self.is_lost = true,
            Err(error) if is_too_large(error) => {
                self.commits = false;
                self.is_lost = true;
                self.is_misused = true;
            }
            // If the driver closed the connection, its own flag shows that.
            Err(mysql_async::Error::Driver(_)) => self.is_misused = true,
            _ => {
                self.commits = false;
                self.record_answer();
            }
        }
        if let Err(error) = result {
            self.record_error(error);
        }
    }

    /// Marks the statement as followed to the beginning of its answer. The server's status comes at
    /// the end, which is read before the next command at the latest. [`read`](Self::read) records
    /// the time of that.
    pub(crate) fn end_unread<T>(&mut self, result: &mysql_async::Result<T>) {
        if result.is_err() {
            return self.end(result);
        }
        self.in_flight = false;
        self.activity.end();
        self.commits = false;
        self.last_status = LastStatus::InDriver;
    }

    /// Records that a statement was answered now.
    pub(crate) fn record_answer(&mut self) {
        self.validated_at = Timestamp::now();
        self.answer = Answer::at(self.validated_at);
    }

    /// Records an error of a statement, or of the reading of its rows.
    pub(crate) fn record_error(&mut self, error: &mysql_async::Error) {
        let is_asked_for = self.effect.read_only || self.is_set_up_read_only;
        self.met_read_only |= means_read_only(error, is_asked_for);
        self.met_read_only_table |= is_read_only_table(error);
        self.forget_status();
        if matches!(self.ending, Ending::ByCommitWithin | Ending::InParts) {
            if rolls_back(error) {
                self.ending = Ending::Unknown;
            }
            return;
        }
        if rolls_back(error) {
            self.ending = Ending::ByServer;
        }
        self.is_deadlocked |= is_deadlock(error);
    }

    /// Marks the statement as not sent, with this error.
    pub(crate) fn refuse(&mut self, error: Error) -> mysql_async::Error {
        self.withdraw();
        error.into()
    }

    /// Records an error of the reading of rows. Returns the error for the caller.
    pub(crate) fn record_read_error(&mut self, error: mysql_async::Error) -> mysql_async::Error {
        if self.has_lost_runtime(&error) {
            self.in_flight = true;
            return cut_off(Cut::RuntimeStopped);
        }
        // The driver's own flag does not show that an error was the server's last word.
        self.is_lost |= means_loss(&error);
        self.record_error(&error);
        error
    }

    /// Whether the connection was lost with the runtime of its socket. The driver's own error does
    /// not say so, and does not look transient.
    fn has_lost_runtime(&self, error: &mysql_async::Error) -> bool {
        means_loss(error) && self.activity.has_lost_runtime()
    }

    /// Marks the statement as not sent.
    pub(crate) fn withdraw(&mut self) {
        self.in_flight = false;
        self.commits = false;
        self.activity.end();
    }

    /// Records that the server has forgotten the session's prepared statements. The connection
    /// refuses everything from now on.
    pub(crate) fn lose_session(&mut self) -> mysql_async::Error {
        self.is_session_lost = true;
        // Otherwise the driver may have closed this one statement.
        self.others_may_be_lost = self.effect != Effect::UNKNOWN;
        self.refuse(Error::SessionLost)
    }

    /// Like [`end`](Self::end), for a statement whose answer carries the server's status.
    pub(crate) fn end_with_status<T>(&mut self, result: &mysql_async::Result<T>) {
        self.end(result);
        if result.is_ok() {
            self.last_status = LastStatus::InDriver;
        }
    }

    /// Records the text of a statement about to be sent.
    pub(crate) fn record_text(&mut self, text: &[u8]) {
        let effect = self.changes.record(text);
        self.effect = self.effect.union(effect);
    }

    /// Records what a statement about to be sent does to the open transaction, and returns what it
    /// commits. Refuses it if it would commit a [`Transaction`](crate::Transaction) to begin
    /// another one.
    pub(crate) fn record_control(
        &mut self,
        conn: &Conn,
        control: Control,
    ) -> mysql_async::Result<Commits> {
        if control.begins && self.is_guarded {
            return Err(self.refuse(Error::InTransaction));
        }
        self.ending = match control.ends {
            Ends::ByCommit | Ends::ByCommitAtEnd => Ending::ByCommit,
            Ends::ByCommitWithin => Ending::ByCommitWithin,
            Ends::ByRollback => Ending::ByRollback,
            Ends::ByRollbackWithin | Ends::Either => Ending::InParts,
            Ends::Not => Ending::Unknown,
        };
        let commits = match control.ends {
            Ends::Not | Ends::ByRollback => Commits::Nothing,
            Ends::ByCommit => Commits::Alone,
            // Beginning a transaction commits an open one.
            Ends::ByCommitAtEnd if control.begins != self.may_be_in_transaction(conn) => {
                Commits::AtEnd
            }
            _ if control.begins || self.may_be_in_transaction(conn) => Commits::Within,
            _ => Commits::Nothing,
        };
        self.commits = commits != Commits::Nothing;
        Ok(commits)
    }

    /// Records that a `COMMIT` is about to be sent.
    pub(crate) fn record_commit(&mut self) {
        self.ending = Ending::ByCommit;
        self.commits = true;
    }

    fn may_be_in_transaction(&self, conn: &Conn) -> bool {
        let is_open = |status: StatusFlags| status.contains(StatusFlags::SERVER_STATUS_IN_TRANS);
        self.is_guarded || self.known_status(conn).is_none_or(is_open)
    }

    /// Records that a statement is about to be executed whose text the driver does not show.
    pub(crate) fn record_unseen(&mut self) {
        self.effect = Effect::UNKNOWN;
        self.changes.record_unknown();
        self.ending = Ending::Unknown;
    }

    /// Records a prepared statement about to be executed.
    #[inline]
    pub(crate) fn record_execution(&mut self, text: &[u8], about: Prepared) {
        self.effect = self.effect.union(about.effect);
        if about.effect.session || self.changes.shapes_statements {
            self.record_changing_execution(text, about);
        }
    }

    #[cold]
    fn record_changing_execution(&mut self, text: &[u8], about: Prepared) {
        if self.changes.shapes_statements {
            self.changes.record_unknown();
        } else if about.effect.session {
            self.changes.record_prepared(text);
        }
    }

    /// Records that this text is about to be prepared, if the driver's cache does not hold it.
    ///
    /// On MySQL a statement that reads user variables keeps their types from then on.
    pub(crate) fn record_prepare_of(&mut self, text: &[u8], conn: &Conn) {
        if effect_of(text).session && reads_user_variables(text) {
            self.effect.session = true;
            self.changes.record_unknown();
        }
        self.record_prepare(conn);
    }

    /// Records that a prepared statement is about to be executed with several rows of parameters.
    ///
    /// On MySQL the server may prepare it again at each row, under what earlier rows have set.
    pub(crate) fn record_batch(&mut self) {
        if self.changes.shapes_statements {
            self.changes.record_unknown();
        }
    }

    /// Records that a statement may be prepared: until the next answer that carries the server's
    /// status, the status that the driver keeps means nothing.
    pub(crate) fn record_prepare(&mut self, conn: &Conn) {
        if self.changes.shapes_statements {
            self.changes.record_unknown();
        }
        if self.effect.database {
            // The statement keeps the database that it is prepared in. Only a reset ends it.
            self.effect.session = true;
            self.changes.record_unknown();
        }
        self.keep_status(conn);
    }

    /// Keeps the last status, because the driver is about to take the answer to preparing a
    /// statement for one.
    pub(crate) fn keep_status(&mut self, conn: &Conn) {
        if let LastStatus::InDriver = self.last_status {
            let status = conn.last_ok_packet().map(|ok| ok.status_flags());
            self.last_status = LastStatus::Kept(status);
        }
    }

    /// Records that a statement is about to be prepared and executed whose text the driver does not
    /// show.
    pub(crate) fn record_unseen_execution(&mut self, conn: &Conn) {
        self.record_unseen();
        self.record_prepare(conn);
        self.statements.record_unseen();
    }

    /// Records a statement that the pool has prepared.
    pub(crate) fn record_prepared(&mut self, text: &str, statement: &Statement) {
        let recorded = self.statements.record(text.as_bytes(), statement, false);
        self.is_session_lost |= recorded.is_err();
    }

    /// The server's status, if it is known without asking.
    pub(crate) fn known_status(&self, conn: &Conn) -> Option<StatusFlags> {
        // A dropped transaction is rolled back by the next command.
        if self.is_unfollowed || self.in_transaction && !self.is_guarded {
            None
        } else {
            match self.last_status {
                LastStatus::InDriver => conn.last_ok_packet().map(|ok| ok.status_flags()),
                LastStatus::Kept(status) => status,
            }
        }
    }

    /// Forgets the status that was kept, because commands after it may change it. The driver has
    /// none after an error.
    pub(crate) fn forget_status(&mut self) {
        if let LastStatus::Kept(status) = &mut self.last_status {
            *status = None;
        }
    }

    /// Records that the server was asked for its status, which also rolls back a dropped
    /// transaction.
    pub(crate) fn record_status(&mut self) {
        self.last_status = LastStatus::InDriver;
        self.in_transaction &= self.is_guarded;
    }

    /// How the open transaction has ended, now that the server's status shows none.
    ///
    /// `None` if this server's status never shows transactions.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.shows_transaction.then_some(self.ending)
    }

    /// Whether a transaction's handle is in use: statements are meant to run in it, and not
    /// otherwise.
    #[inline]
    pub(crate) fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// Whether the server has certainly rolled the transaction back, because of a conflict.
    pub(crate) fn is_deadlocked(&self) -> bool {
        self.is_deadlocked
    }

    /// Records at which savepoint the next command is meant to run, 0 for the transaction itself.
    #[inline]
    pub(crate) fn at_savepoint(&mut self, level: u32) {
        self.savepoints.wanted = level;
    }

    /// The savepoint to roll back to before the next command: one whose handle was dropped.
    #[inline]
    pub(crate) fn dropped_savepoint(&self) -> Option<u32> {
        let Savepoints { open, wanted } = self.savepoints;
        (open > wanted).then(|| wanted.saturating_add(1))
    }

    /// Records that no savepoint matters any more: the whole transaction is about to end.
    pub(crate) fn forget_savepoints(&mut self) {
        self.savepoints = Savepoints::default();
    }

    /// Records that as many savepoints are open.
    pub(crate) fn record_savepoints(&mut self, open: u32) {
        self.savepoints.open = open;
    }

    /// Whether something was sent since the caller got the connection.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Whether the caller has used the bare `Conn`.
    pub(crate) fn is_unfollowed(&self) -> bool {
        self.is_unfollowed
    }

    /// Forgets all prepared statements: a reset has ended them, and their ids may be reused.
    pub(crate) fn forget_statements(&mut self) {
        self.statements.forget();
        self.undone.clear();
    }

    /// What the statements changed in the session; `None` if that is not known, or if undoing it
    /// would leave too much behind.
    pub(crate) fn changes(&self) -> Option<&[Change]> {
        let changes = self.changes.all()?;
        let is_new = |name: &&str| !self.has_undone(name);
        let names = changes.iter().filter_map(Change::user_variable);
        let left = self
            .undone
            .len()
            .saturating_add(names.filter(is_new).count());
        // In another database, the name means another table.
        let is_lost = |change: &Change| {
            matches!(change, Change::TemporaryTable { is_plain, .. } if *is_plain)
                && self.effect.database
        };
        (left <= KEPT_UNDONE && !changes.iter().any(is_lost)).then_some(changes)
    }

    fn has_undone(&self, name: &str) -> bool {
        self.undone.iter().any(|undone| **undone == *name)
    }

    /// Records that all changes were undone.
    pub(crate) fn record_undone(&mut self) {
        for change in self.changes.all().into_iter().flatten() {
            if let Some(name) = change.user_variable()
                && !self.has_undone(name)
            {
                self.undone.push(name.into());
            }
        }
    }

    pub(crate) fn record_transaction(&mut self, is_open: bool) {
        self.in_transaction = is_open;
        self.effect.transaction = true;
    }

    /// Records that an isolation level was set for the next transaction, which was not begun.
    pub(crate) fn record_pending_level(&mut self) {
        self.effect.session = true;
        self.changes.record_unknown();
    }

    pub(crate) fn record_read_only_transaction(&mut self) {
        self.effect.read_only = true;
    }

    /// Records that a transaction was started, with this status.
    pub(crate) fn guard(&mut self, status: Option<StatusFlags>) {
        self.is_guarded = true;
        self.shows_transaction =
            status.is_some_and(|flags| flags.contains(StatusFlags::SERVER_STATUS_IN_TRANS));
        self.ending = Ending::Unknown;
        self.is_deadlocked = false;
        self.savepoints = Savepoints::default();
    }

    pub(crate) fn end_guard(&mut self) {
        self.is_guarded = false;
        self.shows_transaction = false;
        self.savepoints = Savepoints::default();
    }

    /// Records that the caller gets the bare `Conn`: what is sent on it is not followed.
    pub(crate) fn record_unfollowed(&mut self, conn: &Conn) {
        // Read before anything is sent: a nested command of the driver would clear its flag.
        if conn.is_disconnected() {
            self.is_lost = true;
        }
        self.is_used = true;
        self.is_unfollowed = true;
        self.effect = Effect::UNKNOWN;
        self.changes.record_unknown();
        self.statements.record_unfollowed();
    }

    /// Lets the caller use the bare `Conn`, unless an earlier statement was not followed to its
    /// end.
    pub(crate) fn unfollow(&mut self, conn: &Conn) -> mysql_async::Result<()> {
        self.begin(conn)?;
        self.in_flight = false;
        self.activity.end();
        self.record_unfollowed(conn);
        Ok(())
    }

    /// The error for a statement after one that was not followed to its end, or was lost.
    fn out_of_use(&self) -> mysql_async::Error {
        if self.commits {
            let source = Error::ConnectionLost.into();
            Error::CommitUnknown { source }.into()
        } else if self.is_misused {
            Error::ConnectionMisused.into()
        } else {
            Error::ConnectionLost.into()
        }
    }

    /// Forgets what the last caller did, but not the server's last status.
    pub(crate) fn start_over(&mut self) {
        self.is_used = false;
        self.is_unfollowed = false;
        self.in_transaction = false;
        self.is_misused = false;
        self.met_read_only = false;
        self.met_read_only_table = false;
        self.effect = Effect::NEUTRAL;
        self.changes.clear();
        self.statements.start_over();
    }
}

fn cut_off(cut: Cut) -> mysql_async::Error {
    match cut {
        Cut::Closed => Error::Closed.into(),
        Cut::TimedOut(after) => Error::StatementTimeout { after }.into(),
        Cut::RuntimeStopped => Error::RuntimeStopped.into(),
    }
}
