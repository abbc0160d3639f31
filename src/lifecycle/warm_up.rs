//! Warms the pool up: waits until `size` connections are open, and reports. The attempts themselves
//! are made by [`open`](super::open).

use std::{fmt::Display, sync::Arc, time::Duration};

use mysql_async::prelude::Queryable;
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::{Instrument, info, info_span, warn};

use crate::{
    engine::backoff::Mark,
    error::Error,
    report::{ConnectTime, DiscardReason, ServerInfo, WarmUpReport, Warning},
    session::Session,
    shared::Shared,
    time::Timestamp,
};

use super::{
    assess::assess,
    discard::discard_cleaning,
    maintain,
    open::{Demand, fill},
};

/// Opens, initialises and validates `size` connections.
///
/// If dropped at any await, nothing is lost: what was opened stays, and attempts go on.
pub(crate) async fn warm_up(shared: &Arc<Shared>) -> Result<WarmUpReport, Error> {
    let span = info_span!("warm_up", pool = shared.name);
    warm_up_in_span(shared).instrument(span).await
}

async fn warm_up_in_span(shared: &Arc<Shared>) -> Result<WarmUpReport, Error> {
    if shared.is_closing() {
        return Err(Error::Closed);
    }
    maintain::enter(shared)?;
    let started = Instant::now();
    let mark = shared.state().backoff.mark();
    shared.state().health.begin(Timestamp::now());
    assess(shared);
    fill(shared, Demand::Waiting);
    let mut count = None;
    let filling = until_filled(shared, mark, &mut count);
    let filled = timeout(shared.config.warm_up_timeout, filling).await;
    // If the time is over, the pool may be Degraded from now on, and the caller may ask.
    assess(shared);
    if matches!(filled, Ok(Err(Error::Closed))) {
        return Err(Error::Closed);
    }
    let threads_connected = match &filled {
        Ok(Ok(())) if has_room(shared, count).await => None,
        Ok(Ok(())) => count_threads(shared).await,
        _ => None,
    };
    let report = report(shared, mark, started.elapsed(), threads_connected);
    if report.opened > 0 {
        shared.metrics.record_warm_up(report.elapsed);
    }
    let source = match filled {
        Ok(Err(Error::Connect(error))) => Some(error),
        Err(_elapsed) if report.open < shared.config.ready_threshold(report.target) => {
            shared.state().backoff.error().cloned()
        }
        Ok(Err(_)) => None,
        Ok(Ok(())) | Err(_) => {
            log_finished(shared, &report);
            return Ok(report);
        }
    };
    log_incomplete(shared, &report, source.as_ref());
    Err(Error::WarmUp {
        report: Box::new(report),
        source,
    })
}

fn log_finished(shared: &Shared, report: &WarmUpReport) {
    info!(
        pool = shared.name,
        target = report.target,
        open = report.open,
        opened = report.opened,
        failed_attempts = report.failed_attempts,
        took = report.elapsed.as_secs_f64(),
        server = report.server.as_ref().map(tracing::field::display),
        "warm-up finished"
    );
    for warning in &report.warnings {
        warn!(pool = shared.name, %warning, "configuration warning");
    }
}

fn log_incomplete(shared: &Shared, report: &WarmUpReport, error: Option<&impl Display>) {
    warn!(
        pool = shared.name,
        target = report.target,
        open = report.open,
        attempts = report.attempts,
        failed_attempts = report.failed_attempts,
        took = report.elapsed.as_secs_f64(),
        error = error.map(tracing::field::display),
        "warm-up incomplete"
    );
}

/// Waits until `size` connections are open, or an attempt fails for a permanent reason. Begins to
/// count the server's connections as soon as one is open.
async fn until_filled(
    shared: &Arc<Shared>,
    mark: Mark,
    count: &mut Option<JoinHandle<Option<u64>>>,
) -> Result<(), Error> {
    let mut attempts = shared.attempts.subscribe();
    loop {
        if shared.is_closing() {
            return Err(Error::Closed);
        }
        let status = shared.slots.status();
        if status.open >= status.size {
            return Ok(());
        }
        if count.is_none() && status.idle > 0 {
            *count = Some(count_others(shared));
        }
        let error = shared.state().backoff.permanent_since(mark);
        if let Some(error) = error {
            return Err(Error::Connect(error));
        }
        // The sender lives as long as `shared`.
        if attempts.changed().await.is_err() {
            return Err(Error::Closed);
        }
    }
}

