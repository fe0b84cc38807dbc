//! Restores: each with its arrows in order, the facts that a later reader needs, and its end.

use std::fmt;

use rfs_model::{OperationId, RestoreNumber, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::seal::{is_sealed, require};
use super::{Journal, JournalError, from_body, from_text, to_body};

/// Numbers the restores of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub(super) i64);

impl RunId {
    /// The number of the restore, as the coordinator knows it.
    pub fn number(self) -> RestoreNumber {
        RestoreNumber(self.0.unsigned_abs())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A restore that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun<T> {
    /// The operation that it is part of.
    pub operation: OperationId,
    /// When it began.
    pub started_at: Timestamp,
    /// When its time is up.
    pub deadline: Timestamp,
    /// What is restored.
    pub body: T,
}

/// A restore as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run<T> {
    /// Its number.
    pub id: RunId,
    /// The operation that it is part of.
    pub operation: OperationId,
    /// When it began.
    pub started_at: Timestamp,
    /// When its time is up.
    pub deadline: Timestamp,
    /// What is restored.
    pub body: T,
    /// The arrows that were about to be taken, in order.
    pub arrows: Vec<Arrow>,
}

/// An arrow: written before it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrow {
    /// The phase that it leads to.
    pub phase: String,
    /// When it was written.
    pub at: Timestamp,
}

/// Why the host holds still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The restore that could neither go on nor back.
    pub run: RunId,
    /// Since when.
    pub since: Timestamp,
    /// What could not be undone, and why.
    pub message: String,
}

/// Ended restores that are kept.
const KEPT_RUNS: i64 = 200;

impl Journal {
    /// Opens a restore with its first arrow.
    pub fn begin<T: Serialize>(&self, new: &NewRun<T>, phase: &str) -> Result<RunId, JournalError> {
        let body = to_body(&new.body)?;
        self.write(|transaction| {
            let open: i64 =
                transaction
                    .query_row("SELECT count(*) FROM run WHERE ended_at IS NULL", [], |row| row.get(0))?;
            if open > 0 {
                return Err(JournalError::Busy);
            }
            transaction.execute(
                "INSERT INTO run (operation, started_at, deadline, body) VALUES (?1, ?2, ?3, ?4)",
                params![new.operation.to_string(), new.started_at.0, new.deadline.0, body],
            )?;
            let run = RunId(transaction.last_insert_rowid());
            arrow(transaction, run, phase, new.started_at)?;
            Ok(run)
        })
    }

    /// Writes an arrow, with facts that must be known from then on: all of it or nothing.
    pub fn advance(
        &self,
        run: RunId,
        phase: &str,
        at: Timestamp,
        facts: &[(&str, String)],
    ) -> Result<(), JournalError> {
        self.write(|transaction| {
            for (name, body) in facts {
                fact(transaction, run, name, body)?;
            }
            arrow(transaction, run, phase, at)
        })
    }

    /// Writes an arrow without waiting for the disk. It survives the process, and a power cut only once anything later is
    /// written: for an arrow that leads nowhere else than the one before.
    pub fn advance_unsynced(&self, run: RunId, phase: &str, at: Timestamp) -> Result<(), JournalError> {
        self.write_unsynced(|transaction| arrow(transaction, run, phase, at))
    }

    /// Writes a fact of a restore, in place of an older one of that name.
    pub fn note<T: Serialize>(&self, run: RunId, name: &str, value: &T) -> Result<(), JournalError> {
        let body = to_body(value)?;
        self.write(|transaction| fact(transaction, run, name, &body))
    }

    /// Writes a fact that is JSON already.
    pub fn note_text(&self, run: RunId, name: &str, body: &str) -> Result<(), JournalError> {
        self.write(|transaction| fact(transaction, run, name, body))
    }

