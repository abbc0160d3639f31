//! The commands that callers send, each followed to its end.

#![expect(
    private_interfaces,
    unnameable_types,
    reason = "sealed: only types of this crate implement `Executor`"
)]

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use mysql_async::{
    BinaryProtocol, Params, QueryResult, Statement, TextProtocol,
    prelude::{AsQuery, FromRow, Protocol, StatementLike},
};

use crate::{
    error::{
        Error, ends_connection, forgets_statements, is_deadlock, is_too_large, is_transient,
        refuses_commit, rolls_back,
    },
    session::{
        effect::control::control_of,
        follow::{Commits, Follow},
        statement::{Executable, Text},
        statements::{Prepared, Unsure},
    },
    telemetry::{Caller, Timing},
};

use super::{
    batch::Rows,
    read::Read,
    stream::RowStream,
    target::{Target, begin},
};

/// The return type of the driver's trait methods. The driver's own alias for it is private.
pub(super) type BoxFuture<'a, T> =
    Pin<Box<dyn Future<Output = mysql_async::Result<T>> + Send + 'a>>;

/// A command whose answer has rows.
pub trait Command: Send {
    type Protocol: Protocol;

    /// Sends the command and reads its answer.
    ///
    /// If dropped while it waits for the beginning of the answer, the connection counts as in
    /// flight. After that the next command or the return reads the rest.
    fn run<C: Target, R: Read<Self::Protocol>>(
        self,
        conn: &mut C,
        follow: &mut Follow,
        caller: Caller<'_>,
        read: R,
    ) -> impl Future<Output = mysql_async::Result<R::Output>> + Send;
}

/// A text, sent as it is.
#[derive(Debug)]
pub(crate) struct Query<Q>(pub(crate) Q);

/// A statement to execute whose text can be seen.
#[derive(Debug)]
pub(crate) struct Exec<S>(pub(crate) S, pub(crate) Params);

/// A statement to execute whose text the driver's trait does not show.
pub(super) struct ExecUnseen<S>(pub(super) S, pub(super) Params);

impl<Q: AsQuery> Command for Query<Q> {
    type Protocol = TextProtocol;

    async fn run<C: Target, R: Read<TextProtocol>>(
        self,
        conn: &mut C,
        follow: &mut Follow,
        caller: Caller<'_>,
        read: R,
    ) -> mysql_async::Result<R::Output> {
        let text = self.0.as_query();
        let mut timing = caller.timing(&text);
        let commits = begin_query(conn, follow, &mut timing, &text).await?;
        let outcome = follow.unless_cut(conn.query_iter(&*text)).await;
        let result = finish_query(follow, commits, outcome);
        let result = result.map_err(|error| timing.fail(follow.answer, error))?;
        let outcome = follow.read(read.read(result), R::IS_LONG).await;
        let outcome = timing.end(follow.answer, outcome);
        Ok(outcome.map_err(|error| error_of(commits, error))??)
    }
}

impl<S: Executable> Command for Exec<S> {
    type Protocol = BinaryProtocol;

    async fn run<C: Target, R: Read<BinaryProtocol>>(
        self,
        conn: &mut C,
        follow: &mut Follow,
        caller: Caller<'_>,
        read: R,
    ) -> mysql_async::Result<R::Output> {
        let mut timing = caller.timing_of_unseen();
        let result = execute_timed(conn, follow, &mut timing, self.0.text(), self.1).await?;
        let outcome = follow.read(read.read(result), R::IS_LONG).await;
        Ok(timing.end(follow.answer, outcome)??)
    }
}

impl<S: StatementLike> Command for ExecUnseen<S> {
    type Protocol = BinaryProtocol;

    async fn run<C: Target, R: Read<BinaryProtocol>>(
        self,
        conn: &mut C,
        follow: &mut Follow,
        caller: Caller<'_>,
        read: R,
    ) -> mysql_async::Result<R::Output> {
        begin(conn, follow).await?;
        let mut timing = caller.timing_of_unseen();
        timing.start();
        follow.record_unseen_execution(conn.conn());
        let sent = follow.unless_cut(conn.exec_iter(self.0, self.1)).await;
        let result = sent.and_then(|outcome| finish(follow, outcome));
        let result = result.map_err(|error| timing.fail(follow.answer, error))?;
        let outcome = follow.read(read.read(result), R::IS_LONG).await;
        Ok(timing.end(follow.answer, outcome)??)
    }
}

