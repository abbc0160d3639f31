//! Finds the words of statements whose effect outlasts `COM_RESET_CONNECTION`.
//!
//! Reads the text byte by byte, strings and comments included: `PREPARE s FROM 'XA START ..'` and
//! `EXECUTE IMMEDIATE` carry a statement in a string. A text that only mentions such words counts
//! too; the cost is one connection.

use super::tokens::is;

/// Whether the text may set what no reset restores:
///
/// - `XA START ..`: on MariaDB a prepared XA transaction stays with the connection;
/// - `SET RESOURCE GROUP g` (MySQL);
/// - `SET profiling = 1`: on MariaDB `SHOW PROFILES` lists the statements after a reset too;
/// - `SET optimizer_trace = ..`: on MySQL the last trace stays, with its statement.
pub(super) fn mentions_unresettable(sql: &[u8]) -> bool {
    let words = Words { rest: sql, last: 0 };
    let mut names_resource = false;
    for (before, word) in words {
        let found = match word.len() {
            // Not the name of a variable or a column, such as `@xa` or `t.xa`.
            2 => is(word, "XA") && !matches!(before, b'@' | b'.' | b'`'),
            5 => names_resource && is(word, "GROUP"),
            9 => is(word, "PROFILING"),
            15.. => word
                .get(..15)
                .is_some_and(|start| is(start, "OPTIMIZER_TRACE")),
            _ => false,
        };
        if found {
            return true;
        }
        names_resource = names_resource || is(word, "RESOURCE");
    }
    false
}

/// The words of a text, each with the byte before it, white space aside.
struct Words<'a> {
    rest: &'a [u8],
    last: u8,
}

impl<'a> Iterator for Words<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        while let Some((&byte, after)) = self.rest.split_first()
            && !is_part(byte)
        {
            if !byte.is_ascii_whitespace() {
                self.last = byte;
            }
            self.rest = after;
        }
        let ends = |byte: &u8| !is_part(*byte);
        let length = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let before = std::mem::replace(&mut self.last, b' ');
        (!word.is_empty()).then_some((before, word))
    }
}
