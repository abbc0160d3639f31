//! Lexer: cuts the text of statements into tokens.
//!
//! A token is [`Token::Ambiguous`] unless every server reads it alike in every SQL mode.

/// A piece of a statement's text.
#[derive(Clone, Copy)]
pub(super) enum Token<'a> {
    /// A keyword, a name or a number: letters, digits, `_` and `$`.
    Word(&'a [u8]),
    /// What backquotes or double quotes enclose: a name, or a string.
    Quoted(&'a [u8]),
    /// A string in single quotes.
    Text,
    /// `(`, and whether it follows the previous token directly.
    Open { adjacent: bool },
    /// `:=`
    Assign,
    /// `@`
    UserVariable,
    /// `@@`
    SystemVariable,
    /// Any other punctuation.
    Byte(u8),
    /// Text that may be read in more than one way. It is the last token.
    Ambiguous,
}

impl Token<'_> {
    /// Whether this is that name, quoted or not.
    pub(super) fn is_name(self, name: &str) -> bool {
        matches!(self, Token::Word(word) | Token::Quoted(word) if is(word, name))
    }

    /// Whether this is a name, quoted or not, with that ending.
    pub(super) fn name_ends_with(self, ending: &str) -> bool {
        let (Token::Word(name) | Token::Quoted(name)) = self else {
            return false;
        };
        name.len()
            .checked_sub(ending.len())
            .and_then(|start| name.get(start..))
            .is_some_and(|end| is(end, ending))
    }

    /// Whether this is one of these keywords.
    pub(super) fn is_any(self, keywords: &[&str]) -> bool {
        matches!(self, Token::Word(word) if is_any(word, keywords))
    }
}

