//! The next caller sees nothing of what one caller did to a session, and no `get()` waits for the
//! cleaning.

use futures_util::StreamExt;
use mysql_warm_pool::{
    Pool, PoolConfig, PooledConn, Reset,
    mysql_async::{self, Conn, Row, TxOpts, consts::StatusFlags, prelude::*},
};
use test_support::{Flavor, Proxy, Server, config, eventually, warm};

/// A pool of one connection, so that the next caller gets the previous caller's.
async fn pool_of_one(config: PoolConfig) -> Pool {
    warm(config.size(1).overflow(0)).await
}

/// Returns `conn`, waits until it is cleaned, and gets the same connection again.
async fn next_caller(pool: &Pool, conn: PooledConn) -> PooledConn {
    let id = conn.id();
    drop(conn);
    let next = pool.get().await.expect("a connection");
    assert_eq!(next.id(), id, "cleaned, not replaced");
    next
}

/// Like [`next_caller`], for a connection with unread results, once the server has sent all of
/// them: then reading them takes no time, even on a busy machine.
async fn next_caller_after_unread_results(
    server: &Server,
    pool: &Pool,
    conn: PooledConn,
) -> PooledConn {
    let mut admin = server.admin().await;
    let rests = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE id = {} AND command = 'Sleep'",
        conn.id()
    );
    eventually("the server has sent everything", async || {
        let count: Option<u8> = admin.query_first(&rests).await.expect("the list");
        count == Some(1)
    })
    .await;
    next_caller(pool, conn).await
}

/// What one caller does, and how the next caller could notice.
struct Change {
    what: &'static str,
    done: &'static [&'static str],
    seen_by: &'static str,
}

