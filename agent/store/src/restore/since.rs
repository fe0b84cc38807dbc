//! Which differences from a target came after a moment: a service that was started writes into its own tree.
//!
//! What was exchanged is known by its inode, and everything else by its time of change, which the kernel sets and nobody
//! else can. So no clock is read: a moment is the kernel's own stamp of a file that is made then.

use std::collections::HashMap;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

use super::error::FlipError;
use super::fault::{Action, Fault};
use super::live::LiveRoot;
use super::look::{Look, look_at};
use super::pattern::parent;
use super::plan::{FilesPlan, Step};
use super::staged::{Evidence, Ready, Staged, Swap, SwapKind};
use crate::text::ByteText;

/// A moment, as the kernel stamps files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment((i64, u32));

/// How often the kernel's stamp is looked at.
const STEP: Duration = Duration::from_micros(200);

/// What a second plan found, apart by when it came to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    /// The paths that were written after the moment.
    pub written: Vec<ByteText>,
    /// The paths that differ since before it, so that the target was not reached there.
    pub differs: Vec<ByteText>,
}

impl Moment {
    /// This moment.
    pub fn now() -> Result<Self, FlipError> {
        let fault = |errno| Fault::new(Action::Look, &b"a file in memory"[..], errno);
        let file = memfd_create("moment", MemfdFlags::CLOEXEC).map_err(fault)?;
        Ok(Self(look_at(&file).map_err(fault)?.ctime))
    }

    /// A moment that the kernel tells from this one: it may stamp files in steps of some milliseconds.
    pub fn next(self) -> Result<Self, FlipError> {
        loop {
            let now = Self::now()?;
            // A clock that was set back says another time too.
            if now != self {
                return Ok(now);
            }
            std::thread::sleep(STEP);
        }
    }

    /// Whether a file with this time of change was changed at the moment or after it.
    ///
    /// Some file systems stamp whole seconds alone; there a change in the moment's own second counts as one after it.
    fn is_before(self, changed: (i64, u32)) -> bool {
        let Self((seconds, _)) = self;
        if changed.1 == 0 { changed.0 >= seconds } else { changed >= self.0 }
    }
}

/// Sorts the steps of a second plan by whether what they would undo came after `moment`, which is after the flip of
/// `staged` and before any service was started.
pub fn left_since(plan: &FilesPlan, staged: Option<&Staged>, moment: Moment) -> Result<Left, FlipError> {
    let mut left = Left::default();
    let swaps = staged.map(swaps_by_path).unwrap_or_default();
    let mut open: Option<(usize, LiveRoot)> = None;
    for step in &plan.steps {
        let root = &plan.roots[step.at.root].0;
        let live = match &mut open {
            Some((at, live)) if *at == step.at.root => live,
            _ => &mut open.insert((step.at.root, LiveRoot::open(root)?)).1,
        };
        let swap = swaps.get(&(&root[..], &step.at.path.0[..])).copied();
        match is_written(live, step, swap, moment)? {
            true => left.written.push(step.shown.clone()),
            false => left.differs.push(step.shown.clone()),
        }
    }
    Ok(left)
}

/// The exchanges by their root's path and their own.
fn swaps_by_path(staged: &Staged) -> HashMap<(&[u8], &[u8]), &Swap> {
    let keyed = |swap| -> Option<((&[u8], &[u8]), &Swap)> {
        let swap: &Swap = swap;
        let root = staged.roots.get(&swap.at.root)?;
        Some(((&root.path.0, &swap.at.path.0), swap))
    };
    staged.swaps.iter().filter_map(keyed).collect()
}

fn is_written(
    live: &mut LiveRoot,
    step: &Step,
    swap: Option<&Swap>,
    moment: Moment,
) -> Result<bool, FlipError> {
    let found = look(live, &step.at.path.0)?;
    match (swap.map(|swap| &swap.kind), &found) {
        // What lay ready still stands there as it was staged: nobody has written to it.
        (Some(SwapKind::Create { ready } | SwapKind::Replace { ready, .. }), Some(found))
            if Ready { shared: ready.shared, ..Ready::of(found) } == *ready =>
        {
            Ok(false)
        }
        (Some(SwapKind::Replace { displaced, .. } | SwapKind::Delete { displaced }), Some(found))
            if is_displaced(displaced, found) =>
        {
            Ok(false)
        }
        (_, Some(found)) => Ok(moment.is_before(found.ctime)),
        // It was taken away: the folder says when.
        (_, None) => Ok(above(live, &step.at.path.0)?.is_some_and(|folder| moment.is_before(folder.ctime))),
    }
}

/// Whether what should have been exchanged stands there still.
fn is_displaced(displaced: &Evidence, found: &Look) -> bool {
    displaced.inode == found.inode && displaced.mtime == found.mtime
}

/// The nearest folder above a path that is there.
fn above(live: &mut LiveRoot, path: &[u8]) -> Result<Option<Look>, FlipError> {
    let mut path = path;
    while let Some(folder) = parent(path) {
        if let Some(found) = look(live, folder)? {
            return Ok(Some(found));
        }
        path = folder;
    }
    let fault = |errno| Fault::new(Action::Look, live.path().to_vec(), errno);
    Ok(Some(look_at(live.above()).map_err(fault)?))
}

fn look(live: &mut LiveRoot, path: &[u8]) -> Result<Option<Look>, FlipError> {
    match live.look(path) {
        Ok(found) => Ok(found),
        Err(fault) if matches!(fault.errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_from_a_moment_by_the_stamps_that_there_are() {
        let moment = Moment((10, 500));
        for (changed, expected) in [((10, 499), false), ((10, 500), true), ((11, 1), true), ((9, 999), false)]
        {
            assert_eq!(moment.is_before(changed), expected, "{changed:?}");
        }
        // Stamps of whole seconds.
        assert_eq!([(9, 0), (10, 0), (11, 0)].map(|changed| moment.is_before(changed)), [false, true, true]);
    }

    #[test]
    fn the_next_moment_is_another_one() {
        let now = Moment::now().expect("the kernel says it");
        assert_ne!(now.next().expect("the kernel says it"), now);
    }
}
