//! Flags that bind an entry (immutable, append-only): set once all else is done, and taken away before anything is undone.

use rustix::fs::{Mode, OFlags, open};

use super::bench::Bench;
use super::error::FlipError;
use super::fault::{Action, Fault};
use super::meta::by_number;
use super::plan::{Change, FilesPlan, Place};
use super::staged::Fix;
use crate::flags;
use crate::text::ByteText;
use crate::tree::{Entry, EntryKind};

/// The entries of a plan that are bound afterwards.
pub(super) fn of_plan(plan: &FilesPlan) -> Vec<Fix> {
    let bound = |entry: &Entry| {
        let letters = flags::among(&entry.meta.xattrs);
        let can = matches!(entry.kind, EntryKind::File { .. } | EntryKind::Directory);
        (can && flags::are_fixed(letters)).then(|| letters.to_vec())
    };
    let mut fixes = Vec::new();
    for step in &plan.steps {
        let entries = match &step.change {
            Change::Create(new) | Change::Replace { new, .. } => &new.entries[..],
            Change::Adjust(adjustment) => std::slice::from_ref(&adjustment.new),
            Change::Delete { .. } => &[],
        };
        fixes.extend(entries.iter().filter_map(|entry| {
            let at = Place { root: step.at.root, path: ByteText(entry.path.clone()) };
            bound(entry).map(|letters| Fix { at, flags: ByteText(letters) })
        }));
    }
    // What lies deeper is bound first: nothing in a bound folder is in the way then.
    fixes.sort_by(|a, b| b.at.cmp(&a.at));
    fixes
}

/// Binds what the target has bound.
pub(super) fn bind(bench: &mut Bench<'_>) -> Result<(), FlipError> {
    bench.staged.fixes.iter().try_for_each(|fix| apply(bench, fix, |_| fix.flags.0.clone()))
}

/// Takes away what binds, and no other flag, so that everything can be put back. The old entry may stand there still.
pub(super) fn release(bench: &mut Bench<'_>) -> Result<(), FlipError> {
    bench.staged.fixes.iter().rev().try_for_each(|fix| apply(bench, fix, |present| flags::loose(&present)))
}

fn apply(bench: &mut Bench<'_>, fix: &Fix, wanted: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<(), FlipError> {
    let shown = bench.shown(&fix.at);
    match bench.look(&fix.at) {
        Ok(Some(found)) if found.is_file() || found.is_folder() => {}
        // It is not there yet, or no longer.
        Ok(_) | Err(_) => return Ok(()),
    }
    let (holder, name) = bench.holder(&fix.at)?;
    let fault = |errno| Fault::new(Action::SetAttribute, shown.0.clone(), errno);
    let way = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = rustix::fs::openat(holder, name, way, Mode::empty()).map_err(fault)?;
    let reading = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(by_number(std::os::fd::AsFd::as_fd(&held)), reading, Mode::empty()).map_err(fault)?;
    let letters = wanted(flags::read(&file));
    Ok(flags::write(file, &letters).map_err(fault)?)
}
