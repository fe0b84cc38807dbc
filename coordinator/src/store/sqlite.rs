//! The store in one SQLite file.
//!
//! One connection writes and several read. The file is in WAL mode and each commit is synced, so that what was reported
//! survives a power cut; readers never wait for the writer. A write transaction takes the lock at its begin, so that it
//! cannot fail half way because somebody else was faster. Writers queue for the one connection, in order and not for ever.
//!
//! Commits of several operations are not joined into one: an operation's driver and the register of hosts each store
//! all that they have at hand at once, so that a fleet of any size costs few commits.
//!
//! The statements keep to what PostgreSQL reads as well.

mod file;
mod hosts;
mod operations;
mod row;
mod snapshots;
mod states;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use rfs_model::{CheckpointId, HostId, OperationId, Timestamp};
use rfs_rollout::Event;
use sqlx::Connection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::contract::{
    Anchor, Append, AppendError, CreateError, Created, ForgetError, HeldChanges, HeldSnapshots, HostRow,
    HostSeen, ListQuery, NewOperation, OperationRow, Page, Position, RequestKey, Reserved, Store, StoreError,
    StoredEvent, Tail,
};

/// How long a statement waits for another process that holds the file.
const BUSY: Duration = Duration::from_secs(10);

/// How long to wait before a file that somebody else holds is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// How many connections read.
const READERS: u32 = 4;

/// How many values one statement carries at most.
const BATCH: usize = 200;

/// The store in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it if it is not there, and brings it to this version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let begun = Instant::now();
        loop {
            match connect(path).await {
                // Of several that make a file at once, SQLite sends some away without letting them wait.
                Err(error) if is_locked(&*error) && begun.elapsed() < BUSY => tokio::time::sleep(PAUSE).await,
                opened => {
                    let path = path.display().to_string();
                    return opened.map_err(|source| StoreError::Open { path, source });
                }
            }
        }
    }

    /// Closes the connections once what is at work has ended.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Whether somebody else holds the file.
fn is_locked(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    /// `SQLITE_BUSY`; what it means more closely is in the upper bits.
    const SQLITE_BUSY: i32 = 5;
    let Some(sqlx::Error::Database(error)) = error.downcast_ref() else { return false };
    let code = error.code().and_then(|code| code.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == SQLITE_BUSY)
}

async fn connect(path: &Path) -> Result<SqliteStore, Box<dyn Error + Send + Sync>> {
    file::make(path).await?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY);
    let writer = pool(1).connect_with(options.clone()).await?;
    file::upgrade(&mut *writer.acquire().await?).await?;
    let readers = pool(READERS).connect_with(options.read_only(true)).await?;
    Ok(SqliteStore { writer, readers })
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).acquire_timeout(BUSY * 3).after_release(
        |connection, _| {
            Box::pin(async move {
                // When the disk is full, SQLite rolls back by itself. The rollback that follows then fails, and the
                // connection counts itself in a transaction for ever: it would never begin another one.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        },
    )
}

#[tonic::async_trait]
impl Store for SqliteStore {
    async fn create(&self, new: NewOperation) -> Result<Created, CreateError> {
        self.create_operation(new).await
    }

    async fn begun_before(&self, request: &RequestKey) -> Result<Option<OperationId>, CreateError> {
        self.operation_of(request).await
    }

    async fn append(&self, append: Append) -> Result<Position, AppendError> {
        self.append_events(append).await
    }

    async fn reserve(
        &self,
        operation: OperationId,
        hosts: &BTreeSet<HostId>,
        generations: u64,
    ) -> Result<BTreeMap<HostId, Reserved>, StoreError> {
        self.reserve_again(operation, hosts, generations).await
    }

    async fn release(&self, operation: OperationId, hosts: &BTreeSet<HostId>) -> Result<(), StoreError> {
        self.release_hosts(operation, hosts).await
    }

    async fn release_from_closed(&self) -> Result<(), StoreError> {
        self.release_hosts_of_closed().await
    }

    async fn load(&self, operation: OperationId) -> Result<Vec<Event>, StoreError> {
        self.history(operation).await
    }

    async fn tail(&self, operation: OperationId) -> Result<Tail, StoreError> {
        self.tail_of_history(operation).await
    }

    async fn events(
        &self,
        operation: OperationId,
        from: Position,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.part_of_history(operation, from, limit).await
    }

    async fn open_operations(&self) -> Result<Vec<OperationId>, StoreError> {
        self.open_ids().await
    }

    async fn knows(&self, operation: OperationId) -> Result<bool, StoreError> {
        self.is_known(operation).await
    }

    async fn operation(&self, operation: OperationId) -> Result<Option<OperationRow>, StoreError> {
        self.row_of(operation).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page<OperationRow>, StoreError> {
        self.page(query).await
    }

    async fn newest_complete_checkpoint(&self) -> Result<Option<CheckpointId>, StoreError> {
        self.newest_complete().await
    }

    async fn rollback_to(&self, checkpoint: CheckpointId) -> Result<Option<OperationId>, StoreError> {
        self.unfinished_rollback_to(checkpoint).await
    }

    async fn last_proven_checkpoint(&self) -> Result<Option<CheckpointId>, StoreError> {
        self.last_proven().await
    }

    async fn needed_checkpoints(&self) -> Result<BTreeSet<CheckpointId>, StoreError> {
        self.needed().await
    }

    async fn deleted_checkpoints(&self, limit: u32) -> Result<Vec<CheckpointId>, StoreError> {
        self.deleted(limit).await
    }

    async fn delete(&self, operation: OperationId, at: Timestamp) -> Result<bool, StoreError> {
        self.mark_deleted(operation, at).await
    }

    async fn host_holds(&self, held: HeldSnapshots) -> Result<HeldChanges, StoreError> {
        self.compare_held(held).await
    }

    async fn dropped_snapshots(
        &self,
        checkpoint: CheckpointId,
    ) -> Result<BTreeMap<HostId, Timestamp>, StoreError> {
        self.dropped(checkpoint).await
    }

    async fn host_seen(&self, seen: HostSeen) -> Result<Option<OperationId>, StoreError> {
        Ok(self.record_hosts(vec![seen]).await?.pop().flatten())
    }

    async fn hosts_seen(&self, seen: Vec<HostSeen>) -> Result<Vec<Option<OperationId>>, StoreError> {
        self.record_hosts(seen).await
    }

    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.all_hosts().await
    }

    async fn hosts_heard(&self, hosts: &[HostId], at: Timestamp) -> Result<(), StoreError> {
        self.note_heard(hosts, at).await
    }

    async fn forgotten_hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.all_forgotten().await
    }

    async fn forget_host(&self, host: &HostId, at: Timestamp) -> Result<(), ForgetError> {
        self.forget(host, at).await
    }

    async fn hosts_of(&self, hosts: &[HostId]) -> Result<Vec<HostRow>, StoreError> {
        self.some_hosts(hosts).await
    }

    async fn host(&self, host: &HostId) -> Result<Option<HostRow>, StoreError> {
        self.one_host(host).await
    }

    async fn timeline(&self) -> Result<Option<Anchor>, StoreError> {
        self.anchor().await
    }

    async fn anchor_timeline(&self, anchor: Anchor) -> Result<(), StoreError> {
        self.set_anchor(anchor).await
    }

    async fn newest_open_time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.newest_time_of_open().await
    }
}

#[cfg(test)]
mod tests;
