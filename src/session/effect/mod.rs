//! Decides from a statement's text what running it may leave behind in its session.
//!
//! | file | its one job |
//! |---|---|
//! | `mod.rs` | [`Effect`], and the rules by statement |
//! | `control.rs` | statements that begin or end a transaction by name |
//! | `changes.rs` | what a text changes, for an undo |
//! | `tokens.rs` | the lexer |
//! | `names.rs` | keywords and built-in functions that a parenthesis may follow |
//! | `sanitize.rs` | what metrics, spans and logs show: verb, table, text without literals |
//! | `unresettable.rs` | words of statements whose effect outlasts a reset |
//!
//! A statement is neutral only if it is known to leave nothing behind. Anything else counts as a
//! change, and so does text that servers may read in different ways: where `ANSI_QUOTES`,
//! `NO_BACKSLASH_ESCAPES`, `IGNORE_SPACE`, `ORACLE` or `MSSQL` would end a string elsewhere or call
//! another function, the answer is [`Effect::UNKNOWN`]. The charset is assumed to be `utf8mb4`,
//! which connections speak unless an init statement changes it; most of what another charset would
//! read differently is unknown too.
//!
//! Per-statement values do not count: `LAST_INSERT_ID()` and `@@identity` (an `INSERT` sets them,
//! and they stay until the next one or a reset, so read them only after your own `INSERT`),
//! `ROW_COUNT()`, `FOUND_ROWS()`, `SHOW WARNINGS`, `@@error_count`, `@@warning_count`,
//! `@@last_gtid`, the counters of `SHOW STATUS`, and the state of `RAND()`.
//!
//! The text does not show what triggers, views, column defaults (`NEXTVAL`) and the functions they
//! call do to the session. With autocommit off, any statement opens a transaction; the server's
//! status flags show it.
//!
//! The fuzz target and the integration tests include this module by its path, so it imports
//! nothing from the rest of the crate.

pub(crate) mod changes;
pub(crate) mod control;
pub(super) mod names;
pub(crate) mod sanitize;
#[cfg(test)]
mod tests;
mod tokens;
mod unresettable;

use changes::{Cause, Notify};
use names::{BUILT_IN, BUILT_IN_IF_ADJACENT, KEYWORDS, contains};
use tokens::{Token, Tokens, is, is_any};
use unresettable::mentions_unresettable;

/// What running a statement may leave behind in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Session state other than the database and the transaction may change. Only an undo or a
    /// reset restores it.
    pub(crate) session: bool,
    /// The default database may change, and with it `@@character_set_database` and
    /// `@@collation_database`.
    pub(crate) database: bool,
    /// A transaction may start or stay open. The server's status flags show whether one is.
    pub(crate) transaction: bool,
    /// A role may be taken or given up, or the account switched. No reset restores the account's
    /// own rights.
    pub(crate) role: bool,
    /// The statement may ask for a read-only transaction or session: error 1792 after it is the
    /// caller's own doing.
    pub(crate) read_only: bool,
    /// The statement may set state other than a role that no reset clears: an XA transaction, a
    /// resource group, profiles, a trace.
    pub(crate) unresettable: bool,
}

impl Effect {
    /// Nothing is left behind.
    pub(crate) const NEUTRAL: Self = Self {
        session: false,
        database: false,
        transaction: false,
        role: false,
        read_only: false,
        unresettable: false,
    };
    /// Anything may be left behind. The few statements known to be unresettable are found by their
    /// words.
    pub(crate) const UNKNOWN: Self = Self {
        session: true,
        database: true,
        transaction: true,
        role: true,
        read_only: true,
        unresettable: false,
    };

    const SESSION: Self = Self {
        session: true,
        ..Self::NEUTRAL
    };
    const UNRESETTABLE: Self = Self {
        unresettable: true,
        ..Self::SESSION
    };
    const DATABASE: Self = Self {
        database: true,
        ..Self::NEUTRAL
    };
    const TRANSACTION: Self = Self {
        transaction: true,
        ..Self::NEUTRAL
    };
    const SESSION_AND_TRANSACTION: Self = Self::SESSION.union(Self::TRANSACTION);
    /// A stored function with the rights of its caller may set the caller's role too.
    const STORED_FUNCTION: Self = Self {
        role: true,
        read_only: true,
        ..Self::SESSION
    };

