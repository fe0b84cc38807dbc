//! Staging folders: hidden, closed to all others, and swept without a trace.
//!
//! A yard stands beside its root, in the folder that holds it, when that is the same mount; else within the root; and one
//! more stands within each further mount or volume beneath the root, so that a rename always stays on one file system.
//! The time of the folder that it stands in is put back after it is made and after it is removed.
//!
//! In it: the mark by which it is known (see [`staging`]); slots in folders of [`SHARD`]; `flipping` once a flip has begun;
//! `yards`, the list of the further yards of its root, so that a sweep finds them. While it is being removed its name ends
//! in `~`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, fchmod, fremovexattr, mkdirat, openat, renameat, renameat_with,
    unlinkat,
};
use rustix::io::Errno;

use super::error::StageError;
use super::fault::{Action, Fault};
use super::look::{look, look_at};
use super::meta::set_time;
use super::staged::{Slot, StagingName};
use super::visit::{clear, list};
use crate::staging::{self, GOING};
use crate::text::ByteText;

/// Slots in one folder: few, because a name is looked for from one end of its folder to the other.
const SHARD: u32 = 32;
const FLIPPING: &str = "flipping";
const YARDS: &str = "yards";

/// A staging folder that is open.
#[derive(Debug)]
pub(super) struct OpenYard {
    open: OwnedFd,
    shown: Vec<u8>,
    /// The shard opened last.
    shard: Option<(u32, OwnedFd)>,
}

/// The folder that a yard stands in, open for naming, with its absolute path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) folder: BorrowedFd<'a>,
    pub(super) shown: &'a [u8],
}

impl Ground<'_> {
    fn shown_yard(&self, name: &str) -> Vec<u8> {
        super::pattern::absolute(self.shown, name.as_bytes())
    }

    /// Does `work` in this folder and puts the folder's time back.
    fn undisturbed<T>(&self, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let before = look_at(self.folder).map_err(|errno| Fault::new(Action::Look, self.shown, errno))?;
        let done = work();
        match set_time(self.folder, before.mtime) {
            // A folder of someone else's, where the agent may only make names.
            Ok(()) | Err(Errno::PERM) => done,
            Err(errno) => done.and(Err(Fault::new(Action::SetTime, self.shown, errno))),
        }
    }
}

/// Makes a yard; one that a crash left behind is swept first. What else stands there under such a name stays, and none is made.
pub(super) fn make(ground: Ground<'_>, name: &StagingName) -> Result<OpenYard, StageError> {
    let shown = ground.shown_yard(name.as_str());
    if let Some(yard) = OpenYard::find(ground, name)? {
        if yard.is_flipping()? {
            return Err(StageError::InUse { path: ByteText(shown) });
        }
        yard.remove(ground, name)?;
    }
    remove_rest(ground, name)?;
    ground.undisturbed(|| {
        mkdirat(ground.folder, name.as_str(), Mode::RWXU)
            .map_err(|errno| Fault::new(Action::Make, &shown[..], errno))
    })?;
    let opened = open_new(ground, name, &shown);
    if opened.is_err() {
        // It goes again, if it is the one that was made.
        let _ = remove_empty(ground, name.as_str());
    }
    opened
}

/// Opens and marks a yard that was just made.
fn open_new(ground: Ground<'_>, name: &StagingName, shown: &[u8]) -> Result<OpenYard, StageError> {
    let moved = || StageError::Changed { path: ByteText::from(shown) };
    let open = open_folder(ground.folder, name.as_str(), shown)?.ok_or_else(moved)?;
    // Whoever owns the folder that it stands in may have put another one in its place.
    let is_empty = || list(&open).map(|names| names.is_empty());
    if !staging::is_closed(&open) || !is_empty().map_err(|errno| Fault::new(Action::List, shown, errno))? {
        return Err(moved());
    }
    let yard = OpenYard { open, shown: shown.to_vec(), shard: None };
    yard.close_to_others().map_err(|errno| Fault::new(Action::SetMode, shown, errno))?;
    staging::mark(&yard.open, name.as_str().as_bytes())
        .map_err(|errno| Fault::new(Action::Make, shown, errno))?;
    Ok(yard)
}

