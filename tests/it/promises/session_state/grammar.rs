//! Statements built from fragments, as proptest strategies: a failing one shrinks to the fewest and
//! simplest fragments.
//!
//! A fragment is a template with holes, `{e}` for an expression and `{q}` for a query. The
//! fragments in [`LEAVES`], [`EXPRESSIONS`], [`QUERIES`], [`STATEMENTS`] and [`SHOWS`] leave
//! nothing behind, whatever neutral fragments fill their holes, and a server accepts most of the
//! results. [`CHANGING`] holds fragments that do leave something behind where they are read as
//! code; [`HIDING`] holds places to hide them in, strings and comments above all.

use std::{collections::BTreeSet, fmt};

use proptest::{
    collection::vec,
    option::weighted,
    prelude::*,
    sample::{Index, select},
};
use test_support::Flavor::{self, MariaDb, MySql};

/// Fragments of one kind.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// The server that supports it, if only one does.
    only: Option<Flavor>,
    pub(super) templates: &'static [&'static str],
}

const fn both(name: &'static str, templates: &'static [&'static str]) -> Kind {
    Kind {
        name,
        only: None,
        templates,
    }
}

const fn only(flavor: Flavor, name: &'static str, templates: &'static [&'static str]) -> Kind {
    Kind {
        name,
        only: Some(flavor),
        templates,
    }
}

impl Kind {
    pub(super) fn is_known_to(&self, flavor: Flavor) -> bool {
        self.only.is_none_or(|only| only == flavor)
    }
}

/// The fragments that this server supports, or all, each with the name of its kind.
pub(super) fn fragments(
    kinds: &'static [Kind],
    flavor: Option<Flavor>,
) -> Vec<(&'static str, &'static str)> {
    let known = kinds
        .iter()
        .filter(|kind| flavor.is_none_or(|flavor| kind.is_known_to(flavor)));
    known
        .flat_map(|kind| kind.templates.iter().map(|template| (kind.name, *template)))
        .collect()
}

/// A text built from fragments.
#[derive(Clone)]
pub(super) struct Sql {
    pieces: Vec<Piece>,
    /// The kinds of its fragments.
    pub(super) kinds: BTreeSet<&'static str>,
}

#[derive(Clone)]
enum Piece {
    Frame(String),
    /// An expression without holes, which any other expression may replace.
    Leaf(String),
}

impl Sql {
    pub(super) fn leaf((kind, text): (&'static str, &str)) -> Self {
        Self {
            pieces: vec![Piece::Leaf(text.to_owned())],
            kinds: BTreeSet::from([kind]),
        }
    }

    /// Fills a template's holes with these fragments, and puts `spaces` between its words.
    pub(super) fn filled(
        (kind, template): (&'static str, &str),
        space: &str,
        expressions: impl IntoIterator<Item = Self>,
        queries: impl IntoIterator<Item = Self>,
    ) -> Self {
        let mut filled = Self {
            pieces: Vec::new(),
            kinds: BTreeSet::from([kind]),
        };
        let (mut expressions, mut queries) = (expressions.into_iter(), queries.into_iter());
        let mut rest = template;
        while let Some(at) = [rest.find("{e}"), rest.find("{q}")]
            .into_iter()
            .flatten()
            .min()
        {
            let (text, hole) = rest.split_at(at);
            filled.pieces.push(Piece::Frame(text.replace(' ', space)));
            let (hole, behind) = hole.split_at(3);
            let filling = if hole == "{e}" {
                expressions.next()
            } else {
                queries.next()
            };
            let filling = filling.expect("one filling per hole");
            filled.pieces.extend(filling.pieces);
            filled.kinds.extend(filling.kinds);
            rest = behind;
        }
        filled.pieces.push(Piece::Frame(rest.replace(' ', space)));
        filled
    }

    /// Replaces one of the leaves, if there are any, with this text.
    pub(super) fn plant(&mut self, at: Index, (kind, text): (&'static str, String)) -> bool {
        let is_leaf = |piece: &&mut Piece| matches!(piece, Piece::Leaf(_));
        let mut leaves: Vec<_> = self.pieces.iter_mut().filter(is_leaf).collect();
        if leaves.is_empty() {
            return false;
        }
        let at = at.index(leaves.len());
        *leaves[at] = Piece::Leaf(text);
        self.kinds.insert(kind);
        true
    }

    pub(super) fn text(&self) -> String {
        let texts = self.pieces.iter().map(|piece| match piece {
            Piece::Frame(text) | Piece::Leaf(text) => text.as_str(),
        });
        texts.collect()
    }
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A text that need be neither SQL nor UTF-8.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) sql: Vec<u8>,
    /// The kinds of its fragments.
    pub(super) kinds: BTreeSet<&'static str>,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sql.escape_ascii())
    }
}

/// A statement made only of neutral fragments, for one server or for both.
pub(super) fn neutral_statement(flavor: Option<Flavor>) -> impl Strategy<Value = Sql> {
    let template = select(fragments(STATEMENTS, flavor));
    let holes = (vec(expression(flavor), 3), vec(query(flavor), 1));
    let filled =
        (template, space(), holes).prop_map(|(template, space, (expressions, queries))| {
            Sql::filled(template, space, expressions, queries)
        });
    let shows = (select(fragments(SHOWS, flavor)), space(), leaf(flavor))
        .prop_map(|(template, space, leaf)| Sql::filled(template, space, [leaf], []));
    prop_oneof![6 => query(flavor).boxed(), 6 => filled.boxed(), 1 => shows.boxed()]
}

fn query(flavor: Option<Flavor>) -> impl Strategy<Value = Sql> {
    let template = select(fragments(QUERIES, flavor));
    (template, space(), vec(expression(flavor), 3))
        .prop_map(|(template, space, expressions)| Sql::filled(template, space, expressions, []))
}

fn expression(flavor: Option<Flavor>) -> impl Strategy<Value = Sql> + Clone {
    leaf(flavor).prop_recursive(3, 16, 3, move |inner| {
        let template = select(fragments(EXPRESSIONS, flavor));
        (template, space(), vec(inner, 3)).prop_map(|(template, space, expressions)| {
            Sql::filled(template, space, expressions, [])
        })
    })
}

fn leaf(flavor: Option<Flavor>) -> impl Strategy<Value = Sql> + Clone {
    select(fragments(LEAVES, flavor)).prop_map(Sql::leaf)
}

fn space() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![6 => Just(" "), 1 => select(SPACES)]
}

/// Something that changes the session where it is read as code.
pub(super) fn changing() -> impl Strategy<Value = (&'static str, String)> {
    select(fragments(CHANGING, None)).prop_map(|(kind, text)| (kind, text.to_owned()))
}

/// A place, suitable or not, that hides something that would change the session.
fn hiding() -> impl Strategy<Value = (&'static str, String)> {
    (select(HIDING), select(fragments(CHANGING, None)))
        .prop_map(|(place, (_, changing))| ("hidden", place.replace("{h}", changing)))
}

/// Any text at all: one or two statements, most of them neutral, with open or hidden changes, and
/// with a few stray bytes.
pub(super) fn text(flavor: Flavor) -> impl Strategy<Value = Text> {
    let more = weighted(0.2, (select(SEPARATORS), statement(flavor)));
    let trouble = prop_oneof![
        6 => Just(Vec::new()),
        1 => vec((any::<Index>(), select(TROUBLE)), 1..=2),
    ];
    let lower = proptest::bool::weighted(0.2);
    (statement(flavor), more, lower, trouble).prop_map(|(first, more, lower, trouble)| {
        let mut text = first.text();
        let mut kinds = first.kinds;
        if let Some((separator, second)) = more {
            text = text + separator + &second.text();
            kinds.extend(second.kinds);
            kinds.insert("several");
        }
        if lower {
            text = text.to_lowercase();
        }
        let mut sql = text.into_bytes();
        for (at, bytes) in trouble {
            let at = at.index(sql.len() + 1);
            sql.splice(at..at, bytes.iter().copied());
        }
        Text { sql, kinds }
    })
}

fn statement(flavor: Flavor) -> impl Strategy<Value = Sql> {
    let planted = prop_oneof![1 => changing().boxed(), 3 => hiding().boxed()];
    let planted = prop_oneof![
        4 => Just(Vec::new()),
        3 => vec((any::<Index>(), planted), 1..=2),
    ];
    let neutral = neutral_statement(Some(flavor));
    let neutral = (neutral, planted).prop_map(|(mut sql, planted)| {
        for (at, text) in planted {
            sql.plant(at, text);
        }
        sql
    });
    let holes = (
        vec(expression(Some(flavor)), 1),
        vec(query(Some(flavor)), 1),
    );
    let other =
        (select(OTHERS), space(), holes).prop_map(|(template, space, (expressions, queries))| {
            Sql::filled(("other", template), space, expressions, queries)
        });
    prop_oneof![9 => neutral.boxed(), 1 => other.boxed()]
}

/// SQL modes that tokenise text differently; MySQL lacks the last two.
pub(super) const MODES: &[&str] = &[
    "",
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
    "IGNORE_SPACE",
    "ANSI,STRICT_ALL_TABLES",
    "ORACLE",
    "MSSQL",
];

#[rustfmt::skip]
pub(super) const LEAVES: &[Kind] = &[
    both("number", &["1", "0", "-1", "1.5e-1", ".5", "5--1", "0x4D", "0b01", "x'41'", "X'4D'", "b'01'"]),
    both("constant", &["NULL", "TRUE"]),
    both("string", &["'a'", "''", "'it''s'", "'a' 'b'", "'é'", "N'a'", "n'a'", "_utf8mb4'a'", "_utf8mb4 'a'", "_binary 'a'"]),
    both("backslashes", &[r"'a\nb'", r"'\\'", r"'\%'", r"'中\n'"]),
    both("code in a string", &[
        "'@a := 1'", "'/*! */'", "'-- '", "'#'", "';SET @a = 1'", "'a`b'", r#"'"'"#, "') , @a := (1'", "':='",
    ]),
    both("double quotes", &[r#""a""#, r#""say ""a""""#, r#""it's""#, r#""@a := 1""#, r#""""#]),
    both("column", &["id", "`id`", "item.id", "`item`.`id`", "`item`.id", "name"]),
    both("time", &[
        "CURRENT_TIMESTAMP", "CURRENT_DATE", "LOCALTIME", "NOW()", "CURDATE()", "SYSDATE()", "UTC_TIMESTAMP()", "NOW(6)",
        "DATE '2024-01-01'", "TIMESTAMP'2024-01-01 00:00:00'", "{d '2024-01-01'}", "{ts '2024-01-01 00:00:00'}",
    ]),
    both("session's own", &[
        "LAST_INSERT_ID()", "CONNECTION_ID()", "DATABASE()", "SCHEMA()", "CURRENT_USER", "USER()", "VERSION()", "FOUND_ROWS()",
        "ROW_COUNT()", "CURRENT_ROLE()",
    ]),
    both("random", &["UUID()", "RAND()", "RAND(3)", "UUID_SHORT()"]),
    both("system variable", &[
        "@@sql_mode", "@@session.autocommit", "@@global.max_connections", "@@`sql_mode`", "@@local.time_zone", "@@session . sql_mode",
    ]),
];

#[rustfmt::skip]
pub(super) const EXPRESSIONS: &[Kind] = &[
    both("operator", &[
        "({e})", "({e}) + ({e})", "({e}) AND ({e})", "NOT ({e})", "({e}) IS NULL", "({e}) <=> ({e})", "{e} = {e}", "- ({e})",
        "({e}) BETWEEN ({e}) AND ({e})", "({e}) XOR ({e})", "! ({e})", "({e}) DIV ({e})", "({e}) || ({e})", "({e}) & ({e})",
        "({e}) LIKE ({e})", "({e}) REGEXP 'a'", "({e}) SOUNDS LIKE ({e})",
    ]),
    both("list", &["({e}) IN ({e},{e})", "({e}) IN({e})", "({e}) NOT IN ({e})", "ROW ({e},1) = ROW ({e},2)", "({e},1) IN ((1,{e}))"]),
    both("case", &["CASE WHEN ({e}) THEN ({e}) ELSE ({e}) END", "CASE ({e}) WHEN ({e}) THEN (1) END", "IF ({e},{e},{e})", "IFNULL({e},{e})", "NULLIF({e},{e})"]),
    both("function of strings", &[
        "CONCAT({e},{e})", "REPLACE('abc',{e},'b')", "INSERT('abc',1,1,{e})", "LEFT({e},1)", "UPPER({e})", "HEX({e})", "SHA2({e},256)",
        "FIND_IN_SET({e},'a,b')", "ELT(1,{e})", "CHAR_LENGTH({e})", "LPAD({e},5,'0')", "CONCAT_WS(',',{e},{e})", "QUOTE({e})",
        "REGEXP_REPLACE({e},'a','b')", "TO_BASE64({e})", "SUBSTRING_INDEX({e},'a',1)", "CHAR({e})", "CRC32({e})", "STRCMP({e},{e})",
    ]),
    both("function of numbers", &["GREATEST({e},{e})", "ROUND({e},1)", "FLOOR({e})", "MOD({e},2)", "ABS({e})", "FORMAT({e},2)", "INTERVAL({e},1,2)", "TRUNCATE({e},1)"]),
    both("function of times", &[
        "DATE_ADD({e}, INTERVAL 1 DAY)", "({e}) + INTERVAL ({e}) DAY", "DATE_FORMAT({e},'%Y-%m-%d')", "TIMESTAMPDIFF(DAY,{e},NOW())",
        "DATEDIFF({e},NOW())", "YEAR({e})", "DATE({e})", "UNIX_TIMESTAMP({e})", "EXTRACT(YEAR FROM {e})", "LAST_DAY({e})", "STR_TO_DATE('1','%d')",
    ]),
    both("function of JSON", &[
        "JSON_OBJECT('a',{e})", "JSON_ARRAY({e},{e})", "JSON_VALID({e})", "JSON_QUOTE('a')", r#"JSON_EXTRACT('{"a":1}','$.a')"#,
        r#"JSON_UNQUOTE(JSON_EXTRACT('{"a":"b"}','$.a'))"#, r#"JSON_SET('{"a":1}','$.b',{e})"#, r#"JSON_CONTAINS('[1]','1')"#,
    ]),
    both("function with words", &[
        "TRIM({e})", "TRIM(BOTH 'a' FROM {e})", "SUBSTRING({e} FROM 1 FOR 2)", "POSITION('a' IN {e})", "CONVERT({e} USING utf8mb4)",
        "CAST({e} AS CHAR(5))", "CAST({e} AS DECIMAL(10,2))", "CONVERT({e}, CHAR(5))", "CAST({e} AS SIGNED)", "BINARY ({e})",
    ]),
    both("function, spaced", &["CONCAT ({e},{e})", "COALESCE ({e},1)", "LENGTH ({e})", "ISNULL ({e})", "HEX ({e})"]),
    both("no cost", &["SLEEP(0)", "BENCHMARK(1,{e})", "IS_FREE_LOCK('nobody')", "IS_USED_LOCK('nobody')", "INET_ATON({e})", "LOAD_FILE({e})"]),
    both("sub-query", &[
        "(SELECT {e})", "(SELECT {e} FROM item LIMIT 1)", "EXISTS (SELECT {e} FROM item WHERE {e})", "({e}) IN (SELECT {e} FROM item)",
        "({e}) = ANY (SELECT {e})", "({e}) > ALL (SELECT {e} FROM orders)", "(SELECT ({e}) FROM item ORDER BY ({e}) DESC LIMIT 1)",
        "(SELECT {e} UNION SELECT {e} LIMIT 1)", "((SELECT {e} FROM item WHERE {e} LIMIT 1))", "NOT EXISTS (SELECT 1 FROM item WHERE ({e}))",
    ]),
    both("derived", &[
        "(SELECT x.a FROM (SELECT {e} AS a) AS x)", "(SELECT x.a FROM (SELECT {e} AS a UNION ALL SELECT {e}) x LIMIT 1)",
        "(WITH c (a) AS (SELECT {e}) SELECT a FROM c)", "(WITH c AS (SELECT {e} AS a) SELECT c.a FROM c)",
    ]),
    both("aggregate", &[
        "(SELECT COUNT(*) FROM item WHERE {e})", "(SELECT MAX({e}) FROM item)", "(SELECT COUNT(DISTINCT {e}) FROM item)",
        "(SELECT GROUP_CONCAT(DISTINCT {e} ORDER BY {e} SEPARATOR ',') FROM item)", "(SELECT SUM({e}) FROM item HAVING {e} LIMIT 1)",
        "(SELECT JSON_ARRAYAGG({e}) FROM item)", "(SELECT BIT_OR({e}) FROM item)",
    ]),
    both("window", &["(SELECT RANK() OVER (ORDER BY CONCAT({e})) LIMIT 1)", "(SELECT SUM({e}) OVER (PARTITION BY CONCAT({e})) FROM item LIMIT 1)"]),
    both("search", &["(SELECT MATCH (note) AGAINST ('a') FROM item LIMIT 1)"]),
];

#[rustfmt::skip]
pub(super) const QUERIES: &[Kind] = &[
    both("select", &[
        "SELECT {e}", "SELECT {e}, {e} AS x FROM item WHERE {e}", "SELECT DISTINCT {e} FROM item", "SELECT ALL {e} FROM item AS i",
        "SELECT * FROM item WHERE {e} AND {e}", "SELECT item.*, {e} FROM item", "SELECT {e} FROM DUAL WHERE ({e})",
    ]),
    both("quoted alias", &["SELECT {e} AS `a``b`, 1 AS `@a:=1`", "SELECT {e} AS 'a''b'", "SELECT {e} `x`, {e} 'y'", r#"SELECT {e} AS "a""b""#, "SELECT {e} AS `'`"]),
    both("join", &[
        "SELECT {e} FROM item i JOIN orders o ON (i.id = o.item_id AND {e}) LIMIT 1", "SELECT {e} FROM item LEFT JOIN (orders, emptied) ON ({e}) LIMIT 1",
        "SELECT {e} FROM item NATURAL JOIN named", "SELECT {e} FROM item JOIN named USING (id)", "SELECT {e} FROM item, emptied STRAIGHT_JOIN (bystander) WHERE {e}",
        "SELECT {e} FROM (item, orders) CROSS JOIN emptied",
    ]),
    both("grouped", &[
        "SELECT COUNT(*) FROM item GROUP BY CONCAT({e}) HAVING {e}", "SELECT name, MAX({e}) FROM item GROUP BY name WITH ROLLUP",
        "SELECT parent FROM item GROUP BY parent HAVING ({e}) ORDER BY CONCAT({e})",
    ]),
    both("ordered", &["SELECT id FROM item ORDER BY CONCAT({e}) DESC, COALESCE({e}) LIMIT 1 OFFSET 0", "SELECT {e} FROM item LIMIT 0, 1"]),
    both("union", &[
        "(SELECT {e}) UNION (SELECT {e})", "SELECT {e} UNION ALL SELECT {e} ORDER BY 1 LIMIT 2", "(SELECT {e} FROM item LIMIT 1) UNION DISTINCT (SELECT {e})",
        "SELECT {e} EXCEPT SELECT {e}", "(SELECT {e}) INTERSECT (SELECT {e})", "SELECT {e} UNION (SELECT {e} FROM item)",
    ]),
    both("derived table", &["SELECT * FROM (SELECT {e} AS a) x", "SELECT x.a, {e} FROM (SELECT {e} AS a FROM item) AS x", "SELECT * FROM ((SELECT {e} AS a) UNION (SELECT {e})) AS x"]),
    both("common table", &[
        "WITH x (a) AS (SELECT {e}) SELECT a, {e} FROM x", "WITH x AS (SELECT {e} AS a), y (b, c) AS (SELECT {e}, 1) SELECT * FROM x, y",
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i, {e} FROM n",
    ]),
    both("windows", &[
        "SELECT ROW_NUMBER() OVER (PARTITION BY CONCAT({e}) ORDER BY COALESCE({e})) FROM item", "SELECT SUM({e}) OVER w, LAG(id) OVER w FROM item WINDOW w AS (ORDER BY CONCAT({e}))",
        "SELECT AVG({e}) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM item", "SELECT FIRST_VALUE({e}) OVER (PARTITION BY CONCAT({e})) FROM item",
    ]),
    both("locking", &["SELECT {e} FROM item WHERE {e} FOR UPDATE", "SELECT {e} FROM item LOCK IN SHARE MODE", "SELECT {e} FROM item FOR UPDATE NOWAIT", "SELECT {e} FROM item FOR UPDATE SKIP LOCKED"]),
    both("hints", &[
        "SELECT /*+MAX_EXECUTION_TIME(1000)*/ {e}", "SELECT /*+NO_INDEX_MERGE(item)*/ {e} FROM item", "SELECT {e} FROM item USE INDEX (by_parent) WHERE {e}",
        "SELECT {e} FROM item FORCE INDEX FOR ORDER BY (by_parent), orders IGNORE KEY (PRIMARY)", "SELECT SQL_BUFFER_RESULT SQL_BIG_RESULT {e} FROM item", "SELECT HIGH_PRIORITY {e} FROM item",
    ]),
    both("catalogue", &["SELECT {e} FROM information_schema.SCHEMATA LIMIT 1", "SELECT COUNT(*) FROM performance_schema.threads WHERE {e}"]),
    only(MySql, "locking, MySQL's", &["SELECT {e} FROM item FOR SHARE", "SELECT {e} FROM item i, orders FOR UPDATE OF i SKIP LOCKED"]),
    only(MySql, "values, MySQL's", &["VALUES ROW({e},1), ROW(2,{e})", "TABLE item ORDER BY CONCAT({e}) LIMIT 1", "SELECT * FROM (VALUES ROW({e},1)) AS x (a, b)", "SELECT * FROM (SELECT {e}, 1) AS x (a, b)"]),
    only(MariaDb, "query, MariaDB's", &[
        "VALUES ({e},1), (2,{e})", "VALUES ({e})", "SELECT {e} FROM item ORDER BY id FETCH FIRST 1 ROWS ONLY", "SELECT {e} FROM item LIMIT ROWS EXAMINED 1000",
    ]),
];

#[rustfmt::skip]
pub(super) const STATEMENTS: &[Kind] = &[
    both("query", &["{q}", "({q})", "{q};", " {q} ", "#a\n{q}", "/*trace='00-4bf92f3577b34da6'*/ {q}", "{q} /*route='%2Fitems%2F1'*/"]),
    both("explain", &[
        "EXPLAIN {q}", "DESCRIBE {q}", "DESC {q}", "EXPLAIN FORMAT=JSON {q}", "EXPLAIN UPDATE item SET name = {e} WHERE {e}",
        "EXPLAIN DELETE FROM item WHERE {e}", "EXPLAIN INSERT INTO item (name) VALUES ({e})", "EXPLAIN REPLACE INTO emptied (a) SELECT {e}",
    ]),
    both("insert", &[
        "INSERT INTO item (name) VALUES ({e})", "INSERT INTO item(name)VALUES({e})", "INSERT INTO item (name, note) VALUES ({e},{e}), ('b',{e})",
        "INSERT INTO item SET name = {e}, note = {e}", "INSERT item (name) VALUE ({e})", "INSERT IGNORE INTO `item` (`name`) VALUES ({e})",
        "INSERT LOW_PRIORITY IGNORE item VALUES (DEFAULT,{e},1,NULL,{e},NOW())", "INSERT INTO item () VALUES ()",
    ]),
    both("insert of a query", &[
        "INSERT INTO item (name) SELECT {e}", "INSERT IGNORE INTO item (name) SELECT {e} FROM orders WHERE {e}", "INSERT INTO emptied (a, b) (SELECT {e}, 1 LIMIT 0)",
        "INSERT INTO emptied WITH x (a, b) AS (SELECT {e}, 1) SELECT * FROM x LIMIT 0",
    ]),
    both("insert or update", &[
        "INSERT INTO item (id, name) VALUES (1,{e}) ON DUPLICATE KEY UPDATE name = {e}", "INSERT INTO item (id, name) VALUES (1,{e}) ON DUPLICATE KEY UPDATE note = VALUES(name)",
        "INSERT INTO item (id) SELECT 1 ON DUPLICATE KEY UPDATE note = CONCAT(VALUES(id), {e})",
    ]),
    both("replace", &["REPLACE INTO emptied (a, b) VALUES (1,{e})", "REPLACE INTO emptied SET a = 1, b = {e}", "REPLACE emptied SELECT 1, {e}"]),
    both("update", &[
        "UPDATE item SET note = {e} WHERE {e}", "UPDATE item SET note = {e}, price = DEFAULT WHERE id = 1 ORDER BY CONCAT({e}) LIMIT 1",
        "UPDATE item i JOIN orders o ON (o.item_id = i.id) SET i.note = {e} WHERE {e}", "UPDATE IGNORE item SET note = (SELECT {e}) WHERE id IN (SELECT item_id FROM orders)",
    ]),
    both("delete", &[
        "DELETE FROM item WHERE ({e}) AND id > 1000", "DELETE FROM emptied ORDER BY CONCAT({e}) LIMIT 1", "DELETE i FROM item i JOIN orders o ON (o.id = i.id) WHERE ({e}) AND i.id > 1000",
        "DELETE QUICK FROM orders USING orders JOIN item USING (id) WHERE ({e}) AND orders.id > 1000",
    ]),
    both("do", &["DO {e}", "DO {e}, {e}"]),
    both("show, plain", &["SHOW WARNINGS", "SHOW ERRORS LIMIT 1", "SHOW COUNT(*) WARNINGS", "SHOW CREATE TABLE item", "SHOW FULL PROCESSLIST", "SHOW ENGINES", "SHOW GRANTS", "SHOW TABLES FROM sys", "SHOW COLUMNS FROM processlist FROM sys"]),
    both("of a table", &["DESCRIBE item", "DESC item name", "TRUNCATE TABLE emptied", "ANALYZE TABLE item", "EXPLAIN item"]),
    only(MySql, "explain, MySQL's", &["EXPLAIN ANALYZE {q}", "EXPLAIN FORMAT=TREE {q}"]),
    only(MySql, "with, MySQL's", &[
        "WITH x (a) AS (SELECT {e}) UPDATE item SET note = {e} WHERE id IN (SELECT a FROM x)", "WITH x AS (SELECT {e} AS a) DELETE FROM emptied WHERE a IN (SELECT a FROM x)",
    ]),
    only(MySql, "insert, MySQL's", &[
        "INSERT INTO item (id, name) VALUES (1,{e}) AS fresh ON DUPLICATE KEY UPDATE note = fresh.name", "INSERT INTO item (id, name) VALUES (1,{e}) AS fresh (m, n) ON DUPLICATE KEY UPDATE note = CONCAT(n, {e})",
        "INSERT INTO emptied VALUES ROW({e},1)", "REPLACE INTO emptied TABLE emptied",
    ]),
    only(MariaDb, "analyze, MariaDB's", &["ANALYZE {q}", "ANALYZE FORMAT=JSON {q}", "ANALYZE UPDATE item SET note = {e} WHERE {e}"]),
    only(MariaDb, "returning, MariaDB's", &[
        "INSERT INTO item (name) VALUES ({e}) RETURNING id, {e}", "REPLACE INTO emptied (a) VALUES (1) RETURNING {e}", "DELETE FROM item WHERE ({e}) AND id > 1000 RETURNING ({e})",
        "INSERT INTO item (name) SELECT {e} FROM item LIMIT 1 RETURNING (id)",
    ]),
];

/// Statements whose holes take leaves only: a common table expression in the `WHERE` of a `SHOW`
/// crashes MariaDB 10.11.
#[rustfmt::skip]
pub(super) const SHOWS: &[Kind] = &[
    both("show", &[
        "SHOW TABLES WHERE {e}", "SHOW COLUMNS FROM item WHERE {e}", "SHOW INDEX FROM item WHERE {e}", "SHOW VARIABLES WHERE {e} AND Variable_name = 'port'",
        "SHOW COLLATION WHERE {e}", "SHOW SESSION STATUS WHERE Variable_name = 'Uptime' AND {e}", "SHOW DATABASES WHERE {e}", "SHOW TABLE STATUS WHERE {e}",
    ]),
];

/// Expressions that leave something behind, or may.
#[rustfmt::skip]
pub(super) const CHANGING: &[Kind] = &[
    both("user variable", &["@a := 1", "(@a:=1)", "@b:=(@a:=2)", "@`a b` := 1", "@'a' := 1", r#"@"a" := 1"#, "@a/**/:=/**/1", "@a"]),
    both("named lock", &["GET_LOCK('held', 0)", "GET_LOCK ('held', 0)", "get_lock/**/('held', 0)", r#"GET_LOCK("held", 0)"#, "RELEASE_ALL_LOCKS()"]),
    both("stored function", &[
        "traced(1)", "traced (1)", "`traced`(1)", r#""traced"(1)"#, "test.traced(1)", "test . traced (1)", "`test`.traced(1)", "`count`(1)", "count (1)", "`concat`(1)", "trim (1)",
        "test.concat(1)",
    ]),
    both("last insert id", &["LAST_INSERT_ID(7)", "LAST_INSERT_ID (id)", "last_insert_id(/**/7)"]),
    both("sequence", &["NEXTVAL(numbers)", "NEXT VALUE FOR numbers", "SETVAL(numbers, 1000)", "numbers.NEXTVAL"]),
    both("statements", &["1); SET @a = 1; SELECT (1", "1; SET @a = 1; SELECT 1", "1; DO @a := 1; SELECT 1"]),
    both("target", &["1 INTO @a", "1 INTO OUTFILE '/nosuch/x'", "1 INTO DUMPFILE '/nosuch/x'"]),
];

/// Places to hide an expression in, not all of them suitable.
pub(super) const HIDING: &[&str] = &[
    "'{h}'",
    r#""{h}""#,
    "`{h}`",
    "1 /* {h} */",
    "1 -- {h}\n",
    "1 # {h}\n",
    "1 --{h}\n",
    "'a'', {h}, '''",
    r#""a"", {h}, """"#,
    r"'\', {h} -- '",
    r"'\'', {h}, '",
    r"'\\', {h} -- '",
    r#""\", {h} -- ""#,
    r#""\\", {h} -- ""#,
    r#"'"', {h}, '"'"#,
    r#""'", {h}, "'""#,
    "'`', {h}, '`'",
    "1 /*! , {h} */",
    "1 /*!50000 , {h} */",
    "1 /*!050000 , {h} */",
    "1 /*!99999 , {h} */",
    "1 /*!999999 , {h} */",
    "1 /*!99999 /* */ , {h} /* */ */",
    "1 /*!50000 /* , {h} */ , {h} */",
    "1 /*M! , {h} */",
    "1 /*M!100100 , {h} */",
    "1 /*M!999999 , {h} */",
    "1 /*m! , {h} */",
    "1 /* ! , {h} */",
    "1 /*+ {h} */",
    "1 /*+ a */, {h} /*+ a */",
    "1 /*+ */, {h} /* */",
    "1 /* /* */ , {h} /* */",
    "1 /*/ , {h} /**/",
    "1 /**/ , {h} /**/",
    "1 /***/ , {h} /***/",
    "1 -- \\\n, {h}",
    "1 -- \r, {h}\n",
    "1 --\t{h}\n",
    "1 --\n, {h}",
    r"'中\', {h} -- '",
    "'\u{a0}', {h}",
    "[{h}]",
    "1 AS [a'], {h}, '] '",
    "1 AS `a\\`, {h}, '`'",
    "1 AS `a```, {h}",
    "1 AS \"a\0, {h} -- \"",
    "1 AS x, {h}",
    "{fn {h}}",
    "{x {h}}",
    "$${h}$$",
    "$a${h}$a$",
    "'a'/*'*/'{h}'/*'*/",
    "_utf8mb4'a' '{h}'",
    "N'{h}'",
    "q'[{h}]'",
    "CAST({h} AS CHAR)",
    "(SELECT {h})",
];

/// Whole statements that change something, each in its own way.
const OTHERS: &[&str] = &[
    "BEGIN",
    "START TRANSACTION",
    "START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT",
    "COMMIT",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO SAVEPOINT a",
    "RELEASE SAVEPOINT a",
    "USE information_schema",
    "SET @a = {e}",
    "SET SESSION sql_mode = 'ANSI_QUOTES'",
    "SET autocommit = 0",
    "SET TRANSACTION READ ONLY",
    "SET STATEMENT max_statement_time = 1 FOR {q}",
    "PREPARE warm FROM 'DO 1'",
    "DEALLOCATE PREPARE warm",
    "CREATE TEMPORARY TABLE temporary_one (a INT)",
    "CREATE TEMPORARY TABLE temporary_one LIKE item",
    "CREATE TEMPORARY TABLE temporary_one AS {q}",
    "DROP TEMPORARY TABLE temporary_one",
    "LOCK TABLES item READ",
    "UNLOCK TABLES",
    "HANDLER item OPEN AS opened",
    "HANDLER opened CLOSE",
    "SELECT {e} INTO @a",
    "SELECT {e} INTO @a FROM item LIMIT 1",
    "SELECT {e} INTO OUTFILE '/nosuch/x'",
    "SELECT SQL_CALC_FOUND_ROWS {e} FROM item",
    "SELECT FOUND_ROWS()",
    "EXPLAIN FORMAT=JSON INTO @a {q}",
    "EXPLAIN FOR SCHEMA information_schema {q}",
    "SELECT * FROM sys.version",
    "SHOW CREATE VIEW sys.version",
    "TABLE item INTO @a",
    "SELECT name FROM item PROCEDURE ANALYSE(10)",
    "SELECT * FROM item FOR SYSTEM_TIME AS OF {e}",
    "BEGIN NOT ATOMIC {q}; END",
];

/// Separators between two statements.
const SEPARATORS: &[&str] = &["; ", ";", ";;\n", " ;-- a\n", ";/* ; */", "\n;\n"];

/// Separators between two words.
const SPACES: &[&str] = &[
    "\n",
    "\t",
    "  ",
    "\r\n",
    "\u{b}",
    "\u{c}",
    "/**/",
    " /* a */ ",
    " /* it's */ ",
    "/*\"*/",
    "/*`*/",
    "/* ; */",
    "/* /* */",
    "/***/",
    "/* @a := 1 */",
    " -- a\n",
    " -- it's\n",
    "#\"\n",
    "#;\n",
    " --\n",
];

#[rustfmt::skip]
const TROUBLE: &[&[u8]] = &[
    b"'", b"\"", b"`", b"\\", b"\\'", b"/*", b"*/", b"/*!", b"/*M!", b"--", b"-- ", b"#", b"\n", b";", b"(", b")", b"@", b":=",
    b".", b"\0", b"\xE9", b"\xE4\xB8\xAD", b"\xA0", b"$$", b"[", b"]", b" ", b"1", b"{", b"}", b"N", b"\r", b"\x1a", b"\x7f", b"/*+",
];
