//! Graceful shutdown of background workers with a `CancellationToken`: at SIGTERM or Ctrl-C each
//! finishes its unit of work, and the pool is closed after the last one.
//!
//! In a checkout, `scripts/with-database cargo run --manifest-path examples/recipes/Cargo.toml
//! --bin graceful_shutdown`

use std::{error::Error, time::Duration};

use mysql_warm_pool::{Pool, PoolConfig};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Listens before anything is started, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // With the 15 s for the workers below, less than Kubernetes' 30 s until SIGKILL.
    let config = PoolConfig::from_env()?.close_timeout(Duration::from_secs(5));
    let pool = Pool::new(config)?;
    println!("{}", pool.warm_up().await?);

    let stop = CancellationToken::new();
    let workers = TaskTracker::new();
    for number in 1..=4 {
        workers.spawn(work(number, pool.clone(), stop.clone()));
    }
    println!("working");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // First no new work, then the end of the work under way, then the pool.
    stop.cancel();
    workers.close();
    if timeout(Duration::from_secs(15), workers.wait())
        .await
        .is_err()
    {
        eprintln!("{} workers are still busy", workers.len());
    }
    // Waits for connections still in use, and cuts those that remain after `close_timeout`.
    println!("{}", pool.close().await);
    Ok(())
}

async fn work(number: u32, pool: Pool, stop: CancellationToken) {
    let mut jobs = 0;
    while !stop.is_cancelled() {
        // Not in the `select!` below: a job is finished, never dropped halfway.
        let pause = match job(&pool).await {
            Ok(()) => {
                jobs += 1;
                Duration::from_millis(20)
            }
            Err(error) => {
                eprintln!("worker {number}: {error}");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    println!("worker {number} stopped after {jobs} jobs");
}

/// One unit of work, in a transaction. The sleep stands for a real job.
async fn job(pool: &Pool) -> Result<(), mysql_warm_pool::Error> {
    let mut transaction = pool.begin().await?;
    transaction.query_drop("SELECT SLEEP(0.2)").await?;
    transaction.commit().await
}
