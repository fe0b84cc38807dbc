//! Objects: content by digest, kept by captures and read by everyone else, verified on every read.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rfs_model::{ByteCount, Digest};
use zstd::zstd_safe::{CCtx, compress_bound};

use crate::clones::FileClone;
use crate::content::{Known, Sink, digest_of};
use crate::error::StoreError;
use crate::index::{DigestHasher, Index};
use crate::pack::{Encoding, Finished, Location, PackId, PackWriter, RECORD_LENGTH, RecordHeader, unpack};
use crate::space::Reserve;
use crate::store::Inner;

/// So often may a collector move an object away from whoever is about to read it.
const MOST_MOVES: usize = 100;

impl Inner {
    /// Reads an object's content, from whichever of its places has it whole. A content that does not have the digest is
    /// never returned.
    pub(crate) fn object(&self, digest: &Digest, content: &mut Vec<u8>) -> Result<(), StoreError> {
        let is_told = self.layout.require_writable().is_ok();
        let mut outcome = self.object_where_known(digest, content);
        for moves in 0..MOST_MOVES {
            // A collector has moved it since: ours, which has told the index, or another process's, which has not.
            match &outcome {
                Err(error) if error.is_gone() => {}
                Err(StoreError::Missing { .. }) if !is_told && moves < 3 => {}
                _ => break,
            }
            if !is_told {
                self.reload_index()?;
            }
            outcome = self.object_where_known(digest, content);
        }
        outcome
    }

    fn object_where_known(&self, digest: &Digest, content: &mut Vec<u8>) -> Result<(), StoreError> {
        let found = self.index().find(digest);
        let place =
            found.ok_or_else(|| StoreError::Missing { digest: *digest, path: self.layout.root.clone() })?;
        let Err(mut error) = self.object_at(&place, digest, content) else { return Ok(()) };
        // What one place has lost another may have; one that is gone, a collector may have moved.
        let others = self.index().places(digest);
        for other in others.iter().filter(|other| **other != place) {
            match self.object_at(other, digest, content) {
                Ok(()) => return Ok(()),
                Err(other) if other.is_gone() => error = other,
                Err(_) => {}
            }
        }
        Err(error)
    }

    /// Copies an object as it is stored, if its content has the digest.
    pub(crate) fn copy_object(&self, digest: &Digest, writer: &PackWriter) -> Result<(), StoreError> {
        let mut content = Vec::new();
        self.object(digest, &mut content)?;
        RECORD.with_borrow(|record| {
            let (head, payload) = record
                .split_first_chunk::<RECORD_LENGTH>()
                .ok_or_else(|| self.malformed(digest, &"it is short"))?;
            let (header, _) = RecordHeader::decode(head).map_err(|error| self.malformed(digest, &error))?;
            writer.append(&header, payload).map(drop)
        })
    }

    /// An object whose content is what its digest says, and yet not what was expected.
    pub(crate) fn malformed(&self, digest: &Digest, reason: &dyn ToString) -> StoreError {
        StoreError::damaged(format!("object {digest}"), &self.layout.packs, reason.to_string())
    }

    /// Reads an object where it is said to be; its record stays in `RECORD`.
    pub(crate) fn object_at(
        &self,
        location: &Location,
        digest: &Digest,
        content: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        RECORD.with_borrow_mut(|record| {
            self.packs.read(location, record)?;
            let damaged = |reason: &dyn ToString| {
                StoreError::damaged(
                    format!("object {digest}"),
                    &location.pack.path(&self.layout.packs),
                    reason.to_string(),
                )
            };
            let (head, payload) =
                record.split_first_chunk::<RECORD_LENGTH>().ok_or_else(|| damaged(&"it is short"))?;
            let (header, _) = RecordHeader::decode(head).map_err(|error| damaged(&error))?;
            if header.digest != *digest || header.stored != location.stored {
                return Err(damaged(&"another object stands there"));
            }
            unpack(&header, payload, content).map_err(|reason| damaged(&reason))?;
            if digest_of(content) != *digest {
                return Err(damaged(&"its content does not match its digest"));
            }
            Ok(())
        })
    }
}

