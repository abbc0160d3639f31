//! Asks a member for its role, again and again.

use std::{io, sync::Arc, time::Duration};

use futures_util::FutureExt;
use mysql_async::IoError;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    ask::{Answer, Asker},
    decide::Claim,
    state::{Server, Shared, View},
};
use crate::{
    config::{OnCancel, PoolConfig, Reset},
    error::{ConnectError, Error, ends_connection},
    pool::Pool,
    report::ClusterWarning,
    session::random,
    time::Timestamp,
};

/// A member that leaves a question unanswered for this time, or that cannot be connected to within
/// it, is unreachable.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// The shortest pause between two questions, whatever happens.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Once an attempt to connect takes this long, another is made.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// The longest pause between two questions while no member is known to take writes.
const LONGEST_WITHOUT_WRITER: Duration = Duration::from_secs(1);
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The settings of the monitor's pool. Asking validates its connection.
fn config(member: &PoolConfig, check_every: Duration) -> PoolConfig {
    let name = format!("{} monitor", member.display_name());
    let connect_within = CONNECT_WITHIN.max(check_every);
    let connect_timeout = if member.credentials.is_some() {
        // The source may take its time.
        member.connect_timeout
    } else {
        member.connect_timeout.min(connect_within)
    };
    let mut config = member
        .clone()
        .name(name)
        .size(1)
        .overflow(0)
        .ready_at(None)
        .max_connecting(1)
        .timeout(ANSWER_WITHIN)
        .connect_timeout(connect_timeout)
        .validate_after_idle(FOR_EVER)
        .keepalive(None)
        .reset(Reset::Never)
        .on_cancel(OnCancel::Close)
        .statement_timeout(None)
        .init(Vec::<String>::new())
        .prepare(Vec::<String>::new())
        .slow_get(None)
        .slow_query(None)
        .leak_after(None);
    config.on_connect = None;
    config
}

/// The pool that holds the monitor's one connection. It exports no metrics: they are about callers.
pub(super) fn pool(member: &PoolConfig, check_every: Duration) -> Result<Pool, Error> {
    let config = config(member, check_every);
    #[cfg(feature = "metrics")]
    return Pool::with_recorder(config, Arc::new(metrics::NoopRecorder));
    #[cfg(not(feature = "metrics"))]
    Pool::new(config)
}

/// Warms the member's pool, and asks it for its role until the task is aborted.
pub(super) async fn run(shared: Arc<Shared>, server: Arc<Server>) {
    tokio::join!(warm_up(&shared, &server), watch(&shared, &server));
}

/// One that was discovered may turn out to be another name of a member, so it is asked first.
async fn warm_up(shared: &Shared, server: &Arc<Server>) {
    if !server.is_named {
        let mut views = shared.view.subscribe();
        let is_usable = |view: &Arc<View>| view.uses(server);
        drop(views.wait_for(is_usable).await);
    }
    drop(server.pool.warm_up().await);
}

async fn watch(shared: &Arc<Shared>, server: &Arc<Server>) {
    let mut asker = Asker::default();
    let mut pool = server.pool.watch();
    let mut monitor = server.monitor.watch();
    let mut refreshed = Box::pin(server.pool.refreshed());
    loop {
        // Polled before the question, it misses nothing that happens meanwhile.
        while refreshed.as_mut().now_or_never().is_some() {
            refreshed = Box::pin(server.pool.refreshed());
        }
        let began = Instant::now();
        let asked_at = Timestamp::now();
        let claim = ask(server, &mut asker).await;
        let is_silent = matches!(claim, Claim::Unreachable { .. });
        shared.record(server, claim, asked_at, warnings(server, &asker));
        sleep(SHORTEST_PAUSE).await;
        let mut views = shared.view.subscribe();
        let has_writer = views.borrow_and_update().has_writer();
        let next = began.checked_add(pause(shared.config.check_every, has_writer));
        tokio::select! {
            () = sleep_until(next.unwrap_or(began)) => {}
            () = server.ask_now.notified() => {}
            () = &mut refreshed => refreshed = Box::pin(server.pool.refreshed()),
            _ = views.wait_for(|view| !view.has_writer()), if has_writer => {}
            _ = pool.changed() => {}
            _ = monitor.changed(), if is_silent => {}
        }
    }
}

