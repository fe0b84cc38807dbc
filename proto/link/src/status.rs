//! The one table: what each reason is as a gRPC status, as an exit code, and what a person does next.
//!
//! A new reason fails to compile here until it has a row.

use std::fmt;

use rfs_model::Reason;
use tonic::Code;

/// How an agent, which knows no rollback, names the command that tries its host again. The coordinator fills in both words.
pub const RETRY: &str = "rfs rollback retry ID --host NAME";

/// How a command line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// The operation failed, and the host or fleet is as it was.
    Failed = 1,
    /// The command was not understood.
    Usage = 2,
    /// Refused: a precondition, a missing approval or role, a loss that was not accepted.
    Refused = 3,
    /// The other end cannot be reached.
    Unreachable = 4,
    /// A person must look.
    Person = 5,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8)
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The code of the gRPC status.
    pub code: Code,
    /// The exit code of a command line that fails for this reason.
    pub exit: Exit,
    /// What to do next, where the place that failed knows nothing better.
    pub next: &'static str,
}

/// The row of `reason`.
pub const fn row(reason: Reason) -> Row {
    use Exit::{Failed, Person, Refused, Unreachable, Usage};
    const fn row(code: Code, exit: Exit, next: &'static str) -> Row {
        Row { code, exit, next }
    }
    match reason {
        Reason::InvalidArgument => {
            row(Code::InvalidArgument, Usage, "correct the named field and send the request again")
        }
        Reason::NoHostMatches => {
            row(Code::NotFound, Refused, "see the hosts and their labels with: rfs host list")
        }
        Reason::HostNotFound => row(Code::NotFound, Refused, "see the hosts with: rfs host list"),
        Reason::CheckpointNotFound => {
            row(Code::NotFound, Refused, "see the checkpoints with: rfs checkpoint list")
        }
        Reason::CheckpointIncomplete => {
            row(Code::FailedPrecondition, Refused, "choose a complete one from: rfs checkpoint list")
        }
        Reason::CheckpointInUse => row(
            Code::FailedPrecondition,
            Refused,
            "unpin it, or wait until the rollbacks that use it have ended: rfs rollback list",
        ),
        Reason::RollbackNotFound => row(Code::NotFound, Refused, "see the rollbacks with: rfs rollback list"),
        Reason::WrongState => {
            row(Code::FailedPrecondition, Refused, "look at its present state with: rfs rollback show ID")
        }
        Reason::ChangedLater => row(
            Code::FailedPrecondition,
            Refused,
            "undo the later rollbacks first, the newest one before the others: rfs rollback undo ID",
        ),
        Reason::RequestIdReused => {
            row(Code::AlreadyExists, Refused, "use a new request id, or repeat the first request unchanged")
        }
        Reason::HostBusy => row(
            Code::Aborted,
            Refused,
            "wait for the operation that owns the host, or abort it: rfs rollback list",
        ),
        Reason::HostUnreachable => {
            row(Code::Unavailable, Unreachable, "look at the agent on that host: systemctl status rfs-agent")
        }
        Reason::HostConflict => row(
            Code::FailedPrecondition,
            Person,
            "see the machines with: rfs host show NAME; then say which one it is: rfs host accept NAME --instance ID",
        ),
        Reason::HostReplaced => row(
            Code::FailedPrecondition,
            Failed,
            "look at the machine with: rfs host show NAME; then roll it back again",
        ),
        Reason::HostConnected => row(
            Code::FailedPrecondition,
            Refused,
            "stop its agent first (on the host: systemctl disable --now rfs-agent), then forget it again",
        ),
        Reason::HostForgotten => row(
            Code::FailedPrecondition,
            Refused,
            "if it belongs to the fleet again: rfs host accept NAME; forgotten hosts are seen with: rfs host list --forgotten",
        ),
        Reason::StoreRewound => row(
            Code::FailedPrecondition,
            Person,
            "compare the hosts with: rfs rollback show ID; then go on, or abort",
        ),
        Reason::DeadlineExceeded => {
            row(Code::DeadlineExceeded, Failed, "look at what the host was doing with: rfs host show NAME")
        }
        Reason::GateCannotPass => row(
            Code::FailedPrecondition,
            Refused,
            "give those hosts a required check ([[health]] in agent.toml), or do not look at health: --ignore-health",
        ),
        Reason::OrderCycle => {
            row(Code::InvalidArgument, Usage, "take one of the named steps out of the order")
        }
        Reason::BudgetTooSmall => {
            row(Code::FailedPrecondition, Refused, "allow at least one unavailable host in each group")
        }
        Reason::StaleGeneration => {
            row(Code::Aborted, Refused, "a newer operation owns the host; see: rfs host show NAME")
        }
        Reason::PermissionDenied => row(
            Code::PermissionDenied,
            Refused,
            "use a certificate with the needed role, or have the role granted in the coordinator's configuration",
        ),
        Reason::Unauthenticated => row(
            Code::Unauthenticated,
            Refused,
            "give a client certificate of this fleet (--certificate, --key, --ca); see what one says with: rfs pki show FILE",
        ),
        Reason::SnapshotNotFound => {
            row(Code::NotFound, Refused, "see the host's snapshots with: rfs-agent snapshots list")
        }
        Reason::ComponentNotFound => row(
            Code::NotFound,
            Refused,
            "see the components with: rfs-agent status (configured), rfs-agent snapshots show ID (captured)",
        ),
        Reason::PathOutsideComponent => {
            row(Code::InvalidArgument, Usage, "name a path inside the paths that the component declares")
        }
        Reason::NoSpace => {
            row(Code::ResourceExhausted, Failed, "free space on the named file system and try again")
        }
        Reason::StoreDamaged => row(
            Code::DataLoss,
            Failed,
            "see what is harmed with: rfs-agent snapshots verify; then choose an undamaged snapshot",
        ),
        Reason::StoreLocked => row(
            Code::FailedPrecondition,
            Refused,
            "the agent runs: let it do the work through its socket, or stop it first",
        ),
        Reason::Io => row(Code::Internal, Failed, "look at the named path and the host's log (journalctl)"),
        Reason::FileUnstable => row(
            Code::Aborted,
            Failed,
            "exclude the named file, or quiesce the service that writes it, and try again",
        ),
        Reason::CommandFailed => {
            row(Code::Aborted, Failed, "run the named command on the host by hand and look at its output")
        }
        Reason::Unhealthy => {
            row(Code::Aborted, Failed, "look at the host's checks with: rfs host health NAME")
        }
        Reason::VerificationFailed => row(
            Code::Aborted,
            Failed,
            "find what writes to the component's paths while it is restored, and try again",
        ),
        Reason::Cancelled => row(Code::Cancelled, Failed, "start it again when you are ready"),
        Reason::Interrupted => row(Code::Aborted, Failed, "start it again"),
        Reason::Inconsistent => row(
            Code::FailedPrecondition,
            Person,
            "look at the host by hand: rfs-agent status, then rfs-agent restore SNAPSHOT",
        ),
        Reason::LossNotAccepted => row(
            Code::FailedPrecondition,
            Refused,
            "leave it in place with --keep PATTERN, or accept its loss with --accept-loss PATTERN; the message names the path",
        ),
        Reason::Unreachable => row(
            Code::Unavailable,
            Unreachable,
            "check the address and that the other end runs, then try again",
        ),
        Reason::Overloaded => row(Code::Unavailable, Unreachable, "try again in a moment"),
        Reason::Unsupported => {
            row(Code::Unimplemented, Refused, "upgrade the older of the two ends; see --version on both")
        }
        Reason::Internal => {
            row(Code::Internal, Failed, "look at the log of the end that failed, and report it with that log")
        }
    }
}

