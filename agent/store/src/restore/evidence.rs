//! By what a live entry is known again, and whether it is still what the plan was made for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rfs_model::Digest;
use rustix::fs::{Mode, OFlags, openat};

use super::contents::Unmanaged;
use super::error::StageError;
use super::fault::{Action, Fault};
use super::look::{BLOCK, CHARACTER, FIFO, FILE, FOLDER, FORMAT, LINK, Look, SOCKET};
use super::pattern::absolute;
use super::plan::mtime;
use super::staged::Evidence;
use super::visit::visit;
use super::wanted::find;
use crate::text::ByteText;
use crate::tree::{Entry, EntryKind};

/// A live entry: the folder that holds it, its name there, and what was seen.
pub(super) struct Sight<'a> {
    pub(super) holder: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) look: &'a Look,
    pub(super) shown: &'a [u8],
}

/// True when `found` is what `entry` says, as far as one look tells.
pub(super) fn is_still(entry: &Entry, found: &Look) -> bool {
    let meta = &entry.meta;
    let (format, size) = match &entry.kind {
        EntryKind::Directory => (FOLDER, None),
        EntryKind::File { size, .. } => (FILE, Some(*size)),
        EntryKind::Symlink(to) => (LINK, Some(to.len() as u64)),
        EntryKind::Fifo => (FIFO, None),
        EntryKind::Socket => (SOCKET, None),
        EntryKind::CharDevice { .. } => (CHARACTER, None),
        EntryKind::BlockDevice { .. } => (BLOCK, None),
    };
    let mode = found.mode & FORMAT == format && (format == LINK || found.mode & !FORMAT == meta.mode);
    mode && size.is_none_or(|size| size == found.size)
        && (meta.uid, meta.gid) == (found.uid, found.gid)
        && mtime(meta) == found.mtime
}

/// Takes the evidence of an entry that will go, after comparing it, and all beneath it, with what the plan knows.
pub(super) fn take(
    sight: &Sight<'_>,
    root: &[u8],
    old: &[Entry],
    unmanaged: Unmanaged,
) -> Result<Evidence, StageError> {
    if !is_still(&old[0], sight.look) {
        return Err(StageError::Changed { path: ByteText(sight.shown.to_vec()) });
    }
    let mut evidence = Evidence::of(sight.look);
    if sight.look.is_folder() {
        let mut known = 1;
        let digest = beneath(sight, |path, found| {
            let path =
                if old[0].path.is_empty() { path.to_vec() } else { [&old[0].path[..], b"/", path].concat() };
            let shown = || ByteText(absolute(root, &path));
            if found.is_elsewhere(sight.look) {
                return Err(StageError::MountPoint { path: shown() });
            }
            if found.fixed {
                return Err(StageError::Immutable { path: shown() });
            }
            match find(old, &path) {
                Some(entry) if is_still(entry, found) => known += 1,
                Some(_) => return Err(StageError::Changed { path: shown() }),
                None if unmanaged == Unmanaged::Drop => {}
                None => {
                    return Err(StageError::Unmanaged {
                        path: shown(),
                        folder: ByteText(sight.shown.to_vec()),
                    });
                }
            }
            Ok(())
        })?;
        if known != old.len() {
            return Err(StageError::Changed { path: ByteText(sight.shown.to_vec()) });
        }
        evidence.beneath = Some(digest);
    }
    Ok(evidence)
}

/// True when the entry is what the evidence was taken of, in all that it says.
pub(super) fn holds<E: From<Fault>>(sight: &Sight<'_>, evidence: &Evidence) -> Result<bool, E> {
    let now = Evidence { beneath: evidence.beneath, ..Evidence::of(sight.look) };
    if now != *evidence {
        return Ok(false);
    }
    match evidence.beneath {
        None => Ok(true),
        Some(digest) => Ok(beneath(sight, |_, _| Ok::<_, E>(()))? == digest),
    }
}

/// The digest of all that can be seen beneath a folder.
fn beneath<E: From<Fault>>(
    sight: &Sight<'_>,
    mut seen: impl FnMut(&[u8], &Look) -> Result<(), E>,
) -> Result<Digest, E> {
    let open = open_folder(sight.holder, sight.name)
        .map_err(|errno| Fault::new(Action::OpenFolder, sight.shown, errno))?;
    let mut hasher = blake3::Hasher::new();
    visit(open, sight.shown, |path, found| {
        let Evidence { inode, mode, size, mtime, ctime, .. } = Evidence::of(found);
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path);
        for number in
            [inode, u64::from(mode), size, mtime.0 as u64, mtime.1.into(), ctime.0 as u64, ctime.1.into()]
        {
            hasher.update(&number.to_le_bytes());
        }
        seen(path, found)
    })?;
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

fn open_folder(holder: impl AsFd, name: &[u8]) -> Result<OwnedFd, rustix::io::Errno> {
    openat(holder, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

impl Evidence {
    pub(super) fn of(found: &Look) -> Self {
        Self {
            inode: found.inode,
            mode: found.mode,
            // A folder's size is the file system's affair.
            size: if found.is_folder() { 0 } else { found.size },
            mtime: found.mtime,
            ctime: found.ctime,
            beneath: None,
        }
    }
}
