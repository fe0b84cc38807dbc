//! What complete checkpoints rest on, and what of it hosts do not hold any more.

use std::collections::BTreeMap;

use rfs_model::{CheckpointId, HostId, OperationId, SnapshotId, Timestamp};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, QueryBuilder, Row, Sqlite};

use super::row::parsed;
use super::{BATCH, SqliteStore};
use crate::store::contract::{HeldChanges, HeldSnapshots, StoreError};

impl SqliteStore {
    pub(super) async fn compare_held(&self, held: HeldSnapshots) -> Result<HeldChanges, StoreError> {
        // Mostly nothing has changed; then a read is enough, and nobody waits for the one connection that writes.
        let mut reader = self.readers.acquire().await?;
        let changes = differences(&mut reader, &held).await?;
        if changes.is_none() {
            return Ok(changes);
        }
        drop(reader);
        let mut writer = self.writer.acquire().await?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let changes = differences(&mut transaction, &held).await?;
        for checkpoint in &changes.dropped {
            note(&mut transaction, *checkpoint, &held.host, Some(held.at)).await?;
        }
        for checkpoint in &changes.back {
            note(&mut transaction, *checkpoint, &held.host, None).await?;
        }
        transaction.commit().await?;
        Ok(changes)
    }

    pub(super) async fn dropped(
        &self,
        checkpoint: CheckpointId,
    ) -> Result<BTreeMap<HostId, Timestamp>, StoreError> {
        let rows = sqlx::query(
            "SELECT host, dropped_at FROM checkpoint_snapshot WHERE checkpoint = $1 AND dropped_at IS NOT NULL",
        )
        .bind(checkpoint.to_string())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((parsed(row, "host")?, Timestamp(row.try_get("dropped_at")?)))).collect()
    }
}

/// What is different from what is noted.
async fn differences(
    connection: &mut SqliteConnection,
    held: &HeldSnapshots,
) -> Result<HeldChanges, StoreError> {
    let rows =
        sqlx::query("SELECT checkpoint, snapshot, dropped_at FROM checkpoint_snapshot WHERE host = $1")
            .bind(held.host.as_str())
            .fetch_all(connection)
            .await?;
    let mut changes = HeldChanges::default();
    for row in &rows {
        let snapshot: SnapshotId = parsed(row, "snapshot")?;
        let was_dropped = row.try_get::<Option<i64>, _>("dropped_at")?.is_some();
        match (held.snapshots.contains(&snapshot), was_dropped) {
            (true, true) => drop(changes.back.insert(parsed(row, "checkpoint")?)),
            (false, false) if held.whole => {
                changes.dropped.insert(parsed(row, "checkpoint")?);
                changes.lacks = true;
            }
            (false, true) => changes.lacks = true,
            (true, false) | (false, false) => {}
        }
    }
    Ok(changes)
}

async fn note(
    transaction: &mut SqliteConnection,
    checkpoint: CheckpointId,
    host: &HostId,
    dropped_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE checkpoint_snapshot SET dropped_at = $3 WHERE checkpoint = $1 AND host = $2")
        .bind(checkpoint.to_string())
        .bind(host.as_str())
        .bind(dropped_at.map(|at| at.0))
        .execute(&mut *transaction)
        .await?;
    sqlx::query("UPDATE operation SET lost = lost + $2 WHERE id = $1")
        .bind(checkpoint.to_string())
        .bind(if dropped_at.is_some() { 1_i64 } else { -1 })
        .execute(transaction)
        .await?;
    Ok(())
}

/// What a host that is forgotten has dropped is missed by no checkpoint any more: each is one of the other hosts. Should the host
/// come back, what it holds then is compared anew.
pub(super) async fn miss_no_more(
    transaction: &mut SqliteConnection,
    host: &HostId,
) -> Result<(), StoreError> {
    let rows =
        sqlx::query("SELECT checkpoint FROM checkpoint_snapshot WHERE host = $1 AND dropped_at IS NOT NULL")
            .bind(host.as_str())
            .fetch_all(&mut *transaction)
            .await?;
    for row in &rows {
        note(transaction, parsed(row, "checkpoint")?, host, None).await?;
    }
    Ok(())
}

/// Keeps what a checkpoint rests on that has just become complete.
pub(super) async fn rest_on(
    transaction: &mut SqliteConnection,
    checkpoint: OperationId,
    snapshots: &BTreeMap<HostId, SnapshotId>,
) -> Result<(), StoreError> {
    let id = checkpoint.to_string();
    let snapshots: Vec<_> = snapshots.iter().collect();
    for batch in snapshots.chunks(BATCH) {
        let mut sql =
            QueryBuilder::<Sqlite>::new("INSERT INTO checkpoint_snapshot (checkpoint, host, snapshot) ");
        sql.push_values(batch, |mut row, (host, snapshot)| {
            row.push_bind(&id).push_bind(host.as_str()).push_bind(snapshot.to_string());
        });
        sql.build().execute(&mut *transaction).await?;
    }
    Ok(())
}

/// A deleted checkpoint rests on nothing.
pub(super) async fn forget(
    transaction: &mut SqliteConnection,
    checkpoint: OperationId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM checkpoint_snapshot WHERE checkpoint = $1")
        .bind(checkpoint.to_string())
        .execute(transaction)
        .await?;
    Ok(())
}
