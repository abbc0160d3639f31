//! A real MySQL Router, in front of one server and of a group (Group Replication).
//!
//! These tests need `scripts/with-database --server mysql --router`; elsewhere they are skipped.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use mysql_warm_pool::{
    OnCancel, Pool, PoolConfig, mysql_async::prelude::Queryable, report::Warning,
};
use test_support::{Flavor, Group, Router, Server, config, eventually, skip, warm};
use tokio::sync::Mutex as AsyncMutex;

/// Ways to route to one server: the options of the Router's route.
const MODES: [(&str, &[&str]); 3] = [
    ("its own TLS", &[]),
    (
        "passed through",
        &["client_ssl_mode=PASSTHROUGH", "server_ssl_mode=AS_CLIENT"],
    ),
    ("shared", &["connection_sharing=1"]),
];

/// Groups are large and disturb each other's timing, so one test at a time has one.
pub(super) static ONE_GROUP: AsyncMutex<()> = AsyncMutex::const_new(());

pub(super) fn is_there() -> bool {
    let is_there = Flavor::chosen() == Flavor::MySql && Router::is_there();
    if !is_there {
        skip("it needs scripts/with-database --server mysql --router");
    }
    is_there
}

fn settings(server: &Server, port: u16) -> PoolConfig {
    config(&server.url_via(port))
}

/// Eight callers that work until a moment; the errors of their gets, and of their statements.
pub(super) async fn eight_callers(
    pool: &Pool,
    until: Instant,
    statement: &str,
) -> [Vec<String>; 2] {
    let errors: [Mutex<Vec<String>>; 2] = Default::default();
    let record = |list: usize, error: String| {
        if let Some(list) = errors.get(list) {
            list.lock().expect("no panic").push(error);
        }
    };
    join_all((0..8).map(async |_| {
        while Instant::now() < until {
            match pool.get().await {
                Ok(mut conn) => {
                    if let Err(error) = conn.query_drop(statement).await {
                        record(1, error.to_string());
                    }
                }
                Err(error) => record(0, error.to_string()),
            }
            tokio::time::sleep(Duration::from_millis(5)).await; // the caller's own work
        }
    }))
    .await;
    errors.map(|list| list.into_inner().expect("no panic"))
}

#[tokio::test]
async fn a_server_that_starts_late_is_waited_for() {
    if !is_there() {
        return;
    }
    for (mode, options) in MODES {
        let server = Server::start().await;
        let router = Router::start(&server, options).await;
        server.shutdown().await;
        let pool = Pool::new(settings(&server, router.writing()).size(4)).expect("valid");
        let callers = join_all((0..8).map(async |_| pool.get().await.map(drop)));
        let late = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            server.start_again().await;
        };
        let (report, gets, ()) = tokio::join!(pool.warm_up(), callers, late);
        let report = report.unwrap_or_else(|error| panic!("{mode}: {error}"));
        assert!(report.is_complete(), "{mode}: {report}");
        for get in gets {
            get.unwrap_or_else(|error| panic!("{mode}: {error}"));
        }
    }
}

#[tokio::test]
async fn no_get_fails_while_the_server_behind_is_away() {
    if !is_there() {
        return;
    }
    for (mode, options) in MODES {
        let server = Server::start().await;
        let router = Router::start(&server, options).await;
        let pool = warm(settings(&server, router.writing()).size(4).overflow(4)).await;
        let until = Instant::now() + Duration::from_secs(7);
        let away = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            server.shutdown().await;
            tokio::time::sleep(Duration::from_secs(4)).await;
            server.start_again().await;
        };
        let ([gets, statements], ()) =
            tokio::join!(eight_callers(&pool, until, "SELECT SLEEP(0.01)"), away);
        assert!(gets.is_empty(), "{mode}: {gets:?}");
        // One for each caller at work when the server went, and one for each connection that had
        // just been validated.
        assert!(statements.len() <= 16, "{mode}: {statements:?}");
    }
}

#[tokio::test]
async fn sessions_are_clean_in_every_mode() {
    if !is_there() {
        return;
    }
    for (mode, options) in MODES {
        let server = Server::start().await;
        let router = Router::start(&server, options).await;
        let pool = warm(settings(&server, router.writing()).size(1).overflow(0)).await;
        for change in [
            "SET @asked = 1",
            "SET SESSION group_concat_max_len = 12345",
            "USE other",
            "CREATE TEMPORARY TABLE own (id INT)",
            "SELECT GET_LOCK('own', 0)",
            "BEGIN",
        ] {
            let mut conn = pool.get().await.expect("a connection");
            conn.query_drop(change).await.expect(mode);
            drop(conn);
            let mut conn = pool.get().await.expect("a connection");
            let left: Option<(Option<u8>, u64, String, Option<u64>)> = conn
                .query_first(
                    "SELECT @asked, @@group_concat_max_len, DATABASE(), IS_USED_LOCK('own')",
                )
                .await
                .expect(mode);
            let as_new = (None, 1024, "test".to_owned(), None);
            assert_eq!(left, Some(as_new), "{mode}: {change}");
            conn.query_drop("SELECT * FROM own")
                .await
                .expect_err("no such table");
        }
    }
}