/// Removes what an interrupted removal left, and one that has no mark yet. What is not ours is not empty, or loses nothing.
pub(super) fn remove_rest(ground: Ground<'_>, name: &StagingName) -> Result<(), Fault> {
    let going = going(name);
    let shown = ground.shown_yard(&going);
    match open_folder(ground.folder, &going, &shown) {
        Ok(Some(open)) if is_marked(&open, &going) => empty(&open, name, &shown)?,
        Ok(_) | Err(Fault { errno: Errno::NOTDIR | Errno::LOOP, .. }) => {}
        Err(fault) => return Err(fault),
    }
    [&going[..], name.as_str()].into_iter().try_for_each(|name| remove_empty(ground, name))
}

/// Removes all that a yard holds, its mark last.
fn empty(open: &OwnedFd, name: &StagingName, shown: &[u8]) -> Result<(), Fault> {
    let again = open.try_clone().map_err(|_| Fault::new(Action::OpenFolder, shown, Errno::MFILE))?;
    let mark = staging::mark_of(name.as_str().as_bytes());
    clear(again, shown, mark.as_bytes())?;
    match unlinkat(open, mark, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Fault::new(Action::Remove, shown, errno)),
    }
}

/// Removes a folder of that name, if there is one and nothing is in it.
fn remove_empty(ground: Ground<'_>, name: &str) -> Result<(), Fault> {
    if look(ground.folder, name.as_bytes()).is_ok_and(|found| found.is_none()) {
        return Ok(());
    }
    ground.undisturbed(|| match unlinkat(ground.folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(Fault::new(Action::Remove, ground.shown_yard(name), errno)),
    })
}

fn going(name: &StagingName) -> String {
    format!("{name}{GOING}")
}

fn is_marked(open: &OwnedFd, name: &str) -> bool {
    staging::is_marked(open, name.as_bytes())
}

fn open_folder(folder: impl AsFd, name: &str, shown: &[u8]) -> Result<Option<OwnedFd>, Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(open) => Ok(Some(open)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Fault::new(Action::OpenFolder, shown, errno)),
    }
}

impl OpenYard {
    /// Opens the yard if it is there, and is ours.
    pub(super) fn find(ground: Ground<'_>, name: &StagingName) -> Result<Option<Self>, Fault> {
        let shown = ground.shown_yard(name.as_str());
        let open = open_folder(ground.folder, name.as_str(), &shown)?;
        Ok(open.filter(|open| is_marked(open, name.as_str())).map(|open| Self { open, shown, shard: None }))
    }

