//! If all that a caller changed is known, just that is undone: the session keeps its prepared
//! statements, and the next caller finds it as after a reset.

use mysql_warm_pool::{
    Pool, PoolConfig, PooledConn, Reset,
    mysql_async::{self, Row, TxOpts, prelude::*},
};
use test_support::{
    Flavor, Proxy, Server, config, eventually,
    scripted::{QuestionKind, Scripted, Wire, error},
    warm,
};

/// A pool of one connection, so that the next caller gets the previous caller's.
async fn pool_of_one(config: PoolConfig) -> Pool {
    warm(config.size(1).overflow(0)).await
}

async fn get(pool: &Pool) -> PooledConn {
    pool.get().await.expect("a connection")
}

async fn run(conn: &mut PooledConn, statements: &[&str]) {
    for statement in statements {
        if let Err(error) = conn.query_drop(*statement).await {
            panic!("{statement}: {error}");
        }
    }
}

async fn ask<T: FromRow + Send + 'static>(conn: &mut PooledConn, question: &str) -> T {
    let row = conn.query_first(question).await.expect("an answer");
    row.expect("a row")
}

/// Returns the connection, and waits until it is cleaned.
async fn give_back(pool: &Pool, conn: PooledConn) {
    drop(conn);
    eventually("it is idle", async || pool.status().idle == 1).await;
}

fn cleanings(pool: &Pool, wanted: &str) -> u64 {
    let all = pool.metrics().cleanings.into_iter();
    let mut found = all.filter_map(|(kind, count)| (kind == wanted).then_some(count));
    found.next().expect("a kind of cleaning")
}

/// How often sessions were undone, and how often reset.
fn undone_and_reset(pool: &Pool) -> (u64, u64) {
    (cleanings(pool, "undo"), cleanings(pool, "reset"))
}

#[tokio::test]
async fn a_user_variable_in_each_borrow_prepares_nothing_again() {
    let server = Server::start().await;
    let pool = pool_of_one(config(&server.url())).await;
    let mut before = 0;
    for n in 0..100_u64 {
        let mut conn = get(&pool).await;
        let left: (Option<u64>, u64) = ask(
            &mut conn,
            "SELECT @tenant, @@session.group_concat_max_len > 77",
        )
        .await;
        assert_eq!(left, (None, 1));
        if n % 2 == 0 {
            conn.query_drop(format!("SET @tenant = {n}"))
                .await
                .expect("set");
        } else {
            conn.exec_drop("SET @tenant = ?", (n,)).await.expect("set");
        }
        run(&mut conn, &["SET SESSION innodb_lock_wait_timeout = 3"]).await;
        let found: Option<u64> = conn
            .exec_first("SELECT ? + 7", (n,))
            .await
            .expect("an answer");
        assert_eq!(found, Some(n + 7));
        if n == 1 {
            before = server.status_value("Com_stmt_prepare").await;
        }
    }
    assert_eq!(server.status_value("Com_stmt_prepare").await, before);
    give_back(&pool, get(&pool).await).await;
    assert_eq!(undone_and_reset(&pool), (100, 0));
}

#[tokio::test]
async fn an_undo_takes_one_round_trip() {
    if test_support::tls::is_required() {
        return;
    }
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let all = &[
        "SET @a = 1, time_zone = '+05:00'",
        "SET NAMES latin1",
        "SELECT GET_LOCK('one round trip', 0)",
        "USE other",
        "BEGIN",
    ][..];
    let plain = config(&server.url_via(proxy.port()));
    let with_init = plain
        .clone()
        .init(["SET @b = 2 -- two", "SET time_zone = '+01:00';"]);
    for settings in [plain, with_init] {
        let pool = pool_of_one(settings).await;
        for statements in [&["SET @a = 1"], all] {
            let mut conn = get(&pool).await;
            run(&mut conn, statements).await;
            let before = proxy.requests();
            give_back(&pool, conn).await;
            assert_eq!(proxy.requests() - before, 1, "{statements:?}");
        }
        assert_eq!(undone_and_reset(&pool), (2, 0));
    }
}

