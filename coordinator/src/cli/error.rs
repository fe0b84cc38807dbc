//! How a command fails: one line that says what, one that says what to type next.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use rfs_link::{Exit, Failure, plain};
use rfs_model::Reason;

use super::arguments::Format;
use super::output::Output;
use super::words::paint;

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum CliError {
    /// It was refused, or it failed.
    Failure(Failure),
    /// Standard output cannot be written.
    Output(io::Error),
    /// The person stopped watching.
    Interrupted {
        /// How to go on watching an operation, which goes on by itself; empty where nothing has an end.
        next: String,
    },
}

/// How a process ends that was interrupted, as shells know it.
const INTERRUPTED: u8 = 130;

impl CliError {
    /// The process itself cannot be set up.
    pub(super) fn runtime(error: io::Error) -> Self {
        Failure::new(Reason::Internal, format!("cannot start: {error}")).into()
    }

    /// Prints the error on standard error and says how the process ends.
    pub(super) fn show(&self, output: &Output) -> ExitCode {
        match self {
            Self::Failure(failure) => {
                show_failure(failure, output.format());
                failure.exit().into()
            }
            // A closed pipe too: whoever waits for the result must not take a part of it for the whole.
            Self::Output(error) => {
                let failure = Failure::new(Reason::Io, format!("cannot write to standard output: {error}"));
                let next = "what was begun goes on; see: rfs rollback list, rfs checkpoint list";
                show_failure(&failure.next(next), output.format());
                Exit::Failed.into()
            }
            Self::Interrupted { next } => {
                if !next.is_empty() {
                    tell(format_args!("stopped watching; the operation goes on"));
                    tell(format_args!("{} {next}", paint::label("next:")));
                }
                ExitCode::from(INTERRUPTED)
            }
        }
    }
}

/// Prints a line on standard error. Where that cannot be, the exit code says it alone.
fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

fn show_failure(failure: &Failure, format: Format) {
    if format == Format::Json {
        let fields = failure.fields.iter();
        let fields = fields.map(|v| serde_json::json!({ "field": v.field, "description": v.description }));
        let document = serde_json::json!({ "error": {
            "reason": failure.reason.as_str(),
            "message": failure.message,
            "next": failure.next_step(),
            "fields": fields.collect::<Vec<_>>(),
            "exit_code": failure.exit() as u8,
        }});
        return tell(format_args!("{}", plain::json(&document.to_string())));
    }
    tell(format_args!("{}: {}", paint::error("error"), plain::lines(&failure.to_string())));
    // A request with one wrong field says it in its message already.
    if failure.fields.len() > 1 {
        for violation in &failure.fields {
            let (field, description) = (plain::line(&violation.field), plain::line(&violation.description));
            tell(format_args!("  {field}: {description}"));
        }
    }
    tell(format_args!("{} {}", paint::label("next:"), plain::lines(failure.next_step())));
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
