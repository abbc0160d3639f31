//! `Pool::begin` and `Pool::transaction`: nothing is committed that nobody committed, and nothing
//! twice.

use std::{
    future::pending,
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use mysql_warm_pool::{
    Error, Executor, OwnedTransaction, Pool, TransactionOptions,
    error::is_transient,
    mysql_async::{self, IsolationLevel, TxOpts, prelude::Queryable},
};
use test_support::{Server, config, eventually, tls, warm};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Barrier,
    time::timeout,
};

const ADD: &str = "UPDATE counter SET value = value + 1 WHERE id = ?";

async fn server_with_counters(options: &[&str]) -> Server {
    let mut builder = Server::builder();
    for option in options {
        builder = builder.option(option);
    }
    let server = builder.start().await;
    server
        .execute("CREATE TABLE test.counter (id INT PRIMARY KEY, value INT) ENGINE=InnoDB")
        .await;
    server
        .execute("INSERT INTO test.counter VALUES (1, 0), (2, 0), (3, 0)")
        .await;
    server
}

async fn pool_of(server: &Server, size: usize) -> Pool {
    warm(config(&server.url()).size(size).overflow(0)).await
}

/// The values of all counters, as others see them.
async fn values(server: &Server) -> Vec<i32> {
    let mut admin = server.admin().await;
    let values = admin
        .query("SELECT value FROM test.counter ORDER BY id")
        .await;
    values.expect("the values")
}

async fn add(db: &mut impl Executor, id: u32) -> Result<(), Error> {
    db.exec_drop(ADD, (id,)).await
}

/// An application's own error, with one conversion.
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
async fn an_owned_transaction_commits_or_rolls_back() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    // Moved into a task.
    let mut transaction = pool.begin().await.expect("begun");
    let added = tokio::spawn(async move {
        add(&mut transaction, 1).await.expect("added");
        transaction
    });
    let transaction = added.await.expect("no panic");
    assert_eq!(transaction.affected_rows(), 1);
    transaction.commit().await.expect("committed");
    assert_eq!(pool.status().idle, 1);
    for dropped in [true, false] {
        let mut transaction = pool.begin().await.expect("begun");
        add(&mut transaction, 2).await.expect("added");
        if dropped {
            drop(transaction);
        } else {
            transaction.rollback().await.expect("rolled back");
        }
    }
    // Dropped outside of any runtime.
    let mut transaction = pool.begin().await.expect("begun");
    add(&mut transaction, 3).await.expect("added");
    let dropping = std::thread::spawn(move || drop(transaction));
    dropping.join().expect("no panic");
    eventually("it is idle", async || pool.status().idle == 1).await;
    assert_eq!(values(&server).await, [1, 0, 0]);
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn a_transaction_begins_as_its_options_say() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut read_only = pool
        .begin_with(TxOpts::new().with_readonly(true))
        .await
        .expect("begun");
    let error = add(&mut read_only, 1).await.expect_err("read-only");
    assert!(
        matches!(&error, Error::Driver(mysql_async::Error::Server(error)) if error.code == 1792),
        "{error}"
    );
    read_only.commit().await.expect("committed");
    for level in [
        IsolationLevel::ReadCommitted,
        IsolationLevel::RepeatableRead,
    ] {
        let mut options = TxOpts::new();
        options
            .with_isolation_level(level)
            .with_consistent_snapshot(level == IsolationLevel::RepeatableRead)
            .with_readonly(false);
        let before = values(&server).await[0];
        let mut transaction = pool.begin_with(&options).await.expect("begun");
        server
            .execute("UPDATE test.counter SET value = value + 1")
            .await;
        let seen: Option<i32> = transaction
            .query_first("SELECT value FROM counter WHERE id = 1")
            .await
            .expect("an answer");
        let is_snapshot = level == IsolationLevel::RepeatableRead;
        assert_eq!(seen, Some(before + i32::from(!is_snapshot)), "{level}");
        transaction.rollback().await.expect("rolled back");
    }
    // The next one begins as the session says.
    let mut plain = pool.begin().await.expect("begun");
    add(&mut plain, 1).await.expect("read and write");
    plain.rollback().await.expect("rolled back");
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn an_owned_transaction_refuses_what_is_not_in_it() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let mut transaction = pool.begin().await.expect("begun");
    let error = transaction.query_drop("BEGIN").await.expect_err("nested");
    assert!(matches!(error, Error::InTransaction), "{error}");
    add(&mut transaction, 1).await.expect("added");
    transaction
        .query_drop("CREATE TABLE other (id INT)")
        .await
        .expect("created");
    let error = add(&mut transaction, 2).await.expect_err("refused");
    assert!(matches!(error, Error::TransactionEnded), "{error}");
    transaction
        .commit()
        .await
        .expect("the server has committed it");
    let mut transaction = pool.begin().await.expect("begun");
    transaction
        .query_drop("ROLLBACK")
        .await
        .expect("rolled back");
    let error = transaction.commit().await.expect_err("rolled back");
    assert!(matches!(error, Error::TransactionEnded), "{error}");
    // The bare `Conn` is the same connection.
    let mut transaction = pool.begin().await.expect("begun");
    let bare: &mut mysql_async::Conn = &mut transaction;
    bare.query_drop("UPDATE counter SET value = 7")
        .await
        .expect("updated");
    transaction.rollback().await.expect("rolled back");
    assert_eq!(values(&server).await, [1, 0, 0]);
}