/// The time between two questions: up to a tenth less than `check_every`, so that many clients do
/// not ask at the same moment.
fn pause(check_every: Duration, has_writer: bool) -> Duration {
    let every = if has_writer {
        check_every
    } else {
        let quarter = check_every.checked_div(4).unwrap_or(check_every);
        quarter.clamp(SHORTEST_PAUSE, LONGEST_WITHOUT_WRITER)
    };
    let thousandths = u32::try_from(random() % 100).unwrap_or(0);
    let less = every
        .checked_div(1000)
        .unwrap_or_default()
        .saturating_mul(thousandths);
    every.saturating_sub(less)
}

async fn ask(server: &Server, asker: &mut Asker) -> Claim {
    // While it does not answer, each question begins with an attempt to connect.
    server.monitor.retry_now();
    let outcome = match ask_on(&server.monitor, asker).await {
        // The connection may have been closed since the last question.
        Err(NoAnswer::Lost(_)) => ask_on(&server.monitor, asker).await,
        // The server is full, so the question takes its turn on the connections there are.
        Err(NoAnswer::NotConnected(error)) if is_full(&error) => {
            let outcome = ask_on(&server.pool, asker).await;
            outcome.map_err(|_also_none| NoAnswer::NotConnected(error))
        }
        outcome => outcome,
    };
    match outcome {
        Ok(answer) => Claim::Answered(answer),
        Err(NoAnswer::NotConnected(error) | NoAnswer::Lost(error) | NoAnswer::Late(error)) => {
            let error = error.to_string();
            Claim::Unreachable { error }
        }
    }
}

/// Why there is no answer.
enum NoAnswer {
    NotConnected(Error),
    /// The connection was lost.
    Lost(Error),
    /// None came in time.
    Late(Error),
}

async fn ask_on(pool: &Pool, asker: &mut Asker) -> Result<Answer, NoAnswer> {
    let conn = pool.get_within(ANSWER_WITHIN).await;
    let mut conn = conn.map_err(NoAnswer::NotConnected)?;
    match asker.ask(&mut conn).await {
        Ok(answer) => Ok(answer),
        Err(error @ mysql_async::Error::Server(_)) if !ends_connection(&error) => {
            Ok(Answer::Unusable {
                reason: error.to_string(),
            })
        }
        Err(error) if is_late(&error) => Err(NoAnswer::Late(error.into())),
        Err(error) => Err(NoAnswer::Lost(error.into())),
    }
}

/// Whether the server refuses further connections, of all accounts or of this one.
fn is_full(error: &Error) -> bool {
    let refusal = match error {
        Error::Timeout { source, .. } => source.as_ref(),
        Error::Connect(error) => Some(error),
        _ => None,
    };
    let code = refusal.and_then(ConnectError::code);
    code.is_some_and(|code| matches!(code, 1040 | 1203 | 1226))
}

/// Awaits one answer, which takes one round trip. If none comes in time, the connection is closed
/// when it is returned.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = mysql_async::Result<T>>,
) -> mysql_async::Result<T> {
    timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} ms", ANSWER_WITHIN.as_millis());
        Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
    })
}

fn is_late(error: &mysql_async::Error) -> bool {
    let mysql_async::Error::Io(IoError::Io(error)) = error else {
        return false;
    };
    error.kind() == io::ErrorKind::TimedOut
}

fn warnings(server: &Server, asker: &Asker) -> Vec<ClusterWarning> {
    let lag = asker
        .grant_for_lag()
        .map(|grant| ClusterWarning::LagUnknown {
            address: server.address.clone(),
            grant,
        });
    let group = asker
        .grant_for_group()
        .map(|grant| ClusterWarning::GroupUnknown {
            address: server.address.clone(),
            grant,
        });
    lag.into_iter().chain(group).collect()
}
