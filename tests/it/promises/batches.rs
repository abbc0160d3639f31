//! `exec_batch` takes rows of any types, in order, and loses none.

use mysql_warm_pool::{
    Pool, PoolConfig, PooledConn,
    mysql_async::{self, OptsBuilder, TxOpts, Value, prelude::*},
};
use test_support::{Server, config, warm};

async fn pool_of_one(server: &Server) -> Pool {
    warm(config(&server.url()).size(1).overflow(0)).await
}

/// A server with a table that shows the order of its rows.
async fn server_with_table(column: &str) -> Server {
    let server = Server::start().await;
    let create = format!("CREATE TABLE test.entry (n INT AUTO_INCREMENT PRIMARY KEY, a {column})");
    server.execute(&create).await;
    server
}

const ADD: &str = "INSERT INTO entry (a) VALUES (?)";

async fn found(conn: &mut PooledConn) -> Vec<Option<String>> {
    let found = conn
        .query("SELECT CAST(a AS CHAR) FROM entry ORDER BY n")
        .await;
    found.expect("the rows")
}

fn texts(texts: &[&str]) -> Vec<Option<String>> {
    let text = |text: &&str| (*text != "NULL").then(|| (*text).to_owned());
    texts.iter().map(text).collect()
}

#[tokio::test]
async fn rows_of_different_types_fit_into_one_batch() {
    let server = server_with_table("VARCHAR(50)").await;
    let pool = pool_of_one(&server).await;
    let mut conn = pool.get().await.expect("a connection");
    let rows = [
        Value::Int(1),
        Value::from("a"),
        Value::NULL,
        Value::Double(1.5),
        Value::NULL,
        Value::NULL,
        Value::Int(-2),
        Value::UInt(u64::MAX),
        Value::Int(i64::MIN),
        Value::Date(2026, 11, 28, 5, 6, 7, 0),
        Value::from("b"),
        // MySQL would read a `Value::Float` after it as a time.
        Value::Time(true, 0, 1, 2, 3, 0),
    ];
    let expected = texts(&[
        "1",
        "a",
        "NULL",
        "1.5",
        "NULL",
        "NULL",
        "-2",
        "18446744073709551615",
        "-9223372036854775808",
        "2026-11-28 05:06:07",
        "b",
        "-01:02:03",
    ]);
    let positional = rows.iter().map(|value| (value.clone(),));
    conn.exec_batch(ADD, positional).await.expect("added");
    assert_eq!(found(&mut conn).await, expected);
    conn.query_drop("DELETE FROM entry").await.expect("deleted");
    let named = rows.iter().map(|value| params! { "a" => value.clone() });
    let mut transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    transaction
        .exec_batch("INSERT INTO entry (a) VALUES (:a)", named)
        .await
        .expect("added");
    transaction.commit().await.expect("committed");
    assert_eq!(found(&mut conn).await, expected);
    assert_eq!(pool.metrics().opened, 1);
}

#[tokio::test]
async fn every_mixture_of_types_arrives_as_it_was_sent() {
    let server = Server::start().await;
    let values = || {
        [
            Value::NULL,
            Value::Int(-1),
            Value::UInt(u64::MAX),
            Value::from("text"),
            Value::Double(2.5),
        ]
        .into_iter()
    };
    server
        .execute(
            "CREATE TABLE test.pair \
             (n INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(30), b VARCHAR(30))",
        )
        .await;
    let pool = pool_of_one(&server).await;
    let mut conn = pool.get().await.expect("a connection");
    // Each pair of rows of two values occurs.
    let rows: Vec<_> = values()
        .flat_map(|a| values().map(move |b| (a.clone(), b)))
        .collect();
    let mut sent = Vec::new();
    for one in &rows {
        for other in &rows {
            sent.push(one.clone());
            sent.push(other.clone());
        }
    }
    conn.exec_batch("INSERT INTO pair (a, b) VALUES (?, ?)", sent.clone())
        .await
        .expect("added");
    let found: Vec<(Option<String>, Option<String>)> = conn
        .query("SELECT a, b FROM pair ORDER BY n")
        .await
        .expect("the rows");
    let text = |value: Value| match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8(bytes).expect("text")),
        other => Some(other.as_sql(true)),
    };
    let expected: Vec<_> = sent.into_iter().map(|(a, b)| (text(a), text(b))).collect();
    assert!(found == expected, "{} of {}", found.len(), expected.len());
}

