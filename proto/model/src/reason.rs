//! Reasons: why a request was refused or a host failed, for programs and for people.
//!
//! A reason travels as `google.rpc.ErrorInfo.reason`, is stored in histories, and decides the exit code of the
//! command line. Once released, a reason keeps its name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why something was refused or failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason as it travels: upper snake case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// A field of the request is not valid; the details name it.
    InvalidArgument = "INVALID_ARGUMENT",
    /// The selector matches no host.
    NoHostMatches = "NO_HOST_MATCHES",
    /// No host of that name is known.
    HostNotFound = "HOST_NOT_FOUND",
    /// No checkpoint of that id exists.
    CheckpointNotFound = "CHECKPOINT_NOT_FOUND",
    /// The checkpoint lacks hosts, so it is not a target.
    CheckpointIncomplete = "CHECKPOINT_INCOMPLETE",
    /// The checkpoint is a rollback's target or backup, or pinned, and stays.
    CheckpointInUse = "CHECKPOINT_IN_USE",
    /// No rollback of that id exists.
    RollbackNotFound = "ROLLBACK_NOT_FOUND",
    /// The rollback is not in a state in which that can be done.
    WrongState = "WRONG_STATE",
    /// Later rollbacks changed the same hosts, and it was not said that what they did is to go, too.
    ChangedLater = "CHANGED_LATER",
    /// The request id was used before for another request.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// Another operation owns the host.
    HostBusy = "HOST_BUSY",
    /// The host has no connection to the coordinator.
    HostUnreachable = "HOST_UNREACHABLE",
    /// Two machines speak for one host's name; neither is told anything until a person has said which one it is.
    HostConflict = "HOST_CONFLICT",
    /// Another machine speaks for the host's name than before; where it stands is not known.
    HostReplaced = "HOST_REPLACED",
    /// The host is connected, so it is not forgotten.
    HostConnected = "HOST_CONNECTED",
    /// The host was forgotten: it is none of the fleet until a person accepts it again.
    HostForgotten = "HOST_FORGOTTEN",
    /// A host has obeyed newer commands than the coordinator's store ever gave: the store was put back to an older copy.
    StoreRewound = "STORE_REWOUND",
    /// The host did not answer in time.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// The label order has a cycle.
    OrderCycle = "ORDER_CYCLE",
    /// The budget of unavailable hosts allows no wave at all.
    BudgetTooSmall = "BUDGET_TOO_SMALL",
    /// A wave's gate waits for health that nobody measures.
    GateCannotPass = "GATE_CANNOT_PASS",
    /// The command's generation is older than one the host has seen.
    StaleGeneration = "STALE_GENERATION",
    /// The caller's certificate does not allow this.
    PermissionDenied = "PERMISSION_DENIED",
    /// There is no certificate, or none that is trusted.
    Unauthenticated = "UNAUTHENTICATED",
    /// No snapshot of that id is in the host's store.
    SnapshotNotFound = "SNAPSHOT_NOT_FOUND",
    /// No component of that name is configured or captured.
    ComponentNotFound = "COMPONENT_NOT_FOUND",
    /// A path is outside its component, or leads out of it.
    PathOutsideComponent = "PATH_OUTSIDE_COMPONENT",
    /// There is not enough space on a file system.
    NoSpace = "NO_SPACE",
    /// A stored object or manifest is damaged.
    StoreDamaged = "STORE_DAMAGED",
    /// Another process holds the host's store.
    StoreLocked = "STORE_LOCKED",
    /// A read or a write failed.
    Io = "IO",
    /// A file kept changing while it was read.
    FileUnstable = "FILE_UNSTABLE",
    /// A hook, or a command that stops or starts a service, failed.
    CommandFailed = "COMMAND_FAILED",
    /// A host stayed unhealthy.
    Unhealthy = "UNHEALTHY",
    /// A second plan after the change was not empty.
    VerificationFailed = "VERIFICATION_FAILED",
    /// A person asked for it.
    Cancelled = "CANCELLED",
    /// The agent, or the host, ended in the middle, and put back what was begun.
    Interrupted = "INTERRUPTED",
    /// The host is at neither state; a person must look.
    Inconsistent = "INCONSISTENT",
    /// The loss that this would cause was not accepted.
    LossNotAccepted = "LOSS_NOT_ACCEPTED",
    /// The other end of a connection does not answer.
    Unreachable = "UNREACHABLE",
    /// There is more work than can be taken on now; the same request may pass later.
    Overloaded = "OVERLOADED",
    /// The other end's version does not know this call.
    Unsupported = "UNSUPPORTED",
    /// A fault in RFS itself.
    Internal = "INTERNAL",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A reason that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reason {0:?} is not known")]
pub struct UnknownReason(pub String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|r| r.as_str() == text).ok_or_else(|| UnknownReason(text.to_owned()))
    }
}
