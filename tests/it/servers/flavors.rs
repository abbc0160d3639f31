//! Where MariaDB and MySQL differ, callers see no difference. Runs against the chosen kind of
//! server.

use std::time::Duration;

use mysql_warm_pool::{
    Error, OnCancel, Reset,
    mysql_async::{Conn, Row, prelude::*},
};
use test_support::{
    Flavor, PATIENCE, Server, config, eventually, pool,
    scripted::{Scripted, Wire},
    warm,
};

/// After a reset, MySQL returns to the server's charset, MariaDB to that of the handshake.
#[tokio::test]
async fn after_a_reset_the_charset_is_that_of_a_new_connection() {
    let server = Server::builder()
        .option("--character-set-server=latin1")
        .start()
        .await;
    let pool = warm(
        config(&server.url())
            .size(1)
            .overflow(0)
            .reset(Reset::Always),
    )
    .await;
    let question = "SELECT @@character_set_client, @@character_set_results, @@character_set_connection, \
                    @@collation_connection, '\u{e9}\u{1f980}'";
    let mut conn = pool.get().await.expect("a connection");
    let first: Option<(String, String, String, String, String)> =
        conn.query_first(question).await.expect("an answer");
    drop(conn);
    eventually("it was reset", async || pool.metrics().resets == 1).await;
    let mut conn = pool.get().await.expect("a connection");
    let second = conn.query_first(question).await.expect("an answer");
    assert_eq!(first, second);
    assert_eq!(second.map(|row| row.4), Some("\u{e9}\u{1f980}".to_owned()));
}

/// MySQL's `caching_sha2_password` needs the password itself until it has cached it, and again
/// after `FLUSH PRIVILEGES` and after a restart; MariaDB's `mysql_native_password` never does.
#[tokio::test]
async fn default_accounts_log_in_with_and_without_a_cached_password() {
    let server = Server::start().await;
    let expected = match server.flavor() {
        Flavor::MariaDb => "mysql_native_password",
        Flavor::MySql => "caching_sha2_password",
    };
    let question = "SELECT plugin FROM mysql.user WHERE user = 'app'";
    let plugin: Option<String> = server
        .admin()
        .await
        .query_first(question)
        .await
        .expect("an answer");
    assert_eq!(plugin.as_deref(), Some(expected));

    let pool = warm(config(&server.url()).size(4).overflow(0)).await;
    pool.close().await;
    server.execute("FLUSH PRIVILEGES").await;
    the_first_login_says_the_password(&server).await;
    server.execute("FLUSH PRIVILEGES").await;
    let settings = config(&server.url()).size(4).overflow(0);
    let pool = warm(settings.validate_after_idle(Duration::ZERO)).await;
    assert_eq!(pool.metrics().failed_attempts, 0);

    server.restart().await;
    the_first_login_says_the_password(&server).await;
    server.restart().await;
    eventually("the pool is whole again", async || {
        pool.get_within(PATIENCE).await.is_ok() && pool.status().idle == 4
    })
    .await;
    for _ in 0..4 {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("DO 1").await.expect("an answer");
    }
}

/// Checks that the server's password cache is empty, by the bytes a client sends during its first
/// and second login.
async fn the_first_login_says_the_password(server: &Server) {
    let said = async || -> u64 {
        let mut conn = Conn::new(server.opts()).await.expect("a connection");
        let status: Option<(String, u64)> = conn
            .query_first("SHOW SESSION STATUS LIKE 'Bytes_received'")
            .await
            .expect("an answer");
        status.expect("a status of that name").1
    };
    let (first, again) = (said().await, said().await);
    // A header of four bytes and the password, terminated by a zero byte.
    let in_clear = 4 + server.opts().pass().expect("a password").len() + 1;
    // A request for the server's key and, as long as the key, the encrypted password.
    let encrypted = 4 + 1 + 4 + 256;
    let expected = match server.flavor() {
        Flavor::MariaDb => 0,
        Flavor::MySql if server.opts().ssl_opts().is_some() => in_clear,
        Flavor::MySql => encrypted,
    };
    assert_eq!(usize::try_from(first - again).expect("a few"), expected);
}

/// Whether an account can log in.
enum Login {
    Works,
    /// Never: the texts that give the reason and the advice.
    Refused(&'static [&'static str]),
}