const CHANGES: &[Change] = &[
    Change {
        what: "user variable",
        done: &["SET @leak = 1"],
        seen_by: "SELECT @leak",
    },
    Change {
        what: "user variable set in a query",
        done: &["SELECT @leak := 1"],
        seen_by: "SELECT @leak",
    },
    Change {
        what: "session variable",
        done: &["SET SESSION group_concat_max_len = 77"],
        seen_by: "SELECT @@group_concat_max_len",
    },
    Change {
        what: "sql_mode",
        done: &["SET sql_mode = 'ANSI'"],
        seen_by: "SELECT @@sql_mode",
    },
    Change {
        what: "time zone",
        done: &["SET time_zone = '+05:00'"],
        seen_by: "SELECT @@time_zone",
    },
    Change {
        what: "isolation level",
        done: &["SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        seen_by: "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')",
    },
    Change {
        what: "charset",
        done: &["SET NAMES latin1"],
        seen_by: "SELECT @@character_set_client, @@character_set_results, @@collation_connection",
    },
    Change {
        what: "temporary table",
        done: &["CREATE TEMPORARY TABLE leak (id INT)"],
        seen_by: "SELECT * FROM leak",
    },
    Change {
        what: "named lock",
        done: &["SELECT GET_LOCK('cleaned', 0)"],
        seen_by: "SELECT IS_USED_LOCK('cleaned')",
    },
    Change {
        what: "locked tables",
        done: &[
            "CREATE TABLE IF NOT EXISTS locked (id INT)",
            "LOCK TABLES locked READ",
        ],
        seen_by: "INSERT INTO locked VALUES (1)",
    },
    Change {
        what: "database",
        done: &["USE information_schema"],
        seen_by: "SELECT DATABASE()",
    },
    Change {
        what: "autocommit",
        done: &["SET autocommit = 0", "SELECT 1"],
        seen_by: "SELECT @@autocommit",
    },
    Change {
        what: "server-side prepare",
        done: &["PREPARE leak FROM 'SELECT 1'"],
        seen_by: "EXECUTE leak",
    },
    Change {
        what: "row limit",
        done: &["SET SESSION sql_select_limit = 1"],
        seen_by: "SELECT @@sql_select_limit",
    },
];

/// What a caller sees: rows, or the server's error code.
async fn seen(conn: &mut impl Queryable, question: &str) -> String {
    match conn.query::<Row, _>(question).await {
        Ok(rows) => format!(
            "{:?}",
            rows.into_iter().map(Row::unwrap).collect::<Vec<_>>()
        ),
        Err(mysql_async::Error::Server(error)) => format!("error {}", error.code),
        Err(error) => panic!("{question}: {error}"),
    }
}

#[tokio::test]
async fn whatever_a_caller_changed_the_next_finds_a_clean_session() {
    let server = Server::start().await;
    for reset in [Reset::Always, Reset::WhenChanged] {
        let pool = pool_of_one(config(&server.url()).reset(reset)).await;
        for Change {
            what,
            done,
            seen_by,
        } in CHANGES
        {
            let mut fresh = Conn::new(server.opts()).await.expect("a connection");
            if done[0].starts_with("CREATE TABLE") {
                fresh.query_drop(done[0]).await.expect(what);
            }
            let as_new = seen(&mut fresh, seen_by).await;
            let mut conn = pool.get().await.expect("a connection");
            assert_eq!(seen(&mut conn, seen_by).await, as_new, "{what}: before");
            for statement in *done {
                conn.query_drop(*statement).await.expect(what);
            }
            assert_ne!(
                seen(&mut conn, seen_by).await,
                as_new,
                "{what}: the table's own fault"
            );
            let mut next = next_caller(&pool, conn).await;
            assert_eq!(seen(&mut next, seen_by).await, as_new, "{what}, {reset:?}");
        }
    }
}

#[tokio::test]
async fn without_resets_database_and_transaction_are_still_restored() {
    let server = Server::start().await;
    let pool = pool_of_one(config(&server.url()).reset(Reset::Never)).await;
    let mut conn = pool.get().await.expect("a connection");
    for statement in ["SET @kept = 7", "USE information_schema", "BEGIN"] {
        conn.query_drop(statement).await.expect(statement);
    }
    let mut next = next_caller(&pool, conn).await;
    let row: Option<(u8, String)> = next
        .query_first("SELECT @kept, DATABASE()")
        .await
        .expect("an answer");
    assert_eq!(row, Some((7, "test".to_owned())));
    assert_eq!(pool.metrics().resets, 0);
}

#[tokio::test]
async fn a_session_opened_without_a_database_goes_back_to_none() {
    let server = Server::start().await;
    let no_database = server.url().replace("/test", "");
    for reset in [Reset::Always, Reset::WhenChanged, Reset::Never] {
        let pool = pool_of_one(config(&no_database).reset(reset).init(["SET @here = 1"])).await;
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("USE test").await.expect("a database");
        let mut next = next_caller(&pool, conn).await;
        let row: Option<(Option<String>, u8)> = next
            .query_first("SELECT DATABASE(), @here")
            .await
            .expect("an answer");
        assert_eq!(row, Some((None, 1)), "{reset:?}");
    }
}

#[tokio::test]
async fn after_a_reset_init_and_prepare_are_done_again() {
    let server = Server::start().await;
    let settings = config(&server.url())
        .reset(Reset::Always)
        .init(["SET @first = 1", "SET @second = @first + 1"])
        .prepare(["SELECT @second, ?"]);
    let pool = pool_of_one(settings).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("SET @first = 70, @second = 80")
        .await
        .expect("set");
    let mut next = next_caller(&pool, conn).await;
    let before = server.statements_prepared().await;
    let row: Option<(u8, u8)> = next
        .exec_first("SELECT @second, ?", (3,))
        .await
        .expect("an answer");
    assert_eq!(row, Some((2, 3)));
    assert_eq!(server.statements_prepared().await, before);
}

#[tokio::test]
async fn a_transaction_left_open_is_rolled_back_and_frees_its_locks() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.account (id INT PRIMARY KEY, amount INT)")
        .await;
    server
        .execute("INSERT INTO test.account VALUES (1, 100)")
        .await;
    let take = "UPDATE account SET amount = amount - 1 WHERE id = 1";
    let mut other = Conn::new(server.opts()).await.expect("a connection");
    for reset in [Reset::Always, Reset::WhenChanged, Reset::Never] {
        let pool = warm(config(&server.url()).size(2).reset(reset)).await;
        for how in ["raw", "driver's", "bare", "in error", "rows pending"] {
            let mut conn = pool.get().await.expect("a connection");
            leave_open(&mut conn, take, how).await;
            drop(conn);
            // The server's own lock wait time-out is 50 s; the benches measure how long the unlock
            // takes.
            other.query_drop(take).await.expect("the lock is free");
            let amount: Option<i32> = other
                .query_first("SELECT amount FROM account")
                .await
                .expect("an answer");
            assert_eq!(amount, Some(99), "{how}, {reset:?}: rolled back");
            other
                .query_drop("UPDATE account SET amount = 100")
                .await
                .expect("put back");
        }
        pool.close().await;
    }
}

