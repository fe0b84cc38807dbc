//! What can go wrong with a component, by the step that failed.

use rfs_link::plain::word;
use rfs_model::{ComponentName, Reason};
use rfs_store::restore::{DiscardError, FlipError, PatternError, PlanError, StageError};
use rfs_store::text::ByteText;
use rfs_store::{CaptureError, Stopped, StoreError};

use crate::host::RunError;

/// Why a component could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// Its state could not be read.
    #[error("{component} could not be captured")]
    Capture {
        /// Which component.
        component: ComponentName,
        /// Why.
        source: CaptureError,
    },
    /// What the snapshot holds of it could not be read.
    #[error("{component} could not be read from the snapshot")]
    Recall {
        /// Which component.
        component: ComponentName,
        /// Why.
        source: StoreError,
    },
    /// No plan can be made.
    #[error("{component} has no plan")]
    Plan {
        /// Which component.
        component: ComponentName,
        /// Why.
        source: PlanError,
    },
    /// A selected path cannot be understood.
    #[error("the selection of {component} is not valid")]
    Selection {
        /// Which component.
        component: ComponentName,
        /// Why.
        source: PatternError,
    },
    /// The snapshot and the configuration have no path in common.
    #[error("{component} has no path in common with the snapshot")]
    NothingInCommon {
        /// Which component.
        component: ComponentName,
    },
    /// A root is a link, and nobody has said what is meant.
    #[error(
        "{path} of {component} is a symbolic link; write follow_roots = true to capture what is behind it too, or follow_roots = false to capture the link alone"
    )]
    LinkRoot {
        /// Which component.
        component: ComponentName,
        /// The link.
        path: ByteText,
    },
    /// Two paths are apart as they are written, and links lead them together.
    #[error(
        "{path} of {component} leads to {place}, and {other} leads there too; a path belongs to one component: take one of them out of the configuration, point the link elsewhere, or write follow_roots = false to keep a link alone"
    )]
    LedTogether {
        /// Which component.
        component: ComponentName,
        /// The path.
        path: ByteText,
        /// Where it leads.
        place: ByteText,
        /// The other path, and its component.
        other: String,
    },
    /// What was selected lies behind a link, and is not in the snapshot.
    #[error(
        "{path} lies behind the link {link}, and the snapshot does not have what is behind it; write follow_roots = true in {component} before the next capture, or restore the link alone with --path {link}"
    )]
    NotBehind {
        /// Which component.
        component: ComponentName,
        /// What was selected.
        path: ByteText,
        /// The link.
        link: ByteText,
    },
    /// What was selected lies behind a link that leads elsewhere now.
    #[error(
        "{path} lies behind the link {link}, which led to {then} when the snapshot was taken and leads to {now} now; restore the link with what is behind it with --path {link}, or name the path in the place that is meant, --path {then}/…"
    )]
    OtherBehind {
        /// What was selected.
        path: ByteText,
        /// The link.
        link: ByteText,
        /// Where it led at the capture.
        then: ByteText,
        /// Where it leads now.
        now: String,
    },
    /// A path is on another file system than when the snapshot was taken.
    #[error(
        "{path} of {component} was {then} when the snapshot was taken, and is {now} now; mount what belongs there, or accept it with --accept-loss {path}"
    )]
    OtherFileSystem {
        /// Which component.
        component: ComponentName,
        /// The path.
        path: ByteText,
        /// Its file system then.
        then: String,
        /// Its file system now.
        now: String,
    },
    /// A link above a path leads elsewhere than when the snapshot was taken, and so to another tree.
    #[error(
        "{path} of {component} was reached through {then} when the snapshot was taken, and is through {now} now, which is another tree; put the link back, or restore into the present tree with --accept-loss {path}"
    )]
    OtherWay {
        /// Which component.
        component: ComponentName,
        /// The path.
        path: ByteText,
        /// The links that led there then.
        then: String,
        /// The links that lead there now.
        now: String,
    },
    /// A live path cannot be changed before its mark is taken away.
    #[error("{path} of {component} is marked immutable or append-only; clear it with `chattr -i -a`")]
    Bound {
        /// Which component.
        component: ComponentName,
        /// The path.
        path: ByteText,
    },
    /// Something is mounted over what the snapshot has.
    #[error(
        "{path} of {component} is {what} now, and the snapshot has {count} entries beneath it; {undo}, or leave them out with --accept-loss {path}"
    )]
    Covered {
        /// Which component.
        component: ComponentName,
        /// The mount.
        path: ByteText,
        /// What it is.
        what: String,
        /// How its place becomes reachable.
        undo: &'static str,
        /// How many entries of the snapshot cannot be reached.
        count: u64,
    },
    /// The restore would remove what the component does not give up.
    #[error(
        "{component} refuses the loss of {} that the snapshot does not have, first: {first}; keep it with --keep {}, or accept its loss with --accept-loss {}", entries(*count),
        word(first),
        word(first)
    )]
    Loss {
        /// Which component.
        component: ComponentName,
        /// The first of them.
        first: String,
        /// How many.
        count: u64,
    },
    /// The restore would remove what its backup could not bring back.
    #[error(
        "{first} of {component} is a socket or a device file, which no backup brings back, and would be removed ({count} such entries); accept its loss with --accept-loss {}; keep it with --keep if the snapshot has nothing of that name; for device files, write devices = true in the component, with which they are brought back",
        word(first)
    )]
    NotKept {
        /// Which component.
        component: ComponentName,
        /// The first of them.
        first: String,
        /// How many.
        count: u64,
    },
    /// New content could not be written.
    #[error("{component} could not be staged")]
    Stage {
        /// Which component.
        component: ComponentName,
        /// Why.
        source: StageError,
    },
    /// The exchange, or its inverse, did not reach its end.
    #[error("{component} could not be exchanged")]
    Flip {
        /// Which component.
        component: ComponentName,
        /// Why.
        source: FlipError,
    },
    /// What is no longer needed could not be removed.
    #[error("what was staged for {component} could not be removed")]
    Discard {
        /// Which component.
        component: ComponentName,
        /// Why.
        source: DiscardError,
    },
    /// A command of the component failed.
    #[error("{component} could not be {done}")]
    Command {
        /// Which component.
        component: ComponentName,
        /// What was tried: `stopped`, `started`, `asked`.
        done: &'static str,
        /// Why.
        source: RunError,
    },
    /// A service is not in the state that its command reported.
    #[error("{component} was {done}, and its status command says that it is {not} running")]
    Contradiction {
        /// Which component.
        component: ComponentName,
        /// What was done: `stopped`, `started`.
        done: &'static str,
        /// `still` or `not`.
        not: &'static str,
    },
    /// A service was to be ended by its processes, and runs on.
    #[error(
        "{component} still runs, although {count} of its processes were found and ended; stop it by hand"
    )]
    NotEnded {
        /// Which component.
        component: ComponentName,
        /// How many were found.
        count: u64,
    },
    /// What was written earlier cannot be read back.
    #[error("the {what} of {component} is not readable")]
    Unreadable {
        /// Which component.
        component: ComponentName,
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// The work was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl ComponentError {
    /// The reason for programs.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Capture { source, .. } => capture_reason(source),
            Self::Recall { source, .. } => store_reason(source),
            Self::Plan { source, .. } => match source {
                PlanError::Outside { .. } | PlanError::Roots { .. } => Reason::PathOutsideComponent,
                PlanError::Malformed { .. } => Reason::StoreDamaged,
                PlanError::Device { .. } => Reason::LossNotAccepted,
                PlanError::NotFound { .. }
                | PlanError::Overlap { .. }
                | PlanError::Blocked { .. }
                | PlanError::Held { .. } => Reason::InvalidArgument,
            },
            Self::Selection { .. } => Reason::InvalidArgument,
            Self::NothingInCommon { .. } => Reason::PathOutsideComponent,
            Self::Bound { .. } => Reason::Io,
            Self::LinkRoot { .. } | Self::LedTogether { .. } => Reason::InvalidArgument,
            Self::NotBehind { .. } | Self::OtherBehind { .. } => Reason::PathOutsideComponent,
            Self::OtherFileSystem { .. }
            | Self::OtherWay { .. }
            | Self::Covered { .. }
            | Self::Loss { .. }
            | Self::NotKept { .. } => Reason::LossNotAccepted,
            Self::Stage { source, .. } => stage_reason(source),
            Self::Flip { source, .. } => match source {
                FlipError::Changed { .. } => Reason::FileUnstable,
                FlipError::NotAFolder { .. } => Reason::PathOutsideComponent,
                FlipError::System { source, .. } => io_reason(source),
                FlipError::Interrupted => Reason::Cancelled,
                FlipError::Lost { .. } | FlipError::Immutable { .. } | FlipError::OtherMount { .. } => {
                    Reason::Io
                }
            },
            Self::Discard { .. } => Reason::Io,
            Self::Command { source: RunError::Stopped { source, .. }, .. } | Self::Stopped(source) => {
                stopped_reason(*source)
            }
            Self::Command { .. } | Self::Contradiction { .. } | Self::NotEnded { .. } => {
                Reason::CommandFailed
            }
            Self::Unreadable { .. } => Reason::StoreDamaged,
        }
    }

    /// Whether a person must decide or do something first, which a plan can say.
    pub(crate) fn is_obstacle(&self) -> bool {
        matches!(
            self,
            Self::OtherFileSystem { .. }
                | Self::OtherWay { .. }
                | Self::Covered { .. }
                | Self::Loss { .. }
                | Self::NotKept { .. }
                | Self::Bound { .. }
                | Self::Plan { source: PlanError::Device { .. } | PlanError::Held { .. }, .. }
        )
    }

    /// Whether the work was stopped, so that no other way should be tried.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::Command { source: RunError::Stopped { .. }, .. })
    }

    /// Whether something would be lost that can be kept instead.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::Loss { .. } | Self::NotKept { .. })
    }

    /// Whether a service could not be asked or stopped by its own commands.
    pub(crate) fn is_not_obeyed(&self) -> bool {
        match self {
            Self::Command { done, .. } => matches!(*done, "asked" | "stopped") && !self.is_stopped(),
            Self::Contradiction { not, .. } => *not == "still",
            _ => false,
        }
    }

    /// Whether the live state moved on between the plan and the exchange, so that a new plan may succeed.
    pub fn is_moved_on(&self) -> bool {
        matches!(
            self,
            Self::Flip { source: FlipError::Changed { .. }, .. }
                | Self::Stage { source: StageError::Changed { .. } | StageError::Unmanaged { .. }, .. }
                | Self::Capture { source: CaptureError::Unstable { .. }, .. }
        )
    }
}

