//! Waits for a connection that is returned, opened or validated, whichever comes first, under one
//! deadline.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::future::OptionFuture;
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use crate::{
    engine::{
        backoff::Mark,
        runtime,
        slots::{Lease, Turn},
    },
    error::{Error, TimeoutCause},
    report::{DiscardReason, Holders, PoolStatus},
    session::runtime::SignOfLife,
    shared::Shared,
    telemetry::Stopwatch,
    time::Timestamp,
};

use super::{
    discard::discard,
    get::{CalledAt, hand_out, log_handed_out, needs_validation},
    maintain,
    open::{Demand, fill},
    validate::validate_in_background,
};

/// A connection that is being cleaned or validated usually serves a caller sooner than a new one.
/// After this time, that is no longer expected.
const PATIENCE: Duration = Duration::from_millis(5);

/// A caller that found no usable idle connection.
pub(super) struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    turn: Turn,
    /// Connections that are being validated for this caller.
    validating: Vec<oneshot::Receiver<Lease>>,
    /// Notified when an attempt to open a connection ends, and when the pool closes.
    attempts: watch::Receiver<()>,
    /// A permanent failure after this ends the wait, if no connection is open.
    mark: Mark,
    stopwatch: Stopwatch,
    is_counted: bool,
    /// On another runtime than the pool's: notified once that one has run something since the wait
    /// began.
    sign_of_life: Option<SignOfLife>,
}

/// What ends a caller's wait in the queue.
enum Next {
    /// It is its turn. The connection may have to be validated.
    Turn(Lease),
    Validated(Lease),
    /// Nothing yet, or every connection that was validated for it turned out to be dead.
    Again,
}