/// Definitions of accounts whose password is, or should be, `x`.
const LOGINS: [(Flavor, &str, Login); 11] = [
    // Like Debian's root account: the server requests a method other than the one in its greeting.
    (
        Flavor::MariaDb,
        "IDENTIFIED VIA unix_socket OR mysql_native_password USING PASSWORD('x')",
        Login::Works,
    ),
    (
        Flavor::MariaDb,
        "IDENTIFIED VIA mysql_native_password USING PASSWORD('not x')",
        Login::Refused(&["1045", "check user and password"]),
    ),
    (
        Flavor::MariaDb,
        "IDENTIFIED VIA unix_socket",
        Login::Refused(&["1698", "check user and password"]),
    ),
    (
        Flavor::MariaDb,
        "IDENTIFIED VIA mysql_old_password USING '6f8c114b58f2ce9e'",
        Login::Refused(&["1275", "plugin that the driver knows"]),
    ),
    (
        Flavor::MariaDb,
        "IDENTIFIED BY 'x' ACCOUNT LOCK",
        Login::Refused(&["4151", "unlock"]),
    ),
    (
        Flavor::MariaDb,
        "IDENTIFIED BY 'x' PASSWORD EXPIRE",
        Login::Refused(&["1820", "expired"]),
    ),
    (
        Flavor::MySql,
        "IDENTIFIED WITH caching_sha2_password BY 'x'",
        Login::Works,
    ),
    (
        Flavor::MySql,
        "IDENTIFIED WITH caching_sha2_password BY 'not x'",
        Login::Refused(&["1045", "check user and password"]),
    ),
    (
        Flavor::MySql,
        "IDENTIFIED WITH sha256_password BY 'x'",
        Login::Refused(&["sha256_password'", "plugin that the driver knows"]),
    ),
    (
        Flavor::MySql,
        "IDENTIFIED BY 'x' ACCOUNT LOCK",
        Login::Refused(&["3118", "unlock"]),
    ),
    (
        Flavor::MySql,
        "IDENTIFIED BY 'x' PASSWORD EXPIRE",
        Login::Refused(&["1862", "expired"]),
    ),
];

#[tokio::test]
async fn a_login_plugin_works_or_ends_the_warm_up_with_advice() {
    let server = Server::start().await;
    let here = LOGINS
        .iter()
        .filter(|(flavor, ..)| *flavor == server.flavor());
    for (n, (_, definition, login)) in here.enumerate() {
        let user = format!("user{n}");
        server
            .execute(&format!("CREATE USER {user}@'%' {definition}"))
            .await;
        server
            .execute(&format!("GRANT ALL ON test.* TO {user}@'%'"))
            .await;
        let settings = config(&server.url_as(&user, "x")).size(1).overflow(0);
        let warmed = pool(settings).warm_up().await;
        match login {
            Login::Works => assert!(warmed.is_ok(), "{definition}: {warmed:?}"),
            Login::Refused(texts) => {
                let error = warmed.expect_err(definition);
                let text = error.to_string();
                let missing = texts.iter().find(|part| !text.contains(**part));
                assert_eq!(missing, None, "{definition}: {text}");
                assert!(!error.is_transient(), "{definition}: {text}");
                let Error::WarmUp { report, .. } = error else {
                    panic!("{definition}: {text}");
                };
                assert_eq!(report.attempts, 1, "{definition}: {text}");
            }
        }
    }
}

/// MySQL does not reveal which accounts exist: for an unknown one it requests a method of its own
/// choice, which the driver may not support.
#[tokio::test]
async fn the_error_for_an_unknown_user_says_to_check_the_user() {
    let server = Server::start().await;
    for n in 0..20 {
        let url = server.url_as(&format!("nobody{n}"), "x");
        let error = pool(config(&url).size(1)).warm_up().await;
        let error = error.expect_err("no such user");
        let text = error.to_string();
        assert!(!error.is_transient(), "{text}");
        assert!(
            text.contains("check user and password") || text.contains("check the user's name"),
            "{text}"
        );
        assert!(
            text.contains("1045") || server.flavor() == Flavor::MySql,
            "{text}"
        );
    }
}

