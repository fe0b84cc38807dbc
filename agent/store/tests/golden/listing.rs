//! What stands in a folder, one line an entry, found by means of its own: nothing here asks the store.

#![allow(dead_code, reason = "each suite uses a part")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rfs_store::text::encode;

/// Whether lines say who owns what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    Shown,
    Hidden,
}

/// Lists everything at and beneath `top`, sorted by path. Sockets are left out: no restore makes them.
pub(crate) fn list(top: &Path, owners: Owners) -> String {
    let mut lines = Vec::new();
    let mut names = HashMap::new();
    below(top, b"", owners, &mut names, &mut lines);
    lines.concat()
}

fn below(
    path: &Path,
    shown: &[u8],
    owners: Owners,
    names: &mut HashMap<u64, Vec<u8>>,
    lines: &mut Vec<String>,
) {
    let meta = fs::symlink_metadata(path).expect("is there");
    if meta.file_type().is_socket() {
        return;
    }
    lines.push(format!("{}\n", line(path, shown, &meta, owners, names)));
    if !meta.is_dir() {
        return;
    }
    let entries = fs::read_dir(path).expect("is readable").map(|entry| entry.expect("is readable").path());
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().expect("has a name").as_bytes();
        let shown = if shown.is_empty() { name.to_vec() } else { [shown, b"/", name].concat() };
        below(&entry, &shown, owners, names, lines);
    }
}

fn line(
    path: &Path,
    shown: &[u8],
    meta: &fs::Metadata,
    owners: Owners,
    names: &mut HashMap<u64, Vec<u8>>,
) -> String {
    let kind = meta.file_type();
    let what = if kind.is_dir() {
        "folder".to_owned()
    } else if kind.is_symlink() {
        format!("link {}", encode(fs::read_link(path).expect("is a link").as_os_str().as_bytes()))
    } else if kind.is_fifo() {
        "pipe".to_owned()
    } else {
        let first = names.entry(meta.ino()).or_insert_with(|| shown.to_vec());
        match first == shown {
            false => format!("same as {}", encode(first)),
            true => format!("file {} {}", meta.len(), blake3::hash(&fs::read(path).expect("is readable"))),
        }
    };
    let owner = match owners {
        Owners::Shown => format!(" {}:{}", meta.uid(), meta.gid()),
        Owners::Hidden => String::new(),
    };
    let mode = if kind.is_symlink() { 0o777 } else { meta.mode() & 0o7777 };
    let time = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
    format!("{} {mode:04o}{owner} {time}{} {what}", encode(shown), attributes(path))
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("attributes are readable");
    let mut found: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| name.starts_with(b"user.") || name.starts_with(b"system.posix_acl"))
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("is there");
            format!(" {}={}", encode(name), encode(&value[..length]))
        })
        .collect();
    found.sort();
    found.concat()
}
