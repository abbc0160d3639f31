//! `get()` ends at its deadline, whatever the server does: how much later than 200 ms it ends.

use std::time::{Duration, Instant};

use harness::{
    Result,
    measure::{median_of, until},
    table::Table,
    via,
};
use mysql_warm_pool::{Pool, mysql_async::Opts};
use test_support::{Proxy, Server};
use tokio::net::TcpListener;

use crate::pools::{settings, warm};

const DEADLINE: Duration = Duration::from_millis(200);
const BOUND: Duration = Duration::from_millis(50);
const TRIES: usize = 5;

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    let figure = median_of(TRIES, async || {
        let pool = warm(settings(opts).size(1).overflow(1)).await?;
        let held = (pool.get().await?, pool.get().await?);
        let late = late(&pool).await;
        drop(held);
        late
    });
    row(table, "all connections in use", figure.await?);

    let proxy = Proxy::start(opts.tcp_port()).await;
    proxy.refuse().await;
    let figure = median_of(TRIES, async || {
        late(&Pool::new(settings(&via(opts, proxy.port())))?).await
    });
    row(table, "a server that refuses", figure.await?);

    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("mysql://app@127.0.0.1:{}/test", silent.local_addr()?.port());
    let silent_opts = Opts::from_url(&url)?;
    let figure = median_of(TRIES, async || {
        late(&Pool::new(settings(&silent_opts))?).await
    });
    row(
        table,
        "a server that accepts and sends nothing",
        figure.await?,
    );

    let proxy = Proxy::start(opts.tcp_port()).await;
    proxy.stall_after(20);
    let figure = median_of(TRIES, async || {
        late(&Pool::new(settings(&via(opts, proxy.port())))?).await
    });
    row(table, "a handshake that stalls half-way", figure.await?);

    // A server of its own: others may use the one that `DATABASE_URL` names.
    let server = Server::start().await;
    let frozen = settings(&server.opts())
        .size(5)
        .overflow(0)
        .validate_after_idle(Duration::ZERO);
    let figure = median_of(TRIES, async || {
        let pool = warm(frozen.clone()).await?;
        let guard = server.freeze().await;
        let late = late(&pool).await;
        guard.thaw();
        until("it serves again", async || Ok(pool.get().await.is_ok())).await?;
        late
    });
    row(
        table,
        "a frozen server, idle connections to validate",
        figure.await?,
    );
    Ok(())
}

fn row(table: &mut Table, what: &str, late: Duration) {
    let promise = format!("time-out of 200 ms, late by: {what}");
    table.at_most_time(&promise, late, BOUND);
}

/// How much later than the deadline it ends.
async fn late(pool: &Pool) -> Result<Duration> {
    let start = Instant::now();
    if pool.get_within(DEADLINE).await.is_ok() {
        return Err("a connection where none can be had".into());
    }
    let took = start.elapsed();
    let late = took.checked_sub(DEADLINE);
    late.ok_or_else(|| format!("it ended after {took:?}, before its deadline").into())
}
