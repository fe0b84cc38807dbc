//! How many hosts of each label group are at work or unavailable, and whether one more may start.
//!
//! Label groups are the fleet's: hosts of other running operations, and hosts that are not available, count in them as this
//! rollback's own do, and the strictest limit of all running operations holds. A budget without a label is about this
//! rollback's own hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rfs_model::HostId;

use super::gate::not_good;
use super::state::{HostPhase, HostRecord, Rollback};
use crate::outside::{Ill, Outside, OutsideGroup, Place};

/// The counts of every budget group at one moment.
pub(super) struct Ledger<'r> {
    rollback: &'r Rollback,
    unknown: bool,
    /// Those of the plan, then those that only other operations limit.
    groups: Vec<Group<'r>>,
    /// The groups beyond the plan's of each host.
    beyond: Beyond<'r>,
}

/// One group, and what is taken of it.
pub(super) struct Group<'r> {
    pub(super) name: &'r str,
    pub(super) limit: u32,
    pub(super) outside: Option<&'r OutsideGroup>,
    at_work: u32,
    /// Those at work, and those that were changed and have not passed yet.
    unproven: u32,
    unavailable: u32,
}

/// Which hosts hold others up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// Those at work, those that have not passed since their change, and those that are unavailable for any other reason.
    Unavailable,
    /// Those at work.
    AtWork,
}

impl<'r> Ledger<'r> {
    pub(super) fn of(rollback: &'r Rollback, outside: &'r Outside) -> Self {
        let (mut groups, beyond) = groups(rollback, outside);
        let concerned = |host: &HostRecord| host.is_in_budget() || !beyond.is_empty();
        for (name, host) in rollback.hosts.iter().filter(|(_, host)| concerned(host)) {
            let at_work = host.phase.at_work();
            let unproven = at_work || rollback.unproven(name, host);
            let unavailable = rollback.unavailable(host);
            for group in groups_of(&beyond, name, host) {
                let group = &mut groups[group];
                group.at_work += u32::from(at_work);
                group.unproven += u32::from(unproven);
                group.unavailable += u32::from(unavailable);
            }
        }
        Self { rollback, unknown: outside.unknown, groups, beyond }
    }

    /// Whether the host may start; if so, it is counted as at work from now on.
    pub(super) fn admit(&mut self, name: &HostId, host: &HostRecord, counting: Counting) -> bool {
        let free = self.admits(name, host, counting);
        if free {
            let already = self.rollback.unavailable(host);
            for group in groups_of(&self.beyond, name, host) {
                let group = &mut self.groups[group];
                group.at_work += 1;
                group.unproven += 1;
                group.unavailable += u32::from(!already);
            }
        }
        free
    }

    /// Whether the host may start.
    pub(super) fn admits(&self, name: &HostId, host: &HostRecord, counting: Counting) -> bool {
        !self.unknown && self.held_by(name, host, counting).is_none()
    }

    /// The first group that has no place for the host.
    pub(super) fn held_by(&self, name: &HostId, host: &HostRecord, counting: Counting) -> Option<usize> {
        let already = self.rollback.unavailable(host);
        let has_place = |group: &Group<'_>| match counting {
            Counting::Unavailable => {
                group.unproven < group.limit && (already || group.unavailable < group.limit)
            }
            Counting::AtWork => group.at_work < group.limit,
        };
        groups_of(&self.beyond, name, host).find(|group| !has_place(&self.groups[*group]))
    }

    /// One of the groups.
    pub(super) fn group(&self, group: usize) -> &Group<'r> {
        &self.groups[group]
    }

    /// This rollback's hosts in one of the groups.
    pub(super) fn hosts_of(&self, group: usize) -> impl Iterator<Item = (&'r HostId, &'r HostRecord)> {
        let hosts = self.rollback.hosts.iter();
        hosts.filter(move |(name, host)| groups_of(&self.beyond, name, host).any(|of| of == group))
    }
}

/// The groups that a host is in, by their places: those of the plan, and those beyond.
fn groups_of<'b>(
    beyond: &'b Beyond<'_>,
    name: &HostId,
    host: &'b HostRecord,
) -> impl Iterator<Item = usize> + use<'b> {
    let beyond = beyond.get(name).map_or(&[][..], Vec::as_slice);
    host.groups.iter().map(|group| group.get()).chain(beyond.iter().copied())
}

/// The groups of hosts that only other operations limit, by their places.
type Beyond<'r> = BTreeMap<&'r HostId, Vec<usize>>;

type Groups<'r> = (Vec<Group<'r>>, Beyond<'r>);

