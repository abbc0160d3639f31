//! Statements that begin or end a transaction by name.

use std::mem;

use super::tokens::{Token, Tokens, is, is_any};

/// What a text does by name to an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    /// One of its statements begins a transaction, and commits an open one to do so.
    pub(crate) begins: bool,
    pub(crate) ends: Ends,
}

/// How a text ends an open transaction, as far as it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Not,
    /// It is one statement, which commits and does nothing else.
    ByCommit,
    /// Its last statement is `COMMIT`, and no other one commits.
    ByCommitAtEnd,
    /// It commits, and does more: it is a statement that commits before it runs, as all do that
    /// change tables or accounts or administer the server; it turns autocommit on; or one of its
    /// statements commits.
    ByCommitWithin,
    /// It is one statement, which rolls the transaction back as a whole.
    ByRollback,
    /// It rolls the transaction back, and does more, which is committed as it runs.
    ByRollbackWithin,
    /// Some of its statements commit, others roll back.
    Either,
}

/// Returns what a text of any number of statements does by name to an open transaction.
pub(crate) fn control_of(sql: &[u8]) -> Control {
    let mut tokens = Tokens::new(sql);
    let has_more = sql.contains(&b';');
    let mut begins = false;
    let mut commits = false;
    let mut is_at_end = false;
    let mut rolls_back = false;
    while !tokens.is_at_end() {
        match tokens.next() {
            Some(Token::Word(verb)) => {
                begins |= begins_by(verb, tokens.clone());
                is_at_end = is(verb, "COMMIT") && !commits;
                commits |= commits_by(verb, tokens.clone());
                rolls_back |= is(verb, "ROLLBACK") && !rolls_back_to(tokens.clone());
            }
            None | Some(Token::Byte(b';')) => continue,
            Some(_) => is_at_end = false,
        }
        if !has_more {
            break;
        }
        tokens.find(|token| matches!(token, Token::Byte(b';')));
    }
    let ends = match (commits, rolls_back) {
        (true, false) if is_alone(sql, "COMMIT") => Ends::ByCommit,
        (true, false) if is_at_end => Ends::ByCommitAtEnd,
        (true, false) => Ends::ByCommitWithin,
        (true, true) => Ends::Either,
        (false, true) if is_alone(sql, "ROLLBACK") => Ends::ByRollback,
        (false, true) => Ends::ByRollbackWithin,
        (false, false) => Ends::Not,
    };
    Control { begins, ends }
}

/// Whether this statement commits by itself, on MySQL and MariaDB alike.
fn commits_by(verb: &[u8], mut after: Tokens<'_>) -> bool {
    if is_any(verb, COMMITTING) {
        true
    } else if is_any(verb, &["CREATE", "DROP"]) {
        !after.next_is(&["TEMPORARY"])
    } else if is(verb, "SET") {
        after.clone().next_is(&["PASSWORD"]) || turns_autocommit_on(after)
    } else if is_any(verb, &["START", "STOP"]) {
        !after.next_is(&["TRANSACTION"])
    } else if is(verb, "ANALYZE") {
        // On MariaDB, `ANALYZE` before a query or a change of rows only runs it.
        after
            .find(|token| !token.is_any(&["NO_WRITE_TO_BINLOG", "LOCAL"]))
            .is_some_and(|token| token.is_any(&["TABLE", "TABLES"]))
    } else {
        is(verb, "LOCK") && after.next_is(&["TABLE", "TABLES"])
            || is(verb, "LOAD") && after.next_is(&["INDEX"])
    }
}

/// First words of statements that commit, whatever follows.
#[rustfmt::skip]
const COMMITTING: &[&str] = &[
    "COMMIT", "ALTER", "GRANT", "RENAME", "REVOKE", "TRUNCATE", "OPTIMIZE", "REPAIR", "CHECK",
    "FLUSH", "RESET", "CACHE", "CHANGE", "INSTALL", "UNINSTALL",
];

