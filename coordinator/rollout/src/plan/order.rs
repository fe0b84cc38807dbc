//! Order groups: which hosts are done before which others start.
//!
//! Relations hold between labels, hosts carry several labels: so hosts with the same set of mentioned labels form a class,
//! and the relations are followed between classes. Both levels are searched for a cycle, as a contradiction between labels
//! is one whether or not hosts with them are there.

use std::collections::{BTreeMap, BTreeSet};

use rfs_model::{HostId, SnapshotId};

use super::PlanError;
use crate::fleet::FleetView;
use crate::request::{Label, Order};

/// Puts each host into the group in which it changes; the groups are in order and none is empty.
pub(super) fn groups(
    order: &[Order],
    targets: &BTreeMap<HostId, SnapshotId>,
    fleet: &FleetView,
) -> Result<Vec<Vec<HostId>>, PlanError> {
    let labels: Vec<&Label> =
        order.iter().flat_map(|o| [&o.before, &o.after]).collect::<BTreeSet<_>>().into_iter().collect();
    let place = |label: &Label| labels.binary_search(&label).unwrap_or_default();
    let relations: Vec<(usize, usize)> = order.iter().map(|o| (place(&o.before), place(&o.after))).collect();
    ranks(labels.len(), &relations).map_err(|cycle| named(&cycle, |i| labels[i].to_string()))?;

    let mut classes: BTreeMap<Vec<usize>, Vec<HostId>> = BTreeMap::new();
    for host in targets.keys() {
        let carried = fleet.hosts.get(host).map(|view| {
            let has = |i: &usize| labels[*i].is_in(&view.labels);
            (0..labels.len()).filter(has).collect()
        });
        classes.entry(carried.unwrap_or_default()).or_default().push(host.clone());
    }
    let keys: Vec<&Vec<usize>> = classes.keys().collect();
    let mut between = Vec::new();
    for (a, from) in keys.iter().enumerate() {
        for (b, to) in keys.iter().enumerate() {
            if relations.iter().any(|(before, after)| from.contains(before) && to.contains(after)) {
                between.push((a, b));
            }
        }
    }
    let class_name = |i: usize| keys[i].iter().map(|l| labels[*l].to_string()).collect::<Vec<_>>().join(" ");
    let ranks = ranks(keys.len(), &between).map_err(|cycle| named(&cycle, class_name))?;

    let last = ranks.iter().max().map_or(0, |rank| rank + 1);
    let mut groups: BTreeMap<usize, Vec<HostId>> = BTreeMap::new();
    for ((class, hosts), rank) in classes.into_iter().zip(ranks) {
        let rank = if class.is_empty() { last } else { rank };
        groups.entry(rank).or_default().extend(hosts);
    }
    Ok(groups.into_values().collect())
}

fn named(cycle: &[usize], name: impl Fn(usize) -> String) -> PlanError {
    PlanError::OrderCycle { cycle: cycle.iter().map(|i| name(*i)).collect() }
}

/// How many nodes come before each one on the longest way to it, or a cycle with its first node repeated at the end.
fn ranks(nodes: usize, edges: &[(usize, usize)]) -> Result<Vec<usize>, Vec<usize>> {
    let mut incoming = vec![0usize; nodes];
    for (_, to) in edges {
        incoming[*to] += 1;
    }
    let mut ranks = vec![0; nodes];
    let mut ready: Vec<usize> = (0..nodes).filter(|n| incoming[*n] == 0).collect();
    let mut done = 0;
    while let Some(node) = ready.pop() {
        done += 1;
        for (_, to) in edges.iter().filter(|(from, _)| *from == node) {
            ranks[*to] = ranks[*to].max(ranks[node] + 1);
            incoming[*to] -= 1;
            if incoming[*to] == 0 {
                ready.push(*to);
            }
        }
    }
    if done == nodes { Ok(ranks) } else { Err(cycle(edges, &incoming)) }
}

/// Walks backwards among the nodes that could not be ranked, each of which has a predecessor there, until one repeats.
fn cycle(edges: &[(usize, usize)], incoming: &[usize]) -> Vec<usize> {
    let left = |n: usize| incoming[n] > 0;
    let mut walk: Vec<usize> = (0..incoming.len()).find(|n| left(*n)).into_iter().collect();
    while let Some(&node) = walk.last() {
        let Some(before) = edges.iter().find(|(from, to)| *to == node && left(*from)).map(|(from, _)| *from)
        else {
            break;
        };
        if let Some(start) = walk.iter().position(|n| *n == before) {
            let mut cycle: Vec<usize> = walk.drain(start..).rev().collect();
            cycle.insert(0, before);
            // Begin with the smallest, so that the same contradiction reads the same.
            cycle.pop();
            let smallest = cycle.iter().enumerate().min_by_key(|(_, n)| **n).map_or(0, |(i, _)| i);
            cycle.rotate_left(smallest);
            cycle.push(cycle[0]);
            return cycle;
        }
        walk.push(before);
    }
    walk
}
