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
    pub(crate) read_only: bool,
}

impl Effect {
    /// Nothing is left behind.
    pub(crate) const NEUTRAL: Self = Self {
        session: false,
        database: false,
        transaction: false,
        role: false,
        read_only: false,
    };
    /// Anything may be left behind.
    pub(crate) const UNKNOWN: Self = Self {
        session: true,
        database: true,
        transaction: true,
        role: true,
        read_only: true,
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
            read_only: self.read_only || other.read_only,
        }
    }
}

/// Judges a text of any number of statements, in time linear in its length and without allocating.
///
/// It need not be UTF-8, nor valid SQL.
pub(crate) fn effect_of(sql: &[u8]) -> Effect {
    let mut tokens = Tokens { rest: sql };
    let mut effect = Effect::NEUTRAL;
    while !tokens.rest.is_empty() && effect != Effect::UNKNOWN {
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

/// A piece of a statement's text.
#[derive(Clone, Copy)]
enum Token<'a> {
    /// A keyword, a name or a number: letters, digits, `_` and `$`.
    Word(&'a [u8]),
    /// What stands between backquotes or double quotes: a name, or a string.
    Quoted(&'a [u8]),
    /// A string in single quotes.
    Text,
    /// `(`, and whether it follows the token before it directly.
    Open { adjacent: bool },
    /// `:=`
    Assign,
    /// `@`
    UserVariable,
    /// `@@`
    SystemVariable,
    /// Any other punctuation.
    Byte(u8),
    /// What may be read in more than one way. Nothing comes after it.
    Unreadable,
}

impl Token<'_> {
    /// Tells whether this is that name, in quotes or not.
    fn names(self, name: &str) -> bool {
        matches!(self, Token::Word(word) | Token::Quoted(word) if is(word, name))
    }

    /// Tells whether this is one of these keywords.
    fn is_any(self, keywords: &[&str]) -> bool {
        matches!(self, Token::Word(word) if is_any(word, keywords))
    }
}

/// Cuts a text into tokens, leaving out white space and comments.
#[derive(Clone)]
struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let Some(spaced) = self.skip_space() else {
            return Some(self.unreadable());
        };
        let (&byte, rest) = self.rest.split_first()?;
        let token = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => {
                return Some(Token::Word(self.word()));
            }
            b'(' => Token::Open { adjacent: !spaced },
            b'\'' | b'"' | b'`' => {
                return Some(self.quoted(byte, rest).unwrap_or_else(|| self.unreadable()));
            }
            b'@' if rest.starts_with(b"@") => return Some(self.pair(Token::SystemVariable)),
            b'@' => Token::UserVariable,
            b':' if rest.starts_with(b"=") => return Some(self.pair(Token::Assign)),
            // Brackets quote names in the mode MSSQL, `$$` quotes a body of a function, and what a
            // byte beyond ASCII is depends on the charset.
            b'[' | b']' | b'\\' | b'$' => return Some(self.unreadable()),
            _ if !byte.is_ascii_punctuation() => return Some(self.unreadable()),
            _ => Token::Byte(byte),
        };
        self.rest = rest;
        Some(token)
    }
}

impl<'a> Tokens<'a> {
    /// Tells whether the next token is one of these keywords, and consumes it.
    fn next_is(&mut self, keywords: &[&str]) -> bool {
        self.next().is_some_and(|token| token.is_any(keywords))
    }

