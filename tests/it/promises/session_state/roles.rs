//! No role that one caller takes is there for the next, however it was taken: a reset keeps it.

use mysql_warm_pool::{
    Pool, PoolConfig, PooledConn, Reset,
    mysql_async::{self, TxOpts, prelude::*},
};

use test_support::{Flavor, Server, config, warm};

const ROLE: &str = "warden";
const USER: &str = "guest";

/// A server with a role that may insert, and an account that may take it.
async fn server() -> &'static Server {
    static READY: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    let server = Server::shared().await;
    READY
        .get_or_init(async || {
            for statement in [
                "CREATE DATABASE guarded",
                "CREATE TABLE guarded.secret (a INT)",
                "CREATE ROLE warden",
                "GRANT SELECT, INSERT ON guarded.* TO warden",
                "CREATE USER guest@'%' IDENTIFIED BY 'guest'",
                "GRANT warden TO guest@'%'",
                "CREATE ROLE 'wärter'",
                "GRANT SELECT, INSERT ON guarded.* TO 'wärter'",
                "GRANT 'wärter' TO guest@'%'",
                "GRANT EXECUTE ON guarded.* TO guest@'%'",
                "CREATE DATABASE open_to_all",
                "GRANT ALL ON open_to_all.* TO guest@'%'",
                "CREATE PROCEDURE guarded.take() SQL SECURITY INVOKER SET ROLE warden",
                "CREATE FUNCTION guarded.taken() RETURNS INT NO SQL SQL SECURITY INVOKER
                 BEGIN SET ROLE warden; RETURN 1; END",
                "CREATE SQL SECURITY INVOKER VIEW open_to_all.hiding AS SELECT guarded.taken() AS a",
            ] {
                server.execute(statement).await;
            }
        })
        .await;
    server
}

async fn pool_of_one(with: impl FnOnce(PoolConfig) -> PoolConfig) -> Pool {
    let url = server().await.url_as(USER, "guest");
    let url = url.replace("/test", "/open_to_all");
    warm(with(config(&url).size(1).overflow(0))).await
}

/// Whether the next caller of a pool of one has rights that are not its account's own, and its connection.
async fn next_has_the_role(pool: &Pool) -> (bool, u32) {
    let mut next = pool.get().await.expect("a connection");
    let inserted = next.query_drop("INSERT INTO guarded.secret VALUES (1)");
    let refused = inserted.await.is_err_and(
        |error| matches!(error, mysql_async::Error::Server(error) if error.code == 1142),
    );
    (!refused, next.id())
}

/// Ways to take the role.
type Taking = (&'static str, fn(Flavor) -> bool, Take);
type Take =
    for<'a> fn(
        &'a mut PooledConn,
    ) -> std::pin::Pin<Box<dyn Future<Output = mysql_async::Result<()>> + Send + 'a>>;

macro_rules! by {
    ($what:literal, $on:expr, $conn:ident, $take:expr) => {
        ($what, $on, |$conn| Box::pin(async move { $take }))
    };
}

const ON_BOTH: fn(Flavor) -> bool = |_| true;
const ON_MARIADB: fn(Flavor) -> bool = |flavor| flavor == Flavor::MariaDb;

async fn generic(conn: &mut impl Queryable, text: &str) -> mysql_async::Result<()> {
    conn.exec_drop(text, ()).await
}

const WAYS: &[Taking] = &[
    by!(
        "text",
        ON_BOTH,
        conn,
        conn.query_drop("SET ROLE warden").await
    ),
    by!(
        "all",
        ON_MARIADB,
        conn,
        conn.query_drop("SET  /* x */ role\n'warden'").await
    ),
    by!(
        "exec",
        ON_BOTH,
        conn,
        conn.exec_drop("SET ROLE warden", ()).await
    ),
    by!("prep", ON_BOTH, conn, {
        let statement = conn.prep("SET ROLE warden").await?;
        conn.exec_drop(statement, ()).await
    }),
    by!("PREPARE", ON_BOTH, conn, {
        conn.query_drop("PREPARE s FROM 'SET ROLE warden'").await?;
        conn.query_drop("EXECUTE s").await
    }),
    by!("EXECUTE IMMEDIATE", ON_MARIADB, conn, {
        conn.query_drop("EXECUTE IMMEDIATE 'SET ROLE warden'").await
    }),
    by!("SET STATEMENT", ON_MARIADB, conn, {
        let text = "SET STATEMENT max_statement_time = 9 FOR SET ROLE warden";
        conn.query_drop(text).await
    }),
    by!("after a variable", ON_MARIADB, conn, {
        conn.query_drop("SET @a = 1, ROLE warden").await
    }),
    by!("after SET NAMES", ON_MARIADB, conn, {
        conn.query_drop("SET NAMES utf8mb4, ROLE warden").await
    }),
    by!(
        "procedure",
        ON_BOTH,
        conn,
        conn.query_drop("CALL guarded.take()").await
    ),
    by!(
        "function",
        ON_BOTH,
        conn,
        conn.query_drop("DO guarded.taken()").await
    ),
    by!("function in a query", ON_BOTH, conn, {
        let taken: Option<u8> = conn.query_first("SELECT 1 + guarded.taken()").await?;
        assert_eq!(taken, Some(2));
        Ok(())
    }),
    by!("function in SET", ON_BOTH, conn, {
        conn.query_drop("SET @a = (SELECT guarded.taken())").await
    }),
    by!(
        "several statements",
        ON_BOTH,
        conn,
        conn.query_drop("DO 1; SET ROLE warden; DO 2").await
    ),
    by!(
        "generic code",
        ON_BOTH,
        conn,
        generic(conn, "SET ROLE warden").await
    ),
    by!(
        "bare connection",
        ON_BOTH,
        conn,
        (**conn).query_drop("SET ROLE warden").await
    ),
    by!(
        "to_connection",
        ON_BOTH,
        conn,
        "SET ROLE warden".ignore(conn).await
    ),
    by!("transaction", ON_BOTH, conn, {
        let mut transaction = conn.start_transaction(TxOpts::default()).await?;
        transaction.query_drop("SET ROLE warden").await?;
        transaction.commit().await
    }),
];

