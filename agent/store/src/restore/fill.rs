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

/// A file that may hold some of what comes: the one that is replaced, or the store's clone; and what it was found to hold.
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

/// Fills `file`, which is new, empty and open for reading and writing. True when every byte of it was digested where it
/// is, so that it need not be read again.
pub(super) fn fill(
    file: &File,
    content: &[Extent],
    replaced: Option<&Replaced<'_>>,
    contents: &dyn Contents,
) -> Result<bool, Failure> {
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
    punch(file, content, is_cloned)?;
    Ok(is_cloned)
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
        self.file.write_all_at(buffer, at)?;
        // What is in a clone nobody reads again.
        let is_cloned = self.held.as_ref().is_some_and(|held| held.is_cloned);
        if !is_cloned || has(self.file, at, digest, *length, buffer)? {
            return Ok(());
        }
        Err(io::Error::other(format!("what was written at {at} reads differently")).into())
    }

    /// Whether a clone has the piece where it belongs.
    fn is_there(&self, at: u64, digest: &Digest, length: u64, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
        let Some(held) = self.held.as_ref().filter(|held| held.is_cloned) else { return Ok(false) };
        Ok(held.same.contains(&(*digest, at)) && guessed(has(self.file, at, digest, length, buffer)))
    }

    /// Reads the piece from wherever the replaced file has it.
    fn is_held(&self, digest: &Digest, length: u64, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
        let Some(held) = &self.held else { return Ok(false) };
        let Some(&place) = held.places.get(digest) else { return Ok(false) };
        Ok(guessed(has(held.file, place, digest, length, buffer)))
    }
}

/// Whether the bytes at a place of a file have the digest. Past its end they have not.
fn has(file: &File, at: u64, digest: &Digest, length: u64, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
    buffer.resize(usize::try_from(length)?, 0);
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(digest_of(buffer) == *digest),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Where there is another source, what cannot be read is not there.
fn guessed(has: Result<bool, Failure>) -> bool {
    has.unwrap_or_else(|error| {
        tracing::warn!(%error, "a file could not be read that may hold what is restored; it comes from the store");
        false
    })
}
