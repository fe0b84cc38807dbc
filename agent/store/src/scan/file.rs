//! Reads an open file, once.
//!
//! A large file is cloned first, where it can be. If it does not hold still, the clone is read instead, which nobody writes
//! to: the file is kept as it was at one instant, with the times that it had just before.

use std::fs::File;
use std::path::PathBuf;

use super::Scan;
use crate::clones::FileClone;
use crate::content::{self, ContentError};
use crate::error::CaptureError;
use crate::tree::Extent;
use crate::walk::Live;

/// A file that is open, and what was seen of it before.
pub(super) struct Open<'a> {
    pub(super) file: &'a File,
    pub(super) live: &'a Live,
    pub(super) examine: &'a dyn Fn() -> Result<Live, CaptureError>,
    pub(super) full: &'a dyn Fn() -> PathBuf,
}

/// What a file held.
pub(super) struct Content {
    pub(super) extents: Vec<Extent>,
    pub(super) size: u64,
    /// All of it at one instant, and not while it was read.
    pub(super) at_once: bool,
}

impl Open<'_> {
    /// Reads it. `None`: it did not hold still.
    ///
    /// A file that `is_restless` is read from its clone, if it has one. Others are not: what is live the kernel may have in
    /// memory, and a new clone it never has.
    pub(super) fn read(
        &self,
        scan: &Scan<'_>,
        held: &[Extent],
        is_restless: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Content>, CaptureError> {
        let Scan { sink, proofs, cancel, .. } = *scan;
        if let Some(extents) = proofs.and_then(|proofs| proofs.take(self.live)) {
            return Ok(Some(Content { extents, size: self.live.size, at_once: true }));
        }
        let is_still = || (self.examine)().is_ok_and(|now| now.same_state(self.live));
        let clone = sink.clone_of(self.file, self.live.size);
        let (file, size, at_once) = match clone.as_ref().filter(|_| is_restless).map(FileClone::read) {
            Some((clone, size)) => (clone, size, true),
            None => (self.file, self.live.size, false),
        };
        let extents = match content::read(file, size, held, sink, buffer, cancel) {
            Ok(Some(extents)) if at_once || is_still() => extents,
            Ok(_) => return Ok(None),
            Err(ContentError::Store(error)) => return Err(error.into()),
            // It is another file by now, or none: what it could not be read as says nothing.
            Err(ContentError::Read(_)) if !at_once && !is_still() => return Ok(None),
            Err(ContentError::Read(source)) => {
                return Err(CaptureError::Unreadable { action: "read", path: (self.full)(), source });
            }
        };
        if let Some(clone) = clone {
            clone.keep(&extents);
        }
        Ok(Some(Content { extents, size, at_once }))
    }
}
