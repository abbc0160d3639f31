//! From asking to having: one deadline over one loop, in one fair queue.

use std::{
    future::{Future, pending, poll_fn},
    panic::Location,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use mysql_async::Conn;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Sleep, sleep, timeout},
};
use tracing::{Instrument, Span, level_filters::LevelFilter, trace, trace_span};

use crate::{
    connection::PooledConn,
    engine::{deadlines::Missed, slots::Filled},
    error::{Error, TimeoutCause},
    lifecycle::{clean as cleaning, maintain as keeper},
    report::discard::DiscardReason,
    shared::Connector,
    telemetry::slow::Stopwatch,
    time::Timestamp,
};

/// A connection being cleaned or proved usually serves a caller sooner than another; not after this.
const PATIENCE: Duration = Duration::from_millis(5);

/// What an idle connection is, once taken.
enum AtOnce {
    /// Proved lately: as it is.
    Fresh(PooledConn),
    /// To be proved first.
    Stale(Filled),
    /// There is none.
    None,
}

pub(crate) async fn get(
    connector: &Arc<Connector>,
    limit: Duration,
    got_at: &'static Location<'static>,
) -> Result<PooledConn, Error> {
    // Asked for once: a span that nobody wants costs more than all the rest.
    let is_traced = LevelFilter::current() == LevelFilter::TRACE;
    let stale = match at_once(connector, got_at)? {
        AtOnce::Fresh(conn) => {
            if is_traced {
                span(connector).in_scope(|| tell_lent(connector, &conn, Duration::ZERO));
            }
            return Ok(conn);
        }
        AtOnce::Stale(filled) => Some(filled),
        AtOnce::None => None,
    };
    let waiting = in_time(connector, limit, stale, got_at);
    if is_traced {
        Box::pin(waiting.instrument(span(connector))).await
    } else {
        waiting.await
    }
}

#[cold]
fn span(connector: &Connector) -> Span {
    trace_span!("get", pool = connector.name)
}

fn tell_lent(connector: &Connector, conn: &Conn, waited: Duration) {
    trace!(
        pool = connector.name,
        connection = conn.id(),
        waited = waited.as_secs_f64(),
        "connection lent"
    );
}

/// One deadline over the waiting; knows what the time went on.
async fn in_time(
    connector: &Arc<Connector>,
    limit: Duration,
    stale: Option<Filled>,
    got_at: &'static Location<'static>,
) -> Result<PooledConn, Error> {
    let begun = Timestamp::now();
    let mut stopwatch = Stopwatch::start(begun, TimeoutCause::Exhausted);
    let mut proving = Vec::new();
    let outcome = {
        // Out of the queue again before the pool is looked at.
        let waiting = pin!(wait(connector, stale, &mut proving, &mut stopwatch));
        connector.deadlines.timeout(begun, limit, waiting).await
    };
    let ended = match &outcome {
        Ok(Ok((_, had_at))) => *had_at,
        _ => Timestamp::now(),
    };
    if matches!(&outcome, Err(missed) if *missed != Missed::Runtime) {
        stopwatch.switch(cause(connector, &proving));
    }
    let cause = stopwatch.cause();
    let spent = stopwatch.stop(ended);
    let waited = spent.total();
    let outcome = outcome.unwrap_or_else(|missed| {
        if missed == Missed::Runtime {
            return Err(Error::NoRuntime);
        }
        connector.metrics.timeouts.add_one();
        let status = connector.slots.status();
        let source = connector.last_error();
        Err(Error::Timeout {
            cause,
            waited,
            status,
            holders: (cause == TimeoutCause::Exhausted).then(|| Box::new(connector.holders())),
            source,
        })
    });
    if connector.config.slow_get.is_some_and(|slow| waited > slow) {
        let (name, status) = (&connector.name, connector.slots.status());
        let slow = &connector.slow_gets;
        slow.log(name, &spent, status, outcome.as_ref().err(), ended);
    }
    let (filled, _) = outcome?;
    connector.metrics.wait_time.record(waited);
    tell_lent(connector, &filled.conn, waited);
    Ok(PooledConn::new(
        filled,
        Arc::clone(connector),
        ended,
        got_at,
    ))
}

