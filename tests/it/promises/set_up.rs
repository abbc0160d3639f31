//! What sets up a new connection is there for every caller, after each reset too, and nothing that
//! it began is still open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mysql_warm_pool::{
    Error, Pool, PoolConfig, Reset,
    config::{Credentials, CredentialsSource},
    error::ConnectPhase,
    metrics::DiscardReason,
    mysql_async::{self, Conn, OptsBuilder, TxOpts, prelude::*},
    report::Warning,
};
use test_support::{Server, config, eventually, pool, warm};

/// The driver's options for this server, to be changed.
fn options(server: &Server) -> OptsBuilder {
    OptsBuilder::from_opts(config(&server.url()).opts().clone())
}

async fn pool_of_one(config: PoolConfig) -> Pool {
    warm(config.size(1).overflow(0)).await
}

/// Asks as the next caller, then changes the session, so that it is reset at the return.
async fn ask_and_change<T: FromRow + Send + 'static>(pool: &Pool, question: &str) -> T {
    let mut conn = pool.get().await.expect("a connection");
    let row = conn.query_first(question).await.expect("an answer");
    conn.query_drop("SET @changed = 1").await.expect("set");
    row.expect("a row")
}

fn discarded(pool: &Pool, reason: DiscardReason) -> u64 {
    let all = pool.metrics().discarded;
    all.into_iter()
        .find_map(|(kind, count)| (kind == reason).then_some(count))
        .expect("a counter")
}

/// Counts how often it is called, and sets `@hook` to that count.
fn counting(calls: &Arc<AtomicUsize>, config: PoolConfig) -> PoolConfig {
    let calls = Arc::clone(calls);
    config.on_connect(move |conn| {
        let count = calls.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move { conn.exec_drop("SET @hook = ?", (count,)).await })
    })
}

#[tokio::test]
async fn on_connect_runs_when_opened_and_after_each_reset() {
    let server = Server::shared().await;
    let calls = Arc::default();
    let settings = counting(&calls, config(&server.url()));
    let pool = warm(settings.size(3).overflow(0)).await;
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    pool.close().await;

    let calls = Arc::default();
    let pool = pool_of_one(counting(&calls, config(&server.url()))).await;
    for nth in 1..=5_usize {
        let seen: usize = ask_and_change(&pool, "SELECT @hook").await;
        assert_eq!(seen, nth);
    }
    let _conn = pool.get().await.expect("a connection");
    assert_eq!(
        (calls.load(Ordering::Relaxed), pool.metrics().resets),
        (6, 5)
    );
}

#[tokio::test]
async fn options_of_the_driver_are_there_after_a_reset() {
    let server = Server::shared().await;
    let opts = options(server)
        .init(vec!["SET SESSION group_concat_max_len = 11111"])
        .setup(vec!["SET NAMES utf8mb4 COLLATE utf8mb4_bin"])
        .after_connect(|conn| Box::pin(async move { conn.query_drop("SET @hook = 7").await }));
    for reset in [Reset::WhenChanged, Reset::Always] {
        let pool = pool_of_one(PoolConfig::from_opts(opts.clone()).reset(reset)).await;
        for _ in 0..4 {
            let question = "SELECT @@group_concat_max_len, @@collation_connection, @hook";
            let seen: (u32, String, u8) = ask_and_change(&pool, question).await;
            assert_eq!(seen, (11111, "utf8mb4_bin".to_owned(), 7));
        }
        assert!(pool.metrics().resets > 0);
    }
}

#[tokio::test]
async fn everything_that_sets_up_runs_in_the_documented_order() {
    let server = Server::shared().await;
    let opts = options(server)
        .after_connect(|conn| Box::pin(async move { conn.query_drop("SET @o = 'a'").await }))
        .init(vec!["SET @o = CONCAT(@o, 'b')", "SET @o = CONCAT(@o, 'c')"])
        .setup(vec!["SET @o = CONCAT(@o, 'd')", "SET @o = CONCAT(@o, 'e')"]);
    let settings = PoolConfig::from_opts(opts)
        .init(["SET @o = CONCAT(@o, 'f')", "SET @o = CONCAT(@o, 'g')"])
        .on_connect(|conn| {
            Box::pin(async move { conn.query_drop("SET @o = CONCAT(@o, 'h')").await })
        });
    let pool = pool_of_one(settings).await;
    for _ in 0..3 {
        let seen: String = ask_and_change(&pool, "SELECT @o").await;
        assert_eq!(seen, "abcdefgh");
    }
}

