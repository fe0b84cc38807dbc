//! The two clocks of a host, and what each is for.
//!
//! Everything that must happen in time happens by [`std::time::Instant`]: the deadline of a restore, of a checkpoint's step,
//! of a collection. No clock of this file takes part in it, so that whatever is done to the machine's clock moves none of
//! them. A machine that is suspended stands still: its deadlines wait with it.
//!
//! What is written down for people has a time of day, from one of these:
//! - `steady` was read from the machine's clock once, when the process began, and goes on by itself: the journal's times, how
//!   long a phase took, since when something has been so. If the machine's clock was wrong at boot, they stay as wrong until
//!   the agent is started again, and the distances between them are right; the coordinator is told the agent's time beside
//!   each of them, and sees the difference.
//! - `wall` is the machine's clock: the time of a snapshot, which the keep rules sort into days and weeks, and the hours in
//!   which the collector may begin. Once a wrong clock is set right, new snapshots have the right time; those that were taken
//!   before keep the wrong one, so that a rule by days may keep others than a person expects. Which snapshot is the newest,
//!   and what may not be deleted, goes by the store's own order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs_model::time::{SharedClock, SteadyClock, SystemClock};

/// The clocks of a host.
#[derive(Clone)]
pub struct Clocks {
    /// Never steps.
    pub steady: SharedClock,
    /// The machine's.
    pub wall: SharedClock,
}

impl Clocks {
    /// The clocks of this machine, for this process.
    pub fn of_this_machine() -> Self {
        Self { steady: Arc::new(SteadyClock::from_system()), wall: Arc::new(SystemClock) }
    }
}

/// The moment at which something that may take so long from now on must have ended.
pub(crate) fn after(time: Duration) -> Instant {
    /// Longer than any agent runs; what is later cannot be said on every machine.
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
    Instant::now() + time.min(LONGEST)
}

/// One clock for both, as tests want it.
impl From<SharedClock> for Clocks {
    fn from(clock: SharedClock) -> Self {
        Self { steady: clock.clone(), wall: clock }
    }
}
