//! What metrics, spans and logs show of a statement: its verb, its table, and its text without
//! literals.

use super::tokens::{Token, Tokens, is, is_any};

/// The most characters of a text that are shown.
pub(crate) const MAX_CHARS: usize = 512;

/// The most bytes of a text that are read.
pub(crate) const MAX_READ: usize = 4096;

/// Shown instead of a literal.
const LITERAL: &str = "?";

/// Shown instead of what is left out at the end.
const CUT_OFF: &str = "...";

/// Returns the text with each literal replaced by `?`, without comments, and with single spaces, in
/// at most [`MAX_CHARS`] characters of ASCII.
///
/// What double quotes enclose counts as a literal, because that depends on the SQL mode. From the
/// first place that servers may read in different ways on, nothing is shown but `...`.
pub(crate) fn sanitized(sql: &[u8]) -> String {
    let read = sql.get(..MAX_READ).unwrap_or(sql);
    let mut tokens = Tokens::new(read);
    let mut shown = String::new();
    while let Some((token, text, spaced)) = tokens.next_with_text() {
        let piece = match token {
            Token::Ambiguous => CUT_OFF,
            _ if is_literal(token, text) => LITERAL,
            _ => core::str::from_utf8(text).unwrap_or(LITERAL),
        };
        // `1.5` and `1.e5` are one literal of three tokens.
        let is_of_literal = piece == LITERAL || is_exponent(text);
        if is_of_literal && !spaced && shown.ends_with("?.") {
            shown.pop();
            continue;
        }
        if (spaced || piece == CUT_OFF) && !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(piece);
        if shown.len() > MAX_CHARS {
            break;
        }
    }
    let has_more = read.len() < sql.len() && !shown.ends_with(CUT_OFF);
    if shown.len() > MAX_CHARS || has_more {
        shown.truncate(MAX_CHARS.saturating_sub(CUT_OFF.len()));
        shown.push_str(CUT_OFF);
    }
    shown
}

/// Whether it may be the rest of a number such as `1.e5`.
fn is_exponent(word: &[u8]) -> bool {
    matches!(*word, [b'e' | b'E', digit, ..] if digit.is_ascii_digit())
}

/// Whether the token is a literal, may be one, or cannot be shown on one line.
fn is_literal(token: Token<'_>, text: &[u8]) -> bool {
    match token {
        Token::Text => true,
        Token::Quoted(name) => {
            !text.starts_with(b"`") || name.iter().any(u8::is_ascii_control) || !text.is_ascii()
        }
        Token::Word(word) => {
            word.first().is_some_and(u8::is_ascii_digit) || is_any(word, &["TRUE", "FALSE"])
        }
        _ => false,
    }
}

/// The first word of a statement, one of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Verb(usize);

/// Frequent verbs first, after the one that stands for all that are not listed.
#[rustfmt::skip]
const VERBS: [&str; 44] = [
    "OTHER", "SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "ROLLBACK", "REPLACE", "CALL",
    "SET", "WITH", "SHOW", "USE", "DO", "SAVEPOINT", "RELEASE", "LOAD", "LOCK", "UNLOCK", "CREATE",
    "ALTER", "DROP", "TRUNCATE", "RENAME", "EXPLAIN", "DESCRIBE", "DESC", "ANALYZE", "OPTIMIZE",
    "CHECK", "GRANT", "REVOKE", "KILL", "FLUSH", "PREPARE", "EXECUTE", "DEALLOCATE", "VALUES",
    "TABLE", "HANDLER", "XA", "START", "IMPORT",
];

impl Verb {
    /// How many verbs there are.
    #[cfg(feature = "metrics")]
    pub(crate) const COUNT: usize = VERBS.len();

    /// The verb of a text that is not seen or not listed.
    pub(crate) const OTHER: Self = Self(0);

    /// A number below [`COUNT`](Self::COUNT).
    #[cfg(feature = "metrics")]
    pub(crate) const fn index(self) -> usize {
        self.0
    }

    /// The verb in upper case; `OTHER` if it is not in the set. `START TRANSACTION` is `BEGIN`.
    pub(crate) fn name(self) -> &'static str {
        VERBS.get(self.0).copied().unwrap_or("OTHER")
    }

    fn named(name: &[u8]) -> Self {
        Self(VERBS.iter().position(|verb| is(name, verb)).unwrap_or(0))
    }
}

