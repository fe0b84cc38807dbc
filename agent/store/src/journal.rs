//! The host's journal: what it was asked, what it was about to do, and what it answered.
//!
//! One SQLite file beside the snapshots, readable with `sqlite3`. When a call that writes returns, what it wrote
//! survives a power cut: the log is synced with each transaction, but for [`Journal::advance_unsynced`].
//!
//! Invariants
//! - The journal knows no meaning: steps, phases and bodies are text of whoever writes them. Order, uniqueness and
//!   durability are its own.
//! - A command is there once, and has at most one report; reports are numbered upwards and a number is never used twice.
//! - The fence never goes down.
//! - At most one restore is open.
//! - The id of the machine is made once.
//! - A row that is not as it was written is never acted upon: each is sealed with a digest of what it says.
//! - A disk that has become full does not silence the journal: some space is kept for it and given up then.

mod commands;
mod instance;
mod quiet;
mod runs;

mod check;
mod schema;
mod seal;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use check::check;
pub use commands::{Admission, CommandKey, StoredCommand, StoredReport};
pub use quiet::Quiet;
pub use runs::{Arrow, Held, NewRun, Run, RunId};

/// The file's name in the store's folder.
pub const FILE: &str = "journal.sqlite";

/// Kept on the disk so that a restore can be taken back when the disk is full.
pub(crate) const BALLAST: &str = "journal.ballast";
const BALLAST_BYTES: usize = 1 << 20;

/// The journal of one host. Whoever holds the store's lock is its only writer.
#[derive(Debug)]
pub struct Journal {
    connection: Mutex<Connection>,
    ballast: PathBuf,
}

/// Why the journal could not be read or written. Nothing that it held is lost by any of these.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A newer version wrote it. Upgrade.
    #[error("journal {} has format {found}; this version reads up to {supported}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The format that it has.
        found: u32,
        /// The newest that this version reads.
        supported: u32,
    },
    /// The disk is full. Free some space.
    #[error("no space, or no free inode, is left for the journal")]
    NoSpace(#[source] rusqlite::Error),
    /// A read or a write failed.
    #[error("the journal cannot be read or written")]
    Database(#[source] rusqlite::Error),
    /// A file beside it cannot be written.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it holds was not written by us.
    #[error("the journal's {what} is not readable")]
    Damaged {
        /// Which part.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A restore is open already.
    #[error("another restore is not finished")]
    Busy,
}

impl Journal {
    /// Opens the journal in the store's folder, and makes it if there is none. The caller holds the store's lock.
    ///
    /// On a full disk the kept space is given up first, and no file but the log is made beside the journal.
    pub fn open(store: &Path) -> Result<Self, JournalError> {
        let open = |is_shared| Self::open_shared(store, is_shared).map_err(|error| unmade(store, error));
        let is_full = |opened: &Result<_, _>| matches!(opened, Err(JournalError::NoSpace(_)));
        let mut opened = open(true);
        if is_full(&opened) {
            tracing::warn!("the disk is full; the journal uses the space that was kept for it");
            // The index of the log is one file less beside it; the agent's socket needs one too.
            opened = open(false);
        }
        while is_full(&opened) && crate::space::give_back(store) {
            opened = open(false);
        }
        opened
    }

    fn open_shared(store: &Path, is_shared: bool) -> Result<Self, JournalError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let path = store.join(FILE);
        private(&path)?;
        let connection = Connection::open_with_flags_and_vfs(&path, flags, sharing(store))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        if !is_shared {
            // What readers share is then in memory.
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        seal::register(&connection)?;
        schema::bring_up(&connection, &path)?;
        let journal = Self { connection: Mutex::new(connection), ballast: store.join(BALLAST) };
        journal.load_ballast()?;
        Ok(journal)
    }

    /// The journal in that folder as it is, for reading alone.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn read_only(store: &Path) -> Result<Self, JournalError> {
        let connection = check::open(&store.join(FILE), true)?;
        Ok(Self { connection: Mutex::new(connection), ballast: store.join(BALLAST) })
    }

    /// Seals every row of the journal in that folder as it is.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn seal_all(store: &Path) -> Result<(), JournalError> {
        let connection = Connection::open(store.join(FILE))?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        seal::register(&connection)?;
        for (table, columns) in seal::SEALED {
            connection.execute_batch(&format!("UPDATE {table} SET seal = row_seal('{table}', {columns})"))?;
        }
        Ok(())
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half transaction: it was rolled back when it was dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, JournalError>) -> Result<T, JournalError> {
        work(&self.connection())
    }

    /// Runs `work` in a transaction that is durable when this returns. On a full disk the kept space is given up first.
    fn write<T>(
        &self,
        work: impl Fn(&Transaction<'_>) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        match self.write_once(&work) {
            Err(JournalError::NoSpace(error)) => {
                if std::fs::remove_file(&self.ballast).is_err() {
                    return Err(JournalError::NoSpace(error));
                }
                tracing::warn!("the disk is full; the journal uses the space that was kept for it");
                self.write_once(&work)
            }
            other => other,
        }
    }

    fn write_once<T>(
        &self,
        work: impl Fn(&Transaction<'_>) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        transact(&mut self.connection(), work)
    }

    /// The same without waiting for the disk: the next write makes it durable with itself.
    fn write_unsynced<T>(
        &self,
        work: impl Fn(&Transaction<'_>) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let written = {
            let mut connection = Unsynced(self.connection());
            connection.0.pragma_update(None, "synchronous", "NORMAL")?;
            transact(&mut connection.0, &work)
        };
        match written {
            Err(JournalError::NoSpace(_)) => self.write(work),
            other => other,
        }
    }

    /// Puts the kept space in place; a disk that is full already keeps none.
    fn load_ballast(&self) -> Result<(), JournalError> {
        if std::fs::metadata(&self.ballast).is_ok_and(|meta| meta.len() == BALLAST_BYTES as u64) {
            return Ok(());
        }
        let filled = File::create(&self.ballast).and_then(|mut file| file.write_all(&vec![0; BALLAST_BYTES]));
        match filled {
            Err(error) if is_full(&error) => {
                let _ = std::fs::remove_file(&self.ballast);
                tracing::warn!("the disk is full; no space can be kept for the journal");
                Ok(())
            }
            other => other.map_err(|source| JournalError::Io { path: self.ballast.clone(), source }),
        }
    }
}

/// A connection that does not wait for the disk; whatever happens, it does again for whoever comes next.
struct Unsynced<'a>(MutexGuard<'a, Connection>);

