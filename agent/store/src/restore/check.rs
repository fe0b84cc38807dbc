//! Refuses trees that could steer a restore astray, and selections that mean nothing here.

use super::error::PlanError;
use super::near::near;
use super::pattern::{PathSet, Selection, absolute, is_beneath, parent};
use super::wanted::{find, is_folder};
use crate::text::{ByteText, encode};
use crate::tree::{Entry, Root, Tree};

/// Both trees are of the same roots, and sound.
pub(super) fn check_trees(current: &Tree, target: &Tree) -> Result<(), PlanError> {
    check_tree(current, "live scan")?;
    check_tree(target, "snapshot")?;
    let missing =
        |from: &Tree, path: &[u8]| from.roots.binary_search_by(|r| r.path.as_slice().cmp(path)).is_err();
    let only = |root: &Root, there| Err(PlanError::Roots { path: ByteText(root.path.clone()), there });
    if let Some(root) = target.roots.iter().find(|root| missing(current, &root.path)) {
        return only(root, "snapshot");
    }
    match current.roots.iter().find(|root| missing(target, &root.path)) {
        Some(root) => only(root, "live scan"),
        None => Ok(()),
    }
}

fn check_tree(tree: &Tree, which: &'static str) -> Result<(), PlanError> {
    for pair in tree.roots.windows(2) {
        if pair[0].path >= pair[1].path {
            return Err(PlanError::Malformed {
                which,
                path: ByteText(pair[1].path.clone()),
                reason: "roots are not in order",
            });
        }
    }
    for root in &tree.roots {
        let inner =
            tree.roots.iter().find(|other| other.path != root.path && is_beneath(&other.path, &root.path));
        if let Some(inner) = inner {
            let (outer, inner) = (ByteText(root.path.clone()), ByteText(inner.path.clone()));
            return Err(PlanError::Overlap { outer, inner });
        }
        check_root(root).map_err(|(path, reason)| PlanError::Malformed {
            which,
            path: ByteText(path),
            reason,
        })?;
    }
    Ok(())
}

fn check_root(root: &Root) -> Result<(), (Vec<u8>, &'static str)> {
    if !is_plain_root(&root.path) {
        return Err((root.path.clone(), "a root must be an absolute path without empty parts, . or .."));
    }
    let Some(first) = root.entries.first() else { return Ok(()) };
    if !first.path.is_empty() {
        return Err((absolute(&root.path, &first.path), "the root itself must come first"));
    }
    let mut folder = first;
    for (before, entry) in root.entries.iter().zip(&root.entries[1..]) {
        let fault = check_entry(&root.entries, before, entry, &mut folder);
        if let Some(reason) = fault {
            return Err((absolute(&root.path, &entry.path), reason));
        }
    }
    Ok(())
}

/// Says what is wrong with `entry`. `folder` is the folder of the entry before, which is mostly the same.
fn check_entry<'a>(
    entries: &'a [Entry],
    before: &Entry,
    entry: &Entry,
    folder: &mut &'a Entry,
) -> Option<&'static str> {
    if before.path >= entry.path {
        return Some("entries are not in order");
    }
    if !is_plain(&entry.path) {
        return Some("a path must have no empty part, no . and no ..");
    }
    let above = parent(&entry.path).unwrap_or_default();
    if folder.path != above {
        match find(entries, above) {
            Some(found) => *folder = found,
            None => return Some("its folder is missing"),
        }
    }
    (!is_folder(folder)).then_some("what it stands in is not a folder")
}

/// A path that leads nowhere but down.
pub(super) fn is_plain(path: &[u8]) -> bool {
    !path.contains(&0) && path.split(|&b| b == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// An absolute path without empty parts, `.` and `..`.
pub(super) fn is_plain_root(path: &[u8]) -> bool {
    path == b"/" || path.strip_prefix(b"/").is_some_and(is_plain)
}

/// Every path that is selected by name lies in a root, and is in one of the trees.
pub(super) fn check_selection(selection: &Selection, current: &Tree, target: &Tree) -> Result<(), PlanError> {
    let Selection::Only(set) = selection else { return Ok(()) };
    for named in named(set, target) {
        if named.places.is_empty() {
            let roots: Vec<_> = target.roots.iter().map(|root| encode(&root.path)).collect();
            return Err(PlanError::Outside { path: named.pattern.to_owned(), roots: roots.join(", ") });
        }
        if !named.is_in(current) && !named.is_in(target) {
            let (root, path) = named.places[0];
            let near = near(&[&current.roots[root], &target.roots[root]], path);
            return Err(PlanError::NotFound { path: named.pattern.to_owned(), near });
        }
    }
    Ok(())
}

/// A pattern that names a path.
struct Named<'a> {
    pattern: &'a str,
    /// The roots that it may lie in, by position, with its path there.
    places: Vec<(usize, &'a [u8])>,
}

impl Named<'_> {
    fn is_in(&self, tree: &Tree) -> bool {
        self.places
            .iter()
            .any(|(root, path)| path.is_empty() || find(&tree.roots[*root].entries, path).is_some())
    }
}

fn named<'a>(set: &'a PathSet, tree: &'a Tree) -> Vec<Named<'a>> {
    let mut found: Vec<Named<'_>> = Vec::new();
    for (at, root) in tree.roots.iter().enumerate() {
        for (index, (pattern, place)) in set.named(&root.path).enumerate() {
            if found.len() <= index {
                found.push(Named { pattern, places: Vec::new() });
            }
            found[index].places.extend(place.map(|path| (at, path)));
        }
    }
    found
}
