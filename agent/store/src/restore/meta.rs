//! Owner, mode, attributes and times of an open entry.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat,
    fchmod, fremovexattr, fsetxattr, getxattr, open, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;

use super::fault::{Action, Fault};
use crate::flags;
use crate::tree::Meta;

/// The longest value that Linux lets an attribute have.
const LONGEST_VALUE: usize = 65_536;
const CAPABILITY: &[u8] = b"security.capability";
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// An entry that is open, perhaps only as a path, so that no name is resolved again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) open: BorrowedFd<'a>,
    pub(super) kind: HeldKind,
    /// For messages.
    pub(super) shown: &'a [u8],
}

/// How an entry is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldKind {
    /// A file or folder that is open for work.
    Open,
    /// Only as a path.
    Path,
    /// Only as a path, and it is a symbolic link, which has no mode of its own.
    Link,
}

/// One setting of one entry's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting<'a> {
    Owner {
        uid: u32,
        gid: u32,
    },
    Remove {
        attribute: &'a [u8],
    },
    Attribute {
        name: &'a [u8],
        value: &'a [u8],
    },
    Mode(u32),
    Time((i64, u32)),
    /// All flags but those that bind the entry.
    Flags(&'a [u8]),
}

/// The settings that bring an entry from `old` to `new`, or a new entry to it, in an order that works.
///
/// Each may be repeated, and all of them after any part was done. A change of owner clears the bits that give
/// privileges and the capabilities, so those come after it again.
pub(super) fn settings<'a>(old: Option<&'a Meta>, new: &'a Meta, is_link: bool) -> Vec<Setting<'a>> {
    let mut settings = Vec::new();
    let owner = old.is_none_or(|old| (old.uid, old.gid) != (new.uid, new.gid));
    if owner {
        settings.push(Setting::Owner { uid: new.uid, gid: new.gid });
    }
    let letters = flags::among(&new.xattrs);
    if old.is_some_and(|old| flags::among(&old.xattrs) != letters) {
        settings.push(Setting::Flags(letters));
    }
    let before = old.map_or(&[][..], |old| &old.xattrs);
    let is_flags = |name: &[u8]| name == flags::NAME;
    let gone =
        before.iter().filter(|(name, _)| !is_flags(name) && !new.xattrs.iter().any(|(kept, _)| kept == name));
    settings.extend(gone.map(|(name, _)| Setting::Remove { attribute: name }));
    let changed = new.xattrs.iter().filter(|pair| !before.contains(pair) || (owner && pair.0 == CAPABILITY));
    let changed = changed.filter(|(name, _)| !is_flags(name));
    settings.extend(changed.map(|(name, value)| Setting::Attribute { name, value }));
    let acl = settings.iter().any(|setting| match setting {
        Setting::Remove { attribute: name } | Setting::Attribute { name, .. } => *name == ACCESS_ACL,
        Setting::Owner { .. } | Setting::Mode(_) | Setting::Time(_) | Setting::Flags(_) => false,
    });
    if !is_link && (owner || acl || old.is_none_or(|old| old.mode != new.mode)) {
        settings.push(Setting::Mode(new.mode));
    }
    settings.push(Setting::Time((new.mtime_seconds, new.mtime_nanos)));
    settings
}

