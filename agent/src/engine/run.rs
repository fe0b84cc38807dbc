//! One restore while it runs: its arrows, its clock, and what it has to show for itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rfs_model::{ByteCount, ComponentName, Generation, OperationId, SnapshotId, Standing, Timestamp};
use rfs_store::Cancel;
use rfs_store::journal::RunId;
use rfs_store::restore::Moment;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Engine;
use super::cause::Cause;
use super::failpoint::{self, Edge};
use super::keep::{backup_holder, target_holder};
use super::phase::Phase;
use super::receipt::{Downtime, Failure, Listed, Receipt, Span};
use super::shown::Key;
use crate::commander::{Selection, StepKind};
use crate::component::choices::Choices;
use crate::component::services::{Service, Turn};
use crate::component::{Component, Staged};
use crate::local::Progress;

/// What is restored; what the journal keeps of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Goal {
    pub(super) target: SnapshotId,
    pub(super) selection: Selection,
    pub(super) reason: String,
    /// The command that asked for it; none for an administrator on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<Asked>,
    /// What a person decided.
    #[serde(default, skip_serializing_if = "Choices::is_empty")]
    pub(super) choices: Choices,
    /// What is staged is named by it: nobody can foresee that name, and take it before.
    pub(super) staging: Uuid,
}

impl Goal {
    /// What a plan of it is remembered by.
    pub(super) fn key(&self) -> Key {
        let (selection, choices) = (self.selection.clone(), self.choices.clone());
        Key { target: self.target, selection, choices }
    }
}

/// Which command of an operation asked for a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its step.
    pub step: StepKind,
    /// Its generation.
    pub generation: Generation,
}

/// A restore that is under way.
pub(super) struct Run<'e> {
    pub(super) engine: &'e Engine,
    pub(super) id: RunId,
    pub(super) operation: OperationId,
    pub(super) goal: Goal,
    pub(super) started_at: Timestamp,
    pub(super) cancel: Cancel,
    /// When its time is up, by the clock that never jumps.
    pub(super) until: Instant,
    pub(super) backup: Option<SnapshotId>,
    /// Backups that were taken while services still wrote, which a later one has superseded.
    pub(super) superseded: Vec<SnapshotId>,
    pub(super) ready: Ready<'e>,
    pub(super) tally: Tally,
    pub(super) spans: Vec<Span>,
    pub(super) stopped: BTreeMap<ComponentName, Instant>,
    pub(super) downtime: Vec<Downtime>,
    pub(super) found: Found,
    /// When services were down and the flip began.
    pub(super) flipped_at: Option<Moment>,
    pub(super) watch: &'e dyn Fn(Progress),
}

/// What is told of a restore beside its steps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Found {
    /// What the target does not have, and what goes.
    pub(super) lost: Listed,
    /// Of those, what came after the plan that was shown.
    pub(super) appeared: Listed,
    /// What was written after services were started.
    pub(super) written: Listed,
    /// What a person must know of it.
    pub(super) notes: Vec<String>,
}

/// What lies ready to be flipped.
#[derive(Default)]
pub(super) struct Ready<'e> {
    pub(super) changes: Vec<(&'e dyn Component, Box<dyn Staged>)>,
    pub(super) services: Turns<'e>,
}

/// Services, each with from which state to which it is brought, in the order in which they start.
pub(super) type Turns<'e> = Vec<(&'e Service, ComponentName, Turn)>;

/// What a restore has done so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// How often it was staged.
    pub(super) attempt: u32,
    pub(super) planned: u64,
    pub(super) applied: u64,
    pub(super) taken_back: u64,
    pub(super) staged: ByteCount,
}

/// The facts that recovery needs, written with the arrow from which on it needs them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) backup: Option<SnapshotId>,
    pub(super) tally: Tally,
    pub(super) changes: Vec<(ComponentName, String)>,
    pub(super) services: Vec<(ComponentName, Turn)>,
    #[serde(default)]
    pub(super) found: Found,
}

/// The names of facts in the journal.
pub(super) const FACTS: &str = "facts";
pub(super) const FAILURE: &str = "failure";

