//! Lines at the bottom of a terminal that are drawn over.

use std::io::{self, Write as _};

use anstream::ColorChoice;
use console::{Term, truncate_str};

/// The terminal that standard output is.
#[derive(Debug)]
pub(in crate::cli) struct Screen {
    terminal: Term,
    colours: bool,
    /// How many lines of the last picture stand above the cursor.
    drawn: usize,
}

impl Screen {
    /// Draws on standard output.
    pub(in crate::cli) fn new() -> Self {
        let colours = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { terminal: Term::stdout(), colours, drawn: 0 }
    }

    /// How many lines fit, with one left for the cursor.
    pub(in crate::cli) fn height(&self) -> usize {
        usize::from(self.terminal.size().0).saturating_sub(1).max(3)
    }

    /// Draws `lines` over those drawn before.
    pub(in crate::cli) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        // One write, so that no half of a picture is seen.
        let text = frame(self.drawn, lines, usize::from(self.terminal.size().1), self.colours);
        self.terminal.write_all(text.as_bytes())?;
        self.terminal.flush()?;
        self.drawn = lines.len();
        Ok(())
    }
}

fn frame(drawn: usize, lines: &[String], width: usize, colours: bool) -> String {
    let mut text = String::from("\r");
    if drawn > 0 {
        text.push_str(&format!("\x1b[{drawn}A"));
    }
    for line in lines {
        // A line that wraps would be counted once and drawn over half.
        let line = rfs_link::plain::line(line);
        let line = truncate_str(&line, width, "…");
        if colours {
            text.push_str(&line);
        } else {
            text.push_str(&anstream::adapter::strip_str(&line).to_string());
        }
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_picture_is_drawn_over_the_last_one_and_its_rest_is_cleared() {
        let lines = ["\x1b[32mpassed\x1b[0m".to_owned(), "a long line".to_owned()];
        assert_eq!(frame(0, &lines, 7, true), "\r\x1b[32mpassed\x1b[0m\x1b[K\na long…\x1b[K\n\x1b[J");
        assert_eq!(frame(3, &lines[..1], 80, false), "\r\x1b[3Apassed\x1b[K\n\x1b[J");
    }
}
