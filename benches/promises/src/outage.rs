//! Outages with callers at work: how soon readiness notices, and how soon callers are served again.
//! And what is dead without a sign of it: connections, and addresses of the server's name.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{
    Result,
    measure::{median, until},
    table::{Table, Unit},
};
use mysql_warm_pool::{Pool, Readiness, mysql_async::OptsBuilder};
use test_support::{Mute, Proxy, Server};
use tokio::task::JoinSet;

use crate::pools::{settings, warm};

const ROUNDS: usize = 3;
const LASTING: Duration = Duration::from_secs(1);
const NOTICED: f64 = 1_000.0;
/// Half a second, and one back-off step of a young outage.
const SERVED: f64 = 500.0 + 300.0;
const DEAD_CONNECTIONS: f64 = 1_500.0;
const DEAD_ADDRESSES: f64 = 2_000.0;
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

pub async fn measure(table: &mut Table) -> Result<()> {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    let opts = server.opts_via(proxy.port());
    let config = settings(&opts)
        .size(10)
        .overflow(10)
        .keepalive(Duration::from_millis(400));
    let pool = warm(config).await?;

    let killed = Breaking {
        how: "server killed and started again",
        begin: async || server.kill().await,
        end: async || server.start_again().await,
    };
    killed.measure(table, &pool).await?;
    let restarted = Breaking {
        how: "server shut down and started again",
        begin: async || server.shutdown().await,
        end: async || server.start_again().await,
    };
    restarted.measure(table, &pool).await?;
    let refusing = Breaking {
        how: "connections cut, port refusing",
        begin: async || {
            proxy.refuse().await;
            proxy.cut().await;
        },
        end: async || proxy.accept_again().await,
    };
    refusing.measure(table, &pool).await?;
    let closing = Breaking {
        how: "proxy without a backend",
        begin: async || {
            proxy.accept_and_close();
            proxy.cut().await;
        },
        end: async || proxy.forward(),
    };
    closing.measure(table, &pool).await?;
    let stalled = Breaking {
        how: "connections stalled, new ones too",
        begin: async || {
            proxy.accept_and_stall();
            proxy.stall();
        },
        end: async || proxy.resume(),
    };
    stalled.measure(table, &pool).await?;
    pool.close().await;
    attempts(table, &server).await?;
    dead_connections(table, &server).await?;
    dead_addresses(table, &server).await
}

/// One kind of outage.
struct Breaking<B, E> {
    how: &'static str,
    begin: B,
    end: E,
}

