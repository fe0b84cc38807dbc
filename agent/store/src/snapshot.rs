//! Snapshots that are committed: listing them, and reading what is in one.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rfs_model::{
    ByteCount, ComponentKind, ComponentName, Digest, HostId, OperationId, SnapshotId, Timestamp,
};

use crate::error::StoreError;
use crate::layout;
use crate::manifest::{Component, Content, Manifest};
use crate::marks::Marks;
use crate::met::Met;
use crate::segment;
use crate::store::Inner;
use crate::tree::{Root, Tree};

/// What a list of snapshots says of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// Counts the snapshots of this store in the order in which they were committed, whatever the clock did.
    pub sequence: u64,
    /// The host whose state it is.
    pub host: HostId,
    /// When it was committed.
    pub taken_at: Timestamp,
    /// Why it was taken.
    pub label: String,
    /// The fleet operation that it belongs to.
    pub operation: Option<OperationId>,
    /// What is in it.
    pub components: Vec<ComponentInfo>,
    /// Pins, uses, proof.
    pub marks: Marks,
}

/// One component of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentInfo {
    /// Its name.
    pub name: ComponentName,
    /// Its kind.
    pub kind: ComponentKind,
    /// Files, folders, links and nodes.
    pub entries: u64,
    /// The length of all content.
    pub size: ByteCount,
    /// What a person must know who trusts the snapshot.
    pub notes: Vec<String>,
}

/// What the label of a backup begins with: of a snapshot that a restore takes by itself.
pub const BACKUP_LABEL: &str = "backup:";

impl SnapshotInfo {
    /// Whether a restore took it by itself, as its way back.
    pub fn is_backup(&self) -> bool {
        self.label.starts_with(BACKUP_LABEL)
    }

    pub(crate) fn new(id: SnapshotId, manifest: &Manifest, marks: Marks) -> Self {
        let components = manifest.components.iter().map(|(name, component)| ComponentInfo {
            name: name.clone(),
            kind: component.kind,
            entries: component.entries,
            size: component.size,
            notes: component.notes.clone(),
        });
        Self {
            id,
            sequence: manifest.sequence,
            host: manifest.host.clone(),
            taken_at: manifest.taken_at,
            label: manifest.label.clone(),
            operation: manifest.operation,
            components: components.collect(),
            marks,
        }
    }
}

/// A committed snapshot.
#[derive(Debug, Clone)]
pub struct Snapshot {
    store: Arc<Inner>,
    id: SnapshotId,
    manifest: Manifest,
}

impl Snapshot {
    pub(crate) fn open(store: &Arc<Inner>, id: SnapshotId) -> Result<Self, StoreError> {
        Ok(Self { store: store.clone(), id, manifest: read_manifest(store, id)? })
    }

    /// Its id.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// What a list says of it.
    pub fn info(&self) -> Result<SnapshotInfo, StoreError> {
        Ok(SnapshotInfo::new(self.id, &self.manifest, Marks::read_guarded(&self.store.layout, self.id)?))
    }

    /// The components in it.
    pub fn components(&self) -> impl Iterator<Item = (&ComponentName, ComponentKind)> {
        self.manifest.components.iter().map(|(name, component)| (name, component.kind))
    }

    /// The files of a component, as they were.
    pub fn tree(&self, name: &ComponentName) -> Result<Tree, StoreError> {
        match self.component(name)? {
            Component { content: Content::Tree(list), .. } => read_tree(&self.store, list),
            Component { content: Content::Value(_), .. } => Err(self.unknown(name)),
        }
    }

    /// What the files of a component were captured with; none where the snapshot does not say.
    pub fn taken(&self, name: &ComponentName) -> Result<Option<&Met>, StoreError> {
        Ok(self.component(name)?.taken.as_ref())
    }

    /// What a person must know of a component who trusts the snapshot.
    pub fn notes(&self, name: &ComponentName) -> Result<&[String], StoreError> {
        Ok(&self.component(name)?.notes)
    }

    /// The state of a component that is not files.
    pub fn value(&self, name: &ComponentName) -> Result<Vec<u8>, StoreError> {
        let Component { content: Content::Value(pieces), size, .. } = self.component(name)? else {
            return Err(self.unknown(name));
        };
        let mut value = Vec::new();
        let mut piece = Vec::new();
        for digest in pieces {
            self.store.object(digest, &mut piece)?;
            value.extend_from_slice(&piece);
        }
        if value.len() as u64 != size.0 {
            let path = manifest_path(&self.store, self.id);
            return Err(StoreError::damaged(format!("component {name}"), &path, "it has another length"));
        }
        Ok(value)
    }

    pub(crate) fn contents(&self) -> impl Iterator<Item = (&ComponentName, &Content)> {
        self.manifest.components.iter().map(|(name, component)| (name, &component.content))
    }

    fn component(&self, name: &ComponentName) -> Result<&Component, StoreError> {
        self.manifest.components.get(name).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &ComponentName) -> StoreError {
        StoreError::UnknownComponent { snapshot: self.id, component: name.clone() }
    }
}

/// Every snapshot, the oldest first. A damaged one is left out.
pub(crate) fn list(store: &Inner) -> Result<Vec<SnapshotInfo>, StoreError> {
    let mut infos = Vec::new();
    for id in ids(store)? {
        let manifest = match read_manifest(store, id) {
            Ok(manifest) => manifest,
            // Damaged, or forgotten in this moment.
            Err(StoreError::Damaged { .. } | StoreError::UnknownSnapshot { .. }) => continue,
            Err(error) => return Err(error),
        };
        let marks = Marks::read_guarded(&store.layout, id)?;
        infos.push(SnapshotInfo::new(id, &manifest, marks));
    }
    infos.sort_by_key(|info| (info.sequence, info.id));
    Ok(infos)
}

/// The names of all manifests, damaged ones included.
pub(crate) fn ids(store: &Inner) -> Result<Vec<SnapshotId>, StoreError> {
    let names = layout::names(&store.layout.snapshots)?;
    Ok(names.iter().filter_map(|name| SnapshotId::from_str(name).ok()).collect())
}

/// The sequence number of the next snapshot. The catalogue must be held.
pub(crate) fn next_sequence(store: &Inner) -> Result<u64, StoreError> {
    Ok(list(store)?.last().map_or(0, |last| last.sequence) + 1)
}

pub(crate) fn manifest_path(store: &Inner, id: SnapshotId) -> PathBuf {
    store.layout.snapshots.join(id.to_string())
}

pub(crate) fn read_manifest(store: &Inner, id: SnapshotId) -> Result<Manifest, StoreError> {
    let path = manifest_path(store, id);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::UnknownSnapshot { id: id.to_string() });
        }
        Err(source) => return Err(StoreError::unread("manifest", "read", &path)(source)),
    };
    Manifest::decode(id, &bytes).map_err(|reason| StoreError::damaged("manifest", &path, reason))
}

/// Reads a tree from the object that lists its segments.
pub(crate) fn read_tree(store: &Inner, list: &Digest) -> Result<Tree, StoreError> {
    let mut bytes = Vec::new();
    let lists = crate::reach::read_list(store, list, &mut bytes)?;
    let mut roots = Vec::with_capacity(lists.len());
    for root in lists {
        let mut entries = Vec::new();
        for part in &root.segments {
            store.object(&part.digest, &mut bytes)?;
            segment::decode(&bytes, &mut entries).map_err(|error| store.malformed(&part.digest, &error))?;
        }
        roots.push(Root { path: root.path, entries });
    }
    Ok(Tree { roots })
}
