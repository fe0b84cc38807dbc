//! The command line `rfs`: the coordinator's server, and everything that people and deploy tools ask of it.
//!
//! ```text
//! arguments ─▶ a command ─▶ calls over the operator API ─▶ text for people, or JSON for programs ─▶ exit code
//! ```
//!
//! What holds for every command
//! - `--output json` prints one document on standard output, or one per line for what is watched. Field names are those
//!   of the `.proto` files (snake_case), times are RFC 3339, durations are seconds such as `"1.500s"`, numbers are
//!   numbers, values of enums go without the name of their enum (`"GOOD"`, `"COMPLETE"`), and fields without a value are
//!   there with their zero.
//! - Exit codes: 0 done; 1 the operation failed, and the fleet is as it was or says how it stands; 2 usage; 3 refused;
//!   4 not reachable; 5 a person is needed; 130 watching was interrupted, the operation goes on.
//! - A failure is one line on standard error that says what and where, and one, `next:`, that says what to type.
//!   With `--output json` it is one document there.
//! - A result that cannot be written (a full disk, a closed pipe) is a failure too.
//! - Colours appear on terminals alone, and never when `NO_COLOR` is set.

mod arguments;
mod connect;
mod error;
mod output;

mod checkpoint;
mod host;
mod pki;
mod rollback;
mod serve;

mod consent;
mod json;
mod names;
mod progress;
mod selection;
mod table;
mod watch;
mod words;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use arguments::{Arguments, Command, Format};
use error::CliError;
use output::Output;
use rfs_link::{Exit, Failure};
use rfs_model::Reason;

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let mut output = Output::new(arguments.output);
    let ended = run(arguments.command, &mut output).and_then(|exit| {
        output.flush()?;
        Ok(exit)
    });
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => error.show(&output),
    }
}

/// What was typed makes no sense, or asks for help. Programs are told of a mistake as of any other failure.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help is a result like any other.
        let printed = error.print().and_then(|()| std::io::stdout().flush());
        return printed.map_or_else(|_| Exit::Failed.into(), |()| Exit::Done.into());
    }
    if !wants_json(arguments::typed()) {
        // If the mistake cannot be told, the exit code still says that there is one.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let text = error.to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let failure = Failure::new(Reason::InvalidArgument, message).next("see what can be typed with: rfs help");
    CliError::from(failure).show(&Output::new(Format::Json))
}

/// Whether the output was to be JSON, as far as that can be told from words that make no sense as a whole.
fn wants_json(words: impl Iterator<Item = String>) -> bool {
    let words: Vec<String> = words.collect();
    let joined = ["--output=json", "-ojson", "-o=json"];
    words.iter().any(|word| joined.contains(&word.as_str()))
        || words.windows(2).any(|pair| matches!(pair[0].as_str(), "--output" | "-o") && pair[1] == "json")
}

fn run(command: Command, output: &mut Output) -> Result<Exit, CliError> {
    match command {
        Command::Serve(arguments) => serve::run(arguments, output),
        Command::Pki(command) => pki::run(command, output),
        Command::Host(command) => block_on(host::run(command, output)),
        Command::Checkpoint(command) => block_on(checkpoint::run(command, output)),
        Command::Rollback(command) => block_on(rollback::run(*command, output)),
        Command::Completions { shell } => {
            // Written to memory first: a reader that has enough must not make a panic of it.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "rfs", &mut script);
            output.raw(&script)?;
            Ok(Exit::Done)
        }
    }
}

/// Runs a client's command: it waits more than it works, so one thread serves.
fn block_on(command: impl Future<Output = Result<Exit, CliError>>) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(CliError::runtime)?.block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_told_to_programs_in_their_own_words() {
        let wants = |line: &str| wants_json(line.split(' ').map(str::to_owned));
        assert!(wants("rfs host lst --output json"));
        assert!(wants("rfs -o json host lst"));
        assert!(wants("rfs --output=json host lst"));
        assert!(!wants("rfs host lst --output text json"));
        assert!(!wants("rfs host lst"));
    }

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
