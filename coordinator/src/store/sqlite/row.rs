//! Values as they stand in columns.

use std::error::Error;
use std::str::FromStr;

use rfs_rollout::{Envelope, Event};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::store::contract::StoreError;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

/// What cannot be read, with what it is.
pub(super) fn damaged(what: impl Into<String>) -> impl FnOnce(Box<dyn Error + Send + Sync>) -> StoreError {
    let what = what.into();
    |source| StoreError::Damaged { what, source }
}

/// Text that has a rule, such as an id.
pub(super) fn parsed<T>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error: T::Err| damaged(format!("column {column}"))(error.into()))
}

/// The same where it may be absent.
pub(super) fn optional<T>(row: &SqliteRow, column: &'static str) -> Result<Option<T>, StoreError>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    let text: Option<&str> = row.try_get(column)?;
    let parse =
        |text: &str| text.parse().map_err(|error: T::Err| damaged(format!("column {column}"))(error.into()));
    text.map(parse).transpose()
}

pub(super) fn truth(row: &SqliteRow, column: &'static str) -> Result<bool, StoreError> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

/// Numbers that are never negative.
pub(super) fn number(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(|error| damaged(format!("column {column}"))(error.into()))
}

pub(super) fn column(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|error| damaged("a number for the store")(error.into()))
}

/// An event as it is stored.
pub(super) fn body(event: &Event) -> Result<String, StoreError> {
    serde_json::to_string(&Envelope::new(event.clone())).map_err(|error| damaged("an event")(error.into()))
}

/// An event as it was stored.
pub(super) fn event(operation: &str, position: u64, body: &str) -> Result<Event, StoreError> {
    let what = || damaged(format!("event {position} of operation {operation}"));
    let envelope: Envelope = serde_json::from_str(body).map_err(|error| what()(error.into()))?;
    if envelope.version > Envelope::VERSION {
        let text = format!("it was written by a newer version of rfs (its shape is {})", envelope.version);
        return Err(what()(text.into()));
    }
    Ok(envelope.event)
}
