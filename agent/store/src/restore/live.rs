//! Live roots as they are opened: the folder above each, and the folders beneath it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::fault::{Action, Fault};
use super::folders::Folders;
use super::look::{Look, look};
use super::pattern::{absolute, name, parent};

/// A root that is open by the folder that holds it.
#[derive(Debug)]
pub(super) struct LiveRoot {
    path: Vec<u8>,
    above: OwnedFd,
    /// Its name in the folder above.
    name: Vec<u8>,
    /// Opened at the first path beneath the root.
    folders: Option<Folders>,
}

impl LiveRoot {
    /// Opens the folder that holds the root. What lies above a root is the administrator's, so links there are followed.
    pub(super) fn open(path: &[u8]) -> Result<Self, Fault> {
        let above =
            open_followed(above(path)).map_err(|errno| Fault::new(Action::OpenFolder, above(path), errno))?;
        let name = if path == b"/" { b"." } else { name(path) };
        Ok(Self { path: path.to_vec(), above, name: name.to_vec(), folders: None })
    }

    /// The folder that holds the root.
    pub(super) fn above(&self) -> BorrowedFd<'_> {
        self.above.as_fd()
    }

    /// The root's absolute path.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The folder that holds `path`, and its name there.
    pub(super) fn holder<'a>(&'a mut self, path: &'a [u8]) -> Result<(BorrowedFd<'a>, &'a [u8]), Fault> {
        match parent(path) {
            Some(folder) => Ok((self.folder(folder)?, name(path))),
            None => Ok((self.above.as_fd(), &self.name)),
        }
    }

    /// The folder at `path`.
    pub(super) fn folder(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Fault> {
        let folders = match self.folders.take() {
            Some(folders) => folders,
            None => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let base = openat(&self.above, &self.name[..], flags, Mode::empty())
                    .map_err(|errno| Fault::new(Action::OpenFolder, &self.path[..], errno))?;
                Folders::beneath(base, &self.path)
            }
        };
        self.folders.insert(folders).open(path)
    }

    /// What stands at `path`.
    pub(super) fn look(&mut self, path: &[u8]) -> Result<Option<Look>, Fault> {
        let (folder, name) = self.holder(path)?;
        look(folder, name).map_err(|errno| Fault::new(Action::Look, self.shown(path), errno))
    }

    /// The absolute path of a path beneath the root.
    pub(super) fn shown(&self, path: &[u8]) -> Vec<u8> {
        absolute(&self.path, path)
    }
}

/// The absolute path of the folder that holds a root.
pub(super) fn above(root: &[u8]) -> &[u8] {
    match root.iter().rposition(|&b| b == b'/') {
        None | Some(0) => b"/",
        Some(at) => &root[..at],
    }
}

/// Makes the folders that are missing above `root`, and says which, the outermost first.
pub(super) fn make_above(root: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
    let folder = above(root);
    match open_followed(folder) {
        Ok(_) => return Ok(Vec::new()),
        Err(Errno::NOENT) if folder != b"/" => {}
        Err(errno) => return Err(Fault::new(Action::OpenFolder, folder, errno)),
    }
    let mut made = make_above(folder)?;
    match mkdirat(CWD, folder, Mode::from_raw_mode(0o755)) {
        Ok(()) => made.push(folder.to_vec()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(Fault::new(Action::Make, folder, errno)),
    }
    Ok(made)
}

fn open_followed(path: &[u8]) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
