//! A command to a thousand hosts and all their answers, each step durable in the store before it counts.
//!
//! Prints what it measures; the bounds are those of a machine that is busy with other tests in a debug build.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rfs_coordinator::driver::fleet::{self, Fleet, FleetEvent, SendError, SessionNumber, Sighting};
use rfs_coordinator::driver::{Operations, Settings};
use rfs_coordinator::store::{HostSeen, SqliteStore, Store};
use rfs_model::time::SystemClock;
use rfs_model::{
    ByteCount, Clock, Digest, Generation, Health, HostId, OperationId, RestoreNumber, Selector, SnapshotId,
    Standing, Timestamp,
};
use rfs_rollout::{
    Answer, Captured, CheckpointKind, CheckpointRequest, GatePolicy, HostCommand, Operation, Policy, Reading,
    Report, Restored, RollbackRequest, Selection, Source, Step, Strategy,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

const HOSTS: usize = 1000;

/// Hosts that do at once what they are told.
struct Willing {
    events: mpsc::Sender<FleetEvent>,
    runtime: OnceLock<tokio::runtime::Handle>,
}

impl Fleet for Willing {
    fn unchecked(&self, _: &HostId) -> bool {
        false
    }

    fn send(&self, host: &HostId, command: HostCommand) -> Result<(), SendError> {
        let snapshot = SnapshotId(Digest::from_bytes([1; 32]));
        let answer = match command.step {
            Step::Prepare { .. } => Answer::Prepared,
            Step::Cut { .. } => Answer::Captured(Captured {
                snapshot,
                cut_at: SystemClock.now(),
                bytes: ByteCount(1),
                new_bytes: ByteCount(1),
                entries: 1,
                notes: Vec::new(),
            }),
            Step::Finish | Step::Abandon | Step::Cancel => Answer::Finished,
            Step::Apply { .. } | Step::Revert { .. } => Answer::Restored(Restored {
                standing: Standing::Target,
                backup: Some(snapshot),
                downtime: Duration::from_millis(20),
                phases: Vec::new(),
                steps: 3,
                bytes: ByteCount(10),
                failure: None,
                restore: Some(RestoreNumber(1)),
                findings: None,
            }),
        };
        let HostCommand { operation, generation, ref step, .. } = command;
        let (host, step) = (host.clone(), step.kind());
        let report = Report { host, instance: None, operation, generation, step, answer, newest: generation };
        let events = self.events.clone();
        self.runtime.get().expect("the runtime is known").spawn(async move {
            let (stored, acknowledged) = oneshot::channel();
            events.send(FleetEvent::Report { report, stored }).await.expect("the drivers run");
            acknowledged.await.expect("every answer is stored");
        });
        Ok(())
    }

    fn look(&self, _: &HostId, _: Timestamp) -> Sighting {
        let (health, since) = (Health::Good, Timestamp(0));
        let reading = Reading { health, after: RestoreNumber(1), ..Reading::unknown(since, "") };
        Sighting { session: Some(SessionNumber(1)), reading, ..Sighting::absent(since) }
    }
}

async fn until_over(operations: &Operations, id: OperationId) -> Operation {
    let views = operations.watch(id).await.expect("the store answers").expect("there is one");
    let mut views = std::pin::pin!(views);
    let mut last = None;
    while let Some(view) = views.next().await {
        last = Some(view);
    }
    last.expect("a first view").operation.as_ref().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hosts_are_checkpointed_and_rolled_back_with_every_step_durable() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(SqliteStore::open(&folder.path().join("rfs.db")).await.expect("a store"));
    for n in 0..HOSTS {
        let host: HostId = format!("h-{n}").parse().expect("a valid name");
        let seen = HostSeen {
            host,
            at: Timestamp(1),
            labels: Default::default(),
            generation: Generation(0),
            inconsistent: false,
            details: "{}".into(),
            machines: None,
        };
        store.host_seen(seen).await.expect("a write");
    }
    let (events, heard) = fleet::channel();
    let hosts = Arc::new(Willing { events, runtime: OnceLock::from(tokio::runtime::Handle::current()) });
    let stop = CancellationToken::new();
    let operations =
        Operations::open(store, hosts, Arc::new(SystemClock), heard, stop.clone(), Settings::default())
            .await
            .expect("drivers");

    let started = Instant::now();
    let request = CheckpointRequest {
        kind: CheckpointKind::Automatic,
        selector: Selector::default(),
        quiesce_timeout: None,
        allow_missing: None,
        components: BTreeSet::new(),
        deployment: None,
        labels: Default::default(),
        reason: String::new(),
        requester: "operator/ci".into(),
        timeout: CheckpointRequest::DEFAULT_TIMEOUT,
    };
    let checkpoint = operations.create_checkpoint(request, None).await.expect("a checkpoint");
    let Operation::Checkpoint(done) = until_over(&operations, checkpoint.into()).await else {
        panic!("a checkpoint")
    };
    let took = started.elapsed();
    println!("checkpoint of {HOSTS} hosts, three answers each: {took:?}");
    assert!(done.missing().is_empty(), "{:?}", done.missing());
    assert!(took < Duration::from_secs(15), "{took:?}");

    let started = Instant::now();
    let request = RollbackRequest {
        source: Source::Checkpoint(checkpoint),
        selector: Selector::default(),
        selection: Selection::default(),
        choices: Default::default(),
        strategy: Strategy::Immediate,
        policy: Policy {
            gate: GatePolicy { ignore_health: true, ..GatePolicy::default() },
            ..Policy::default()
        },
        reason: String::new(),
        requester: "operator/ci".into(),
    };
    let rollback = operations.create_rollback(request, None).await.expect("a rollback");
    let Operation::Rollback(done) = until_over(&operations, rollback.into()).await else {
        panic!("a rollback")
    };
    let took = started.elapsed();
    println!("rollback of {HOSTS} hosts, one answer each: {took:?}");
    assert_eq!(done.outcome().map(|outcome| outcome.as_str()), Some("SUCCEEDED"));
    assert!(took < Duration::from_secs(15), "{took:?}");

    stop.cancel();
    operations.ended().await;
}
