//! Brings the host to a snapshot, or leaves it as it was, and says which.
//!
//! ```text
//! plan ─▶ stage + backup ─▶ quiesce ─▶ flip ─▶ start ─▶ verify ─▶ commit
//!              │                │         │       │        │
//!              └── discard ◀────┴── flip back, start ◀─────┘        every arrow is journalled before it is taken
//! ```
//!
//! The engine, not the components, knows the order, the journal, deadlines, backup and the way back.
//!
//! Invariants
//! - One thing at a time: a capture, a checkpoint's step or a restore owns the host alone.
//! - An [`Engine`] that exists has brought to an end whatever its predecessor was interrupted in.
//! - Before the commit there is only the way back, after it only the way forward. A report that fails changes nothing.
//! - The backup is committed and protected before the first step.
//! - The agent's end is bounded: `stop` says what is let end, what is stopped, and what the next start ends.
//! - What is kept, and why, is said by `keep`; the collector runs beside everything else, and yields to it.
//! - An inconsistent host holds still until a forced restore has succeeded.

mod back;
mod board;
mod bound;
mod brought;
mod capture;
pub(crate) mod cause;
mod checkpoint;
mod choice;
mod clocks;
mod collector;
mod commanded;
mod failpoint;
mod forward;
mod health;
mod keep;
pub(crate) mod label;
mod phase;
mod quiet;
mod receipt;
mod recover;
mod room;
mod run;
mod shown;
mod slot;
mod stop;
mod turn;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rfs_link::Chain;
use rfs_model::time::SharedClock;
use rfs_model::{HostId, InstanceId, OperationId, Reason, RestoreNumber, SnapshotId};
use rfs_store::journal::{Journal, JournalError, NewRun};
use rfs_store::{Cancel, Snapshot, Store, StoreError, StoreOptions};
use uuid::Uuid;

use crate::commander::{Inconsistent, Refusal, Selection};
use crate::component::choices::Choices;
use crate::component::{self, Component, store_reason};
use crate::config::Config;
use crate::host::Lead;
use crate::local::{PlanPart, PlanView, Progress};
use board::Board;
use bound::Bound;
use cause::{Cause, refuse, refuse_for};
use checkpoint::{Checkpoint, Lapsed};
use collector::Wakes;
use run::{Found, Goal, Ready, Run, Tally};
use shown::{Key, ShownPlans};
use slot::Slot;
use turn::Turns;

pub(crate) use bound::watch;
pub use capture::Captured;
pub use checkpoint::Allowed;
pub use clocks::Clocks;
pub(crate) use clocks::after;
pub use collector::Collector;
pub use health::{LocalHealth, NoLocalHealth, Unhealthy};
pub use phase::{Direction, Phase, UnknownPhase};
pub use receipt::{Downtime, Failure, Listed, Receipt, Span};
pub use run::Asked;

/// What a restore is called while others wait for it.
const RESTORE: &str = "a restore";

/// The host's engine. Holds the store's lock for as long as it lives.
pub struct Engine {
    config: Config,
    host: HostId,
    store: Store,
    journal: Journal,
    components: Vec<Box<dyn Component>>,
    /// Never steps; for everything that is said of this process's time.
    clock: SharedClock,
    /// The machine's; for what people and calendars ask about, and for nothing else.
    wall: SharedClock,
    health: Arc<dyn LocalHealth>,
    /// The snapshot that the host was last brought to.
    brought: Mutex<Option<SnapshotId>>,
    turns: Turns,
    /// The restore that runs, and how it is stopped.
    current: Mutex<Option<(OperationId, Cancel)>>,
    /// The checkpoint that owns the host between its steps.
    checkpoint: Mutex<Option<Checkpoint>>,
    /// The checkpoint for which the host did not wait any longer, until the next one.
    lapsed: Mutex<Option<Lapsed>>,
    /// Until when the host is quiet at most.
    bound: Bound,
    /// Held while hooks make components quiet, or let them resume: neither comes into the middle of the other.
    hooks: Mutex<()>,
    /// What the plans that were shown would remove.
    shown: ShownPlans,
    /// The one collection.
    collecting: Slot,
    /// The one drill.
    drilling: Slot,
    /// How the collector is told that there is something for it.
    collector: Arc<Wakes>,
    board: Board,
    lead: Lead,
}

