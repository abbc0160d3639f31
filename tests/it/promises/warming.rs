//! Warm-up: what it opens, how long it takes, what it reports, and what ends it.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use mysql_warm_pool::{
    Error, Readiness,
    mysql_async::{Conn, prelude::Queryable},
    report::{Flavor, Warning},
};
use test_support::{PATIENCE, Proxy, Server, config, eventually, pool};

#[tokio::test]
async fn a_warm_pool_opens_nothing_during_ten_thousand_gets() {
    let server = Server::start().await;
    let pool = pool(config(&server.url()).size(20).overflow(0));
    let report = pool.warm_up().await.expect("a warm pool");
    assert!(report.is_complete(), "{report}");
    assert_eq!(
        (report.target, report.open, report.opened, report.attempts),
        (20, 20, 20, 20)
    );
    assert_eq!(
        report.server.as_ref().map(|server| server.flavor),
        Some(match server.flavor() {
            test_support::Flavor::MariaDb => Flavor::MariaDb,
            test_support::Flavor::MySql => Flavor::MySql,
        })
    );
    assert_eq!(pool.readiness(), Readiness::Ready);
    assert_eq!(pool.status().idle, 20);

    let mut admin = server.admin().await;
    let mut connections = async || -> (String, u64) {
        admin
            .query_first("SHOW GLOBAL STATUS LIKE 'Connections'")
            .await
            .expect("an answer")
            .expect("a row")
    };
    let before = connections().await;
    join_all((0..20).map(|_| async {
        for n in 0..500_u64 {
            let mut conn = pool.get().await.expect("a connection");
            if n % 100 == 0 {
                let answer: Option<u64> = conn
                    .query_first(format!("SELECT {n}"))
                    .await
                    .expect("an answer");
                assert_eq!(answer, Some(n));
            }
        }
    }))
    .await;
    assert_eq!(connections().await, before);

    let again = pool.warm_up().await.expect("still warm");
    assert_eq!((again.open, again.opened, again.attempts), (20, 0, 0));
    assert_eq!(connections().await, before);
}

#[tokio::test]
async fn warm_ups_at_the_same_time_share_the_work() {
    let server = Server::start().await;
    let pool = pool(config(&server.url()).size(10).overflow(0));
    let before = server.status_value("Connections").await;
    let reports = try_join_all((0..5).map(|_| pool.warm_up()))
        .await
        .expect("warm");
    assert!(reports.iter().all(|report| report.open == 10));
    assert_eq!(server.status_value("Connections").await - before, 10);
}

#[tokio::test]
async fn a_dropped_warm_up_loses_nothing_that_was_opened() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.accept_and_stall();
    let pool = pool(
        config(&server.url_via(proxy.port()))
            .size(6)
            .overflow(0)
            .max_connecting(3),
    );
    let dropped = tokio::time::timeout(Duration::from_millis(50), pool.warm_up()).await;
    assert!(dropped.is_err());
    proxy.forward();
    eventually("all six are open", async || pool.status().idle == 6).await;
    assert_eq!(proxy.accepted(), 6);
}

#[tokio::test]
async fn a_server_that_starts_late_costs_no_request() {
    let server = Server::builder().prepare().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.refuse().await;
    let pool = pool(config(&server.url_via(proxy.port())).size(5).overflow(5));
    let callers = (0..20).map(|n: u64| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut conn = pool.get().await.expect("a connection, even if late");
            conn.query_first::<u64, _>(format!("SELECT {n}"))
                .await
                .expect("an answer")
        })
    });
    let callers: Vec<_> = callers.collect();
    let warming = tokio::spawn({
        let pool = pool.clone();
        async move { pool.warm_up().await }
    });
    eventually("the first fill fails", async || {
        pool.readiness() == Readiness::Unavailable
    })
    .await;
    let health = pool.health();
    assert!(
        health
            .last_error
            .is_some_and(|error| error.contains("refused"))
    );

    server.start_again().await;
    eventually("it is tried again", async || {
        pool.metrics().failed_attempts > 5
    })
    .await;
    proxy.accept_again().await;
    let report = warming.await.expect("no panic").expect("warm");
    assert!(report.failed_attempts > 0 && report.last_error.is_some());
    for (n, caller) in (0..).zip(callers) {
        assert_eq!(caller.await.expect("no panic"), Some(n));
    }
    assert_eq!(pool.readiness(), Readiness::Ready);
    assert_eq!(pool.health().last_error, None);
}