    fn unreadable(&mut self) -> Token<'a> {
        self.rest = &[];
        Token::Unreadable
    }

    fn pair(&mut self, token: Token<'a>) -> Token<'a> {
        self.rest = self.rest.get(2..).unwrap_or_default();
        token
    }

    fn word(&mut self) -> &'a [u8] {
        let ends = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'));
        let length = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(length).unwrap_or_default();
        self.rest = rest;
        word
    }

    /// Reads on from behind an opening quote; `None` if it is not certain where the closing one is.
    fn quoted(&mut self, quote: u8, opened: &'a [u8]) -> Option<Token<'a>> {
        let mut rest = opened;
        loop {
            let special = rest
                .iter()
                .position(|&byte| byte == quote || byte == b'\\' || byte == 0)?;
            let (plain, at_special) = rest.split_at_checked(special)?;
            let (&byte, behind) = at_special.split_first()?;
            rest = behind;
            if byte == quote {
                match behind.strip_prefix(&[quote]) {
                    Some(behind_doubled) => rest = behind_doubled,
                    None => break,
                }
            } else if byte == 0 {
                // It ends a name.
                return None;
            } else if quote != b'`' {
                let (&escaped, behind_escaped) = behind.split_first()?;
                // Without backslash escapes, the string would end here; so would a name at NUL.
                let ends_here = escaped == quote || escaped == 0;
                // In a charset such as GBK the first of two backslashes may be half a character,
                // and the second one escape what follows.
                let may_be_half =
                    escaped == b'\\' && plain.last().is_some_and(|byte| !byte.is_ascii());
                if ends_here || may_be_half {
                    return None;
                }
                rest = behind_escaped;
            }
        }
        let (content, _) =
            opened.split_at_checked(opened.len().checked_sub(rest.len())?.checked_sub(1)?)?;
        if !content.is_ascii() && (quote == b'`' || core::str::from_utf8(content).is_err()) {
            return None;
        }
        self.rest = rest;
        Some(if quote == b'\'' {
            Token::Text
        } else {
            Token::Quoted(content)
        })
    }

    /// Skips white space and comments, and tells whether there were any; `None` if it is not
    /// certain that they are comments, or where they end.
    fn skip_space(&mut self) -> Option<bool> {
        let mut rest = self.rest;
        loop {
            rest = match *rest {
                [b' ' | b'\t'..=b'\r', ref behind @ ..] => behind,
                [b'#', ref comment @ ..] => behind_line(comment),
                [b'-', b'-', ref comment @ ..]
                    if comment
                        .first()
                        .is_none_or(|&byte| byte == b' ' || byte.is_ascii_control()) =>
                {
                    behind_line(comment)
                }
                [b'/', b'*', ref comment @ ..] => behind_comment(comment)?,
                _ => break,
            };
        }
        let spaced = rest.len() < self.rest.len();
        self.rest = rest;
        Some(spaced)
    }
}

/// What comes after the line that begins here; it ends at NUL, too.
fn behind_line(line: &[u8]) -> &[u8] {
    line.iter()
        .position(|&byte| byte == b'\n' || byte == 0)
        .and_then(|end| line.get(end..))
        .unwrap_or_default()
}

/// What comes after the comment whose `/*` ends here; `None` if a server may run it, or if it does
/// not end.
fn behind_comment(comment: &[u8]) -> Option<&[u8]> {
    let end = comment.windows(2).position(|pair| pair == b"*/")?;
    let (text, behind) = comment.split_at_checked(end)?;
    let neutral = match *text {
        [b'!', ..] | [b'M', b'!', ..] => false,
        // Hints; but none that set a variable, nor names in quotes, which might hold the end.
        [b'+', ref hints @ ..] => hints
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_(),.@- \t\r\n".contains(byte)),
        _ => true,
    };
    if neutral {
        behind.strip_prefix(b"*/")
    } else {
        None
    }
}

fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

fn is_any(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| is(word, name))
}

