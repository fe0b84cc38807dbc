//! The contract of a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{
    CheckpointId, DeploymentId, Generation, HostId, Labels, OperationId, RequestId, SnapshotId, Timestamp,
};
use rfs_rollout::Event;
use serde::{Deserialize, Serialize};

use super::machines::Machines;

/// The coordinator's store.
#[tonic::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Begins an operation: takes its hosts, reserves their generations, stores its first events, and what it writes into
    /// another history, all or nothing.
    ///
    /// The same request key again returns the first operation.
    async fn create(&self, new: NewOperation) -> Result<Created, CreateError>;

    /// The operation that the same request has begun before, if it has. A creation asks by itself; whoever has more to do
    /// before it, such as to plan, asks first.
    async fn begun_before(&self, request: &RequestKey) -> Result<Option<OperationId>, CreateError>;

    /// Appends events at the position that they expect, with the changes of ownership that they bring.
    async fn append(&self, append: Append) -> Result<Position, AppendError>;

    /// Reserves that many new generations on each host for another attempt of an operation, and takes the hosts for it. Only
    /// where no other operation owns the host, and none has meant to change it since. Whoever is given a host and does not go
    /// on with it releases it.
    async fn reserve(
        &self,
        operation: OperationId,
        hosts: &BTreeSet<HostId>,
        generations: u64,
    ) -> Result<BTreeMap<HostId, Reserved>, StoreError>;

    /// Gives hosts free that the operation owns.
    async fn release(&self, operation: OperationId, hosts: &BTreeSet<HostId>) -> Result<(), StoreError>;

    /// Gives every host free whose owner has nothing left to do: what a coordinator that died had just reserved.
    async fn release_from_closed(&self) -> Result<(), StoreError>;

    /// The whole history of an operation; empty if there is none of that id.
    async fn load(&self, operation: OperationId) -> Result<Vec<Event>, StoreError>;

    /// The state of an operation that was kept last, and its history from there on; the whole history if none was kept. One
    /// that was damaged, or that the last event before it did not lead to, counts as none.
    async fn tail(&self, operation: OperationId) -> Result<Tail, StoreError>;

    /// A part of an operation's history, as it is stored, from `from` on.
    async fn events(
        &self,
        operation: OperationId,
        from: Position,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// The operations that have something left to do, in the order in which they were begun.
    async fn open_operations(&self) -> Result<Vec<OperationId>, StoreError>;

    /// Whether there is an operation of that id, deleted or not. Reads nothing of its history, however long that is.
    async fn knows(&self, operation: OperationId) -> Result<bool, StoreError>;

    /// One operation's row.
    async fn operation(&self, operation: OperationId) -> Result<Option<OperationRow>, StoreError>;

    /// Operations of a kind, the one that was begun last first, whatever its id and its time are.
    async fn list(&self, query: ListQuery) -> Result<Page<OperationRow>, StoreError>;

    /// Of the checkpoints that are complete, with every snapshot still on its host, and not deleted: the one begun last.
    async fn newest_complete_checkpoint(&self) -> Result<Option<CheckpointId>, StoreError>;

    /// A rollback without an outcome whose target is the checkpoint.
    async fn rollback_to(&self, checkpoint: CheckpointId) -> Result<Option<OperationId>, StoreError>;

    /// The checkpoint that a rollback proved good last, of those that are not deleted.
    async fn last_proven_checkpoint(&self) -> Result<Option<CheckpointId>, StoreError>;

    /// The checkpoints that hosts must keep: the newest that was complete, the newest that still is, the last one that was
    /// proved good, and the targets of rollbacks that are not over.
    async fn needed_checkpoints(&self) -> Result<BTreeSet<CheckpointId>, StoreError>;

    /// The checkpoints that were deleted last, the last one first.
    async fn deleted_checkpoints(&self, limit: u32) -> Result<Vec<CheckpointId>, StoreError>;

    /// Takes an operation out of the lists; its history stays. Says whether there was one that was not deleted before.
    async fn delete(&self, operation: OperationId, at: Timestamp) -> Result<bool, StoreError>;

    /// Compares what a host holds with what complete checkpoints rest on, and notes what is different from before. A
    /// checkpoint that has lost a snapshot is no target until the host holds it again.
    async fn host_holds(&self, held: HeldSnapshots) -> Result<HeldChanges, StoreError>;

    /// The hosts of a checkpoint that do not hold its snapshot any more, each with since when.
    async fn dropped_snapshots(
        &self,
        checkpoint: CheckpointId,
    ) -> Result<BTreeMap<HostId, Timestamp>, StoreError>;

    /// Records that a host was seen, with what it says of itself, and gives the operation that owns it. Its generations
    /// never fall below what it has accepted. One that claims a generation without room above is recorded, too, but no
    /// operation can take it.
    async fn host_seen(&self, seen: HostSeen) -> Result<Option<OperationId>, StoreError>;

    /// The same for many hosts: cheaper than one by one, for a fleet that comes back all at once. In order; the last word
    /// about a host counts.
    async fn hosts_seen(&self, seen: Vec<HostSeen>) -> Result<Vec<Option<OperationId>>, StoreError> {
        let mut owners = Vec::with_capacity(seen.len());
        for seen in seen {
            owners.push(self.host_seen(seen).await?);
        }
        Ok(owners)
    }

    /// Records that hosts that are connected were heard.
    async fn hosts_heard(&self, hosts: &[HostId], at: Timestamp) -> Result<(), StoreError>;

    /// Every host that was ever seen and is not forgotten, by name.
    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError>;

    /// The hosts that are forgotten, by name.
    async fn forgotten_hosts(&self) -> Result<Vec<HostRow>, StoreError>;

    /// Forgets a host that no operation owns: no operation can take it, and what it held of checkpoints is missed no more. It
    /// is one of the fleet again once it is seen with machines that are not forgotten.
    async fn forget_host(&self, host: &HostId, at: Timestamp) -> Result<(), ForgetError>;

    /// Those of these hosts that were ever seen, be they forgotten or not.
    async fn hosts_of(&self, hosts: &[HostId]) -> Result<Vec<HostRow>, StoreError>;

    /// One host, be it forgotten or not.
    async fn host(&self, host: &HostId) -> Result<Option<HostRow>, StoreError>;

    /// Where the coordinator's time was anchored last.
    async fn timeline(&self) -> Result<Option<Anchor>, StoreError>;

    /// Anchors the coordinator's time; there is one anchor.
    async fn anchor_timeline(&self, anchor: Anchor) -> Result<(), StoreError>;

    /// The newest time in the histories of the operations that have something left to do.
    async fn newest_open_time(&self) -> Result<Option<Timestamp>, StoreError>;
}

