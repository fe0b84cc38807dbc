//! Where a store's room goes: what each snapshot alone holds, what several share, and what nothing needs.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::path::Path;

use rfs_model::{ByteCount, Digest, SnapshotId};

use crate::cancel::Cancel;
use crate::clones;
use crate::error::StoreError;
use crate::index::DigestHasher;
use crate::manifest::Content;
use crate::reach::{read_list, read_segment};
use crate::snapshot;
use crate::space;
use crate::store::{Inner, Store};

/// Where a store's room goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Everything in the store's folder, clones aside.
    pub total: ByteCount,
    /// Content and what describes it.
    pub packs: ByteCount,
    /// What no snapshot needs: the next collection frees most of it.
    pub unneeded: ByteCount,
    /// Packs that were found damaged and set aside.
    pub quarantine: ByteCount,
    /// How long the clones of large files are, which is not part of the total: they take room only for what is live no
    /// longer.
    pub clones: ByteCount,
    /// What each snapshot holds that no other needs, the oldest first: so much is freed when it alone goes.
    pub alone: Vec<(SnapshotId, ByteCount)>,
    /// What may still be written to the store's file system, the reserve included.
    pub available: ByteCount,
    /// What is never used of it.
    pub reserve: ByteCount,
}

/// Which snapshot needs an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    One(usize),
    Several,
}

type Owners = HashMap<Digest, Owner, BuildHasherDefault<DigestHasher>>;

impl Store {
    /// Says where the store's room goes. Reads the metadata of every snapshot, and changes nothing.
    pub fn usage(&self, cancel: &Cancel) -> Result<Usage, StoreError> {
        let store = &*self.0;
        let infos = snapshot::list(store)?;
        let mut owners = Owners::default();
        for (number, info) in infos.iter().enumerate() {
            match own(store, info.id, number, &mut owners, cancel) {
                // Forgotten in this moment.
                Err(StoreError::UnknownSnapshot { .. }) => {}
                other => other?,
            }
        }
        let mut alone = vec![0; infos.len()];
        let mut needed = 0;
        for (digest, location) in store.index().objects() {
            match owners.get(&digest) {
                Some(Owner::One(number)) => alone[*number] += location.record_length(),
                Some(Owner::Several) => {}
                None => continue,
            }
            needed += location.record_length();
        }
        let packs = size_of(&store.layout.packs)?;
        let clones = clones::length(&store.layout.clones)?;
        Ok(Usage {
            total: ByteCount(size_of(&store.layout.root)?.saturating_sub(clones)),
            clones: ByteCount(clones),
            packs: ByteCount(packs),
            unneeded: ByteCount(packs.saturating_sub(needed)),
            quarantine: ByteCount(size_of(&store.layout.root.join("quarantine"))?),
            alone: infos.iter().map(|info| info.id).zip(alone.into_iter().map(ByteCount)).collect(),
            available: ByteCount(space::available(&store.layout.root)?),
            reserve: ByteCount(store.reserve.kept()),
        })
    }
}

/// Notes that a snapshot needs everything that it needs.
fn own(
    store: &Inner,
    id: SnapshotId,
    number: usize,
    owners: &mut Owners,
    cancel: &Cancel,
) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    for component in snapshot::read_manifest(store, id)?.components.values() {
        match &component.content {
            Content::Value(pieces) => {
                for piece in pieces {
                    note(owners, *piece, number);
                }
            }
            Content::Tree(list) => {
                if !note(owners, *list, number) {
                    continue;
                }
                for segment in read_list(store, list, &mut bytes)?.iter().flat_map(|root| &root.segments) {
                    cancel.check()?;
                    if note(owners, segment.digest, number) {
                        read_segment(store, &segment.digest, &mut bytes, &mut |digest| {
                            note(owners, digest, number);
                        })?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Notes an owner; false if nothing is new by that, for the object and so for what it names.
fn note(owners: &mut Owners, digest: Digest, number: usize) -> bool {
    let owner = owners.entry(digest);
    match owner {
        std::collections::hash_map::Entry::Vacant(vacant) => {
            vacant.insert(Owner::One(number));
            true
        }
        std::collections::hash_map::Entry::Occupied(mut occupied) => match occupied.get() {
            Owner::One(other) if *other != number => {
                occupied.insert(Owner::Several);
                true
            }
            Owner::One(_) | Owner::Several => false,
        },
    }
}

/// The length of all files in a folder and beneath it. What vanishes meanwhile is left out, and so is a folder that is absent.
fn size_of(folder: &Path) -> Result<u64, StoreError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(StoreError::Io { action: "list", path: folder.to_owned(), source }),
    };
    let mut size = 0;
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", folder))?;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => size += size_of(&entry.path())?,
            Ok(meta) => size += meta.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::Io { action: "examine", path: entry.path(), source }),
        }
    }
    Ok(size)
}
