//! A flag that stops long work: set once by anyone, looked at in every loop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rfs_model::Timestamp;
use rfs_model::time::SharedClock;

/// Stops the work that it was given to. Clones share one flag.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Default)]
struct Flag {
    state: AtomicU8,
    deadline: Option<(SharedClock, Timestamp)>,
}

/// Why work stopped early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Someone asked for it.
    #[error("cancelled")]
    Cancelled,
    /// Its time was up.
    #[error("the deadline passed")]
    DeadlinePassed,
}

const CANCELLED: u8 = 1;
const EXPIRED: u8 = 2;

impl Cancel {
    /// A flag that nobody has set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that sets itself at `deadline`.
    pub fn at(deadline: Timestamp, clock: SharedClock) -> Self {
        Self(Arc::new(Flag { state: AtomicU8::new(0), deadline: Some((clock, deadline)) }))
    }

    /// Stops the work: it ends with [`Stopped::Cancelled`] at its next look.
    pub fn cancel(&self) {
        self.set(CANCELLED);
    }

    /// Stops the work: it ends with [`Stopped::DeadlinePassed`] at its next look.
    pub fn expire(&self) {
        self.set(EXPIRED);
    }

    /// Returns the reason to stop, if there is one.
    pub fn check(&self) -> Result<(), Stopped> {
        match self.0.state.load(Ordering::Relaxed) {
            CANCELLED => return Err(Stopped::Cancelled),
            EXPIRED => return Err(Stopped::DeadlinePassed),
            _ => {}
        }
        let Some((clock, deadline)) = &self.0.deadline else { return Ok(()) };
        if clock.now() < *deadline {
            return Ok(());
        }
        self.expire();
        Err(Stopped::DeadlinePassed)
    }

    fn set(&self, state: u8) {
        // The first reason stays: it is the one that stopped the work.
        let _ = self.0.state.compare_exchange(0, state, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.0.state.load(Ordering::Relaxed)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rfs_model::time::ManualClock;

    use super::*;

    #[test]
    fn the_first_reason_to_stop_is_the_one_reported() {
        let cancel = Cancel::new();
        assert_eq!(cancel.check(), Ok(()));
        cancel.clone().expire();
        cancel.cancel();
        assert_eq!(cancel.check(), Err(Stopped::DeadlinePassed));
    }

    #[test]
    fn a_deadline_stops_the_work_when_the_clock_reaches_it() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
        let cancel = Cancel::at(Timestamp(3_000), clock.clone());
        assert_eq!(cancel.check(), Ok(()));
        clock.advance(Duration::from_secs(2));
        assert_eq!(cancel.check(), Err(Stopped::DeadlinePassed));
    }
}
