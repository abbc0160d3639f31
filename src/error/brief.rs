//! `Brief`: text from a server, made safe to log.

use std::fmt::{self, Write as _};

/// Displays text from a server on one line: escapes control characters, and cuts the text off at
/// [`MAX_CHARS`].
pub(crate) struct Brief<T>(pub(crate) T);

/// MySQL and MariaDB cut off their messages at 512 bytes.
const MAX_CHARS: usize = 512;

impl<T: fmt::Display> fmt::Display for Brief<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = BriefWriter {
            f,
            chars_left: MAX_CHARS,
            is_cut: false,
        };
        write!(writer, "{}", self.0)
    }
}

struct BriefWriter<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    chars_left: usize,
    /// Text was cut off, and the ellipsis is written.
    is_cut: bool,
}

impl fmt::Write for BriefWriter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let Some(chars_left) = self.chars_left.checked_sub(1) else {
                if !std::mem::replace(&mut self.is_cut, true) {
                    self.f.write_str("...")?;
                }
                return Ok(());
            };
            self.chars_left = chars_left;
            if character.is_control() {
                write!(self.f, "{}", character.escape_default())?;
            } else {
                self.f.write_char(character)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let text = Brief("two\nlines and \u{1b}[2J").to_string();
        assert_eq!(text, r"two\nlines and \u{1b}[2J");
    }

    #[test]
    fn long_text_is_cut_off_once() {
        assert_eq!(
            Brief("ä".repeat(MAX_CHARS)).to_string(),
            "ä".repeat(MAX_CHARS)
        );
        let long = "ä".repeat(1 << 20);
        let text = Brief(format_args!("{long}{long}")).to_string();
        assert_eq!(text, format!("{}...", "ä".repeat(MAX_CHARS)));
    }
}
