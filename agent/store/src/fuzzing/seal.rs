//! Makes checksums right, so that mutated bytes reach what stands behind them.

use super::readers::WHOSE;
use crate::journal::{FILE, Journal};
use crate::pack::{ENTRY_LENGTH, HEADER_LENGTH, RECORD_LENGTH, TRAILER_LENGTH, checksum};

/// The BLAKE3 of all before, at the end: the index and the stat cache.
pub(super) fn last_32(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(length) = bytes.len().checked_sub(32) {
        let sum = blake3::hash(&bytes[..length]);
        bytes[length..].copy_from_slice(sum.as_bytes());
    }
    bytes
}

/// The last line, and whose marks they are.
pub(super) fn marks(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.split('\n');
    let (head, line) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    match head.strip_prefix("rfs-marks ") {
        Some(head) => {
            let version = head.split(' ').next().unwrap_or_default();
            let lines = format!("rfs-marks {version} {WHOSE}\n{line}\n");
            format!("{lines}{}\n", blake3::hash(lines.as_bytes())).into_bytes()
        }
        None => format!("{head}\n{}\n", blake3::hash(head.as_bytes())).into_bytes(),
    }
}

/// The checksum of the record that these bytes begin with.
pub(super) fn record(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    seal_record(&mut bytes);
    bytes
}

/// Says how long the record is, if one is there.
fn seal_record(bytes: &mut [u8]) -> Option<usize> {
    let stored = bytes.get(12..16)?.try_into().ok().map(u32::from_le_bytes)? as usize;
    let length = RECORD_LENGTH.checked_add(stored)?;
    let record = bytes.get_mut(..length)?;
    let (head, payload) = record.split_at_mut(RECORD_LENGTH);
    let sum = checksum(&head[..48], payload);
    head[48..].copy_from_slice(&sum.to_le_bytes());
    Some(length)
}

/// The checksums of a pack's header, of its records as their lengths lead from one to the next, and of its footer.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let header = HEADER_LENGTH as usize;
    let Some(body) = bytes.len().checked_sub(header + TRAILER_LENGTH) else { return bytes };
    let sum = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&sum.to_le_bytes());
    let trailer = header + body;
    let count = bytes[trailer..trailer + 4].try_into().map_or(0, u32::from_le_bytes) as usize;
    let footer = trailer.saturating_sub(count.saturating_mul(ENTRY_LENGTH)).max(header);
    let mut at = header;
    while let Some(length) = seal_record(&mut bytes[at..footer]) {
        at += length;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[12..20]).update(&bytes[footer..trailer + 4]);
    let sum = hasher.finalize();
    bytes[trailer + 4..trailer + 36].copy_from_slice(sum.as_bytes());
    bytes
}

/// The seals of all rows that SQLite finds.
pub(super) fn journal(bytes: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE);
    std::fs::write(&path, bytes).expect("room for a file");
    match Journal::seal_all(folder.path()) {
        Ok(()) => std::fs::read(&path).expect("is there"),
        Err(_) => bytes.to_vec(),
    }
}
