//! One host as the API shows it.

use std::cmp::Reverse;

use rfs_model::{HostId, Labels};
use rfs_proto::convert::{host_name, to_wire_time};
use rfs_proto::v1;

use super::{Component, Entry};
use crate::store::Machines;

/// One host as it is seen now.
#[derive(Debug, Clone, PartialEq)]
pub struct HostCard {
    /// Its name.
    pub host: HostId,
    /// The labels from its configuration.
    pub labels: Labels,
    /// As the API shows it; without what the store alone knows.
    pub wire: v1::Host,
}

impl Entry {
    pub(super) fn card(&self, host: &HostId) -> HostCard {
        let last_seen = self.session.as_ref().map_or(self.last_seen, |session| session.last_heard());
        let component = |c: &Component| v1::Component { name: c.name.clone(), kind: c.kind.clone() };
        let wire = v1::Host {
            name: host_name(host),
            labels: self.facts.labels.clone().into_iter().collect(),
            connected: self.heard_session().is_some(),
            last_seen_time: Some(to_wire_time(last_seen)),
            agent_version: self.facts.details.agent_version.clone(),
            components: self.facts.details.components.iter().map(component).collect(),
            health: v1::Health::from(self.reading.health).into(),
            checks: self.checks.clone(),
            owner: String::new(),
            generation: 0,
            inconsistent: self.facts.inconsistent,
            instance: self.machines.accepted.map(|id| id.to_string()).unwrap_or_default(),
            replaced_time: self.machines.replaced_at.map(to_wire_time),
            contested: self.machines.contest.is_some() && self.machines.forgotten_at.is_none(),
            forget_time: self.machines.forgotten_at.map(to_wire_time),
            refused_time: self.machines.refused_at.filter(|_| self.session.is_none()).map(to_wire_time),
            instances: instances(&self.machines),
            certificate_expire_time: self
                .session
                .as_ref()
                .map(|session| to_wire_time(session.certificate_end)),
        };
        HostCard { host: host.clone(), labels: self.facts.labels.clone(), wire }
    }
}

/// The machines that have spoken for a name, where a person has to choose one or more than one has: the present one first, then
/// the one that was seen last.
fn instances(machines: &Machines) -> Vec<v1::Instance> {
    if machines.known.len() < 2 && machines.contest.is_none() && machines.forgotten_at.is_none() {
        return Vec::new();
    }
    let mut known: Vec<_> = machines.known.iter().collect();
    known.sort_by_key(|(id, machine)| (machines.accepted != Some(**id), Reverse(machine.seen_at)));
    let instance = |(id, machine): (&rfs_model::InstanceId, &crate::store::Machine)| v1::Instance {
        id: id.to_string(),
        address: machine.address.clone(),
        seen_time: Some(to_wire_time(machine.seen_at)),
    };
    known.into_iter().map(instance).collect()
}
