//! What should stand at each path afterwards: the target where it is selected, the present where it is not or is protected.

use std::collections::BTreeMap;

use super::diff::Rules;
use super::error::PlanError;
use super::pattern::{Cover, Selection, absolute, is_beneath, parent};
use crate::text::ByteText;
use crate::tree::{Entry, EntryKind, Root};

/// An entry that should stand at its path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) entry: &'a Entry,
    /// It stays exactly as it is now.
    pub(super) kept: bool,
}

/// What should stand beneath one root, sorted by path. Sockets are their services' business and never wanted.
pub(super) fn wanted<'a>(
    current: &'a Root,
    target: &'a Root,
    rules: &Rules,
) -> Result<Vec<Wanted<'a>>, PlanError> {
    let stays: Vec<&[u8]> = rules.stays.iter().filter_map(|path| beneath(&path.0, &target.path)).collect();
    let as_is: Vec<&[u8]> = rules.as_is.iter().filter_map(|path| beneath(&path.0, &target.path)).collect();
    let sockets = stranded(current, target);
    let plain = rules.protect.is_empty()
        && rules.keep.is_empty()
        && stays.is_empty()
        && as_is.is_empty()
        && sockets.is_empty();
    if matches!(rules.selection, Selection::Everything) && plain {
        let entries = target.entries.iter().filter(|entry| !is_socket(entry));
        return Ok(entries.map(|entry| Wanted { entry, kept: false }).collect());
    }
    let mut choice = Choice::new(rules, &target.path);
    let mut chosen = BTreeMap::new();
    for entry in &current.entries {
        if choice.keeps(&entry.path) || choice.keeps_extra(entry, target) {
            chosen.insert(&entry.path[..], Wanted { entry, kept: true });
        }
    }
    for entry in target.entries.iter().filter(|entry| !is_socket(entry)) {
        if !choice.keeps(&entry.path) {
            chosen.insert(&entry.path[..], Wanted { entry, kept: false });
        }
    }
    for path in as_is {
        if let Some(entry) = find(&current.entries, path) {
            chosen.insert(&entry.path[..], Wanted { entry, kept: true });
        }
    }
    for path in stays {
        hold(&mut chosen, current, target, path)?;
    }
    for socket in sockets {
        let is_in_the_way = |folder: &[u8]| chosen.get(folder).is_some_and(|wanted| !is_folder(wanted.entry));
        if !above(&socket.path).any(is_in_the_way) {
            chosen.entry(&socket.path[..]).or_insert(Wanted { entry: socket, kept: true });
        }
    }
    add_folders(&mut chosen, current, target)?;
    Ok(chosen.into_values().collect())
}

/// The sockets in folders that the target does not have. No backup can bring one back to the service that listens there, so
/// they stay, with the folders above them.
fn stranded<'a>(current: &'a Root, target: &Root) -> Vec<&'a Entry> {
    let has_folder = |folder: &[u8]| find(&target.entries, folder).is_some_and(is_folder);
    let is_stranded =
        |entry: &&Entry| is_socket(entry) && parent(&entry.path).is_some_and(|folder| !has_folder(folder));
    current.entries.iter().filter(is_stranded).collect()
}

/// The folders above a path, the nearest first.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(parent(path), |&folder| parent(folder))
}

/// The folder that holds something which is no entry, and stays, stays too.
fn hold<'a>(
    chosen: &mut BTreeMap<&'a [u8], Wanted<'a>>,
    current: &'a Root,
    target: &'a Root,
    path: &[u8],
) -> Result<(), PlanError> {
    let Some(folder) = parent(path).and_then(|folder| find(&current.entries, folder)) else { return Ok(()) };
    let is_in_the_way = |folder: &&[u8]| chosen.get(*folder).is_some_and(|wanted| !is_folder(wanted.entry));
    if let Some(above) = above(path).find(is_in_the_way) {
        let shown = |path: &[u8]| ByteText(absolute(&target.path, path));
        return Err(PlanError::Held { path: shown(path), above: shown(above) });
    }
    // A folder of the target that is not selected stands in `current` too.
    chosen.entry(&folder.path[..]).or_insert(Wanted { entry: folder, kept: true });
    Ok(())
}

/// The path beneath `root` of an absolute path that lies there.
fn beneath<'p>(path: &'p [u8], root: &[u8]) -> Option<&'p [u8]> {
    is_beneath(path, root).then(|| {
        let rest = &path[root.len()..];
        rest.strip_prefix(b"/").unwrap_or(rest)
    })
}

/// Every wanted entry gets the folders that it stands in, from the tree that it comes from.
fn add_folders<'a>(
    chosen: &mut BTreeMap<&'a [u8], Wanted<'a>>,
    current: &'a Root,
    target: &'a Root,
) -> Result<(), PlanError> {
    let all: Vec<Wanted<'a>> = chosen.values().copied().collect();
    for Wanted { entry, kept } in all {
        let mut path = &entry.path[..];
        while let Some(folder) = parent(path) {
            match chosen.get(folder) {
                Some(wanted) if is_folder(wanted.entry) => break,
                Some(_) => return Err(blocked(&target.path, &entry.path, folder)),
                None => {}
            }
            let source = if kept { current } else { target };
            let Some(entry) = find(&source.entries, folder) else { break };
            chosen.insert(folder, Wanted { entry, kept });
            path = folder;
        }
    }
    Ok(())
}

fn blocked(root: &[u8], path: &[u8], above: &[u8]) -> PlanError {
    PlanError::Blocked { path: ByteText(absolute(root, path)), above: ByteText(absolute(root, above)) }
}

/// Says which paths stay as they are.
struct Choice<'a> {
    selection: Option<Cover<'a>>,
    protect: Cover<'a>,
    keep: Cover<'a>,
}

impl<'a> Choice<'a> {
    fn new(rules: &'a Rules, root: &'a [u8]) -> Self {
        let selection = match &rules.selection {
            Selection::Everything => None,
            Selection::Only(set) => Some(Cover::new(set, root)),
        };
        Self { selection, protect: Cover::new(&rules.protect, root), keep: Cover::new(&rules.keep, root) }
    }

    /// True for what the target does not have, where such things are kept.
    fn keeps_extra(&mut self, entry: &Entry, target: &Root) -> bool {
        self.keep.holds(&entry.path) && find(&target.entries, &entry.path).is_none()
    }

    fn keeps(&mut self, path: &[u8]) -> bool {
        self.selection.as_mut().is_some_and(|set| !set.holds(path)) || self.protect.holds(path)
    }
}

/// The entry at `path` in entries sorted by path.
pub(super) fn find<'a>(entries: &'a [Entry], path: &[u8]) -> Option<&'a Entry> {
    entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok().map(|at| &entries[at])
}

pub(super) fn is_folder(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Directory)
}

pub(super) fn is_socket(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Socket)
}
