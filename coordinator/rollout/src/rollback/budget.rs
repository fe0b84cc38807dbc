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
        for (group, count) in rollback.plan.groups.iter().zip(&mut counts) {
            for (name, host) in group.hosts.iter().filter_map(|name| rollback.hosts.get_key_value(name)) {
                count.at_work += u32::from(host.phase.at_work());
                count.unproven += u32::from(host.phase.at_work() || rollback.unproven(name, host));
                count.unavailable += u32::from(rollback.unavailable(host));
            }
        }
        Self { rollback, counts }
    }

    /// Whether the host may start; if so, it is counted as at work from now on.
    pub(super) fn admit(&mut self, name: &HostId, host: &HostRecord, counting: Counting) -> bool {
        let free = self.admits(name, host, counting);
        if free {
            let already = self.rollback.unavailable(host);
            for (group, count) in self.rollback.plan.groups.iter().zip(&mut self.counts) {
                if group.hosts.contains(name) {
                    count.at_work += 1;
                    count.unproven += 1;
                    count.unavailable += u32::from(!already);
                }
            }
        }
        free
    }

    /// Whether the host may start.
    pub(super) fn admits(&self, name: &HostId, host: &HostRecord, counting: Counting) -> bool {
        let already = self.rollback.unavailable(host);
        let groups = self.rollback.plan.groups.iter().zip(&self.counts);
        groups.filter(|(group, _)| group.hosts.contains(name)).all(|(group, count)| match counting {
            Counting::Unavailable => {
                count.unproven < group.limit && (already || count.unavailable < group.limit)
            }
            Counting::AtWork => count.at_work < group.limit,
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
