//! Fills a new file with content: from a clone that the store has of it, or from the file that it replaces as far as that
//! has it still, else from the store.
//!
//! ```text
//! replaced file ─▶ clone (XFS, btrfs) ─▶ each piece: there already? ─ no ─▶ at another place of the replaced file?
//!                                                       │ yes                     │ yes            │ no
//!                                                       ▼                         ▼                ▼
//!                                                    nothing                    write    ◀──  read the store
//! ```
//! Invariant: every byte is digested here, wherever it comes from, so that it makes no difference where that is. What the
//! replaced file was said to hold is a guess that speeds this up.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;
use rfs_model::Digest;
use rustix::fs::{FallocateFlags, fallocate, ioctl_ficlone};
use rustix::io::Errno;

use super::contents::Contents;
use crate::content::{WHOLE, digest_of};
use crate::tree::Extent;

/// A file that is live, and what it was found to hold.
pub(super) struct Replaced<'a> {
    pub(super) file: File,
    pub(super) content: &'a [Extent],
}

/// A source that failed, or the system.
type Failure = Box<dyn Error + Send + Sync>;

/// Whether a file is worth looking for in the one that it replaces.
pub(super) fn is_large(size: u64) -> bool {
    size > WHOLE
}

/// Fills `file`, which is new, empty and open for reading and writing.
pub(super) fn fill(
    file: &File,
    content: &[Extent],
    replaced: Option<&Replaced<'_>>,
    contents: &dyn Contents,
) -> Result<(), Failure> {
    let whole = contents.whole(content).map(|file| Replaced { file, content });
    let is_whole = |held: &Held<'_>| held.is_cloned;
    let held = whole
        .as_ref()
        .map(|whole| Held::new(whole, file, content))
        .filter(is_whole)
        .or_else(|| replaced.map(|replaced| Held::new(replaced, file, content)))
        .filter(|held| !held.places.is_empty());
    let filling = Filling { file, contents, held };
    match content {
        [_] => Extent::placed(content).try_for_each(|piece| filling.put(piece, &mut Vec::new()))?,
        _ => Extent::placed(content)
            .collect::<Vec<_>>()
            .into_par_iter()
            .try_for_each_init(Vec::new, |buffer, piece| filling.put(piece, buffer))?,
    }
    let is_cloned = filling.held.is_some_and(|held| held.is_cloned);
    if is_cloned || matches!(content.last(), Some(Extent::Hole { .. })) {
        file.set_len(content.iter().map(Extent::length).sum())?;
    }
    punch(file, content, is_cloned)
}

/// Makes holes hold nothing: a clone has the replaced file's bytes there, and a file system may have set room aside where
/// the file ended for a while.
fn punch(file: &File, content: &[Extent], is_cloned: bool) -> Result<(), Failure> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (at, extent) in Extent::placed(content) {
        if let Extent::Hole { length } = extent {
            match fallocate(file, flags, at, *length) {
                Ok(()) => {}
                // What is new reads as zeros there, punched or not.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) if !is_cloned => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

/// What the replaced file holds of the new one.
struct Held<'a> {
    file: &'a File,
    /// Where it holds what the new file needs, for each piece one place of perhaps several.
    places: HashMap<Digest, u64>,
    /// The places at which both hold the same.
    same: HashSet<(Digest, u64)>,
    /// The new file is a clone of it.
    is_cloned: bool,
}

impl<'a> Held<'a> {
    fn new(replaced: &'a Replaced<'_>, file: &File, content: &[Extent]) -> Self {
        let needed: HashSet<Digest> = places(content).map(|(digest, _)| digest).collect();
        let held = || places(replaced.content).filter(|(digest, _)| needed.contains(digest));
        let (places, same): (HashMap<_, _>, HashSet<_>) = (held().collect(), held().collect());
        let is_cloned = !same.is_empty() && ioctl_ficlone(file, &replaced.file).is_ok();
        Self { file: &replaced.file, places, same, is_cloned }
    }
}

/// Each piece of content, with where it lies.
fn places(content: &[Extent]) -> impl Iterator<Item = (Digest, u64)> {
    Extent::placed(content).filter_map(|(at, extent)| match extent {
        Extent::Data { digest, .. } => Some((*digest, at)),
        Extent::Hole { .. } => None,
    })
}

struct Filling<'a> {
    file: &'a File,
    contents: &'a dyn Contents,
    held: Option<Held<'a>>,
}

impl Filling<'_> {
    fn put(&self, (at, extent): (u64, &Extent), buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let Extent::Data { digest, length } = extent else { return Ok(()) };
        if self.is_there(at, digest, *length, buffer)? {
            return Ok(());
        }
        if !self.is_held(digest, *length, buffer)? {
            self.contents.read(digest, *length, buffer)?;
        }
        Ok(self.file.write_all_at(buffer, at)?)
    }

    /// Whether a clone has the piece where it belongs.
    fn is_there(&self, at: u64, digest: &Digest, length: u64, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
        let Some(held) = self.held.as_ref().filter(|held| held.is_cloned) else { return Ok(false) };
        Ok(held.same.contains(&(*digest, at)) && has(self.file, at, digest, length, buffer)?)
    }

    /// Reads the piece from wherever the replaced file has it.
    fn is_held(&self, digest: &Digest, length: u64, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
        let Some(held) = &self.held else { return Ok(false) };
        let Some(&place) = held.places.get(digest) else { return Ok(false) };
        has(held.file, place, digest, length, buffer)
    }
}

/// Whether the bytes at a place of a file have the digest. What cannot be read is not there.
fn has(file: &File, at: u64, digest: &Digest, length: u64, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
    let length = usize::try_from(length)?;
    buffer.resize(length, 0);
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(digest_of(buffer) == *digest),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => {
            tracing::warn!(%error, "what is live could not be read; its content comes from the store");
            Ok(false)
        }
    }
}
