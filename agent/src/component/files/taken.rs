//! What a snapshot was taken with, against what is met now: a restore goes by the snapshot.
//!
//! A path that only one of the two knows is left alone and named. What was left out at the capture, and what is mounted now,
//! is never touched. A path on another file system than at the capture is refused, unless a person accepts it.

use std::borrow::Cow;

use rfs_model::ComponentName;
use rfs_store::restore::PathSet;
use rfs_store::text::{ByteText, encode};
use rfs_store::{Met, MetMount, MetRoot, Root, Tree};

use crate::component::ComponentError;

/// How many notes of one kind are told.
const TOLD: usize = 20;

/// Both sides of a comparison, brought to the paths that both know.
pub(super) struct Common<'a> {
    pub(super) current: Cow<'a, Tree>,
    pub(super) target: Tree,
    /// What is not touched: left out at the capture, or mounted.
    pub(super) protect: PathSet,
    /// Roots that are mounts, of another file system than at the capture: what they are themselves says nothing.
    pub(super) as_is: Vec<ByteText>,
    /// What a person must know of it.
    pub(super) notes: Vec<String>,
}

/// Brings both sides to what they have in common.
pub(super) fn common<'a>(
    name: &ComponentName,
    (current, met): (&'a Tree, &'a Met),
    (target, taken): (Tree, Option<&'a Met>),
    accepted: &PathSet,
) -> Result<Common<'a>, ComponentError> {
    let mut notes = Vec::new();
    let mut current = Cow::Borrowed(current);
    let mut target = target;
    let is_known = |tree: &Tree, root: &Root| tree.roots.iter().any(|other| other.path == root.path);
    for root in current.roots.iter().filter(|root| !is_known(&target, root)) {
        notes.push(format!("{} is not in the snapshot and is left alone", encode(&root.path)));
    }
    // Trees may be large, and mostly both have the same paths.
    if !notes.is_empty() {
        current.to_mut().roots.retain(|root| is_known(&target, root));
    }
    target.roots.retain(|root| {
        let known = is_known(&current, root);
        if !known {
            notes.push(format!("{} is no longer configured and is left alone", encode(&root.path)));
        }
        known
    });
    if target.roots.is_empty() && !notes.is_empty() {
        return Err(ComponentError::NothingInCommon { component: name.clone() });
    }
    let (mut protect, mut as_is) = (PathSet::default(), Vec::new());
    if let Some(taken) = taken {
        protect = PathSet::new(&taken.exclude)
            .map_err(|source| ComponentError::Selection { component: name.clone(), source })?;
        for root in &target.roots {
            let now = met.root(&root.path);
            if let (Some(then), Some(now)) = (taken.root(&root.path), now) {
                notes.extend(same_way(name, then, now, accepted)?);
                if let Some(note) = same_file_system(name, then, now, accepted)? {
                    notes.push(note);
                    as_is.extend(is_mount(now).then(|| now.path.clone()));
                }
            }
        }
        let lifted: Vec<&str> = taken
            .exclude
            .iter()
            .filter(|pattern| !met.exclude.contains(pattern))
            .map(String::as_str)
            .collect();
        if !lifted.is_empty() {
            notes.push(format!("{} was excluded at the capture and stays as it is", lifted.join(", ")));
        }
        notes.extend(taken.notes().into_iter().take(TOLD).map(|note| format!("at the capture: {note}")));
    }
    let taken_in = |met: &'a Met| met.mounts().filter(|mount| mount.taken_in);
    for mount in taken.into_iter().flat_map(taken_in) {
        let now = met.mounts().find(|now| now.path == mount.path);
        let is_same = now.is_some_and(|now| match (&mount.file_system, &now.file_system) {
            (Some(then), Some(now)) => then.is(now),
            (_, _) => now.kind == mount.kind,
        });
        if !is_same && !accepted.holds(&mount.path.0, &mount.path.0) {
            let (then, now) = match (mount, now) {
                (MetMount { file_system: Some(then), .. }, Some(MetMount { file_system: Some(now), .. })) => {
                    (then.apart_from(now), now.apart_from(then))
                }
                (then, now) => {
                    let now = now.map_or_else(|| "not mounted".to_owned(), |now| now.kind.clone());
                    (then.kind.clone(), now)
                }
            };
            let (component, path) = (name.clone(), mount.path.clone());
            return Err(ComponentError::OtherFileSystem { component, path, then, now });
        }
    }
    let not_ours = |met: &'a Met| met.mounts().filter(|mount| !mount.taken_in).collect::<Vec<_>>();
    let left_out = taken.map(not_ours).unwrap_or_default();
    let mounted = not_ours(met);
    for mount in &mounted {
        beneath_a_mount(name, mount, taken, &target, accepted)?;
    }
    let named = |path: &ByteText| left_out.iter().any(|mount| mount.path == *path);
    let since = mounted.iter().filter(|mount| !named(&mount.path)).take(TOLD);
    notes.extend(since.map(|mount| format!("{} is {} and is left alone", mount.path, mount.what())));
    protect = protect.with_paths(left_out.iter().chain(&mounted).map(|mount| &mount.path.0[..]));
    Ok(Common { current, target, protect, as_is, notes })
}

