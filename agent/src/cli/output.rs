//! Prints results: text with colours for terminals, or JSON.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use rfs_link::plain;
use rfs_model::Standing;
use serde_json::{Value, json};

use super::arguments::Format;
use crate::commander::Refusal;
use crate::local::Progress;

/// Where results go.
pub(super) struct Output {
    format: Format,
    /// The first result that could not be written.
    unwritten: RefCell<Option<io::Error>>,
}

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format, unwritten: RefCell::default() }
    }

    /// Why a result did not reach its reader, if that is so: whoever waits for it must not take silence for success.
    pub(super) fn unwritten(&self) -> Option<io::Error> {
        self.note(anstream::stdout().flush());
        self.unwritten.take()
    }

    fn note(&self, written: io::Result<()>) {
        if let Err(error) = written {
            self.unwritten.borrow_mut().get_or_insert(error);
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints one document for programs.
    pub(super) fn document(&self, document: &Value) {
        if self.unwritten.borrow().is_none() {
            self.note(writeln!(anstream::stdout(), "{}", plain::json(&format!("{document:#}"))));
        }
    }

    /// Prints a part of a document for programs that is too large to be held.
    pub(super) fn part(&self, text: &str) {
        if self.unwritten.borrow().is_none() {
            self.note(write!(anstream::stdout(), "{}", plain::json(text)));
        }
    }

    /// Prints a line.
    pub(super) fn line(&self, line: impl Display) {
        if self.unwritten.borrow().is_none() {
            self.note(writeln!(anstream::stdout(), "{}", plain::line(&line.to_string())));
        }
    }

    /// Prints a name and a value, aligned with others.
    pub(super) fn field(&self, name: &str, value: impl Display) {
        self.line(format_args!("  {DIM}{name:<10}{DIM:#} {value}"));
    }

    /// Prints what a person must know, one line each.
    pub(super) fn notes(&self, notes: &[String]) {
        for note in notes {
            self.field("note", note);
        }
    }

    /// Asks on the terminal; a no where there is none to answer.
    pub(super) fn asks(&self, question: &str) -> bool {
        let _ = write!(anstream::stderr(), "{STRONG}{question}{STRONG:#} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// Whether a person sits there, who can be asked.
    pub(super) fn can_ask(&self) -> bool {
        !self.is_json() && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Prints a line that stands above others.
    pub(super) fn heading(&self, text: impl Display) {
        self.line(format_args!("{STRONG}{text}{STRONG:#}"));
    }

    /// Prints rows under their titles; each row has a cell for each title.
    pub(super) fn table(&self, titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let rows: Vec<Vec<String>> =
            [titles.iter().map(ToString::to_string).collect()].into_iter().chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }

    /// Shows on a terminal how far a restore is.
    pub(super) fn progress(&self, progress: Progress) {
        if self.is_json() || !std::io::stderr().is_terminal() {
            return;
        }
        let steps = match progress.steps_total {
            0 => String::new(),
            total => format!("  {} of {total} steps", progress.steps_done),
        };
        let phase = progress.phase.as_str().replace('_', " ");
        let _ = writeln!(anstream::stderr(), "{DIM}{phase}{steps}{DIM:#}");
    }

    /// Prints why something was not done, and what to do next.
    pub(super) fn refusal(&self, refusal: &Refusal) {
        if self.is_json() {
            let _ = writeln!(anstream::stderr(), "{:#}", json!({ "failure": failure(refusal) }));
            return;
        }
        let _ = writeln!(anstream::stderr(), "{BAD}error:{BAD:#} {}", plain::lines(&refusal.message));
        if !refusal.next.is_empty() {
            let _ = writeln!(anstream::stderr(), "{STRONG}next:{STRONG:#} {}", plain::lines(&refusal.next));
        }
    }
}

/// A failure, for programs.
pub(super) fn failure(refusal: &Refusal) -> Value {
    json!({ "reason": refusal.reason.as_str(), "message": refusal.message, "next": refusal.next })
}

/// A standing, in its colour.
pub(super) fn standing(standing: Standing) -> String {
    let style = match standing {
        Standing::Target => GOOD,
        Standing::Before => STRONG,
        Standing::Inconsistent => BAD,
    };
    format!("{style}{standing}{style:#}")
}

/// A standing, for programs.
pub(super) fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Target => "TARGET",
        Standing::Before => "BEFORE",
        Standing::Inconsistent => "INCONSISTENT",
    }
}
