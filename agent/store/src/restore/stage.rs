//! Writes everything that a plan brings beside the live trees, and takes the evidence that a flip needs.
//!
//! survey (what is live, where to stage, is there room) ─▶ make ─▶ evidence ─▶ sync.
//! A failure anywhere removes all that was made.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rayon::prelude::*;
use rfs_model::ByteCount;
use rustix::fs::{fstatvfs, statvfs};

use super::contents::{Contents, Progress, Unmanaged};
use super::error::StageError;
use super::evidence::{Sight, is_still, take};
use super::fault::{Action, Fault};
use super::fixes;
use super::journalled::StagedFormat;
use super::live::LiveRoot;
use super::look::{Look, look, look_at};
use super::outside::rewrite_shared;
use super::pattern::parent;
use super::plan::{Adjustment, Change, FilesPlan, Step};
use super::site::Site;
use super::staged::{Adjust, Ready, Slot, Staged, StagingName, Swap, SwapKind};
use super::sync::{self, Unsynced};
use super::work::{Work, room_needed};
use super::yard::OpenYard;
use crate::space::lacks_inodes;
use crate::text::ByteText;
use crate::tree::Entry;

/// Steps whose evidence one thread takes at a time.
const CHUNK: usize = 256;

/// Writes everything that `plan` brings into staging folders named `name`, durably, and changes nothing live.
///
/// What is live is compared with what the plan was made for; any difference is [`StageError::Changed`]. On any error
/// nothing is left behind.
pub fn stage(
    plan: &FilesPlan,
    contents: &dyn Contents,
    name: &StagingName,
    unmanaged: Unmanaged,
    progress: &Progress,
) -> Result<Staged, StageError> {
    let mut site = Site::new(name);
    let staged = Staging { plan, contents, unmanaged, progress }.run(&mut site, name);
    if staged.is_err() {
        site.clear();
    }
    staged.map_err(|error| with_inodes(error, plan))
}

/// Says what is lacking, where a file system that can take no more files refused one.
fn with_inodes(error: StageError, plan: &FilesPlan) -> StageError {
    let path = match &error {
        StageError::NoSpace { path, needed: ByteCount(0), .. } => path.clone(),
        _ => return error,
    };
    // What was made is gone again, so that the folder that it was made in tells.
    let folder = Path::new(OsStr::from_bytes(&path.0));
    let Some(found) = folder.ancestors().find_map(|folder| statvfs(folder).ok()) else { return error };
    let brought: usize =
        plan.steps.iter().filter_map(|step| step.change.brings()).map(|new| new.entries.len()).sum();
    let needed = STAGING_FOLDERS + brought as u64;
    match lacks_inodes(&found, needed) {
        true => StageError::NoInodes { path, needed, available: found.f_favail },
        false => error,
    }
}

/// A staging folder, its mark, the folder of its slots, and the note that a flip has begun.
const STAGING_FOLDERS: u64 = 4;

struct Staging<'a> {
    plan: &'a FilesPlan,
    contents: &'a dyn Contents,
    unmanaged: Unmanaged,
    progress: &'a Progress,
}

impl Staging<'_> {
    fn run(&self, site: &mut Site, name: &StagingName) -> Result<Staged, StageError> {
        site.open_roots(self.plan)?;
        let plan = rewrite_shared(self.plan, site)?;
        let slots = survey(&plan, site)?;
        let needed = needed(&plan, &slots);
        check_room(site, &needed)?;
        for slot in slots.iter().flatten() {
            site.yard_of(*slot).make_shard(*slot)?;
        }
        let work = Work::new(&plan, &slots);
        let unsynced = Unsynced::for_plan(&plan);
        work.perform(site, self.contents, self.progress, unsynced.as_ref())
            .map_err(|error| with_numbers(error, site, &needed))?;
        let (swaps, adjusts) = self.evidence(&plan, site, &slots)?;
        sync::staged(site, &slots, unsynced)?;
        let (roots, yards) = site.record()?;
        let (format, name, folders) = (StagedFormat::default(), name.clone(), plan.folders.clone());
        Ok(Staged { format, name, roots, yards, swaps, adjusts, folders, fixes: fixes::of_plan(&plan) })
    }

    fn evidence(
        &self,
        plan: &FilesPlan,
        site: &Site,
        slots: &[Option<Slot>],
    ) -> Result<(Vec<Swap>, Vec<Adjust>), StageError> {
        let steps: Vec<_> = plan.steps.iter().zip(slots).collect();
        let parts = steps.par_chunks(CHUNK).map(|steps| {
            let mut witness = Witness {
                plan,
                site,
                unmanaged: self.unmanaged,
                live: HashMap::new(),
                yards: HashMap::new(),
            };
            let (mut swaps, mut adjusts) = (Vec::new(), Vec::new());
            for (step, slot) in steps {
                match (&step.change, slot) {
                    (Change::Adjust(adjustment), _) => adjusts.push(witness.adjust(step, adjustment)?),
                    (_, Some(slot)) => swaps.push(witness.swap(step, *slot)?),
                    (_, None) => {}
                }
            }
            Ok((swaps, adjusts))
        });
        let parts: Vec<(Vec<Swap>, Vec<Adjust>)> = parts.collect::<Result<_, StageError>>()?;
        let (swaps, adjusts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        Ok((swaps.concat(), adjusts.concat()))
    }
}

