//! The host's part in a fleet's checkpoint: quiet at `prepare`, captured at `cut`, running again after `finish`.
//!
//! Invariants
//! - From `prepare` until it is finished, abandoned, or its time is up, the checkpoint owns the host; whichever comes, what was
//!   made quiet resumes.
//! - What is quiet stays so for a bounded time without a further word, however long the checkpoint's own time is; then it resumes
//!   by itself, and the checkpoint is lapsed on this host.
//! - A snapshot that was not whole while everything was quiet is never answered with.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rfs_model::{ByteCount, ComponentName, Generation, OperationId, Reason};
use rfs_store::journal::Quiet;
use rfs_store::{Cancel, SnapshotInfo};

use super::cause::{refuse, refuse_for};
use super::quiet::resumed_too_early;
use super::{Captured, Engine, after, label, refuse_held};
use crate::commander::{QUIESCE_TIMEOUT, Refusal, Selection};
use crate::local::SnapshotKind;

/// A checkpoint that owns the host.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    pub(super) operation: OperationId,
    components: BTreeSet<ComponentName>,
    until: Instant,
    cancel: Cancel,
    /// How long what is quiet may stay so without a further word.
    quiet: Duration,
    /// Its cut has begun.
    is_cutting: bool,
    /// Its snapshot is whole.
    is_cut: bool,
    /// How much was new to the store when it was stored ahead: that is the checkpoint's, too.
    ahead: ByteCount,
}

/// A checkpoint whose quiet has ended without a word of its coordinator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lapsed {
    operation: OperationId,
    why: Why,
    quiet: Duration,
    /// Its snapshot was whole by then.
    is_cut: bool,
}

/// Why quiet ends without a word of the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// It has lasted for as long as it may.
    TimeUp,
    /// The agent stops.
    AgentStops,
}

/// How long a checkpoint's step may take, and how long what is quiet may stay so without a further word.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// When the step's time is up.
    pub until: Instant,
    /// Counted from when it is made quiet, and again from the cut.
    pub quiet: Duration,
    /// The command's generation: a newer one overrules it before it has begun; none where nobody commands.
    pub generation: Option<Generation>,
}

impl From<Instant> for Allowed {
    fn from(until: Instant) -> Self {
        Self { until, quiet: QUIESCE_TIMEOUT, generation: None }
    }
}

/// What a step of a checkpoint is called while others wait for it.
const CHECKPOINT: &str = "a checkpoint";

/// Why a snapshot was made that only makes a later one short.
const STORED_AHEAD: &str = "stored ahead of a cut";

/// Whether the snapshot only makes a later one short.
pub(super) fn is_ahead(info: &SnapshotInfo) -> bool {
    label::read(&info.label) == (SnapshotKind::Checkpoint, STORED_AHEAD)
}

impl Engine {
    /// Stores ahead what can be, and makes the components quiet. The host is the checkpoint's from then on.
    pub fn prepare(
        &self,
        operation: OperationId,
        selection: &Selection,
        allowed: impl Into<Allowed>,
    ) -> Result<(), Refusal> {
        let Allowed { until, quiet, generation } = allowed.into();
        // The others may be quiet already, and wait for this host no longer than they may be quiet.
        let begin = until.min(Instant::now() + quiet / 3);
        let turn = self.await_turn(CHECKPOINT, operation, generation, begin)?;
        if let Some(held) = self.inconsistent()? {
            return Err(refuse_held(&held));
        }
        self.give_up_other_checkpoint(operation)?;
        let chosen = self.chosen(&selection.components)?;
        super::capture::check(&chosen)?;
        let cancel = Cancel::at(until);
        let components = chosen.iter().map(|component| component.name().clone()).collect();
        *self.lapsed() = None;
        self.set_checkpoint(Some(Checkpoint {
            operation,
            components,
            until,
            cancel: cancel.clone(),
            quiet,
            is_cutting: false,
            is_cut: false,
            ahead: ByteCount(0),
        }));
        // It may have been called off before there was anything to stop.
        if self.overruled(operation, generation).is_some() {
            cancel.cancel();
        }
        if self.turns.is_closed() {
            self.stop_checkpoint();
        }
        self.stop_collection();
        // Stored ahead, so that the cut is short, and a disk that is too small is found before any host has cut.
        let ahead = || self.cut(&chosen, SnapshotKind::Checkpoint, STORED_AHEAD, Some(operation), &cancel);
        match self.with_room(&cancel, ahead) {
            Ok(stored) => {
                // It may have been ended meanwhile.
                if let Some(mine) = self.checkpoint().as_mut().filter(|held| held.operation == operation) {
                    mine.ahead = stored.measure.stored;
                }
            }
            // A writer that does not rest is what being quiet is for.
            Err(refusal) if refusal.reason != Reason::FileUnstable => {
                self.set_checkpoint(None);
                return Err(self.lapsed_of(operation).map_or(refusal, |lapsed| self.refused_for(lapsed)));
            }
            Err(_) => {}
        }
        let quiesced = self.quiesce(&chosen, operation, quiet, &cancel);
        drop(turn);
        if let Some(lapsed) = self.lapsed_of(operation) {
            return Err(self.refused_for(lapsed));
        }
        quiesced.inspect_err(|_| {
            // What could not resume is logged, and tried again at the next start.
            let _ = self.give_up(operation);
        })
    }