#[tokio::test]
async fn a_warm_up_warns_of_what_a_router_hides() {
    if !is_there() {
        return;
    }
    for (mode, options) in MODES {
        let server = Server::start().await;
        let router = Router::start(&server, options).await;
        let settings = settings(&server, router.writing()).size(2).overflow(1);
        let pool = Pool::new(settings.on_cancel(OnCancel::Kill)).expect("valid");
        let report = pool.warm_up().await.expect("a warm-up");
        let is_hidden = mode != "passed through";
        let warns = |is: fn(&Warning) -> bool| report.warnings.iter().any(is);
        assert_eq!(
            warns(|it| matches!(it, Warning::Proxy { .. })),
            is_hidden,
            "{mode}: {report}"
        );
        assert_eq!(
            warns(|it| matches!(it, Warning::CannotKill { .. })),
            is_hidden,
            "{mode}: {report}"
        );
        assert!(
            !warns(|it| matches!(it, Warning::ReadOnly)),
            "{mode}: {report}"
        );

        let mut conn = pool.get().await.expect("a connection");
        let sleep = conn.query_drop("SELECT SLEEP(30)");
        let cancelled = tokio::time::timeout(Duration::from_millis(200), sleep).await;
        assert!(cancelled.is_err(), "{mode}");
        drop(conn);
        eventually("it is replaced", async || pool.status().idle >= 2).await;
        let sleeping = async || {
            let list = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                        WHERE INFO LIKE 'SELECT SLEEP%'";
            let mut conn = server.admin().await;
            let count: Option<u8> = conn.query_first(list).await.expect("a count");
            count == Some(1)
        };
        assert_eq!(sleeping().await, is_hidden, "{mode}");
    }
}

#[tokio::test]
async fn a_splitting_port_is_warm_and_takes_writes() {
    if !is_there() {
        return;
    }
    let _turn = ONE_GROUP.lock().await;
    let group = Group::start(&[]).await;
    group.node(0).execute(TABLE).await;
    let router = Router::of_group(&group).await;
    for port in [router.writing(), router.splitting()] {
        for n in 0..20 {
            let size = if n % 2 == 0 { 8 } else { 1 };
            let pool = Pool::new(settings(group.node(0), port).size(size)).expect("valid");
            let report = pool.warm_up().await.expect("a warm-up");
            assert!(report.open >= size, "{report}");
            assert!(!report.warnings.contains(&Warning::ReadOnly), "{report}");
            let mut conn = pool.get().await.expect("a connection");
            conn.query_drop("INSERT INTO entry () VALUES ()")
                .await
                .expect("written");
            drop(conn);
            pool.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_reported_by_a_splitting_port_reaches_no_other() {
    if !is_there() {
        return;
    }
    let _turn = ONE_GROUP.lock().await;
    let group = Group::start(&[]).await;
    group.node(0).execute(TABLE).await;
    let router = Router::of_group(&group).await;
    let pool = warm(settings(group.node(0), router.splitting()).size(8)).await;
    let reading = pool.clone();
    let until = Instant::now() + Duration::from_secs(25);
    let readers =
        tokio::spawn(
            async move { eight_callers(&reading, until, "SELECT COUNT(*) FROM entry").await },
        );
    let writing = pool.clone();
    let writers = tokio::spawn(async move {
        eight_callers(&writing, until, "INSERT INTO entry () VALUES ()").await
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    group.node(0).kill().await;
    let ([reading_gets, reads], [writing_gets, writes]) = (
        readers.await.expect("no panic"),
        writers.await.expect("no panic"),
    );
    println!("reads: {:?}", counted(&reads));
    println!("writes: {:?}", counted(&writes));
    println!(
        "gets: {:?} {:?}",
        counted(&reading_gets),
        counted(&writing_gets)
    );
    println!("{:?}", pool.metrics().discarded);
    assert!(!writes.is_empty());
    // Statements under way when the primary was killed lose their connection, and so may the first
    // on each connection after that.
    let lost = |errors: &[String]| {
        errors
            .iter()
            .filter(|error| !error.contains("2003"))
            .count()
    };
    assert!(lost(&reads) <= 16, "{:?}", counted(&reads));
    assert!(lost(&writes) <= 16, "{:?}", counted(&writes));
    group.new_primary(&[1, 2]).await;
    eventually("writes are taken again", async || {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("INSERT INTO entry () VALUES ()")
            .await
            .is_ok()
    })
    .await;
}

/// How often each error occurred, the numbers in its text aside.
pub(super) fn counted(errors: &[String]) -> std::collections::BTreeMap<String, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for error in errors {
        let text: String = error.chars().filter(|c| !c.is_ascii_digit()).collect();
        let code: String = error.chars().filter(char::is_ascii_digit).take(4).collect();
        *counts
            .entry(format!(
                "{code} {}",
                text.get(..60.min(text.len())).unwrap_or_default()
            ))
            .or_default() += 1;
    }
    counts
}

pub(super) const TABLE: &str = "CREATE TABLE test.entry (id INT AUTO_INCREMENT PRIMARY KEY)";
