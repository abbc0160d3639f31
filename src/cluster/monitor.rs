//! Asks a member for its role, again and again.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    ask::{Answer, Asker},
    decide::Claim,
    state::{Server, Shared},
};
use crate::{
    config::{PoolConfig, Reset},
    error::{Error, ends_connection},
    report::ClusterWarning,
    session::random,
    time::Timestamp,
};

/// A member that does not answer within this time is unreachable.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
/// The shortest pause between two questions, whatever happens.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// Once an attempt to connect takes this long, another is made.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The settings of the pool that holds the monitor's one connection. Asking validates it.
pub(super) fn config(member: &PoolConfig, check_every: Duration) -> PoolConfig {
    let name = format!("{} monitor", member.display_name());
    let connect_timeout = member.connect_timeout.min(CONNECT_WITHIN.max(check_every));
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
        .statement_timeout(None)
        .init(Vec::<String>::new())
        .prepare(Vec::<String>::new())
        .slow_get(None)
        .slow_query(None)
        .leak_after(None);
    config.on_connect = None;
    config
}

/// Warms the member's pool, and asks it for its role until the task is aborted.
pub(super) async fn run(shared: Arc<Shared>, server: Arc<Server>) {
    tokio::join!(
        async { drop(server.pool.warm_up().await) },
        watch(&shared, &server),
    );
}

async fn watch(shared: &Arc<Shared>, server: &Arc<Server>) {
    let mut asker = Asker::default();
    let mut pool = server.pool.watch();
    let mut monitor = server.monitor.watch();
    let mut refreshed = Box::pin(server.pool.refreshed());
    loop {
        let began = Instant::now();
        let asked_at = Timestamp::now();
        let claim = ask(server, &mut asker).await;
        let is_silent = matches!(claim, Claim::Unreachable { .. });
        shared.record(server, claim, asked_at, warnings(server, &asker));
        sleep(SHORTEST_PAUSE).await;
        let next = began.checked_add(pause(shared)).unwrap_or(began);
        tokio::select! {
            () = sleep_until(next) => {}
            () = server.ask_now.notified() => {}
            () = &mut refreshed => refreshed = Box::pin(server.pool.refreshed()),
            _ = pool.changed() => {}
            _ = monitor.changed(), if is_silent => {}
        }
    }
}

/// The time between two questions: up to a tenth less than `check_every`, so that many clients do
/// not ask at the same moment.
fn pause(shared: &Shared) -> Duration {
    let every = shared.config.check_every;
    let every = if shared.has_writer() {
        every
    } else {
        every.checked_div(4).unwrap_or(every).max(SHORTEST_PAUSE)
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
    let asking = async {
        let outcome = match ask_once(server, asker).await {
            // The connection may have been closed since the last question.
            Err(NoAnswer::Lost(_)) => ask_once(server, asker).await,
            outcome => outcome,
        };
        match outcome {
            Ok(answer) => Claim::Answered(answer),
            Err(NoAnswer::NotConnected(error) | NoAnswer::Lost(error)) => unreachable(&error),
        }
    };
    timeout(ANSWER_WITHIN, asking)
        .await
        .unwrap_or_else(|_elapsed| {
            let error = server.monitor.health().last_error;
            let error = error.unwrap_or_else(|| format!("no answer within {ANSWER_WITHIN:?}"));
            Claim::Unreachable { error }
        })
}

/// Why there is no answer.
enum NoAnswer {
    NotConnected(Error),
    Lost(Error),
}

async fn ask_once(server: &Server, asker: &mut Asker) -> Result<Answer, NoAnswer> {
    let mut conn = server.monitor.get().await.map_err(NoAnswer::NotConnected)?;
    match asker.ask(&mut conn).await {
        Ok(answer) => Ok(answer),
        Err(error @ mysql_async::Error::Server(_)) if !ends_connection(&error) => {
            Ok(Answer::Unusable {
                reason: error.to_string(),
            })
        }
        Err(error) => Err(NoAnswer::Lost(error.into())),
    }
}

fn unreachable(error: &Error) -> Claim {
    Claim::Unreachable {
        error: error.to_string(),
    }
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
