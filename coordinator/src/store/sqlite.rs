//! The store in one SQLite file.
//!
//! One connection writes and several read. The file is in WAL mode and each commit is synced, so that what was reported
//! survives a power cut; readers never wait for the writer. A write transaction takes the lock at its begin, so that it
//! cannot fail half way because somebody else was faster.
//!
//! The statements keep to what PostgreSQL reads as well.

mod hosts;
mod operations;
mod row;

use std::path::Path;
use std::time::Duration;

use rfs_model::{CheckpointId, HostId, OperationId, Timestamp};
use rfs_rollout::Event;
use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::contract::{
    Append, AppendError, CreateError, Created, HostRow, HostSeen, ListQuery, NewOperation, OperationRow,
    Page, Position, RequestKey, Store, StoreError, StoredEvent,
};

/// How long a statement waits for another process that holds the file.
const BUSY: Duration = Duration::from_secs(10);

/// How many connections read.
const READERS: u32 = 4;

/// How many values one statement carries at most.
const BATCH: usize = 200;

const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "begin", include_str!("sqlite/0001_begin.sql"))];

/// The store in one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, makes it if it is not there, and brings it to this version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
            path: path.display().to_string(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        let pool =
            |connections| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(BUSY * 3);
        let writer = pool(1).connect_with(options.clone()).await.map_err(|error| failed(error.into()))?;
        migrator().run(&writer).await.map_err(|error| failed(error.into()))?;
        let readers = pool(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(|error| failed(error.into()))?;
        Ok(Self { writer, readers })
    }

    /// Closes the connections once what is at work has ended.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect())
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

    async fn load(&self, operation: OperationId) -> Result<Vec<Event>, StoreError> {
        self.history(operation).await
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

    async fn delete(&self, operation: OperationId, at: Timestamp) -> Result<bool, StoreError> {
        self.mark_deleted(operation, at).await
    }

    async fn host_seen(&self, seen: HostSeen) -> Result<(), StoreError> {
        self.record_hosts(vec![seen]).await
    }

    async fn hosts_seen(&self, seen: Vec<HostSeen>) -> Result<(), StoreError> {
        self.record_hosts(seen).await
    }

    async fn hosts(&self) -> Result<Vec<HostRow>, StoreError> {
        self.all_hosts().await
    }

    async fn host(&self, host: &HostId) -> Result<Option<HostRow>, StoreError> {
        self.one_host(host).await
    }
}

#[cfg(test)]
mod tests;
