//! Statements on the pool itself, and by `Executor`, beside the methods that they stand for.

use std::time::Instant;

use harness::{
    Result,
    measure::median_ratio,
    table::{Table, Unit},
};
use mysql_warm_pool::{Error, Executor, Pool, PooledConn, mysql_async::Opts};

use crate::{
    on_one_thread,
    pools::{settings, warm},
};

const ROUNDS: usize = 15;
const STATEMENTS: u64 = 5_000;
const LOOKUP: &str = "SELECT ?";

pub async fn measure(table: &mut Table, opts: &Opts) -> Result<()> {
    on_one_thread(compare(table, opts))
}

async fn compare(table: &mut Table, opts: &Opts) -> Result<()> {
    let pool = warm(settings(opts).size(1).overflow(0)).await?;
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        times[0].push(by_hand(&pool).await?);
        times[1].push(on_the_pool(&pool).await?);
        let mut conn = pool.get().await?;
        times[2].push(by_its_own_method(&mut conn).await?);
        times[3].push(by_the_trait(&mut conn).await?);
    }
    let [by_hand, on_the_pool, own, by_the_trait] = &times;
    for (promise, one, other) in [
        (
            "a statement on the pool, to get, statement and return",
            on_the_pool,
            by_hand,
        ),
        (
            "a statement in a helper with Executor, to the method",
            by_the_trait,
            own,
        ),
    ] {
        table.at_most(promise, Unit::Times, median_ratio(one, other), 1.05);
    }
    Ok(())
}

async fn by_hand(pool: &Pool) -> Result<f64> {
    let start = Instant::now();
    for n in 0..STATEMENTS {
        let mut conn = pool.get().await?;
        let _: Option<u64> = conn.exec_first(LOOKUP, (n,)).await?;
    }
    Ok(start.elapsed().as_secs_f64())
}

async fn on_the_pool(pool: &Pool) -> Result<f64> {
    let start = Instant::now();
    for n in 0..STATEMENTS {
        let _: Option<u64> = pool.exec_first(LOOKUP, (n,)).await?;
    }
    Ok(start.elapsed().as_secs_f64())
}

async fn by_its_own_method(conn: &mut PooledConn) -> Result<f64> {
    let start = Instant::now();
    for n in 0..STATEMENTS {
        let _: Option<u64> = conn.exec_first(LOOKUP, (n,)).await?;
    }
    Ok(start.elapsed().as_secs_f64())
}

async fn find(db: &mut impl Executor, n: u64) -> std::result::Result<Option<u64>, Error> {
    db.exec_first(LOOKUP, (n,)).await
}

async fn by_the_trait(conn: &mut PooledConn) -> Result<f64> {
    let start = Instant::now();
    for n in 0..STATEMENTS {
        find(conn, n).await?;
    }
    Ok(start.elapsed().as_secs_f64())
}
