//! A snapshot in the making.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rfs_model::{ByteCount, ComponentKind, ComponentName};

use crate::cancel::Cancel;
use crate::content::Sink;
use crate::error::{CaptureError, StoreError};
use crate::files;
use crate::manifest::{Component, Content, Manifest, SnapshotNote};
use crate::met::Met;
use crate::objects::Keeper;
use crate::pack::LARGEST_OBJECT;
use crate::scan::{CaptureStats, Scan};
use crate::segment::{self, RootList, SegmentRef};
use crate::snapshot::{self, SnapshotInfo};
use crate::spec::{FilesSpec, Scope};
use crate::store::Inner;
use crate::tree::{Entry, Root, Tree};
use crate::walk::full_path;

/// A snapshot in the making. Several may be made at once, and one may be filled by several threads.
#[derive(Debug)]
pub struct Capture {
    store: Arc<Inner>,
    keeper: Keeper,
    components: Mutex<BTreeMap<ComponentName, Component>>,
}

/// A value is cut into pieces of this size.
const PIECE: usize = 2 << 20;

impl Capture {
    pub(crate) fn new(store: &Arc<Inner>) -> Self {
        Self { store: store.clone(), keeper: Keeper::new(store), components: Mutex::default() }
    }

    /// Captures the files of a component and returns what was captured.
    pub fn files(
        &self,
        name: &ComponentName,
        spec: &FilesSpec,
        cancel: &Cancel,
    ) -> Result<(Tree, CaptureStats), CaptureError> {
        self.files_met(name, spec, cancel).map(|(tree, _, stats)| (tree, stats))
    }

    /// The same, and returns what was met beside the entries too.
    pub fn files_met(
        &self,
        name: &ComponentName,
        spec: &FilesSpec,
        cancel: &Cancel,
    ) -> Result<(Tree, Met, CaptureStats), CaptureError> {
        let scope = Scope::new(spec)?;
        let counts = || {
            let keeper = &self.keeper;
            (keeper.objects_new.load(Ordering::Relaxed), keeper.bytes_stored.load(Ordering::Relaxed))
        };
        let caches = Some((self.store.layout.cache.as_path(), true));
        let before = counts();
        let (tree, met, mut stats) =
            Scan { scope: &scope, caches, sink: &self.keeper, proofs: None, cancel }.run()?;
        let content = Content::Tree(keep_tree(&tree, &self.keeper)?);
        let after = counts();
        (stats.objects_new, stats.bytes_stored) = (after.0 - before.0, after.1 - before.1);
        let size = ByteCount(stats.size);
        let (kind, entries) = (ComponentKind::Files, stats.entries);
        let taken = Some(met.clone());
        self.add(name, Component { kind, entries, size, content, taken, notes: met.notes() })?;
        Ok((tree, met, stats))
    }

    /// Says something of a component that was captured, for whoever trusts the snapshot.
    pub fn note(&self, name: &ComponentName, note: String) {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = components.get_mut(name) {
            component.notes.push(note);
        }
    }

    /// Keeps a component's state that is not files.
    pub fn value(&self, name: &ComponentName, kind: ComponentKind, bytes: &[u8]) -> Result<(), StoreError> {
        let pieces = bytes.chunks(PIECE).map(|piece| self.keeper.keep(piece)).collect::<Result<_, _>>()?;
        let size = ByteCount(bytes.len() as u64);
        let content = Content::Value(pieces);
        self.add(name, Component { kind, entries: 0, size, content, taken: None, notes: Vec::new() })
    }

    /// Makes the snapshot durable; when this returns, it survives a power cut.
    pub fn commit(self, note: SnapshotNote) -> Result<SnapshotInfo, StoreError> {
        let Self { store, keeper, components } = self;
        let components = components.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _uses = keeper.finish()?;
        let _catalogue = store.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        let sequence = snapshot::next_sequence(&store)?;
        let manifest = Manifest::new(note, sequence, store.clock.0.now(), components);
        let (id, bytes) = manifest.encode();
        files::replace(&store.layout.snapshots.join(id.to_string()), &bytes)?;
        Ok(SnapshotInfo::new(id, &manifest, crate::marks::Marks::default()))
    }

    fn add(&self, name: &ComponentName, component: Component) -> Result<(), StoreError> {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        if components.contains_key(name) {
            let reason = "it was captured into this snapshot already".to_owned();
            return Err(StoreError::BadComponent { component: name.clone(), reason });
        }
        components.insert(name.clone(), component);
        Ok(())
    }
}

/// Keeps the tree's segments and their list. Refused if one of them would be larger than an object may be: it could not be
/// read again.
pub(crate) fn keep_tree(tree: &Tree, keeper: &dyn Sink) -> Result<rfs_model::Digest, CaptureError> {
    let mut roots = Vec::with_capacity(tree.roots.len());
    for root in &tree.roots {
        let keep = |bytes: &mut Vec<u8>, entries: &&[Entry]| {
            segment::encode(entries, bytes);
            // All entries but the last are short, for the segment would have been closed.
            let last = entries.last().map_or(&b""[..], |last| &last.path);
            check_size(bytes, root, last, "it is in more pieces than can be listed; exclude it")?;
            let digest = keeper.keep(bytes)?;
            Ok(SegmentRef { digest, entries: entries.len() as u32, length: bytes.len() as u32 })
        };
        let segments = segment::split(&root.entries)
            .par_iter()
            .map_init(Vec::new, keep)
            .collect::<Result<_, CaptureError>>()?;
        roots.push(RootList { path: root.path.clone(), segments });
    }
    let list = segment::encode_list(&roots);
    if let Some(root) = tree.roots.iter().max_by_key(|root| root.entries.len()) {
        check_size(&list, root, b"", "it has more entries than can be listed; make it several components")?;
    }
    Ok(keeper.keep(&list)?)
}

fn check_size(bytes: &[u8], root: &Root, path: &[u8], reason: &'static str) -> Result<(), CaptureError> {
    if bytes.len() <= LARGEST_OBJECT {
        return Ok(());
    }
    let root = Path::new(OsStr::from_bytes(&root.path));
    Err(CaptureError::BadPath { path: full_path(root, path), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::NameOnly;
    use crate::tree::{Entry, EntryKind, Extent, Meta};

    #[test]
    fn a_file_in_too_many_pieces_is_refused_and_not_kept_unreadable() {
        let meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime_seconds: 0, mtime_nanos: 0, xattrs: Vec::new() };
        let file = |pieces: usize| {
            let piece = Extent::Data { digest: rfs_model::Digest::from_bytes([7; 32]), length: 1 };
            let kind = EntryKind::File { size: pieces as u64, content: vec![piece; pieces], link: None };
            let folder = Entry { path: Vec::new(), meta: meta.clone(), kind: EntryKind::Directory };
            let entries = vec![folder, Entry { path: b"vm.img".to_vec(), meta: meta.clone(), kind }];
            Tree { roots: vec![Root { path: b"/srv".to_vec(), entries }] }
        };
        // A piece of one byte is written in 33.
        keep_tree(&file((LARGEST_OBJECT - 100) / 33), &NameOnly).expect("can be read again");
        let error =
            keep_tree(&file(LARGEST_OBJECT / 33 + 1), &NameOnly).expect_err("could not be read again");
        assert_eq!(
            error.to_string(),
            "path /srv/vm.img cannot be captured: it is in more pieces than can be listed; exclude it"
        );
    }
}