/// A place in an operation's history, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

/// Which kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// A checkpoint.
    Checkpoint,
    /// A rollback.
    Rollback,
}

impl OperationKind {
    /// The kind as it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Rollback => "rollback",
        }
    }
}

/// Makes the first events once the generations are known: the first reserved generation of each host.
pub type Begin = Box<dyn FnOnce(&BTreeMap<HostId, Generation>) -> Vec<Event> + Send>;

/// An operation to begin.
pub struct NewOperation {
    /// Its row as it will stand after the first events.
    pub row: OperationRow,
    /// The caller's own id of the request, if it gave one.
    pub request: Option<RequestKey>,
    /// The hosts that it must own.
    pub hosts: BTreeSet<HostId>,
    /// How many generations it needs on each.
    pub generations: u64,
    /// Its first events.
    pub begin: Begin,
    /// What it means to an operation that came before.
    pub aside: Option<Aside>,
}

/// What came of reserving generations on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The host is the operation's, and this is the first of the generations.
    First(Generation),
    /// Another operation, which does not change it, owns it for now.
    Busy(OperationId),
    /// Another operation has meant to change it since, or it was forgotten.
    Superseded,
}

/// What the beginning of an operation writes into the history of another one.
#[derive(Debug, Clone)]
pub struct Aside {
    /// Into which.
    pub operation: OperationId,
    /// Where: the number of events that the caller knows.
    pub expected: Position,
    /// What it means there.
    pub events: Vec<Event>,
    /// The other operation's row after them.
    pub row: OperationRow,
    /// Hosts that the other operation takes again, as for [`Append::claim`].
    pub claim: BTreeMap<HostId, Generation>,
    /// Hosts that it owns no more.
    pub release: BTreeSet<HostId>,
}

/// A caller's id of a request, and the request itself: the same id for another request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// The caller's id.
    pub id: RequestId,
    /// The request as text that is equal when the request is.
    pub request: String,
}

/// What came of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was begun with these events.
    New(Vec<Event>),
    /// The same request had begun this one before.
    Before(OperationId),
}

/// Events to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// To which operation.
    pub operation: OperationId,
    /// Where: the number of events that the caller knows.
    pub expected: Position,
    /// What happened.
    pub events: Vec<Event>,
    /// The operation's row after them, if it is another than before.
    pub row: Option<OperationRow>,
    /// Hosts that the operation takes again, each with the first generation that it holds there. Fails if another operation
    /// owns the host or has meant to change it since.
    pub claim: BTreeMap<HostId, Generation>,
    /// Hosts that it owns no more.
    pub release: BTreeSet<HostId>,
    /// What a checkpoint rests on that these events complete: the snapshot of each of its hosts. Empty for everything else.
    pub rests_on: BTreeMap<HostId, SnapshotId>,
    /// The operation's state after them, to be kept in place of the one before: text that the driver writes and reads.
    pub state: Option<Arc<str>>,
}

/// Where an operation stands, in as few events as can be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tail {
    /// The state that was kept last.
    pub state: Option<String>,
    /// How many events have led to it.
    pub known: Position,
    /// The events from there on.
    pub events: Vec<Event>,
}

