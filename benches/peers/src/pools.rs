//! The peers: each gets connections in its own way, and does the same work on them.

use std::{future::Future, io, sync::Arc};

use deadpool::managed::{Metrics, RecycleResult};
use futures_util::future::BoxFuture;
use mysql_warm_pool::mysql_async::{Conn, Opts, OptsBuilder, PoolConstraints, PoolOpts, TxOpts, prelude::Queryable, self};
use mysql_warm_pool::{Pool, PoolConfig};
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use tokio::{
    sync::{Barrier, Mutex, OwnedMutexGuard},
    task::{JoinSet, yield_now},
};

use crate::{
    item::{self, LOOKUP},
    measure::{Length, Round, drive},
    sqlalchemy::Sqlalchemy,
};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// What is done with a connection between getting and returning it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    Nothing,
    /// Nothing, but other tasks have their turn meanwhile, so that those who want the connection have to wait for it.
    Hold,
    Lookup,
    CommittedTransaction,
    DroppedTransaction,
    UserVariable,
}

impl Work {
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Hold,
        Self::Lookup,
        Self::CommittedTransaction,
        Self::DroppedTransaction,
        Self::UserVariable,
    ];

    /// As it is given as an argument.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Hold => "hold",
            Self::Lookup => "lookup",
            Self::CommittedTransaction => "committed-transaction",
            Self::DroppedTransaction => "dropped-transaction",
            Self::UserVariable => "user-variable",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    Bare,
    Ours,
    Deadpool,
    DriverUnreset,
    Driver,
    Bb8,
    Mobc,
    Sqlx,
    Sqlalchemy,
    SqlalchemyPing,
}

impl Name {
    pub const ALL: [Self; 10] = [
        Self::Bare,
        Self::Ours,
        Self::Deadpool,
        Self::DriverUnreset,
        Self::Driver,
        Self::Bb8,
        Self::Mobc,
        Self::Sqlx,
        Self::Sqlalchemy,
        Self::SqlalchemyPing,
    ];

    /// As it is given as an argument.
    pub fn short(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Ours => "ours",
            Self::Deadpool => "deadpool",
            Self::DriverUnreset => "mysql_async-no-reset",
            Self::Driver => "mysql_async",
            Self::Bb8 => "bb8",
            Self::Mobc => "mobc",
            Self::Sqlx => "sqlx",
            Self::Sqlalchemy => "sqlalchemy",
            Self::SqlalchemyPing => "sqlalchemy-ping",
        }
    }

    /// As it stands in the tables.
    pub fn long(self) -> &'static str {
        match self {
            Self::Bare => "bare connections, no pool",
            Self::Ours => "mysql-warm-pool",
            Self::Deadpool => "deadpool, no checks",
            Self::DriverUnreset => "mysql_async::Pool, no reset",
            Self::Driver => "mysql_async::Pool",
            Self::Bb8 => "bb8, ping on checkout",
            Self::Mobc => "mobc, ping on checkout",
            Self::Sqlx => "sqlx, ping on checkout",
            Self::Sqlalchemy => "SQLAlchemy with asyncmy",
            Self::SqlalchemyPing => "SQLAlchemy, pool_pre_ping",
        }
    }

    /// Whether it can be had here.
    pub fn is_at_hand(self) -> bool {
        !matches!(self, Self::Sqlalchemy | Self::SqlalchemyPing) || Sqlalchemy::is_at_hand()
    }

    /// Whether it may lend a connection that is out of step, or that another borrower has changed.
    pub fn is_unsafe(self) -> bool {
        matches!(self, Self::Deadpool | Self::DriverUnreset)
    }

    /// Opens so many connections.
    pub async fn open(self, opts: &Opts, connections: usize) -> Result<Box<dyn Peer>> {
        Ok(match self {
            Self::Bare => Box::new(Bare::open(opts, connections).await?),
            Self::Ours => {
                let config = PoolConfig::from_opts(opts.clone())
                    .size(connections)
                    .overflow(0);
                let pool = Pool::new(config)?;
                pool.warm_up().await?;
                Box::new(Ours(pool))
            }
            Self::Deadpool => {
                let pool = deadpool::managed::Pool::builder(Manager(opts.clone()))
                    .max_size(connections)
                    .build()?;
                Box::new(Deadpool(pool))
            }
            Self::DriverUnreset => Box::new(Driver::new(opts, connections, false)?),
            Self::Driver => Box::new(Driver::new(opts, connections, true)?),
            Self::Bb8 => {
                let pool = bb8::Pool::builder()
                    .max_size(u32::try_from(connections)?)
                    .build(Manager(opts.clone()))
                    .await?;
                Box::new(Bb8(pool))
            }
            Self::Mobc => {
                let pool = mobc::Pool::builder()
                    .max_open(u64::try_from(connections)?)
                    .max_idle(u64::try_from(connections)?)
                    .build(Manager(opts.clone()));
                Box::new(Mobc(pool))
            }
            Self::Sqlx => Box::new(Sqlx::open(opts, connections).await?),
            Self::Sqlalchemy => Box::new(Sqlalchemy::start(connections, false)?),
            Self::SqlalchemyPing => Box::new(Sqlalchemy::start(connections, true)?),
        })
    }
}