/// Takes a row lock in a transaction that is not ended.
async fn leave_open(conn: &mut PooledConn, take: &str, how: &str) {
    match how {
        "driver's" => {
            let mut transaction = conn
                .start_transaction(TxOpts::default())
                .await
                .expect("begun");
            transaction.query_drop(take).await.expect("taken");
        }
        "bare" => {
            let bare: &mut Conn = conn;
            bare.query_drop("BEGIN").await.expect("begun");
            bare.query_drop(take).await.expect("taken");
        }
        _ => {
            conn.query_drop("BEGIN").await.expect("begun");
            conn.query_drop(take).await.expect("taken");
        }
    }
    match how {
        "in error" => {
            conn.query_drop("SELECT FROM nothing")
                .await
                .expect_err("bad SQL");
        }
        "rows pending" => drop(conn.query_iter("SELECT 1; SELECT 2").await.expect("rows")),
        _ => {}
    }
}

#[tokio::test]
async fn pending_rows_are_drained_and_the_connection_is_kept() {
    let server = Server::shared().await;
    for reset in [Reset::Always, Reset::WhenChanged, Reset::Never] {
        let pool = pool_of_one(config(&server.url()).reset(reset)).await;
        for how in 0..4 {
            let mut conn = pool.get().await.expect("a connection");
            match how {
                0 => drop(
                    conn.query_iter("SELECT 1; SELECT 2; DO 1")
                        .await
                        .expect("rows"),
                ),
                1 => drop(conn.exec_iter("SELECT ?", (1,)).await.expect("rows")),
                2 => {
                    let mut stream = conn
                        .query_stream::<u64, _>("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3")
                        .await
                        .expect("rows");
                    stream.next().await.expect("a row").expect("a number");
                }
                _ => {
                    let mut result = conn
                        .query_iter("SELECT 1; SELECT 2")
                        .await
                        .expect("two results");
                    result.collect::<u8>().await.expect("the first");
                }
            }
            let mut next = next_caller_after_unread_results(server, &pool, conn).await;
            assert_eq!(
                next.query_first("SELECT 7").await.expect("an answer"),
                Some(7_u8)
            );
        }
    }
}

/// The driver does not say that the rows are those of a prepared statement.
#[tokio::test]
async fn unread_rows_of_a_prepared_statement_end_nothing() {
    const ROWS: &str = "SELECT 200, 'ab', NULL, 'cd' \
                        UNION ALL SELECT 201, REPEAT('x', 300), 1, NULL \
                        UNION ALL SELECT 65536, '', 2, 'e'";
    let server = Server::shared().await;
    for reset in [Reset::Always, Reset::WhenChanged, Reset::Never] {
        let pool = pool_of_one(config(&server.url()).reset(reset)).await;
        let mut conn = pool.get().await.expect("a connection");
        drop(conn.exec_iter(ROWS, ()).await.expect("rows"));
        let answer: Option<u8> = conn.query_first("SELECT 7").await.expect("an answer");
        assert_eq!(answer, Some(7));
        let started = conn.start_transaction(TxOpts::new()).await;
        let mut transaction = started.expect("begun");
        let mut stream = transaction
            .exec_stream::<Row, _, _>(ROWS, ())
            .await
            .expect("rows");
        stream.next().await.expect("a row").expect("read");
        drop(stream);
        let answer: Option<u8> = transaction
            .query_first("SELECT 7")
            .await
            .expect("an answer");
        assert_eq!(answer, Some(7));
        transaction.commit().await.expect("committed");
        drop(conn.exec_iter(ROWS, ()).await.expect("rows"));
        drop(next_caller_after_unread_results(server, &pool, conn).await);
    }
}

