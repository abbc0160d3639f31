//! The fill and its report: waits for what the connector does, and does nothing itself.

use std::{
    fmt::Display,
    sync::Arc,
    time::{Duration, Instant},
};

use mysql_async::prelude::Queryable;
use tokio::{task::JoinHandle, time::timeout};
use tracing::{Instrument, info, info_span, warn};

use crate::{
    engine::backoff::Mark,
    error::Error,
    lifecycle::maintain as keeper,
    report::{ConnectTime, ServerInfo, WarmUpReport, Warning},
    session::Session,
    shared::Connector,
};

/// Opens, initialises and proves `size` connections, or says how far it came.
///
/// Dropped at any await, it loses nothing: the connector opens what it was asked for.
pub(crate) async fn warm_up(connector: &Arc<Connector>) -> Result<WarmUpReport, Error> {
    let span = info_span!("warm_up", pool = connector.name);
    fill(connector).instrument(span).await
}

async fn fill(connector: &Arc<Connector>) -> Result<WarmUpReport, Error> {
    if connector.closing.is_given() {
        return Err(Error::Closed);
    }
    keeper::enter(connector)?;
    let started = Instant::now();
    let mark = connector.mark();
    connector.begin();
    connector.fill();
    let mut counting = None;
    let filling = until_filled(connector, mark, &mut counting);
    let filled = timeout(connector.config.warm_up_timeout, filling).await;
    if let Ok(Err(Error::Closed)) = filled {
        return Err(Error::Closed);
    }
    let all = match &filled {
        Ok(Ok(())) if leaves_room(connector, counting).await => None,
        Ok(Ok(())) => count_all(connector).await,
        _ => None,
    };
    let report = report(connector, mark, started.elapsed(), all);
    let needed = connector.config.ready_threshold(report.target);
    if report.opened > 0 {
        connector.metrics.record_warm_up(report.elapsed);
    }
    match filled {
        Ok(Err(error)) => {
            tell_not_warm(connector, &report, Some(&error));
            let source = match error {
                Error::Connect(error) => Some(error),
                _ => None,
            };
            Err(Error::WarmUp {
                report: Box::new(report),
                source,
            })
        }
        Err(_elapsed) if report.open < needed => {
            let source = connector.last_error();
            tell_not_warm(connector, &report, source.as_ref());
            Err(Error::WarmUp {
                report: Box::new(report),
                source,
            })
        }
        Ok(Ok(())) | Err(_) => {
            tell_warm(connector, &report);
            Ok(report)
        }
    }
}

fn tell_warm(connector: &Connector, report: &WarmUpReport) {
    info!(
        pool = connector.name,
        target = report.target,
        open = report.open,
        opened = report.opened,
        failed_attempts = report.failed_attempts,
        took = report.elapsed.as_secs_f64(),
        server = report.server.as_ref().map(tracing::field::display),
        "warm"
    );
    for warning in &report.warnings {
        warn!(pool = connector.name, %warning, "likely to hurt later");
    }
}

fn tell_not_warm(connector: &Connector, report: &WarmUpReport, error: Option<&impl Display>) {
    warn!(
        pool = connector.name,
        target = report.target,
        open = report.open,
        attempts = report.attempts,
        failed_attempts = report.failed_attempts,
        took = report.elapsed.as_secs_f64(),
        error = error.map(tracing::field::display),
        "not warm"
    );
}

async fn until_filled(
    connector: &Arc<Connector>,
    mark: Mark,
    counting: &mut Option<JoinHandle<Option<u64>>>,
) -> Result<(), Error> {
    let mut progress = connector.progress();
    loop {
        if connector.closing.is_given() {
            return Err(Error::Closed);
        }
        let status = connector.slots.status();
        if status.open >= status.size {
            return Ok(());
        }
        if counting.is_none() && status.idle > 0 {
            *counting = begin_counting(connector);
        }
        if let Some(error) = connector.lasting_since(mark.ended) {
            return Err(Error::Connect(error));
        }
        if progress.changed().await.is_err() {
            return Err(Error::Closed);
        }
    }
}

fn report(
    connector: &Connector,
    mark: Mark,
    elapsed: Duration,
    threads_connected: Option<u64>,
) -> WarmUpReport {
    let status = connector.slots.status();
    let since = connector.since(mark);
    let server = connector.opener.server();
    let warnings = server
        .as_ref()
        .map(|server| warnings(connector, server, threads_connected))
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

/// Whether the server has room for the whole limit for certain, by a count made while connections were opened:
/// then it need not be counted exactly, which takes a turn after the last one.
async fn leaves_room(connector: &Connector, counting: Option<JoinHandle<Option<u64>>>) -> bool {
    let Some(counting) = counting else {
        return false;
    };
    let (Ok(Some(others)), Some(server)) = (counting.await, connector.opener.server()) else {
        return false;
    };
    let limit = u64::try_from(connector.slots.status().limit()).unwrap_or(u64::MAX);
    limit.saturating_add(others) <= server.max_connections
}

/// Begins to count the server's connections that may not be ours: those that are being opened are among them.
///
/// In a task of its own, beside the openings; a warm-up that is dropped loses no connection.
fn begin_counting(connector: &Arc<Connector>) -> Option<JoinHandle<Option<u64>>> {
    let ours = u64::try_from(connector.slots.status().open).unwrap_or(u64::MAX);
    let connector = Arc::clone(connector);
    let runtime = tokio::runtime::Handle::current();
    Some(runtime.spawn(async move { Some(count_all(&connector).await?.saturating_sub(ours)) }))
}

/// How many connections the server has in all, asked on one that is idle.
async fn count_all(connector: &Arc<Connector>) -> Option<u64> {
    let filled = connector.slots.try_take()?;
    let runtime = filled.birth.runtime.clone();
    let mut tending = connector.slots.tend(filled);
    let limit = connector.config.connect_timeout;
    // In a task of its own: a warm-up that is dropped here loses no connection.
    let asking = runtime.spawn(async move {
        let answer = match tending.session() {
            Some(session) => timeout(limit, threads_connected(session))
                .await
                .ok()?
                .ok()?,
            None => None,
        };
        drop(tending.done());
        answer
    });
    asking.await.ok()?
}

async fn threads_connected(session: &mut Session) -> mysql_async::Result<Option<u64>> {
    session
        .maintain(async |conn| {
            let question = "SHOW GLOBAL STATUS LIKE 'Threads_connected'";
            let row: Option<(String, u64)> = conn.query_first(question).await?;
            Ok(row.map(|(_, count)| count))
        })
        .await
}

fn warnings(
    connector: &Connector,
    server: &ServerInfo,
    threads_connected: Option<u64>,
) -> Vec<Warning> {
    let config = &connector.config;
    let status = connector.slots.status();
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
        // 0 is the server's word for no limit of its own.
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
    // Kept alive, a connection may grow old: only a maximum age that was asked for is held against it.
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