/// One peer with its connections.
pub trait Peer: Send + Sync {
    /// Has so many tasks do the work over and over.
    fn round(&self, work: Work, tasks: usize, length: Length) -> BoxFuture<'_, Result<Round>>;

    /// Has so many tasks do the work so many times in all.
    fn times(&self, work: Work, tasks: u32, times: u32) -> BoxFuture<'_, Result<()>>;
}

/// How a task comes by a connection.
trait Source: Send + Sync {
    type Caller: Caller;

    /// For the task with this number.
    fn caller(&self, task: usize) -> impl Future<Output = Self::Caller> + Send;
}

pub trait Caller: Send + 'static {
    /// Gets a connection, does the work, returns it.
    fn borrow(&mut self, work: Work, id: u32) -> impl Future<Output = Result<()>> + Send;
}

impl<S: Source> Peer for S {
    fn round(&self, work: Work, tasks: usize, length: Length) -> BoxFuture<'_, Result<Round>> {
        Box::pin(async move {
            let start = Arc::new(Barrier::new(tasks));
            let mut running = JoinSet::new();
            for task in 0..tasks {
                let mut caller = self.caller(task).await;
                let start = Arc::clone(&start);
                running.spawn(async move {
                    start.wait().await;
                    drive(task, length, &mut caller, work).await
                });
            }
            let mut latencies = Vec::new();
            while let Some(done) = running.join_next().await {
                latencies.append(&mut done??);
            }
            Ok(Round::new(latencies, length))
        })
    }

    fn times(&self, work: Work, tasks: u32, times: u32) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut running = JoinSet::new();
            for task in 0..tasks {
                let mut caller = self.caller(task as usize).await;
                running.spawn(async move {
                    for id in 0..(times + task) / tasks {
                        caller.borrow(work, id % item::ROWS).await?;
                    }
                    Result::Ok(())
                });
            }
            while let Some(done) = running.join_next().await {
                done??;
            }
            Ok(())
        })
    }
}

/// The same for all that lend connections of the driver's; each with the methods that are natural to it.
macro_rules! do_work {
    ($conn:expr, $work:expr, $id:expr) => {
        match $work {
            Work::Nothing => {}
            Work::Hold => yield_now().await,
            Work::Lookup => item::check($id, $conn.exec_first(LOOKUP, ($id,)).await?)?,
            Work::CommittedTransaction => {
                let mut transaction = $conn.start_transaction(TxOpts::default()).await?;
                item::check($id, transaction.exec_first(LOOKUP, ($id,)).await?)?;
                transaction.commit().await?;
            }
            Work::DroppedTransaction => {
                let mut transaction = $conn.start_transaction(TxOpts::default()).await?;
                item::check($id, transaction.exec_first(LOOKUP, ($id,)).await?)?;
            }
            Work::UserVariable => {
                $conn.query_drop("SET @peers = 7").await?;
                item::check($id, $conn.exec_first(LOOKUP, ($id,)).await?)?;
            }
        }
    };
}

/// Dedicated connections: each task has its own, and nothing is got or returned.
struct Bare(Vec<Arc<Mutex<Conn>>>);

impl Bare {
    async fn open(opts: &Opts, connections: usize) -> Result<Self> {
        let mut all = Vec::new();
        for _ in 0..connections {
            all.push(Arc::new(Mutex::new(Conn::new(opts.clone()).await?)));
        }
        Ok(Self(all))
    }
}

impl Source for Bare {
    type Caller = OwnedMutexGuard<Conn>;

    /// Locked for the whole of a round.
    async fn caller(&self, task: usize) -> Self::Caller {
        Arc::clone(&self.0[task % self.0.len()]).lock_owned().await
    }
}