/// Sends a text, and waits for the beginning of the answer.
pub(super) async fn query<'a, C: Target, Q: AsQuery + 'a>(
    conn: &'a mut C,
    follow: &mut Follow,
    caller: Caller<'_>,
    query: Q,
) -> mysql_async::Result<QueryResult<'a, 'static, TextProtocol>> {
    let text = query.as_query();
    let mut timing = caller.timing_of_copy(&text);
    let commits = begin_query(conn, follow, &mut timing, &text).await?;
    drop(text);
    let outcome = follow.unless_cut(conn.query_iter(query)).await;
    let result = finish_query(follow, commits, outcome);
    let result = result.inspect(|_| follow.record_answer());
    timing.end(follow.answer, result.map(|result| (result, None)))
}

/// Begins a text, and records it.
async fn begin_query<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
    timing: &mut Timing<'_>,
    text: &[u8],
) -> mysql_async::Result<Commits> {
    begin(conn, follow).await?;
    let commits = follow.record_control(conn.conn(), control_of(text))?;
    follow.record_text(text);
    timing.start();
    Ok(commits)
}

/// Marks a text as followed to the beginning of its answer.
fn finish_query<T>(
    follow: &mut Follow,
    commits: Commits,
    outcome: mysql_async::Result<mysql_async::Result<T>>,
) -> mysql_async::Result<T> {
    let outcome = outcome.map_err(|error| error_of(commits, error))?;
    follow.end_unread(&outcome);
    outcome.map_err(|error| error_of(commits, error))
}

/// Executes a statement whose text the driver's trait does not show, and waits for the beginning of
/// the answer.
pub(super) async fn execute_unseen<'a, C: Target>(
    conn: &'a mut C,
    follow: &mut Follow,
    caller: Caller<'_>,
    statement: impl StatementLike,
    params: Params,
) -> mysql_async::Result<QueryResult<'a, 'static, BinaryProtocol>> {
    begin(conn, follow).await?;
    let mut timing = caller.timing_of_unseen();
    timing.start();
    follow.record_unseen_execution(conn.conn());
    let sent = follow.unless_cut(conn.exec_iter(statement, params)).await;
    let result = sent.and_then(|outcome| finish(follow, outcome));
    let result = result.inspect(|_| follow.record_answer());
    timing.end(follow.answer, result.map(|result| (result, None)))
}

/// Executes a statement, and waits for the beginning of the answer.
pub(super) async fn execute<'a, C: Target>(
    conn: &'a mut C,
    follow: &mut Follow,
    caller: Caller<'_>,
    text: Text<'_>,
    params: Params,
) -> mysql_async::Result<QueryResult<'a, 'static, BinaryProtocol>> {
    let mut timing = caller.timing_of_unseen();
    let result = execute_timed(conn, follow, &mut timing, text, params).await?;
    follow.record_answer();
    timing.end(follow.answer, Ok((result, None)))
}

/// Like [`execute`], but on success leaves the timing under way.
async fn execute_timed<'a, 't, C: Target>(
    conn: &'a mut C,
    follow: &mut Follow,
    timing: &mut Timing<'t>,
    text: Text<'t>,
    params: Params,
) -> mysql_async::Result<QueryResult<'a, 'static, BinaryProtocol>> {
    let (statement, commits) = find(conn, follow, timing, text).await?;
    let sent = follow.unless_cut(conn.exec_iter(statement, params)).await;
    let result = sent.and_then(|outcome| finish(follow, outcome));
    result.map_err(|error| timing.fail(follow.answer, error_of(commits, error)))
}

