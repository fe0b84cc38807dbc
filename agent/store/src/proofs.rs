//! Proofs: files whose content was digested where they were staged, so that it need not be read again once they are live.
//!
//! ```text
//! staged file, digested ─▶ noted ─▶ flipped ─▶ sealed, before a service is started ─▶ a scan takes it, once
//! ```
//! Invariant: an inode that anyone changed after the seal has a later time of change, and is read like any other. So does
//! one whose size or modification time is not what it was.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::store::Store;
use crate::tree::Extent;
use crate::walk::{Found, Live};

/// More files are not noted: a proof saves reading a large file, and these are few.
const MOST: usize = 1000;

/// What was proven of staged files.
#[derive(Debug, Default)]
pub(crate) struct Proofs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// While staging is noted.
    noted: Option<HashMap<(u64, u64), Proof>>,
    /// When it was sealed, and what.
    sealed: Option<((i64, u32), HashMap<(u64, u64), Proof>)>,
}

#[derive(Debug)]
struct Proof {
    size: u64,
    mtime: (i64, u32),
    content: Vec<Extent>,
}

impl Proofs {
    /// Notes that a staged file, which has its metadata, holds this.
    pub(crate) fn note(&self, file: &File, content: &[Extent]) {
        let mut state = self.state();
        let Some(noted) = state.noted.as_mut().filter(|noted| noted.len() < MOST) else { return };
        if let Ok(Live { mount, ino, size, mtime, .. }) = Live::of(file.as_fd()) {
            noted.insert((mount, ino), Proof { size, mtime, content: content.to_vec() });
        }
    }

    /// What a live file holds, if that was proven and it has not changed since.
    pub(crate) fn take(&self, live: &Live) -> Option<Vec<Extent>> {
        let mut state = self.state();
        let (sealed_at, proofs) = state.sealed.as_mut()?;
        let Proof { size, mtime, content } = proofs.remove(&(live.mount, live.ino))?;
        let is_same = (live.found, live.size, live.mtime) == (Found::File, size, mtime);
        (is_same && live.ctime <= *sealed_at).then_some(content)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Notes from here on which staged files were digested where they are; what was noted before is forgotten.
    pub fn note_proofs(&self) {
        *self.0.proofs.state() = State { noted: Some(HashMap::new()), sealed: None };
    }

    /// Says that what was noted is live, and that nobody has been let write to it yet: the next scan need not read it.
    pub fn seal_proofs(&self) {
        let mut state = self.0.proofs.state();
        // The kernel stamps inodes by this clock.
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
        state.sealed = state.noted.take().map(|noted| ((tv_sec, tv_nsec as u32), noted));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use rfs_model::Digest;
    use rfs_model::time::SystemClock;

    use super::*;

    #[test]
    fn a_proof_holds_once_and_for_the_file_that_was_flipped() {
        let folder = tempfile::tempdir().expect("a folder");
        let store =
            Store::open(&folder.path().join("store"), std::sync::Arc::new(SystemClock)).expect("opens");
        let content = [Extent::Data { digest: Digest::from_bytes([7; 32]), length: 6 }];
        let (staged, live) = (folder.path().join("staged"), folder.path().join("live"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let look = || Live::of(File::open(&live).expect("a file").as_fd()).expect("a look");
        let flipped = |noted: bool, sealed: bool| {
            if noted {
                store.note_proofs();
            }
            fs::write(&staged, "staged").expect("writes");
            let file = File::options().write(true).open(&staged).expect("a file");
            file.set_modified(time).expect("a time");
            store.0.proofs.note(&file, &content);
            fs::rename(&staged, &live).expect("flips");
            if sealed {
                store.seal_proofs();
            }
        };
        flipped(true, true);
        assert_eq!(store.0.proofs.take(&look()).as_deref(), Some(&content[..]));
        assert_eq!(store.0.proofs.take(&look()), None, "once");
        flipped(false, true);
        assert_eq!(store.0.proofs.take(&look()), None, "nobody asked for it");
        flipped(true, false);
        assert_eq!(store.0.proofs.take(&look()), None, "it is not sealed");

        type Change<'a> = (&'a str, &'a dyn Fn(&File));
        let changes: [Change<'_>; 3] = [
            ("it is longer", &|file| {
                file.set_len(7).and_then(|()| file.set_modified(time)).expect("changes")
            }),
            ("its time is another", &|file| file.set_modified(SystemTime::UNIX_EPOCH).expect("a time")),
            // Only the time of change tells.
            ("it was written to, and its time put back", &|file| {
                let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
                while look().ctime <= (tv_sec, tv_nsec as u32) {
                    std::os::unix::fs::FileExt::write_all_at(file, b"!", 0).expect("writes");
                    file.set_modified(time).expect("a time");
                }
            }),
        ];
        for (what, change) in changes {
            flipped(true, true);
            change(&File::options().write(true).open(&live).expect("a file"));
            assert_eq!(store.0.proofs.take(&look()), None, "{what}");
        }
    }
}
