//! Tests: which effect each kind of statement has.

use proptest::prelude::*;

use super::{
    changes::{Change, Changes, changes_of_settings},
    *,
};

fn all_are(effect: Effect, statements: &[&str]) {
    for statement in statements {
        assert_eq!(effect_of(statement.as_bytes()), effect, "{statement}");
    }
}

#[test]
fn queries_and_changes_of_rows_are_neutral() {
    all_are(Effect::NEUTRAL, NEUTRAL);
}

#[test]
fn state_that_only_a_reset_restores_changes_the_session() {
    all_are(Effect::SESSION, SESSION);
    all_are(
        Effect::SESSION_AND_TRANSACTION,
        &[
            "SET NAMES utf8mb4",
            "set autocommit = 0",
            "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET SESSION sql_mode = ''",
            "SET @@session.sql_mode := ''",
            "SET @x = 1, @y = 2",
            "SET `sql_mode` = ''",
            "LOCK TABLES t READ",
            "UNLOCK TABLES",
            "PREPARE s FROM 'SELECT 1'",
            "DEALLOCATE PREPARE s",
            "HANDLER t OPEN",
            "CREATE TEMPORARY TABLE t (id INT)",
            "DROP TEMPORARY TABLE t",
            "DROP TABLE t",
            "ALTER TABLE t ADD COLUMN a INT",
        ],
    );
}

#[test]
fn use_changes_the_database_only() {
    all_are(Effect::DATABASE, &["USE shop", "use `shop`;"]);
}

#[test]
fn transaction_control_changes_only_the_transaction() {
    all_are(
        Effect::TRANSACTION,
        &[
            "BEGIN",
            "begin work;",
            "/* app */ BEGIN -- now",
            "START TRANSACTION",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE",
            "COMMIT",
            "COMMIT AND CHAIN",
            "ROLLBACK",
            "ROLLBACK WORK TO SAVEPOINT a",
            "SAVEPOINT a",
            "RELEASE SAVEPOINT a",
            "BEGIN; UPDATE t SET a = 1; COMMIT",
        ],
    );
}

#[test]
fn unknown_statements_may_change_anything() {
    all_are(Effect::UNKNOWN, UNKNOWN);
}

#[test]
fn what_outlasts_a_reset_is_unresettable() {
    for statement in [
        "XA START 'x'",
        "xa begin 'x'",
        " /* app */ XA/**/START 'x'",
        "SELECT 1; XA START 'x'",
        "SELECT unknown(1); XA END 'x'",
        "PREPARE s FROM 'XA START ''x'''",
        "EXECUTE IMMEDIATE \"XA PREPARE 'x'\"",
        "BEGIN NOT ATOMIC XA START 'x'; END",
        "SET RESOURCE GROUP r",
        "set resource  group r for 5",
        "PREPARE s FROM 'SET RESOURCE GROUP r'",
        "SET profiling = 1",
        "SET @@session.profiling=ON",
        "SET STATEMENT profiling = 1 FOR SELECT 1",
        "SET @a = 1, `profiling` = 1",
        "SET optimizer_trace='enabled=on'",
        "SET @@OPTIMIZER_TRACE_LIMIT = 5",
        "UPDATE performance_schema.threads SET INSTRUMENTED = 'NO'",
        "update `performance_schema` . threads set HISTORY = 'NO'",
    ] {
        assert!(effect_of(statement.as_bytes()).unresettable, "{statement}");
    }
    for statement in [
        "SET @xa = 1",
        "SET @a = (SELECT t.xa FROM t)",
        "SET @resource = 1",
        "CREATE INDEX i ON resource (a)",
        "SET profile = 1",
        "SET optimizer_switch = ''",
        "SELECT 'XA START', profiling, optimizer_trace FROM resource GROUP BY a",
        "SELECT * FROM performance_schema.threads",
        "SHOW PROFILES",
    ] {
        assert!(!effect_of(statement.as_bytes()).unresettable, "{statement}");
    }
}

/// What a text changes, in short; `None` if that is not known.
fn changes(texts: &[&str]) -> Option<String> {
    let mut changes = Changes::default();
    for text in texts {
        changes.record(text.as_bytes());
    }
    let all = changes.all()?;
    let short = all.iter().map(|change| match change {
        Change::UserVariable(name) => format!("@{name}"),
        Change::Variable(name) => (*name).to_owned(),
        Change::TemporaryTable { name, .. } => name.to_string(),
        Change::IsolationLevel | Change::ReadOnly | Change::Charset | Change::Locks => {
            format!("{change:?}")
        }
    });
    Some(short.collect::<Vec<_>>().join(" "))
}

