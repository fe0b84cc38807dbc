//! Standard output, as text or as JSON: what others wrote moves no cursor and forges no line.

use std::io::{self, IsTerminal as _, Write as _};

use rfs_link::plain;
use serde_json::Value;

use super::arguments::Format;
use super::json::to_json;
use super::table::Table;

/// Where results go.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    stream: anstream::Stdout,
}

impl Output {
    /// Prints to standard output.
    pub(super) fn new(format: Format) -> Self {
        Self { format, stream: anstream::stdout() }
    }

    /// How results are printed.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Whether programs read the output.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether a person sees lines change in place.
    pub(super) fn is_live(&self) -> bool {
        self.format == Format::Text && io::stdout().is_terminal()
    }

    /// Prints a line.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.stream, "{}", plain::line(text.as_ref()))
    }

    /// Prints bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = io::stdout().lock();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Makes sure that all of it is written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }

    /// Prints a table.
    pub(super) fn table(&mut self, table: &Table) -> io::Result<()> {
        table.lines().iter().try_for_each(|line| self.line(line))
    }

    /// Prints a document over several lines.
    pub(super) fn document(&mut self, document: &Value) -> io::Result<()> {
        writeln!(self.stream, "{}", plain::json(&format!("{document:#}")))
    }

    /// Prints a message as a document.
    pub(super) fn message<M: prost::Name>(&mut self, message: &M) -> io::Result<()> {
        self.document(&to_json(message))
    }

    /// Prints a message as a document on one line, for those who follow a stream.
    pub(super) fn message_line<M: prost::Name>(&mut self, message: &M) -> io::Result<()> {
        writeln!(self.stream, "{}", plain::json(&to_json(message).to_string()))
    }
}
