//! Query time: which statements are timed, the log of slow ones, and their spans.

use std::time::Duration;

use futures_util::StreamExt as _;
use mysql_warm_pool::{
    Error, Executor, Pool, PooledConn,
    mysql_async::{self, TxOpts, prelude::Queryable},
};
use test_support::{Server, config, eventually, warm};
use tokio::time::timeout;
use tracing::Level;

use super::events::{Listener, Logged};

/// How many statements have been counted so far.
fn counted(pool: &Pool) -> u64 {
    pool.metrics().query_time.count()
}

async fn pool_of_one() -> Pool {
    let server = Server::shared().await;
    warm(config(&server.url()).size(1).overflow(0)).await
}

#[tokio::test]
async fn every_method_counts_its_statement_once() {
    /// Asserts that each of these counts one statement.
    macro_rules! assert_one {
        ($pool:ident: $($statement:expr;)*) => {$(
            let before = counted(&$pool);
            let _output = $statement.await.expect("an answer");
            assert_eq!(counted(&$pool) - before, 1, stringify!($statement));
        )*};
    }
    let pool = pool_of_one().await;
    let mut conn = pool.get().await.expect("a connection");
    assert_eq!(counted(&pool), 0, "the pool's own do not count");
    conn.query_drop("CREATE TEMPORARY TABLE t (a INT)")
        .await
        .expect("created");
    assert_one! { pool:
        conn.query_drop("DO 1");
        conn.query::<u8, _>("SELECT 1");
        conn.query_first::<u8, _>("SELECT 1 UNION SELECT 2");
        conn.query_map("SELECT 1", |one: u8| one);
        conn.query_fold("SELECT 1", 0, |sum, one: u8| sum + one);
        conn.exec_drop("DO ?", (1,));
        conn.exec::<u8, _, _>("SELECT ?", (1,));
        conn.exec_first::<u8, _, _>("SELECT ?", (1,));
        conn.exec_map("SELECT ?", (1,), |one: u8| one);
        conn.exec_fold("SELECT ?", (1,), 0, |sum, one: u8| sum + one);
        conn.exec_batch("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)]);
        Executor::exec_drop(&mut conn, "DO ?", (1,));
        Executor::query_drop(&mut conn, "DO 1");
        Queryable::exec_drop(&mut conn, "DO ?", (1,));
        Queryable::exec_batch(&mut conn, "INSERT INTO t VALUES (?)", [(1,), (2,)]);
        Queryable::query_drop(&mut conn, "DO 1");
    }
    let statement = conn.prep("SELECT ? + 1").await.expect("prepared");
    conn.ping().await.expect("a pong");
    let before = counted(&pool);
    assert_one! { pool:
        conn.exec_first::<u8, _, _>(&statement, (1,));
    }
    drop(conn.query_iter("SELECT 1").await.expect("an answer"));
    drop(conn.exec_iter("SELECT 1", ()).await.expect("an answer"));
    let mut rows = conn
        .exec_stream::<u8, _, _>("SELECT 1", ())
        .await
        .expect("an answer");
    rows.next().await.expect("a row").expect("no error");
    drop(rows);
    drop(
        conn.query_stream::<u8, _>("SELECT 1")
            .await
            .expect("an answer"),
    );
    assert_eq!(counted(&pool) - before, 5);
    drop(conn);
    let before = counted(&pool);
    pool.exec_drop("SET @a = ?", (1,)).await.expect("set");
    eventually("it is reset", async || pool.status().idle == 1).await;
    assert_eq!(counted(&pool) - before, 1, "cleaning does not count");
}

#[tokio::test]
async fn transactions_and_savepoints_count_what_they_send() {
    let pool = pool_of_one().await;
    let mut owned = pool.begin().await.expect("begun");
    assert_eq!(counted(&pool), 1);
    let mut point = owned.savepoint().await.expect("set");
    point.query_drop("DO 1").await.expect("an answer");
    point.release().await.expect("released");
    assert_eq!(counted(&pool), 4);
    owned.commit().await.expect("committed");
    assert_eq!(counted(&pool), 5);
    pool.begin()
        .await
        .expect("begun")
        .rollback()
        .await
        .expect("rolled back");
    assert_eq!(counted(&pool), 7);
    let mut conn = pool.get().await.expect("a connection");
    let begun = conn.start_transaction(TxOpts::new()).await;
    begun.expect("begun").commit().await.expect("committed");
    let begun = conn.start_transaction(TxOpts::new()).await;
    begun.expect("begun").rollback().await.expect("rolled back");
    assert_eq!(counted(&pool), 11);
}

#[tokio::test]
async fn errors_count_and_refused_or_cancelled_statements_do_not() {
    let pool = pool_of_one().await;
    let mut conn = pool.get().await.expect("a connection");
    drop(conn.query_drop("SELEC 1").await.expect_err("1064"));
    drop(conn.exec_drop("SELEC ?", (1,)).await.expect_err("1064"));
    assert_eq!(counted(&pool), 2);
    let mut begun = conn.start_transaction(TxOpts::new()).await.expect("begun");
    drop(begun.query_drop("BEGIN").await.expect_err("one is open"));
    begun.commit().await.expect("committed");
    assert_eq!(counted(&pool), 4, "begun and committed");
    let slow = conn.query_drop("DO SLEEP(60)");
    timeout(Duration::from_millis(50), slow)
        .await
        .expect_err("cancelled");
    let refused = conn
        .query_drop("DO 1")
        .await
        .expect_err("its answer is on its way");
    assert!(matches!(Error::of(&refused), Some(Error::ConnectionLost)));
    assert_eq!(counted(&pool), 4);
}

#[tokio::test]
async fn the_time_is_that_until_the_end_of_the_answer() {
    let pool = pool_of_one().await;
    let mut conn = pool.get().await.expect("a connection");
    let before = pool.metrics().query_time;
    let nap = |()| std::thread::sleep(Duration::from_millis(60));
    let row: Vec<()> = conn
        .exec_map("SELECT SLEEP(?)", (0.06,), |_: u8| nap(()))
        .await
        .expect("rows");
    assert_eq!(row.len(), 1);
    let took = pool.metrics().query_time.since(&before).sum();
    assert!(took >= Duration::from_millis(119), "{took:?}");
}

/// The slow queries that were logged.
fn slow(listener: &Listener) -> Vec<Logged> {
    listener.of("slow query")
}

async fn pool_with_slow_query(after: impl Into<Option<Duration>>) -> Pool {
    let server = Server::shared().await;
    let settings = config(&server.url()).size(1).overflow(0);
    warm(settings.slow_query(after)).await
}

#[tokio::test]
async fn a_slow_query_is_logged_without_its_literals() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let pool = pool_with_slow_query(Duration::from_millis(20)).await;
    let mut conn = pool.get().await.expect("a connection");
    let got_at = format!("{}:{}", file!(), line!() - 1);
    let rows: Vec<String> = conn
        .query("SELECT /* secret */ 'secret' FROM information_schema.SCHEMATA WHERE SLEEP(0.05) = 0 LIMIT 1")
        .await
        .expect("rows");
    assert_eq!(rows, ["secret"]);
    let [logged] = &slow(&listener)[..] else {
        panic!("logged once: {:?}", listener.events());
    };
    assert_eq!(logged.level, Level::WARN);
    assert_eq!(
        logged.field("db.query.text"),
        "SELECT ? FROM information_schema.SCHEMATA WHERE SLEEP(?) = ? LIMIT ?"
    );
    assert_eq!((logged.field("rows"), logged.field("quiet")), ("1", "0"));
    assert!(logged.field("got_at").starts_with(&got_at), "{logged:?}");
    assert!(
        logged.seconds("took") >= 0.045 && logged.seconds("server") >= 0.045,
        "{logged:?}"
    );
    let parts = logged.seconds("server") + logged.seconds("reading");
    assert!((parts - logged.seconds("took")).abs() < 1e-6, "{logged:?}");
    let all = format!("{:?}{:?}", listener.events(), listener.spans());
    assert!(!all.contains("secret"), "{all}");
}

