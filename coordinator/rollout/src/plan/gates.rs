//! Gates that cannot pass, known before anything begins: a host without a required check is never known to be good.

use rfs_model::HostId;

use super::{Plan, WaveIndex};
use crate::fleet::FleetView;
use crate::names::some_names;
use crate::request::GatePolicy;

/// A wave whose gate cannot pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wave {wave} can never pass its gate: {} no required health check, so nobody will know whether {} healthy", those(hosts), if hosts.len() == 1 { "it is" } else { "they are" })]
pub struct Impasse {
    /// The first such wave.
    pub wave: WaveIndex,
    /// The hosts up to there that have no required check.
    pub hosts: Vec<HostId>,
}

fn those(hosts: &[HostId]) -> String {
    let names = some_names(hosts.iter().map(HostId::as_str));
    format!("{names} {}", if hosts.len() == 1 { "has" } else { "have" })
}

/// The first wave whose gate cannot pass, if there is one. Only what hosts have said counts: of one that has said nothing of
/// its checks yet, nothing is known.
pub fn impasse(plan: &Plan, policy: &GatePolicy, fleet: &FleetView) -> Option<Impasse> {
    if policy.ignore_health {
        return None;
    }
    let unchecked = |host: &&HostId| fleet.hosts.get(*host).is_some_and(|view| view.unchecked);
    let mut before: Vec<HostId> = Vec::new();
    for (wave, place) in plan.waves.iter().zip(0..) {
        let here: Vec<HostId> = wave.hosts.iter().filter(unchecked).cloned().collect();
        let able = wave.hosts.len() - here.len();
        before.extend(here.iter().cloned());
        // With a share of hosts that suffices, a wave passes before the others have failed.
        let stuck = match policy.healthy {
            Some(healthy) => healthy.round_up(wave.hosts.len()) > able,
            None => before.len() > policy.max_failed as usize,
        };
        if stuck && !here.is_empty() {
            return Some(Impasse { wave: WaveIndex(place), hosts: before });
        }
    }
    None
}
