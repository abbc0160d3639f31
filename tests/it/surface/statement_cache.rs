//! The cache of prepared statements: its counters, and the warnings about its size.

use mysql_warm_pool::{
    PoolConfig, Reset,
    mysql_async::{Params, prelude::Queryable},
    report::Warning,
};
use test_support::{Seed, Server, config, eventually, pool, warm};

/// Returns hits, misses, evictions, and texts prepared again.
async fn counts(server: &Server, settings: PoolConfig, texts: &[&str]) -> [u64; 4] {
    let pool = warm(settings.size(1).overflow(0)).await;
    let prepared = server.statements_prepared().await;
    for text in texts {
        let mut conn = pool.get().await.expect("a connection");
        conn.exec_drop(*text, ()).await.expect("executed");
        drop(conn);
        eventually("it is idle", async || pool.status().idle == 1).await;
    }
    let metrics = pool.metrics();
    let at_server = server.statements_prepared().await - prepared;
    let of_callers = metrics.statement_cache_misses;
    assert!(of_callers <= at_server, "{of_callers} of {at_server}");
    [
        metrics.statement_cache_hits,
        of_callers,
        metrics.statement_cache_evictions,
        metrics.statements_prepared_again,
    ]
}

#[tokio::test]
async fn hits_misses_evictions_and_repetitions_are_counted() {
    let server = Server::start().await;
    let settings = || config(&server.url()).keepalive(None);
    let small = || settings().map_opts(|opts| opts.stmt_cache_size(2));
    let (a, b, c) = ("SELECT 1", "SELECT 2", "SELECT 3");
    for (what, settings, texts, expected) in [
        ("one text", settings(), &[a, a, a][..], [2, 1, 0, 0]),
        ("all fit in", small(), &[a, b, a, b], [2, 2, 0, 0]),
        ("one too many", small(), &[a, b, c], [0, 3, 1, 0]),
        ("taking turns", small(), &[a, b, c, a, b], [0, 5, 3, 2]),
        ("the last stay", small(), &[a, b, a, c, a], [2, 3, 1, 0]),
        (
            "a reset ends them",
            settings().reset(Reset::Always),
            &[a, a, b],
            [0, 3, 0, 1],
        ),
        (
            "the list is prepared again after each reset",
            settings().reset(Reset::Always).prepare([a]),
            &[a, a, b],
            [2, 1, 0, 3],
        ),
        (
            "no cache",
            settings().map_opts(|o| o.stmt_cache_size(0)),
            &[a, a],
            [1, 1, 0, 0],
        ),
    ] {
        assert_eq!(counts(&server, settings, texts).await, expected, "{what}");
    }
}

#[tokio::test]
async fn what_callers_prepare_themselves_counts_too() {
    let server = Server::start().await;
    let create = "CREATE TABLE test.numbers (n INT)";
    server.execute(create).await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let text = "INSERT INTO numbers VALUES (?)";
    let mut conn = pool.get().await.expect("a connection");
    let statement = conn.prep(text).await.expect("prepared");
    conn.exec_drop(&statement, (1,)).await.expect("executed");
    conn.exec_batch(text, [(1,), (2,)]).await.expect("executed");
    drop(conn);
    pool.exec_drop(text, (3,)).await.expect("executed");
    let metrics = pool.metrics();
    assert_eq!(
        (metrics.statement_cache_hits, metrics.statement_cache_misses),
        (3, 1)
    );
    assert_eq!(metrics.statement_cache_evictions, 0);
}

#[tokio::test]
async fn texts_that_differ_in_names_of_parameters_are_one() {
    let server = Server::start().await;
    let settings = config(&server.url()).keepalive(None).size(1).overflow(0);
    let pool = warm(settings.map_opts(|opts| opts.stmt_cache_size(1))).await;
    let before = server.statements_prepared().await;
    let mut conn = pool.get().await.expect("a connection");
    let mut execute = async |text: &str, name: &str| {
        let params = Params::from(vec![(name.to_owned(), 1)]);
        conn.exec_drop(text, params).await.expect("executed");
    };
    for (name, other) in [("a", "b"), ("b", "a")] {
        execute(&format!("SELECT :{name}"), name).await;
        execute(&format!("SELECT :{other}"), other).await;
        execute(&format!("SELECT :{name} + 1"), name).await;
    }
    let metrics = pool.metrics();
    assert_eq!(server.statements_prepared().await - before, 4);
    assert_eq!(
        (metrics.statement_cache_hits, metrics.statement_cache_misses),
        (2, 4)
    );
    // The second time, `SELECT ?` and `SELECT ? + 1`.
    assert_eq!(metrics.statement_cache_evictions, 3);
    assert_eq!(metrics.statements_prepared_again, 1);
}

#[tokio::test]
async fn without_a_cache_nothing_is_evicted() {
    let server = Server::start().await;
    let settings = config(&server.url()).keepalive(None).size(1).overflow(0);
    let pool = warm(settings.map_opts(|opts| opts.stmt_cache_size(0))).await;
    let mut conn = pool.get().await.expect("a connection");
    // More than the pool remembers.
    for number in 0..1030 {
        let text = format!("SELECT {number}");
        conn.exec_drop(text, ()).await.expect("executed");
    }
    let metrics = pool.metrics();
    assert_eq!(metrics.statement_cache_misses, 1030);
    assert_eq!(metrics.statement_cache_evictions, 0);
}

