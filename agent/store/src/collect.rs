//! Forgetting snapshots, and collecting what none of the others needs.
//!
//! The collector runs beside captures and restores of the same process. It takes no lock on the disk: it only adds packs
//! that are durable before it removes those whose objects they hold, so that it may be killed at any instant. What a
//! running capture counts on, it spares (see [`Uses`](crate::objects)).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::hash::BuildHasherDefault;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rfs_model::{ByteCount, ComponentName, Digest, SnapshotId, Timestamp};

use crate::cancel::Cancel;
use crate::error::StoreError;
use crate::files;
use crate::index::DigestHasher;
use crate::marks::{Marks, Proof};
use crate::objects::CollectionGuard;
use crate::pack::{Location, PackId, PackWriter};
use crate::reach::{self, Needed};
use crate::retention::{self, KeepPolicy, Kept, NEWEST_CHECKPOINT};
use crate::snapshot::{self, SnapshotInfo};
use crate::store::{Inner, Store};

/// What a collection did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectReport {
    /// The snapshots that the policy did not keep.
    pub forgotten: Vec<SnapshotId>,
    /// Why each of the others stays.
    pub kept: BTreeMap<SnapshotId, Kept>,
    /// How much smaller the store is.
    pub freed: ByteCount,
    /// How much was written anew to free it.
    pub rewritten: ByteCount,
    /// How many clones of large files are gone. What they held is in the packs.
    pub clones: u64,
}

/// What a policy leaves, and what it does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expiry {
    /// The snapshots that the policy does not keep, the oldest first.
    pub going: Vec<SnapshotInfo>,
    /// Each of the others, the oldest first, and why it stays.
    pub staying: Vec<(SnapshotInfo, Kept)>,
}

pub(crate) type DigestSet = HashSet<Digest, BuildHasherDefault<DigestHasher>>;

/// A pack of which a smaller share is needed is written anew.
const NEEDED_SHARE: (u64, u64) = (2, 3);
/// Packs smaller than this are put together when there are more than [`MOST_SMALL_PACKS`].
const SMALL_PACK: u64 = 4 << 20;
const MOST_SMALL_PACKS: usize = 16;
/// So much is written anew before the packs that it came from are removed.
const ROUND: u64 = 128 << 20;

impl Store {
    /// Keeps a snapshot until [`Store::unpin`].
    pub fn pin(&self, id: SnapshotId, why: &str) -> Result<(), StoreError> {
        self.mark(id, |marks| marks.pinned = Some(why.to_owned()))
    }

    /// Takes the pin away.
    pub fn unpin(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.mark(id, |marks| marks.pinned = None)
    }

    /// Says that `who` needs the snapshot: a rollback, whose target or backup it is. Lasts until [`Store::release`],
    /// across restarts.
    pub fn protect(&self, id: SnapshotId, who: &str, why: &str) -> Result<(), StoreError> {
        self.mark(id, |marks| {
            marks.in_use.insert(who.to_owned(), why.to_owned());
        })
    }

    /// Says that `who` needs the snapshot no longer.
    pub fn release(&self, id: SnapshotId, who: &str) -> Result<(), StoreError> {
        self.mark(id, |marks| {
            marks.in_use.remove(who);
        })
    }

    /// Says that the snapshot is this host's part of the newest complete checkpoint. It stays until newer ones hold all of
    /// its components that are `wanted` still.
    pub fn hold_checkpoint(
        &self,
        id: SnapshotId,
        wanted: &BTreeSet<ComponentName>,
    ) -> Result<(), StoreError> {
        self.protect(id, NEWEST_CHECKPOINT, "the newest complete checkpoint")?;
        let mut missing = wanted.clone();
        for info in self.snapshots()?.iter().rev() {
            if !info.marks.in_use.contains_key(NEWEST_CHECKPOINT) {
                continue;
            }
            let before = missing.len();
            missing.retain(|name| info.components.iter().all(|component| component.name != *name));
            if missing.len() == before && info.id != id {
                self.release(info.id, NEWEST_CHECKPOINT)?;
            }
        }
        Ok(())
    }