impl<B: AsyncFn(), E: AsyncFn()> Breaking<B, E> {
    async fn measure(&self, table: &mut Table, pool: &Pool) -> Result<()> {
        let (mut noticed, mut first, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let times = self.once(pool).await?;
            let all_times = [&mut noticed, &mut first, &mut all];
            for (times, time) in all_times.into_iter().zip(times) {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
        let how = self.how;
        for (what, times, bound) in [
            ("readiness leaves Ready", noticed, NOTICED),
            ("first call served after its end", first, SERVED),
            ("500 calls served after its end", all, SERVED),
        ] {
            let promise = format!("{how}: {what}");
            table.at_most(&promise, Unit::Milliseconds, median(times), bound);
        }
        Ok(())
    }

    /// The time until the outage was noticed, and from its end until one call and 500 calls were
    /// served.
    async fn once(&self, pool: &Pool) -> Result<[Duration; 3]> {
        let callers = Callers::start(pool);
        callers.until_served(200).await?;
        (self.begin)().await;
        let begun = Instant::now();
        until("readiness leaves Ready", async || {
            Ok(pool.readiness() != Readiness::Ready)
        })
        .await?;
        let noticed = begun.elapsed();
        tokio::time::sleep(LASTING.saturating_sub(noticed)).await;
        (self.end)().await;
        let ended = Instant::now();
        callers.until_served(1).await?;
        let first = ended.elapsed();
        callers.until_served(499).await?;
        let all = ended.elapsed();
        callers.stop().await;
        until("it is ready and full", async || {
            Ok(pool.readiness() == Readiness::Ready && pool.status().idle >= 10)
        })
        .await?;
        Ok([noticed, first, all])
    }
}

/// Fifty callers at work until they are stopped.
struct Callers {
    served: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Callers {
    fn start(pool: &Pool) -> Self {
        let served = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..50 {
            let (pool, served, stop) = (pool.clone(), Arc::clone(&served), Arc::clone(&stop));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if call(&pool).await.is_ok() {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                    // The caller's own work.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        Self {
            served,
            stop,
            tasks,
        }
    }

    /// Waits for this many more from now on.
    async fn until_served(&self, count: u64) -> Result<()> {
        let before = self.served.load(Ordering::Relaxed);
        until("callers are served", async || {
            Ok(self.served.load(Ordering::Relaxed) >= before + count)
        })
        .await
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
    }
}

async fn call(pool: &Pool) -> Result<()> {
    let mut conn = pool.get_within(Duration::from_secs(1)).await?;
    conn.query_drop("DO SLEEP(0.0005)").await?;
    Ok(())
}

/// Two hundred callers of a server that refuses every connection.
async fn attempts(table: &mut Table, server: &Server) -> Result<()> {
    let proxy = Proxy::start(server.port()).await;
    proxy.accept_and_close();
    let pool = Pool::new(settings(&server.opts_via(proxy.port())))?;
    let mut callers = JoinSet::new();
    for _ in 0..200 {
        let pool = pool.clone();
        callers.spawn(async move { pool.get_within(Duration::from_secs(2)).await.is_ok() });
    }
    callers.join_all().await;
    let attempts = proxy.accepted() as f64;
    let promise = "attempts to open in 2 s, with 200 callers of a server that closes each";
    table.at_most(promise, Unit::Count, attempts, 30.0);
    pool.close().await;
    Ok(())
}

/// No open connection answers any more, new ones do, and the limit allows no more.
async fn dead_connections(table: &mut Table, server: &Server) -> Result<()> {
    let proxy = Proxy::start(server.port()).await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let config = settings(&server.opts_via(proxy.port()))
            .size(4)
            .overflow(0)
            .validate_after_idle(Duration::ZERO)
            .keepalive(None)
            .connect_timeout(LONG);
        let pool = warm(config).await?;
        proxy.stall();
        let mut callers = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..8 {
            let pool = pool.clone();
            callers.spawn(async move {
                pool.get_within(LONG).await?.query_drop("DO 1").await?;
                Result::Ok(())
            });
        }
        while let Some(served) = callers.join_next().await {
            served??;
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        pool.close().await;
        proxy.resume();
    }
    let promise = "all 4 connections dead: the last of 8 callers served";
    table.at_most(promise, Unit::Milliseconds, median(times), DEAD_CONNECTIONS);
    Ok(())
}

/// Two addresses of a name swallow every packet, the third one is the server's.
async fn dead_addresses(table: &mut Table, server: &Server) -> Result<()> {
    let dead = [2, 3].map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 0, n)));
    let addresses = [dead[0], dead[1], IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let proxy = Proxy::start(server.port()).await;
        let _dead = (
            Mute::start(dead[0], proxy.port()).await,
            Mute::start(dead[1], proxy.port()).await,
        );
        let opts = OptsBuilder::from_opts(server.opts_via(proxy.port()));
        let opts = opts.resolved_ips(Some(addresses.as_slice()));
        let config = settings(&opts.into()).size(20).connect_timeout(LONG);
        let begun = Instant::now();
        let pool = warm(config).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        pool.close().await;
    }
    let promise = "two of a name's three addresses dead: warming up 20 connections";
    table.at_most(promise, Unit::Milliseconds, median(times), DEAD_ADDRESSES);
    Ok(())
}