#[tokio::test]
async fn more_statements_than_the_server_allows_are_warned_of() {
    let server = Server::start().await;
    server
        .execute("SET GLOBAL max_prepared_stmt_count = 63")
        .await;
    let settings = || config(&server.url()).size(1).overflow(1);
    let cache = |size| settings().map_opts(move |opts| opts.stmt_cache_size(size));
    for (settings, each) in [
        (settings(), Some(32)),
        (cache(100), Some(100)),
        (cache(0), None),
    ] {
        let report = pool(settings).warm_up().await.expect("warm");
        let expected = Warning::TooManyStatements {
            limit: 2,
            statements_each: each,
            allowed: 63,
        };
        assert_eq!(report.warnings, [expected], "{report}");
        let text = report.to_string();
        let number = match each {
            Some(each) => (2 * each).to_string(),
            None => "stmt_cache_size of 0".to_owned(),
        };
        assert!(text.contains(&number) && text.contains("63"), "{text}");
    }
    let report = pool(cache(31)).warm_up().await.expect("warm");
    assert_eq!(report.warnings, []);
}

#[tokio::test]
async fn a_list_that_fills_the_cache_is_warned_of() {
    let server = Server::shared().await;
    let texts = ["SELECT 1", "SELECT 2"];
    for (size, expected) in [
        (2, &[Warning::CacheFull { stmt_cache_size: 2 }][..]),
        (3, &[]),
    ] {
        let settings = config(&server.url()).size(1).prepare(texts);
        let settings = settings.map_opts(|opts| opts.stmt_cache_size(size));
        let report = pool(settings).warm_up().await.expect("warm");
        assert_eq!(report.warnings, expected, "{report}");
    }
}

/// Prepared by all clients so far, and prepared now, as the server counts them.
async fn at_server(server: &Server) -> (u64, u64) {
    let mut admin = server.admin().await;
    let list = "SHOW GLOBAL STATUS WHERE Variable_name \
                IN ('Com_stmt_prepare', 'Prepared_stmt_count')";
    let numbers: Vec<(String, u64)> = admin.query(list).await.expect("the status");
    let [(_, prepared), (_, kept)] = numbers[..] else {
        panic!("two numbers: {numbers:?}");
    };
    (prepared, kept)
}

#[tokio::test]
async fn whatever_is_executed_the_server_counts_the_same() {
    let server = Server::start().await;
    let create = "CREATE TABLE test.numbers (a INT, b INT)";
    server.execute(create).await;
    let mut seed = Seed::new();
    for _ in 0..10 {
        let size = usize::try_from(seed.below(5)).expect("small");
        let settings = config(&server.url()).keepalive(None).size(1).overflow(0);
        let pool = warm(settings.map_opts(|opts| opts.stmt_cache_size(size))).await;
        let (before, _) = at_server(&server).await;
        let mut uses = 0;
        for _ in 0..6 {
            let mut conn = pool.get().await.expect("a connection");
            let mut held = Vec::new();
            for _ in 0..seed.below(12) {
                // The first two are the same statement, under other names.
                let number = seed.below(6);
                let (text, params) = if number < 2 {
                    let name = format!("name{number}");
                    let text = format!("INSERT INTO numbers VALUES (:{name}, 7)");
                    (text, Params::from(vec![(name, 7)]))
                } else {
                    let text = format!("INSERT INTO numbers VALUES (?, {number})");
                    (text, Params::from((7,)))
                };
                uses += 1;
                match seed.below(5) {
                    0 => {
                        let statement = conn.prep(text).await.expect("prepared");
                        held.push((statement, params));
                    }
                    1 if !held.is_empty() => {
                        let (statement, params) = held.remove(0);
                        let executed = conn.exec_drop(&statement, params).await;
                        executed.expect("executed");
                    }
                    2 => {
                        let rows = [params.clone(), params];
                        conn.exec_batch(text, rows).await.expect("executed");
                    }
                    3 => {
                        conn.query_drop("SET @a = 5").await.expect("set");
                        uses -= 1;
                    }
                    _ => conn.exec_drop(text, params).await.expect("executed"),
                }
            }
            drop(conn);
            eventually("it is idle", async || pool.status().idle == 1).await;
        }
        let metrics = pool.metrics();
        let (after, _) = at_server(&server).await;
        let misses = metrics.statement_cache_misses;
        assert_eq!((misses, metrics.resets), (after - before, 0));
        assert_eq!(metrics.statement_cache_hits + misses, uses);
        // Statements are closed without an answer.
        let kept = misses - metrics.statement_cache_evictions;
        let is_kept = async |count| at_server(&server).await.1 == count;
        eventually("the others are kept", async || is_kept(kept).await).await;
        pool.close().await;
        eventually("none is left", async || is_kept(0).await).await;
    }
}
