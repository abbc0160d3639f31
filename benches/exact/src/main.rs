//! Figures that repeat exactly: instructions, connections, round trips. Ends with status 1 unless
//! every bound is met.
//!
//! `scripts/with-database scripts/bench promises --exact`

use std::{ops::DerefMut, process::ExitCode, time::Duration};

use harness::{
    Result, Work,
    counting::{CountingProxy, Counts},
    instructions,
    measure::until,
    pools::OURS,
    table::{Table, Unit},
};
use mysql_warm_pool::{
    Pool, PoolConfig, PooledConn,
    mysql_async::{Conn, Opts, TxOpts, prelude::Queryable},
};

/// With Rust 1.95 and the versions in `Cargo.lock`.
const INSTRUCTIONS: f64 = 1_533.0;
/// Of a prepared lookup too, on MariaDB. The memory allocator's own vary by 400 with the layout of
/// the heap.
const LOOKUP_INSTRUCTIONS: f64 = 16_600.0;
const CONNECTIONS: usize = 20;
const LOOKUP: &str = "SELECT ?";

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<ExitCode> {
    let opts = harness::database()?;
    let mut table = Table::begin();
    table.group("exact");
    measure(&mut table, &opts).await?;
    Ok(if table.is_met() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    // A server that caches passwords needs more round trips for the first login.
    let mut conn = Conn::new(opts.clone()).await?;
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    let is_mariadb = version.is_some_and(|version| version.contains("MariaDB"));
    conn.disconnect().await?;
    count_instructions(table, is_mariadb)?;
    let proxy = CountingProxy::start(opts).await?;
    let opts = proxy.opts(opts);
    count_openings(table, &proxy, &opts).await?;
    // On MySQL one more restores the charset.
    let reset = if is_mariadb { 1 } else { 2 };
    count_returns(table, &proxy, &opts, reset).await?;
    count_validations(table, &proxy, &opts).await
}

fn count_instructions(table: &mut Table, is_mariadb: bool) -> Result<()> {
    let promise = "instructions of one get and return";
    match instructions::count(OURS, Work::Nothing)? {
        Some(count) => table.at_most(promise, Unit::Count, count.round(), INSTRUCTIONS),
        None => table.skipped(promise, "no valgrind here"),
    }
    let promise = "instructions of one get, prepared lookup and return";
    if !is_mariadb {
        table.skipped(promise, "other servers answer in other pieces");
        return Ok(());
    }
    match instructions::count(OURS, Work::Lookup)? {
        Some(count) => table.at_most(promise, Unit::Count, count.round(), LOOKUP_INSTRUCTIONS),
        None => table.skipped(promise, "no valgrind here"),
    }
    Ok(())
}

async fn count_openings(table: &mut Table, proxy: &CountingProxy, opts: &Opts) -> Result<()> {
    proxy.take();
    let conn = Conn::new(opts.clone()).await?;
    let bare = proxy.take().round_trips;
    close(conn, proxy).await?;

    let pool = warm(settings(opts).size(CONNECTIONS).overflow(0)).await?;
    let counts = proxy.take();
    let connections = u64::try_from(CONNECTIONS)?;
    let promise = "connections opened to warm a pool of 20";
    table.exactly(promise, counts.connections, connections);
    // The first opening also reads the server's facts and counts its connections for a warning.
    // Each one validates with its first query; openings that know the driver's settings from an
    // earlier one need no more round trips than a bare opening.
    let promise = "round trips to warm it, beyond 20 bare openings";
    let more = Counts {
        round_trips: counts.round_trips.saturating_sub(bare * connections),
        ..counts
    };
    at_most(table, promise, &more, 2);
    pool.close().await;
    Ok(())
}

/// Returns once `COM_QUIT` has passed through, too.
async fn close(conn: Conn, proxy: &CountingProxy) -> Result<()> {
    conn.disconnect().await?;
    until("it is closed", async || {
        Ok(proxy
            .take()
            .commands
            .iter()
            .any(|command| command == "QUIT"))
    })
    .await
}

async fn count_returns(
    table: &mut Table,
    proxy: &CountingProxy,
    opts: &Opts,
    reset: u64,
) -> Result<()> {
    // The pool sends nothing that no caller caused.
    let config = settings(opts)
        .size(1)
        .overflow(0)
        .keepalive(None)
        .recycle(None)
        .validate_after_idle(Duration::from_secs(3600));
    let pool = warm(config).await?;
    // Prepares the statement.
    pool.get().await?.exec_drop(LOOKUP, (1,)).await?;
    until_idle(&pool).await?;

    proxy.take();
    let conn = pool.get().await?;
    at_most(table, "round trips of a get", &proxy.take(), 0);
    returned(table, "no work", conn, (&pool, proxy), 0).await?;

    let mut conn = pool.get().await?;
    conn.exec_drop(LOOKUP, (1,)).await?;
    returned(table, "a lookup", conn, (&pool, proxy), 0).await?;

    let mut conn = pool.get().await?;
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    transaction.exec_drop(LOOKUP, (1,)).await?;
    transaction.commit().await?;
    let what = "a committed transaction";
    returned(table, what, conn, (&pool, proxy), 0).await?;

    let mut conn = pool.get().await?;
    let mut transaction = conn.start_transaction(TxOpts::default()).await?;
    transaction.exec_drop(LOOKUP, (1,)).await?;
    drop(transaction);
    // The driver rolls back before it sends the pool's rollback.
    let what = "a transaction dropped open (rolls back)";
    returned(table, what, conn, (&pool, proxy), 2).await?;

    let mut conn = pool.get().await?;
    conn.query_drop("START TRANSACTION").await?;
    let what = "a transaction begun by statement (rolls back)";
    returned(table, what, conn, (&pool, proxy), 1).await?;

    let mut conn = pool.get().await?;
    conn.query_drop("SET @promises = 7").await?;
    let what = "a user variable set (undone)";
    returned(table, what, conn, (&pool, proxy), 1).await?;

    let mut conn = pool.get().await?;
    conn.query_drop("PREPARE promises FROM 'DO 1'").await?;
    let what = "a statement prepared by PREPARE (resets)";
    returned(table, what, conn, (&pool, proxy), reset).await?;

    let mut conn = pool.get().await?;
    conn.deref_mut().ping().await?;
    let what = "an unfollowed command (resets; validates, USE)";
    returned(table, what, conn, (&pool, proxy), 2).await?;
    pool.close().await;
    Ok(())
}

async fn count_validations(table: &mut Table, proxy: &CountingProxy, opts: &Opts) -> Result<()> {
    let config = settings(opts)
        .size(1)
        .overflow(0)
        .keepalive(None)
        .validate_after_idle(Duration::ZERO);
    let pool = warm(config).await?;
    proxy.take();
    let conn = pool.get().await?;
    at_most(
        table,
        "round trips of a get that validates",
        &proxy.take(),
        1,
    );
    returned(table, "no work, validated", conn, (&pool, proxy), 0).await?;
    pool.close().await;
    Ok(())
}

/// Returns the connection, waits until it is idle, and prints the round trips of the return.
async fn returned(
    table: &mut Table,
    after: &str,
    conn: PooledConn,
    (pool, proxy): (&Pool, &CountingProxy),
    bound: u64,
) -> Result<()> {
    proxy.take();
    drop(conn);
    until_idle(pool).await?;
    let promise = format!("round trips of a return after {after}");
    at_most(table, &promise, &proxy.take(), bound);
    Ok(())
}

fn at_most(table: &mut Table, promise: &str, counts: &Counts, bound: u64) {
    let figure = counts.round_trips;
    table.at_most(promise, Unit::Count, figure as f64, bound as f64);
    if figure > bound {
        println!("    commands: {:?}", counts.commands);
    }
}

async fn until_idle(pool: &Pool) -> Result<()> {
    until("it is idle", async || Ok(pool.status().idle == 1)).await
}

fn settings(opts: &Opts) -> PoolConfig {
    PoolConfig::from_opts(opts.clone())
}

async fn warm(config: PoolConfig) -> Result<Pool> {
    let pool = Pool::new(config)?;
    pool.warm_up().await?;
    Ok(pool)
}
