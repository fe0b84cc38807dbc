//! Exchanges the staged entries with the live ones.
//!
//! check all ─▶ mark ─▶ swap each path ─▶ metadata in place ─▶ folders' times
//!
//! Invariants
//! - Before the first path is touched, all are found to be what was staged for; so most conflicts change nothing.
//! - A swap is one system call, and what it displaced is looked at again afterwards: what changed in between goes back at
//!   once.
//! - Which swaps are done can always be told from the inodes of the two sides, so there is no journal here.
//! - No path lies beneath another, so that many are swapped by all cores at once, in any order.

use std::ops::ControlFlow;

use rayon::iter::ParallelIterator as _;
use rayon::slice::ParallelSlice as _;

use super::adjust::{apply, check_adjust, fields};
use super::bench::{Bench, Operation, Watch};
use super::error::FlipError;
use super::evidence::{Sight, holds};
use super::fault::{Action, Fault};
use super::fixes;
use super::look::{FOLDER, FORMAT, Look};
use super::meta::set_time;
use super::plan::Place;
use super::staged::{Evidence, FilesStanding, Ready, Staged, Swap, SwapKind};

/// Brings the live trees to the target. Safe to call again after a crash: finished steps are skipped.
///
/// It is done, but not yet safe from a power cut, when this returns: call [`sync`](super::sync()) before it is reported as
/// done.
pub fn flip(staged: &Staged) -> Result<(), FlipError> {
    let mut bench = Bench::open(staged)?;
    let pending = start(&mut bench, &mut unwatched)?;
    for_each(&mut bench, &pending, forward)?;
    finish(&mut bench, &mut unwatched)
}

/// Finds everything to be what was staged for, and notes that a flip begins; nothing live changes.
///
/// Where several are flipped together, all begin before the first is flipped: one may change an inode that another has too.
pub fn begin(staged: &Staged) -> Result<(), FlipError> {
    start(&mut Bench::open(staged)?, &mut unwatched).map(drop)
}

/// The same as [`flip`], asking `watch` before every operation, and so one after another.
pub fn flip_watched(staged: &Staged, watch: Watch<'_>) -> Result<(), FlipError> {
    let mut bench = Bench::open(staged)?;
    for swap in start(&mut bench, watch)? {
        ask(watch, Operation::Swap(&swap.at))?;
        forward(&mut bench, swap)?;
    }
    finish(&mut bench, watch)
}

