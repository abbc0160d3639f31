//! Retries with the crate `backon`: what to retry, and after which pauses.
//!
//! `scripts/with-database cargo run --example retry`
//!
//! The example kills its own connection in the middle of a transaction. It first retries as many
//! clients do, three tries two seconds apart, and then with short pauses that grow and are random,
//! so that many callers do not return at the same moment. Both retry only transient errors, and
//! only work that may be repeated.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ConstantBuilder, ExponentialBuilder, Retryable};
use mysql_warm_pool::mysql_async::{self, TxOpts};
use mysql_warm_pool::{Error, Pool, PoolConfig, TransactionOptions, error::is_transient};

/// Three tries, two seconds apart. A fault of a moment costs two seconds, one of five seconds is
/// not survived, and all callers that met it together return together.
fn by_hand() -> ConstantBuilder {
    ConstantBuilder::default()
        .with_delay(Duration::from_secs(2))
        .with_max_times(2)
}

/// Eight tries at most. The pauses between them begin at 50 ms and double; a random part of up to
/// the same length is added to each.
fn better() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(7)
        .with_jitter()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The timeout applies to each try, so it must leave time for the next one.
    let config = PoolConfig::from_env()?
        .size(4)
        .timeout(Duration::from_secs(2));
    let pool = Pool::new(config)?;
    println!("{}", pool.warm_up().await?);

    println!("\nthree tries, two seconds apart");
    report(&pool, by_hand()).await?;
    println!("\npauses that grow, at random");
    report(&pool, better()).await?;

    println!("\na permanent error is not retried");
    let tries = AtomicU32::new(0);
    let wrong = async || {
        tries.fetch_add(1, Ordering::Relaxed);
        pool.get().await?.query_drop("SELEKT 1").await
    };
    let outcome: mysql_async::Result<()> = wrong.retry(better()).when(is_transient).await;
    if let Err(error) = outcome {
        println!("try {tries:?}: {error}");
    }

    // A transaction that writes may be repeated as a whole, because a transient error means that it
    // was not committed. If the answer to COMMIT is lost, the error is `Error::CommitUnknown`,
    // which is not transient. After a deadlock `transaction_with` repeats it by itself.
    println!("\na payment that must not be made twice");
    let pay = async || {
        let options = TransactionOptions::new().retries(3);
        pool.transaction_with(options, async |mut transaction| {
            let table = "CREATE TEMPORARY TABLE payment (id INT PRIMARY KEY)";
            transaction.query_drop(table).await?;
            let insert = "INSERT INTO payment VALUES (?)";
            transaction.exec_drop(insert, (7,)).await
        })
        .await
    };
    let paid: Result<(), Error> = pay.retry(better()).when(Error::is_transient).await;
    match paid {
        Ok(()) => println!("made once"),
        Err(error) if error.is_commit_unknown() => println!("look for payment 7: {error}"),
        Err(error) => println!("not made: {error}"),
    }

    // If the answer to a single statement outside a transaction is lost, the error is transient,
    // but the statement may have been executed. So getting the connection is retried, the write is
    // not.
    println!("\na single write");
    let get = async || pool.get().await;
    let mut conn = get.retry(better()).when(Error::is_transient).await?;
    conn.query_drop("CREATE TEMPORARY TABLE payment (id INT PRIMARY KEY)")
        .await?;
    println!("written once");
    drop(conn);
    pool.close().await;
    Ok(())
}

/// Two reads that have to be consistent. They may be repeated, and are retried as a whole: the
/// transaction from its start, on another connection, because the last one is most likely lost.
async fn report<B>(pool: &Pool, pauses: B) -> mysql_async::Result<()>
where
    B: BackoffBuilder<Backoff: Send> + Send,
{
    let began = Instant::now();
    let tries = AtomicU32::new(0);
    let read = async || {
        let number = tries.fetch_add(1, Ordering::Relaxed) + 1;
        let mut conn = pool.get().await?;
        let id = conn.id();
        let mut transaction = conn.start_transaction(TxOpts::default()).await?;
        let six: Option<u32> = transaction.query_first("SELECT 6").await?;
        if number == 1 {
            println!("try 1: connection {id} is killed");
            pool.get().await?.query_drop(format!("KILL {id}")).await?;
        }
        let seven: Option<u32> = transaction.query_first("SELECT 7").await?;
        transaction.commit().await?;
        Ok(six.zip(seven))
    };
    let numbers: mysql_async::Result<_> = read
        .retry(pauses)
        .when(is_transient)
        .notify(|error, pause| println!("try {tries:?}: {error}; next in {pause:.0?}"))
        .await;
    let took = began.elapsed();
    println!("try {tries:?}: {:?} after {took:.0?}", numbers?);
    Ok(())
}
