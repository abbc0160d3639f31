//! `Cluster::begin` and `Cluster::transaction`: on the member that takes writes, committed once.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use mysql_warm_pool::{
    Error, Executor, OwnedTransaction, TransactionOptions,
    cluster::{
        Cluster, ClusterConfig,
        Role::{Replica, Writer},
    },
    mysql_async::{self, TxOpts, prelude::Queryable},
};
use test_support::{Galera, Proxy, Replication, Server, config, eventually};
use tokio::{sync::Barrier, task::JoinSet, time::timeout};

use super::{address, make_read_only, make_writable, settings, until_roles, warm};

const OFTEN: Duration = Duration::from_millis(200);
const ADD: &str = "UPDATE counter SET value = value + 1 WHERE id = ?";
const COUNTERS: [&str; 2] = [
    "CREATE TABLE test.counter (id INT PRIMARY KEY, value INT NOT NULL) ENGINE=InnoDB",
    "INSERT INTO test.counter VALUES (1, 0), (2, 0)",
];
/// Rolls the transaction back, as a conflict does.
const LOSE: &str = "CREATE PROCEDURE test.lose() BEGIN ROLLBACK; \
                    SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'a conflict'; END";

/// Two servers that do not replicate, so that each shows what was executed on it. The first takes
/// writes.
async fn two_servers() -> (Server, Server) {
    let (one, two) = tokio::join!(Server::start(), Server::start());
    for server in [&one, &two] {
        for text in COUNTERS {
            server.execute(text).await;
        }
    }
    make_read_only(&[&two]).await;
    (one, two)
}

/// The values of both counters, as others see them.
async fn values(server: &Server) -> Vec<i32> {
    let mut admin = server.admin().await;
    let values = admin.query("SELECT value FROM test.counter ORDER BY id");
    values.await.expect("the values")
}

async fn add(db: &mut impl Executor, id: u32) -> Result<(), Error> {
    db.exec_drop(ADD, (id,)).await
}

async fn port(db: &mut impl Executor) -> Result<u16, Error> {
    let port = db.query_first("SELECT @@port").await?;
    Ok(port.expect("a port"))
}

