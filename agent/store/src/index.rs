//! The index: where each object is. It is what the packs' footers say, and can always be made from them.
//!
//! ```text
//! packs ─▶ footers ─┐
//! index (a file) ───┴▶ table, sorted by digest + what was added since
//! ```
//! An object may stand in several packs: two captures met the same content, or the collector has copied it and could not
//! remove the pack that it came from. All places are known, for any but one may go; the latest is preferred, because it
//! may have been written where an earlier one was damaged.
//!
//! The file spares reading the footers of packs that it covers; it is written anew when enough was added. One that is
//! missing, damaged or out of date costs time and nothing else.

mod file;
mod table;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::path::Path;

use rfs_model::Digest;

use crate::error::{StoreError, is_broken};
use crate::layout::Layout;
use crate::pack::{Finished, Location, PackId, read_footer, scan_records};

#[cfg(feature = "fuzzing")]
pub(crate) use file::parse;
pub(crate) use file::{check, path};
use table::Table;

/// Where each object is, and what each pack holds.
#[derive(Debug, Default)]
pub(crate) struct Index {
    table: Table,
    /// What was found or added since the table was made; it is preferred to the table.
    recent: Recent,
    /// The places that those in `recent` are preferred to.
    shadowed: Vec<(Digest, Location)>,
    packs: BTreeMap<PackId, PackInfo>,
    /// The packs that the file does not cover.
    uncovered: usize,
}

type Recent = HashMap<Digest, Location, BuildHasherDefault<DigestHasher>>;

/// What is known of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackInfo {
    pub(crate) length: u64,
    /// Its footer could be read, so that all that is in it is known. What is not known of another may be needed: it stays
    /// until a repair has set it aside.
    pub(crate) is_known: bool,
}

/// So many objects or packs may be missing from the file before it is written anew; of a large index, an eighth.
const MOST_UNCOVERED_OBJECTS: usize = 4096;
const MOST_UNCOVERED_PACKS: usize = 32;

impl Index {
    /// Reads the file, and the footers of the packs that it does not cover.
    pub(crate) fn load(layout: &Layout) -> Result<Self, StoreError> {
        let Some((table, covered)) = file::load(layout)? else { return Self::from_packs(layout) };
        let mut index = Self { table, ..Self::default() };
        for_each_pack(layout, |id| {
            match covered.get(&id) {
                Some(length) => {
                    index.packs.insert(id, PackInfo { length: *length, is_known: true });
                }
                None => index.add_pack(&id.path(&layout.packs), id)?,
            }
            Ok(())
        })?;
        let packs = &index.packs;
        index.table.retain(|id| covered.contains_key(&id) && packs.contains_key(&id));
        Ok(index)
    }

    /// Reads the footers of all packs.
    pub(crate) fn from_packs(layout: &Layout) -> Result<Self, StoreError> {
        let mut index = Self::default();
        for_each_pack(layout, |id| index.add_pack(&id.path(&layout.packs), id))?;
        Ok(index)
    }

    pub(crate) fn find(&self, digest: &Digest) -> Option<Location> {
        self.recent.get(digest).copied().or_else(|| self.table.find(digest))
    }

    pub(crate) fn add_finished(&mut self, packs: &[Finished]) {
        for pack in packs {
            self.add(pack.id, PackInfo { length: pack.length, is_known: true }, &pack.entries);
        }
    }

    /// Removes packs and what is in them. What stands in another place is found there from here on.
    pub(crate) fn remove_packs(&mut self, gone: &dyn Fn(PackId) -> bool) {
        self.recent.retain(|_, location| !gone(location.pack));
        for (digest, location) in std::mem::take(&mut self.shadowed) {
            if !gone(location.pack) {
                self.insert(digest, location);
            }
        }
        self.table.retain(|id| !gone(id));
        self.packs.retain(|id, _| !gone(*id));
    }

    /// Every place of an object, the preferred first.
    pub(crate) fn places(&self, digest: &Digest) -> Vec<Location> {
        let recent = self.recent.get(digest).copied();
        let shadowed = self.shadowed.iter().filter(|(shadowed, _)| shadowed == digest);
        recent.into_iter().chain(shadowed.map(|(_, place)| *place)).chain(self.table.places(digest)).collect()
    }

