//! Packs: files of tens of MiB into which objects are appended, each found by the digest of its content.
//!
//! ```text
//! header   "RFSPACK\0"  version u32  pack id u64  crc32 u32
//! record*  "rfsO"  encoding u8  0 0 0  raw length u32  stored length u32  digest [32]  crc32 u32  payload
//! footer   (digest [32]  offset u32  stored length u32  raw length u32)*
//! trailer  count u32  BLAKE3 of pack id, footer and count [32]  "RFSFOOT\0"
//! ```
//! Numbers are little-endian. A record's checksum covers its header and its payload as stored, so that a flipped bit
//! is found even where it would unpack to the same content. The footer repeats what the records say, so that an index
//! is read at once; where it is damaged, the records alone are enough.
//!
//! A pack is written as `ID.part` and named `ID.pack` when it is durable: a `.part` is what a crash left behind.

mod read;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

use rfs_model::Digest;

use crate::bytes::{Malformed, Reader};

pub(crate) use read::{PackFiles, read_footer, scan_records, unpack};
pub(crate) use write::{Finished, PackWriter};

pub(crate) const HEADER_LENGTH: u64 = 24;
pub(crate) const RECORD_LENGTH: usize = 52;
pub(crate) const ENTRY_LENGTH: usize = 44;
pub(crate) const TRAILER_LENGTH: usize = 44;
/// No object is larger, so that a damaged length cannot ask for more memory.
pub(crate) const LARGEST_OBJECT: usize = 32 << 20;
const HEADER_MAGIC: &[u8; 8] = b"RFSPACK\0";
const RECORD_MAGIC: &[u8; 4] = b"rfsO";
const FOOTER_MAGIC: &[u8; 8] = b"RFSFOOT\0";
const VERSION: u32 = 1;

/// The number of a pack; later packs have higher ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PackId(pub(crate) u64);

impl PackId {
    pub(crate) fn path(self, packs: &Path) -> PathBuf {
        packs.join(format!("{self}.pack"))
    }

    pub(crate) fn part(self, packs: &Path) -> PathBuf {
        packs.join(format!("{self}.part"))
    }

    /// Reads the name of a pack or of a part.
    pub(crate) fn parse(name: &str) -> Option<(Self, bool)> {
        let (digits, extension) = name.split_once('.')?;
        let whole = match extension {
            "pack" => true,
            "part" => false,
            _ => return None,
        };
        let id = Self(u64::from_str_radix(digits, 16).ok()?);
        // No pack could come after the last number, so it is none of ours.
        (id.0 < u64::MAX && id.to_string() == digits).then_some((id, whole))
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: PackId,
    /// Where its record begins.
    pub(crate) offset: u32,
    /// The length of its payload.
    pub(crate) stored: u32,
    /// The length of its content.
    pub(crate) raw: u32,
}

impl Location {
    /// The room that it takes in its pack.
    pub(crate) fn record_length(&self) -> u64 {
        RECORD_LENGTH as u64 + u64::from(self.stored)
    }

    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + self.record_length()
    }

    /// Whether any record could have these lengths, so that a wrong one cannot ask for memory.
    pub(crate) fn is_possible(&self) -> bool {
        self.stored <= self.raw && self.raw as usize <= LARGEST_OBJECT
    }
}

/// How a payload becomes content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Raw,
    Zstd,
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) encoding: Encoding,
    pub(crate) raw: u32,
    pub(crate) stored: u32,
    pub(crate) digest: Digest,
}