/// Returns the verb of the first statement.
pub(crate) fn verb_of(sql: &[u8]) -> Verb {
    let mut tokens = Tokens::new(sql.get(..MAX_READ).unwrap_or(sql));
    match tokens
        .by_ref()
        .find(|token| !matches!(token, Token::Open { .. }))
    {
        Some(Token::Word(verb)) if is(verb, "START") && tokens.next_is(&["TRANSACTION"]) => {
            Verb::named(b"BEGIN")
        }
        Some(Token::Word(verb)) => Verb::named(verb),
        _ => Verb::OTHER,
    }
}

/// Returns the table of a statement whose text certainly names just one: the name after `FROM`,
/// `INTO` or `UPDATE` as it is written, without quotes.
pub(crate) fn table_of(sql: &[u8]) -> Option<String> {
    let mut tokens = Tokens::new(Some(sql).filter(|sql| sql.len() <= MAX_READ)?);
    let Some(Token::Word(verb)) = tokens.next() else {
        return None;
    };
    if !is_about_one_table(tokens.clone()) {
        return None;
    }
    if is(verb, "UPDATE") {
        return table_at(tokens, false);
    }
    let before = if is_any(verb, &["SELECT", "DELETE"]) {
        "FROM"
    } else if is_any(verb, &["INSERT", "REPLACE"]) {
        "INTO"
    } else {
        return None;
    };
    let mut depth = 0_usize;
    tokens.by_ref().find(|token| {
        depth = step(depth, *token);
        depth == 0 && token.is_any(&[before])
    })?;
    table_at(tokens, before == "INTO")
}

/// Words after the verb that another table may follow.
const OTHER_TABLES: &[&str] = &[
    "SELECT",
    "JOIN",
    "STRAIGHT_JOIN",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "TABLE",
    "USING",
];

/// Whether what follows the verb is the rest of one statement, and names no other table.
fn is_about_one_table(mut after: Tokens<'_>) -> bool {
    let end = after.by_ref().find(|token| {
        matches!(token, Token::Ambiguous | Token::Byte(b';')) || token.is_any(OTHER_TABLES)
    });
    match end {
        None => true,
        Some(Token::Byte(b';')) => after.next().is_none(),
        Some(_) => false,
    }
}

/// Words that end the list of tables.
const AFTER_TABLES: &[&str] = &[
    "SET", "VALUES", "VALUE", "WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "FOR", "LOCK",
];

/// The table named here, if it is the only one of its list. In an `INSERT`, columns may follow.
fn table_at(mut after: Tokens<'_>, is_insert: bool) -> Option<String> {
    let mut table = loop {
        let (token, text, _) = after.next_with_text()?;
        if !token.is_any(&["LOW_PRIORITY", "IGNORE"]) {
            break name(token, text)?.to_owned();
        }
    };
    let mut rest = after.clone();
    if matches!(rest.next(), Some(Token::Byte(b'.'))) {
        let (token, text, _) = rest.next_with_text()?;
        table.push('.');
        table.push_str(name(token, text)?);
        after = rest;
    }
    let mut depth = 0_usize;
    let mut is_first = true;
    for token in after {
        depth = step(depth, token);
        match token {
            // A function that returns a table.
            Token::Open { .. } if is_first && !is_insert => return None,
            Token::Byte(b',') if depth == 0 => return None,
            _ if token.is_any(AFTER_TABLES) => break,
            _ => {}
        }
        is_first = false;
    }
    let is_none = table.eq_ignore_ascii_case("DUAL");
    (!is_none).then_some(table)
}

/// The name, if it certainly is one and can be shown on one line.
fn name<'a>(token: Token<'a>, text: &[u8]) -> Option<&'a str> {
    let name = match token {
        Token::Word(name) if !name.first()?.is_ascii_digit() => name,
        Token::Quoted(name) if text.starts_with(b"`") => name,
        _ => return None,
    };
    let is_plain = name
        .iter()
        .all(|byte| byte.is_ascii_graphic() && *byte != b'`');
    core::str::from_utf8(name).ok().filter(|_| is_plain)
}

