//! What should stand at each path afterwards: the target where it is selected, the present where it is not or is protected.

use std::collections::BTreeMap;

use super::diff::Rules;
use super::error::PlanError;
use super::pattern::{Cover, Selection, absolute, parent};
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
    if matches!(rules.selection, Selection::Everything) && rules.protect.is_empty() {
        let entries = target.entries.iter().filter(|entry| !is_socket(entry));
        return Ok(entries.map(|entry| Wanted { entry, kept: false }).collect());
    }
    let mut choice = Choice::new(rules, &target.path);
    let mut chosen = BTreeMap::new();
    for entry in &current.entries {
        if choice.keeps(&entry.path) {
            chosen.insert(&entry.path[..], Wanted { entry, kept: true });
        }
    }
    for entry in target.entries.iter().filter(|entry| !is_socket(entry)) {
        if !choice.keeps(&entry.path) {
            chosen.insert(&entry.path[..], Wanted { entry, kept: false });
        }
    }
    add_folders(&mut chosen, current, target)?;
    Ok(chosen.into_values().collect())
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
}

impl<'a> Choice<'a> {
    fn new(rules: &'a Rules, root: &'a [u8]) -> Self {
        let selection = match &rules.selection {
            Selection::Everything => None,
            Selection::Only(set) => Some(Cover::new(set, root)),
        };
        Self { selection, protect: Cover::new(&rules.protect, root) }
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
