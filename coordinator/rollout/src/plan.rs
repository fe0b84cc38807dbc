//! Turns a request and the fleet as it is known into a plan, or into one error that names the field.
//!
//! The plan is frozen: each host's target, each wave's hosts and each budget's groups are fixed here, and nothing that
//! happens to the fleet later changes them.
//!
//! How hosts are counted
//! - Hosts are first put into order groups: a group starts when the one before is done. Hosts that no order names come last.
//! - Each order group has its own canary wave, then waves of the asked sizes, of which the last repeats.
//! - A share of a canary or a size is a share of the order group, rounded up. A share of a budget is a share of its label
//!   group's hosts in the whole fleet, or, without a label, of the targets, rounded down, but at least 1: it is never exceeded
//!   for being a fraction.
//! - Within an order group hosts go by name (`web-2` before `web-10`), taking turns between the groups of the first budget,
//!   so that a wave is not held up by one zone's budget while another zone has room.

mod error;
mod gates;
mod near;
mod order;
mod targets;
mod validate;
mod waves;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rfs_model::{HostId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::fleet::FleetView;
use crate::request::{RollbackRequest, Source, Strategy};

pub use error::PlanError;
pub use gates::{Impasse, impasse};
pub use near::near;
pub use waves::{ALL, label_group, natural};

/// What a rollback will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order in which they change. None is empty.
    pub waves: Vec<Wave>,
    /// Each host's target.
    pub targets: BTreeMap<HostId, SnapshotId>,
    /// How many hosts the source has a target for, whether or not they are concerned.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offered: usize,
    /// Which hosts share a budget.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<BudgetGroup>,
    /// Hosts that one could expect here and that are not concerned, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<HostId, String>,
}

/// Hosts that change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Its hosts, in the order in which they start.
    pub hosts: Vec<HostId>,
    /// Whether it goes first to be looked at.
    #[serde(default)]
    pub canary: bool,
    /// The order group that it belongs to, counted from 0.
    #[serde(default)]
    pub order_group: u32,
}

/// The place of a wave in its plan, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaveIndex(pub u32);

impl WaveIndex {
    /// The place in [`Plan::waves`].
    pub fn get(self) -> usize {
        self.0 as usize
    }

    /// The wave after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for WaveIndex {
    /// For people, who count from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0 + 1).fmt(f)
    }
}

/// The place of a group in its plan, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupIndex(pub u32);

impl GroupIndex {
    /// The place in [`Plan::groups`].
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// Hosts that share a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetGroup {
    /// The label, such as `zone=a`, or `fleet`.
    pub name: String,
    /// How many of them may be unavailable at once.
    pub limit: u32,
    /// Its hosts, of those that the plan concerns.
    pub hosts: BTreeSet<HostId>,
}

/// Plans a rollback.
pub fn plan(request: &RollbackRequest, fleet: &FleetView) -> Result<Plan, PlanError> {
    validate::policy(&request.policy)?;
    // An undo repeats what was found right when its rollback began, over hosts that may have changed since.
    let labels_are_checked = matches!(request.source, Source::Checkpoint(_));
    if labels_are_checked {
        validate::budget_labels(&request.policy.budgets, fleet)?;
    }
    let (targets, left_out) = targets::targets(request, fleet)?;
    let groups = waves::budget_groups(&request.policy.budgets, &targets, fleet);
    let waves = match &request.strategy {
        Strategy::Immediate => vec![waves::everything(&targets, &groups)],
        Strategy::Gradual(shape) => {
            validate::waves(shape)?;
            let ordered = order::groups(&shape.order, &targets, fleet)?;
            if labels_are_checked {
                validate::order_labels(&shape.order, fleet)?;
            }
            waves::cut(shape, &targets, ordered, &groups, fleet)?
        }
    };
    Ok(Plan { waves, targets, offered: fleet.targets.len(), groups, left_out })
}

/// What `serde` asks, by reference as it must.
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Plan {
    /// The wave of each host, and its place within that, counted from 0.
    pub(crate) fn turn_of(&self) -> BTreeMap<&HostId, (WaveIndex, u32)> {
        let turns = |(wave, index)| {
            let Wave { hosts, .. }: &Wave = wave;
            hosts.iter().zip(0..).map(move |(host, place)| (host, (WaveIndex(index), place)))
        };
        self.waves.iter().zip(0..).flat_map(turns).collect()
    }
}

/// The groups that each host is in; one that is in none is not named.
pub(crate) fn groups_of(groups: &[BudgetGroup]) -> BTreeMap<&HostId, Vec<GroupIndex>> {
    let mut of: BTreeMap<&HostId, Vec<GroupIndex>> = BTreeMap::new();
    for (group, index) in groups.iter().zip(0..) {
        for host in &group.hosts {
            of.entry(host).or_default().push(GroupIndex(index));
        }
    }
    of
}

#[cfg(test)]
mod tests;