    /// The effect of both statements together.
    pub(crate) const fn union(self, other: Self) -> Self {
        Self {
            session: self.session || other.session,
            database: self.database || other.database,
            transaction: self.transaction || other.transaction,
            role: self.role || other.role,
            read_only: self.read_only || other.read_only,
            unresettable: self.unresettable || other.unresettable,
        }
    }

    const fn with_read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }
}

/// Returns the effect of a text of any number of statements, in time linear in its length and
/// without allocating.
///
/// The text need not be UTF-8, nor valid SQL.
pub(crate) fn effect_of(sql: &[u8]) -> Effect {
    effect_with_causes(sql, &mut ())
}

/// Like [`effect_of`]. Notifies `causes` of what changes the session.
fn effect_with_causes(sql: &[u8], causes: &mut impl Notify) -> Effect {
    let mut tokens = Tokens::new(sql);
    let mut effect = Effect::NEUTRAL;
    while !tokens.is_at_end() && effect != Effect::UNKNOWN {
        let statement = tokens.clone();
        let of_statement = effect_of_statement(&mut tokens, causes);
        if of_statement.session {
            causes.end_statement(statement);
        }
        effect = effect.union(of_statement);
    }
    if effect.session {
        effect.unresettable |= mentions_unresettable(sql);
    }
    effect
}

/// Returns the effect of one statement and consumes it, with the semicolon that ends it. Notifies
/// `causes` of what changes the session in its body.
fn effect_of_statement(tokens: &mut Tokens<'_>, causes: &mut impl Notify) -> Effect {
    match tokens
        .by_ref()
        .find(|token| !matches!(token, Token::Open { .. }))
    {
        None | Some(Token::Byte(b';')) => Effect::NEUTRAL,
        Some(Token::Word(verb)) => match effect_of_verb(verb, tokens.clone()) {
            Effect::UNKNOWN => Effect::UNKNOWN,
            known => known.union(effect_of_body(verb, tokens, causes)),
        },
        Some(_) => Effect::UNKNOWN,
    }
}

/// First words of statements that leave nothing behind unless one of their other words does.
///
/// `EXPLAIN` and its synonyms take only queries and changes of rows, `ANALYZE` tables as well.
#[rustfmt::skip]
const QUERIES: &[&str] = &[
    "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "SHOW", "DO", "EXPLAIN", "DESCRIBE",
    "DESC", "ANALYZE", "VALUES", "TABLE", "TRUNCATE",
];

/// First words of statements that change the session, and may end a transaction.
const OF_SESSION: &[&str] = &["PREPARE", "DEALLOCATE", "LOCK", "UNLOCK", "HANDLER"];

/// Returns the effect shown by a statement's first word and the few after it. The rest of the
/// statement may add to it.
fn effect_of_verb(verb: &[u8], mut after: Tokens<'_>) -> Effect {
    let known = if is_any(verb, QUERIES) {
        Some(Effect::NEUTRAL)
    } else if is(verb, "SET") {
        sets_only_variables(after.clone())
            .then(|| Effect::SESSION_AND_TRANSACTION.with_read_only(mentions_read_only(after)))
    } else if is_any(verb, OF_SESSION) {
        Some(Effect::SESSION_AND_TRANSACTION)
    } else if is_any(verb, &["CREATE", "ALTER", "DROP"]) {
        let of_table = after.next_is(&["TABLE", "TEMPORARY"]);
        of_table.then_some(Effect::SESSION_AND_TRANSACTION)
    } else if is(verb, "USE") {
        // The views of `sys` set user variables of their own.
        let of_sys = after.next().is_some_and(|token| token.is_name("SYS"));
        (!of_sys).then_some(Effect::DATABASE)
    } else if is(verb, "BEGIN") {
        // With anything after it, it is a block of statements, such as `BEGIN NOT ATOMIC`.
        let next = after.find(|token| !token.is_any(&["WORK"]));
        matches!(next, None | Some(Token::Byte(b';'))).then_some(Effect::TRANSACTION)
    } else if is_any(verb, &["COMMIT", "ROLLBACK"]) {
        // `COMMIT RELEASE` ends the connection.
        let releases = after.statement().any(|token| token.is_any(&["RELEASE"]));
        (!releases).then_some(Effect::TRANSACTION)
    } else if is(verb, "START") {
        after
            .next_is(&["TRANSACTION"])
            .then(|| Effect::TRANSACTION.with_read_only(mentions_read_only(after)))
    } else {
        let of_savepoint =
            is(verb, "SAVEPOINT") || is(verb, "RELEASE") && after.next_is(&["SAVEPOINT"]);
        of_savepoint.then_some(Effect::TRANSACTION)
    };
    known.unwrap_or(Effect::UNKNOWN)
}

