//! Lists one folder: the names in it, what each is, and which of them are what they were.

use std::os::fd::AsFd;

use rfs_model::Digest;
use rustix::fs::RawDir;

use super::beneath::{self, Found, Live, Subvolume, Xattrs};
use super::{Job, Walk, full_path, swapped, vanished};
use crate::cache::Group;
use crate::content::WHOLE;
use crate::error::CaptureError;
use crate::staging::is_staging;
use crate::tree::{EntryKind, Extent};

/// The names of a folder are fetched in pieces of this size.
pub(crate) const BUFFER: usize = 64 << 10;

/// A folder's children, sorted by name.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The folder's path beneath the root.
    pub(crate) path: Vec<u8>,
    pub(crate) xattrs: Xattrs,
    pub(crate) children: Vec<Child>,
    /// Something is not as the cache says.
    pub(crate) changed: bool,
    /// The first name that the component excludes.
    pub(crate) excluded: Option<Box<[u8]>>,
    /// What is mounted over files in it: the name, and the mount.
    pub(crate) covered: Vec<(Box<[u8]>, u64)>,
    names: Vec<u8>,
}

/// Something in a folder.
#[derive(Debug)]
pub(crate) struct Child {
    name: (u32, u32),
    pub(crate) live: Live,
    /// What it is, unless it is a folder: at first only where it is what it was.
    pub(crate) resolved: Option<(Xattrs, EntryKind)>,
    /// What a large file that changed held when it was read last: most of it may be there still.
    pub(crate) held: Option<Box<[Extent]>>,
    /// Its listing, if it is a folder.
    pub(crate) below: Option<Below>,
}

/// A folder that is listed too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Below {
    pub(crate) listing: u32,
    /// Something is mounted there, or nothing can be written there: it is not ours.
    pub(crate) mounted: bool,
    /// It is the top of a btrfs subvolume.
    pub(crate) subvolume: bool,
    /// The mount that it is on. Another one over a file in it is not followed.
    pub(crate) mount: u64,
    /// Its group in the cache.
    pub(super) group: Option<usize>,
    /// Its own attributes are what they were.
    pub(super) trusted: bool,
}

impl Child {
    /// Whether it must be looked at closely.
    pub(crate) fn is_unknown(&self) -> bool {
        self.below.is_none() && self.resolved.is_none()
    }

    /// Whether it was still there when it was looked at closely.
    pub(crate) fn is_there(&self) -> bool {
        !self.is_unknown()
    }
}

/// Whether all of a file's content is known.
pub(crate) fn content_is_known(kind: &EntryKind, known: &dyn Fn(&Digest) -> bool) -> bool {
    let EntryKind::File { content, .. } = kind else { return true };
    content.iter().all(|extent| match extent {
        Extent::Data { digest, .. } => known(digest),
        Extent::Hole { .. } => true,
    })
}

impl Listing {
    pub(crate) fn name(&self, child: &Child) -> &[u8] {
        &self.names[child.name.0 as usize..child.name.1 as usize]
    }
}

/// Lists a folder. `None`: it vanished.
pub(super) fn list(walk: &Walk<'_>, job: Job, buffer: &mut Vec<u8>) -> Result<Option<Listing>, CaptureError> {
    if job.below.mounted {
        return Ok(Some(Listing::empty(job.path, Vec::new())));
    }
    let path = || full_path(&walk.root.path, &job.path);
    let folder = match walk.root.open_folder(&job.path) {
        Ok(folder) => folder,
        Err(errno) if vanished(errno) => return Ok(None),
        Err(errno) if swapped(errno) => return Err(CaptureError::Unstable { path: path() }),
        Err(errno) => return Err(CaptureError::unreadable("open folder", path())(errno)),
    };
    let group = walk.cache.zip(job.below.group).and_then(|(cache, number)| cache.group(number));
    let (xattrs, group) = match group {
        Some((xattrs, group)) if job.below.trusted => (xattrs, Some(group)),
        group => {
            let read = beneath::xattrs_of(folder.as_fd());
            let read = read.map_err(CaptureError::unreadable("read the attributes of", path()))?;
            (read, group.map(|(_, group)| group))
        }
    };
    let mut listing = Listing::empty(job.path, xattrs);
    let mut names = RawDir::new(&folder, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        match entry {
            Ok(entry) => listing.add(walk, (folder.as_fd(), job.below.mount), entry.file_name())?,
            Err(errno) if vanished(errno) => break,
            Err(errno) => {
                let path = full_path(&walk.root.path, &listing.path);
                return Err(CaptureError::unreadable("list folder", path)(errno));
            }
        }
    }
    // There are as many of these as folders, so that room for more would add up.
    listing.children.shrink_to_fit();
    listing.names.shrink_to_fit();
    listing.sort();
    match group {
        Some(group) => listing.compare(walk, group),
        None => listing.changed = true,
    }
    Ok(Some(listing))
}

