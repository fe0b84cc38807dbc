//! Opening beneath a root, and what the kernel says of what is there.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::cache::Grain;
use crate::error::CaptureError;
use crate::flags;

/// Attributes, sorted by name.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What the kernel says of one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) found: Found,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) ino: u64,
    pub(crate) links: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    pub(crate) mount: u64,
}

/// The kind of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Directory,
    File,
    Symlink,
    Fifo,
    Socket,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

impl Live {
    fn from_statx(stat: &Statx) -> Self {
        let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
        let mode = u32::from(stat.stx_mode);
        let found = match FileType::from_raw_mode(mode) {
            FileType::Directory => Found::Directory,
            FileType::Symlink => Found::Symlink,
            FileType::Fifo => Found::Fifo,
            FileType::Socket => Found::Socket,
            FileType::CharacterDevice => Found::CharDevice { major, minor },
            FileType::BlockDevice => Found::BlockDevice { major, minor },
            FileType::RegularFile | FileType::Unknown => Found::File,
        };
        // Kernels before 5.8 do not number mounts; the device tells most of them apart.
        let mount = match stat.stx_mask & StatxFlags::MNT_ID.bits() {
            0 => u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            _ => stat.stx_mnt_id,
        };
        Self {
            found,
            mode: mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            ino: stat.stx_ino,
            links: stat.stx_nlink,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            mount,
        }
    }

    /// Examines what a descriptor is open on.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        fs::statx(fd, c"", AtFlags::EMPTY_PATH, wanted()).map(|stat| Self::from_statx(&stat))
    }

    /// Examines a name in a folder.
    pub(crate) fn at(folder: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        fs::statx(folder, name, flags, wanted()).map(|stat| Self::from_statx(&stat))
    }

    /// Whether this is the same inode in the same state, whatever mount it is seen through.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Self { mount: 0, ..*self } == Self { mount: 0, ..*other }
    }

    /// Whether nothing about the inode has changed in a way that its content or attributes could have.
    pub(crate) fn same_state(&self, other: &Self) -> bool {
        self.ino == other.ino
            && self.mount == other.mount
            && self.size == other.size
            && self.mtime == other.mtime
            && self.ctime == other.ctime
    }
}

/// A btrfs subvolume that stands as a folder in another one. It is no mount, yet it has its own inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subvolume {
    /// Its content is captured and restored as that of any folder.
    Writable,
    /// Nothing in it can be changed, as in snapper's snapshots.
    ReadOnly,
}

