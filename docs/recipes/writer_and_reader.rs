//! Two pools: one for the server that takes writes, one for its replica.
//!
//! In a checkout, `WRITER_URL=mysql://... READER_URL=mysql://... cargo run --manifest-path
//! examples/recipes/Cargo.toml --bin writer_and_reader`
//!
//! If another server may become the one that takes writes, use a `Cluster` instead.

use std::error::Error;

use mysql_warm_pool::{Error as PoolError, Executor, Pool, PoolConfig};

/// The caller decides which pool to use: only it knows whether data that is a moment old will do.
/// Read what you have just written from the writer.
#[derive(Clone)]
struct Database {
    writer: Pool,
    replica: Pool,
}

impl Database {
    fn from_env() -> Result<Self, PoolError> {
        // WRITER_URL, WRITER_POOL_SIZE and so on; READER_URL, READER_POOL_SIZE, ...
        let writer = PoolConfig::from_env_prefixed("WRITER")?.name("writer");
        let reader = PoolConfig::from_env_prefixed("READER")?.name("reader");
        Ok(Self {
            writer: Pool::new(writer)?,
            // Refuses a write that is sent to the wrong pool, whatever server is behind it.
            replica: Pool::new(reader.init(["SET SESSION TRANSACTION READ ONLY"]))?,
        })
    }

    /// Both warm up at the same time. Without the replica the service works, only slower.
    async fn warm_up(&self) -> Result<(), PoolError> {
        let (writer, replica) = tokio::join!(self.writer.warm_up(), self.replica.warm_up());
        println!("writer: {}", writer?);
        match replica {
            Ok(report) => println!("replica: {report}"),
            Err(error) => eprintln!("replica: {error}"),
        }
        Ok(())
    }

    /// The replica; while it is down, the writer. Asking for the readiness costs no I/O.
    fn reader(&self) -> &Pool {
        if self.replica.readiness().is_serving() {
            &self.replica
        } else {
            &self.writer
        }
    }
}

/// Written once, for both pools, connections and transactions.
async fn port(mut database: impl Executor) -> Result<u16, PoolError> {
    let port: Option<u16> = database.query_first("SELECT @@port").await?;
    Ok(port.unwrap_or_default())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = Database::from_env()?;
    database.warm_up().await?;

    println!("writes go to port {}", port(&database.writer).await?);
    println!("reads go to port {}", port(database.reader()).await?);
    if database.replica.readiness().is_serving()
        && let Err(error) = database.replica.query_drop("CREATE TABLE t (id INT)").await
    {
        println!("a write on the replica's pool: {error}");
    }

    let (writer, replica) = tokio::join!(database.writer.close(), database.replica.close());
    println!("writer: {writer}\nreplica: {replica}");
    Ok(())
}