/// The groups with what is taken of them outside, and which hosts are in those that are not the plan's.
fn groups<'r>(rollback: &'r Rollback, outside: &'r Outside) -> Groups<'r> {
    let watched = !rollback.request.policy.gate.ignore_health;
    let group = |name: &'r str, limit: u32, other: Option<&'r OutsideGroup>| {
        let limit = other.and_then(|other| other.limit).map_or(limit, |(theirs, _)| theirs.min(limit));
        let mut group = Group { name, limit, outside: other, at_work: 0, unproven: 0, unavailable: 0 };
        for (name, taken) in other.iter().flat_map(|other| &other.taken) {
            let at_work = taken.place.is_some_and(|place| place.at_work);
            let ill = taken.ill.is_some_and(|ill| watched || !matches!(ill, Ill::Health(_)));
            // One of this rollback's own counts once.
            let own = rollback.hosts.get(name);
            let counts = |counted: &dyn Fn(&HostRecord) -> bool| u32::from(!own.is_some_and(counted));
            if at_work {
                group.at_work += counts(&|own| own.phase.at_work());
            }
            // One that this rollback does not watch any more fell ill since: what it knows itself is older.
            let keeps = ill && own.is_some_and(|own| rollback.is_changed(name, own));
            if taken.place.is_some() || keeps {
                group.unproven += counts(&|own| own.phase.at_work() || rollback.unproven(name, own));
            }
            if at_work || ill {
                group.unavailable += counts(&|own| rollback.unavailable(own));
            }
        }
        group
    };
    let planned = &rollback.plan.groups;
    let mut groups: Vec<Group<'r>> = planned
        .iter()
        .map(|of| group(&of.name, of.limit, outside.groups.get(of.name.as_str()).map(Arc::as_ref)))
        .collect();
    let Some(limited) = &outside.of else { return (groups, BTreeMap::new()) };
    let planned: BTreeSet<&str> = planned.iter().map(|group| group.name.as_str()).collect();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, other) in outside.groups.iter().filter(|(name, _)| !planned.contains(name.as_ref())) {
        if let Some((limit, _)) = other.limit {
            places.insert(name, groups.len());
            groups.push(group(name, limit, Some(other)));
        }
    }
    if places.is_empty() {
        return (groups, BTreeMap::new());
    }
    let of = |names: &Vec<Arc<str>>| -> Vec<usize> {
        names.iter().filter_map(|name| places.get(name.as_ref()).copied()).collect()
    };
    let beyond = limited.iter().map(|(host, names)| (host, of(names))).filter(|(_, of)| !of.is_empty());
    (groups, beyond.collect())
}

impl Rollback {
    /// Whether the host keeps its place in every budget although its change is done: it has not been healthy for long enough
    /// since, and nobody has accepted it as it is. One that is well for a moment must not let the next one fall. Where nobody
    /// judges it any more, it keeps its place until it is healthy.
    pub fn unproven(&self, name: &HostId, host: &HostRecord) -> bool {
        self.is_changed(name, host) && (self.judges(host) || not_good(host.health.health))
    }

    /// Whether its change is done, and neither its health nor a person has said that it is well.
    fn is_changed(&self, name: &HostId, host: &HostRecord) -> bool {
        let watched = !self.request.policy.gate.ignore_health;
        watched && matches!(host.phase, HostPhase::Applied { .. }) && !self.acknowledged.contains(name)
    }

    /// Whether a budget counts the host: it is at work, has no connection, or is not known to be healthy.
    pub fn unavailable(&self, host: &HostRecord) -> bool {
        let unhealthy = !self.request.policy.gate.ignore_health && not_good(host.health.health);
        host.phase.at_work() || !host.connected || unhealthy || host.phase == HostPhase::Inconsistent
    }

    /// The labels that it has budgets for.
    pub(crate) fn budget_keys(&self) -> impl Iterator<Item = &str> {
        self.request.policy.budgets.iter().filter_map(|budget| budget.group_by.as_deref())
    }

    /// Whether its limits hold for others: it runs, or changes hosts that it had left out.
    pub(crate) fn binds(&self) -> bool {
        let late = || self.hosts.values().any(|host| host.late && host.phase.at_work());
        self.outcome().is_none() || late()
    }

    /// The place that it holds for one of its hosts.
    pub(crate) fn place(&self, name: &HostId, host: &HostRecord) -> Option<Place> {
        let at_work = host.phase.at_work();
        let takes = at_work || self.unproven(name, host);
        takes.then(|| Place { operation: self.id.into(), at_work })
    }
}
