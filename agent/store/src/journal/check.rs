//! Looks at a whole journal: its structure, its tables, and every row.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{FILE, JournalError, schema, seal};
use crate::text::encode;

/// So many faults are named.
const NAMED: usize = 20;

/// Says what is not as it was written, and changes nothing. A store that has no journal yet has nothing wrong.
///
/// It may be called beside whoever writes.
pub(crate) fn check(store: &Path) -> Result<Vec<String>, JournalError> {
    let path = store.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let alone = !has_log(&path);
    let faults = faults(&path, alone)?;
    // Somebody began to write while it was read as if nobody would.
    if alone && !faults.is_empty() && has_log(&path) { self::faults(&path, false) } else { Ok(faults) }
}

fn has_log(path: &Path) -> bool {
    path.with_extension("sqlite-wal").metadata().is_ok_and(|log| log.len() > 0)
}

fn faults(path: &Path, alone: bool) -> Result<Vec<String>, JournalError> {
    match open(path, alone).and_then(|connection| look(&connection)) {
        // Another process has it for itself: what is in the file is looked at, beside its log.
        Err(JournalError::Database(error)) if !alone && is_held(&error) => quietest(path),
        // A full disk does not take what a reader of the log needs beside it.
        Err(JournalError::NoSpace(_)) if !alone => quietest(path),
        Err(JournalError::Database(error)) => Ok(vec![error.to_string()]),
        other => other,
    }
}

fn is_held(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Looks at the file while its owner may write to it: a fault that comes and goes is a page that was just being written.
fn quietest(path: &Path) -> Result<Vec<String>, JournalError> {
    const TRIES: usize = 5;
    let mut last = Vec::new();
    for _ in 0..TRIES {
        last = faults(path, true)?;
        if last.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(last)
}

/// Opens the file for reading. Alone: no file is made beside it, as it is where SQLite reads a log.
pub(super) fn open(path: &Path, alone: bool) -> Result<Connection, JournalError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let name = encode(path.as_os_str().as_encoded_bytes()).replace('?', "%3F").replace('#', "%23");
    let sharing = super::sharing(path.parent().unwrap_or(path));
    let name = format!("file:{name}?immutable={}", u8::from(alone));
    let connection = Connection::open_with_flags_and_vfs(name, flags, sharing)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "cell_size_check", true)?;
    seal::register(&connection)?;
    Ok(connection)
}

fn look(connection: &Connection) -> Result<Vec<String>, JournalError> {
    let format: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if format != schema::FORMAT {
        // An older one is brought up when it is opened for writing; a newer one is for a newer program.
        return Ok(match format {
            1 | 2 => structure(connection)?,
            _ => vec![format!("it has format {format}; this version reads up to {}", schema::FORMAT)],
        });
    }
    let mut faults = structure(connection)?;
    let application: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != schema::APPLICATION || schema::tables(connection)? != schema::expected()? {
        faults.push("its tables are not those of its format".to_owned());
        return Ok(faults);
    }
    for (table, _) in seal::SEALED {
        let sealed = seal::is_sealed(table);
        let sql = format!("SELECT count(*) FROM {table} WHERE NOT ({sealed})");
        let broken: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
        if broken > 0 {
            faults.push(format!("{broken} of its rows in {table} are not as they were written"));
        }
    }
    // The newest row of each stays, so that its number is the one that was given last.
    for (table, number) in [("report", "sequence"), ("run", "run")] {
        let sql = format!(
            "SELECT coalesce((SELECT max({number}) FROM {table}), 0)
                = coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '{table}'), 0)"
        );
        if !connection.query_row(&sql, [], |row| row.get::<_, bool>(0))? {
            faults.push(format!("the number that a {table} had last is not the one that is remembered"));
        }
    }
    Ok(faults)
}

/// What SQLite finds.
fn structure(connection: &Connection) -> Result<Vec<String>, JournalError> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({NAMED})"))?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}