impl Listing {
    fn empty(path: Vec<u8>, xattrs: Xattrs) -> Self {
        let (children, names) = (Vec::new(), Vec::new());
        Self { path, xattrs, children, changed: false, excluded: None, covered: Vec::new(), names }
    }

    fn add(
        &mut self,
        walk: &Walk<'_>,
        (folder, mount): (std::os::fd::BorrowedFd<'_>, u64),
        name: &std::ffi::CStr,
    ) -> Result<(), CaptureError> {
        let bytes = name.to_bytes();
        if matches!(bytes, b"." | b"..") || is_staging(folder, bytes) {
            return Ok(());
        }
        let path = || beneath::join(&self.path, bytes);
        if walk.scope.has_patterns() && walk.scope.excludes(&walk.root.path, &path()) {
            self.excluded.get_or_insert_with(|| bytes.into());
            return Ok(());
        }
        let live = match Live::at(folder, name) {
            Ok(live) => live,
            Err(errno) if vanished(errno) => return Ok(()),
            Err(errno) => {
                let path = full_path(&walk.root.path, &path());
                return Err(CaptureError::unreadable("examine", path)(errno));
            }
        };
        let is_folder = live.found == Found::Directory;
        let is_mount = live.mount != mount;
        if !is_folder && is_mount {
            self.covered.push((bytes.into(), live.mount));
            return Ok(());
        }
        let start = self.names.len() as u32;
        self.names.extend_from_slice(bytes);
        let place = (start, self.names.len() as u32);
        let subvolume = if is_folder && !is_mount { Subvolume::at(folder, name, &live) } else { None };
        // No snapshot can be put back into a read-only one: it is a snapshot of another tool itself.
        let is_read_only = subvolume == Some(Subvolume::ReadOnly);
        let below = is_folder.then(|| Below {
            listing: walk.queue.number(),
            mounted: (is_mount && !walk.scope.takes_mounts_in()) || is_read_only,
            subvolume: subvolume.is_some(),
            mount: live.mount,
            group: None,
            trusted: false,
        });
        self.children.push(Child { name: place, live, resolved: None, held: None, below });
        Ok(())
    }

    fn sort(&mut self) {
        let names = &self.names;
        let name = |child: &Child| &names[child.name.0 as usize..child.name.1 as usize];
        self.children.sort_unstable_by(|a, b| name(a).cmp(name(b)));
    }

    /// Finds the children that are what they were.
    fn compare(&mut self, walk: &Walk<'_>, group: Group<'_>) {
        let Some(cache) = walk.cache else { return };
        let mut group = group.peekable();
        for child in &mut self.children {
            let name = &self.names[child.name.0 as usize..child.name.1 as usize];
            while group.next_if(|cached| cached.name < name).is_some() {
                self.changed = true;
            }
            let Some(cached) = group.next_if(|cached| cached.name == name) else { continue };
            let same = !cached.young && cached.live.is(&child.live);
            match &mut child.below {
                Some(below) if cached.live.found == Found::Directory => {
                    (below.group, below.trusted) = (Some(cached.at), same);
                }
                None if same => {
                    child.resolved = cache.resolve(child.live.found, child.live.size, cached.at);
                }
                None if (child.live.found, cached.live.found) == (Found::File, Found::File)
                    && child.live.size > WHOLE =>
                {
                    let held = cache.resolve(Found::File, cached.live.size, cached.at);
                    if let Some((_, EntryKind::File { content, .. })) = held {
                        child.held = Some(content.into());
                    }
                }
                Some(_) | None => {}
            }
        }
        self.changed |= group.next().is_some();
        walk.sink.known(&mut |known| {
            for child in &mut self.children {
                if child.resolved.as_ref().is_some_and(|(_, kind)| !content_is_known(kind, known)) {
                    child.resolved = None;
                }
            }
        });
        let is_same =
            |child: &Child| child.resolved.is_some() || child.below.is_some_and(|below| below.trusted);
        self.changed |= !self.children.iter().all(is_same);
    }
}
