//! The states that are kept of operations with long histories, so that they need not be replayed from the beginning.

use rfs_model::OperationId;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

use super::SqliteStore;
use super::row::{column, event, number};
use crate::store::contract::{Position, StoreError, Tail};

impl SqliteStore {
    pub(super) async fn tail_of_history(&self, operation: OperationId) -> Result<Tail, StoreError> {
        let id = operation.to_string();
        let mut reader = self.readers.acquire().await?;
        // The state and the events as they were at one moment.
        let mut transaction = reader.begin().await?;
        let kept = sqlx::query("SELECT position, body FROM operation_state WHERE operation = $1")
            .bind(&id)
            .fetch_optional(&mut *transaction)
            .await?;
        let (known, state) = match kept {
            Some(row) => (Position(number(&row, "position")?), Some(row.try_get("body")?)),
            None => (Position(0), None),
        };
        let rows = sqlx::query(
            "SELECT position, body FROM event WHERE operation = $1 AND position >= $2 ORDER BY position",
        )
        .bind(&id)
        .bind(column(known.0)?)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let events = rows.iter().map(|row| event(&id, number(row, "position")?, row.try_get("body")?));
        Ok(Tail { state, known, events: events.collect::<Result<_, _>>()? })
    }
}

/// Keeps the state that an operation's first events have led to, in place of the one before.
pub(super) async fn keep(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    known: Position,
    state: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO operation_state (operation, position, body) VALUES ($1, $2, $3) \
         ON CONFLICT (operation) DO UPDATE SET position = excluded.position, body = excluded.body",
    )
    .bind(operation.to_string())
    .bind(column(known.0)?)
    .bind(state)
    .execute(transaction)
    .await?;
    Ok(())
}

/// Of an operation that is deleted nothing but its history stays.
pub(super) async fn forget(
    transaction: &mut SqliteConnection,
    operation: OperationId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM operation_state WHERE operation = $1")
        .bind(operation.to_string())
        .execute(transaction)
        .await?;
    Ok(())
}
