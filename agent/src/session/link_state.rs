//! Whether the coordinator is connected, for status and for people.

use std::fmt;

use rfs_link::{Failure, Target};
use rfs_model::Timestamp;

/// How the link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// No coordinator is configured: the host is used locally alone.
    NotConfigured,
    /// There is no session.
    Connecting {
        /// Since when.
        since: Timestamp,
        /// Why the last try failed; none before the first has.
        failure: Option<Failure>,
    },
    /// There is a session.
    Connected {
        /// Since when.
        since: Timestamp,
        /// With which endpoint.
        endpoint: String,
        /// The version of the coordinator.
        coordinator: String,
    },
    /// The agent is stopping.
    Stopped,
}

impl LinkState {
    pub(super) fn connecting(since: Timestamp) -> Self {
        Self::Connecting { since, failure: None }
    }

    pub(super) fn connected(target: &Target, coordinator: &str, since: Timestamp) -> Self {
        Self::Connected { since, endpoint: target.to_string(), coordinator: coordinator.to_owned() }
    }

    /// There is no session (any more); one that was missing before has been missing since then.
    pub(super) fn lost(&mut self, now: Timestamp, failure: Option<Failure>) {
        let since = match self {
            Self::Connecting { since, .. } => *since,
            Self::NotConfigured | Self::Connected { .. } | Self::Stopped => now,
        };
        *self = Self::Connecting { since, failure };
    }

    /// Whether there is a session.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => f.write_str("no coordinator is configured"),
            Self::Connecting { since, failure: None } => write!(f, "connecting since {since}"),
            Self::Connecting { since, failure: Some(failure) } => {
                write!(f, "not connected since {since}: {failure}; {}", failure.next_step())
            }
            Self::Connected { since, endpoint, coordinator } => {
                write!(f, "connected to {endpoint} (version {coordinator}) since {since}")
            }
            Self::Stopped => f.write_str("stopping"),
        }
    }
}
