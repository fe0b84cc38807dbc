//! Lists one folder: the names in it, what each is, and the folder's own attributes.

use std::os::fd::AsFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

use super::beneath::{self, Found, Live, LiveRoot, Xattrs};
use super::{full_path, swapped, vanished};
use crate::error::CaptureError;
use crate::spec::{STAGING_PREFIX, Scope};

/// The names of a folder are fetched in pieces of this size.
pub(crate) const BUFFER: usize = 64 << 10;

/// A folder's children, sorted by name.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The folder's path beneath the root.
    pub(crate) path: Vec<u8>,
    pub(crate) xattrs: Xattrs,
    pub(crate) children: Vec<Child>,
    names: Vec<u8>,
}

/// Something in a folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child {
    name: (u32, u32),
    pub(crate) live: Live,
    /// The number of its own listing, if it is a folder.
    pub(crate) listing: Option<u32>,
}

impl Listing {
    pub(crate) fn name(&self, child: &Child) -> &[u8] {
        &self.names[child.name.0 as usize..child.name.1 as usize]
    }
}

/// Lists a folder. `None`: it vanished.
pub(crate) fn list(
    scope: &Scope,
    root: &LiveRoot,
    path: &[u8],
    buffer: &mut Vec<u8>,
    number: &mut dyn FnMut() -> u32,
) -> Result<Option<Listing>, CaptureError> {
    let empty = |xattrs| Listing { path: path.to_vec(), xattrs, children: Vec::new(), names: Vec::new() };
    let failed = |action, errno| Err(CaptureError::unreadable(action, full_path(&root.path, path))(errno));
    let folder = match root.open_folder(path) {
        Ok(folder) => folder,
        Err(errno) if vanished(errno) => return Ok(None),
        // A mount point: what is mounted there is not ours.
        Err(Errno::XDEV) => return Ok(Some(empty(Vec::new()))),
        Err(errno) if swapped(errno) => {
            return Err(CaptureError::Unstable { path: full_path(&root.path, path) });
        }
        Err(errno) => return failed("open folder", errno),
    };
    let xattrs = match beneath::xattrs_of(folder.as_fd()) {
        Ok(xattrs) => xattrs,
        Err(errno) => return failed("read the attributes of", errno),
    };
    let mut listing = empty(xattrs);
    let mut names = RawDir::new(&folder, buffer.spare_capacity_mut());
    while let Some(entry) = names.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(errno) if vanished(errno) => break,
            Err(errno) => return failed("list folder", errno),
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let child_path = || beneath::join(path, name.to_bytes());
        let is_staging = name.to_bytes().starts_with(STAGING_PREFIX);
        if is_staging || (scope.has_patterns() && scope.excludes(&root.path, &child_path())) {
            continue;
        }
        let live = match Live::at(folder.as_fd(), name) {
            Ok(live) => live,
            Err(errno) if vanished(errno) => continue,
            Err(errno) => {
                let path = full_path(&root.path, &child_path());
                return Err(CaptureError::unreadable("examine", path)(errno));
            }
        };
        let folder = live.found == Found::Directory;
        if !folder && !root.holds(&live) {
            continue;
        }
        let start = listing.names.len() as u32;
        listing.names.extend_from_slice(name.to_bytes());
        let name = (start, listing.names.len() as u32);
        listing.children.push(Child { name, live, listing: folder.then(&mut *number) });
    }
    let Listing { names, children, .. } = &mut listing;
    let name = |child: &Child| &names[child.name.0 as usize..child.name.1 as usize];
    children.sort_unstable_by(|a, b| name(a).cmp(name(b)));
    Ok(Some(listing))
}