#[tokio::test]
async fn a_huge_pending_result_is_discarded_and_not_drained() {
    let server = Server::start().await;
    let pool = pool_of_one(config(&server.url())).await;
    let mut conn = pool.get().await.expect("a connection");
    let id = conn.id();
    // 4 GB in rows of 1 MB.
    let huge = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 4000) \
                SELECT REPEAT('x', 1048576) FROM r";
    let depth = match server.flavor() {
        Flavor::MariaDb => "max_recursive_iterations",
        Flavor::MySql => "cte_max_recursion_depth",
    };
    conn.query_drop(format!("SET {depth} = 100000"))
        .await
        .expect("set");
    let before = server.status_value("Bytes_sent").await;
    drop(conn.query_iter(huge).await.expect("the first rows"));
    drop(conn);
    let next = pool.get().await.expect("another connection");
    assert_ne!(next.id(), id);
    let pending = pool
        .metrics()
        .discarded
        .contains(&(mysql_warm_pool::metrics::DiscardReason::TooManyRows, 1));
    assert!(pending, "{:?}", pool.metrics());
    eventually("the server has let go of it", async || {
        server.threads_connected().await == 1
    })
    .await;
    // The server counts the bytes at the latest when the thread ends.
    let sent = server.status_value("Bytes_sent").await - before;
    println!("{} MB were sent", sent >> 20);
    assert!(sent < 2 << 30, "{sent} bytes");
}

#[tokio::test]
async fn a_connection_returned_unused_needs_no_cleaning() {
    let server = Server::start().await;
    let pool = pool_of_one(config(&server.url()).reset(Reset::Always)).await;
    let questions = server.status_value("Questions").await;
    for _ in 0..100 {
        drop(pool.get().await.expect("a connection"));
    }
    // Only the query for the status itself.
    assert!(server.status_value("Questions").await - questions <= 2);
    assert_eq!(pool.metrics().cleaned, 0);
}

#[tokio::test]
async fn a_session_killed_while_it_is_cleaned_costs_no_error() {
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(2).reset(Reset::Always)).await;
    for _ in 0..20 {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("SET @a = 1").await.expect("set");
        server.execute(&format!("KILL {}", conn.id())).await;
        drop(conn);
        let mut next = pool.get().await.expect("a connection");
        assert_eq!(
            next.query_first("SELECT 7").await.expect("an answer"),
            Some(7_u8)
        );
    }
}

#[tokio::test]
async fn a_detached_connection_leaves_the_pool_and_is_replaced() {
    let server = Server::start().await;
    let pool = pool_of_one(config(&server.url())).await;
    let mut conn = PooledConn::detach(pool.get().await.expect("a connection"));
    conn.query_drop("SET @mine = 1").await.expect("set");
    let mut other = pool.get().await.expect("another");
    let mine: Option<Option<u8>> = other.query_first("SELECT @mine").await.expect("an answer");
    assert_eq!(mine, Some(None));
    let mine: Option<u8> = conn.query_first("SELECT @mine").await.expect("an answer");
    assert_eq!(mine, Some(1));
}

#[tokio::test]
async fn a_discarded_connection_says_goodbye() {
    let server = Server::start().await;
    let pool = pool_of_one(config(&server.url())).await;
    let aborted = server.status_value("Aborted_clients").await;
    let conn = pool.get().await.expect("a connection");
    let id = conn.id();
    PooledConn::discard(conn);
    assert_ne!(pool.get().await.expect("another").id(), id);
    eventually("the old one is gone", async || {
        server.threads_connected().await == 1
    })
    .await;
    assert_eq!(server.status_value("Aborted_clients").await, aborted);
}

#[tokio::test]
async fn a_callers_mistake_makes_no_other_connection_suspect() {
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(5)).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.exec_drop("DO ?", (1, 2))
        .await
        .expect_err("one parameter too many");
    drop(conn);
    eventually("it is replaced", async || pool.status().idle == 5).await;
    let metrics = pool.metrics();
    assert!(
        metrics
            .discarded
            .contains(&(mysql_warm_pool::metrics::DiscardReason::Misused, 1)),
        "{metrics:?}"
    );
    assert_eq!(metrics.validations, 0);
}

