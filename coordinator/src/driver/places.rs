//! The places that running operations hold in the budgets of label groups, which are the fleet's: who takes what, who limits
//! what, and who waits.
//!
//! ```text
//!  driver ──decide──▶ Places: what others take ─▶ its own decision ─▶ noted as a draft ─┐ one lock
//!         ◀─────────────────────────────────────────────────────────────────────────────┘
//!  driver ──append──▶ store, then ──stands──▶ Places ──room──▶ operations that wait for what was given back
//! ```
//!
//! Invariants
//! - Between the moment an operation is told what others take and the moment its own starts count, no other one decides.
//! - What is being stored counts together with what is stored, until it is known which of them holds.
//! - After a start of the coordinator nobody is given a place before every operation that runs has been read.
//! - A limit binds while its operation runs; hosts that are at work, or not proven healthy, keep their place as long as that is
//!   so, whatever became of their operation. No operation waits while it is told, so none waits for another in a circle: each
//!   place is given back by a deadline of its own.
//!
//! Hosts count as not available that are known, not forgotten, and have no connection, are not known to be healthy, or are
//! INCONSISTENT. One that was not seen for as long as the configuration's `stale_after` is no part of what anybody relies on,
//! and one that has no required check says nothing of its health: neither counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rfs_model::{HostId, Labels, OperationId, Timestamp};
use rfs_rollout::outside::{OutsideGroup, Place, Taken};
use rfs_rollout::plan::{ALL, label_group};
use rfs_rollout::rollback::{HostRecord, Rollback};
use rfs_rollout::{Operation, Outside};

use super::fleet::Fleet;
use super::hand::Decided;

/// What running operations hold.
#[derive(Default)]
pub(super) struct Places(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    running: BTreeMap<OperationId, Running>,
    /// Operations that ran when the coordinator started, and were not read yet.
    unread: BTreeSet<OperationId>,
}

struct Running {
    stored: Arc<Operation>,
    /// As it stands with what is being stored.
    drafted: Option<Arc<Operation>>,
    /// The hosts outside that take something of its groups, as it was last told, and whether that is another operation's place.
    awaits: BTreeMap<HostId, bool>,
    /// It was told that nothing is known yet, or that another operation limits its groups.
    is_bound: bool,
}

/// The hosts of the fleet at a moment.
pub(super) struct Seen<'f> {
    pub(super) fleet: &'f dyn Fleet,
    pub(super) now: Timestamp,
    /// One that was not seen for so long is no part of any group any more.
    pub(super) gone_after: Duration,
    /// Hosts are not compared yet with the history of the one that decides: it is given no place before that.
    pub(super) is_comparing: bool,
}

impl Places {
    /// These operations run; nobody is given a place before they are read.
    pub(super) fn expect(&self, operations: impl IntoIterator<Item = OperationId>) {
        self.entries().unread.extend(operations);
    }

    /// An operation stands so by what is stored. Gives the operations that may go on for it.
    pub(super) fn stands(&self, operation: &Arc<Operation>) -> Vec<OperationId> {
        let mut entries = self.entries();
        let id = operation.id();
        let Some(rollback) = rollback(operation) else { return entries.read(id) };
        let mut wake = entries.read(id);
        let before = entries.running.get(&id).map(|running| running.stored.clone());
        let before = before.as_deref().and_then(self::rollback);
        // It is given back, or counts for less: a way back waits for hosts at work alone.
        let free = |host: &HostId| {
            let place = |of: &Rollback| of.hosts.get(host).and_then(|record| place(of, host, record));
            let at_work = |place: Option<Place>| place.is_some_and(|place| place.at_work);
            place(rollback).is_none()
                || (before.is_some_and(|of| at_work(place(of))) && !at_work(place(rollback)))
        };
        wake.extend(entries.waiting(id, free));
        let was_binding = entries.running.get(&id).is_some_and(|running| binds(&running.stored));
        if was_binding && !binds(operation) {
            wake.extend(entries.bound(id));
        }
        match entries.running.get_mut(&id) {
            Some(running) => (running.stored, running.drafted) = (operation.clone(), None),
            None => {
                let running = Running {
                    stored: operation.clone(),
                    drafted: None,
                    awaits: BTreeMap::new(),
                    is_bound: false,
                };
                entries.running.insert(id, running);
            }
        }
        wake
    }

    /// Nobody drives the operation any more. Gives the operations that may go on for it.
    pub(super) fn leaves(&self, id: OperationId) -> Vec<OperationId> {
        let mut entries = self.entries();
        let mut wake = entries.read(id);
        if entries.running.remove(&id).is_some() {
            wake.extend(entries.running.keys().copied());
        }
        wake
    }

    /// A host is another than it was. Gives the operations that wait for it.
    pub(super) fn changed(&self, host: &HostId) -> Vec<OperationId> {
        let entries = self.entries();
        let waits = entries.running.iter().filter(|(_, running)| running.awaits.contains_key(host));
        waits.map(|(id, _)| *id).collect()
    }

