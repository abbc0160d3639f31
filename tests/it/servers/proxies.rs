//! Proxies and distributed databases in front of the server: what they answer while their servers
//! are away, and what that means for callers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::join_all};
use mysql_warm_pool::{
    Error, Pool, Readiness,
    error::is_transient,
    metrics::DiscardReason,
    mysql_async::{self, prelude::Queryable},
    report::Warning,
};
use test_support::{
    config, eventually, pool,
    scripted::{QuestionKind, Scripted, Wire, early_error, end_of_rows, error, packet, rows},
    warm,
};

/// What proxies and databases answer while the server that is needed is away.
const AWAY: [(u16, &str); 12] = [
    (2003, "Can't connect to remote MySQL server for client"),
    (2013, "Lost connection to MySQL server during query"),
    (2006, "MySQL server has gone away"),
    (1927, "Lost connection to backend server"),
    (
        9001,
        "Max connect timeout reached while reaching hostgroup 0 after 10000ms",
    ),
    (9002, "TiKV Server Timeout"),
    (9005, "Region is unavailable"),
    (9501, "Timed-out waiting to acquire database connection"),
    (
        1105,
        "target: shop.0.primary: vttablet: rpc error: code = Unavailable desc = gone",
    ),
    (1047, "WSREP has not yet prepared node for application use"),
    (
        6400,
        "The server is currently in offline mode since 1, reason: 2",
    ),
    (
        1290,
        "The MySQL server is running with the --read-only option",
    ),
];

/// At which point of an opening the answer comes.
#[derive(Clone, Copy, Debug)]
enum At {
    Greeting,
    Login,
    FirstQuestion,
    Init,
}

async fn play_away(mut wire: Wire, at: At, code: u16, text: &'static str) -> io::Result<()> {
    match at {
        At::Greeting => return wire.packet(0, &early_error(code, text)).await,
        At::Login => {
            wire.greet().await?;
            wire.packet(2, &error(code, text)).await?;
            return wire.hang().await;
        }
        At::FirstQuestion | At::Init => wire.log_in().await?,
    }
    loop {
        let question = wire.question().await?;
        if matches!(at, At::FirstQuestion) || question.kind() == QuestionKind::Init {
            wire.packet(1, &error(code, text)).await?;
        } else {
            wire.raw(&question.answer()).await?;
        }
    }
}

#[tokio::test]
async fn a_proxy_whose_server_starts_late_costs_no_request() {
    let cases = [At::Greeting, At::Login, At::FirstQuestion, At::Init]
        .into_iter()
        .flat_map(|at| AWAY.map(|(code, text)| (at, code, text)));
    join_all(cases.map(async |(at, code, text)| {
        let what = format!("{code} at {at:?}");
        let server = Scripted::start().await;
        server.play(move |wire| play_away(wire, at, code, text));
        let settings = config(&server.url())
            .size(2)
            .overflow(2)
            .init(["SET @init = 1"]);
        let pool = pool(settings);
        let callers: Vec<_> = (0..8_u64)
            .map(|n| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let mut conn = pool.get().await.expect("served, even if late");
                    let answer = conn.query_first::<u64, _>(format!("SELECT {n}")).await;
                    assert_eq!(answer.expect("an answer"), Some(n));
                })
            })
            .collect();
        let warming = tokio::spawn({
            let pool = pool.clone();
            async move { pool.warm_up().await }
        });
        eventually(&format!("{what}: it is tried again"), async || {
            pool.metrics().failed_attempts >= 4
        })
        .await;
        let error = pool.health().last_error.unwrap_or_default();
        assert!(error.contains(&code.to_string()), "{what}: {error}");
        assert!(!error.contains("check this statement"), "{what}: {error}");
        server.behave();
        let report = warming.await.expect("no panic").expect(&what);
        assert!(report.is_complete(), "{what}: {report}");
        for caller in callers {
            caller.await.expect(&what);
        }
        assert_eq!(pool.readiness(), Readiness::Ready, "{what}");
        pool.close().await;
    }))
    .await;
}

