//! How operations reach hosts: the contract between the drivers and whoever holds the hosts' sessions.
//!
//! Commands go down through [`Fleet`], which never waits. What hosts say comes up through one channel of [`FleetEvent`]s, which
//! is read without waiting for any operation. Whoever holds a session bounds it: reads no more from a host while a few of its
//! reports are not told as stored, so that a full coordinator slows its sessions instead of losing reports. Presence and health are not sent
//! but looked up: an event says only *look at this host again*, so that any number of changes costs one look.

use std::collections::BTreeMap;
use std::time::Duration;

use rfs_model::{Generation, HostId, InstanceId, Labels, OperationId, SnapshotId, Timestamp};
use rfs_rollout::outside::Ill;
use rfs_rollout::{HostCommand, Reading, Report};
use tokio::sync::{mpsc, oneshot};

/// How many events may wait for the drivers before sessions are slowed.
pub const EVENT_BOUND: usize = 4096;

/// The hosts that can be reached from here.
pub trait Fleet: Send + Sync + 'static {
    /// Hands a command to the host's session, without waiting.
    ///
    /// The same command may come again, after a reconnect or a restart: the host knows it by its generation.
    fn send(&self, host: &HostId, command: HostCommand) -> Result<(), SendError>;

    /// How the host is seen now. A host that was never seen has no session and unknown health.
    fn look(&self, host: &HostId, now: Timestamp) -> Sighting;

    /// A checkpoint of these snapshots is complete, durably: what hosts have said since they captured them is compared with it.
    fn completed(&self, snapshots: &BTreeMap<HostId, SnapshotId>) {
        let _ = snapshots;
    }

    /// Tells of each known host that is not available: it has no connection, is not known to be healthy or
    /// stands between two states. Not of forgotten ones, nor of those that were not seen for `gone_after`, nor of the health of
    /// those that have no required check.
    fn unavailable(&self, now: Timestamp, gone_after: Duration, tell: &mut dyn FnMut(&HostId, Ill)) {
        let _ = (now, gone_after, tell);
    }

    /// Grows whenever the labels of a host have changed.
    fn labels_version(&self) -> u64 {
        0
    }

    /// The labels that the host has now.
    fn labels(&self, host: &HostId) -> Labels {
        let _ = host;
        Labels::new()
    }

    /// Whether the host has said which checks it has, and none of them is required: it will never be known to be good.
    fn unchecked(&self, host: &HostId) -> bool;
}

/// Why a command was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The host has no session; it is told when it comes.
    #[error("the host has no connection")]
    NotConnected,
    /// The session has too many messages waiting; try again shortly.
    #[error("the host's session is full")]
    Full,
}

/// How a host is seen at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The session it holds. Another number than before means that it may not have got what was sent. None also while
    /// nothing was heard from it for too long.
    pub session: Option<SessionNumber>,
    /// The machine that speaks for it.
    pub instance: Option<InstanceId>,
    /// The highest generation that it had accepted when it connected.
    pub accepted: Generation,
    /// Whether it was given a command since, which it may have obeyed.
    pub commanded: bool,
    /// The snapshot that it had last been brought to when it connected.
    pub snapshot: Option<SnapshotId>,
    /// Set while two machines speak for its name: which, in words. It has no session then.
    pub contested: Option<String>,
    /// When it was last seen, without a session; none while nobody has listened for long enough to say that.
    pub last_seen: Option<Timestamp>,
    /// A person has said that it is gone for good.
    pub forgotten: bool,
    /// Its health; unknown without a session, or when the newest observation is too old.
    pub reading: Reading,
}

impl Sighting {
    /// A host that has no session.
    pub fn absent(now: Timestamp) -> Self {
        Self {
            session: None,
            instance: None,
            accepted: Generation(0),
            commanded: false,
            snapshot: None,
            contested: None,
            last_seen: None,
            forgotten: false,
            reading: Reading::unknown(now, "no connection"),
        }
    }
}

/// Numbers the sessions of a coordinator; never used twice while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// What hosts say.
#[derive(Debug)]
pub enum FleetEvent {
    /// The host's session or health is another than before: look at it again.
    Changed(HostId),
    /// The host answered a command.
    Report {
        /// Its answer.
        report: Report,
        /// Told once the answer is durable; only then may the host forget it. Dropped untold, the host must send it again.
        stored: oneshot::Sender<()>,
    },
    /// How far a host is. Not kept.
    Progress(Progress),
    /// A host has accepted a generation that the store never gave: it was put back to an older copy. Every operation that
    /// runs is told.
    StoreRewound(String),
}

/// How far a host is with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The host.
    pub host: HostId,
    /// The command's operation.
    pub operation: OperationId,
    /// What it is at, such as `stage`.
    pub phase: String,
    /// Steps that are done.
    pub steps_done: u64,
    /// Steps in all.
    pub steps_total: u64,
}

/// The channel on which sessions tell the drivers what hosts say.
pub fn channel() -> (mpsc::Sender<FleetEvent>, mpsc::Receiver<FleetEvent>) {
    mpsc::channel(EVENT_BOUND)
}
