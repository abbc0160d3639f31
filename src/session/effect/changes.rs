//! Names what a text changes in its session, so that just that can be undone.
//!
//! A change is named only if it is certain what undoes it. Of the session variables, those in
//! [`VARIABLES`] and [`SHAPING`] are named: assigning the global value leaves what a reset leaves,
//! on both servers. The integration tests check this for each of them. `DEFAULT` would not do:
//! MySQL assigns the opposite to `foreign_key_checks` and `unique_checks`.

use std::mem;

use super::{
    Effect, QUERIES,
    control::only_sets,
    effect_with_causes,
    tokens::{Token, Tokens, is, is_any},
};

/// The most changes to undo. A session with more of them is reset.
const MOST: usize = 8;

/// The longest name of a user variable.
const LONGEST_NAME: usize = 64;

/// Session variables that can be undone.
#[rustfmt::skip]
pub(crate) const VARIABLES: &[&str] = &[
    "autocommit", "bulk_insert_buffer_size", "idle_readonly_transaction_timeout",
    "idle_transaction_timeout", "idle_write_transaction_timeout", "innodb_lock_wait_timeout",
    "interactive_timeout", "join_buffer_size", "lock_wait_timeout", "long_query_time",
    "max_execution_time", "max_heap_table_size", "max_statement_time", "min_examined_row_limit",
    "net_read_timeout", "net_write_timeout", "read_buffer_size", "read_rnd_buffer_size",
    "sort_buffer_size", "tmp_table_size", "wait_timeout",
];

/// Session variables that can be undone, but whose values a prepared statement may keep.
#[rustfmt::skip]
pub(crate) const SHAPING: &[&str] = &[
    "cte_max_recursion_depth", "default_week_format", "div_precision_increment",
    "foreign_key_checks", "group_concat_max_len", "innodb_strict_mode", "lc_time_names",
    "low_priority_updates", "max_recursive_iterations", "max_sort_length",
    "optimizer_prune_level", "optimizer_search_depth", "optimizer_switch", "sql_auto_is_null",
    "sql_mode", "sql_notes", "sql_safe_updates", "sql_select_limit", "time_zone", "unique_checks",
];

/// The variables that `SET NAMES` and `SET CHARACTER SET` assign.
const OF_CHARSET: &[&str] = &[
    "character_set_client",
    "character_set_connection",
    "character_set_results",
    "collation_connection",
];

/// One change, named well enough to undo it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A user variable, by a name that may stand between backquotes.
    UserVariable(Box<str>),
    /// One of [`VARIABLES`] or [`SHAPING`].
    Variable(&'static str),
    /// The isolation level of the session or of its next transaction.
    IsolationLevel,
    /// Whether the session's transactions, or its next one, are read-only.
    ReadOnly,
    /// The charset and collation of the connection.
    Charset,
    /// Named locks, of any name.
    Locks,
    /// A temporary table, by its quoted name.
    TemporaryTable {
        name: Box<str>,
        /// Whether the name stands without that of its database.
        is_plain: bool,
    },
}

impl Change {
    /// The name of the user variable, if it is one.
    pub(crate) fn user_variable(&self) -> Option<&str> {
        match self {
            Self::UserVariable(name) => Some(name),
            _ => None,
        }
    }

    /// Whether a prepared statement may keep this change: from when it was prepared, or when the
    /// server prepared it again.
    fn shapes_statements(&self) -> bool {
        match self {
            Self::Variable(name) => SHAPING.contains(name),
            Self::Charset | Self::TemporaryTable { .. } => true,
            Self::UserVariable(_) | Self::IsolationLevel | Self::ReadOnly | Self::Locks => false,
        }
    }
}

/// What the statements of a caller changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    named: Vec<Change>,
    /// Something else may have been changed.
    is_unknown: bool,
    /// A prepared statement that is executed from now on may keep one of the changes.
    pub(crate) shapes_statements: bool,
}

impl Changes {
    /// Records what a text may change, and returns its effect.
    pub(crate) fn record(&mut self, sql: &[u8]) -> Effect {
        let (effect, found) = effect_and_changes_of(sql);
        match found {
            Some(found) => self.add(found.named),
            None => self.is_unknown |= effect.session,
        }
        effect
    }

    /// Records what a prepared statement may change. It is known to change its session.
    ///
    /// On MySQL, one that reads a user variable keeps that variable's type.
    pub(crate) fn record_prepared(&mut self, sql: &[u8]) {
        match changes_of(sql) {
            Some(found) if !found.reads && !found.makes_table() => self.add(found.named),
            _ => self.is_unknown = true,
        }
    }

    /// Records that something unknown may have been changed.
    pub(crate) fn record_unknown(&mut self) {
        self.is_unknown = true;
    }

    fn add(&mut self, named: Vec<Change>) {
        for change in named {
            if !self.named.contains(&change) {
                self.shapes_statements |= change.shapes_statements();
                self.named.push(change);
            }
        }
        self.is_unknown |= self.named.len() > MOST;
    }

