//! Looks at every snapshot: its manifest, its marks, and whether all that it needs is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rfs_model::{Digest, SnapshotId};

use super::{Damage, DamagedThing, VerifyReport};
use crate::cancel::Cancel;
use crate::error::StoreError;
use crate::index::Index;
use crate::manifest::{Content, Manifest};
use crate::marks::Marks;
use crate::reach;
use crate::snapshot;
use crate::store::Inner;

/// Adds to the report what is wrong with snapshots, and says of all damage which snapshots it harms.
pub(super) fn check(
    store: &Inner,
    ids: &[SnapshotId],
    index: &Index,
    cancel: &Cancel,
    report: &mut VerifyReport,
) -> Result<(), StoreError> {
    let packs = &store.layout.packs;
    let mut checking = Checking { store, index, bad: lost(index, packs, report), segments: HashMap::new() };
    let mut harms: BTreeMap<Digest, BTreeSet<SnapshotId>> = BTreeMap::new();
    for id in ids.iter().copied() {
        let path = snapshot::manifest_path(store, id);
        let damage =
            |what, reason, path: &Path| Damage { what, path: path.to_owned(), reason, harms: [id].into() };
        let manifest = match snapshot::read_manifest(store, id) {
            Ok(manifest) => manifest,
            Err(StoreError::UnknownSnapshot { .. }) => continue,
            Err(StoreError::Damaged { reason, .. }) => {
                report.damage.push(damage(DamagedThing::Manifest(id), reason, &path));
                continue;
            }
            Err(error) => return Err(error),
        };
        report.snapshots += 1;
        if let Err(StoreError::Damaged { reason, path, .. }) = Marks::read(&store.layout, id) {
            report
                .damage
                .push(Damage { harms: BTreeSet::new(), ..damage(DamagedThing::Marks(id), reason, &path) });
        }
        let lost = checking.snapshot(&manifest, cancel)?;
        // One that was forgotten meanwhile needs nothing.
        let is_there = lost.is_empty() || snapshot::manifest_path(store, id).exists();
        for lost in lost.into_iter().filter(|_| is_there) {
            harms.entry(lost).or_default().insert(id);
        }
    }
    for damage in &mut report.damage {
        if let DamagedThing::Object(digest) = &damage.what {
            damage.harms = harms.get(digest).cloned().unwrap_or_default();
        }
    }
    // What is left was not found among the objects that were read again.
    harms.retain(|digest, _| !checking.bad.contains(digest));
    report.damage.extend(harms.into_iter().map(|(digest, harms)| match index.find(&digest) {
        Some(location) => Damage {
            what: DamagedThing::Object(digest),
            path: location.pack.path(packs),
            reason: "it cannot be read".to_owned(),
            harms,
        },
        None => Damage {
            what: DamagedThing::Missing(digest),
            path: packs.clone(),
            reason: "no pack has it".to_owned(),
            harms,
        },
    }));
    Ok(())
}

/// The objects that are damaged in each of their places.
fn lost(index: &Index, packs: &Path, report: &VerifyReport) -> BTreeSet<Digest> {
    let mut damaged: BTreeMap<Digest, BTreeSet<&Path>> = BTreeMap::new();
    for damage in &report.damage {
        if let DamagedThing::Object(digest) = damage.what {
            damaged.entry(digest).or_default().insert(&damage.path);
        }
    }
    let is_lost = |digest: &Digest, paths: &BTreeSet<&Path>| {
        index.places(digest).iter().all(|place| paths.contains(&*place.pack.path(packs)))
    };
    damaged.into_iter().filter(|(digest, paths)| is_lost(digest, paths)).map(|(digest, _)| digest).collect()
}

struct Checking<'a> {
    store: &'a Inner,
    index: &'a Index,
    bad: BTreeSet<Digest>,
    /// What each segment that was looked at lacks.
    segments: HashMap<Digest, Vec<Digest>>,
}

impl Checking<'_> {
    /// The objects that the snapshot needs and that are lost.
    fn snapshot(&mut self, manifest: &Manifest, cancel: &Cancel) -> Result<BTreeSet<Digest>, StoreError> {
        let mut lost = BTreeSet::new();
        let mut bytes = Vec::new();
        for component in manifest.components.values() {
            match &component.content {
                Content::Value(pieces) => lost.extend(pieces.iter().filter(|digest| self.is_lost(digest))),
                Content::Tree(list) if self.is_lost(list) => {
                    lost.insert(*list);
                }
                Content::Tree(list) => match reach::read_list(self.store, list, &mut bytes) {
                    Ok(roots) => {
                        for segment in roots.iter().flat_map(|root| &root.segments) {
                            cancel.check()?;
                            lost.extend(self.segment(&segment.digest, &mut bytes)?);
                        }
                    }
                    Err(error) => {
                        unreadable(error)?;
                        lost.insert(*list);
                    }
                },
            }
        }
        Ok(lost)
    }

    fn segment(&mut self, digest: &Digest, bytes: &mut Vec<u8>) -> Result<&[Digest], StoreError> {
        if !self.segments.contains_key(digest) {
            let mut lost = Vec::new();
            if self.is_lost(digest) {
                lost.push(*digest);
            } else {
                let found = &mut |object| lost.extend(Some(object).filter(|object| self.is_lost(object)));
                if let Err(error) = reach::read_segment(self.store, digest, bytes, found) {
                    unreadable(error)?;
                    lost = vec![*digest];
                }
            }
            self.segments.insert(*digest, lost);
        }
        Ok(self.segments.get(digest).map_or(&[], Vec::as_slice))
    }

    fn is_lost(&self, digest: &Digest) -> bool {
        self.bad.contains(digest) || self.index.find(digest).is_none()
    }
}

/// Passes on every error that is not the object's own.
fn unreadable(error: StoreError) -> Result<(), StoreError> {
    match error {
        StoreError::Damaged { .. } | StoreError::Missing { .. } => Ok(()),
        other => Err(other),
    }
}
