//! What the coordinator is told stays true: who the machine is, whether it is consistent, what it still holds.

use std::sync::Arc;
use std::time::Duration;

use rfs_agent::commander::{Inconsistent, Outcome, StepKind};
use rfs_agent::health::HostHealth;
use rfs_agent::session::Session;
use rfs_model::{ByteCount, Generation, Health, RestoreNumber, SnapshotId, Standing, Timestamp};
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, Fleet, Manner, Session as Link, agent};
use crate::host::{Played, host, instance, operation, snapshot_id, well};

/// A played host behind a real session, which ends with it.
struct Bed {
    _fleet: Fleet,
    coordinator: Coordinator,
    played: Arc<Played>,
    health: watch::Sender<HostHealth>,
    stop: CancellationToken,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Health is sent because something changed, or not at all.
async fn start(played: Arc<Played>, manner: Manner) -> Bed {
    let fleet = Fleet::new();
    let coordinator = Coordinator::start(&fleet, manner).await;
    let (health, receiver) = watch::channel(well(Health::Good));
    let credentials = fleet.open(&agent("web-1"));
    let session = Session::new(host(&played, receiver), credentials, vec![coordinator.target()]);
    let stop = CancellationToken::new();
    tokio::spawn(session.expect("a session").run(stop.clone()));
    Bed { _fleet: fleet, coordinator, played, health, stop }
}

async fn listed(session: &mut Link) -> (Vec<Vec<u8>>, bool) {
    session
        .next(|message| match message {
            Up::Snapshots(list) => Some((list.ids, list.cut)),
            _ => None,
        })
        .await
}

fn ids(snapshots: &[SnapshotId]) -> Vec<Vec<u8>> {
    snapshots.iter().map(|id| id.0.as_bytes().to_vec()).collect()
}

fn cut(snapshot: SnapshotId) -> Outcome {
    Outcome::Cut {
        snapshot,
        cut_at: Timestamp(0),
        entries: 1,
        bytes: ByteCount(1),
        stored: ByteCount(1),
        took: Duration::from_secs(1),
        notes: Vec::new(),
    }
}

fn stuck() -> Option<Inconsistent> {
    Some(Inconsistent { since: Timestamp(0), message: "app could not be started".to_owned() })
}

#[tokio::test]
async fn the_hello_says_which_machine_it_is_and_what_it_was_brought_to() {
    let played = Arc::new(Played::default());
    played.notes().state.snapshot = Some(snapshot_id(4));
    played.notes().state.inconsistent = stuck();
    let mut bed = start(played, Manner::default()).await;
    let session = bed.coordinator.session().await;
    let hello = &session.hello;
    assert_eq!((hello.instance_id.clone(), hello.start_id.as_str()), (instance().to_string(), "start"));
    assert_eq!((hello.snapshot.clone(), hello.inconsistent), (snapshot_id(4).to_string(), true));
    drop(session);
    bed.played.notes().state.snapshot = None;
    let session = bed.coordinator.session().await;
    assert_eq!((session.hello.snapshot.as_str(), session.hello.start_id.as_str()), ("", "start"));
}

#[tokio::test]
async fn a_host_that_becomes_inconsistent_or_is_repaired_says_so_at_once() {
    let mut bed = start(Arc::default(), Manner::default()).await;
    let mut session = bed.coordinator.session().await;
    assert!(!session.health().await.inconsistent, "the first is sent by itself");
    for inconsistent in [stuck(), None, stuck()] {
        bed.played.notes().state.inconsistent = inconsistent.clone();
        bed.played.wake();
        assert_eq!(session.health().await.inconsistent, inconsistent.is_some());
    }
}

#[tokio::test]
async fn what_is_true_now_follows_an_old_report() {
    let played = Arc::new(Played::default());
    // It was stuck, and was repaired by an administrator while nobody listened.
    let old =
        Outcome::Cancelled { standing: Standing::Inconsistent, backup: None, restore: RestoreNumber(3) };
    played.report(1, operation(), StepKind::Cancel, old);
    played.notes().unacknowledged[0].newest = Generation(9);
    let mut bed = start(played, Manner::default()).await;
    bed.health.send_modify(|health| health.after = RestoreNumber(4));
    let mut session = bed.coordinator.session().await;
    let report = session.report().await;
    assert_eq!((report.newest_generation, report.key.map(|key| key.generation)), (9, Some(7)));
    let Some(link::report::Outcome::Restored(restored)) = report.outcome else {
        panic!("{:?}", report.outcome)
    };
    assert_eq!((restored.standing(), restored.restore), (link::restored::Standing::Inconsistent, 3));
    let health = session.health().await;
    assert_eq!((health.inconsistent, health.after_restore), (false, 4));
}

#[tokio::test]
async fn the_host_hears_at_each_welcome_who_owns_it() {
    let manner = Manner::default();
    let owner = manner.owner.clone();
    let mut bed = start(Arc::default(), manner).await;
    for (text, heard) in [
        ("", None),
        ("0193b5a0-0000-7000-8000-000000000001", Some(operation())),
        ("what a later version may say", None),
    ] {
        *owner.lock().expect("no panic") = text.to_owned();
        // The session before this one was opened with the owner before.
        let mut session = bed.coordinator.session().await;
        session.heard().await;
        if text.is_empty() {
            assert_eq!(bed.played.notes().owners, [heard]);
        }
        drop(session);
        let mut session = bed.coordinator.session().await;
        session.heard().await;
        assert_eq!(bed.played.notes().owners.last(), Some(&heard), "{text:?}");
    }
}

#[tokio::test]
async fn the_snapshots_are_listed_when_some_are_lost_and_after_the_report_of_one_that_was_cut() {
    let played = Arc::new(Played::default());
    played.notes().snapshots = vec![snapshot_id(2), snapshot_id(1)];
    let mut bed = start(played, Manner::default()).await;
    let mut session = bed.coordinator.session().await;
    assert_eq!(listed(&mut session).await, (ids(&[snapshot_id(2), snapshot_id(1)]), false));

    let change = |snapshots: &[SnapshotId]| {
        let mut notes = bed.played.notes();
        notes.snapshots = snapshots.to_vec();
        notes.revision += 1;
        drop(notes);
        bed.played.wake();
    };
    change(&[snapshot_id(2)]);
    assert_eq!(listed(&mut session).await, (ids(&[snapshot_id(2)]), false));

    // Its report comes first, and the list that follows has it.
    bed.played.notes().snapshots = vec![snapshot_id(3), snapshot_id(2)];
    bed.played.report(1, operation(), StepKind::Cut, cut(snapshot_id(3)));
    let mut reported = false;
    let list = session
        .next(|message| match message {
            Up::Report(_) => None,
            Up::Snapshots(list) => Some(list.ids),
            _ => None,
        })
        .await;
    assert_eq!(list, ids(&[snapshot_id(3), snapshot_id(2)]));

    // It is lost before its report was acknowledged, and the report is asked for again: the last word is that it is gone.
    change(&[snapshot_id(2)]);
    assert_eq!(listed(&mut session).await, (ids(&[snapshot_id(2)]), false));
    let key = link::CommandKey {
        operation_id: operation().to_string(),
        generation: 7,
        step: link::Step::Cut.into(),
    };
    let timeout = Some(rfs_proto::convert::to_wire_duration(Duration::from_secs(300)));
    session.say(Down::Command(link::Command { key: Some(key), timeout, ..Default::default() })).await;
    let last = loop {
        let told = session.next(|message| match message {
            Up::Report(report) => Some(Err(report.sequence)),
            Up::Snapshots(list) => Some(Ok(list.ids)),
            _ => None,
        });
        match told.await {
            Err(sequence) => reported = sequence == 1,
            Ok(ids) if reported => break ids,
            Ok(_) => {}
        }
    };
    assert_eq!(last, ids(&[snapshot_id(2)]));
}

#[tokio::test]
async fn a_list_that_is_too_long_is_cut_and_says_so() {
    let played = Arc::new(Played::default());
    let many: Vec<SnapshotId> = (0..5000u16)
        .map(|number| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&number.to_le_bytes());
            SnapshotId(rfs_model::Digest::from_bytes(bytes))
        })
        .collect();
    played.notes().snapshots = many.clone();
    let mut bed = start(played, Manner::default()).await;
    let mut session = bed.coordinator.session().await;
    assert_eq!(listed(&mut session).await, (ids(&many[..4096]), true));
}
