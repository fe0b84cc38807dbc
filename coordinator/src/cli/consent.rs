//! One rule for what cannot be taken back: ask, unless `--yes` is given; where there is nobody to ask, refuse.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;
use rfs_link::Failure;
use rfs_model::Reason;

use super::error::CliError;
use super::output::Output;

/// Whether to ask.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Consent {
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
}

impl Consent {
    /// Refuses at once where the answer can be neither given nor read. `what` is to be confirmed, such as "a rollback";
    /// `look` is the command that shows what it would do.
    pub(super) fn possible(self, output: &Output, what: &str, look: &str) -> Result<(), Failure> {
        if self.yes || (io::stdin().is_terminal() && !output.is_json()) {
            return Ok(());
        }
        let message = format!("{what} is to be confirmed, and there is nobody to ask");
        Err(Failure::new(Reason::InvalidArgument, message)
            .next(format!("look at it with: {look}; then run the same command again with --yes")))
    }

    /// Asks, unless that was answered with `--yes`.
    pub(super) fn ask(self, question: &str) -> Result<(), CliError> {
        if self.yes {
            return Ok(());
        }
        anstream::eprint!("{} [y/N] ", rfs_link::plain::line(question));
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        let failure = Failure::new(Reason::Cancelled, "not confirmed; nothing was changed");
        Err(failure.next("run it again and answer y, or give --yes").into())
    }
}
