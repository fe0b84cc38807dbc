//! The file: for its owner alone, refused if it is somebody else's or newer, and brought to this version at one stroke.

use std::error::Error;
use std::io;
use std::path::Path;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, SqlStr, SqliteConnection};
use tokio::fs::OpenOptions;

/// Each brings the file from the version before to its own. One that was released is never changed: the file remembers
/// its digest.
const MIGRATIONS: [(i64, &str, &str); 1] = [(1, "begin", include_str!("0001_begin.sql"))];

/// A database that this version must not touch.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(
        "it was written by a newer version of rfs (its schema is {found}, this version knows {known}): \
         run that version, or restore the copy from before the upgrade"
    )]
    Newer { found: i64, known: i64 },
    #[error("it is a database of something else: name another file")]
    Foreign,
}

/// Makes the file if it is not there. SQLite gives its log the same mode.
pub(super) async fn make(path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).await.map(drop)
}

/// Brings the schema to this version, all or nothing; of two processes at once, the second finds it done.
pub(super) async fn upgrade(connection: &mut SqliteConnection) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    refuse(&mut transaction).await?;
    // `run` asks for more of a connection's lifetime than a future that is sent between threads can give.
    migrator().run_direct(None, &mut *transaction, false).await?;
    Ok(transaction.commit().await?)
}

async fn refuse(transaction: &mut SqliteConnection) -> Result<(), Box<dyn Error + Send + Sync>> {
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
        .fetch_all(&mut *transaction)
        .await?;
    if tables.is_empty() {
        return Ok(());
    }
    if !tables.iter().any(|table| table == "_sqlx_migrations") {
        return Err(Refused::Foreign.into());
    }
    let found: Option<i64> =
        sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(transaction).await?;
    let known = MIGRATIONS.map(|(version, ..)| version).into_iter().max().unwrap_or_default();
    match found {
        Some(found) if found > known => Err(Refused::Newer { found, known }.into()),
        Some(_) | None => Ok(()),
    }
}

fn migrator() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(MIGRATIONS.into_iter().map(migration).collect())
}
