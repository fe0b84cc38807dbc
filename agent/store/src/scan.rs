//! From the live state to a [`Tree`]: walk, read what has to be read, put in order.
//!
//! A file is read between two looks at its inode. If they differ, it is read again; if that happens too often, it is
//! [`CaptureError::Unstable`], for a torn file must never be kept.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::content::{self, ContentError, Sink, WHOLE};
use crate::error::CaptureError;
use crate::spec::Scope;
use crate::tree::{Entry, EntryKind, Meta, Root, Tree};
use crate::walk::{
    self, Child, Found, Listing, Live, LiveRoot, Parent, Walked, Xattrs, full_path, swapped, vanished,
};

/// What a capture or a scan did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaptureStats {
    /// Files, folders, links and nodes.
    pub entries: u64,
    /// The length of all content.
    pub size: u64,
    /// Files whose content was read.
    pub files_read: u64,
    /// How many bytes were read.
    pub bytes_read: u64,
    /// How many objects were new.
    pub objects_new: u64,
    /// The room that the new objects take in the store.
    pub bytes_stored: u64,
}

/// Many readers keep a cold disk busy; those beyond the cores wait, and cost little.
const READERS: usize = 8;
/// A reader takes up to so many files of a folder at once.
const BATCH: usize = 64;
const ATTEMPTS: usize = 8;
/// How long a file that changed is left alone before it is read again.
const PATIENCE: Duration = Duration::from_millis(5);

/// Scans all roots.
pub(crate) fn scan(
    scope: &Scope,
    sink: &dyn Sink,
    cancel: &Cancel,
) -> Result<(Tree, CaptureStats), CaptureError> {
    let mut walked = Vec::new();
    for root in scope.roots() {
        walked.push(walk::walk(scope, root, cancel)?);
    }
    let reading = Reading::new(&walked, sink, cancel);
    let resolved = reading.run()?;
    let (files_read, bytes_read) =
        (reading.files_read.into_inner() as u64, reading.bytes_read.into_inner() as u64);
    let mut links = Links::default();
    for (walked, resolved) in walked.iter().zip(&resolved) {
        links.count(walked.as_ref(), resolved);
    }
    let mut roots = Vec::new();
    for ((walked, resolved), path) in walked.into_iter().zip(resolved).zip(scope.roots()) {
        let path = path.as_os_str().as_encoded_bytes().to_vec();
        let entries = walked.map_or_else(Vec::new, |walked| assemble(walked, resolved, &mut links));
        roots.push(Root { path, entries });
    }
    let tree = Tree { roots };
    let (entries, size) = crate::segment::totals(&tree);
    Ok((tree, CaptureStats { entries, size, files_read, bytes_read, ..CaptureStats::default() }))
}

/// What a child turned out to be when it was looked at closely.
#[derive(Debug, Clone)]
struct Resolved {
    live: Live,
    kind: EntryKind,
    xattrs: Xattrs,
}

/// The children of every listing of one root; the root itself, where it is no folder. `None`: vanished.
#[derive(Debug, Default)]
struct ResolvedRoot {
    itself: Option<Resolved>,
    listings: Vec<Vec<Option<Resolved>>>,
}

/// Children of one listing that one reader takes at once.
#[derive(Debug, Clone, Copy)]
struct Job {
    root: usize,
    listing: usize,
    from: usize,
    to: usize,
}

/// A job with what its children turned out to be.
type Done = (Job, Vec<Option<Resolved>>);

struct Reading<'a> {
    walked: &'a [Option<Walked>],
    sink: &'a dyn Sink,
    cancel: &'a Cancel,
    small: Vec<Job>,
    large: Vec<Job>,
    next_small: AtomicUsize,
    next_large: AtomicUsize,
    failed: AtomicBool,
    files_read: AtomicUsize,
    bytes_read: AtomicUsize,
}