impl<'e> Run<'e> {
    /// Takes an arrow: writes it down, then does what it stands for.
    pub(super) fn arrow<T>(
        &mut self,
        phase: Phase,
        facts: &[(&str, String)],
        effect: impl FnOnce(&mut Self) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let at = self.engine.clock.now();
        self.engine.journal.advance(self.id, phase.as_str(), at, facts)?;
        self.taken(phase, at, effect)
    }

    /// Takes an arrow while services are down: that does not wait for the disk. Where a crash leads from it is where it
    /// leads from the one before.
    pub(super) fn arrow_while_down<T>(
        &mut self,
        phase: Phase,
        effect: impl FnOnce(&mut Self) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let at = self.engine.clock.now();
        self.engine.journal.advance_unsynced(self.id, phase.as_str(), at)?;
        self.taken(phase, at, effect)
    }

    /// Takes an arrow on the way back, which is taken even if it cannot be written: the last phase that was written
    /// leads back too.
    pub(super) fn arrow_back<T>(
        &mut self,
        phase: Phase,
        facts: &[(&str, String)],
        effect: impl FnOnce(&mut Self) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let at = self.engine.clock.now();
        if let Err(error) = self.engine.journal.advance(self.id, phase.as_str(), at, facts) {
            tracing::error!(%phase, error = %rfs_link::Chain(&error), "going back without the journal");
        }
        self.taken(phase, at, effect)
    }

    /// Writes a phase that only stands for a decision.
    pub(super) fn mark(&mut self, phase: Phase, facts: &[(&str, String)]) -> Result<(), Cause> {
        let at = self.engine.clock.now();
        self.engine.journal.advance(self.id, phase.as_str(), at, facts)?;
        tracing::info!(operation = %self.operation, %phase, "restore");
        self.show(phase);
        self.spans.push(Span { phase, at, took: Duration::ZERO });
        failpoint::pause(phase, Edge::Before);
        Ok(())
    }

    /// Ends the restore with its receipt.
    pub(super) fn end(self, phase: Phase, receipt: Receipt, hold: Option<&str>) -> Receipt {
        self.let_go(&receipt);
        if let Err(error) = self.engine.journal.end(self.id, phase.as_str(), receipt.ended_at, &receipt, hold)
        {
            // The next start finds the restore open, and comes to the same end.
            tracing::error!(error = %rfs_link::Chain(&error), "the end of the restore could not be journalled");
        }
        self.engine.note_brought(&receipt);
        failpoint::pause(phase, Edge::Before);
        self.engine.release_superseded();
        receipt
    }

    /// The live state is what it will be: health is measured anew, before anybody can hear how the restore ended.
    pub(super) fn is_settled(&self) {
        self.engine.health.restore_ended(self.id.number());
    }

    /// Keeps the target for as long as the restore runs.
    pub(super) fn hold_target(&self) -> Result<(), Cause> {
        Ok(self.engine.store.protect(
            self.goal.target,
            &target_holder(self.operation),
            "the target of a restore",
        )?)
    }

    /// The target is needed no longer, nor is the backup of a host that is as it was. That a snapshot is kept too long is
    /// no reason for anything to fail.
    fn let_go(&self, receipt: &Receipt) {
        let store = &self.engine.store;
        let mut done = store.release(self.goal.target, &target_holder(self.operation));
        match (receipt.standing, self.backup) {
            (Standing::Before, Some(backup)) => {
                done = done.and(store.release(backup, &backup_holder(self.operation)));
            }
            (Standing::Target, _) if self.goal.selection.is_everything() => {
                let took = receipt.phases.iter().map(|span| span.took).sum();
                done = done.and(store.prove(self.goal.target, self.engine.wall.now(), took));
            }
            (Standing::Before | Standing::Target | Standing::Inconsistent, _) => {}
        }
        // Whatever may lead out of an inconsistent host stays.
        for earlier in self.superseded.iter().filter(|_| receipt.standing != Standing::Inconsistent) {
            done = done.and(store.forget(*earlier));
        }
        if let Err(error) = done {
            tracing::warn!(error = %rfs_link::Chain(&error), "a snapshot's marks could not be brought up to date");
        }
    }