#[tokio::test]
async fn reading_that_is_slow_is_told_from_a_slow_server() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let pool = pool_with_slow_query(Duration::from_millis(500)).await;
    let mut conn = pool.get().await.expect("a connection");
    let nap = |_: u8| std::thread::sleep(Duration::from_millis(600));
    let rows = conn.exec_map("SELECT ?", (1,), nap).await.expect("rows");
    assert_eq!(rows.len(), 1);
    let logged = slow(&listener).pop().expect("logged");
    assert_eq!(logged.field("db.query.text"), "SELECT ?");
    assert!(logged.seconds("reading") >= 0.59, "{logged:?}");
}

#[tokio::test]
async fn a_text_is_warned_of_once_a_second_with_a_count() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let pool = pool_with_slow_query(Duration::from_millis(1)).await;
    let mut conn = pool.get().await.expect("a connection");
    let mut warned = 0;
    while warned < 2 {
        for text in ["DO SLEEP(0.005)", "DO SLEEP(0.006) "] {
            conn.query_drop(text).await.expect("an answer");
        }
        let logged = slow(&listener);
        warned = logged
            .iter()
            .filter(|logged| logged.level == Level::WARN)
            .count();
    }
    // The next warning of a text counts the slow statements in between.
    let logged = slow(&listener);
    let (last, before) = logged.split_last().expect("two at least");
    let (last, before) = if last.level == Level::WARN {
        (last, before)
    } else {
        before.split_last().expect("two at least")
    };
    let quiet = before
        .iter()
        .filter(|logged| logged.level == Level::DEBUG)
        .count();
    assert_eq!(last.field("quiet"), quiet.to_string());
    conn.query_drop("DO SLEEP(0.005) + 1")
        .await
        .expect("an answer");
    let other = slow(&listener).pop().expect("logged");
    assert_eq!(
        (other.level, other.field("quiet")),
        (Level::WARN, "0"),
        "another text"
    );
}