    /// Records that the snapshot was restored and found equal.
    pub fn prove(
        &self,
        id: SnapshotId,
        verified_at: Timestamp,
        restore_time: std::time::Duration,
    ) -> Result<(), StoreError> {
        let restore_millis = u64::try_from(restore_time.as_millis()).unwrap_or(u64::MAX);
        self.mark(id, |marks| marks.proof = Some(Proof { verified_at, restore_millis }))
    }

    /// Says what the snapshot has lost, so that it is not offered for a restore; none: it is whole.
    pub fn harm(&self, id: SnapshotId, lost: Option<String>) -> Result<(), StoreError> {
        let mut is_change = false;
        self.mark(id, |marks| {
            is_change = marks.harmed.is_some() != lost.is_some();
            marks.harmed = lost;
        })?;
        if is_change {
            self.0.revision.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Deletes a snapshot, if it may be. Its objects stay until they are collected.
    pub fn forget(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.0.layout.require_writable()?;
        let _catalogue = self.0.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshots = snapshot::list(&self.0)?;
        match snapshots.iter().find(|snapshot| snapshot.id == id) {
            Some(snapshot) => {
                if let Some(why) = retention::undeletable(&snapshots, snapshot) {
                    return Err(StoreError::Undeletable { id, why: why.to_string() });
                }
            }
            // One whose manifest is damaged is of no use to anyone.
            None if snapshot::ids(&self.0)?.contains(&id) => {}
            None => return Err(StoreError::UnknownSnapshot { id: id.to_string() }),
        }
        remove(&self.0, id)?;
        files::sync_folder(&self.0.layout.snapshots)
    }

    /// Removes all clones of large files, for room is needed, and says how many there were. What they held is in the packs.
    pub fn drop_clones(&self) -> Result<u64, StoreError> {
        self.0.layout.require_writable()?;
        let removed = self.0.clones.remove(&self.0.clones.list()?)?;
        if removed > 0 {
            // Such file systems free what was removed when they come to it.
            let folder = &self.0.layout.clones;
            let open = File::open(folder).map_err(StoreError::io("open", folder))?;
            rustix::fs::syncfs(open).map_err(StoreError::os("sync the file system of", folder))?;
        }
        Ok(removed)
    }

    /// Forgets what the policy does not keep, and frees the room of what nothing needs.
    pub fn collect(&self, policy: &KeepPolicy, cancel: &Cancel) -> Result<CollectReport, StoreError> {
        self.0.layout.require_writable()?;
        let mut report = CollectReport::default();
        {
            let _catalogue = self.0.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
            let snapshots = snapshot::list(&self.0)?;
            report.kept = retention::kept(&snapshots, policy);
            for SnapshotInfo { id, .. } in &snapshots {
                if !report.kept.contains_key(id) {
                    remove(&self.0, *id)?;
                    report.forgotten.push(*id);
                }
            }
            if !report.forgotten.is_empty() {
                files::sync_folder(&self.0.layout.snapshots)?;
            }
        }
        sweep(&self.0, cancel, &mut report)?;
        Ok(report)
    }

    /// What a collection by this policy would forget, and why the rest stays. Changes nothing.
    pub fn expiry(&self, policy: &KeepPolicy) -> Result<Expiry, StoreError> {
        let snapshots = snapshot::list(&self.0)?;
        let mut kept = retention::kept(&snapshots, policy);
        let mut expiry = Expiry::default();
        for info in snapshots {
            match kept.remove(&info.id) {
                Some(why) => expiry.staying.push((info, why)),
                None => expiry.going.push(info),
            }
        }
        Ok(expiry)
    }

    /// How much a collection would free if no snapshots but these stayed. Changes nothing.
    pub fn would_free(&self, staying: &[SnapshotId], cancel: &Cancel) -> Result<ByteCount, StoreError> {
        let store = &*self.0;
        let packs = store.index().known_packs();
        let needed = reach::needed_by(store, staying, cancel)?;
        let waste = Waste::of(store, &packs, &needed.objects);
        let dead: u64 = waste.dead.iter().map(|id| packs[id]).sum();
        let sparse = waste.sparse.iter().map(|(id, objects)| packs[id].saturating_sub(length_of(objects)));
        Ok(ByteCount(dead + sparse.sum::<u64>()))
    }

    fn mark(&self, id: SnapshotId, change: impl FnOnce(&mut Marks)) -> Result<(), StoreError> {
        self.0.layout.require_writable()?;
        let _catalogue = self.0.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot::read_manifest(&self.0, id)?;
        let before = Marks::read_guarded(&self.0.layout, id)?;
        let mut marks = before.clone();
        change(&mut marks);
        if marks == before { Ok(()) } else { marks.write(&self.0.layout, id) }
    }
}

/// The manifest goes first: marks without a manifest are harmless.
fn remove(store: &Inner, id: SnapshotId) -> Result<(), StoreError> {
    files::remove(&snapshot::manifest_path(store, id))?;
    store.revision.fetch_add(1, Ordering::SeqCst);
    files::remove(&store.layout.marks.join(id.to_string()))
}

fn sweep(store: &Inner, cancel: &Cancel, report: &mut CollectReport) -> Result<(), StoreError> {
    let _guard = CollectionGuard::start(store);
    // Packs that are committed from here on are not looked at: what is in them is needed by snapshots that the marking
    // below may not see.
    let packs = store.index().known_packs();
    let clones = store.clones.list()?;
    let Needed { objects, clones: needed } = reach::needed(store, cancel)?;
    let Waste { dead, sparse } = Waste::of(store, &packs, &objects).without_last_copies(store, &objects);
    drop(objects);
    report.freed.0 += remove_packs(store, &dead, &packs)?;
    remove_clones(store, clones, &needed, report)?;
    let mut round = Vec::new();
    let mut size = 0;
    let mut sparse = sparse.into_iter().peekable();
    while let Some((id, objects)) = sparse.next() {
        cancel.check()?;
        size += length_of(&objects);
        round.push((id, objects));
        if size >= ROUND || sparse.peek().is_none() {
            let rewritten = rewrite(store, &round, cancel)?;
            report.rewritten.0 += rewritten;
            let ids: Vec<PackId> = round.drain(..).map(|(id, _)| id).collect();
            report.freed.0 = (report.freed.0 + remove_packs(store, &ids, &packs)?).saturating_sub(rewritten);
            size = 0;
        }
    }
    Ok(())
}

/// Removes clones that no restore would use, and those for which there would be no room if they shared nothing: what is
/// needed by older snapshots alone goes first.
fn remove_clones(
    store: &Inner,
    clones: Vec<Digest>,
    needed: &BTreeMap<Digest, u64>,
    report: &mut CollectReport,
) -> Result<(), StoreError> {
    let (mut wanted, mut going): (Vec<Digest>, Vec<Digest>) =
        clones.into_iter().partition(|name| needed.contains_key(name));
    wanted.sort_by_key(|name| Reverse(needed.get(name)));
    let mut length = 0;
    for name in wanted {
        length += store.clones.length(&name);
        if !store.clones.has_room_for(length) {
            going.push(name);
        }
    }
    report.clones += store.clones.remove(&going)?;
    Ok(())
}

/// The packs that hold more than is needed.
struct Waste {
    /// Those of which nothing is needed. They go first: that frees room for the rest.
    dead: Vec<PackId>,
    /// Those that are worth being written anew, each with what is needed of it.
    sparse: Vec<(PackId, Vec<(Digest, Location)>)>,
}

impl Waste {
    fn of(store: &Inner, packs: &BTreeMap<PackId, u64>, needed: &DigestSet) -> Self {
        let mut live: BTreeMap<PackId, Vec<(Digest, Location)>> =
            packs.keys().map(|id| (*id, Vec::new())).collect();
        for (digest, location) in store.index().objects() {
            if let Some(live) = live.get_mut(&location.pack).filter(|_| needed.contains(&digest)) {
                live.push((digest, location));
            }
        }
        let small = packs.values().filter(|length| **length < SMALL_PACK).count() > MOST_SMALL_PACKS;
        live.retain(|id, objects| {
            let length = packs[id];
            length_of(objects) * NEEDED_SHARE.1 < length * NEEDED_SHARE.0 || (small && length < SMALL_PACK)
        });
        let (dead, sparse): (Vec<_>, Vec<_>) = live.into_iter().partition(|(_, objects)| objects.is_empty());
        Self { dead: dead.into_iter().map(|(id, _)| id).collect(), sparse }
    }

    /// Has an object written anew too if the place that is preferred to this one is damaged.
    fn without_last_copies(mut self, store: &Inner, needed: &DigestSet) -> Self {
        let going: BTreeSet<PackId> =
            self.dead.iter().copied().chain(self.sparse.iter().map(|(id, _)| *id)).collect();
        if going.is_empty() {
            return self;
        }
        let mut spares: Vec<(Digest, Location)> = store.index().spares().collect();
        spares.retain(|(digest, place)| going.contains(&place.pack) && needed.contains(digest));
        let (mut content, mut kept) = (Vec::new(), DigestSet::default());
        for (digest, place) in spares {
            let mut is_whole = |place: &Location| store.object_at(place, &digest, &mut content).is_ok();
            let preferred = store.index().find(&digest);
            if kept.contains(&digest) || preferred.is_some_and(|there| is_whole(&there)) || !is_whole(&place)
            {
                continue;
            }
            kept.insert(digest);
            self.dead.retain(|id| *id != place.pack);
            match self.sparse.iter_mut().find(|(id, _)| *id == place.pack) {
                Some((_, objects)) => objects.push((digest, place)),
                None => self.sparse.push((place.pack, vec![(digest, place)])),
            }
        }
        self
    }
}

fn length_of(objects: &[(Digest, Location)]) -> u64 {
    objects.iter().map(|(_, location)| location.record_length()).sum()
}

/// Writes the objects to new packs, and says how long these are. The reserve may be used: this frees more than it takes.
pub(crate) fn rewrite(
    store: &Inner,
    packs: &[(PackId, Vec<(Digest, Location)>)],
    cancel: &Cancel,
) -> Result<u64, StoreError> {
    let writer = PackWriter::new(store.layout.clone(), store.reserve.none());
    for (_, objects) in packs {
        let mut objects = objects.clone();
        objects.sort_unstable_by_key(|(_, location)| location.offset);
        for (digest, _) in &objects {
            cancel.check()?;
            store.copy_object(digest, &writer)?;
        }
    }
    let finished = writer.finish()?;
    store.index_mut().add_finished(&finished);
    Ok(finished.iter().map(|pack| pack.length).sum())
}

/// Removes packs that nothing needs, except those that a running capture has counted on since.
fn remove_packs(store: &Inner, ids: &[PackId], lengths: &BTreeMap<PackId, u64>) -> Result<u64, StoreError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let mut gone: Vec<PackId> = ids.to_vec();
    {
        let mut index = store.index_mut();
        let spared = store.uses.spared();
        gone.retain(|id| !spared.contains(id));
        index.remove_packs(&|id| gone.contains(&id));
    }
    // The file goes first: it must not cover packs that are gone.
    files::remove(&crate::index::path(&store.layout))?;
    let mut freed = 0;
    for id in &gone {
        files::remove(&id.path(&store.layout.packs))?;
        store.packs.close(*id);
        freed += lengths.get(id).copied().unwrap_or(0);
    }
    files::sync_folder(&store.layout.packs)?;
    store.index_mut().save(&store.layout);
    Ok(freed)
}
