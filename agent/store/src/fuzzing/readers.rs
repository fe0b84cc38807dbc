//! The readers themselves: bytes in, accepted or refused out.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rfs_model::{Digest, SnapshotId};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::Value;

use crate::bytes::Reader;
use crate::cache::Cache;
use crate::cancel::Cancel;
use crate::diff::diff_trees;
use crate::index;
use crate::journal::{self, Journal};
use crate::layout::parse_format;
use crate::manifest::Manifest;
use crate::pack::{HEADER_LENGTH, PackId, RECORD_LENGTH, RecordHeader, decode_header, unpack};
use crate::restore::{self, Rules, Staged, StagingName, yards_are_read};
use crate::segment;
use crate::text;
use crate::tree::{Entry, EntryKind, Meta, Root, Tree};
use crate::verify::Share;
use crate::verify::packs::Checker;
use crate::walk::Found;

/// Whose marks they are.
pub(super) const WHOSE: SnapshotId = SnapshotId(Digest::from_bytes([0; 32]));

pub(super) fn format(bytes: &[u8]) -> bool {
    let number = parse_format(bytes);
    if let Some(number) = number {
        assert_eq!(format!("rfs-store {number}\n").as_bytes(), bytes, "one way to write it");
    }
    number.is_some()
}

pub(super) fn names(bytes: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(bytes) else { return false };
    let pack = PackId::parse(name);
    if let Some((id, whole)) = pack {
        assert_eq!(format!("{id}.{}", if whole { "pack" } else { "part" }), name, "one way to write it");
    }
    let snapshot = SnapshotId::from_str(name).ok();
    let staging = StagingName::try_from(name.to_owned()).ok();
    if let Some(staging) = &staging {
        assert!(staging.as_str().starts_with(".rfs-") && !staging.as_str().contains('/'), "{staging}");
    }
    pack.is_some() || snapshot.is_some() || staging.is_some()
}

pub(super) fn text(bytes: &[u8]) -> bool {
    assert_eq!(text::decode(&text::encode(bytes)).as_deref(), Some(bytes), "what is written reads back");
    if let Some(decoded) = std::str::from_utf8(bytes).ok().and_then(text::decode) {
        assert!(decoded.len() <= bytes.len(), "an escape is longer than what it stands for");
    }
    true
}

pub(super) fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(bytes) else { return false };
    let (id, written) = manifest.encode();
    assert_eq!(Manifest::decode(id, &written).as_ref(), Ok(&manifest), "what is written reads back");
    true
}

pub(super) fn marks(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| crate::marks::parse(WHOSE, text).is_ok())
}

pub(super) fn list(bytes: &[u8]) -> bool {
    let Ok(roots) = segment::decode_list(bytes) else { return false };
    assert_eq!(segment::encode_list(&roots), bytes, "one way to write it");
    true
}

pub(super) fn segment(bytes: &[u8]) -> bool {
    let mut entries = Vec::new();
    if segment::decode(bytes, &mut entries).is_err() {
        return false;
    }
    let mut written = Vec::new();
    segment::encode(&entries, &mut written);
    // An attribute that XFS shows twice is dropped.
    let is_whole = !bytes.windows(8).any(|name| name == b"SGI_ACL_");
    assert!(!is_whole || written == bytes, "one way to write it");
    let _objects = segment::objects_of(&entries).count();
    true
}

/// The folders that stand in earlier segments: the root, and those above the first entry.
fn folders_above(first: &[u8]) -> Vec<Entry> {
    let ends = first.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let ends: Vec<usize> =
        if first.is_empty() { Vec::new() } else { std::iter::once(0).chain(ends).collect() };
    let folder = |end: usize| {
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime_seconds: 0, mtime_nanos: 0, xattrs: Vec::new() };
        Entry { path: first[..end].to_vec(), meta, kind: EntryKind::Directory }
    };
    ends.into_iter().map(folder).collect()
}

/// What a restore makes of a segment: a plan that needs nothing more once it is done, or a refusal.
pub(super) fn tree(bytes: &[u8]) -> bool {
    let mut entries = Vec::new();
    if segment::decode(bytes, &mut entries).is_err() {
        return false;
    }
    let above =
        folders_above(entries.first().map_or(&b""[..], |first| &first.path[..first.path.len().min(4096)]));
    entries.splice(..0, above);
    let root = |entries| Tree { roots: vec![Root { path: b"/srv/site".to_vec(), entries }] };
    let (nothing, tree) = (root(Vec::new()), root(entries));
    let (_entries, _size) = segment::totals(&tree);
    let rules = Rules { devices: true, ..Rules::default() };
    let Ok(plan) = restore::plan(&nothing, &tree, &rules) else { return false };
    let _counts = plan.counts();
    for step in plan.steps() {
        assert!(step.shown.0.starts_with(b"/srv/site"), "{step}");
    }
    let again = restore::plan(&tree, &tree, &rules).expect("what was sound is");
    assert!(again.is_empty(), "a tree that is there needs no step");
    assert!(diff_trees(&tree, &tree).is_empty(), "a tree is what it is");
    restore::plan(&tree, &nothing, &rules).is_ok()
}

