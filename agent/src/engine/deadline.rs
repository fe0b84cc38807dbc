//! Stops work when its time is up by the clock that never jumps, whatever happens to the clock on the wall.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rfs_store::Cancel;

/// Watches for as long as it lives.
pub(super) struct Watchdog {
    thread: Option<JoinHandle<()>>,
    over: Option<Sender<()>>,
}

impl Watchdog {
    /// Expires `cancel` at `until`.
    pub(super) fn start(until: Instant, cancel: Cancel) -> Self {
        let (over, is_over) = mpsc::channel();
        let watch = move || {
            let left = until.saturating_duration_since(Instant::now());
            if let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(left) {
                cancel.expire();
            }
        };
        let thread = thread::Builder::new().name("deadline".into()).spawn(watch);
        // Without the thread the deadline still counts, by the clock on the wall.
        Self { thread: thread.ok(), over: Some(over) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and cannot panic.
            let _ = thread.join();
        }
    }
}