/// The reason why staging failed.
pub(crate) fn stage_reason(error: &StageError) -> Reason {
    match error {
        StageError::NoSpace { .. } | StageError::NoInodes { .. } => Reason::NoSpace,
        StageError::Changed { .. } => Reason::FileUnstable,
        StageError::Unmanaged { .. } => Reason::LossNotAccepted,
        StageError::Content { source, .. } => match source.downcast_ref() {
            Some(error) => store_reason(error),
            None => Reason::Io,
        },
        StageError::Cancelled => Reason::Cancelled,
        StageError::NotAFolder { .. } => Reason::PathOutsideComponent,
        StageError::System { source, .. } => io_reason(source),
        StageError::ReadOnly { .. }
        | StageError::NoExchange { .. }
        | StageError::Immutable { .. }
        | StageError::MountPoint { .. }
        | StageError::InUse { .. } => Reason::Io,
    }
}

/// The reason why a capture failed.
pub(crate) fn capture_reason(error: &CaptureError) -> Reason {
    match error {
        CaptureError::Unreadable { source, .. } => io_reason(source),
        CaptureError::Unstable { .. } => Reason::FileUnstable,
        CaptureError::BadPath { .. } | CaptureError::BadPattern { .. } => Reason::InvalidArgument,
        CaptureError::Store(error) => store_reason(error),
        CaptureError::Stopped(stopped) => stopped_reason(*stopped),
    }
}

