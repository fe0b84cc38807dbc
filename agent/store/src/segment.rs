//! Trees as objects: segments of some dozens of entries, and a list of them.
//!
//! ```text
//! list     "rfsT" version  roots (path  entries  segments (digest  entries  length)*)*
//! segment  "rfsS" version  entries  (shared  suffix  kind  mode  uid  gid  mtime  nanos  xattrs  content…)*
//! ```
//! A path is written as the number of bytes that it shares with the path before it in the segment, and the rest. Where
//! a segment ends depends on the paths alone, so that a changed file changes one segment, and an equal tree is the same
//! objects again.

use rfs_model::Digest;

use crate::bytes::{Malformed, Reader, Writer};
use crate::pack::LARGEST_OBJECT;
use crate::tree::{Entry, EntryKind, Extent, Meta, Root, Tree};
use crate::walk::is_shadow;

const LIST_MAGIC: &[u8; 5] = b"rfsT\x01";
const SEGMENT_MAGIC: &[u8; 5] = b"rfsS\x01";
/// On average so many entries make a segment: fewer make more objects, more rewrite more for one change.
const MEAN_ENTRIES: u64 = 64;
const MOST_ENTRIES: usize = 512;
/// A segment is closed beyond this length, whatever its entries.
const LONG: usize = 1 << 20;
/// The whole paths of a segment are together no longer than this and the segment itself. Those of all entries but the
/// last are shorter than [`LONG`], for it would have been closed; the last shares less than that with the one before.
/// Without a limit, a few bytes an entry could ask for a long path each.
const LONGEST_PATHS: usize = 2 * LONG;

const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const LINKED_FILE: u8 = 3;
const SYMLINK: u8 = 4;
const FIFO: u8 = 5;
const SOCKET: u8 = 6;
const CHAR_DEVICE: u8 = 7;
const BLOCK_DEVICE: u8 = 8;

/// One segment, as the list names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentRef {
    pub(crate) digest: Digest,
    pub(crate) entries: u32,
    pub(crate) length: u32,
}

/// A root, as the list names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootList {
    pub(crate) path: Vec<u8>,
    pub(crate) segments: Vec<SegmentRef>,
}

/// Writes the list of all segments.
pub(crate) fn encode_list(roots: &[RootList]) -> Vec<u8> {
    let mut writer = Writer(LIST_MAGIC.to_vec());
    writer.number(roots.len() as u64);
    for root in roots {
        writer.bytes(&root.path);
        writer.number(root.segments.len() as u64);
        for segment in &root.segments {
            writer.digest(&segment.digest);
            writer.number(u64::from(segment.entries));
            writer.number(u64::from(segment.length));
        }
    }
    writer.0
}

/// Reads the list of all segments.
pub(crate) fn decode_list(bytes: &[u8]) -> Result<Vec<RootList>, Malformed> {
    let mut reader = Reader(bytes);
    if reader.take(5)? != LIST_MAGIC {
        return Err(Malformed("it is not a list of segments"));
    }
    let mut roots: Vec<RootList> = Vec::new();
    for _ in 0..reader.count()? {
        let path = reader.bytes()?.to_vec();
        if roots.last().is_some_and(|last| last.path >= path) {
            return Err(Malformed("its roots are not in order"));
        }
        let mut segments = Vec::new();
        for _ in 0..reader.count()? {
            segments.push(SegmentRef {
                digest: reader.digest()?,
                entries: reader.small()?,
                length: reader.small()?,
            });
        }
        roots.push(RootList { path, segments });
    }
    reader.end()?;
    Ok(roots)
}

/// Where the segments of these entries end, by the rule that depends on paths alone.
pub(crate) fn split(entries: &[Entry]) -> Vec<&[Entry]> {
    let mut segments = Vec::with_capacity(entries.len() / MEAN_ENTRIES as usize + 1);
    let mut start = 0;
    let mut length = 0;
    for (i, entry) in entries.iter().enumerate() {
        length += weight(entry);
        let count = i + 1 - start;
        if path_hash(&entry.path).is_multiple_of(MEAN_ENTRIES) || count >= MOST_ENTRIES || length >= LONG {
            segments.push(&entries[start..=i]);
            (start, length) = (i + 1, 0);
        }
    }
    if start < entries.len() {
        segments.push(&entries[start..]);
    }
    segments
}