    /// Captures and commits. The host must be prepared, and its time not up; it has the time that is allowed now, if that is
    /// longer.
    pub fn cut_checkpoint(
        &self,
        operation: OperationId,
        reason: &str,
        allowed: impl Into<Allowed>,
    ) -> Result<Captured, Refusal> {
        let allowed = allowed.into();
        let begun = self
            .await_turn(CHECKPOINT, operation, allowed.generation, allowed.until)
            .and_then(|turn| Ok((turn, self.own_checkpoint(operation, allowed)?)));
        let (turn, checkpoint) = begun.inspect_err(|_| {
            // What could not resume is logged, and tried again in a moment.
            let _ = self.give_up(operation);
        })?;
        // It may have been called off before there was anything to stop.
        if self.overruled(operation, allowed.generation).is_some() {
            checkpoint.cancel.cancel();
        }
        let chosen = self.chosen(&checkpoint.components)?;
        let cut = self.cut(&chosen, SnapshotKind::Checkpoint, reason, Some(operation), &checkpoint.cancel);
        let is_whole = cut.is_ok() && self.is_cut(operation);
        self.forget_stored_ahead();
        drop(turn);
        match (cut, self.lapsed_of(operation)) {
            (Ok(mut captured), _) if is_whole => {
                captured.measure.stored.0 += checkpoint.ahead.0;
                Ok(captured)
            }
            // The host was not quiet to the end: what was captured may be of two moments.
            (Ok(_) | Err(_), Some(lapsed)) => Err(self.refused_for(lapsed)),
            (Ok(_), None) => Err(given_up()),
            (Err(refusal), None) => {
                // What could not resume is logged, and tried again at the next start.
                let _ = self.give_up(operation);
                Err(refusal)
            }
        }
    }

    /// Lets everything resume; the host is free, and what it cut is the newest checkpoint. May be called again.
    pub fn finish(&self, operation: OperationId) -> Result<(), Refusal> {
        let resumed = self.give_up(operation);
        self.hold_finished(operation);
        self.collector.wake();
        resumed?;
        match self.lapsed_of(operation) {
            // What it cut is whole; that the host did not wait for the others is worth to be told.
            Some(lapsed) if lapsed.is_cut && lapsed.why == Why::TimeUp => Err(self.refused_for(lapsed)),
            Some(_) | None => Ok(()),
        }
    }

    /// Lets everything resume; what was cut is like any other snapshot. May be called again.
    pub fn abandon(&self, operation: OperationId) -> Result<(), Refusal> {
        self.give_up(operation)
    }

    /// Stops what the checkpoint is at, so that it can be abandoned.
    pub fn cancel_checkpoint(&self, operation: OperationId) {
        if let Some(checkpoint) =
            self.checkpoint().as_ref().filter(|checkpoint| checkpoint.operation == operation)
        {
            checkpoint.cancel.cancel();
        }
    }

    /// When the present checkpoint's time is up.
    pub fn checkpoint_until(&self) -> Option<Instant> {
        self.checkpoint().as_ref().map(|checkpoint| checkpoint.until)
    }

    /// Ends a checkpoint whose time is up.
    pub fn expire_checkpoint(&self) {
        let expired =
            self.checkpoint().as_ref().filter(|checkpoint| Instant::now() >= checkpoint.until).cloned();
        if let Some(Checkpoint { operation, .. }) = expired {
            tracing::warn!(%operation, "the checkpoint was not finished in time; everything resumes");
            // What could not resume is logged, and tried again at the next start.
            let _ = self.give_up(operation);
        }
    }