#[tokio::test]
async fn after_a_reset_all_is_restored_in_one_round_trip() {
    if test_support::tls::is_required() {
        return;
    }
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let settings = config(&server.url_via(proxy.port())).init([
        "SET SESSION group_concat_max_len = 2222 -- bytes",
        "SET @a = 'x;y', @b = @@group_concat_max_len;",
    ]);
    let pool = pool_of_one(settings).await;
    let mut conn = get(&pool).await;
    let collation: String = ask(&mut conn, "SELECT @@collation_connection").await;
    run(
        &mut conn,
        &[
            "PREPARE s FROM 'DO 1'",
            "USE other",
            "SET NAMES latin1",
            "SET @a = 1",
        ],
    )
    .await;
    let before = proxy.requests();
    give_back(&pool, conn).await;
    assert_eq!(proxy.requests() - before, 2);
    assert_eq!(undone_and_reset(&pool), (0, 1));
    let mut conn = get(&pool).await;
    let found: (String, String, u32, String) = ask(
        &mut conn,
        "SELECT DATABASE(), @a, @b, @@collation_connection",
    )
    .await;
    assert_eq!(found, ("test".into(), "x;y".into(), 2222, collation));
}

/// The first lists of statements are undone, the others are reset.
#[tokio::test]
async fn only_what_is_known_exactly_is_undone() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.base (id INT PRIMARY KEY)")
        .await;
    server
        .execute("CREATE FUNCTION test.quiet() RETURNS INT NO SQL RETURN 1")
        .await;
    let pool = pool_of_one(config(&server.url())).await;
    let undone: &[&[&str]] = &[
        &["SET @a = 1, @`b c` := 2, @'d' = (SELECT 3), @e.f = CONCAT('(', 'x')"],
        &["SET SESSION sql_mode = '', @@session.time_zone = '+05:00', @@local.wait_timeout = 9"],
        &["SET @@wait_timeout = 9", "SET LOCAL wait_timeout = 8"],
        &[
            "SET @old = @@sql_mode, sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
            "SET @`x` = 'id'",
        ],
        &[
            "SELECT @a := 1",
            "SELECT 1 INTO @b",
            "INSERT INTO base VALUES (@c := 1)",
        ],
        &["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"],
        &["SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        &["SET NAMES latin1", "SET CHARACTER SET utf8mb4"],
        &["SET character_set_results = NULL"],
        &[
            "SELECT GET_LOCK('a', 0), GET_LOCK(CONCAT('b', 1), 0)",
            "DO GET_LOCK('a', 0)",
        ],
        &["SET autocommit = 0", "INSERT INTO base VALUES (2)"],
        &["BEGIN", "INSERT INTO base VALUES (2)", "SET @a = 1"],
        &[
            "CREATE TEMPORARY TABLE base (a INT)",
            "INSERT INTO base VALUES (1)",
        ],
        &["CREATE TEMPORARY TABLE IF NOT EXISTS other.`t 1` SELECT @a := 1 AS a"],
        &["SET @a = 1; SELECT 2; SET time_zone = '+01:00'"],
    ];
    for statements in undone {
        let (before, mut conn) = (undone_and_reset(&pool), get(&pool).await);
        run(&mut conn, statements).await;
        give_back(&pool, conn).await;
        assert_eq!(
            undone_and_reset(&pool),
            (before.0 + 1, before.1),
            "{statements:?}"
        );
    }
    let reset: &[&[&str]] = &[
        &["SET @a = quiet()"],
        &["SET @a = (SELECT quiet())"],
        &["SET @a = LAST_INSERT_ID(7)"],
        &["SET timestamp = 1"],
        &["SET insert_id = 7, @a = 1"],
        &["SET SESSION character_set_server = latin1"],
        &["SET @a = 1", "PREPARE s FROM 'SET @b = 1'", "EXECUTE s"],
        &["LOCK TABLES base READ"],
        &[
            "CREATE TEMPORARY TABLE t (a INT)",
            "ALTER TABLE t RENAME TO u",
        ],
        &["CREATE TEMPORARY TABLE t (a INT)", "USE other"],
        &["SET @a1=1, @a2=1, @a3=1, @a4=1, @a5=1, @a6=1, @a7=1, @a8=1, @a9=1"],
        &["SET @`a``b` = 1"],
    ];
    for statements in reset {
        let (before, mut conn) = (undone_and_reset(&pool), get(&pool).await);
        run(&mut conn, statements).await;
        give_back(&pool, conn).await;
        assert_eq!(
            undone_and_reset(&pool),
            (before.0, before.1 + 1),
            "{statements:?}"
        );
    }
    assert_eq!(pool.metrics().opened, 1, "cleaned, not replaced");
    let mut conn = get(&pool).await;
    assert_eq!(ask::<u8>(&mut conn, "SELECT COUNT(*) FROM base").await, 1);
}