/// An engine, and what it had to bring to an end when it was opened.
pub struct Opened {
    /// The engine.
    pub engine: Engine,
    /// The restore that had been interrupted.
    pub recovered: Option<(OperationId, Receipt)>,
}

/// What is restored, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The operation that it is part of.
    pub operation: OperationId,
    /// The snapshot.
    pub target: SnapshotId,
    /// Which part of it.
    pub selection: Selection,
    /// Past it, and before the commit, the host goes back.
    pub until: Instant,
    /// Why, in the words of whoever asked.
    pub reason: String,
    /// The command that asks for it; none for an administrator on the host.
    pub command: Option<Asked>,
    /// Also on a host that is inconsistent.
    pub force: bool,
    /// What a person decided for it.
    pub choices: Choices,
}

impl Engine {
    /// Opens the store and the journal, and ends what was interrupted: a restore goes back or forward, and what was
    /// quiet for a checkpoint resumes.
    pub fn open(
        config: Config,
        clocks: impl Into<Clocks>,
        health: Arc<dyn LocalHealth>,
    ) -> Result<Opened, Refusal> {
        let Clocks { steady: clock, wall } = clocks.into();
        let refused = |cause: Cause| cause.refusal();
        let options = StoreOptions { reserve: config.reserve, clones: config.clones };
        let store = Store::open_with(&config.store, wall.clone(), options);
        let store = store.map_err(|error| match store_reason(&error) {
            Reason::StoreLocked => refuse(
                Reason::StoreLocked,
                error.to_string(),
                "the agent is starting or stopping, or another rfs-agent command is at work: wait until that has ended, and try again",
            ),
            _ => refused(error.into()),
        })?;
        let journal = Journal::open(&config.store).map_err(|error| refused(error.into()))?;
        let lead = Lead::of(&config.store);
        // The store is locked, so whoever ran it is gone.
        lead.end();
        let engine = Self {
            host: config.host.clone(),
            components: component::all(&config),
            config,
            store,
            journal,
            clock,
            wall,
            health,
            brought: Mutex::default(),
            turns: Turns::default(),
            current: Mutex::default(),
            checkpoint: Mutex::default(),
            lapsed: Mutex::default(),
            bound: Bound::default(),
            hooks: Mutex::default(),
            shown: ShownPlans::default(),
            collecting: Slot::default(),
            drilling: Slot::default(),
            collector: Arc::default(),
            board: Board::default(),
            lead,
        };
        engine.recall_brought();
        let recovered = recover::recover(&engine, &|_| {})?;
        // What is measured from now on is measured after all of them.
        let newest = engine.journal.newest_run().map_err(|error| refused(error.into()))?;
        if newest > RestoreNumber(0) {
            engine.health.restore_ended(newest);
        }
        engine.resume_all();
        engine.forget_stored_ahead();
        engine.release_superseded();
        engine.release_drilled();
        Ok(Opened { engine, recovered })
    }

    /// The host's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The host's snapshots.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The host's journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The host's clock.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// What the host is at.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The machine: a random id that lives with the store, and is made when it is asked for first.
    pub fn instance(&self) -> Result<InstanceId, Refusal> {
        let fresh = InstanceId::from_uuid(uuid::Uuid::now_v7());
        self.journal.instance(fresh).map_err(|error| Cause::Journal(error).refusal())
    }

    /// Why the host holds still; none when it does not.
    pub fn inconsistent(&self) -> Result<Option<Inconsistent>, Refusal> {
        let held = self.journal.held().map_err(|error| Cause::Journal(error).refusal())?;
        Ok(held.map(|held| Inconsistent { since: held.since, message: held.message }))
    }

    /// What a restore would do. Changes nothing.
    pub fn plan(
        &self,
        target: SnapshotId,
        selection: &Selection,
        cancel: &Cancel,
    ) -> Result<PlanView, Refusal> {
        self.plan_with(target, selection, &Choices::default(), cancel)
    }

