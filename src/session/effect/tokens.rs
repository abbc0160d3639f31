//! Cuts the text of statements into tokens, as every server in every SQL mode does.

/// A piece of a statement's text.
#[derive(Clone, Copy)]
pub(super) enum Token<'a> {
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
    pub(super) fn names(self, name: &str) -> bool {
        matches!(self, Token::Word(word) | Token::Quoted(word) if is(word, name))
    }

    /// Tells whether this is one of these keywords.
    pub(super) fn is_any(self, keywords: &[&str]) -> bool {
        matches!(self, Token::Word(word) if is_any(word, keywords))
    }
}

/// Cuts a text into tokens, leaving out white space and comments.
#[derive(Clone)]
pub(super) struct Tokens<'a> {
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
    pub(super) fn new(sql: &'a [u8]) -> Self {
        Self { rest: sql }
    }

    /// Tells whether all of the text has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Tells whether the next token is one of these keywords, and consumes it.
    pub(super) fn next_is(&mut self, keywords: &[&str]) -> bool {
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

pub(super) fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}

pub(super) fn is_any(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| is(word, name))
}