fn report(
    shared: &Shared,
    mark: Mark,
    elapsed: Duration,
    threads_connected: Option<u64>,
) -> WarmUpReport {
    let status = shared.slots.status();
    let since = shared.state().backoff.since(mark);
    let server = shared.opener.server();
    let warnings = server
        .as_ref()
        .map(|server| warnings(shared, server, threads_connected))
        .unwrap_or_default();
    WarmUpReport {
        target: status.size,
        open: status.open,
        opened: since.times.len(),
        attempts: since.attempts,
        failed_attempts: since.failed,
        elapsed,
        connect_time: ConnectTime::of(since.times),
        last_error: since.last_error.map(|error| error.to_string()),
        server,
        warnings,
    }
}

/// Whether the server certainly has room for the whole limit, by a count made while connections
/// were opened. If so, an exact count, which costs one more round trip at the end, is not needed.
async fn has_room(shared: &Shared, count: Option<JoinHandle<Option<u64>>>) -> bool {
    let Some(count) = count else {
        return false;
    };
    let (Ok(Some(others)), Some(server)) = (count.await, shared.opener.server()) else {
        return false;
    };
    let limit = u64::try_from(shared.slots.status().limit()).unwrap_or(u64::MAX);
    limit.saturating_add(others) <= server.max_connections
}

/// Counts the server's connections other than this pool's open ones. Those that it is opening are
/// counted.
///
/// Runs in a new task beside the openings, so that dropping the warm-up loses no connection.
fn count_others(shared: &Arc<Shared>) -> JoinHandle<Option<u64>> {
    let own = u64::try_from(shared.slots.status().open).unwrap_or(u64::MAX);
    let shared = Arc::clone(shared);
    Handle::current().spawn(async move { Some(count_threads(&shared).await?.saturating_sub(own)) })
}

/// Asks the server, on an idle connection, how many connections it has in total.
async fn count_threads(shared: &Arc<Shared>) -> Option<u64> {
    let lease = shared.slots.try_take()?;
    let runtime = lease.origin.runtime.clone();
    let mut cleaning = shared.slots.begin_cleaning(lease);
    let limit = shared.config.connect_timeout;
    let shared = Arc::clone(shared);
    // In a new task, so that dropping the warm-up here loses no connection.
    let asking = runtime.spawn(async move {
        let answer = timeout(limit, threads_connected(cleaning.session()?)).await;
        if let Ok(Ok(count)) = answer {
            drop(cleaning.finish());
            return count;
        }
        discard_cleaning(&shared, cleaning, DiscardReason::ValidationFailed).await;
        None
    });
    asking.await.ok()?
}

async fn threads_connected(session: &mut Session) -> mysql_async::Result<Option<u64>> {
    session
        .command(async |conn| {
            let question = "SHOW GLOBAL STATUS LIKE 'Threads_connected'";
            let row: Option<(String, u64)> = conn.query_first(question).await?;
            Ok(row.map(|(_, count)| count))
        })
        .await
}

fn warnings(shared: &Shared, server: &ServerInfo, threads_connected: Option<u64>) -> Vec<Warning> {
    let config = &shared.config;
    let status = shared.slots.status();
    let limit = u64::try_from(status.limit()).unwrap_or(u64::MAX);
    let ours = u64::try_from(status.open).unwrap_or(u64::MAX);
    let others = threads_connected.map_or(0, |all| all.saturating_sub(ours));
    let mut warnings = Vec::new();
    let allowances = [
        ("max_connections", server.max_connections, others),
        ("max_user_connections", server.max_user_connections, 0),
    ];
    for (setting, most, others) in allowances {
        let allowed = most.saturating_sub(others);
        // 0 means that the server has no limit of its own.
        if most > 0 && limit > allowed {
            warnings.push(Warning::LimitTooHigh {
                limit: status.limit(),
                allowed,
                setting,
            });
        }
    }
    let wait_timeout = server.wait_timeout;
    let too_long = |time: Option<Duration>| {
        !wait_timeout.is_zero() && time.is_none_or(|time| time >= wait_timeout)
    };
    // A `recycle` of never is no problem if connections are kept alive.
    if too_long(config.recycle) && (config.recycle.is_some() || too_long(config.keepalive)) {
        warnings.push(Warning::RecycleNotBelowWaitTimeout {
            recycle: config.recycle,
            wait_timeout,
        });
    }
    if too_long(config.keepalive) {
        warnings.push(Warning::KeepaliveNotBelowWaitTimeout {
            keepalive: config.keepalive,
            wait_timeout,
        });
    }
    if server.read_only {
        warnings.push(Warning::ReadOnly);
    }
    warnings
}
