//! Repair: damaged packs are set aside, and what was lost with them is taken from the live files, where these still have
//! the content of the right digest.
//!
//! Nothing is thrown away: a damaged pack is moved to the folder `quarantine`, after all that is whole in it was written
//! anew. Whoever needs the room may delete that folder's content.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rfs_model::Digest;

use crate::cancel::Cancel;
use crate::capture::keep_tree;
use crate::collect::{DigestSet, rewrite};
use crate::content::{Known, Sink};
use crate::error::{CaptureError, StoreError};
use crate::files;
use crate::index::{self, Index};
use crate::objects::{CollectionGuard, Keeper};
use crate::pack::{Location, PackId};
use crate::scan::Scan;
use crate::spec::{FilesSpec, Scope};
use crate::store::{Inner, Store};
use crate::verify::{DamagedThing, Share, VerifyReport};

/// What a repair achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairReport {
    /// Where the damaged packs are now.
    pub quarantined: Vec<PathBuf>,
    /// The objects that were lost and are there again.
    pub restored: BTreeSet<Digest>,
    /// What is still wrong: the snapshots that this harms cannot be restored wholly, and may be forgotten.
    pub remaining: VerifyReport,
}

impl Store {
    /// Sets aside the packs in which a verification found damage, so that nothing counts on what they have lost: the next
    /// capture that meets the content keeps it anew. Returns where they are now.
    pub fn quarantine(&self, report: &VerifyReport, cancel: &Cancel) -> Result<Vec<PathBuf>, StoreError> {
        self.0.layout.require_writable()?;
        let mut quarantined = Vec::new();
        let _alone = CollectionGuard::start(&self.0);
        let known: BTreeSet<PackId> = self.0.index().packs().map(|(id, _)| id).collect();
        for id in damaged_packs(report, &self.0).intersection(&known).copied() {
            quarantined.push(set_aside(&self.0, id, report, cancel)?);
        }
        files::remove(&index::path(&self.0.layout))?;
        Ok(quarantined)
    }

    /// Verifies everything, sets damaged packs aside, and takes what was lost from the live files of these components.
    pub fn repair(&self, live: &[FilesSpec], cancel: &Cancel) -> Result<RepairReport, CaptureError> {
        let mut remaining = self.verify(Share::Whole, cancel)?;
        let quarantined = self.quarantine(&remaining, cancel)?;
        let mut restored = BTreeSet::new();
        // What a lost list or segment names is known only when that is there again.
        loop {
            let found = self.salvage(&remaining, live, cancel)?;
            remaining = self.verify(Share::Whole, cancel)?;
            if found.is_empty() || remaining.damage.is_empty() {
                restored.extend(found);
                self.note_harm(&remaining)?;
                return Ok(RepairReport { quarantined, restored, remaining });
            }
            restored.extend(found);
        }
    }

    /// Notes with each snapshot what it has lost, by a verification of everything.
    fn note_harm(&self, report: &VerifyReport) -> Result<(), StoreError> {
        for info in self.snapshots()? {
            let lost = report.damage.iter().find(|damage| damage.harms.contains(&info.id));
            let lost = lost.map(ToString::to_string);
            if lost == info.marks.harmed {
                continue;
            }
            match self.harm(info.id, lost) {
                // It was forgotten in this moment.
                Err(StoreError::UnknownSnapshot { .. }) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Keeps what the report says is lost, where the live files have it.
    fn salvage(
        &self,
        report: &VerifyReport,
        live: &[FilesSpec],
        cancel: &Cancel,
    ) -> Result<BTreeSet<Digest>, CaptureError> {
        let lost: DigestSet = report.damage.iter().filter_map(|damage| lost(&damage.what)).collect();
        let salvage = Salvage { lost, keeper: Keeper::new(&self.0), found: Mutex::default() };
        for spec in live {
            if salvage.is_complete() {
                break;
            }
            let scope = Scope::new(spec)?;
            let (tree, _, _) =
                Scan { scope: &scope, caches: None, sink: &salvage, proofs: None, cancel }.run()?;
            keep_tree(&tree, &salvage)?;
        }
        salvage.keeper.finish()?;
        Ok(salvage.found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lost(what: &DamagedThing) -> Option<Digest> {
    match what {
        DamagedThing::Object(digest) | DamagedThing::Missing(digest) => Some(*digest),
        DamagedThing::Index
        | DamagedThing::Pack(_)
        | DamagedThing::Manifest(_)
        | DamagedThing::Marks(_)
        | DamagedThing::Journal => None,
    }
}

fn damaged_packs(report: &VerifyReport, store: &Inner) -> BTreeSet<PackId> {
    let of_path = |path: &PathBuf| PackId::parse(path.file_name()?.to_str()?).map(|(id, _)| id);
    let in_packs = report.damage.iter().filter(|damage| damage.path.parent() == Some(&store.layout.packs));
    in_packs.filter_map(|damage| of_path(&damage.path)).collect()
}

/// Writes what is whole in a pack anew, and moves the pack away.
fn set_aside(
    store: &Inner,
    id: PackId,
    report: &VerifyReport,
    cancel: &Cancel,
) -> Result<PathBuf, StoreError> {
    let path = id.path(&store.layout.packs);
    let bad: DigestSet =
        report.damage.iter().filter(|d| d.path == path).filter_map(|d| lost(&d.what)).collect();
    let whole: Vec<(Digest, Location)> = {
        let index: &Index = &store.index();
        // Also what is preferred elsewhere: that may be damaged, and set aside next.
        let here = index.objects().chain(index.spares());
        here.filter(|(digest, location)| location.pack == id && !bad.contains(digest)).collect()
    };
    rewrite(store, &[(id, whole)], cancel)?;
    let folder = store.layout.root.join("quarantine");
    files::create_folder(&folder)?;
    let aside = id.path(&folder);
    store.index_mut().remove_packs(&|pack| pack == id);
    files::rename(&path, &aside)?;
    store.packs.close(id);
    files::sync_folder(&folder)?;
    files::sync_folder(&store.layout.packs)?;
    Ok(aside)
}

/// Keeps what was lost, and only names the rest.
struct Salvage {
    lost: DigestSet,
    keeper: Keeper,
    found: Mutex<BTreeSet<Digest>>,
}

impl Salvage {
    fn is_complete(&self) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).len() == self.lost.len()
    }
}

impl Sink for Salvage {
    fn keep_named(&self, digest: Digest, content: &[u8]) -> Result<(), StoreError> {
        if self.lost.contains(&digest) {
            self.keeper.keep_named(digest, content)?;
            self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(digest);
        }
        Ok(())
    }

    fn known(&self, ask: &mut dyn FnMut(&Known<'_>)) {
        ask(&|digest| !self.lost.contains(digest));
    }
}
