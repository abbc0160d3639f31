//! The pool's own questions, refused, unanswered or cut off one at a time: only what was asked is
//! missing.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use mysql_warm_pool::{
    Error, OnCancel, Pool, PoolConfig, Readiness,
    config::{Credentials, CredentialsSource},
    report::{Flavor, ServerInfo, WarmUpReport, Warning},
};
use test_support::{
    config, eventually, pool,
    scripted::{Greeting, QuestionKind, Scripted, Wire, error, ok, rows},
};

/// What the pool and its driver ask of their own accord.
const QUESTIONS: [&str; 13] = [
    "@@version",
    "@@max_allowed_packet",
    "@@wait_timeout",
    "@@max_connections",
    "@@max_user_connections",
    "@@global.read_only",
    "@@innodb_read_only",
    "CONNECTION_ID()",
    "CURRENT_USER()",
    "CURRENT_ROLE()",
    "SHOW GLOBAL STATUS",
    "PROCESSLIST",
    // Everything but a bare number.
    ",",
];

/// The answers with which servers refuse a question.
const REFUSALS: [(u16, &str); 6] = [
    (1193, "Unknown system variable"),
    (1064, "You have an error in your SQL syntax"),
    (1305, "FUNCTION CURRENT_ROLE does not exist"),
    (1142, "SELECT command denied to user"),
    (4501, "The statement is not supported by the router"),
    (1227, "Access denied; you need the privilege"),
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    Refuse(u16, &'static str),
    Hang,
    Close,
}

/// Answers questions that contain this with the fault, and everything else correctly.
async fn play(mut wire: Wire, what: &'static str, fault: Fault) -> io::Result<()> {
    wire.log_in().await?;
    loop {
        let question = wire.question().await?;
        if !question.text.contains(what) {
            wire.raw(&question.answer()).await?;
            continue;
        }
        match fault {
            Fault::Refuse(code, text) => wire.packet(1, &error(code, text)).await?,
            Fault::Hang => wire.hang().await?,
            Fault::Close => return Ok(()),
        }
    }
}

async fn start(what: &'static str, fault: Fault) -> Scripted {
    let server = Scripted::start().await;
    server.play(move |wire| play(wire, what, fault));
    server
}

fn discarded(pool: &Pool) -> u64 {
    let discarded = pool.metrics().discarded;
    discarded.iter().map(|(_, count)| count).sum()
}

/// All at once, some would wait for the processor for as long as an attempt to connect may take.
async fn a_few_at_once(cases: impl Iterator<Item: Future<Output = ()>>) {
    stream::iter(cases)
        .buffer_unordered(8)
        .for_each(async |()| {})
        .await;
}

/// Settings under which the pool asks different questions.
fn variants(url: &str) -> [PoolConfig; 4] {
    let plain = || config(url).size(4).overflow(1);
    let credentials =
        || async { Ok::<_, io::Error>(Credentials::new("app".to_owned(), "secret".to_owned())) };
    [
        plain(),
        plain().init(["SET @init = 1"]),
        plain().on_cancel(OnCancel::Kill),
        plain().credentials(CredentialsSource::new(credentials)),
    ]
}

#[tokio::test]
async fn whatever_is_refused_the_pool_is_warm() {
    let cases = QUESTIONS
        .into_iter()
        .flat_map(|what| REFUSALS.map(|(code, text)| (what, code, text)));
    a_few_at_once(cases.map(async |(what, code, text)| {
        let server = start(what, Fault::Refuse(code, text)).await;
        for settings in variants(&server.url()) {
            let what = format!("{code} at {what:?}, {settings:?}");
            let pool = pool(settings);
            let report = pool
                .warm_up()
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            // An attempt beside one that hung may have opened one more.
            let is_open = (4..=5).contains(&report.open);
            assert!(report.is_complete() && is_open, "{what}: {report}");
            assert_eq!(pool.readiness(), Readiness::Ready, "{what}");
            assert_eq!(discarded(&pool), 0, "{what}");
            // The driver's own query is refused once; the pool does without it in the same attempt.
            assert_eq!(report.failed_attempts, 0, "{what}: {report}");
            let mut all = Vec::new();
            for _ in 0..5 {
                all.push(pool.get().await.expect(&what));
            }
            for conn in &mut all {
                let answer = conn.query_first::<u64, _>("SELECT 7").await;
                assert_eq!(answer.expect(&what), Some(7), "{what}");
            }
            drop(all);
            pool.close().await;
        }
    }))
    .await;
}

#[tokio::test]
async fn only_the_fact_that_is_refused_is_missing() {
    let info = async |what: &'static str| -> ServerInfo {
        let server = start(what, Fault::Refuse(1193, "Unknown system variable")).await;
        let report = pool(config(&server.url())).warm_up().await.expect(what);
        report.server.expect("facts")
    };
    let full = info("nothing is refused").await;
    assert_eq!(
        (full.version.as_str(), full.max_connections),
        ("8.0.0-scripted", 151)
    );
    assert_eq!(full.wait_timeout, Duration::from_secs(28_800));
    for what in QUESTIONS {
        let mut expected = full.clone();
        match what {
            // The driver's query names both, and so is refused too.
            "@@version" => "8.0.0".clone_into(&mut expected.version),
            "@@wait_timeout" => expected.wait_timeout = Duration::ZERO,
            "@@max_connections" => expected.max_connections = 0,
            "," => {
                "8.0.0".clone_into(&mut expected.version);
                expected.wait_timeout = Duration::ZERO;
                expected.max_connections = 0;
            }
            _ => {}
        }
        assert_eq!(info(what).await, expected, "{what}");
    }
}