impl Caller for OwnedMutexGuard<Conn> {
    async fn borrow(&mut self, work: Work, id: u32) -> Result<()> {
        do_work!(self, work, id);
        Ok(())
    }
}

/// Pools are cloned for each task.
trait Cloned: Caller + Clone + Sync {}

impl<P: Cloned> Source for P {
    type Caller = P;

    async fn caller(&self, _: usize) -> P {
        self.clone()
    }
}

#[derive(Clone)]
struct Ours(Pool);

impl Cloned for Ours {}

impl Caller for Ours {
    async fn borrow(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.get().await?;
        do_work!(conn, work, id);
        Ok(())
    }
}

#[derive(Clone)]
struct Driver(mysql_async::Pool);

impl Driver {
    fn new(opts: &Opts, connections: usize, reset: bool) -> Result<Self> {
        let constraints = PoolConstraints::new(connections, connections);
        let pool = PoolOpts::new()
            .with_constraints(constraints.ok_or("no room for connections")?)
            .with_reset_connection(reset);
        let opts = OptsBuilder::from_opts(opts.clone()).pool_opts(pool);
        Ok(Self(mysql_async::Pool::new(opts)))
    }
}

impl Cloned for Driver {}

impl Caller for Driver {
    async fn borrow(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.get_conn().await?;
        do_work!(conn, work, id);
        Ok(())
    }
}

/// The manager that is written by hand for the generic pools.
struct Manager(Opts);

impl deadpool::managed::Manager for Manager {
    type Type = Conn;
    type Error = mysql_async::Error;

    async fn create(&self) -> mysql_async::Result<Conn> {
        Conn::new(self.0.clone()).await
    }

    async fn recycle(&self, _: &mut Conn, _: &Metrics) -> RecycleResult<mysql_async::Error> {
        Ok(())
    }
}

#[derive(Clone)]
struct Deadpool(deadpool::managed::Pool<Manager>);

impl Cloned for Deadpool {}

impl Caller for Deadpool {
    async fn borrow(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.get().await?;
        do_work!(conn, work, id);
        Ok(())
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = Conn;
    type Error = mysql_async::Error;

    async fn connect(&self) -> mysql_async::Result<Conn> {
        Conn::new(self.0.clone()).await
    }

    async fn is_valid(&self, conn: &mut Conn) -> mysql_async::Result<()> {
        conn.ping().await
    }

    fn has_broken(&self, _: &mut Conn) -> bool {
        false
    }
}

#[derive(Clone)]
struct Bb8(bb8::Pool<Manager>);

impl Cloned for Bb8 {}

impl Caller for Bb8 {
    async fn borrow(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.get().await?;
        do_work!(conn, work, id);
        Ok(())
    }
}

#[mobc::async_trait]
impl mobc::Manager for Manager {
    type Connection = Conn;
    type Error = mysql_async::Error;

    async fn connect(&self) -> mysql_async::Result<Conn> {
        Conn::new(self.0.clone()).await
    }

    async fn check(&self, mut conn: Conn) -> mysql_async::Result<Conn> {
        conn.ping().await?;
        Ok(conn)
    }
}

#[derive(Clone)]
struct Mobc(mobc::Pool<Manager>);

impl Cloned for Mobc {}

impl Caller for Mobc {
    async fn borrow(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.get().await?;
        do_work!(conn, work, id);
        Ok(())
    }
}

#[derive(Clone)]
struct Sqlx(MySqlPool);

impl Sqlx {
    async fn open(opts: &Opts, connections: usize) -> Result<Self> {
        let mut options = sqlx::mysql::MySqlConnectOptions::new()
            .host(opts.ip_or_hostname())
            .port(opts.tcp_port())
            .username(opts.user().unwrap_or_default());
        if let Some(password) = opts.pass() {
            options = options.password(password);
        }
        if let Some(database) = opts.db_name() {
            options = options.database(database);
        }
        let pool = MySqlPoolOptions::new()
            .max_connections(u32::try_from(connections)?)
            .connect_with(options)
            .await?;
        Ok(Self(pool))
    }
}

impl Cloned for Sqlx {}

impl Caller for Sqlx {
    async fn borrow(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.acquire().await?;
        match work {
            Work::Nothing => Ok(()),
            Work::Hold => {
                yield_now().await;
                Ok(())
            }
            Work::Lookup => {
                let found = sqlx::query_scalar(LOOKUP).bind(id);
                item::check(id, found.fetch_optional(&mut *conn).await?)
            }
            _ => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }
}