pub(super) fn record(bytes: &[u8]) -> bool {
    let Some((head, payload)) = bytes.split_first_chunk::<RECORD_LENGTH>() else { return false };
    let Ok((header, _)) = RecordHeader::decode(head) else { return false };
    let mut content = Vec::new();
    let unpacked = unpack(&header, payload, &mut content).is_ok();
    assert!(!unpacked || content.len() == header.raw as usize, "its content has the length that it claims");
    unpacked
}

pub(super) fn pack(bytes: &[u8]) -> bool {
    let head = bytes.first_chunk::<{ HEADER_LENGTH as usize }>();
    let id = head.and_then(|head| decode_header(head).ok()).unwrap_or(PackId(0));
    let file = InMemory::new(bytes);
    let report = Checker::default().check(&file.path, id, Share::Whole, &Cancel::new());
    report.expect("damage is reported and no failure").damage.is_empty()
}

pub(super) fn index(bytes: &[u8]) -> bool {
    let Ok((mut table, covered)) = index::parse(bytes.to_vec()) else { return false };
    let objects: Vec<_> = table.iter().collect();
    for (digest, location) in &objects {
        assert_eq!(table.find(digest), Some(*location), "what is listed is found");
    }
    let half = |id: PackId| id.0.is_multiple_of(2);
    table.retain(half);
    assert!(table.iter().all(|(_, location)| half(location.pack) && covered.contains_key(&location.pack)));
    table.merge(objects.iter().take(100).copied().collect());
    for (digest, _) in objects.iter().take(100) {
        assert!(table.find(digest).is_some(), "what was added is found");
    }
    true
}

/// The root and the file system are those that the bytes name: any others make it no cache of theirs.
pub(super) fn cache(bytes: &[u8]) -> bool {
    let mut reader = Reader(bytes.get(5..).unwrap_or_default());
    let (Ok(root), Ok(file_system)) = (reader.bytes(), reader.array()) else { return false };
    let root = Path::new(OsStr::from_bytes(root));
    let Some(cache) = Cache::of(bytes.to_vec(), root, u64::from_le_bytes(file_system)) else { return false };
    let _top = cache.top();
    // Groups may overlap, which a walk of real folders makes nothing of.
    for (_, group) in (0..64).map_while(|number| cache.group(number)) {
        for child in group.filter(|child| child.live.found != Found::Directory) {
            let _resolved = cache.resolve(child.live.found, child.live.size, child.at);
        }
    }
    true
}

pub(super) fn staged(bytes: &[u8]) -> bool {
    let Ok(staged) = serde_json::from_slice::<Staged>(bytes) else { return false };
    let written = serde_json::to_vec(&staged).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<Staged>(&written).ok(), Some(staged), "what is written reads back");
    true
}

pub(super) fn yards(bytes: &[u8]) -> bool {
    yards_are_read(bytes)
}

/// What the check passes is read by everything that reads it; that a body is not what its reader wants is no damage.
pub(super) fn journal(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(journal::FILE), bytes).expect("room for a file");
    if !journal::check(folder.path()).is_ok_and(|faults| faults.is_empty()) {
        return false;
    }
    let Ok(journal) = Journal::read_only(folder.path()) else { return false };
    let (_generation, _held) = (journal.generation(), journal.held());
    let (_commands, _quiet) = (journal.pending::<Value>(), journal.all_quiet());
    let (_reports, _receipts) = (journal.unacknowledged::<Value>(), journal.receipts::<Value>(9));
    if let Ok(Some(run)) = journal.open_run::<Value>() {
        let _fact = journal.fact::<Value>(run.id, "backup");
    }
    true
}

/// Bytes as a file that has a path and is on no disk.
struct InMemory {
    path: PathBuf,
    _file: File,
}

impl InMemory {
    fn new(bytes: &[u8]) -> Self {
        let mut file = File::from(memfd_create("hostile", MemfdFlags::CLOEXEC).expect("memory for a file"));
        file.write_all(bytes).expect("memory for its content");
        Self { path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(), _file: file }
    }
}