    /// All changes; `None` if not all of them are known, or if there are too many.
    pub(crate) fn all(&self) -> Option<&[Change]> {
        (!self.is_unknown).then_some(&self.named)
    }

    pub(crate) fn clear(&mut self) {
        self.named.clear();
        self.is_unknown = false;
        self.shapes_statements = false;
    }
}

/// Whether a text may read a user variable.
pub(crate) fn reads_user_variables(sql: &[u8]) -> bool {
    changes_of(sql).is_none_or(|found| found.reads)
}

/// Returns what a text changes, if it holds nothing but `SET` statements, which can be repeated,
/// and can be sent in one text with others.
pub(crate) fn changes_of_settings(sql: &[u8]) -> Option<Vec<Change>> {
    // A comment after the last semicolon would be a statement of its own, and an empty one.
    let trimmed = sql.trim_ascii_end();
    let trimmed = trimmed.strip_suffix(b";").unwrap_or(trimmed);
    let last = Tokens::new(trimmed).last()?;
    let joins = !matches!(last, Token::Byte(b';') | Token::Ambiguous) && only_sets(sql);
    changes_of(sql).filter(|_| joins).map(|found| found.named)
}

/// Returns what a text of any number of statements changes; `None` if not all of it can be named.
fn changes_of(sql: &[u8]) -> Option<Found> {
    effect_and_changes_of(sql).1
}

/// Returns the effect of a text, and what it changes, as [`changes_of`] does.
fn effect_and_changes_of(sql: &[u8]) -> (Effect, Option<Found>) {
    let mut found = Found::default();
    let effect = effect_with_causes(sql, &mut found);
    let is_named = !effect.role && !effect.unresettable && !found.is_unnamed;
    (effect, is_named.then_some(found))
}

/// Something in the body of a statement that changes the session.
#[derive(Clone, Copy)]
pub(super) enum Cause<'a> {
    /// A user variable is read or set: this follows its `@`.
    UserVariable(&'a [u8]),
    /// A named lock is taken or released.
    Lock,
    /// There is nothing to undo, or another cause stands for it.
    None,
    /// Something that cannot be named.
    Other,
}

