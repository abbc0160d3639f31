//! An undo leaves a session as new, as far as anything that the server lists of it shows.

use mysql_warm_pool::{Pool, PoolConfig, mysql_async::OptsBuilder};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use test_support::{Seed, warm};
use tokio::runtime::Builder;

use super::{
    database::{Database, SETTINGS},
    effect::changes::{SHAPING, VARIABLES},
    fingerprint::{Changes, Fingerprint},
    grammar, runner,
};

/// A pool of one connection, and its session at the beginning.
struct One<'a> {
    database: &'a Database,
    pool: Pool,
    new: Fingerprint,
}

impl<'a> One<'a> {
    async fn make(database: &'a Database) -> Self {
        let opts = OptsBuilder::from_opts(database.opts.clone());
        let opts = opts.db_name(Some(database.name.clone()));
        let config = PoolConfig::from_opts(opts)
            .size(1)
            .overflow(0)
            .init([SETTINGS]);
        let pool = warm(config).await;
        let mut conn = pool.get().await.expect("a connection");
        let new = Fingerprint::through_pool(&mut conn, &database.listing).await;
        drop(conn);
        Self {
            database,
            pool,
            new: new.expect("a session at its beginning"),
        }
    }

    /// Sends these statements, which the server may refuse, and returns what the next caller finds
    /// changed.
    async fn left_by(&self, statements: &[String]) -> Changes {
        let mut conn = self.pool.get().await.expect("a connection");
        for statement in statements {
            conn.query_drop(statement).await.ok();
        }
        drop(conn);
        let mut conn = self.pool.get().await.expect("a connection");
        let found = Fingerprint::through_pool(&mut conn, &self.database.listing).await;
        Changes::between(&self.new, Some(&found.expect("a session that works")))
    }

    fn cleanings(&self, wanted: &str) -> u64 {
        let all = self.pool.metrics().cleanings.into_iter();
        let of_kind = all.filter(|(kind, _)| *kind == wanted);
        of_kind.map(|(_, count)| count).sum()
    }
}

/// For any variable, the server accepts one of them that is not the global value.
const VALUES: [&str; 13] = [
    "0",
    "1",
    "2",
    "9",
    "77",
    "9999",
    "100000",
    "2097152",
    "'ANSI'",
    "'+05:00'",
    "'de_DE'",
    "'index_merge=off'",
    "0.5",
];

#[tokio::test]
async fn every_listed_variable_is_undone_to_the_last_trace() {
    let database = Database::make("undone").await;
    let one = One::make(&database).await;
    let mut unknown = Vec::new();
    for name in VARIABLES.iter().chain(SHAPING) {
        let mut is_changed = false;
        for value in VALUES {
            let mut conn = one.pool.get().await.expect("a connection");
            let before: Option<String> = conn
                .query_first(format!("SELECT CONCAT(@@session.{name})"))
                .await
                .unwrap_or_default();
            let Some(before) = before else { break };
            conn.query_drop(format!("SET {name} = {value}")).await.ok();
            let after: Option<String> = conn
                .query_first(format!("SELECT CONCAT(@@session.{name})"))
                .await
                .unwrap_or_default();
            drop(conn);
            let left = one.left_by(&[]).await;
            assert!(!left.any(), "{name} = {value}: {left:#?}");
            is_changed |= after.is_some_and(|after| after != before);
        }
        if !is_changed {
            unknown.push(name);
        }
    }
    // Only MariaDB or only MySQL has some of them.
    assert!(unknown.len() <= 6, "{unknown:?}");
    assert_eq!(one.cleanings("reset"), 0);
    one.pool.close().await;
    database.drop().await;
}