#[test]
fn changes_are_named_where_they_are_certain() {
    for (text, expected) in [
        ("SET @a = 1", "@a"),
        ("set @A := 1, @`b c`=2,@'d'=3,@\"e\"=4", "@a @b c @d @e"),
        ("SET @a.b$c = 1", "@a.b$c"),
        ("SELECT @a := @b + 1 INTO @c", "@a @b @c"),
        ("SELECT 1 INTO OUTFILE 'x'", ""),
        ("INSERT INTO t VALUES (@a := 1)", "@a"),
        (
            "SET SESSION Time_Zone = '+00:00', @@local.sql_mode = ''",
            "time_zone sql_mode",
        ),
        (
            "SET @@wait_timeout = 1, `lock_wait_timeout` = (1), autocommit = 0",
            "wait_timeout lock_wait_timeout autocommit",
        ),
        (
            "SET @a = (SELECT CONCAT('a', ',', 'b')), sql_mode = ''",
            "@a sql_mode",
        ),
        (
            "SET NAMES utf8mb4 COLLATE utf8mb4_bin, @a = 1",
            "@a Charset",
        ),
        ("SET CHARACTER SET latin1", "Charset"),
        ("SET character_set_client = latin1", "Charset"),
        (
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            "IsolationLevel ReadOnly",
        ),
        (
            "SET LOCAL TRANSACTION READ WRITE",
            "IsolationLevel ReadOnly",
        ),
        (
            "SET tx_isolation = 'SERIALIZABLE', @@session.transaction_read_only = 1",
            "IsolationLevel ReadOnly",
        ),
        ("SELECT GET_LOCK('a', 1), RELEASE_LOCK(@b)", "Locks @b"),
        ("CREATE TEMPORARY TABLE t (a ENUM('b'))", "`t`"),
        (
            "CREATE TEMPORARY TABLE IF NOT EXISTS `a b`.t SELECT @c := 1",
            "@c `a b`.`t`",
        ),
        ("DROP TEMPORARY TABLE t", ""),
        ("SET @a = 1; SELECT 1; SET @b = 2;", "@a @b"),
        ("/* app */ SET @a = 1 -- end", "@a"),
    ] {
        assert_eq!(changes(&[text]).as_deref(), Some(expected), "{text}");
    }
    assert_eq!(
        changes(&["SET @a = 1", "SELECT @A := 2"]).as_deref(),
        Some("@a")
    );
}

#[test]
fn changes_that_are_not_certain_are_not_named() {
    for text in [
        "SET @a = stored(1)",
        "SET @a = LAST_INSERT_ID(1)",
        "SET @`a``b` = 1",
        "SET @'a''b' = 1",
        "SET @'a\\nb' = 1",
        "SET @ a = 1",
        "SET @ä = 1",
        "SET timestamp = 1",
        "SET @a = 1, insert_id = 5",
        "SET GLOBAL sql_mode = ''",
        "SET @@global.sql_mode = ''",
        "SET PERSIST sql_mode = ''",
        "SET names = 1",
        "SET character_set_database = latin1",
        "SET cache.key_buffer_size = 1",
        "SET STATEMENT max_statement_time = 1 FOR SET @a = 1",
        "SET ROLE r, @a = 1",
        "SET PASSWORD = 'x'",
        "SELECT SQL_CALC_FOUND_ROWS 1, @a",
        "SELECT NEXTVAL(s)",
        "SELECT * FROM sys.processlist",
        "PREPARE s FROM 'SET @a = 1'",
        "LOCK TABLES t READ",
        "CREATE TABLE t (a INT)",
        "CREATE TEMPORARY SEQUENCE s",
        "CREATE OR REPLACE TEMPORARY TABLE t (a INT)",
        "CREATE TEMPORARY TABLE `a``b` (a INT)",
        "ALTER TABLE t RENAME TO u",
        "DROP TABLE t",
        "CALL p()",
        "/*! SET @a = 1 */",
        "SET @a = 'it\\'s'",
        "SET @a = 1; CALL p()",
        "SET @a=1,@b=1,@c=1,@d=1,@e=1,@f=1,@g=1,@h=1,@i=1",
    ] {
        assert_eq!(changes(&["SET @before = 1", text]), None, "{text}");
    }
}