/// Whether the statement contains `READ ONLY`, or names a variable such as `transaction_read_only`.
///
/// The value does not matter: it may be an expression.
fn mentions_read_only(after: Tokens<'_>) -> bool {
    after
        .statement()
        .any(|token| token.is_any(&["ONLY"]) || token.name_ends_with("READ_ONLY"))
}

const SCOPES: &[&str] = &["SESSION", "GLOBAL", "LOCAL", "PERSIST", "PERSIST_ONLY"];

/// Whether only variables follow `SET`.
///
/// False for `SET ROLE`, and for `SET STATEMENT .. FOR`, which any statement may follow. MariaDB
/// takes several settings at once, each of any kind: `SET @a = 1, ROLE r`.
fn sets_only_variables(mut after: Tokens<'_>) -> bool {
    if !sets_a_variable(after.clone()) {
        return false;
    }
    // `SET TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE` takes no other settings. In
    // `SET GLOBAL transaction.key_buffer_size = 1, ROLE r`, the word is the name of a key cache.
    let mut setting = after.clone();
    let is_of_transaction = setting
        .find(|token| !token.is_any(SCOPES))
        .is_some_and(|token| token.is_any(&["TRANSACTION"]))
        && setting.next_is(&["ISOLATION", "READ"]);
    if is_of_transaction {
        return true;
    }
    let mut depth = 0_usize;
    while let Some(token) = after.next() {
        match token {
            Token::Open { .. } => depth = depth.saturating_add(1),
            Token::Byte(b')') => depth = depth.saturating_sub(1),
            Token::Byte(b';') => break,
            Token::Byte(b',') if depth == 0 && !sets_a_variable(after.clone()) => return false,
            _ => {}
        }
    }
    true
}

/// Whether the next of the settings after `SET` is a variable.
fn sets_a_variable(mut after: Tokens<'_>) -> bool {
    match after.find(|token| !token.is_any(SCOPES)) {
        Some(Token::UserVariable | Token::SystemVariable) => true,
        Some(name) if name.is_any(&["NAMES", "CHARACTER", "CHARSET", "TRANSACTION"]) => true,
        Some(Token::Word(_) | Token::Quoted(_)) => {
            matches!(after.next(), Some(Token::Assign | Token::Byte(b'=' | b'.')))
        }
        _ => false,
    }
}

