//! Fills a new file with content: from a clone that the store has of it, or from the file that it replaces as far as that
//! has it still, else from the store.
//!
//! ```text
//! file to clone ─▶ clone (XFS, btrfs) ─▶ each piece: has the cloned file it? ─ no ─▶ at another place of it?
//!                                                       │ yes                     │ yes            │ no
//!                                                       ▼                         ▼                ▼
//!                                                    nothing                    write    ◀──  read the store
//! ```
//! Invariant: every byte is digested here, wherever it comes from, so that it makes no difference where that is. What a file
//! is said to hold is a guess that speeds this up.
//!
//! A clone holds what the cloned file held, which the kernel may have in memory, and never has the clone. So that file is
//! read instead, and the clone only where it may have been written to meanwhile.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rayon::prelude::*;
use rfs_model::Digest;
use rustix::fs::{FallocateFlags, fallocate, ioctl_ficlone};
use rustix::io::Errno;

use super::contents::Contents;
use crate::cache::{Grain, Trust};
use crate::content::{WHOLE, digest_of};
use crate::tree::Extent;
use crate::walk::Live;

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

/// Fills `file`, which is new, empty and open for reading and writing. True when every byte of it was digested where it
/// is, so that it need not be read again.
pub(super) fn fill(
    file: &File,
    content: &[Extent],
    replaced: Option<&Replaced<'_>>,
    contents: &dyn Contents,
) -> Result<bool, Failure> {
    let whole = contents.whole(content).map(|file| Replaced { file, content });
    let held = whole
        .as_ref()
        .map(|whole| Held::new(whole, file, content, true))
        .filter(|held| held.is_cloned)
        .or_else(|| replaced.map(|replaced| Held::new(replaced, file, content, false)))
        .filter(|held| !held.places.is_empty());
    let filling = Filling { file, contents, held };
    let is_cloned = filling.is_cloned();
    filling.for_each(content, |piece, buffer| filling.put(piece, buffer))?;
    if is_cloned && !filling.held.as_ref().is_some_and(Held::is_still) {
        filling.for_each(content, |piece, buffer| filling.mend(piece, buffer))?;
    }
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

/// What another file holds of the new one.
struct Held<'a> {
    file: &'a File,
    /// How it was before it was cloned.
    before: Option<Live>,
    /// Nobody writes to it.
    is_ours: bool,
    /// Where it holds what the new file needs, for each piece one place of perhaps several.
    places: HashMap<Digest, u64>,
    /// The places at which both hold the same.
    same: HashSet<(Digest, u64)>,
    /// The new file is a clone of it.
    is_cloned: bool,
}

impl<'a> Held<'a> {
    fn new(replaced: &'a Replaced<'_>, file: &File, content: &[Extent], is_ours: bool) -> Self {
        let needed: HashSet<Digest> = places(content).map(|(digest, _)| digest).collect();
        let held = || places(replaced.content).filter(|(digest, _)| needed.contains(digest));
        let (places, same): (HashMap<_, _>, HashSet<_>) = (held().collect(), held().collect());
        let before = Live::of(replaced.file.as_fd()).ok();
        let is_cloned = !same.is_empty() && ioctl_ficlone(file, &replaced.file).is_ok();
        Self { file: &replaced.file, before, is_ours, places, same, is_cloned }
    }

    /// Whether it holds what it held when it was cloned. A write that began a moment before may go on unseen.
    fn is_still(&self) -> bool {
        let is_settled = |before: &Live| {
            !Trust::now(Grain::Steps).is_fresh(before)
                && Live::of(self.file.as_fd()).is_ok_and(|now| now.same_state(before))
        };
        self.is_ours || self.before.as_ref().is_some_and(is_settled)
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
    fn is_cloned(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.is_cloned)
    }

    /// Does something with each piece, with a buffer that is used again.
    fn for_each<'e>(
        &self,
        content: &'e [Extent],
        each: impl Fn((u64, &'e Extent), &mut Vec<u8>) -> Result<(), Failure> + Sync,
    ) -> Result<(), Failure> {
        match content {
            [_] => Extent::placed(content).try_for_each(|piece| each(piece, &mut Vec::new())),
            _ => Extent::placed(content)
                .collect::<Vec<_>>()
                .into_par_iter()
                .try_for_each_init(Vec::new, |buffer, piece| each(piece, buffer)),
        }
    }

    fn put(&self, (at, extent): (u64, &Extent), buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let Extent::Data { digest, length } = extent else { return Ok(()) };
        if self.is_there(at, digest, *length, buffer)? {
            return Ok(());
        }
        if !self.is_held(digest, *length, buffer)? {
            self.contents.read(digest, *length, buffer)?;
        }
        self.write(at, digest, buffer)
    }

    /// Looks at the clone itself, and writes what it lacks.
    fn mend(&self, (at, extent): (u64, &Extent), buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let Extent::Data { digest, length } = extent else { return Ok(()) };
        if has(self.file, at, digest, *length, buffer)? {
            return Ok(());
        }
        self.contents.read(digest, *length, buffer)?;
        self.write(at, digest, buffer)
    }

    /// Writes a piece. In a clone it is read back, for nobody reads that again.
    fn write(&self, at: u64, digest: &Digest, piece: &mut Vec<u8>) -> Result<(), Failure> {
        self.file.write_all_at(piece, at)?;
        if !self.is_cloned() || has(self.file, at, digest, piece.len() as u64, piece)? {
            return Ok(());
        }
        Err(io::Error::other(format!("what was written at {at} reads differently")).into())
    }

    /// Whether a clone has the piece where it belongs, as far as the cloned file tells.
    fn is_there(&self, at: u64, digest: &Digest, length: u64, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
        let Some(held) = self.held.as_ref().filter(|held| held.is_cloned) else { return Ok(false) };
        Ok(held.same.contains(&(*digest, at)) && has(held.file, at, digest, length, buffer)?)
    }

    /// Reads the piece from wherever the other file has it.
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
