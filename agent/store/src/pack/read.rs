//! Reading packs: objects by location, footers, and records without a footer.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rfs_model::Digest;

use super::{
    Encoding, HEADER_LENGTH, Location, PackId, RECORD_LENGTH, RecordHeader, TRAILER_LENGTH, checksum,
    decode_footer, decode_header,
};
use crate::error::{StoreError, is_broken};

/// So many packs are kept open at once.
const OPEN_PACKS: usize = 64;

/// The packs that were read lately, open.
#[derive(Debug)]
pub(crate) struct PackFiles {
    packs: PathBuf,
    open: Mutex<HashMap<PackId, Arc<File>>>,
}

impl PackFiles {
    pub(crate) fn new(packs: PathBuf) -> Self {
        Self { packs, open: Mutex::default() }
    }

    /// Reads the record at `location` into `record`: its header and its payload as stored.
    pub(crate) fn read(&self, location: &Location, record: &mut Vec<u8>) -> Result<(), StoreError> {
        let path = || location.pack.path(&self.packs);
        let file = self.file(location.pack)?;
        record.resize(RECORD_LENGTH + location.stored as usize, 0);
        file.read_exact_at(record, u64::from(location.offset)).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => StoreError::damaged("pack", &path(), "it is cut short"),
            _ => StoreError::unread("pack", "read", &path())(source),
        })
    }

    /// Forgets the open file of a pack that is gone.
    pub(crate) fn close(&self, pack: PackId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&pack);
    }

    fn file(&self, pack: PackId) -> Result<Arc<File>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&pack) {
            return Ok(file.clone());
        }
        let path = pack.path(&self.packs);
        let file = Arc::new(File::open(&path).map_err(StoreError::unread("pack", "open", &path))?);
        if open.len() >= OPEN_PACKS {
            open.clear();
        }
        open.insert(pack, file.clone());
        Ok(file)
    }
}

/// Reads what the pack's footer lists.
pub(crate) fn read_footer(path: &Path, id: PackId) -> Result<(u64, Vec<(Digest, Location)>), StoreError> {
    let damaged = |reason: &dyn ToString| StoreError::damaged("pack", path, reason.to_string());
    let file = File::open(path).map_err(StoreError::unread("pack", "open", path))?;
    let length = file.metadata().map_err(StoreError::unread("pack", "examine", path))?.len();
    if length < HEADER_LENGTH + TRAILER_LENGTH as u64 {
        return Err(damaged(&"it is cut short"));
    }
    let mut header = [0; HEADER_LENGTH as usize];
    file.read_exact_at(&mut header, 0).map_err(StoreError::unread("pack", "read", path))?;
    if decode_header(&header).map_err(|error| damaged(&error))? != id {
        return Err(damaged(&"it has the name of another pack"));
    }
    let mut trailer = [0; TRAILER_LENGTH];
    file.read_exact_at(&mut trailer, length - TRAILER_LENGTH as u64)
        .map_err(StoreError::unread("pack", "read", path))?;
    let count = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
    let footer = u64::from(count) * super::ENTRY_LENGTH as u64 + TRAILER_LENGTH as u64;
    if footer > length - HEADER_LENGTH {
        return Err(damaged(&"its footer is damaged"));
    }
    let mut bytes = vec![0; footer as usize];
    file.read_exact_at(&mut bytes, length - footer).map_err(StoreError::unread("pack", "read", path))?;
    let entries = decode_footer(id, &bytes, length).map_err(|error| damaged(&error))?;
    Ok((length, entries))
}

/// Finds the records of a pack whose footer is damaged: those whose checksum is right.
pub(crate) fn scan_records(path: &Path, id: PackId) -> Result<Vec<(Digest, Location)>, StoreError> {
    let bytes = read_around_faults(path).map_err(StoreError::io("read", path))?;
    let mut entries = Vec::new();
    let mut offset = HEADER_LENGTH as usize;
    while let Some(head) = bytes.get(offset..).and_then(|rest| rest.first_chunk::<RECORD_LENGTH>()) {
        let Ok(start) = u32::try_from(offset) else { break };
        let whole = RecordHeader::decode(head).ok().and_then(|(header, sum)| {
            let payload = bytes.get(offset + RECORD_LENGTH..)?.get(..header.stored as usize)?;
            (checksum(&head[..48], payload) == sum).then_some(header)
        });
        // After damage the next record begins at some later byte.
        let Some(header) = whole else {
            offset += 1;
            continue;
        };
        let location = Location { pack: id, offset: start, stored: header.stored, raw: header.raw };
        entries.push((header.digest, location));
        offset = location.end() as usize;
    }
    Ok(entries)
}

/// Reads a file; what the disk cannot give is zeros.
fn read_around_faults(path: &Path) -> std::io::Result<Vec<u8>> {
    const STEP: usize = 1 << 20;
    const BLOCK: usize = 4 << 10;
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len() as usize, file)));
    let (length, file) = match opened {
        Err(error) if is_broken(&error) => return Ok(Vec::new()),
        other => other?,
    };
    let mut bytes = vec![0; length];
    let mut at = 0;
    while at < length {
        let end = (at + STEP).min(length);
        match file.read_at(&mut bytes[at..end], at as u64) {
            Ok(0) => break,
            Ok(count) => at += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if is_broken(&error) => at = (at / BLOCK + 1) * BLOCK,
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Turns a record into content, without a look at its digest.
pub(crate) fn unpack(
    header: &RecordHeader,
    payload: &[u8],
    content: &mut Vec<u8>,
) -> Result<(), &'static str> {
    content.clear();
    match header.encoding {
        Encoding::Raw => content.extend_from_slice(payload),
        Encoding::Zstd => {
            content.reserve(header.raw as usize);
            DECODER.with_borrow_mut(|decoder| {
                let decoder = decoder.get_or_insert_with(zstd::zstd_safe::DCtx::create);
                decoder.decompress(content, payload).map_err(zstd::zstd_safe::get_error_name)
            })?;
        }
    }
    if content.len() == header.raw as usize { Ok(()) } else { Err("its content has another length") }
}

thread_local! {
    static DECODER: std::cell::RefCell<Option<zstd::zstd_safe::DCtx<'static>>> = const { std::cell::RefCell::new(None) };
}
