//! The one worker that takes a host's steps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rfs_link::Chain;
use rfs_model::{OperationId, Reason, RestoreNumber, SnapshotId, Standing};
use rfs_proto::notes::bounded;
use rfs_store::journal::{CommandKey, JournalError, StoredCommand};

use super::{Activity, Command, Job, Outcome, Refusal, Selection, Step};
use crate::component::choices::Choices;
use crate::engine::cause::refuse;
use crate::engine::{Allowed, Asked, Engine, Order, Receipt, after};
use crate::local::Progress;

type Stored = StoredCommand<Command>;

/// Takes commands in the order of their arrival.
pub(super) struct Worker {
    engine: Arc<Engine>,
    /// Reports that the journal could not take yet, oldest first.
    unstored: VecDeque<(CommandKey, Outcome)>,
}

/// How long the worker waits before it asks the journal again: to take a report, or to say how a restore ended.
const AGAIN: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, unstored: VecDeque::new() }
    }

    /// Works until nobody can send any more.
    pub(super) fn work(mut self, unfinished: Vec<Stored>, jobs: &Receiver<Job>) {
        for command in unfinished {
            match self.take_up(&command) {
                Some(outcome) => {
                    self.engine.board().show(None);
                    self.answer(command.key, outcome);
                }
                None => {
                    let until = self.until(&command);
                    self.obey(command, until);
                }
            }
        }
        loop {
            match self.next(jobs) {
                Ok(Job::Command { command, until }) => self.obey(*command, until),
                Ok(Job::Owner(owner)) => self.engine.end_disowned_checkpoint(owner),
                Err(RecvTimeoutError::Timeout) => {
                    self.engine.expire_checkpoint();
                    self.store_reports();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits for the next job, at most until there is something else to do.
    fn next(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        let expiry = self.engine.checkpoint_until();
        let expiry = expiry.map(|until| until.saturating_duration_since(Instant::now()));
        let again = (!self.unstored.is_empty()).then_some(AGAIN);
        match expiry.into_iter().chain(again).min() {
            Some(at_most) => jobs.recv_timeout(at_most),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// What came of a command that the journal has from before a restart; none if it is still to be obeyed.
    fn take_up(&self, command: &Stored) -> Option<Outcome> {
        match &command.body.step {
            // A checkpoint's moment has passed, whether the step had begun or only waited.
            Step::Prepare { .. } | Step::Cut => {
                Some(Outcome::Failed(self.engine.restarted(command.key.operation)))
            }
            Step::Apply { .. } | Step::Revert { .. } => self.ended(command),
            Step::Finish | Step::Abandon | Step::Cancel => None,
        }
    }

    /// Takes a step, and stores its report before the agent may end.
    fn obey(&mut self, command: Stored, until: Instant) {
        let engine = self.engine.clone();
        let _at_work = engine.take_command();
        let outcome = self.execute(&command, until);
        self.answer(command.key, outcome);
    }

    /// When the time of a command from before a restart is up: what its stored deadline leaves, by a clock that may have been
    /// set meanwhile, and so never more than it had from the start.
    fn until(&self, command: &Stored) -> Instant {
        let left = command.deadline.since(self.engine.clock().now());
        after(left.min(command.body.timeout))
    }

    /// The end of the restore that this command asked for; none if it was not begun.
    ///
    /// While the journal cannot say, nobody is answered and nothing else is taken up: the restore may have been committed, so
    /// that neither a refusal nor another try would be right. Whoever waits has a deadline of their own.
    fn ended(&self, command: &Stored) -> Option<Outcome> {
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
            thread::sleep(AGAIN);
        }
    }

    fn execute(&self, command: &Stored, until: Instant) -> Outcome {
        let Command { operation, ref reason, quiesce_timeout: quiet, .. } = command.body;
        let allowed = Allowed { until, quiet, generation: Some(command.key.generation) };
        self.show(command, None);
        let outcome = match &command.body.step {
            Step::Prepare { selection } => match self.engine.prepare(operation, selection, allowed) {
                Ok(()) => Outcome::Prepared,
                Err(refusal) => Outcome::Failed(refusal),
            },
            Step::Cut => match self.engine.cut_checkpoint(operation, reason, allowed) {
                Ok(captured) => Outcome::Cut {
                    snapshot: captured.info.id,
                    cut_at: captured.cut_at,
                    entries: captured.measure.entries,
                    bytes: captured.measure.bytes,
                    stored: captured.measure.stored,
                    took: captured.took,
                    notes: bounded(captured.info.components.iter().flat_map(|part| &part.notes)),
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
            Step::Apply { snapshot, selection, choices } | Step::Revert { snapshot, selection, choices } => {
                self.restore(command, *snapshot, (selection, choices), until)
            }
            Step::Cancel => self.cancelled(operation),
        };
        self.engine.board().show(None);
        outcome
    }

    fn restore(
        &self,
        command: &Stored,
        target: SnapshotId,
        (selection, choices): (&Selection, &Choices),
        until: Instant,
    ) -> Outcome {
        let operation = command.key.operation;
        // Its command is the newer one, or it would not have been taken.
        if let Err(refusal) = self.engine.give_up_other_checkpoint(operation) {
            return Outcome::Refused(refusal);
        }
        let asked = Asked { step: command.body.step.kind(), generation: command.key.generation };
        let order = Order {
            operation,
            target,
            selection: selection.clone(),
            until,
            reason: command.body.reason.clone(),
            command: Some(asked),
            force: false,
            choices: choices.clone(),
        };
        let watch = |progress| self.show(command, Some(progress));
        match self.engine.restore(order, &watch) {
            Ok(receipt) => Outcome::Restored(Box::new(receipt)),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    /// The end of the restore that this command asked for, if it has ended.
    fn receipt(&self, command: &Stored) -> Result<Option<Outcome>, JournalError> {
        let asked = Asked { step: command.body.step.kind(), generation: command.key.generation };
        let receipts = self.engine.receipts_of(command.key.operation)?;
        let mine = receipts.into_iter().rev().find(|(by, _)| *by == Some(asked));
        Ok(mine.map(|(_, receipt)| Outcome::Restored(Box::new(receipt))))
    }

    /// Nothing of the operation runs now: the worker is here, and not there.
    fn cancelled(&self, operation: OperationId) -> Outcome {
        match self.engine.receipts_of(operation) {
            Err(error) => Outcome::Refused(unread(&error)),
            Ok(receipts) => match receipts.into_iter().next_back() {
                Some((_, last)) => {
                    let Receipt { standing, backup, restore, .. } = last;
                    Outcome::Cancelled { standing, backup, restore }
                }
                None => {
                    Outcome::Cancelled { standing: Standing::Before, backup: None, restore: RestoreNumber(0) }
                }
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
            waits_for: None,
        }));
    }

    /// Stores the report, now or as soon as the journal takes it: what was done is done, and somebody waits to hear of it.
    fn answer(&mut self, key: CommandKey, outcome: Outcome) {
        self.unstored.push_back((key, outcome));
        self.store_reports();
    }

    /// Stores the reports that wait, in order, as far as the journal takes them.
    fn store_reports(&mut self) {
        while let Some((key, outcome)) = self.unstored.front() {
            if let Err(error) = self.engine.journal().report(key, self.engine.clock().now(), outcome) {
                tracing::error!(command = %key, error = %Chain(&error), "the report could not be stored; it is tried again");
                break;
            }
            self.unstored.pop_front();
        }
        self.engine.board().wake();
    }
}

fn unread(error: &JournalError) -> Refusal {
    refuse(Reason::Io, Chain(error).to_string(), "look at the disk of the store")
}
