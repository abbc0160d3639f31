//! Pure: tells from a statement's text whether running it may change what the session's next user
//! sees.
//!
//! Only what is known to leave nothing behind is neutral. Everything else counts as changing, also
//! what cannot be read with certainty: the text is read as the server reads it in *every* SQL mode,
//! and where `ANSI_QUOTES`, `NO_BACKSLASH_ESCAPES`, `IGNORE_SPACE`, `ORACLE` or `MSSQL` would end a
//! string elsewhere or call another function, the answer is [`Effect::UNKNOWN`]. The charset is
//! taken to be `utf8mb4`, which connections speak unless an init statement says otherwise; most of
//! what another charset would read differently is unknown, too.
//!
//! Not counted, because it tells of statements and not of the session: `LAST_INSERT_ID()` and
//! `@@identity` (an `INSERT` moves them, and there they stay until the next one or a reset: read
//! them only after an `INSERT` of one's own), `ROW_COUNT()`, `FOUND_ROWS()`, `SHOW WARNINGS`,
//! `@@error_count`, `@@warning_count`, `@@last_gtid`, the counters of `SHOW STATUS`, and where
//! `RAND()` stands.
//!
//! Text cannot show what triggers, views, defaults of columns (`NEXTVAL`) and all that these call
//! do to the session. And with autocommit switched off any statement opens a transaction: whoever
//! does that in an init statement has to look at the server's status flags after every statement.

pub(super) mod names;
#[cfg(test)]
mod tests;
mod tokens;

use names::{BUILT_IN, BUILT_IN_IF_ADJACENT, KEYWORDS, contains};
use tokens::{Token, Tokens, is, is_any};

/// What running a statement may leave behind in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Session state other than the database and the transaction may change: only a reset brings
    /// it back.
    pub(crate) session: bool,
    /// The default database may change, and with it `@@character_set_database` and
    /// `@@collation_database`.
    pub(crate) database: bool,
    /// A transaction may be begun or left open: the server's status flags tell.
    pub(crate) transaction: bool,
    /// A role may be taken or given up: no reset brings the account's own rights back.
    pub(crate) role: bool,
}

impl Effect {
    /// Nothing is left behind.
    pub(crate) const NEUTRAL: Self = Self {
        session: false,
        database: false,
        transaction: false,
        role: false,
    };
    /// Anything may be left behind.
    pub(crate) const UNKNOWN: Self = Self {
        session: true,
        database: true,
        transaction: true,
        role: true,
    };

