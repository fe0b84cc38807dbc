//! Writes new entries, whole, into their slots.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rfs_model::ByteCount;
use rustix::fs::{FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;

use super::contents::{Contents, Progress};
use super::error::StageError;
use super::fault::{Action, Fault};
use super::fill::{Replaced, fill};
use super::folders::{Folders, readable};
use super::look::look_at;
use super::meta::{Held, HeldKind, set_all};
use super::pattern::{name, parent};
use super::plan::entry_bytes;
use super::staged::Slot;
use super::sync::{Trickle, Unsynced};
use super::yard::OpenYard;
use crate::flags;
use crate::text::ByteText;
use crate::tree::{Entry, EntryKind, Extent};

/// One slot and the folders in it, by the paths that its entries will have beneath their root.
pub(super) struct Room<'a> {
    yard: OpenYard,
    slot: Slot,
    /// The path of the entry in the slot itself.
    top: &'a [u8],
    folders: Option<Folders>,
    slot_name: String,
}

impl<'a> Room<'a> {
    pub(super) fn new(yard: &OpenYard, slot: Slot, top: &'a [u8]) -> Result<Self, Fault> {
        Ok(Self { yard: yard.again()?, slot, top, folders: None, slot_name: slot.number.to_string() })
    }

    pub(super) fn is_of(&self, slot: Slot) -> bool {
        self.slot == slot
    }

    /// The folder that holds the entry at `path`, and its name there.
    pub(super) fn holder<'b>(&'b mut self, path: &'b [u8]) -> Result<(BorrowedFd<'b>, &'b [u8]), Fault> {
        match self.beneath(path) {
            None => {
                let (shard, _) = self.yard.slot(self.slot)?;
                Ok((shard, self.slot_name.as_bytes()))
            }
            Some(path) => Ok((self.folders()?.open(parent(path).unwrap_or_default())?, name(path))),
        }
    }

    /// The staged folder at `path`.
    pub(super) fn folder(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Fault> {
        let path = self.beneath(path).unwrap_or_default();
        self.folders()?.open(path)
    }

    /// The path within the slot's folder; `None` for the slot itself.
    fn beneath<'b>(&self, path: &'b [u8]) -> Option<&'b [u8]> {
        let rest = &path[self.top.len()..];
        (!rest.is_empty()).then(|| rest.strip_prefix(b"/").unwrap_or(rest))
    }

    fn folders(&mut self) -> Result<&mut Folders, Fault> {
        let folders = match self.folders.take() {
            Some(folders) => folders,
            None => {
                let shown = self.yard.shown_slot(self.slot);
                let (shard, name) = self.yard.slot(self.slot)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let base = openat(shard, name, flags, Mode::empty())
                    .map_err(|errno| Fault::new(Action::OpenFolder, &shown[..], errno))?;
                Folders::on_one_mount(base, &shown)
            }
        };
        Ok(self.folders.insert(folders))
    }
}

/// Makes a folder that only we can enter until [`finish_folder`].
pub(super) fn make_folder(room: &mut Room<'_>, entry: &Entry, shown: &[u8]) -> Result<(), Fault> {
    let (holder, name) = room.holder(&entry.path)?;
    mkdirat(holder, name, Mode::RWXU).map_err(|errno| Fault::new(Action::Make, shown, errno))
}

/// What every entry is made with.
pub(super) struct Make<'a> {
    pub(super) contents: &'a dyn Contents,
    pub(super) progress: &'a Progress,
    /// Where what was made waits for its own sync, unless its file system is synced as a whole.
    pub(super) unsynced: Option<&'a Unsynced>,
    /// Learns how much was made.
    pub(super) trickle: &'a Trickle,
}

