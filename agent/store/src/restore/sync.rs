//! Makes what was made, moved or set survive a power cut.
//!
//! Where it is little, each file and folder is synced by itself: a whole file system may hold gigabytes that others
//! wrote, and a restore must not wait for those. Where it is much, or something that cannot be synced by itself, the
//! whole file system is synced, and the disk is at work on it before all is made. The syncs of one restore run side by
//! side, so that a journal takes them together.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};

use rustix::fs::{Mode, OFlags, fsync, openat, syncfs};

use super::bench::Bench;
use super::error::{FlipError, StageError};
use super::fault::{Action, Fault};
use super::folders::readable;
use super::look::look;
use super::pattern::parent;
use super::plan::FilesPlan;
use super::site::Site;
use super::staged::{Slot, Staged};
use super::yard::OpenYard;
use crate::tree::{Entry, EntryKind};

/// More are synced with their whole file system. It is also how many stay open at once.
const FEW: usize = 256;
const THREADS: usize = 16;

/// So much is made before the disk is set to work on it.
const STEP: u64 = 64 << 20;

/// Has the disk at work while more is made, where it is much: the sync at the end then finds little left to do.
#[derive(Debug, Default)]
pub(super) struct Trickle {
    made: AtomicU64,
    is_over: AtomicBool,
    writer: OnceLock<Thread>,
}

impl Trickle {
    /// Says how much more was made.
    pub(super) fn add(&self, bytes: u64) {
        let before = self.made.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP != (before + bytes) / STEP {
            self.wake();
        }
    }

    /// Does `work`, which says how much it makes, and syncs the yards each time that it has made much.
    pub(super) fn beside<T>(
        &self,
        site: &Site,
        work: impl FnOnce() -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        thread::scope(|threads| {
            let writing = threads.spawn(|| self.write_back(site));
            self.writer.get_or_init(|| writing.thread().clone());
            let worked = {
                let _ends = EndsTrickle(self);
                work()
            };
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let worked = worked?;
            written?;
            Ok(worked)
        })
    }

    fn write_back(&self, site: &Site) -> Result<(), Fault> {
        let mut synced = 0;
        while !self.is_over.load(Ordering::Acquire) {
            let made = self.made.load(Ordering::Acquire) / STEP;
            match made == synced {
                true => thread::park(),
                false => site.yards().try_for_each(whole)?,
            }
            synced = made;
        }
        Ok(())
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

/// Ends it also when the work panics, for the other thread would wait for ever.
struct EndsTrickle<'a>(&'a Trickle);

impl Drop for EndsTrickle<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.wake();
    }
}

/// Open files and folders that are to be synced, each with its path.
#[derive(Debug, Default)]
pub(super) struct Unsynced(Mutex<Vec<(OwnedFd, Vec<u8>)>>);

impl Unsynced {
    /// For a plan that brings so little that each part of it is synced by itself.
    pub(super) fn for_plan(plan: &FilesPlan) -> Option<Self> {
        let new = || plan.steps.iter().filter_map(|step| step.change.brings()).flat_map(|new| &new.entries);
        (new().count() + plan.steps.len() <= FEW && new().all(syncs_by_itself)).then(Self::default)
    }

    pub(super) fn add(&self, open: OwnedFd, shown: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((open, shown.to_vec()));
    }

    /// Syncs all, several at a time.
    fn sync(self) -> Result<(), Fault> {
        let waiting = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((open, shown)) = waiting.get(next.fetch_add(1, Ordering::Relaxed)) {
                fsync(open).map_err(|errno| Fault::new(Action::Sync, &shown[..], errno))?;
            }
            Ok(())
        };
        std::thread::scope(|threads| {
            let workers: Vec<_> = (0..THREADS.min(waiting.len())).map(|_| threads.spawn(work)).collect();
            let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            workers.into_iter().map(join).fold(Ok(()), Result::and)
        })
    }
}

fn syncs_by_itself(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::Directory | EntryKind::File { link: None, .. })
}