/// The driver supports both only with certain features, and panics without them.
#[tokio::test]
async fn a_login_plugin_behind_a_driver_feature_is_named() {
    for switch in [
        &b"\xFEclient_ed25519\x0012345678901234567890123456789012"[..],
        b"\xFEparsec\x0012345678901234567890123456789012",
    ] {
        let server = Scripted::start().await;
        server.play(move |mut wire: Wire| async move {
            wire.greet().await?;
            wire.packet(2, switch).await?;
            wire.read_packet().await?;
            // The plugin's salt; ed25519 has none.
            let salt = b"\x01P\x00123456789012345678";
            wire.packet(4, salt).await?;
            wire.hang().await
        });
        let settings = config(&server.url())
            .size(1)
            .overflow(0)
            .warm_up_timeout(Duration::from_secs(2));
        let error = pool(settings).warm_up().await.expect_err("no such feature");
        let text = error.to_string();
        assert!(
            text.contains("the driver panicked: Can't create response"),
            "{text}"
        );
        assert!(text.contains("ed25519 or parsec"), "{text}");
    }
}

/// MySQL sends the reason (4031) before it closes a connection that was idle too long; MariaDB just
/// closes it.
#[tokio::test]
async fn a_connection_closed_by_wait_timeout_reaches_no_caller() {
    let server = Server::builder().option("--wait-timeout=1").start().await;
    let settings = config(&server.url())
        .size(2)
        .overflow(0)
        .keepalive(None)
        .validate_after_idle(Duration::from_millis(500));
    let pool = warm(settings).await;
    eventually("the server has ended all", async || {
        server.threads_connected().await == 0
    })
    .await;
    let mut conn = pool.get().await.expect("a connection");
    let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
    assert_eq!(answer, Some(7));
}

/// The error texts differ, and MySQL has two of them. They share their number (1290) with other
/// refusals.
#[tokio::test]
async fn a_server_that_became_read_only_is_known_by_its_words() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.entry (id INT PRIMARY KEY)")
        .await;
    let refusals: &[(&str, &str, &str)] = match server.flavor() {
        Flavor::MariaDb => &[(
            "app",
            "read_only",
            "The MariaDB server is running with the --read-only option so it cannot execute this statement",
        )],
        Flavor::MySql => &[
            (
                "app",
                "read_only",
                "The MySQL server is running with the --read-only option so it cannot execute this statement",
            ),
            // Nobody may write then; an account that may write to a read-only server gets an error
            // with other words.
            (
                "super",
                "super_read_only",
                "The MySQL server is running with the --super-read-only option so it cannot execute this statement",
            ),
        ],
    };
    server
        .execute("CREATE USER super@'%' IDENTIFIED BY 'x'")
        .await;
    server.execute("GRANT ALL ON *.* TO super@'%'").await;
    for (user, variable, words) in refusals {
        let url = match *user {
            "super" => server.url_as(user, "x"),
            _ => server.url(),
        };
        let pool = warm(config(&url).size(2).overflow(0)).await;
        let mut conn = pool.get().await.expect("a connection");
        server.execute(&format!("SET GLOBAL {variable} = 1")).await;
        let refused = conn.query_drop("INSERT INTO entry VALUES (1)").await;
        let refused = refused.expect_err("read-only").to_string();
        assert!(
            refused.contains("1290") && refused.contains(words),
            "{refused}"
        );
        drop(conn);
        eventually("the connection is discarded", async || {
            pool.metrics()
                .discarded
                .contains(&(mysql_warm_pool::metrics::DiscardReason::ReadOnly, 1))
        })
        .await;
        let report = self::pool(config(&url).size(1)).warm_up().await;
        let report = report.expect("reading is allowed");
        assert!(report.server.is_some_and(|server| server.read_only));
        server.execute("SET GLOBAL read_only = 0").await;
    }
}

