//! A flag that stops long work: set once by anyone, looked at in every loop.
//!
//! A deadline is an [`Instant`]: whatever is done to the machine's clock, it neither comes sooner nor later.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// Stops the work that it was given to. Clones share one flag.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Default)]
struct Flag {
    state: AtomicU8,
    deadline: Option<Instant>,
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
    pub fn at(deadline: Instant) -> Self {
        Self(Arc::new(Flag { state: AtomicU8::new(0), deadline: Some(deadline) }))
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
        match self.0.deadline {
            Some(deadline) if Instant::now() >= deadline => {
                self.expire();
                Err(Stopped::DeadlinePassed)
            }
            Some(_) | None => Ok(()),
        }
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
    fn a_deadline_stops_the_work_when_it_has_come() {
        let now = Instant::now();
        assert_eq!(Cancel::at(now + Duration::from_secs(3_600)).check(), Ok(()));
        let cancel = Cancel::at(now);
        assert_eq!(cancel.check(), Err(Stopped::DeadlinePassed));
        cancel.cancel();
        assert_eq!(cancel.check(), Err(Stopped::DeadlinePassed), "the first reason stays");
    }
}
