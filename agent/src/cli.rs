//! The command line `rfs-agent`: the daemon, and what an administrator does on the host, with the daemon running or not.
//!
//! ```text
//! arguments ─▶ configuration ─▶ door (the daemon's socket, or the store itself) ─▶ text, or JSON ─▶ exit code
//! ```
//!
//! What holds for every command
//! - Exit codes: 0 done; 1 the operation failed, and the host is as it was; 2 usage; 3 refused; 4 not reachable; 5 a
//!   person is needed.
//! - `--output json` prints one document on standard output, and a failure as one document on standard error.
//! - A result that cannot be written (a full disk, a closed pipe) is a failure too.
//! - A failure is one line on standard error that says what and where, and one, `next:`, that says what to type.
//! - Colours appear on terminals alone, and never when `NO_COLOR` is set.

mod arguments;
mod check;
mod door;
mod output;

mod capture;
mod plan;
mod restore;
mod run;
mod status;

mod collect;
mod diff;
mod snapshots;
mod upkeep;

mod interrupt;
mod words;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use rfs_link::{Exit, status as table};
use rfs_model::Reason;

use crate::commander::Refusal;
use crate::config::{self, Config, ConfigError};
use crate::engine::cause::refuse;
use arguments::{Arguments, Command};
use output::Output;

/// Runs the command that the arguments of this process name.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let output = Output::new(arguments.output);
    if let Command::Completions { shell } = arguments.command {
        return completions(shell);
    }
    let ended = configured(&arguments).and_then(|config| match &arguments.command {
        Command::Run(arguments) => run::run(&config, arguments),
        command => {
            run::log(tracing::Level::ERROR);
            match command {
                Command::Run(_) | Command::Completions { .. } | Command::Status => {
                    status::run(&config, &output)
                }
                Command::Check => check::run(&config, &arguments.config, &output),
                Command::Capture(arguments) => capture::run(&config, arguments, &output),
                Command::Snapshots(command) => snapshots::run(&config, command, &output),
                Command::Restore(arguments) => restore::run(&config, arguments, &output),
                Command::Collect { dry_run } => collect::run(&config, *dry_run, &output),
                Command::Space => collect::space(&config, &output),
            }
        }
    });
    let unwritten = output.unwritten();
    match ended {
        Ok(exit) => match unwritten {
            None => exit.into(),
            Some(error) => {
                let message = format!("it is done, and its result could not be written: {error}");
                output.refusal(&refuse(Reason::Io, message, "ask again with another output"));
                Exit::Failed.into()
            }
        },
        Err(refusal) => {
            output.refusal(&refusal);
            table::row(refusal.reason).exit.into()
        }
    }
}

/// What was typed makes no sense, or asks for help, which is a result like any other.
fn usage(error: &clap::Error) -> ExitCode {
    match (error.print().and_then(|()| std::io::stdout().flush()), error.use_stderr()) {
        (Ok(()), false) => Exit::Done.into(),
        (Err(_), false) => Exit::Failed.into(),
        (_, true) => Exit::Usage.into(),
    }
}

/// Prints a completion script; it needs no configuration.
fn completions(shell: clap_complete::Shell) -> ExitCode {
    // Written to memory first: a reader that has enough must not make a panic of it.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "rfs-agent", &mut script);
    match std::io::stdout().write_all(&script) {
        Ok(()) => Exit::Done.into(),
        // A closed pipe too: whoever reads it has half a script.
        Err(_) => Exit::Failed.into(),
    }
}

/// What a command comes to.
type Ended = Result<Exit, Refusal>;

fn configured(arguments: &Arguments) -> Result<Config, Refusal> {
    config::load(&arguments.config).map_err(|error| {
        let next = match &error {
            ConfigError::Read { .. } => "name the configuration with --config, or write it",
            ConfigError::Invalid { .. } => "correct it, and try again",
        };
        refuse(Reason::InvalidArgument, rfs_link::Chain(&error).to_string(), next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