impl Subvolume {
    /// Whether a folder is the top of a subvolume; where that cannot be told it is a folder.
    pub(crate) fn at(folder: BorrowedFd<'_>, name: &std::ffi::CStr, live: &Live) -> Option<Self> {
        const BTRFS: u64 = 0x9123_683e;
        // The top of every subvolume has this number, and nothing else on that file system has.
        const TOP: u64 = 256;
        if live.ino != TOP {
            return None;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let top = fs::openat(folder, name, flags, Mode::empty()).ok()?;
        let kind = fs::fstatfs(&top).ok()?.f_type as u64 & 0xffff_ffff;
        // A root that is read-only as a whole is captured with all that is in it.
        let is_read_only = || denies_writes(top.as_fd()) && !denies_writes(folder);
        (kind == BTRFS).then(|| if is_read_only() { Self::ReadOnly } else { Self::Writable })
    }
}

fn denies_writes(folder: BorrowedFd<'_>) -> bool {
    fs::accessat(folder, c".", fs::Access::WRITE_OK, AtFlags::empty()) == Err(Errno::ROFS)
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS | StatxFlags::MNT_ID
}

/// A root, held open.
#[derive(Debug)]
pub(crate) struct LiveRoot {
    pub(crate) path: PathBuf,
    fd: OwnedFd,
    /// What is mounted beneath it may be entered.
    pub(crate) crosses: bool,
}

/// A folder that is held open to reach what is in it; for the root itself, the root.
#[derive(Debug)]
pub(crate) struct Parent {
    fd: OwnedFd,
}

impl LiveRoot {
    /// Opens a root, which may be anything. `None`: nothing is there.
    pub(crate) fn open(path: &Path) -> Result<Option<(Self, Live)>, CaptureError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(CaptureError::unreadable("open", path.to_owned())(errno)),
        };
        let live = Live::of(fd.as_fd()).map_err(CaptureError::unreadable("examine", path.to_owned()))?;
        Ok(Some((Self { path: path.to_owned(), fd, crosses: false }, live)))
    }

    /// What tells this file system from others, across mounts where it can.
    pub(crate) fn file_system(&self) -> u64 {
        match fs::fstatvfs(&self.fd) {
            Ok(found) if found.f_fsid != 0 => found.f_fsid,
            _ => fs::fstat(&self.fd).map_or(0, |stat| stat.st_dev),
        }
    }

    /// How finely the file system tells times apart.
    pub(crate) fn grain(&self) -> Grain {
        const EXACT: [u64; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994];
        let kind = fs::fstatfs(&self.fd).map_or(0, |found| found.f_type as u64 & 0xffff_ffff);
        let release = rustix::system::uname();
        let release = release.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
        let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if EXACT.contains(&kind) && version >= (6, 13) { Grain::Exact } else { Grain::Steps }
    }

    /// Opens a folder beneath the root, the root for the empty path.
    pub(crate) fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open_beneath(self.fd.as_fd(), path, flags, self.crosses)
    }

    /// Opens the folder that holds `path`, without the right to list it.
    pub(crate) fn parent(&self, folder: &[u8]) -> Result<Parent, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Parent { fd: open_beneath(self.fd.as_fd(), folder, flags, self.crosses)? })
    }

    /// Opens the root for reading, where it is a file.
    pub(crate) fn open_itself(&self) -> Result<OwnedFd, Errno> {
        fs::openat(CWD, &self.path, reading() | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Where the root points, if it is a link.
    pub(crate) fn read_link_itself(&self) -> Result<Vec<u8>, Errno> {
        fs::readlinkat(&self.fd, c"", Vec::new()).map(|target| target.into_bytes())
    }

    /// The root's own attributes.
    pub(crate) fn xattrs_itself(&self) -> Result<Xattrs, Errno> {
        // The descriptor cannot be asked itself, for it was opened without the right to read.
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        read_xattrs(|list| fs::listxattr(&path, list), |name, value| fs::getxattr(&path, name, value))
    }
}

impl Parent {
    /// Opens a file in the folder for reading. One name leads nowhere else, but perhaps to what is mounted over it.
    pub(crate) fn open_file(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        fs::openat(&self.fd, OsStr::from_bytes(name), reading() | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Where a link in the folder points.
    pub(crate) fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        fs::readlinkat(&self.fd, OsStr::from_bytes(name), Vec::new()).map(|target| target.into_bytes())
    }

    /// The attributes of something in the folder that is not opened: a link, a pipe, a device.
    pub(crate) fn xattrs(&self, name: &[u8]) -> Result<Xattrs, Errno> {
        let mut path = format!("/proc/self/fd/{}/", self.fd.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        read_xattrs(
            |list| fs::llistxattr(&path[..], list),
            |name, value| fs::lgetxattr(&path[..], name, value),
        )
    }
}

/// The attributes of an open file or folder, its flags among them.
pub(crate) fn xattrs_of(fd: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
    let mut xattrs =
        read_xattrs(|list| fs::flistxattr(fd, list), |name, value| fs::fgetxattr(fd, name, value))?;
    let (letters, lost) = flags::read_both(fd);
    for (wanted, letters) in [(flags::NAME, letters), (flags::NOT_KEPT_NAME, lost)] {
        if !letters.is_empty() {
            let at = xattrs.partition_point(|(name, _)| &name[..] < wanted);
            xattrs.insert(at, (wanted.to_vec(), letters));
        }
    }
    Ok(xattrs)
}

/// A pipe that was put where a file stood must not block.
fn reading() -> OFlags {
    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

/// The kernel takes no longer path at once.
const LONGEST_PIECE: usize = 4000;

fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, crosses: bool) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return open_piece(root, b".", flags, crosses);
    }
    let mut held: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > LONGEST_PIECE {
        let cut = rest[..LONGEST_PIECE].iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
        let at = held.as_ref().map_or(root, AsFd::as_fd);
        held =
            Some(open_piece(at, &rest[..cut], OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, crosses)?);
        rest = &rest[cut + 1..];
    }
    open_piece(held.as_ref().map_or(root, AsFd::as_fd), rest, flags, crosses)
}

fn open_piece(at: BorrowedFd<'_>, path: &[u8], flags: OFlags, crosses: bool) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | if crosses { ResolveFlags::empty() } else { ResolveFlags::NO_XDEV };
    loop {
        match fs::openat2(at, OsStr::from_bytes(path), flags | OFlags::NOFOLLOW, Mode::empty(), resolve) {
            // A rename elsewhere made the kernel unsure that the path stayed beneath; asking again is the remedy.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Attributes that belong to the state: the rest of `system.` is the file system's own.
fn is_kept(name: &[u8]) -> bool {
    // What `btrfs property` sets, such as a way of compression, can be set again.
    const KEPT: [&[u8]; 5] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_", b"btrfs."];
    KEPT.iter().any(|prefix| name.starts_with(prefix)) && !is_shadow(name)
}

/// XFS shows what `system.posix_acl_` holds a second time, under a name that no other file system knows.
pub(crate) fn is_shadow(name: &[u8]) -> bool {
    name.starts_with(b"trusted.SGI_ACL_")
}

/// The kernel allows no larger attribute, and no longer list of names.
const LARGEST_XATTR: usize = 64 << 10;

fn read_xattrs(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<Xattrs, Errno> {
    let names = match grow(list) {
        Ok(names) if names.is_empty() => return Ok(Vec::new()),
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut xattrs = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| is_kept(name)) {
        match grow(|buffer| get(OsStr::from_bytes(name), buffer)) {
            Ok(value) => xattrs.push((name.to_vec(), value)),
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// Reads into a small buffer, and into the largest one if that was too small.
fn grow(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 512];
    match read(&mut small) {
        Err(Errno::RANGE) => {}
        other => return other.map(|length| small[..length].to_vec()),
    }
    let mut large = vec![0; LARGEST_XATTR];
    let length = read(&mut large)?;
    large.truncate(length);
    Ok(large)
}

/// Puts a name beneath a folder's path.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}