impl<'a> Reading<'a> {
    fn new(walked: &'a [Option<Walked>], sink: &'a dyn Sink, cancel: &'a Cancel) -> Self {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for (root, walked) in walked.iter().enumerate() {
            let listings = walked.iter().flat_map(|walked| &walked.listings);
            for (number, listing) in listings.enumerate().filter_map(|(n, l)| Some((n, l.as_ref()?))) {
                plan(root, number, listing, &mut small, &mut large);
            }
        }
        Self {
            walked,
            sink,
            cancel,
            small,
            large,
            next_small: AtomicUsize::new(0),
            next_large: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            files_read: AtomicUsize::new(0),
            bytes_read: AtomicUsize::new(0),
        }
    }

    fn run(&self) -> Result<Vec<ResolvedRoot>, CaptureError> {
        let mut roots: Vec<ResolvedRoot> = Vec::new();
        for walked in self.walked {
            let mut root = ResolvedRoot::default();
            if let Some(walked) = walked {
                if walked.top.found != Found::Directory {
                    root.itself = self.resolve_root(walked)?;
                }
                let children = |listing: &Option<Listing>| listing.as_ref().map_or(0, |l| l.children.len());
                root.listings = walked.listings.iter().map(|listing| vec![None; children(listing)]).collect();
            }
            roots.push(root);
        }
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let results = Mutex::new(Vec::new());
        let readers = READERS.max(cores).min(self.small.len() + self.large.len());
        std::thread::scope(|threads| -> Result<(), CaptureError> {
            let readers: Vec<_> = (0..readers)
                .map(|number| {
                    threads.spawn({
                        let results = &results;
                        move || self.read(number < cores, results)
                    })
                })
                .collect();
            let outcomes: Vec<_> = readers
                .into_iter()
                .map(|reader| reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            outcomes.into_iter().collect()
        })?;
        for (job, resolved) in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let job: Job = job;
            let children = &mut roots[job.root].listings[job.listing];
            for (child, resolved) in children[job.from..job.to].iter_mut().zip(resolved) {
                *child = resolved;
            }
        }
        Ok(roots)
    }

    /// One reader. Only as many as there are cores take large files, for these need large buffers.
    fn read(&self, takes_large: bool, results: &Mutex<Vec<Done>>) -> Result<(), CaptureError> {
        let mut buffer = Vec::new();
        let mut done = Vec::new();
        while !self.failed.load(Ordering::Relaxed) {
            let large = takes_large
                .then(|| self.large.get(self.next_large.fetch_add(1, Ordering::Relaxed)))
                .flatten();
            let job = large.or_else(|| self.small.get(self.next_small.fetch_add(1, Ordering::Relaxed)));
            let Some(job) = job else { break };
            match self.read_job(job, &mut buffer) {
                Ok(resolved) => done.push((*job, resolved)),
                Err(error) => {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        results.lock().unwrap_or_else(PoisonError::into_inner).append(&mut done);
        Ok(())
    }

    fn read_job(&self, job: &Job, buffer: &mut Vec<u8>) -> Result<Vec<Option<Resolved>>, CaptureError> {
        self.cancel.check()?;
        let (Some(walked), to) = (&self.walked[job.root], job.to) else { return Ok(Vec::new()) };
        let Some(listing) = &walked.listings[job.listing] else { return Ok(vec![None; to - job.from]) };
        let folder = match walked.root.parent(&listing.path) {
            Ok(folder) => folder,
            Err(errno) if vanished(errno) => return Ok(vec![None; to - job.from]),
            Err(errno) => return Err(self.failure("open folder", walked, &listing.path, errno)),
        };
        let children = &listing.children[job.from..to];
        children.iter().map(|child| self.resolve(walked, &folder, listing, child, buffer)).collect()
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
        let outcome = match child.live.found {
            // A folder's listing says the rest.
            Found::Directory => return Ok(None),
            Found::File => {
                return self.read_file(walked, &path, &|| folder.open_file(name), buffer);
            }
            Found::Symlink => folder.read_link(name).map(EntryKind::Symlink),
            Found::Fifo => Ok(EntryKind::Fifo),
            Found::Socket => Ok(EntryKind::Socket),
            Found::CharDevice { major, minor } => Ok(EntryKind::CharDevice { major, minor }),
            Found::BlockDevice { major, minor } => Ok(EntryKind::BlockDevice { major, minor }),
        };
        let outcome =
            outcome.and_then(|kind| Ok(Resolved { live: child.live, kind, xattrs: folder.xattrs(name)? }));
        match outcome {
            Ok(resolved) => Ok(Some(resolved)),
            Err(errno) if vanished(errno) => Ok(None),
            // What was a link is none any more.
            Err(Errno::INVAL) => Err(CaptureError::Unstable { path: full_path(&walked.root.path, &path()) }),
            Err(errno) => Err(self.failure("read", walked, &path(), errno)),
        }
    }

    fn resolve_root(&self, walked: &Walked) -> Result<Option<Resolved>, CaptureError> {
        let root: &LiveRoot = &walked.root;
        let kind = match walked.top.found {
            Found::Directory => return Ok(None),
            Found::File => {
                return self.read_file(walked, &Vec::new, &|| root.open_itself(), &mut Vec::new());
            }
            Found::Symlink => root.read_link_itself().map(EntryKind::Symlink),
            Found::Fifo => Ok(EntryKind::Fifo),
            Found::Socket => Ok(EntryKind::Socket),
            Found::CharDevice { major, minor } => Ok(EntryKind::CharDevice { major, minor }),
            Found::BlockDevice { major, minor } => Ok(EntryKind::BlockDevice { major, minor }),
        };
        let resolved =
            kind.and_then(|kind| Ok(Resolved { live: walked.top, kind, xattrs: root.xattrs_itself()? }));
        resolved.map(Some).map_err(|errno| self.failure("read", walked, &[], errno))
    }

    /// Reads a file until it has held still. `None`: it vanished.
    fn read_file(
        &self,
        walked: &Walked,
        path: &dyn Fn() -> Vec<u8>,
        open: &dyn Fn() -> Result<std::os::fd::OwnedFd, Errno>,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Resolved>, CaptureError> {
        let full = || full_path(&walked.root.path, &path());
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.cancel.check()?;
                std::thread::sleep(PATIENCE);
            }
            let file = match open() {
                Ok(fd) => File::from(fd),
                Err(errno) if vanished(errno) => return Ok(None),
                Err(errno) if swapped(errno) => return Err(CaptureError::Unstable { path: full() }),
                Err(errno) => return Err(self.failure("open", walked, &path(), errno)),
            };
            let examine = || Live::of(file.as_fd()).map_err(CaptureError::unreadable("examine", full()));
            let before = examine()?;
            if before.found != Found::File {
                return Err(CaptureError::Unstable { path: full() });
            }
            let xattrs = walk::xattrs_of(file.as_fd())
                .map_err(|errno| self.failure("read the attributes of", walked, &path(), errno))?;
            let content = match content::read(&file, before.size, self.sink, buffer, self.cancel) {
                Ok(content) => content,
                Err(ContentError::Store(error)) => return Err(error.into()),
                Err(ContentError::Read(source)) => {
                    return Err(CaptureError::Unreadable { action: "read", path: full(), source });
                }
            };
            self.files_read.fetch_add(1, Ordering::Relaxed);
            self.bytes_read.fetch_add(before.size as usize, Ordering::Relaxed);
            let Some(content) = content.filter(|_| examine().is_ok_and(|after| after.same_state(&before)))
            else {
                continue;
            };
            let kind = EntryKind::File { size: before.size, content, link: None };
            return Ok(Some(Resolved { live: before, kind, xattrs }));
        }
        Err(CaptureError::Unstable { path: full() })
    }

    fn failure(&self, action: &'static str, walked: &Walked, path: &[u8], errno: Errno) -> CaptureError {
        CaptureError::unreadable(action, full_path(&walked.root.path, path))(errno)
    }
}

/// Divides a listing's children among jobs.
fn plan(root: usize, number: usize, listing: &Listing, small: &mut Vec<Job>, large: &mut Vec<Job>) {
    let mut from = 0;
    let mut size = 0;
    let close = |from: usize, to: usize, jobs: &mut Vec<Job>| {
        if from < to {
            jobs.push(Job { root, listing: number, from, to });
        }
    };
    for (i, child) in listing.children.iter().enumerate() {
        if child.live.found == Found::File && child.live.size > WHOLE {
            close(from, i, small);
            close(i, i + 1, large);
            (from, size) = (i + 1, 0);
            continue;
        }
        size += child.live.size;
        if i + 1 - from == BATCH || size > WHOLE {
            close(from, i + 1, small);
            (from, size) = (i + 1, 0);
        }
    }
    close(from, listing.children.len(), small);
}

/// The inodes that have several names in the component.
#[derive(Debug, Default)]
struct Links {
    names: HashMap<(u64, u64), u32>,
    numbers: HashMap<(u64, u64), u32>,
}

impl Links {
    fn count(&mut self, walked: Option<&Walked>, resolved: &ResolvedRoot) {
        let Some(_) = walked else { return };
        let children = resolved.listings.iter().flatten().chain([&resolved.itself]).flatten();
        for child in children.filter(|child| child.live.links > 1 && child.live.found == Found::File) {
            *self.names.entry((child.live.mount, child.live.ino)).or_default() += 1;
        }
    }

    /// The number of the inode, given in the order of the tree, if it has several names.
    fn number(&mut self, live: &Live) -> Option<u32> {
        let key = (live.mount, live.ino);
        if live.links < 2 || self.names.get(&key).is_none_or(|names| *names < 2) {
            return None;
        }
        let next = self.numbers.len() as u32;
        Some(*self.numbers.entry(key).or_insert(next))
    }
}

/// Puts a root's entries in the order of their paths.
fn assemble(walked: Walked, mut resolved: ResolvedRoot, links: &mut Links) -> Vec<Entry> {
    let mut entries = Vec::new();
    let Walked { top, listings, .. } = walked;
    if top.found != Found::Directory {
        entries.extend(resolved.itself.map(|resolved| entry(Vec::new(), resolved, links)));
        return entries;
    }
    let Some(Some(first)) = listings.first() else { return entries };
    entries.push(folder_entry(Vec::new(), &top, first.xattrs.clone()));
    let mut order = vec![Step::Below(0)];
    while let Some(step) = order.pop() {
        match step {
            Step::Child(listing, child) => {
                let Some(parent) = &listings[listing] else { continue };
                let found = &parent.children[child];
                let path = walk::join(&parent.path, parent.name(found));
                if let Some(number) = found.listing {
                    // A folder that vanished has no listing.
                    let own = listings[number as usize].as_ref();
                    entries.extend(own.map(|own| folder_entry(path, &found.live, own.xattrs.clone())));
                } else if let Some(resolved) = resolved.listings[listing][child].take() {
                    entries.push(entry(path, resolved, links));
                }
            }
            Step::Below(number) => {
                if let Some(listing) = &listings[number] {
                    steps(number, listing, &mut order);
                }
            }
        }
    }
    entries
}

/// What is put in order: a child itself, and, at its own place, all that is beneath it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Child(usize, usize),
    Below(usize),
}

