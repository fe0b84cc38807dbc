//! Which objects snapshots need.

use rfs_model::{Digest, SnapshotId};

use crate::cancel::Cancel;
use crate::collect::DigestSet;
use crate::error::StoreError;
use crate::manifest::Content;
use crate::segment::{self, RootList};
use crate::snapshot;
use crate::store::Inner;

/// Everything that any snapshot needs. It fails if a snapshot cannot be read, so that what it needs is not deleted.
pub(crate) fn needed(store: &Inner, cancel: &Cancel) -> Result<DigestSet, StoreError> {
    needed_by(store, &snapshot::ids(store)?, cancel)
}

/// Everything that these snapshots need.
pub(crate) fn needed_by(store: &Inner, ids: &[SnapshotId], cancel: &Cancel) -> Result<DigestSet, StoreError> {
    let mut needed = DigestSet::default();
    let mut bytes = Vec::new();
    for id in ids.iter().copied() {
        let manifest = match snapshot::read_manifest(store, id) {
            Ok(manifest) => manifest,
            Err(StoreError::UnknownSnapshot { .. }) => continue,
            Err(error) => return Err(error),
        };
        for component in manifest.components.values() {
            match &component.content {
                Content::Value(pieces) => needed.extend(pieces),
                Content::Tree(list) => {
                    if !needed.insert(*list) {
                        continue;
                    }
                    for segment in read_list(store, list, &mut bytes)?.iter().flat_map(|root| &root.segments)
                    {
                        cancel.check()?;
                        if needed.insert(segment.digest) {
                            read_segment(store, &segment.digest, &mut bytes, &mut |digest| {
                                needed.insert(digest);
                            })?;
                        }
                    }
                }
            }
        }
    }
    Ok(needed)
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
    store.object(digest, bytes)?;
    let mut entries = Vec::new();
    segment::decode(bytes, &mut entries).map_err(|error| store.malformed(digest, &error))?;
    segment::objects_of(&entries).for_each(found);
    Ok(())
}