#[tokio::test]
async fn statements_that_leave_nothing_behind_need_no_cleaning() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.item (id INT PRIMARY KEY, name VARCHAR(20))")
        .await;
    let pool = pool_of_one(config(&server.url())).await;
    for _ in 0..10 {
        let mut conn = pool.get().await.expect("a connection");
        conn.exec_drop("REPLACE INTO item VALUES (?, ?)", (7, "pear"))
            .await
            .expect("written");
        let name: Option<String> = conn
            .exec_first("SELECT name FROM item WHERE id = ?", (7,))
            .await
            .expect("a row");
        assert_eq!(name.as_deref(), Some("pear"));
        let statement = conn
            .prep("SELECT COUNT(*) FROM item")
            .await
            .expect("prepared");
        let count: Option<u8> = conn.exec_first(&statement, ()).await.expect("a row");
        assert_eq!(count, Some(1));
        conn.query_drop("INSERT INTO item VALUES (7, 'plum')")
            .await
            .expect_err("a duplicate");
        let mut transaction = conn
            .start_transaction(TxOpts::default())
            .await
            .expect("begun");
        transaction
            .exec_drop("UPDATE item SET name = 'fig' WHERE id = ?", (7,))
            .await
            .expect("done");
        transaction.commit().await.expect("committed");
        conn.query_drop("BEGIN").await.expect("begun");
        conn.query_drop("COMMIT").await.expect("committed");
    }
    assert_eq!(pool.metrics().cleaned, 0, "{:?}", pool.metrics());
    let mut conn = pool.get().await.expect("a connection");
    conn.exec_drop("SET @leak = ?", (1,)).await.expect("set");
    let mut next = next_caller(&pool, conn).await;
    let leak: Option<Option<u8>> = next.query_first("SELECT @leak").await.expect("an answer");
    assert_eq!((leak, pool.metrics().cleaned), (Some(None), 1));
}

#[tokio::test]
async fn a_failed_commit_was_rolled_back_and_needs_no_more_cleaning() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.entry (id INT PRIMARY KEY)")
        .await;
    let pool = pool_of_one(config(&server.url()).reset(Reset::Never)).await;
    for ended_by_commit in [true, false] {
        let mut conn = pool.get().await.expect("a connection");
        let mut transaction = conn
            .start_transaction(TxOpts::default())
            .await
            .expect("begun");
        transaction
            .query_drop("INSERT INTO entry VALUES (1)")
            .await
            .expect("inserted");
        // The second statement fails when its result is read, with the next command.
        let two = transaction
            .query_iter("SELECT 1; SELECT 2 FROM (SELECT 1 UNION SELECT 2) x WHERE (SELECT 1 UNION SELECT 2)")
            .await;
        drop(two.expect("the first"));
        let ended = if ended_by_commit {
            transaction.commit().await
        } else {
            transaction.rollback().await
        };
        let error = ended.expect_err("the error of the second");
        assert!(error.to_string().contains("1242"), "{error}");
        let mut next = next_caller(&pool, conn).await;
        assert!(!in_transaction(&mut next).await);
        let rows: Option<u8> = next
            .query_first("SELECT COUNT(*) FROM entry")
            .await
            .expect("an answer");
        assert_eq!(rows, Some(0));
        drop(next);
        // After the failed commit the driver rolled back by itself; after the failed rollback the
        // pool still has to.
        let cleanings = u64::from(!ended_by_commit);
        assert_eq!(pool.metrics().cleaned, cleanings, "{ended_by_commit}");
    }
}

#[tokio::test]
async fn a_statement_id_from_before_a_reset_is_not_trusted() {
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    let mut conn = pool.get().await.expect("a connection");
    let kept = conn.prep("SELECT 1").await.expect("prepared");
    conn.exec_drop(&kept, ()).await.expect("an answer");
    let mut conn = next_caller(&pool, conn).await;
    conn.exec_drop(&kept, ()).await.expect("an answer");
    assert_eq!(pool.metrics().resets, 0);
    conn.query_drop("PREPARE changed FROM 'DO 1'")
        .await
        .expect("prepared");
    let mut conn = next_caller(&pool, conn).await;
    assert_eq!(pool.metrics().resets, 1);
    // A server may give the number to another statement.
    let error = conn.exec_drop(&kept, ()).await.expect_err("it has ended");
    assert!(error.to_string().contains("before a reset"), "{error}");
    let again = conn.prep("SELECT 1").await.expect("prepared");
    conn.exec_drop(&again, ()).await.expect("an answer");
    drop(next_caller(&pool, conn).await);
    assert_eq!(pool.metrics().resets, 1);
}