/// Adds the steps of a listing, the last first.
///
/// By the order of whole paths `a-b` stands between `a` and `a/c`, so what is beneath a folder has a place of its own.
fn steps(number: usize, listing: &Listing, order: &mut Vec<Step>) {
    let from = order.len();
    let mut keys: Vec<(&[u8], bool, Step)> = Vec::with_capacity(listing.children.len());
    for (i, child) in listing.children.iter().enumerate() {
        let name = listing.name(child);
        keys.push((name, false, Step::Child(number, i)));
        if let Some(below) = child.listing {
            keys.push((name, true, Step::Below(below as usize)));
        }
    }
    if keys.len() > listing.children.len() {
        keys.sort_unstable_by(|a, b| {
            let bytes = |key: &(&[u8], bool, Step)| -> Vec<u8> {
                let mut bytes = key.0.to_vec();
                if key.1 {
                    bytes.push(b'/');
                }
                bytes
            };
            bytes(a).cmp(&bytes(b))
        });
    }
    order.extend(keys.into_iter().map(|(.., step)| step));
    order[from..].reverse();
}

fn folder_entry(path: Vec<u8>, live: &Live, xattrs: Xattrs) -> Entry {
    Entry { path, meta: meta(live, xattrs), kind: EntryKind::Directory }
}

fn entry(path: Vec<u8>, resolved: Resolved, links: &mut Links) -> Entry {
    let Resolved { live, mut kind, xattrs } = resolved;
    if let EntryKind::File { link, .. } = &mut kind {
        *link = links.number(&live);
    }
    Entry { path, meta: meta(&live, xattrs), kind }
}

fn meta(live: &Live, xattrs: Xattrs) -> Meta {
    let (mtime_seconds, mtime_nanos) = live.mtime;
    Meta { mode: live.mode, uid: live.uid, gid: live.gid, mtime_seconds, mtime_nanos, xattrs }
}