#[test]
fn a_prepared_statement_may_keep_what_it_reads() {
    let known = |text: &str| {
        let mut changes = Changes::default();
        changes.record_prepared(text.as_bytes());
        changes.all().is_some()
    };
    for text in [
        "SET @a = ?, @b = ?",
        "SET time_zone = ?",
        "DO GET_LOCK(?, 1)",
    ] {
        assert!(known(text), "{text}");
    }
    for text in [
        "SET @a = @b",
        "SELECT @a",
        "SELECT ? INTO @a",
        "CREATE TEMPORARY TABLE t (a INT)",
    ] {
        assert!(!known(text), "{text}");
    }
}

#[test]
fn settings_can_be_joined_with_others() {
    for text in [
        "SET @a = 1",
        "SET NAMES utf8mb4; ",
        "SET sql_mode = '' -- none",
    ] {
        assert!(changes_of_settings(text.as_bytes()).is_some(), "{text}");
    }
    for text in [
        "",
        ";",
        "-- none",
        "SELECT @a := 1",
        "SET @a = 1; -- one",
        "SET @a = 1;;",
        "SET @a = 1 /* open",
        "SET @a = stored()",
    ] {
        assert!(changes_of_settings(text.as_bytes()).is_none(), "{text}");
    }
}

#[test]
fn stored_functions_may_take_a_role() {
    all_are(Effect::STORED_FUNCTION, STORED);
    let also_in_a_transaction = Effect::STORED_FUNCTION.union(Effect::TRANSACTION);
    all_are(
        also_in_a_transaction,
        &[
            "SET @a = stored(1)",
            "SET @a = 1, b = (SELECT stored(1))",
            "HANDLER t READ FIRST WHERE stored(1)",
            "PREPARE s FROM stored(1)",
            "ALTER TABLE t ADD COLUMN a INT DEFAULT (stored(1))",
            "CREATE TABLE t SELECT stored(1)",
            "CREATE TABLE t (a INT) AS SELECT stored(1)",
            "CREATE TABLE t (SELECT stored(1))",
            "CREATE TABLE t (a ENUM('b')) WITH c AS (SELECT stored(1)) SELECT * FROM c",
            "CREATE TABLE t VALUES (stored(1))",
            "CREATE TABLE t AS VALUES ROW(stored(1))",
            "CREATE TABLE t TABLE u ORDER BY stored(1)",
            "CREATE TEMPORARY TABLE t (a INT) TABLE u ORDER BY stored(1)",
        ],
    );
}

#[test]
fn settings_other_than_variables_may_take_a_role() {
    all_are(
        Effect::UNKNOWN,
        &[
            "SET ROLE r",
            "SET @a = 1, ROLE r",
            "SET @a = (1), ROLE r",
            "SET NAMES utf8mb4, ROLE r",
            "SET CHARACTER SET utf8mb4, ROLE r",
            "SET PASSWORD = 'x', ROLE r",
            "SET GLOBAL transaction.key_buffer_size = 1, ROLE r",
            "SET SESSION AUTHORIZATION root@localhost",
            "SET @a = 1, SESSION AUTHORIZATION root@localhost",
            "SET STATEMENT max_statement_time = 1 FOR SET ROLE r",
            "SET DEFAULT ROLE r",
        ],
    );
    for statement in [
        "SET role = 1",
        "SET GLOBAL role.key_buffer_size = 1",
        "SET TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
        "SET @a = CONCAT('a', 'ROLE r'), @b = 1",
    ] {
        assert!(!effect_of(statement.as_bytes()).role, "{statement}");
    }
}

#[test]
fn the_definition_of_a_new_table_takes_no_role() {
    all_are(
        Effect::SESSION_AND_TRANSACTION,
        &[
            "CREATE TEMPORARY TABLE t (a ENUM('a', 'b'), `b` SET('c'), c GEOMETRY, d BLOB(9))",
            "CREATE TEMPORARY TABLE IF NOT EXISTS t (a INT, KEY k (a), UNIQUE `u` (a), CHECK (a))",
            "CREATE TABLE t (a INT REFERENCES u (id), b INT AS (any_value(a))) COMMENT = 'x'",
            "CREATE TABLE t (a DATE) PARTITION BY HASH (TO_DAYS(a)) PARTITIONS 4",
            "CREATE TEMPORARY TABLE t (a ENUM('a')) SELECT a, COUNT(*) FROM u GROUP BY a",
        ],
    );
}