/// Roughly how many bytes the entry takes.
fn weight(entry: &Entry) -> usize {
    let xattrs: usize = entry.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let content = match &entry.kind {
        EntryKind::File { content, .. } => content.len() * 40,
        EntryKind::Symlink(target) => target.len(),
        EntryKind::Directory
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharDevice { .. }
        | EntryKind::BlockDevice { .. } => 0,
    };
    entry.path.len() + xattrs + content + 16
}

/// FNV-1a, its bits mixed: quick and good enough to choose boundaries.
fn path_hash(path: &[u8]) -> u64 {
    let hash = path
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    hash ^ hash >> 32
}

/// Writes one segment.
pub(crate) fn encode(entries: &[Entry], bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(SEGMENT_MAGIC);
    let mut writer = Writer(std::mem::take(bytes));
    writer.number(entries.len() as u64);
    let mut before: &[u8] = &[];
    for entry in entries {
        let shared = before.iter().zip(&entry.path).take_while(|(a, b)| a == b).count();
        writer.number(shared as u64);
        writer.bytes(&entry.path[shared..]);
        encode_entry(entry, &mut writer);
        before = &entry.path;
    }
    *bytes = writer.0;
}

fn encode_entry(entry: &Entry, writer: &mut Writer) {
    let meta = &entry.meta;
    writer.byte(match &entry.kind {
        EntryKind::Directory => DIRECTORY,
        EntryKind::File { link: None, .. } => FILE,
        EntryKind::File { link: Some(_), .. } => LINKED_FILE,
        EntryKind::Symlink(_) => SYMLINK,
        EntryKind::Fifo => FIFO,
        EntryKind::Socket => SOCKET,
        EntryKind::CharDevice { .. } => CHAR_DEVICE,
        EntryKind::BlockDevice { .. } => BLOCK_DEVICE,
    });
    writer.number(u64::from(meta.mode));
    writer.number(u64::from(meta.uid));
    writer.number(u64::from(meta.gid));
    writer.signed(meta.mtime_seconds);
    writer.number(u64::from(meta.mtime_nanos));
    writer.number(meta.xattrs.len() as u64);
    for (name, value) in &meta.xattrs {
        writer.bytes(name);
        writer.bytes(value);
    }
    match &entry.kind {
        EntryKind::File { size, content, link } => {
            if let Some(link) = link {
                writer.number(u64::from(*link));
            }
            writer.number(*size);
            encode_content(content, writer);
        }
        EntryKind::Symlink(target) => writer.bytes(target),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            writer.number(u64::from(*major));
            writer.number(u64::from(*minor));
        }
        EntryKind::Directory | EntryKind::Fifo | EntryKind::Socket => {}
    }
}

/// Writes extents: the length of each, doubled, and one more for a hole.
pub(crate) fn encode_content(content: &[Extent], writer: &mut Writer) {
    writer.number(content.len() as u64);
    for extent in content {
        match extent {
            Extent::Data { digest, length } => {
                writer.number(length << 1);
                writer.digest(digest);
            }
            Extent::Hole { length } => writer.number(length << 1 | 1),
        }
    }
}

/// Reads extents and the sum of their lengths.
pub(crate) fn decode_content(reader: &mut Reader<'_>) -> Result<(Vec<Extent>, u64), Malformed> {
    let count = reader.count()?;
    let mut content = Vec::with_capacity(count);
    let mut sum = 0u64;
    for _ in 0..count {
        let number = reader.number()?;
        let length = number >> 1;
        if length == 0 {
            return Err(Malformed("a stretch of a file is empty"));
        }
        // No file system has a longer one.
        sum = sum
            .checked_add(length)
            .filter(|sum| *sum <= i64::MAX as u64)
            .ok_or(Malformed("a file is too long"))?;
        content.push(match number & 1 {
            0 if length > LARGEST_OBJECT as u64 => {
                return Err(Malformed("a stretch is longer than an object can be"));
            }
            0 => Extent::Data { digest: reader.digest()?, length },
            _ => Extent::Hole { length },
        });
    }
    Ok((content, sum))
}

