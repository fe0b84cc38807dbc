//! Why a restore ended other than at its target, and what a person does next.

use rfs_link::status::RETRY;
use rfs_link::{Chain, status};
use rfs_model::{ComponentName, Reason};
use rfs_store::journal::JournalError;
use rfs_store::restore::FlipError;
use rfs_store::{Stopped, StoreError};

use super::phase::Phase;
use super::receipt::Failure;
use crate::commander::Refusal;
use crate::component::{ComponentError, stopped_reason, store_reason};

/// Why a step was not taken, or did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    /// A component could not do its part.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The step could not be journalled, so it was not taken.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store could not read or write.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A component is not at the target although all steps were taken.
    #[error("{component} differs from the snapshot after the restore, in {count} places, first: {first}")]
    Differs {
        /// Which component.
        component: ComponentName,
        /// In how many places.
        count: u64,
        /// The first of them.
        first: String,
    },
    /// Something was written while the restore was at work, and before any service was started.
    #[error(
        "{component} was written to while it was restored, in {count} places, first: {first}; stop what writes there, or exclude the path"
    )]
    Moved {
        /// Which component.
        component: ComponentName,
        /// In how many places.
        count: u64,
        /// The first of them.
        first: String,
    },
    /// The kernel could not be asked for its time.
    #[error("the moment of the flip cannot be told")]
    Moment(#[source] FlipError),
    /// It was asked to stop, or its time was up.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The agent, or the host, ended in the middle.
    #[error("the agent ended during {0}")]
    Interrupted(Phase),
    /// A test asked for it.
    #[cfg(feature = "failpoints")]
    #[error("made to fail at {0}")]
    Injected(Phase),
}

impl Cause {
    fn reason(&self) -> Reason {
        match self {
            Self::Component(error) => error.reason(),
            Self::Journal(error) => journal_reason(error),
            Self::Store(error) => store_reason(error),
            Self::Differs { .. } => Reason::VerificationFailed,
            Self::Moved { .. } => Reason::FileUnstable,
            Self::Moment(_) => Reason::Io,
            Self::Stopped(stopped) => stopped_reason(*stopped),
            Self::Interrupted(_) => Reason::Interrupted,
            #[cfg(feature = "failpoints")]
            Self::Injected(_) => Reason::Internal,
        }
    }

    /// Whether the live state moved on between the plan and the exchange, so that a new plan may succeed.
    pub(super) fn is_moved_on(&self) -> bool {
        match self {
            Self::Component(error) => error.is_moved_on(),
            Self::Moved { .. } => true,
            _ => false,
        }
    }

    /// Whether the store has lost what the target needs.
    pub(super) fn harms_target(&self) -> bool {
        let reads =
            matches!(self, Self::Component(ComponentError::Stage { .. } | ComponentError::Recall { .. }));
        reads && self.reason() == Reason::StoreDamaged
    }

    /// Whether a person must decide or do something first, which a plan can say.
    pub(super) fn is_obstacle(&self) -> bool {
        matches!(self, Self::Component(error) if error.is_obstacle())
    }

    /// The cause as a receipt keeps it. What is to be done is said to whoever asked: a coordinator's operator, or an
    /// administrator on the host.
    pub(super) fn failure(&self, phase: Phase, commanded: bool) -> Failure {
        let reason = self.reason();
        let again;
        let next = match self {
            Self::Component(error) if error.is_not_obeyed() && commanded => {
                again = format!(
                    "repair its command, or have the service's processes ended: {RETRY} --force-stop"
                );
                &again
            }
            Self::Component(error) if error.is_loss() && commanded => {
                again = format!(
                    "keep it, or accept its loss, and try again: {RETRY} --keep PATTERN, or with --accept-loss PATTERN"
                );
                &again
            }
            _ if reason == Reason::LossNotAccepted && commanded => {
                again = format!(
                    "put it right as the message says, and try again: {RETRY}; or accept it, with --accept-loss PATH"
                );
                &again
            }
            Self::Differs { .. } => {
                "if a service writes there when it starts, exclude these paths from the component, capture again, and retry"
            }
            Self::Interrupted(_) => "restore again",
            Self::Component(error) if error.is_moved_on() => {
                "stop what writes there, or exclude the path from its component, and try again"
            }
            Self::Component(error) if error.is_not_obeyed() => {
                "repair its command, or have the service's processes ended with: rfs-agent restore SNAPSHOT --force-stop"
            }
            _ if reason == Reason::NoSpace => {
                "free space on the named file system; what the store can give back is shown by: rfs-agent collect --dry-run; how much stays in reserve is said by reserve under [store] in the configuration"
            }
            _ => status::row(reason).next,
        };
        Failure { reason, message: Chain(self).to_string(), next: next.to_owned(), phase }
    }

    /// The cause as an answer to a request that was not begun.
    pub(super) fn refusal(&self) -> Refusal {
        let Failure { reason, message, next, .. } = self.failure(Phase::Accepted, false);
        Refusal { reason, message, next }
    }
}

/// The reason why the journal refused.
pub(crate) fn journal_reason(error: &JournalError) -> Reason {
    match error {
        JournalError::NoSpace(_) => Reason::NoSpace,
        JournalError::Busy => Reason::HostBusy,
        JournalError::Damaged { .. } => Reason::StoreDamaged,
        JournalError::NewerFormat { .. } | JournalError::Database(_) | JournalError::Io { .. } => Reason::Io,
    }
}

/// A refusal in words.
pub(crate) fn refuse(reason: Reason, message: impl Into<String>, next: &str) -> Refusal {
    Refusal { reason, message: message.into(), next: next.to_owned() }
}

/// A refusal with what the one table says to do next.
pub(crate) fn refuse_for(reason: Reason, message: impl Into<String>) -> Refusal {
    refuse(reason, message, status::row(reason).next)
}