impl<'a> Waiting<'a> {
    /// Waits for a connection, `stale` or another, within `limit`.
    pub(super) async fn get(
        shared: &'a Arc<Shared>,
        limit: Duration,
        stale: Option<Lease>,
        called_at: CalledAt,
    ) -> Result<Lease, Error> {
        let began = Timestamp::now();
        let mut waiting = Self {
            shared,
            turn: shared.slots.turn(),
            validating: Vec::new(),
            attempts: shared.attempts.subscribe(),
            mark: shared.state().backoff.mark(),
            stopwatch: Stopwatch::start(began, TimeoutCause::Exhausted),
            // A caller that found an idle connection does not count as waiting for one.
            is_counted: stale.is_some(),
            sign_of_life: None,
        };
        let outcome = runtime::within(limit, waiting.wait(stale))?.await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(waiting.timed_out(began)),
        };
        waiting.finish(outcome, called_at)
    }

    async fn wait(&mut self, stale: Option<Lease>) -> Result<Lease, Error> {
        if self.shared.is_closing() {
            return Err(Error::Closed);
        }
        self.stopwatch.switch(TimeoutCause::RuntimeNotDriven);
        maintain::until_driven(self.shared, &mut self.sign_of_life).await?;
        let mut next = stale.map_or(Next::Again, Next::Turn);
        loop {
            match next {
                Next::Validated(lease) => return Ok(lease),
                Next::Turn(lease) => {
                    self.turn.keeps_place = true;
                    if let Some(lease) = self.use_or_validate(lease).await {
                        return Ok(lease);
                    }
                }
                Next::Again => {}
            }
            next = self.queue().await?;
        }
    }

    /// Waits in the queue, and at the same time for the connections being validated.
    ///
    /// If dropped at any await, it leaves the queue; a connection that it was about to get goes to
    /// the next caller.
    async fn queue(&mut self) -> Result<Next, Error> {
        let shared = self.shared;
        // A caller that still waits for a validation has no precedence in the queue: it would
        // collect one connection after the other.
        let mut turn = self.turn;
        turn.keeps_place &= self.validating.is_empty();
        let mut take = pin!(shared.slots.take(turn));
        if let Some(lease) = poll_once(take.as_mut()).await {
            return Ok(Next::Turn(lease));
        }
        // From here on the status counts this caller as waiting.
        let mut is_patient = self.begin_waiting();
        let patience = is_patient.then(|| sleep(PATIENCE));
        let mut patience = pin!(OptionFuture::from(patience));
        loop {
            tokio::select! {
                biased;
                lease = first_of(&mut self.validating), if !self.validating.is_empty() => {
                    return Ok(lease.map_or(Next::Again, Next::Validated));
                }
                lease = &mut take => return Ok(Next::Turn(lease)),
                // The sender lives as long as `shared`.
                _ = self.attempts.changed() => {}
                _ = &mut patience, if is_patient => {
                    is_patient = false;
                    fill(shared, Demand::Overdue);
                }
            }
            self.look_again()?;
        }
    }

    /// Returns the connection if it can be handed out, at once or after a short validation.
    async fn use_or_validate(&mut self, lease: Lease) -> Option<Lease> {
        let shared = self.shared;
        if lease.origin.runtime.has_ended() {
            // Opened before the pool moved to another one.
            discard(shared, lease, DiscardReason::RuntimeGone);
            return None;
        }
        if !needs_validation(shared, &lease, Timestamp::now()) {
            return Some(lease);
        }
        self.stopwatch.switch(TimeoutCause::Validating);
        self.validating.push(validate_in_background(shared, lease));
        // Usually the answer arrives within a millisecond. If not, the connection may be dead, and
        // another is tried beside it.
        let validated = timeout(PATIENCE, first_of(&mut self.validating));
        validated.await.ok().flatten()
    }

    /// Counts this caller as waiting, and opens connections if the limit has room. Returns whether
    /// it has.
    fn begin_waiting(&mut self) -> bool {
        let shared = self.shared;
        let status = shared.slots.status();
        if status.waiting > 0 && !std::mem::replace(&mut self.is_counted, true) {
            shared.metrics.gets_waited.add_one();
            if status.in_use.saturating_add(status.cleaning) < status.size {
                shared.metrics.gets_waited_below_size.add_one();
            }
        }
        let has_room = status.open.saturating_add(status.connecting) < status.limit();
        if has_room {
            fill(shared, Demand::Waiting);
            self.stopwatch.switch(self.cause(&shared.slots.status()));
        } else {
            self.stopwatch.switch(self.cause(&status));
        }
        has_room
    }

    /// Ends the wait with an error if the pool is closing, or if waiting cannot help. Otherwise
    /// records what this caller is waiting for.
    fn look_again(&mut self) -> Result<(), Error> {
        let shared = self.shared;
        if shared.is_closing() {
            return Err(Error::Closed);
        }
        // Perhaps its runtime has ended. Then the maintenance opens anew on this one.
        maintain::enter(shared)?;
        let status = shared.slots.status();
        if status.open == 0 {
            let error = shared.state().backoff.permanent_since(self.mark);
            if let Some(error) = error {
                return Err(Error::Connect(error));
            }
        }
        self.stopwatch.switch(self.cause(&status));
        Ok(())
    }

    /// What this caller is waiting for now.
    fn cause(&self, status: &PoolStatus) -> TimeoutCause {
        let only_validated = status.in_use == 0 && status.cleaning > 0;
        if !self.validating.is_empty() || only_validated {
            TimeoutCause::Validating
        } else if status.open >= status.limit() {
            TimeoutCause::Exhausted
        } else if self.shared.state().backoff.error().is_some() {
            TimeoutCause::Unavailable
        } else if status.connecting > 0 {
            TimeoutCause::Connecting
        } else {
            TimeoutCause::Exhausted
        }
    }

    fn timed_out(&self, began: Timestamp) -> Error {
        let shared = self.shared;
        shared.metrics.timeouts.add_one();
        let status = shared.slots.status();
        let cause = if self
            .sign_of_life
            .as_ref()
            .is_some_and(SignOfLife::is_missing)
        {
            TimeoutCause::RuntimeNotDriven
        } else {
            self.cause(&status)
        };
        let now = Timestamp::now();
        let holders = (cause == TimeoutCause::Exhausted).then(|| {
            let holds = shared.slots.holds().into_iter();
            let holds = holds.map(|(since, got_at)| (now.since(since), got_at));
            Box::new(Holders::of(holds.collect(), status.in_use))
        });
        Error::Timeout {
            cause,
            waited: now.since(began),
            status,
            holders,
            source: shared.state().backoff.error().cloned(),
        }
    }

    fn finish(self, outcome: Result<Lease, Error>, called_at: CalledAt) -> Result<Lease, Error> {
        let shared = self.shared;
        let now = Timestamp::now();
        let waited = self.stopwatch.stop(now);
        let total = waited.total();
        if shared.config.slow_get.is_some_and(|slow| total > slow) {
            let status = shared.slots.status();
            let error = outcome.as_ref().err();
            shared
                .slow_gets
                .log(&shared.name, &waited, status, error, now);
        }
        let lease = outcome?;
        shared.metrics.wait_time.record(total);
        hand_out(shared, &lease, now, called_at);
        log_handed_out(shared, &lease, total);
        Ok(lease)
    }
}

/// Waits for the first connection found valid; `None` if none of them was.
async fn first_of(validating: &mut Vec<oneshot::Receiver<Lease>>) -> Option<Lease> {
    poll_fn(|cx| {
        let mut valid = None;
        validating.retain_mut(|receiver| {
            if valid.is_some() {
                return true;
            }
            match Pin::new(receiver).poll(cx) {
                Poll::Ready(outcome) => {
                    valid = outcome.ok();
                    false
                }
                Poll::Pending => true,
            }
        });
        match valid {
            Some(lease) => Poll::Ready(Some(lease)),
            None if validating.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
        }
    })
    .await
}

async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