    /// Stops what a checkpoint of another operation than `owner` is at, so that it can be ended; what waits for another operation
    /// does not begin.
    pub fn cancel_disowned_checkpoint(&self, owner: Option<OperationId>) {
        self.turns.disown_others(owner);
        if let Some(checkpoint) = self.checkpoint().as_ref().filter(|held| Some(held.operation) != owner) {
            checkpoint.cancel.cancel();
        }
    }

    /// Ends a checkpoint of another operation than `owner`, which owns the host as its coordinator says.
    pub fn end_disowned_checkpoint(&self, owner: Option<OperationId>) {
        let held = self.checkpoint().as_ref().map(|checkpoint| checkpoint.operation);
        if let Some(operation) = held.filter(|held| Some(*held) != owner) {
            tracing::warn!(%operation, "the coordinator knows nothing of the checkpoint any more; everything resumes");
            // What could not resume is logged, and tried again at the next start.
            let _ = self.give_up(operation);
        }
    }

    /// Ends any other operation's checkpoint: a newer command has come, so its coordinator has moved on.
    pub fn give_up_other_checkpoint(&self, operation: OperationId) -> Result<(), Refusal> {
        let other = self
            .checkpoint()
            .as_ref()
            .map(|checkpoint| checkpoint.operation)
            .filter(|other| *other != operation);
        other.map_or(Ok(()), |other| self.give_up(other))
    }

    /// Lets everything resume that has been quiet for longer than it may without a further word. Acts beside the worker, which may
    /// be in the middle of the cut, and beside a capture by hand: neither comes to a snapshot.
    pub(super) fn resume_by_itself(&self, operation: OperationId) {
        self.turns.expire(operation);
        self.lapse(operation, Why::TimeUp);
    }

    /// The agent stops: the checkpoint that owns the host is over here, whatever it is at. False if there is none.
    pub(super) fn stop_checkpoint(&self) -> bool {
        let held = self.checkpoint().as_ref().map(|checkpoint| checkpoint.operation);
        held.inspect(|operation| self.lapse(*operation, Why::AgentStops)).is_some()
    }

    /// Whether a checkpoint is in the middle of its cut.
    pub(super) fn is_cutting(&self) -> bool {
        self.checkpoint().as_ref().is_some_and(|checkpoint| checkpoint.is_cutting && !checkpoint.is_cut)
    }

    fn lapse(&self, operation: OperationId, why: Why) {
        let mut held = self.checkpoint();
        if let Some(mine) = held.take_if(|checkpoint| checkpoint.operation == operation) {
            let Checkpoint { cancel, quiet, is_cut, .. } = mine;
            // Before the checkpoint is seen to be gone, and before anything resumes.
            *self.lapsed() = Some(Lapsed { operation, why, quiet, is_cut });
            match why {
                Why::TimeUp => {
                    cancel.expire();
                    tracing::warn!(%operation, ?quiet, is_cut, "nothing was heard of the checkpoint for too long; everything resumes");
                }
                Why::AgentStops => {
                    cancel.cancel();
                    tracing::warn!(%operation, is_cut, "the agent stops in the middle of the checkpoint; everything resumes");
                }
            }
        }
        drop(held);
        // What could not resume is logged, and tried again in a moment.
        let _ = self.resume(operation);
        self.collector.wake();
    }

    /// Why a step of a checkpoint from before a restart has failed; what it had made quiet resumes.
    pub(crate) fn restarted(&self, operation: OperationId) -> Refusal {
        match self.give_up(operation) {
            Ok(()) => refuse(
                Reason::Interrupted,
                "the agent was restarted in the middle of the checkpoint: everything on this host runs again, and no snapshot of it counts",
                "take the checkpoint again",
            ),
            Err(refusal) => {
                let message = format!(
                    "the agent was restarted in the middle of the checkpoint, and {}",
                    refusal.message
                );
                refuse(refusal.reason, message, &refusal.next)
            }
        }
    }