#[tokio::test]
async fn a_database_chosen_by_set_up_is_there_again() {
    let server = Server::shared().await;
    let by_init = config(&server.url()).init(["USE other"]);
    let by_hook = config(&server.url())
        .on_connect(|conn| Box::pin(async move { conn.query_drop("USE other").await }));
    for settings in [by_init, by_hook] {
        for reset in [Reset::WhenChanged, Reset::Always, Reset::Never] {
            let pool = pool_of_one(settings.clone().reset(reset)).await;
            for _ in 0..3 {
                let mut conn = pool.get().await.expect("a connection");
                let seen: Option<String> =
                    conn.query_first("SELECT DATABASE()").await.expect("a name");
                assert_eq!(seen.as_deref(), Some("other"), "{reset:?}");
                conn.query_drop("USE information_schema")
                    .await
                    .expect("used");
            }
        }
    }
}

#[tokio::test]
async fn nothing_a_hook_left_behind_reaches_a_caller() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.t (id INT) ENGINE=InnoDB")
        .await;
    for left in ["rows", "transaction", "guard", "more results"] {
        let settings = config(&server.url()).on_connect(move |conn| {
            Box::pin(async move {
                match left {
                    "rows" => drop(conn.query_iter("SELECT 1 UNION SELECT 2").await?),
                    "more results" => drop(conn.query_iter("SELECT 1; SELECT 2; BEGIN").await?),
                    "guard" => {
                        let mut begun = conn.start_transaction(TxOpts::default()).await?;
                        begun.query_drop("INSERT INTO t VALUES (1)").await?;
                    }
                    _ => {
                        conn.query_drop("BEGIN").await?;
                        conn.query_drop("INSERT INTO t VALUES (1)").await?;
                    }
                }
                Ok(())
            })
        });
        let pool = pool_of_one(settings).await;
        for n in 10..14_u8 {
            let seen: u8 = ask_and_change(&pool, &format!("SELECT {n}")).await;
            assert_eq!(seen, n, "{left}");
            let mut other = Conn::new(server.opts()).await.expect("a connection");
            let alter = "ALTER TABLE t COMMENT = 'no transaction holds it'";
            other.query_drop(alter).await.expect("no lock is held");
            let rows: Option<u64> = other
                .query_first("SELECT COUNT(*) FROM t")
                .await
                .expect("a count");
            assert_eq!(rows, Some(0), "{left}: not committed");
        }
        pool.close().await;
    }
}

#[tokio::test]
async fn a_command_cancelled_in_a_hook_answers_no_caller() {
    let server = Server::shared().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let settings = config(&server.url()).on_connect(move |conn| {
        let is_first = counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        Box::pin(async move {
            if is_first {
                let slow = conn.query_first::<u8, _>("SELECT 66 + SLEEP(0.05)");
                drop(tokio::time::timeout(Duration::from_millis(1), slow).await);
            }
            Ok(())
        })
    });
    let pool = pool_of_one(settings).await;
    for n in 10..30_u8 {
        let seen: u8 = ask_and_change(&pool, &format!("SELECT {n}")).await;
        assert_eq!(seen, n);
    }
    assert!(calls.load(Ordering::Relaxed) >= 20);
}

