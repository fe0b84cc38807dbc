//! Which budgets hold hosts up, and what takes their places: what an operation says that it waits for.

use std::collections::BTreeMap;
use std::fmt;

use rfs_model::{HostId, OperationId};

use super::budget::{Counting, Ledger};
use super::state::{Direction, HostPhase, HostRecord, Phase, Rollback};
use crate::outside::{Ill, Outside};
use crate::plan::ALL;

/// How many hosts that take a place are named, and how many groups.
const NAMED: usize = 3;

/// A label group that has no place for hosts of a rollback that could start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The group, such as `zone=a`.
    pub group: String,
    /// How many of it may be away at once.
    pub limit: u32,
    /// The operation that set the limit, if it was another one.
    pub set_by: Option<OperationId>,
    /// How many of the rollback's hosts it holds up.
    pub waiting: usize,
    /// The hosts that take its places, each with why, in words.
    pub taken: BTreeMap<HostId, String>,
    /// The operations that hold places in it.
    pub operations: Vec<OperationId>,
    /// Hosts outside the rollback that have no connection: they may be gone for good.
    pub absent: Vec<HostId>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, limit, taken, .. } = self;
        let group = if group == ALL { "its own hosts" } else { group };
        write!(f, "a place in {group}, where at most {limit} may be away at once")?;
        if let Some(other) = self.set_by {
            write!(f, " (the limit of rollback {other})")?;
        }
        let named: Vec<String> =
            taken.iter().take(NAMED).map(|(host, why)| format!("{host} {why}")).collect();
        write!(f, ": {}", named.join(", "))?;
        if let more @ 1.. = taken.len().saturating_sub(NAMED) {
            write!(f, " and {more} more are")?;
        }
        if let Some(gone) = self.absent.first() {
            write!(f, "; if {gone} is gone for good: rfs host forget {gone}")?;
        }
        Ok(())
    }
}

impl Rollback {
    /// What keeps hosts from starting, or from going back, that could do so now: the groups that hold most of them, the
    /// first few.
    pub fn held_up(&self, outside: &Outside) -> Vec<Held> {
        let begun = |host: &HostRecord| self.waves[host.wave.get()].started_at.is_some();
        let back = self.goes_back();
        let turn = if back { self.turn_back() } else { None };
        let waits = |name: &HostId, host: &HostRecord| {
            let waits = match &self.phase {
                Phase::Running { direction: Direction::Forward } => match host.phase {
                    HostPhase::Untouched => begun(host),
                    HostPhase::Skipped => host.granted && begun(host),
                    _ => false,
                },
                Phase::Running { direction: Direction::Back(_) } => {
                    host.at_target() && turn == Some(host.wave)
                }
                Phase::Finished { .. } => host.is_granted() || host.phase == HostPhase::Skipped,
                Phase::Paused { .. } | Phase::Aborting { .. } => false,
            };
            waits && host.connected && self.unheard_until(name, host, outside).is_none()
        };
        let mut waiting = self.hosts.iter().filter(|(name, host)| waits(name, host)).peekable();
        if outside.unknown || waiting.peek().is_none() {
            return Vec::new();
        }
        let counting = if back { Counting::AtWork } else { Counting::Unavailable };
        let ledger = Ledger::of(self, outside);
        let mut held: BTreeMap<usize, usize> = BTreeMap::new();
        for (name, host) in waiting {
            if let Some(group) = ledger.held_by(name, host, counting) {
                *held.entry(group).or_default() += 1;
            }
        }
        let mut held: Vec<(usize, usize)> = held.into_iter().collect();
        held.sort_by_key(|(_, waiting)| std::cmp::Reverse(*waiting));
        let most = held.into_iter().take(NAMED);
        most.map(|(group, waiting)| self.held_in(&ledger, group, waiting, counting)).collect()
    }

    fn held_in(&self, ledger: &Ledger<'_>, index: usize, waiting: usize, counting: Counting) -> Held {
        let group = ledger.group(index);
        let own = ledger
            .hosts_of(index)
            .filter_map(|(name, host)| Some((name.clone(), self.takes(name, host, counting)?)));
        let mut taken: BTreeMap<HostId, String> = own.collect();
        let (mut operations, mut absent) = (Vec::new(), Vec::new());
        let watched = !self.request.policy.gate.ignore_health;
        for (host, other) in group.outside.iter().flat_map(|outside| &outside.taken) {
            let place = other.place.filter(|place| place.at_work || counting == Counting::Unavailable);
            let ill = other.ill.filter(|ill| watched || !matches!(ill, Ill::Health(_)));
            let ill = ill.filter(|_| counting == Counting::Unavailable);
            let Some(why) = place.map(|place| place.to_string()).or(ill.map(|ill| ill.to_string())) else {
                continue;
            };
            taken.insert(host.clone(), why);
            operations.extend(place.map(|place| place.operation));
            if place.is_none() && ill == Some(Ill::Absent) {
                absent.push(host.clone());
            }
        }
        operations.sort_unstable();
        operations.dedup();
        let theirs = group.outside.and_then(|outside| outside.limit);
        let planned = self.plan.groups.get(index).map(|group| group.limit);
        let set_by = theirs.filter(|(limit, _)| planned.is_none_or(|planned| *limit < planned));
        Held {
            group: group.name.to_owned(),
            limit: group.limit,
            set_by: set_by.map(|(_, operation)| operation),
            waiting,
            taken,
            operations,
            absent,
        }
    }

    /// Why a host of this rollback takes a place, in words.
    fn takes(&self, name: &HostId, host: &HostRecord, counting: Counting) -> Option<String> {
        if host.phase.at_work() {
            return Some("is at work".to_owned());
        }
        if counting == Counting::AtWork {
            return None;
        }
        if self.unproven(name, host) {
            return Some("is not proven healthy yet".to_owned());
        }
        let ill = match host.connected {
            _ if !self.unavailable(host) => return None,
            _ if host.phase == HostPhase::Inconsistent => Ill::Inconsistent,
            false => Ill::Absent,
            true => Ill::Health(host.health.health),
        };
        Some(ill.to_string())
    }
}