/// An operation as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// Its id.
    pub id: OperationId,
    /// Its kind.
    pub kind: OperationKind,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether it has something left to do.
    pub open: bool,
    /// Whether it has an outcome.
    pub finished: bool,
    /// A checkpoint's: whether it is a target. Read from the store, a complete one whose host has dropped its snapshot is not.
    pub complete: bool,
    /// A checkpoint's: the deployment that followed.
    pub deployment: Option<DeploymentId>,
    /// A rollback's: the checkpoint that is its target.
    pub target: Option<CheckpointId>,
    /// A rollback's: whether it proves its target good.
    pub proves: bool,
    /// What a list shows of it: JSON that the driver writes and reads.
    pub head: String,
}

/// One event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place.
    pub position: Position,
    /// As stored: JSON.
    pub json: String,
    /// What it says.
    pub event: Event,
}

/// Which operations to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Of this kind.
    pub kind: OperationKind,
    /// Only those of this deployment.
    pub deployment: Option<DeploymentId>,
    /// At most this many.
    pub limit: u32,
    /// After the last one of the page before.
    pub after: Option<PageToken>,
}

/// Where a list goes on: after this operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageToken(pub OperationId);

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; none if there is no more.
    pub next: Option<PageToken>,
}

/// A host that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSeen {
    /// Its name.
    pub host: HostId,
    /// When.
    pub at: Timestamp,
    /// The labels from its configuration.
    pub labels: Labels,
    /// The highest generation that it has accepted.
    pub generation: Generation,
    /// It says that it is at neither state.
    pub inconsistent: bool,
    /// What else it says of itself: JSON that the server writes and reads.
    pub details: String,
    /// Which machines have spoken for its name; none leaves what is stored as it is.
    pub machines: Option<Machines>,
}

/// Which snapshots a host holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldSnapshots {
    /// The host.
    pub host: HostId,
    /// When it said so.
    pub at: Timestamp,
    /// The snapshots that can be restored.
    pub snapshots: BTreeSet<SnapshotId>,
    /// Whether these are all. If not, one that is not named may be there all the same.
    pub whole: bool,
}

/// What is different in what a host holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeldChanges {
    /// Checkpoints whose snapshot the host holds no more.
    pub dropped: BTreeSet<CheckpointId>,
    /// Checkpoints whose snapshot it holds again.
    pub back: BTreeSet<CheckpointId>,
    /// Whether it lacks the snapshot of any complete checkpoint now.
    pub lacks: bool,
}

impl HeldChanges {
    /// Whether all is as it was.
    pub fn is_none(&self) -> bool {
        self.dropped.is_empty() && self.back.is_empty()
    }
}

/// A host as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRow {
    /// Its name.
    pub host: HostId,
    /// When it was last seen to connect, or was written down as heard.
    pub last_seen: Timestamp,
    /// The labels from its configuration.
    pub labels: Labels,
    /// The highest generation that was given to an operation, or that it has accepted.
    pub generation: Generation,
    /// It said that it is at neither state.
    pub inconsistent: bool,
    /// The operation that owns it.
    pub owner: Option<OperationId>,
    /// What else it says of itself.
    pub details: String,
    /// Which machines have spoken for its name.
    pub machines: Machines,
}

/// Where the coordinator's time was at a moment of the machine's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The id of the boot: uptimes of another boot say nothing.
    pub boot: String,
    /// How long the machine was up then.
    pub uptime: Duration,
    /// What the coordinator's clock showed then.
    pub time: Timestamp,
}

/// Why an operation could not begin. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Another operation owns a host.
    #[error("host {host} is owned by operation {owner}")]
    HostBusy {
        /// The host.
        host: HostId,
        /// The owner.
        owner: OperationId,
    },
    /// A host was forgotten meanwhile.
    #[error("host {host} was forgotten")]
    HostForgotten {
        /// The host.
        host: HostId,
    },
    /// The request id was used for another request.
    #[error("request id {id} was used before, for another request")]
    RequestIdReused {
        /// The id.
        id: RequestId,
    },
    /// The other operation into whose history it writes has moved on: load that again.
    #[error("operation {operation} has moved on")]
    MovedOn {
        /// The other operation.
        operation: OperationId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a host was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// An operation owns it.
    #[error("host is owned by operation {owner}")]
    HostBusy {
        /// The owner.
        owner: OperationId,
    },
    /// It was never seen.
    #[error("no such host was ever seen")]
    NoHost,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why events were not appended. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended: load again.
    #[error("operation {operation} is at position {at}, not {expected}", at = .at.0, expected = .expected.0)]
    Conflict {
        /// The operation.
        operation: OperationId,
        /// Where it is.
        at: Position,
        /// Where the caller believed it to be.
        expected: Position,
    },
    /// Another operation owns a host that was to be taken again, or has meant to change it since.
    #[error("host {host} has been owned by another operation")]
    NotOwner {
        /// The host.
        host: HostId,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store could not be opened or brought to this version.
    #[error("the store {path} cannot be opened")]
    Open {
        /// Its file.
        path: String,
        /// What the file system or SQLite said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A statement failed; it may work later.
    #[error("the store does not answer as it should")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored cannot be read by this version.
    #[error("{what} cannot be read")]
    Damaged {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
