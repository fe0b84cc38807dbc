//! Reads what is not known: the content of files that changed, where links point, attributes.
//!
//! A file is read between two looks at its inode. If they differ, it is read again. One that only grows is kept as it was at one
//! instant; for any other that does not rest it is [`CaptureError::Unstable`], for a torn file must never be kept.
//!
//! The kernel stamps an inode when a write begins, so that a write may go on unseen between the two looks. A file that
//! changed a moment ago must therefore read the same twice before it is kept, and is not trusted by the next scan. What is
//! written through a memory map is stamped later still: such files need a quiesce hook.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use super::file::{Content, Open};
use super::{Scan, Walked};
use crate::cache::Trust;
use crate::content::WHOLE;
use crate::error::CaptureError;
use crate::tree::{EntryKind, Extent};
use crate::walk::{self, Child, Found, Listing, Live, Parent, Xattrs, full_path, swapped, vanished};

/// Many readers keep a cold disk busy; those beyond the cores wait, and cost little.
const READERS: usize = 8;
/// A reader takes up to so many children of a folder at once.
const BATCH: usize = 64;
const ATTEMPTS: usize = 8;
/// How long a file that changed, or is young, is left alone before it is looked at again.
const PATIENCE: Duration = Duration::from_millis(10);

/// Children of one listing that one reader takes at once.
#[derive(Debug, Clone, Copy)]
struct Job {
    root: usize,
    listing: usize,
    from: usize,
    to: usize,
}

/// What a child turned out to be when it was looked at closely.
#[derive(Debug)]
struct Resolved {
    live: Live,
    what: (Xattrs, EntryKind),
}

/// A child: root, listing, position.
type Place = (usize, usize, usize);

/// A child with what it turned out to be, as small as can be: there is one for each file that is read.
struct Done {
    place: (u32, u32, u32),
    /// Where it is not as the walk saw it.
    live: Option<Box<Live>>,
    /// `None`: it vanished.
    what: Option<(Xattrs, EntryKind)>,
}

impl Done {
    fn new((root, listing, position): Place, child: &Child, resolved: Option<Resolved>) -> Self {
        let place = (root as u32, listing as u32, position as u32);
        let Some(Resolved { live, what }) = resolved else { return Self { place, live: None, what: None } };
        Self { place, live: (live != child.live).then(|| Box::new(live)), what: Some(what) }
    }
}

pub(super) struct Reading<'a, 'w> {
    scan: &'a Scan<'a>,
    walked: &'a mut [&'w mut Walked],
    small: Vec<Job>,
    large: Vec<Job>,
}

