//! Where the coordinator's time was anchored.

use std::time::Duration;

use rfs_model::Timestamp;
use sqlx::Row;

use super::SqliteStore;
use super::row::{column, event, number};
use crate::store::contract::{Anchor, StoreError};

impl SqliteStore {
    pub(super) async fn anchor(&self) -> Result<Option<Anchor>, StoreError> {
        let row = sqlx::query("SELECT boot, uptime, time FROM timeline WHERE id = 1")
            .fetch_optional(&self.readers)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Anchor {
            boot: row.try_get("boot")?,
            uptime: Duration::from_millis(number(&row, "uptime")?),
            time: Timestamp(row.try_get("time")?),
        }))
    }

    pub(super) async fn set_anchor(&self, anchor: Anchor) -> Result<(), StoreError> {
        let uptime = u64::try_from(anchor.uptime.as_millis()).unwrap_or(u64::MAX);
        sqlx::query(
            "INSERT INTO timeline (id, boot, uptime, time) VALUES (1, $1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, uptime = excluded.uptime, time = excluded.time",
        )
        .bind(anchor.boot)
        .bind(column(uptime)?)
        .bind(anchor.time.0)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(super) async fn newest_time_of_open(&self) -> Result<Option<Timestamp>, StoreError> {
        let rows = sqlx::query(
            "SELECT event.operation, event.position, event.body FROM operation JOIN event \
             ON event.operation = operation.id AND event.position = operation.position - 1 \
             WHERE operation.is_open = 1",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut newest = None;
        for row in &rows {
            let (operation, position) = (row.try_get("operation")?, number(row, "position")?);
            // An operation whose history cannot be read holds still; the others go on without it.
            if let Ok(event) = event(operation, position, row.try_get("body")?) {
                newest = newest.max(Some(event.at()));
            }
        }
        Ok(newest)
    }
}
