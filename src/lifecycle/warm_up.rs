//! Warms the pool up: waits until `size` connections are open, and reports. With a `size` of 0 that
//! is one connection, which validates the settings. The attempts themselves are made by
//! [`open`](super::open).

use std::{fmt::Display, sync::Arc, time::Duration};

use mysql_async::prelude::Queryable;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::{Instrument, info, info_span, warn};

use crate::{
    config::{OnCancel, tls},
    engine::{backoff::Mark, init_connect::InitConnect, runtime},
    error::{Error, TimeoutCause, ends_connection},
    report::{ConnectTime, DiscardReason, ServerInfo, WarmUpReport, Warning},
    session::{
        Session,
        runtime::{SignOfLife, SocketRuntime},
    },
    shared::Shared,
    time::Timestamp,
};

use super::{
    assess::assess,
    discard::discard_cleaning,
    maintain,
    open::{Demand, fill},
};

/// How long the server may take to say how many connections it has. Longer than that, and the
/// connection that asked is replaced.
const COUNTING_TAKES: Duration = Duration::from_secs(2);

/// Opens, initialises and validates `size` connections, or one.
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
    let mut sign_of_life = None;
    let mut is_silent;
    let started = Instant::now();
    let mark = shared.state().backoff.mark();
    shared.state().health.begin(Timestamp::now());
    assess(shared);
    fill(shared, Demand::Waiting);
    let mut counting = Counting::Due;
    let (filled, report) = loop {
        let left = shared
            .config
            .warm_up_timeout
            .saturating_sub(started.elapsed());
        let filling = async {
            maintain::until_driven(shared, &mut sign_of_life).await?;
            fill_and_count(shared, mark, &mut counting).await
        };
        let filled = runtime::within(left, filling)?.await;
        // If the time is over, the pool may be Degraded from now on, and the caller may ask.
        assess(shared);
        if let Ok(Err(error @ (Error::Closed | Error::NoRuntime))) = filled {
            return Err(error);
        }
        let threads_connected = filled
            .as_ref()
            .ok()
            .and_then(|filled| *filled.as_ref().ok()?);
        let mut report = report(shared, mark, started.elapsed(), threads_connected);
        is_silent = filled.is_err() && sign_of_life.as_ref().is_some_and(SignOfLife::is_missing);
        if is_silent {
            let cause = TimeoutCause::RuntimeNotDriven.to_string();
            report.last_error.get_or_insert(cause);
        }
        let is_short = report.open < shared.config.ready_threshold(report.target);
        // One may have been lost since.
        if !(matches!(filled, Ok(Ok(_))) && is_short) {
            break (filled, report);
        }
    };
    if report.opened > 0 {
        shared.metrics.record_warm_up(report.elapsed);
    }
    let source = match filled {
        Ok(Err(Error::Connect(error))) => Some(error),
        Err(_elapsed)
            if is_silent || report.open < shared.config.ready_threshold(report.target) =>
        {
            shared.state().backoff.error().cloned()
        }
        Ok(Err(_)) => None,
        Ok(Ok(_)) | Err(_) => {
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
        if matches!(warning, Warning::CannotKill { .. }) && !shared.opener.warns_of_kill() {
            continue;
        }
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

/// The count of the server's connections.
enum Counting {
    /// It has not begun.
    Due,
    /// It counts the others', beside the openings.
    Begun(JoinHandle<Count>),
    /// It is known how many the server has, or that the server does not say.
    Done(Option<u64>),
}

/// What came of asking the server for its number of connections.
enum Count {
    Threads(u64),
    NoAnswer,
    /// No connection was idle.
    NotAsked,
}

/// Waits until the connections are open and the server's are counted, or an attempt fails for a
/// permanent reason.
async fn fill_and_count(
    shared: &Arc<Shared>,
    mark: Mark,
    counting: &mut Counting,
) -> Result<Option<u64>, Error> {
    until_filled(shared, mark, counting).await?;
    count(shared, counting).await;
    // If the server did not answer, counting has cost a connection.
    until_filled(shared, mark, counting).await?;
    match counting {
        Counting::Done(threads) => Ok(*threads),
        Counting::Due | Counting::Begun(_) => Ok(None),
    }
}

/// Waits until `size` connections are open, or with a `size` of 0 one has been opened, or an attempt
/// fails for a permanent reason. Begins to count the server's connections as soon as one is open.
async fn until_filled(
    shared: &Arc<Shared>,
    mark: Mark,
    counting: &mut Counting,
) -> Result<(), Error> {
    let mut attempts = shared.attempts.subscribe();
    loop {
        if shared.is_closing() {
            return Err(Error::Closed);
        }
        // Perhaps its runtime has ended. Then the maintenance opens anew on this one.
        let runtime = maintain::enter(shared)?;
        let status = shared.slots.status();
        let has_opened = status.open > 0 || shared.state().backoff.has_opened_since(mark);
        if has_opened && status.open >= status.size {
            return Ok(());
        }
        if !has_opened {
            fill(shared, Demand::One);
        }
        if matches!(counting, Counting::Due) && status.idle > 0 {
            *counting = Counting::Begun(count_others(shared, &runtime));
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

/// Counts the server's connections, unless a count made while connections were opened shows that it
/// certainly has room for the whole limit.
async fn count(shared: &Arc<Shared>, counting: &mut Counting) {
    let threads = match counting {
        Counting::Done(_) => return,
        Counting::Begun(others) => match others.await {
            Ok(Count::Threads(others)) if has_room(shared, others) => None,
            Ok(Count::NoAnswer) | Err(_) => None,
            Ok(Count::Threads(_) | Count::NotAsked) => threads_now(shared).await,
        },
        Counting::Due => threads_now(shared).await,
    };
    *counting = Counting::Done(threads);
}

async fn threads_now(shared: &Arc<Shared>) -> Option<u64> {
    match count_threads(shared).await {
        Count::Threads(threads) => Some(threads),
        Count::NoAnswer | Count::NotAsked => None,
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
    let opened = since.times.len();
    // Without an `overflow_linger`, the one that was opened may be closed again by now.
    let open = status
        .open
        .max(if status.size == 0 { opened.min(1) } else { 0 });
    let server = shared.opener.server();
    let warnings = server
        .as_ref()
        .map(|server| warnings(shared, server, threads_connected))
        .unwrap_or_default();
    WarmUpReport {
        target: status.size.max(1),
        open,
        opened,
        attempts: since.attempts,
        failed_attempts: since.failed,
        elapsed,
        connect_time: ConnectTime::of(since.times),
        last_error: since.last_error.map(|error| error.to_string()),
        server,
        warnings,
    }
}

fn has_room(shared: &Shared, others: u64) -> bool {
    let limit = u64::try_from(shared.slots.status().limit()).unwrap_or(u64::MAX);
    let server = shared.opener.server();
    server.is_some_and(|server| limit.saturating_add(others) <= server.max_connections)
}

/// Counts the server's connections other than this pool's open ones. Those that it is opening are
/// counted.
///
/// Runs in a new task beside the openings, so that dropping the warm-up loses no connection.
fn count_others(shared: &Arc<Shared>, runtime: &SocketRuntime) -> JoinHandle<Count> {
    let own = u64::try_from(shared.slots.status().open).unwrap_or(u64::MAX);
    let shared = Arc::clone(shared);
    runtime.spawn(async move {
        match count_threads(&shared).await {
            Count::Threads(all) => Count::Threads(all.saturating_sub(own)),
            count => count,
        }
    })
}

/// Asks the server, on an idle connection, how many connections it has in total. If it refuses, as
/// some proxies do, the connection is kept.
async fn count_threads(shared: &Arc<Shared>) -> Count {
    let Some(lease) = shared.slots.try_take() else {
        return Count::NotAsked;
    };
    let runtime = lease.origin.runtime.clone();
    let mut cleaning = shared.slots.begin_cleaning(lease);
    let limit = COUNTING_TAKES.min(shared.config.connect_timeout);
    let shared = Arc::clone(shared);
    // In a new task, so that dropping the warm-up here loses no connection.
    let asking = runtime.spawn(async move {
        let session = cleaning.session()?;
        let answer = timeout(limit, threads_connected(session)).await;
        if let Ok(outcome) = answer
            && !outcome.as_ref().is_err_and(ends_connection)
        {
            drop(cleaning.finish());
            return outcome.ok().flatten();
        }
        discard_cleaning(&shared, cleaning, DiscardReason::ValidationFailed).await;
        None
    });
    match asking.await {
        Ok(Some(threads)) => Count::Threads(threads),
        Ok(None) | Err(_) => Count::NoAnswer,
    }
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
    // Without a `size`, no connection is idle for longer than `overflow_linger`.
    let idles_briefly = status.size == 0 && !too_long(Some(config.overflow_linger));
    // A `recycle` of never is no problem if connections are kept alive.
    if !idles_briefly
        && too_long(config.recycle)
        && (config.recycle.is_some() || too_long(config.keepalive))
    {
        warnings.push(Warning::RecycleNotBelowWaitTimeout {
            recycle: config.recycle,
            wait_timeout,
        });
    }
    if !idles_briefly && too_long(config.keepalive) {
        warnings.push(Warning::KeepaliveNotBelowWaitTimeout {
            keepalive: config.keepalive,
            wait_timeout,
        });
    }
    let cache_size = config.opts().stmt_cache_size();
    let kept = u64::try_from(status.limit().saturating_mul(cache_size)).unwrap_or(u64::MAX);
    // A server that allows none says so at the first statement, and some proxies answer 0 to all.
    if let Some(allowed) = server
        .max_prepared_stmt_count
        .filter(|allowed| *allowed > 0)
        && (cache_size == 0 || kept > allowed)
    {
        warnings.push(Warning::TooManyStatements {
            limit: status.limit(),
            statements_each: (cache_size > 0).then_some(cache_size),
            allowed,
        });
    }
    if cache_size > 0 && config.prepare.len() >= cache_size {
        warnings.push(Warning::CacheFull {
            stmt_cache_size: cache_size,
        });
    }
    if server.behind_proxy {
        warnings.push(Warning::Proxy {
            reader_answered: server.read_only && !shared.is_member,
        });
    } else if server.read_only && !shared.is_member {
        warnings.push(Warning::ReadOnly);
    }
    if !tls::is_encrypted_or_local(config.opts()) {
        warnings.push(Warning::NotEncrypted);
    }
    if config.on_cancel == OnCancel::Kill
        && let Some(reason) = shared.opener.kill_obstacle()
    {
        warnings.push(Warning::CannotKill { reason });
    }
    if shared.opener.refused_reset().is_some() {
        warnings.push(Warning::ResetRefused);
    }
    if shared.opener.init_connect() == InitConnect::Replace {
        warnings.push(Warning::InitConnect);
    }
    warnings
}
