//! What happens to an operation: hosts come, go and report; people decide; time passes.

use std::collections::BTreeSet;
use std::fmt;

use rfs_model::{Generation, HostId, InstanceId, Reason, RollbackId, SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::fleet::Reading;
use crate::host::Report;
use crate::plan::WaveIndex;
use crate::request::Choices;

/// One thing that happened. Harmless when repeated, late, or about a host that the operation does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The coordinator hears hosts again after it did not: it was started again, or stood still. What it knew of their health
    /// says nothing any more, and a deadline that passed meanwhile is extended once.
    Listening {
        /// Only what was heard from then on counts.
        from: Timestamp,
    },
    /// A host has a connection.
    Connected(Connected),
    /// A host has lost its connection; its health is unknown from now on.
    Disconnected(HostId),
    /// Two machines speak for the host's name: it is told nothing, and what it says does not count.
    Contested {
        /// The host.
        host: HostId,
        /// Which machines, in words.
        text: String,
    },
    /// The coordinator's store was put back to an older copy, as this text tells.
    StoreRewound(String),
    /// A host answered a command.
    Report(Report),
    /// A host's health was measured.
    Health {
        /// The host.
        host: HostId,
        /// What was measured.
        reading: Reading,
    },
    /// Time has passed.
    Tick,
    /// A person decided.
    Person(Person),
    /// Generations were reserved for another attempt on the host; this is the first of them.
    Granted {
        /// The host.
        host: HostId,
        /// The first of its new generations.
        generation: Generation,
    },
    /// Another operation owns the host now, so this one must not bring it in line any more.
    Superseded(HostId),
    /// A person says that the host is gone for good, so this operation must not wait for it any more.
    Forgotten(HostId),
    /// Another rollback undoes this one, so that no host must come in line with it any more. Nothing while it runs, or while
    /// one of its hosts is at work.
    Undone {
        /// Which.
        by: RollbackId,
        /// Which hosts it is about; none means all of them.
        hosts: Option<BTreeSet<HostId>>,
    },
}

/// A host that has a connection, as it introduced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The host.
    pub host: HostId,
    /// The machine that speaks for it; none if it does not say.
    pub instance: Option<InstanceId>,
    /// The highest generation that it had accepted when it introduced itself.
    pub accepted: Generation,
    /// Whether something was sent to it since, which it may have obeyed.
    pub told_since: bool,
    /// The snapshot that it was last brought to, by whomever.
    pub snapshot: Option<SnapshotId>,
}

impl Connected {
    /// A host of which nothing more is known.
    pub fn plain(host: HostId) -> Self {
        Self { host, instance: None, accepted: Generation(0), told_since: false, snapshot: None }
    }
}

/// A person's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who, such as `operator/alice`.
    pub who: String,
    /// What.
    pub action: PersonAction,
}

/// What a person can do to a running operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonAction {
    /// Start no further host; hosts at work finish.
    Pause,
    /// Go on after a pause. Hosts that have failed stay as they are and are not counted again.
    Resume,
    /// Try hosts again that failed, were lost or stayed as they were, each as a new attempt. Resumes, too.
    Retry {
        /// Which; none means every host that failed and is not at neither state.
        hosts: BTreeSet<HostId>,
        /// What holds for them in this attempt, beside what holds for the whole rollback.
        #[serde(default, skip_serializing_if = "Choices::is_empty")]
        choices: Choices,
    },
    /// Take the present wave's gate as passed once its hosts are not at work any more. Resumes, too.
    Promote {
        /// The wave that was seen, so that a repetition does not promote the next one; none means whichever is present.
        wave: Option<WaveIndex>,
    },
    /// End the operation: hosts at work go back to where they were, no other host starts. One that is over and still waits
    /// for hosts that were left out waits no longer.
    Abort,
    /// Wait no longer for hosts that were left out, once the operation is over; one that is at work goes back.
    Withdraw {
        /// Which; none means all of them.
        hosts: Option<BTreeSet<HostId>>,
    },
}

impl fmt::Display for PersonAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry { .. } => "retry",
            Self::Promote { .. } => "promote",
            Self::Abort => "abort",
            Self::Withdraw { .. } => "withdraw",
        })
    }
}

/// Why a person's decision cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The operation has an outcome already.
    #[error("cannot {action}: it is over ({outcome})")]
    Finished {
        /// What was asked.
        action: PersonAction,
        /// How it ended.
        outcome: String,
    },
    /// The operation is in a state in which this makes no sense.
    #[error("cannot {action} while {state}")]
    WrongState {
        /// What was asked.
        action: PersonAction,
        /// The state in words.
        state: &'static str,
    },
    /// The hosts that are to be tried again are not there, or have not failed.
    #[error("cannot retry {host}: {why}")]
    NotToBeRetried {
        /// The host.
        host: HostId,
        /// Why not.
        why: &'static str,
    },
    /// There is no host to try again.
    #[error("cannot retry: no host of it has failed; hosts at neither state must be named")]
    NothingToRetry,
    /// Another wave is present than the one that was meant.
    #[error("cannot promote wave {meant}: {}", present_wave(.present))]
    OtherWave {
        /// The wave that was meant.
        meant: WaveIndex,
        /// The wave that is present, if one is.
        present: Option<WaveIndex>,
    },
}

fn present_wave(present: &Option<WaveIndex>) -> String {
    match present {
        Some(wave) => format!("wave {wave} is the present one"),
        None => "no wave has started".to_owned(),
    }
}

impl Refusal {
    /// For programs.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Finished { .. }
            | Self::WrongState { .. }
            | Self::NotToBeRetried { .. }
            | Self::NothingToRetry
            | Self::OtherWave { .. } => Reason::WrongState,
        }
    }
}
