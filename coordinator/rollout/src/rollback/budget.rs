//! How many hosts of each label group are at work or unavailable, and whether one more may start.

use rfs_model::HostId;

use super::gate::not_good;
use super::state::{HostPhase, HostRecord, Rollback};

/// The counts of every budget group at one moment.
pub(super) struct Ledger<'r> {
    rollback: &'r Rollback,
    counts: Vec<Count>,
}

#[derive(Clone, Copy, Default)]
struct Count {
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
    pub(super) fn of(rollback: &'r Rollback) -> Self {
        let mut counts = vec![Count::default(); rollback.plan.groups.len()];
        for (name, host) in rollback.hosts.iter().filter(|(_, host)| host.is_in_budget()) {
            let at_work = host.phase.at_work();
            let unproven = at_work || rollback.unproven(name, host);
            let unavailable = rollback.unavailable(host);
            for group in host.groups.iter() {
                let count = &mut counts[group.get()];
                count.at_work += u32::from(at_work);
                count.unproven += u32::from(unproven);
                count.unavailable += u32::from(unavailable);
            }
        }
        Self { rollback, counts }
    }

    /// Whether the host may start; if so, it is counted as at work from now on.
    pub(super) fn admit(&mut self, host: &HostRecord, counting: Counting) -> bool {
        let free = self.admits(host, counting);
        if free {
            let already = self.rollback.unavailable(host);
            for group in host.groups.iter() {
                let count = &mut self.counts[group.get()];
                count.at_work += 1;
                count.unproven += 1;
                count.unavailable += u32::from(!already);
            }
        }
        free
    }

    /// Whether the host may start.
    pub(super) fn admits(&self, host: &HostRecord, counting: Counting) -> bool {
        let already = self.rollback.unavailable(host);
        host.groups.iter().all(|group| {
            let (limit, count) = (self.rollback.plan.groups[group.get()].limit, &self.counts[group.get()]);
            match counting {
                Counting::Unavailable => count.unproven < limit && (already || count.unavailable < limit),
                Counting::AtWork => count.at_work < limit,
            }
        })
    }
}

impl Rollback {
    /// Whether the host keeps its place in every budget although its change is done: it has not been healthy for long enough
    /// since, and nobody has accepted it as it is. One that is well for a moment must not let the next one fall. Where nobody
    /// judges it any more, it keeps its place until it is healthy.
    fn unproven(&self, name: &HostId, host: &HostRecord) -> bool {
        let watched = !self.request.policy.gate.ignore_health;
        let changed = matches!(host.phase, HostPhase::Applied { .. }) && !self.acknowledged.contains(name);
        watched && changed && (self.judges(host) || not_good(host.health.health))
    }

    /// Whether a budget counts the host: it is at work, has no connection, or is not known to be healthy.
    pub fn unavailable(&self, host: &HostRecord) -> bool {
        let unhealthy = !self.request.policy.gate.ignore_health && not_good(host.health.health);
        host.phase.at_work() || !host.connected || unhealthy || host.phase == HostPhase::Inconsistent
    }
}
