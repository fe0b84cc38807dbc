//! Operations: their histories, and what lists show of them.

use std::collections::BTreeSet;

use rfs_model::{CheckpointId, OperationId, Timestamp};
use rfs_rollout::Event;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, QueryBuilder, Row, Sqlite};

use super::row::{body, column, damaged, event, number, optional, parsed, truth};
use super::{BATCH, SqliteStore, hosts, snapshots, states};
use crate::store::contract::{
    Append, AppendError, Aside, CreateError, Created, ListQuery, NewOperation, OperationKind, OperationRow,
    Page, PageToken, Position, RequestKey, StoreError, StoredEvent,
};

const ROWS: &str = "SELECT id, kind, created_at, is_open, finished, \
                    CASE WHEN lost = 0 THEN complete ELSE 0 END AS complete, deployment, target, proves, head FROM operation";

/// A part of a history.
pub(super) const PART: &str =
    "SELECT position, body FROM event WHERE operation = $1 AND position >= $2 ORDER BY position LIMIT $3";

impl SqliteStore {
    pub(super) async fn create_operation(&self, new: NewOperation) -> Result<Created, CreateError> {
        let id = new.row.id;
        let mut writer = self.writer.acquire().await.map_err(StoreError::from)?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::from)?;
        if let Some(request) = &new.request
            && let Some(before) = begun_before(&mut transaction, request).await?
        {
            return Ok(Created::Before(before));
        }
        // First, for it may give hosts free.
        if let Some(aside) = new.aside {
            insert_aside(&mut transaction, aside).await?;
        }
        let generations = {
            let changes = new.row.kind == OperationKind::Rollback;
            hosts::take(&mut transaction, id, &new.hosts, new.generations, changes).await?
        };
        let events = (new.begin)(&generations);
        insert_row(&mut transaction, &new.row, events.len()).await?;
        insert_events(&mut transaction, id, Position(0), &events).await?;
        if let Some(request) = new.request {
            sqlx::query("INSERT INTO request (id, body, operation) VALUES ($1, $2, $3)")
                .bind(request.id.as_str())
                .bind(request.request)
                .bind(id.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::from)?;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Created::New(events))
    }

    pub(super) async fn operation_of(
        &self,
        request: &RequestKey,
    ) -> Result<Option<OperationId>, CreateError> {
        let mut reader = self.readers.acquire().await.map_err(StoreError::from)?;
        begun_before(&mut reader, request).await
    }

    pub(super) async fn append_events(&self, append: Append) -> Result<Position, AppendError> {
        let operation = append.operation;
        let next = Position(append.expected.0 + append.events.len() as u64);
        let mut writer = self.writer.acquire().await.map_err(StoreError::from)?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::from)?;
        if !move_on(&mut transaction, operation, append.expected, next).await? {
            let at = position(&mut transaction, operation).await?;
            return Err(AppendError::Conflict { operation, at, expected: append.expected });
        }
        hosts::take_again(&mut transaction, operation, &append.claim).await?;
        hosts::release(&mut transaction, operation, &append.release).await?;
        insert_events(&mut transaction, operation, append.expected, &append.events).await?;
        if let Some(row) = &append.row {
            update_row(&mut transaction, row).await?;
        }
        snapshots::rest_on(&mut transaction, operation, &append.rests_on).await?;
        if let Some(state) = &append.state {
            states::keep(&mut transaction, operation, next, state).await?;
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(next)
    }

    pub(super) async fn history(&self, operation: OperationId) -> Result<Vec<Event>, StoreError> {
        let id = operation.to_string();
        let rows = sqlx::query("SELECT position, body FROM event WHERE operation = $1 ORDER BY position")
            .bind(&id)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| event(&id, number(row, "position")?, row.try_get("body")?)).collect()
    }

    pub(super) async fn part_of_history(
        &self,
        operation: OperationId,
        from: Position,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let id = operation.to_string();
        let rows = sqlx::query(PART)
            .bind(&id)
            .bind(column(from.0)?)
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?;
        let stored = |row: &SqliteRow| {
            let (position, json) = (number(row, "position")?, row.try_get::<String, _>("body")?);
            let event = event(&id, position, &json)?;
            Ok(StoredEvent { position: Position(position), json, event })
        };
        rows.iter().map(stored).collect()
    }

    pub(super) async fn open_ids(&self) -> Result<Vec<OperationId>, StoreError> {
        let rows = sqlx::query("SELECT id FROM operation WHERE is_open = 1 ORDER BY sequence")
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| parsed(row, "id")).collect()
    }

    pub(super) async fn is_known(&self, operation: OperationId) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM operation WHERE id = $1")
            .bind(operation.to_string())
            .fetch_optional(&self.readers)
            .await?;
        Ok(found.is_some())
    }

    pub(super) async fn row_of(&self, operation: OperationId) -> Result<Option<OperationRow>, StoreError> {
        let query = sqlx::AssertSqlSafe(format!("{ROWS} WHERE id = $1 AND deleted_at IS NULL"));
        let row = sqlx::query(query).bind(operation.to_string()).fetch_optional(&self.readers).await?;
        row.as_ref().map(operation_row).transpose()
    }

    pub(super) async fn page(&self, query: ListQuery) -> Result<Page<OperationRow>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new(ROWS);
        sql.push(" WHERE deleted_at IS NULL AND kind = ").push_bind(query.kind.as_str());
        if let Some(deployment) = &query.deployment {
            sql.push(" AND deployment = ").push_bind(deployment.as_str());
        }
        if let Some(PageToken(after)) = query.after {
            // A deleted one has kept its place, so that a page goes on after it.
            sql.push(" AND sequence < (SELECT sequence FROM operation WHERE id = ")
                .push_bind(after.to_string())
                .push(")");
        }
        // One more than asked for tells whether there is a next page.
        sql.push(" ORDER BY sequence DESC LIMIT ").push_bind(i64::from(query.limit) + 1);
        let rows = sql.build().fetch_all(&self.readers).await?;
        let mut items = rows.iter().map(operation_row).collect::<Result<Vec<_>, _>>()?;
        let more = items.len() > query.limit as usize;
        items.truncate(query.limit as usize);
        let next = items.last().filter(|_| more).map(|row| PageToken(row.id));
        Ok(Page { items, next })
    }

    pub(super) async fn newest_complete(&self) -> Result<Option<CheckpointId>, StoreError> {
        self.newest(" AND lost = 0").await
    }

    /// The newest complete checkpoint for which `also` holds.
    async fn newest(&self, also: &str) -> Result<Option<CheckpointId>, StoreError> {
        let mut sql = QueryBuilder::<Sqlite>::new(
            "SELECT id FROM operation WHERE kind = 'checkpoint' AND complete = 1 AND deleted_at IS NULL",
        );
        let row = sql
            .push(also)
            .push(" ORDER BY sequence DESC LIMIT 1")
            .build()
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| parsed(&row, "id")).transpose()
    }

    pub(super) async fn unfinished_rollback_to(
        &self,
        checkpoint: CheckpointId,
    ) -> Result<Option<OperationId>, StoreError> {
        let row = sqlx::query(
            "SELECT id FROM operation WHERE target = $1 AND finished = 0 AND kind = 'rollback' \
             ORDER BY sequence LIMIT 1",
        )
        .bind(checkpoint.to_string())
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| parsed(&row, "id")).transpose()
    }

    pub(super) async fn needed(&self) -> Result<BTreeSet<CheckpointId>, StoreError> {
        let rows = sqlx::query(
            "SELECT DISTINCT target AS id FROM operation \
             WHERE kind = 'rollback' AND target IS NOT NULL AND (finished = 0 OR is_open = 1)",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut needed: BTreeSet<CheckpointId> =
            rows.iter().map(|row| parsed(row, "id")).collect::<Result<_, _>>()?;
        needed.extend(self.newest_complete().await?);
        // One that lost a host's snapshot is still a target for the other hosts: one host must not make the others drop theirs.
        needed.extend(self.newest("").await?);
        needed.extend(self.last_proven().await?);
        Ok(needed)
    }

    pub(super) async fn last_proven(&self) -> Result<Option<CheckpointId>, StoreError> {
        let row = sqlx::query(
            "SELECT target AS id FROM operation AS proof WHERE kind = 'rollback' AND proves = 1 AND EXISTS \
             (SELECT 1 FROM operation WHERE id = proof.target AND deleted_at IS NULL) \
             ORDER BY sequence DESC LIMIT 1",
        )
        .fetch_optional(&self.readers)
        .await?;
        row.map(|row| parsed(&row, "id")).transpose()
    }

    pub(super) async fn deleted(&self, limit: u32) -> Result<Vec<CheckpointId>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM operation WHERE kind = 'checkpoint' AND deleted_at IS NOT NULL \
             ORDER BY deletion DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| parsed(row, "id")).collect()
    }

    pub(super) async fn mark_deleted(
        &self,
        operation: OperationId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.acquire().await?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let done = sqlx::query(
            "UPDATE operation SET deleted_at = $2, \
             deletion = (SELECT COALESCE(MAX(deletion), 0) + 1 FROM operation) \
             WHERE id = $1 AND deleted_at IS NULL",
        )
        .bind(operation.to_string())
        .bind(at.0)
        .execute(&mut *transaction)
        .await?;
        snapshots::forget(&mut transaction, operation).await?;
        states::forget(&mut transaction, operation).await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}

