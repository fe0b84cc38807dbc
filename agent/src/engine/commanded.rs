//! Waits until the host is free for a command, and says why a command must not begin.

use std::time::Instant;

use rfs_model::{Generation, OperationId, Reason};
use rfs_store::journal::StoredCommand;

use super::Engine;
use super::cause::{Cause, refuse, refuse_for};
use super::turn::Turn;
use crate::commander::{Command, Refusal, Step};

impl Engine {
    /// Waits until the host is free for a command, and shows what it waits for.
    pub(super) fn await_turn(
        &self,
        work: &'static str,
        operation: OperationId,
        generation: Option<Generation>,
        until: Instant,
    ) -> Result<Turn<'_>, Refusal> {
        let told = |other| {
            tracing::info!(%operation, work, waits_for = other, "the host is at work");
            self.board.wait_for(Some(other));
        };
        let turn = self.turns.wait(work, operation, until, || self.overruled(operation, generation), told);
        self.board.wait_for(None);
        turn
    }

    /// Why a command that has not begun must not begin: it was called off, or the host has a newer one. The journal has both
    /// before anybody is told of them.
    pub(super) fn overruled(
        &self,
        operation: OperationId,
        generation: Option<Generation>,
    ) -> Option<Refusal> {
        let generation = generation?;
        let unread = |error| Some(Cause::Journal(error).refusal());
        let commands = match self.journal.commands_of::<Command>(operation) {
            Ok(commands) => commands,
            Err(error) => return unread(error),
        };
        let calls_off = |command: &StoredCommand<Command>| {
            matches!(command.body.step, Step::Cancel | Step::Abandon) && command.key.generation >= generation
        };
        if commands.iter().any(calls_off) {
            return Some(refuse_for(Reason::Cancelled, "it was cancelled before it was begun"));
        }
        match self.journal.generation() {
            Ok(newest) if newest > generation => {
                let message = format!("generation {newest} came before it was begun");
                Some(refuse_for(Reason::StaleGeneration, message))
            }
            Ok(_) => None,
            Err(error) => unread(error),
        }
    }

    /// What the host is at work on, in words, whoever asked for it; between its steps a checkpoint, too, and what does not
    /// resume.
    pub fn work(&self) -> Option<String> {
        let held = || self.checkpoint().as_ref().map(|checkpoint| checkpoint.operation);
        let between = || held().map(|operation| format!("the checkpoint {operation}, between its steps"));
        self.turns.work().map(str::to_owned).or_else(between).or_else(|| self.still_quiet())
    }

    /// A command has arrived: what waits may be overruled.
    pub fn look_again(&self) {
        self.turns.look_again();
    }

    /// Refuses while another operation's checkpoint owns the host.
    pub(super) fn is_free_for(&self, operation: OperationId) -> Result<(), Refusal> {
        match &*self.checkpoint() {
            Some(checkpoint) if checkpoint.operation != operation => {
                let message = format!("the checkpoint {} owns the host", checkpoint.operation);
                Err(refuse(Reason::HostBusy, message, "wait until it has ended, and try again"))
            }
            Some(_) | None => Ok(()),
        }
    }
}
