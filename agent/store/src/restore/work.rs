//! The work of staging, entry by entry: folders, then files in parallel, then further names, then folders' metadata.

use std::collections::{BTreeSet, HashMap, hash_map};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat};

use super::contents::{Contents, Progress};
use super::error::StageError;
use super::fault::{Action, Fault};
use super::fill::{Replaced, is_large};
use super::live::LiveRoot;
use super::look::look;
use super::pattern::absolute;
use super::plan::{Change, Donor, FilesPlan, New, entry_bytes};
use super::site::Site;
use super::staged::Slot;
use super::sync::{Trickle, Unsynced};
use super::write::{Make, Room, make_folder};
use crate::text::ByteText;
use crate::tree::{Entry, EntryKind, Extent};

/// Entries that one thread takes at a time.
const CHUNK: usize = 32;

/// All that is to be made, in the order of the plan.
pub(super) struct Work<'a> {
    plan: &'a FilesPlan,
    folders: Vec<Item<'a>>,
    files: Vec<Item<'a>>,
    links: Vec<(Item<'a>, u32)>,
    sources: HashMap<u32, Source<'a>>,
}

/// One entry and where it is made.
#[derive(Clone, Copy)]
struct Item<'a> {
    slot: Slot,
    root: usize,
    /// The path of the slot's own entry.
    top: &'a [u8],
    entry: &'a Entry,
    /// The content of the file that goes, if that may hold some of what comes.
    replaces: Option<&'a [Extent]>,
}