async fn begun_before(
    transaction: &mut SqliteConnection,
    request: &RequestKey,
) -> Result<Option<OperationId>, CreateError> {
    let row = sqlx::query("SELECT body, operation FROM request WHERE id = $1")
        .bind(request.id.as_str())
        .fetch_optional(transaction)
        .await
        .map_err(StoreError::from)?;
    let Some(row) = row else { return Ok(None) };
    let before: &str = row.try_get("body").map_err(StoreError::from)?;
    if before != request.request {
        return Err(CreateError::RequestIdReused { id: request.id.clone() });
    }
    Ok(Some(parsed(&row, "operation")?))
}

async fn position(
    transaction: &mut SqliteConnection,
    operation: OperationId,
) -> Result<Position, StoreError> {
    let row = sqlx::query("SELECT position FROM operation WHERE id = $1")
        .bind(operation.to_string())
        .fetch_optional(transaction)
        .await?;
    row.map_or(Ok(Position(0)), |row| number(&row, "position").map(Position))
}

/// Moves an operation from one position to a later one; false if it is not there.
async fn move_on(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    from: Position,
    to: Position,
) -> Result<bool, StoreError> {
    let moved = sqlx::query("UPDATE operation SET position = $3 WHERE id = $1 AND position = $2")
        .bind(operation.to_string())
        .bind(column(from.0)?)
        .bind(column(to.0)?)
        .execute(transaction)
        .await?;
    Ok(moved.rows_affected() > 0)
}