#[test]
fn requests_for_read_only_are_seen() {
    let transaction = Effect::TRANSACTION.with_read_only(true);
    all_are(
        transaction,
        &[
            "START TRANSACTION READ ONLY",
            "START TRANSACTION /* a */ read -- b\n only",
            "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
            "DO 1; START TRANSACTION READ ONLY; SELECT 1",
        ],
    );
    all_are(
        Effect::SESSION_AND_TRANSACTION.with_read_only(true),
        &[
            "SET TRANSACTION READ ONLY",
            "SET SESSION TRANSACTION READ ONLY",
            "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            "SET tx_read_only = 1",
            "SET transaction_read_only = ON",
            "SET SESSION transaction_read_only = ON",
            "SET @@transaction_read_only = 1",
            "SET @@session.tx_read_only = 1",
            "SET @@SESSION . `transaction_read_only` = 1",
            "SET GLOBAL read_only = 1",
            "SET @a = 1, SESSION tx_read_only = @b",
            "SET @a = 1; SET TRANSACTION READ ONLY",
        ],
    );
    assert!(effect_of(b"EXECUTE s").read_only && effect_of(b"CALL p()").read_only);
}

#[test]
fn mentions_of_read_only_elsewhere_are_no_request() {
    for statement in [
        "SELECT @@transaction_read_only",
        "SELECT read_only FROM t FETCH FIRST 1 ROWS ONLY",
        "INSERT INTO t (only) VALUES ('READ ONLY')",
        "SHOW VARIABLES LIKE 'read_only'",
        "SET TRANSACTION READ WRITE",
        "SET @a = 'READ ONLY'",
        "SET @a = 1; SELECT read_only FROM t",
        "START TRANSACTION; SELECT read_only FROM t",
    ] {
        assert!(!effect_of(statement.as_bytes()).read_only, "{statement}");
    }
}

#[test]
fn ambiguous_text_may_change_anything() {
    all_are(
        Effect::UNKNOWN,
        &[
            "SELECT 'a",
            "SELECT /*! @x := */ 1",
            "DO 1; SELECT [a",
            "SELECT 1 -- \0\n",
        ],
    );
}

#[test]
fn statements_in_one_text_add_up() {
    let text = b"SELECT 1; USE shop; SELECT @x; START TRANSACTION";
    let effect = Effect::DATABASE.union(Effect::SESSION_AND_TRANSACTION);
    assert_eq!(effect_of(text), effect);
    assert_eq!(effect_of(b";; SELECT ';' ; SELECT 1;"), Effect::NEUTRAL);
    assert_eq!(effect_of(b""), Effect::NEUTRAL);
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(bytes: Vec<u8>) {
        effect_of(&bytes);
    }

    #[test]
    fn no_pieces_of_sql_cause_a_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..30),
    ) {
        effect_of(pieces.concat().as_bytes());
    }

    #[test]
    fn effects_of_statements_joined_by_semicolons_add_up(
        statements in prop::collection::vec(
            prop::sample::select([NEUTRAL, SESSION, UNKNOWN].concat()),
            1..6,
        ),
    ) {
        let each = statements.iter().map(|one| effect_of(one.as_bytes()));
        prop_assert_eq!(
            effect_of(statements.join("; ").as_bytes()),
            each.fold(Effect::NEUTRAL, Effect::union)
        );
    }

    #[test]
    fn case_and_surrounding_comments_make_no_difference(
        statement in prop::sample::select([NEUTRAL, SESSION, UNKNOWN].concat()),
        comment in prop::sample::select(&["/**/", " /* 'it''s */\n", " -- (\n", "#;\n"][..]),
        lower: bool,
    ) {
        let changed = format!("{comment}{statement}{comment}");
        let changed = if lower { changed.to_lowercase() } else { changed.to_uppercase() };
        prop_assert_eq!(effect_of(changed.as_bytes()), effect_of(statement.as_bytes()));
    }
}

