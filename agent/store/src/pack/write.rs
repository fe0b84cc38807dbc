//! Writing packs: any number of threads append, one file grows.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rfs_model::Digest;

use super::{HEADER_LENGTH, Location, PackId, RECORD_LENGTH, RecordHeader, encode_footer, encode_header};
use crate::error::StoreError;
use crate::files;
use crate::layout::Layout;
use crate::space::Reserve;

/// A pack of this length is finished and the next one begun.
const FULL: u64 = 32 << 20;
/// So much is gathered before it is written.
const BUFFER: usize = 1 << 20;

/// Appends objects to new packs.
#[derive(Debug)]
pub(crate) struct PackWriter {
    layout: Arc<Layout>,
    reserve: Reserve,
    state: Mutex<State>,
}

/// A pack that is durable under its final name.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) id: PackId,
    pub(crate) length: u64,
    pub(crate) entries: Vec<(Digest, Location)>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    finished: Vec<Finished>,
    syncer: Option<Syncer>,
}

#[derive(Debug)]
struct Open {
    id: PackId,
    path: PathBuf,
    file: File,
    /// What has been appended, the buffer included.
    length: u64,
    buffer: Vec<u8>,
    entries: Vec<(Digest, Location)>,
}

impl PackWriter {
    pub(crate) fn new(layout: Arc<Layout>, reserve: Reserve) -> Self {
        Self { layout, reserve, state: Mutex::default() }
    }

    /// Appends a record and says where it is. It is durable once [`PackWriter::finish`] has returned.
    pub(crate) fn append(&self, header: &RecordHeader, payload: &[u8]) -> Result<Location, StoreError> {
        let head = header.encode(payload);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let length = (RECORD_LENGTH + payload.len()) as u64;
        if state.open.as_ref().is_some_and(|open| open.length + length > FULL && !open.entries.is_empty()) {
            state.close_pack()?;
        }
        let open = match &mut state.open {
            Some(open) => open,
            none => none.insert(Open::create(&self.layout)?),
        };
        let location =
            Location { pack: open.id, offset: open.length as u32, stored: header.stored, raw: header.raw };
        open.buffer.extend_from_slice(&head);
        open.buffer.extend_from_slice(payload);
        open.length += length;
        open.entries.push((header.digest, location));
        if open.buffer.len() >= BUFFER {
            self.reserve.check(open.buffer.len() as u64)?;
            open.flush()?;
        }
        Ok(location)
    }

    /// Makes everything durable and gives the packs their names.
    pub(crate) fn finish(self) -> Result<Vec<Finished>, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.close_pack()?;
        if let Some(syncer) = state.syncer.take() {
            syncer.finish()?;
        }
        for pack in &state.finished {
            files::rename(&pack.id.part(&self.layout.packs), &pack.id.path(&self.layout.packs))?;
        }
        if !state.finished.is_empty() {
            files::sync_folder(&self.layout.packs)?;
        }
        Ok(std::mem::take(&mut state.finished))
    }
}

impl Drop for PackWriter {
    /// Removes the parts of a writer that was not finished. One that cannot be removed now is removed at the next opening.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        // What is still being synced is open, and would keep its room after it is removed.
        if let Some(syncer) = state.syncer.take() {
            let _ = syncer.finish();
        }
        let parts = state.finished.iter().map(|pack| pack.id).chain(state.open.iter().map(|open| open.id));
        for id in parts {
            let _ = files::remove(&id.part(&self.layout.packs));
        }
    }
}

impl State {
    fn close_pack(&mut self) -> Result<(), StoreError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let footer = encode_footer(open.id, &open.entries);
        open.buffer.extend_from_slice(&footer);
        open.length += footer.len() as u64;
        // Taken only now: one that cannot be written is still removed when the writer goes.
        open.flush()?;
        let Some(open) = self.open.take() else { return Ok(()) };
        self.finished.push(Finished { id: open.id, length: open.length, entries: open.entries });
        self.syncer.get_or_insert_with(Syncer::start).sync(open.path, open.file);
        Ok(())
    }
}

impl Open {
    fn create(layout: &Layout) -> Result<Self, StoreError> {
        let id = layout.next_pack();
        let path = id.part(&layout.packs);
        let file = files::create_new(&path)?;
        let buffer = encode_header(id).to_vec();
        Ok(Self { id, path, file, length: HEADER_LENGTH, buffer, entries: Vec::new() })
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let offset = self.length - self.buffer.len() as u64;
        self.file
            .write_all_at(&self.buffer, offset)
            .map_err(files::write_error(&self.path, self.buffer.len()))?;
        self.buffer.clear();
        Ok(())
    }
}

/// Makes finished packs durable while the next one is filled.
#[derive(Debug)]
struct Syncer {
    files: Sender<(PathBuf, File)>,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Syncer {
    fn start() -> Self {
        let (files, incoming) = channel::<(PathBuf, File)>();
        let thread = std::thread::spawn(move || {
            for (path, file) in incoming {
                file.sync_data().map_err(files::write_error(&path, 0))?;
            }
            Ok(())
        });
        Self { files, thread }
    }

    fn sync(&self, path: PathBuf, file: File) {
        // It fails only if the thread has stopped with an error, which `finish` returns.
        let _ = self.files.send((path, file));
    }

    fn finish(self) -> Result<(), StoreError> {
        drop(self.files);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
