//! The phases of a restore: every arrow that the journal knows.
//!
//! ```text
//! Accepted ─▶ BackingUp ─▶ Staging ─▶ Quiescing ─▶ Flipping ─▶ Starting ─▶ Verifying ─▶ Committed ─▶ Discarding ─▶ Ended
//!                 │           │           │        ▲ Settling ◀┤           │           │
//!                 │           │           └────────┴───────────┴───────────┴───────────┘
//!                 │           │                           ▼
//!                 │           │           Returning ─▶ FlippingBack ─▶ StartingBack ─▶ Returned ─┐
//!                 └───────────┴──────────────────────────────────────────────────▶ Abandoning ◀──┘─▶ Ended
//! ```
//!
//! Invariant: a phase is durable in the journal before its effect begins, so the last phase in the journal bounds what
//! can have happened. The two that follow while services are down wait for no disk: after a power cut `Quiescing` or
//! `Settling` may stand for `Flipping` and `Starting` too, and the way back is the same from all of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One step of a restore, named for what is about to happen or has just been decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The restore is known to the host; nothing has been done.
    Accepted,
    /// The present state is captured and committed.
    BackingUp,
    /// The plan is made, and new content is written and verified beside the old.
    Staging,
    /// The services that the change touches are stopped.
    Quiescing,
    /// New content is exchanged with the old.
    Flipping,
    /// The live state had moved on since the backup: with services stopped, it is put back, backed up and staged anew.
    Settling,
    /// Services are brought to the target's state.
    Starting,
    /// A second plan must be empty, and the host healthy.
    Verifying,
    /// The target is reached; from here there is only forward.
    Committed,
    /// What was displaced is removed.
    Discarding,
    /// The way back is decided; services are stopped for it.
    Returning,
    /// Old content is exchanged back.
    FlippingBack,
    /// Services are brought to the state that they were in.
    StartingBack,
    /// The host is as it was; what was staged can go.
    Returned,
    /// What was staged is removed, nothing having been flipped, or all having been flipped back.
    Abandoning,
    /// Neither side could be reached; the host holds still.
    Stuck,
    /// The restore is over and its receipt is written.
    Ended,
}

/// Where a crash in a phase leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Nothing was changed: what was staged is dropped.
    Drop,
    /// Something may have been changed: it is put back.
    Back,
    /// The target is decided: what remains is tidied.
    Forward,
    /// Neither: a person must look.
    Hold,
    /// It is over.
    Over,
}

impl Phase {
    /// Every phase, in the order in which they can follow each other.
    pub const ALL: [Self; 17] = [
        Self::Accepted,
        Self::BackingUp,
        Self::Staging,
        Self::Quiescing,
        Self::Flipping,
        Self::Settling,
        Self::Starting,
        Self::Verifying,
        Self::Committed,
        Self::Discarding,
        Self::Returning,
        Self::FlippingBack,
        Self::StartingBack,
        Self::Returned,
        Self::Abandoning,
        Self::Stuck,
        Self::Ended,
    ];

    /// What recovery does when this is the last phase in the journal.
    pub fn direction(self) -> Direction {
        match self {
            Self::Accepted | Self::BackingUp | Self::Staging | Self::Returned | Self::Abandoning => {
                Direction::Drop
            }
            Self::Quiescing | Self::Flipping | Self::Settling | Self::Starting | Self::Verifying => {
                Direction::Back
            }
            Self::Returning | Self::FlippingBack | Self::StartingBack => Direction::Back,
            Self::Committed | Self::Discarding => Direction::Forward,
            Self::Stuck => Direction::Hold,
            Self::Ended => Direction::Over,
        }
    }

    /// The phase as it stands in the journal and in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::BackingUp => "backing_up",
            Self::Staging => "staging",
            Self::Quiescing => "quiescing",
            Self::Flipping => "flipping",
            Self::Settling => "settling",
            Self::Starting => "starting",
            Self::Verifying => "verifying",
            Self::Committed => "committed",
            Self::Discarding => "discarding",
            Self::Returning => "returning",
            Self::FlippingBack => "flipping_back",
            Self::StartingBack => "starting_back",
            Self::Returned => "returned",
            Self::Abandoning => "abandoning",
            Self::Stuck => "stuck",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A phase that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("phase {0:?} is not known to this version")]
pub struct UnknownPhase(pub String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}
