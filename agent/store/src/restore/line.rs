//! A step as one line that a person reads.

use std::collections::BTreeSet;
use std::fmt;

use rfs_model::ByteCount;

use super::plan::{Adjustment, Change, New, Step, data_bytes};
use crate::text::encode;
use crate::tree::{Entry, EntryKind, Meta};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.shown;
        match &self.change {
            Change::Create(new) => created(f, "create", path, new),
            Change::Replace { old, new } => {
                created(f, "write", path, new)?;
                match std::mem::discriminant(&old[0].kind) == std::mem::discriminant(&new.entries[0].kind) {
                    true => Ok(()),
                    false => write!(f, ", was {}", what(old)),
                }
            }
            Change::Delete { old } => write!(f, "delete {path}{} ({})", slash(&old[0]), what(old)),
            Change::Adjust(adjustment) => adjusted(f, path, adjustment),
        }
    }
}

fn created(f: &mut fmt::Formatter<'_>, verb: &str, path: &impl fmt::Display, new: &New) -> fmt::Result {
    let entry = &new.entries[0];
    match (&new.link_to, &entry.kind) {
        (Some(other), _) => write!(f, "link {path} = {other}"),
        (None, EntryKind::Symlink(to)) => write!(f, "link {path} -> {}", encode(to)),
        (None, _) => write!(f, "{verb} {path}{} ({})", slash(entry), what(&new.entries)),
    }
}

fn slash(entry: &Entry) -> &'static str {
    if matches!(entry.kind, EntryKind::Directory) { "/" } else { "" }
}

/// What an entry is, with all that lies beneath it.
fn what(entries: &[Entry]) -> String {
    match &entries[0].kind {
        EntryKind::Directory if entries.len() == 1 => "empty folder".to_owned(),
        EntryKind::Directory => {
            let bytes = ByteCount(data_bytes(entries, &mut BTreeSet::new()));
            let count = entries.len() - 1;
            format!("folder of {count} {}, {bytes}", if count == 1 { "entry" } else { "entries" })
        }
        EntryKind::File { size, .. } => ByteCount(*size).to_string(),
        EntryKind::Symlink(to) => format!("link to {}", encode(to)),
        EntryKind::Fifo => "named pipe".to_owned(),
        EntryKind::Socket => "socket".to_owned(),
        EntryKind::CharDevice { major, minor } => format!("character device {major}:{minor}"),
        EntryKind::BlockDevice { major, minor } => format!("block device {major}:{minor}"),
    }
}

fn adjusted(f: &mut fmt::Formatter<'_>, path: &impl fmt::Display, adjustment: &Adjustment) -> fmt::Result {
    let differences = differences(&adjustment.old, &adjustment.new.meta);
    match &differences[..] {
        [(verb, change)] => write!(f, "{verb} {path} ({change})"),
        several => {
            let changes: Vec<_> = several.iter().map(|(verb, change)| format!("{verb} {change}")).collect();
            write!(f, "adjust {path} ({})", changes.join(", "))
        }
    }
}

fn differences(old: &Meta, new: &Meta) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if old.mode != new.mode {
        found.push(("chmod", format!("{:04o} to {:04o}", old.mode, new.mode)));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        found.push(("chown", format!("{}:{} to {}:{}", old.uid, old.gid, new.uid, new.gid)));
    }
    if old.xattrs != new.xattrs {
        let names: BTreeSet<_> = old
            .xattrs
            .iter()
            .chain(&new.xattrs)
            .filter(|pair| !(old.xattrs.contains(pair) && new.xattrs.contains(pair)))
            .map(|(name, _)| encode(name))
            .collect();
        found.push(("setattr", names.into_iter().collect::<Vec<_>>().join(" ")));
    }
    if (old.mtime_seconds, old.mtime_nanos) != (new.mtime_seconds, new.mtime_nanos) {
        let seconds = |meta: &Meta| rfs_model::Timestamp(meta.mtime_seconds.saturating_mul(1000));
        found.push(("touch", format!("{} to {}", seconds(old), seconds(new))));
    }
    found
}