#[tokio::test]
async fn an_error_in_a_hook_ends_the_attempt_and_names_it() {
    let server = Server::shared().await;
    let failing = |code: u16| {
        config(&server.url()).size(1).on_connect(move |_conn| {
            Box::pin(async move {
                let refused = mysql_async::ServerError {
                    code,
                    message: "not today".to_owned(),
                    state: "HY000".to_owned(),
                };
                Err(refused.into())
            })
        })
    };
    let error = pool(failing(1064))
        .warm_up()
        .await
        .expect_err("a permanent error");
    let Error::WarmUp {
        source: Some(source),
        report,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (source.phase(), report.attempts),
        (ConnectPhase::OnConnect, 1)
    );
    assert!(
        source.to_string().contains("check the pool's `on_connect`"),
        "{source}"
    );

    // A transient error is tried again until the deadline.
    let settings = failing(1205).warm_up_timeout(Duration::from_secs(2));
    let error = pool(settings).warm_up().await.expect_err("never warm");
    let Error::WarmUp { report, .. } = error else {
        panic!("{error}");
    };
    assert!(report.attempts > 1, "{report}");
}

#[tokio::test]
async fn a_hook_that_fails_after_a_reset_harms_no_other() {
    let server = Server::shared().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let settings = config(&server.url()).size(2).overflow(0);
    let settings = settings.on_connect(move |conn| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match call {
                2 => conn.query_drop("SELECT * FROM nowhere").await,
                3 => Err(mysql_async::Error::Other("of its own".into())),
                4 => panic!("in the hook"),
                _ => Ok(()),
            }
        })
    });
    let pool = warm(settings).await;
    for replaced in 1..=3 {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("SET @changed = 1").await.expect("set");
        // The next call of the hook is this connection's, whose replacement's follows.
        calls.store(
            1 + usize::try_from(replaced).expect("small"),
            Ordering::Relaxed,
        );
        drop(conn);
        eventually("it is replaced", async || {
            pool.status().idle == 2 && discarded(&pool, DiscardReason::CleaningFailed) == replaced
        })
        .await;
        calls.store(9, Ordering::Relaxed);
    }
    assert_eq!(pool.metrics().suspects, 0);
    assert_eq!(discarded(&pool, DiscardReason::Lost), 0);
}

#[tokio::test]
async fn a_hook_that_panics_or_hangs_loses_no_slot() {
    let server = Server::shared().await;
    for kind in ["panics at once", "panics later", "hangs"] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let settings = config(&server.url())
            .connect_timeout(Duration::from_secs(3))
            .on_connect(move |conn| {
                let is_first = counted.fetch_add(1, Ordering::Relaxed) < 2;
                assert!(!(is_first && kind == "panics at once"), "at once");
                Box::pin(async move {
                    conn.query_drop("DO 1").await?;
                    assert!(!(is_first && kind == "panics later"), "later");
                    if is_first {
                        std::future::pending::<()>().await;
                    }
                    Ok(())
                })
            });
        let pool = warm(settings.size(2).overflow(0)).await;
        let report = pool.warm_up().await.expect("warm");
        assert_eq!(report.open, 2, "{kind}");
        assert_eq!(pool.metrics().failed_attempts, 2, "{kind}");
        let _both = (
            pool.get().await.expect("one"),
            pool.get().await.expect("two"),
        );
    }
}

#[tokio::test]
async fn a_source_of_credentials_that_panics_loses_no_slot() {
    let server = Server::shared().await;
    let account = server.opts();
    let (user, password) = (account.user(), account.pass());
    let credentials = Credentials::new(user.expect("a user"), password.expect("a password"));
    let panics = Arc::new(AtomicBool::new(true));
    let source = CredentialsSource::new({
        let panics = Arc::clone(&panics);
        move || {
            let (credentials, panics) = (credentials.clone(), panics.load(Ordering::Relaxed));
            async move {
                assert!(!panics, "the password is s3cret");
                Ok::<_, Error>(credentials)
            }
        }
    });
    let settings = config(&server.url()).size(2).overflow(0);
    let pool = pool(
        settings
            .credentials(source)
            .warm_up_timeout(Duration::from_millis(500)),
    );
    let error = pool.warm_up().await.expect_err("no credentials");
    let text = error.to_string();
    assert!(
        text.contains("the source of credentials panicked"),
        "{text}"
    );
    assert!(error.is_transient() && !text.contains("s3cret"), "{text}");
    panics.store(false, Ordering::Relaxed);
    eventually("both are open", async || pool.status().idle == 2).await;
}

