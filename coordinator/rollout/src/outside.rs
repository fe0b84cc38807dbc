//! What hosts outside an operation take of the budgets that all running operations share.
//!
//! ```text
//!  other operations ──hosts at work or unproven, limits──┐
//!                                                        ├─▶ Outside ──input──▶ decide ─▶ starts that fit
//!  the fleet ─────────hosts that are not available───────┘
//! ```
//!
//! It is an input of decisions, and never stored: that a host starts is an event, and replaying that asks nobody. Whoever gives
//! it must let no other operation decide until what is decided here counts.

mod around;
mod neighbours;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rfs_model::{Health, HostId, Labels, OperationId};

pub use neighbours::Neighbours;

/// The groups that another operation limits, by their names, of an operation's own hosts.
pub type Limited = BTreeMap<HostId, Vec<Arc<str>>>;

/// What hosts outside an operation take, as it is known when the operation decides. Much of it is shared with what the operation
/// was told before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outside {
    /// No host may start: it is not known yet which operations run, or hosts are not yet compared with the history.
    pub unknown: bool,
    /// By the names of the label groups, such as `zone=a`. A group in which nobody outside takes anything, and that only this
    /// operation limits, need not be there.
    pub groups: BTreeMap<Arc<str>, Arc<OutsideGroup>>,
    /// The groups of its own hosts that another operation limits; none if no other one does. What its plan says of its own
    /// budgets counts more.
    pub of: Option<Arc<Limited>>,
}

/// The hosts of the fleet at a moment.
pub trait FleetNow {
    /// Grows whenever the labels of a host have changed.
    fn labels_version(&self) -> u64;

    /// The labels of a host.
    fn labels(&self, host: &HostId) -> Labels;

    /// Tells of each host that is not available.
    fn unavailable(&self, tell: &mut dyn FnMut(&HostId, Ill));
}

/// A label group, as far as hosts outside the operation and other operations are concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutsideGroup {
    /// The strictest limit that another running operation sets, and which operation that is.
    pub limit: Option<(u32, OperationId)>,
    /// The hosts outside that take something.
    pub taken: BTreeMap<HostId, Taken>,
}

/// What a host outside takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// The place that another operation holds for it.
    pub place: Option<Place>,
    /// Why it is not available.
    pub ill: Option<Ill>,
}

/// A place that an operation holds for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The operation.
    pub operation: OperationId,
    /// Whether the host is at work; else it was changed, and has not been healthy for long enough since.
    pub at_work: bool,
}

/// Why a host is not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ill {
    /// It has no connection.
    Absent,
    /// Its health is not known to be good.
    Health(Health),
    /// It stands between two states.
    Inconsistent,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, at_work } = self;
        match at_work {
            true => write!(f, "is at work in {operation}"),
            false => write!(f, "was changed by {operation} and is not proven healthy yet"),
        }
    }
}

impl fmt::Display for Ill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("has no connection"),
            Self::Health(Health::Bad) => f.write_str("is unhealthy"),
            Self::Health(health) => write!(f, "has {health} health"),
            Self::Inconsistent => f.write_str("is INCONSISTENT"),
        }
    }
}

impl Outside {
    /// Nobody else is there.
    pub const NOBODY: &'static Self = &Self { unknown: false, groups: BTreeMap::new(), of: None };

    /// Whether another operation limits a group that the host is in.
    pub(crate) fn limits(&self, host: &HostId) -> bool {
        self.of.as_ref().is_some_and(|limited| limited.contains_key(host))
    }
}
