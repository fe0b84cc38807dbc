//! The index: where each object is. It is what the packs' footers say, and can always be made from them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use rfs_model::Digest;

use crate::error::StoreError;
use crate::layout::Layout;
use crate::pack::{Finished, Location, PackId, read_footer, scan_records};

/// Where each object is, and what each pack holds.
#[derive(Debug, Default)]
pub(crate) struct Index {
    objects: HashMap<Digest, Location, BuildHasherDefault<DigestHasher>>,
    packs: BTreeMap<PackId, PackInfo>,
}

/// What is known of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackInfo {
    pub(crate) length: u64,
    /// Its footer is damaged; its objects were found by their records.
    pub(crate) footer_damaged: bool,
}

impl Index {
    /// Reads the footers of all packs.
    pub(crate) fn load(layout: &Layout) -> Result<Self, StoreError> {
        let mut index = Self::default();
        for id in layout.pack_ids()? {
            let path = id.path(&layout.packs);
            match read_footer(&path, id) {
                Ok((length, entries)) => index.add(id, PackInfo { length, footer_damaged: false }, &entries),
                Err(StoreError::Damaged { .. }) => {
                    let length = std::fs::metadata(&path).map_err(StoreError::io("examine", &path))?.len();
                    let entries = scan_records(&path, id)?;
                    index.add(id, PackInfo { length, footer_damaged: true }, &entries);
                }
                // The collector of the writing process was faster.
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(index)
    }

    pub(crate) fn find(&self, digest: &Digest) -> Option<Location> {
        self.objects.get(digest).copied()
    }

    pub(crate) fn add_finished(&mut self, packs: &[Finished]) {
        for pack in packs {
            self.add(pack.id, PackInfo { length: pack.length, footer_damaged: false }, &pack.entries);
        }
    }

    /// Removes packs and every object that is found in no other place.
    pub(crate) fn remove_packs(&mut self, gone: &dyn Fn(PackId) -> bool) {
        self.objects.retain(|_, location| !gone(location.pack));
        self.packs.retain(|id, _| !gone(*id));
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = (&Digest, &Location)> {
        self.objects.iter()
    }

    pub(crate) fn packs(&self) -> impl Iterator<Item = (PackId, PackInfo)> {
        self.packs.iter().map(|(id, info)| (*id, *info))
    }

    fn add(&mut self, id: PackId, info: PackInfo, entries: &[(Digest, Location)]) {
        self.packs.insert(id, info);
        self.objects.reserve(entries.len());
        // A later pack's copy wins: it may have been written because the earlier one was damaged.
        self.objects.extend(entries.iter().copied());
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
