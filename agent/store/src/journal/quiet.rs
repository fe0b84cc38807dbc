//! Components that were made quiet for a checkpoint, so that they resume whatever happens.

use rfs_model::{ComponentName, OperationId, Timestamp};
use rusqlite::params;

use super::seal::{is_sealed, require};
use super::{Journal, JournalError, from_text};

/// A component that was, or was about to be, made quiet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// Which.
    pub component: ComponentName,
    /// For which checkpoint.
    pub operation: OperationId,
    /// When it resumes at the latest.
    pub until: Timestamp,
}

impl Journal {
    /// Notes that the component is about to be made quiet.
    pub fn quiet(&self, quiet: &Quiet) -> Result<(), JournalError> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO quiet (component, operation, until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (component) DO UPDATE SET operation = ?2, until = ?3",
                params![quiet.component.as_str(), quiet.operation.to_string(), quiet.until.0],
            )?;
            Ok(())
        })
    }

    /// Notes that the component has resumed.
    pub fn resumed(&self, component: &ComponentName) -> Result<(), JournalError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM quiet WHERE component = ?1", [component.as_str()])?;
            Ok(())
        })
    }

    /// The components that have not resumed.
    pub fn all_quiet(&self) -> Result<Vec<Quiet>, JournalError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT component, operation, until, {} FROM quiet ORDER BY rowid",
                is_sealed("quiet")
            ))?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                require(row.get(3)?, "note of a quiet component")?;
                found.push(Quiet {
                    component: from_text("component name", &row.get::<_, String>(0)?)?,
                    operation: from_text("operation id", &row.get::<_, String>(1)?)?,
                    until: Timestamp(row.get(2)?),
                });
            }
            Ok(found)
        })
    }
}
