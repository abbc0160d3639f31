//! The peers that share the driver: bare connections, this pool, deadpool, the driver's own pool.

use std::sync::Arc;

use deadpool::managed::{Metrics, RecycleResult};
use mysql_warm_pool::{
    Pool, PoolConfig,
    mysql_async::{self, Conn, Opts, OptsBuilder, PoolConstraints, PoolOpts, prelude::Queryable},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    Peer, Result, Safety, Work,
    work::{Caller, Source},
};

pub const BARE: Peer = Peer {
    name: "bare",
    title: "bare connections, no pool",
    readme: "bare connections, no pool",
    safety: Safety::NoPool,
    open: |opts, connections| {
        Box::pin(async move { Ok(Box::new(Bare::open(&opts, connections).await?) as _) })
    },
};

pub const OURS: Peer = Peer {
    name: "ours",
    title: "mysql-warm-pool",
    readme: "**mysql-warm-pool**",
    safety: Safety::Yes,
    open: |opts, connections| {
        Box::pin(async move {
            let config = PoolConfig::from_opts(opts).size(connections).overflow(0);
            let pool = Pool::new(config)?;
            pool.warm_up().await?;
            Ok(Box::new(Ours(pool)) as _)
        })
    },
};

pub const DEADPOOL: Peer = Peer {
    name: "deadpool",
    title: "deadpool, no checks",
    readme: "deadpool, no checks",
    safety: Safety::No,
    open: |opts, connections| {
        Box::pin(async move {
            let pool = deadpool::managed::Pool::builder(Manager(opts))
                .max_size(connections)
                .build()?;
            Ok(Box::new(Deadpool(pool)) as _)
        })
    },
};

pub const DRIVER_UNRESET: Peer = Peer {
    name: "mysql_async-no-reset",
    title: "mysql_async::Pool, no reset",
    readme: "`mysql_async::Pool`, no reset",
    safety: Safety::No,
    open: |opts, connections| {
        Box::pin(async move { Ok(Box::new(Driver::new(&opts, connections, false)?) as _) })
    },
};

pub const DRIVER: Peer = Peer {
    name: "mysql_async",
    title: "mysql_async::Pool",
    readme: "`mysql_async::Pool` as it comes",
    safety: Safety::InPart,
    open: |opts, connections| {
        Box::pin(async move { Ok(Box::new(Driver::new(&opts, connections, true)?) as _) })
    },
};

/// All peers of this file.
pub const ALL: [Peer; 5] = [BARE, OURS, DEADPOOL, DRIVER_UNRESET, DRIVER];

/// The same for all that hand out the driver's connections, with the methods natural to each.
#[macro_export]
macro_rules! do_work {
    ($conn:expr, $work:expr, $id:expr) => {{
        use $crate::{
            Work,
            item::{LOOKUP, check},
        };
        match $work {
            Work::Nothing => {}
            Work::Hold => tokio::task::yield_now().await,
            Work::Lookup => check($id, $conn.exec_first(LOOKUP, ($id,)).await?)?,
            Work::CommittedTransaction => {
                let mut transaction = $conn.start_transaction(Default::default()).await?;
                check($id, transaction.exec_first(LOOKUP, ($id,)).await?)?;
                transaction.commit().await?;
            }
            Work::DroppedTransaction => {
                let mut transaction = $conn.start_transaction(Default::default()).await?;
                check($id, transaction.exec_first(LOOKUP, ($id,)).await?)?;
            }
            Work::UserVariable => {
                $conn.query_drop("SET @peers = 7").await?;
                check($id, $conn.exec_first(LOOKUP, ($id,)).await?)?;
            }
        }
    }};
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
    async fn call(&mut self, work: Work, id: u32) -> Result<()> {
        do_work!(self, work, id);
        Ok(())
    }
}

/// A pool that is cloned for each task.
pub trait Cloned: Caller + Clone + Sync {}

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
    async fn call(&mut self, work: Work, id: u32) -> Result<()> {
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
    async fn call(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.get_conn().await?;
        do_work!(conn, work, id);
        Ok(())
    }
}

/// The usual manager for deadpool, written by hand.
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
    async fn call(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.get().await?;
        do_work!(conn, work, id);
        Ok(())
    }
}