/// Looks at every path before anything is made, and gives each step that swaps its slot.
fn survey(plan: &FilesPlan, site: &mut Site) -> Result<Vec<Option<Slot>>, StageError> {
    let mut slots = Vec::with_capacity(plan.steps.len());
    let mut last: Option<(usize, Option<&[u8]>, Look)> = None;
    for (number, step) in plan.steps.iter().enumerate() {
        let path = &step.at.path.0[..];
        let folder = parent(path);
        let live = site.live(step.at.root)?;
        let holder = match last.take() {
            Some((root, known, look)) if (root, known) == (step.at.root, folder) => look,
            Some(_) | None => {
                let shown = live.shown(folder.unwrap_or_default());
                let (holder, _) = live.holder(path)?;
                look_at(holder).map_err(|errno| Fault::new(Action::Look, shown, errno))?
            }
        };
        let found = live.look(path)?;
        check_live(step, &holder, found.as_ref())?;
        // What only changes metadata needs a yard too: it is where the begun flip is noted.
        let yard = site.yard(&step.at, holder.mount)?;
        slots.push(match step.change {
            Change::Adjust(_) => None,
            Change::Create(_) | Change::Replace { .. } | Change::Delete { .. } => {
                Some(Slot { yard, number: u32::try_from(number).unwrap_or(u32::MAX) })
            }
        });
        last = Some((step.at.root, folder, holder));
    }
    Ok(slots)
}

/// Refuses what could not be flipped, before anything is made.
fn check_live(step: &Step, holder: &Look, found: Option<&Look>) -> Result<(), StageError> {
    let path = || step.shown.clone();
    let swaps = !matches!(step.change, Change::Adjust(_));
    match (&step.change, found) {
        (Change::Create(_), Some(_)) => return Err(StageError::Changed { path: path() }),
        (Change::Replace { .. } | Change::Delete { .. } | Change::Adjust(_), None) => {
            return Err(StageError::Changed { path: path() });
        }
        _ => {}
    }
    if found.is_some_and(|found| found.fixed) || (swaps && holder.fixed) {
        return Err(StageError::Immutable { path: path() });
    }
    match found.is_some_and(|found| swaps && found.is_elsewhere(holder)) {
        true => Err(StageError::MountPoint { path: path() }),
        false => Ok(()),
    }
}

/// What each yard's file system must have free: bytes and inodes.
fn needed(plan: &FilesPlan, slots: &[Option<Slot>]) -> HashMap<usize, (u64, u64)> {
    let mut needed: HashMap<usize, (u64, u64)> = HashMap::new();
    let mut links = plan.donors.keys().copied().collect();
    for (step, slot) in plan.steps.iter().zip(slots) {
        let Some(slot) = slot else { continue };
        let sum = needed.entry(slot.yard).or_default();
        let (bytes, inodes) = step.change.brings().map_or((0, 0), |new| room_needed(new, &mut links));
        *sum = (sum.0 + bytes, sum.1 + inodes);
    }
    needed
}

fn check_room(site: &Site, needed: &HashMap<usize, (u64, u64)>) -> Result<(), StageError> {
    for (number, yard) in site.yards().enumerate() {
        let Some(&(bytes, inodes)) = needed.get(&number) else { continue };
        let free = free(yard)?;
        let path = || ByteText(yard.path().to_vec());
        if bytes > free.bytes {
            let (needed, available) = (ByteCount(bytes), ByteCount(free.bytes));
            return Err(StageError::NoSpace { path: path(), needed, available });
        }
        if free.inodes.is_some_and(|free| inodes > free) {
            let available = free.inodes.unwrap_or_default();
            return Err(StageError::NoInodes { path: path(), needed: inodes, available });
        }
    }
    Ok(())
}

/// What a file system has free.
struct Free {
    bytes: u64,
    /// `None`: it makes inodes as it goes.
    inodes: Option<u64>,
}

