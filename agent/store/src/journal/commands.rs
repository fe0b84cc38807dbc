//! Commands and their reports: each command once, each report kept until it is acknowledged.

use std::fmt;

use rfs_model::{Generation, OperationId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::seal::{is_sealed, require};
use super::{Journal, JournalError, from_body, from_text, to_body};

/// What names a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandKey {
    /// The operation.
    pub operation: OperationId,
    /// Its generation.
    pub generation: Generation,
    /// The step.
    pub step: String,
}

/// What became of a command that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is new, and stored: act on it.
    New,
    /// It is stored already, and has no report yet.
    Pending,
    /// It is stored already with its report, which is to be sent again.
    Answered,
    /// It was refused: the host has obeyed this newer generation.
    Stale(Generation),
}

/// A command as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommand<T> {
    /// Its name.
    pub key: CommandKey,
    /// When it arrived first.
    pub arrived_at: Timestamp,
    /// When its time is up, counted from its first arrival.
    pub deadline: Timestamp,
    /// The command.
    pub body: T,
}

/// A report as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport<T> {
    /// Its number.
    pub sequence: u64,
    /// The command that it answers.
    pub key: CommandKey,
    /// When it was stored.
    pub at: Timestamp,
    /// What it says.
    pub body: T,
}

/// Reports that are kept although they were acknowledged, for whoever asks what the host did.
const KEPT_REPORTS: i64 = 1000;

impl Journal {
    /// Stores the command unless it is there already or its generation is stale. A repeated command keeps its first
    /// arrival and deadline, and one that was answered has its report sent again.
    pub fn admit<T: Serialize>(&self, command: &StoredCommand<T>) -> Result<Admission, JournalError> {
        let body = to_body(&command.body)?;
        let key = &command.key;
        self.write(|transaction| {
            if has(transaction, "command", key)? {
                let reopened = transaction.prepare_cached(
                    "UPDATE report SET acknowledged = 0 WHERE operation = ?1 AND generation = ?2 AND step = ?3",
                )?.execute(params![key.operation.to_string(), number(key.generation), key.step])?;
                return Ok(if reopened > 0 { Admission::Answered } else { Admission::Pending });
            }
            let fence = fence(transaction)?;
            if let Some((generation, operation)) = fence
                && (key.generation < generation || key.generation == generation && operation != key.operation)
            {
                return Ok(Admission::Stale(generation));
            }
            transaction.execute(
                "INSERT INTO fence (one, generation, operation) VALUES (1, ?1, ?2)
                 ON CONFLICT (one) DO UPDATE SET generation = ?1, operation = ?2",
                params![number(key.generation), key.operation.to_string()],
            )?;
            transaction.execute(
                "INSERT INTO command (operation, generation, step, arrived_at, deadline, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    key.operation.to_string(),
                    number(key.generation),
                    key.step,
                    command.arrived_at.0,
                    command.deadline.0,
                    body
                ],
            )?;
            Ok(Admission::New)
        })
    }

    /// The newest generation that was obeyed; zero before the first.
    pub fn generation(&self) -> Result<Generation, JournalError> {
        self.read(|connection| Ok(fence(connection)?.map_or(Generation(0), |(generation, _)| generation)))
    }

    /// The command of that name.
    pub fn command<T: DeserializeOwned>(
        &self,
        key: &CommandKey,
    ) -> Result<Option<StoredCommand<T>>, JournalError> {
        Ok(self.commands_of(key.operation)?.into_iter().find(|command| command.key == *key))
    }

    /// The commands of an operation, in the order in which they arrived.
    pub fn commands_of<T: DeserializeOwned>(
        &self,
        operation: OperationId,
    ) -> Result<Vec<StoredCommand<T>>, JournalError> {
        self.read(|connection| commands(connection, "operation = ?1", &[&operation.to_string()]))
    }

    /// The commands without a report, in the order in which they arrived.
    pub fn pending<T: DeserializeOwned>(&self) -> Result<Vec<StoredCommand<T>>, JournalError> {
        let condition = "NOT EXISTS (SELECT 1 FROM report WHERE report.operation = command.operation
            AND report.generation = command.generation AND report.step = command.step)";
        self.read(|connection| commands(connection, condition, &[]))
    }

    /// Stores the report of a command and returns its number. A command that has a report keeps it, and it is sent
    /// again: the first answer is the one that counts.
    pub fn report<T: Serialize>(
        &self,
        key: &CommandKey,
        at: Timestamp,
        body: &T,
    ) -> Result<u64, JournalError> {
        let body = to_body(body)?;
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO report (operation, generation, step, at, body) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (operation, generation, step) DO UPDATE SET acknowledged = 0",
                params![key.operation.to_string(), number(key.generation), key.step, at.0, body],
            )?;
            let sequence: i64 = transaction.query_row(
                "SELECT sequence FROM report WHERE operation = ?1 AND generation = ?2 AND step = ?3",
                params![key.operation.to_string(), number(key.generation), key.step],
                |row| row.get(0),
            )?;
            Ok(sequence.unsigned_abs())
        })
    }

    /// The reports that were not acknowledged, oldest first.
    pub fn unacknowledged<T: DeserializeOwned>(&self) -> Result<Vec<StoredReport<T>>, JournalError> {
        self.read(|connection| reports(connection, "acknowledged = 0", &[]))
    }

    /// The reports of an operation, oldest first.
    pub fn reports_of<T: DeserializeOwned>(
        &self,
        operation: OperationId,
    ) -> Result<Vec<StoredReport<T>>, JournalError> {
        self.read(|connection| reports(connection, "operation = ?1", &[&operation.to_string()]))
    }

    /// Marks the report as stored with the coordinator. Old ones that are no longer needed go.
    pub fn acknowledge(&self, sequence: u64) -> Result<(), JournalError> {
        self.write(|transaction| {
            transaction.execute("UPDATE report SET acknowledged = 1 WHERE sequence = ?1", [number_of(sequence)])?;
            // A command behind the fence is refused by it, so its answer need not be remembered for ever.
            transaction.execute(
                "DELETE FROM report WHERE acknowledged = 1
                   AND generation < (SELECT generation FROM fence)
                   AND sequence <= (SELECT max(sequence) FROM report) - ?1",
                [KEPT_REPORTS],
            )?;
            transaction.execute(
                "DELETE FROM command WHERE generation < (SELECT generation FROM fence) AND arrived_at < (
                     SELECT min(at) FROM report) AND NOT EXISTS (SELECT 1 FROM report WHERE report.operation = command.operation)",
                [],
            )?;
            Ok(())
        })
    }
}

