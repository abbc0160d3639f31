//! Decides what a returned connection needs before it is as good as new. Sends and reads nothing.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use mysql_async::{QueryResult, TextProtocol, consts::StatusFlags};

use crate::{config::Reset, error::ends_connection, report::DiscardReason};

use super::Session;

/// What to do with a returned connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as good as new.
    Idle,
    Clean(Needs),
    Discard(DiscardReason),
}

/// What a connection needs to be as good as new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Rows are pending.
    pub(crate) drain: bool,
    /// It was used without being followed.
    pub(crate) validation: bool,
    /// A transaction is or may be open.
    pub(crate) rollback: bool,
    /// The session was or may have been changed.
    pub(crate) reset: bool,
    /// All changes of the session are known. Undoing them is as good as a reset.
    pub(crate) undo: bool,
    /// The default database was or may have been changed.
    pub(crate) database: bool,
    /// A role was or may have been set.
    pub(crate) role: bool,
}

impl Session {
    /// Decides what the connection needs now that its caller has returned it.
    pub(crate) fn verdict(&mut self, reset: Reset) -> Verdict {
        let follow = &self.follow;
        let is_disconnected = self.conn.is_disconnected();
        if follow.has_timed_out() {
            return Verdict::Discard(DiscardReason::StatementTimeout);
        }
        if follow.is_session_lost {
            return Verdict::Discard(DiscardReason::SessionLost);
        }
        if follow.in_flight {
            return Verdict::Discard(DiscardReason::Cancelled);
        }
        let is_ended = is_disconnected || follow.is_lost;
        if follow.is_guarded && !follow.is_lost || is_ended && follow.is_misused {
            return Verdict::Discard(DiscardReason::Misused);
        }
        // A statement that was followed to its end leaves the driver's flag up only if it failed.
        // Otherwise reading a result was cancelled or failed, which is not followed.
        if is_ended {
            return Verdict::Discard(DiscardReason::Lost);
        }
        if !follow.is_used {
            return Verdict::Idle;
        }
        if follow.is_unfollowed && !self.is_as_opened() {
            return Verdict::Discard(DiscardReason::Misused);
        }
        if follow.effect.unresettable {
            return Verdict::Discard(DiscardReason::Unresettable);
        }
        let has_rows = self.has_rows();
        if !has_rows && !self.take_late_error() {
            return Verdict::Discard(DiscardReason::Lost);
        }
        let needs = self.needs(reset, has_rows);
        if needs == Needs::default() {
            self.follow.start_over();
            Verdict::Idle
        } else {
            Verdict::Clean(needs)
        }
    }

    /// The driver may hold back the error of a later result set until the next statement, which may
    /// be another caller's. Takes that error out, without reading. Returns false if that is not
    /// possible, or if the error was the server's last word.
    fn take_late_error(&mut self) -> bool {
        if self.conn.last_ok_packet().is_some() {
            return true;
        }
        let settled = pin!(QueryResult::<TextProtocol>::new(&mut self.conn).drop_result());
        match settled.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => !ends_connection(&error),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        }
    }

    fn needs(&self, reset: Reset, has_rows: bool) -> Needs {
        let follow = &self.follow;
        let effect = follow.effect;
        let may_be_in_transaction = match self.status_flags() {
            // Unseen, the last answer may be to preparing a statement: it carries no status, and
            // looks as if autocommit were off.
            Some(flags)
                if follow.is_unfollowed
                    && !flags.contains(StatusFlags::SERVER_STATUS_AUTOCOMMIT) =>
            {
                true
            }
            Some(flags) => flags.contains(StatusFlags::SERVER_STATUS_IN_TRANS),
            // Without resets an earlier caller may have turned autocommit off.
            None => effect.transaction || !self.origin.autocommit || reset == Reset::Never,
        };
        Needs {
            drain: has_rows,
            validation: follow.is_unfollowed,
            rollback: follow.in_transaction || may_be_in_transaction,
            reset: match reset {
                Reset::Always => true,
                Reset::WhenChanged => effect.session,
                Reset::Never => false,
            },
            undo: reset == Reset::WhenChanged && effect.session && follow.changes().is_some(),
            database: effect.database,
            // `Reset::Always` also finds a role that a view or a trigger has set.
            role: effect.role || reset == Reset::Always,
        }
    }

    /// Whether it is still the connection, and the account, that was opened.
    fn is_as_opened(&self) -> bool {
        let (now, then) = (self.conn.opts(), &self.origin.opts);
        self.conn.id() == self.origin.id
            && (now.user(), now.pass(), now.db_name()) == (then.user(), then.pass(), then.db_name())
    }
}