#[tokio::test]
async fn a_mariadb_without_some_variable_is_still_a_mariadb() {
    for (refused, version) in [
        ("@@max_user_connections", "10.4.2-MariaDB-compatible"),
        ("@@version", "10.4.2"),
    ] {
        let server = Scripted::start().await;
        server.play(move |mut wire: Wire| async move {
            let greeting = Greeting {
                version: b"5.5.5-10.4.2-MariaDB-compatible".to_vec(),
                ..Greeting::default()
            };
            wire.packet(0, &greeting.payload()).await?;
            wire.read_packet().await?;
            wire.packet(2, &ok()).await?;
            loop {
                let question = wire.question().await?;
                if question.text.contains(refused) {
                    wire.packet(1, &error(1193, "Unknown system variable"))
                        .await?;
                } else if question.text.contains("@@version") {
                    wire.raw(&selected(&question.text, |column| match column {
                        "@@version" => "10.4.2-MariaDB-compatible",
                        _ => "1",
                    }))
                    .await?;
                } else {
                    wire.raw(&question.answer()).await?;
                }
            }
        });
        let report = pool(config(&server.url()).size(1))
            .warm_up()
            .await
            .expect("warm");
        let info = report.server.expect("facts");
        assert_eq!(
            (info.flavor, info.version.as_str()),
            (Flavor::MariaDb, version)
        );
    }
}

/// The answer to a `SELECT` whose numbers stay as they are, and whose other columns have these
/// values.
fn selected(text: &str, value: impl Fn(&str) -> &'static str) -> Vec<u8> {
    let columns = text.trim_start_matches("SELECT ");
    let row: Vec<&str> = columns
        .split(',')
        .map(str::trim)
        .map(|column| match column.parse::<u64>() {
            Ok(_) => column,
            Err(_) => value(column),
        })
        .collect();
    rows(&[&row])
}

#[tokio::test]
async fn what_is_refused_is_learned_and_asked_no_more() {
    let server = start("CURRENT_ROLE()", Fault::Refuse(1305, "no such function")).await;
    let pool = pool(config(&server.url()).size(1).overflow(0).keepalive(None));
    pool.warm_up().await.expect("warm");
    // Facts are no longer fresh, so the next opening asks for them.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let before = server.asked().len();
    pool.resize(2, 0).expect("a good limit");
    pool.warm_up().await.expect("warm");
    let asked = server.asked().split_off(before);
    let facts: Vec<_> = asked.iter().filter(|text| text.contains("@@")).collect();
    assert_eq!(facts.len(), 1, "{asked:#?}");
    assert!(
        !asked.iter().any(|text| text.contains("CURRENT_ROLE")),
        "{asked:#?}"
    );
}

