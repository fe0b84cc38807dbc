//! Seals: a digest in each row of all that the row says.
//!
//! `row_seal(table, column…)` is the first 16 bytes of the BLAKE3 of its arguments, each as a byte that says its type, its
//! length (`u64`, little-endian) and its bytes: 0 nothing, 1 an integer (8 bytes, little-endian), 2 text. The table's
//! triggers write it; a row that was written by other means has a wrong one.

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;

use super::JournalError;

/// The tables, and the columns that a seal covers.
pub(super) const SEALED: [(&str, &str); 9] = [
    ("fence", "one, generation, operation"),
    ("command", "operation, generation, step, arrived_at, deadline, body"),
    ("report", "sequence, operation, generation, step, at, body, acknowledged"),
    ("run", "run, operation, started_at, deadline, body, ended_at, receipt"),
    ("arrow", "run, position, phase, at"),
    ("fact", "run, name, body"),
    ("hold", "one, since, run, message"),
    ("quiet", "component, operation, until"),
    ("instance", "one, id"),
];

/// Teaches the connection `row_seal`.
pub(super) fn register(connection: &Connection) -> Result<(), JournalError> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    Ok(connection.create_scalar_function("row_seal", -1, flags, row_seal)?)
}

fn row_seal(arguments: &Context<'_>) -> rusqlite::Result<Vec<u8>> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |kind: u8, bytes: &[u8]| {
        hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    for number in 0..arguments.len() {
        match arguments.get_raw(number) {
            ValueRef::Null => add(0, b""),
            ValueRef::Integer(value) => add(1, &value.to_le_bytes()),
            ValueRef::Text(value) => add(2, value),
            ValueRef::Real(value) => add(3, &value.to_le_bytes()),
            ValueRef::Blob(value) => add(4, value),
        }
    }
    Ok(hasher.finalize().as_bytes()[..16].to_vec())
}

/// The condition that a row of the table is as it was written.
pub(super) fn is_sealed(table: &str) -> String {
    let columns = SEALED.iter().find(|(name, _)| *name == table).map_or("", |(_, columns)| columns);
    let columns: String = columns.split(", ").map(|column| format!(", {table}.{column}")).collect();
    format!("{table}.seal IS row_seal('{table}'{columns})")
}

/// Passes a row on that is as it was written.
pub(super) fn require(sealed: bool, what: &str) -> Result<(), JournalError> {
    if sealed {
        return Ok(());
    }
    let source = "it is not as it was written: its seal is wrong";
    Err(JournalError::Damaged { what: what.to_owned(), source: source.into() })
}
