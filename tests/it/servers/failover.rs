//! Failover behind a proxy, with writers at work: a cluster node without quorum, a demoted primary.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mysql_warm_pool::{Pool, metrics::DiscardReason, report::Warning};
use test_support::{Galera, Proxy, Server, config, copy_folder, eventually, warm};
use tokio::{sync::watch, task::JoinSet};

/// Twenty callers that write until they are stopped.
struct Writers {
    /// Each task returns the last error it met.
    tasks: JoinSet<Option<String>>,
    stop: watch::Sender<bool>,
    /// The number of successful writes.
    written: Arc<AtomicU64>,
}

impl Writers {
    fn start(pool: &Pool) -> Self {
        let stop = watch::Sender::new(false);
        let written = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let (pool, stopped) = (pool.clone(), stop.subscribe());
            let written = Arc::clone(&written);
            tasks.spawn(async move {
                let mut last_error = None;
                while !*stopped.borrow() {
                    match write(&pool).await {
                        Ok(()) => {
                            written.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => last_error = Some(error),
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await; // the caller's own work
                }
                last_error
            });
        }
        Self {
            tasks,
            stop,
            written,
        }
    }

    /// Waits until they have written a hundred more rows.
    async fn write(&self) {
        let before = self.written.load(Ordering::Relaxed);
        eventually("they write", async || {
            self.written.load(Ordering::Relaxed) >= before + 100
        })
        .await;
    }

    /// Stops them and returns the last error each one met.
    async fn stop(self) -> Vec<String> {
        self.stop.send_replace(true);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

async fn write(pool: &Pool) -> Result<(), String> {
    let mut conn = pool.get().await.map_err(|error| error.to_string())?;
    conn.query_drop("INSERT INTO entry () VALUES ()")
        .await
        .map_err(|error| error.to_string())
}

/// Runs writers while `old` refuses writes and, a little later, the proxy switches to `new`.
async fn failover(old: &Server, new: &Server, ending: &str, codes: &[&str]) {
    let proxy = Proxy::start(old.port()).await;
    let pool = warm(config(&old.url_via(proxy.port())).size(10).overflow(10)).await;
    let writers = Writers::start(&pool);
    writers.write().await;

    old.execute(ending).await;
    eventually("a caller gets the error", async || {
        let discarded = pool.metrics().discarded;
        discarded
            .iter()
            .any(|(reason, count)| reason.name() == "read_only" && *count > 0)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(600)).await; // the interval between the proxy's health checks
    eventually("it lets them in again", async || {
        old.threads_connected().await > 0
    })
    .await;
    proxy.switch_to(new.port());
    let switched = Instant::now();
    writers.write().await;
    println!("written again after {:?}", switched.elapsed());
    eventually("all have left", async || old.threads_connected().await == 0).await;
    let errors = writers.stop().await;
    assert!(!errors.is_empty());
    for error in errors {
        assert!(codes.iter().any(|code| error.contains(code)), "{error}");
    }
    eventually("it is full", async || pool.status().idle >= 10).await;
    for _ in 0..100 {
        write(&pool).await.expect("written");
    }
}

const TABLE: &str = "CREATE TABLE test.entry (id INT AUTO_INCREMENT PRIMARY KEY)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_quorum_is_left_once_the_proxy_leads_elsewhere() {
    // Of two nodes, the second goes on alone.
    let Some(cluster) = Galera::start(2, &[]).await else {
        return;
    };
    let [lonely, rest] = [0, 1].map(|n| cluster.node(n));
    lonely.execute(TABLE).await;
    let isolate = "SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'";
    // With the code of a conflict between the two nodes, and the code of a write whose outcome the
    // node could not learn.
    failover(lonely, rest, isolate, &["1047", "1213", "1205"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_primary_is_left_once_the_proxy_leads_elsewhere() {
    let (old, new) = (Server::start().await, Server::start().await);
    old.execute(TABLE).await;
    new.execute(TABLE).await;
    failover(&old, &new, "SET GLOBAL read_only = 1", &["1290"]).await;
}

#[tokio::test]
async fn a_server_that_became_read_only_has_its_name_resolved_anew() {
    let (old, new) = (Server::start().await, Server::start().await);
    for server in [&old, &new] {
        server
            .execute("CREATE TABLE test.entry (id INT AUTO_INCREMENT PRIMARY KEY)")
            .await;
    }
    let proxy = Proxy::start(old.port()).await;
    let pool = warm(config(&old.url_via(proxy.port())).size(5).overflow(5)).await;
    let insert = async || {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("INSERT INTO entry () VALUES ()").await
    };
    insert().await.expect("written");

    // A switchover: the old server is read-only, and the name points to the new one.
    old.execute("SET GLOBAL read_only = 1").await;
    proxy.switch_to(new.port());
    let error = insert().await.expect_err("read-only");
    assert!(error.to_string().contains("1290"), "{error}");
    eventually("all are connected to the new one", async || {
        old.threads_connected().await == 0 && new.threads_connected().await >= 5
    })
    .await;
    for _ in 0..20 {
        insert().await.expect("written to the new one");
    }

    // Read-only for good: each caller gets the error, but connections are not replaced over and
    // over.
    new.execute("SET GLOBAL read_only = 1").await;
    let opened = pool.metrics().opened;
    let start = Instant::now();
    let mut errors = 0;
    while start.elapsed() < Duration::from_secs(3) {
        insert().await.expect_err("read-only");
        errors += 1;
    }
    // After 0, 0.25, 0.75 and 1.75 s: each refresh opens five connections, plus a few for waiting
    // callers. A refresh at each error would open thousands.
    let opened = pool.metrics().opened - opened;
    println!("{opened} opened at {errors} errors");
    assert!((5..=100).contains(&opened), "{opened} opened");
}

#[tokio::test]
async fn an_error_in_a_callers_read_only_transaction_is_no_failover() {
    use mysql_warm_pool::mysql_async::TxOpts;
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.entry (id INT AUTO_INCREMENT PRIMARY KEY)")
        .await;
    let pool = warm(config(&server.url()).size(2)).await;
    for raw in [true, false] {
        let mut conn = pool.get().await.expect("a connection");
        let insert = "INSERT INTO entry () VALUES ()";
        let error = if raw {
            conn.query_drop("START TRANSACTION READ ONLY")
                .await
                .expect("begun");
            conn.query_drop(insert).await.expect_err("read-only")
        } else {
            let mut options = TxOpts::default();
            options.with_readonly(true);
            let mut transaction = conn.start_transaction(options).await.expect("begun");
            transaction.query_drop(insert).await.expect_err("read-only")
        };
        assert!(error.to_string().contains("1792"), "{error}");
        drop(conn);
    }
    assert_eq!(pool.metrics().opened, 2);
    // A pool whose sessions are read-only has asked for it too.
    let read_only = "SET SESSION TRANSACTION READ ONLY";
    let pool = warm(config(&server.url()).size(2).init([read_only])).await;
    for _ in 0..2 {
        let mut conn = pool.get().await.expect("a connection");
        let error = conn.query_drop("INSERT INTO entry () VALUES ()").await;
        let error = error.expect_err("read-only");
        assert!(error.to_string().contains("1792"), "{error}");
    }
    let discarded = pool.metrics().discarded;
    let left = discarded
        .iter()
        .find(|(reason, _)| *reason == DiscardReason::ReadOnly);
    assert_eq!(left.map_or(0, |(_, count)| *count), 0, "{discarded:?}");
}

/// As on a reader of Aurora: `read_only` is off, and the tables are read-only nevertheless.
#[tokio::test]
async fn a_server_whose_tables_are_read_only_is_left_for_the_writer() {
    let reader = Server::builder()
        .option("--innodb-read-only")
        .prepare()
        .await;
    let writer = Server::start().await;
    writer.execute(TABLE).await;
    writer.shutdown().await;
    let data = reader.folder().join("data");
    fs::remove_dir_all(&data).expect("removed");
    copy_folder(&writer.folder().join("data"), &data);
    // The file with a MySQL server's own id.
    fs::remove_file(data.join("auto.cnf")).ok();
    writer.start_again().await;
    reader.start_again().await;
    let proxy = Proxy::start(reader.port()).await;

    let pool = test_support::pool(config(&reader.url_via(proxy.port())).size(4).overflow(2));
    let report = pool.warm_up().await.expect("warm");
    assert_eq!(report.warnings, [Warning::ReadOnly], "{report}");
    assert!(report.server.is_some_and(|server| server.read_only));
    let error = write(&pool).await.expect_err("read-only");
    println!("{error}");
    let discarded = || {
        let discarded = pool.metrics().discarded.into_iter();
        let read_only = discarded.filter(|(reason, _)| reason.name() == "read_only");
        read_only.map(|(_, count)| count).sum::<u64>()
    };
    eventually("its connection is discarded", async || discarded() > 0).await;
    proxy.switch_to(writer.port());
    eventually("a later refusal leads to the writer", async || {
        write(&pool).await.is_ok()
    })
    .await;
    eventually("all have left and are replaced", async || {
        let status = pool.status();
        reader.threads_connected().await == 0 && status.open >= 4 && status.connecting == 0
    })
    .await;

    // On a server that takes writes, a table that does not is no failover.
    let before = discarded();
    let mut conn = pool.get().await.expect("a connection");
    let error = conn
        .query_drop("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1036, MESSAGE_TEXT = 'read only'")
        .await
        .expect_err("an error of that number");
    assert!(error.to_string().contains("1036"), "{error}");
    drop(conn);
    assert_eq!(discarded(), before);
}