/// Returns the effect of what follows a statement's first word, and consumes it. Notifies `causes`
/// of what changes the session.
fn effect_of_body<'a>(verb: &'a [u8], tokens: &mut Tokens<'a>, causes: &mut impl Notify) -> Effect {
    let mut effect = Effect::NEUTRAL;
    let mut target = Target::None.step(Token::Byte(b';'), Token::Word(verb));
    let mut before = Token::Byte(b';');
    let mut last = Token::Word(verb);
    // The definition of a new table runs no function (types such as `ENUM(..)` look like one), but
    // the query that fills the table may.
    let mut runs_functions = !is(verb, "CREATE");
    while let Some(token) = tokens.next() {
        let change = match token {
            Token::Byte(b';') => break,
            Token::Ambiguous => return Effect::UNKNOWN,
            // Reading a user variable counts too: a statement that goes to the binary log creates
            // the variables it reads.
            Token::UserVariable => {
                causes.notify(Cause::UserVariable(tokens.rest()));
                Effect::SESSION
            }
            Token::Assign => Effect::SESSION,
            // The views of `sys` set user variables of their own.
            Token::Byte(b'.') if last.is_name("SYS") => {
                causes.notify(Cause::Other);
                Effect::SESSION
            }
            // The statement may turn off the instruments of its own connection.
            Token::Byte(b'.') if is(verb, "UPDATE") && last.is_name("PERFORMANCE_SCHEMA") => {
                Effect::UNRESETTABLE
            }
            Token::Word(word) if changes_session(word, last, target) => {
                causes.notify(cause_of(word, tokens.clone()));
                Effect::SESSION
            }
            Token::Open { adjacent }
                if runs_functions
                    && !matches!(target, Target::Named)
                    && !precedes_no_call(before) =>
            {
                let effect = effect_of_call(before, last, adjacent, tokens);
                if effect.session {
                    let locks = matches!(last, Token::Word(name) if is_any(name, LOCKS));
                    causes.notify(if locks { Cause::Lock } else { Cause::Other });
                }
                effect
            }
            _ => Effect::NEUTRAL,
        };
        effect = effect.union(change);
        runs_functions = runs_functions || begins_query(token, last);
        target = target.step(last, token);
        // `MEMBER OF` is an operator. In braces `{member of(1)}`, the first word is an ODBC
        // identifier, and on MariaDB the second one may be a stored function.
        let is_operator = token.is_any(&["OF"])
            && last.is_any(&["MEMBER"])
            && !matches!(before, Token::Byte(b'{'));
        before = last;
        last = if is_operator {
            Token::Byte(b'=')
        } else {
            token
        };
    }
    effect
}

/// Whether a query begins here, after the definition of a table.
fn begins_query(token: Token<'_>, last: Token<'_>) -> bool {
    token.is_any(&["SELECT", "VALUES"])
        || token.is_any(&["TABLE"]) && !last.is_any(&["CREATE", "TEMPORARY"])
}

/// Whether a word by itself makes a query or a change of rows leave something behind.
fn changes_session(word: &[u8], last: Token<'_>, target: Target) -> bool {
    // By length, which rules out most words at once.
    match word.len() {
        // A variable or a file, unless it is the table of an `INSERT`.
        4 => is(word, "INTO") && !matches!(target, Target::Awaited),
        // `NEXT VALUE FOR s`, and Oracle's `s.NEXTVAL`: they set what `LASTVAL(s)` returns.
        5 => is(word, "VALUE") && last.is_any(&["NEXT"]),
        7 => is(word, "NEXTVAL"),
        19 => is(word, "SQL_CALC_FOUND_ROWS"),
        _ => false,
    }
}

/// What a word is that [`changes_session`].
fn cause_of<'a>(word: &[u8], mut after: Tokens<'_>) -> Cause<'a> {
    match after.next() {
        _ if !is(word, "INTO") => Cause::Other,
        // Named by itself.
        Some(Token::UserVariable) => Cause::None,
        Some(next) if next.is_any(&["OUTFILE", "DUMPFILE"]) => Cause::None,
        _ => Cause::Other,
    }
}

/// Whether no function call can follow this token directly: only an operator, an alias or another
/// name can.
///
/// - the end of an operand: `MATCH (a) AGAINST (b)`, `(SELECT ..) t (a, b)`, `'$' COLUMNS (..)`.
///   Quoted names are not among them, as ``{`d` f(1)}`` is a call with an ODBC identifier;
/// - what comes before the name of a type, an alias or a common table expression:
///   `CAST(x AS t(5))`, `AS t (a, b)`, `WITH t (a, b) AS (..)`;
/// - the beginning of the statement: `DO (1)`.
fn precedes_no_call(before: Token<'_>) -> bool {
    matches!(before, Token::Text | Token::Byte(b')' | b';'))
        || before.is_any(&["AS", "WITH", "RECURSIVE"])
}

/// Functions built into both servers that change the session, and nothing else.
const LOCKS: &[&str] = &["GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS"];