impl<'a, 'w> Reading<'a, 'w> {
    /// Plans what must be read, and reads the roots that are no folders.
    pub(super) fn new(scan: &'a Scan<'a>, walked: &'a mut [&'w mut Walked]) -> Result<Self, CaptureError> {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (root, walked) in walked.iter().enumerate() {
            for (number, listing) in walked.listings.iter().enumerate() {
                if let Some(listing) = listing.as_ref().filter(|listing| listing.changed) {
                    plan(root, number, listing, &mut small, &mut large);
                }
            }
        }
        Ok(Self { scan, walked, small, large })
    }

    /// How many bytes are about to be read, holes of large files aside.
    pub(super) fn expected(&self) -> u64 {
        let children = |job: &Job| {
            let listing = self.walked[job.root].listings[job.listing].as_ref();
            listing.map_or(&[][..], |listing| &listing.children[job.from..job.to])
        };
        let is_read = |child: &&Child| child.is_unknown() && child.live.found == Found::File;
        let small = self.small.iter().flat_map(children).filter(is_read).map(|child| child.live.size);
        small.sum::<u64>() + self.large.iter().map(|job| self.allocated(job)).sum::<u64>()
    }

    /// What the one file of a job takes on its disk; nothing if that cannot be told.
    fn allocated(&self, job: &Job) -> u64 {
        let walked = &self.walked[job.root];
        let Some(listing) = &walked.listings[job.listing] else { return 0 };
        let child = &listing.children[job.from];
        let file = walked.root.parent(&listing.path).and_then(|folder| folder.open_file(listing.name(child)));
        let blocks = file.and_then(rustix::fs::fstat).map_or(0, |stat| stat.st_blocks.unsigned_abs());
        child.live.size.min(blocks.saturating_mul(512))
    }

    /// Reads everything, and says how many files and bytes that were.
    pub(super) fn run(self) -> Result<(u64, u64), CaptureError> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let readers = READERS.max(cores).min(self.small.len() + self.large.len());
        let walked: Vec<&Walked> = self.walked.iter().map(|walked| &**walked).collect();
        let pool = Pool {
            scan: self.scan,
            walked: &walked,
            small: &self.small,
            large: &self.large,
            next_small: AtomicUsize::new(0),
            next_large: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            done: Mutex::new(Vec::new()),
        };
        let mut roots = Vec::new();
        for walked in &walked {
            let is_known = walked.top.found == Found::Directory || walked.itself.is_some();
            roots.push(if is_known { None } else { Some(pool.resolve_root(walked)?) });
        }
        let read = |number: usize| pool.read(number < cores);
        let read = &read;
        std::thread::scope(|threads| -> Result<(), CaptureError> {
            let readers: Vec<_> = (0..readers).map(|number| threads.spawn(move || read(number))).collect();
            let join = |reader: std::thread::ScopedJoinHandle<'_, _>| {
                reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            readers.into_iter().map(join).fold(Ok(()), Result::and)
        })?;
        let read = (pool.files.into_inner(), pool.bytes.into_inner());
        let done = pool.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        for Done { place: (root, listing, position), live, what } in done.into_iter().flatten() {
            let Some(listing) = &mut self.walked[root as usize].listings[listing as usize] else { continue };
            let child = &mut listing.children[position as usize];
            if let Some(live) = live {
                child.live = *live;
            }
            child.resolved = what;
        }
        for (walked, resolved) in self.walked.iter_mut().zip(roots) {
            if let Some(resolved) = resolved {
                walked.itself = resolved.map(|resolved| {
                    walked.top = resolved.live;
                    resolved.what
                });
            }
        }
        Ok(read)
    }
}

/// Divides what must be read in a listing among jobs.
fn plan(root: usize, number: usize, listing: &Listing, small: &mut Vec<Job>, large: &mut Vec<Job>) {
    let close = |from: usize, to: usize, jobs: &mut Vec<Job>| {
        if listing.children[from..to].iter().any(Child::is_unknown) {
            jobs.push(Job { root, listing: number, from, to });
        }
    };
    let mut from = 0;
    let mut size = 0;
    for (i, child) in listing.children.iter().enumerate().filter(|(_, child)| child.is_unknown()) {
        if child.live.found == Found::File && child.live.size > WHOLE {
            close(from, i, small);
            close(i, i + 1, large);
            (from, size) = (i + 1, 0);
            continue;
        }
        size += child.live.size;
        if i + 1 - from >= BATCH || size > WHOLE {
            close(from, i + 1, small);
            (from, size) = (i + 1, 0);
        }
    }
    close(from, listing.children.len(), small);
}

/// What the walk knows of a file.
#[derive(Clone, Copy)]
struct Seen<'a> {
    live: &'a Live,
    /// What it held when it was read last.
    held: &'a [Extent],
}

/// What the readers share.
struct Pool<'a> {
    scan: &'a Scan<'a>,
    walked: &'a [&'a Walked],
    small: &'a [Job],
    large: &'a [Job],
    next_small: AtomicUsize,
    next_large: AtomicUsize,
    failed: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
    done: Mutex<Vec<Vec<Done>>>,
}