#[tokio::test]
async fn a_catch_all_code_without_such_a_text_ends_the_warm_up() {
    for (code, text) in [
        (1105, "unknown error"),
        (
            1105,
            "vttablet: rpc error: code = InvalidArgument desc = no",
        ),
        (1047, "Unknown command"),
        (1290, "running with the --skip-grant-tables option"),
        (
            9002,
            "SSL connection is required. Please specify SSL options and retry.",
        ),
    ] {
        let server = Scripted::start().await;
        server.play(move |wire| play_away(wire, At::Login, code, text));
        let pool = pool(config(&server.url()).size(1).max_connecting(1));
        let error = pool.warm_up().await.expect_err(text);
        assert!(
            matches!(error, Error::WarmUp { .. }) && !error.is_transient(),
            "{error}"
        );
        assert!(error.to_string().contains(&code.to_string()), "{error}");
    }
}

/// The errors after which a proxy closes the client's connection.
const LAST_WORDS: [(u16, &str); 5] = [
    (2003, "Can't connect to remote MySQL server for client"),
    (2006, "MySQL server has gone away"),
    (2013, "Lost connection to MySQL server during query"),
    (
        2055,
        "Lost connection to MySQL server at reading, system error: 0",
    ),
    (1927, "Lost connection to backend server"),
];

/// Like a proxy that sends writes and reads to different servers, and has no server for writes: it
/// answers a write with an error, and the next statement by closing the connection.
async fn play_without_writer(mut wire: Wire, code: u16, text: &'static str) -> io::Result<()> {
    wire.log_in().await?;
    loop {
        let question = wire.question().await?;
        if question.text.starts_with("INSERT") {
            wire.packet(1, &error(code, text)).await?;
            wire.question().await?;
            return Ok(());
        }
        wire.raw(&question.answer()).await?;
    }
}

