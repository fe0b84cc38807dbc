//! A file's content as extents: the same bytes always give the same extents.
//!
//! - A file of up to [`WHOLE`] bytes is one object.
//! - A longer one is cut by FastCDC into chunks of 128 KiB to 2 MiB, so that an insertion moves no later boundary. It
//!   starts afresh every 64 MiB, so that several threads can work on one file.
//! - In a file that has holes, every aligned run of zeros of [`SHORTEST_HOLE`] or more is a hole, however the file
//!   system stores it: the same file on another file system has the same extents.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use fastcdc::v2020::FastCDC;
use rfs_model::Digest;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::error::StoreError;
use crate::tree::Extent;

/// A file up to this length is one object.
pub(crate) const WHOLE: u64 = 2 << 20;
const SMALLEST_CHUNK: usize = 128 << 10;
const MEAN_CHUNK: usize = 512 << 10;
const LARGEST_CHUNK: usize = 2 << 20;
const SECTION: u64 = 64 << 20;
/// A shorter run of zeros is content.
const SHORTEST_HOLE: u64 = 16 << 10;
const BLOCK: u64 = 4 << 10;
const WINDOW: usize = 8 << 20;

/// Says of a digest whether its content is known.
pub(crate) type Known<'a> = dyn Fn(&Digest) -> bool + 'a;

/// Where content goes.
pub(crate) trait Sink: Sync {
    /// Takes a piece of content and names it.
    fn keep(&self, content: &[u8]) -> Result<Digest, StoreError>;

    /// Gives `ask` the means to ask whether content of a digest need not be read again. Asking takes part in what a
    /// capture counts on.
    fn known(&self, ask: &mut dyn FnMut(&Known<'_>));
}

/// A sink that only names content.
#[derive(Debug)]
pub(crate) struct NameOnly;

impl Sink for NameOnly {
    fn keep(&self, content: &[u8]) -> Result<Digest, StoreError> {
        Ok(digest_of(content))
    }

    fn known(&self, ask: &mut dyn FnMut(&Known<'_>)) {
        ask(&|_| true);
    }
}

pub(crate) fn digest_of(content: &[u8]) -> Digest {
    Digest::from_bytes(*blake3::hash(content).as_bytes())
}

/// Why a file's content could not be had.
#[derive(Debug)]
pub(crate) enum ContentError {
    Read(io::Error),
    Store(StoreError),
}

impl From<StoreError> for ContentError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Reads a file of `size` bytes. `None`: it had another size when it was read.
pub(crate) fn read(
    file: &File,
    size: u64,
    sink: &dyn Sink,
    buffer: &mut Vec<u8>,
    cancel: &Cancel,
) -> Result<Option<Vec<Extent>>, ContentError> {
    if size <= WHOLE {
        buffer.resize(size as usize, 0);
        if read_at(file, buffer, 0)? as u64 != size {
            return Ok(None);
        }
        if !has_zeros(buffer) || !has_holes(file, size) {
            return Ok(Some(keep_whole(buffer, sink)?));
        }
    }
    let mut extents = Extents::default();
    let mut at = 0;
    for (start, end) in data_runs(file, size, buffer)? {
        extents.hole(start - at);
        let run = Run { file, start, end };
        if !run.read(sink, buffer, cancel, &mut extents)? {
            return Ok(None);
        }
        at = end;
    }
    extents.hole(size - at);
    Ok(Some(extents.0))
}

fn keep_whole(content: &[u8], sink: &dyn Sink) -> Result<Vec<Extent>, StoreError> {
    if content.is_empty() {
        return Ok(Vec::new());
    }
    let digest = sink.keep(content)?;
    Ok(vec![Extent::Data { digest, length: content.len() as u64 }])
}

/// Whether there is a run of zeros that could be a hole.
fn has_zeros(content: &[u8]) -> bool {
    let mut run = 0;
    content.chunks_exact(BLOCK as usize).any(|block| {
        // Few blocks begin with zeros, so that few are looked at wholly.
        let is_zero = block.starts_with(&[0; 16]) && block.iter().all(|byte| *byte == 0);
        run = if is_zero { run + BLOCK } else { 0 };
        run >= SHORTEST_HOLE
    })
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, ContentError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ContentError::Read(error)),
        }
    }
    Ok(filled)
}

fn has_holes(file: &File, size: u64) -> bool {
    rustix::fs::seek(file, SeekFrom::Hole(0)).is_ok_and(|hole| hole < size)
}

