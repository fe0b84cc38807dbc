//! Tells hosts which checkpoints the fleet needs, and which were deleted, so that their stores keep the one and give up the
//! other.
//!
//! What is told is the whole truth each time, so that nothing is lost with a session that ends, and nobody answers.

use std::sync::Arc;
use std::time::Duration;

use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::Hub;
use crate::store::{Store, StoreError};

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_secs(5);
/// How many deleted checkpoints are told: a host that was away while more were has its keep rules. Few, for each host is
/// told all of them each time that it comes in, and a whole fleet may come in at once.
const DELETED: u32 = 100;

/// Reads what is to be told.
pub(super) async fn read(store: &dyn Store) -> Result<link::Checkpoints, StoreError> {
    let needed = store.needed_checkpoints().await?;
    let deleted = store.deleted_checkpoints(DELETED).await?;
    Ok(link::Checkpoints {
        needed: needed.iter().map(ToString::to_string).collect(),
        deleted: deleted.iter().map(ToString::to_string).collect(),
    })
}

/// Tells every session when something has changed, until the hub stops.
pub(super) async fn tell(hub: Hub, store: Arc<dyn Store>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = hub.shared.stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let read = match read(&*store).await {
            Ok(read) => Arc::new(read),
            Err(error) => {
                warn!(%error, "hosts are not told which checkpoints are needed");
                continue;
            }
        };
        // Sessions that come in from here on are told this one.
        if !hub.shared.checkpoints.send_if_modified(|told| {
            let is_new = *told != read;
            *told = read.clone();
            is_new
        }) {
            continue;
        }
        for session in hub.shared.roster.sessions(|_| true) {
            // One that has ended is told when it comes back.
            let _ = session.send(Down::Checkpoints((*read).clone()));
        }
    }
}
