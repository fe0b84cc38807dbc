//! The tables, and how an older file becomes a newer one.
//!
//! Format 2 seals rows: triggers write a digest of each row into it whenever it changes, and whoever reads the row
//! compares it ([`seal`](super::seal)). SQLite finds damage to its own structure, and no damage to values. Format 3 keeps the
//! id of the machine.

use std::path::Path;

use rusqlite::Connection;

use super::JournalError;

/// Each step brings a file from the format of its index to the next; released steps never change.
const STEPS: [&str; 3] = ["
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
", "
PRAGMA application_id = 0x52465371;
ALTER TABLE fence ADD COLUMN seal BLOB;
UPDATE fence SET seal = row_seal('fence', one, generation, operation);
CREATE TRIGGER fence_new AFTER INSERT ON fence BEGIN
    UPDATE fence SET seal = row_seal('fence', new.one, new.generation, new.operation) WHERE rowid = new.rowid;
END;
CREATE TRIGGER fence_now AFTER UPDATE OF one, generation, operation ON fence BEGIN
    UPDATE fence SET seal = row_seal('fence', new.one, new.generation, new.operation) WHERE rowid = new.rowid;
END;
ALTER TABLE command ADD COLUMN seal BLOB;
UPDATE command SET seal = row_seal('command', operation, generation, step, arrived_at, deadline, body);
CREATE TRIGGER command_new AFTER INSERT ON command BEGIN
    UPDATE command SET seal = row_seal('command', new.operation, new.generation, new.step, new.arrived_at, new.deadline, new.body) WHERE rowid = new.rowid;
END;
CREATE TRIGGER command_now AFTER UPDATE OF operation, generation, step, arrived_at, deadline, body ON command BEGIN
    UPDATE command SET seal = row_seal('command', new.operation, new.generation, new.step, new.arrived_at, new.deadline, new.body) WHERE rowid = new.rowid;
END;
ALTER TABLE report ADD COLUMN seal BLOB;
UPDATE report SET seal = row_seal('report', sequence, operation, generation, step, at, body, acknowledged);
CREATE TRIGGER report_new AFTER INSERT ON report BEGIN
    UPDATE report SET seal = row_seal('report', new.sequence, new.operation, new.generation, new.step, new.at, new.body, new.acknowledged) WHERE rowid = new.rowid;
END;
CREATE TRIGGER report_now AFTER UPDATE OF sequence, operation, generation, step, at, body, acknowledged ON report BEGIN
    UPDATE report SET seal = row_seal('report', new.sequence, new.operation, new.generation, new.step, new.at, new.body, new.acknowledged) WHERE rowid = new.rowid;
END;
ALTER TABLE run ADD COLUMN seal BLOB;
UPDATE run SET seal = row_seal('run', run, operation, started_at, deadline, body, ended_at, receipt);
CREATE TRIGGER run_new AFTER INSERT ON run BEGIN
    UPDATE run SET seal = row_seal('run', new.run, new.operation, new.started_at, new.deadline, new.body, new.ended_at, new.receipt) WHERE rowid = new.rowid;
END;
CREATE TRIGGER run_now AFTER UPDATE OF run, operation, started_at, deadline, body, ended_at, receipt ON run BEGIN
    UPDATE run SET seal = row_seal('run', new.run, new.operation, new.started_at, new.deadline, new.body, new.ended_at, new.receipt) WHERE rowid = new.rowid;
END;
ALTER TABLE arrow ADD COLUMN seal BLOB;
UPDATE arrow SET seal = row_seal('arrow', run, position, phase, at);
CREATE TRIGGER arrow_new AFTER INSERT ON arrow BEGIN
    UPDATE arrow SET seal = row_seal('arrow', new.run, new.position, new.phase, new.at) WHERE rowid = new.rowid;
END;
CREATE TRIGGER arrow_now AFTER UPDATE OF run, position, phase, at ON arrow BEGIN
    UPDATE arrow SET seal = row_seal('arrow', new.run, new.position, new.phase, new.at) WHERE rowid = new.rowid;
END;
ALTER TABLE fact ADD COLUMN seal BLOB;
UPDATE fact SET seal = row_seal('fact', run, name, body);
CREATE TRIGGER fact_new AFTER INSERT ON fact BEGIN
    UPDATE fact SET seal = row_seal('fact', new.run, new.name, new.body) WHERE rowid = new.rowid;
END;
CREATE TRIGGER fact_now AFTER UPDATE OF run, name, body ON fact BEGIN
    UPDATE fact SET seal = row_seal('fact', new.run, new.name, new.body) WHERE rowid = new.rowid;
END;
ALTER TABLE hold ADD COLUMN seal BLOB;
UPDATE hold SET seal = row_seal('hold', one, since, run, message);
CREATE TRIGGER hold_new AFTER INSERT ON hold BEGIN
    UPDATE hold SET seal = row_seal('hold', new.one, new.since, new.run, new.message) WHERE rowid = new.rowid;
END;
CREATE TRIGGER hold_now AFTER UPDATE OF one, since, run, message ON hold BEGIN
    UPDATE hold SET seal = row_seal('hold', new.one, new.since, new.run, new.message) WHERE rowid = new.rowid;
END;
ALTER TABLE quiet ADD COLUMN seal BLOB;
UPDATE quiet SET seal = row_seal('quiet', component, operation, until);
CREATE TRIGGER quiet_new AFTER INSERT ON quiet BEGIN
    UPDATE quiet SET seal = row_seal('quiet', new.component, new.operation, new.until) WHERE rowid = new.rowid;
END;
CREATE TRIGGER quiet_now AFTER UPDATE OF component, operation, until ON quiet BEGIN
    UPDATE quiet SET seal = row_seal('quiet', new.component, new.operation, new.until) WHERE rowid = new.rowid;
END;
", "
CREATE TABLE instance (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    seal BLOB
) STRICT;
CREATE TRIGGER instance_new AFTER INSERT ON instance BEGIN
    UPDATE instance SET seal = row_seal('instance', new.one, new.id) WHERE rowid = new.rowid;
END;
CREATE TRIGGER instance_now AFTER UPDATE OF one, id ON instance BEGIN
    UPDATE instance SET seal = row_seal('instance', new.one, new.id) WHERE rowid = new.rowid;
END;
"];

/// The newest format that this version reads and writes.
pub(super) const FORMAT: u32 = STEPS.len() as u32;
/// Says that a file is a journal.
pub(super) const APPLICATION: u32 = 0x5246_5371;

/// Brings the file to the newest format. It must know [`row_seal`](super::seal::register).
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

/// What a file of the newest format says of its tables, in order.
pub(super) fn expected() -> Result<Vec<String>, JournalError> {
    let connection = Connection::open_in_memory()?;
    super::seal::register(&connection)?;
    bring_up(&connection, Path::new(":memory:"))?;
    tables(&connection)
}

/// What the file says of its tables, in order.
pub(super) fn tables(connection: &Connection) -> Result<Vec<String>, JournalError> {
    // Quoted, so that bytes are not taken for text.
    let sql = "SELECT concat_ws(' ', quote(type), quote(name), quote(tbl_name), quote(sql))
               FROM sqlite_schema ORDER BY type, name";
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_first_format_is_read_and_its_rows_are_sealed() {
        let folder = tempfile::tempdir().expect("a folder");
        let old = Connection::open(folder.path().join(super::super::FILE)).expect("makes");
        old.execute_batch(STEPS[0]).expect("the first format");
        old.execute_batch(
            "INSERT INTO quiet VALUES ('site', '00000000-0000-0000-0000-000000000001', 9);
             PRAGMA user_version = 1;",
        )
        .expect("writes");
        drop(old);
        let journal = super::super::Journal::open(folder.path()).expect("brings it up");
        let quiet = journal.all_quiet().expect("reads");
        assert_eq!((quiet.len(), quiet[0].component.as_str(), quiet[0].until.0), (1, "site", 9));
        drop(journal);
        assert_eq!(super::super::check(folder.path()).expect("reads"), [""; 0]);
    }
}