/// A statement that fails may have changed something before.
#[tokio::test]
async fn a_statement_that_failed_is_undone_too() {
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    for statement in [
        "SET @a = 1, wait_timeout = 'nonsense'",
        "SET @a = 1; SET wait_timeout = nonsense",
        "SELECT @a := 1, @b := (SELECT 1 UNION SELECT 2)",
    ] {
        let mut conn = get(&pool).await;
        let outcome = conn.query_drop(statement).await;
        outcome.expect_err("an error");
        give_back(&pool, conn).await;
        let mut conn = get(&pool).await;
        let left: Option<u8> = ask(&mut conn, "SELECT @a").await;
        assert_eq!(left, None, "{statement}");
    }
    assert_eq!(cleanings(&pool, "reset"), 0);
}

/// With `DEFAULT`, MySQL would assign the opposite to two of them.
#[tokio::test]
async fn variables_get_the_servers_global_values() {
    let server = Server::start().await;
    let pool = pool_of_one(config(&server.url())).await;
    let question = "SELECT @@foreign_key_checks, @@unique_checks, @@wait_timeout, @@sql_mode";
    let change = "SET foreign_key_checks = 0, unique_checks = 0, wait_timeout = 9, \
                  SESSION sql_mode = 'ANSI'";
    for global in [
        "SET GLOBAL wait_timeout = 8888",
        "SET GLOBAL sql_mode = 'NO_ZERO_DATE'",
    ] {
        server.execute(global).await;
        let mut conn = get(&pool).await;
        run(&mut conn, &[change]).await;
        give_back(&pool, conn).await;
        let undone: Row = ask(&mut get(&pool).await, question).await;
        let mut conn = get(&pool).await;
        run(&mut conn, &[change, "PREPARE s FROM 'DO 1'"]).await;
        give_back(&pool, conn).await;
        let reset: Row = ask(&mut get(&pool).await, question).await;
        assert_eq!(undone.unwrap(), reset.unwrap(), "{global}");
    }
    assert_eq!(undone_and_reset(&pool), (2, 2));
}

/// Expressions have the same types with a variable that was undone as with one that was never set.
#[tokio::test]
async fn an_undone_variable_has_no_type_of_its_own() {
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    let question = "SELECT @a, COALESCE(@a, 9) > COALESCE(@a, 10), IFNULL(@a, 'x') = 'X', \
                    CONCAT(IFNULL(@a, 'é'), 'é') = 'éÉ'";
    let new: Row = ask(&mut get(&pool).await, question).await;
    let new = new.unwrap();
    for value in [
        "5",
        "'x'",
        "1.5",
        "_latin1'x'",
        "x'00'",
        "NOW()",
        "1e0",
        "NULL",
    ] {
        let mut conn = get(&pool).await;
        run(&mut conn, &[&format!("SET @a = {value}")]).await;
        give_back(&pool, conn).await;
        let undone: Row = ask(&mut get(&pool).await, question).await;
        assert_eq!(undone.unwrap(), new, "{value}");
    }
    assert_eq!(cleanings(&pool, "reset"), 0);
}

