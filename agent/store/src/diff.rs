//! What differs between two states: two snapshots, or a snapshot and the live host.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use rfs_model::{ComponentName, SnapshotId};

use crate::cancel::Cancel;
use crate::error::{CaptureError, StoreError};
use crate::manifest::Content;
use crate::snapshot::Snapshot;
use crate::spec::FilesSpec;
use crate::store::Store;
use crate::tree::{Entry, EntryKind, Tree};

/// How one component differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentDiff {
    /// Only the second state has it.
    Added,
    /// Only the first state has it.
    Removed,
    /// Both have it as different kinds.
    OtherKind,
    /// Its value is another one.
    Value,
    /// These of its files differ, sorted by root and path.
    Files(Vec<FileDiff>),
}

/// How one path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiff {
    /// The root, absolute.
    pub root: Vec<u8>,
    /// The path beneath it.
    pub path: Vec<u8>,
    /// What is different.
    pub change: FileChange,
}

/// What is different at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChange {
    /// Only the second state has it.
    Added,
    /// Only the first state has it.
    Removed,
    /// Both have it, and these aspects differ.
    Changed(BTreeSet<Aspect>),
}

/// An aspect of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// A file became a link, say.
    Kind,
    /// Its bytes, where a link points, which device it is.
    Content,
    /// Its permission bits.
    Mode,
    /// Its owner or group.
    Owner,
    /// Its modification time.
    Time,
    /// Its extended attributes and access control lists.
    Attributes,
    /// With which other names it shares an inode.
    Links,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Time => "time",
            Self::Attributes => "attributes",
            Self::Links => "links",
        })
    }
}

impl Store {
    /// What differs from snapshot `a` to snapshot `b`. Components that are equal are not in the result.
    pub fn diff(
        &self,
        a: SnapshotId,
        b: SnapshotId,
    ) -> Result<BTreeMap<ComponentName, ComponentDiff>, StoreError> {
        let (a, b) = (self.snapshot(a)?, self.snapshot(b)?);
        let contents = |snapshot: &Snapshot| -> BTreeMap<ComponentName, Content> {
            snapshot.contents().map(|(name, content)| (name.clone(), content.clone())).collect()
        };
        let (before, after) = (contents(&a), contents(&b));
        let mut diffs = BTreeMap::new();
        for name in before.keys().chain(after.keys()) {
            let diff = match (before.get(name), after.get(name)) {
                (Some(_), None) => ComponentDiff::Removed,
                (None, _) => ComponentDiff::Added,
                (Some(before), Some(after)) if before == after => continue,
                (Some(Content::Tree(_)), Some(Content::Tree(_))) => {
                    ComponentDiff::Files(diff_trees(&a.tree(name)?, &b.tree(name)?))
                }
                (Some(Content::Value(_)), Some(Content::Value(_))) => ComponentDiff::Value,
                (Some(_), Some(_)) => ComponentDiff::OtherKind,
            };
            diffs.insert(name.clone(), diff);
        }
        Ok(diffs)
    }

    /// What differs from the snapshot to the live files of these components.
    pub fn drift(
        &self,
        id: SnapshotId,
        live: &[(ComponentName, FilesSpec)],
        cancel: &Cancel,
    ) -> Result<BTreeMap<ComponentName, ComponentDiff>, CaptureError> {
        let snapshot = self.snapshot(id)?;
        let mut diffs = BTreeMap::new();
        for (name, spec) in live {
            let diff = match snapshot.tree(name) {
                Ok(before) => match diff_trees(&before, &self.scan(spec, cancel)?) {
                    equal if equal.is_empty() => continue,
                    files => ComponentDiff::Files(files),
                },
                Err(StoreError::UnknownComponent { .. }) => ComponentDiff::Added,
                Err(error) => return Err(error.into()),
            };
            diffs.insert(name.clone(), diff);
        }
        Ok(diffs)
    }
}

/// What differs between two trees.
pub fn diff_trees(before: &Tree, after: &Tree) -> Vec<FileDiff> {
    let (links_before, links_after) = (Links::of(before), Links::of(after));
    let roots: BTreeSet<&[u8]> = before.roots.iter().chain(&after.roots).map(|root| &root.path[..]).collect();
    let mut diffs = Vec::new();
    for root in roots {
        let (mut old, mut new) =
            (entries_of(before, root).iter().peekable(), entries_of(after, root).iter().peekable());
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(a), Some(b)) => a.path.cmp(&b.path),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => break,
            };
            let a = if order.is_le() { old.next() } else { None };
            let b = if order.is_ge() { new.next() } else { None };
            let (path, change) = match (a, b) {
                (Some(a), Some(b)) => {
                    let mut aspects = aspects(a, b);
                    if links_before.first(a) != links_after.first(b) {
                        aspects.insert(Aspect::Links);
                    }
                    if aspects.is_empty() {
                        continue;
                    }
                    (&a.path, FileChange::Changed(aspects))
                }
                (Some(a), None) => (&a.path, FileChange::Removed),
                (None, Some(b)) => (&b.path, FileChange::Added),
                (None, None) => break,
            };
            diffs.push(FileDiff { root: root.to_vec(), path: path.clone(), change });
        }
    }
    diffs
}