#[tokio::test]
async fn a_loss_reported_by_a_proxy_reaches_no_other_caller() {
    for (code, text) in LAST_WORDS {
        let server = Scripted::start().await;
        server.play(move |wire| play_without_writer(wire, code, text));
        let pool = warm(config(&server.url()).size(4).overflow(0)).await;
        let writes = Arc::new(AtomicU64::new(0));
        let callers = (0..8).map(|n| {
            let (pool, writes) = (pool.clone(), Arc::clone(&writes));
            tokio::spawn(async move {
                for round in 0..25 {
                    let mut conn = pool.get().await.expect("a connection");
                    if (n + round) % 4 == 0 {
                        let error = conn.query_drop("INSERT INTO t VALUES (1)").await;
                        let error = error.expect_err("no server for writes");
                        assert!(is_transient(&error), "{error}");
                        writes.fetch_add(1, Ordering::Relaxed);
                        // The same caller gets an error, and nothing is sent.
                        let error = conn.query_drop("SELECT 1").await.expect_err("lost");
                        assert!(error.to_string().contains("nothing was sent"), "{error}");
                    } else {
                        let answer = conn.query_first::<u64, _>("SELECT 7").await;
                        assert_eq!(answer.expect("a reader is not disturbed"), Some(7));
                    }
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.expect("no other error");
        }
        let discarded = pool.metrics().discarded;
        let lost = discarded
            .iter()
            .find(|(reason, _)| *reason == DiscardReason::Lost);
        let lost = lost.map(|(_, count)| *count);
        assert_eq!(lost, Some(writes.load(Ordering::Relaxed)), "{code}");
        pool.close().await;
    }
}

/// Like a server that is stopped, or a proxy that loses its server, while it sends rows: an error in
/// place of the next row. It answers the next statement by closing the connection.
async fn play_cut_off(mut wire: Wire, code: u16, text: &'static str) -> io::Result<()> {
    wire.log_in().await?;
    loop {
        let question = wire.question().await?;
        if question.text == "SELECT 1, 'rows'" {
            let mut bytes = rows(&[&["1", "rows"]]);
            let end = packet(1, &end_of_rows(0)).len();
            bytes.truncate(bytes.len() - end);
            bytes.extend(packet(5, &error(code, text)));
            wire.raw(&bytes).await?;
            wire.question().await?;
            return Ok(());
        }
        wire.raw(&question.answer()).await?;
    }
}

#[tokio::test]
async fn a_loss_reported_in_the_middle_of_an_answer_reaches_no_other_caller() {
    for (code, text) in [(1053, "Server shutdown in progress")]
        .into_iter()
        .chain(LAST_WORDS)
    {
        let server = Scripted::start().await;
        server.play(move |wire| play_cut_off(wire, code, text));
        let pool = warm(config(&server.url()).size(1).overflow(0)).await;
        for (round, streams) in (1..).zip([false, true]) {
            let mut conn = pool.get().await.expect("a connection");
            let sql = "SELECT 1, 'rows'";
            let error = if streams {
                let stream = conn.query_stream::<(u8, String), _>(sql).await;
                let rows = stream.expect("the answer begins").collect::<Vec<_>>();
                rows.await.pop().expect("an end").expect_err("cut off")
            } else {
                let rows = conn.query::<(u8, String), _>(sql).await;
                rows.expect_err("cut off")
            };
            assert!(error.to_string().contains(text), "{error}");
            // The same caller gets an error, and nothing is sent.
            let error = conn.query_drop("SELECT 1").await.expect_err("lost");
            assert!(error.to_string().contains("nothing was sent"), "{error}");
            drop(conn);
            let mut conn = pool.get().await.expect("another connection");
            let answer = conn.query_first::<u8, _>("SELECT 7").await;
            assert_eq!(answer.expect("a connection that lives"), Some(7));
            let discarded = pool.metrics().discarded;
            assert!(discarded.contains(&(DiscardReason::Lost, round)), "{code}");
        }
        pool.close().await;
    }
}

#[tokio::test]
async fn a_loss_reported_by_a_proxy_has_the_others_validated() {
    for (code, text) in LAST_WORDS {
        let server = Scripted::start().await;
        let is_gone = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&is_gone);
        server.play(move |mut wire: Wire| {
            let gone = Arc::clone(&gone);
            async move {
                wire.log_in().await?;
                loop {
                    let question = wire.question().await?;
                    if question.text.starts_with("INSERT") {
                        gone.store(true, Ordering::Relaxed);
                        wire.packet(1, &error(code, text)).await?;
                    } else if gone.load(Ordering::Relaxed) {
                        return Ok(());
                    } else {
                        wire.raw(&question.answer()).await?;
                    }
                }
            }
        });
        let settings = config(&server.url()).size(6).overflow(0);
        let pool = warm(settings.validate_after_idle(Duration::from_secs(600))).await;
        let mut conn = pool.get().await.expect("a connection");
        let error = conn.query_drop("INSERT INTO t VALUES (1)").await;
        assert!(
            matches!(error, Err(mysql_async::Error::Server(_))),
            "{error:?}"
        );
        server.behave();
        drop(conn);
        for _ in 0..12 {
            let mut conn = pool.get().await.expect("a connection");
            let answer = conn.query_first::<u64, _>("SELECT 7").await;
            assert_eq!(answer.expect("a living connection"), Some(7), "{code}");
        }
        pool.close().await;
    }
}

/// Some proxies refuse several statements in one text, and some servers derived from MySQL lack the
/// table of traces. The pool learns both once.
#[tokio::test]
async fn what_a_server_refuses_in_cleaning_is_asked_differently() {
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            if question.text.contains("; ") {
                wire.packet(1, &error(4501, "one statement at a time"))
                    .await?;
            } else if question.text.contains("OPTIMIZER_TRACE") {
                wire.packet(1, &error(1109, "unknown table")).await?;
            } else {
                wire.raw(&question.answer()).await?;
            }
        }
    });
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut ids = Vec::new();
    for times in 1..=4 {
        let before = server.asked().len();
        let mut conn = pool.get().await.expect("a connection");
        let bare: &mut mysql_async::Conn = &mut conn;
        bare.query_drop("SELECT 1").await.expect("an answer");
        ids.push(conn.id());
        drop(conn);
        eventually("it is idle", async || pool.status().idle == 1).await;
        let asked = server.asked().split_off(before);
        let refused = asked
            .iter()
            .filter(|text| text.contains("; ") || text.contains("OPTIMIZER_TRACE"));
        assert!(times <= 2 || refused.count() == 0, "{asked:#?}");
    }
    assert_eq!(ids, [ids[0]; 4], "the connection is kept");
    assert_eq!(pool.metrics().suspects, 0);
}