#[tokio::test]
async fn statements_sent_by_generic_code_count_as_changing() {
    async fn generic(on: &mut impl Queryable) -> mysql_async::Result<()> {
        on.exec_drop("SET @leak = ?", (1,)).await
    }
    let server = Server::shared().await;
    let pool = pool_of_one(config(&server.url())).await;
    let mut conn = pool.get().await.expect("a connection");
    generic(&mut conn).await.expect("set");
    let mut next = next_caller(&pool, conn).await;
    let leak: Option<Option<u8>> = next.query_first("SELECT @leak").await.expect("an answer");
    assert_eq!(leak, Some(None));
}

/// Whether the connection is in a transaction, as the next caller would find it. How many round
/// trips it takes to clean a connection after `work`.
async fn round_trips(config: PoolConfig, proxy: &Proxy, work: impl AsyncFn(&mut Conn)) -> u64 {
    let pool = pool_of_one(config).await;
    // What the pool learns only once about the server, it learns here.
    for _ in 0..2 {
        let mut conn = pool.get().await.expect("a connection");
        work(&mut conn).await;
        let id = conn.id();
        let before = proxy.requests();
        drop(conn);
        eventually("it is cleaned", async || pool.status().idle == 1).await;
        let took = proxy.requests() - before;
        let next = pool.get().await.expect("a connection");
        assert_eq!(next.id(), id, "cleaned, not replaced");
        drop(next);
        if pool.metrics().cleaned == 2 {
            return took;
        }
    }
    panic!("it was not cleaned");
}

/// The driver's fluent style, and functions that take the driver's `Conn`.
#[tokio::test]
async fn unfollowed_use_costs_two_round_trips_at_the_return() {
    if test_support::tls::is_required() {
        return;
    }
    let server = Server::shared().await;
    let proxy = Proxy::start(server.port()).await;
    let url = server.url_via(proxy.port());
    let without_database = url.replace("/test", "/");
    for url in [&url, &without_database] {
        let fluent = async |conn: &mut Conn| {
            let answer = "SELECT ? + 0".with((7,)).first(conn).await;
            assert_eq!(answer.expect("an answer"), Some(7));
        };
        assert_eq!(round_trips(config(url), &proxy, fluent).await, 2, "{url}");
        let text = async |conn: &mut Conn| {
            conn.query_drop("SET @a = 1").await.expect("set");
        };
        assert_eq!(round_trips(config(url), &proxy, text).await, 2, "{url}");
    }
    let moved = async |conn: &mut Conn| {
        conn.query_drop("USE other").await.expect("moved");
    };
    assert_eq!(round_trips(config(&url), &proxy, moved).await, 2);
    // A procedure may have set something, but it was followed.
    server
        .execute("CREATE PROCEDURE test.unseen() SET @a = 1")
        .await;
    let pool = pool_of_one(config(&url)).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("CALL unseen()").await.expect("called");
    let before = proxy.requests();
    drop(conn);
    eventually("it is cleaned", async || pool.status().idle == 1).await;
    assert_eq!(proxy.requests() - before, 2);
}

async fn in_transaction(conn: &mut PooledConn) -> bool {
    conn.ping().await.expect("an answer");
    let status = conn.last_ok_packet().expect("the answer").status_flags();
    status.contains(StatusFlags::SERVER_STATUS_IN_TRANS)
}

#[tokio::test]
async fn a_raw_transaction_is_rolled_back_whatever_command_came_last() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.entry (id INT PRIMARY KEY)")
        .await;
    for reset in [Reset::Always, Reset::WhenChanged, Reset::Never] {
        let pool = pool_of_one(config(&server.url()).reset(reset)).await;
        for last in 0..7 {
            let mut conn = pool.get().await.expect("a connection");
            if last == 6 {
                // Its multi-statement query is left unread.
                drop(
                    conn.query_iter("SELECT 1; BEGIN; SELECT 2")
                        .await
                        .expect("begun"),
                );
                let mut next = next_caller_after_unread_results(&server, &pool, conn).await;
                assert!(!in_transaction(&mut next).await, "{last}, {reset:?}");
                continue;
            }
            conn.query_drop("BEGIN").await.expect("begun");
            conn.query_drop("INSERT INTO entry VALUES (7)")
                .await
                .expect("written");
            match last {
                0 => drop(conn.prep("SELECT 1").await.expect("prepared")),
                1 => {
                    let statement = conn.prep("SELECT 1").await.expect("prepared");
                    conn.close(statement).await.expect("closed");
                }
                2 => conn
                    .exec_batch("DO ?", Vec::<(u8,)>::new())
                    .await
                    .expect("nothing to do"),
                3 => {
                    let generic: &mut PooledConn = &mut conn;
                    Queryable::exec_batch(generic, "DO ?", Vec::<(u8,)>::new())
                        .await
                        .expect("nothing");
                }
                4 => drop(
                    conn.exec_iter("SELECT ?", (1,))
                        .await
                        .expect("rows, unread"),
                ),
                _ => {
                    conn.query_drop("SELECT FROM nothing")
                        .await
                        .expect_err("bad SQL");
                }
            }
            let mut next = next_caller_after_unread_results(&server, &pool, conn).await;
            assert!(!in_transaction(&mut next).await, "{last}, {reset:?}");
            let count: Option<u8> = next
                .query_first("SELECT COUNT(*) FROM entry")
                .await
                .expect("a row");
            assert_eq!(count, Some(0), "{last}, {reset:?}");
        }
        pool.close().await;
    }
}

