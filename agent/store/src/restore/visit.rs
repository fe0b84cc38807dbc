//! Visits and removes what lies beneath a folder, whatever its depth.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, RawDir, chmod, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::fault::{Action, Fault};
use super::folders::{Folders, readable};
use super::look::{Look, look};
use super::meta::by_number;
use super::pattern::{name, parent};

/// Room for the names that one system call lists.
const LISTING: usize = 32 * 1024;

/// Calls `seen` for every entry beneath `base` with its path there, folders before what they hold, in one fixed order.
pub(super) fn visit<E: From<Fault>>(
    base: OwnedFd,
    shown: &[u8],
    mut seen: impl FnMut(&[u8], &Look) -> Result<(), E>,
) -> Result<(), E> {
    let mut folders = Folders::beneath(base, shown);
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let shown = folders.shown(&path);
        let folder = folders.open(&path)?;
        let names = list(folder).map_err(|errno| Fault::new(Action::List, &shown[..], errno))?;
        let first = pending.len();
        for (name, _) in names {
            let found = look(folder, &name).map_err(|errno| Fault::new(Action::Look, &shown[..], errno))?;
            // Gone since it was listed: whoever compares will miss it.
            let Some(found) = found else { continue };
            let path = join(&path, &name);
            seen(&path, &found)?;
            if found.is_folder() {
                pending.push(path);
            }
        }
        pending[first..].reverse();
    }
    Ok(())
}

/// The names in a folder with their types, sorted.
pub(super) fn list(folder: impl AsFd) -> Result<Vec<(Vec<u8>, FileType)>, Errno> {
    let open = readable(folder)?;
    let mut buffer = Vec::with_capacity(LISTING);
    let mut reader = RawDir::new(open, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    names.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}

/// Removes everything beneath `base` but the entry there of the name `spared`. Never crosses into another mount. Safe to call
/// again.
pub(super) fn clear(base: OwnedFd, shown: &[u8], spared: &[u8]) -> Result<(), Fault> {
    let mut folders = Folders::on_one_mount(base, shown);
    let closed_to_us = !geteuid().is_root();
    // A folder is met twice: first to empty it, then to remove it.
    let mut pending = vec![(Vec::new(), false)];
    while let Some((path, emptied)) = pending.pop() {
        if emptied {
            let (above, name) = (parent(&path).unwrap_or_default(), name(&path));
            let removed = unlinkat(folders.open(above)?, name, AtFlags::REMOVEDIR);
            gone(removed).map_err(|errno| Fault::new(Action::Remove, folders.shown(&path), errno))?;
            continue;
        }
        let shown = folders.shown(&path);
        let folder = match folders.open(&path) {
            Err(fault) if fault.errno == Errno::NOENT => continue,
            other => other?,
        };
        if !path.is_empty() {
            pending.push((path.clone(), true));
        }
        if closed_to_us && !path.is_empty() {
            // What is ours can be opened; if it is not, the next call says so.
            let _ = chmod(by_number(folder), Mode::RWXU);
        }
        let names = list(folder).map_err(|errno| Fault::new(Action::List, &shown[..], errno))?;
        for (name, kind) in names.into_iter().filter(|(name, _)| !path.is_empty() || name != spared) {
            let path = join(&path, &name);
            match remove(folder, &name, kind) {
                Ok(true) => {}
                Ok(false) => pending.push((path, false)),
                Err(errno) => return Err(Fault::new(Action::Remove, folders.shown(&path), errno)),
            }
        }
    }
    Ok(())
}

/// Removes what is no folder. False: it is a folder.
fn remove(folder: impl AsFd, name: &[u8], kind: FileType) -> Result<bool, Errno> {
    if kind == FileType::Directory {
        return Ok(false);
    }
    match gone(unlinkat(folder, name, AtFlags::empty())) {
        Ok(()) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn gone(removed: Result<(), Errno>) -> Result<(), Errno> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
