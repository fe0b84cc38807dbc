//! What a person must know of a plan: what stays although the snapshot does not have it.

use rfs_store::restore::PathSet;
use rfs_store::text::{ByteText, encode};
use rfs_store::{EntryKind, Met, Tree};

use super::join;

/// How many notes of one kind are told.
const TOLD: usize = 20;

/// What stays and holds a folder that the target does not have.
pub(super) fn held(met: &Met, current: &Tree, target: &Tree) -> Vec<String> {
    let has = |tree: &Tree, path: &[u8]| {
        tree.roots.iter().any(|root| {
            let beneath = path.strip_prefix(&root.path[..]).and_then(|rest| match rest {
                b"" => Some(&b""[..]),
                rest => rest.strip_prefix(b"/"),
            });
            beneath.is_some_and(|path| {
                root.entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).is_ok()
            })
        })
    };
    let folder =
        |path: &ByteText| path.0.iter().rposition(|byte| *byte == b'/').map(|at| path.0[..at].to_vec());
    let stays = holding(met, current);
    let held = stays.iter().filter(|(path, _)| {
        folder(path).is_some_and(|folder| has(current, &folder) && !has(target, &folder))
    });
    held.take(TOLD)
        .map(|(path, what)| format!("{path} is {what} and stays, with the folders above it"))
        .collect()
}

/// What stays although no snapshot has it, and what it is.
fn holding(met: &Met, current: &Tree) -> Vec<(ByteText, &'static str)> {
    let excluded = met.roots.iter().flat_map(|root| &root.passed).map(|path| (path.clone(), "excluded"));
    let mounts = met.mounts().filter(|mount| !mount.taken_in);
    let mounts = mounts.map(|mount| (mount.path.clone(), "a mount"));
    let sockets = current.roots.iter().flat_map(|root| {
        let sockets = root.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Socket));
        sockets.map(|entry| (ByteText(join(&root.path, &entry.path)), "a socket"))
    });
    excluded.chain(mounts).chain(sockets).collect()
}

/// What the target does not have, and what is kept all the same.
pub(super) fn kept(keep: &PathSet, current: &Tree, target: &Tree) -> Option<String> {
    if keep.is_empty() {
        return None;
    }
    let mut extras = current.roots.iter().zip(&target.roots).flat_map(|(now, then)| {
        let extra = |entry: &&rfs_store::Entry| {
            then.entries.binary_search_by(|other| other.path.cmp(&entry.path)).is_err()
        };
        now.entries
            .iter()
            .filter(extra)
            .map(move |entry| join(&now.path, &entry.path))
            .filter(|path| keep.holds(&now.path, path))
    });
    let first = extras.next()?;
    let more = extras.count();
    Some(match more {
        0 => format!("{} is not in the snapshot and is kept", encode(&first)),
        more => format!("{} and {more} more are not in the snapshot and are kept", encode(&first)),
    })
}
