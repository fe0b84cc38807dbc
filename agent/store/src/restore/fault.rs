//! A system call that failed, before it is said in the words of a phase.

use rfs_model::ByteCount;
use rustix::io::Errno;

use super::error::{DiscardError, FlipError, StageError};
use crate::text::ByteText;

/// What was tried, on which absolute path, and what the system said.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) action: Action,
    pub(super) path: Vec<u8>,
    pub(super) errno: Errno,
}

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    OpenFolder,
    Look,
    List,
    Make,
    Link,
    SetOwner,
    SetMode,
    SetAttribute,
    SetTime,
    Exchange,
    Remove,
    Sync,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::OpenFolder => "open the folder",
            Self::Look => "look at",
            Self::List => "list",
            Self::Make => "make",
            Self::Link => "link",
            Self::SetOwner => "set the owner of",
            Self::SetMode => "set the mode of",
            Self::SetAttribute => "set the attributes of",
            Self::SetTime => "set the time of",
            Self::Exchange => "exchange",
            Self::Remove => "remove",
            Self::Sync => "make durable what is beneath",
        }
    }
}

impl Fault {
    pub(super) fn new(action: Action, path: impl Into<Vec<u8>>, errno: Errno) -> Self {
        Self { action, path: path.into(), errno }
    }
}

impl From<Fault> for StageError {
    fn from(Fault { action, path, errno }: Fault) -> Self {
        let path = ByteText(path);
        match (action, errno) {
            (Action::OpenFolder, Errno::NOTDIR | Errno::LOOP) => Self::NotAFolder { path },
            (Action::OpenFolder | Action::Look | Action::List, Errno::NOENT) => Self::Changed { path },
            (_, Errno::ROFS) => Self::ReadOnly { path },
            // The caller, who knows how much is needed, says it.
            (_, Errno::NOSPC) => Self::NoSpace { path, needed: ByteCount(0), available: ByteCount(0) },
            _ => Self::System { action: action.verb(), path, source: errno.into() },
        }
    }
}

impl From<Fault> for FlipError {
    fn from(Fault { action, path, errno }: Fault) -> Self {
        let path = ByteText(path);
        match (action, errno) {
            (Action::OpenFolder, Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Self::NotAFolder { path },
            (Action::Exchange, Errno::NOENT | Errno::EXIST) => Self::Changed { path },
            (Action::Exchange, Errno::XDEV) => Self::OtherMount { path },
            (_, Errno::PERM) => Self::Immutable { path },
            _ => Self::System { action: action.verb(), path, source: errno.into() },
        }
    }
}

impl From<Fault> for DiscardError {
    fn from(Fault { path, errno, .. }: Fault) -> Self {
        Self::System { path: ByteText(path), source: errno.into() }
    }
}