    fn taken<T>(
        &mut self,
        phase: Phase,
        at: Timestamp,
        effect: impl FnOnce(&mut Self) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        tracing::info!(operation = %self.operation, %phase, "restore");
        self.show(phase);
        let begun = Instant::now();
        failpoint::pause(phase, Edge::Before);
        let result = failpoint::fail(phase).and_then(|()| effect(self));
        failpoint::pause(phase, Edge::After);
        self.spans.push(Span { phase, at, took: begun.elapsed() });
        result
    }

    /// Tells whoever watches how far it is.
    pub(super) fn show(&self, phase: Phase) {
        (self.watch)(Progress { phase, steps_done: self.tally.applied, steps_total: self.tally.planned });
    }

    /// The name of what is staged for a component, this restore's alone.
    pub(super) fn label(&self, component: &ComponentName) -> String {
        let attempt = self.tally.attempt;
        // Whoever has seen one name cannot tell the next.
        let secret = blake3::hash(format!("{} {attempt} {component}", self.goal.staging).as_bytes()).to_hex();
        format!("{}.{attempt}-{}-{component}", self.id, &secret[..32])
    }

    /// What recovery would need now.
    pub(super) fn facts(&self) -> Result<Vec<(&'static str, String)>, Cause> {
        let change = |(component, staged): &(&'e dyn Component, Box<dyn Staged>)| {
            Ok::<_, Cause>((component.name().clone(), staged.journalled()?))
        };
        let facts = Facts {
            backup: self.backup,
            tally: self.tally,
            changes: self.ready.changes.iter().map(change).collect::<Result<_, _>>()?,
            services: self.ready.services.iter().map(|(_, name, turn)| (name.clone(), *turn)).collect(),
            found: self.found.clone(),
        };
        Ok(vec![(FACTS, as_json(&facts))])
    }

    /// Writes down what recovery would need from now on.
    pub(super) fn note_facts(&self) -> Result<(), Cause> {
        for (name, body) in self.facts()? {
            self.engine.journal.note_text(self.id, name, &body)?;
        }
        Ok(())
    }

    /// Removes everything that is staged or displaced.
    pub(super) fn discard(&self) -> Result<(), Cause> {
        let mut result = Ok(());
        for (_, staged) in &self.ready.changes {
            result = result.and(staged.discard().map_err(Cause::from));
        }
        result.and(self.sweep())
    }

    /// Removes what was staged by an attempt that did not come to its end.
    pub(super) fn sweep(&self) -> Result<(), Cause> {
        for component in &self.engine.components {
            if !self.ready.changes.iter().any(|(ready, _)| ready.name() == component.name()) {
                component.sweep(&self.label(component.name()))?;
            }
        }
        Ok(())
    }

    /// A service has been told to stop.
    pub(super) fn going_down(&mut self, name: &ComponentName) {
        self.stopped.entry(name.clone()).or_insert_with(Instant::now);
    }

    /// A service has been seen to run.
    pub(super) fn came_up(&mut self, name: &ComponentName) {
        if let Some(since) = self.stopped.remove(name) {
            self.downtime.push(Downtime { service: name.clone(), down: since.elapsed() });
        }
    }

    pub(super) fn receipt(&self, standing: Standing, failure: Option<Failure>) -> Receipt {
        Receipt {
            restore: self.id.number(),
            standing,
            target: self.goal.target,
            backup: self.backup,
            started_at: self.started_at,
            ended_at: self.engine.clock.now(),
            phases: self.spans.clone(),
            downtime: self.downtime.clone(),
            planned: self.tally.planned,
            applied: self.tally.applied,
            taken_back: self.tally.taken_back,
            staged: self.tally.staged,
            lost: self.found.lost.clone(),
            appeared: self.found.appeared.clone(),
            written: self.found.written.clone(),
            notes: self.found.notes.clone(),
            failure,
        }
    }
}

/// A value as the journal keeps it.
pub(super) fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("facts have only text keys")
}