#[tokio::test]
async fn a_closure_commits_on_ok_only() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let value = pool
        .transaction(async |mut transaction| {
            add(&mut transaction, 1).await?;
            Ok::<_, AppError>("done")
        })
        .await;
    assert_eq!(value.expect("committed"), "done");
    let refused: Result<(), AppError> = pool
        .transaction(async |mut transaction| {
            add(&mut transaction, 2).await?;
            Err(AppError::Refused)
        })
        .await;
    assert!(matches!(refused, Err(AppError::Refused)), "{refused:?}");
    assert_eq!(
        (values(&server).await, pool.status().idle),
        (vec![1, 0, 0], 1)
    );
    let panicking = pool.clone();
    let panicked = tokio::spawn(async move {
        let work = async |mut transaction: OwnedTransaction| -> Result<(), Error> {
            add(&mut transaction, 2).await?;
            panic!("in the closure");
        };
        panicking.transaction(work).await
    });
    assert!(panicked.await.expect_err("a panic").is_panic());
    let cancelled = timeout(
        Duration::from_millis(50),
        pool.transaction(async |mut transaction| {
            add(&mut transaction, 2).await?;
            pending::<Result<(), Error>>().await
        }),
    );
    assert!(cancelled.await.is_err());
    eventually("it is idle", async || pool.status().idle == 1).await;
    assert_eq!(values(&server).await, [1, 0, 0]);
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn a_closure_may_end_its_transaction_itself() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 1).await;
    let committed: Result<(), AppError> = pool
        .transaction(async |mut transaction| {
            add(&mut transaction, 1).await?;
            transaction.commit().await?;
            Err(AppError::Refused)
        })
        .await;
    assert!(matches!(committed, Err(AppError::Refused)));
    let rolled_back: Result<u32, AppError> = pool
        .transaction(async |mut transaction| {
            add(&mut transaction, 2).await?;
            transaction.rollback().await?;
            Ok(7)
        })
        .await;
    assert_eq!(rolled_back.expect("its value"), 7);
    // Moved elsewhere, it is not committed.
    let mut kept = None;
    let outcome: Result<(), Error> = pool
        .transaction(async |mut transaction| {
            add(&mut transaction, 3).await?;
            kept = Some(transaction);
            Ok(())
        })
        .await;
    assert!(
        matches!(outcome, Err(Error::TransactionInUse)),
        "{outcome:?}"
    );
    drop(kept);
    eventually("it is idle", async || pool.status().idle == 1).await;
    assert_eq!(values(&server).await, [1, 0, 0]);
}

/// A service whose method borrows what its closure uses.
struct Service {
    pool: Arc<Pool>,
    name: String,
}

