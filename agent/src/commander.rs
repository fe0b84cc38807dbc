//! Takes the coordinator's commands: journals, acts, and keeps the report until it is acknowledged.
//!
//! ```text
//! receive ─▶ journal (fence, repetition) ─▶ queue ─▶ one worker ─▶ engine ─▶ report in the journal ─▶ session
//! ```
//!
//! Invariants
//! - A command is in the journal before anything is done for it, and has exactly one report, whatever happens between. The
//!   report waits for as long as the journal cannot say how the command ended.
//! - A report that cannot be journalled is tried again until it is; meanwhile the next steps are taken.
//! - What is quiet resumes by itself after its time, beside the worker.
//! - A step has its time from its arrival, by a clock that never steps; after a restart it has what is left, at most all of it.
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
use std::time::{Duration, Instant};

use rfs_model::{Generation, OperationId, Reason, SnapshotId};
use rfs_store::journal::{Admission, CommandKey, JournalError, StoredCommand, StoredReport};

use crate::engine::cause::{refuse, refuse_for};
use crate::engine::{Engine, after};

pub use command::{Command, QUIESCE_TIMEOUT, Selection, Step, StepKind};
pub use intake::{Activity, HostState, Inconsistent, Intake, IntakeError};
pub use report::{Outcome, Refusal, Report, ReportSequence};

/// The host, as the coordinator commands it.
pub struct Commander {
    engine: Arc<Engine>,
    queue: SyncSender<Job>,
    /// What the journal said last, for the time in which it cannot be read.
    known: Mutex<HostState>,
}

/// Commands that wait. A coordinator has one operation on a host, of a few steps.
const QUEUE: usize = 64;

impl Commander {
    /// Starts the worker. Commands that the journal has and no report for are taken up first.
    pub fn start(engine: Arc<Engine>) -> Result<Arc<Self>, IntakeError> {
        let (queue, commands) = mpsc::sync_channel(QUEUE);
        let unfinished = engine.journal().pending::<Command>().map_err(failed)?;
        crate::engine::watch(&engine).map_err(|error| IntakeError(error.into()))?;
        let worker = worker::Worker::new(engine.clone());
        thread::Builder::new()
            .name("commander".into())
            .spawn(move || worker.work(unfinished, &commands))
            .map_err(|error| IntakeError(error.into()))?;
        Ok(Arc::new(Self { engine, queue, known: Mutex::default() }))
    }

    /// Answers a command that is not taken.
    fn refuse(&self, key: &CommandKey, refusal: Refusal) -> Result<(), IntakeError> {
        tracing::warn!(command = %key, reason = %refusal.reason, "refused");
        let now = self.engine.clock().now();
        self.engine.journal().report(key, now, &Outcome::Refused(refusal)).map_err(failed)?;
        self.engine.board().wake();
        Ok(())
    }

    fn take(&self, command: StoredCommand<Command>, until: Instant) -> Result<(), IntakeError> {
        let operation = command.key.operation;
        match command.body.step {
            Step::Cancel => drop(self.engine.cancel(operation)),
            Step::Abandon => self.engine.cancel_checkpoint(operation),
            // It is newer than another operation's checkpoint, which is over then: it need not wait for what that is at.
            Step::Prepare { .. } | Step::Apply { .. } | Step::Revert { .. } => {
                self.engine.cancel_disowned_checkpoint(Some(operation));
            }
            Step::Cut | Step::Finish => {}
        }
        self.engine.look_again();
        let key = command.key.clone();
        match self.queue.try_send(Job::Command { command: Box::new(command), until }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => {
                self.refuse(&key, refuse_for(Reason::HostBusy, "too many commands wait on this host"))
            }
            Err(TrySendError::Disconnected(_)) => {
                let refusal = refuse(Reason::Internal, "the agent's worker has ended", "restart the agent");
                self.refuse(&key, refusal)
            }
        }
    }
}

impl Intake for Commander {
    fn receive(&self, command: Command) -> Result<(), IntakeError> {
        let until = after(command.timeout);
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
            Admission::New => self.take(stored, until),
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
        let journal = self.engine.journal();
        let stored = journal.unacknowledged::<Outcome>().map_err(failed)?;
        let newest = journal.generation().map_err(failed)?;
        stored.into_iter().map(|stored| report(stored, newest)).collect()
    }

    fn acknowledge(&self, sequence: ReportSequence) -> Result<(), IntakeError> {
        self.engine.journal().acknowledge(sequence.0).map_err(failed)
    }

    fn heed(&self, needed: &BTreeSet<OperationId>, deleted: &BTreeSet<OperationId>) {
        self.engine.heed(needed, deleted);
    }

    fn welcomed(&self, owner: Option<OperationId>) {
        self.engine.cancel_disowned_checkpoint(owner);
        // After what the worker is at, and what was commanded before: it may be the checkpoint's own step.
        if self.queue.try_send(Job::Owner(owner)).is_err() {
            tracing::warn!(
                "too many commands wait on this host; a checkpoint that is over ends when its time is up"
            );
        }
    }

    fn snapshots_revision(&self) -> u64 {
        self.engine.store().revision()
    }

    fn snapshots(&self) -> Result<Vec<SnapshotId>, IntakeError> {
        let infos = self.engine.store().restorable().map_err(|error| IntakeError(error.into()))?;
        Ok(infos.iter().rev().map(|info| info.id).collect())
    }

    fn state(&self) -> HostState {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // A journal that cannot be read proves neither that the host is consistent, nor that it has obeyed nothing.
        if let Ok(generation) = self.engine.journal().generation() {
            known.generation = generation;
        }
        if let Ok(inconsistent) = self.engine.inconsistent() {
            known.inconsistent = inconsistent;
        }
        known.activity = self.engine.board().activity();
        known.work = self.engine.work();
        known.snapshot = self.engine.brought();
        known.clone()
    }

    fn close(&self, let_end: Duration) {
        self.engine.close(let_end);
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.engine.board().on_change(wake);
    }
}

/// What the worker does next.
enum Job {
    /// Takes a step, which has until then.
    Command {
        /// The step.
        command: Box<StoredCommand<Command>>,
        /// By the clock that never steps.
        until: Instant,
    },
    /// Ends a checkpoint of another operation than this, which owns the host.
    Owner(Option<OperationId>),
}

fn report(stored: StoredReport<Outcome>, newest: Generation) -> Result<Report, IntakeError> {
    Ok(Report {
        sequence: ReportSequence(stored.sequence),
        operation: stored.key.operation,
        step: stored.key.step.parse().map_err(|error: command::UnknownStep| IntakeError(error.into()))?,
        generation: stored.key.generation,
        newest: newest.max(stored.key.generation),
        at: stored.at,
        outcome: stored.body,
    })
}

fn failed(error: JournalError) -> IntakeError {
    IntakeError(error.into())
}
