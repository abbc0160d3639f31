//! The peers that bring a pool of their own: bb8, mobc, sqlx.

use std::io;

use harness::{
    Peer, Result, Safety, Work, do_work,
    item::{self, LOOKUP},
    pools::Cloned,
    work::Caller,
};
use mysql_warm_pool::mysql_async::{self, Conn, Opts, prelude::Queryable};
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use tokio::task::yield_now;

pub const BB8: Peer = Peer {
    name: "bb8",
    title: "bb8, ping on checkout",
    readme: "bb8, ping on checkout",
    safety: Safety::InPart,
    open: |opts, connections| {
        Box::pin(async move {
            let pool = bb8::Pool::builder()
                .max_size(u32::try_from(connections)?)
                .build(Manager(opts))
                .await?;
            Ok(Box::new(Bb8(pool)) as _)
        })
    },
};

pub const MOBC: Peer = Peer {
    name: "mobc",
    title: "mobc, ping on checkout",
    readme: "mobc, ping on checkout",
    safety: Safety::InPart,
    open: |opts, connections| {
        Box::pin(async move {
            let pool = mobc::Pool::builder()
                .max_open(u64::try_from(connections)?)
                .max_idle(u64::try_from(connections)?)
                .build(Manager(opts));
            Ok(Box::new(Mobc(pool)) as _)
        })
    },
};

pub const SQLX: Peer = Peer {
    name: "sqlx",
    title: "sqlx, ping on checkout",
    readme: "sqlx as it comes (ping on checkout)",
    safety: Safety::InPart,
    open: |opts, connections| {
        Box::pin(async move { Ok(Box::new(Sqlx::open(&opts, connections).await?) as _) })
    },
};

/// The usual manager for the generic pools, written by hand.
struct Manager(Opts);

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
    async fn call(&mut self, work: Work, id: u32) -> Result<()> {
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
    async fn call(&mut self, work: Work, id: u32) -> Result<()> {
        let mut conn = self.0.get().await?;
        do_work!(conn, work, id);
        Ok(())
    }
}

#[derive(Clone)]
struct Sqlx(MySqlPool);

impl Sqlx {
    async fn open(opts: &Opts, connections: usize) -> Result<Self> {
        let mut options = MySqlConnectOptions::new()
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
    async fn call(&mut self, work: Work, id: u32) -> Result<()> {
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