/// How a server answers what the pool sends to clean a session.
#[derive(Clone, Copy, Debug)]
struct Refuses {
    reset: (u16, &'static str),
    change_user: bool,
}

/// Changes the session of a pool's only connection `times` times. Returns the ids of the
/// connections, and how often a reset was sent.
async fn change(refuses: Refuses, times: usize) -> (Scripted, Pool, Vec<u32>, usize) {
    const COM_CHANGE_USER: u8 = 0x11;
    let server = Scripted::start().await;
    server.play(move |mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            if question.kind() == QuestionKind::Reset {
                let (code, text) = refuses.reset;
                wire.packet(1, &error(code, text)).await?;
            } else if question.command == COM_CHANGE_USER && refuses.change_user {
                wire.packet(1, &error(1047, "Unknown command")).await?;
            } else {
                wire.raw(&question.answer()).await?;
            }
        }
    });
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut ids = Vec::new();
    for _ in 0..times {
        let mut conn = pool.get().await.expect("a connection");
        ids.push(conn.id());
        conn.query_drop("PREPARE a FROM 'DO 1'")
            .await
            .expect("prepared");
        drop(conn);
        eventually("it is idle", async || pool.status().idle == 1).await;
    }
    let asked = server.asked();
    let resets = asked.iter().filter(|text| *text == "reset").count();
    assert_eq!(pool.metrics().suspects, 0, "{refuses:?}");
    (server, pool, ids, resets)
}

#[tokio::test]
async fn a_refused_reset_is_learnt_and_the_user_changed_instead() {
    for reset in [
        (1047, "Unknown command"),
        (1235, "This version doesn't yet support it"),
        (
            1105,
            "errCode = 2, detailMessage = Unsupported command(COM_RESET_CONNECTION)",
        ),
        (1295, "This command is not supported"),
    ] {
        let refuses = Refuses {
            reset,
            change_user: false,
        };
        let (_server, pool, ids, resets) = change(refuses, 3).await;
        assert_eq!(ids, [ids[0]; 3], "{reset:?}: kept");
        assert_eq!(resets, 1, "{reset:?}: sent once, then learnt");
        let report = pool.warm_up().await.expect("warm");
        assert!(report.warnings.contains(&Warning::ResetRefused), "{report}");
    }
}

#[tokio::test]
async fn where_the_user_cannot_be_changed_either_it_is_replaced() {
    let refuses = Refuses {
        reset: (1047, "Unknown command"),
        change_user: true,
    };
    let (_server, pool, ids, resets) = change(refuses, 3).await;
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    assert_eq!(resets, 1, "sent once, then learnt");
    let discarded = pool.metrics().discarded;
    let expected = (DiscardReason::CleaningFailed, 3);
    assert!(discarded.contains(&expected), "{discarded:?}");
}

#[tokio::test]
async fn a_node_outside_its_cluster_does_not_refuse_resets_for_ever() {
    let refuses = Refuses {
        reset: (1047, "WSREP has not yet prepared node for application use"),
        change_user: false,
    };
    let (_server, pool, _, resets) = change(refuses, 3).await;
    assert_eq!(resets, 3);
    let report = pool.warm_up().await.expect("warm");
    assert!(
        !report.warnings.contains(&Warning::ResetRefused),
        "{report}"
    );
}

/// Some servers derived from MySQL lose the default database at a reset.
#[tokio::test]
async fn after_a_reset_the_database_is_chosen_again() {
    let server = Scripted::start().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("PREPARE a FROM 'DO 1'")
        .await
        .expect("prepared");
    drop(conn);
    eventually("it is idle", async || pool.status().idle == 1).await;
    let asked = server.asked();
    let after = asked
        .iter()
        .position(|text| text == "reset")
        .expect("a reset");
    let after = asked.iter().skip(after + 1);
    assert_eq!(
        after.map(String::as_str).collect::<Vec<_>>(),
        ["SET NAMES utf8mb4 COLLATE utf8mb4_general_ci; USE `shop`"]
    );
}
