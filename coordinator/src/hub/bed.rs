//! A hub for tests that turn its wheel by hand, and sessions without a stream.

use std::sync::Arc;

use rfs_model::time::ManualClock;
use rfs_model::{Generation, HostId, InstanceId, Labels, Timestamp};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Hub;
use super::machines::Claim;
use super::roster::{Details, Entering, Facts, Name};
use super::session::{Introduction, Queue, Session};
use crate::driver::fleet::{self, FleetEvent};
use crate::store::SqliteStore;

/// A hub, and what it tells the drivers.
pub(super) struct Opened {
    pub(super) hub: Hub,
    pub(super) store: Arc<SqliteStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) events: mpsc::Receiver<FleetEvent>,
}

/// Opens the store in `folder` and a hub over it, which does nothing by itself as time passes.
pub(super) async fn open(folder: &TempDir) -> Opened {
    let store = SqliteStore::open(&folder.path().join("c.db")).await.expect("a store");
    let (store, clock) = (Arc::new(store), Arc::new(ManualClock::at(Timestamp(1_000_000))));
    let (events_in, events) = fleet::channel();
    let stop = CancellationToken::new();
    stop.cancel();
    let hub = Hub::open(store.clone(), clock.clone(), events_in, stop).await.expect("a hub");
    Opened { hub, store, clock, events }
}

/// A host comes in without a stream.
pub(super) fn enter(hub: &Hub, host: HostId, now: Timestamp) -> (Arc<Session>, Queue) {
    let claim =
        Claim { instance: InstanceId::from_uuid(Uuid::nil()), start: "1".into(), address: "10.0.0.1".into() };
    let introduction = Introduction {
        claim,
        accepted: Generation(0),
        snapshot: None,
        agent_time: None,
        certificate_end: Timestamp(0),
    };
    let roster = &hub.shared.roster;
    let addr = ([127, 0, 0, 1], 1).into();
    let (session, queue) = Session::new(roster.next_number(), addr, host.clone(), introduction, now);
    let facts = Facts { labels: Labels::new(), details: Details::default(), inconsistent: false };
    let Name { machines, starts, .. } = roster.name(&host, now);
    let entering = Entering { facts, machines, starts, recorded: Generation(0) };
    (roster.enter(session, entering, now).session, queue)
}