fn fence(connection: &Connection) -> Result<Option<(Generation, OperationId)>, JournalError> {
    let sql = format!("SELECT generation, operation, {} FROM fence", is_sealed("fence"));
    let row = connection
        .query_row(&sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
        })
        .optional()?;
    row.map(|(generation, operation, sealed)| {
        require(sealed, "fence")?;
        Ok((Generation(generation.unsigned_abs()), from_text("fence", &operation)?))
    })
    .transpose()
}

fn has(connection: &Connection, table: &str, key: &CommandKey) -> Result<bool, JournalError> {
    let sql = format!("SELECT 1 FROM {table} WHERE operation = ?1 AND generation = ?2 AND step = ?3");
    let found = connection
        .query_row(&sql, params![key.operation.to_string(), number(key.generation), key.step], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

fn commands<T: DeserializeOwned>(
    connection: &Connection,
    condition: &str,
    arguments: &[&dyn rusqlite::ToSql],
) -> Result<Vec<StoredCommand<T>>, JournalError> {
    let sql = format!(
        "SELECT operation, generation, step, arrived_at, deadline, body, {} FROM command
         WHERE {condition} ORDER BY rowid",
        is_sealed("command")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(arguments)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key = key(row, 0)?;
        require(row.get(6)?, &format!("command {key}"))?;
        let body = from_body(&format!("command {key}"), &row.get::<_, String>(5)?)?;
        found.push(StoredCommand {
            key,
            arrived_at: Timestamp(row.get(3)?),
            deadline: Timestamp(row.get(4)?),
            body,
        });
    }
    Ok(found)
}

fn reports<T: DeserializeOwned>(
    connection: &Connection,
    condition: &str,
    arguments: &[&dyn rusqlite::ToSql],
) -> Result<Vec<StoredReport<T>>, JournalError> {
    let sql = format!(
        "SELECT sequence, operation, generation, step, at, body, {} FROM report
         WHERE {condition} ORDER BY sequence",
        is_sealed("report")
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(arguments)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key = key(row, 1)?;
        require(row.get(6)?, &format!("report of {key}"))?;
        let body = from_body(&format!("report of {key}"), &row.get::<_, String>(5)?)?;
        let sequence = row.get::<_, i64>(0)?.unsigned_abs();
        found.push(StoredReport { sequence, key, at: Timestamp(row.get(4)?), body });
    }
    Ok(found)
}

/// The name of a command, whose parts stand at `first` and after it.
fn key(row: &Row<'_>, first: usize) -> Result<CommandKey, JournalError> {
    Ok(CommandKey {
        operation: from_text("operation id", &row.get::<_, String>(first)?)?,
        generation: Generation(row.get::<_, i64>(first + 1)?.unsigned_abs()),
        step: row.get(first + 2)?,
    })
}

/// SQLite's integers have a sign; no generation comes near the half of them.
fn number(generation: Generation) -> i64 {
    number_of(generation.0)
}

fn number_of(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl fmt::Display for CommandKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of generation {}", self.operation, self.step, self.generation)
    }
}
