//! Walks the live state beneath a root: what is there, without reading any content.
//!
//! ```text
//! root ─▶ listing of each folder, by several threads, compared with the stat cache ─▶ one listing per folder
//! ```
//! Invariants
//! - Every path is opened beneath the root's own descriptor, through no symbolic link and into no other mount, so that a
//!   folder that is swapped for a link during the walk leads nowhere.
//! - What is mounted beneath a root is not its content: a mount point is an empty folder, a file mounted over a file is
//!   left out.
//! - A path may be longer than the kernel's limit: it is opened piece by piece.

mod beneath;
mod list;
mod mounts;
mod volume;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::io::Errno;

use crate::cache::Cache;
use crate::cancel::Cancel;
use crate::content::Sink;
use crate::error::CaptureError;
use crate::spec::Scope;

pub(crate) use beneath::{Found, Live, LiveRoot, Parent, Xattrs, is_shadow, join, xattrs_of};
pub(crate) use list::{Below, Child, Listing, content_is_known};
pub(crate) use mounts::{Mount, Mounts};

/// What a walk goes by.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) root: &'a LiveRoot,
    pub(crate) cache: Option<&'a Cache>,
    /// Says which content need not be read.
    pub(crate) sink: &'a dyn Sink,
    pub(crate) cancel: &'a Cancel,
    queue: &'a Queue,
}

/// More walkers gain nothing while the kernel has everything in memory, and much when it has not.
const WALKERS: usize = 4;

/// Lists the folders beneath a root that is one: the root's own listing is the first. A folder that vanished has none.
pub(crate) fn walk(
    scope: &Scope,
    root: &LiveRoot,
    top: &Live,
    cache: Option<&Cache>,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<Vec<Option<Listing>>, CaptureError> {
    let cached = cache.and_then(Cache::top).filter(|cached| cached.live.found == Found::Directory);
    let below = Below {
        listing: 0,
        mounted: false,
        subvolume: false,
        mount: top.mount,
        group: cached.map(|cached| cached.at),
        trusted: cached.is_some_and(|cached| !cached.young && cached.live.is(top)),
    };
    let queue = Queue::new(below);
    let walk = Walk { scope, root, cache, sink, cancel, queue: &queue };
    let results = std::thread::scope(|threads| {
        let walkers: Vec<_> = (0..WALKERS).map(|_| threads.spawn(|| walk.list_folders())).collect();
        let join = |walker: std::thread::ScopedJoinHandle<'_, _>| {
            walker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        walkers.into_iter().map(join).collect::<Result<Vec<_>, CaptureError>>()
    })?;
    let mut listings: Vec<Option<Listing>> = Vec::new();
    listings.resize_with(queue.numbers.load(Ordering::Relaxed) as usize, || None);
    for (number, listing) in results.into_iter().flatten() {
        listings[number as usize] = Some(listing);
    }
    Ok(listings)
}

impl Walk<'_> {
    fn list_folders(&self) -> Result<Vec<(u32, Listing)>, CaptureError> {
        let _stops = StopsOnPanic(self.queue);
        let mut listings = Vec::new();
        let mut own = Vec::new();
        let mut buffer = Vec::with_capacity(list::BUFFER);
        while let Some(job) = own.pop().or_else(|| self.queue.next()).filter(|_| !self.queue.is_stopped()) {
            let number = job.below.listing;
            let listed = self.cancel.check().map_err(CaptureError::from);
            match listed.and_then(|()| list::list(self, job, &mut buffer)) {
                Ok(Some(listing)) => {
                    own.extend(listing.children.iter().filter_map(|child| {
                        let path = || beneath::join(&listing.path, listing.name(child));
                        child.below.map(|below| Job { below, path: path() })
                    }));
                    listings.push((number, listing));
                }
                Ok(None) => {}
                Err(error) => {
                    self.queue.stop();
                    return Err(error);
                }
            }
            match own.is_empty() {
                true => self.queue.done(),
                false => self.queue.share(&mut own),
            }
        }
        Ok(listings)
    }
}

/// Lets the other walkers end when one panics, for they would wait for what it does not list.
struct StopsOnPanic<'a>(&'a Queue);

impl Drop for StopsOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// A folder that waits for a walker.
struct Job {
    below: Below,
    path: Vec<u8>,
}

/// What walkers share: each lists what it finds itself, and gives some away only when another has nothing to do.
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
    /// How many walkers have nothing to do.
    idle: AtomicUsize,
    stopped: AtomicBool,
    numbers: AtomicU32,
}

struct Waiting {
    jobs: Vec<Job>,
    /// Walkers that have something to do.
    busy: usize,
}

impl Queue {
    /// The root's folder waits, as number 0.
    fn new(root: Below) -> Self {
        let jobs = vec![Job { below: root, path: Vec::new() }];
        Self {
            state: Mutex::new(Waiting { jobs, busy: 0 }),
            changed: Condvar::new(),
            idle: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            numbers: AtomicU32::new(1),
        }
    }

    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for a folder; `None` when all are listed or one failed.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(job) = waiting.jobs.pop() {
                waiting.busy += 1;
                return Some(job);
            }
            if waiting.busy == 0 {
                return None;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            self.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives the older half of a walker's folders away, if another walker has nothing to do. They are nearest to the root,
    /// so that most is beneath them.
    fn share(&self, own: &mut Vec<Job>) {
        if self.idle.load(Ordering::Relaxed) == 0 || own.len() < 2 {
            return;
        }
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.jobs.is_empty() {
            let half = own.len() / 2;
            waiting.jobs.extend(own.drain(..half));
            self.changed.notify_one();
        }
    }

    /// A walker has nothing left.
    fn done(&self) {
        let mut waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.busy -= 1;
        if waiting.busy == 0 && waiting.jobs.is_empty() {
            self.changed.notify_all();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        // Held, so that nobody misses it between asking and waiting.
        let _waiting = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.stopped.store(true, Ordering::Relaxed);
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

/// Whether something else stands there now, or what stood there was moved away.
pub(crate) fn swapped(errno: Errno) -> bool {
    matches!(errno, Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::XDEV)
}
