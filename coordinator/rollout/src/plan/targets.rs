//! Which hosts are concerned, and each one's target.

use std::collections::BTreeMap;

use rfs_model::{HostId, SnapshotId};

use super::PlanError;
use crate::fleet::FleetView;
use crate::request::RollbackRequest;

type Targets = BTreeMap<HostId, SnapshotId>;
type LeftOut = BTreeMap<HostId, String>;

/// A host that is named must be known and have a target; one that only a label or "every host" would bring in is left out
/// with the reason when it has none.
pub(super) fn targets(request: &RollbackRequest, fleet: &FleetView) -> Result<(Targets, LeftOut), PlanError> {
    let selector = &request.selector;
    for (i, host) in selector.hosts.iter().enumerate() {
        let field = || format!("selector.hosts[{i}]");
        if !fleet.hosts.contains_key(host) {
            return Err(PlanError::unknown_host(field(), host, fleet.hosts.keys()));
        }
        if !fleet.targets.contains_key(host) {
            return Err(PlanError::NoTarget {
                field: field(),
                host: host.clone(),
                origin: request.source.to_string(),
            });
        }
    }
    let mut targets = Targets::new();
    let mut left_out = LeftOut::new();
    for (host, _) in fleet.hosts.iter().filter(|(host, view)| selector.matches(host, &view.labels)) {
        match fleet.targets.get(host) {
            Some(target) => drop(targets.insert(host.clone(), *target)),
            None => drop(left_out.insert(host.clone(), format!("{} has nothing for it", request.source))),
        }
    }
    if selector.labels.is_empty() && selector.hosts.is_empty() {
        let gone = fleet.targets.keys().filter(|host| !fleet.hosts.contains_key(*host));
        left_out.extend(gone.map(|host| (host.clone(), "no such host is known any more".to_owned())));
    }
    if targets.is_empty() {
        return Err(PlanError::no_host_matches(selector, fleet.targets.len(), request.source, fleet));
    }
    Ok((targets, left_out))
}