    /// What a restore would do, with what a person has decided for it. Changes nothing.
    pub fn plan_with(
        &self,
        target: SnapshotId,
        selection: &Selection,
        choices: &Choices,
        cancel: &Cancel,
    ) -> Result<PlanView, Refusal> {
        let mut shown = PlanView::default();
        let show = |plan: &choice::Plan<'_>| shown = plan.view();
        let obstacle = self.planned(target, selection, choices, cancel, show)?;
        Ok(PlanView { obstacle, ..shown })
    }

    /// The same part by part, however long it is.
    pub fn plan_all(
        &self,
        target: SnapshotId,
        selection: &Selection,
        choices: &Choices,
        cancel: &Cancel,
        see: &mut dyn FnMut(PlanPart),
    ) -> Result<(), Refusal> {
        let obstacle = self.planned(target, selection, choices, cancel, |plan| plan.each(see))?;
        if obstacle.is_some() {
            see(PlanPart::Whole(PlanView { obstacle, ..PlanView::default() }));
        }
        Ok(())
    }

    /// Plans, and shows the plan; or says why the host cannot comply before a person has decided something.
    fn planned(
        &self,
        target: SnapshotId,
        selection: &Selection,
        choices: &Choices,
        cancel: &Cancel,
        show: impl FnOnce(&choice::Plan<'_>),
    ) -> Result<Option<Refusal>, Refusal> {
        check_choices(choices)?;
        let snapshot = self.snapshot(target)?;
        let chosen = choice::choose(&self.components, &self.config, &snapshot, selection)?;
        let asked = choice::Asked { target: &snapshot, selection, choices };
        let planned = choice::observe(&chosen, &self.store, asked, cancel)
            .and_then(|present| choice::plan(&self.components, present, asked, &self.store, cancel));
        match planned {
            Ok(plan) => {
                let (selection, choices) = (selection.clone(), choices.clone());
                self.shown.remember(Key { target, selection, choices }, &plan);
                show(&plan);
                Ok(None)
            }
            // A person sees it beside the plans of other hosts, with what accepts it.
            Err(cause) if cause.is_obstacle() => Ok(Some(cause.refusal())),
            Err(cause) => Err(cause.refusal()),
        }
    }

    /// Restores. An error means that nothing was begun; a restore that was begun always has a receipt.
    pub fn restore(&self, order: Order, watch: &dyn Fn(Progress)) -> Result<Receipt, Refusal> {
        let _turn = match order.command {
            Some(by) => self.await_turn(RESTORE, order.operation, Some(by.generation), order.until)?,
            None => self.turns.take(RESTORE, None)?,
        };
        self.is_free_for(order.operation)?;
        // The end of an earlier restore may have failed to be written.
        recover::recover(self, watch)?;
        let held = self.inconsistent()?;
        if let (Some(held), false) = (&held, order.force) {
            return Err(refuse_held(held));
        }
        check_choices(&order.choices)?;
        let snapshot = self.snapshot(order.target)?;
        let chosen = choice::choose(&self.components, &self.config, &snapshot, &order.selection)?;
        let now = self.clock.now();
        let left = order.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(refuse_for(Reason::DeadlineExceeded, "its time was up before it was begun"));
        }
        let goal = Goal {
            target: order.target,
            selection: order.selection,
            reason: order.reason,
            command: order.command,
            choices: order.choices,
            staging: Uuid::now_v7(),
        };
        let new =
            NewRun { operation: order.operation, started_at: now, deadline: now.plus(left), body: goal };
        let id = self
            .journal
            .begin(&new, Phase::Accepted.as_str())
            .map_err(|error| Cause::Journal(error).refusal())?;
        failpoint::pause(Phase::Accepted, failpoint::Edge::Before);

        let cancel = Cancel::at(order.until);
        self.set_current(Some((order.operation, cancel.clone())));
        // It may have been called off before there was anything to stop.
        if self.overruled(order.operation, new.body.command.map(|by| by.generation)).is_some() {
            cancel.cancel();
        }
        self.stop_collection();
        let run = Run {
            engine: self,
            id,
            operation: order.operation,
            goal: new.body,
            started_at: now,
            cancel,
            until: order.until,
            backup: None,
            superseded: Vec::new(),
            ready: Ready::default(),
            tally: Tally::default(),
            spans: vec![Span { phase: Phase::Accepted, at: now, took: Duration::ZERO }],
            stopped: BTreeMap::new(),
            downtime: Vec::new(),
            found: Found::default(),
            flipped_at: None,
            watch,
        };
        let receipt = forward::restore(run, &snapshot, &chosen);
        self.set_current(None);
        if held.is_some() && receipt.failure.is_none() {
            self.tidy_held();
            self.release()?;
            self.release_superseded();
        }
        self.collector.wake();
        Ok(receipt)
    }

