//! An undo in one act: what still runs is ended, hosts that wait are withdrawn, then the changed hosts can be brought back.
//!
//! ```text
//!  running ─ abort ─▶ its hosts at work go back ─▶ over ─▶ some are changed ─▶ the undo begins
//!                                                   └────▶ none is ─▶ those that wait are withdrawn
//! ```
//! Each step is stored where it belongs, in the history of the rollback that is undone. A coordinator that dies between them
//! leaves one that was aborted, and the same request again goes on from there.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{HostId, RequestId, RollbackId, Selector};
use rfs_rollout::rollback::{HostPhase, Outcome, Rollback};
use rfs_rollout::{Person, PersonAction, Plan, PlanError, Refusal, RollbackRequest, Source};

use super::create::request_key;
use super::error::OperationError;
use super::operations::{Operations, PlannedRollback};
use super::source;
use super::view::View;
use crate::store::HostRow;

/// How long the hosts of a rollback that is ended may take to answer before the undo is given up.
pub const ENDING: Duration = Duration::from_secs(30);
/// How soon an operation is looked at again whose driver has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What an undo comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undoable {
    /// Hosts are to be brought back.
    Changed {
        /// The rollback ran, or still changed hosts, and was ended for that.
        ended: bool,
    },
    /// No host is: none of the chosen ones was changed, and none will be.
    Unchanged,
}