fn turns_autocommit_on(after_set: Tokens<'_>) -> bool {
    let mut tokens = after_set.statement();
    while let Some(token) = tokens.next() {
        if token.is_name("AUTOCOMMIT")
            && matches!(tokens.next(), Some(Token::Assign | Token::Byte(b'=')))
        {
            let value = tokens.next();
            return !value.is_some_and(|value| value.is_any(&["0", "OFF", "FALSE"]));
        }
    }
    false
}

fn begins_by(verb: &[u8], mut after: Tokens<'_>) -> bool {
    if is(verb, "START") {
        after.next_is(&["TRANSACTION"])
    } else if is(verb, "BEGIN") {
        // Followed by anything else, `BEGIN` starts a block, such as `BEGIN NOT ATOMIC`.
        let next = after.find(|token| !token.is_any(&["WORK"]));
        matches!(next, None | Some(Token::Byte(b';')))
    } else if is_any(verb, &["COMMIT", "ROLLBACK"]) {
        chains(after)
    } else {
        false
    }
}

/// Whether this `COMMIT` or `ROLLBACK` begins another transaction: `COMMIT AND CHAIN`.
fn chains(after: Tokens<'_>) -> bool {
    let mut is_no = false;
    after.statement().any(|token| {
        let was_no = mem::replace(&mut is_no, token.is_any(&["NO"]));
        token.is_any(&["CHAIN"]) && !was_no
    })
}

/// Whether this `ROLLBACK` only goes back to a savepoint: `ROLLBACK WORK TO SAVEPOINT a`.
fn rolls_back_to(after: Tokens<'_>) -> bool {
    after.statement().any(|token| token.is_any(&["TO"]))
}

/// Whether every statement is a `SET`.
pub(crate) fn only_sets(sql: &[u8]) -> bool {
    let mut tokens = Tokens::new(sql);
    while !tokens.is_at_end() {
        match tokens.next() {
            None | Some(Token::Byte(b';')) => continue,
            Some(Token::Word(verb)) if is(verb, "SET") => {}
            Some(_) => return false,
        }
        tokens.find(|token| matches!(token, Token::Byte(b';')));
    }
    true
}

/// Whether this is one statement, which ends the transaction as a whole and does nothing else.
fn is_alone(sql: &[u8], verb: &str) -> bool {
    let mut tokens = Tokens::new(sql).skip_while(|token| matches!(token, Token::Byte(b';')));
    tokens.next().is_some_and(|token| token.is_any(&[verb]))
        && tokens.all(|token| match token {
            Token::Word(word) => is_any(word, &["WORK", "AND", "NO", "CHAIN", "RELEASE"]),
            _ => matches!(token, Token::Byte(b';')),
        })
}

#[cfg(test)]
mod tests {
    use super::{Ends, control_of, only_sets};

    fn begins_transaction(sql: &[u8]) -> bool {
        control_of(sql).begins
    }