    const SESSION: Self = Self {
        session: true,
        ..Self::NEUTRAL
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
    /// What a stored function may do: with the rights of its caller it may also set the caller's role.
    const STORED_FUNCTION: Self = Self {
        role: true,
        ..Self::SESSION
    };

    /// What is left behind by one or the other, or by both in turn.
    pub(crate) const fn union(self, other: Self) -> Self {
        Self {
            session: self.session || other.session,
            database: self.database || other.database,
            transaction: self.transaction || other.transaction,
            role: self.role || other.role,
        }
    }
}

/// Judges a text of any number of statements, in time linear in its length and without allocating.
///
/// It need not be UTF-8, nor valid SQL.
pub(crate) fn effect_of(sql: &[u8]) -> Effect {
    let mut tokens = Tokens::new(sql);
    let mut effect = Effect::NEUTRAL;
    while !tokens.is_at_end() && effect != Effect::UNKNOWN {
        effect = effect.union(effect_of_statement(&mut tokens));
    }
    effect
}

/// Judges one statement and consumes it, with the semicolon that ends it.
fn effect_of_statement(tokens: &mut Tokens<'_>) -> Effect {
    match tokens
        .by_ref()
        .find(|token| !matches!(token, Token::Open { .. }))
    {
        None | Some(Token::Byte(b';')) => Effect::NEUTRAL,
        Some(Token::Word(verb)) => match effect_of_verb(verb, tokens.clone()) {
            Effect::UNKNOWN => Effect::UNKNOWN,
            known => known.union(effect_of_body(verb, tokens)),
        },
        Some(_) => Effect::UNKNOWN,
    }
}

/// Judges a statement by its first word and the few after it; its other words may add to that.
fn effect_of_verb(verb: &[u8], mut after: Tokens<'_>) -> Effect {
    let known = if is_any(verb, QUERIES) {
        Some(Effect::NEUTRAL)
    } else if is(verb, "SET") {
        sets_variables(after).then_some(Effect::SESSION_AND_TRANSACTION)
    } else if is_any(verb, OF_SESSION) {
        Some(Effect::SESSION_AND_TRANSACTION)
    } else if is_any(verb, &["CREATE", "ALTER", "DROP"]) {
        let of_table = after.next_is(&["TABLE", "TEMPORARY"]);
        of_table.then_some(Effect::SESSION_AND_TRANSACTION)
    } else if is(verb, "USE") {
        let of_sys = after.next().is_some_and(|token| token.names("SYS"));
        (!of_sys).then_some(Effect::DATABASE)
    } else if is(verb, "BEGIN") {
        // Followed by anything else it is a block of statements, such as `BEGIN NOT ATOMIC`.
        let next = after.find(|token| !token.is_any(&["WORK"]));
        matches!(next, None | Some(Token::Byte(b';'))).then_some(Effect::TRANSACTION)
    } else if is_any(verb, &["COMMIT", "ROLLBACK"]) {
        // `COMMIT RELEASE` ends the connection.
        let mut rest = after.take_while(|token| !matches!(token, Token::Byte(b';')));
        let releases = rest.any(|token| token.is_any(&["RELEASE"]));
        (!releases).then_some(Effect::TRANSACTION)
    } else {
        let of_transaction = is(verb, "START") && after.next_is(&["TRANSACTION"])
            || is(verb, "RELEASE") && after.next_is(&["SAVEPOINT"])
            || is(verb, "SAVEPOINT");
        of_transaction.then_some(Effect::TRANSACTION)
    };
    known.unwrap_or(Effect::UNKNOWN)
}

/// Tells whether what follows `SET` is variables and nothing else.
///
/// It is not for `SET ROLE`, nor for `SET STATEMENT .. FOR`, which goes on with any statement. MariaDB takes several
/// settings at once, each of any kind: `SET @a = 1, ROLE r`.
fn sets_variables(mut after: Tokens<'_>) -> bool {
    let is_of_transaction = after
        .clone()
        .find(|token| !token.is_any(SCOPES))
        .is_some_and(|token| token.is_any(&["TRANSACTION"]));
    let mut depth = 0_usize;
    if !sets_a_variable(after.clone()) {
        return false;
    }
    while let Some(token) = after.next() {
        match token {
            Token::Open { .. } => depth = depth.saturating_add(1),
            Token::Byte(b')') => depth = depth.saturating_sub(1),
            Token::Byte(b';') => break,
            // `SET TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE` goes on with nothing else.
            Token::Byte(b',')
                if depth == 0 && !is_of_transaction && !sets_a_variable(after.clone()) =>
            {
                return false;
            }
            _ => {}
        }
    }
    true
}

const SCOPES: &[&str] = &["SESSION", "GLOBAL", "LOCAL", "PERSIST", "PERSIST_ONLY"];

/// Tells whether the next of the settings after `SET` is a variable.
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

/// Judges what follows a statement's first word, and consumes it.
fn effect_of_body<'a>(verb: &'a [u8], tokens: &mut Tokens<'a>) -> Effect {
    let mut effect = Effect::NEUTRAL;
    let mut target = Target::None.step(Token::Byte(b';'), Token::Word(verb));
    let mut before = Token::Byte(b';');
    let mut last = Token::Word(verb);
    while let Some(token) = tokens.next() {
        let changes = match token {
            Token::Byte(b';') => break,
            Token::Unreadable => return Effect::UNKNOWN,
            // Also if it is only read: a change that goes to the binary log creates what it reads.
            Token::UserVariable | Token::Assign => Effect::SESSION,
            // The views of `sys` set user variables of their own.
            Token::Byte(b'.') if last.names("SYS") => Effect::SESSION,
            Token::Word(word) if changes_as_word(word, last, target) => Effect::SESSION,
            Token::Open { adjacent }
                if !matches!(target, Target::Named) && !follows_no_operator(before) =>
            {
                effect_of_call(before, last, adjacent, tokens)
            }
            _ => Effect::NEUTRAL,
        };
        effect = effect.union(changes);
        target = target.step(last, token);
        before = last;
        last = token;
    }
    effect
}