/// A proved idle connection, now or never.
pub(crate) fn try_get(
    connector: &Arc<Connector>,
    got_at: &'static Location<'static>,
) -> Option<PooledConn> {
    match at_once(connector, got_at) {
        Ok(AtOnce::Fresh(conn)) => {
            tell_lent(connector, &conn, Duration::ZERO);
            Some(conn)
        }
        Ok(AtOnce::Stale(filled)) => {
            // For the next who asks.
            drop(begin_proof(connector, filled));
            None
        }
        Ok(AtOnce::None) | Err(_) => None,
    }
}

fn at_once(
    connector: &Arc<Connector>,
    got_at: &'static Location<'static>,
) -> Result<AtOnce, Error> {
    if connector.closing.is_given() {
        return Err(Error::Closed);
    }
    let Some(filled) = connector.slots.try_take() else {
        keeper::enter(connector)?;
        return Ok(AtOnce::None);
    };
    let here = Handle::try_current().map_err(|_outside_of_any| Error::NoRuntime)?;
    if filled.birth.runtime.id() != here.id() {
        // Idle again before the pool looks whether it may move here.
        drop(filled);
        keeper::enter(connector)?;
        return Ok(AtOnce::None);
    }
    let now = Timestamp::now();
    if connector.needs_proof(&filled, now) {
        return Ok(AtOnce::Stale(filled));
    }
    connector.metrics.wait_time.record_none();
    Ok(AtOnce::Fresh(PooledConn::new(
        filled,
        Arc::clone(connector),
        now,
        got_at,
    )))
}

/// Waits for whichever comes first: a connection returned, newly opened, or proved.
///
/// Dropped at any await, it leaves the queue; what it asked for becomes idle. Says also when it had what it has.
async fn wait(
    connector: &Arc<Connector>,
    mut stale: Option<Filled>,
    proving: &mut Vec<oneshot::Receiver<Filled>>,
    stopwatch: &mut Stopwatch,
) -> Result<(Filled, Timestamp), Error> {
    let ended_before = connector.ended();
    let mut news = connector.deadlines.news();
    if connector.closing.is_given() {
        // Given before the news was counted: nothing would tell of it.
        return Err(Error::Closed);
    }
    let mut counted = stale.is_some();
    let mut turn = connector.slots.turn();
    let mut was_served = stale.is_some();
    'again: loop {
        if let Some(filled) = stale.take() {
            stopwatch.switch(TimeoutCause::Validating);
            proving.push(begin_proof(connector, filled));
            // Usually it is there in a moment. If not, it may be dead: the next is tried beside it.
            if let Ok(Some(filled)) = timeout(PATIENCE, first_of(proving)).await {
                return Ok((filled, Timestamp::now()));
            }
        }
        // Who was given what turned out to be dead is not overtaken by those who came later. Who only waits for a proof is
        // in no hurry: with precedence it would collect one connection after the other, to prove them all.
        turn.was_served = was_served && proving.is_empty();
        let mut take = pin!(connector.slots.take(turn));
        let mut next = poll_fn(|cx| Poll::Ready(take.as_mut().poll(cx))).await;
        let mut patient = false;
        if next.is_pending() && !counted && connector.slots.is_full() {
            // The usual case, in which there is nothing to open and nothing more to count.
            counted = true;
            connector.metrics.gets_waited.add_one();
            // Without a look at the slots, whose lock all waiting callers share.
            stopwatch.switch(if proving.is_empty() {
                TimeoutCause::Exhausted
            } else {
                TimeoutCause::Validating
            });
        } else if next.is_pending() {
            // Now that this caller is counted among those who wait. Who met the keeper in the middle of
            // its sweep has been served meanwhile.
            let status = connector.slots.status();
            if status.waiting > 0 && !std::mem::replace(&mut counted, true) {
                connector.metrics.gets_waited.add_one();
                if status.in_use.saturating_add(status.cleaning) < status.size {
                    connector.metrics.gets_waited_below_size.add_one();
                }
            }
            stopwatch.switch(cause(connector, proving));
            if status.open.saturating_add(status.connecting) < status.limit() {
                connector.fill();
                patient = true;
                stopwatch.switch(cause(connector, proving));
            }
        }
        let mut patience = pin!(patient.then(|| sleep(PATIENCE)));
        let filled = loop {
            if let Poll::Ready(filled) = next {
                break filled;
            }
            tokio::select! {
                biased;
                proved = first_of(proving), if !proving.is_empty() => {
                    if let Some(filled) = proved {
                        return Ok((filled, Timestamp::now()));
                    }
                    stopwatch.switch(cause(connector, proving));
                    continue 'again;
                }
                filled = &mut take => next = filled.into(),
                () = told(connector, &mut news) => {
                    if connector.closing.is_given() {
                        return Err(Error::Closed);
                    }
                    // With nothing open, a failure that lasts is the answer to all who wait.
                    if connector.slots.status().open == 0
                        && let Some(error) = connector.lasting_since(ended_before)
                    {
                        return Err(Error::Connect(error));
                    }
                    stopwatch.switch(cause(connector, proving));
                }
                () = passed(patience.as_mut()), if patient => {
                    patient = false;
                    connector.fill_for_waiting();
                    stopwatch.switch(cause(connector, proving));
                }
            }
        };
        was_served = true;
        if filled.birth.runtime.id() != Handle::current().id() {
            // Opened before the pool moved here.
            cleaning::discard(connector, filled, DiscardReason::RuntimeGone);
            continue;
        }
        let now = Timestamp::now();
        if connector.needs_proof(&filled, now) {
            stale = Some(filled);
        } else {
            return Ok((filled, now));
        }
    }
}

