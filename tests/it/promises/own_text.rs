//! A statement runs under its own text, whatever the server or a proxy has forgotten.

use mysql_warm_pool::{
    Error, Pool, PoolConfig, PooledConn, Reset,
    error::is_transient,
    mysql_async::{self, OptsBuilder, Statement, TxOpts, prelude::*},
};
use test_support::{
    Server, SwappingProxy, config, eventually,
    scripted::{Scripted, packet},
    warm,
};

/// A server with a table of three rows, and an account without a password.
async fn server_with_rows() -> Server {
    let server = Server::builder().without_required_tls().start().await;
    for statement in [
        "CREATE USER plain@'%'",
        "GRANT ALL ON test.* TO plain@'%'",
        "CREATE TABLE test.entry (id INT PRIMARY KEY)",
        "INSERT INTO test.entry VALUES (1), (2), (3)",
    ] {
        server.execute(statement).await;
    }
    server
}

fn plain(port: u16) -> PoolConfig {
    config(&format!("mysql://plain@127.0.0.1:{port}/test"))
}

async fn rows(server: &Server) -> u64 {
    let mut admin = server.admin().await;
    let count = admin.query_first("SELECT COUNT(*) FROM test.entry").await;
    count.expect("an answer").expect("a row")
}

fn is_session_lost(error: &mysql_async::Error) -> bool {
    is(error, |error| matches!(error, Error::SessionLost))
}

fn is_foreign(error: &mysql_async::Error) -> bool {
    is(error, |error| matches!(error, Error::ForeignStatement))
}

fn is(error: &mysql_async::Error, is: impl FnOnce(&Error) -> bool) -> bool {
    match error {
        mysql_async::Error::Other(error) => error.downcast_ref().is_some_and(is),
        _ => false,
    }
}

fn lost(pool: &Pool) -> u64 {
    let metrics = pool.metrics();
    let mut discarded = metrics.discarded.iter();
    discarded
        .find(|(reason, _)| reason.name() == "session_lost")
        .map_or(0, |(_, count)| *count)
}

#[derive(Clone, Copy, Debug)]
enum Forgets {
    /// The proxy resets the session.
    Reset,
    /// The proxy logs in again: ids begin anew.
    Swap,
}

const BOTH: [Forgets; 2] = [Forgets::Reset, Forgets::Swap];

impl Forgets {
    async fn all(self, proxy: &SwappingProxy) {
        match self {
            Self::Reset => proxy.reset_all().await,
            Self::Swap => proxy.swap_all().await,
        }
    }
}

