//! The tables, and how an older file becomes a newer one.

use std::path::Path;

use rusqlite::Connection;

use super::JournalError;

/// Each step brings a file from the format of its index to the next; released steps never change.
const STEPS: [&str; 1] = ["
CREATE TABLE fence (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    generation INTEGER NOT NULL,
    operation TEXT NOT NULL
) STRICT;
CREATE TABLE command (
    operation TEXT NOT NULL,
    generation INTEGER NOT NULL,
    step TEXT NOT NULL,
    arrived_at INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (operation, generation, step)
) STRICT;
CREATE TABLE report (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    operation TEXT NOT NULL,
    generation INTEGER NOT NULL,
    step TEXT NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    UNIQUE (operation, generation, step)
) STRICT;
CREATE INDEX report_open ON report (sequence) WHERE acknowledged = 0;
CREATE TABLE run (
    run INTEGER PRIMARY KEY AUTOINCREMENT,
    operation TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    deadline INTEGER NOT NULL,
    body TEXT NOT NULL,
    ended_at INTEGER,
    receipt TEXT
) STRICT;
CREATE UNIQUE INDEX run_open ON run ((1)) WHERE ended_at IS NULL;
CREATE INDEX run_operation ON run (operation, run);
CREATE TABLE arrow (
    run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    position INTEGER NOT NULL,
    phase TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (run, position)
) STRICT;
CREATE TABLE fact (
    run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run, name)
) STRICT;
CREATE TABLE hold (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    since INTEGER NOT NULL,
    run INTEGER NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE TABLE quiet (
    component TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;
"];

/// The newest format that this version reads and writes.
const FORMAT: u32 = STEPS.len() as u32;

pub(super) fn bring_up(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > FORMAT {
        return Err(JournalError::NewerFormat { path: path.into(), found, supported: FORMAT });
    }
    for (format, step) in (1..).zip(STEPS).skip(found as usize) {
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {step} PRAGMA user_version = {format}; COMMIT;"))?;
    }
    Ok(())
}
