//! Which later rollbacks have changed hosts that an undo would bring to what they were before.

use std::collections::{BTreeMap, BTreeSet};

use rfs_model::{HostId, RollbackId};
use rfs_rollout::rollback::{HostPhase, HostRecord, Rollback};
use rfs_rollout::{Operation, Selection, Source, some_names};

use super::operations::Shared;
use super::source;
use crate::store::{ListQuery, OperationKind, Page, StoreError};

/// How many rollbacks are listed at once.
const PAGE: u32 = 100;

/// A later rollback, and the hosts that it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    /// Which.
    pub rollback: RollbackId,
    /// The hosts, of those that are asked about.
    pub hosts: BTreeSet<HostId>,
}

impl Later {
    /// It in words, as part of a sentence.
    pub fn in_words(&self) -> String {
        format!("rollback {} changed {}", self.rollback, some_names(self.hosts.iter().map(HostId::as_str)))
    }
}

/// The rollbacks after `of` whose changes of these hosts would be lost, the newest first.
pub(super) async fn later(
    shared: &Shared,
    of: &Rollback,
    hosts: BTreeSet<HostId>,
) -> Result<Vec<Later>, StoreError> {
    let mut search = Search { of, open: hosts, passing: BTreeMap::new(), found: Vec::new() };
    let mut after = None;
    loop {
        let query = ListQuery { kind: OperationKind::Rollback, deployment: None, limit: PAGE, after };
        let Page { items, next } = shared.store.list(query).await?;
        for row in items {
            if row.id == of.id.into() || search.open.is_empty() {
                return Ok(search.end());
            }
            if let Some(Operation::Rollback(later)) = source::stored(shared, row.id).await? {
                search.take(&later);
            }
        }
        after = next;
        if after.is_none() {
            return Ok(search.end());
        }
    }
}

/// Goes from the newest rollback to older ones. An undo takes away what the rollback that it undoes had done to a host, and
/// what was done to the host after that.
struct Search<'r> {
    of: &'r Rollback,
    /// The hosts whose fate is not known yet.
    open: BTreeSet<HostId>,
    /// Hosts on which an undo took away what was done, back to a rollback that is not met yet.
    passing: BTreeMap<HostId, TakenAway>,
    found: Vec<Later>,
}

struct TakenAway {
    by: RollbackId,
    from: RollbackId,
}

impl Search<'_> {
    fn take(&mut self, later: &Rollback) {
        let overlaps = overlaps(&self.of.request.selection, &later.request.selection);
        let touched = later.hosts.iter().filter(|(name, host)| {
            overlaps && changed(host) && self.open.contains(*name) && !self.passing.contains_key(*name)
        });
        let touched: Vec<(HostId, bool)> =
            touched.map(|(name, host)| (name.clone(), host.at_target())).collect();
        let mut lost = BTreeSet::new();
        for (name, there) in touched {
            match later.request.source {
                // It is as it was before the one that is to be undone, whatever came in between.
                Source::Undo(undone) if there && undone == self.of.id => drop(self.open.remove(&name)),
                Source::Undo(from) if there => {
                    self.passing.insert(name, TakenAway { by: later.id, from });
                }
                Source::Undo(_) | Source::Checkpoint(_) => drop(lost.insert(name)),
            }
        }
        self.passing.retain(|_, taken| taken.from != later.id);
        self.lost(later.id, lost);
    }

    fn lost(&mut self, rollback: RollbackId, hosts: BTreeSet<HostId>) {
        if !hosts.is_empty() {
            self.found.push(Later { rollback, hosts });
        }
    }

    /// What an undo took away that began before the one that is to be undone was more than that.
    fn end(mut self) -> Vec<Later> {
        let mut by: BTreeMap<RollbackId, BTreeSet<HostId>> = BTreeMap::new();
        for (name, taken) in std::mem::take(&mut self.passing) {
            by.entry(taken.by).or_default().insert(name);
        }
        by.into_iter().for_each(|(rollback, hosts)| self.lost(rollback, hosts));
        self.found
    }
}

/// Whether the host was changed, or may have been.
fn changed(host: &HostRecord) -> bool {
    match host.phase {
        // One that was there already was not changed.
        HostPhase::Applied { .. } | HostPhase::Passed { .. } | HostPhase::Unhealthy => host.backup.is_some(),
        HostPhase::Applying { .. }
        | HostPhase::Cancelling { .. }
        | HostPhase::Reverting { .. }
        | HostPhase::Lost
        | HostPhase::RevertFailed
        | HostPhase::Inconsistent => true,
        HostPhase::Untouched | HostPhase::Again | HostPhase::Skipped => {
            host.at_target() || host.is_left_behind()
        }
        HostPhase::Superseded | HostPhase::Unchanged | HostPhase::Reverted => false,
    }
}

/// Whether two rollbacks can have changed the same things on one host.
fn overlaps(one: &Selection, other: &Selection) -> bool {
    let whole = one.components.is_empty() || other.components.is_empty();
    whole || !one.components.is_disjoint(&other.components)
}