/// Syncs what was staged: `unsynced` with the folders that hold it, or all file systems concerned.
pub(super) fn staged(
    site: &mut Site,
    slots: &[Option<Slot>],
    unsynced: Option<Unsynced>,
) -> Result<(), Fault> {
    match unsynced.map(|unsynced| with_holders(site, slots, unsynced)) {
        Some(Ok(unsynced)) => unsynced.sync(),
        // A folder may be closed to listing, and so to this.
        Some(Err(_)) | None => site.yards().try_for_each(whole),
    }
}

fn with_holders(site: &mut Site, slots: &[Option<Slot>], unsynced: Unsynced) -> Result<Unsynced, Fault> {
    // One slot of each shard stands for all of it.
    let slots = slots.iter().flatten();
    let shards: BTreeMap<_, _> = slots.map(|slot| ((slot.yard, OpenYard::shard_of(*slot)), *slot)).collect();
    for slot in shards.into_values() {
        let mut yard = site.yard_of(slot).again()?;
        let shown = yard.shown_slot(slot);
        unsynced.add(open_again(yard.slot(slot)?.0, &shown)?, &shown);
    }
    for yard in site.yards() {
        unsynced.add(open_again(yard.folder(), yard.path())?, yard.path());
    }
    site.grounds(&mut |folder, shown| {
        unsynced.add(open_again(folder, shown)?, shown);
        Ok(())
    })?;
    Ok(unsynced)
}

/// Makes what was flipped, or flipped back, survive a power cut.
pub fn sync(staged: &Staged) -> Result<(), FlipError> {
    let mut bench = Bench::open(staged)?;
    match moved(&mut bench) {
        Ok(Some(unsynced)) => Ok(unsynced.sync()?),
        // Something is not where it was: no reason to leave the rest at risk.
        Ok(None) | Err(_) => Ok(bench.yards().iter().try_for_each(whole)?),
    }
}

/// The folders in which names changed and what got other metadata, unless these are many or one cannot be opened.
fn moved(bench: &mut Bench<'_>) -> Result<Option<Unsynced>, FlipError> {
    let staged = bench.staged;
    if staged.swaps.len() + staged.adjusts.len() + staged.folders.len() > FEW {
        return Ok(None);
    }
    let unsynced = Unsynced::default();
    for adjust in &staged.adjusts {
        let shown = bench.shown(&adjust.at).0;
        let (holder, name) = bench.holder(&adjust.at)?;
        let found = look(holder, name).map_err(|errno| Fault::new(Action::Look, &shown[..], errno))?;
        if !found.is_some_and(|found| found.is_file() || found.is_folder()) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat(holder, name, flags, Mode::empty()) {
            Ok(open) => unsynced.add(open, &shown),
            Err(_) => return Ok(None),
        }
    }
    for folder in &staged.folders {
        let shown = bench.shown(&folder.at).0;
        unsynced.add(open_again(bench.folder(&folder.at)?, &shown)?, &shown);
    }
    let (mut holders, mut shards) = (BTreeSet::new(), BTreeSet::new());
    for swap in &staged.swaps {
        let shown = bench.shown(&swap.at).0;
        if holders.insert((swap.at.root, parent(&swap.at.path.0))) {
            unsynced.add(open_again(bench.holder(&swap.at)?.0, &shown)?, &shown);
        }
        if shards.insert((swap.slot.yard, OpenYard::shard_of(swap.slot))) {
            unsynced.add(open_again(bench.shard(swap)?, &shown)?, &shown);
        }
    }
    for yard in bench.yards() {
        unsynced.add(open_again(yard.folder(), yard.path())?, yard.path());
    }
    Ok(Some(unsynced))
}

fn whole(yard: &OpenYard) -> Result<(), Fault> {
    syncfs(yard.folder()).map_err(|errno| Fault::new(Action::Sync, yard.path(), errno))
}

fn open_again(folder: impl AsFd, shown: &[u8]) -> Result<OwnedFd, Fault> {
    readable(folder).map_err(|errno| Fault::new(Action::OpenFolder, shown, errno))
}
