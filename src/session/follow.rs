//! Follows what is sent on a connection, so that its return needs no round trip to know its state.

use std::{collections::HashMap, future::Future, io, sync::Arc};

use mysql_async::{Conn, Statement};

use crate::{
    error::{Error, is_too_large, means_loss, means_read_only},
    time::Timestamp,
};

use super::{
    activity::{Activity, Cut},
    effect::{Effect, effect_of},
    statement::Text,
};

/// The most prepared statements to remember: far more than the driver's cache holds.
const STATEMENTS_REMEMBERED: usize = 1024;

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
    /// The status that the driver keeps may come from preparing a statement, whose answer carries
    /// none.
    pub(super) status_is_stale: bool,
    /// What the statements may have left behind.
    pub(super) effect: Effect,
    /// When the connection last gave an answer that was in step.
    pub(crate) validated_at: Timestamp,
    /// When a caller's statement was last answered.
    pub(crate) used_at: Timestamp,
    /// The server said that it is read-only, though the caller did not ask for that.
    pub(crate) met_read_only: bool,
    /// The effects of prepared statements, by their ids.
    statements: HashMap<u32, Effect>,
}

impl Follow {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        let now = Timestamp::now();
        Self {
            in_flight: false,
            activity,
            is_lost: false,
            is_misused: false,
            is_used: false,
            is_unfollowed: false,
            in_transaction: false,
            is_guarded: false,
            status_is_stale: false,
            effect: Effect::NEUTRAL,
            validated_at: now,
            used_at: now,
            met_read_only: false,
            statements: HashMap::new(),
        }
    }

    /// Marks a statement as begun. Refuses it after one that was not followed to its end, whose
    /// answer would be taken for this one's.
    pub(crate) fn begin(&mut self, conn: &Conn) -> mysql_async::Result<()> {
        if self.activity.is_cut() {
            return Err(Error::Closed.into());
        }
        if self.in_flight || self.is_lost || conn.is_disconnected() {
            return Err(out_of_use(self.is_misused));
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
        match self.activity.unless_cut(statement).await {
            Ok(outcome) => Ok(outcome),
            Err(Cut::Closed) => Err(Error::Closed.into()),
            Err(Cut::TimedOut(after)) => Err(Error::StatementTimeout { after }.into()),
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
                self.is_lost = true;
                self.is_misused = true;
            }
            // If the driver closed the connection, its own flag shows that.
            Err(mysql_async::Error::Driver(_)) => self.is_misused = true,
            _ => {
                self.validated_at = Timestamp::now();
                self.used_at = self.validated_at;
            }
        }
        if let Err(error) = result {
            self.met_read_only |= means_read_only(error, self.effect.read_only);
        }
    }

    /// Like [`end`](Self::end), for a statement whose answer carries the server's status.
    pub(crate) fn end_with_status<T>(&mut self, result: &mysql_async::Result<T>) {
        self.end(result);
        if result.is_ok() {
            self.status_is_stale = false;
        }
    }

    /// Records the text of a statement about to be sent.
    pub(crate) fn record_text(&mut self, text: &[u8]) {
        self.effect = self.effect.union(effect_of(text));
    }

    /// Records that a statement is about to be executed whose text the driver does not show.
    pub(crate) fn record_unseen(&mut self) {
        self.effect = Effect::UNKNOWN;
    }

    /// Records a statement about to be executed, which may be prepared first.
    pub(crate) fn record_executed(&mut self, text: Text<'_>) {
        self.record_prepare();
        match text {
            Text::Sql(text) => self.record_text(text),
            Text::Prepared(statement) => match self.statements.get(&statement.id()) {
                Some(effect) => self.effect = self.effect.union(*effect),
                None => self.record_unseen(),
            },
        }
    }

    /// Records that a statement may be prepared: until the next answer that carries the server's
    /// status, the status that the driver keeps means nothing.
    pub(crate) fn record_prepare(&mut self) {
        self.status_is_stale = true;
    }

    /// Remembers the effect of a prepared statement.
    pub(crate) fn remember(&mut self, statement: &Statement, effect: Effect) {
        if self.statements.len() >= STATEMENTS_REMEMBERED {
            self.statements.clear();
        }
        self.statements.insert(statement.id(), effect);
    }

    /// Forgets all prepared statements: a reset has ended them, and their ids may be reused.
    pub(crate) fn forget_statements(&mut self) {
        self.statements.clear();
    }

    pub(crate) fn record_transaction(&mut self, is_open: bool) {
        self.in_transaction = is_open;
        self.effect.transaction = true;
    }

    pub(crate) fn record_read_only_transaction(&mut self) {
        self.effect.read_only = true;
    }

    pub(crate) fn guard(&mut self, is_guarded: bool) {
        self.is_guarded = is_guarded;
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
        // The caller may reset the session, after which statement ids are reused.
        self.forget_statements();
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

    /// Forgets what the last caller did.
    pub(crate) fn start_over(&mut self) {
        self.is_used = false;
        self.is_unfollowed = false;
        self.in_transaction = false;
        self.status_is_stale = false;
        self.is_misused = false;
        self.met_read_only = false;
        self.effect = Effect::NEUTRAL;
    }
}

fn out_of_use(is_misused: bool) -> mysql_async::Error {
    let (kind, text) = if is_misused {
        // Not transient: the same mistake would be made again.
        let text = "nothing was sent: this connection was closed because of an earlier mistake in \
                    its use";
        (io::ErrorKind::Other, text)
    } else {
        let text = "nothing was sent: an earlier statement on this connection was cancelled or \
                    lost; get another connection";
        (io::ErrorKind::ConnectionAborted, text)
    };
    io::Error::new(kind, text).into()
}
