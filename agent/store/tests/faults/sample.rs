//! A store on a disk of its own, live files beside it, and what must hold whatever happened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rfs_model::SnapshotId;
use rfs_store::{Cancel, Share, SnapshotInfo, Store, Tree};

use crate::common::{Contents, capture, contents, files_beneath, note, open, site, spec};

/// Live files and a store that holds some states of them.
pub(crate) struct Sample {
    folder: tempfile::TempDir,
    path: PathBuf,
    store: Option<Store>,
    committed: Committed,
}

/// What snapshots must hold.
#[derive(Default, Clone)]
pub(crate) struct Committed(BTreeMap<SnapshotId, (Tree, Contents)>);

impl Committed {
    pub(crate) fn remove(&mut self, id: SnapshotId) {
        self.0.remove(&id);
    }

    /// What is committed reads back, whatever verification says of the rest.
    #[track_caller]
    pub(crate) fn check(&self, store: &Store, when: &str) {
        for (id, (tree, wanted)) in &self.0 {
            let read = store.snapshot(*id).and_then(|snapshot| snapshot.tree(&site()));
            let read = read.unwrap_or_else(|error| panic!("{when}: {id}: {error}"));
            assert!(read == *tree, "{when}: {id} is another tree");
            let read = contents(store, tree).unwrap_or_else(|error| panic!("{when}: {id}: {error}"));
            assert!(read == *wanted, "{when}: {id} has other contents");
        }
    }
}

impl Sample {
    /// A store at `path` beneath the folder, which exists, with two snapshots.
    pub(crate) fn new(folder: tempfile::TempDir, path: &Path) -> Self {
        let path = folder.path().join(path);
        let store = open(&path);
        let mut sample = Self { folder, path, store: Some(store), committed: Committed::default() };
        fs::create_dir(sample.live()).expect("a folder");
        for release in 0..2 {
            sample.deploy(release);
            sample.capture();
        }
        sample
    }

    pub(crate) fn live(&self) -> PathBuf {
        self.folder.path().join("live")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    /// Gives up the store, as a program that ends does.
    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    pub(crate) fn open(&mut self) {
        self.store = Some(open(&self.path));
    }

    /// Changes the page, two assets that always change, and half of the others; assets do not compress.
    pub(crate) fn deploy(&self, release: u64) {
        fs::write(self.live().join("index.html"), format!("release {release}")).expect("written");
        for file in (0..6).filter(|file| *file > 3 || (file + release).is_multiple_of(2)) {
            let content = noise(release * 100 + file, 40_000);
            fs::write(self.live().join(format!("asset{file}")), content).expect("written");
        }
    }

    /// Captures and commits, and remembers what that must hold.
    pub(crate) fn capture(&mut self) -> SnapshotId {
        let (id, tree) = capture(self.store(), &self.live());
        let contents = contents(self.store(), &tree).expect("reads");
        self.committed.0.insert(id, (tree, contents));
        id
    }

    /// Captures, or says why not.
    pub(crate) fn try_capture(&self) -> Result<SnapshotInfo, rfs_store::CaptureError> {
        let making = self.store().begin()?;
        making.files(&site(), &spec(&self.live()), &Cancel::new())?;
        Ok(making.commit(note("try"))?)
    }

    /// Only this one is to be kept.
    pub(crate) fn keep_only(&mut self, id: SnapshotId) {
        self.committed.0.retain(|known, _| *known == id);
    }

    /// All that is committed but this one.
    pub(crate) fn without(&self, id: SnapshotId) -> Committed {
        let mut others = self.committed.clone();
        others.0.remove(&id);
        others
    }

    pub(crate) fn committed(&self) -> &Committed {
        &self.committed
    }

    /// The store verifies clean, every committed snapshot reads back, nothing half-made lies about.
    #[track_caller]
    pub(crate) fn check(&self, when: &str) {
        let report = self.store().verify(Share::Whole, &Cancel::new()).expect("verifies");
        assert!(report.damage.is_empty(), "{when}: {:?}", report.damage);
        self.committed.check(self.store(), when);
        let half_made: Vec<_> = files_beneath(&self.path)
            .into_iter()
            .filter(|path| path.extension() == Some("part".as_ref()))
            .collect();
        assert_eq!(half_made, [""; 0].map(PathBuf::from), "{when}");
    }
}

/// Bytes that do not compress, another sequence for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The whole message, with its causes, as a person reads it.
pub(crate) fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
