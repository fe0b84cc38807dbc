//! A host: one server with one agent.

use std::fmt;

use serde::{Deserialize, Serialize};

crate::name::name! {
    /// The name of a host, as its certificate says it, such as `web-1`.
    HostId, "host name"
}

/// Where a host stands after a command that changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As it was before the command: nothing was changed, or all was put back.
    Before,
    /// At the target, proven by a second plan that is empty.
    Target,
    /// Neither could be reached; the host holds still until a person has looked.
    Inconsistent,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Before => "as before",
            Self::Target => "at target",
            Self::Inconsistent => "INCONSISTENT",
        })
    }
}