#[tokio::test]
async fn without_resets_an_implicit_transaction_is_rolled_back() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.entry (id INT PRIMARY KEY)")
        .await;
    let pool = pool_of_one(config(&server.url()).reset(Reset::Never)).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("SET autocommit = 0").await.expect("set");
    let mut next = next_caller(&pool, conn).await;
    next.query_drop("INSERT INTO entry VALUES (7)")
        .await
        .expect("written");
    next.query_drop("SELECT FROM nothing")
        .await
        .expect_err("bad SQL");
    let mut last = next_caller(&pool, next).await;
    assert!(!in_transaction(&mut last).await);
}

#[tokio::test]
async fn a_connection_whose_user_was_changed_is_discarded() {
    use mysql_async::ChangeUserOpts;
    let server = Server::start().await;
    server
        .execute("CREATE USER other@'%' IDENTIFIED BY 'x'")
        .await;
    for reset in [Reset::Always, Reset::WhenChanged, Reset::Never] {
        let pool = pool_of_one(config(&server.url()).reset(reset)).await;
        let mut conn = pool.get().await.expect("a connection");
        let other = ChangeUserOpts::new()
            .with_user(Some("other".to_owned()))
            .with_pass(Some("x".to_owned()))
            .with_db_name(None);
        conn.change_user(other).await.expect("changed");
        drop(conn);
        let mut next = pool.get().await.expect("a connection");
        let user: Option<String> = next
            .query_first("SELECT CURRENT_USER()")
            .await
            .expect("a name");
        assert_eq!(user.as_deref(), Some("app@%"), "{reset:?}");
    }
}

#[tokio::test]
#[expect(clippy::mem_forget, reason = "the pool must tolerate a leak")]
async fn a_leaked_transaction_spoils_no_later_one() {
    let server = Server::shared().await;
    for reset in [Reset::Always, Reset::WhenChanged, Reset::Never] {
        let pool = pool_of_one(config(&server.url()).reset(reset)).await;
        let mut conn = pool.get().await.expect("a connection");
        let transaction = conn.start_transaction(TxOpts::default()).await;
        std::mem::forget(transaction.expect("begun"));
        drop(conn);
        let mut next = pool.get().await.expect("a connection");
        let transaction = next.start_transaction(TxOpts::default()).await;
        let transaction = transaction.expect("no other is open");
        transaction.commit().await.expect("committed");
    }
}

#[tokio::test]
async fn a_statement_prepared_on_another_connection_is_refused() {
    let server = Server::shared().await;
    let pool = warm(config(&server.url()).size(2)).await;
    let (mut one, mut other) = (
        pool.get().await.expect("one"),
        pool.get().await.expect("other"),
    );
    let statement = one.prep("SELECT 'one'").await.expect("prepared");
    other.prep("SELECT 'other'").await.expect("prepared");
    let answer = other.exec_first::<String, _, _>(&statement, ()).await;
    let error = answer.expect_err("the id belongs to another statement there");
    assert!(error.to_string().contains("another connection"), "{error}");
    let answer: Option<String> = one.exec_first(&statement, ()).await.expect("a row");
    assert_eq!(answer.as_deref(), Some("one"));
    assert!(other.query_first::<u8, _>("SELECT 7").await.is_ok());
}
