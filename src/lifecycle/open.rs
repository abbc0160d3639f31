//! Opens connections into vacant slots: for waiting callers, and up to `size`. With a `size` of 0,
//! one after a failure, until an attempt succeeds.
//!
//! Every attempt runs in its own task and in a slot that is occupied from before the TCP connect.
//! So a caller that gives up wastes nothing, and waiting callers never multiply attempts.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tracing::{Instrument, Span, debug, debug_span, field::Empty, info, warn};

use crate::{
    engine::{
        backoff::{Attempt, Backoff},
        connect::Login,
        opener::{NewConnection, NotOpened},
        schedule::{COMING, HANGING, UnderWay},
        slots::Opening,
    },
    error::{ConnectError, ConnectPhase},
    report::{DiscardReason, PoolStatus},
    session::{Session, random, runtime::SocketRuntime},
    shared::{Shared, State},
    time::Timestamp,
};

use super::{assess::assess, discard};

/// How often the pool decides whether to give up an attempt that hangs.
const AGAIN: Duration = Duration::from_millis(50);

/// What connections are opened for, besides keeping `size` open.
#[derive(Clone, Copy, Debug)]
pub(super) enum Demand {
    /// Waiting callers, less the connections that are being cleaned and will soon serve them.
    Waiting,
    /// All waiting callers: cleaning takes too long.
    Overdue,
    /// One connection, to see whether the server answers or the settings are right.
    One,
}

impl Demand {
    fn connections(self, status: &PoolStatus, unresponsive: usize) -> usize {
        match self {
            Self::Waiting => {
                let soon = status.cleaning.saturating_sub(unresponsive);
                status.waiting.saturating_sub(soon)
            }
            Self::Overdue => status.waiting,
            Self::One => 1,
        }
    }
}

/// Opens what is missing, as far as the back-off allows.
pub(super) fn fill(shared: &Arc<Shared>, demand: Demand) {
    let Some(runtime) = shared.runtime.current() else {
        return;
    };
    while let Some(task) = next_task(shared, &runtime, demand) {
        // All waiting callers share it, so its span has no parent.
        let span = debug_span!(parent: None, "connect", pool = shared.name, connection = Empty);
        let task = runtime.spawn(task.run().instrument(span));
        if task.is_finished() {
            // The runtime has ended and dropped the task at once. It would drop all further ones
            // too.
            return;
        }
    }
}

/// Makes the next attempt at once, if one is pending.
pub(crate) fn retry_now(shared: &Arc<Shared>) {
    shared.state().backoff.end_pause();
    fill(shared, Demand::Waiting);
}

fn next_task(shared: &Arc<Shared>, runtime: &Arc<SocketRuntime>, demand: Demand) -> Option<Task> {
    if shared.is_closing() {
        return None;
    }
    let mut state = shared.state();
    let backoff = &state.backoff;
    let allowed = backoff.allows(shared.config.max_connecting, Timestamp::now());
    let opening = shared.slots.begin_opening(|status| {
        let wanted = wanted(shared, &state, status, demand);
        under_way(backoff, status).may_begin(wanted, allowed)
    })?;
    let attempt = backoff.begin();
    state.health.begin(Timestamp::now());
    drop(state);
    Some(Task {
        shared: Arc::clone(shared),
        runtime: Arc::clone(runtime),
        opening: Some(opening),
        started: Timestamp::now(),
        attempt,
        generation: shared.generation.load(Ordering::Relaxed),
        is_hanging: false,
        is_coming: false,
        is_overdue: false,
    })
}

/// How many connections are missing.
fn wanted(shared: &Shared, state: &State, status: &PoolStatus, demand: Demand) -> usize {
    let due = shared.due.load(Ordering::Relaxed);
    let to_keep = state.to_keep(status.size);
    let to_keep = to_keep.saturating_add(due).saturating_sub(status.open);
    let unresponsive = shared.liveness.unresponsive_count();
    to_keep.max(demand.connections(status, unresponsive))
}

const fn under_way(backoff: &Backoff, status: &PoolStatus) -> UnderWay {
    UnderWay {
        all: status.connecting,
        hanging: backoff.hanging,
        coming: backoff.coming,
    }
}

/// One attempt, in the slot that is occupied for it.
struct Task {
    shared: Arc<Shared>,
    /// The runtime that it runs on.
    runtime: Arc<SocketRuntime>,
    opening: Option<Opening>,
    started: Timestamp,
    attempt: Attempt,
    generation: u64,
    /// It has had no answer for [`HANGING`], and the back-off counts it as hanging.
    is_hanging: bool,
    /// The server has accepted it, and the back-off counts it as coming.
    is_coming: bool,
    /// Its login has passed `connect_timeout`, and the back-off counts it as overdue.
    is_overdue: bool,
}

