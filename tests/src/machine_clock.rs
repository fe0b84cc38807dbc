//! A machine's clock that can be set while programs run: `libfaketime` shows them another time.
//!
//! Only the clock that tells the date is another one. What passes by the monotonic clock passes as ever, as on a real
//! machine whose clock an administrator or NTP sets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An hour, by which clocks are set back and forward.
pub const HOUR: i64 = 3600;

/// The clock of one machine of a bed.
#[derive(Debug, Clone)]
pub struct MachineClock {
    file: PathBuf,
    library: PathBuf,
}

impl MachineClock {
    /// A clock that is right, until it is set; none where `libfaketime` is not installed.
    pub fn new(file: PathBuf) -> Option<Self> {
        let clock = Self { file, library: library()? };
        clock.set(0);
        Some(clock)
    }

    /// Sets the clock to so many seconds after the true time; negative is before it.
    pub fn set(&self, seconds: i64) {
        // Whole or not at all: the programs read it at any moment.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))
            .and_then(|()| fs::rename(&new, &self.file))
            .expect("the bed can be written to");
    }

    /// Lets a program that is not started yet live by this clock.
    pub fn rule(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            // One name in new versions, the other in old ones.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            // The times of files are what the disk says.
            .env("NO_FAKE_STAT", "1");
    }
}

/// Where Debian and its kin, Fedora, Arch and Alpine put it.
fn library() -> Option<PathBuf> {
    let machine = std::env::consts::ARCH;
    [
        format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"),
        "/usr/lib64/faketime/libfaketimeMT.so.1".to_owned(),
        "/usr/lib/faketime/libfaketimeMT.so.1".to_owned(),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| Path::is_file(path))
}
