//! A host: one server with one agent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

crate::name::name! {
    /// The name of a host, as its certificate says it, such as `web-1`.
    HostId, "host name"
}

/// A machine that speaks for a host: the random id that lives with its agent's store.
///
/// Another id under the same name means another machine, or a store that was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(uuid::Uuid);

impl InstanceId {
    /// Takes a UUID that the caller made.
    pub const fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
    }
}

/// Text that is not an instance id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an instance id: a UUID is needed")]
pub struct InstanceIdError(String);

impl FromStr for InstanceId {
    type Err = InstanceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| InstanceIdError(text.chars().take(80).collect()))
    }
}

/// Counts the restores of one host, from 1; 0 stands for "before the first".
///
/// A reading of health carries the number of the last restore that had ended before it began, so that whether it is about
/// the state after a restore needs no clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RestoreNumber(pub u64);

impl fmt::Display for RestoreNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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
