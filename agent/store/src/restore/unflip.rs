//! The inverse of a flip: what was displaced goes back, in the opposite order.
//!
//! Invariant: whatever someone put at a path since the flip, the displaced entry gets its place again. What was there
//! is moved into the slot and named.

use super::adjust::apply;
use super::bench::{Bench, Operation, Watch};
use super::error::FlipError;
use super::fixes;
use super::flip::{ask, is_begun, settle, settle_moved, unwatched};
use super::staged::{Staged, Swap, SwapKind, Unflipped};
use crate::text::ByteText;

/// Brings the live trees back to what they were. Safe to call again, from any point of a flip or of itself.
///
/// It is done, but not yet safe from a power cut, when this returns: call [`sync`](super::sync()) before it is reported.
pub fn unflip(staged: &Staged) -> Result<Unflipped, FlipError> {
    unflip_watched(staged, &mut unwatched)
}

/// The same as [`unflip`], asking `watch` before every operation.
pub fn unflip_watched(staged: &Staged, watch: Watch<'_>) -> Result<Unflipped, FlipError> {
    let mut bench = Bench::open(staged)?;
    let mut unflipped = Unflipped::default();
    if !is_begun(&mut bench)? {
        return Ok(unflipped);
    }
    fixes::release(&mut bench)?;
    for adjust in staged.adjusts.iter().rev() {
        if !apply(&mut bench, adjust, &adjust.new, &adjust.old, watch)? {
            unflipped.changed_since.push(bench.shown(&adjust.at));
        }
    }
    for swap in staged.swaps.iter().rev() {
        let back = way_back(&mut bench, swap)?;
        if back == Back::Nothing {
            continue;
        }
        ask(watch, Operation::Swap(&swap.at))?;
        if go(&mut bench, swap, back)? {
            unflipped.changed_since.push(bench.shown(&swap.at));
        }
    }
    for folder in &staged.folders {
        settle(&mut bench, &folder.at, folder.old, watch)?;
    }
    Ok(unflipped)
}

/// How a path gets back what it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// It has it.
    Nothing,
    /// The two sides are exchanged.
    Exchange { foreign: bool },
    /// What is live goes into the slot.
    TakeAway { foreign: bool },
    /// What is in the slot goes live.
    Put { foreign: bool },
    /// Nothing is live, as it was; the slot is filled, to tell it from a path that is flipped.
    Fill,
}

fn way_back(bench: &mut Bench<'_>, swap: &Swap) -> Result<Back, FlipError> {
    let sides = bench.sides(swap)?;
    let back = match &swap.kind {
        SwapKind::Create { ready } => match (&sides.live, &sides.slot) {
            (_, Some(_)) => Back::Nothing,
            (Some(live), None) => Back::TakeAway { foreign: live.inode != ready.inode },
            (None, None) => Back::Fill,
        },
        SwapKind::Replace { ready, displaced } => match (&sides.live, &sides.slot) {
            (Some(live), Some(slot)) if slot.inode == displaced.inode => {
                Back::Exchange { foreign: live.inode != ready.inode }
            }
            (None, Some(slot)) if slot.inode == displaced.inode => Back::Put { foreign: true },
            // It was displaced in the moment of a crash, and is not what was staged for.
            (Some(live), Some(_)) if live.inode == ready.inode => Back::Exchange { foreign: true },
            (Some(live), _) if live.inode == displaced.inode => Back::Nothing,
            (_, Some(slot)) if slot.inode == ready.inode => Back::Nothing,
            _ => return Err(lost(bench, swap)),
        },
        SwapKind::Delete { displaced } => match (&sides.live, &sides.slot) {
            (None, Some(slot)) => Back::Put { foreign: slot.inode != displaced.inode },
            (Some(_), Some(slot)) if slot.inode == displaced.inode => Back::Exchange { foreign: true },
            (Some(live), Some(_)) if live.inode != displaced.inode => return Err(lost(bench, swap)),
            (_, _) => Back::Nothing,
        },
    };
    Ok(back)
}

fn lost(bench: &Bench<'_>, swap: &Swap) -> FlipError {
    let slot = ByteText(bench.yards()[swap.slot.yard].shown_slot(swap.slot));
    FlipError::Lost { path: bench.shown(&swap.at), slot }
}

/// Goes back, and says whether someone else's entry was met.
fn go(bench: &mut Bench<'_>, swap: &Swap, back: Back) -> Result<bool, FlipError> {
    let foreign = match back {
        Back::Nothing => false,
        Back::Exchange { foreign } => {
            bench.exchange(swap)?;
            foreign
        }
        Back::TakeAway { foreign } => {
            bench.take_away(swap)?;
            foreign
        }
        Back::Put { foreign } => {
            bench.put(swap)?;
            foreign
        }
        Back::Fill => {
            bench.fill(swap)?;
            true
        }
    };
    match &swap.kind {
        SwapKind::Create { .. } => {}
        SwapKind::Replace { displaced, .. } | SwapKind::Delete { displaced } => {
            settle_moved(bench, &swap.at, (displaced.inode, displaced.mode, displaced.mtime))?;
        }
    }
    Ok(foreign)
}