/// The reason why the store refused.
pub(crate) fn store_reason(error: &StoreError) -> Reason {
    match error {
        StoreError::Locked { .. } => Reason::StoreLocked,
        StoreError::NoSpace { .. } | StoreError::NoInodes { .. } => Reason::NoSpace,
        StoreError::UnknownSnapshot { .. } | StoreError::AmbiguousPrefix { .. } => Reason::SnapshotNotFound,
        StoreError::UnknownComponent { .. } => Reason::ComponentNotFound,
        StoreError::Undeletable { .. } => Reason::CheckpointInUse,
        StoreError::BadComponent { .. } => Reason::InvalidArgument,
        StoreError::Damaged { .. } | StoreError::Missing { .. } => Reason::StoreDamaged,
        StoreError::Io { source, .. } => io_reason(source),
        StoreError::ReadOnly { .. } | StoreError::NotAStore { .. } | StoreError::NewerFormat { .. } => {
            Reason::Io
        }
        StoreError::Stopped(stopped) => stopped_reason(*stopped),
    }
}

/// The reason to stop.
pub(crate) fn stopped_reason(stopped: Stopped) -> Reason {
    match stopped {
        Stopped::Cancelled => Reason::Cancelled,
        Stopped::DeadlinePassed => Reason::DeadlineExceeded,
    }
}

fn io_reason(error: &std::io::Error) -> Reason {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Reason::NoSpace,
        _ => Reason::Io,
    }
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}
