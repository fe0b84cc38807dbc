//! A component: one named piece of a host's state, of one kind.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use crate::name::NameError;

crate::name::name! {
    /// The name of a component, unique on its host, such as `site`.
    ComponentName, "component name"
}

/// What a component keeps, which decides who captures and restores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComponentKind {
    /// Trees of files, with all their metadata.
    Files,
    /// Services that are stopped and started around a change, and whether they ran.
    Services,
}

impl ComponentKind {
    /// Every kind, in the order in which a restore changes them.
    pub const ALL: [Self; 2] = [Self::Files, Self::Services];

    /// The kind as it stands in configuration and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Services => "services",
        }
    }
}

impl fmt::Display for ComponentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A kind that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("component kind {0:?} is not known; this version knows: files, services")]
pub struct UnknownKind(pub String);

impl FromStr for ComponentKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}
