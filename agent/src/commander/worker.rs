//! The one worker that takes a host's steps.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rfs_link::Chain;
use rfs_model::{OperationId, Reason, SnapshotId, Standing};
use rfs_store::journal::{CommandKey, JournalError, StoredCommand};

use super::{Activity, Command, Outcome, Refusal, Selection, Step, StepKind};
use crate::engine::cause::{refuse, refuse_for};
use crate::engine::{Asked, Engine, Order};
use crate::local::Progress;

type Stored = StoredCommand<Command>;

/// Takes commands in the order of their arrival.
pub(super) struct Worker {
    engine: Arc<Engine>,
    stopping: Arc<Mutex<Option<OperationId>>>,
}

/// How long the worker sleeps at most while a checkpoint owns the host, so that its end is not missed when the clock is
/// set.
const LOOK: Duration = Duration::from_secs(1);

/// The waits between tries to store a report, or to read how a restore ended.
const PAUSES: [Duration; 3] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];

impl Worker {
    pub(super) fn new(engine: Arc<Engine>, stopping: Arc<Mutex<Option<OperationId>>>) -> Self {
        Self { engine, stopping }
    }

    /// Works until nobody can send any more.
    pub(super) fn work(&self, unfinished: Vec<Stored>, commands: &Receiver<Stored>) {
        for command in unfinished {
            let outcome = self.take_up(&command);
            self.engine.board().show(None);
            self.answer(&command.key, &outcome);
        }
        loop {
            let next = match self.engine.checkpoint_until() {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => commands.recv_timeout(until.since(self.engine.clock().now()).min(LOOK)),
            };
            match next {
                Ok(command) => {
                    let outcome = self.execute(&command);
                    self.answer(&command.key, &outcome);
                }
                Err(RecvTimeoutError::Timeout) => self.engine.expire_checkpoint(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Answers a command that the journal has from before a restart.
    fn take_up(&self, command: &Stored) -> Outcome {
        match &command.body.step {
            Step::Prepare { .. } | Step::Cut => Outcome::Failed(refuse(
                Reason::Interrupted,
                "the agent was restarted in the middle of the checkpoint; everything runs again",
                "take the checkpoint again",
            )),
            Step::Apply { .. } | Step::Revert { .. } => match self.ended(command) {
                Some(ended) => ended,
                // It was not begun.
                None => self.execute(command),
            },
            Step::Finish | Step::Abandon | Step::Cancel => self.execute(command),
        }
    }

    /// The end of the restore that this command asked for; none if it was not begun.
    ///
    /// While the journal cannot say, nobody is answered and nothing else is taken up: the restore may have been committed, so
    /// that neither a refusal nor another try would be right. Whoever waits has a deadline of their own.
    fn ended(&self, command: &Stored) -> Option<Outcome> {
        let [first @ .., last] = PAUSES;
        let mut pauses = first.into_iter();
        loop {
            let error = match self.receipt(command) {
                Ok(ended) => return ended,
                Err(error) => error,
            };
            if self.engine.board().activity().is_none() {
                let error = Chain(&error);
                tracing::error!(command = %command.key, %error, "the journal does not say how it ended; holding still until it does");
                self.show(command, None);
            }
            thread::sleep(pauses.next().unwrap_or(last));
        }
    }

    fn execute(&self, command: &Stored) -> Outcome {
        let Command { operation, ref reason, .. } = command.body;
        self.show(command, None);
        let outcome = match &command.body.step {
            Step::Prepare { selection } => {
                match self.engine.prepare(operation, selection, command.deadline) {
                    Ok(()) => Outcome::Prepared,
                    Err(refusal) => Outcome::Failed(refusal),
                }
            }
            Step::Cut => match self.engine.cut_checkpoint(operation, reason, command.deadline) {
                Ok(captured) => Outcome::Cut {
                    snapshot: captured.info.id,
                    cut_at: captured.cut_at,
                    entries: captured.measure.entries,
                    bytes: captured.measure.bytes,
                    stored: captured.measure.stored,
                    took: captured.took,
                },
                Err(refusal) => Outcome::Failed(refusal),
            },
            Step::Finish => match self.engine.finish(operation) {
                Ok(()) => Outcome::Finished,
                Err(refusal) => Outcome::Failed(refusal),
            },
            Step::Abandon => match self.engine.abandon(operation) {
                Ok(()) => Outcome::Abandoned,
                Err(refusal) => Outcome::Failed(refusal),
            },
            Step::Apply { snapshot, selection } | Step::Revert { snapshot, selection } => {
                self.restore(command, *snapshot, selection)
            }
            Step::Cancel => self.cancelled(operation),
        };
        self.engine.board().show(None);
        outcome
    }

    fn restore(&self, command: &Stored, target: SnapshotId, selection: &Selection) -> Outcome {
        let operation = command.key.operation;
        match self.is_cancelled(command) {
            Err(error) => return Outcome::Refused(unread(&error)),
            Ok(true) => {
                return Outcome::Refused(refuse_for(
                    Reason::Cancelled,
                    "it was cancelled before it was begun",
                ));
            }
            Ok(false) => {}
        }
        // Its command is the newer one, or it would not have been taken.
        if let Err(refusal) = self.engine.give_up_other_checkpoint(operation) {
            return Outcome::Refused(refusal);
        }
        let asked = Asked { step: command.body.step.kind(), generation: command.key.generation };
        let order = Order {
            operation,
            target,
            selection: selection.clone(),
            deadline: command.deadline,
            reason: command.body.reason.clone(),
            command: Some(asked),
            force: false,
        };
        let watch = |progress| {
            self.show(command, Some(progress));
            // A cancellation that came between the command and its start found nothing to stop.
            if *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) == Some(operation)
                && self.is_cancelled(command).unwrap_or(false)
            {
                self.engine.cancel(operation);
            }
        };
        match self.engine.restore(order, &watch) {
            Ok(receipt) => Outcome::Restored(receipt),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    /// Whether the operation has been told to stop, by a command that is not older than this one.
    fn is_cancelled(&self, command: &Stored) -> Result<bool, JournalError> {
        let commands = self.engine.journal().commands_of::<Command>(command.key.operation)?;
        Ok(commands.iter().any(|other| {
            other.body.step.kind() == StepKind::Cancel && other.key.generation >= command.key.generation
        }))
    }

    /// The end of the restore that this command asked for, if it has ended.
    fn receipt(&self, command: &Stored) -> Result<Option<Outcome>, JournalError> {
        let asked = Asked { step: command.body.step.kind(), generation: command.key.generation };
        let receipts = self.engine.receipts_of(command.key.operation)?;
        let mine = receipts.into_iter().rev().find(|(by, _)| *by == Some(asked));
        Ok(mine.map(|(_, receipt)| Outcome::Restored(receipt)))
    }

    /// Nothing of the operation runs now: the worker is here, and not there.
    fn cancelled(&self, operation: OperationId) -> Outcome {
        match self.engine.receipts_of(operation) {
            Err(error) => Outcome::Refused(unread(&error)),
            Ok(receipts) => match receipts.into_iter().next_back() {
                Some((_, last)) => Outcome::Cancelled { standing: last.standing, backup: last.backup },
                None => Outcome::Cancelled { standing: Standing::Before, backup: None },
            },
        }
    }

    fn show(&self, command: &Stored, progress: Option<Progress>) {
        self.engine.board().show(Some(Activity {
            operation: Some(command.key.operation),
            step: command.body.step.kind(),
            generation: command.key.generation,
            phase: progress.map(|progress| progress.phase),
            steps_done: progress.map_or(0, |progress| progress.steps_done),
            steps_total: progress.map_or(0, |progress| progress.steps_total),
            since: self.engine.clock().now(),
        }));
    }

    /// Stores the report. If it cannot be stored now, it will be after the next start.
    fn answer(&self, key: &CommandKey, outcome: &Outcome) {
        let store = || self.engine.journal().report(key, self.engine.clock().now(), outcome);
        let mut stored = store();
        for pause in PAUSES {
            if stored.is_ok() {
                break;
            }
            thread::sleep(pause);
            stored = store();
        }
        if let Err(error) = stored {
            tracing::error!(command = %key, error = %Chain(&error), "the report could not be stored");
        }
        self.engine.board().wake();
    }
}

fn unread(error: &JournalError) -> Refusal {
    refuse(Reason::Io, Chain(error).to_string(), "look at the disk of the store")
}