/// A prepared statement keeps what it was prepared under, and so does one that the server prepares
/// again by itself.
#[tokio::test]
async fn no_statement_keeps_the_meaning_of_an_undone_setting() {
    let server = Server::start().await;
    server
        .execute(
            "CREATE TABLE test.shaped (id INT PRIMARY KEY, name VARCHAR(9), at TIMESTAMP NULL)",
        )
        .await;
    server
        .execute(
            "CREATE TABLE other.shaped (id INT PRIMARY KEY, name VARCHAR(9), at TIMESTAMP NULL)",
        )
        .await;
    server
        .execute("SET time_zone = '+00:00'; INSERT INTO test.shaped VALUES (1, 'a', '2024-01-01')")
        .await;
    let question = "SELECT 'a' || 'b', CHARSET('x'), 1/3, MONTHNAME('2024-01-01'), \
                    WEEK('2024-01-01'), GROUP_CONCAT('abcdefgh'), COUNT(*), \
                    SUM(at = '2024-01-01 00:00:00') FROM shaped";
    let changes = [
        "SET sql_mode = 'PIPES_AS_CONCAT'",
        "SET NAMES latin1",
        "SET div_precision_increment = 9",
        "SET lc_time_names = 'de_DE'",
        "SET default_week_format = 3",
        "SET group_concat_max_len = 4",
        "SET time_zone = '+05:00'",
        "SET sql_select_limit = 0",
        "USE other",
        "CREATE TEMPORARY TABLE shaped (id INT PRIMARY KEY, at TIMESTAMP NULL)",
        "CREATE TEMPORARY TABLE test.shaped (id INT PRIMARY KEY, at TIMESTAMP NULL)",
    ];
    for change in changes {
        for is_prepared_before in [true, false] {
            let pool = pool_of_one(config(&server.url()).init(["SET @zone = 1"])).await;
            let mut conn = get(&pool).await;
            let new: Row = ask(&mut conn, question).await;
            let new = new
                .unwrap()
                .iter()
                .map(|value| value.as_sql(true))
                .collect::<Vec<_>>();
            let mut conn = {
                give_back(&pool, conn).await;
                get(&pool).await
            };
            if is_prepared_before {
                conn.exec_drop(question, ()).await.expect("an answer");
            }
            run(&mut conn, &[change]).await;
            server
                .execute("ALTER TABLE test.shaped COMMENT = 'prepare it again'")
                .await;
            conn.exec_drop(question, ()).await.expect("an answer");
            give_back(&pool, conn).await;
            let mut conn = get(&pool).await;
            let found: Option<Row> = conn.exec_first(question, ()).await.expect("an answer");
            let found = found.expect("a row").unwrap();
            let found = found
                .iter()
                .map(|value| value.as_sql(true).replace('\'', ""));
            let new = new.iter().map(|value| value.replace('\'', ""));
            assert_eq!(
                found.collect::<Vec<_>>(),
                new.collect::<Vec<_>>(),
                "{change}, prepared before: {is_prepared_before}"
            );
        }
    }
}

/// MySQL fixes the type of a user variable when a statement that reads it is prepared.
#[tokio::test]
async fn a_prepared_statement_keeps_no_type_of_a_variable() {
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    let compares = async |value: &str| -> u8 {
        let mut conn = get(&pool).await;
        run(&mut conn, &[value]).await;
        let found = conn.exec_first("SELECT @a < 10 AND @a < @b", ()).await;
        let found = found.expect("an answer").expect("a row");
        give_back(&pool, conn).await;
        found
    };
    assert_eq!(compares("SET @a = '9', @b = '10'").await, 0);
    assert_eq!(compares("SET @a = 9, @b = 10").await, 1);
    assert_eq!(compares("SET @a = '9', @b = '10'").await, 0);
}

/// It was prepared while the variables were strings, and was not executed.
#[tokio::test]
async fn a_statement_only_prepared_keeps_no_type_either() {
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    let text = "SELECT @a < 10 AND @a < @b";
    let mut conn = get(&pool).await;
    run(&mut conn, &["SET @a = '9', @b = '10'"]).await;
    drop(conn.prep(text).await.expect("prepared"));
    give_back(&pool, conn).await;
    let mut conn = get(&pool).await;
    run(&mut conn, &["SET @a = 9, @b = 10"]).await;
    let found: Option<u8> = conn.exec_first(text, ()).await.expect("an answer");
    assert_eq!(found, Some(1));
}