/// The tokens of a text, without white space and comments.
#[derive(Clone)]
pub(super) struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let Some(spaced) = self.skip_space() else {
            return Some(self.ambiguous());
        };
        let (&byte, rest) = self.rest.split_first()?;
        let token = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => {
                return Some(Token::Word(self.word()));
            }
            b'(' => Token::Open { adjacent: !spaced },
            b'\'' | b'"' | b'`' => {
                return Some(self.quoted(byte, rest).unwrap_or_else(|| self.ambiguous()));
            }
            b'@' if rest.starts_with(b"@") => return Some(self.pair(Token::SystemVariable)),
            b'@' => Token::UserVariable,
            b':' if rest.starts_with(b"=") => return Some(self.pair(Token::Assign)),
            // Brackets quote names in the mode MSSQL, `$$` quotes the body of a function, and the
            // meaning of a byte beyond ASCII depends on the charset.
            b'[' | b']' | b'\\' | b'$' => return Some(self.ambiguous()),
            _ if !byte.is_ascii_punctuation() => return Some(self.ambiguous()),
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

    /// The text that has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all of the text has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next token with its text, and whether white space or a comment precedes it.
    pub(super) fn next_with_text(&mut self) -> Option<(Token<'a>, &'a [u8], bool)> {
        let before = self.rest.len();
        // If it fails, so does the next token.
        let _spaced = self.skip_space();
        let (from, spaced) = (self.rest, self.rest.len() < before);
        let token = self.next()?;
        let length = from.len().saturating_sub(self.rest.len());
        Some((token, from.get(..length).unwrap_or_default(), spaced))
    }

    /// The tokens up to the semicolon that ends the statement.
    pub(super) fn statement(self) -> impl Iterator<Item = Token<'a>> {
        self.take_while(|token| !matches!(token, Token::Byte(b';')))
    }

    /// Whether the next token is one of these keywords. Consumes it.
    pub(super) fn next_is(&mut self, keywords: &[&str]) -> bool {
        self.next().is_some_and(|token| token.is_any(keywords))
    }

    fn ambiguous(&mut self) -> Token<'a> {
        self.rest = &[];
        Token::Ambiguous
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

    /// Reads from after an opening quote; `None` if it is not certain where the closing one is.
    fn quoted(&mut self, quote: u8, opened: &'a [u8]) -> Option<Token<'a>> {
        let mut rest = opened;
        loop {
            let special = rest
                .iter()
                .position(|&byte| byte == quote || byte == b'\\' || byte == 0)?;
            let (plain, at_special) = rest.split_at_checked(special)?;
            let (&byte, after) = at_special.split_first()?;
            rest = after;
            if byte == quote {
                match after.strip_prefix(&[quote]) {
                    Some(after_pair) => rest = after_pair,
                    None => break,
                }
            } else if byte == 0 {
                // NUL ends a name.
                return None;
            } else if quote != b'`' {
                let (&escaped, after_escaped) = after.split_first()?;
                // Without backslash escapes, the string would end here, and a name at NUL.
                let ends_here = escaped == quote || escaped == 0;
                // In a charset such as GBK, the first of two backslashes may be half a character;
                // then the second one escapes the next byte.
                let may_be_half =
                    escaped == b'\\' && plain.last().is_some_and(|byte| !byte.is_ascii());
                if ends_here || may_be_half {
                    return None;
                }
                rest = after_escaped;
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

    /// Skips white space and comments, and returns whether there were any; `None` if it is not
    /// certain that they are comments, or where they end.
    fn skip_space(&mut self) -> Option<bool> {
        let mut rest = self.rest;
        loop {
            rest = match *rest {
                [b' ' | b'\t'..=b'\r', ref after @ ..] => after,
                [b'#', ref comment @ ..] => after_line(comment),
                [b'-', b'-', ref comment @ ..]
                    if comment
                        .first()
                        .is_none_or(|&byte| byte == b' ' || byte.is_ascii_control()) =>
                {
                    after_line(comment)
                }
                [b'/', b'*', ref comment @ ..] => after_comment(comment)?,
                _ => break,
            };
        }
        let spaced = rest.len() < self.rest.len();
        self.rest = rest;
        Some(spaced)
    }
}

/// The text after this line. NUL ends a line too.
fn after_line(line: &[u8]) -> &[u8] {
    line.iter()
        .position(|&byte| byte == b'\n' || byte == 0)
        .and_then(|end| line.get(end..))
        .unwrap_or_default()
}

/// The text after the comment whose `/*` ends here; `None` if a server may run the comment, or if
/// it does not end.
fn after_comment(comment: &[u8]) -> Option<&[u8]> {
    let end = comment.windows(2).position(|pair| pair == b"*/")?;
    let (text, after) = comment.split_at_checked(end)?;
    let neutral = match *text {
        [b'!', ..] | [b'M', b'!', ..] => false,
        // Hints, but none that set a variable (`=`), and no quoted names, which might hold `*/`.
        [b'+', ref hints @ ..] => hints
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_(),.@- \t\r\n".contains(byte)),
        _ => true,
    };
    if neutral {
        after.strip_prefix(b"*/")
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

#[cfg(test)]
mod tests {
    use super::{Token, Tokens};

    fn is_ambiguous(text: &[u8]) -> bool {
        Tokens::new(text).any(|token| matches!(token, Token::Ambiguous))
    }

    #[test]
    fn text_that_servers_may_read_differently_is_ambiguous() {
        for text in AMBIGUOUS {
            assert!(is_ambiguous(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn bytes_beyond_ascii_are_read_in_strings_and_comments_only() {
        let texts: [(&[u8], bool); 8] = [
            (b"SELECT 'caf\xC3\xA9', \"\xE4\xB8\xAD\"", false),
            (b"SELECT '\xE4\xB8\xAD\\n'", false),
            (b"SELECT 1 -- caf\xE9", false),
            (b"SELECT 'caf\xE9'", true),
            (b"SELECT '\xE4\xB8\xAD\\\\'", true),
            (b"SELECT `caf\xC3\xA9`", true),
            (b"SELECT caf\xC3\xA9", true),
            (b"SELECT 1\xA0INTO", true),
        ];
        for (text, ambiguous) in texts {
            assert_eq!(is_ambiguous(text), ambiguous, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn nothing_follows_an_ambiguous_token() {
        for text in AMBIGUOUS {
            let mut tokens = Tokens::new(text.as_bytes());
            tokens.find(|token| matches!(token, Token::Ambiguous));
            assert!(tokens.is_at_end() && tokens.next().is_none(), "{text}");
        }
    }

    #[test]
    fn white_space_before_a_parenthesis_is_seen() {
        for (text, expected) in [
            ("a(", true),
            ("a (", false),
            ("a/**/(", false),
            ("a\n(", false),
        ] {
            let token = Tokens::new(text.as_bytes()).nth(1);
            let adjacent = matches!(token, Some(Token::Open { adjacent: true }));
            assert_eq!(adjacent, expected, "{text}");
        }
    }

    #[test]
    fn names_are_compared_in_any_case() {
        let name = Token::Word(b"tx_Read_Only");
        assert!(name.name_ends_with("READ_ONLY") && name.is_name("TX_READ_ONLY"));
        assert!(Token::Quoted(b"read_only").name_ends_with("READ_ONLY"));
        assert!(!Token::Word(b"only").name_ends_with("READ_ONLY"));
        assert!(
            !Token::Quoted(b"only").is_any(&["ONLY"]),
            "a keyword has no quotes"
        );
    }

    const AMBIGUOUS: &[&str] = &[
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
}
