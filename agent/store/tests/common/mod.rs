//! What the store's suites share.

#![allow(dead_code, reason = "each suite uses a part")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rfs_model::time::ManualClock;
use rfs_model::{ComponentName, HostId, SnapshotId, Timestamp};
use rfs_store::{Cancel, EntryKind, FilesSpec, SnapshotNote, Store, StoreError, Tree};

/// A store at `path`, with a clock that stands.
pub(crate) fn open(path: &Path) -> Store {
    Store::open(path, Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)))).expect("a store")
}

/// The component that the suites capture.
pub(crate) fn site() -> ComponentName {
    ComponentName::new("site").expect("a name")
}

/// A note with this label.
pub(crate) fn note(label: &str) -> SnapshotNote {
    SnapshotNote { host: HostId::new("web-1").expect("a name"), label: label.to_owned(), operation: None }
}

/// One path, without logs.
pub(crate) fn spec(path: &Path) -> FilesSpec {
    FilesSpec { paths: vec![path.to_owned()], exclude: vec!["**/*.log".to_owned()], ..FilesSpec::default() }
}

/// Captures and commits.
pub(crate) fn capture(store: &Store, path: &Path) -> (SnapshotId, Tree) {
    let capture = store.begin().expect("begins");
    let (tree, _) = capture.files(&site(), &spec(path), &Cancel::new()).expect("captures");
    (capture.commit(note("test")).expect("commits").id, tree)
}

/// Paths and bytes.
pub(crate) type Contents = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads every file of the tree from the store, or returns the first error.
pub(crate) fn contents(store: &Store, tree: &Tree) -> Result<Contents, StoreError> {
    let mut contents = Vec::new();
    for entry in tree.roots.iter().flat_map(|root| &root.entries) {
        if let EntryKind::File { content, .. } = &entry.kind {
            let file = tempfile::NamedTempFile::new().expect("a file");
            store.write_content(content, file.as_file())?;
            contents.push((entry.path.clone(), fs::read(file.path()).expect("reads")));
        }
    }
    Ok(contents)
}

/// Every file beneath a folder.
pub(crate) fn files_beneath(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(files_beneath(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Stops a thread beside the test, also when the test fails.
#[derive(Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets it when it goes.
pub(crate) struct StopAtEnd<'a>(pub(crate) &'a Stop);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Says loudly that a test did not run, on the screen and in the file that `RFS_SKIPS` names.
pub(crate) fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIPPED: {test}: {why}");
    let Some(path) = std::env::var_os("RFS_SKIPS") else { return };
    let list = File::options().append(true).create(true).open(path);
    let _ = list.and_then(|mut list| writeln!(list, "{test}: {why}"));
}
