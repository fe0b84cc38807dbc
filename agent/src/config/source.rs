//! Points at the place in the text that a complaint is about.

use std::fmt;
use std::ops::Range;

/// What is wrong with the configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong and what to write instead.
    pub message: String,
    /// Where; none when something is missing from the whole.
    pub place: Option<Place>,
}

/// One line of the text, and a stretch of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column of the first character, from 1.
    pub column: usize,
    /// How many characters are meant.
    pub width: usize,
    /// The whole line.
    pub text: String,
}

impl Complaint {
    /// A complaint about the bytes `span` of `text`.
    pub(super) fn at(text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let start = floor(text, span.start);
        let end = floor(text, span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let place = Place {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end.min(line_end).max(start)].chars().count().max(1),
            text: text[line_start..line_end].trim_end_matches('\r').to_owned(),
        };
        Self { message: message.into(), place: Some(place) }
    }

    /// A complaint about the text as a whole.
    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None }
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else { return f.write_str(&self.message) };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        // A tab in the text is kept before the caret too, so that both lines are equally far in.
        let lead = place.text.chars().take(place.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' });
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", place.text)?;
        writeln!(f, "{margin} | {}{}", lead.collect::<String>(), "^".repeat(place.width))?;
        write!(f, "line {}, column {}: {}", place.line, place.column, self.message)
    }
}