async fn insert_aside(transaction: &mut SqliteConnection, aside: Aside) -> Result<(), CreateError> {
    let Aside { operation, expected, events, row, claim, release } = aside;
    let next = Position(expected.0 + events.len() as u64);
    if !move_on(transaction, operation, expected, next).await? {
        return Err(CreateError::MovedOn { operation });
    }
    hosts::take_again(transaction, operation, &claim).await.map_err(|error| match error {
        AppendError::Store(error) => CreateError::Store(error),
        AppendError::Conflict { .. } | AppendError::NotOwner { .. } => CreateError::MovedOn { operation },
    })?;
    hosts::release(transaction, operation, &release).await?;
    insert_events(transaction, operation, expected, &events).await?;
    Ok(update_row(transaction, &row).await?)
}

async fn insert_events(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    first: Position,
    events: &[Event],
) -> Result<(), StoreError> {
    let id = operation.to_string();
    let mut position = column(first.0)?;
    for batch in events.chunks(BATCH) {
        let bodies = batch.iter().map(body).collect::<Result<Vec<_>, _>>()?;
        let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO event (operation, position, body) ");
        sql.push_values(bodies, |mut row, body| {
            row.push_bind(&id).push_bind(position).push_bind(body);
            position += 1;
        });
        sql.build().execute(&mut *transaction).await?;
    }
    Ok(())
}

async fn insert_row(
    transaction: &mut SqliteConnection,
    row: &OperationRow,
    events: usize,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO operation (id, sequence, kind, created_at, position, is_open, finished, complete, lost, \
         deployment, target, proves, head) VALUES ($1, (SELECT COALESCE(MAX(sequence), 0) + 1 FROM operation), \
         $2, $3, $4, $5, $6, $7, 0, $8, $9, $10, $11)",
    )
    .bind(row.id.to_string())
    .bind(row.kind.as_str())
    .bind(row.created_at.0)
    .bind(column(events as u64)?)
    .bind(i64::from(row.open))
    .bind(i64::from(row.finished))
    .bind(i64::from(row.complete))
    .bind(row.deployment.as_ref().map(|deployment| deployment.as_str()))
    .bind(row.target.map(|target| target.to_string()))
    .bind(i64::from(row.proves))
    .bind(&row.head)
    .execute(transaction)
    .await?;
    Ok(())
}

/// The kind, the times and the target of an operation never change.
async fn update_row(transaction: &mut SqliteConnection, row: &OperationRow) -> Result<(), StoreError> {
    sqlx::query("UPDATE operation SET is_open = $2, finished = $3, complete = $4, proves = $5, head = $6 WHERE id = $1")
        .bind(row.id.to_string())
        .bind(i64::from(row.open))
        .bind(i64::from(row.finished))
        .bind(i64::from(row.complete))
        .bind(i64::from(row.proves))
        .bind(&row.head)
        .execute(transaction)
        .await?;
    Ok(())
}

fn operation_row(row: &SqliteRow) -> Result<OperationRow, StoreError> {
    let kind: &str = row.try_get("kind")?;
    let kind = match kind {
        "checkpoint" => OperationKind::Checkpoint,
        "rollback" => OperationKind::Rollback,
        other => return Err(damaged("column kind")(format!("{other:?} is not a kind of operation").into())),
    };
    Ok(OperationRow {
        id: parsed(row, "id")?,
        kind,
        created_at: Timestamp(row.try_get("created_at")?),
        open: truth(row, "is_open")?,
        finished: truth(row, "finished")?,
        complete: truth(row, "complete")?,
        deployment: optional(row, "deployment")?,
        target: optional(row, "target")?,
        proves: truth(row, "proves")?,
        head: row.try_get("head")?,
    })
}
