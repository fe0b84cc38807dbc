//! What hosts hold of complete checkpoints: a checkpoint that has lost a snapshot is no target.
//!
//! What a host says is compared with the complete checkpoints when it says so, and kept with its session: a checkpoint that
//! becomes complete later is compared with it then.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use rfs_link::Chain;
use rfs_model::{HostId, SnapshotId, Timestamp};
use rfs_proto::agentlink::v1::Snapshots;
use rfs_proto::convert::snapshot_ids;
use tracing::{error, info, warn};

use super::Hub;
use super::session::Session;
use crate::store::{HeldSnapshots, StoreError};

/// When what could not be compared is compared again.
const AGAIN: Duration = Duration::from_secs(1);

/// The snapshots that a host said that it holds.
#[derive(Debug)]
pub(super) struct Holdings {
    /// In order.
    snapshots: Box<[SnapshotId]>,
    /// Whether these are all.
    whole: bool,
    at: Timestamp,
}

/// What is known of what a host holds.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// What it said last.
    said: Option<Arc<Holdings>>,
    /// Whether that was compared, and the host lacks nothing that a complete checkpoint rests on.
    lacks_nothing: bool,
    /// How often a checkpoint became complete whose snapshot it did not name. A comparison that began before knows nothing of
    /// that.
    doubts: u64,
}

impl Holds {
    /// The host says what it holds. Whether that must be compared: one that lacked nothing, and has lost nothing, lacks
    /// nothing. So it is with each host after each of its cuts, and a fleet has many.
    fn say(&mut self, now: Arc<Holdings>) -> bool {
        let is_kept = |before: &Holdings| {
            now.whole && before.snapshots.iter().all(|id| now.snapshots.binary_search(id).is_ok())
        };
        let lacks_nothing = self.lacks_nothing && self.said.as_deref().is_some_and(is_kept);
        (self.said, self.lacks_nothing) = (Some(now), lacks_nothing);
        !lacks_nothing
    }

    fn is_last(&self, said: &Arc<Holdings>) -> bool {
        self.said.as_ref().is_some_and(|last| Arc::ptr_eq(last, said))
    }

    /// A checkpoint has become complete: gives what the host said last, if that lacks the checkpoint's snapshot. What it says
    /// next is compared, too.
    fn doubt(&mut self, snapshot: &SnapshotId) -> Option<Arc<Holdings>> {
        let lacking = |said: &&Arc<Holdings>| said.whole && said.snapshots.binary_search(snapshot).is_err();
        let said = self.said.as_ref().filter(lacking)?.clone();
        (self.lacks_nothing, self.doubts) = (false, self.doubts + 1);
        Some(said)
    }
}

/// Takes in which snapshots a host holds. While the store fails, nothing more is read from the agent: what it dropped must not
/// be missed.
pub(super) async fn take(hub: &Hub, session: &Session, said: Snapshots, now: Timestamp) {
    let mut snapshots: Vec<SnapshotId> = match snapshot_ids("snapshots.ids", &said.ids) {
        Ok(snapshots) => snapshots,
        Err(error) => {
            warn!(host = %session.host, %error, "what the host says that it holds cannot be read");
            return;
        }
    };
    snapshots.sort_unstable();
    let holdings = Arc::new(Holdings { snapshots: snapshots.into(), whole: !said.cut, at: now });
    // Kept before it is compared: what becomes complete meanwhile is compared with it, too.
    if holds(session).say(holdings.clone()) {
        compare(hub, session, &holdings).await;
    }
}

fn holds(session: &Session) -> MutexGuard<'_, Holds> {
    session.holdings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compares what hosts have said with a checkpoint that has just become complete.
pub(super) fn compare_anew(hub: &Hub, snapshots: &BTreeMap<HostId, SnapshotId>) {
    let lacking: Vec<_> = snapshots
        .iter()
        .filter_map(|(host, snapshot)| {
            let session = hub.shared.roster.session(host)?;
            let said = holds(&session).doubt(snapshot)?;
            Some((session, said))
        })
        .collect();
    if !lacking.is_empty() {
        let hub = hub.clone();
        tokio::spawn(async move {
            for (session, said) in lacking {
                compare(&hub, &session, &said).await;
            }
        });
    }
}

