//! The hub as the drivers see it.

use std::collections::BTreeMap;
use std::time::Duration;

use rfs_model::{Generation, HostId, Labels, SnapshotId, Timestamp};
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_rollout::HostCommand;
use rfs_rollout::outside::Ill;
use tracing::{debug, error};

use super::roster::Facts;
use super::session::Session;
use super::{Hub, convert, holdings};
use crate::driver::fleet::{Fleet, FleetEvent, SendError, Sighting};
use crate::store::{HostSeen, Machines};

impl Fleet for Hub {
    fn send(&self, host: &HostId, command: HostCommand) -> Result<(), SendError> {
        let session = self.shared.roster.session(host).ok_or(SendError::NotConnected)?;
        debug!(%host, operation = %command.operation, step = %command.step.kind(), "command");
        session.send(Down::Command(convert::command(command, self.shared.clock.now())))
    }

    fn look(&self, host: &HostId, now: Timestamp) -> Sighting {
        self.shared.roster.look(host, now)
    }

    fn completed(&self, snapshots: &BTreeMap<HostId, SnapshotId>) {
        holdings::compare_anew(self, snapshots);
    }

    fn unavailable(&self, now: Timestamp, gone_after: Duration, tell: &mut dyn FnMut(&HostId, Ill)) {
        self.shared.roster.unavailable(now, gone_after, tell);
    }

    fn labels_version(&self) -> u64 {
        self.shared.roster.labels_version()
    }

    fn labels(&self, host: &HostId) -> Labels {
        self.shared.roster.labels(host)
    }

    fn unchecked(&self, host: &HostId) -> bool {
        self.shared.roster.unchecked(host)
    }
}

impl Hub {
    /// Tells the drivers. When they are behind, whoever tells them waits.
    pub(super) async fn tell(&self, event: FleetEvent) {
        // With nobody to tell, the coordinator is stopping.
        let _ = self.shared.events.send(event).await;
    }

    /// Keeps whether a host stands between two states, durably, when that changes.
    pub(super) async fn note_standing(&self, session: &Session, inconsistent: bool, now: Timestamp) {
        let host = &session.host;
        if !self.shared.roster.set_inconsistent(host, inconsistent) {
            return;
        }
        if inconsistent {
            error!(%host, "the host is INCONSISTENT; a person must look");
        }
        let Some(facts) = self.shared.roster.facts(host) else { return };
        let seen = seen(host, &facts, Generation(0), None, now);
        // The agent says it again with its next hello, so that a failure here loses nothing.
        let _ = self.shared.register.write(seen).await;
    }
}

/// What is written down of a host. Without `machines`, what is stored of them stays.
pub(super) fn seen(
    host: &HostId,
    facts: &Facts,
    generation: Generation,
    machines: Option<Machines>,
    at: Timestamp,
) -> HostSeen {
    HostSeen {
        host: host.clone(),
        at,
        labels: facts.labels.clone(),
        generation,
        inconsistent: facts.inconsistent,
        details: serde_json::to_string(&facts.details).unwrap_or_default(),
        machines,
    }
}