    /// The yard's folder.
    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.open.as_fd()
    }

    /// The yard's absolute path.
    pub(super) fn path(&self) -> &[u8] {
        &self.shown
    }

    /// The yard's inode.
    pub(super) fn inode(&self) -> Result<u64, Fault> {
        look_at(&self.open).map(|found| found.inode).map_err(|errno| self.fault(Action::Look, errno))
    }

    /// The absolute path of a slot, for messages.
    pub(super) fn shown_slot(&self, slot: Slot) -> Vec<u8> {
        let path = format!("{}/{}", slot.number / SHARD, slot.number);
        super::pattern::absolute(&self.shown, path.as_bytes())
    }

    /// Slots with the same number are in one folder.
    pub(super) fn shard_of(slot: Slot) -> u32 {
        slot.number / SHARD
    }

    /// The folder of a slot and its name there; cheapest in the order of their numbers.
    pub(super) fn slot(&mut self, slot: Slot) -> Result<(BorrowedFd<'_>, String), Fault> {
        let number = Self::shard_of(slot);
        let shard = match self.shard.take() {
            Some((known, open)) if known == number => open,
            Some(_) | None => self.open_shard(number)?,
        };
        let (_, open) = &*self.shard.insert((number, shard));
        Ok((open.as_fd(), slot.number.to_string()))
    }

    /// Makes the folder that a slot needs.
    pub(super) fn make_shard(&self, slot: Slot) -> Result<(), Fault> {
        match mkdirat(&self.open, (slot.number / SHARD).to_string(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.fault(Action::Make, errno)),
        }
    }

    /// Puts a new empty file into an empty slot.
    pub(super) fn fill(&mut self, slot: Slot) -> Result<(), Fault> {
        let shown = self.shown_slot(slot);
        let (shard, name) = self.slot(slot)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(shard, name, flags, Mode::RUSR) {
            Ok(_) => Ok(()),
            Err(errno) => Err(Fault::new(Action::Make, shown, errno)),
        }
    }

    fn open_shard(&self, number: u32) -> Result<OwnedFd, Fault> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.open, number.to_string(), flags, Mode::empty())
            .map_err(|errno| self.fault(Action::OpenFolder, errno))
    }

    /// A second handle on the same yard, for another thread.
    pub(super) fn again(&self) -> Result<Self, Fault> {
        let open = self.open.try_clone().map_err(|_| self.fault(Action::OpenFolder, Errno::MFILE))?;
        Ok(Self { open, shown: self.shown.clone(), shard: None })
    }

    /// True once a flip has begun.
    pub(super) fn is_flipping(&self) -> Result<bool, Fault> {
        let found = look(&self.open, FLIPPING.as_bytes()).map_err(|errno| self.fault(Action::Look, errno))?;
        Ok(found.is_some())
    }

    /// Notes that a flip begins.
    pub(super) fn mark_flipping(&self) -> Result<(), Fault> {
        self.make_file(FLIPPING).map(drop)
    }

    /// The list of further yards, for reading.
    pub(super) fn list(&self) -> Result<Option<OwnedFd>, Fault> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.open, YARDS, flags, Mode::empty()) {
            Ok(open) => Ok(Some(open)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.fault(Action::Look, errno)),
        }
    }

    /// The list of further yards, for writing.
    pub(super) fn make_list(&self) -> Result<OwnedFd, Fault> {
        self.make_file(YARDS)
    }

    fn make_file(&self, name: &str) -> Result<OwnedFd, Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.open, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| self.fault(Action::Make, errno))
    }

    /// Finds out whether two names can be exchanged here.
    pub(super) fn try_exchange(&self) -> Result<(), StageError> {
        let names = ["probe-a", "probe-b"];
        for name in names {
            self.make_file(name)?;
        }
        let exchanged = renameat_with(&self.open, names[0], &self.open, names[1], RenameFlags::EXCHANGE);
        for name in names {
            unlinkat(&self.open, name, AtFlags::empty())
                .map_err(|errno| self.fault(Action::Remove, errno))?;
        }
        match exchanged {
            Ok(()) => Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                Err(StageError::NoExchange { path: ByteText(self.shown.clone()) })
            }
            Err(errno) => Err(self.fault(Action::Exchange, errno).into()),
        }
    }

    /// Removes the yard with all that it holds.
    pub(super) fn remove(self, ground: Ground<'_>, name: &StagingName) -> Result<(), Fault> {
        remove_rest(ground, name)?;
        let going = going(name);
        let renamed = ground.undisturbed(|| {
            match renameat(ground.folder, name.as_str(), ground.folder, &going[..]) {
                Ok(()) => Ok(true),
                // Somebody has taken that name.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(false),
                Err(errno) => Err(self.fault(Action::Remove, errno)),
            }
        })?;
        if !renamed {
            empty(&self.open, name, &self.shown)?;
        }
        remove_rest(ground, name)
    }

    /// A yard inherits nothing from the folder that it stands in: what is staged would inherit it again.
    fn close_to_others(&self) -> Result<(), Errno> {
        for acl in ["system.posix_acl_default", "system.posix_acl_access"] {
            match fremovexattr(&self.open, acl) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        }
        fchmod(&self.open, Mode::RWXU)
    }

    fn fault(&self, action: Action, errno: Errno) -> Fault {
        Fault::new(action, &self.shown[..], errno)
    }
}