#[tokio::test]
async fn a_permanent_fault_ends_it_within_one_attempt_with_advice() {
    let server = Server::start().await;
    server
        .execute("GRANT ALL ON no_such_place.* TO 'app'@'%'")
        .await;
    let url = server.url();
    let wrong_password = server.url_as("app", "wr0ng-s3cret");
    let wrong_database = url.replace("/test", "/no_such_place");
    let faults = [
        (config(&wrong_password), "1045", "password"),
        (config(&wrong_database), "1049", "database"),
        (
            config(&url).init(["SET @a = 1", "SELECT FROM nothing"]),
            "1064",
            "init statement 2",
        ),
        (
            config(&url).init(["SET no_such_variable = 1"]),
            "1193",
            "`init`",
        ),
        (
            config(&url).prepare(["SELECT FROM nothing"]),
            "1064",
            "`prepare`",
        ),
    ];
    for (config, code, advice) in faults {
        let pool = pool(config.size(4).max_connecting(1));
        let error = pool.warm_up().await.expect_err(code);
        let text = error.to_string();
        assert!(text.contains(code) && text.contains(advice), "{text}");
        assert!(
            !text.contains("s3cret") && !format!("{error:?}").contains("s3cret"),
            "{error:?}"
        );
        assert!(!error.is_transient());
        let Error::WarmUp { report, .. } = error else {
            panic!("{error}")
        };
        // On a busy machine one attempt may hang, and another is started beside it; four
        // connections were wanted.
        assert!(report.open == 0 && report.attempts <= 2, "{report}");
        assert_eq!(pool.readiness(), Readiness::Unavailable);

        let error = pool.get().await.expect_err("no connection either");
        assert!(
            matches!(&error, Error::Connect(error) if error.code().is_some()),
            "{error}"
        );
        assert!(error.to_string().contains(code), "{error}");
    }
}

#[tokio::test]
async fn ready_at_is_enough_when_the_time_is_over() {
    let server = Server::builder().max_connections(10).start().await;
    let settings = config(&server.url())
        .size(20)
        .warm_up_timeout(Duration::from_secs(2));
    let enough = pool(settings.clone().ready_at(3));
    let report = enough.warm_up().await.expect("ready enough");
    assert!(!report.is_complete() && report.open >= 3, "{report}");
    assert_eq!(enough.readiness(), Readiness::Ready);
    enough.close().await;

    let too_few = pool(settings.ready_at(15));
    let error = too_few.warm_up().await.expect_err("too few");
    assert!(
        error.is_transient() && error.to_string().contains("1040"),
        "{error}"
    );
    assert!(error.to_string().contains("max_connections"), "{error}");
}

#[tokio::test]
async fn a_warm_up_ends_when_the_size_is_lowered_to_what_is_open() {
    let server = Server::builder().max_connections(10).start().await;
    let settings = config(&server.url()).size(20).overflow(0);
    let pool = pool(settings.warm_up_timeout(10 * PATIENCE));
    let warming = tokio::spawn({
        let pool = pool.clone();
        async move { pool.warm_up().await }
    });
    eventually("the server is full, and the pool pauses", async || {
        let status = pool.status();
        status.open > 5 && status.connecting == 0 && pool.health().last_error.is_some()
    })
    .await;
    pool.resize(5, 0).expect("a good limit");
    let outcome = tokio::time::timeout(PATIENCE, warming).await;
    let outcome = outcome.expect("it ends").expect("no panic");
    assert!(outcome.expect("warm").is_complete());
}