impl Service {
    async fn run(&self, ids: &[u32], who: &str) -> Result<usize, AppError> {
        let options = TransactionOptions::new().retries(2);
        self.pool
            .transaction_with(options, async |mut transaction| {
                for id in ids {
                    add(&mut transaction, *id).await?;
                    let mut savepoint = transaction.savepoint().await?;
                    let map = |value: i32| value + i32::try_from(ids.len()).unwrap_or(0);
                    savepoint
                        .query_map("SELECT value FROM counter", map)
                        .await?;
                    savepoint.release().await?;
                }
                let names = (self.name.as_str(), who);
                let longest: Option<usize> = transaction
                    .exec_first("SELECT LENGTH(CONCAT(?, ?))", names)
                    .await?;
                longest.ok_or(AppError::Refused)
            })
            .await
    }

    async fn run_once(&self, ids: Vec<u32>) -> Result<Vec<u32>, AppError> {
        self.pool
            .transaction(async |mut transaction| {
                for id in &ids {
                    add(&mut transaction, *id).await?;
                }
                Ok(ids)
            })
            .await
    }
}

async fn add_one(mut transaction: OwnedTransaction) -> Result<(), AppError> {
    Ok(add(&mut transaction, 1).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_around_a_closure_is_spawned() {
    fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::spawn(future)
    }
    let server = server_with_counters(&[]).await;
    let pool = Arc::new(pool_of(&server, 2).await);
    let service = Arc::new(Service {
        pool: Arc::clone(&pool),
        name: "name".to_owned(),
    });
    let (one, other) = (Arc::clone(&service), service);
    let length = spawn(async move { one.run(&[1, 2], "who").await }).await;
    assert_eq!(length.expect("no panic").expect("committed"), 7);
    let ids = spawn(async move { other.run_once(vec![2, 3]).await }).await;
    assert_eq!(ids.expect("no panic").expect("committed"), [2, 3]);
    let here = Arc::clone(&pool);
    let done = spawn(async move { here.transaction_with(TxOpts::default(), add_one).await }).await;
    done.expect("no panic").expect("committed");
    let boxed: std::pin::Pin<Box<dyn Future<Output = Result<(), AppError>> + Send>> =
        Box::pin(async move {
            pool.transaction(async |mut transaction| Ok(add(&mut transaction, 3).await?))
                .await
        });
    boxed.await.expect("committed");
    assert_eq!(values(&server).await, [2, 2, 2]);
}

/// Two closures that lock two rows each in the other order, and add 1 to both.
async fn deadlocked(
    pool: &Pool,
    retries: u32,
    swallow: bool,
) -> ([Result<(), Error>; 2], [u32; 2]) {
    let barrier = Barrier::new(2);
    let tries = [const { AtomicU32::new(0) }; 2];
    let run = async |mine: usize, rows: [u32; 2]| {
        let options = TransactionOptions::new().retries(retries);
        pool.transaction_with(options, async |mut transaction| {
            let number = tries[mine].fetch_add(1, Ordering::SeqCst);
            add(&mut transaction, rows[0]).await?;
            if number == 0 {
                barrier.wait().await;
            }
            match add(&mut transaction, rows[1]).await {
                Err(error) if swallow => {
                    assert!(error.is_deadlock(), "{error}");
                    Ok(())
                }
                outcome => outcome,
            }
        })
        .await
    };
    let (one, other) = tokio::join!(run(0, [1, 2]), run(1, [2, 1]));
    ([one, other], tries.map(AtomicU32::into_inner))
}

#[tokio::test]
async fn a_deadlock_is_repeated_if_asked_for() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 2).await;
    let mut expected = 0;
    for swallow in [false, true] {
        let (outcomes, tries) = deadlocked(&pool, 0, swallow).await;
        let errors: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .collect();
        let [error] = errors[..] else {
            panic!("{outcomes:?}");
        };
        assert!(error.is_deadlock() && error.is_transient(), "{error}");
        assert_eq!(matches!(error, Error::RolledBack), swallow, "{error}");
        assert_eq!(tries, [1, 1]);
        expected += 1;
        assert_eq!(values(&server).await, [expected, expected, 0]);
        let (outcomes, tries) = deadlocked(&pool, 3, swallow).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(tries.iter().sum::<u32>(), 3);
        expected += 2;
        assert_eq!(values(&server).await, [expected, expected, 0]);
    }
    assert_eq!((pool.metrics().opened, pool.status().idle), (2, 2));
}

