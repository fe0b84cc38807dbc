//! Cuts order groups into waves, and label groups into budgets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rfs_model::{HostId, Labels, SnapshotId};

use super::{BudgetGroup, GroupIndex, PlanError, Wave, groups_of};
use crate::fleet::FleetView;
use crate::request::{Budget, Canary, Waves};

type Targets = BTreeMap<HostId, SnapshotId>;

/// The group of a budget without a label.
pub const ALL: &str = "fleet";

/// The name of the group that a host with `labels` is in by the label `key`.
pub fn label_group(key: &str, labels: Option<&Labels>) -> String {
    let value = labels.and_then(|labels| labels.get(key));
    value.map_or_else(|| format!("no {key}"), |value| format!("{key}={value}"))
}

pub(super) fn budget_groups(budgets: &[Budget], targets: &Targets, fleet: &FleetView) -> Vec<BudgetGroup> {
    let mut groups = Vec::new();
    for budget in budgets {
        let key = budget.group_by.as_deref();
        let mut members: BTreeMap<String, BTreeSet<HostId>> = BTreeMap::new();
        for host in targets.keys() {
            let labels = fleet.hosts.get(host).map(|view| &view.labels);
            let name = key.map_or_else(|| ALL.to_owned(), |key| label_group(key, labels));
            members.entry(name).or_default().insert(host.clone());
        }
        // A label group is the fleet's, whether or not its hosts are concerned.
        let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
        for (view, key) in fleet.hosts.values().filter_map(|view| Some((view, key?))) {
            *sizes.entry(label_group(key, Some(&view.labels))).or_default() += 1;
        }
        groups.extend(members.into_iter().map(|(name, hosts)| {
            let size = sizes.get(&name).copied().unwrap_or_default().max(hosts.len());
            let limit = budget.max_unavailable.round_down(size);
            BudgetGroup { name, limit: u32::try_from(limit).unwrap_or(u32::MAX), hosts }
        }));
    }
    groups
}

/// One wave of all hosts.
pub(super) fn everything(targets: &Targets, groups: &[BudgetGroup]) -> Wave {
    Wave { hosts: in_turns(targets.keys().cloned().collect(), groups), canary: false, order_group: 0 }
}

pub(super) fn cut(
    shape: &Waves,
    targets: &Targets,
    ordered: Vec<Vec<HostId>>,
    groups: &[BudgetGroup],
    fleet: &FleetView,
) -> Result<Vec<Wave>, PlanError> {
    if let Canary::Hosts(hosts) = &shape.canary
        && let Some((i, host)) = hosts.iter().enumerate().find(|(_, host)| !targets.contains_key(*host))
    {
        let field = format!("waves.canary_hosts[{i}]");
        return Err(if fleet.hosts.contains_key(host) {
            PlanError::invalid(field, format!("host {host} is not among the rollback's hosts"))
        } else {
            PlanError::unknown_host(field, host, targets.keys())
        });
    }
    let mut waves = Vec::new();
    for (hosts, order_group) in ordered.into_iter().zip(0..) {
        let total = hosts.len();
        let (canaries, mut rest) = split(&shape.canary, in_turns(hosts, groups), fleet);
        if !canaries.is_empty() {
            waves.push(Wave { hosts: canaries, canary: true, order_group });
        }
        let mut sizes = shape.sizes.iter().map(|size| size.round_up(total));
        let mut size = total;
        while !rest.is_empty() {
            size = sizes.next().unwrap_or(size).clamp(1, rest.len());
            let after = rest.split_off(size);
            waves.push(Wave { hosts: rest, canary: false, order_group });
            rest = after;
        }
    }
    if matches!(shape.canary, Canary::Selector(_)) && !waves.iter().any(|wave| wave.canary) {
        return Err(PlanError::invalid("waves.canary", "the selector matches none of the rollback's hosts"));
    }
    Ok(waves)
}

fn split(canary: &Canary, hosts: Vec<HostId>, fleet: &FleetView) -> (Vec<HostId>, Vec<HostId>) {
    match canary {
        Canary::None => (Vec::new(), hosts),
        Canary::Hosts(named) => hosts.into_iter().partition(|host| named.contains(host)),
        Canary::Selector(selector) => hosts
            .into_iter()
            .partition(|host| fleet.hosts.get(host).is_some_and(|view| selector.matches(host, &view.labels))),
        Canary::Amount(amount) => {
            let mut first = hosts;
            let rest = first.split_off(amount.round_up(first.len()).min(first.len()));
            (first, rest)
        }
    }
}

/// Sorts hosts by name, then lets the first budget's groups take turns.
fn in_turns(mut hosts: Vec<HostId>, groups: &[BudgetGroup]) -> Vec<HostId> {
    hosts.sort_by_cached_key(|host| natural(host.as_str()));
    let groups = groups_of(groups);
    let mut queues: BTreeMap<Option<GroupIndex>, VecDeque<HostId>> = BTreeMap::new();
    for host in hosts {
        let first = groups.get(&host).and_then(|groups| groups.first().copied());
        queues.entry(first).or_default().push_back(host);
    }
    let mut turns = Vec::new();
    while !queues.is_empty() {
        turns.extend(queues.values_mut().filter_map(VecDeque::pop_front));
        queues.retain(|_, queue| !queue.is_empty());
    }
    turns
}

/// A key that sorts `web-2` before `web-10`: digits are compared as numbers.
pub fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let word = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[word..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| word + end);
        parts.push((rest[..word].to_owned(), rest[word..digits].parse().unwrap_or(0)));
        rest = &rest[digits..];
    }
    parts
}