/// MySQL prepares the statement again for the second row, under the mode that the first row has
/// set.
#[tokio::test]
async fn a_batch_that_sets_a_mode_keeps_none() {
    let server = Server::shared().await;
    if server.flavor() == Flavor::MariaDb {
        return;
    }
    let pool = pool_of_one(config(&server.url())).await;
    let text = "SET sql_mode = ?, @a = 'a' || 'b'";
    let rows: [(mysql_async::Value,); 2] = [("PIPES_AS_CONCAT".into(),), (4.into(),)];
    let mut conn = get(&pool).await;
    conn.exec_batch(text, rows).await.expect("executed");
    give_back(&pool, conn).await;
    let mut conn = get(&pool).await;
    conn.exec_drop(text, ("",)).await.expect("executed");
    let found: Option<String> = conn.query_first("SELECT @a").await.expect("an answer");
    assert_eq!(found.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_table_of_the_set_up_that_was_dropped_is_made_again() {
    let server = Server::shared().await;
    let create = "CREATE TEMPORARY TABLE once SELECT 1 AS a";
    let plain = config(&server.url());
    let hooked = plain
        .clone()
        .on_connect(move |conn| Box::pin(async move { conn.query_drop(create).await }));
    for settings in [plain.init([create]), hooked] {
        let pool = pool_of_one(settings).await;
        let mut conn = get(&pool).await;
        run(&mut conn, &["DROP TEMPORARY TABLE once"]).await;
        give_back(&pool, conn).await;
        let mut conn = get(&pool).await;
        assert_eq!(ask::<u8>(&mut conn, "SELECT a FROM once").await, 1);
    }
}

#[tokio::test]
async fn what_init_sets_is_set_again_from_the_beginning() {
    let server = Server::shared().await;
    let settings = config(&server.url()).init([
        "SET SESSION group_concat_max_len = @@group_concat_max_len + 7, @a = COALESCE(@a, 0) + 1",
        "SET time_zone = '+03:00', @b = 'b'",
    ]);
    let pool = pool_of_one(settings).await;
    let question = "SELECT @@group_concat_max_len - @@global.group_concat_max_len, @a, \
                    @@time_zone, @b, @c";
    for change in [
        "SET @c = 1",
        "SET @a = 7",
        "SET time_zone = '+01:00'",
        "SELECT GET_LOCK('c', 0)",
    ] {
        let mut conn = get(&pool).await;
        run(&mut conn, &[change]).await;
        give_back(&pool, conn).await;
        let found: (u32, u32, String, String, Option<u8>) =
            ask(&mut get(&pool).await, question).await;
        let expected = (7, 1, "+03:00".to_owned(), "b".to_owned(), None);
        assert_eq!(found, expected, "{change}");
    }
    assert_eq!(cleanings(&pool, "reset"), 0);
}

/// The pool does not know what these set.
#[tokio::test]
async fn with_hooks_and_other_init_statements_it_is_reset() {
    let server = Server::shared().await;
    let plain = config(&server.url());
    let hooked = plain.clone().on_connect(|conn| {
        Box::pin(async move {
            conn.query_drop("CREATE TEMPORARY TABLE once SELECT 1 AS a")
                .await
        })
    });
    let filled = plain
        .clone()
        .init(["CREATE TEMPORARY TABLE once SELECT 1 AS a", "SET @a = 1"]);
    for settings in [hooked, filled, plain.reset(Reset::Always)] {
        let pool = pool_of_one(settings).await;
        let mut conn = get(&pool).await;
        run(&mut conn, &["SET @a = 2, @b = 1"]).await;
        give_back(&pool, conn).await;
        let mut conn = get(&pool).await;
        assert_eq!(ask::<Option<u8>>(&mut conn, "SELECT @b").await, None);
        assert_eq!(undone_and_reset(&pool), (0, 1));
    }
}

/// The server keeps the name of each variable that was ever set, until a reset.
#[tokio::test]
async fn many_names_of_variables_take_little_memory() {
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    for n in 0..200 {
        let mut conn = get(&pool).await;
        run(
            &mut conn,
            &[&format!("SET @of_request_{n} = 1, @always = 1")],
        )
        .await;
        give_back(&pool, conn).await;
    }
    assert_eq!(undone_and_reset(&pool), (197, 3));
}

#[tokio::test]
async fn a_pending_isolation_level_is_undone() {
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    let mut conn = get(&pool).await;
    run(&mut conn, &["SET TRANSACTION READ ONLY"]).await;
    give_back(&pool, conn).await;
    let mut conn = get(&pool).await;
    server
        .execute("CREATE TABLE IF NOT EXISTS test.written (a INT)")
        .await;
    let mut transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    transaction
        .query_drop("INSERT INTO written VALUES (1)")
        .await
        .expect("written");
    transaction.commit().await.expect("committed");
    drop(conn);
    assert_eq!(cleanings(&pool, "reset"), 0);
}

/// A refused text costs a round trip, not the connection.
#[tokio::test]
async fn where_an_undo_is_refused_the_session_is_reset() {
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            if question.kind() != QuestionKind::Reset && question.text.contains("NULL") {
                wire.packet(1, &error(1064, "no such thing")).await?;
            } else {
                wire.raw(&question.answer()).await?;
            }
        }
    });
    let pool = pool_of_one(config(&server.url())).await;
    for n in 1..=3 {
        let mut conn = get(&pool).await;
        run(&mut conn, &["SET @a = 1", "BEGIN", "SET @a = 1"]).await;
        give_back(&pool, conn).await;
        assert_eq!(undone_and_reset(&pool), (0, n));
    }
    assert_eq!((pool.metrics().opened, pool.metrics().suspects), (1, 0));
}