#[tokio::test]
async fn a_closure_may_end_what_the_server_rolled_back() {
    let server = server_with_counters(&[]).await;
    server
        .execute(
            "CREATE PROCEDURE test.lose() BEGIN ROLLBACK; \
             SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'a deadlock'; END",
        )
        .await;
    let pool = pool_of(&server, 1).await;
    for way in 0..4 {
        let tries = AtomicU32::new(0);
        let options = TransactionOptions::new().retries(2);
        let outcome: Result<(), AppError> = pool
            .transaction_with(options, async |mut transaction| {
                tries.fetch_add(1, Ordering::SeqCst);
                add(&mut transaction, 1).await?;
                let lost = transaction.query_drop("CALL lose()").await;
                assert!(lost.expect_err("a deadlock").is_deadlock());
                match way {
                    0 => transaction.rollback().await?,
                    1 => transaction.commit().await?,
                    2 => drop(transaction),
                    _ => {
                        transaction.rollback().await?;
                        return Ok(());
                    }
                }
                Err(AppError::Refused)
            })
            .await;
        assert_eq!(outcome.is_ok(), way == 3, "{outcome:?}");
        let expected = if way == 3 { 1 } else { 3 };
        assert_eq!(tries.into_inner(), expected, "{way}");
    }
    assert_eq!(values(&server).await, [0, 0, 0]);
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn a_lock_timeout_is_repeated_if_it_rolled_back() {
    for rolls_back in [false, true] {
        let option = if rolls_back {
            "--innodb-rollback-on-timeout=ON"
        } else {
            "--innodb-rollback-on-timeout=OFF"
        };
        let server = server_with_counters(&[option, "--innodb-lock-wait-timeout=1"]).await;
        let pool = pool_of(&server, 1).await;
        let mut blocker = server.admin().await;
        for text in [
            "BEGIN",
            "UPDATE test.counter SET value = value WHERE id = 2",
        ] {
            blocker.query_drop(text).await.expect(text);
        }
        let tries = AtomicU32::new(0);
        let blocker = tokio::sync::Mutex::new(blocker);
        let options = TransactionOptions::new().retries(2);
        let outcome: Result<(), Error> = pool
            .transaction_with(options, async |mut transaction| {
                if tries.fetch_add(1, Ordering::SeqCst) == 1 {
                    blocker.lock().await.query_drop("ROLLBACK").await?;
                }
                add(&mut transaction, 1).await?;
                add(&mut transaction, 2).await
            })
            .await;
        if rolls_back {
            outcome.expect("repeated");
            assert_eq!(values(&server).await, [1, 1, 0]);
        } else {
            let error = outcome.expect_err("a time-out");
            assert!(!error.is_deadlock() && error.is_transient(), "{error}");
            assert_eq!(values(&server).await, [0, 0, 0]);
        }
        assert_eq!(tries.into_inner(), 1 + u32::from(rolls_back));
    }
}

#[tokio::test]
async fn only_a_rollback_by_the_server_is_repeated() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 2).await;
    let tries = AtomicU32::new(0);
    for kind in 0..4 {
        tries.store(0, Ordering::SeqCst);
        let options = TransactionOptions::new().retries(5);
        let outcome: Result<(), Error> = pool
            .transaction_with(options, async |mut transaction| {
                tries.fetch_add(1, Ordering::SeqCst);
                add(&mut transaction, 1).await?;
                match kind {
                    0 => transaction.query_drop("SELEKT 1").await,
                    1 => {
                        let id = transaction.id();
                        pool.query_drop(format!("KILL {id}")).await?;
                        transaction.query_drop("DO 1").await
                    }
                    2 => Err(Error::RolledBack),
                    _ => Err(Error::Closed),
                }
            })
            .await;
        outcome.expect_err("an error");
        assert_eq!(tries.load(Ordering::SeqCst), 1, "{kind}");
    }
    assert_eq!(values(&server).await, [0, 0, 0]);
}

/// A proxy that delivers each `COMMIT`, and loses its answer while `loses` is set.
struct Losing {
    port: u16,
    loses: Arc<AtomicBool>,
    lost: Arc<AtomicU32>,
}

