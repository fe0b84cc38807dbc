//! Proofs: files whose content was digested where they were staged, so that it need not be read again once they are live.
//!
//! ```text
//! staged file, digested ─▶ noted ─▶ flipped ─▶ sealed, before a service is started ─▶ a scan takes it, once
//! ```
//! Invariant: the seal notes how each inode is then. One that is not like that when it is scanned is read like any other.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::store::Store;
use crate::tree::Extent;
use crate::walk::Live;

/// More files are not noted, for each is held open: a proof saves reading a large file, and these are few.
const MOST: usize = 256;

/// What was proven of staged files.
#[derive(Debug, Default)]
pub(crate) struct Proofs(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// What is staged is noted.
    Noting(Vec<(OwnedFd, Vec<Extent>)>),
    /// How each inode was, by mount and number, and what it holds.
    Sealed(HashMap<(u64, u64), (Live, Vec<Extent>)>),
}

impl Proofs {
    /// Notes that a staged file holds this.
    pub(crate) fn note(&self, file: &File, content: &[Extent]) {
        let State::Noting(noted) = &mut *self.state() else { return };
        if noted.len() >= MOST {
            return;
        }
        // Neither for reading nor for writing: a program that is open for writing cannot be started.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        if let Ok(held) = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            noted.push((held, content.to_vec()));
        }
    }

    /// What a live file holds, if that was proven and it has not changed since.
    pub(crate) fn take(&self, live: &Live) -> Option<Vec<Extent>> {
        let State::Sealed(sealed) = &mut *self.state() else { return None };
        let (then, content) = sealed.remove(&(live.mount, live.ino))?;
        (then == *live).then_some(content)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Notes from here on which staged files were digested where they are; what was noted before is forgotten.
    pub fn note_proofs(&self) {
        *self.0.proofs.state() = State::Noting(Vec::new());
    }

    /// Says that what was noted is live, and that nobody has been let write to it yet: the next scan need not read it.
    pub fn seal_proofs(&self) {
        let mut state = self.0.proofs.state();
        let State::Noting(noted) = std::mem::take(&mut *state) else { return };
        let look = |(held, content): (OwnedFd, _)| Some((Live::of(held.as_fd()).ok()?, content));
        let sealed = noted.into_iter().filter_map(look);
        *state =
            State::Sealed(sealed.map(|(live, content)| ((live.mount, live.ino), (live, content))).collect());
    }

    /// Forgets what was noted or sealed.
    pub fn forget_proofs(&self) {
        *self.0.proofs.state() = State::Idle;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use rfs_model::Digest;
    use rfs_model::time::SystemClock;

    use super::*;
    use crate::{Cancel, EntryKind, FilesSpec};

    /// A live file that is said to hold something else than it does, so that it shows whether it was read.
    struct Flipped {
        folder: tempfile::TempDir,
        store: Store,
    }

    const SAID: [Extent; 1] = [Extent::Data { digest: Digest::from_bytes([7; 32]), length: 6 }];

    fn time() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
    }

    impl Flipped {
        fn new(notes: bool, seals: bool) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let clock = std::sync::Arc::new(SystemClock);
            let store = Store::open(&folder.path().join("store"), clock).expect("opens");
            if notes {
                store.note_proofs();
            }
            let staged = folder.path().join("staged");
            fs::write(&staged, "staged").expect("writes");
            let file = File::options().write(true).open(&staged).expect("a file");
            file.set_modified(time()).expect("a time");
            store.0.proofs.note(&file, &SAID);
            let flipped = Self { folder, store };
            fs::rename(&staged, flipped.live()).expect("flips");
            if seals {
                flipped.store.seal_proofs();
            }
            flipped
        }

        fn live(&self) -> PathBuf {
            self.folder.path().join("live")
        }

        /// Whether a scan takes what is said, and does not read the file.
        fn is_believed(&self) -> bool {
            let spec = FilesSpec { paths: vec![self.live()], exclude: Vec::new(), ..FilesSpec::default() };
            let tree = self.store.scan(&spec, &Cancel::new()).expect("scans");
            matches!(&tree.roots[0].entries[0].kind, EntryKind::File { content, .. } if content[..] == SAID)
        }
    }

    #[test]
    fn what_was_noted_and_sealed_is_not_read() {
        assert!(Flipped::new(true, true).is_believed());
        assert!(!Flipped::new(false, true).is_believed(), "nobody asked for it");
        assert!(!Flipped::new(true, false).is_believed(), "it may be written to");
        let forgotten = Flipped::new(true, true);
        forgotten.store.forget_proofs();
        assert!(!forgotten.is_believed());
    }

    #[test]
    fn what_changed_since_is_read() {
        type Change<'a> = (&'a str, &'a dyn Fn(&File));
        let changes: [Change<'_>; 3] = [
            ("it is longer", &|file| {
                file.set_len(7).and_then(|()| file.set_modified(time())).expect("changes")
            }),
            ("its time is another", &|file| file.set_modified(SystemTime::UNIX_EPOCH).expect("a time")),
            // Only the time of change tells.
            ("it was written to, and its time put back", &|file| {
                let look = || Live::of(file.as_fd()).expect("a look").ctime;
                let sealed = look();
                while look() == sealed {
                    file.write_all_at(b"!", 0).expect("writes");
                    file.set_modified(time()).expect("a time");
                }
            }),
        ];
        for (what, change) in changes {
            let flipped = Flipped::new(true, true);
            change(&File::options().write(true).open(flipped.live()).expect("a file"));
            assert!(!flipped.is_believed(), "{what}");
        }
    }
}
