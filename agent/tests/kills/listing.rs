//! What stands beneath a folder, line by line, by plain paths and without any code of ours.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{lgetxattr, llistxattr};

/// Lists these names of a folder, each with all that is beneath it: kind, mode, owner, time, content, names of one file,
/// attributes.
pub(crate) fn list(folder: &Path, names: &[&str]) -> String {
    let mut listing = Listing { text: String::new(), links: HashMap::new() };
    for name in names {
        listing.add(&folder.join(name), name);
    }
    listing.text
}

/// The first lines in which two listings differ.
pub(crate) fn difference(found: &str, wanted: &str) -> String {
    let only = |of: &str, other: &str, sign: &str| {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        let lines = of.lines().filter(|line| !other.contains(line)).take(8);
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    only(found, wanted, "found ") + &only(wanted, found, "wanted")
}

struct Listing {
    text: String,
    /// Files with several names, by the first of them.
    links: HashMap<u64, String>,
}

impl Listing {
    fn add(&mut self, path: &Path, shown: &str) {
        let Ok(found) = fs::symlink_metadata(path) else { return };
        let (mode, owner) = (found.mode() & 0o7777, (found.uid(), found.gid()));
        let time = (found.mtime(), found.mtime_nsec());
        let what = self.what(path, shown, &found);
        self.text += &format!("{shown} {what} {mode:o} {owner:?} {time:?}{}\n", attributes(path));
        if !found.is_dir() {
            return;
        }
        let mut names: Vec<_> =
            fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        for name in names {
            self.add(&path.join(&name), &format!("{shown}/{}", name.to_string_lossy()));
        }
    }

    fn what(&mut self, path: &Path, shown: &str, found: &Metadata) -> String {
        let kind = found.file_type();
        if kind.is_dir() {
            return "folder".to_owned();
        }
        if kind.is_symlink() {
            return format!("-> {}", fs::read_link(path).expect("a link").display());
        }
        if kind.is_fifo() {
            return "pipe".to_owned();
        }
        let digest = blake3::hash(&fs::read(path).expect("content"));
        match found.nlink() {
            1 => format!("{} {digest}", found.len()),
            _ => {
                let first = self.links.entry(found.ino()).or_insert_with(|| shown.to_owned());
                format!("{} {digest} is {first}", found.len())
            }
        }
    }
}

fn attributes(path: &Path) -> String {
    let mut names = [0; 4096];
    let length = llistxattr(path, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut attributes: Vec<String> = names
        .map(|name| {
            let mut value = [0; 4096];
            let length = lgetxattr(path, name, &mut value[..]).expect("an attribute");
            format!(" {}={:?}", String::from_utf8_lossy(name), &value[..length])
        })
        .collect();
    attributes.sort();
    attributes.concat()
}