/// A refusal means that the server has no roles only if it lacks the function. A proxy may refuse
/// the question in front of a server with roles, where a caller has taken one.
#[tokio::test]
async fn a_refused_question_for_the_role_is_no_answer() {
    for (code, text, has_no_roles) in [
        (1305, "FUNCTION test.CURRENT_ROLE does not exist", true),
        (1046, "No database selected", true),
        (
            1064,
            "No matching function with signature: current_role()",
            true,
        ),
        (1105, "function: 'current_role' not found", true),
        (
            1141,
            "Permission denied, function 'current_role' is prohibited",
            false,
        ),
        (1142, "SELECT command denied to user", false),
        (1227, "Access denied; you need the privilege", false),
        (4501, "The statement is not supported by the router", false),
    ] {
        let server = start("CURRENT_ROLE()", Fault::Refuse(code, text)).await;
        let pool = pool(config(&server.url()).size(1).overflow(0));
        pool.warm_up().await.expect("warm");
        let mut conn = pool.get().await.expect("a connection");
        let id = conn.id();
        conn.query_drop("SET ROLE warden").await.expect("taken");
        drop(conn);
        let next = pool.get().await.expect("a connection");
        assert_eq!(next.id() == id, has_no_roles, "{code}");
        assert_eq!(discarded(&pool), u64::from(!has_no_roles), "{code}");
    }
}

