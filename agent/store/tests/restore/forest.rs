//! Random trees of every kind of entry, and random changes of them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lremovexattr, lsetxattr, makedev,
    mknodat, utimensat,
};

use crate::random::Random;

/// Names whose order as bytes is not their order in a walk, among others.
const NAMES: [&[u8]; 14] = [
    b"a",
    b"a-b",
    b"a.b",
    b"ab",
    b"b",
    b"c d",
    b"\xff\xfe",
    b"k\xc3\xa4se",
    b"new\nline",
    b"%41",
    b".hidden",
    b"*?[",
    b"-rf",
    b"long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name-long-name",
];

/// Fills the folders of the roots in `holder`.
pub(crate) fn grow(random: &mut Random, holder: &Path) {
    for root in ["conf", "link", "site", "sub/late"] {
        plant(random, &holder.join(root), if root == "site" { 0 } else { 2 });
    }
    // The main root is a folder more often than not.
    if !holder.join("site").is_dir() && !random.once_in(4) {
        remove(&holder.join("site"));
        folder(random, &holder.join("site"), 0);
    }
}

/// Changes some of what is there.
pub(crate) fn change(random: &mut Random, holder: &Path) {
    for _ in 0..=random.below(12) {
        let paths = all(holder);
        let path = if paths.is_empty() { holder.join("site") } else { random.pick(&paths) };
        change_one(random, holder, &path);
    }
}

fn change_one(random: &mut Random, holder: &Path, path: &Path) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    match random.below(9) {
        0 => remove(path),
        1 if found.is_dir() => {
            let name = OsStr::from_bytes(random.pick(&NAMES));
            plant(random, &path.join(name), 2);
        }
        2 => {
            remove(path);
            plant(random, path, 1);
        }
        3 if found.is_file() => {
            // In place, so that all its names change, and perhaps only its time does not tell.
            let file = File::options().write(true).open(path).expect("a file");
            file.write_at(b"changed", random.below(9000) as u64).expect("written");
        }
        4 if found.is_file() => {
            let copy = fs::read(path).expect("content");
            remove(path);
            fs::write(path, copy).expect("written");
            dress(random, path, true);
        }
        5 => {
            let to = path.with_file_name(OsStr::from_bytes(random.pick(&NAMES)));
            if is_inside(holder, path) && fs::symlink_metadata(&to).is_err() {
                fs::rename(path, to).expect("renamed");
            }
        }
        6 if found.is_file() => {
            let others: Vec<_> = all(holder).into_iter().filter(|p| p.is_file() && !p.is_symlink()).collect();
            let other = random.pick(&others);
            if other != path {
                remove(path);
                fs::hard_link(other, path).expect("linked");
            }
        }
        7 => strip(path),
        _ => dress(random, path, found.is_dir() || found.is_file()),
    }
}

fn plant(random: &mut Random, path: &Path, depth: usize) {
    remove(path);
    match random.below(12) {
        0..=2 if depth < 4 => folder(random, path, depth),
        3 => {
            let to: &[u8] = random.pick(&[&b"../nowhere"[..], b"/etc/hostname", b"a", b"\xff"]);
            symlink(OsStr::from_bytes(to), path).expect("a link");
            dress(random, path, false);
        }
        4 => node(random, path, FileType::Fifo, 0),
        5 => node(random, path, FileType::CharacterDevice, makedev(1, 3)),
        6 => node(random, path, FileType::BlockDevice, makedev(7, 250)),
        7 => {}
        8 => {
            let beside: Vec<_> = fs::read_dir(path.parent().expect("a folder"))
                .expect("a folder")
                .map(|entry| entry.expect("an entry").path())
                .filter(|other| other.is_file() && !other.is_symlink())
                .collect();
            match beside.is_empty() {
                true => file(random, path),
                false => fs::hard_link(random.pick(&beside), path).expect("linked"),
            }
        }
        _ => file(random, path),
    }
}

fn folder(random: &mut Random, path: &Path, depth: usize) {
    fs::create_dir(path).expect("a folder");
    for _ in 0..random.below(if depth == 0 { 10 } else { 5 }) {
        let name = OsStr::from_bytes(random.pick(&NAMES));
        plant(random, &path.join(name), depth + 1);
    }
    dress(random, path, true);
}

fn node(random: &mut Random, path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::RUSR, device).expect("a node");
    dress(random, path, false);
    fs::set_permissions(path, fs::Permissions::from_mode(0o620)).expect("a mode");
}

fn file(random: &mut Random, path: &Path) {
    let file = File::create(path).expect("a file");
    for _ in 0..random.below(3) {
        let bytes = vec![random.below(256) as u8; random.below(20_000)];
        file.write_at(&bytes, random.below(30) as u64 * 4096).expect("written");
    }
    if random.once_in(3) {
        file.set_len(random.below(300_000) as u64).expect("a length");
    }
    dress(random, path, true);
}

/// Gives owner, mode, attributes and time. Links and nodes have no `user.` attributes and no mode here.
fn dress(random: &mut Random, path: &Path, plain: bool) {
    if random.once_in(2) {
        lchown(path, Some(random.below(3) as u32 * 1000), Some(random.below(2) as u32 * 33))
            .expect("an owner");
    }
    if plain {
        let mode = random.pick(&[0o644, 0o600, 0o755, 0o4755, 0o2775, 0o1777, 0o000, 0o555]);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        if random.once_in(3) {
            let value = vec![random.below(256) as u8; random.below(200)];
            set(path, random.pick(&["user.a", "user.b", "trusted.c"]), &value);
        }
        if random.once_in(4) {
            set(path, "system.posix_acl_access", &acl(random.below(8) as u16));
        }
        if path.is_dir() && random.once_in(4) {
            set(path, "system.posix_acl_default", &acl(random.below(8) as u16));
        }
        if path.is_file() && random.once_in(4) {
            // A capability set of version 2: cap_net_bind_service, effective.
            let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            set(path, "security.capability", &value);
        }
    } else if random.once_in(3) {
        set(path, "trusted.d", b"on a link or node");
    }
    let mtime = Timespec {
        tv_sec: 1_600_000_000 + random.below(1000) as i64,
        tv_nsec: random.below(1_000_000_000) as i64,
    };
    let times = Timestamps { last_access: mtime, last_modification: mtime };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time");
}

/// Takes attributes away.
fn strip(path: &Path) {
    for name in
        ["user.a", "user.b", "trusted.c", "trusted.d", "system.posix_acl_access", "system.posix_acl_default"]
    {
        let _ = lremovexattr(path, name);
    }
}

fn set(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).expect("an attribute");
}

/// user::rwx user:1000:<bits> group::r-x mask::rwx other::r-x
fn acl(bits: u16) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in
        [(1, 7, u32::MAX), (2, bits, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        value.extend(u16::to_le_bytes(tag));
        value.extend(u16::to_le_bytes(bits));
        value.extend(id.to_le_bytes());
    }
    value
}

/// All paths of the roots.
fn all(holder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending: Vec<_> =
        ["conf", "link", "site", "sub/late"].iter().map(|root| holder.join(root)).collect();
    while let Some(path) = pending.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            pending
                .extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        }
        found.push(path);
    }
    found.sort();
    found
}

fn is_inside(holder: &Path, path: &Path) -> bool {
    let folder = path.parent().expect("a folder");
    folder != holder && folder != holder.join("sub")
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).expect("removed"),
        Ok(_) => fs::remove_file(path).expect("removed"),
        Err(_) => {}
    }
}
