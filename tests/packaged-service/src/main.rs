//! Items of a shop over HTTP.
//!
//! | variable | default | meaning |
//! |---|---|---|
//! | `DATABASE_URL`, `DATABASE_POOL_SIZE`, ... | | as in `PoolConfig::from_env` |
//! | `DATABASE_POOL_TIMEOUT` | 60 s | set it to about 2 s, less than clients wait |
//! | `DATABASE_POOL_STATEMENT_TIMEOUT` | 10 s | how long a statement may take |
//! | `LISTEN` | `127.0.0.1:8080` | the address to listen on; port 0 picks a free one |
//! | `RUST_LOG` | `info` | what to log; `info,mysql_warm_pool=debug` shows each connection |
//!
//! At SIGTERM or Ctrl-C it accepts no more connections, answers the requests under way for up to
//! 15 s, and closes the pool. With the pool's `close_timeout` of 10 s that is less than the 30 s
//! that Kubernetes grants. Behind a load balancer, a `preStop` sleep of a few seconds lets it notice
//! first.

mod shop;

use std::{env, error::Error, time::Duration};

use mysql_warm_pool::{Pool, PoolConfig};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};
use tracing::{info, level_filters::LevelFilter, warn};
use tracing_subscriber::EnvFilter;

/// How long requests under way may take once the service has been told to stop.
const GRACE: Duration = Duration::from_secs(15);

/// How long a statement may take, unless a variable says otherwise.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let level = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(level.from_env_lossy())
        .init();
    // Before anything is started, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let mut config = PoolConfig::from_env()?;
    config.statement_timeout.get_or_insert(STATEMENT_TIMEOUT);
    let pool = Pool::new(config.clone().prepare(shop::PREPARED))?;

    // Serves at once: the readiness probe answers 503 until the pool is warm.
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(listen).await?;
    info!("listening on {}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, shop::routes(pool.clone()))
        .with_graceful_shutdown(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // A wrong password, for example. Once it has succeeded, only the signals are awaited.
        Err(error) = start(&config, &pool) => return Err(error.into()),
    }

    info!("stopping");
    drop(stop);
    match timeout(GRACE, server).await {
        Ok(served) => served??,
        Err(_) => warn!("requests are still under way after {GRACE:?}"),
    }
    pool.close().await;
    Ok(())
}

/// Creates the table, then warms up the pool. Nothing uses the pool earlier, so it is not ready
/// before there is a table.
async fn start(config: &PoolConfig, pool: &Pool) -> Result<(), mysql_warm_pool::Error> {
    // On a connection of its own: those of the pool prepare statements, which need the table.
    let config = config.clone().size(1).overflow(0).ready_at(None);
    let first = Pool::new(config.name("start"))?;
    warm_up(&first).await?;
    first.query_drop(shop::TABLE).await?;
    first.close().await;
    warm_up(pool).await
}

/// Warms up a pool, for as long as the database takes to come up. Only a permanent error ends it.
/// The pool itself logs how it went.
async fn warm_up(pool: &Pool) -> Result<(), mysql_warm_pool::Error> {
    loop {
        match pool.warm_up().await {
            Err(error) if !error.is_transient() => return Err(error),
            // If the server has no room for all connections, some are enough.
            _ if pool.readiness().is_serving() => return Ok(()),
            _ => {}
        }
    }
}
