//! A store that fails, loses its answer or stands still when it is told to, and writes down what it stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rfs_model::{CheckpointId, HostId, OperationId, Timestamp};
use rfs_rollout::Event;
use tokio_util::sync::CancellationToken;

use super::Diary;
use crate::store::{
    Anchor, Append, AppendError, CreateError, Created, ForgetError, HeldChanges, HeldSnapshots, HostRow,
    HostSeen, ListQuery, NewOperation, OperationRow, Page, Position, RequestKey, Reserved, Store, StoreError,
    StoredEvent, Tail,
};

/// What becomes of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, and nothing is stored.
    Fails,
    /// It is stored, but the answer says that it failed.
    AnswerLost,
    /// The coordinator dies before anything is stored.
    DiesBefore,
    /// The coordinator dies right after it is stored.
    DiesAfter,
}

pub(super) struct Faulty {
    inner: Arc<dyn Store>,
    diary: Diary,
    /// What becomes of the next appends; after them, and where there is none, all is well.
    faults: Mutex<VecDeque<Option<Fault>>>,
    dead: CancellationToken,
    appends: AtomicUsize,
    /// How many events were read.
    events_read: AtomicUsize,
}

impl Faulty {
    pub(super) fn new(inner: Arc<dyn Store>, diary: Diary) -> Self {
        Self {
            inner,
            diary,
            faults: Mutex::default(),
            dead: CancellationToken::new(),
            appends: AtomicUsize::new(0),
            events_read: AtomicUsize::new(0),
        }
    }

    /// The append after `well` more gets this fault.
    pub(super) fn after(&self, well: usize, fault: Fault) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.extend(std::iter::repeat_n(None, well));
        faults.push_back(Some(fault));
    }

    /// Whether a fault has yet to happen.
    pub(super) fn armed(&self) -> bool {
        !self.faults.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// How many appends there were.
    pub(super) fn appends(&self) -> usize {
        self.appends.load(Ordering::SeqCst)
    }

    /// How many events were read.
    pub(super) fn events_read(&self) -> usize {
        self.events_read.load(Ordering::SeqCst)
    }

    /// Waits until the coordinator has died.
    pub(super) async fn dead(&self) {
        self.dead.cancelled().await;
    }

    async fn die<T>(&self) -> T {
        self.dead.cancel();
        std::future::pending().await
    }

    fn next(&self) -> Option<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }
}

fn failed() -> StoreError {
    StoreError::Database("database or disk is full".into())
}

#[tonic::async_trait]
impl Store for Faulty {
    async fn create(&self, new: NewOperation) -> Result<Created, CreateError> {
        self.inner.create(new).await
    }

    async fn begun_before(&self, request: &RequestKey) -> Result<Option<OperationId>, CreateError> {
        self.inner.begun_before(request).await
    }