fn free(yard: &OpenYard) -> Result<Free, Fault> {
    let found = fstatvfs(yard.folder()).map_err(|errno| Fault::new(Action::Look, yard.path(), errno))?;
    let inodes = (found.f_files > 0).then_some(found.f_favail);
    Ok(Free { bytes: found.f_bavail.saturating_mul(found.f_frsize), inodes })
}

/// The entry with the time that was found, where that says nothing.
fn timed(mut entry: Entry, restless: bool, found: &Look) -> Entry {
    if restless {
        (entry.meta.mtime_seconds, entry.meta.mtime_nanos) = found.mtime;
    }
    entry
}

/// Says how much was needed and is free, where a write found the file system full.
fn with_numbers(error: StageError, site: &Site, needed: &HashMap<usize, (u64, u64)>) -> StageError {
    let StageError::NoSpace { path, .. } = &error else { return error };
    let yard =
        site.yards().enumerate().min_by_key(|(_, yard)| free(yard).map_or(u64::MAX, |free| free.bytes));
    let Some((number, yard)) = yard else { return error };
    StageError::NoSpace {
        path: path.clone(),
        needed: ByteCount(needed.get(&number).map_or(0, |(bytes, _)| *bytes)),
        available: ByteCount(free(yard).map_or(0, |free| free.bytes)),
    }
}

/// Takes the evidence of some steps.
struct Witness<'a> {
    plan: &'a FilesPlan,
    site: &'a Site,
    unmanaged: Unmanaged,
    live: HashMap<usize, LiveRoot>,
    yards: HashMap<usize, OpenYard>,
}

impl Witness<'_> {
    fn swap(&mut self, step: &Step, slot: Slot) -> Result<Swap, StageError> {
        let kind = match &step.change {
            Change::Create(_) => {
                if self.live(step.at.root)?.look(&step.at.path.0)?.is_some() {
                    return Err(StageError::Changed { path: step.shown.clone() });
                }
                SwapKind::Create { ready: self.ready(slot)? }
            }
            Change::Replace { old, .. } => {
                SwapKind::Replace { ready: self.ready(slot)?, displaced: self.displaced(step, old)? }
            }
            Change::Delete { old } => SwapKind::Delete { displaced: self.displaced(step, old)? },
            // Surveyed without a slot.
            Change::Adjust(_) => return Err(StageError::Changed { path: step.shown.clone() }),
        };
        Ok(Swap { at: step.at.clone(), slot, kind })
    }

    fn adjust(&mut self, step: &Step, adjustment: &Adjustment) -> Result<Adjust, StageError> {
        let old = Entry { meta: adjustment.old.clone(), ..adjustment.new.clone() };
        match self.live(step.at.root)?.look(&step.at.path.0)? {
            Some(found) if is_still(&timed(old.clone(), adjustment.restless, &found), &found) => Ok(Adjust {
                at: step.at.clone(),
                inode: found.inode,
                ctime: found.ctime,
                old: old.meta,
                new: adjustment.new.meta.clone(),
                restless: adjustment.restless,
            }),
            Some(_) | None => Err(StageError::Changed { path: step.shown.clone() }),
        }
    }

    fn displaced(&mut self, step: &Step, old: &[Entry]) -> Result<super::staged::Evidence, StageError> {
        let unmanaged = self.unmanaged;
        let root = &self.plan.roots[step.at.root].0;
        let (holder, name) = self.live(step.at.root)?.holder(&step.at.path.0)?;
        let shown = &step.shown.0[..];
        match look(holder, name).map_err(|errno| Fault::new(Action::Look, shown, errno))? {
            Some(look) => take(&Sight { holder, name, look: &look, shown }, root, old, unmanaged),
            None => Err(StageError::Changed { path: step.shown.clone() }),
        }
    }

    fn ready(&mut self, slot: Slot) -> Result<Ready, StageError> {
        let yard = match self.yards.remove(&slot.yard) {
            Some(yard) => yard,
            None => self.site.yard_of(slot).again()?,
        };
        let yard = self.yards.entry(slot.yard).or_insert(yard);
        let shown = yard.shown_slot(slot);
        let (shard, name) = yard.slot(slot)?;
        match look(shard, name.as_bytes()).map_err(|errno| Fault::new(Action::Look, &shown[..], errno))? {
            Some(found) => Ok(Ready::of(&found)),
            None => Err(StageError::Changed { path: ByteText(shown) }),
        }
    }

    fn live(&mut self, root: usize) -> Result<&mut LiveRoot, Fault> {
        let live = match self.live.remove(&root) {
            Some(live) => live,
            None => LiveRoot::open(&self.plan.roots[root].0)?,
        };
        Ok(self.live.entry(root).or_insert(live))
    }
}