/// The reason of a status that does not carry one, as a proxy or another library would send it.
pub(crate) fn reason_of(code: Code) -> Reason {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Reason::InvalidArgument,
        Code::Unauthenticated => Reason::Unauthenticated,
        Code::PermissionDenied => Reason::PermissionDenied,
        Code::DeadlineExceeded => Reason::DeadlineExceeded,
        Code::Cancelled => Reason::Cancelled,
        Code::Unavailable => Reason::Unreachable,
        Code::ResourceExhausted => Reason::Overloaded,
        Code::Unimplemented => Reason::Unsupported,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => Reason::WrongState,
        Code::Ok | Code::Unknown | Code::NotFound | Code::Internal | Code::DataLoss => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_row_that_is_an_error_and_says_what_to_do() {
        for &reason in Reason::ALL {
            let row = row(reason);
            assert_ne!(row.code, Code::Ok, "{reason}");
            assert_ne!(row.code, Code::Unknown, "{reason}");
            assert_ne!(row.exit, Exit::Done, "{reason}");
            assert!(row.next.len() > 10 && !row.next.ends_with('.'), "{reason}: {}", row.next);
        }
    }

    #[test]
    fn what_a_person_typed_wrong_is_usage_and_only_what_nobody_else_can_decide_calls_for_a_person() {
        let undecided = [Reason::Inconsistent, Reason::HostConflict, Reason::StoreRewound];
        for &reason in Reason::ALL {
            let row = row(reason);
            assert_eq!(row.exit == Exit::Usage, row.code == Code::InvalidArgument, "{reason}");
            assert_eq!(row.exit == Exit::Person, undecided.contains(&reason), "{reason}");
            assert_eq!(row.exit == Exit::Unreachable, row.code == Code::Unavailable, "{reason}");
        }
    }
}