impl Task {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // If the pool closes first, dropping the task makes the slot vacant.
        let Some(outcome) = shared.unless_closing(self.open()).await else {
            return;
        };
        let Some(opening) = self.opening.take() else {
            return;
        };
        match outcome {
            Some(Ok(session)) if shared.is_closing() => session.quit().await,
            Some(Ok(session)) => self.opened(opening, session).await,
            Some(Err(not_opened)) => self.failed(opening, not_opened).await,
            None => drop(opening),
        }
        drop(self);
        fill(&shared, Demand::Waiting);
    }

    /// Opens the connection. If that hangs, records it in the back-off, so that another attempt can
    /// be made beside this one. `None` if it was given up: because others are enough, or after its
    /// failure was recorded.
    async fn open(&mut self) -> Option<Result<Session, NotOpened>> {
        let (shared, runtime) = (Arc::clone(&self.shared), Arc::clone(&self.runtime));
        let limit = shared.config.connect_timeout;
        let mut phase = ConnectPhase::Credentials;
        let login = Login::default();
        {
            let new = NewConnection {
                activities: &shared.activities,
                runtime: &runtime,
                generation: self.generation,
            };
            let opening = shared.opener.open(&mut phase, &login, new);
            let mut opening = pin!(opening);
            if let Ok(outcome) = timeout(HANGING.min(limit), &mut opening).await {
                return Some(outcome);
            }
            if HANGING < limit {
                self.hangs(HANGING);
                let left = limit.saturating_sub(HANGING);
                tokio::select! {
                    biased;
                    () = self.until_needless(&login) => return None,
                    outcome = timeout(left, &mut opening) => if let Ok(outcome) = outcome {
                        return Some(outcome);
                    }
                }
                self.set_coming(false);
            }
            if login.is_under_way() {
                self.overdue();
                tokio::select! {
                    biased;
                    // Polled first: an opening that reads without end would leave no budget for
                    // its timer.
                    () = self.until_given_up(&login) => return None,
                    outcome = opening => return Some(outcome),
                }
            }
        }
        Some(Err(ConnectError::timed_out(phase, limit).into()))
    }

    /// Records an attempt that hangs.
    fn hangs(&mut self, after: Duration) {
        let shared = &self.shared;
        self.is_hanging = true;
        let error = ConnectError::timed_out(ConnectPhase::Connect, after);
        let is_outage = shared.state().backoff.hangs(
            &mut self.attempt,
            error.clone(),
            Timestamp::now(),
            random(),
        );
        log_failure(shared, is_outage, &error);
        assess(shared);
    }

    /// Waits until the server has not accepted this hanging attempt, and those that it has accepted
    /// are enough. Meanwhile records whether this one is expected to succeed.
    async fn until_needless(&mut self, login: &Login) {
        loop {
            let is_accepted = login.is_under_way();
            let age = Timestamp::now().since(self.started);
            self.set_coming(is_accepted && age < COMING);
            if !is_accepted && is_enough(&self.shared) {
                return;
            }
            sleep(AGAIN).await;
        }
    }

    fn set_coming(&mut self, is_coming: bool) {
        if self.is_coming != is_coming {
            self.is_coming = is_coming;
            let backoff = &mut self.shared.state().backoff;
            backoff.coming = if is_coming {
                backoff.coming.saturating_add(1)
            } else {
                backoff.coming.saturating_sub(1)
            };
        }
    }

    /// Records the attempt as failed because its login has taken too long. But the login goes on: a
    /// frozen server counts each login that is given up, and refuses the whole host after
    /// `max_connect_errors` of them.
    fn overdue(&mut self) {
        let limit = self.shared.config.connect_timeout;
        if !self.is_hanging {
            self.hangs(limit);
        }
        let error = ConnectError::timed_out(ConnectPhase::Connect, limit);
        record_failure(&self.shared, self.attempt, &error);
        self.is_overdue = true;
        let now = Timestamp::now();
        self.shared.state().backoff.begin_overdue(limit, now);
        self.end();
    }

    /// Waits until this overdue login is to be given up. That is when a later attempt has worked
    /// and this one has had `connect_timeout` once more; or when another attempt needs its room,
    /// after growing pauses.
    async fn until_given_up(&self, login: &Login) {
        let shared = &self.shared;
        let limit = shared.config.connect_timeout;
        let answers = login.answers();
        let mut since = None;
        loop {
            let now = Timestamp::now();
            if login.answers() != answers || shared.liveness.opened_since(self.started) {
                since.get_or_insert(now);
            }
            let is_over = since.is_some_and(|at| now.since(at) >= limit);
            if is_over || since.is_none() && needs_room(shared, now) {
                return;
            }
            sleep(AGAIN).await;
        }
    }

    async fn opened(&self, opening: Opening, session: Session) {
        let shared = &self.shared;
        let now = Timestamp::now();
        let took = now.since(self.started);
        let id = session.origin.id;
        Span::current().record("connection", id);
        let seconds = took.as_secs_f64();
        debug!(
            pool = shared.name,
            connection = id,
            took = seconds,
            "connection opened"
        );
        shared.metrics.create_time.record(took);
        if let Some(server) = shared.opener.server() {
            shared.queries.record_flavor(server.flavor);
        }
        shared.liveness.record_answer(now);
        shared.liveness.record_opened(self.started);
        let remember = shared.slots.status().limit();
        let outage = shared.state().backoff.succeeded(took, remember, now);
        if let Some(outage) = outage {
            info!(
                pool = shared.name,
                failures = outage.failures,
                lasted = outage.lasted.as_secs_f64(),
                "connections can be opened again"
            );
        }
        if shared.is_outdated(&session) {
            // Begun before a refresh, perhaps with the old credentials or the old address.
            discard::record(shared, id, DiscardReason::Retired, None);
            session.quit().await;
            drop(opening);
        } else {
            drop(opening.fill(session));
            if shared.due.load(Ordering::Relaxed) > 0
                || shared.trims_on_return.load(Ordering::Relaxed)
            {
                // The connection it replaces can be closed, or it is surplus itself by now.
                shared.notify_maintenance();
            }
        }
        self.end();
    }

    async fn failed(&self, opening: Opening, not_opened: NotOpened) {
        let shared = &self.shared;
        record_failure(shared, self.attempt, &not_opened.error);
        // Waiters are notified before `COM_QUIT` is sent, because the server may be slow to take
        // it. The slot stays occupied until the socket is closed.
        self.end();
        let _closing = shared.unless_closing(not_opened.quit()).await;
        drop(opening);
        self.end();
    }

    fn end(&self) {
        assess(&self.shared);
        self.shared.notify_waiters();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.is_hanging {
            let backoff = &mut self.shared.state().backoff;
            backoff.hanging = backoff.hanging.saturating_sub(1);
            let coming = usize::from(self.is_coming);
            backoff.coming = backoff.coming.saturating_sub(coming);
            let overdue = usize::from(self.is_overdue);
            backoff.overdue = backoff.overdue.saturating_sub(overdue);
        }
        // A panic outside the opening. Without the back-off, it would be repeated at once, again
        // and again.
        if std::thread::panicking() {
            let error = ConnectError::panicked(ConnectPhase::Connect, &());
            record_failure(&self.shared, self.attempt, &error);
        }
    }
}