/// Reads one segment and appends its entries.
pub(crate) fn decode(bytes: &[u8], entries: &mut Vec<Entry>) -> Result<(), Malformed> {
    let mut reader = Reader(bytes);
    if reader.take(5)? != SEGMENT_MAGIC {
        return Err(Malformed("it is not a segment"));
    }
    let count = reader.count()?;
    // An entry takes at least eight bytes, so a damaged count cannot ask for much.
    entries.reserve(count.min(bytes.len() / 8));
    let first = entries.len();
    let mut room = LONGEST_PATHS + bytes.len();
    for _ in 0..count {
        let shared = reader.number()? as usize;
        let suffix = reader.bytes()?;
        let before: &[u8] = if entries.len() > first { &entries[entries.len() - 1].path } else { &[] };
        let head = before.get(..shared).ok_or(Malformed("a path shares more than there is"))?;
        if before.get(shared).is_some_and(|next| suffix.first() == Some(next)) {
            return Err(Malformed("a path is not in its shortest form"));
        }
        room = room
            .checked_sub(head.len() + suffix.len())
            .ok_or(Malformed("its paths are longer than a segment's"))?;
        let path = [head, suffix].concat();
        if entries.last().is_some_and(|last| last.path >= path) {
            return Err(Malformed("paths are not in order"));
        }
        check_path(&path)?;
        let entry = decode_entry(path, &mut reader)?;
        entries.push(entry);
    }
    reader.end()
}

/// A path that could lead out of its root is refused wherever it came from.
fn check_path(path: &[u8]) -> Result<(), Malformed> {
    let bad = |part: &[u8]| {
        part.is_empty() || part == b"." || part == b".." || part.len() > 255 || part.contains(&0)
    };
    if !path.is_empty() && path.split(|b| *b == b'/').any(bad) {
        return Err(Malformed("a path is not beneath its root"));
    }
    Ok(())
}

fn decode_entry(path: Vec<u8>, reader: &mut Reader<'_>) -> Result<Entry, Malformed> {
    let kind = reader.byte()?;
    let (mode, uid, gid) = (reader.small()?, reader.small()?, reader.small()?);
    let (mtime_seconds, mtime_nanos) = (reader.signed()?, reader.small()?);
    if mode > 0o7777 || mtime_nanos >= 1_000_000_000 {
        return Err(Malformed("a mode or a time is not one"));
    }
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..reader.count()? {
        let (name, value) = (reader.bytes()?.to_vec(), reader.bytes()?.to_vec());
        if xattrs.last().is_some_and(|(last, _)| *last >= name) {
            return Err(Malformed("attributes are not in order"));
        }
        // Earlier captures on XFS have some, which could not be restored anywhere else.
        if !is_shadow(&name) {
            xattrs.push((name, value));
        }
    }
    let kind = match kind {
        DIRECTORY => EntryKind::Directory,
        FILE | LINKED_FILE => {
            let link = if kind == LINKED_FILE { Some(reader.small()?) } else { None };
            let size = reader.number()?;
            let (content, sum) = decode_content(reader)?;
            if sum != size {
                return Err(Malformed("a file's content has another length than the file"));
            }
            EntryKind::File { size, content, link }
        }
        SYMLINK => EntryKind::Symlink(reader.bytes()?.to_vec()),
        FIFO => EntryKind::Fifo,
        SOCKET => EntryKind::Socket,
        CHAR_DEVICE => EntryKind::CharDevice { major: reader.small()?, minor: reader.small()? },
        BLOCK_DEVICE => EntryKind::BlockDevice { major: reader.small()?, minor: reader.small()? },
        _ => return Err(Malformed("a kind of entry is not known")),
    };
    let meta = Meta { mode, uid, gid, mtime_seconds, mtime_nanos, xattrs };
    Ok(Entry { path, meta, kind })
}

