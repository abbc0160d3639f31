//! Rolling updates at the server's limit: the old replicas hold the connections that the new one
//! wants.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mysql_warm_pool::{Error, Pool, Readiness};
use test_support::{Server, config, eventually, pool, warm};
use tokio::task::JoinHandle;

const SIZE: usize = 10;

/// Creates an account that may have this many connections, and returns its URL.
async fn account(user: &str, connections: usize) -> String {
    let server = Server::shared().await;
    for statement in [
        format!("CREATE USER {user}@'%' IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS {connections}"),
        format!("GRANT ALL ON test.* TO {user}@'%'"),
    ] {
        server.execute(&statement).await;
    }
    server.url_as(user, "x")
}

/// A pool that has not opened anything yet.
fn replica(url: &str) -> Pool {
    let settings = config(url).size(SIZE).overflow(0);
    pool(settings.warm_up_timeout(Duration::from_secs(1)))
}

/// Sends requests one after the other until it is stopped. None may fail.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    task: JoinHandle<Result<(), String>>,
}

impl Load {
    fn on(pool: &Pool) -> Self {
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn({
            let (pool, stop, served) = (pool.clone(), Arc::clone(&stop), Arc::clone(&served));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut conn = pool.get().await.map_err(|error| error.to_string())?;
                    let answer: Result<Option<u8>, _> = conn.query_first("SELECT 1").await;
                    answer.map_err(|error| error.to_string())?;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
        });
        Self { stop, served, task }
    }

    async fn until_served(&self, more: usize) {
        let before = self.served.load(Ordering::Relaxed);
        eventually("requests are served", async || {
            self.served.load(Ordering::Relaxed) >= before + more
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        assert_eq!(self.task.await.expect("no panic"), Ok(()));
    }
}

#[tokio::test]
async fn a_replica_with_few_connections_serves_once_its_time_is_over() {
    let url = account("squeezed", 12).await;
    let old = warm(config(&url).size(SIZE).overflow(0)).await;
    let new = replica(&url);
    let mut watch = new.watch();
    let error = new.warm_up().await.expect_err("2 of 10");
    let Error::WarmUp { report, .. } = &error else {
        panic!("{error}");
    };
    assert!((1..=2).contains(&report.open), "{report}");
    assert!(error.is_transient(), "{error}");
    // It changes with the end of the warm-up, not at some later time.
    assert_eq!(new.readiness(), Readiness::Degraded);
    assert!(new.readiness().is_serving());
    drop(new.get().await.expect("it serves"));
    assert_eq!(watch.current(), Readiness::Degraded);
    old.close().await;
    new.wait_ready().await.expect("the rest");
    assert_eq!(watch.changed().await, Readiness::Ready);
    assert_eq!(new.status().open, SIZE);
}

#[tokio::test]
async fn a_pool_that_is_used_without_a_warm_up_degrades_too() {
    let url = account("unwarmed", 12).await;
    let _old = warm(config(&url).size(SIZE).overflow(0)).await;
    let new = replica(&url);
    drop(new.get().await.expect("one of two"));
    // Nobody asks the pool for anything: its own clock changes the readiness.
    let mut watch = new.watch();
    while watch.current() != Readiness::Degraded {
        assert_eq!(watch.current(), Readiness::Warming);
        watch.changed().await;
    }
}

#[tokio::test]
async fn a_pool_without_any_connection_is_unavailable() {
    let url = account("shut_out", 1).await;
    let _old = warm(config(&url).size(1).overflow(0)).await;
    let new = replica(&url);
    let error = new.warm_up().await.expect_err("0 of 10");
    assert!(error.is_transient(), "{error}");
    assert_eq!(new.readiness(), Readiness::Unavailable);
    assert!(!new.readiness().is_serving());
}

#[tokio::test]
async fn a_rolling_update_at_the_limit_finishes() {
    const REPLICAS: usize = 3;
    let url = account("rolling", REPLICAS * SIZE + 2).await;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        let pool = warm(config(&url).size(SIZE).overflow(0)).await;
        let load = Load::on(&pool);
        replicas.push((pool, load));
    }
    for _ in 0..REPLICAS {
        let new = replica(&url);
        // As a service does: it goes on as soon as the pool serves, fully warm or not.
        if let Err(error) = new.warm_up().await {
            assert!(error.is_transient(), "{error}");
        }
        assert!(new.readiness().is_serving(), "{}", new.status());
        let load = Load::on(&new);
        load.until_served(20).await;
        // The old replica is sent no more requests, and ends.
        let (old, old_load) = replicas.remove(0);
        old_load.end().await;
        old.close().await;
        replicas.push((new, load));
    }
    for (pool, load) in replicas {
        pool.wait_ready().await.expect("all of its connections");
        load.until_served(20).await;
        load.end().await;
        assert_eq!(pool.status().open, SIZE);
    }
}