    /// Removes what the restore that was stuck had staged and displaced: its backup has it all, and the host is at a target.
    ///
    /// What cannot be told to be superfluous stays where it is, and is named.
    fn tidy_held(&self) {
        let Ok(Some(held)) = self.journal.held() else { return };
        let facts: Option<run::Facts> = self.journal.fact(held.run, run::FACTS).ok().flatten();
        for (name, journalled) in facts.into_iter().flat_map(|facts| facts.changes) {
            let Some(component) = self.components.iter().find(|known| *known.name() == name) else {
                continue;
            };
            if let Err(error) = component.staged(&journalled).and_then(|staged| staged.discard_if_settled()) {
                tracing::warn!(component = %name, error = %Chain(&error), "leftovers of the restore that was stuck remain");
            }
        }
    }

    /// The receipts of an operation's restores that have ended, oldest first, with what asked for each.
    pub fn receipts_of(&self, operation: OperationId) -> Result<Vec<(Option<Asked>, Receipt)>, JournalError> {
        let runs = self.journal.ended_runs_of::<Goal, Receipt>(operation)?;
        Ok(runs.into_iter().map(|(goal, receipt)| (goal.command, receipt)).collect())
    }

    /// Stops the operation's restore before its commit, so that the host goes back. False: none is running.
    pub fn cancel(&self, operation: OperationId) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((running, cancel)) if *running == operation => {
                cancel.cancel();
                true
            }
            Some(_) | None => false,
        }
    }

    /// Stops whatever restore runs, before its commit.
    pub fn cancel_any(&self) {
        if let Some((_, cancel)) = &*self.current.lock().unwrap_or_else(PoisonError::into_inner) {
            cancel.cancel();
        }
    }

    fn set_current(&self, current: Option<(OperationId, Cancel)>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    /// The host is consistent again, and everyone who watches is told.
    fn release(&self) -> Result<(), Refusal> {
        tracing::info!("the host is consistent again");
        self.journal.release().map_err(|error| Cause::Journal(error).refusal())?;
        self.board.wake();
        Ok(())
    }

    /// Opens a snapshot of this host.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot, Refusal> {
        self.store.snapshot(id).map_err(|error| refuse_snapshot(&error))
    }
}

/// What is said of a snapshot that cannot be opened.
pub(crate) fn refuse_snapshot(error: &StoreError) -> Refusal {
    let reason = store_reason(error);
    let message = Chain(error).to_string();
    match reason {
        Reason::SnapshotNotFound => {
            refuse(reason, message, "see which there are with: rfs-agent snapshots list")
        }
        Reason::CheckpointInUse => refuse(
            reason,
            message,
            "see why each snapshot stays with: rfs-agent collect --dry-run; a pin is taken away with: rfs-agent snapshots unpin",
        ),
        _ if matches!(error, StoreError::NotAStore { .. }) => {
            refuse(reason, message, "make the first snapshot, and the store with it, with: rfs-agent capture")
        }
        _ => refuse_for(reason, message),
    }
}

/// Refuses patterns that mean nothing, before anything is begun.
fn check_choices(choices: &Choices) -> Result<(), Refusal> {
    choices.check().map_err(|error| refuse_for(Reason::InvalidArgument, error.to_string()))
}

fn refuse_held(held: &Inconsistent) -> Refusal {
    refuse(
        Reason::Inconsistent,
        format!("the host is inconsistent since {} and holds still: {}", held.since, held.message),
        "repair what the message names, then: rfs-agent restore SNAPSHOT --force",
    )
}