impl Losing {
    async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let this = Self {
            port,
            loses: Arc::default(),
            lost: Arc::default(),
        };
        let (loses, lost) = (Arc::clone(&this.loses), Arc::clone(&this.lost));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (loses, lost) = (Arc::clone(&loses), Arc::clone(&lost));
                tokio::spawn(async move { drop(forward(client, target, &loses, &lost).await) });
            }
        });
        this
    }
}

async fn forward(
    mut client: TcpStream,
    target: u16,
    loses: &AtomicBool,
    lost: &AtomicU32,
) -> io::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            count = client.read(&mut asked) => {
                let Some(asked) = asked.get(..count?).filter(|asked| !asked.is_empty()) else {
                    return Ok(());
                };
                server.write_all(asked).await?;
                let is_commit = asked.windows(6).any(|text| text == b"COMMIT");
                if is_commit && loses.load(Ordering::SeqCst) {
                    // It is executed.
                    let answer = server.read(&mut answered).await?;
                    assert!(answer > 0);
                    lost.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
            }
            count = server.read(&mut answered) => {
                let Some(answered) = answered.get(..count?).filter(|bytes| !bytes.is_empty()) else {
                    return Ok(());
                };
                client.write_all(answered).await?;
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_never_repeated() {
    if tls::is_required() {
        // The proxy reads what is sent.
        return;
    }
    let server = server_with_counters(&[]).await;
    let proxy = Losing::start(server.port()).await;
    let pool = warm(config(&server.url_via(proxy.port)).size(2).overflow(0)).await;
    let tries = AtomicU32::new(0);
    proxy.loses.store(true, Ordering::SeqCst);
    let is_unknown = |error: &Error| {
        assert!(error.is_commit_unknown() && !error.is_transient() && !error.is_deadlock());
        assert!(
            error
                .to_string()
                .contains("may or may not have been committed"),
            "{error}"
        );
    };
    let options = TransactionOptions::new().retries(5);
    let outcome: Result<(), Error> = pool
        .transaction_with(options, async |mut transaction| {
            tries.fetch_add(1, Ordering::SeqCst);
            add(&mut transaction, 1).await
        })
        .await;
    is_unknown(&outcome.expect_err("a lost answer"));
    let mut transaction = pool.begin().await.expect("begun");
    add(&mut transaction, 1).await.expect("added");
    is_unknown(&transaction.commit().await.expect_err("a lost answer"));
    // The natural retry of the driver's style repeats it as little.
    let mut conn = pool.get().await.expect("a connection");
    let mut transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    transaction.exec_drop(ADD, (1,)).await.expect("added");
    let error = transaction.commit().await.expect_err("a lost answer");
    assert!(!is_transient(&error), "{error}");
    is_unknown(&error.into());
    drop(conn);
    // Nor does that of one begun and committed by statements.
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("BEGIN").await.expect("begun");
    conn.exec_drop(ADD, (1,)).await.expect("added");
    let error = conn.query_drop("COMMIT").await.expect_err("a lost answer");
    assert!(!is_transient(&error), "{error}");
    is_unknown(&error.into());
    drop(conn);
    proxy.loses.store(false, Ordering::SeqCst);
    assert_eq!(tries.into_inner(), 1);
    // Each was committed once.
    assert_eq!(proxy.lost.load(Ordering::SeqCst), 4);
    add(&mut &pool, 2).await.expect("added");
    assert_eq!(values(&server).await, [4, 1, 0]);
}

#[tokio::test]
async fn a_connection_lost_before_the_commit_is_transient() {
    let server = server_with_counters(&[]).await;
    let pool = pool_of(&server, 2).await;
    let outcome: Result<(), Error> = pool
        .transaction(async |mut transaction| {
            add(&mut transaction, 1).await?;
            let id = transaction.id();
            pool.query_drop(format!("KILL {id}")).await?;
            add(&mut transaction, 2).await
        })
        .await;
    let error = outcome.expect_err("killed");
    assert!(
        error.is_transient() && !error.is_commit_unknown(),
        "{error}"
    );
    assert_eq!(values(&server).await, [0, 0, 0]);
}
