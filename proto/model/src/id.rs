//! Identifiers. Those that RFS makes are UUIDs of version 7, so that they sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {rule}")]
pub struct IdError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Takes a UUID that the caller made.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError {
                    what: $what,
                    text: text.chars().take(80).collect(),
                    rule: "a UUID is needed",
                })
            }
        }
    };
}

uuid_id! {
    /// A checkpoint: a fleet's snapshots under one id.
    CheckpointId, "checkpoint id"
}
uuid_id! {
    /// A rollback: a fleet operation that brings hosts to a checkpoint.
    RollbackId, "rollback id"
}
uuid_id! {
    /// Any fleet operation, a checkpoint or a rollback, as the agents see it.
    OperationId, "operation id"
}

impl From<CheckpointId> for OperationId {
    fn from(id: CheckpointId) -> Self {
        Self(id.0)
    }
}

impl From<RollbackId> for OperationId {
    fn from(id: RollbackId) -> Self {
        Self(id.0)
    }
}

impl From<OperationId> for CheckpointId {
    fn from(id: OperationId) -> Self {
        Self(id.0)
    }
}

impl From<OperationId> for RollbackId {
    fn from(id: OperationId) -> Self {
        Self(id.0)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`: 1 to 128 printable ASCII characters without spaces.
            pub fn new(text: &str) -> Result<Self, IdError> {
                if text.is_empty() || text.len() > 128 || !text.bytes().all(|b| b.is_ascii_graphic()) {
                    return Err(IdError {
                        what: $what,
                        text: text.chars().take(80).collect(),
                        rule: "1 to 128 printable ASCII characters without spaces are needed",
                    });
                }
                Ok(Self(text.to_owned()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

text_id! {
    /// A caller's own id of a request: the same id again returns the same result.
    RequestId, "request id"
}
text_id! {
    /// A deploy tool's id of a deployment, such as `release-2026-11-24.3`.
    DeploymentId, "deployment id"
}