impl Pool<'_> {
    /// One reader. Only as many as there are cores take large files, for these need large buffers.
    fn read(&self, takes_large: bool) -> Result<(), CaptureError> {
        let mut done = Vec::new();
        let read = self.read_jobs(takes_large, &mut done);
        if read.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(done);
        read
    }

    fn read_jobs(&self, takes_large: bool, done: &mut Vec<Done>) -> Result<(), CaptureError> {
        let (mut buffer, mut young) = (Vec::new(), Vec::new());
        while !self.failed.load(Ordering::Relaxed) {
            let large = if takes_large { take(self.large, &self.next_large) } else { None };
            let Some(job) = large.or_else(|| take(self.small, &self.next_small)) else { break };
            self.read_job(job, &mut buffer, done, &mut young)?;
        }
        // One wait does for all of them.
        if !young.is_empty() && !self.failed.load(Ordering::Relaxed) {
            std::thread::sleep(PATIENCE);
        }
        for place in young {
            let (root, listing, from) = place;
            self.in_folder(&Job { root, listing, from, to: from + 1 }, |walked, folder, listing, child| {
                let resolved = self.resolve(walked, folder, listing, child, &mut buffer)?;
                done.push(Done::new(place, child, resolved));
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Reads what is unknown of a job, but for files that changed so lately that a later change could look the same.
    fn read_job(
        &self,
        job: &Job,
        buffer: &mut Vec<u8>,
        done: &mut Vec<Done>,
        young: &mut Vec<Place>,
    ) -> Result<(), CaptureError> {
        let mut number = job.from;
        self.in_folder(job, |walked, folder, listing, child| {
            let place = (job.root, job.listing, number);
            number += 1;
            if child.is_unknown() {
                match child.live.found == Found::File && Trust::now(walked.grain).is_young(&child.live) {
                    true => young.push(place),
                    false => {
                        let resolved = self.resolve(walked, folder, listing, child, buffer)?;
                        done.push(Done::new(place, child, resolved));
                    }
                }
            }
            Ok(())
        })
    }

    /// Does `work` with each child of a job, unless their folder vanished.
    fn in_folder(
        &self,
        job: &Job,
        mut work: impl FnMut(&Walked, &Parent, &Listing, &Child) -> Result<(), CaptureError>,
    ) -> Result<(), CaptureError> {
        self.scan.cancel.check()?;
        let walked = self.walked[job.root];
        let Some(listing) = &walked.listings[job.listing] else { return Ok(()) };
        let folder = match walked.root.parent(&listing.path) {
            Ok(folder) => folder,
            Err(errno) if vanished(errno) => return Ok(()),
            Err(errno) if swapped(errno) => {
                return Err(CaptureError::Unstable { path: full_path(&walked.root.path, &listing.path) });
            }
            Err(errno) => return Err(failure("open folder", walked, &listing.path, errno)),
        };
        listing.children[job.from..job.to].iter().try_for_each(|child| work(walked, &folder, listing, child))
    }

    fn resolve(
        &self,
        walked: &Walked,
        folder: &Parent,
        listing: &Listing,
        child: &Child,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Resolved>, CaptureError> {
        let name = listing.name(child);
        let path = || walk::join(&listing.path, name);
        if child.live.found == Found::File {
            let open = || folder.open_file(name);
            let seen = Seen { live: &child.live, held: child.held.as_deref().unwrap_or_default() };
            return self.read_file(walked, seen, &path, &open, buffer);
        }
        let kind = match child.live.found {
            Found::Symlink => folder.read_link(name).map(EntryKind::Symlink),
            other => Ok(node(other)),
        };
        match kind.and_then(|kind| Ok((folder.xattrs(name)?, kind))) {
            Ok(what) => Ok(Some(Resolved { live: child.live, what })),
            Err(errno) if vanished(errno) => Ok(None),
            // What was a link is none any more.
            Err(Errno::INVAL) => Err(CaptureError::Unstable { path: full_path(&walked.root.path, &path()) }),
            Err(errno) => Err(failure("read", walked, &path(), errno)),
        }
    }

    fn resolve_root(&self, walked: &Walked) -> Result<Option<Resolved>, CaptureError> {
        let root = &walked.root;
        if walked.top.found == Found::File {
            let open = || root.open_itself();
            let seen = Seen { live: &walked.top, held: &[] };
            return self.read_file(walked, seen, &Vec::new, &open, &mut Vec::new());
        }
        let kind = match walked.top.found {
            Found::Symlink => root.read_link_itself().map(EntryKind::Symlink),
            other => Ok(node(other)),
        };
        let what = kind.and_then(|kind| Ok((root.xattrs_itself()?, kind)));
        let what = what.map_err(|errno| failure("read", walked, &[], errno))?;
        Ok(Some(Resolved { live: walked.top, what }))
    }

    /// Reads a file until it has held still. `None`: it vanished.
    fn read_file(
        &self,
        walked: &Walked,
        seen: Seen<'_>,
        path: &dyn Fn() -> Vec<u8>,
        open: &dyn Fn() -> Result<OwnedFd, Errno>,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Resolved>, CaptureError> {
        let full = || full_path(&walked.root.path, &path());
        let mut last: Option<Vec<Extent>> = None;
        // What the walk saw serves as the first look.
        let mut before = *seen.live;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 && last.is_none() {
                self.scan.cancel.check()?;
                std::thread::sleep(PATIENCE);
            }
            let file = match open() {
                Ok(fd) => File::from(fd),
                Err(errno) if vanished(errno) => return Ok(None),
                Err(errno) if swapped(errno) => return Err(CaptureError::Unstable { path: full() }),
                Err(errno) => return Err(failure("open", walked, &path(), errno)),
            };
            let examine = || Live::of(file.as_fd()).map_err(CaptureError::unreadable("examine", full()));
            if attempt > 0 {
                before = examine()?;
            }
            if before.found != Found::File || before.mount != seen.live.mount {
                return Err(CaptureError::Unstable { path: full() });
            }
            let trust = Trust::now(walked.grain);
            if trust.is_young(&before) && attempt < ATTEMPTS / 2 {
                continue;
            }
            let xattrs = walk::xattrs_of(file.as_fd())
                .map_err(|errno| failure("read the attributes of", walked, &path(), errno))?;
            let open = Open { file: &file, live: &before, examine: &examine, full: &full };
            let mut kept = None;
            match open.read(self.scan, seen.held, buffer)? {
                Some(Content { extents, size, at_once })
                    if at_once
                        || !self.scan.sink.keeps()
                        || !trust.is_fresh(&before)
                        || last.as_ref() == Some(&extents) =>
                {
                    kept = Some((Live { size, ..before }, extents));
                }
                other => last = other.map(|content| content.extents),
            }
            // One that is written in place would be read again and again for nothing.
            if kept.is_none() && attempt >= ATTEMPTS / 2 && examine()?.size > seen.live.size {
                kept = open.read_growing(self.scan, seen.held, buffer)?;
            }
            let Some((live, extents)) = kept else { continue };
            let size = live.size;
            self.files.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(size, Ordering::Relaxed);
            let kind = EntryKind::File { size, content: extents, link: None };
            return Ok(Some(Resolved { live, what: (xattrs, kind) }));
        }
        Err(CaptureError::Unstable { path: full() })
    }
}

fn take<'a>(jobs: &'a [Job], next: &AtomicUsize) -> Option<&'a Job> {
    jobs.get(next.fetch_add(1, Ordering::Relaxed))
}

/// What is known of an inode by its kind alone.
fn node(found: Found) -> EntryKind {
    match found {
        Found::Fifo => EntryKind::Fifo,
        Found::Socket => EntryKind::Socket,
        Found::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
        Found::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
        Found::Directory | Found::File | Found::Symlink => EntryKind::Directory,
    }
}

fn failure(action: &'static str, walked: &Walked, path: &[u8], errno: Errno) -> CaptureError {
    CaptureError::unreadable(action, full_path(&walked.root.path, path))(errno)
}