thread_local! {
    static RECORD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static ENCODER: RefCell<(CCtx<'static>, Vec<u8>)> = RefCell::new((CCtx::create(), Vec::new()));
}

/// The packs that running captures count on, so that the collector spares them.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<UsesState>);

#[derive(Debug, Default)]
struct UsesState {
    next: u64,
    running: HashMap<u64, Arc<Mutex<BTreeSet<PackId>>>>,
    /// While a collector runs: what captures counted on that ended since it began.
    ended: Option<BTreeSet<PackId>>,
}

/// What one capture counts on, for as long as it runs.
#[derive(Debug)]
pub(crate) struct Use {
    number: u64,
    packs: Arc<Mutex<BTreeSet<PackId>>>,
    /// The pack that was noted last.
    last: AtomicU64,
    store: Arc<Inner>,
}

impl Uses {
    pub(crate) fn start(store: &Arc<Inner>) -> Use {
        let mut state = store.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.next;
        state.next += 1;
        let packs = Arc::<Mutex<BTreeSet<PackId>>>::default();
        state.running.insert(number, packs.clone());
        Use { number, packs, last: AtomicU64::new(u64::MAX), store: store.clone() }
    }

    /// Everything that a running capture counts on, or one that ended since the collection started.
    pub(crate) fn spared(&self) -> BTreeSet<PackId> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut packs = state.ended.clone().unwrap_or_default();
        for running in state.running.values() {
            packs.extend(running.lock().unwrap_or_else(PoisonError::into_inner).iter());
        }
        packs
    }
}

/// While it lives, one collector runs, and what ending captures counted on is remembered for it.
#[derive(Debug)]
pub(crate) struct CollectionGuard<'a> {
    uses: &'a Uses,
    _alone: MutexGuard<'a, ()>,
}

impl<'a> CollectionGuard<'a> {
    pub(crate) fn start(store: &'a Inner) -> Self {
        let alone = store.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        store.uses.0.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(BTreeSet::new());
        Self { uses: &store.uses, _alone: alone }
    }
}

impl Drop for CollectionGuard<'_> {
    fn drop(&mut self) {
        self.uses.0.lock().unwrap_or_else(PoisonError::into_inner).ended = None;
    }
}

impl Use {
    /// Counts on packs that it has made itself.
    pub(crate) fn add_finished(&self, packs: &[Finished]) {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner).extend(packs.iter().map(|pack| pack.id));
    }

    fn add(&self, pack: PackId) {
        // Objects that are met together mostly lie together.
        if self.last.swap(pack.0, Ordering::Relaxed) == pack.0 {
            return;
        }
        self.packs.lock().unwrap_or_else(PoisonError::into_inner).insert(pack);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.store.uses.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.remove(&self.number);
        if let Some(ended) = &mut state.ended {
            ended.extend(self.packs.lock().unwrap_or_else(PoisonError::into_inner).iter());
        }
    }
}

const SHARDS: usize = 16;
/// Shorter content is kept as it is: it would gain nothing.
const SHORTEST_COMPRESSED: usize = 64;
const LEVEL: i32 = 1;

/// Keeps the objects of one capture: those that the store has are not written again.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Arc<Inner>,
    uses: Use,
    writer: PackWriter,
    new: [Mutex<HashMap<Digest, (), BuildHasherDefault<DigestHasher>>>; SHARDS],
    pub(crate) objects_new: AtomicU64,
    pub(crate) bytes_stored: AtomicU64,
    reserve: Reserve,
    /// How many bytes were to be read, for whoever is told that there is no room for them.
    expected: AtomicU64,
}

