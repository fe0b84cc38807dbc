//! A drill: a snapshot is restored into a scratch folder, as a host would be, and compared with what was captured.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rfs_model::{ByteCount, ComponentKind, ComponentName, Digest, SnapshotId, Timestamp};

use crate::cancel::Cancel;
use crate::diff::{FileDiff, diff_trees};
use crate::error::{CaptureError, StoreError};
use crate::files;
use crate::flags;
use crate::restore::{
    self, Contents, DiscardError, FlipError, PlanError, Progress, Rules, StageError, StagingName, Unmanaged,
};
use crate::snapshot::Snapshot;
use crate::space::Demand;
use crate::spec::FilesSpec;
use crate::store::Store;
use crate::tree::{EntryKind, Extent, Root, Tree};

/// A drill that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrillReport {
    /// When it was done.
    pub verified_at: Timestamp,
    /// How long the restore took, the comparison aside.
    pub restore_time: Duration,
    /// Files, folders, links and nodes that were restored.
    pub entries: u64,
    /// The length of all content that was restored or read.
    pub size: ByteCount,
}

/// Why a drill failed.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// Something is in the scratch folder. Give another.
    #[error("scratch folder {} is not empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// What was restored is not what was captured. The scratch folder is left as it is.
    #[error("component {component} differs at {} paths after its restore, the first is {}", diffs.len(), first(diffs))]
    Different {
        /// The component.
        component: ComponentName,
        /// Where and how.
        diffs: Vec<FileDiff>,
    },
    /// The restore could not be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The restore could not be written.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The restore could not be put in place.
    #[error(transparent)]
    Flip(#[from] FlipError),
    /// The restore could not be tidied up.
    #[error(transparent)]
    Discard(#[from] DiscardError),
    /// What was restored could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn first(diffs: &[FileDiff]) -> String {
    diffs.first().map(|diff| String::from_utf8_lossy(&diff.path).into_owned()).unwrap_or_default()
}

impl Contents for Store {
    fn read(
        &self,
        digest: &Digest,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.piece(digest, length, into)?)
    }

    fn whole(&self, content: &[Extent]) -> Option<File> {
        self.0.clones.find(content)
    }

    fn proved(&self, file: &File, content: &[Extent]) {
        self.0.proofs.note(file, content);
    }
}

/// The packs alone: what a drill proves must hold when all clones are gone.
struct Packs<'a>(&'a Store);

impl Contents for Packs<'_> {
    fn read(
        &self,
        digest: &Digest,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Contents::read(self.0, digest, length, into)
    }
}

impl Store {
    /// Restores a snapshot into `scratch`, an empty folder or none, proves it equal to what was captured, records that
    /// with the snapshot, and removes the folder's content.
    pub fn drill(&self, id: SnapshotId, scratch: &Path, cancel: &Cancel) -> Result<DrillReport, DrillError> {
        let snapshot = self.snapshot(id)?;
        prepare(scratch)?;
        let (mut entries, mut size, mut restore_time) = (0, 0, Duration::ZERO);
        let components: BTreeMap<ComponentName, ComponentKind> =
            snapshot.components().map(|(name, kind)| (name.clone(), kind)).collect();
        for (name, kind) in components {
            match kind {
                ComponentKind::Files => {
                    let target = moved(&snapshot, &name, scratch)?;
                    restore_time += self.drill_files(&name, &target, &scratch.join(name.as_str()), cancel)?;
                    let totals = crate::segment::totals(&target);
                    (entries, size) = (entries + totals.0, size + totals.1);
                }
                ComponentKind::Services => size += snapshot.value(&name)?.len() as u64,
            }
        }
        // As exactly as the proof is kept.
        let restore_time = Duration::from_millis(u64::try_from(restore_time.as_millis()).unwrap_or(u64::MAX));
        let verified_at = self.0.clock.0.now();
        self.prove(id, verified_at, restore_time)?;
        // All of it was read and found equal, whatever was found before.
        self.harm(id, None)?;
        Ok(DrillReport { verified_at, restore_time, entries, size: ByteCount(size) })
    }

    fn drill_files(
        &self,
        name: &ComponentName,
        target: &Tree,
        folder: &Path,
        cancel: &Cancel,
    ) -> Result<Duration, DrillError> {
        let paths = target.roots.iter().map(|root| PathBuf::from(std::ffi::OsStr::from_bytes(&root.path)));
        let spec = FilesSpec { paths: paths.collect(), exclude: Vec::new(), ..FilesSpec::default() };
        let begun = Instant::now();
        let plan =
            restore::plan(&self.scan(&spec, cancel)?, target, &Rules { devices: true, ..Rules::default() })?;
        self.check_room(&[Demand { path: folder.to_owned(), bytes: plan.bytes_to_write() }])?;
        let staging = StagingName::new("drill").expect("a plain name");
        let staged = restore::stage(&plan, &Packs(self), &staging, Unmanaged::Refuse, &Progress::default())?;
        cancel.check().map_err(StoreError::from)?;
        restore::flip(&staged)?;
        restore::sync(&staged)?;
        let restore_time = begun.elapsed();
        restore::discard(&staged)?;
        let mut diffs = diff_trees(target, &self.scan(&spec, cancel)?);
        diffs.retain(|diff| !is_socket(target, diff));
        if !diffs.is_empty() {
            return Err(DrillError::Different { component: name.clone(), diffs });
        }
        std::fs::remove_dir_all(folder).map_err(StoreError::io("remove", folder))?;
        Ok(restore_time)
    }
}

fn prepare(scratch: &Path) -> Result<(), DrillError> {
    files::create_folder(scratch)?;
    let mut entries = std::fs::read_dir(scratch).map_err(StoreError::io("list", scratch))?;
    if entries.next().is_some() {
        return Err(DrillError::NotEmpty { path: scratch.to_owned() });
    }
    Ok(())
}

/// The component's tree, its roots moved into the scratch folder, one folder for each.
fn moved(snapshot: &Snapshot, name: &ComponentName, scratch: &Path) -> Result<Tree, StoreError> {
    let folder = scratch.join(name.as_str());
    files::create_folder(&folder)?;
    let tree = snapshot.tree(name)?;
    let mut roots = Vec::with_capacity(tree.roots.len());
    for (i, root) in tree.roots.into_iter().enumerate() {
        // Numbers of equal length keep the order of the roots.
        let path = folder.join(format!("{i:06}"));
        let mut root = root;
        for entry in &mut root.entries {
            // Flags would bind what must be removed again, and not every file system has them.
            entry.meta.xattrs.retain(|(name, _)| name != flags::NAME);
        }
        roots.push(Root { path: path.as_os_str().as_bytes().to_vec(), entries: root.entries });
    }
    Ok(Tree { roots })
}

/// Sockets are recorded and not restored.
fn is_socket(target: &Tree, diff: &FileDiff) -> bool {
    let entries =
        target.roots.iter().find(|root| root.path == diff.root).map_or(&[][..], |root| &root.entries);
    let entry = entries.binary_search_by(|entry| entry.path.cmp(&diff.path)).ok().map(|i| &entries[i]);
    entry.is_some_and(|entry| entry.kind == EntryKind::Socket)
}
