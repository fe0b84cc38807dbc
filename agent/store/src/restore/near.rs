//! What is near a path that is nowhere: what a person may have meant.

use super::pattern::{absolute, name, parent};
use super::wanted::find;
use crate::text::encode;
use crate::tree::{EntryKind, Root};

/// How many names are told.
const TOLD: usize = 3;

/// What is near `path` beneath the roots of that path: similar names in the nearest folder that is there, else that folder.
pub(super) fn near(roots: &[&Root], path: &[u8]) -> String {
    let shown = |root: &Root, path: &[u8]| encode(&absolute(&root.path, path)).into_owned();
    let mut missing = path;
    while let Some(folder) = parent(missing) {
        let above = roots.iter().find_map(|root| find(&root.entries, folder).map(|entry| (root, entry)));
        if let Some((root, EntryKind::Symlink(to))) = above.map(|(root, entry)| (root, &entry.kind)) {
            return format!("{} is a link to {}; name what is behind it", shown(root, folder), encode(to));
        }
        if let Some((root, _)) = above {
            let similar = similar(roots, folder, name(missing));
            let similar: Vec<String> = similar.iter().map(|path| shown(root, path)).collect();
            return match similar.is_empty() {
                true => format!("nearest is {}", shown(root, folder)),
                false => format!("near it: {}", similar.join(", ")),
            };
        }
        missing = folder;
    }
    match roots.first() {
        Some(root) => format!("{} is empty in both", encode(&root.path)),
        None => "nothing is near".to_owned(),
    }
}

/// The paths in that folder whose names are most like `wanted`.
fn similar(roots: &[&Root], folder: &[u8], wanted: &[u8]) -> Vec<Vec<u8>> {
    let in_folder = |root: &&Root| {
        let entries = root.entries.iter().filter(|entry| parent(&entry.path) == Some(folder));
        entries.map(|entry| entry.path.clone()).collect::<Vec<_>>()
    };
    let mut found: Vec<(usize, Vec<u8>)> = roots
        .iter()
        .flat_map(in_folder)
        .filter_map(|path| Some((unlike(name(&path), wanted)?, path)))
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().take(TOLD).map(|(_, path)| path).collect()
}

/// How unlike two names are; none where nobody would mistake one for the other.
fn unlike(name: &[u8], wanted: &[u8]) -> Option<usize> {
    let most = 1 + wanted.len() / 4;
    if name.len().abs_diff(wanted.len()) > most {
        let begins = name.starts_with(wanted) || wanted.starts_with(name);
        return (begins && name.len().min(wanted.len()) > 2).then_some(most + 1);
    }
    // The edit distance, one row of the table at a time.
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    for (i, byte) in name.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in wanted.iter().enumerate() {
            let changed = corner + usize::from(!byte.eq_ignore_ascii_case(other));
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Entry, Meta};

    fn root(entries: &[(&str, EntryKind)]) -> Root {
        let entry = |(path, kind): &(&str, EntryKind)| Entry {
            path: path.as_bytes().to_vec(),
            meta: Meta { mode: 0o644, uid: 0, gid: 0, mtime_seconds: 0, mtime_nanos: 0, xattrs: Vec::new() },
            kind: kind.clone(),
        };
        Root { path: b"/srv/site".to_vec(), entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn what_a_person_may_have_meant_is_named() {
        let file = || EntryKind::File { size: 0, content: Vec::new(), link: None };
        let now = root(&[
            ("", EntryKind::Directory),
            ("assets", EntryKind::Directory),
            ("assets/logo.png", file()),
            ("assets/logo.svg", file()),
            ("current", EntryKind::Symlink(b"assets".to_vec())),
        ]);
        let then = root(&[("", EntryKind::Directory), ("index.html", file())]);
        for (path, said) in [
            ("indx.html", "near it: /srv/site/index.html"),
            ("assets/logo.pgn", "near it: /srv/site/assets/logo.png, /srv/site/assets/logo.svg"),
            ("Assets/logo.png", "near it: /srv/site/assets"),
            ("assets/logo", "near it: /srv/site/assets/logo.png, /srv/site/assets/logo.svg"),
            ("current/logo.png", "/srv/site/current is a link to assets; name what is behind it"),
            ("assets/something/else", "nearest is /srv/site/assets"),
        ] {
            assert_eq!(near(&[&now, &then], path.as_bytes()), said, "{path}");
        }
        assert_eq!(near(&[&root(&[])], b"a/b"), "/srv/site is empty in both");
    }
}
