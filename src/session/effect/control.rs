//! Statements that begin or end a transaction by name.

use super::tokens::{Token, Tokens, is, is_any};

/// What a text does by name to an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Nothing, as far as its text shows.
    None,
    /// One of its statements begins a transaction, and commits an open one to do so.
    Begins,
    /// It commits the open one, as all statements do that change tables or accounts.
    Commits,
    /// It is one statement, which rolls the transaction back as a whole.
    RollsBack,
}

/// Returns what a text of any number of statements does by name to an open transaction.
pub(crate) fn control_of(sql: &[u8]) -> Control {
    let mut tokens = Tokens::new(sql);
    let has_more = sql.contains(&b';');
    let mut commits = false;
    let mut rolls_back = false;
    while !tokens.is_at_end() {
        match tokens.next() {
            Some(Token::Word(verb)) => {
                if begins(verb, tokens.clone()) {
                    return Control::Begins;
                }
                commits |= commits_by(verb, tokens.clone());
                rolls_back |= is(verb, "ROLLBACK");
            }
            None | Some(Token::Byte(b';')) => continue,
            Some(_) => {}
        }
        if !has_more {
            break;
        }
        tokens.find(|token| matches!(token, Token::Byte(b';')));
    }
    match (commits, rolls_back) {
        (true, false) => Control::Commits,
        (false, true) if is_rollback(sql) => Control::RollsBack,
        _ => Control::None,
    }
}

/// Whether this statement commits by itself, on MySQL and MariaDB alike.
fn commits_by(verb: &[u8], mut after: Tokens<'_>) -> bool {
    if is_any(
        verb,
        &["COMMIT", "ALTER", "GRANT", "RENAME", "REVOKE", "TRUNCATE"],
    ) {
        true
    } else if is_any(verb, &["CREATE", "DROP"]) {
        !after.next_is(&["TEMPORARY"])
    } else {
        is_any(verb, &["LOCK"]) && after.next_is(&["TABLE", "TABLES"])
    }
}

fn begins(verb: &[u8], mut after: Tokens<'_>) -> bool {
    if is(verb, "START") {
        after.next_is(&["TRANSACTION"])
    } else if is(verb, "BEGIN") {
        // Followed by anything else, `BEGIN` starts a block, such as `BEGIN NOT ATOMIC`.
        let next = after.find(|token| !token.is_any(&["WORK"]));
        matches!(next, None | Some(Token::Byte(b';')))
    } else {
        false
    }
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

/// Whether this is one statement, which rolls the transaction back as a whole.
fn is_rollback(sql: &[u8]) -> bool {
    let mut tokens = Tokens::new(sql);
    matches!(tokens.next(), Some(Token::Word(verb)) if is(verb, "ROLLBACK"))
        && tokens.all(|token| match token {
            Token::Word(word) => is_any(word, &["WORK", "AND", "NO", "CHAIN"]),
            _ => matches!(token, Token::Byte(b';')),
        })
}

#[cfg(test)]
mod tests {
    use super::{Control, control_of, is_rollback, only_sets};

    fn begins_transaction(sql: &[u8]) -> bool {
        control_of(sql) == Control::Begins
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
        ] {
            assert!(!begins_transaction(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn statements_that_commit_are_known() {
        for text in [
            "COMMIT",
            "commit work and no chain;",
            "CREATE TABLE t (id INT)",
            "/* a */ drop table t",
            "TRUNCATE t",
            "UPDATE t SET a = 1; COMMIT",
            "LOCK TABLES t READ",
        ] {
            assert_eq!(control_of(text.as_bytes()), Control::Commits, "{text}");
        }
        for text in [
            "CREATE TEMPORARY TABLE t (id INT)",
            "DROP TEMPORARY TABLE t",
            "UPDATE t SET a = 'COMMIT'",
            "ROLLBACK; CREATE TABLE t (id INT)",
            "SELECT 1",
            "CALL p()",
        ] {
            assert_eq!(control_of(text.as_bytes()), Control::None, "{text}");
        }
        assert_eq!(control_of(b"BEGIN; COMMIT"), Control::Begins);
        assert_eq!(control_of(b"ROLLBACK"), Control::RollsBack);
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

    #[test]
    fn a_rollback_to_a_savepoint_is_none() {
        for text in [
            "ROLLBACK",
            "rollback work;",
            "/* a */ Rollback AND NO CHAIN",
        ] {
            assert!(is_rollback(text.as_bytes()), "{text}");
        }
        for text in [
            "ROLLBACK TO a",
            "ROLLBACK WORK TO SAVEPOINT a",
            "COMMIT",
            "ROLLBACK; BEGIN",
        ] {
            assert!(!is_rollback(text.as_bytes()), "{text}");
        }
    }
}
