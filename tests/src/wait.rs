//! Awaits conditions.

use std::thread;
use std::time::{Duration, Instant};

/// Past this, a condition that has not come true is a hang.
pub const HANG: Duration = Duration::from_secs(120);

/// Asks `condition` until it gives a value, and panics with `what` after [`HANG`].
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < HANG, "gave up after {HANG:?}: {what}");
        thread::sleep(Duration::from_millis(15));
    }
}