impl Drop for Unsynced<'_> {
    fn drop(&mut self) {
        // It fails only within a transaction, and there is none any more.
        self.0.pragma_update(None, "synchronous", "FULL").expect("no transaction is open");
    }
}

fn transact<T>(
    connection: &mut Connection,
    work: impl Fn(&Transaction<'_>) -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

/// How connections share the index of the log: among processes in a file that is mapped into their memory, or within this
/// process alone.
///
/// Where a file system writes each page to a new place, a mapped page of a full disk cannot be written, and the process is
/// killed for it (SIGBUS).
fn sharing(store: &Path) -> &'static std::ffi::CStr {
    const BTRFS: u64 = 0x9123_683e;
    const BCACHEFS: u64 = 0xca45_1a4e;
    const ZFS: u64 = 0x2fc1_2fc1;
    const F2FS: u64 = 0xf2f5_2010;
    let kind = rustix::fs::statfs(store).map_or(0, |found| found.f_type as u64 & 0xffff_ffff);
    if [BTRFS, BCACHEFS, ZFS, F2FS].contains(&kind) { c"unix-excl" } else { c"unix" }
}

/// Makes the file readable by its owner alone before SQLite opens it: reports may quote programs.
fn private(path: &Path) -> Result<(), JournalError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map(drop).map_err(|source| JournalError::Io { path: path.into(), source })
}

fn to_body(value: &impl Serialize) -> Result<String, JournalError> {
    serde_json::to_string(value)
        .map_err(|source| JournalError::Damaged { what: "new entry".into(), source: source.into() })
}

fn from_body<T: DeserializeOwned>(what: &str, body: &str) -> Result<T, JournalError> {
    serde_json::from_str(body)
        .map_err(|source| JournalError::Damaged { what: what.into(), source: source.into() })
}

/// Reads a value that was written as text.
fn from_text<T>(what: &str, text: &str) -> Result<T, JournalError>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse().map_err(|source: T::Err| JournalError::Damaged { what: what.into(), source: source.into() })
}

const SHMSIZE: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
const SHMOPEN: i32 = rusqlite::ffi::SQLITE_IOERR_SHMOPEN;

/// SQLite does not say why it cannot make the log; on a full disk that is why.
fn unmade(store: &Path, error: JournalError) -> JournalError {
    match error {
        JournalError::Database(error)
            if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && crate::space::is_full(store) =>
        {
            JournalError::NoSpace(error)
        }
        other => other,
    }
}

fn extended(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::NoSpace(error),
            // The index of the log cannot grow, or cannot be made.
            Some(_) if matches!(extended(&error), Some(SHMSIZE | SHMOPEN)) => Self::NoSpace(error),
            _ => Self::Database(error),
        }
    }
}

#[cfg(test)]
mod tests;
