//! What one operation was told of the hosts outside it, kept up with what changes instead of gathered anew for each decision.
//!
//! Whoever keeps it says which hosts may take something else than before, and when anything else has changed: then all is
//! gathered again. Which hosts are not available is looked at each time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rfs_model::{HostId, OperationId};

use super::{FleetNow, Ill, Outside, Place, Taken};
use crate::plan::{ALL, label_group};
use crate::rollback::Rollback;

/// Another operation: as it stands, and as it would stand with what is being stored. Both count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Other<'o> {
    pub(super) stored: &'o Rollback,
    pub(super) drafted: Option<&'o Rollback>,
}

/// What one operation was told.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    told: Arc<Outside>,
    /// Which labels it is about; none if all is to be gathered again.
    labels: Option<u64>,
    /// Hosts that may take something else since.
    changed: BTreeSet<HostId>,
    /// The labels that somebody has budgets for.
    keys: Vec<String>,
    /// The groups that concern the operation: its own ones, and those of its hosts that others limit.
    groups: BTreeSet<Arc<str>>,
    /// The hosts that are not available: those outside, and its own ones that it does not watch any more.
    ill: BTreeMap<HostId, Ill>,
    /// What hosts outside take of the groups, and its own ones that others have places for.
    taken: BTreeMap<HostId, Taken>,
}

impl Around {
    /// Everything may be otherwise.
    pub(super) fn forget(&mut self) {
        self.labels = None;
    }

