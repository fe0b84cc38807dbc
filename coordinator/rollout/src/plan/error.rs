//! Why a request cannot become a plan.

use std::fmt;

use rfs_model::{HostId, Reason, Selector};

use super::near::hint;
use super::validate::near_label;
use crate::fleet::FleetView;
use crate::request::Label;

/// Why a request cannot become a plan. Field paths are those of the operator API's `RollbackSpec`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No host is left.
    #[error("{field}: {}{near}; `rfs host list` shows names and labels", no_host(selector, *offered, origin))]
    NoHostMatches {
        /// Where.
        field: &'static str,
        /// The selector in words.
        selector: String,
        /// How many hosts there are to choose from.
        offered: usize,
        /// Where they come from, in words.
        origin: String,
        /// The label that was probably meant, in words; may be empty.
        near: String,
    },
    /// A host that the request names is not known.
    #[error("{field}: no host {host} is known{near}; `rfs host list` shows those that are")]
    UnknownHost {
        /// Where.
        field: String,
        /// The name.
        host: HostId,
        /// The host that was probably meant, in words; may be empty.
        near: String,
    },
    /// A host that the request names has no target in the source.
    #[error("{field}: {origin} has nothing for host {host}; leave the host out or choose another source")]
    NoTarget {
        /// Where.
        field: String,
        /// The name.
        host: HostId,
        /// The source in words.
        origin: String,
    },
    /// A field has a value that makes no sense.
    #[error("{field}: {problem}")]
    Invalid {
        /// Where.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The order relations contradict each other.
    #[error("waves.order: {} cannot each come before the next; remove one of these relations", .cycle.join(" → "))]
    OrderCycle {
        /// The cycle: the first is repeated at the end.
        cycle: Vec<String>,
    },
    /// A budget under which no host could ever start.
    #[error("{field}: a budget of 0 lets no host start; allow at least 1")]
    BudgetTooSmall {
        /// Where.
        field: String,
    },
}

impl PlanError {
    /// A host of that name is not known, and which one was probably meant.
    pub fn unknown_host<'k>(
        field: impl Into<String>,
        host: &HostId,
        known: impl IntoIterator<Item = &'k HostId>,
    ) -> Self {
        let near = hint(host.as_str(), known.into_iter().map(HostId::as_str));
        Self::UnknownHost { field: field.into(), host: host.clone(), near }
    }

    /// The selector matches none of `hosts`, which come from `origin`; `labels` are those that could have been meant.
    pub fn no_host_matches(
        selector: &Selector,
        offered: usize,
        origin: impl fmt::Display,
        fleet: &FleetView,
    ) -> Self {
        let labels = selector.labels.iter();
        let labels = labels.map(|(key, value)| Label { key: key.clone(), value: value.clone() });
        let unknown = |label: &Label| !fleet.hosts.values().any(|view| label.is_in(&view.labels));
        let near =
            labels.filter(unknown).map(|label| near_label(&label, fleet)).find(|hint| !hint.is_empty());
        Self::NoHostMatches {
            field: "selector",
            selector: selector.to_string(),
            offered,
            origin: origin.to_string(),
            near: near.unwrap_or_default(),
        }
    }

    pub(super) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    /// For programs.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoHostMatches { .. } => Reason::NoHostMatches,
            Self::UnknownHost { .. } => Reason::HostNotFound,
            Self::NoTarget { .. } => Reason::SnapshotNotFound,
            Self::Invalid { .. } => Reason::InvalidArgument,
            Self::OrderCycle { .. } => Reason::OrderCycle,
            Self::BudgetTooSmall { .. } => Reason::BudgetTooSmall,
        }
    }

    /// The path of the field from the request's root, such as `waves.sizes[1]`.
    pub fn field(&self) -> &str {
        match self {
            Self::NoHostMatches { field, .. } => field,
            Self::OrderCycle { .. } => "waves.order",
            Self::UnknownHost { field, .. }
            | Self::NoTarget { field, .. }
            | Self::Invalid { field, .. }
            | Self::BudgetTooSmall { field } => field,
        }
    }
}

fn no_host(selector: &impl fmt::Display, offered: usize, origin: &impl fmt::Display) -> String {
    match offered {
        0 => format!("{origin} has no host yet"),
        1 => format!("{selector} does not match the one host of {origin}"),
        _ => format!("{selector} matches none of the {offered} hosts of {origin}"),
    }
}
