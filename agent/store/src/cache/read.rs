//! Reading the cache while folders are walked.

use std::path::Path;

use super::{MAGIC, SUM, YOUNG, state};
use crate::bytes::{Malformed, Reader};
use crate::segment;
use crate::tree::EntryKind;
use crate::walk::{Found, Live, Xattrs};

/// The cache of one root, in memory as it is on disk.
#[derive(Debug)]
pub(crate) struct Cache {
    bytes: Vec<u8>,
    top: usize,
    groups: Vec<usize>,
}

/// A folder's children, in the order of their names.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    bytes: &'a [u8],
    at: usize,
    left: usize,
}

/// A child as it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cached<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) live: Live,
    /// It was too young to trust.
    pub(crate) young: bool,
    /// The number of its group, if it is a folder; else where its attributes and content are.
    pub(crate) at: usize,
}

impl Cache {
    /// Loads the cache of a root, if it is there, whole, and of this file system.
    pub(crate) fn load(path: &Path, root: &Path, file_system: u64) -> Option<Self> {
        Self::of(std::fs::read(path).ok()?, root, file_system)
    }

    /// The cache of these bytes.
    pub(crate) fn of(bytes: Vec<u8>, root: &Path, file_system: u64) -> Option<Self> {
        let length = bytes.len().checked_sub(SUM)?;
        if blake3::hash(&bytes[..length]).as_bytes() != &bytes[length..] {
            return None;
        }
        parse(bytes, length, root, file_system).ok().flatten()
    }

    /// The attributes of a folder, and its children.
    pub(crate) fn group(&self, number: usize) -> Option<(Xattrs, Group<'_>)> {
        let at = *self.groups.get(number)?;
        let mut reader = Reader(self.bytes.get(at..)?);
        let xattrs = read_xattrs(&mut reader).ok()?;
        let left = reader.count().ok()?;
        let at = self.bytes.len() - reader.0.len();
        Some((xattrs, Group { bytes: &self.bytes, at, left }))
    }

    /// The root itself.
    pub(crate) fn top(&self) -> Option<Cached<'_>> {
        Group { bytes: &self.bytes, at: self.top, left: 1 }.next()
    }

    /// What a child was that is no folder.
    pub(crate) fn resolve(&self, found: Found, size: u64, at: usize) -> Option<(Xattrs, EntryKind)> {
        self.try_resolve(found, size, at).ok()
    }

    fn try_resolve(&self, found: Found, size: u64, at: usize) -> Result<(Xattrs, EntryKind), Malformed> {
        let mut reader = Reader(self.bytes.get(at..).unwrap_or_default());
        let xattrs = read_xattrs(&mut reader)?;
        let kind = match found {
            Found::Directory => EntryKind::Directory,
            Found::File => {
                let (content, sum) = segment::decode_content(&mut reader)?;
                if sum != size {
                    return Err(Malformed("a file has another length"));
                }
                EntryKind::File { size, content, link: None }
            }
            Found::Symlink => EntryKind::Symlink(reader.bytes()?.to_vec()),
            Found::Fifo => EntryKind::Fifo,
            Found::Socket => EntryKind::Socket,
            Found::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
            Found::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
        };
        Ok((xattrs, kind))
    }
}

fn parse(
    mut bytes: Vec<u8>,
    length: usize,
    root: &Path,
    file_system: u64,
) -> Result<Option<Cache>, Malformed> {
    bytes.truncate(length);
    let mut reader = Reader(&bytes);
    let ours = reader.take(5)? == MAGIC
        && reader.bytes()? == root.as_os_str().as_encoded_bytes()
        && reader.array()? == file_system.to_le_bytes();
    if !ours {
        return Ok(None);
    }
    let top = u64::from_le_bytes(reader.array()?) as usize;
    let count = u64::from_le_bytes(reader.array()?) as usize;
    let offsets = reader.take(count.checked_mul(8).ok_or(Malformed("too many groups"))?)?;
    let offset = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let groups = offsets.chunks_exact(8).map(offset).collect();
    Ok(Some(Cache { top, groups, bytes }))
}

fn read_xattrs(reader: &mut Reader<'_>) -> Result<Xattrs, Malformed> {
    let count = reader.count()?;
    let mut xattrs = Vec::new();
    for _ in 0..count {
        xattrs.push((reader.bytes()?.to_vec(), reader.bytes()?.to_vec()));
    }
    Ok(xattrs)
}

impl<'a> Group<'a> {
    fn read(&mut self) -> Result<Cached<'a>, Malformed> {
        let mut reader = Reader(self.bytes.get(self.at..).unwrap_or_default());
        let name = reader.bytes()?;
        let young = reader.byte()? & YOUNG != 0;
        let live = state::decode(&mut reader)?;
        let number = u32::from_le_bytes(reader.array()?) as usize;
        let here = self.bytes.len() - reader.0.len();
        if live.found == Found::Directory {
            self.at = here;
            return Ok(Cached { name, live, young, at: number });
        }
        reader.take(number)?;
        self.at = here + number;
        Ok(Cached { name, live, young, at: here })
    }
}

impl<'a> Iterator for Group<'a> {
    type Item = Cached<'a>;

    fn next(&mut self) -> Option<Cached<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.read().ok()
    }
}
