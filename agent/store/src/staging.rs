//! Staging folders, and how one is told from what somebody else made under such a name.
//!
//! A user who owns the folder that a staging folder stands in may rename both that one and others within it. So a name alone
//! says nothing: a staging folder belongs to whoever asks, and holds a mark, an empty file of its own name, which nobody else
//! could put there.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// How the names of staging folders begin.
pub const STAGING_PREFIX: &[u8] = b".rfs-";

/// What a staging folder's name ends in while it is being removed.
pub(crate) const GOING: &str = "~";

/// What a mark's mode is.
const MARK_MODE: Mode = Mode::RUSR;

/// The mark of a staging folder of that name. It is made first, and removed last.
pub(crate) fn mark_of(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name.strip_suffix(GOING.as_bytes()).unwrap_or(name))
}

/// Whether the entry of that name is a staging folder of ours. Only names that begin with [`STAGING_PREFIX`] are looked at.
pub(crate) fn is_staging(folder: impl AsFd, name: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    name.starts_with(STAGING_PREFIX)
        && openat(folder, OsStr::from_bytes(name), flags, Mode::empty())
            .is_ok_and(|open| is_marked(&open, name))
}

/// Whether an open folder is ours, and marked with that name.
pub(crate) fn is_marked(open: &OwnedFd, name: &[u8]) -> bool {
    let mark = || statat(open, mark_of(name), AtFlags::SYMLINK_NOFOLLOW);
    // One that was there before could be linked or renamed here by whoever may write to both folders; none is like it.
    let is_mark = |found: Stat| {
        FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
            && (found.st_mode & 0o7777, found.st_size, found.st_nlink) == (MARK_MODE.bits(), 0, 1)
            && found.st_uid == geteuid().as_raw()
    };
    is_closed(open) && mark().is_ok_and(is_mark)
}

/// Whether an open folder is ours, and nobody else may come in.
pub(crate) fn is_closed(open: &OwnedFd) -> bool {
    fstat(open).is_ok_and(|found| found.st_uid == geteuid().as_raw() && found.st_mode & 0o077 == 0)
}

/// Marks an open folder, in which nothing is yet.
pub(crate) fn mark(open: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(open, mark_of(name), flags, MARK_MODE).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).expect("a folder").into()
    }

    #[test]
    fn a_staging_folder_is_known_by_its_mark_and_not_by_its_name() {
        let holder = tempfile::tempdir().expect("a folder");
        let found = |name: &str| is_staging(open(holder.path()), name.as_bytes());
        let make = |name: &str| {
            fs::DirBuilder::new().mode(0o700).create(holder.path().join(name)).expect("new");
        };
        make(".rfs-1");
        assert!(!found(".rfs-1"), "somebody else's, or empty");
        mark(&open(&holder.path().join(".rfs-1")), b".rfs-1").expect("writable");
        assert!(found(".rfs-1"));
        fs::rename(holder.path().join(".rfs-1"), holder.path().join(".rfs-1~")).expect("renamed");
        assert!(found(".rfs-1~"), "it is going");
        fs::rename(holder.path().join(".rfs-1~"), holder.path().join(".rfs-2")).expect("renamed");
        assert!(!found(".rfs-2"), "renamed by somebody else");
        fs::rename(holder.path().join(".rfs-2"), holder.path().join(".rfs-1")).expect("renamed");
        assert!(found(".rfs-1"));
        fs::hard_link(holder.path().join(".rfs-1/.rfs-1"), holder.path().join("f")).expect("linked");
        assert!(!found(".rfs-1"), "what was linked here from elsewhere is no mark");
        fs::remove_file(holder.path().join("f")).expect("ours");
        let open_to_all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(holder.path().join(".rfs-1"), open_to_all).expect("ours");
        assert!(!found(".rfs-1"), "others may come in");
        fs::write(holder.path().join(".rfs-3"), "").expect("writable");
        assert!(!found(".rfs-3") && !found(".rfs-4"));
    }
}
