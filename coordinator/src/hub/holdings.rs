//! What hosts hold of complete checkpoints: a checkpoint that has lost a snapshot is no target.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_link::Chain;
use rfs_model::Timestamp;
use rfs_proto::agentlink::v1::Snapshots;
use rfs_proto::convert::snapshot_ids;
use tracing::{info, warn};

use super::Hub;
use super::session::Session;
use crate::store::HeldSnapshots;

/// When what could not be compared is compared again.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes in which snapshots a host holds. While the store fails, nothing more is read from the agent: what it dropped must not
/// be missed.
pub(super) async fn take(hub: &Hub, session: &Session, said: Snapshots, now: Timestamp) {
    let host = &session.host;
    let snapshots: BTreeSet<_> = match snapshot_ids("snapshots.ids", &said.ids) {
        Ok(snapshots) => snapshots,
        Err(error) => {
            warn!(%host, %error, "what the host says that it holds cannot be read");
            return;
        }
    };
    let held = HeldSnapshots { host: host.clone(), at: now, snapshots, whole: !said.cut };
    let mut troubled = false;
    let changes = loop {
        // What an older session said does not count any more.
        if !hub.shared.roster.holds(session) {
            return;
        }
        match hub.shared.store.host_holds(held.clone()).await {
            Ok(changes) => break changes,
            Err(error) if !troubled => {
                warn!(%host, error = %Chain(&error), "what the host holds cannot be compared; this is tried again");
                troubled = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = session.ended() => return,
            () = hub.shared.stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    };
    for checkpoint in changes.dropped {
        warn!(%host, %checkpoint, "the host no longer has its snapshot of this checkpoint, which is no target any more");
    }
    for checkpoint in changes.back {
        info!(%host, %checkpoint, "the host has its snapshot of this checkpoint again");
    }
}