/// Content that shrinks to less than such a part, or is known already but for that, is not expected.
const SMALLEST_PART: u64 = 16;

impl Keeper {
    pub(crate) fn new(store: &Arc<Inner>) -> Self {
        Self {
            store: store.clone(),
            uses: Uses::start(store),
            writer: PackWriter::new(store.layout.clone(), store.reserve.clone()),
            new: Default::default(),
            objects_new: AtomicU64::new(0),
            bytes_stored: AtomicU64::new(0),
            reserve: store.reserve.clone(),
            expected: AtomicU64::new(0),
        }
    }

    /// Says how much there was to be kept, where a write found no room for the next piece of it.
    fn with_numbers(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::NoSpace { path, needed, reserve, available } => {
                let left = self
                    .expected
                    .load(Ordering::Relaxed)
                    .saturating_sub(self.bytes_stored.load(Ordering::Relaxed));
                StoreError::NoSpace { path, needed: ByteCount(needed.0.max(left)), reserve, available }
            }
            other => other,
        }
    }

    /// Makes everything durable, and known to everyone. What is returned must last until the snapshot is committed:
    /// before that, nothing else says that the objects are needed.
    pub(crate) fn finish(self) -> Result<Use, StoreError> {
        let packs = self.writer.finish()?;
        self.uses.add_finished(&packs);
        let mut index = self.store.index_mut();
        index.add_finished(&packs);
        index.save_if_stale(&self.store.layout);
        drop(index);
        Ok(self.uses)
    }

    /// Whether the store has the object. Noted while the index is held, so that the collector sees the note or the
    /// capture a miss.
    fn has(&self, index: &Index, digest: &Digest) -> bool {
        let found = index.find(digest);
        found.inspect(|location| self.uses.add(location.pack)).is_some()
    }
}

impl Sink for Keeper {
    fn keep_named(&self, digest: Digest, content: &[u8]) -> Result<(), StoreError> {
        let shard = &self.new[usize::from(digest.as_bytes()[31]) % SHARDS];
        if self.has(&self.store.index(), &digest)
            || shard.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, ()).is_some()
        {
            return Ok(());
        }
        let raw = content.len() as u32;
        let appended =
            ENCODER.with_borrow_mut(|(encoder, packed)| match compress(encoder, content, packed) {
                Some(packed) => {
                    let stored = packed.len() as u32;
                    self.writer
                        .append(&RecordHeader { encoding: Encoding::Zstd, raw, stored, digest }, packed)
                }
                None => self
                    .writer
                    .append(&RecordHeader { encoding: Encoding::Raw, raw, stored: raw, digest }, content),
            });
        let location = appended.map_err(|error| self.with_numbers(error))?;
        self.objects_new.fetch_add(1, Ordering::Relaxed);
        self.bytes_stored.fetch_add(location.record_length(), Ordering::Relaxed);
        Ok(())
    }

    fn known(&self, ask: &mut dyn FnMut(&Known<'_>)) {
        let index = self.store.index();
        ask(&|digest| self.has(&index, digest));
    }

    fn clone_of(&self, file: &File, size: u64) -> Option<FileClone<'_>> {
        self.store.clones.make(file, size)
    }

    fn expect(&self, bytes: &dyn Fn() -> u64) -> Result<(), StoreError> {
        let bytes = bytes();
        self.expected.fetch_add(bytes, Ordering::Relaxed);
        self.reserve.check(bytes / SMALLEST_PART).map_err(|error| self.with_numbers(error))
    }
}

/// Compresses the content, if that gains at least a sixteenth.
fn compress<'a>(encoder: &mut CCtx<'static>, content: &[u8], packed: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if content.len() < SHORTEST_COMPRESSED {
        return None;
    }
    packed.clear();
    packed.reserve(compress_bound(content.len()));
    let length = encoder.compress(packed, content, LEVEL).ok()?;
    (length < content.len() - content.len() / 16).then_some(&packed[..length])
}