/// The depth of parentheses after a token.
fn step(depth: usize, token: Token<'_>) -> usize {
    match token {
        Token::Open { .. } => depth.saturating_add(1),
        Token::Byte(b')') => depth.saturating_sub(1),
        _ => depth,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literals_are_replaced() {
        for (text, shown) in [
            (
                "SELECT name FROM item WHERE id = 7",
                "SELECT name FROM item WHERE id = ?",
            ),
            (
                "SELECT ?, :name, @a, @@b, c.`d e`",
                "SELECT ?, :name, @a, @@b, c.`d e`",
            ),
            (
                "SELECT 'it''s', \"x\", 1.5, 0xFF, -1e3",
                "SELECT ?, ?, ?, ?, -?",
            ),
            ("SELECT 1.e5, 1.E5, .5e1, 1. e5", "SELECT ?, ?, .?, ?. e5"),
            ("SELECT t.e5, 1.e+5", "SELECT t.e5, ?.e+?"),
            (
                "SELECT x'AF', b'01', N'n', _utf8mb4 'u'",
                "SELECT x?, b?, N?, _utf8mb4 ?",
            ),
            (
                "SELECT TRUE, null, DATE '2020-01-01'",
                "SELECT ?, null, DATE ?",
            ),
            ("SET PASSWORD = 'secret'", "SET PASSWORD = ?"),
            (
                "CREATE USER a IDENTIFIED BY 'secret'",
                "CREATE USER a IDENTIFIED BY ?",
            ),
            (
                "INSERT INTO t VALUES (1,'a'), (2, 'b')",
                "INSERT INTO t VALUES (?,?), (?, ?)",
            ),
        ] {
            assert_eq!(sanitized(text.as_bytes()), shown);
        }
    }

    #[test]
    fn comments_are_left_out_and_spaces_are_single() {
        for (text, shown) in [
            ("  SELECT\n\t1 ", "SELECT ?"),
            (
                "SELECT/* secret */1 -- secret\n+ 2 # secret",
                "SELECT ? + ?",
            ),
            ("/* trace: secret */ SELECT a", "SELECT a"),
        ] {
            assert_eq!(sanitized(text.as_bytes()), shown);
        }
    }

    #[test]
    fn what_servers_may_read_differently_is_not_shown() {
        for (text, shown) in [
            ("SELECT a, 'it\\'s secret'", "SELECT a, ..."),
            ("SELECT /*! secret */ 1", "SELECT ..."),
            ("SELECT 'secret", "SELECT ..."),
            ("\u{ff}secret", "..."),
            ("", ""),
        ] {
            assert_eq!(sanitized(text.as_bytes()), shown);
        }
        assert_eq!(sanitized(b"SELECT `a\nb`"), "SELECT ?");
    }

    #[test]
    fn a_long_text_is_cut_off() {
        let names = "SELECT ".to_owned() + &"name, ".repeat(10_000);
        let shown = sanitized(names.as_bytes());
        assert_eq!(shown.len(), MAX_CHARS);
        assert!(
            shown.starts_with("SELECT name, name") && shown.ends_with("..."),
            "{shown}"
        );
        let value = format!("SELECT '{}', a", "secret".repeat(10_000));
        assert_eq!(sanitized(value.as_bytes()), "SELECT ...");
        let comment = format!("SELECT 1 -- {}", "secret".repeat(10_000));
        assert_eq!(sanitized(comment.as_bytes()), "SELECT ?...");
    }

    #[test]
    fn verbs_are_one_of_a_closed_set() {
        for (text, verb) in [
            ("select 1", "SELECT"),
            ("(SELECT 1) UNION (SELECT 2)", "SELECT"),
            ("/* a */ Insert INTO t VALUES (1)", "INSERT"),
            ("START TRANSACTION READ ONLY", "BEGIN"),
            ("begin", "BEGIN"),
            ("START SLAVE", "START"),
            ("FROBNICATE", "OTHER"),
            ("/*!50000 SELECT */ 1", "OTHER"),
            ("'SELECT'", "OTHER"),
            ("", "OTHER"),
        ] {
            assert_eq!(verb_of(text.as_bytes()).name(), verb, "{text}");
        }
        for (index, name) in VERBS.into_iter().enumerate() {
            let verb = verb_of(name.as_bytes());
            assert_eq!((verb.0, verb.name()), (index, name));
            #[cfg(feature = "metrics")]
            assert!(verb.index() < Verb::COUNT);
        }
    }

    #[test]
    fn a_table_is_named_where_there_is_one_plainly() {
        for (text, table) in [
            ("SELECT a FROM item WHERE id = 1", Some("item")),
            (
                "select EXTRACT(YEAR FROM d) from `shop`.`item` i limit 1;",
                Some("shop.item"),
            ),
            (
                "SELECT a, b FROM item ORDER BY a, b FOR UPDATE",
                Some("item"),
            ),
            (
                "INSERT IGNORE INTO item (id, name) VALUES (1, 2), (3, 4)",
                Some("item"),
            ),
            ("REPLACE INTO item SET id = 1, name = 2", Some("item")),
            ("UPDATE LOW_PRIORITY item SET a = 1, b = 2", Some("item")),
            ("DELETE FROM item", Some("item")),
            ("SELECT 1", None),
            ("SELECT 1 FROM dual", None),
            ("SELECT 1 FROM a, b", None),
            ("SELECT 1 FROM a JOIN b", None),
            ("SELECT 1 FROM a WHERE x IN (SELECT 1 FROM b)", None),
            ("SELECT 1 FROM (SELECT 2) t", None),
            (
                "SELECT 1 FROM JSON_TABLE('[]', '$[*]' COLUMNS (a INT PATH '$')) t",
                None,
            ),
            ("SELECT 1 FROM \"secret\"", None),
            ("SELECT 1 FROM a; SELECT 2 FROM b", None),
            ("INSERT INTO a SELECT * FROM b", None),
            ("UPDATE a, b SET a.x = b.x", None),
            ("SELECT 'it\\'s' FROM a", None),
            ("CALL p()", None),
            ("", None),
        ] {
            assert_eq!(table_of(text.as_bytes()).as_deref(), table, "{text}");
        }
    }

    /// Literals that hold a secret, as a server reads them in some SQL mode.
    fn literal() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ a-z'\\\\\"`;#/*-]{0,6}".prop_map(|around| {
                let inner = format!("{around}7777{around}");
                format!("'{}'", inner.replace('\\', "\\\\").replace('\'', "''"))
            }),
            "[ a-z'\\\\`;#/*-]{0,6}"
                .prop_map(|around| { format!("\"{}7777\"", around.replace('\\', "\\\\")) }),
            "[a-z']{0,6}".prop_map(|around| format!("'{}\\'7777'", around.replace('\'', "\\'"))),
            Just("7777".to_owned()),
            Just("77.77e7777".to_owned()),
            Just("77.e7777".to_owned()),
            Just(".77E7777".to_owned()),
            Just("0x7777".to_owned()),
            Just("x'7777'".to_owned()),
            Just("/* 7777 */ 1".to_owned()),
            Just("1 -- 7777\n".to_owned()),
            Just("1 # 7777\n".to_owned()),
            Just("/*! 7777 */".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn no_literal_is_shown(
            literals in prop::collection::vec(literal(), 1..6),
            between in prop::sample::select(&[" , ", ",", " = a - ", "+", ") AND (", " @a := "][..]),
            padding in 0..5000_usize,
        ) {
            // A padding that crosses the limits.
            let padding = "a ".repeat(padding);
            let text = format!("SELECT {padding}{} FROM t", literals.join(between));
            let shown = sanitized(text.as_bytes());
            prop_assert!(!shown.contains("77"), "{text}: {shown}");
            prop_assert!(shown.len() <= MAX_CHARS && shown.is_ascii(), "{shown}");
            let table = table_of(text.as_bytes()).unwrap_or_default();
            prop_assert!(!table.contains("77"), "{text}: {table}");
        }

        #[test]
        fn any_bytes_are_shown_in_one_line(sql in prop::collection::vec(any::<u8>(), 0..200)) {
            let shown = sanitized(&sql);
            prop_assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown}");
            let _table = table_of(&sql);
            let _verb = verb_of(&sql);
        }
    }
}