/// Receives what changes the session.
pub(super) trait Notify {
    /// Receives a cause in the body of a statement.
    fn notify(&mut self, cause: Cause<'_>);

    /// Receives a statement that changes the session, after the causes in its body.
    fn end_statement(&mut self, statement: Tokens<'_>);
}

/// Ignores all causes.
impl Notify for () {
    #[inline]
    fn notify(&mut self, _cause: Cause<'_>) {}

    #[inline]
    fn end_statement(&mut self, _statement: Tokens<'_>) {}
}

#[derive(Debug, Default)]
struct Found {
    named: Vec<Change>,
    /// Something is changed that cannot be named.
    is_unnamed: bool,
    /// A user variable is read, or set in another way than by `SET`.
    reads: bool,
    /// How many times this statement has mentioned user variables so far.
    mentions: usize,
}

impl Notify for Found {
    fn notify(&mut self, cause: Cause<'_>) {
        match cause {
            Cause::UserVariable(after) => {
                self.mentions = self.mentions.wrapping_add(1);
                match variable_name(after) {
                    Some(name) => self.add(Change::UserVariable(name)),
                    None => self.is_unnamed = true,
                }
            }
            Cause::Lock => self.add(Change::Locks),
            Cause::None => {}
            Cause::Other => self.is_unnamed = true,
        }
    }

    fn end_statement(&mut self, statement: Tokens<'_>) {
        let mentions = mem::take(&mut self.mentions);
        match self.name_by_verb(statement) {
            Some(targets) => self.reads |= mentions > targets,
            None => self.is_unnamed = true,
        }
    }
}

impl Found {
    fn makes_table(&self) -> bool {
        let is_table = |change: &Change| matches!(change, Change::TemporaryTable { .. });
        self.named.iter().any(is_table)
    }

    /// Adds a change. Their number is bounded, because a text may name any number of things.
    fn add(&mut self, change: Change) {
        if self.named.len() > MOST {
            self.is_unnamed = true;
        } else if !self.named.contains(&change) {
            self.named.push(change);
        }
    }

    /// Names what the statement changes by its verb, in addition to its body. Returns how many user
    /// variables are targets of a `SET`; `None` if a change cannot be named.
    fn name_by_verb(&mut self, mut statement: Tokens<'_>) -> Option<usize> {
        let first = statement.find(|token| !matches!(token, Token::Open { .. }));
        let Some(Token::Word(verb)) = first else {
            return None;
        };
        if is(verb, "SET") {
            return self.name_settings(statement);
        }
        if is(verb, "CREATE") {
            self.add(temporary_table(statement)?);
        } else if is(verb, "DROP") {
            // A new session has no temporary table, so dropping one leaves nothing behind.
            let is_temporary = statement.next_is(&["TEMPORARY"]) && statement.next_is(&["TABLE"]);
            is_temporary.then_some(())?;
        } else if !is_any(verb, QUERIES) {
            return None;
        }
        Some(0)
    }

    /// Names what the settings after `SET` assign, except user variables, which it counts.
    fn name_settings(&mut self, mut after: Tokens<'_>) -> Option<usize> {
        let mut targets = 0_usize;
        loop {
            let mut first = after.next()?;
            if first.is_any(&["SESSION", "LOCAL"]) {
                first = after.next()?;
            }
            let change = match first {
                Token::UserVariable => {
                    targets = targets.saturating_add(1);
                    None
                }
                Token::SystemVariable => {
                    let mut name = after.next()?;
                    if name.is_any(&["SESSION", "LOCAL"]) {
                        matches!(after.next()?, Token::Byte(b'.')).then_some(())?;
                        name = after.next()?;
                    }
                    Some(assigned(name, &mut after)?)
                }
                word if word.is_any(&["NAMES", "CHARACTER", "CHARSET"]) => {
                    // As the name of a variable it would be followed by `=`.
                    let is_value = !matches!(after.next()?, Token::Assign | Token::Byte(b'='));
                    Some(is_value.then_some(Change::Charset)?)
                }
                word if word.is_any(&["TRANSACTION"]) => {
                    // Takes the rest of the statement.
                    after.next_is(&["ISOLATION", "READ"]).then_some(())?;
                    self.add(Change::IsolationLevel);
                    self.add(Change::ReadOnly);
                    return Some(targets);
                }
                name => Some(assigned(name, &mut after)?),
            };
            if let Some(change) = change {
                self.add(change);
            }
            if !skip_value(&mut after) {
                return Some(targets);
            }
        }
    }
}

/// The change that an assignment to this name makes; `None` if no assignment follows, or if the
/// variable cannot be undone.
fn assigned(name: Token<'_>, after: &mut Tokens<'_>) -> Option<Change> {
    let is_assigned = matches!(after.next()?, Token::Assign | Token::Byte(b'='));
    let is_one_of =
        |names: &[&'static str]| names.iter().copied().find(|known| name.is_name(known));
    if !is_assigned {
        None
    } else if is_one_of(OF_CHARSET).is_some() {
        Some(Change::Charset)
    } else if is_one_of(&["transaction_isolation", "tx_isolation"]).is_some() {
        Some(Change::IsolationLevel)
    } else if is_one_of(&["transaction_read_only", "tx_read_only"]).is_some() {
        Some(Change::ReadOnly)
    } else {
        is_one_of(VARIABLES)
            .or_else(|| is_one_of(SHAPING))
            .map(Change::Variable)
    }
}

/// Skips the value of a setting. Returns whether another setting follows.
fn skip_value(after: &mut Tokens<'_>) -> bool {
    let mut depth = 0_usize;
    for token in after {
        match token {
            Token::Open { .. } => depth = depth.saturating_add(1),
            Token::Byte(b')') => depth = depth.saturating_sub(1),
            Token::Byte(b';') => return false,
            Token::Byte(b',') if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// The table that `CREATE TEMPORARY TABLE` creates.
fn temporary_table(mut after: Tokens<'_>) -> Option<Change> {
    (after.next_is(&["TEMPORARY"]) && after.next_is(&["TABLE"])).then_some(())?;
    let mut first = after.next()?;
    if first.is_any(&["IF"]) {
        (after.next_is(&["NOT"]) && after.next_is(&["EXISTS"])).then_some(())?;
        first = after.next()?;
    }
    let first = quoted(first)?;
    let mut rest = after.clone();
    if !matches!(rest.next(), Some(Token::Byte(b'.'))) {
        return Some(Change::TemporaryTable {
            name: first.into(),
            is_plain: true,
        });
    }
    let name = format!("{first}.{}", quoted(rest.next()?)?);
    Some(Change::TemporaryTable {
        name: name.into(),
        is_plain: false,
    })
}

/// A name between backquotes, if it is plain.
fn quoted(name: Token<'_>) -> Option<String> {
    let (Token::Word(name) | Token::Quoted(name)) = name else {
        return None;
    };
    Some(format!("`{}`", plain(name)?))
}

/// The name of a user variable, if the text after its `@` begins with one that is plain.
fn variable_name(after: &[u8]) -> Option<Box<str>> {
    let (&first, rest) = after.split_first()?;
    let name = if matches!(first, b'`' | b'"' | b'\'') {
        let length = rest.iter().position(|&byte| byte == first)?;
        let (name, end) = rest.split_at_checked(length)?;
        // A doubled quote is part of the name.
        let is_closed = end.get(1) != Some(&first);
        is_closed.then_some(name)?
    } else {
        let ends = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"_.$".contains(byte));
        let length = after.iter().position(ends).unwrap_or(after.len());
        after.get(..length)?
    };
    let name = plain(name).filter(|name| name.len() <= LONGEST_NAME)?;
    // Upper and lower case are the same to the server.
    Some(name.to_ascii_lowercase().into())
}

/// The name, if it means the same between backquotes in every charset and SQL mode. In `swe7`,
/// brackets, braces and the like are letters.
fn plain(name: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_$.- ".contains(byte);
    if name.is_empty() || !name.iter().all(is_plain) {
        return None;
    }
    core::str::from_utf8(name).ok()
}
