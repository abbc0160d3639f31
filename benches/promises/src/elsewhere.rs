//! The pool used from another runtime than its own.

use std::time::{Duration, Instant};

use harness::{
    Result,
    measure::median_ratio,
    table::{Table, Unit},
};
use mysql_warm_pool::{Pool, mysql_async::Opts};
use tokio::runtime::{Builder, Runtime};

use crate::pools::{settings, warm};

const ROUNDS: usize = 9;
const QUERIES: u32 = 2000;

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    for (name, own) in [
        ("single-threaded", Builder::new_current_thread()),
        ("multi-threaded", Builder::new_multi_thread()),
    ] {
        let ratio = compare(own, opts).await?;
        let promise = format!("get and query from another runtime than the pool's ({name})");
        table.at_most(&promise, Unit::Times, ratio, 1.3);
    }
    Ok(())
}

/// What a get and a query cost on another runtime, to the same on the pool's own.
async fn compare(mut own: Builder, opts: &Opts) -> Result<f64> {
    let own = Driven::start(own.worker_threads(2))?;
    let other = Driven::start(&mut Builder::new_current_thread())?;
    let pool = own.handle.spawn(warm(settings(opts).size(1).overflow(0)));
    let pool = pool.await??;
    let (mut there, mut here) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (times, runtime) in [(&mut there, &other), (&mut here, &own)] {
            let took = runtime.handle.spawn(queries(pool.clone())).await??;
            times.push(took.as_secs_f64());
        }
    }
    pool.close().await;
    Ok(median_ratio(&there, &here))
}

async fn queries(pool: Pool) -> Result<Duration> {
    let start = Instant::now();
    for _ in 0..QUERIES {
        let mut conn = pool.get().await?;
        conn.query_drop("DO 1").await?;
    }
    Ok(start.elapsed())
}

/// A runtime that is driven by a thread of its own.
struct Driven {
    handle: tokio::runtime::Handle,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Driven {
    fn start(builder: &mut Builder) -> Result<Self> {
        let runtime: Runtime = builder.enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || runtime.block_on(stopped));
        Ok(Self {
            handle,
            _stop: stop,
        })
    }
}