    /// Lets an operation decide beside what others take. What it decides counts from then on.
    pub(super) fn decide(
        &self,
        operation: &Operation,
        seen: &Seen<'_>,
        decide: impl FnOnce(&Arc<Outside>) -> Decided,
    ) -> (Decided, Arc<Outside>) {
        let Some(rollback) = rollback(operation) else {
            let nobody = Arc::default();
            return (decide(&nobody), nobody);
        };
        let mut entries = self.entries();
        let outside = Arc::new(entries.outside(rollback, seen));
        let decided = decide(&outside);
        if let Some(running) = entries.running.get_mut(&operation.id()) {
            running.drafted = (!decided.events.is_empty()).then(|| decided.after.clone());
            running.is_bound = outside.unknown || !outside.of.is_empty();
            let taken = outside.groups.values().flat_map(|group| &group.taken);
            running.awaits = taken.map(|(host, taken)| (host.clone(), taken.place.is_some())).collect();
        }
        (decided, outside)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// The operation was read. Once all were, everybody may go on.
    fn read(&mut self, id: OperationId) -> Vec<OperationId> {
        let last = self.unread.remove(&id) && self.unread.is_empty();
        if last { self.running.keys().copied().collect() } else { Vec::new() }
    }

    /// The operations but `id` that wait for a place that was given back, as `free` says of each host.
    fn waiting(&self, id: OperationId, free: impl Fn(&HostId) -> bool) -> Vec<OperationId> {
        let others = self.running.iter().filter(|(other, _)| **other != id);
        let waits = |other: &Running| other.awaits.iter().any(|(host, place)| *place && free(host));
        others.filter(|(_, other)| waits(other)).map(|(id, _)| *id).collect()
    }

    /// The operations but `id` that somebody else's limits bind.
    fn bound(&self, id: OperationId) -> Vec<OperationId> {
        let others = self.running.iter().filter(|(other, running)| **other != id && running.is_bound);
        others.map(|(id, _)| *id).collect()
    }

    /// What hosts outside `of` take of the groups that are limited.
    fn outside(&self, of: &Rollback, seen: &Seen<'_>) -> Outside {
        if !self.unread.is_empty() || seen.is_comparing {
            return Outside { unknown: true, ..Outside::default() };
        }
        let id: OperationId = of.id.into();
        let others = || self.running.iter().filter(|(other, _)| **other != id).map(|(_, running)| running);
        let mut keys: BTreeSet<&str> = keys(of).collect();
        let own: BTreeSet<&str> = of.plan.groups.iter().map(|group| group.name.as_str()).collect();
        // The strictest limit of each group that others limit.
        let mut limits: BTreeMap<&str, (u32, OperationId)> = BTreeMap::new();
        // What is drafted may bring late hosts in line, whose limits hold from then on.
        let binding = |other: &&Running| binds(&other.stored) || other.drafted.as_deref().is_some_and(binds);
        for other in others().filter(binding).filter_map(|other| rollback(&other.stored)) {
            for group in other.plan.groups.iter().filter(|group| group.name != ALL) {
                let limit = limits.entry(&group.name).or_insert((group.limit, other.id.into()));
                if group.limit < limit.0 {
                    *limit = (group.limit, other.id.into());
                }
            }
            keys.extend(self::keys(other));
        }
        let mut outside = Outside::default();
        if keys.is_empty() {
            return outside;
        }
        let limited = |name: &str| own.contains(name) || limits.contains_key(name);
        let mut take = |host: &HostId, labels: &Labels, note: &dyn Fn(&mut Taken)| {
            for name in keys.iter().map(|key| label_group(key, Some(labels))) {
                if limited(&name) {
                    let group: &mut OutsideGroup = outside.groups.entry(name).or_default();
                    note(group.taken.entry(host.clone()).or_default());
                }
            }
        };
        for other in others() {
            for operation in [Some(&other.stored), other.drafted.as_ref()].into_iter().flatten() {
                let Some(rollback) = rollback(operation) else { continue };
                for (host, record) in rollback.hosts.iter().filter(|(host, _)| !of.hosts.contains_key(host)) {
                    let Some(place) = place(rollback, host, record) else { continue };
                    take(host, &seen.fleet.labels(host), &|taken| {
                        let at_work = place.at_work || taken.place.is_some_and(|place| place.at_work);
                        taken.place = Some(Place { at_work, ..place });
                    });
                }
            }
        }
        seen.fleet.unavailable(seen.now, seen.gone_after, &mut |host, labels, ill| {
            if !of.hosts.contains_key(host) {
                take(host, labels, &|taken| taken.ill = Some(ill));
            }
        });
        if limits.is_empty() {
            return outside;
        }
        for host in of.hosts.keys() {
            let labels = seen.fleet.labels(host);
            let names = keys.iter().map(|key| label_group(key, Some(&labels)));
            let names: Vec<String> = names.filter(|name| limits.contains_key(name.as_str())).collect();
            if !names.is_empty() {
                outside.of.insert(host.clone(), names);
            }
        }
        let concerned: BTreeSet<&str> = outside.of.values().flatten().map(String::as_str).collect();
        for (name, limit) in &limits {
            if own.contains(name) || concerned.contains(name) {
                outside.groups.entry((*name).to_owned()).or_default().limit = Some(*limit);
            }
        }
        outside
    }
}

fn rollback(operation: &Operation) -> Option<&Rollback> {
    match operation {
        Operation::Rollback(rollback) => Some(rollback),
        Operation::Checkpoint(_) => None,
    }
}

/// The label keys that a rollback has budgets for.
fn keys(rollback: &Rollback) -> impl Iterator<Item = &str> {
    rollback.request.policy.budgets.iter().filter_map(|budget| budget.group_by.as_deref())
}

/// Whether an operation's limits hold for others: it runs, or changes hosts that it had left out.
fn binds(operation: &Operation) -> bool {
    rollback(operation).is_some_and(|rollback| {
        let late = || rollback.hosts.values().any(|host| host.late && host.phase.at_work());
        rollback.outcome().is_none() || late()
    })
}

/// The place that a rollback holds for one of its hosts.
fn place(rollback: &Rollback, name: &HostId, host: &HostRecord) -> Option<Place> {
    let at_work = host.phase.at_work();
    let takes = at_work || rollback.unproven(name, host);
    takes.then(|| Place { operation: rollback.id.into(), at_work })
}