/// Tells whether a word by itself makes a query or a change of rows leave something behind.
fn changes_as_word(word: &[u8], last: Token<'_>, target: Target) -> bool {
    // By length, which rules out most words at once.
    match word.len() {
        // A variable or a file, unless it is the table of an `INSERT`.
        4 => is(word, "INTO") && !matches!(target, Target::Awaited),
        // `NEXT VALUE FOR s`, and Oracle's `s.NEXTVAL`: what `LASTVAL(s)` tells from now on.
        5 => is(word, "VALUE") && last.is_any(&["NEXT"]),
        7 => is(word, "NEXTVAL"),
        19 => is(word, "SQL_CALC_FOUND_ROWS"),
        _ => false,
    }
}

/// Tells whether what stands before a parenthesis cannot be a function for what comes before that:
/// a statement's first word (`DO (1)`), an alias or a type (`AS t (a, b)`, `(SELECT ..) t (a, b)`,
/// `CAST(x AS t(5))`), a common table expression (`WITH t (a, b) AS`), `MATCH (a) AGAINST (b)`.
fn follows_no_operator(before: Token<'_>) -> bool {
    matches!(before, Token::Byte(b')' | b';')) || before.is_any(&["AS", "WITH", "RECURSIVE"])
}

/// What is left behind where a parenthesis after the tokens `before` and `last` opens the arguments of a function.
fn effect_of_call(
    before: Token<'_>,
    last: Token<'_>,
    adjacent: bool,
    arguments: &Tokens<'_>,
) -> Effect {
    match last {
        // With the name of its database before it, it is a stored function whatever it is called.
        Token::Word(_) | Token::Quoted(_) if matches!(before, Token::Byte(b'.')) => {
            Effect::STORED_FUNCTION
        }
        // Quoted, a name is a stored function's where the same name unquoted would not be.
        Token::Quoted(_) => Effect::STORED_FUNCTION,
        Token::Word(name) if contains(KEYWORDS, name) => Effect::NEUTRAL,
        Token::Word(name) if adjacent && contains(BUILT_IN_IF_ADJACENT, name) => Effect::NEUTRAL,
        Token::Word(name) if contains(BUILT_IN, name) => Effect::NEUTRAL,
        // With an argument it sets what it tells.
        Token::Word(name) if is(name, "LAST_INSERT_ID") => match arguments.clone().next() {
            Some(Token::Byte(b')')) => Effect::NEUTRAL,
            _ => Effect::SESSION,
        },
        Token::Word(_) if are_no_arguments(arguments.clone()) => Effect::NEUTRAL,
        Token::Word(name) if is_any(name, LOCKS) => Effect::SESSION,
        Token::Word(_) => Effect::STORED_FUNCTION,
        _ => Effect::NEUTRAL,
    }
}

/// Tells whether what stands in a parenthesis, and behind it, cannot be a function's arguments: a
/// query without a parenthesis of its own (`EXPLAIN FORMAT=JSON (SELECT ..)`), or the columns of a
/// common table expression that is not the first (`WITH a AS (..), b (x, y) AS (..)`).
///
/// It looks no further than the next parenthesis, so that each token is looked at once.
fn are_no_arguments(mut within: Tokens<'_>) -> bool {
    match within.next() {
        Some(first) if first.is_any(&["SELECT", "WITH"]) => return true,
        Some(Token::Word(_) | Token::Quoted(_)) => {}
        _ => return false,
    }
    let end = within
        .find(|token| !matches!(token, Token::Word(_) | Token::Quoted(_) | Token::Byte(b',')));
    matches!(end, Some(Token::Byte(b')')))
        && within.next_is(&["AS"])
        && matches!(within.next(), Some(Token::Open { .. }))
}

/// How far the table of an `INSERT` or `REPLACE` has been read: right after it, a parenthesis holds
/// names of columns.
#[derive(Clone, Copy)]
enum Target {
    /// None is expected here.
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

/// Functions built into both servers that change the session, and nothing else.
const LOCKS: &[&str] = &["GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS"];
