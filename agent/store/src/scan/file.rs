//! Reads an open file, once.
//!
//! A large file is cloned first, where it can be. If it does not hold still, the clone is read instead, which nobody writes
//! to: the file is kept as it was at one instant, with the times that it had just before.
//!
//! A file that never holds still because it only grows, as the log of a busy service does, is kept as it was at one instant, too.

use std::fs::File;
use std::path::PathBuf;

use super::Scan;
use crate::content::{self, ContentError, NameOnly};
use crate::error::CaptureError;
use crate::tree::Extent;
use crate::walk::Live;

/// How often a file that grows is looked at for an instant at which all of it was read.
const LOOKS: usize = 64;

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
    /// What is live is read before a clone is: the kernel may have it in memory, and never has a new clone.
    pub(super) fn read(
        &self,
        scan: &Scan<'_>,
        held: &[Extent],
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Content>, CaptureError> {
        let Scan { sink, proofs, cancel, .. } = *scan;
        let is_still = || (self.examine)().is_ok_and(|now| now.same_state(self.live));
        if let Some(extents) = proofs.and_then(|proofs| proofs.take(self.live)).filter(|_| is_still()) {
            return Ok(Some(Content { extents, size: self.live.size, at_once: true }));
        }
        let clone = sink.clone_of(self.file, self.live.size);
        let unreadable = |error| self.unreadable(error);
        let read = content::read(self.file, self.live.size, held, sink, buffer, cancel);
        let (extents, size, at_once) = match (read, &clone) {
            (Ok(Some(extents)), _) if is_still() => (extents, self.live.size, false),
            (Err(error @ ContentError::Store(_)), _) => return Err(unreadable(error)),
            // It is another file by now, or none: what it could not be read as says nothing.
            (Err(error), _) if is_still() => return Err(unreadable(error)),
            (_, None) => return Ok(None),
            (_, Some(clone)) => {
                let (file, size) = clone.read();
                let read = content::read(file, size, held, sink, buffer, cancel).map_err(unreadable)?;
                let Some(extents) = read else { return Ok(None) };
                (extents, size, true)
            }
        };
        if let Some(clone) = clone {
            clone.keep(&extents);
        }
        Ok(Some(Content { extents, size, at_once }))
    }

    /// Reads a file that grows while it is read. `None`: more than that happens to it.
    ///
    /// ```text
    /// hash to its end ─▶ look: it is no longer ─▶ read and keep ─▶ hash: the same ─▶ read: the same
    /// ```
    /// What hashed the same before and after the look was there at the look, which also says that there was no more. What was
    /// kept is that, as it read the same before and after the second hash.
    pub(super) fn read_growing(
        &self,
        scan: &Scan<'_>,
        held: &[Extent],
        buffer: &mut Vec<u8>,
    ) -> Result<Option<(Live, Vec<Extent>)>, CaptureError> {
        let Scan { sink, cancel, .. } = *scan;
        let hash = |hasher: &mut blake3::Hasher, from, to, buffer: &mut Vec<u8>| {
            let hashed = content::hash(self.file, (from, to), hasher, buffer, cancel);
            hashed.map_err(|error| self.unreadable(error))
        };
        let (mut first, mut length) = (blake3::Hasher::new(), 0);
        let mut seen = None;
        for _ in 0..LOOKS {
            let live = (self.examine)()?;
            if live.size == length {
                seen = Some(live);
                break;
            }
            if live.size < length || !hash(&mut first, length, live.size, buffer)? {
                return Ok(None);
            }
            length = live.size;
        }
        let Some(live) = seen else { return Ok(None) };
        let read = content::read(self.file, length, held, sink, buffer, cancel);
        let Some(extents) = read.map_err(|error| self.unreadable(error))? else { return Ok(None) };
        let mut again = blake3::Hasher::new();
        if !hash(&mut again, 0, length, buffer)? || again.finalize() != first.finalize() {
            return Ok(None);
        }
        let read = content::read(self.file, length, &extents, &NameOnly, buffer, cancel);
        let is_kept = read.map_err(|error| self.unreadable(error))?.as_ref() == Some(&extents);
        Ok(is_kept.then_some((live, extents)))
    }

    fn unreadable(&self, error: ContentError) -> CaptureError {
        match error {
            ContentError::Store(error) => error.into(),
            ContentError::Read(source) => {
                CaptureError::Unreadable { action: "read", path: (self.full)(), source }
            }
        }
    }
}