#[tokio::test]
async fn every_kind_of_change_is_undone_to_the_last_trace() {
    let database = Database::make("undo_kinds").await;
    let one = One::make(&database).await;
    let texts: [&[&str]; 14] = [
        &["SET @a = 1, @`b c` = 'x'; SELECT @d := 5 INTO @e"],
        &["SET NAMES latin1 COLLATE latin1_bin"],
        &[
            "SET CHARACTER SET latin1",
            "SET collation_connection = utf8mb4_bin",
        ],
        &["SET character_set_results = NULL, character_set_connection = latin1"],
        &["SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY"],
        &[
            "SET TRANSACTION READ ONLY",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        ],
        &["SET autocommit = 0", "SELECT COUNT(*) FROM item"],
        &["BEGIN", "DELETE FROM orders", "SET @a = 1, autocommit = 1"],
        &[
            "SELECT GET_LOCK('one', 0), GET_LOCK('one', 0), GET_LOCK('two', 0)",
            "DO RELEASE_LOCK('two')",
        ],
        &[
            "CREATE TEMPORARY TABLE bystander (b INT)",
            "INSERT INTO bystander VALUES (1)",
        ],
        &["CREATE TEMPORARY TABLE IF NOT EXISTS temporary_one ENGINE=MyISAM SELECT 1 AS b"],
        &[
            "BEGIN",
            "CREATE TEMPORARY TABLE more LIKE item",
            "INSERT INTO more (id) VALUES (1)",
        ],
        &[
            "CREATE TEMPORARY TABLE gone (a INT)",
            "DROP TEMPORARY TABLE gone",
        ],
        &[
            "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE'; SET @\"a b\" = 1",
        ],
    ];
    for texts in texts {
        let statements: Vec<_> = texts.iter().map(ToString::to_string).collect();
        let left = one.left_by(&statements).await;
        assert!(!left.any(), "{texts:?}: {left:#?}");
    }
    assert_eq!(
        (
            one.cleanings("undo"),
            one.cleanings("reset"),
            one.pool.metrics().opened
        ),
        (14, 0, 1)
    );
    one.pool.close().await;
    database.drop().await;
}

const SETS: &[&str] = &[
    "SET @a = 1",
    "SET @A := @b, @`c d` = CONCAT(@a, ',')",
    "SET time_zone = '+05:00', @a = (SELECT MAX(id) FROM item)",
    "SET SESSION sql_mode = 'ANSI_QUOTES', @@local.wait_timeout = 9",
    "SET NAMES latin1, @a = 1",
    "SET TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
    "SET autocommit = 0",
    "SET GLOBAL long_query_time = 10, @a = 1",
    "SET @a = LAST_INSERT_ID(7)",
    "SET @a = traced(1)",
    "SET timestamp = 7",
    "CREATE TEMPORARY TABLE bystander (b INT)",
    "CREATE TEMPORARY TABLE temporary_one SELECT GET_LOCK('held', 0) AS a",
    "DROP TEMPORARY TABLE IF EXISTS temporary_one",
    "BEGIN",
    "COMMIT",
    "PREPARE s FROM 'SET @a = 1'",
    "EXECUTE s",
    "LOCK TABLES item READ",
];

/// One caller sends one to three statements: of those above, or neutral ones in which a fragment
/// that changes the session is planted anywhere.
#[test]
fn no_random_change_is_left_behind() {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let database = runtime.block_on(Database::make("undo_random"));
    let one = runtime.block_on(One::make(&database));
    let set = select(SETS).prop_map(str::to_owned);
    let planted = (
        grammar::neutral_statement(Some(database.flavor)),
        any::<Index>(),
        grammar::changing(),
    );
    let planted = planted.prop_map(|(mut sql, at, changing)| {
        sql.plant(at, changing);
        sql.text()
    });
    let statement = prop_oneof![2 => set.boxed(), 1 => planted.boxed()];
    let case = proptest::collection::vec(statement, 1..=3);
    let outcome = runner(&mut Seed::new(), 1).run(&case, |statements| {
        let left = runtime.block_on(one.left_by(&statements));
        prop_assert!(!left.any(), "{:?}: {:#?}", statements, left);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    assert!(one.cleanings("undo") > 20 && one.cleanings("reset") > 20);
    runtime.block_on(async {
        one.pool.close().await;
        database.drop().await;
    });
}