/// Every object that these entries need.
pub(crate) fn objects_of(entries: &[Entry]) -> impl Iterator<Item = Digest> {
    entries
        .iter()
        .flat_map(|entry| match &entry.kind {
            EntryKind::File { content, .. } => content.as_slice(),
            EntryKind::Directory
            | EntryKind::Symlink(_)
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharDevice { .. }
            | EntryKind::BlockDevice { .. } => &[],
        })
        .filter_map(|extent| match extent {
            Extent::Data { digest, .. } => Some(*digest),
            Extent::Hole { .. } => None,
        })
}

/// The tree's totals: entries and bytes of content, each inode counted once.
pub(crate) fn totals(tree: &Tree) -> (u64, u64) {
    let mut seen = std::collections::HashSet::new();
    let mut sum = |entry: &Entry| match &entry.kind {
        EntryKind::File { size, link, .. } if link.is_none_or(|link| seen.insert(link)) => *size,
        _ => 0,
    };
    let entries = tree.roots.iter().map(|root: &Root| root.entries.len() as u64).sum();
    let sizes = tree.roots.iter().flat_map(|root| &root.entries).map(&mut sum);
    (entries, sizes.fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of the file `a` with these extents.
    fn with_content(size: u64, content: Vec<Extent>) -> Vec<u8> {
        let meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime_seconds: 0, mtime_nanos: 0, xattrs: Vec::new() };
        let kind = EntryKind::File { size, content, link: None };
        let mut bytes = Vec::new();
        encode(&[Entry { path: b"a".to_vec(), meta, kind }], &mut bytes);
        bytes
    }

    #[test]
    fn lengths_that_no_file_and_no_object_has_are_refused() {
        let check = |content: &[Extent], expected: Result<(), Malformed>| {
            let bytes = with_content(content.iter().map(Extent::length).sum(), content.to_vec());
            assert_eq!(decode(&bytes, &mut Vec::new()), expected, "{content:?}");
        };
        let digest = Digest::from_bytes([1; 32]);
        let object = LARGEST_OBJECT as u64;
        check(&[Extent::Data { digest, length: object }], Ok(()));
        let too_long = Malformed("a stretch is longer than an object can be");
        check(&[Extent::Data { digest, length: object + 1 }], Err(too_long));
        let longest = Extent::Hole { length: i64::MAX as u64 };
        check(&[longest], Ok(()));
        check(&[longest, Extent::Hole { length: 1 }], Err(Malformed("a file is too long")));
    }

    #[test]
    fn a_few_bytes_an_entry_cannot_ask_for_a_long_path_each() {
        let long = [&[b'x'; 255][..]; 600].join(&b'/');
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime_seconds: 0, mtime_nanos: 0, xattrs: Vec::new() };
        let entry = |number: usize| {
            let path = [&long[..], format!("/{number:03}").as_bytes()].concat();
            Entry { path, meta: meta.clone(), kind: EntryKind::Fifo }
        };
        let entries: Vec<Entry> = (0..100).map(entry).collect();
        let parts = split(&entries);
        let mut bytes = Vec::new();
        for part in &parts {
            encode(part, &mut bytes);
            decode(&bytes, &mut Vec::new()).expect("what is written can be read");
        }
        encode(&entries, &mut bytes);
        let error = decode(&bytes, &mut Vec::new()).expect_err("15 MB of paths in 200 KB");
        assert_eq!(error, Malformed("its paths are longer than a segment's"));
    }

    #[test]
    fn what_xfs_shows_twice_is_read_once() {
        let kept = (b"user.note".to_vec(), b"kept".to_vec());
        let twice = (b"trusted.SGI_ACL_FILE".to_vec(), b"\0\0\0\x05".to_vec());
        let meta = Meta {
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime_seconds: 1,
            mtime_nanos: 2,
            xattrs: vec![twice, kept.clone()],
        };
        let entry = Entry { path: b"file".to_vec(), meta, kind: EntryKind::Fifo };
        let mut bytes = Vec::new();
        encode(std::slice::from_ref(&entry), &mut bytes);
        let mut read = Vec::new();
        decode(&bytes, &mut read).expect("a segment");
        assert_eq!(read, [Entry { meta: Meta { xattrs: vec![kept], ..entry.meta.clone() }, ..entry }]);
    }
}