    /// Objects in the places to which others are preferred.
    pub(crate) fn spares(&self) -> impl Iterator<Item = (Digest, Location)> {
        let spare = |(digest, location): &(Digest, Location)| self.find(digest) != Some(*location);
        self.table.all().filter(spare).chain(self.shadowed.iter().copied())
    }

    /// Every object, once, where it is preferred.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (Digest, Location)> {
        let recent = self.recent.iter().map(|(digest, location)| (*digest, *location));
        self.table.iter().filter(|(digest, _)| !self.recent.contains_key(digest)).chain(recent)
    }

    pub(crate) fn packs(&self) -> impl Iterator<Item = (PackId, PackInfo)> {
        self.packs.iter().map(|(id, info)| (*id, *info))
    }

    /// The packs of which everything is known, with their lengths: only these may be found to be needed no more.
    pub(crate) fn known_packs(&self) -> BTreeMap<PackId, u64> {
        self.packs().filter(|(_, info)| info.is_known).map(|(id, info)| (id, info.length)).collect()
    }

    /// Writes the file anew, if enough is missing from it.
    pub(crate) fn save_if_stale(&mut self, layout: &Layout) {
        let objects = self.recent.len() > MOST_UNCOVERED_OBJECTS.max(self.table.len() / 8);
        if objects || self.uncovered > MOST_UNCOVERED_PACKS {
            self.save(layout);
        }
    }

    /// Writes the file anew. That it fails only makes the next opening slower.
    pub(crate) fn save(&mut self, layout: &Layout) {
        let recent = std::mem::take(&mut self.recent);
        self.table.merge(recent.into_iter().chain(self.shadowed.drain(..)).collect());
        match file::save(layout, &self.table, &self.packs) {
            Ok(()) => self.uncovered = 0,
            Err(error) => tracing::debug!(%error, "index not written"),
        }
    }

    fn add_pack(&mut self, path: &Path, id: PackId) -> Result<(), StoreError> {
        match read_pack(path, id) {
            Ok((info, entries)) => self.add(id, info, &entries),
            // The collector of the writing process was faster.
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn add(&mut self, id: PackId, info: PackInfo, entries: &[(Digest, Location)]) {
        self.packs.insert(id, info);
        self.uncovered += 1;
        self.recent.reserve(entries.len());
        for (digest, location) in entries {
            self.insert(*digest, *location);
        }
    }

    fn insert(&mut self, digest: Digest, location: Location) {
        match self.recent.entry(digest) {
            Entry::Vacant(vacant) => {
                vacant.insert(location);
            }
            Entry::Occupied(mut occupied) => {
                let later = location.pack > occupied.get().pack;
                let other = if later { occupied.insert(location) } else { location };
                if other != *occupied.get() {
                    self.shadowed.push((digest, other));
                }
            }
        }
    }
}

/// Visits every pack once. A listing that is made while a collector moves objects may miss where they were and where they
/// are: it is over when another, begun after all were read, has nothing new.
fn for_each_pack(
    layout: &Layout,
    mut visit: impl FnMut(PackId) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut seen = BTreeSet::new();
    loop {
        let new: Vec<PackId> = layout.pack_ids()?.into_iter().filter(|id| seen.insert(*id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        new.into_iter().try_for_each(&mut visit)?;
    }
}

/// What a pack's footer lists; where that is damaged, what its records say.
fn read_pack(path: &Path, id: PackId) -> Result<(PackInfo, Vec<(Digest, Location)>), StoreError> {
    match read_footer(path, id) {
        Ok((length, entries)) => Ok((PackInfo { length, is_known: true }, entries)),
        Err(StoreError::Damaged { .. }) => {
            let length = match std::fs::metadata(path) {
                Err(error) if is_broken(&error) => 0,
                other => other.map_err(StoreError::io("examine", path))?.len(),
            };
            Ok((PackInfo { length, is_known: false }, scan_records(path, id)?))
        }
        Err(error) => Err(error),
    }
}

/// A digest is its own hash.
#[derive(Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk() {
            self.0 ^= u64::from_le_bytes(*head);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
