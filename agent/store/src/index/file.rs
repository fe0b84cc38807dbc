//! The index on disk.
//!
//! ```text
//! "rfsX" version  packs u32  (pack id u64  length u64)*  record*  BLAKE3 of all before
//! record  digest [32]  number of the pack u32  offset u32  stored length u32  raw length u32
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::table::{RECORD, Table};
use super::{Index, PackInfo};
use crate::bytes::{Malformed, Reader};
use crate::error::{StoreError, is_broken};
use crate::files;
use crate::layout::Layout;
use crate::pack::PackId;

const MAGIC: &[u8; 5] = b"rfsX\x01";

pub(crate) fn path(layout: &Layout) -> PathBuf {
    layout.root.join("index")
}

/// The table, and the packs that it covers with their lengths.
pub(crate) type Loaded = (Table, BTreeMap<PackId, u64>);

/// Loads the file, if it is there and whole. It covers the packs that have the lengths that they had.
pub(super) fn load(layout: &Layout) -> Result<Option<Loaded>, StoreError> {
    let path = path(layout);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound || is_broken(&error) => return Ok(None),
        Err(source) => return Err(StoreError::Io { action: "read", path, source }),
    };
    let Ok((table, mut covered)) = parse(bytes) else { return Ok(None) };
    let length = |id: &PackId| std::fs::metadata(id.path(&layout.packs)).map(|meta| meta.len()).ok();
    covered.retain(|id, covered| length(id) == Some(*covered));
    Ok(Some((table, covered)))
}

pub(super) fn save(
    layout: &Layout,
    table: &Table,
    packs: &BTreeMap<PackId, PackInfo>,
) -> Result<(), std::io::Error> {
    // A pack of which the table holds nothing is covered too.
    let mut ids = table.packs().to_vec();
    ids.extend(packs.keys().filter(|id| !table.packs().contains(id)));
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&(ids.len() as u32).to_le_bytes());
    for id in &ids {
        head.extend_from_slice(&id.0.to_le_bytes());
        // One of which not all is known is never covered: it is looked at again each time.
        let length = packs.get(id).filter(|info| info.is_known).map_or(0, |info| info.length);
        head.extend_from_slice(&length.to_le_bytes());
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&head).update(table.records());
    // Not made durable: one that a crash cut short is made anew from the packs.
    let sum = hasher.finalize();
    let pieces = [&head[..], table.records(), sum.as_bytes()];
    files::replace_with(&path(layout), &pieces, false).map_err(|(_, error)| error)
}

/// Compares the file with the packs, and says how it differs.
pub(crate) fn check(layout: &Layout, packs: &Index) -> Result<Option<String>, StoreError> {
    let path = path(layout);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if is_broken(&error) => return Ok(Some(format!("it cannot be read: {error}"))),
        Err(source) => return Err(StoreError::Io { action: "read", path, source }),
    };
    let (table, covered) = match parse(bytes) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let is_there = |id: PackId| covered.contains_key(&id) && packs.packs.contains_key(&id);
    let wrong = table.iter().find(|(digest, location)| {
        is_there(location.pack)
            && packs.find(digest).is_none_or(|found| found.pack <= location.pack && found != *location)
    });
    if let Some((digest, _)) = wrong {
        return Ok(Some(format!("it has object {digest} in a wrong place")));
    }
    let is_covered =
        |id: &PackId| packs.packs.get(id).is_some_and(|info| covered.get(id) == Some(&info.length));
    let lacking =
        packs.objects().find(|(digest, location)| is_covered(&location.pack) && table.find(digest).is_none());
    Ok(lacking.map(|(digest, _)| format!("it lacks object {digest}")))
}

/// Reads the table, and the packs that it covers.
pub(crate) fn parse(mut bytes: Vec<u8>) -> Result<Loaded, Malformed> {
    let length = bytes.len().checked_sub(32).ok_or(Malformed("it is short"))?;
    if blake3::hash(&bytes[..length]).as_bytes() != &bytes[length..] {
        return Err(Malformed("its checksum is wrong"));
    }
    bytes.truncate(length);
    let mut reader = Reader(&bytes);
    if reader.take(5)? != MAGIC {
        return Err(Malformed("it is not an index of this version"));
    }
    let count = u32::from_le_bytes(reader.array()?);
    let mut ids = Vec::new();
    let mut covered = BTreeMap::new();
    for _ in 0..count {
        let id = PackId(u64::from_le_bytes(reader.array()?));
        covered.insert(id, u64::from_le_bytes(reader.array()?));
        ids.push(id);
    }
    let start = length - reader.0.len();
    if !(length - start).is_multiple_of(RECORD) {
        return Err(Malformed("it is cut short"));
    }
    bytes.drain(..start);
    let table = Table::new(bytes, ids).ok_or(Malformed("its records are not in order"))?;
    Ok((table, covered))
}
