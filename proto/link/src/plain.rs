//! What reaches a terminal or a log: text that others wrote, without what moves a cursor, sets a title or forges a line.
//!
//! Escaped are the control characters of both sets, the separators of lines, and the characters that turn the direction of
//! text. Colours that this house itself gives stay; nothing else of a terminal's language does.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

/// The text as one line that says nothing to a terminal but colours.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_told) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some(length) = colour(rest) {
            plain.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        match character {
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            '\t' => plain.push_str("\\t"),
            told if is_told(told) => {
                // Writing into a string does not fail.
                let _ = write!(plain, "\\u{{{:x}}}", u32::from(told));
            }
            other => plain.push(other),
        }
        rest = &rest[character.len_utf8()..];
    }
    Cow::Owned(plain)
}

/// The text as lines; those after the first are indented, so that none passes for one of ours.
pub fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n  ")
}

/// A word as a shell reads it.
pub fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=,%+@".contains(letter);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

/// JSON text whose strings say nothing to a terminal either: what JSON itself does not escape.
pub fn json(text: &str) -> Cow<'_, str> {
    let told = |c: char| is_told(c) && !matches!(c, '\n');
    if !text.chars().any(told) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match told(character) {
            true => {
                let _ = write!(plain, "\\u{:04x}", u32::from(character));
            }
            false => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

fn is_told(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// How long the colour is that `text` begins with.
fn colour(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\x1b[")?;
    let end = numbers.find('m').filter(|end| *end <= 8)?;
    let known =
        |number: &str| matches!(number.parse(), Ok(0u8..=4 | 22..=24 | 31..=37 | 39)) || number.is_empty();
    numbers[..end].split(';').all(known).then_some(2 + end + 1)
}

/// Writes a log: each write is one event, which becomes one line.
#[derive(Debug)]
pub struct PlainWriter<W>(pub W);

impl<W: io::Write> io::Write for PlainWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let (event, end) = match text.strip_suffix('\n') {
            Some(event) => (event, "\n"),
            None => (&*text, ""),
        };
        self.0.write_all(format!("{}{end}", line(event)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_word_is_one_word_of_a_shell() {
        for (text, expected) in [
            ("/srv/a%20b", "/srv/a%20b"),
            ("", "''"),
            ("/srv/a b", "'/srv/a b'"),
            ("/it's", r"'/it'\''s'"),
            ("/$(x)", "'/$(x)'"),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn what_a_terminal_would_act_on_is_written_out() {
        for (text, expected) in [
            ("web-1: good", "web-1: good"),
            ("Grüße, 世界", "Grüße, 世界"),
            ("\x1b]0;title\x07\x1b[2J", "\\u{1b}]0;title\\u{7}\\u{1b}[2J"),
            ("a\nforged yes\r", "a\\nforged yes\\r"),
            ("\u{9b}2J\u{202e}gpj.exe", "\\u{9b}2J\\u{202e}gpj.exe"),
            ("\x1b[32mgood\x1b[0m", "\x1b[32mgood\x1b[0m"),
            ("\x1b[1;31mbad\x1b[m", "\x1b[1;31mbad\x1b[m"),
            ("\x1b[8mhidden\x1b[30;40m", "\\u{1b}[8mhidden\\u{1b}[30;40m"),
        ] {
            assert_eq!(line(text), expected);
        }
        assert_eq!(lines("is not valid\nforged \x07"), "is not valid\n  forged \\u{7}");
        assert_eq!(json("{\n  \"a\": \"\u{9b}\u{202e}\"\n}"), "{\n  \"a\": \"\\u009b\\u202e\"\n}");
    }

    #[test]
    fn an_event_of_a_log_is_one_line() {
        let mut log = PlainWriter(Vec::new());
        log.write_all(b"refused a\nforged\x1b[2J\n").expect("written");
        assert_eq!(String::from_utf8(log.0).expect("text"), "refused a\\nforged\\u{1b}[2J\n");
    }
}