/// Refuses a root that is reached by links which led elsewhere at the capture: it is another tree now. Where a person accepts
/// it, says so.
fn same_way(
    name: &ComponentName,
    then: &MetRoot,
    now: &MetRoot,
    accepted: &PathSet,
) -> Result<Option<String>, ComponentError> {
    let path = &then.path;
    if then.place() == now.place() {
        return Ok(None);
    }
    if accepted.holds(&path.0, &path.0) {
        let (then, now) = (then.way(), now.way());
        return Ok(Some(format!(
            "{path} was reached through {then} at the capture; it is restored through {now}"
        )));
    }
    Err(ComponentError::OtherWay {
        component: name.clone(),
        path: path.clone(),
        then: then.way(),
        now: now.way(),
    })
}

/// Refuses a root that is another file system than at the capture: it may not have been mounted then, or is not now. Where a
/// person accepts it, says so.
fn same_file_system(
    name: &ComponentName,
    then: &MetRoot,
    now: &MetRoot,
    accepted: &PathSet,
) -> Result<Option<String>, ComponentError> {
    let path = &then.path;
    // Where nothing stands it is the file system on which the path would be made. Where there is none nobody can tell, as in
    // a snapshot of an earlier day.
    let (Some(one), Some(two)) = (&then.file_system, &now.file_system) else { return Ok(None) };
    if one.is(two) {
        return Ok(None);
    }
    let (then, now) = (one.apart_from(two), two.apart_from(one));
    if accepted.holds(&path.0, &path.0) {
        return Ok(Some(format!("{path} was {then} at the capture; it is restored into {now}")));
    }
    Err(ComponentError::OtherFileSystem { component: name.clone(), path: path.clone(), then, now })
}

/// Whether a file system is mounted at the root itself.
fn is_mount(root: &MetRoot) -> bool {
    root.file_system.as_ref().is_some_and(|system| system.mounted_at.0 == root.place())
}

/// Refuses to leave out what the snapshot has beneath a path that is a mount, or a read-only subvolume, now.
fn beneath_a_mount(
    name: &ComponentName,
    now: &MetMount,
    taken: Option<&Met>,
    target: &Tree,
    accepted: &PathSet,
) -> Result<(), ComponentError> {
    let mount = &now.path;
    let was_mounted =
        taken.is_some_and(|taken| taken.mounts().any(|then| then.path == *mount && !then.taken_in));
    let root = target.roots.iter().find(|root| mount.0.starts_with(&root.path));
    let (Some(root), false) = (root, was_mounted) else { return Ok(()) };
    let Some(beneath) = mount.0[root.path.len()..].strip_prefix(b"/") else { return Ok(()) };
    let prefix = [beneath, b"/"].concat();
    let count = root.entries.iter().filter(|entry| entry.path.starts_with(&prefix)).count() as u64;
    if count == 0 || accepted.holds(&root.path, &mount.0) {
        return Ok(());
    }
    let undo = if now.is_subvolume() { "make it writable" } else { "unmount it" };
    let (component, path) = (name.clone(), mount.clone());
    Err(ComponentError::Covered { component, path, what: now.what(), undo, count })
}