    /// These hosts may take something else.
    pub(super) fn touch<'h>(&mut self, hosts: impl IntoIterator<Item = &'h HostId>) {
        if self.labels.is_some() {
            self.changed.extend(hosts.into_iter().cloned());
        }
    }

    /// Whether it was told of the host.
    pub(super) fn names(&self, host: &HostId) -> bool {
        self.taken.contains_key(host)
    }

    /// Whether it was told that another operation has a place for the host.
    pub(super) fn awaits(&self, host: &HostId) -> bool {
        self.taken.get(host).is_some_and(|taken| taken.place.is_some())
    }

    /// What `of` is told now.
    pub(super) fn look(&mut self, of: &Rollback, others: &[Other<'_>], fleet: &dyn FleetNow) -> Arc<Outside> {
        let labels = fleet.labels_version();
        if self.labels != Some(labels) {
            *self = Self { labels: Some(labels), ..Self::gather(of, others, fleet) };
        }
        if self.groups.is_empty() {
            self.changed.clear();
            return self.told.clone();
        }
        self.look_who_is_ill(of, fleet);
        for host in std::mem::take(&mut self.changed) {
            self.update(host, others, fleet);
        }
        self.told.clone()
    }

    /// The groups that count, and every host that may take something of them.
    fn gather(of: &Rollback, others: &[Other<'_>], fleet: &dyn FleetNow) -> Self {
        let mut keys: BTreeSet<&str> = of.budget_keys().collect();
        // The strictest limit of each group that others limit.
        let mut limits: BTreeMap<&str, (u32, OperationId)> = BTreeMap::new();
        // What is drafted may bring late hosts in line, whose limits hold from then on.
        let binding = |other: &&Other<'_>| other.stored.binds() || other.drafted.is_some_and(Rollback::binds);
        for other in others.iter().filter(binding).map(|other| other.stored) {
            for group in other.plan.groups.iter().filter(|group| group.name != ALL) {
                let limit = limits.entry(&group.name).or_insert((group.limit, other.id.into()));
                if group.limit < limit.0 {
                    *limit = (group.limit, other.id.into());
                }
            }
            keys.extend(other.budget_keys());
        }
        let mut outside = Outside::default();
        if keys.is_empty() {
            return Self::default();
        }
        let names: BTreeMap<&str, Arc<str>> = limits.keys().map(|name| (*name, Arc::from(*name))).collect();
        let own = of.plan.groups.iter().filter(|group| group.name != ALL);
        let mut groups: BTreeSet<Arc<str>> = own.map(|group| group.name.as_str().into()).collect();
        if !limits.is_empty() {
            let mut limited = BTreeMap::new();
            for host in of.hosts.keys() {
                let labels = fleet.labels(host);
                let of = keys.iter().filter_map(|key| names.get(label_group(key, Some(&labels)).as_str()));
                let of: Vec<Arc<str>> = of.cloned().collect();
                if !of.is_empty() {
                    groups.extend(of.iter().cloned());
                    limited.insert(host.clone(), of);
                }
            }
            outside.of = (!limited.is_empty()).then(|| Arc::new(limited));
            for (name, limit) in limits.iter().filter(|(name, _)| groups.contains(**name)) {
                let group = outside.groups.entry(names[name].clone()).or_default();
                Arc::make_mut(group).limit = Some(*limit);
            }
        }
        let versions = others.iter().flat_map(|other| [Some(other.stored), other.drafted]).flatten();
        let placed = versions.flat_map(|other| {
            other.hosts.iter().filter(|(name, host)| other.place(name, host).is_some()).map(|(name, _)| name)
        });
        Self {
            told: Arc::new(outside),
            changed: placed.cloned().collect(),
            keys: keys.into_iter().map(str::to_owned).collect(),
            groups,
            ..Self::default()
        }
    }

    fn look_who_is_ill(&mut self, of: &Rollback, fleet: &dyn FleetNow) {
        let (mut same, mut ill) = (0, Vec::new());
        fleet.unavailable(&mut |host, is| {
            match self.ill.get(host) {
                Some(was) if *was == is => same += 1,
                // It knows that itself.
                Some(_) | None if of.hosts.get(host).is_some_and(|own| of.watches(own)) => return,
                Some(_) | None => self.changed.extend([host.clone()]),
            }
            ill.push((host.clone(), is));
        });
        if same < self.ill.len() || ill.len() > same {
            let ill: BTreeMap<HostId, Ill> = ill.into_iter().collect();
            self.changed.extend(self.ill.keys().filter(|host| !ill.contains_key(*host)).cloned());
            self.ill = ill;
        }
    }

    /// Takes in what a host takes now.
    ///
    /// One of the operation's own hosts counts, too, while another operation has a place for it: that changes it now.
    fn update(&mut self, host: HostId, others: &[Other<'_>], fleet: &dyn FleetNow) {
        let versions = others.iter().flat_map(|other| [Some(other.stored), other.drafted]).flatten();
        let places = versions.filter_map(|other| other.place(&host, other.hosts.get(&host)?));
        let place = places.reduce(|was, is| Place { at_work: was.at_work || is.at_work, ..is });
        let taken = Taken { place, ill: self.ill.get(&host).copied() };
        let taken = Some(taken).filter(|taken| *taken != Taken::default());
        if self.taken.get(&host) == taken.as_ref() {
            return;
        }
        let labels = fleet.labels(&host);
        let groups =
            self.keys.iter().filter_map(|key| self.groups.get(label_group(key, Some(&labels)).as_str()));
        let groups: Vec<Arc<str>> = groups.cloned().collect();
        if groups.is_empty() {
            return;
        }
        let outside = Arc::make_mut(&mut self.told);
        for name in groups {
            match (outside.groups.entry(name), &taken) {
                (group, Some(taken)) => {
                    Arc::make_mut(group.or_default()).taken.insert(host.clone(), taken.clone());
                }
                (Entry::Occupied(mut group), None) => {
                    let is = Arc::make_mut(group.get_mut());
                    is.taken.remove(&host);
                    if is.taken.is_empty() && is.limit.is_none() {
                        group.remove();
                    }
                }
                (Entry::Vacant(_), None) => {}
            }
        }
        match taken {
            Some(taken) => self.taken.insert(host, taken),
            None => self.taken.remove(&host),
        };
    }
}