#[tokio::test]
async fn a_role_never_reaches_the_next_caller() {
    let flavor = server().await.flavor();
    for reset in [Reset::WhenChanged, Reset::Always, Reset::Never] {
        for (way, is_on, take) in WAYS.iter().filter(|(_, is_on, _)| is_on(flavor)) {
            let _: &fn(Flavor) -> bool = is_on;
            let pool = pool_of_one(|config| config.reset(reset)).await;
            let mut conn = pool.get().await.expect("a connection");
            let id = conn.id();
            take(&mut conn)
                .await
                .unwrap_or_else(|error| panic!("{way}: {error}"));
            let role: Option<String> = conn
                .query_first("SELECT CURRENT_ROLE()")
                .await
                .expect("a role");
            assert!(
                role.is_some_and(|role| role.contains(ROLE)),
                "{way} takes no role"
            );
            drop(conn);
            let (has_role, next) = next_has_the_role(&pool).await;
            assert!(!has_role && next != id, "{reset:?}, by {way}");
            assert_eq!(discarded(&pool), 1, "{reset:?}, by {way}");
            pool.close().await;
        }
    }
}

fn discarded(pool: &Pool) -> u64 {
    let discarded = pool.metrics().discarded;
    let of_roles = discarded
        .iter()
        .filter(|(reason, _)| reason.name() == "role_changed");
    of_roles.map(|(_, count)| count).sum()
}

/// The names of roles are compared, and the caller chooses the charset of the answer.
#[tokio::test]
async fn a_charset_hides_no_role() {
    for charset in ["latin1", "ascii", "utf8mb4", "utf16"] {
        let pool = pool_of_one(|config| config).await;
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop("SET ROLE 'wärter'").await.expect("a role");
        let results = format!("SET character_set_results = {charset}");
        conn.query_drop(results).await.expect("a charset");
        drop(conn);
        assert!(!next_has_the_role(&pool).await.0, "{charset}");
        pool.close().await;
    }
}

/// What no text shows, `Reset::Always` finds.
#[tokio::test]
async fn a_role_taken_in_a_view_is_found_where_every_return_resets() {
    let pool = pool_of_one(|config| config.reset(Reset::Always)).await;
    let mut conn = pool.get().await.expect("a connection");
    let taken: Option<u8> = conn
        .query_first("SELECT a FROM hiding")
        .await
        .expect("a row");
    assert_eq!(taken, Some(1));
    drop(conn);
    assert!(!next_has_the_role(&pool).await.0);
    assert_eq!(discarded(&pool), 1);
    pool.close().await;
}

/// A connection whose role did not change is kept, whatever was sent.
#[tokio::test]
async fn a_role_that_was_not_taken_costs_no_connection() {
    let pool = pool_of_one(|config| config).await;
    let id = pool.get().await.expect("a connection").id();
    for text in [
        "SET ROLE NONE",
        "SET ROLE warden; SET ROLE NONE",
        "SET @a = 1",
        "PREPARE s FROM 'DO 1'",
    ] {
        let mut conn = pool.get().await.expect("a connection");
        conn.query_drop(text).await.expect(text);
        drop(conn);
        assert_eq!(pool.get().await.expect("a connection").id(), id, "{text}");
    }
    pool.close().await;
}

/// The role that `init` takes is every caller's; one that a caller takes instead is nobody else's.
#[tokio::test]
async fn a_role_taken_by_init_is_kept() {
    let pool = pool_of_one(|config| config.init(["SET ROLE warden"])).await;
    let (has_role, id) = next_has_the_role(&pool).await;
    assert!(has_role);
    let mut conn = pool.get().await.expect("a connection");
    assert_eq!(conn.id(), id);
    conn.query_drop("SET ROLE warden; DO 1")
        .await
        .expect("the same role");
    drop(conn);
    assert_eq!(next_has_the_role(&pool).await, (true, id));
    let mut conn = pool.get().await.expect("a connection");
    conn.query_drop("SET ROLE NONE").await.expect("no role");
    drop(conn);
    let (has_role, next) = next_has_the_role(&pool).await;
    assert!(has_role && next != id);
    pool.close().await;
}