/// What a caller waits for now.
fn cause(connector: &Connector, proving: &[oneshot::Receiver<Filled>]) -> TimeoutCause {
    let status = connector.slots.status();
    let only_validated = status.in_use == 0 && status.cleaning > 0;
    if !proving.is_empty() || only_validated {
        TimeoutCause::Validating
    } else if status.open >= status.limit() {
        TimeoutCause::Exhausted
    } else if connector.last_error().is_some() {
        TimeoutCause::Unavailable
    } else if status.connecting > 0 {
        TimeoutCause::Connecting
    } else {
        TimeoutCause::Exhausted
    }
}

/// Proves a connection in a task of its own: a caller that gives up wastes nothing.
fn begin_proof(connector: &Arc<Connector>, filled: Filled) -> oneshot::Receiver<Filled> {
    let (sender, receiver) = oneshot::channel();
    let runtime = filled.birth.runtime.clone();
    let tending = connector.slots.tend(filled);
    let connector = Arc::clone(connector);
    drop(runtime.spawn(async move {
        if let Some(filled) = cleaning::prove(&connector, tending).await {
            // Nobody there any more: dropped, it is idle, and the first in the queue has it.
            if let Err(filled) = sender.send(filled) {
                cleaning::make_idle(&connector, filled);
            }
        }
    }));
    receiver
}

/// The first connection to be proved; `None` when none of them was.
async fn first_of(proving: &mut Vec<oneshot::Receiver<Filled>>) -> Option<Filled> {
    poll_fn(|cx| {
        let mut proved = None;
        proving.retain_mut(|receiver| {
            if proved.is_some() {
                return true;
            }
            match Pin::new(receiver).poll(cx) {
                Poll::Ready(outcome) => {
                    proved = outcome.ok();
                    false
                }
                Poll::Pending => true,
            }
        });
        match proved {
            Some(filled) => Poll::Ready(Some(filled)),
            None if proving.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
        }
    })
    .await
}

/// Resolves when all who wait have been told of something since. Whoever waits within `Deadlines::timeout` is woken for it.
async fn told(connector: &Connector, news: &mut u64) {
    poll_fn(|_| {
        let known = std::mem::replace(news, connector.deadlines.news());
        if known == *news {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

async fn passed(sleep: Pin<&mut Option<Sleep>>) {
    match sleep.as_pin_mut() {
        Some(sleep) => sleep.await,
        None => pending().await,
    }
}