fn entries_of<'a>(tree: &'a Tree, path: &[u8]) -> &'a [Entry] {
    tree.roots.iter().find(|root| root.path == path).map_or(&[], |root| &root.entries)
}

fn aspects(a: &Entry, b: &Entry) -> BTreeSet<Aspect> {
    let time = |entry: &Entry| (entry.meta.mtime_seconds, entry.meta.mtime_nanos);
    let same_kind = std::mem::discriminant(&a.kind) == std::mem::discriminant(&b.kind);
    let differ = [
        (Aspect::Kind, !same_kind),
        (Aspect::Content, same_kind && !same_content(&a.kind, &b.kind)),
        (Aspect::Mode, a.meta.mode != b.meta.mode),
        (Aspect::Owner, (a.meta.uid, a.meta.gid) != (b.meta.uid, b.meta.gid)),
        (Aspect::Time, time(a) != time(b)),
        (Aspect::Attributes, a.meta.xattrs != b.meta.xattrs),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect).collect()
}

/// Compares what two entries of the same kind are, links aside.
fn same_content(a: &EntryKind, b: &EntryKind) -> bool {
    match (a, b) {
        (EntryKind::File { size, content, .. }, EntryKind::File { size: other, content: others, .. }) => {
            size == other && content == others
        }
        _ => a == b,
    }
}

/// The first name of each inode that has several: by this, not by its number, two trees' links compare.
struct Links<'a>(HashMap<u32, (&'a [u8], &'a [u8])>);

impl<'a> Links<'a> {
    fn of(tree: &'a Tree) -> Self {
        let mut first = HashMap::new();
        for root in &tree.roots {
            for entry in &root.entries {
                if let EntryKind::File { link: Some(link), .. } = entry.kind {
                    first.entry(link).or_insert((&root.path[..], &entry.path[..]));
                }
            }
        }
        Self(first)
    }

    fn first(&self, entry: &Entry) -> Option<(&'a [u8], &'a [u8])> {
        let EntryKind::File { link: Some(link), .. } = entry.kind else { return None };
        self.0.get(&link).copied()
    }
}

#[cfg(test)]
mod tests {
    use rfs_model::Digest;

    use super::*;
    use crate::tree::{Extent, Meta, Root};

    /// A tree in one line: `path=content:mode`, `path/` a folder, `path@n=content` the inode number n.
    fn tree(text: &str) -> Tree {
        let mut entries: Vec<Entry> = text.split_whitespace().map(entry).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Tree { roots: vec![Root { path: b"/srv".to_vec(), entries }] }
    }

    fn entry(text: &str) -> Entry {
        let (text, mode) = text.split_once(':').unwrap_or((text, "0644"));
        let mode = u32::from_str_radix(mode, 8).expect("a mode");
        let meta = Meta { mode, uid: 0, gid: 0, mtime_seconds: 0, mtime_nanos: 0, xattrs: Vec::new() };
        let (path, kind) = match text.split_once('=') {
            None => (text.trim_end_matches('/'), EntryKind::Directory),
            Some((name, content)) => {
                let (name, link) = name.split_once('@').map_or((name, None), |(n, l)| (n, l.parse().ok()));
                let digest = Digest::from_bytes(*blake3::hash(content.as_bytes()).as_bytes());
                let size = content.len() as u64;
                (name, EntryKind::File { size, content: vec![Extent::Data { digest, length: size }], link })
            }
        };
        Entry { path: path.as_bytes().to_vec(), meta, kind }
    }

    fn check(before: &str, after: &str, expected: &str) {
        let diffs = diff_trees(&tree(before), &tree(after));
        let text = diffs.iter().map(|diff| {
            let path = String::from_utf8_lossy(&diff.path);
            match &diff.change {
                FileChange::Added => format!("+{path}"),
                FileChange::Removed => format!("-{path}"),
                FileChange::Changed(aspects) => {
                    let aspects: Vec<_> = aspects.iter().map(ToString::to_string).collect();
                    format!("{path}: {}", aspects.join(", "))
                }
            }
        });
        assert_eq!(text.collect::<Vec<_>>().join(" | "), expected);
    }

    #[test]
    fn a_diff_names_each_path_and_aspect() {
        check("a/ a/x=1", "a/ a/x=1", "");
        check("a/ a/x=1", "a/ a/x=2", "a/x: content");
        check("a=1:0600 b=2", "a=1:0640 c=2", "a: mode | -b | +c");
        check("a=1", "a/", "a: kind");
        check("", "a/ a/b=1", "+a | +a/b");
    }

    #[test]
    fn links_are_compared_by_their_names_and_not_by_their_numbers() {
        check("a@0=1 b@0=1", "a@4=1 b@4=1", "");
        check("a@0=1 b@0=1", "a=1 b=1", "a: links | b: links");
        check("a@0=1 b@0=1 c=1", "a@0=1 b=1 c@0=1", "b: links | c: links");
    }
}
