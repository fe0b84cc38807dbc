//! What is kept in the store, and when what is not kept is removed.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rfs_model::{SnapshotId, Timestamp};
use rfs_store::KeepPolicy;

/// What is kept in the store, and when what is not kept is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionConfig {
    /// How many snapshots are kept, beside those that may not go.
    pub keep: KeepPolicy,
    /// Snapshots that stay because the configuration names them.
    pub pinned: BTreeSet<SnapshotId>,
    /// Whether the agent collects by itself.
    pub automatic: bool,
    /// The time between two collections.
    pub every: Duration,
    /// How long one may take; the next goes on where it was stopped.
    pub at_most: Duration,
    /// When collections may begin; always, if it is left out.
    pub between: Option<(DayTime, DayTime)>,
}

impl RetentionConfig {
    /// Whether a collection may begin at that moment.
    pub fn may_begin(&self, now: Timestamp) -> bool {
        let now = DayTime::of(now);
        match self.between {
            None => true,
            Some((from, to)) if from < to => from <= now && now < to,
            // Over midnight.
            Some((from, to)) => now >= from || now < to,
        }
    }
}

/// A minute of the day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DayTime(u16);

impl DayTime {
    /// Reads `HH:MM`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str, below: u16| {
            let is_number = text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit());
            text.parse().ok().filter(|n: &u16| is_number && *n < below)
        };
        Some(Self(number(hours, 24)? * 60 + number(minutes, 60)?))
    }

    fn of(at: Timestamp) -> Self {
        let minute = at.0.div_euclid(60_000).rem_euclid(24 * 60);
        Self(u16::try_from(minute).expect("a day has 1440 minutes"))
    }
}

impl fmt::Display for DayTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}
