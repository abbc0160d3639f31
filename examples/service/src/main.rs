//! Starts the service. Exit status: 0 stopped on request, 1 permanent error, 2 wrong settings.

use std::{env, process::ExitCode, str::FromStr};

use accounts_service::{Config, Error, Service, asked_to_stop};
use tokio::net::TcpListener;
use tracing::{Level, error, info, warn};
use tracing_subscriber::{filter::Targets, prelude::*};

#[tokio::main]
async fn main() -> ExitCode {
    log();
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => {
            error!(%error, "wrong settings");
            return ExitCode::from(2);
        }
    };
    match serve(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "cannot serve");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> Result<(), Error> {
    // Done first, so that a signal during the rest of the set-up is not lost.
    let stop = asked_to_stop()?;
    let listener = TcpListener::bind(config.listen).await?;
    info!(address = %listener.local_addr()?, "listening");
    let report = Service::new(config)?.run(listener, stop).await?;
    info!(%report, "ended");
    Ok(())
}

/// Logs to standard output, filtered by `RUST_LOG`, such as `info` or `warn,mysql_warm_pool=debug`.
fn log() {
    let rust_log = env::var("RUST_LOG").unwrap_or_default();
    let wanted = if rust_log.trim().is_empty() {
        Some(Targets::new().with_default(Level::INFO))
    } else {
        Targets::from_str(&rust_log).ok()
    };
    let is_understood = wanted.is_some();
    tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_ansi(false))
        .with(wanted.unwrap_or_else(|| Targets::new().with_default(Level::INFO)))
        .init();
    if !is_understood {
        warn!(RUST_LOG = rust_log, "not understood, taken as info");
    }
}