/// The stretches of a file that are not holes: everything, if the file system knows of no hole in it.
fn data_runs(file: &File, size: u64, buffer: &mut Vec<u8>) -> Result<Vec<(u64, u64)>, ContentError> {
    if !has_holes(file, size) {
        return Ok(vec![(0, size)]);
    }
    let mut runs = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(errno) => return Err(ContentError::Read(errno.into())),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))
            .map_err(|errno| ContentError::Read(errno.into()))?;
        // The file system's blocks may be smaller or larger than ours.
        let mut start = start / BLOCK * BLOCK;
        at = end.next_multiple_of(BLOCK).min(size);
        while start < at {
            buffer.resize((at - start).min(WINDOW as u64) as usize, 0);
            let count = read_at(file, buffer, start)?;
            if count == 0 {
                return Ok(runs);
            }
            for block in buffer[..count].chunks(BLOCK as usize) {
                let end = start + block.len() as u64;
                if block.iter().any(|byte| *byte != 0) {
                    add_block(&mut runs, start, end);
                }
                start = end;
            }
        }
    }
    if let Some((_, end)) = runs.last_mut().filter(|(_, end)| size - *end < SHORTEST_HOLE) {
        *end = size;
    }
    Ok(runs)
}

/// Adds a block that is not all zeros: to the run before it, unless a hole lies between.
fn add_block(runs: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match runs.last_mut() {
        Some(run) if start < run.1 + SHORTEST_HOLE => run.1 = end,
        None if start < SHORTEST_HOLE => runs.push((0, end)),
        _ => runs.push((start, end)),
    }
}

/// Extents in the making: neighbouring holes are one.
#[derive(Debug, Default)]
struct Extents(Vec<Extent>);

impl Extents {
    fn hole(&mut self, more: u64) {
        if more == 0 {
            return;
        }
        if let Some(Extent::Hole { length }) = self.0.last_mut() {
            *length += more;
        } else {
            self.0.push(Extent::Hole { length: more });
        }
    }

    fn data(&mut self, content: &[u8], sink: &dyn Sink) -> Result<(), StoreError> {
        let digest = sink.keep(content)?;
        self.0.push(Extent::Data { digest, length: content.len() as u64 });
        Ok(())
    }
}

/// A stretch of a file that is read.
struct Run<'a> {
    file: &'a File,
    start: u64,
    end: u64,
}

impl Run<'_> {
    /// Reads the run, section by section. `false`: the file is shorter now.
    fn read(
        &self,
        sink: &dyn Sink,
        buffer: &mut Vec<u8>,
        cancel: &Cancel,
        extents: &mut Extents,
    ) -> Result<bool, ContentError> {
        let mut at = self.start;
        while at < self.end {
            let end = ((at / SECTION + 1) * SECTION).min(self.end);
            if !self.read_section(at, end, sink, buffer, cancel, extents)? {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }

    fn read_section(
        &self,
        start: u64,
        end: u64,
        sink: &dyn Sink,
        buffer: &mut Vec<u8>,
        cancel: &Cancel,
        extents: &mut Extents,
    ) -> Result<bool, ContentError> {
        let mut unread = start;
        let mut kept = 0;
        loop {
            cancel.check().map_err(StoreError::from)?;
            let wanted = ((WINDOW - kept) as u64).min(end - unread) as usize;
            buffer.resize(kept + wanted, 0);
            if read_at(self.file, &mut buffer[kept..], unread)? != wanted {
                return Ok(false);
            }
            unread += wanted as u64;
            let mut from = 0;
            while from < buffer.len() {
                let rest = &buffer[from..];
                if rest.len() < LARGEST_CHUNK && unread < end {
                    break;
                }
                let length = cut(rest);
                extents.data(&rest[..length], sink)?;
                from += length;
            }
            if unread == end {
                return Ok(true);
            }
            buffer.copy_within(from.., 0);
            kept = buffer.len() - from;
        }
    }
}

/// Where the first chunk of `bytes` ends, which are the rest of the section or at least the largest chunk.
fn cut(bytes: &[u8]) -> usize {
    if bytes.len() <= SMALLEST_CHUNK {
        return bytes.len();
    }
    FastCDC::new(bytes, SMALLEST_CHUNK, MEAN_CHUNK, LARGEST_CHUNK).cut(0, bytes.len()).1
}