/// An application's own error.
#[derive(Debug)]
enum AppError {
    Db(#[expect(dead_code, reason = "shown by `Debug`")] Error),
    Refused,
}

impl From<Error> for AppError {
    fn from(error: Error) -> Self {
        Self::Db(error)
    }
}

#[tokio::test]
async fn a_transaction_is_on_the_writer_and_commits_on_ok_only() {
    let (one, two) = two_servers().await;
    let cluster = warm(settings(&[&one, &two])).await;
    let mut transaction = cluster.begin().await.expect("begun");
    add(&mut transaction, 1).await.expect("added");
    transaction.commit().await.expect("committed");
    let mut transaction = cluster.begin().await.expect("begun");
    add(&mut transaction, 2).await.expect("added");
    drop(transaction);
    let read_only = cluster.begin_with(TxOpts::new().with_readonly(true)).await;
    let mut read_only = read_only.expect("begun");
    assert_eq!(port(&mut read_only).await.expect("a port"), one.port());
    let error = add(&mut read_only, 2).await.expect_err("read-only");
    assert!(
        matches!(&error, Error::Driver(mysql_async::Error::Server(error)) if error.code == 1792),
        "{error}"
    );
    drop(read_only);

    let done = cluster.transaction(async |mut transaction| {
        add(&mut transaction, 1).await?;
        Ok::<_, AppError>("done")
    });
    assert_eq!(done.await.expect("committed"), "done");
    let refused: Result<(), AppError> = cluster
        .transaction(async |mut transaction| {
            add(&mut transaction, 2).await?;
            Err(AppError::Refused)
        })
        .await;
    assert!(matches!(refused, Err(AppError::Refused)), "{refused:?}");
    let panicking = cluster.clone();
    let panicked = tokio::spawn(async move {
        let work = async |mut transaction: OwnedTransaction| -> Result<(), Error> {
            add(&mut transaction, 2).await?;
            panic!("in the closure");
        };
        let options = TransactionOptions::new().retries(3);
        panicking.transaction_with(options, work).await
    });
    assert!(panicked.await.expect_err("a panic").is_panic());
    let cancelled = cluster.transaction(async |mut transaction| {
        add(&mut transaction, 2).await?;
        pending::<Result<(), Error>>().await
    });
    timeout(Duration::from_millis(50), cancelled)
        .await
        .expect_err("cancelled");

    let pool = cluster.pool(&address(&one)).expect("a member");
    eventually("no connection is lost", async || {
        let status = pool.status();
        status.idle == status.open && status.in_use == 0
    })
    .await;
    assert_eq!(values(&one).await, [2, 0]);
    assert_eq!(values(&two).await, [0, 0]);
}

#[tokio::test]
async fn a_deadlock_on_the_writer_is_repeated() {
    let (one, two) = two_servers().await;
    let cluster = warm(settings(&[&one, &two])).await;
    for retries in [0, 3] {
        let barrier = Barrier::new(2);
        let tries = AtomicU32::new(0);
        let run = async |rows: [u32; 2]| {
            let mine = AtomicU32::new(0);
            let options = TransactionOptions::new().retries(retries);
            let work = async |mut transaction: OwnedTransaction| {
                tries.fetch_add(1, Ordering::SeqCst);
                add(&mut transaction, rows[0]).await?;
                if mine.fetch_add(1, Ordering::SeqCst) == 0 {
                    barrier.wait().await;
                }
                add(&mut transaction, rows[1]).await
            };
            cluster.transaction_with(options, work).await
        };
        let (here, there) = tokio::join!(run([1, 2]), run([2, 1]));
        let errors: Vec<_> = [here, there].into_iter().filter_map(Result::err).collect();
        if retries == 0 {
            assert!(
                errors.len() == 1 && errors.iter().all(Error::is_deadlock),
                "{errors:?}"
            );
            assert_eq!(tries.into_inner(), 2);
        } else {
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(tries.into_inner(), 3);
        }
    }
    assert_eq!(values(&one).await, [3, 3]);
}

#[tokio::test]
async fn callers_that_wait_begin_on_the_new_writer() {
    let (one, two) = two_servers().await;
    let cluster = warm(settings(&[&one, &two])).await;
    make_read_only(&[&one]).await;
    until_roles(&cluster, &[Replica, Replica]).await;
    let begun = async {
        let mut transaction = cluster.begin().await?;
        add(&mut transaction, 1).await?;
        transaction.commit().await
    };
    let run = cluster.transaction(async |mut transaction| add(&mut transaction, 2).await);
    let mut waiting = Box::pin(async { tokio::join!(begun, run) });
    timeout(Duration::from_millis(50), &mut waiting)
        .await
        .expect_err("both wait");
    make_writable(&two).await;
    let (begun, run) = waiting.await;
    begun.expect("committed");
    run.expect("committed");
    assert_eq!(values(&one).await, [0, 0]);
    assert_eq!(values(&two).await, [1, 1]);
}

#[tokio::test]
async fn without_a_writer_the_closure_does_not_run() {
    let (one, two) = two_servers().await;
    make_read_only(&[&one]).await;
    let short = |member: mysql_warm_pool::PoolConfig| member.timeout(Duration::from_millis(300));
    let cluster = Cluster::new(settings(&[&one, &two]).map_members(short)).expect("valid settings");
    let options = TransactionOptions::new().retries(3);
    let outcome: Result<(), Error> = cluster
        .transaction_with(options, async |_transaction| panic!("there is no writer"))
        .await;
    let error = outcome.expect_err("no writer");
    assert!(matches!(error, Error::NoWriter { .. }), "{error}");
    let error = cluster.begin().await.expect_err("no writer");
    assert!(matches!(error, Error::NoWriter { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_runs_on_the_new_writer() {
    let servers = Replication::start(1).await;
    let nodes: Vec<_> = servers.nodes().iter().collect();
    for text in COUNTERS.into_iter().chain([LOSE]) {
        nodes[0].execute(text).await;
    }
    let cluster = warm(settings(&nodes).check_every(OFTEN)).await;
    until_roles(&cluster, &[Writer, Replica]).await;
    let tries = AtomicU32::new(0);
    let options = TransactionOptions::new().retries(3);
    let ports = cluster.transaction_with(options, async |mut transaction| {
        let number = tries.fetch_add(1, Ordering::SeqCst);
        let port = port(&mut transaction).await?;
        add(&mut transaction, 1).await?;
        if number == 0 {
            let lost = transaction.query_drop("CALL lose()").await;
            // The writer changes before the closure is repeated.
            servers.switchover(1).await;
            until_roles(&cluster, &[Replica, Writer]).await;
            lost?;
        }
        Ok::<_, Error>(port)
    });
    assert_eq!(ports.await.expect("repeated"), nodes[1].port());
    assert_eq!((tries.into_inner(), cluster.failovers()), (2, 1));
    servers.wait_caught_up().await;
    for node in nodes {
        assert_eq!(values(node).await, [1, 0]);
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_repeated() {
    let (one, two) = two_servers().await;
    let proxy = Proxy::start(one.port()).await;
    let urls = [one.url_via(proxy.port()), two.url()];
    let members = urls.map(|url| config(&url).size(1).overflow(0));
    // Meanwhile the cluster sends nothing of its own.
    let seldom = Duration::from_secs(60);
    let cluster = warm(ClusterConfig::new(members).check_every(seldom)).await;
    let tries = AtomicU32::new(0);
    let sent_before = AtomicU64::new(u64::MAX);
    let options = TransactionOptions::new().retries(3);
    let transaction = cluster.transaction_with(options, async |mut transaction| {
        tries.fetch_add(1, Ordering::SeqCst);
        add(&mut transaction, 1).await?;
        proxy.stall();
        sent_before.store(proxy.requests(), Ordering::SeqCst);
        Ok::<_, Error>(())
    });
    let cut = async {
        eventually("the `COMMIT` is on its way", async || {
            proxy.requests() > sent_before.load(Ordering::SeqCst)
        })
        .await;
        proxy.cut().await;
    };
    let (outcome, ()) = tokio::join!(transaction, cut);
    let error = outcome.expect_err("a lost answer");
    assert!(error.is_commit_unknown(), "{error}");
    assert_eq!(tries.into_inner(), 1);
}

#[tokio::test]
async fn errors_name_the_line_that_began_the_transaction() {
    let server = Server::shared().await;
    let member = config(&server.url()).size(1).overflow(0);
    let member = member.leak_after(Duration::from_secs(60));
    let cluster = warm(ClusterConfig::new([member])).await;
    let is_named = async |line: &str| {
        let within = Duration::from_millis(20);
        let error = cluster.writer_within(within).await.expect_err("exhausted");
        let here = format!("{}:{line}", file!());
        assert!(error.to_string().contains(&here), "{here}: {error}");
    };
    let line = line!() + 1;
    let begun = cluster.begin().await.expect("begun");
    is_named(&line.to_string()).await;
    begun.rollback().await.expect("rolled back");
    let begun = cluster.begin_with(TxOpts::default()).await.expect("begun");
    is_named("").await;
    begun.rollback().await.expect("rolled back");
    let work = async |_transaction: OwnedTransaction| {
        is_named("").await;
        Ok::<_, Error>(())
    };
    cluster.transaction(work).await.expect("committed");
    let options = TransactionOptions::new().retries(1);
    let repeated = cluster.transaction_with(options, work).await;
    repeated.expect("committed");
}

/// Both clusters write to the same rows, `first` on the first of these servers and `second` on the
/// second.
pub(super) async fn conflicts_are_repeated(servers: &[Server], first: &Cluster, second: &Cluster) {
    for text in COUNTERS {
        servers[0].execute(text).await;
    }
    let everywhere = async |expected: [i32; 2]| {
        for server in servers {
            eventually("it has them", async || values(server).await == expected).await;
        }
    };
    let mut admin = servers[1].admin().await;
    eventually("the second has the table", async || {
        let count = admin.query_first("SELECT COUNT(*) FROM test.counter").await;
        matches!(count, Ok(Some(2)))
    })
    .await;

    // The second server commits in between, so the first one's `COMMIT` is refused.
    let (tries, done) = (AtomicU32::new(0), AtomicU32::new(0));
    let run = first.transaction_with(
        TransactionOptions::new().retries(20),
        async |mut transaction| {
            let number = tries.fetch_add(1, Ordering::SeqCst);
            assert_eq!(port(&mut transaction).await?, servers[0].port());
            add(&mut transaction, 1).await?;
            if number < 2 {
                let in_between = "UPDATE test.counter SET value = value + 10 WHERE id = 1";
                servers[1].execute(in_between).await;
            }
            done.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Error>(())
        },
    );
    run.await.expect("repeated");
    assert!(tries.load(Ordering::SeqCst) >= 3, "{tries:?}");
    assert!(done.load(Ordering::SeqCst) >= 2, "{done:?}");
    everywhere([21, 0]).await;

    let tries = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for cluster in [first, second, first, second] {
        let (cluster, tries) = (cluster.clone(), Arc::clone(&tries));
        callers.spawn(async move {
            for _ in 0..25 {
                let options = TransactionOptions::new().retries(1_000);
                let added = cluster.transaction_with(options, async |mut transaction| {
                    tries.fetch_add(1, Ordering::SeqCst);
                    add(&mut transaction, 2).await
                });
                added.await.expect("repeated");
            }
        });
    }
    callers.join_all().await;
    println!("{tries:?} attempts at 100 transactions");
    assert!(tries.load(Ordering::SeqCst) > 100, "{tries:?}");
    everywhere([21, 100]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_at_commit_on_galera_is_repeated() {
    let Some(servers) = Galera::start(3, &[]).await else {
        return;
    };
    let nodes: Vec<_> = servers.nodes().iter().collect();
    let first = warm(settings(&nodes)).await;
    let second = warm(settings(&[nodes[1], nodes[0]])).await;
    conflicts_are_repeated(servers.nodes(), &first, &second).await;
}