/// The performance schema is off by default in MariaDB and on in MySQL. The pool gets its knowledge
/// of a server and its connections elsewhere.
#[tokio::test]
async fn killing_works_with_and_without_a_performance_schema() {
    let mut choices = vec![
        vec!["--performance-schema=OFF"],
        vec!["--performance-schema=ON"],
    ];
    if Flavor::chosen() == Flavor::MySql {
        choices.push(vec![
            "--performance-schema=ON",
            "--performance-schema-show-processlist=ON",
        ]);
    }
    for options in choices {
        let mut builder = Server::builder();
        for option in &options {
            builder = builder.option(option);
        }
        let server = builder.start().await;
        let mut admin = server.admin().await;
        let settings = config(&server.url())
            .size(2)
            .overflow(0)
            .on_cancel(OnCancel::Kill);
        let pool = pool(settings);
        let report = pool.warm_up().await.expect("warm");
        let known = report.server.expect("it answers");
        let facts = "SELECT VERSION(), @@max_connections, @@wait_timeout, @@performance_schema";
        let facts: Option<(String, u64, u64, bool)> =
            admin.query_first(facts).await.expect("an answer");
        let is_on = !options.contains(&"--performance-schema=OFF");
        assert_eq!(
            facts,
            Some((
                known.version,
                known.max_connections,
                known.wait_timeout.as_secs(),
                is_on
            )),
            "{options:?}"
        );

        let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                       WHERE USER = 'app' AND INFO LIKE 'SELECT SLEEP%'";
        let mut conn = pool.get().await.expect("a connection");
        {
            let mut sleep = std::pin::pin!(conn.query_drop("SELECT SLEEP(60)"));
            eventually("it sleeps", async || {
                let poll = tokio::time::timeout(Duration::from_millis(10), &mut sleep);
                poll.await.expect_err("it sleeps");
                let running: Option<u8> = admin.query_first(running).await.expect("the list");
                running == Some(1)
            })
            .await;
        }
        drop(conn);
        eventually("it is killed", async || {
            let running: Option<u8> = admin.query_first(running).await.expect("the list");
            running == Some(0)
        })
        .await;
    }
}

/// The tests' own queries, and which of the two servers answers them with the performance schema
/// off and on.
const ASKED: [(&str, &[(Flavor, bool)]); 8] = {
    use Flavor::{MariaDb, MySql};
    const BOTH: &[(Flavor, bool)] = &[
        (MariaDb, false),
        (MariaDb, true),
        (MySql, false),
        (MySql, true),
    ];
    const MARIADB: &[(Flavor, bool)] = &[(MariaDb, false), (MariaDb, true)];
    const MYSQL: &[(Flavor, bool)] = &[(MySql, false), (MySql, true)];
    [
        (
            "SELECT ID, USER, HOST, INFO FROM information_schema.PROCESSLIST",
            BOTH,
        ),
        ("SELECT @@server_uid", MARIADB),
        ("SELECT @@server_uuid", MYSQL),
        (
            "SELECT * FROM information_schema.SESSION_VARIABLES",
            MARIADB,
        ),
        ("SELECT * FROM performance_schema.session_variables", MYSQL),
        (
            "SELECT * FROM information_schema.USER_VARIABLES WHERE VARIABLE_NAME = 'asked'",
            MARIADB,
        ),
        (
            "SELECT * FROM performance_schema.user_variables_by_thread \
             WHERE THREAD_ID = PS_CURRENT_THREAD_ID()",
            &[(MySql, true)],
        ),
        (
            "SELECT * FROM performance_schema.processlist",
            &[(MySql, true)],
        ),
    ]
};

/// The two servers share few of these, and some are empty without a performance schema.
#[tokio::test]
async fn the_tests_own_questions_are_answered_where_expected() {
    for is_on in [false, true] {
        let option = format!("--performance-schema={}", u8::from(is_on));
        let server = Server::builder().option(&option).start().await;
        let mut conn = server.admin().await;
        conn.query_drop("SET @asked = 1").await.expect("set");
        for (question, answering) in ASKED {
            if question.ends_with("@@server_uid") && server.own_name().is_none() {
                continue; // not before MariaDB 10.6
            }
            let rows: Result<Vec<Row>, _> = conn.query(question).await;
            assert_eq!(
                rows.as_ref().is_ok_and(|rows| !rows.is_empty()),
                answering.contains(&(server.flavor(), is_on)),
                "{question}, {option}: {rows:?}"
            );
        }
    }
}

/// MySQL prepares a statement again by itself when a parameter's type changes, and counts that as
/// another prepare.
#[tokio::test]
async fn a_statement_counts_as_prepared_once_for_any_parameter_type() {
    let server = Server::start().await;
    let mut conn = Conn::new(server.opts()).await.expect("a connection");
    let statement = conn.prep("SELECT ? + 1").await.expect("prepared");
    conn.exec_drop(&statement, (1_u8,)).await.expect("a number");
    conn.exec_drop(&statement, (1.5_f64,))
        .await
        .expect("another kind of number");
    conn.exec_drop(&statement, ("1",)).await.expect("a text");
    assert_eq!(server.statements_prepared().await, 1);
    let (counted, anew) = (
        server.status_value("Com_stmt_prepare").await,
        server.status_value("Com_stmt_reprepare").await,
    );
    assert_eq!(counted, 1 + anew);
    assert_eq!(anew > 0, server.flavor() == Flavor::MySql);
}
