//! Small steps on files that must be durable, with errors that say where and what to do.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rfs_model::ByteCount;

use crate::error::StoreError;
use crate::space;

/// Creates a file that must not be there, readable by its owner alone: content may be secret.
pub(crate) fn create_new(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(write_error(path, 0))
}

/// Replaces `path` with `bytes` at once and durably: after a crash it has the old bytes or the new.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    replace_with(path, &[bytes], true).map_err(|(path, source)| write_error(&path, bytes.len())(source))?;
    sync_folder(path.parent().unwrap_or(path))
}

/// Replaces `path` with these pieces at once, durably or not. What failed half-way does not take room any longer.
pub(crate) fn replace_with(path: &Path, pieces: &[&[u8]], durably: bool) -> Result<(), (PathBuf, io::Error)> {
    let temporary = path.with_extension("part");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let write = || -> io::Result<()> {
        let mut file = options.open(&temporary)?;
        pieces.iter().try_for_each(|piece| file.write_all(piece))?;
        if durably {
            file.sync_data()?;
        }
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        (temporary.clone(), error)
    })
}

/// Renames within the store.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::rename(from, to).map_err(write_error(to, 0))
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(StoreError::Io { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = File::open(path).map_err(StoreError::io("open", path))?;
    folder.sync_all().map_err(write_error(path, 0))
}

/// Makes a folder and its name durable; one that is there is fine.
pub(crate) fn create_folder(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    let created = std::fs::DirBuilder::new().mode(0o700).create(path);
    match created {
        Err(source) if source.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(write_error(path, 0)),
    }
}

/// Tells a full disk from other failures of a write.
pub(crate) fn write_error(path: &Path, length: usize) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| match source.kind() {
        ErrorKind::StorageFull if space::is_out_of_inodes(&path) => StoreError::NoInodes { path },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let available = path.parent().and_then(|folder| space::available(folder).ok()).unwrap_or(0);
            let (needed, reserve) = (ByteCount(length as u64), ByteCount(0));
            StoreError::NoSpace { path, needed, reserve, available: ByteCount(available) }
        }
        _ => StoreError::Io { action: "write", path, source },
    }
}