    fn give_up(&self, operation: OperationId) -> Result<(), Refusal> {
        let mine = self.checkpoint().take_if(|checkpoint| checkpoint.operation == operation);
        self.collector.wake();
        // What was never prepared has nothing to resume, and waits for nobody's hooks.
        let is_quiet = |quiet: Vec<Quiet>| quiet.iter().any(|quiet| quiet.operation == operation);
        if mine.is_none() && !self.journal.all_quiet().map(is_quiet).unwrap_or(true) {
            return Ok(());
        }
        self.resume(operation)
    }

    /// The operation's checkpoint, from now on with the time that is allowed.
    fn own_checkpoint(&self, operation: OperationId, allowed: Allowed) -> Result<Checkpoint, Refusal> {
        let Allowed { until, quiet, .. } = allowed;
        let mut held = self.checkpoint();
        let Some(checkpoint) = held.as_mut().filter(|checkpoint| checkpoint.operation == operation) else {
            drop(held);
            return Err(match self.lapsed_of(operation) {
                Some(lapsed) => self.refused_for(lapsed),
                None => given_up(),
            });
        };
        if Instant::now() >= checkpoint.until {
            return Err(refuse_for(Reason::DeadlineExceeded, "the checkpoint's time on this host is up"));
        }
        if until > checkpoint.until {
            checkpoint.until = until;
            checkpoint.cancel = Cancel::at(until);
        }
        checkpoint.quiet = quiet;
        checkpoint.is_cutting = true;
        self.bound.rearm(operation, after(quiet));
        Ok(checkpoint.clone())
    }

    /// Notes that the snapshot is whole; false if the host has not been quiet to the end.
    fn is_cut(&self, operation: OperationId) -> bool {
        let mut held = self.checkpoint();
        let mine = held.as_mut().filter(|checkpoint| checkpoint.operation == operation);
        mine.map(|checkpoint| checkpoint.is_cut = true).is_some()
    }

    fn lapsed_of(&self, operation: OperationId) -> Option<Lapsed> {
        self.lapsed().filter(|lapsed| lapsed.operation == operation)
    }

    /// Why the step of a checkpoint that has lapsed is not answered with what was asked for.
    fn refused_for(&self, lapsed: Lapsed) -> Refusal {
        let Lapsed { operation, why, quiet, is_cut } = lapsed;
        // Only what has resumed is said to have: whoever is first lets it.
        if let Err(refusal) = self.resume(operation) {
            let message = match why {
                Why::TimeUp => format!("after {quiet:?} of quiet: {}", refusal.message),
                Why::AgentStops => {
                    format!("the agent stopped in the middle of the checkpoint: {}", refusal.message)
                }
            };
            return refuse(refusal.reason, message, &refusal.next);
        }
        if why == Why::AgentStops {
            let message = "the agent stopped before this host's part of the checkpoint had ended; everything that was quiet runs again";
            return refuse(Reason::Interrupted, message, "take the checkpoint again");
        }
        let message = match is_cut {
            false => resumed_too_early(quiet),
            true => format!(
                "everything resumed by itself {quiet:?} after the cut, because no word to resume had come; the snapshot is whole"
            ),
        };
        refuse(
            Reason::DeadlineExceeded,
            message,
            "take it again, what was stored ahead stays; or let hosts be quiet for longer: --quiesce-timeout TIME",
        )
    }

    fn lapsed(&self) -> MutexGuard<'_, Option<Lapsed>> {
        self.lapsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was stored ahead of cuts: the cut has all of it that it needs. The newest snapshot may never be deleted,
    /// so what was stored ahead of a checkpoint that was abandoned goes with the next cut.
    pub(super) fn forget_stored_ahead(&self) {
        let snapshots = self.store.snapshots().unwrap_or_default();
        for ahead in snapshots.iter().rev().skip(1).filter(|info| is_ahead(info)) {
            if let Err(error) = self.store.forget(ahead.id) {
                tracing::warn!(snapshot = %ahead.id, error = %rfs_link::Chain(&error), "stays, though it is needed no more");
            }
        }
    }

    pub(super) fn checkpoint(&self) -> MutexGuard<'_, Option<Checkpoint>> {
        self.checkpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_checkpoint(&self, checkpoint: Option<Checkpoint>) {
        *self.checkpoint() = checkpoint;
    }
}

fn given_up() -> Refusal {
    let message = "the host is not prepared for this checkpoint: it was given up, or the agent was restarted";
    refuse(Reason::WrongState, message, "take the checkpoint again")
}