/// Looks a word up in a list sorted by bytes, in capitals.
fn contains(sorted: &[&str], word: &[u8]) -> bool {
    let capitals = || word.iter().map(u8::to_ascii_uppercase);
    sorted
        .binary_search_by(|name| name.bytes().cmp(capitals()))
        .is_ok()
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

/// Keywords, types among them, that a parenthesis may follow. Unquoted they are never the name of a
/// stored function.
#[rustfmt::skip]
pub(super) const KEYWORDS: &[&str] = &[
    "ALL", "AND", "ANY", "AS", "BETWEEN", "BIGINT", "BINARY", "BIT", "BY", "CASE", "CHARACTER",
    "DATETIME", "DEC", "DECIMAL", "DISTINCT", "DISTINCTROW", "DIV", "DOUBLE", "ELSE", "EXCEPT",
    "EXISTS", "FLOAT", "FROM", "HAVING", "HIGH_PRIORITY", "IN", "INDEX", "INT", "INTEGER",
    "INTERSECT", "JOIN", "KEY", "LIKE", "MEDIUMINT", "NCHAR", "NOT", "NUMERIC", "ON", "OR", "OVER",
    "PARTITION", "REAL", "REGEXP", "RETURNING", "RLIKE", "ROW", "SELECT", "SMALLINT", "SOME",
    "SQL_BIG_RESULT", "SQL_SMALL_RESULT", "STRAIGHT_JOIN", "TEXT", "THEN", "TINYINT", "UNION",
    "USING", "VALUE", "VALUES", "VARBINARY", "VARCHAR", "VARCHARACTER", "WHEN", "WHERE", "XOR",
];

/// Functions that are built into MariaDB (from 10.11) *and* MySQL (from 8.0), and leave nothing
/// behind.
///
/// A name that only one of them knows (`ANY_VALUE`, `NVL`), or only some versions (`MD5`, which
/// MySQL 9.7 lacks), is missing: on the other it may be a stored function's.
#[rustfmt::skip]
pub(super) const BUILT_IN: &[&str] = &[
    "ABS", "ACOS", "ADDTIME", "AES_DECRYPT", "AES_ENCRYPT", "ASCII", "ASIN", "ATAN", "ATAN2",
    "AVG", "BENCHMARK", "BIN", "BIT_COUNT", "BIT_LENGTH", "CEIL", "CEILING", "CHAR",
    "CHARACTER_LENGTH", "CHARSET", "CHAR_LENGTH", "COALESCE", "COERCIBILITY", "COLLATION",
    "COMPRESS", "CONCAT", "CONCAT_WS", "CONNECTION_ID", "CONV", "CONVERT", "CONVERT_TZ", "COS",
    "COT", "CRC32", "CURRENT_DATE", "CURRENT_ROLE", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "CURRENT_USER", "DATABASE", "DATE", "DATEDIFF", "DATE_FORMAT", "DAY", "DAYNAME", "DAYOFMONTH",
    "DAYOFWEEK", "DAYOFYEAR", "DEFAULT", "DEGREES", "ELT", "EXP", "EXPORT_SET", "FIELD",
    "FIND_IN_SET", "FLOOR", "FORMAT", "FOUND_ROWS", "FROM_BASE64", "FROM_DAYS", "FROM_UNIXTIME",
    "GET_FORMAT", "GREATEST", "HEX", "HOUR", "IF", "IFNULL", "INET6_ATON", "INET6_NTOA",
    "INET_ATON", "INET_NTOA", "INSERT", "INSTR", "INTERVAL", "ISNULL", "IS_FREE_LOCK", "IS_IPV4",
    "IS_IPV4_COMPAT", "IS_IPV4_MAPPED", "IS_IPV6", "IS_USED_LOCK", "JSON_ARRAY",
    "JSON_ARRAY_APPEND", "JSON_ARRAY_INSERT", "JSON_CONTAINS", "JSON_CONTAINS_PATH", "JSON_DEPTH",
    "JSON_EXTRACT", "JSON_INSERT", "JSON_KEYS", "JSON_LENGTH", "JSON_MERGE", "JSON_MERGE_PATCH",
    "JSON_MERGE_PRESERVE", "JSON_OBJECT", "JSON_OVERLAPS", "JSON_PRETTY", "JSON_QUOTE",
    "JSON_REMOVE", "JSON_REPLACE", "JSON_SEARCH", "JSON_SET", "JSON_TYPE", "JSON_UNQUOTE",
    "JSON_VALID", "JSON_VALUE", "LAST_DAY", "LAST_VALUE", "LCASE", "LEAST", "LEFT", "LENGTH", "LN",
    "LOAD_FILE", "LOCALTIME", "LOCALTIMESTAMP", "LOCATE", "LOG", "LOG10", "LOG2", "LOWER", "LPAD",
    "LTRIM", "MAKEDATE", "MAKETIME", "MAKE_SET", "MATCH", "MBRCONTAINS", "MBRDISJOINT",
    "MBREQUALS", "MBRINTERSECTS", "MBROVERLAPS", "MBRTOUCHES", "MBRWITHIN", "MICROSECOND",
    "MINUTE", "MOD", "MONTH", "MONTHNAME", "NAME_CONST", "NULLIF", "OCT", "OCTET_LENGTH", "ORD",
    "PERIOD_ADD", "PERIOD_DIFF", "PI", "POW", "POWER", "QUARTER", "QUOTE", "RADIANS", "RAND",
    "RANDOM_BYTES", "REGEXP_INSTR", "REGEXP_REPLACE", "REGEXP_SUBSTR", "REPEAT", "REPLACE",
    "REVERSE", "RIGHT", "ROUND", "ROW_COUNT", "ROW_NUMBER", "RPAD", "RTRIM", "SCHEMA", "SECOND",
    "SEC_TO_TIME", "SHA2", "SIGN", "SIN", "SLEEP", "SOUNDEX", "SPACE", "SQRT", "STRCMP",
    "STR_TO_DATE", "ST_AREA", "ST_ASBINARY", "ST_ASGEOJSON", "ST_ASTEXT", "ST_ASWKB", "ST_ASWKT",
    "ST_BUFFER", "ST_CENTROID", "ST_CONTAINS", "ST_CONVEXHULL", "ST_CROSSES", "ST_DIFFERENCE",
    "ST_DIMENSION", "ST_DISJOINT", "ST_DISTANCE", "ST_DISTANCE_SPHERE", "ST_ENDPOINT",
    "ST_ENVELOPE", "ST_EQUALS", "ST_EXTERIORRING", "ST_GEOMCOLLFROMTEXT", "ST_GEOMCOLLFROMWKB",
    "ST_GEOMETRYCOLLECTIONFROMTEXT", "ST_GEOMETRYCOLLECTIONFROMWKB", "ST_GEOMETRYFROMTEXT",
    "ST_GEOMETRYFROMWKB", "ST_GEOMETRYN", "ST_GEOMETRYTYPE", "ST_GEOMFROMGEOJSON",
    "ST_GEOMFROMTEXT", "ST_GEOMFROMWKB", "ST_INTERIORRINGN", "ST_INTERSECTION", "ST_INTERSECTS",
    "ST_ISCLOSED", "ST_ISEMPTY", "ST_ISSIMPLE", "ST_LENGTH", "ST_LINEFROMTEXT", "ST_LINEFROMWKB",
    "ST_LINESTRINGFROMTEXT", "ST_LINESTRINGFROMWKB", "ST_MLINEFROMTEXT", "ST_MPOINTFROMTEXT",
    "ST_MPOLYFROMTEXT", "ST_NUMGEOMETRIES", "ST_NUMINTERIORRINGS", "ST_NUMPOINTS", "ST_OVERLAPS",
    "ST_POINTFROMTEXT", "ST_POINTFROMWKB", "ST_POINTN", "ST_POLYFROMTEXT", "ST_POLYFROMWKB",
    "ST_POLYGONFROMTEXT", "ST_POLYGONFROMWKB", "ST_SRID", "ST_STARTPOINT", "ST_SYMDIFFERENCE",
    "ST_TOUCHES", "ST_UNION", "ST_WITHIN", "ST_X", "ST_Y", "SUBSTRING_INDEX", "SUBTIME", "TAN",
    "TIME", "TIMEDIFF", "TIMESTAMP", "TIMESTAMPADD", "TIMESTAMPDIFF", "TIME_FORMAT", "TIME_TO_SEC",
    "TO_BASE64", "TO_DAYS", "TO_SECONDS", "TRUNCATE", "UCASE", "UNCOMPRESS", "UNCOMPRESSED_LENGTH",
    "UNHEX", "UNIX_TIMESTAMP", "UPPER", "USER", "UTC_DATE", "UTC_TIME", "UTC_TIMESTAMP", "UUID",
    "UUID_SHORT", "VERSION", "WEEK", "WEEKDAY", "WEEKOFYEAR", "WEIGHT_STRING", "YEAR", "YEARWEEK",
];

/// The same, but with white space before the parenthesis these may be stored functions, unless
/// `IGNORE_SPACE` is set.
#[rustfmt::skip]
pub(super) const BUILT_IN_IF_ADJACENT: &[&str] = &[
    "ADDDATE", "BIT_AND", "BIT_OR", "BIT_XOR", "CAST", "COUNT", "CUME_DIST", "CURDATE", "CURTIME",
    "DATE_ADD", "DATE_SUB", "DENSE_RANK", "EXTRACT", "FIRST_VALUE", "GROUP_CONCAT",
    "JSON_ARRAYAGG", "JSON_OBJECTAGG", "LAG", "LEAD", "MAX", "MID", "MIN", "NOW", "NTH_VALUE",
    "NTILE", "PERCENT_RANK", "POSITION", "RANK", "SESSION_USER", "STD", "STDDEV", "STDDEV_POP",
    "STDDEV_SAMP", "SUBDATE", "SUBSTR", "SUBSTRING", "SUM", "SYSDATE", "SYSTEM_USER", "TRIM",
    "VARIANCE", "VAR_POP", "VAR_SAMP",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn what_only_a_reset_brings_back_changes_the_session() {
        all_are(Effect::SESSION, SESSION);
        all_are(Effect::STORED_FUNCTION, STORED);
        all_are(
            Effect::SESSION_AND_TRANSACTION,
            &[
                "SET NAMES utf8mb4",
                "set autocommit = 0",
                "SET SESSION TRANSACTION READ ONLY",
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
    fn transactions_are_for_the_server_to_tell() {
        all_are(
            Effect::TRANSACTION,
            &[
                "BEGIN",
                "begin work;",
                "/* app */ BEGIN -- now",
                "START TRANSACTION",
                "START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT",
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
    fn what_is_not_known_may_change_anything() {
        all_are(Effect::UNKNOWN, UNKNOWN);
    }

    #[test]
    fn what_is_not_certain_to_be_read_alike_everywhere_may_change_anything() {
        all_are(Effect::UNKNOWN, UNREADABLE);
    }

    #[test]
    fn bytes_that_no_charset_reads_otherwise_are_neutral_in_strings_only() {
        let texts: [(&[u8], Effect); 8] = [
            (b"SELECT 'caf\xC3\xA9', \"\xE4\xB8\xAD\"", Effect::NEUTRAL),
            (b"SELECT '\xE4\xB8\xAD\\n'", Effect::NEUTRAL),
            (b"SELECT 1 -- caf\xE9", Effect::NEUTRAL),
            (b"SELECT 'caf\xE9'", Effect::UNKNOWN),
            (b"SELECT '\xE4\xB8\xAD\\\\'", Effect::UNKNOWN),
            (b"SELECT `caf\xC3\xA9`", Effect::UNKNOWN),
            (b"SELECT caf\xC3\xA9", Effect::UNKNOWN),
            (b"SELECT 1\xA0INTO", Effect::UNKNOWN),
        ];
        for (text, effect) in texts {
            assert_eq!(effect_of(text), effect, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn several_statements_leave_behind_what_each_of_them_does() {
        let text = b"SELECT 1; USE shop; SELECT @x; START TRANSACTION";
        let effect = Effect::DATABASE.union(Effect::SESSION_AND_TRANSACTION);
        assert_eq!(effect_of(text), effect);
        assert_eq!(effect_of(b";; SELECT ';' ; SELECT 1;"), Effect::NEUTRAL);
        assert_eq!(effect_of(b""), Effect::NEUTRAL);
    }

    #[test]
    fn lists_of_names_are_sorted_and_share_none() {
        for list in [KEYWORDS, BUILT_IN, BUILT_IN_IF_ADJACENT] {
            assert!(list.is_sorted_by(|one, next| one < next));
        }
        let in_capitals = |name: &&&str| name.bytes().all(|byte| !byte.is_ascii_lowercase());
        assert!(BUILT_IN.iter().all(|name| in_capitals(&name)));
        for name in KEYWORDS.iter().chain(BUILT_IN_IF_ADJACENT) {
            assert!(
                !contains(BUILT_IN, name.as_bytes()),
                "{name} is there twice"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes: Vec<u8>) {
            effect_of(&bytes);
        }

        #[test]
        fn any_pieces_of_sql_are_judged_without_a_panic(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..30),
        ) {
            effect_of(pieces.concat().as_bytes());
        }

        #[test]
        fn joined_by_semicolons_statements_leave_behind_what_each_does(
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
        fn case_and_comments_around_a_statement_make_no_difference(
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
        "XA START 'x'",
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

    const UNREADABLE: &[&str] = &[
        "SELECT 'a",
        "SELECT \"a",
        "SELECT `a",
        "SELECT 'a''",
        "SELECT 'a\\'",
        "SELECT 'it\\'s'",
        "SELECT \"a\\\" , @x := 1 -- \"",
        "SELECT 1 /* a",
        "SELECT 1 /*/",
        "SELECT /*! @x := */ 1",
        "/*!50000 SET @x = 1 */",
        "/*M! SET @x = 1 */",
        "SELECT /*!99999 1 */ 1",
        "SELECT /*+ SET_VAR(sql_mode = '') */ 1",
        "SELECT /*+ QB_NAME(`a*/`) */ 1",
        "SELECT [a",
        "SELECT $$ ' $$",
        "SELECT \\N",
        "SELECT 1 \0",
        "SELECT 1 -- \0\n",
        "SELECT \"a\0b\"",
        "SELECT \"a\\\0b\"",
        "SELECT \u{1}",
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
}