impl Make<'_> {
    /// Makes an entry that is no folder, with content and metadata.
    ///
    /// `replaced` is the file that goes, if it may hold some of what comes.
    pub(super) fn entry(
        &self,
        room: &mut Room<'_>,
        entry: &Entry,
        shown: &[u8],
        replaced: Option<Replaced<'_>>,
    ) -> Result<(), StageError> {
        let (holder, name) = room.holder(&entry.path)?;
        let made = |errno| Fault::new(Action::Make, shown, errno);
        match &entry.kind {
            EntryKind::File { size, content, .. } => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = File::from(openat(holder, name, flags, Mode::RUSR | Mode::WUSR).map_err(made)?);
                let letters = flags::among(&entry.meta.xattrs);
                if flags::come_first(letters) {
                    let fault = |errno| Fault::new(Action::SetAttribute, shown, errno);
                    flags::write(&file, &flags::loose(letters)).map_err(fault)?;
                }
                let is_proven = self.fill(&file, (*size, content), shown, replaced.as_ref())?;
                self.progress.add(entry_bytes(entry, &mut BTreeSet::new()));
                self.trickle.add(*size);
                set_all(Held { open: file.as_fd(), kind: HeldKind::Open, shown }, &entry.meta)?;
                if is_proven {
                    self.contents.proved(&file, content);
                }
                self.made(file.into(), shown);
            }
            EntryKind::Symlink(to) => {
                symlinkat(&to[..], holder, name).map_err(made)?;
                set_by_path(holder, name, HeldKind::Link, entry, shown)?;
            }
            EntryKind::Fifo => {
                mknodat(holder, name, FileType::Fifo, Mode::RUSR, 0).map_err(made)?;
                set_by_path(holder, name, HeldKind::Path, entry, shown)?;
            }
            EntryKind::CharDevice { major, minor } => {
                let device = makedev(*major, *minor);
                mknodat(holder, name, FileType::CharacterDevice, Mode::RUSR, device).map_err(made)?;
                set_by_path(holder, name, HeldKind::Path, entry, shown)?;
            }
            EntryKind::BlockDevice { major, minor } => {
                let device = makedev(*major, *minor);
                mknodat(holder, name, FileType::BlockDevice, Mode::RUSR, device).map_err(made)?;
                set_by_path(holder, name, HeldKind::Path, entry, shown)?;
            }
            // Folders are made before; sockets are never in a plan.
            EntryKind::Directory | EntryKind::Socket => {}
        }
        Ok(())
    }

    fn fill(
        &self,
        file: &File,
        (size, content): (u64, &[Extent]),
        shown: &[u8],
        replaced: Option<&Replaced<'_>>,
    ) -> Result<bool, StageError> {
        let path = || ByteText(shown.to_vec());
        let mut is_proven = false;
        if size > 0 {
            is_proven =
                fill(file, content, replaced, self.contents).map_err(|source| match is_full(&*source) {
                    true => {
                        StageError::NoSpace { path: path(), needed: ByteCount(0), available: ByteCount(0) }
                    }
                    false => StageError::Content { path: path(), source },
                })?;
        }
        let written = look_at(file).map_err(|errno| Fault::new(Action::Look, shown, errno))?.size;
        match written == size {
            true => Ok(is_proven),
            false => Err(StageError::Content { path: path(), source: Box::new(WrongSize { written, size }) }),
        }
    }

    /// Gives a folder its metadata, once all is in it.
    pub(super) fn finish_folder(
        &self,
        room: &mut Room<'_>,
        entry: &Entry,
        shown: &[u8],
    ) -> Result<(), Fault> {
        let folder = room.folder(&entry.path)?;
        let open = readable(folder).map_err(|errno| Fault::new(Action::OpenFolder, shown, errno))?;
        set_all(Held { open: open.as_fd(), kind: HeldKind::Open, shown }, &entry.meta)?;
        self.made(open, shown);
        Ok(())
    }

    fn made(&self, open: OwnedFd, shown: &[u8]) {
        if let Some(unsynced) = self.unsynced {
            unsynced.add(open, shown);
        }
    }
}

fn set_by_path(
    holder: BorrowedFd<'_>,
    name: &[u8],
    kind: HeldKind,
    entry: &Entry,
    shown: &[u8],
) -> Result<(), Fault> {
    let open = openat(holder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Fault::new(Action::Look, shown, errno))?;
    set_all(Held { open: open.as_fd(), kind, shown }, &entry.meta)
}

/// A source of content that wrote too much or too little.
#[derive(Debug, thiserror::Error)]
#[error("{written} bytes were written where the file has {size}")]
struct WrongSize {
    written: u64,
    size: u64,
}

/// True when a full file system is behind an error.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let system = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let errno = error.downcast_ref::<Errno>().map(|errno| errno.raw_os_error());
        if system.or(errno) == Some(Errno::NOSPC.raw_os_error()) {
            return true;
        }
        cause = error.source();
    }
    false
}