async fn compare(hub: &Hub, session: &Session, said: &Arc<Holdings>) {
    let host = &session.host;
    let snapshots = said.snapshots.iter().copied().collect();
    let held = HeldSnapshots { host: host.clone(), at: said.at, snapshots, whole: said.whole };
    let mut troubled = false;
    let (changes, doubts) = loop {
        // What an older session said does not count any more, nor what this one said before.
        let (is_last, doubts) = {
            let holds = holds(session);
            (holds.is_last(said), holds.doubts)
        };
        if !is_last || !hub.shared.roster.holds(session) {
            return;
        }
        match hub.shared.store.host_holds(held.clone()).await {
            Ok(changes) => break (changes, doubts),
            // It is there, and a person must see to it; the host is heard all the same.
            Err(error @ StoreError::Damaged { .. }) => {
                error!(%host, error = %Chain(&error), "what the host holds cannot be compared");
                return;
            }
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
    {
        let mut holds = holds(session);
        if holds.is_last(said) && holds.doubts == doubts && said.whole {
            holds.lacks_nothing = !changes.lacks;
        }
    }
    for checkpoint in changes.dropped {
        warn!(%host, %checkpoint, "the host no longer has its snapshot of this checkpoint, which is no target any more");
    }
    for checkpoint in changes.back {
        info!(%host, %checkpoint, "the host has its snapshot of this checkpoint again");
    }
}

#[cfg(test)]
mod tests {
    use rfs_model::{CheckpointId, Clock as _, Digest};

    use super::super::bed::{Opened, enter, open};
    use super::*;
    use crate::driver::fleet::Fleet as _;
    use crate::store::suite::{append, event, new, operation, row};
    use crate::store::{Append, OperationRow, Store as _};

    fn said(numbers: &[u8]) -> Arc<Holdings> {
        let snapshots = numbers.iter().map(|number| SnapshotId(Digest::from_bytes([*number; 32]))).collect();
        Arc::new(Holdings { snapshots, whole: true, at: Timestamp(0) })
    }

    #[test]
    fn what_a_host_says_is_compared_unless_it_lacked_nothing_and_has_lost_nothing() {
        let mut holds = Holds::default();
        assert!(holds.say(said(&[1])), "nothing is known of it yet");
        assert!(holds.say(said(&[1, 2])), "it was not compared yet");
        holds.lacks_nothing = true;
        assert!(!holds.say(said(&[1, 2, 3])), "it has one more");
        assert!(holds.say(said(&[1, 3])), "it has lost one");
        holds.lacks_nothing = true;
        assert!(holds.doubt(&SnapshotId(Digest::from_bytes([3; 32]))).is_none(), "it holds that one");
        assert!(!holds.say(said(&[1, 3])));
        assert!(
            holds.doubt(&SnapshotId(Digest::from_bytes([4; 32]))).is_some(),
            "a complete checkpoint needs another"
        );
        assert!(holds.say(said(&[1, 3])));
    }

    #[tokio::test]
    async fn what_was_said_before_a_checkpoint_is_complete_is_compared_with_it_then() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Opened { hub, store, clock, .. } = open(&folder).await;
        let host = |name: &str| HostId::new(name).expect("a name");
        let snapshot = SnapshotId(Digest::from_bytes([7; 32]));
        for (name, said) in [("a", Some(vec![])), ("b", Some(vec![vec![7; 32]])), ("c", None)] {
            let (session, _queue) = enter(&hub, host(name), clock.now());
            if let Some(ids) = said {
                take(&hub, &session, Snapshots { ids, cut: false }, clock.now()).await;
            }
        }
        let rests_on: BTreeMap<_, _> = ["a", "b", "c"].map(|name| (host(name), snapshot)).into();
        store.create(new(1, "")).await.expect("a creation");
        let done = OperationRow { open: false, finished: true, complete: true, ..row(1) };
        let ended = Append { row: Some(done), rests_on: rests_on.clone(), ..append(1, 1, vec![event(1)]) };
        store.append(ended).await.expect("an append");
        let id = CheckpointId::from(operation(1));
        assert_eq!(store.newest_complete_checkpoint().await.expect("a read"), Some(id));

        hub.completed(&rests_on);
        let dropped = async || store.dropped_snapshots(id).await.expect("a read");
        while dropped().await.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(dropped().await, [(host("a"), clock.now())].into(), "the one that had said so");
        assert_eq!(store.newest_complete_checkpoint().await.expect("a read"), None);
    }
}