impl RecordHeader {
    pub(crate) fn encode(&self, payload: &[u8]) -> [u8; RECORD_LENGTH] {
        let mut bytes = [0; RECORD_LENGTH];
        bytes[..4].copy_from_slice(RECORD_MAGIC);
        bytes[4] = match self.encoding {
            Encoding::Raw => 0,
            Encoding::Zstd => 1,
        };
        bytes[8..12].copy_from_slice(&self.raw.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.stored.to_le_bytes());
        bytes[16..48].copy_from_slice(self.digest.as_bytes());
        let sum = checksum(&bytes[..48], payload);
        bytes[48..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the header and the checksum that its record must have.
    pub(crate) fn decode(bytes: &[u8; RECORD_LENGTH]) -> Result<(Self, u32), Malformed> {
        let mut reader = Reader(bytes);
        if &reader.array::<4>()? != RECORD_MAGIC {
            return Err(Malformed("no record begins here"));
        }
        let encoding = match reader.array::<4>()? {
            [0, 0, 0, 0] => Encoding::Raw,
            [1, 0, 0, 0] => Encoding::Zstd,
            _ => return Err(Malformed("its encoding is not known")),
        };
        let raw = u32::from_le_bytes(reader.array()?);
        let stored = u32::from_le_bytes(reader.array()?);
        let digest = reader.digest()?;
        let sum = u32::from_le_bytes(reader.array()?);
        if raw as usize > LARGEST_OBJECT || stored > raw || (encoding == Encoding::Raw && raw != stored) {
            return Err(Malformed("its lengths cannot be"));
        }
        Ok((Self { encoding, raw, stored, digest }, sum))
    }
}

/// The checksum of a record whose header, without the checksum, and payload are these.
pub(crate) fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

pub(crate) fn encode_header(id: PackId) -> [u8; HEADER_LENGTH as usize] {
    let mut bytes = [0; HEADER_LENGTH as usize];
    bytes[..8].copy_from_slice(HEADER_MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&id.0.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

pub(crate) fn decode_header(bytes: &[u8; HEADER_LENGTH as usize]) -> Result<PackId, Malformed> {
    if &bytes[..8] != HEADER_MAGIC {
        return Err(Malformed("it does not begin as a pack"));
    }
    if crc32fast::hash(&bytes[..20]).to_le_bytes() != bytes[20..] {
        return Err(Malformed("its header's checksum is wrong"));
    }
    let mut reader = Reader(&bytes[8..20]);
    if u32::from_le_bytes(reader.array()?) != VERSION {
        return Err(Malformed("it has a version that this program does not know"));
    }
    Ok(PackId(u64::from_le_bytes(reader.array()?)))
}

pub(crate) fn encode_footer(id: PackId, entries: &[(Digest, Location)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_LENGTH + TRAILER_LENGTH);
    for (digest, location) in entries {
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&location.offset.to_le_bytes());
        bytes.extend_from_slice(&location.stored.to_le_bytes());
        bytes.extend_from_slice(&location.raw.to_le_bytes());
    }
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    let sum = footer_sum(id, &bytes);
    bytes.extend_from_slice(sum.as_bytes());
    bytes.extend_from_slice(FOOTER_MAGIC);
    bytes
}

/// Reads the footer of a pack of `length` bytes: the entries must lie one after another and fill it.
pub(crate) fn decode_footer(
    id: PackId,
    bytes: &[u8],
    length: u64,
) -> Result<Vec<(Digest, Location)>, Malformed> {
    let (summed, rest) =
        bytes.split_at_checked(bytes.len().saturating_sub(40)).ok_or(Malformed("it is short"))?;
    let (sum, magic) = rest.split_at_checked(32).ok_or(Malformed("it is short"))?;
    if magic != FOOTER_MAGIC || footer_sum(id, summed).as_bytes() != sum {
        return Err(Malformed("its footer's checksum is wrong"));
    }
    let listed = summed.len().checked_sub(4).ok_or(Malformed("it is short"))?;
    let count = listed / ENTRY_LENGTH;
    let mut reader = Reader(summed);
    let mut entries = Vec::with_capacity(count);
    let mut offset = HEADER_LENGTH;
    for _ in 0..count {
        let digest = reader.digest()?;
        let mut number = || reader.array().map(u32::from_le_bytes);
        let location = Location { pack: id, offset: number()?, stored: number()?, raw: number()? };
        if u64::from(location.offset) != offset || !location.is_possible() {
            return Err(Malformed("its footer does not describe it"));
        }
        offset = location.end();
        entries.push((digest, location));
    }
    if u32::from_le_bytes(reader.array()?) as usize != count || offset + bytes.len() as u64 != length {
        return Err(Malformed("its footer does not describe it"));
    }
    Ok(entries)
}

fn footer_sum(id: PackId, summed: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&id.0.to_le_bytes()).update(summed);
    hasher.finalize()
}
