//! Where things lie in a store's folder.
//!
//! ```text
//! format                  "rfs-store 1": what this folder is
//! lock                    held (flock) by the one process that writes
//! packs/ID.pack           objects; ID.part is one in the making
//! index                   where each object is; may be deleted at any time
//! snapshots/DIGEST        a manifest, named by the digest of its bytes
//! marks/DIGEST            pins, uses and proofs of that snapshot
//! quarantine/ID.pack      packs that were found damaged; may be deleted at any time
//! cache/NAME              what each file was when it was captured last; may be deleted at any time
//! clones/DIGEST           a large file, which shares its blocks; may be deleted at any time
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::StoreError;
use crate::files;
use crate::pack::PackId;

/// The newest format of a store that this version reads and writes.
pub const FORMAT: u32 = 1;

/// The folder of stat caches, which may be deleted at any time.
pub(crate) const CACHE: &str = "cache";

/// How long the lock is waited for, and how often it is tried. A process that starts a program has a copy of the lock for a
/// moment, even after it gave up its own or was killed: `fork` copies it and `exec` closes it.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// The folders of a store, and the lock if it is open for writing.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) packs: PathBuf,
    pub(crate) snapshots: PathBuf,
    pub(crate) marks: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) clones: PathBuf,
    next_pack: AtomicU64,
    /// Released by the kernel when the process ends, however it ends.
    lock: Option<File>,
}

impl Layout {
    /// Opens the folder for writing, and makes it a store if it is new or empty.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        files::create_folder(root)?;
        let mut lock = None;
        let is_store = || read_format(root).map_or_else(not_yet, |()| Ok(true));
        if !is_store()? && is_new(root)? {
            // Of two that make the same store at once, one waits for the other.
            lock = Some(take_lock(root)?);
            if !is_store()? {
                files::replace(&root.join("format"), format!("rfs-store {FORMAT}\n").as_bytes())?;
            }
        }
        read_format(root)?;
        let mut layout = Self::at(root);
        for folder in [&layout.packs, &layout.snapshots, &layout.marks, &layout.cache, &layout.clones] {
            files::create_folder(folder)?;
        }
        layout.lock = Some(lock.map_or_else(|| take_lock(root), Ok)?);
        layout.clean()?;
        files::sync_folder(root)?;
        Ok(layout)
    }

    /// Opens a store beside the process that writes to it.
    pub(crate) fn open_read_only(root: &Path) -> Result<Self, StoreError> {
        read_format(root)?;
        Ok(Self::at(root))
    }

    fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            packs: root.join("packs"),
            snapshots: root.join("snapshots"),
            marks: root.join("marks"),
            cache: root.join(CACHE),
            clones: root.join("clones"),
            next_pack: AtomicU64::new(0),
            lock: None,
        }
    }

    pub(crate) fn require_writable(&self) -> Result<(), StoreError> {
        match self.lock {
            Some(_) => Ok(()),
            None => Err(StoreError::ReadOnly { path: self.root.clone() }),
        }
    }

    /// A number that no pack of this store has had.
    pub(crate) fn next_pack(&self) -> PackId {
        PackId(self.next_pack.fetch_add(1, Ordering::Relaxed))
    }

    /// The packs that are whole.
    pub(crate) fn pack_ids(&self) -> Result<Vec<PackId>, StoreError> {
        let mut ids: Vec<_> = names(&self.packs)?
            .iter()
            .filter_map(|name| PackId::parse(name))
            .filter(|(_, whole)| *whole)
            .map(|(id, _)| id)
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Removes what a crash left behind. Nobody else writes: the lock is held.
    fn clean(&self) -> Result<(), StoreError> {
        for folder in [&self.root, &self.packs, &self.snapshots, &self.marks, &self.cache, &self.clones] {
            for name in names(folder)? {
                if let Some((id, _)) = PackId::parse(&name) {
                    self.next_pack.fetch_max(id.0 + 1, Ordering::Relaxed);
                }
                if name.ends_with(".part") {
                    files::remove(&folder.join(&name))?;
                }
            }
        }
        Ok(())
    }
}

/// The names in a folder that are text; others are not ours.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = std::fs::read_dir(folder).map_err(StoreError::io("list", folder))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", folder))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

fn is_new(root: &Path) -> Result<bool, StoreError> {
    // A crash between making the folder and naming its format leaves nothing of value in it.
    Ok(names(root)?.iter().all(|name| name == "format.part" || name == "lock"))
}

/// A folder that is no store may become one.
fn not_yet(error: StoreError) -> Result<bool, StoreError> {
    match error {
        StoreError::NotAStore { .. } => Ok(false),
        error => Err(error),
    }
}

fn read_format(root: &Path) -> Result<(), StoreError> {
    let not = |reason| StoreError::NotAStore { path: root.to_owned(), reason };
    let path = root.join("format");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(not("it has no file named format"));
        }
        Err(source) => return Err(StoreError::Io { action: "read", path, source }),
    };
    match parse_format(&text).ok_or_else(|| not("its file named format is not ours"))? {
        FORMAT => Ok(()),
        found => Err(StoreError::NewerFormat { path: root.to_owned(), found, supported: FORMAT }),
    }
}

/// The number in the file `format`, of which there is one way to write each.
pub(crate) fn parse_format(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let number: u32 = text.strip_prefix("rfs-store ")?.strip_suffix('\n')?.parse().ok()?;
    (number > 0 && format!("rfs-store {number}\n") == text).then_some(number)
}

fn take_lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(files::write_error(&path, 0))?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK_WAIT => {
                std::thread::sleep(LOCK_LOOK);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Locked { path: root.to_owned() }),
            Err(errno) => return Err(StoreError::Io { action: "lock", path, source: errno.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_store_that_two_make_at_once_is_made_and_each_of_them_has_it_or_is_told_who_has() {
        for _ in 0..50 {
            let folder = tempfile::tempdir().expect("a folder");
            let root = folder.path().join("store");
            let start = Barrier::new(4);
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| {
                        start.wait();
                        match Layout::open(&root) {
                            Ok(_) | Err(StoreError::Locked { .. }) => {}
                            Err(error) => panic!("{}: {error:?}", error),
                        }
                    });
                }
            });
            assert!(Layout::open(&root).is_ok(), "nobody has it any more");
        }
    }
}