#[tokio::test]
async fn nothing_that_init_began_is_open() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.t (id INT) ENGINE=InnoDB")
        .await;
    let mut other = Conn::new(server.opts()).await.expect("a connection");
    let snapshot = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
    for init in [
        &["SET autocommit = 0", "SELECT COUNT(*) FROM t"][..],
        &["SET autocommit = 0; SELECT COUNT(*) FROM t"],
        &["SET autocommit = 0", "INSERT INTO t VALUES (77)"],
        &["BEGIN", "SELECT COUNT(*) FROM t"],
        &[snapshot],
        &[snapshot, "SET @a = 1"],
        &["SET completion_type = 1", snapshot],
        &[
            "SET completion_type = 1, autocommit = 0",
            "INSERT INTO t VALUES (77)",
        ],
    ] {
        let isolated = ["SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"];
        let statements: Vec<_> = isolated.iter().chain(init).copied().collect();
        for prepare in [&[][..], &["SELECT COUNT(*) FROM t"]] {
            let settings = config(&server.url()).init(statements.clone());
            let pool = pool_of_one(settings.prepare(prepare.iter().copied())).await;
            other
                .query_drop("DELETE FROM t")
                .await
                .expect("no lock is held");
            for rows in 1..5_u64 {
                other
                    .query_drop("INSERT INTO t VALUES (1)")
                    .await
                    .expect("no lock is held");
                let seen: u64 = ask_and_change(&pool, "SELECT COUNT(*) FROM t").await;
                assert_eq!(seen, rows, "{init:?}, prepared: {prepare:?}");
                // The connection is set up again before it is idle.
                eventually("idle", async || pool.status().idle == 1).await;
            }
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn validating_an_idle_connection_opens_no_snapshot() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.t (id INT) ENGINE=InnoDB")
        .await;
    let settings = config(&server.url())
        .init([
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET autocommit = 0",
        ])
        .keepalive(Duration::from_millis(10));
    let pool = pool_of_one(settings).await;
    let mut other = Conn::new(server.opts()).await.expect("a connection");
    for rows in 1..4_u64 {
        let before = pool.metrics().validations;
        eventually("validated", async || {
            pool.metrics().validations > before + 1
        })
        .await;
        other
            .query_drop("INSERT INTO t VALUES (1)")
            .await
            .expect("inserted");
        let seen: u64 = ask_and_change(&pool, "SELECT COUNT(*) FROM t").await;
        assert_eq!(seen, rows);
    }
}

/// A server whose `init_connect` has this text, and a pool of one with an account that has these
/// privileges besides those on its own database.
async fn with_init_connect(text: &str, grants: &[&str]) -> (Server, Pool) {
    let server = Server::start().await;
    for statement in [
        "CREATE USER plain@'%' IDENTIFIED BY 'x'",
        "GRANT ALL ON test.* TO plain@'%'",
        "CREATE TABLE test.logins (a INT)",
    ]
    .iter()
    .chain(grants)
    {
        server.execute(statement).await;
    }
    server
        .execute(&format!("SET GLOBAL init_connect = \"{text}\""))
        .await;
    let pool = pool_of_one(config(&server.url_as("plain", "x"))).await;
    (server, pool)
}

const LENGTH: &str = "SELECT @@group_concat_max_len";

#[tokio::test]
async fn the_servers_init_connect_is_there_for_every_caller() {
    let text = "SET SESSION group_concat_max_len = 12345; SET @who = 'a', sql_mode = 'ANSI'";
    for reset in [Reset::WhenChanged, Reset::Always] {
        let (server, pool) = with_init_connect(text, &[]).await;
        pool.close().await;
        let settings = config(&server.url_as("plain", "x")).reset(reset);
        let pool = pool_of_one(settings.init(["SET @of_init = @who"])).await;
        for _ in 0..3 {
            let seen: (u32, String, String) =
                ask_and_change(&pool, "SELECT @@group_concat_max_len, @who, @of_init").await;
            assert_eq!(seen, (12_345, "a".to_owned(), "a".to_owned()));
        }
        assert_eq!(pool.metrics().opened, 1, "reset, not replaced");
        // What is sent on the bare Conn is no exception.
        let mut conn = pool.get().await.expect("a connection");
        let bare: &mut Conn = &mut conn;
        bare.query_drop("SET SESSION group_concat_max_len = 7")
            .await
            .expect("set");
        drop(conn);
        assert_eq!(ask_and_change::<u32>(&pool, LENGTH).await, 12_345);
        assert_eq!(pool.metrics().opened, 1, "reset, not replaced");
    }
}

#[tokio::test]
async fn an_account_exempt_from_init_connect_stays_so() {
    let text = "SET SESSION group_concat_max_len = 12345";
    let is_mysql = Server::shared().await.flavor() == test_support::Flavor::MySql;
    let [admin, default] = if is_mysql {
        ["CONNECTION_ADMIN", "ALTER USER plain@'%' DEFAULT ROLE boss"]
    } else {
        ["CONNECTION ADMIN", "SET DEFAULT ROLE boss FOR plain@'%'"]
    };
    let direct = format!("GRANT {admin} ON *.* TO plain@'%'");
    let to_role = format!("GRANT {admin} ON *.* TO boss");
    let by_role = [
        "CREATE ROLE boss",
        &to_role,
        "GRANT boss TO plain@'%'",
        default,
    ];
    for grants in [
        &[direct.as_str()][..],
        &by_role,
        &["GRANT SUPER ON *.* TO plain@'%'"],
    ] {
        let (server, pool) = with_init_connect(text, grants).await;
        // What a login of this account finds.
        let url = server.url_as("plain", "x");
        let mut fresh = Conn::new(config(&url).opts().clone())
            .await
            .expect("a login");
        let usual: Option<u32> = fresh.query_first(LENGTH).await.expect("an answer");
        for _ in 0..3 {
            let seen: u32 = ask_and_change(&pool, LENGTH).await;
            assert_eq!(Some(seen), usual, "{grants:?}");
        }
    }
    // A role that is not active at the login exempts nobody.
    let (_server, pool) = with_init_connect(text, &by_role[..3]).await;
    for _ in 0..3 {
        assert_eq!(ask_and_change::<u32>(&pool, LENGTH).await, 12_345);
    }
}

#[tokio::test]
async fn an_init_connect_that_does_more_has_connections_replaced() {
    let text = "INSERT INTO test.logins VALUES (1); SET SESSION group_concat_max_len = 12345";
    let (server, pool) = with_init_connect(text, &[]).await;
    let report = pool.warm_up().await.expect("warm");
    assert!(report.warnings.contains(&Warning::InitConnect), "{report}");
    for _ in 0..3 {
        assert_eq!(ask_and_change::<u32>(&pool, LENGTH).await, 12_345);
    }
    eventually("the last one is replaced too", async || {
        pool.status().idle == 1
    })
    .await;
    let metrics = pool.metrics();
    assert_eq!(
        (
            metrics.opened,
            discarded(&pool, DiscardReason::Unresettable)
        ),
        (4, 3)
    );
    assert_eq!(metrics.suspects, 0);
    let mut admin = server.admin().await;
    let logins: Option<u64> = admin
        .query_first("SELECT COUNT(*) FROM test.logins")
        .await
        .expect("an answer");
    assert_eq!(logins, Some(metrics.opened), "one for each login");
    // Without a change, a connection is kept.
    drop(pool.get().await.expect("a connection"));
    assert_eq!(pool.metrics().opened, 4);
}

#[tokio::test]
async fn a_changed_init_connect_is_learnt_at_the_next_opening() {
    let (server, pool) = with_init_connect("", &[]).await;
    server
        .execute("SET GLOBAL init_connect = 'SET SESSION group_concat_max_len = 4321'")
        .await;
    // The facts are asked once a second at most.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let before = pool.metrics().opened;
    pool.refresh();
    eventually("it is replaced", async || {
        pool.metrics().opened > before && pool.status().idle == 1
    })
    .await;
    for _ in 0..3 {
        assert_eq!(ask_and_change::<u32>(&pool, LENGTH).await, 4321);
    }
}