#[tokio::test]
async fn settings_likely_to_hurt_are_typed_warnings() {
    let server = Server::builder()
        .max_connections(10)
        .option("--wait-timeout=60")
        .start()
        .await;
    server.execute("SET GLOBAL read_only = 1").await;
    let _another = Conn::new(server.opts())
        .await
        .expect("another client's connection");
    let settings = config(&server.url())
        .size(3)
        .overflow(7)
        .keepalive(Duration::from_secs(60));
    let report = pool(settings).warm_up().await.expect("warm");
    // On a busy machine one opening may hang, and another is started beside it, which counts too.
    let most = u64::from(9 - server.own_connections());
    let allowed = most.saturating_sub(2)..=most;
    let minute = Duration::from_secs(60);
    assert!(
        matches!(
            report.warnings.as_slice(),
            [
                Warning::LimitTooHigh { limit: 10, allowed: found, setting: "max_connections" },
                Warning::RecycleNotBelowWaitTimeout { recycle: Some(_), wait_timeout: a },
                Warning::KeepaliveNotBelowWaitTimeout { keepalive: Some(b), wait_timeout: c },
                Warning::ReadOnly,
            ] if [*a, *b, *c] == [minute; 3] && allowed.contains(found)
        ),
        "{:?}",
        report.warnings
    );
    let flavor = match server.flavor() {
        test_support::Flavor::MariaDb => "MariaDB",
        test_support::Flavor::MySql => "MySQL",
    };
    let text = report.to_string();
    assert!(
        text.contains("3 of 3") && text.contains(flavor) && text.contains("read-only"),
        "{text}"
    );

    let quiet = Server::start().await;
    let pool = pool(config(&quiet.url()).size(3).overflow(7));
    assert_eq!(pool.warm_up().await.expect("warm").warnings, []);
}

#[tokio::test]
async fn init_runs_in_order_and_listed_statements_are_prepared() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .size(1)
        .init([
            "SET @order = 'a'",
            "SET @order = CONCAT(@order, 'b')",
            "SET @order = CONCAT(@order, 'c')",
        ])
        .prepare(["SELECT @order, ?"]);
    let pool = pool(settings);
    pool.warm_up().await.expect("warm");
    let prepared = server.statements_prepared().await;
    let mut conn = pool.get().await.expect("a connection");
    let row: Option<(String, u8)> = conn
        .exec_first("SELECT @order, ?", (7,))
        .await
        .expect("an answer");
    assert_eq!(row, Some(("abc".to_owned(), 7)));
    assert_eq!(server.statements_prepared().await, prepared);
}

#[tokio::test]
async fn the_settings_query_is_saved_once_its_answer_is_known() {
    let server = Server::start().await;
    let settings = config(&server.url()).size(1).overflow(0).keepalive(None);
    let pool = pool(settings);
    let asked = async || server.status_value("Com_select").await;
    // One round trip for each connection after authentication, and one more for the first: settings,
    // then facts.
    let before = asked().await;
    pool.warm_up().await.expect("warm");
    assert_eq!(asked().await - before, 1 + 1);
    // Read before the limit is raised, as maintenance may open connections at once.
    let before = asked().await;
    pool.resize(10, 0).expect("a good limit");
    pool.warm_up().await.expect("warm");
    assert_eq!(asked().await - before, 9);
    let conn = pool.get().await.expect("a connection");
    let known: Option<usize> = server
        .admin()
        .await
        .query_first("SELECT @@max_allowed_packet")
        .await
        .expect("an answer");
    let used = conn.opts().max_allowed_packet();
    assert!(used.is_none() || used == known, "{used:?}");
}

/// Its queue holds the attempts for longer than one counts as hanging.
#[tokio::test]
async fn a_busy_server_gets_no_attempt_twice() {
    let server = Server::start().await;
    let proxy = Proxy::start(server.port()).await;
    proxy.delay_opening(Duration::from_millis(450));
    for _ in 0..5 {
        let pool = pool(config(&server.url_via(proxy.port())).size(4).overflow(6));
        let before = proxy.accepted();
        let report = pool.warm_up().await.expect("warm");
        let attempts = proxy.accepted() - before;
        pool.close().await;
        // On a machine so busy that it took much longer, more attempts may be right.
        if report.elapsed < Duration::from_millis(700) {
            assert_eq!((attempts, report.attempts), (4, 4), "{report}");
            return;
        }
    }
}