#[tokio::test]
async fn a_question_without_an_answer_costs_little() {
    let cases = QUESTIONS
        .into_iter()
        .flat_map(|what| [Fault::Hang, Fault::Close].map(|fault| (what, fault)));
    a_few_at_once(cases.map(async |(what, fault)| {
        let server = start(what, fault).await;
        for (n, settings) in variants(&server.url()).into_iter().enumerate() {
            // The driver's own query is a part of the login.
            if matches!(what, "@@max_allowed_packet" | "@@wait_timeout" | ",") {
                continue;
            }
            let what = format!("{fault:?} at {what:?}, variant {n}");
            let settings = settings.connect_timeout(Duration::from_secs(1));
            let pool = pool(settings);
            let report = pool
                .warm_up()
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(report.is_complete(), "{what}: {report}");
            // Whatever it has cost is counted by now.
            let cost = report.failed_attempts + discarded(&pool);
            assert!(cost <= 16, "{what}: {report}");
            let answer: Option<u64> = pool
                .get()
                .await
                .expect(&what)
                .query_first("SELECT 7")
                .await
                .expect(&what);
            assert_eq!(answer, Some(7), "{what}");
            pool.close().await;
        }
    }))
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_even_select_a_number_is_named() {
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            match question.kind() {
                QuestionKind::Settings => wire.raw(&question.answer()).await?,
                _ => wire.packet(1, &error(1235, "not supported here")).await?,
            }
        }
    });
    let settings = config(&server.url()).size(2).max_connecting(1);
    let error = pool(settings).warm_up().await.expect_err("refused");
    assert!(matches!(error, Error::WarmUp { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("validate: server error 1235"), "{text}");
}

/// A server with these facts, behind its own greeting or another's.
async fn warm_behind(
    greeting: (&'static str, Option<u32>),
    version: &'static str,
    read_only: &'static str,
    settings: impl Fn(PoolConfig) -> PoolConfig,
) -> (Scripted, Pool, WarmUpReport) {
    let server = Scripted::start().await;
    let ids = Arc::new(AtomicU64::new(0));
    server.play(move |mut wire: Wire| {
        let ids = Arc::clone(&ids);
        async move {
            let own = ids.fetch_add(1, Ordering::Relaxed) + 1;
            let greeting = Greeting {
                version: greeting.0.as_bytes().to_vec(),
                id: greeting
                    .1
                    .unwrap_or_else(|| u32::try_from(own).expect("few")),
                ..Greeting::default()
            };
            wire.packet(0, &greeting.payload()).await?;
            wire.read_packet().await?;
            wire.packet(2, &ok()).await?;
            loop {
                let question = wire.question().await?;
                if question.text.contains("SLEEP") {
                    wire.hang().await?;
                }
                if !question.text.starts_with("SELECT ") {
                    wire.raw(&question.answer()).await?;
                    continue;
                }
                let own: &'static str = own.to_string().leak();
                let text = question.text.split(" FROM ").next().unwrap_or_default();
                let answer = selected(text, |column| match column {
                    "@@version" => version,
                    "@@max_allowed_packet" => "16777216",
                    "CONNECTION_ID()" | "ID" => own,
                    "@@global.read_only" => read_only,
                    "HOST" => "127.0.0.1:4711",
                    "@@server_uuid" | "@@server_uid" => "3E11FA47-71CA-11E1-9E33-C80AA9429562",
                    _ => "0",
                });
                wire.raw(&answer).await?;
            }
        }
    });
    let pool = pool(settings(config(&server.url()).size(2).overflow(1)));
    let report = pool.warm_up().await.expect("warm");
    (server, pool, report)
}

#[tokio::test]
async fn a_proxy_in_between_is_a_typed_warning() {
    for (what, greeting, version, is_proxied) in [
        ("the server itself", ("8.0.36", None), "8.0.36", false),
        (
            "MariaDB itself",
            ("5.5.5-10.11.6-MariaDB", None),
            "10.11.6-MariaDB-log",
            false,
        ),
        ("no id", ("8.0.36", Some(0)), "8.0.36", true),
        ("another id", ("8.0.36", Some(900)), "8.0.36", true),
        ("another version", ("8.0.11", None), "8.0.36", true),
        ("another product", ("8.0.11", None), "10.11.6-MariaDB", true),
    ] {
        for read_only in ["0", "1"] {
            let (_server, pool, report) =
                warm_behind(greeting, version, read_only, |settings| settings).await;
            let expected = match (is_proxied, read_only) {
                (true, _) => vec![Warning::Proxy {
                    reader_answered: read_only == "1",
                }],
                (false, "1") => vec![Warning::ReadOnly],
                (false, _) => vec![],
            };
            assert_eq!(report.warnings, expected, "{what}: {report}");
            let info = report.server.as_ref().expect("facts");
            assert_eq!(info.behind_proxy, is_proxied, "{what}");
            assert_eq!(
                report.to_string().contains("behind a proxy"),
                is_proxied,
                "{report}"
            );
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn where_a_kill_may_hit_another_none_is_sent() {
    for (greeting, version, is_possible) in [
        (("8.0.36", None), "8.0.36", true),
        (("8.0.36", Some(0)), "8.0.36", false),
        (("8.0.36", Some(900)), "8.0.36", false),
        (("8.0.11", None), "8.0.36", false),
    ] {
        let what = format!("{greeting:?} {version}");
        let (server, pool, report) = warm_behind(greeting, version, "0", |settings| {
            settings.on_cancel(OnCancel::Kill)
        })
        .await;
        let warned = report.warnings.iter().any(
            |warning| matches!(warning, Warning::CannotKill { reason } if reason.contains("proxy")),
        );
        assert_eq!(warned, !is_possible, "{what}: {report}");
        let mut conn = pool.get().await.expect("a connection");
        let sleeping = conn.query_drop("SELECT SLEEP(60)");
        let cancelled = tokio::time::timeout(Duration::from_millis(100), sleeping).await;
        assert!(cancelled.is_err());
        drop(conn);
        eventually("it is replaced", async || pool.status().idle == 2).await;
        let killed = server.asked().iter().any(|text| text.starts_with("KILL"));
        assert_eq!(killed, is_possible, "{what}: {:#?}", server.asked());
        pool.close().await;
    }
}
