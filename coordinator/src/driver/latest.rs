//! Which checkpoint `latest` means: the newest complete one that has every host that is chosen.

use std::collections::BTreeSet;

use rfs_model::{CheckpointId, HostId, Selector};
use rfs_rollout::checkpoint::{Outcome, Phase};
use rfs_rollout::{FleetView, PlanError, some_names};

use super::error::OperationError;
use super::operations::{Operations, read_head};
use super::source;
use super::view::Head;
use crate::store::{ListQuery, OperationKind, Page};

/// How many checkpoints are listed at once.
const PAGE: u32 = 100;
/// Once so many complete checkpoints were looked into, no further page is read.
const LOOKED_INTO: usize = 100;

impl Operations {
    /// The newest complete checkpoint that has a snapshot of each host that `selector` takes.
    ///
    /// One that lacks some of them would leave those as they are, and nobody who says "latest" means that.
    pub async fn latest_checkpoint_of(&self, selector: &Selector) -> Result<CheckpointId, OperationError> {
        let known = source::views(&self.shared).await?;
        for (place, host) in selector.hosts.iter().enumerate() {
            if !known.contains_key(host) {
                let field = format!("selector.hosts[{place}]");
                return Err(PlanError::unknown_host(field, host, known.keys()).into());
            }
        }
        let chosen = known.iter().filter(|(host, view)| selector.matches(host, &view.labels));
        let chosen: BTreeSet<HostId> = chosen.map(|(host, _)| host.clone()).collect();
        if chosen.is_empty() && !known.is_empty() {
            let fleet = FleetView { hosts: known, ..FleetView::default() };
            let offered = fleet.hosts.len();
            return Err(PlanError::no_host_matches(selector, offered, "the fleet", &fleet).into());
        }
        let mut fullest: Option<(CheckpointId, Vec<HostId>)> = None;
        let mut looked_into = 0;
        let mut after = None;
        while looked_into < LOOKED_INTO {
            let query = ListQuery { kind: OperationKind::Checkpoint, deployment: None, limit: PAGE, after };
            let Page { items, next } = self.shared.store.list(query).await?;
            for row in items.into_iter().filter(|row| row.finished) {
                let id = row.id.into();
                let Head::Checkpoint(head) = read_head(&self.shared, &row).await? else { continue };
                if !matches!(head.phase, Phase::Finished { outcome: Outcome::Complete, .. }) {
                    continue;
                }
                let mut offered = source::checkpoint(&self.shared, id).await?.snapshots();
                if !row.complete {
                    // It is one for the hosts that have theirs still.
                    let dropped = self.shared.store.dropped_snapshots(id).await?;
                    offered.retain(|host, _| !dropped.contains_key(host));
                }
                let lacks: Vec<HostId> =
                    chosen.iter().filter(|host| !offered.contains_key(*host)).cloned().collect();
                if lacks.is_empty() {
                    return Ok(id);
                }
                if fullest.as_ref().is_none_or(|(_, least)| lacks.len() < least.len()) {
                    fullest = Some((id, lacks));
                }
                looked_into += 1;
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        let Some((fullest, lacks)) = fullest else { return Err(OperationError::NoneComplete) };
        Err(OperationError::NoneHasAll {
            chosen: chosen.len(),
            fullest,
            lacking: lacks.len(),
            lacks: some_names(lacks.iter().map(HostId::as_str)),
        })
    }
}