/// Does one setting.
pub(super) fn set(entry: Held<'_>, setting: &Setting<'_>) -> Result<(), Fault> {
    let fault = |action| move |errno| Fault::new(action, entry.shown, errno);
    let opened = (entry.kind == HeldKind::Open).then_some(entry.open);
    match *setting {
        Setting::Owner { uid, gid } => {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            chownat(entry.open, "", uid, gid, AtFlags::EMPTY_PATH).map_err(fault(Action::SetOwner))
        }
        Setting::Remove { attribute } => {
            let removed = match opened {
                Some(open) => fremovexattr(open, attribute),
                None => removexattr(by_number(entry.open), attribute),
            };
            match removed {
                Ok(()) | Err(Errno::NODATA) => Ok(()),
                Err(errno) => Err(fault(Action::SetAttribute)(errno)),
            }
        }
        Setting::Attribute { name, value } => {
            let flags = XattrFlags::empty();
            match opened {
                Some(open) => fsetxattr(open, name, value, flags),
                None => setxattr(by_number(entry.open), name, value, flags),
            }
            .map_err(fault(Action::SetAttribute))
        }
        Setting::Mode(mode) => {
            let mode = Mode::from_raw_mode(mode);
            match opened {
                Some(open) => fchmod(open, mode),
                None => chmod(by_number(entry.open), mode),
            }
            .map_err(fault(Action::SetMode))
        }
        Setting::Time(mtime) => set_time(entry.open, mtime).map_err(fault(Action::SetTime)),
        Setting::Flags(letters) => set_flags(entry, letters).map_err(fault(Action::SetAttribute)),
    }
}

/// Does everything that a new entry needs.
pub(super) fn set_all(entry: Held<'_>, meta: &Meta) -> Result<(), Fault> {
    match entry.kind {
        // What the folder around has may have been inherited. Before the attributes, for one of btrfs says more of a flag.
        HeldKind::Open => set(entry, &Setting::Flags(flags::among(&meta.xattrs)))?,
        HeldKind::Path | HeldKind::Link => {}
    }
    settings(None, meta, entry.kind == HeldKind::Link).iter().try_for_each(|setting| set(entry, setting))
}

/// Sets the flags but those that bind the entry, which come last of all.
fn set_flags(entry: Held<'_>, letters: &[u8]) -> Result<(), Errno> {
    let letters = flags::loose(letters);
    match entry.kind {
        HeldKind::Open => flags::write(entry.open, &letters),
        HeldKind::Path => {
            let reading = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            flags::write(open(by_number(entry.open), reading, Mode::empty())?, &letters)
        }
        // A link has none.
        HeldKind::Link => Ok(()),
    }
}

/// Sets the modification time and leaves the access time.
pub(super) fn set_time(open: impl AsFd, (seconds, nanos): (i64, u32)) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
    };
    match utimensat(&open, "", &times, AtFlags::EMPTY_PATH) {
        // Before Linux 5.8.
        Err(Errno::INVAL | Errno::NOENT) => utimensat(CWD, by_number(open.as_fd()), &times, AtFlags::empty()),
        other => other,
    }
}

/// The value of an attribute; `None` when there is none.
pub(super) fn get_attribute(open: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let path = by_number(open);
    let mut value = Vec::with_capacity(LONGEST_VALUE);
    match getxattr(&path[..], name, spare_capacity(&mut value)) {
        Ok(_) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A path to what is open, for calls that take no number of a path-only descriptor. It resolves no name.
pub(super) fn by_number(open: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", open.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(mode: u32, uid: u32, xattrs: &[(&[u8], &[u8])]) -> Meta {
        let xattrs = xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        Meta { mode, uid, gid: 0, mtime_seconds: 1, mtime_nanos: 2, xattrs }
    }

    #[test]
    fn a_new_owner_brings_the_bits_and_capabilities_that_it_clears() {
        let (old, new) = (meta(0o4755, 0, &[(CAPABILITY, b"c")]), meta(0o4755, 1, &[(CAPABILITY, b"c")]));
        assert_eq!(
            settings(Some(&old), &new, false),
            [
                Setting::Owner { uid: 1, gid: 0 },
                Setting::Attribute { name: CAPABILITY, value: b"c" },
                Setting::Mode(0o4755),
                Setting::Time((1, 2)),
            ]
        );
    }

    #[test]
    fn only_what_differs_is_set() {
        let (old, new) =
            (meta(0o644, 0, &[(b"user.a", b"1"), (b"user.b", b"1")]), meta(0o644, 0, &[(b"user.b", b"2")]));
        assert_eq!(
            settings(Some(&old), &new, false),
            [
                Setting::Remove { attribute: b"user.a" },
                Setting::Attribute { name: b"user.b", value: b"2" },
                Setting::Time((1, 2)),
            ]
        );
    }
}
