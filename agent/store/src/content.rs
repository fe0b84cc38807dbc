//! A file's content as extents: the same bytes always give the same extents.
//!
//! - A file of up to [`WHOLE`] bytes is one object.
//! - A longer one is cut by FastCDC into chunks of 128 KiB to 2 MiB, so that an insertion moves no later boundary. It
//!   starts afresh every 64 MiB, so that several threads can work on one file.
//! - In a file that has holes, every aligned run of zeros of [`SHORTEST_HOLE`] or more is a hole, however the file
//!   system stores it: the same file on another file system has the same extents.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use fastcdc::v2020::FastCDC;
use rayon::prelude::*;
use rfs_model::Digest;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::clones::FileClone;
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
    fn keep(&self, content: &[u8]) -> Result<Digest, StoreError> {
        let digest = digest_of(content);
        self.keep_named(digest, content)?;
        Ok(digest)
    }

    /// Takes a piece of content whose digest is known.
    fn keep_named(&self, digest: Digest, content: &[u8]) -> Result<(), StoreError>;

    /// Whether content is kept, and so must never be torn.
    fn keeps(&self) -> bool {
        true
    }

    /// Gives `ask` the means to ask whether content of a digest need not be read again. Asking takes part in what a
    /// capture counts on.
    fn known(&self, ask: &mut dyn FnMut(&Known<'_>));

    /// Learns how many bytes are about to be read, and refuses them if there can be no room for them. To count them has its
    /// price, so that it is only done where it matters.
    fn expect(&self, _bytes: &dyn Fn() -> u64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Clones a file of `size` bytes, so that what is read is what it held at one instant.
    fn clone_of(&self, _file: &File, _size: u64) -> Option<FileClone<'_>> {
        None
    }
}

/// A sink that only names content.
#[derive(Debug)]
pub(crate) struct NameOnly;

impl Sink for NameOnly {
    fn keep_named(&self, _digest: Digest, _content: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }

    fn keeps(&self) -> bool {
        false
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
///
/// `held` is what the file held before. It makes no difference to what is returned, but where the file holds it still,
/// boundaries need not be looked for.
pub(crate) fn read(
    file: &File,
    size: u64,
    held: &[Extent],
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
    let runs = data_runs(file, size, buffer)?;
    let held = Held::new(held);
    let sections: Vec<Section<'_>> = runs
        .iter()
        .flat_map(|run| sections(*run))
        .map(|(start, end)| Section { file, start, end, held: &held })
        .collect();
    let read: Option<Vec<Vec<Extent>>> = match &sections[..] {
        [] => Some(Vec::new()),
        [section] => section.read(sink, buffer, cancel)?.map(|extents| vec![extents]),
        sections => sections
            .par_iter()
            .map_init(Vec::new, |buffer, section| section.read(sink, buffer, cancel))
            .collect::<Result<_, _>>()?,
    };
    let Some(read) = read else { return Ok(None) };
    let mut extents = Extents::default();
    let mut at = 0;
    for (section, read) in sections.iter().zip(read) {
        extents.hole(section.start - at);
        extents.0.extend(read);
        at = section.end;
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

/// Adds the bytes from one place up to another to `hasher`. False: the file is shorter now.
pub(crate) fn hash(
    file: &File,
    (from, to): (u64, u64),
    hasher: &mut blake3::Hasher,
    buffer: &mut Vec<u8>,
    cancel: &Cancel,
) -> Result<bool, ContentError> {
    let mut at = from;
    while at < to {
        cancel.check().map_err(StoreError::from)?;
        buffer.resize((to - at).min(WINDOW as u64) as usize, 0);
        if read_at(file, buffer, at)? != buffer.len() {
            return Ok(false);
        }
        hasher.update(buffer);
        at += buffer.len() as u64;
    }
    Ok(true)
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
}

/// Cuts a run into what is read at once: sections start at multiples of [`SECTION`], but for the first.
fn sections((start, end): (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    let after = move |at: u64| ((at / SECTION + 1) * SECTION).min(end);
    std::iter::successors((start < end).then(|| (start, after(start))), move |(_, at)| {
        (*at < end).then(|| (*at, after(*at)))
    })
}

/// What a file held, by where it began.
#[derive(Debug, Default)]
struct Held(HashMap<u64, HeldChunk>);

#[derive(Debug, Clone, Copy)]
struct HeldChunk {
    digest: Digest,
    length: usize,
    /// It ended where the content said so, and not because there was no more.
    cut_by_content: bool,
}

impl Held {
    fn new(extents: &[Extent]) -> Self {
        let chunk = |(i, (at, extent)): (usize, (u64, &Extent))| {
            let Extent::Data { digest, length } = extent else { return None };
            let cut_by_content = matches!(extents.get(i + 1), Some(Extent::Data { .. }))
                && !(at + length).is_multiple_of(SECTION);
            Some((at, HeldChunk { digest: *digest, length: *length as usize, cut_by_content }))
        };
        Self(Extent::placed(extents).enumerate().filter_map(chunk).collect())
    }
}

/// A stretch of a file that is cut into chunks by itself.
struct Section<'a> {
    file: &'a File,
    start: u64,
    end: u64,
    held: &'a Held,
}

impl Section<'_> {
    /// `None`: the file is shorter now.
    fn read(
        &self,
        sink: &dyn Sink,
        buffer: &mut Vec<u8>,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Extent>>, ContentError> {
        let mut extents = Vec::new();
        let mut unread = self.start;
        let mut kept = 0;
        loop {
            cancel.check().map_err(StoreError::from)?;
            let wanted = ((WINDOW - kept) as u64).min(self.end - unread) as usize;
            buffer.resize(kept + wanted, 0);
            if read_at(self.file, &mut buffer[kept..], unread)? != wanted {
                return Ok(None);
            }
            unread += wanted as u64;
            let mut from = 0;
            while from < buffer.len() {
                let rest = &buffer[from..];
                if rest.len() < LARGEST_CHUNK && unread < self.end {
                    break;
                }
                let chunk = self.keep(unread - rest.len() as u64, rest, sink)?;
                from += chunk.length() as usize;
                extents.push(chunk);
            }
            if unread == self.end {
                return Ok(Some(extents));
            }
            buffer.copy_within(from.., 0);
            kept = buffer.len() - from;
        }
    }

    /// Keeps the chunk that begins at `at`, where `rest` is what follows.
    fn keep(&self, at: u64, rest: &[u8], sink: &dyn Sink) -> Result<Extent, StoreError> {
        let is_whole = |held: &&HeldChunk| held.cut_by_content || at + held.length as u64 == self.end;
        let held = self.held.0.get(&at).filter(is_whole);
        if let Some((held, content)) = held.and_then(|held| Some((held, rest.get(..held.length)?)))
            && digest_of(content) == held.digest
        {
            sink.keep_named(held.digest, content)?;
            return Ok(Extent::Data { digest: held.digest, length: held.length as u64 });
        }
        let content = &rest[..cut(rest)];
        Ok(Extent::Data { digest: sink.keep(content)?, length: content.len() as u64 })
    }
}

/// Where the first chunk of `bytes` ends, which are the rest of the section or at least the largest chunk.
fn cut(bytes: &[u8]) -> usize {
    if bytes.len() <= SMALLEST_CHUNK {
        return bytes.len();
    }
    FastCDC::new(bytes, SMALLEST_CHUNK, MEAN_CHUNK, LARGEST_CHUNK).cut(0, bytes.len()).1
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Bytes that look random and are the same for the same seed.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn extents(content: &[u8], held: &[Extent]) -> Vec<Extent> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("content");
        read(&file, content.len() as u64, held, &NameOnly, &mut Vec::new(), &Cancel::new())
            .expect("read")
            .expect("its length holds")
    }

    #[test]
    fn what_a_file_held_before_changes_nothing_of_what_it_holds_now() {
        let first = noise(1, (SECTION + (9 << 20)) as usize);
        let held = extents(&first, &[]);
        assert!(held.len() > 100, "{} chunks", held.len());
        let at = 5 << 20;
        let cases: [(&str, Vec<u8>); 7] = [
            ("the same", first.clone()),
            ("a byte is another", [&first[..at], &[first[at] ^ 1], &first[at + 1..]].concat()),
            ("a byte more", [&first[..at], b"+", &first[at..]].concat()),
            ("a byte less", [&first[..at], &first[at + 1..]].concat()),
            ("longer", [&first[..], &noise(2, 3 << 20)].concat()),
            ("shorter, in mid chunk", first[..first.len() - 70_001].to_vec()),
            ("within the first section", first[..40 << 20].to_vec()),
        ];
        for (what, content) in cases {
            assert!(extents(&content, &held) == extents(&content, &[]), "{what}");
        }
        // And back: what was the end of the shorter file is none in the longer one.
        let short = first[..(SECTION + 70_001) as usize].to_vec();
        assert!(extents(&first, &extents(&short, &[])) == held, "it grew");
    }

    #[test]
    fn sections_meet_and_end_at_their_multiples() {
        let check = |run, expected: &[(u64, u64)]| assert_eq!(sections(run).collect::<Vec<_>>(), expected);
        check((0, 0), &[]);
        check((0, 5), &[(0, 5)]);
        check((5, SECTION), &[(5, SECTION)]);
        check((SECTION, SECTION + 1), &[(SECTION, SECTION + 1)]);
        check((7, 2 * SECTION + 7), &[(7, SECTION), (SECTION, 2 * SECTION), (2 * SECTION, 2 * SECTION + 7)]);
    }
}