pub(super) fn unwatched(_: Operation<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Checks and marks, and says which swaps are to be done.
fn start<'a>(bench: &mut Bench<'a>, watch: Watch<'_>) -> Result<Vec<&'a Swap>, FlipError> {
    let pending = match bench.is_marked()? {
        false => match untouched(bench) {
            Err(FlipError::Changed { .. }) if is_begun(bench)? => undone(bench)?,
            checked => checked?,
        },
        true => undone(bench)?,
    };
    ask(watch, Operation::Mark)?;
    for yard in bench.yards() {
        yard.mark_flipping()?;
    }
    Ok(pending)
}

/// What is done in place, once all paths are swapped.
fn finish(bench: &mut Bench<'_>, watch: Watch<'_>) -> Result<(), FlipError> {
    let staged = bench.staged;
    for adjust in &staged.adjusts {
        if !apply(bench, adjust, &adjust.old, &adjust.new, watch)? {
            return Err(FlipError::Changed { path: bench.shown(&adjust.at) });
        }
    }
    for folder in &staged.folders {
        settle(bench, &folder.at, folder.new, watch)?;
    }
    fixes::bind(bench)
}

/// So many neighbours are worth a bench of their own.
const SHARE: usize = 512;

/// Does something with every swap; where there are many, on all cores. Once one has failed, no other share is begun.
fn for_each<'a>(
    bench: &mut Bench<'a>,
    swaps: &[&'a Swap],
    each: impl Fn(&mut Bench<'a>, &'a Swap) -> Result<(), FlipError> + Sync,
) -> Result<(), FlipError> {
    if swaps.len() <= SHARE {
        return swaps.iter().try_for_each(|swap| each(bench, swap));
    }
    let staged = bench.staged;
    swaps.par_chunks(SHARE).try_for_each(|swaps| {
        let mut bench = Bench::open(staged)?;
        swaps.iter().try_for_each(|swap| each(&mut bench, swap))
    })
}

/// Where the live trees stand, told from inodes and metadata alone.
///
/// Folders' times are not looked at, and neither is what others did to a path since. A flip or its inverse that was
/// interrupted is always finished by calling it again, whatever this says.
pub fn standing(staged: &Staged) -> Result<FilesStanding, FlipError> {
    let mut bench = Bench::open(staged)?;
    let (mut before, mut target) = (false, false);
    for swap in &staged.swaps {
        match bench.sides(swap)?.is_flipped(&swap.kind) {
            true => target = true,
            false => before = true,
        }
    }
    for adjust in &staged.adjusts {
        let (old, new) = fields(&mut bench, adjust)?;
        before |= old;
        target |= new;
    }
    Ok(match (before, target) {
        (true, true) => FilesStanding::Between,
        (false, true) => FilesStanding::Target,
        (_, false) => FilesStanding::Before,
    })
}

/// True once a flip has begun, even where a power cut took its mark and left what it did.
pub(super) fn is_begun(bench: &mut Bench<'_>) -> Result<bool, FlipError> {
    if bench.is_marked()? {
        return Ok(true);
    }
    for swap in &bench.staged.swaps {
        if bench.sides(swap)?.is_flipped(&swap.kind) {
            return Ok(true);
        }
    }
    for adjust in &bench.staged.adjusts {
        let (_, new) = fields(bench, adjust)?;
        if new {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn ask(watch: Watch<'_>, operation: Operation<'_>) -> Result<(), FlipError> {
    match watch(operation) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(FlipError::Interrupted),
    }
}

/// Before the first flip: all swaps, once every path is found to be what was staged for.
fn untouched<'a>(bench: &mut Bench<'a>) -> Result<Vec<&'a Swap>, FlipError> {
    let swaps: Vec<&Swap> = bench.staged.swaps.iter().collect();
    for_each(bench, &swaps, check)?;
    bench.staged.adjusts.iter().try_for_each(|adjust| check_adjust(bench, adjust, true))?;
    Ok(swaps)
}

/// Once a flip has begun: the swaps that it did not come to.
fn undone<'a>(bench: &mut Bench<'a>) -> Result<Vec<&'a Swap>, FlipError> {
    let mut pending = Vec::new();
    for swap in &bench.staged.swaps {
        if !is_done(bench, swap)? {
            pending.push(swap);
        }
    }
    bench.staged.adjusts.iter().try_for_each(|adjust| check_adjust(bench, adjust, false))?;
    Ok(pending)
}

/// Before the first flip: what is live is untouched, and what lies ready too, where someone could reach it.
fn check(bench: &mut Bench<'_>, swap: &Swap) -> Result<(), FlipError> {
    let found = bench.look(&swap.at)?;
    let (ready, displaced) = match &swap.kind {
        SwapKind::Create { ready } => (Some(ready), None),
        SwapKind::Replace { ready, displaced } => (Some(ready), Some(displaced)),
        SwapKind::Delete { displaced } => (None, Some(displaced)),
    };
    let untouched = match (found, displaced) {
        (None, None) => true,
        (Some(found), Some(displaced)) => is_untouched(bench, &swap.at, &found, displaced)?,
        (_, _) => false,
    };
    let shared = ready.filter(|ready| ready.shared);
    if untouched && (shared.is_none() || bench.slot(swap)?.as_ref().map(Ready::of).as_ref() == shared) {
        return Ok(());
    }
    Err(FlipError::Changed { path: bench.shown(&swap.at) })
}

fn is_untouched(
    bench: &mut Bench<'_>,
    at: &Place,
    look: &Look,
    displaced: &Evidence,
) -> Result<bool, FlipError> {
    if displaced.beneath.is_none() {
        return Ok(Evidence::of(look) == *displaced);
    }
    let shown = bench.shown(at);
    let (holder, name) = bench.holder(at)?;
    holds(&Sight { holder, name, look, shown: &shown.0 }, displaced)
}