const NEUTRAL: &[&str] = &[
    "SELECT 1",
    "SELECT DISTINCT a, b FROM t WHERE id IN (?, ?) ORDER BY a LIMIT 10",
    "SELECT COUNT(*), MAX(a) FROM t GROUP BY b HAVING COUNT(*) > 1",
    "SELECT * FROM a LEFT JOIN (b, c) ON (a.id = b.id AND c.id = a.id) JOIN d USING (id)",
    "SELECT * FROM t USE INDEX (a) WHERE NOT (a = 1) AND (b, c) IN ((1, 2))",
    "SELECT CAST(a AS DECIMAL(10,2)), CONVERT(b, CHAR(5)) FROM t",
    "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) FROM t",
    "SELECT * FROM t WHERE MATCH (a) AGAINST ('word' IN BOOLEAN MODE)",
    "SELECT CASE WHEN (a) THEN (b) ELSE (c) END FROM t AS t1 WHERE a = ANY (SELECT 1)",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL (SELECT i + 1 FROM n)) SELECT * FROM n",
    "WITH a AS (SELECT 1), b (x, `y`) AS (SELECT 2, 3), c (z) AS (SELECT 4) SELECT * FROM a, b",
    "(SELECT 1) UNION (SELECT 2)",
    "DO (1), (SELECT 2)",
    "EXPLAIN (SELECT 1) UNION (SELECT 2)",
    "EXPLAIN FORMAT=JSON (SELECT 1)",
    "SELECT * FROM a JOIN LATERAL (SELECT a.id) AS b ON TRUE",
    "SELECT * FROM (SELECT 1) AS t (a)",
    "SELECT * FROM t WHERE 17 MEMBER OF (a->'$.b') OR a MEMBER OF('[1]')",
    "SELECT * FROM JSON_TABLE(?, '$[*]' COLUMNS (a INT PATH '$.a')) AS t",
    "SELECT * FROM t, JSON_TABLE(t.a, '$' COLUMNS(NESTED PATH '$' COLUMNS (b INT PATH '$'))) u",
    "SELECT a FROM t WHERE id = 1 FOR UPDATE",
    "SELECT @@sql_mode, @@session.time_zone, @@global.max_connections",
    "SELECT LAST_INSERT_ID(), ROW_COUNT(), FOUND_ROWS(), RAND(), UUID(), NOW()",
    "SELECT 'it''s', \"say \"\"hi\"\"\", `a``b`, 'a\\nb', '\\\\'",
    "SELECT _utf8mb4'x', N'x', x'4D', b'01', 0x4D, 1.5e-3",
    "SELECT '@x := 1 INTO @y', '/*! */', '-- ', '#'",
    "SELECT {d '2020-01-01'}, a->'$.b', a->>'$.c', :name FROM t WHERE a <=> ?",
    "SELECT /*+ MAX_EXECUTION_TIME(1000) */ 1",
    "SELECT 5--1, 5 - -1, 5 -- minus one\n, 6 # and\n, 7 /* and */",
    "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y') ON DUPLICATE KEY UPDATE a = VALUES(a)",
    "INSERT IGNORE INTO shop.t(a) SELECT a FROM u",
    "INSERT INTO `t` (`a`) VALUES (1) RETURNING id",
    "INSERT t SET a = 1",
    "REPLACE INTO t (a) VALUES (REPLACE('a', 'b', 'c'))",
    "UPDATE t SET a = a + 1 WHERE id = 1",
    "DELETE FROM t WHERE id = 1",
    "TRUNCATE TABLE t",
    "VALUES (1), (2)",
    "DO SLEEP(0)",
    "SHOW TABLES LIKE 'a%'",
    "SHOW WARNINGS",
    "EXPLAIN SELECT * FROM t",
    "DESCRIBE t",
    "ANALYZE TABLE t",
];

const SESSION: &[&str] = &[
    "SELECT @x",
    "SELECT @x := 1",
    "SELECT 1 INTO @x",
    "SELECT 1 INTO OUTFILE 'x'",
    "INSERT INTO t (a) SELECT 1 INTO @x",
    "SELECT GET_LOCK('a', 0)",
    "SELECT RELEASE_LOCK('a')",
    "DO RELEASE_ALL_LOCKS()",
    "SELECT LAST_INSERT_ID(5)",
    "UPDATE t SET id = LAST_INSERT_ID(id + 1)",
    "SELECT SQL_CALC_FOUND_ROWS * FROM t",
    "SELECT NEXT VALUE FOR s",
    "SELECT s.nextval",
    "SELECT * FROM sys.processlist",
    "SELECT * FROM `sys`.`processlist`",
    "EXPLAIN SELECT @x := 1",
    "SHOW GRANTS FOR 'app'@'%'",
];