#[tokio::test]
async fn a_slow_query_that_failed_or_was_cancelled_says_so() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let pool = pool_with_slow_query(Duration::from_millis(20)).await;
    let failing = "DO SLEEP(0.05); SELECT 'secret' AS a GROUP BY b";
    drop(pool.query_drop(failing).await.expect_err("1054"));
    let logged = slow(&listener).pop().expect("logged");
    assert_eq!(logged.field("error"), "1054");
    assert!(logged.field("got_at").contains("queries.rs"), "{logged:?}");
    let cancelled = pool.exec_drop("DO SLEEP(?)", (60,));
    timeout(Duration::from_millis(100), cancelled)
        .await
        .expect_err("cancelled");
    let logged = slow(&listener).pop().expect("logged");
    assert_eq!(logged.field("error"), "cancelled");
    assert_eq!(logged.field("db.query.text"), "DO SLEEP(?)");
    assert_eq!(counted(&pool), 1);
    assert!(!format!("{:?}", listener.events()).contains("secret"));
}

#[tokio::test]
async fn no_query_is_slow_with_none_and_by_default_from_a_second() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let never = pool_with_slow_query(None).await;
    never.query_drop("DO SLEEP(1.1)").await.expect("an answer");
    assert!(slow(&listener).is_empty());
    let pool = pool_of_one().await;
    assert_eq!(pool.config().slow_query, Some(Duration::from_secs(1)));
    pool.query_drop("DO SLEEP(1.1)").await.expect("an answer");
    assert_eq!(slow(&listener).len(), 1);
}

#[tokio::test]
async fn each_statement_has_a_span_with_its_text_and_outcome() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let pool = pool_of_one().await;
    let mut conn = pool.get().await.expect("a connection");
    let spans = || {
        let mut spans = listener.spans();
        spans.retain(|span| span.what == "query");
        spans
    };
    assert!(spans().is_empty(), "the pool's own have none");
    let rows: Vec<u8> = conn
        .exec(
            "SELECT 7 FROM information_schema.SCHEMATA u WHERE ? = 'secret' LIMIT 2",
            ("secret",),
        )
        .await
        .expect("rows");
    let span = spans().pop().expect("a span");
    let flavor = format!("{:?}", Server::shared().await.flavor()).to_lowercase();
    for (field, value) in [
        (
            "db.query.text",
            "SELECT ? FROM information_schema.SCHEMATA u WHERE ? = ? LIMIT ?",
        ),
        ("db.operation.name", "SELECT"),
        ("db.collection.name", "information_schema.SCHEMATA"),
        ("db.system.name", &flavor),
        ("db.response.returned_rows", &rows.len().to_string()),
        ("server.address", "127.0.0.1"),
    ] {
        assert_eq!(span.field(field), value);
    }
    assert_eq!(span.level, Level::DEBUG);
    assert!(!span.fields.0.contains_key("error.type"), "{span:?}");

    let text = "SELECT 'secret' FROM none.none";
    drop(conn.query_drop(text).await.expect_err("1146 or 1142"));
    let span = spans().pop().expect("a span");
    assert_eq!(
        span.field("error.type"),
        span.field("db.response.status_code")
    );
    assert!(span.field("error.type").starts_with('1'), "{span:?}");
    let begun = conn.start_transaction(TxOpts::new()).await.expect("begun");
    begun.commit().await.expect("committed");
    let all = spans();
    let verbs: Vec<_> = all
        .iter()
        .map(|span| span.field("db.operation.name"))
        .collect();
    assert_eq!(verbs, ["SELECT", "SELECT", "BEGIN", "COMMIT"]);
    assert!(!format!("{all:?}").contains("secret"));
}

#[tokio::test]
async fn a_filter_may_ask_for_the_spans_by_their_name() {
    let listener = Listener::default();
    let _listening = listener.listen_to(|metadata| metadata.name() == "query");
    let pool = pool_of_one().await;
    pool.query_drop("DO 1").await.expect("an answer");
    let [span] = &listener.spans()[..] else {
        panic!("one span: {:?}", listener.spans());
    };
    assert_eq!(span.field("db.query.text"), "DO ?");
}

/// The driver's own trait does not show the text of the statement.
async fn exec_unseen(conn: &mut impl Queryable) -> mysql_async::Result<()> {
    conn.exec_drop("SELECT 'secret'", ()).await
}

#[tokio::test]
async fn a_statement_whose_text_is_not_seen_has_none() {
    let listener = Listener::default();
    let _listening = listener.listen();
    let pool = pool_of_one().await;
    let mut conn: PooledConn = pool.get().await.expect("a connection");
    exec_unseen(&mut conn).await.expect("an answer");
    let span = listener.spans().pop().expect("a span");
    assert_eq!(
        (&*span.what, span.field("db.operation.name")),
        ("query", "OTHER")
    );
    assert!(!span.fields.0.contains_key("db.query.text"), "{span:?}");
    assert_eq!(counted(&pool), 1);
}
