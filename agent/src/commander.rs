//! Takes the coordinator's commands: journals, acts, and keeps the report until it is acknowledged.
//!
//! ```text
//! receive ─▶ journal (fence, repetition) ─▶ queue ─▶ one worker ─▶ engine ─▶ report in the journal ─▶ session
//! ```
//!
//! Invariants
//! - A command is in the journal before anything is done for it, and has exactly one report, whatever happens between. The
//!   report waits for as long as the journal cannot say how the command ended.
//! - One worker: the steps of an operation are taken one after the other. What stops a step acts at once, beside it.
//! - A command of an older generation, and one of another operation of the same generation, has no effect.

mod command;
mod intake;
mod report;
mod worker;

use std::collections::BTreeSet;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rfs_model::{OperationId, Reason};
use rfs_store::journal::{Admission, CommandKey, JournalError, StoredCommand, StoredReport};

use crate::engine::Engine;
use crate::engine::cause::{refuse, refuse_for};

pub use command::{Command, Selection, Step, StepKind};
pub use intake::{Activity, HostState, Inconsistent, Intake, IntakeError};
pub use report::{Outcome, Refusal, Report, ReportSequence};

/// The host, as the coordinator commands it.
pub struct Commander {
    engine: Arc<Engine>,
    queue: SyncSender<StoredCommand<Command>>,
    /// The newest operation that was told to stop, for the moment between its command and its start.
    stopping: Arc<Mutex<Option<OperationId>>>,
}

/// Commands that wait. A coordinator has one operation on a host, of a few steps.
const QUEUE: usize = 64;

impl Commander {
    /// Starts the worker. Commands that the journal has and no report for are taken up first.
    pub fn start(engine: Arc<Engine>) -> Result<Arc<Self>, IntakeError> {
        let (queue, commands) = mpsc::sync_channel(QUEUE);
        let stopping = Arc::<Mutex<Option<OperationId>>>::default();
        let unfinished = engine.journal().pending::<Command>().map_err(failed)?;
        let worker = worker::Worker::new(engine.clone(), stopping.clone());
        thread::Builder::new()
            .name("commander".into())
            .spawn(move || worker.work(unfinished, &commands))
            .map_err(|error| IntakeError(error.into()))?;
        Ok(Arc::new(Self { engine, queue, stopping }))
    }

    /// Answers a command that is not taken.
    fn refuse(&self, key: &CommandKey, refusal: Refusal) -> Result<(), IntakeError> {
        tracing::warn!(command = %key, reason = %refusal.reason, "refused");
        let now = self.engine.clock().now();
        self.engine.journal().report(key, now, &Outcome::Refused(refusal)).map_err(failed)?;
        self.engine.board().wake();
        Ok(())
    }

    fn take(&self, command: StoredCommand<Command>) -> Result<(), IntakeError> {
        let operation = command.key.operation;
        match command.body.step {
            Step::Cancel => {
                *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = Some(operation);
                self.engine.cancel(operation);
            }
            Step::Abandon => self.engine.cancel_checkpoint(operation),
            Step::Prepare { .. } | Step::Cut | Step::Finish | Step::Apply { .. } | Step::Revert { .. } => {}
        }
        match self.queue.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(command)) => {
                let refusal = refuse_for(Reason::HostBusy, "too many commands wait on this host");
                self.refuse(&command.key, refusal)
            }
            Err(TrySendError::Disconnected(command)) => {
                let refusal = refuse(Reason::Internal, "the agent's worker has ended", "restart the agent");
                self.refuse(&command.key, refusal)
            }
        }
    }
}

impl Intake for Commander {
    fn receive(&self, command: Command) -> Result<(), IntakeError> {
        let arrived_at = self.engine.clock().now();
        let key = CommandKey {
            operation: command.operation,
            generation: command.generation,
            step: command.step.kind().as_str().to_owned(),
        };
        let stored =
            StoredCommand { key, arrived_at, deadline: arrived_at.plus(command.timeout), body: command };
        let admission = self.engine.journal().admit(&stored).map_err(failed)?;
        tracing::info!(command = %stored.key, ?admission, "command");
        match admission {
            Admission::New => self.take(stored),
            // It waits or is at work; its report will follow.
            Admission::Pending => Ok(()),
            Admission::Answered => {
                self.engine.board().wake();
                Ok(())
            }
            Admission::Stale(newest) => {
                let message = format!(
                    "generation {} is older than {newest}, which this host has obeyed",
                    stored.key.generation
                );
                self.refuse(&stored.key, refuse_for(Reason::StaleGeneration, message))
            }
        }
    }

    fn unacknowledged(&self) -> Result<Vec<Report>, IntakeError> {
        let stored = self.engine.journal().unacknowledged::<Outcome>().map_err(failed)?;
        stored.into_iter().map(report).collect()
    }

    fn acknowledge(&self, sequence: ReportSequence) -> Result<(), IntakeError> {
        self.engine.journal().acknowledge(sequence.0).map_err(failed)
    }

    fn heed(&self, needed: &BTreeSet<OperationId>, deleted: &BTreeSet<OperationId>) {
        self.engine.heed(needed, deleted);
    }

    fn state(&self) -> HostState {
        let journal = self.engine.journal();
        HostState {
            generation: journal.generation().unwrap_or_default(),
            activity: self.engine.board().activity(),
            // A journal that cannot be read is no proof of a consistent host, and whoever restores will meet it.
            inconsistent: self.engine.inconsistent().ok().flatten(),
        }
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.engine.board().on_change(wake);
    }
}

fn report(stored: StoredReport<Outcome>) -> Result<Report, IntakeError> {
    Ok(Report {
        sequence: ReportSequence(stored.sequence),
        operation: stored.key.operation,
        step: stored.key.step.parse().map_err(|error: command::UnknownStep| IntakeError(error.into()))?,
        generation: stored.key.generation,
        at: stored.at,
        outcome: stored.body,
    })
}

fn failed(error: JournalError) -> IntakeError {
    IntakeError(error.into())
}
