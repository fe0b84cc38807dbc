//! The states that are kept of operations with long histories, so that they need not be replayed from the beginning.
//!
//! Invariants
//! - A state is written in the transaction of the last event that it covers, so that it is never ahead of its history.
//! - It is sealed: it counts only with its very text, for its operation, and after that very event at that very place. A state
//!   that was damaged, or that stands beside another history since the store was put back in part, is as good as none.

use rfs_model::OperationId;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};
use tracing::warn;

use super::SqliteStore;
use super::row::{column, event, number};
use crate::store::contract::{Position, StoreError, Tail};

impl SqliteStore {
    pub(super) async fn tail_of_history(&self, operation: OperationId) -> Result<Tail, StoreError> {
        let id = operation.to_string();
        let mut reader = self.readers.acquire().await?;
        // The state and the events as they were at one moment.
        let mut transaction = reader.begin().await?;
        let kept = sqlx::query(
            "SELECT kept.position, kept.body, kept.seal, event.body AS last FROM operation_state AS kept \
             LEFT JOIN event ON event.operation = kept.operation AND event.position = kept.position - 1 \
             WHERE kept.operation = $1",
        )
        .bind(&id)
        .fetch_optional(&mut *transaction)
        .await?;
        let (known, state) = match kept {
            Some(row) => match sealed(&id, &row) {
                Some((known, state)) => (known, Some(state.to_owned())),
                None => {
                    warn!(%operation, "the state that is kept does not fit the history, which is read instead");
                    (Position(0), None)
                }
            },
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

/// The state of a row, and how many events have led to it, unless something is wrong with it.
fn sealed<'r>(operation: &str, row: &'r SqliteRow) -> Option<(Position, &'r str)> {
    let known = Position(number(row, "position").ok()?);
    let state: &str = row.try_get("body").ok()?;
    let last: Option<&str> = row.try_get("last").ok()?;
    let is: &str = row.try_get("seal").ok()?;
    (is == seal(operation, known, last?, state)).then_some((known, state))
}

/// Ties a state to the event that led to it.
fn seal(operation: &str, known: Position, last: &str, state: &str) -> String {
    let mut seal = blake3::Hasher::new();
    for part in [operation, &known.0.to_string(), last, state] {
        seal.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    seal.finalize().to_hex().to_string()
}

/// Keeps the state that an operation's first events have led to, in place of the one before. They are there already.
pub(super) async fn keep(
    transaction: &mut SqliteConnection,
    operation: OperationId,
    known: Position,
    state: &str,
) -> Result<(), StoreError> {
    let id = operation.to_string();
    let last = sqlx::query("SELECT body FROM event WHERE operation = $1 AND position = $2 - 1")
        .bind(&id)
        .bind(column(known.0)?)
        .fetch_one(&mut *transaction)
        .await?;
    sqlx::query(
        "INSERT INTO operation_state (operation, position, body, seal) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (operation) DO UPDATE SET position = excluded.position, body = excluded.body, seal = excluded.seal",
    )
    .bind(&id)
    .bind(column(known.0)?)
    .bind(state)
    .bind(seal(&id, known, last.try_get("body")?, state))
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