/// Some proxies take only one statement in a text.
#[tokio::test]
async fn statements_are_undone_one_by_one_where_they_must_be() {
    let server = Scripted::start().await;
    server.play(|mut wire: Wire| async move {
        wire.log_in().await?;
        loop {
            let question = wire.question().await?;
            if question.text.contains("; ") {
                wire.packet(1, &error(4501, "one statement at a time"))
                    .await?;
            } else {
                wire.raw(&question.answer()).await?;
            }
        }
    });
    let pool = pool_of_one(config(&server.url()).init(["SET @b = 1"])).await;
    for times in 1..=3 {
        let mut conn = get(&pool).await;
        run(&mut conn, &["SET @a = 1"]).await;
        let before = server.asked().len();
        give_back(&pool, conn).await;
        let asked = server.asked().split_off(before);
        let refused = asked.iter().filter(|text| text.contains("; ")).count();
        assert_eq!(refused, usize::from(times == 1), "{asked:#?}");
        assert_eq!(undone_and_reset(&pool), (times, 0));
    }
}

/// Each of these modes changes how the server reads a text.
#[tokio::test]
async fn an_undo_is_read_alike_in_every_mode() {
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    let modes: &[&str] = match server.flavor() {
        Flavor::MariaDb => &[
            "ORACLE",
            "MSSQL",
            "ANSI",
            "NO_BACKSLASH_ESCAPES",
            "EMPTY_STRING_IS_NULL",
        ],
        Flavor::MySql => &["ANSI", "NO_BACKSLASH_ESCAPES", "IGNORE_SPACE"],
    };
    for mode in modes {
        let mut conn = get(&pool).await;
        let mode = format!("SET sql_mode = '{mode}'");
        run(
            &mut conn,
            &[&mode, "SET @`a b` = 1, @c = 'x'", "DO GET_LOCK('mode', 0)"],
        )
        .await;
        run(
            &mut conn,
            &["CREATE TEMPORARY TABLE moded (a INT)", "START TRANSACTION"],
        )
        .await;
        give_back(&pool, conn).await;
        let mut conn = get(&pool).await;
        let left: (Option<u8>, Option<u8>, u8, u8) = ask(
            &mut conn,
            "SELECT @`a b`, @c, IS_FREE_LOCK('mode'), @@sql_mode = @@global.sql_mode",
        )
        .await;
        assert_eq!(left, (None, None, 1, 1), "{mode}");
    }
    assert_eq!(cleanings(&pool, "reset"), 0);
}