/// Whether no attempt is needed besides those that are expected to succeed.
fn is_enough(shared: &Shared) -> bool {
    let state = shared.state();
    let status = shared.slots.status();
    let wanted = wanted(shared, &state, &status, Demand::Overdue);
    under_way(&state.backoff, &status).is_enough(wanted)
}

/// Whether to give up an overdue login: connections are missing, and such logins take up all the
/// room for another attempt.
fn needs_room(shared: &Shared, now: Timestamp) -> bool {
    let mut state = shared.state();
    let status = shared.slots.status();
    let is_wanted = status.waiting > 0 || status.open < state.to_keep(status.size);
    let is_full = status.open.saturating_add(status.connecting) >= status.limit();
    let is_only_overdue = status.connecting <= state.backoff.overdue;
    is_wanted && is_full && is_only_overdue && state.backoff.may_give_up(now)
}

fn record_failure(shared: &Shared, attempt: Attempt, error: &ConnectError) {
    shared.metrics.failed_attempts.add_one();
    let is_outage =
        shared
            .state()
            .backoff
            .failed(attempt, error.clone(), Timestamp::now(), random());
    log_failure(shared, is_outage, error);
}

fn log_failure(shared: &Shared, is_outage: bool, error: &ConnectError) {
    if is_outage {
        warn!(pool = shared.name, %error, "connections cannot be opened");
    } else {
        debug!(pool = shared.name, %error, "connection not opened");
    }
    shared.notify_maintenance();
}