    async fn append(&self, append: Append) -> Result<Position, AppendError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        let fault = self.next();
        match fault {
            Some(Fault::Fails) => return Err(failed().into()),
            Some(Fault::DiesBefore) => return self.die().await,
            Some(Fault::AnswerLost | Fault::DiesAfter) | None => {}
        }
        let events = append.events.clone();
        let position = self.inner.append(append).await?;
        for event in events {
            self.diary.write(format!("stored {event}"));
        }
        match fault {
            Some(Fault::AnswerLost) => Err(failed().into()),
            Some(Fault::DiesAfter) => self.die().await,
            Some(Fault::Fails | Fault::DiesBefore) | None => Ok(position),
        }
    }

    async fn reserve(
        &self,
        operation: OperationId,
        hosts: &BTreeSet<HostId>,
        generations: u64,
    ) -> Result<BTreeMap<HostId, Reserved>, StoreError> {
        self.inner.reserve(operation, hosts, generations).await
    }

    async fn release(&self, operation: OperationId, hosts: &BTreeSet<HostId>) -> Result<(), StoreError> {
        self.inner.release(operation, hosts).await
    }

    async fn release_from_closed(&self) -> Result<(), StoreError> {
        self.inner.release_from_closed().await
    }

    async fn load(&self, operation: OperationId) -> Result<Vec<Event>, StoreError> {
        let history = self.inner.load(operation).await?;
        self.events_read.fetch_add(history.len(), Ordering::SeqCst);
        Ok(history)
    }

    async fn tail(&self, operation: OperationId) -> Result<Tail, StoreError> {
        let tail = self.inner.tail(operation).await?;
        self.events_read.fetch_add(tail.events.len(), Ordering::SeqCst);
        Ok(tail)
    }

    async fn events(
        &self,
        operation: OperationId,
        from: Position,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let part = self.inner.events(operation, from, limit).await?;
        self.events_read.fetch_add(part.len(), Ordering::SeqCst);
        Ok(part)
    }

    async fn open_operations(&self) -> Result<Vec<OperationId>, StoreError> {
        self.inner.open_operations().await
    }

    async fn knows(&self, operation: OperationId) -> Result<bool, StoreError> {
        self.inner.knows(operation).await
    }

    async fn operation(&self, operation: OperationId) -> Result<Option<OperationRow>, StoreError> {
        self.inner.operation(operation).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page<OperationRow>, StoreError> {
        self.inner.list(query).await
    }

    async fn newest_complete_checkpoint(&self) -> Result<Option<CheckpointId>, StoreError> {
        self.inner.newest_complete_checkpoint().await
    }

    async fn rollback_to(&self, checkpoint: CheckpointId) -> Result<Option<OperationId>, StoreError> {
        self.inner.rollback_to(checkpoint).await
    }

    async fn last_proven_checkpoint(&self) -> Result<Option<CheckpointId>, StoreError> {
        self.inner.last_proven_checkpoint().await
    }

    async fn needed_checkpoints(&self) -> Result<BTreeSet<CheckpointId>, StoreError> {
        self.inner.needed_checkpoints().await
    }

    async fn deleted_checkpoints(&self, limit: u32) -> Result<Vec<CheckpointId>, StoreError> {
        self.inner.deleted_checkpoints(limit).await
    }

    async fn delete(&self, operation: OperationId, at: Timestamp) -> Result<bool, StoreError> {
        self.inner.delete(operation, at).await
    }

    async fn host_holds(&self, held: HeldSnapshots) -> Result<HeldChanges, StoreError> {
        self.inner.host_holds(held).await
    }

    async fn dropped_snapshots(
        &self,
        checkpoint: CheckpointId,
    ) -> Result<BTreeMap<HostId, Timestamp>, StoreError> {
        self.inner.dropped_snapshots(checkpoint).await
    }

    async fn host_seen(&self, seen: HostSeen) -> Result<Option<OperationId>, StoreError> {
        self.inner.host_seen(seen).await
    }

    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.inner.hosts().await
    }

    async fn hosts_heard(&self, hosts: &[HostId], at: Timestamp) -> Result<(), StoreError> {
        self.inner.hosts_heard(hosts, at).await
    }

    async fn forgotten_hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.inner.forgotten_hosts().await
    }

    async fn forget_host(&self, host: &HostId, at: Timestamp) -> Result<(), ForgetError> {
        self.inner.forget_host(host, at).await
    }

    async fn hosts_of(&self, hosts: &[HostId]) -> Result<Vec<HostRow>, StoreError> {
        self.inner.hosts_of(hosts).await
    }

    async fn host(&self, host: &HostId) -> Result<Option<HostRow>, StoreError> {
        self.inner.host(host).await
    }

    async fn timeline(&self) -> Result<Option<Anchor>, StoreError> {
        self.inner.timeline().await
    }

    async fn anchor_timeline(&self, anchor: Anchor) -> Result<(), StoreError> {
        self.inner.anchor_timeline(anchor).await
    }

    async fn newest_open_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.newest_open_time().await
    }
}