/// Executes a statement for each row of parameters.
pub(super) async fn execute_batch<C: Target, P: Into<Params>>(
    conn: &mut C,
    follow: &mut Follow,
    caller: Caller<'_>,
    text: Text<'_>,
    rows: impl Iterator<Item = P> + Send,
) -> mysql_async::Result<()> {
    let mut timing = caller.timing_of_unseen();
    let (statement, commits) = find(conn, follow, &mut timing, text).await?;
    follow.record_batch();
    let max_packet = conn.conn().opts().max_allowed_packet();
    let mut rows = Rows::new(rows, statement.num_params(), max_packet);
    let outcome = loop {
        let run = match rows.next_run() {
            Ok(Some(run)) => run,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.into()),
        };
        let sending = conn.exec_batch(&statement, run);
        let outcome = match follow.unless_cut(sending).await {
            Ok(outcome) => outcome,
            Err(error) => return Err(timing.fail(follow.answer, error_of(commits, error))),
        };
        if outcome.is_err() {
            break outcome;
        }
    };
    if rows.taken() == 0 {
        // Nothing was executed, so there is no answer with a status.
        follow.end(&outcome);
        timing.withdraw();
        return outcome;
    }
    let outcome = finish(follow, outcome).map_err(|error| error_of(commits, error));
    let outcome = outcome.inspect(|()| follow.record_answer());
    timing.end(follow.answer, outcome.map(|()| ((), None)))
}

/// Marks an execution as followed to the beginning of its answer.
fn finish<T>(follow: &mut Follow, outcome: mysql_async::Result<T>) -> mysql_async::Result<T> {
    if let Err(error) = &outcome
        && forgets_statements(error)
    {
        return Err(follow.lose_session());
    }
    follow.end_unread(&outcome);
    outcome
}

/// The error for the caller of a statement that was sent: `CommitUnknown`, if it commits and the
/// error leaves open whether it has.
fn error_of(commits: Commits, error: mysql_async::Error) -> mysql_async::Error {
    match commits {
        Commits::Nothing => error,
        Commits::Alone => commit_error(error),
        // Nothing of it is committed, wherever it came from.
        Commits::AtEnd if rolls_back(&error) || is_deadlock(&error) || refuses_commit(&error) => {
            error
        }
        Commits::AtEnd | Commits::Within if is_final(&error) => error,
        Commits::AtEnd | Commits::Within => Error::CommitUnknown { source: error }.into(),
    }
}

/// Whether this error says all about a text that commits and does more. A transient one would say
/// that nothing was committed, but a conflict may have come after the commit.
fn is_final(error: &mysql_async::Error) -> bool {
    match error {
        // It was not executed.
        _ if is_too_large(error) => true,
        mysql_async::Error::Server(answer) => {
            // 1180 is an error during a commit.
            !ends_connection(error) && !is_transient(error) && answer.code != 1180
        }
        // It was not executed.
        mysql_async::Error::Other(error) => {
            matches!(error.downcast_ref(), Some(Error::SessionLost))
        }
        _ => false,
    }
}

/// The error of a `COMMIT` that was sent.
pub(super) fn commit_error(error: mysql_async::Error) -> mysql_async::Error {
    if refuses_commit(&error) {
        error
    } else {
        Error::CommitUnknown { source: error }.into()
    }
}

