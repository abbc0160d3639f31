//! A row that does not convert to what its caller asked for is an error, and costs nothing else.

use futures_util::TryStreamExt;
use mysql_warm_pool::{
    Error, Executor, PooledConn,
    mysql_async::{self, TxOpts, prelude::*},
};
use test_support::{Server, config, warm};

/// Three rows, of which the second has a `NULL`.
const ROWS: &str = "SELECT i, IF(i = 2, NULL, 'secret') AS name FROM \
                    (SELECT 1 AS i UNION ALL SELECT 2 UNION ALL SELECT 3) AS numbers ORDER BY i";

/// One row, of text.
const TEXT: &str = "SELECT 'secret' AS name";

type Pair = (u32, String);

/// Checks that it is the error of a row that does not convert, and returns its text.
fn text_of<T>(outcome: Result<T, impl Into<Error>>) -> String {
    match outcome.map(drop).map_err(Into::into) {
        Err(error @ Error::Conversion { .. }) => {
            assert!(!error.is_transient());
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// Every method of an `Executor` that converts rows.
async fn convert_in_vain(db: &mut impl Executor) {
    let mut texts = vec![
        text_of(db.query::<Pair, _>(ROWS).await),
        text_of(db.exec::<Pair, _, _>(ROWS, ()).await),
    ];
    let mut seen = Vec::new();
    texts.push(text_of(
        db.query_map(ROWS, |(i, _): Pair| seen.push(i)).await,
    ));
    texts.push(text_of(
        db.exec_map(ROWS, (), |(i, _): Pair| seen.push(i)).await,
    ));
    let add = |sum: u32, (i, _): Pair| sum + i;
    texts.push(text_of(db.query_fold(ROWS, 0, add).await));
    texts.push(text_of(db.exec_fold(ROWS, (), 0, add).await));
    for text in texts {
        assert!(text.contains("a row (2: NULL, 1: "), "{text}");
        assert!(text.contains("(u32, alloc::string::String)"), "{text}");
    }
    assert_eq!(seen, [1, 1], "rows after the one that does not convert");
    text_of(db.query_first::<u32, _>(TEXT).await);
    text_of(db.exec_first::<u32, _, _>(TEXT, ()).await);
    // A row of another length.
    text_of(db.query_first::<(String, String), _>(TEXT).await);
    // A name of a column that is the text of an expression.
    text_of(db.query_first::<u32, _>("SELECT SHA2('secret', 256)").await);
    text_of(db.query_first::<u32, _>("SELECT 'secret'").await);
    text_of(
        db.query_first::<u32, _>("SELECT * FROM (SELECT 'secret') AS derived")
            .await,
    );
}

#[tokio::test]
async fn the_error_names_columns_of_tables() {
    let server = Server::start().await;
    server
        .execute("CREATE TABLE test.item (id BIGINT PRIMARY KEY, name VARCHAR(20))")
        .await;
    server
        .execute("INSERT INTO test.item VALUES (7, NULL)")
        .await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let select = "SELECT id, name AS other, name IS NULL FROM item";
    let row = pool.exec_first::<(u32, String, u8), _, _>(select, ()).await;
    let text = text_of(row);
    assert!(text.contains("2: name NULL, 1: id LONGLONG, 3: "), "{text}");
}

async fn works(conn: &mut PooledConn, id: u32) {
    let now: Option<u32> = conn.query_first("SELECT CONNECTION_ID()").await.unwrap();
    assert_eq!(now, Some(id));
}

#[tokio::test]
async fn a_row_that_does_not_convert_is_an_error_and_no_panic() {
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    convert_in_vain(&mut &pool).await;
    let mut conn = pool.get().await.unwrap();
    let id = conn.query_first("SELECT CONNECTION_ID()").await.unwrap();
    let id: u32 = Option::unwrap(id);
    convert_in_vain(&mut conn).await;
    works(&mut conn, id).await;
    drop(conn);

    let mut transaction = pool.begin().await.unwrap();
    convert_in_vain(&mut transaction).await;
    let mut savepoint = transaction.savepoint().await.unwrap();
    convert_in_vain(&mut savepoint).await;
    savepoint.release().await.unwrap();
    transaction.commit().await.unwrap();

    let mut conn = pool.get().await.unwrap();
    works(&mut conn, id).await;
    let metrics = pool.metrics();
    assert_eq!(metrics.cleaned, 0, "returns that had to be cleaned");
    drop(conn);
    pool.close().await;
}

#[tokio::test]
async fn a_row_that_does_not_convert_ends_no_stream() {
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut conn = pool.get().await.unwrap();
    let mut rows = conn.exec_stream::<Pair, _, _>(ROWS, ()).await.unwrap();
    assert_eq!(rows.columns_ref().len(), 2);
    assert_eq!(rows.try_next().await.unwrap().map(|(i, _)| i), Some(1));
    text_of(rows.try_next().await);
    assert_eq!(rows.try_next().await.unwrap().map(|(i, _)| i), Some(3));
    assert!(rows.try_next().await.unwrap().is_none());
    drop(rows);
    let mut rows = conn.query_stream::<Pair, _>(ROWS).await.unwrap();
    assert_eq!(rows.try_next().await.unwrap().map(|(i, _)| i), Some(1));
    text_of(rows.try_next().await);
    // The third row is left to the next statement.
    drop(rows);
    let seven: Option<u32> = conn.query_first("SELECT 7").await.unwrap();
    assert_eq!(seven, Some(7));
}

/// The driver's trait, and code generic over it.
#[tokio::test]
async fn a_row_that_does_not_convert_is_an_error_in_generic_code() {
    async fn convert(db: &mut impl Queryable) {
        text_of(db.query::<Pair, _>(ROWS).await);
        text_of(db.query_first::<u32, _>(TEXT).await);
        text_of(db.query_map(ROWS, |pair: Pair| pair).await);
        text_of(db.query_fold(ROWS, 0, |sum, (i, _): Pair| sum + i).await);
        text_of(db.exec::<Pair, _, _>(ROWS, ()).await);
        text_of(db.exec_first::<u32, _, _>(TEXT, ()).await);
        text_of(db.exec_map(ROWS, (), |pair: Pair| pair).await);
        text_of(db.exec_fold(ROWS, (), 0, |sum, (i, _): Pair| sum + i).await);
    }
    let server = Server::start().await;
    let pool = warm(config(&server.url()).size(1).overflow(0)).await;
    let mut conn = pool.get().await.unwrap();
    convert(&mut conn).await;
    let mut transaction = conn.start_transaction(TxOpts::default()).await.unwrap();
    convert(&mut transaction).await;
    transaction.commit().await.unwrap();
    let error = conn.query_first::<u32, _>(TEXT).await.unwrap_err();
    assert!(matches!(error, mysql_async::Error::Other(_)), "{error}");
}