    #[test]
    fn statements_that_begin_a_transaction_are_known() {
        for text in [
            "BEGIN",
            " begin work ;",
            "/* a */ START TRANSACTION READ ONLY",
            "start transaction with consistent snapshot",
            "SELECT 1; BEGIN",
            ";;Begin;SELECT 1",
            "COMMIT AND CHAIN",
            "rollback work and chain no release;",
        ] {
            assert!(begins_transaction(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            ";",
            "BEGIN NOT ATOMIC SELECT 1; END",
            "START SLAVE",
            "SELECT 'BEGIN'",
            "SELECT 1 AS begin",
            "SAVEPOINT begin",
            "INSERT INTO t VALUES ('; BEGIN')",
            "COMMIT",
            "COMMIT AND NO CHAIN",
            "ROLLBACK WORK AND NO CHAIN NO RELEASE; SELECT 1 AS chain",
        ] {
            assert!(!begins_transaction(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn statements_that_end_a_transaction_are_known() {
        for (text, ends) in [
            ("COMMIT", Ends::ByCommit),
            (";commit work and no chain;", Ends::ByCommit),
            ("/* a */ COMMIT RELEASE", Ends::ByCommit),
            ("CREATE TABLE t (id INT)", Ends::ByCommitWithin),
            ("/* a */ drop table t", Ends::ByCommitWithin),
            ("TRUNCATE t", Ends::ByCommitWithin),
            ("UPDATE t SET a = 1; COMMIT", Ends::ByCommitAtEnd),
            ("BEGIN; UPDATE t SET a = 1; COMMIT;", Ends::ByCommitAtEnd),
            ("COMMIT; UPDATE t SET a = 1", Ends::ByCommitWithin),
            ("COMMIT; (SELECT 1)", Ends::ByCommitWithin),
            ("COMMIT; COMMIT", Ends::ByCommitWithin),
            ("DROP TABLE t; COMMIT", Ends::ByCommitWithin),
            ("LOCK TABLES t READ", Ends::ByCommitWithin),
            ("ANALYZE LOCAL TABLE t", Ends::ByCommitWithin),
            ("analyze tables t", Ends::ByCommitWithin),
            ("ANALYZE FORMAT=JSON SELECT 1", Ends::Not),
            ("ANALYZE UPDATE t SET a = 1", Ends::Not),
            ("OPTIMIZE TABLE t", Ends::ByCommitWithin),
            ("CHECK TABLE t", Ends::ByCommitWithin),
            ("FLUSH TABLES t WITH READ LOCK", Ends::ByCommitWithin),
            ("CACHE INDEX t IN c", Ends::ByCommitWithin),
            ("LOAD INDEX INTO CACHE t", Ends::ByCommitWithin),
            ("LOAD DATA INFILE 'a' INTO TABLE t", Ends::Not),
            ("START REPLICA", Ends::ByCommitWithin),
            ("START TRANSACTION", Ends::Not),
            ("SET PASSWORD = 'a'", Ends::ByCommitWithin),
            ("INSTALL PLUGIN a SONAME 'a.so'", Ends::ByCommitWithin),
            ("SET autocommit = 1", Ends::ByCommitWithin),
            (
                "SET @a = 1, @@session.`autocommit` := ON",
                Ends::ByCommitWithin,
            ),
            ("SET autocommit = 0", Ends::Not),
            ("SET @a = @@autocommit", Ends::Not),
            ("ROLLBACK", Ends::ByRollback),
            ("rollback work;", Ends::ByRollback),
            ("/* a */ Rollback AND NO CHAIN", Ends::ByRollback),
            ("ROLLBACK; CREATE TABLE t (id INT)", Ends::Either),
            ("COMMIT; ROLLBACK", Ends::Either),
            ("COMMIT; UPDATE t SET a = 1; ROLLBACK", Ends::Either),
            ("ROLLBACK TO a", Ends::Not),
            ("ROLLBACK WORK TO SAVEPOINT a", Ends::Not),
            ("ROLLBACK TO a; UPDATE t SET a = 1", Ends::Not),
            ("COMMIT; ROLLBACK TO a", Ends::ByCommitWithin),
            ("ROLLBACK; BEGIN", Ends::ByRollbackWithin),
            ("rollback work; UPDATE t SET a = 1", Ends::ByRollbackWithin),
            ("UPDATE t SET a = 1; ROLLBACK", Ends::ByRollbackWithin),
            ("CREATE TEMPORARY TABLE t (id INT)", Ends::Not),
            ("DROP TEMPORARY TABLE t", Ends::Not),
            ("UPDATE t SET a = 'COMMIT'", Ends::Not),
            ("SELECT 1", Ends::Not),
            ("CALL p()", Ends::Not),
        ] {
            assert_eq!(control_of(text.as_bytes()).ends, ends, "{text}");
        }
    }

    #[test]
    fn a_text_of_set_statements_is_known() {
        for text in [
            "SET @a = 1",
            ";set names utf8mb4; SET @a = ';x';",
            "",
            "/* a */ SET ROLE r",
        ] {
            assert!(only_sets(text.as_bytes()), "{text}");
        }
        for text in [
            "SELECT 1",
            "SET @a = 1; CALL p()",
            "(SELECT 1)",
            "SETS",
            "'SET'",
        ] {
            assert!(!only_sets(text.as_bytes()), "{text}");
        }
    }
}