/// The first name of a file that gets several.
#[derive(Clone, Copy)]
enum Source<'a> {
    Live(&'a Donor),
    Staged(Item<'a>),
}

impl<'a> Work<'a> {
    /// Sorts out what is to be made. `slots` are those of the steps, in their order.
    pub(super) fn new(plan: &'a FilesPlan, slots: &[Option<Slot>]) -> Self {
        let sources = plan.donors.iter().map(|(link, donor)| (*link, Source::Live(donor))).collect();
        let mut work = Self { plan, folders: Vec::new(), files: Vec::new(), links: Vec::new(), sources };
        for (step, slot) in plan.steps.iter().zip(slots) {
            if let (Some(new), Some(slot)) = (step.change.brings(), slot) {
                work.add(step.at.root, *slot, new, replaced_content(&step.change));
            }
        }
        work
    }

    fn add(&mut self, root: usize, slot: Slot, new: &'a New, replaces: Option<&'a [Extent]>) {
        let top = &new.entries[0].path[..];
        for entry in &new.entries {
            let item = Item { slot, root, top, entry, replaces };
            match entry.kind {
                EntryKind::Directory => self.folders.push(item),
                EntryKind::File { link: Some(link), .. } => match self.sources.entry(link) {
                    hash_map::Entry::Occupied(_) => self.links.push((item, link)),
                    hash_map::Entry::Vacant(vacant) => {
                        vacant.insert(Source::Staged(item));
                        self.files.push(item);
                    }
                },
                EntryKind::File { .. }
                | EntryKind::Symlink(_)
                | EntryKind::Fifo
                | EntryKind::Socket
                | EntryKind::CharDevice { .. }
                | EntryKind::BlockDevice { .. } => self.files.push(item),
            }
        }
    }

    /// Makes everything in its slots.
    pub(super) fn perform(
        &self,
        site: &Site,
        contents: &dyn Contents,
        progress: &Progress,
        unsynced: Option<&Unsynced>,
    ) -> Result<(), StageError> {
        let trickle = Trickle::default();
        let make = Make { contents, progress, unsynced, trickle: &trickle };
        let mut rooms = Rooms::new(site);
        for item in &self.folders {
            make_folder(rooms.room(item)?, item.entry, &self.shown(item))?;
        }
        let make_files = || {
            self.files.par_chunks(CHUNK).try_for_each(|items| {
                let mut rooms = Rooms::new(site);
                items.iter().try_for_each(|item| match progress.is_cancelled() {
                    true => Err(StageError::Cancelled),
                    false => {
                        let replaced = self.replaced(item);
                        make.entry(rooms.room(item)?, item.entry, &self.shown(item), replaced)
                    }
                })
            })
        };
        match unsynced {
            Some(_) => make_files()?,
            None => trickle.beside(site, make_files)?,
        }
        self.link(site)?;
        for item in self.folders.iter().rev() {
            make.finish_folder(rooms.room(item)?, item.entry, &self.shown(item))?;
        }
        Ok(())
    }

    /// Opens the file that an entry replaces. That it cannot be had makes no difference but to the time.
    fn replaced(&self, item: &Item<'a>) -> Option<Replaced<'a>> {
        let content = item.replaces?;
        let mut live = LiveRoot::open(&self.plan.roots[item.root].0).ok()?;
        let (holder, name) = live.holder(&item.entry.path).ok()?;
        let found = look(holder, name).ok()??;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(holder, name, flags, Mode::empty()).ok().filter(|_| found.is_file())?;
        Some(Replaced { file: file.into(), content })
    }

    fn link(&self, site: &Site) -> Result<(), StageError> {
        let (mut from, mut to) = (Rooms::new(site), Rooms::new(site));
        let mut live: HashMap<usize, LiveRoot> = HashMap::new();
        for (item, link) in &self.links {
            let shown = self.shown(item);
            let failed = |errno| Fault::new(Action::Link, &shown[..], errno);
            let (folder, name) = to.room(item)?.holder(&item.entry.path)?;
            match self.sources[link] {
                Source::Staged(first) => {
                    let (source, first) = from.room(&first)?.holder(&first.entry.path)?;
                    linkat(source, first, folder, name, AtFlags::empty()).map_err(failed)?;
                }
                Source::Live(donor) => {
                    let root = match live.entry(donor.at.root) {
                        hash_map::Entry::Occupied(known) => known.into_mut(),
                        hash_map::Entry::Vacant(vacant) => {
                            vacant.insert(LiveRoot::open(&self.plan.roots[donor.at.root].0)?)
                        }
                    };
                    let donor_path = root.shown(&donor.at.path.0);
                    let (source, first) = root.holder(&donor.at.path.0)?;
                    linkat(source, first, folder, name, AtFlags::empty()).map_err(failed)?;
                    let found =
                        look(folder, name).map_err(|errno| Fault::new(Action::Look, &shown[..], errno))?;
                    let same =
                        found.is_some_and(|f| f.is_file() && (f.size, f.mtime) == (donor.size, donor.mtime));
                    if !same {
                        return Err(StageError::Changed { path: ByteText(donor_path) });
                    }
                }
            }
        }
        Ok(())
    }

    fn shown(&self, item: &Item<'_>) -> Vec<u8> {
        absolute(&self.plan.roots[item.root].0, &item.entry.path)
    }
}

/// What a file holds that another large one takes the place of.
fn replaced_content(change: &Change) -> Option<&[Extent]> {
    let Change::Replace { old, new } = change else { return None };
    match (&old[..], &new.entries[..]) {
        (
            [Entry { kind: EntryKind::File { content, .. }, .. }],
            [Entry { kind: EntryKind::File { size, .. }, .. }],
        ) if is_large(*size) => Some(content),
        _ => None,
    }
}

/// How much room new entries take: bytes, rounded up as file systems do, and inodes. Links in `seen` take none.
pub(super) fn room_needed(new: &New, seen: &mut BTreeSet<u32>) -> (u64, u64) {
    const BLOCK: u64 = 4096;
    let sizes = new.entries.iter().map(|entry| match entry.kind {
        EntryKind::Directory => BLOCK,
        _ => entry_bytes(entry, seen).next_multiple_of(BLOCK),
    });
    (sizes.sum(), new.entries.len() as u64)
}

/// The room of the slot that was asked for last.
struct Rooms<'a> {
    site: &'a Site,
    last: Option<Room<'a>>,
}

impl<'a> Rooms<'a> {
    fn new(site: &'a Site) -> Self {
        Self { site, last: None }
    }

    fn room(&mut self, item: &Item<'a>) -> Result<&mut Room<'a>, Fault> {
        let room = match self.last.take() {
            Some(room) if room.is_of(item.slot) => room,
            Some(_) | None => Room::new(self.site.yard_of(item.slot), item.slot, item.top)?,
        };
        Ok(self.last.insert(room))
    }
}