impl Operations {
    /// Looks whether the undo would be accepted as things stand, so that an undo that is refused ends nothing. Gives the
    /// rollback that the same request has begun before.
    ///
    /// It is no reason to refuse that no host is changed yet: some may be by the time `of` has ended, and those that wait are
    /// withdrawn.
    pub async fn check_undo(
        &self,
        request: &RollbackRequest,
        request_id: Option<RequestId>,
        over_later: bool,
    ) -> Result<Option<RollbackId>, OperationError> {
        let Source::Undo(of) = request.source else { return Ok(None) };
        if let Some(before) = self.before(request_key(request_id, request).as_ref()).await? {
            return Ok(Some(before.into()));
        }
        let view = self.rollback_view(of).await?;
        let rollback = view.rollback().ok_or(OperationError::NoRollback(of))?;
        let chosen = self.chosen_of(rollback, &request.selector).await?;
        let are_its_own = request.selector.hosts.iter().all(|host| rollback.hosts.contains_key(host))
            && chosen.as_ref().is_none_or(|chosen| !chosen.is_empty());
        match self.plan_rollback(request).await {
            Ok(PlannedRollback { later, .. }) if !later.is_empty() && !over_later => {
                Err(OperationError::ChangedLater { of, later })
            }
            Ok(PlannedRollback { problem: Some(problem), .. }) => Err(problem),
            Ok(PlannedRollback { plan, .. }) => self.are_free_of_others(of, &plan).await.map(|()| None),
            Err(OperationError::NothingToUndo(_)) if are_its_own => Ok(None),
            // One that is at work may be changed by then.
            Err(OperationError::Astray { .. }) if rollback.at_work_among(chosen.as_ref()).is_some() => {
                Ok(None)
            }
            Err(OperationError::Plan(PlanError::NoTarget { .. } | PlanError::NoHostMatches { .. }))
                if are_its_own =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses where an operation other than `of` owns a host of the plan: the undo could not begin.
    async fn are_free_of_others(&self, of: RollbackId, plan: &Plan) -> Result<(), OperationError> {
        let hosts: Vec<HostId> = plan.targets.keys().cloned().collect();
        let rows = self.shared.store.hosts_of(&hosts).await?;
        let owned = |row: HostRow| Some((row.host, row.owner.filter(|owner| *owner != of.into())?));
        let Some((host, owner)) = rows.into_iter().find_map(owned) else { return Ok(()) };
        let kind = self.shared.store.operation(owner).await?.map(|row| row.kind);
        Err(OperationError::HostBusy { host, owner, kind })
    }

    /// Ends what `of` still does with the hosts that `selector` takes, so that it can be undone there. One that runs is
    /// aborted as a whole. May be repeated.
    pub async fn end_for_undo(
        &self,
        of: RollbackId,
        selector: &Selector,
        who: &str,
        patience: Duration,
    ) -> Result<Undoable, OperationError> {
        let view = self.rollback_view(of).await?;
        let rollback = view.rollback().ok_or(OperationError::NoRollback(of))?;
        let chosen = self.chosen_of(rollback, selector).await?;
        let ran = rollback.outcome().is_none();
        let late = Chosen::of(rollback, chosen.as_ref()).at_work;
        if ran {
            self.order(of, who, PersonAction::Abort).await?;
        } else if late {
            self.order(of, who, PersonAction::Withdraw { hosts: chosen.clone() }).await?;
        }
        let Ok(over) = tokio::time::timeout(patience, self.over(of, chosen.as_ref())).await else {
            return Err(self.still_ending(of, chosen.as_ref()).await?);
        };
        let view = over?;
        let rollback = view.rollback().ok_or(OperationError::NoRollback(of))?;
        let is = Chosen::of(rollback, chosen.as_ref());
        // What is not known, and what was not chosen at all, is for the plan to say.
        if is.changed || is.unknown || is.nobody {
            return Ok(Undoable::Changed { ended: ran || late });
        }
        if is.waits {
            self.order(of, who, PersonAction::Withdraw { hosts: chosen }).await?;
        }
        // As the same request leaves it the first time.
        let was_ended = rollback.outcome() == Some(Outcome::Aborted) || is.superseded;
        if ran || late || is.waits || was_ended {
            Ok(Undoable::Unchanged)
        } else {
            Err(OperationError::NothingToUndo(of))
        }
    }

    /// The hosts of `rollback` that `selector` takes; none if it takes all.
    async fn chosen_of(
        &self,
        rollback: &Rollback,
        selector: &Selector,
    ) -> Result<Option<BTreeSet<HostId>>, OperationError> {
        if *selector == Selector::default() {
            return Ok(None);
        }
        let known = source::views(&self.shared).await?;
        let takes =
            |name: &&HostId| known.get(*name).is_some_and(|view| selector.matches(name, &view.labels));
        Ok(Some(rollback.hosts.keys().filter(takes).cloned().collect()))
    }

    /// Decides for `who`. That it was over a moment before is as good.
    async fn order(&self, of: RollbackId, who: &str, action: PersonAction) -> Result<(), OperationError> {
        let person = Person { who: who.to_owned(), action };
        match self.command(of.into(), person).await {
            Err(OperationError::Refused(Refusal::Finished { .. })) => Ok(()),
            decided => decided,
        }
    }

    async fn rollback_view(&self, of: RollbackId) -> Result<View, OperationError> {
        self.get(of.into()).await?.ok_or(OperationError::NoRollback(of))
    }

    /// Waits until the rollback has its outcome, and no chosen host is at work.
    async fn over(&self, of: RollbackId, chosen: Option<&BTreeSet<HostId>>) -> Result<View, OperationError> {
        let is_over = |view: &View| {
            view.rollback().is_none_or(|of| of.outcome().is_some() && of.at_work_among(chosen).is_none())
        };
        loop {
            let view = self.rollback_view(of).await?;
            if is_over(&view) {
                return Ok(view);
            }
            let mut shown = self.shared.drive(of.into()).view();
            if shown.wait_for(|view| view.as_ref().is_some_and(is_over)).await.is_err() {
                tokio::select! {
                    () = self.shared.stop.cancelled() => return Err(OperationError::Stopping),
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
            }
        }
    }

    /// Why there is no undo yet.
    async fn still_ending(
        &self,
        of: RollbackId,
        chosen: Option<&BTreeSet<HostId>>,
    ) -> Result<OperationError, OperationError> {
        let view = self.rollback_view(of).await?;
        let host = view.rollback().and_then(|rollback| rollback.at_work_among(chosen)).cloned();
        Ok(OperationError::StillEnding { of, host })
    }
}

/// Where the chosen hosts of a rollback stand.
#[derive(Default)]
struct Chosen {
    /// None is chosen.
    nobody: bool,
    at_work: bool,
    /// One is at its target, and has a backup.
    changed: bool,
    /// One has obeyed what the history does not know, or was not heard of since it was told to change.
    unknown: bool,
    /// One was left out, and is waited for.
    waits: bool,
    superseded: bool,
}

impl Chosen {
    fn of(rollback: &Rollback, chosen: Option<&BTreeSet<HostId>>) -> Self {
        let backups = rollback.backups();
        let mut is = Self { nobody: true, ..Self::default() };
        for (name, host) in &rollback.hosts {
            if chosen.is_some_and(|chosen| !chosen.contains(name)) {
                continue;
            }
            is.nobody = false;
            is.at_work |= host.phase.at_work();
            is.changed |= backups.contains_key(name);
            is.unknown |= host.overtaken || host.is_astray();
            is.waits |= host.pending();
            is.superseded |= host.phase == HostPhase::Superseded;
        }
        is
    }
}
