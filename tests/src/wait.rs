//! Awaits conditions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Past this, a condition that has not come true is a hang.
pub const HANG: Duration = Duration::from_secs(120);

/// Raises a flag when it goes out of scope, also in a panic: for a thread that goes on until then.
#[derive(Debug)]
pub struct RaiseAtEnd<'f>(pub &'f AtomicBool);

impl Drop for RaiseAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Asks `condition` until it gives a value, and panics with `what` after [`HANG`].
#[track_caller]
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(HANG, what, condition)
}

/// Asks `condition` until it gives a value, and panics with `what` after `limit`: for what is promised within a time.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < limit, "gave up after {limit:?}: {what}");
        thread::sleep(Duration::from_millis(15));
    }
}
