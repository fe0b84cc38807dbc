//! Reads one pack again, record by record.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rfs_model::Digest;

use super::{Damage, DamagedThing, Share};
use crate::cancel::Cancel;
use crate::content::digest_of;
use crate::error::StoreError;
use crate::pack::{
    Location, PackId, RECORD_LENGTH, RecordHeader, checksum, read_footer, scan_records, unpack,
};

/// What one pack was found to be.
#[derive(Debug, Default)]
pub(crate) struct PackReport {
    pub(crate) damage: Vec<Damage>,
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// Checks packs, one after another, with buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    window: Vec<u8>,
    /// Where in the pack the window begins.
    start: u64,
    content: Vec<u8>,
}

/// So much is read at once.
const WINDOW: usize = 1 << 20;

impl Checker {
    pub(crate) fn check(
        &mut self,
        path: &Path,
        id: PackId,
        share: Share,
        cancel: &Cancel,
    ) -> Result<PackReport, StoreError> {
        match self.read(path, id, share, cancel) {
            // Collected since it was listed.
            Err(error) if error.is_gone() => Ok(PackReport::default()),
            other => other,
        }
    }

    fn read(
        &mut self,
        path: &Path,
        id: PackId,
        share: Share,
        cancel: &Cancel,
    ) -> Result<PackReport, StoreError> {
        let mut report = PackReport::default();
        let mut damaged = |what, reason: String| {
            report.damage.push(Damage { what, path: path.to_owned(), reason, harms: BTreeSet::new() });
        };
        let entries = match read_footer(path, id) {
            Ok((_, entries)) => entries,
            Err(StoreError::Damaged { reason, .. }) => {
                damaged(DamagedThing::Pack(id.0), reason);
                scan_records(path, id)?
            }
            Err(error) => return Err(error),
        };
        // Where not even the file can be opened, it has none.
        if entries.is_empty() {
            return Ok(report);
        }
        let file = File::open(path).map_err(StoreError::io("open", path))?;
        self.window.clear();
        let (mut objects, mut bytes) = (0, 0);
        for (digest, location) in entries.iter().filter(|(digest, _)| is_chosen(digest, share)) {
            cancel.check()?;
            objects += 1;
            bytes += location.record_length();
            if let Err(reason) = self.check_record(&file, path, digest, location)? {
                damaged(DamagedThing::Object(*digest), reason);
            }
        }
        (report.objects, report.bytes) = (objects, bytes);
        Ok(report)
    }

    fn check_record(
        &mut self,
        file: &File,
        path: &Path,
        digest: &Digest,
        location: &Location,
    ) -> Result<Result<(), String>, StoreError> {
        let (offset, length) = (u64::from(location.offset), location.record_length() as usize);
        let is_here = offset >= self.start && location.end() <= self.start + self.window.len() as u64;
        if !is_here && let Err(reason) = self.fill(file, path, offset, length)? {
            return Ok(Err(reason));
        }
        let from = (offset - self.start) as usize;
        let record = &self.window[from..from + length];
        Ok(check_record(record, digest, location, &mut self.content).map_err(|reason| reason.to_string()))
    }

    /// Reads from `offset` on. A part of the disk that cannot be read is damage like any other.
    fn fill(
        &mut self,
        file: &File,
        path: &Path,
        offset: u64,
        length: usize,
    ) -> Result<Result<(), String>, StoreError> {
        self.start = offset;
        self.window.resize(length.max(WINDOW), 0);
        let mut filled = 0;
        while filled < self.window.len() {
            match file.read_at(&mut self.window[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) if filled >= length => break,
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                    self.window.clear();
                    return Ok(Err(format!("it cannot be read: {error}")));
                }
                Err(source) => return Err(StoreError::Io { action: "read", path: path.to_owned(), source }),
            }
        }
        self.window.truncate(filled);
        Ok(if filled < length { Err("it is cut short".to_owned()) } else { Ok(()) })
    }
}

fn check_record(
    record: &[u8],
    digest: &Digest,
    location: &Location,
    content: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let (head, payload) = record.split_first_chunk::<RECORD_LENGTH>().ok_or("it is short")?;
    let (header, sum) = RecordHeader::decode(head).map_err(|error| error.0)?;
    if checksum(&head[..48], payload) != sum {
        return Err("its checksum is wrong");
    }
    if header.digest != *digest || header.stored != location.stored || header.raw != location.raw {
        return Err("another object stands there");
    }
    unpack(&header, payload, content)?;
    if digest_of(content) == *digest { Ok(()) } else { Err("its content does not match its digest") }
}

fn is_chosen(digest: &Digest, share: Share) -> bool {
    match share {
        Share::Whole => true,
        Share::PerMille { share, seed } => {
            let head: [u8; 8] = std::array::from_fn(|i| digest.as_bytes()[i]);
            let mixed = (u64::from_le_bytes(head) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed >> 32) % 1000 < u64::from(share)
        }
    }
}
