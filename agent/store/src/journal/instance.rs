//! The id of the machine: a random one, made once and kept with the fence.
//!
//! It lives here because it must live and die with the fence: a journal that was lost knows no generation that the host has
//! obeyed, so that the host is another machine to whoever commands it.

use rfs_model::InstanceId;
use rusqlite::{Connection, OptionalExtension, params};

use super::seal::{is_sealed, require};
use super::{Journal, JournalError, from_text};

impl Journal {
    /// The id that is kept; `fresh` is kept from now on, durably, if there is none. One that is not as it was written is
    /// replaced: the host is shown as another machine then, which a person looks at.
    pub fn instance(&self, fresh: InstanceId) -> Result<InstanceId, JournalError> {
        match self.read(kept) {
            Ok(Some(instance)) => return Ok(instance),
            Ok(None) => {}
            Err(JournalError::Damaged { .. }) => {
                tracing::error!(instance = %fresh, "the machine's id is damaged; it has another one from now on");
            }
            Err(error) => return Err(error),
        }
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO instance (one, id) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET id = ?1",
                params![fresh.to_string()],
            )?;
            Ok(fresh)
        })
    }
}

fn kept(connection: &Connection) -> Result<Option<InstanceId>, JournalError> {
    let sql = format!("SELECT id, {} FROM instance", is_sealed("instance"));
    let row = connection.query_row(&sql, [], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
    let Some((id, sealed)) = row.optional()? else { return Ok(None) };
    require(sealed, "machine's id")?;
    from_text("machine's id", &id).map(Some)
}