#[tokio::test]
async fn a_batch_may_be_larger_than_a_packet() {
    for (max_packet, size) in [(1 << 20, 100_000), (16 << 20, 1_000_000)] {
        let server = server_with_table("LONGTEXT").await;
        server
            .execute(&format!("SET GLOBAL max_allowed_packet = {max_packet}"))
            .await;
        let pool = pool_of_one(&server).await;
        // The first connection learns the limit, the others know it.
        for known in [false, true] {
            if known {
                pool.refresh();
            }
            let mut conn = pool.get().await.expect("a connection");
            let count = 3 * max_packet / size;
            let rows = (0..count).map(|n| {
                let text = "x".repeat(size - n % 7);
                // The type shows late, in another packet.
                (if n % 11 == 3 || n < count / 2 {
                    None
                } else {
                    Some(text)
                },)
            });
            conn.exec_batch(ADD, rows).await.expect("added");
            let lengths: Vec<Option<usize>> = conn
                .query("SELECT LENGTH(a) FROM entry ORDER BY n")
                .await
                .expect("the rows");
            let expected: Vec<_> = (0..count)
                .map(|n| (n % 11 != 3 && n >= count / 2).then(|| size - n % 7))
                .collect();
            assert_eq!(lengths, expected, "{known}, {max_packet}");
            conn.query_drop("DELETE FROM entry").await.expect("deleted");
        }
    }
}

#[tokio::test]
async fn a_huge_batch_is_not_collected() {
    let server = server_with_table("INT").await;
    let pool = pool_of_one(&server).await;
    let mut conn = pool.get().await.expect("a connection");
    let rows = (0..100_000_u32).map(|n| (if n % 5 == 0 { None } else { Some(n) },));
    let mut transaction = conn
        .start_transaction(TxOpts::default())
        .await
        .expect("begun");
    transaction.exec_batch(ADD, rows).await.expect("added");
    let sums: Option<(u32, u32, u64)> = transaction
        .query_first("SELECT COUNT(*), COUNT(a), CAST(SUM(a) AS UNSIGNED) FROM entry")
        .await
        .expect("a row");
    let sum = (0..100_000_u64).filter(|n| n % 5 != 0).sum();
    assert_eq!(sums, Some((100_000, 80_000, sum)));
    transaction.rollback().await.expect("rolled back");
}

#[tokio::test]
async fn a_wrong_number_of_parameters_ends_a_batch_before_that_row() {
    let server = server_with_table("VARCHAR(20)").await;
    let pool = pool_of_one(&server).await;
    for (wrong, added) in [(0, 0), (1, 1), (3, 3)] {
        let mut conn = pool.get().await.expect("a connection");
        let mut rows = vec![vec![Value::from("a")]; 5];
        rows[wrong] = vec![Value::from("b"), Value::from("c")];
        let error = conn.exec_batch(ADD, rows).await.expect_err("two values");
        assert!(
            matches!(&error, mysql_async::Error::Driver(_)),
            "{wrong}: {error}"
        );
        assert_eq!(found(&mut conn).await, texts(&vec!["a"; added]));
        conn.query_drop("DELETE FROM entry").await.expect("usable");
    }
    let mut conn = pool.get().await.expect("a connection");
    let rows = [params! { "a" => 1 }, params! { "b" => 2 }];
    let add = "INSERT INTO entry (a) VALUES (:a)";
    conn.exec_batch(add, rows).await.expect_err("no `a`");
}

#[tokio::test]
async fn a_batch_of_no_rows_or_no_parameters_works() {
    let server = server_with_table("VARCHAR(20)").await;
    let pool = pool_of_one(&server).await;
    let mut conn = pool.get().await.expect("a connection");
    conn.exec_batch(ADD, Vec::<(u8,)>::new())
        .await
        .expect("nothing to do");
    conn.exec_batch("INSERT INTO entry (a) VALUES ('x')", vec![(); 3])
        .await
        .expect("three rows");
    let statement = conn.prep(ADD).await.expect("prepared");
    conn.exec_batch(&statement, [("y",), ("z",)])
        .await
        .expect("added");
    conn.exec_batch(
        "UPDATE entry SET a = ? WHERE a = ?",
        [("b", "z"), ("c", "b")],
    )
    .await
    .expect("in order");
    assert_eq!(found(&mut conn).await, texts(&["x", "x", "x", "y", "c"]));
}

#[tokio::test]
async fn a_batch_fails_as_the_server_says() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.entry (a INT PRIMARY KEY)")
        .await;
    let settings = config(&server.url());
    // The limit is not known: runs are short.
    let opts = OptsBuilder::from_opts(settings.opts().clone());
    let pool = warm(PoolConfig::from_opts(opts).size(1).overflow(0)).await;
    let mut conn = pool.get().await.expect("a connection");
    let rows = [1, 2, 3, 2, 4].map(|n| (n,));
    let error = conn
        .exec_batch("INSERT INTO entry VALUES (?)", rows)
        .await
        .expect_err("a duplicate");
    assert!(error.to_string().contains("1062"), "{error}");
    conn.query_drop("DO 1").await.expect("usable");
}