/// Begins the execution of a statement, and finds or prepares it. Also returns what it commits.
///
/// A statement that a caller was given stands for its text: the driver may have closed it, and its
/// id may belong to another by now.
///
/// Starts the timing, and ends it if this fails.
async fn find<'t, C: Target>(
    conn: &mut C,
    follow: &mut Follow,
    timing: &mut Timing<'t>,
    text: Text<'t>,
) -> mysql_async::Result<(Statement, Commits)> {
    let given;
    let text = match text {
        Text::Sql(text) => {
            timing.set_text(text);
            text
        }
        Text::Prepared(statement) => {
            let is_foreign = statement.connection_id() != conn.conn().id();
            given = follow.statements.text_of(statement);
            match &given {
                Some(text) if !is_foreign => {
                    timing.set_shared_text(text);
                    &**text
                }
                // Perhaps it was prepared on the bare `Conn`.
                None if !is_foreign && follow.is_unfollowed() => {
                    begin(conn, follow).await?;
                    if follow.statements.is_taken(statement) {
                        return Err(follow.lose_session());
                    }
                    follow.record_unseen();
                    timing.start();
                    return Ok((statement.clone(), Commits::Nothing));
                }
                _ => return Err(Error::ForeignStatement.into()),
            }
        }
    };
    begin(conn, follow).await?;
    timing.start();
    let (statement, about) = match follow.statements.ready(text) {
        Some((statement, about)) => (statement.clone(), about),
        None => match prepare(conn, follow, text).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(timing.fail(follow.answer, error)),
        },
    };
    let commits = match follow.record_control(conn.conn(), about.control) {
        Ok(commits) => commits,
        Err(refused) => {
            timing.withdraw();
            return Err(refused);
        }
    };
    follow.record_execution(text, about);
    Ok((statement, commits))
}

/// Has the driver prepare a text, or look it up in its cache. If this fails, the command that was
/// begun has ended with this error.
async fn prepare<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
    text: &[u8],
) -> mysql_async::Result<(Statement, Prepared)> {
    follow.record_prepare_of(text, conn.conn());
    let (outcome, is_cached) = {
        let mut preparing = conn.prep(text);
        // A statement that is ready at once comes from the driver's cache.
        let at_once = if follow.statements.is_in_doubt() {
            poll_fn(|cx| Poll::Ready(preparing.as_mut().poll(cx))).await
        } else {
            Poll::Pending
        };
        match at_once {
            Poll::Ready(outcome) => (outcome, true),
            Poll::Pending => (follow.unless_cut(preparing).await?, false),
        }
    };
    let statement = ended_by_error(follow, outcome)?;
    match follow
        .statements
        .record_for_caller(text, &statement, is_cached)
    {
        Ok(about) => return Ok((statement, about)),
        Err(Unsure::Collision) => return Err(follow.lose_session()),
        Err(Unsure::InDoubt) => {}
    }
    let outcome = follow.unless_cut(conn.close(statement)).await?;
    ended_by_error(follow, outcome)?;
    let outcome = follow.unless_cut(conn.prep(text)).await?;
    let statement = ended_by_error(follow, outcome)?;
    match follow.statements.record_for_caller(text, &statement, false) {
        Ok(about) => Ok((statement, about)),
        Err(_) => Err(follow.lose_session()),
    }
}

/// If this is an error, the command that was begun has ended with it.
fn ended_by_error<T>(
    follow: &mut Follow,
    outcome: mysql_async::Result<T>,
) -> mysql_async::Result<T> {
    if outcome.is_err() {
        follow.end(&outcome);
    }
    outcome
}

/// Prepares a text for a caller.
pub(super) async fn prepare_for_caller<C: Target>(
    conn: &mut C,
    follow: &mut Follow,
    query: impl AsQuery,
) -> mysql_async::Result<Statement> {
    begin(conn, follow).await?;
    let text = query.as_query();
    let ready = follow.statements.ready(&text);
    let statement = match ready.map(|(statement, _)| statement.clone()) {
        Some(statement) => statement,
        None => prepare(conn, follow, &text).await?.0,
    };
    follow.end(&Ok(()));
    follow.statements.hand_out(&text, &statement);
    Ok(statement)
}

/// Streams the rows of a result.
pub(super) async fn stream<'a, T, P>(
    result: QueryResult<'a, 'static, P>,
    follow: &'a mut Follow,
) -> mysql_async::Result<RowStream<'a, T, P>>
where
    T: Unpin + FromRow + Send + 'static,
    P: Protocol + Unpin,
{
    if result.columns_ref().is_empty() {
        follow.read(result.drop_result(), false).await?;
        return Err(Error::NoResultSet.into());
    }
    let rows = follow.read(result.stream_and_drop(), false).await?;
    match rows {
        Some(rows) => Ok(RowStream::new(rows, follow)),
        None => Err(Error::NoResultSet.into()),
    }
}
