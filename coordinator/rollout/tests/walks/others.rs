//! What shares the budgets with the rollback: a second operation over hosts of its own, and hosts that fall ill by themselves.
//!
//! The second operation takes a place only under the same rule, from the same registry, as the coordinator's drivers do.

use std::collections::BTreeMap;
use std::sync::Arc;

use rfs_model::{HostId, OperationId};
use rfs_rollout::outside::{Ill, Limited, OutsideGroup, Place, Taken};
use rfs_rollout::plan::label_group;
use rfs_rollout::rollback::Rollback;
use rfs_rollout::{FleetView, Outside};

use super::dice::Dice;

const OTHER: OperationId = OperationId::from_uuid(uuid::Uuid::from_u128(9));

/// Everything outside the rollback.
pub(crate) struct Others {
    /// Hosts that are not the rollback's.
    hosts: BTreeMap<HostId, Other>,
    /// How many of a zone the second operation lets be away, if it has a budget.
    limit: Option<u32>,
    /// The zone of each of the rollback's hosts.
    zones: BTreeMap<HostId, String>,
}

struct Other {
    zone: String,
    /// At work, or only not proven.
    place: Option<bool>,
    ill: bool,
}

impl Others {
    /// Mostly there is somebody.
    pub(crate) fn new(fleet: &FleetView, dice: &mut Dice) -> Self {
        let zone = |labels| label_group("zone", Some(labels));
        let zones = fleet.hosts.iter().map(|(host, view)| (host.clone(), zone(&view.labels))).collect();
        let count = dice.pick(&[0, 0, 1, 2, 4]);
        let other = |number: usize, dice: &mut Dice| {
            let zone = format!("zone={}", dice.pick(&["a", "b"]));
            let name = HostId::new(&format!("o-{number}")).expect("a valid name");
            (name, Other { zone, place: None, ill: dice.percent(10) })
        };
        let hosts: BTreeMap<HostId, Other> = (0..count).map(|number| other(number, dice)).collect();
        let limit = (count > 0 && dice.percent(60)).then(|| 1 + dice.below(2) as u32);
        Self { hosts, limit, zones }
    }

    /// Something happens to one of them: it falls ill or gets well, is started, answers, or is proven.
    pub(crate) fn step(&mut self, rollback: &Rollback, may_start: bool, dice: &mut Dice) {
        if self.hosts.is_empty() {
            return;
        }
        let number = dice.below(self.hosts.len());
        let name = self.hosts.keys().nth(number).expect("the number is below the length").clone();
        let (is, zone) = (&self.hosts[&name], self.hosts[&name].zone.clone());
        let (mut place, mut ill) = (is.place, is.ill);
        match is.place {
            _ if dice.percent(30) => ill = !ill,
            Some(true) => place = Some(false),
            Some(false) => place = None,
            None if may_start && self.has_place(&name, &zone, rollback) => place = Some(true),
            None => {}
        }
        let other = self.hosts.get_mut(&name).expect("it is there");
        (other.place, other.ill) = (place, ill);
    }

    /// All of them are well, and nothing more happens to them.
    pub(crate) fn rest(&mut self) {
        for other in self.hosts.values_mut() {
            (other.place, other.ill) = (None, false);
        }
    }

    fn has_place(&self, name: &HostId, zone: &str, rollback: &Rollback) -> bool {
        let Some(limit) = self.strictest(zone, rollback) else { return true };
        let own =
            || rollback.hosts.iter().filter(|(host, _)| self.zones.get(*host).is_some_and(|is| is == zone));
        let theirs = own().filter(|(host, is)| is.phase.at_work() || rollback.unproven(host, is)).count();
        let away = own().filter(|(_, is)| rollback.unavailable(is)).count();
        let already = self.hosts[name].ill;
        theirs + self.places(zone) < limit && (already || away + self.away(zone, true) < limit)
    }

    /// The strictest limit of a zone, if somebody who runs sets one.
    pub(crate) fn strictest(&self, zone: &str, rollback: &Rollback) -> Option<usize> {
        let planned = rollback.plan.groups.iter().filter(|group| group.name == zone).map(|group| group.limit);
        planned.chain(self.limit).min().map(|limit| limit as usize)
    }

    /// The zone of a host of the rollback, and its hosts there.
    pub(crate) fn zone_of(&self, host: &HostId) -> (&str, Vec<&HostId>) {
        let zone = self.zones.get(host).map_or("", String::as_str);
        (zone, self.zones.iter().filter(|(_, is)| *is == zone).map(|(host, _)| host).collect())
    }

    /// How many places of a zone the second operation has.
    pub(crate) fn places(&self, zone: &str) -> usize {
        self.hosts.values().filter(|other| other.zone == zone && other.place.is_some()).count()
    }

    /// How many hosts outside are not available in a zone.
    pub(crate) fn away(&self, zone: &str, watched: bool) -> usize {
        let away = |other: &Other| other.place == Some(true) || (watched && other.ill);
        self.hosts.values().filter(|other| other.zone == zone && away(other)).count()
    }

    /// Tells the rollback that one of its own hosts, which it does not watch any more, is not available.
    pub(crate) fn tell_of_own(&self, outside: &mut Outside, host: &HostId, ill: Ill) {
        if let Some(zone) = self.zones.get(host) {
            let group = outside.groups.entry(zone.as_str().into()).or_default();
            Arc::make_mut(group).taken.insert(host.clone(), Taken { place: None, ill: Some(ill) });
        }
    }

    /// What the coordinator tells the rollback.
    pub(crate) fn outside(&self) -> Outside {
        let mut outside = Outside::default();
        for (host, other) in self.hosts.iter().filter(|(_, other)| other.place.is_some() || other.ill) {
            let group: &mut Arc<OutsideGroup> = outside.groups.entry(other.zone.as_str().into()).or_default();
            let place = other.place.map(|at_work| Place { operation: OTHER, at_work });
            let ill = other.ill.then_some(Ill::Health(rfs_model::Health::Bad));
            Arc::make_mut(group).taken.insert(host.clone(), Taken { place, ill });
        }
        if let Some(limit) = self.limit {
            let mut limited = Limited::new();
            for (host, zone) in &self.zones {
                let group = outside.groups.entry(zone.as_str().into()).or_default();
                Arc::make_mut(group).limit = Some((limit, OTHER));
                limited.insert(host.clone(), vec![zone.as_str().into()]);
            }
            outside.of = Some(limited.into());
        }
        outside
    }
}
