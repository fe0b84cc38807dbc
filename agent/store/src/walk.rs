//! Walks the live state beneath a root: what is there, without reading any content.
//!
//! ```text
//! root ─▶ listing of each folder, by several threads ─▶ one listing per folder, its children sorted by name
//! ```
//! Invariants
//! - Every path is opened beneath the root's own descriptor, through no symbolic link and into no other mount, so that a
//!   folder that is swapped for a link during the walk leads nowhere.
//! - What is mounted beneath a root is not its content: a mount point is an empty folder, a file mounted over a file is
//!   left out.
//! - A path may be longer than the kernel's limit: it is opened piece by piece.

mod beneath;
mod list;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::error::CaptureError;
use crate::spec::Scope;

pub(crate) use beneath::{Found, Live, LiveRoot, Parent, Xattrs, join, xattrs_of};
pub(crate) use list::{Child, Listing};

/// A root and all the folders beneath it.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) root: LiveRoot,
    /// The root itself.
    pub(crate) top: Live,
    /// The root's is the first, if the root is a folder. A folder that vanished has none.
    pub(crate) listings: Vec<Option<Listing>>,
}

/// More walkers gain nothing while the kernel has everything in memory, and much when it has not.
const WALKERS: usize = 4;

/// Walks one root. `None`: nothing is there.
pub(crate) fn walk(scope: &Scope, root: &Path, cancel: &Cancel) -> Result<Option<Walked>, CaptureError> {
    let Some((root, top)) = LiveRoot::open(root)? else { return Ok(None) };
    if top.found != Found::Directory {
        return Ok(Some(Walked { root, top, listings: Vec::new() }));
    }
    let queue = Queue::new();
    let results = std::thread::scope(|threads| {
        let walkers: Vec<_> =
            (0..WALKERS).map(|_| threads.spawn(|| walk_folders(scope, &root, &queue, cancel))).collect();
        walkers
            .into_iter()
            .map(|walker| walker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    let mut listings: Vec<Option<Listing>> = Vec::new();
    listings.resize_with(queue.numbers.load(Ordering::Relaxed) as usize, || None);
    for result in results {
        for (number, listing) in result? {
            listings[number as usize] = Some(listing);
        }
    }
    Ok(Some(Walked { root, top, listings }))
}

fn walk_folders(
    scope: &Scope,
    root: &LiveRoot,
    queue: &Queue,
    cancel: &Cancel,
) -> Result<Vec<(u32, Listing)>, CaptureError> {
    let mut listings = Vec::new();
    let mut buffer = Vec::with_capacity(list::BUFFER);
    while let Some(job) = queue.next() {
        let outcome = cancel.check().map_err(CaptureError::from);
        let outcome =
            outcome.and_then(|()| list::list(scope, root, &job.path, &mut buffer, &mut || queue.number()));
        match outcome {
            Ok(Some(listing)) => {
                let below = listing.children.iter().filter_map(|child| {
                    let path = beneath::join(&job.path, listing.name(child));
                    child.listing.map(|number| Job { number, path })
                });
                queue.done(below);
                listings.push((job.number, listing));
            }
            Ok(None) => queue.done(std::iter::empty()),
            Err(error) => {
                queue.stop();
                return Err(error);
            }
        }
    }
    Ok(listings)
}

/// A folder that waits for a walker.
struct Job {
    number: u32,
    path: Vec<u8>,
}

/// The folders that wait, and how many are being listed.
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
    numbers: AtomicU32,
}

struct Waiting {
    jobs: Vec<Job>,
    busy: usize,
    stopped: bool,
}

impl Queue {
    /// The root's folder waits, as number 0.
    fn new() -> Self {
        let jobs = vec![Job { number: 0, path: Vec::new() }];
        let state = Mutex::new(Waiting { jobs, busy: 0, stopped: false });
        Self { state, changed: Condvar::new(), numbers: AtomicU32::new(1) }
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for a folder; `None` when all are listed or one failed.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if waiting.stopped {
                return None;
            }
            if let Some(job) = waiting.jobs.pop() {
                waiting.busy += 1;
                return Some(job);
            }
            if waiting.busy == 0 {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, below: impl Iterator<Item = Job>) {
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.jobs.len();
        waiting.jobs.extend(below);
        waiting.busy -= 1;
        match waiting.jobs.len() - before {
            0 if waiting.busy == 0 => self.changed.notify_all(),
            0 => {}
            1 => self.changed.notify_one(),
            _ => self.changed.notify_all(),
        }
    }

    fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.changed.notify_all();
    }
}

/// The full path, for messages.
pub(crate) fn full_path(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}

/// Whether something is no longer there.
pub(crate) fn vanished(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::STALE)
}

/// Whether something else stands there now.
pub(crate) fn swapped(errno: Errno) -> bool {
    matches!(errno, Errno::LOOP | Errno::NOTDIR | Errno::NXIO)
}