/// Returns the effect of a parenthesis after the tokens `before` and `last`, where it may open the
/// arguments of a function.
fn effect_of_call(
    before: Token<'_>,
    last: Token<'_>,
    adjacent: bool,
    arguments: &Tokens<'_>,
) -> Effect {
    match last {
        // After the name of a database, any name is a stored function's.
        Token::Word(_) | Token::Quoted(_) if matches!(before, Token::Byte(b'.')) => {
            Effect::STORED_FUNCTION
        }
        // Quotes turn a keyword's name into a stored function's.
        Token::Quoted(_) => Effect::STORED_FUNCTION,
        Token::Word(name) if contains(KEYWORDS, name) => Effect::NEUTRAL,
        Token::Word(name) if adjacent && contains(BUILT_IN_IF_ADJACENT, name) => Effect::NEUTRAL,
        Token::Word(name) if contains(BUILT_IN, name) => Effect::NEUTRAL,
        // An argument sets what it returns from now on.
        Token::Word(name) if is(name, "LAST_INSERT_ID") => match arguments.clone().next() {
            Some(Token::Byte(b')')) => Effect::NEUTRAL,
            _ => Effect::SESSION,
        },
        Token::Word(name) if is(name, "JSON_TABLE") && has_columns(arguments.clone()) => {
            Effect::NEUTRAL
        }
        Token::Word(_) if is_query_or_columns(arguments.clone()) => Effect::NEUTRAL,
        Token::Word(name) if is_any(name, LOCKS) => Effect::SESSION,
        Token::Word(_) => Effect::STORED_FUNCTION,
        _ => Effect::NEUTRAL,
    }
}

/// Whether these are the arguments of the table function `JSON_TABLE(doc, '$' COLUMNS (..))`. On
/// MariaDB, a stored function may have its name, but not such arguments.
///
/// Looks no further than the next parenthesis, so that the text is read twice at most.
fn has_columns(inside: Tokens<'_>) -> bool {
    let (mut before, mut last) = (Token::Byte(b'('), Token::Byte(b'('));
    for token in inside {
        match token {
            Token::Open { .. } => {
                return matches!(before, Token::Text) && last.is_any(&["COLUMNS"]);
            }
            Token::Byte(b')' | b';') => break,
            _ => (before, last) = (last, token),
        }
    }
    false
}

/// Whether a parenthesis holds a query (`EXPLAIN FORMAT=JSON (SELECT ..)`), which would need a
/// parenthesis of its own as an argument; or the columns of a common table expression other than
/// the first: `WITH a AS (..), b (x, y) AS (..)`.
///
/// Looks no further than the next parenthesis, so that the text is read twice at most.
fn is_query_or_columns(mut inside: Tokens<'_>) -> bool {
    match inside.next() {
        Some(first) if first.is_any(&["SELECT", "WITH"]) => return true,
        Some(Token::Word(_) | Token::Quoted(_)) => {}
        _ => return false,
    }
    let end = inside
        .find(|token| !matches!(token, Token::Word(_) | Token::Quoted(_) | Token::Byte(b',')));
    matches!(end, Some(Token::Byte(b')')))
        && inside.next_is(&["AS"])
        && matches!(inside.next(), Some(Token::Open { .. }))
}

/// Where the table of an `INSERT`, `REPLACE` or `CREATE TABLE` is expected. A parenthesis right
/// after its name holds names of columns.
#[derive(Clone, Copy)]
enum Target {
    /// Not here.
    None,
    /// The next name is the table's, or its database's.
    Awaited,
    /// The last token was the table's name.
    Named,
}

impl Target {
    const BEFORE_TABLE: &[&str] = &[
        "INTO",
        "IGNORE",
        "LOW_PRIORITY",
        "HIGH_PRIORITY",
        "DELAYED",
        "IF",
        "NOT",
        "EXISTS",
    ];

    fn step(self, last: Token<'_>, token: Token<'_>) -> Self {
        match self {
            Self::None => match last {
                Token::Byte(b'.') => Self::None,
                _ if token.is_any(&["INSERT", "REPLACE", "TABLE"]) => Self::Awaited,
                _ => Self::None,
            },
            Self::Awaited if token.is_any(Self::BEFORE_TABLE) => Self::Awaited,
            Self::Awaited if matches!(token, Token::Word(_) | Token::Quoted(_)) => Self::Named,
            Self::Named if matches!(token, Token::Byte(b'.')) => Self::Awaited,
            Self::Awaited | Self::Named => Self::None,
        }
    }
}
