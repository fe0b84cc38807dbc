//! Folders beneath a base, opened without ever following a link or leaving the base.
//!
//! Invariants
//! - A path is only resolved beneath an open folder, with `openat2` (`RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`), in
//!   pieces shorter than `PATH_MAX`, so that depth has no limit.
//! - At most [`KEPT`] folders stay open for one base, whatever the number and depth of the paths.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use super::fault::{Action, Fault};
use super::pattern::{absolute, is_beneath};

/// How many folders on the way to the last one asked for are kept open.
const KEPT: usize = 16;
/// `PATH_MAX` is 4,096 with its closing zero.
const PIECE: usize = 4000;

/// Opens folders beneath a base; cheapest when asked in the order of their paths.
#[derive(Debug)]
pub(super) struct Folders {
    /// The absolute path of the base, for messages.
    shown: Vec<u8>,
    resolve: ResolveFlags,
    base: OwnedFd,
    /// Each lies beneath the one before.
    way: Vec<(Vec<u8>, OwnedFd)>,
}

impl Folders {
    /// Folders beneath `base`; other file systems may be mounted there.
    pub(super) fn beneath(base: OwnedFd, shown: &[u8]) -> Self {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Self { shown: shown.to_vec(), resolve, base, way: Vec::new() }
    }

    /// Folders beneath `base` on its own mount.
    pub(super) fn on_one_mount(base: OwnedFd, shown: &[u8]) -> Self {
        let mut folders = Self::beneath(base, shown);
        folders.resolve |= ResolveFlags::NO_XDEV;
        folders
    }

    /// The folder at `path`, for calls that name things in it; the base for the empty path.
    pub(super) fn open(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Fault> {
        while self.way.last().is_some_and(|(known, _)| !is_beneath(path, known)) {
            self.way.pop();
        }
        let known = self.way.last().map_or(0, |(known, _)| known.len());
        if known < path.len() {
            let from = self.way.last().map_or(self.base.as_fd(), |(_, open)| open.as_fd());
            let rest = path[known..].strip_prefix(b"/").unwrap_or(&path[known..]);
            let open = open_pieces(from, rest, self.resolve)
                .map_err(|errno| Fault::new(Action::OpenFolder, absolute(&self.shown, path), errno))?;
            if self.way.len() == KEPT {
                self.way.remove(0);
            }
            self.way.push((path.to_vec(), open));
        }
        Ok(self.way.last().map_or(self.base.as_fd(), |(_, open)| open.as_fd()))
    }

    /// The absolute path of a path beneath the base.
    pub(super) fn shown(&self, path: &[u8]) -> Vec<u8> {
        absolute(&self.shown, path)
    }
}

fn open_pieces(from: BorrowedFd<'_>, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let mut rest = path;
    let mut open: Option<OwnedFd> = None;
    loop {
        let (piece, after) = first_piece(rest);
        let base = open.as_ref().map_or(from, AsFd::as_fd);
        let next = open_piece(base, piece, resolve)?;
        if after.is_empty() {
            return Ok(next);
        }
        open = Some(next);
        rest = after;
    }
}

/// As many whole names as one system call takes, and what remains.
fn first_piece(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= PIECE {
        return (path, b"");
    }
    match path[..PIECE].iter().rposition(|&b| b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, b""),
    }
}

fn open_piece(base: BorrowedFd<'_>, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // EAGAIN: something was renamed elsewhere while the path was resolved.
    for _ in 0..8 {
        match openat2(base, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS) => return open_by_name(base, path),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// For systems without `openat2`: one name at a time, none of them followed.
fn open_by_name(base: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = path.split(|&b| b == b'/');
    let first = names.next().unwrap_or_default();
    names.try_fold(openat(base, first, flags, Mode::empty())?, |open, name| {
        openat(&open, name, flags, Mode::empty())
    })
}

/// Opens the folder again in a way that lets it be listed and synced.
pub(super) fn readable(folder: impl AsFd) -> Result<OwnedFd, Errno> {
    openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_falls_into_whole_names() {
        let name = [b'x'; 255];
        let path = [&name[..]; 40].join(&b'/');
        let (mut rest, mut names) = (&path[..], 0);
        while !rest.is_empty() {
            let (piece, after) = first_piece(rest);
            assert!(piece.len() <= PIECE);
            names += piece.split(|&b| b == b'/').inspect(|part| assert_eq!(part.len(), 255)).count();
            rest = after;
        }
        assert_eq!(names, 40);
    }

    #[test]
    fn a_link_or_a_way_up_is_never_followed() {
        let top = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(top.path().join("in/a/b")).expect("folders");
        std::os::unix::fs::symlink("../..", top.path().join("in/a/up")).expect("a link");
        let base =
            openat(rustix::fs::CWD, top.path().join("in"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let mut folders = Folders::beneath(base.expect("the base"), b"/shown");
        for (path, works) in
            [("a", true), ("a/b", true), ("", true), ("a/up", false), ("a/up/in", false), ("..", false)]
        {
            let opened = folders.open(path.as_bytes()).map_err(|fault| fault.path);
            assert_eq!(opened.is_ok(), works, "{path}: {opened:?}");
        }
    }
}
