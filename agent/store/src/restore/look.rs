//! What stands at a name, without following it.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

/// What the system says of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) inode: u64,
    /// Type and permissions.
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    pub(super) ctime: (i64, u32),
    pub(super) mount: Mount,
    /// Immutable or append-only.
    pub(super) fixed: bool,
}

/// Where names can be exchanged with one another: one mount of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mount {
    id: u64,
    device: (u32, u32),
}

impl Look {
    pub(super) fn is_folder(&self) -> bool {
        self.mode & FORMAT == FOLDER
    }

    /// True when it is on another mount than the folder `top`, or is a volume of its own.
    pub(super) fn is_elsewhere(&self, top: &Self) -> bool {
        // Stacked file systems say another device of files, though not of folders.
        self.mount.id != top.mount.id || (self.is_folder() && self.mount != top.mount)
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode & FORMAT == FILE
    }

    pub(super) fn is_link(&self) -> bool {
        self.mode & FORMAT == LINK
    }
}

/// The bits of a mode that say what an entry is.
pub(super) const FORMAT: u32 = 0o170_000;
pub(super) const FOLDER: u32 = 0o040_000;
pub(super) const FILE: u32 = 0o100_000;
pub(super) const LINK: u32 = 0o120_000;
pub(super) const FIFO: u32 = 0o010_000;
pub(super) const SOCKET: u32 = 0o140_000;
pub(super) const CHARACTER: u32 = 0o020_000;
pub(super) const BLOCK: u32 = 0o060_000;

/// Looks at `name` in `folder`. `None`: nothing is there.
pub(super) fn look(folder: impl AsFd, name: &[u8]) -> Result<Option<Look>, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(folder, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID) {
        Ok(found) => Ok(Some(read(&found))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Looks at what is open.
pub(super) fn look_at(open: impl AsFd) -> Result<Look, Errno> {
    statx(open, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
        .map(|found| read(&found))
}

fn read(found: &Statx) -> Look {
    Look {
        inode: found.stx_ino,
        mode: u32::from(found.stx_mode),
        links: found.stx_nlink,
        uid: found.stx_uid,
        gid: found.stx_gid,
        size: found.stx_size,
        mtime: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        ctime: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        mount: Mount { id: found.stx_mnt_id, device: (found.stx_dev_major, found.stx_dev_minor) },
        fixed: found.stx_attributes.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND),
    }
}