    /// A fact of a restore.
    pub fn fact<T: DeserializeOwned>(&self, run: RunId, name: &str) -> Result<Option<T>, JournalError> {
        self.read(|connection| {
            let sql = format!("SELECT body, {} FROM fact WHERE run = ?1 AND name = ?2", is_sealed("fact"));
            let row = connection
                .query_row(&sql, params![run.0, name], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
            let Some((body, sealed)) = row.optional()? else { return Ok(None) };
            require(sealed, name)?;
            from_body(name, &body).map(Some)
        })
    }

    /// Ends a restore with its receipt; a `hold` makes the host hold still from then on.
    pub fn end<T: Serialize>(
        &self,
        run: RunId,
        phase: &str,
        at: Timestamp,
        receipt: &T,
        hold: Option<&str>,
    ) -> Result<(), JournalError> {
        let receipt = to_body(receipt)?;
        self.write(|transaction| {
            arrow(transaction, run, phase, at)?;
            transaction.execute(
                "UPDATE run SET ended_at = ?2, receipt = ?3 WHERE run = ?1",
                params![run.0, at.0, receipt],
            )?;
            match hold {
                Some(message) => {
                    transaction.execute(
                        "INSERT INTO hold (one, since, run, message) VALUES (1, ?1, ?2, ?3)
                         ON CONFLICT (one) DO UPDATE SET since = ?1, run = ?2, message = ?3",
                        params![at.0, run.0, message],
                    )?;
                }
                // The facts of a restore that may still be put right by a person are kept.
                None => {
                    transaction.execute("DELETE FROM fact WHERE run = ?1", [run.0])?;
                }
            }
            transaction.execute(
                "DELETE FROM run WHERE ended_at IS NOT NULL AND run <= ?1 - ?2
                   AND run NOT IN (SELECT run FROM hold)",
                params![run.0, KEPT_RUNS],
            )?;
            Ok(())
        })?;
        // What was given up on a full disk is taken again, if there is room now.
        self.load_ballast()
    }

    /// The restore that has not ended.
    pub fn open_run<T: DeserializeOwned>(&self) -> Result<Option<Run<T>>, JournalError> {
        self.read(|connection| one_run(connection, "ended_at IS NULL", []))
    }

    /// The restore of that number.
    pub fn run<T: DeserializeOwned>(&self, run: RunId) -> Result<Option<Run<T>>, JournalError> {
        self.read(|connection| one_run(connection, "run = ?1", [run.0]))
    }

    /// The restores of an operation that have ended, oldest first: what was restored, and its receipt.
    pub fn ended_runs_of<T, R>(&self, operation: OperationId) -> Result<Vec<(T, R)>, JournalError>
    where
        T: DeserializeOwned,
        R: DeserializeOwned,
    {
        self.read(|connection| {
            let sql = format!(
                "SELECT body, receipt, {} FROM run WHERE operation = ?1 AND receipt IS NOT NULL ORDER BY run",
                is_sealed("run")
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([operation.to_string()])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                require(row.get(2)?, "restore")?;
                let body = from_body("restore", &row.get::<_, String>(0)?)?;
                found.push((body, from_body("receipt", &row.get::<_, String>(1)?)?));
            }
            Ok(found)
        })
    }

    /// The receipts of the restores that ended last, newest first.
    pub fn receipts<T: DeserializeOwned>(&self, limit: u32) -> Result<Vec<T>, JournalError> {
        let sql = format!(
            "SELECT receipt, {} FROM run WHERE receipt IS NOT NULL ORDER BY run DESC LIMIT ?1",
            is_sealed("run")
        );
        self.read(|connection| receipts(connection, &sql, &[&limit]))
    }

    /// The number of the newest restore, whether it has ended or not; zero before the first. A number is never used twice.
    pub fn newest_run(&self) -> Result<RestoreNumber, JournalError> {
        self.read(|connection| {
            let newest: i64 =
                connection.query_row("SELECT coalesce(max(run), 0) FROM run", [], |row| row.get(0))?;
            Ok(RunId(newest).number())
        })
    }

    /// Why the host holds still; none when it does not.
    pub fn held(&self) -> Result<Option<Held>, JournalError> {
        self.read(|connection| {
            let sql = format!("SELECT run, since, message, {} FROM hold", is_sealed("hold"));
            let row = connection.query_row(&sql, [], |row| {
                let held =
                    Held { run: RunId(row.get(0)?), since: Timestamp(row.get(1)?), message: row.get(2)? };
                Ok((held, row.get(3)?))
            });
            let Some((held, sealed)) = row.optional()? else { return Ok(None) };
            require(sealed, "reason why the host holds still").map(|()| Some(held))
        })
    }

    /// The host holds still no longer: a person has seen to it.
    pub fn release(&self) -> Result<(), JournalError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM fact WHERE run IN (SELECT run FROM hold)", [])?;
            transaction.execute("DELETE FROM hold", [])?;
            Ok(())
        })
    }
}

fn arrow(connection: &Connection, run: RunId, phase: &str, at: Timestamp) -> Result<(), JournalError> {
    connection.execute(
        "INSERT INTO arrow (run, position, phase, at)
         SELECT ?1, coalesce(max(position) + 1, 0), ?2, ?3 FROM arrow WHERE run = ?1",
        params![run.0, phase, at.0],
    )?;
    Ok(())
}

fn fact(connection: &Connection, run: RunId, name: &str, body: &str) -> Result<(), JournalError> {
    connection.execute(
        "INSERT INTO fact (run, name, body) VALUES (?1, ?2, ?3) ON CONFLICT (run, name) DO UPDATE SET body = ?3",
        params![run.0, name, body],
    )?;
    Ok(())
}

fn one_run<T: DeserializeOwned, const N: usize>(
    connection: &Connection,
    condition: &str,
    arguments: [i64; N],
) -> Result<Option<Run<T>>, JournalError> {
    let sealed = is_sealed("run");
    let sql =
        format!("SELECT run, operation, started_at, deadline, body, {sealed} FROM run WHERE {condition}");
    let row = connection.query_row(&sql, rusqlite::params_from_iter(arguments), |row| {
        let (operation, body) = (row.get::<_, String>(1)?, row.get::<_, String>(4)?);
        Ok((row.get(0)?, operation, row.get(2)?, row.get(3)?, body, row.get(5)?))
    });
    let Some((run, operation, started_at, deadline, body, sealed)) = row.optional()? else { return Ok(None) };
    require(sealed, "restore")?;
    Ok(Some(Run {
        id: RunId(run),
        operation: from_text("operation id", &operation)?,
        started_at: Timestamp(started_at),
        deadline: Timestamp(deadline),
        body: from_body("restore", &body)?,
        arrows: arrows(connection, run)?,
    }))
}

fn arrows(connection: &Connection, run: i64) -> Result<Vec<Arrow>, JournalError> {
    let sealed = is_sealed("arrow");
    let sql = format!("SELECT phase, at, {sealed} FROM arrow WHERE run = ?1 ORDER BY position");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([run])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        require(row.get(2)?, "way of a restore")?;
        found.push(Arrow { phase: row.get(0)?, at: Timestamp(row.get(1)?) });
    }
    Ok(found)
}

fn receipts<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    arguments: &[&dyn rusqlite::ToSql],
) -> Result<Vec<T>, JournalError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(arguments)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        require(row.get(1)?, "receipt")?;
        found.push(from_body("receipt", &row.get::<_, String>(0)?)?);
    }
    Ok(found)
}
