//! Which objects snapshots need.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use rfs_model::{Digest, SnapshotId};

use crate::cancel::Cancel;
use crate::clones;
use crate::collect::DigestSet;
use crate::error::StoreError;
use crate::manifest::Content;
use crate::segment::{self, RootList};
use crate::snapshot;
use crate::store::Inner;
use crate::tree::{Entry, EntryKind};

/// What snapshots need.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// The objects.
    pub(crate) objects: DigestSet,
    /// The names of the clones that a restore would use, and the sequence number of the newest snapshot that
    /// needs each.
    pub(crate) clones: BTreeMap<Digest, u64>,
}

/// Everything that any snapshot needs. It fails if a snapshot cannot be read, so that what it needs is not deleted.
pub(crate) fn needed(store: &Inner, cancel: &Cancel) -> Result<Needed, StoreError> {
    needed_by(store, &snapshot::ids(store)?, cancel)
}

/// Everything that these snapshots need.
pub(crate) fn needed_by(store: &Inner, ids: &[SnapshotId], cancel: &Cancel) -> Result<Needed, StoreError> {
    let Needed { mut objects, mut clones } = Needed::default();
    let mut manifests = Vec::new();
    for id in ids.iter().copied() {
        match snapshot::read_manifest(store, id) {
            Ok(manifest) => manifests.push(manifest),
            Err(StoreError::UnknownSnapshot { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // The newest first, so that what it shares with others is found to be its own.
    manifests.sort_by_key(|manifest| Reverse(manifest.sequence));
    let mut bytes = Vec::new();
    for manifest in &manifests {
        for component in manifest.components.values() {
            match &component.content {
                Content::Value(pieces) => objects.extend(pieces),
                Content::Tree(list) => {
                    if !objects.insert(*list) {
                        continue;
                    }
                    for segment in read_list(store, list, &mut bytes)?.iter().flat_map(|root| &root.segments)
                    {
                        cancel.check()?;
                        if objects.insert(segment.digest) {
                            let entries = read_entries(store, &segment.digest, &mut bytes)?;
                            objects.extend(segment::objects_of(&entries));
                            for clone in entries.iter().filter_map(clone_of) {
                                clones.entry(clone).or_insert(manifest.sequence);
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(Needed { objects, clones })
}

/// The name of an entry's clone.
fn clone_of(entry: &Entry) -> Option<Digest> {
    let EntryKind::File { size, content, .. } = &entry.kind else { return None };
    clones::name_if_any(*size, content)
}

/// Reads the list of a tree's segments.
pub(crate) fn read_list(
    store: &Inner,
    list: &Digest,
    bytes: &mut Vec<u8>,
) -> Result<Vec<RootList>, StoreError> {
    store.object(list, bytes)?;
    segment::decode_list(bytes).map_err(|error| store.malformed(list, &error))
}

/// Names every object that the entries of a segment need.
pub(crate) fn read_segment(
    store: &Inner,
    digest: &Digest,
    bytes: &mut Vec<u8>,
    found: &mut dyn FnMut(Digest),
) -> Result<(), StoreError> {
    segment::objects_of(&read_entries(store, digest, bytes)?).for_each(found);
    Ok(())
}

fn read_entries(store: &Inner, digest: &Digest, bytes: &mut Vec<u8>) -> Result<Vec<Entry>, StoreError> {
    store.object(digest, bytes)?;
    let mut entries = Vec::new();
    segment::decode(bytes, &mut entries).map_err(|error| store.malformed(digest, &error))?;
    Ok(entries)
}