/// Once a flip has begun: true when the swap is done, false when it can be; anything else is someone else's change.
///
/// What was flipped and flipped back has other times of change, so those say nothing any more.
fn is_done(bench: &mut Bench<'_>, swap: &Swap) -> Result<bool, FlipError> {
    let sides = bench.sides(swap)?;
    let alike = |displaced| sides.live.as_ref().is_some_and(|live| is_alike(live, displaced));
    let (done, possible) = match &swap.kind {
        SwapKind::Create { ready } => (
            sides.slot.is_none() && sides.live_is(ready.inode),
            sides.live.is_none() && sides.slot_is(ready.inode),
        ),
        SwapKind::Replace { ready, displaced } => (
            sides.slot_is(displaced.inode) && sides.live_is(ready.inode),
            sides.slot_is(ready.inode) && alike(displaced),
        ),
        SwapKind::Delete { displaced } => {
            (sides.slot_is(displaced.inode) && sides.live.is_none(), sides.slot.is_none() && alike(displaced))
        }
    };
    match (done, possible) {
        (true, _) => Ok(true),
        (false, true) => Ok(false),
        (false, false) => Err(FlipError::Changed { path: bench.shown(&swap.at) }),
    }
}

/// True when content and kind are the same, as far as one look tells. A move may touch a folder's own time.
fn is_alike(found: &Look, displaced: &Evidence) -> bool {
    let now = Evidence::of(found);
    let timed = found.is_folder() || now.mtime == displaced.mtime;
    timed && (now.inode, now.mode, now.size) == (displaced.inode, displaced.mode, displaced.size)
}

fn forward(bench: &mut Bench<'_>, swap: &Swap) -> Result<(), FlipError> {
    match &swap.kind {
        SwapKind::Create { ready } => {
            bench.put(swap)?;
            settle_moved(bench, &swap.at, (ready.inode, ready.mode, ready.mtime))
        }
        SwapKind::Replace { ready, displaced } => {
            bench.exchange(swap)?;
            if !bench.slot(swap)?.is_some_and(|found| is_alike(&found, displaced)) {
                bench.exchange(swap)?;
                return Err(FlipError::Changed { path: bench.shown(&swap.at) });
            }
            settle_moved(bench, &swap.at, (ready.inode, ready.mode, ready.mtime))
        }
        SwapKind::Delete { displaced } => {
            bench.take_away(swap)?;
            if !bench.slot(swap)?.is_some_and(|found| is_alike(&found, displaced)) {
                bench.put(swap)?;
                return Err(FlipError::Changed { path: bench.shown(&swap.at) });
            }
            Ok(())
        }
    }
}

/// Some file systems touch a folder's own time when it moves: puts it right, if the folder has its place.
pub(super) fn settle_moved(
    bench: &mut Bench<'_>,
    at: &Place,
    (inode, mode, mtime): (u64, u32, (i64, u32)),
) -> Result<(), FlipError> {
    if mode & FORMAT != FOLDER {
        return Ok(());
    }
    match bench.look(at)? {
        Some(found) if found.inode == inode && found.mtime != mtime => set_folder_time(bench, at, mtime),
        Some(_) | None => Ok(()),
    }
}

/// Puts a folder's time right.
pub(super) fn settle(
    bench: &mut Bench<'_>,
    at: &Place,
    mtime: (i64, u32),
    watch: Watch<'_>,
) -> Result<(), FlipError> {
    ask(watch, Operation::Time(at))?;
    set_folder_time(bench, at, mtime)
}

fn set_folder_time(bench: &mut Bench<'_>, at: &Place, mtime: (i64, u32)) -> Result<(), FlipError> {
    let shown = bench.shown(at);
    let folder = bench.folder(at)?;
    set_time(folder, mtime).map_err(|errno| Fault::new(Action::SetTime, shown.0, errno).into())
}