const STORED: &[&str] = &[
    "SELECT NEXTVAL(s)",
    "SELECT SETVAL(s, 1)",
    "SELECT stored(1)",
    "SELECT shop.concat('a')",
    "SELECT shop . concat('a')",
    "SELECT `concat`('a')",
    "SELECT \"concat\"('a')",
    "SELECT COUNT (1)",
    "SELECT a FROM t PROCEDURE ANALYSE(10)",
    "INSERT INTO t (a) VALUES (stored(1))",
    "INSERT INTO t SELECT stored(1)",
    "INSERT INTO t SET a = stored(1)",
    "REPLACE INTO t VALUES (1) RETURNING stored(1)",
    "UPDATE t SET a = b, c = stored(1)",
    "SELECT t.replace, stored(1) FROM t",
    "WITH t AS (SELECT stored(1)) SELECT 1",
    "WITH a AS (SELECT 1), b (x) AS (SELECT stored(2)) SELECT 3",
    "SELECT (1), stored(a) AS b",
    "SELECT (1), stored(a, b) FROM t",
    "SELECT (1), stored((SELECT 2)) AS b",
    "SELECT CAST(stored(a) AS CHAR(5))",
    "SELECT * FROM t WHERE a IN (1) AND stored(1)",
    "EXPLAIN ANALYZE SELECT stored(1)",
    "SHOW TABLES WHERE stored(1)",
    "VALUES (stored(1))",
    "DO 1, stored(1)",
    "DELETE FROM t WHERE a MEMBER OF (stored(1))",
    "SELECT {fn stored(1)}",
    "SELECT {`d` stored(1)}",
    "SELECT {\"d\" stored(1)}",
    "SELECT {member of(1)}",
    "SELECT of(1)",
    "SELECT json_table(1)",
    "SELECT json_table('a', columns(1))",
    "SELECT json_table(1); SELECT 'a' COLUMNS (1)",
    "SELECT * FROM JSON_TABLE(stored(1), '$' COLUMNS (a INT PATH '$')) t",
    "SELECT columns(1)",
    "SELECT any_value(a), NVL(a, b) FROM t",
];

const UNKNOWN: &[&str] = &[
    "USE sys",
    "USE `sys`; SELECT * FROM processlist",
    "SET STATEMENT max_statement_time = 1 FOR USE shop",
    "SET ROLE NONE",
    "SET SESSION AUTHORIZATION root@localhost",
    "SET DEFAULT ROLE a TO b",
    "CALL p()",
    "EXECUTE s",
    "EXECUTE IMMEDIATE 'USE shop'",
    "LOAD DATA INFILE 'x' INTO TABLE t",
    "FLUSH TABLES WITH READ LOCK",
    "KILL 5",
    "GRANT ALL ON *.* TO a",
    "CREATE DATABASE shop",
    "CREATE OR REPLACE DATABASE shop",
    "DROP DATABASE shop",
    "ALTER DATABASE shop CHARACTER SET utf8mb4",
    "CREATE PROCEDURE p() SELECT 1",
    "START SLAVE",
    "RELEASE x",
    "COMMIT RELEASE",
    "ROLLBACK AND NO CHAIN RELEASE",
    "BEGIN NOT ATOMIC SET @x = 1",
    "IF 1 THEN SET @x = 1",
    "GET DIAGNOSTICS @n = NUMBER",
    "SIGNAL SQLSTATE '45000'",
    "HELP 'contents'",
    "BINLOG 'x'",
    "CHANGE MASTER TO MASTER_HOST = 'x'",
    "SHUTDOWN",
    "l: LOOP SELECT 1",
    "? = 1",
    "'SELECT 1'",
    ")",
];

const PIECES: &[&str] = &[
    "SELECT ",
    "INSERT INTO t ",
    "SET ",
    "BEGIN",
    "COMMIT ",
    "(",
    ")",
    "'",
    "\"",
    "`",
    "\\",
    "/*",
    "*/",
    "!",
    "+",
    "-- ",
    "#",
    "\n",
    ";",
    "@",
    ":=",
    ".",
    ",",
    "a",
    "AS ",
    "LAST_INSERT_ID",
    "COUNT",
    "é",
    "\0",
    " ",
    "1",
    "[",
];