#[tokio::test]
async fn a_session_that_forgot_its_statements_fails_one_at_most() {
    let server = server_with_rows().await;
    let proxy = SwappingProxy::start(server.port()).await;
    let question = "SELECT COUNT(*) FROM entry WHERE id > ?";
    for forgets in BOTH {
        for prepared in [true, false] {
            let settings = plain(proxy.port()).size(4).overflow(0);
            let settings = if prepared {
                settings.prepare([question])
            } else {
                settings
            };
            let pool = warm(settings).await;
            let all = async || {
                let mut held = Vec::new();
                for _ in 0..4 {
                    held.push(pool.get().await.expect("a connection"));
                }
                held
            };
            for mut conn in all().await {
                let count: Option<u8> = conn.exec_first(question, (0,)).await.expect("a row");
                assert_eq!(count, Some(3));
            }
            forgets.all(&proxy).await;
            let mut failed = 0;
            for _ in 0..40 {
                let mut conn = pool.get().await.expect("a connection");
                match conn.exec_first::<u8, _, _>(question, (1,)).await {
                    Ok(count) => assert_eq!(count, Some(2)),
                    Err(error) => {
                        assert!(is_session_lost(&error), "{error}");
                        assert!(is_transient(&error));
                        failed += 1;
                    }
                }
            }
            assert!(failed <= 4, "{failed}, {forgets:?}");
            assert_eq!(lost(&pool), failed, "{forgets:?}");
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn an_old_id_that_means_another_text_is_never_executed() {
    let server = server_with_rows().await;
    let proxy = SwappingProxy::start(server.port()).await;
    let (harmless, harmful) = (
        "SELECT id FROM entry WHERE id = ?",
        "DELETE FROM entry WHERE id > ?",
    );
    for forgets in BOTH {
        for keeps_borrowed in [false, true] {
            let pool = warm(plain(proxy.port()).size(1).overflow(0)).await;
            let mut conn = pool.get().await.expect("a connection");
            // Several ids: whatever the counter begins with, one of them comes again.
            for n in 0..4 {
                let text = format!("SELECT id + {n} FROM entry WHERE id = ?");
                conn.exec_drop(text, (1,)).await.expect("an answer");
            }
            conn.exec_drop(harmless, (1,)).await.expect("an answer");
            if !keeps_borrowed {
                drop(conn);
                conn = pool.get().await.expect("a connection");
            }
            forgets.all(&proxy).await;
            let mut failed = 0;
            for text in [harmful, "SELECT 1 + ?", "SELECT 2 + ?", harmless, harmful] {
                // The id of the DELETE may be the one that another text had.
                let outcome = conn.exec_drop(text, (100,)).await;
                if let Err(error) = outcome {
                    assert!(is_session_lost(&error), "{text}: {error}");
                    failed += 1;
                }
            }
            assert!(failed > 0, "{forgets:?}");
            for n in 0..4 {
                let text = format!("SELECT id + {n} FROM entry WHERE id = ?");
                let error = conn.exec_drop(text, (0,)).await.expect_err("refused");
                assert!(is_session_lost(&error), "{error}");
            }
            assert_eq!(rows(&server).await, 3, "{forgets:?}");
            drop(conn);
            let mut conn = pool.get().await.expect("a connection");
            let id: Option<u8> = conn.exec_first(harmless, (2,)).await.expect("a row");
            assert_eq!((id, lost(&pool)), (Some(2), 1), "{forgets:?}");
            drop(conn);
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn a_held_statement_does_not_become_another_one() {
    let server = server_with_rows().await;
    let proxy = SwappingProxy::start(server.port()).await;
    for forgets in BOTH {
        for cache_size in [0, 1, 2, 32] {
            let opts = OptsBuilder::from_opts(plain(proxy.port()).opts().clone())
                .stmt_cache_size(cache_size);
            let pool = warm(PoolConfig::from_opts(opts).size(1).overflow(0)).await;
            let mut conn = pool.get().await.expect("a connection");
            let mut held: Vec<Statement> = Vec::new();
            for n in 0..3 {
                let text = format!("SELECT {n} + ?");
                held.push(conn.prep(text).await.expect("prepared"));
            }
            forgets.all(&proxy).await;
            for _ in 0..3 {
                // May get the id of one of the held.
                let deletes = conn.prep("DELETE FROM entry WHERE id > ?").await;
                drop(deletes);
            }
            for (n, statement) in held.iter().enumerate() {
                match conn.exec_first::<usize, _, _>(statement, (0,)).await {
                    Ok(sum) => assert_eq!(sum, Some(n)),
                    Err(error) => assert!(is_session_lost(&error), "{error}"),
                }
            }
            assert_eq!(rows(&server).await, 3, "{forgets:?}, {cache_size}");
            drop(conn);
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn a_lost_session_ends_its_transaction() {
    let server = server_with_rows().await;
    let proxy = SwappingProxy::start(server.port()).await;
    let pool = warm(plain(proxy.port()).size(1).overflow(0)).await;
    let adds = "INSERT INTO entry VALUES (?)";
    let mut conn = pool.get().await.expect("a connection");
    conn.exec_drop("SELECT ?", (1,)).await.expect("an answer");
    let mut transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    transaction.exec_drop(adds, (4,)).await.expect("added");
    proxy.reset_all().await;
    let error = transaction.exec_drop(adds, (5,)).await.expect_err("lost");
    assert!(is_session_lost(&error), "{error}");
    for text in ["INSERT INTO entry VALUES (6)", "SELECT 1"] {
        let error = transaction.query_drop(text).await.expect_err("refused");
        assert!(is_session_lost(&error), "{error}");
    }
    let error = transaction.commit().await.expect_err("nothing to commit");
    assert!(is_session_lost(&error), "{error}");
    drop(conn);
    assert_eq!(rows(&server).await, 3);
    let mut conn = pool.get().await.expect("another connection");
    conn.exec_drop(adds, (4,)).await.expect("added");
    drop(conn);
    pool.close().await;
}

#[tokio::test]
async fn one_lost_session_has_all_others_replaced() {
    let server = server_with_rows().await;
    let proxy = SwappingProxy::start(server.port()).await;
    let settings = plain(proxy.port())
        .size(4)
        .overflow(0)
        .init(["SET SESSION group_concat_max_len = 12345"])
        .prepare(["SELECT 1"]);
    let pool = warm(settings).await;
    let set_up = async || {
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(pool.get().await.expect("a connection"));
        }
        let mut count = 0;
        for conn in &mut held {
            let length = conn.query_first("SELECT @@group_concat_max_len").await;
            count += usize::from(length.expect("an answer") == Some(12345));
        }
        count
    };
    assert_eq!(set_up().await, 4);
    proxy.reset_all().await;
    assert_eq!(set_up().await, 0, "no prepared statement is used");
    let mut conn = pool.get().await.expect("a connection");
    let error = conn.exec_drop("SELECT 1", ()).await.expect_err("lost");
    assert!(is_session_lost(&error), "{error}");
    drop(conn);
    eventually("all are set up", async || set_up().await == 4).await;
    assert_eq!((pool.metrics().opened, lost(&pool)), (8, 1));
}

async fn pool_with_cache(server: &Server, size: usize) -> Pool {
    let settings = config(&server.url());
    let opts = OptsBuilder::from_opts(settings.opts().clone()).stmt_cache_size(size);
    warm(PoolConfig::from_opts(opts).size(1).overflow(0)).await
}

async fn others(conn: &mut PooledConn, count: u32) {
    for n in 0..count {
        let sum: Option<u32> = conn
            .exec_first(format!("SELECT {n} + ?"), (1,))
            .await
            .expect("a row");
        assert_eq!(sum, Some(n + 1));
    }
}

#[tokio::test]
async fn a_held_statement_outlives_the_drivers_cache() {
    let server = Server::shared().await;
    for (cache_size, count) in [(32, 40), (32, 2000), (0, 40), (1, 3), (2, 5), (100, 40)] {
        let pool = pool_with_cache(server, cache_size).await;
        let mut conn = pool.get().await.expect("a connection");
        let sum = conn.prep("SELECT ? + 0").await.expect("prepared");
        let named = conn.prep("SELECT CONCAT(:a, :b)").await.expect("prepared");
        for _ in 0..2 {
            others(&mut conn, count).await;
            let seven: Option<u8> = conn.exec_first(&sum, (7,)).await.expect("a row");
            let pair: Option<String> = conn
                .exec_first(&named, params! { "a" => 8, "b" => 3 })
                .await
                .expect("a row");
            let both = (seven, pair.as_deref());
            assert_eq!(both, (Some(7), Some("83")), "{cache_size}, {count}");
        }
        others(&mut conn, count).await;
        let mut transaction = conn
            .start_transaction(TxOpts::default())
            .await
            .expect("begun");
        let eight: Option<u8> = transaction.exec_first(&sum, (8,)).await.expect("a row");
        transaction.commit().await.expect("committed");
        assert_eq!(eight, Some(8));
        others(&mut conn, count).await;
        let mut rows = conn
            .exec_stream::<u8, _, _>(&sum, (9,))
            .await
            .expect("a row");
        let nine = futures_util::StreamExt::next(&mut rows).await;
        assert_eq!(nine.expect("a row").expect("a number"), 9);
        drop(rows);
        others(&mut conn, count).await;
        let mut result = conn.exec_iter(&sum, (10,)).await.expect("a row");
        assert_eq!(result.collect::<u8>().await.expect("a row"), [10]);
        drop(result);
        conn.close(sum.clone()).await.expect("closed");
        let eleven: Option<u8> = conn.exec_first(&sum, (11,)).await.expect("prepared anew");
        assert_eq!(eleven, Some(11));
        drop(conn);
        assert_eq!(pool.metrics().resets, 0);
        pool.close().await;
    }
}

#[tokio::test]
async fn a_held_statement_takes_batches_when_it_was_closed() {
    let server = Server::start().await;
    server.execute("CREATE TABLE test.entry (id INT)").await;
    let pool = pool_with_cache(&server, 4).await;
    let mut conn = pool.get().await.expect("a connection");
    let adds = conn
        .prep("INSERT INTO entry VALUES (?)")
        .await
        .expect("prepared");
    others(&mut conn, 10).await;
    conn.exec_batch(&adds, [(1,), (2,)]).await.expect("added");
    others(&mut conn, 10).await;
    conn.exec_drop(&adds, (3,)).await.expect("added");
    assert_eq!(rows(&server).await, 3);
}

#[tokio::test]
async fn a_closed_statement_in_generic_code_costs_one_connection() {
    async fn generic(conn: &mut impl Queryable) -> mysql_async::Result<()> {
        let sum = conn.prep("SELECT ? + 0").await?;
        for n in 0..10 {
            conn.exec_drop(format!("SELECT {n}"), ()).await?;
        }
        conn.exec_drop(&sum, (7,)).await
    }
    let server = Server::start().await;
    let settings = config(&server.url());
    let opts = OptsBuilder::from_opts(settings.opts().clone()).stmt_cache_size(4);
    let pool = warm(PoolConfig::from_opts(opts).size(3).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    let error = generic(&mut conn).await.expect_err("the driver closed it");
    assert!(is_session_lost(&error), "{error}");
    drop(conn);
    eventually("it is replaced", async || pool.status().idle == 3).await;
    assert_eq!((pool.metrics().opened, lost(&pool)), (4, 1));
}

#[tokio::test]
async fn generic_code_heals_too() {
    async fn generic(conn: &mut impl Queryable) -> mysql_async::Result<Option<u8>> {
        conn.exec_first("SELECT ? + 0", (7,)).await
    }
    let server = server_with_rows().await;
    let proxy = SwappingProxy::start(server.port()).await;
    let pool = warm(
        plain(proxy.port())
            .size(1)
            .overflow(0)
            .prepare(["SELECT ? + 0"]),
    )
    .await;
    for _ in 0..3 {
        eventually("it is cleaned", async || pool.status().idle == 1).await;
        proxy.swap_all().await;
        let mut failed = 0;
        for _ in 0..10 {
            let mut conn = pool.get().await.expect("a connection");
            match generic(&mut conn).await {
                Ok(seven) => assert_eq!(seven, Some(7)),
                Err(error) => {
                    assert!(is_session_lost(&error), "{error}");
                    failed += 1;
                }
            }
        }
        assert_eq!(failed, 1);
    }
}

#[tokio::test]
async fn a_batch_of_a_lost_session_adds_nothing() {
    let server = server_with_rows().await;
    let proxy = SwappingProxy::start(server.port()).await;
    let pool = warm(plain(proxy.port()).size(1).overflow(0)).await;
    let adds = "INSERT INTO entry VALUES (?)";
    let mut conn = pool.get().await.expect("a connection");
    conn.exec_batch(adds, [(4,), (5,)]).await.expect("added");
    for forgets in BOTH {
        forgets.all(&proxy).await;
        let error = conn.exec_batch(adds, [(6,), (7,)]).await.expect_err("lost");
        assert!(is_session_lost(&error), "{error}");
        assert_eq!(rows(&server).await, 5);
        drop(conn);
        conn = pool.get().await.expect("another connection");
        conn.exec_batch(adds, Vec::<(u8,)>::new())
            .await
            .expect("prepared");
    }
}

#[tokio::test]
async fn names_of_parameters_are_kept_apart() {
    let server = Server::shared().await;
    let pool = pool_with_cache(server, 32).await;
    let mut conn = pool.get().await.expect("a connection");
    // One statement for the server.
    let texts = ["SELECT CONCAT(:a, :b)", "SELECT CONCAT(:b, :a)"];
    for _ in 0..3 {
        for (text, expected) in texts.into_iter().zip(["27", "72"]) {
            let found: Option<String> = conn
                .exec_first(text, params! { "a" => 2, "b" => 7 })
                .await
                .expect("a row");
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
        let found: Option<String> = conn
            .exec_first("SELECT CONCAT(?, ?)", (9, 1))
            .await
            .expect("a row");
        assert_eq!(found.as_deref(), Some("91"));
    }
    // However many names there are.
    for _ in 0..2 {
        for n in 0..50_u8 {
            let found: Option<u8> = conn
                .exec_first(
                    format!("SELECT 7 + :n_{n}"),
                    params! { format!("n_{n}") => n },
                )
                .await
                .expect("a row");
            assert_eq!(found, Some(7 + n));
        }
    }
}

#[tokio::test]
async fn a_statement_from_before_a_reset_is_refused() {
    let server = Server::shared().await;
    let pool = pool_with_cache(server, 32).await;
    let mut conn = pool.get().await.expect("a connection");
    let mut kept = Vec::new();
    for n in 0..5 {
        kept.push(conn.prep(format!("SELECT {n}")).await.expect("prepared"));
    }
    conn.query_drop("PREPARE a FROM 'DO 1'")
        .await
        .expect("prepared");
    drop(conn);
    let mut conn = pool.get().await.expect("a connection");
    assert_eq!(pool.metrics().resets, 1);
    for statement in &kept {
        let error = conn.exec_drop(statement, ()).await.expect_err("refused");
        assert!(is_foreign(&error) && !is_transient(&error), "{error}");
    }
    // On MariaDB the ids may be given again.
    others(&mut conn, 10).await;
    for statement in &kept {
        let error = conn.exec_drop(statement, ()).await.expect_err("refused");
        assert!(is_foreign(&error), "{error}");
    }
}

#[tokio::test]
async fn a_statement_of_the_bare_connection_works_there_and_here() {
    let server = Server::shared().await;
    let pool = pool_with_cache(server, 32).await;
    let mut conn = pool.get().await.expect("a connection");
    let bare: &mut mysql_async::Conn = &mut conn;
    let sum = bare.prep("SELECT ? + 1").await.expect("prepared");
    let two: Option<u8> = conn.exec_first(&sum, (1,)).await.expect("a row");
    assert_eq!(two, Some(2));
}

#[tokio::test]
async fn an_unknown_name_of_a_statement_is_the_callers_mistake() {
    let server = Server::start().await;
    server
        .execute("CREATE PROCEDURE test.runs() EXECUTE nothing")
        .await;
    let pool = pool_with_cache(&server, 32).await;
    let mut conn = pool.get().await.expect("a connection");
    let error = conn.exec_drop("CALL runs()", ()).await.expect_err("1243");
    assert!(error.to_string().contains("1243"), "{error}");
    conn.exec_drop("SELECT 1", ()).await.expect("an answer");
    drop(conn);
    assert_eq!(lost(&pool), 0);
}

#[tokio::test]
async fn an_id_given_twice_is_not_executed() {
    let server = Scripted::start().await;
    // Gives the same id to every statement.
    server.play(|mut wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            if question.command == 0x16 {
                let prepared = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                wire.raw(&packet(1, &prepared)).await?;
            } else {
                wire.raw(&question.answer()).await?;
            }
        }
    });
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let executed = || {
        let asked = server.asked();
        // `COM_STMT_EXECUTE` of the id 1.
        let is_execution = |question: &&String| question.starts_with("\u{1}\0\0\0\0");
        asked.iter().filter(is_execution).count()
    };
    let mut conn = pool.get().await.expect("a connection");
    for _ in 0..3 {
        conn.exec_drop("DO 1", ()).await.expect("executed");
    }
    assert_eq!(executed(), 3);
    for text in ["DELETE FROM t", "DO 1", "DELETE FROM t"] {
        let error = conn.exec_drop(text, ()).await.expect_err("refused");
        assert!(is_session_lost(&error), "{error}");
        assert!(
            conn.prep(text)
                .await
                .is_err_and(|error| is_session_lost(&error))
        );
        assert!(
            conn.query_drop("DO 1")
                .await
                .is_err_and(|error| is_session_lost(&error))
        );
    }
    assert_eq!(executed(), 3);
    drop(conn);
    let mut conn = pool.get().await.expect("another connection");
    conn.exec_drop("DO 1", ()).await.expect("executed");
    assert_eq!((executed(), lost(&pool)), (4, 1));
}

/// Ways to execute a text: only the first shows it to the pool.
const WAYS: [&str; 4] = ["own", "generic", "fluent", "bare"];

async fn by(conn: &mut PooledConn, way: &str, text: &str, id: u32) -> mysql_async::Result<()> {
    async fn generic(conn: &mut impl Queryable, text: &str, id: u32) -> mysql_async::Result<()> {
        conn.exec_drop(text, (id,)).await
    }
    async fn bare(conn: &mut mysql_async::Conn, text: &str, id: u32) -> mysql_async::Result<()> {
        conn.exec_drop(text, (id,)).await
    }
    match way {
        "own" => conn.exec_drop(text, (id,)).await,
        "generic" => generic(conn, text, id).await,
        "fluent" => text.with((id,)).ignore(conn).await,
        _ => bare(conn, text, id).await,
    }
}

/// Whatever was prepared unseen, in whatever order.
#[tokio::test]
async fn a_text_that_the_pool_sees_is_never_another_one() {
    let server = server_with_rows().await;
    let proxy = SwappingProxy::start(server.port()).await;
    let texts: Vec<_> = (0..4)
        .map(|n| format!("SELECT id + {n} FROM entry WHERE id = ?"))
        .collect();
    for forgets in BOTH {
        for reset in [Reset::WhenChanged, Reset::Never] {
            for (first, second) in WAYS
                .into_iter()
                .flat_map(|first| WAYS.map(|second| (first, second)))
            {
                let pool = warm(plain(proxy.port()).size(1).overflow(0).reset(reset)).await;
                let mut conn = pool.get().await.expect("a connection");
                for text in &texts {
                    by(&mut conn, first, text, 1).await.expect("an answer");
                }
                if reset == Reset::Never {
                    drop(conn);
                    conn = pool.get().await.expect("a connection");
                }
                forgets.all(&proxy).await;
                let what = format!("{forgets:?}, {reset:?}, {first}, {second}");
                // May be given an id that one of the texts had.
                let deletes = "DELETE FROM entry WHERE id > ?";
                by(&mut conn, second, deletes, 100).await.ok();
                for text in &texts {
                    if let Err(error) = by(&mut conn, "own", text, 0).await {
                        assert!(is_session_lost(&error), "{what}: {error}");
                    }
                }
                assert_eq!(rows(&server).await, 3, "{what}");
                drop(conn);
                pool.close().await;
            }
        }
    }
}

/// No session is taken for lost that is not.
#[tokio::test]
async fn texts_work_in_any_mixture_of_ways() {
    let server = server_with_rows().await;
    for cache_size in [0, 1, 2, 32] {
        let pool = pool_with_cache(&server, cache_size).await;
        let mut conn = pool.get().await.expect("a connection");
        let held = conn.prep("SELECT ? + 5").await.expect("prepared");
        for round in 0..3 {
            for (n, way) in WAYS.into_iter().flat_map(|way| [0, 1].map(|n| (n, way))) {
                for and_then in WAYS {
                    let what = format!("{cache_size}: {way}, {and_then}");
                    for (way, n) in [(way, n), (and_then, 0), (and_then, 1)] {
                        let text = format!("SELECT id + {n} FROM entry WHERE id = ?");
                        let done = by(&mut conn, way, &text, 1).await;
                        done.unwrap_or_else(|error| panic!("{what}: {error}"));
                    }
                }
                if round == 1 {
                    // The caller's own reset: the server may give the ids again.
                    let bare: &mut mysql_async::Conn = &mut conn;
                    bare.reset().await.expect("reset");
                    bare.query_drop("USE test").await.expect("a database");
                }
                let seven: Option<u8> = conn.exec_first(&held, (2,)).await.expect("a row");
                assert_eq!(seven, Some(7));
            }
        }
        drop(conn);
        drop(pool.get().await.expect("the connection"));
        assert_eq!((pool.metrics().opened, lost(&pool)), (1, 0), "{cache_size}");
        pool.close().await;
    }
}

/// A text that was prepared unseen is prepared once more, and then no more.
#[tokio::test]
async fn doubt_costs_one_round_trip_for_each_text() {
    let server = Server::start().await;
    let pool = pool_with_cache(&server, 32).await;
    let mut conn = pool.get().await.expect("a connection");
    let before = server.statements_prepared().await;
    for _ in 0..10 {
        for way in WAYS {
            let text = "SELECT 7 + ?";
            by(&mut conn, way, text, 1).await.expect("an answer");
            by(&mut conn, "own", "SELECT 8 + ?", 1)
                .await
                .expect("an answer");
        }
    }
    assert_eq!(server.statements_prepared().await - before, 2);
    by(&mut conn, "fluent", "SELECT 9 + ?", 1)
        .await
        .expect("an answer");
    for _ in 0..10 {
        by(&mut conn, "own", "SELECT 9 + ?", 1)
            .await
            .expect("an answer");
    }
    assert_eq!(server.statements_prepared().await - before, 4);
}
