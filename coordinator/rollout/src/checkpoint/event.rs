//! What happened in a checkpoint, as it is stored. An event keeps its name and its fields once released.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rfs_model::{CheckpointId, HostId, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

use super::state::Outcome;
use crate::fleet::Admission;
use crate::host::{Answer, Failure, StepKind};
use crate::request::CheckpointRequest;

/// How a checkpoint begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Its id.
    pub id: CheckpointId,
    /// What was asked.
    pub request: CheckpointRequest,
    /// What each host was admitted with.
    pub hosts: BTreeMap<HostId, Admission>,
}

/// One thing that happened in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields repeat what the variants say: when, which host, until when, who")]
pub enum CheckpointEvent {
    /// It was asked for, owns its hosts, and they are to get ready.
    Created { at: Timestamp, created: Box<Created> },
    /// The coordinator hears hosts again after it did not.
    Listening { at: Timestamp, from: Timestamp },
    /// A host has a connection.
    HostConnected {
        at: Timestamp,
        host: HostId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
    },
    /// A host lost its connection.
    HostDisconnected { at: Timestamp, host: HostId },
    /// A host answered.
    HostReported { at: Timestamp, host: HostId, step: StepKind, answer: Answer },
    /// A host will be missing.
    HostFailed { at: Timestamp, host: HostId, failure: Failure },
    /// All that could get ready are ready; they cut.
    CutStarted { at: Timestamp },
    /// All that could cut have; they resume.
    FinishStarted { at: Timestamp, deadline: Timestamp },
    /// A person ended it: what was captured is none of a checkpoint, and hosts resume. Once hosts resume anyway, it ends with what
    /// it has.
    Aborted { at: Timestamp, by: String },
    /// The coordinator's store was put back to an older copy, so that what it knows of this checkpoint may be outdated.
    GivenUp { at: Timestamp, failure: Failure },
    /// It is over.
    Finished {
        at: Timestamp,
        outcome: Outcome,
        #[serde(with = "crate::millis")]
        skew: Duration,
    },
    /// Hosts that may have held still beyond its end must have resumed by themselves by now.
    Closed { at: Timestamp },
}

impl CheckpointEvent {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Created { at, .. }
            | Self::Listening { at, .. }
            | Self::GivenUp { at, .. }
            | Self::HostConnected { at, .. }
            | Self::HostDisconnected { at, .. }
            | Self::HostReported { at, .. }
            | Self::HostFailed { at, .. }
            | Self::CutStarted { at }
            | Self::Closed { at }
            | Self::FinishStarted { at, .. }
            | Self::Aborted { at, .. }
            | Self::Finished { at, .. } => *at,
        }
    }
}

impl fmt::Display for CheckpointEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { created, .. } => {
                write!(
                    f,
                    "{} asked for a checkpoint of {} hosts",
                    created.request.requester,
                    created.hosts.len()
                )
            }
            Self::Listening { .. } => f.write_str("the coordinator hears hosts again"),
            Self::GivenUp { failure, .. } => write!(f, "given up: {failure}"),
            Self::HostConnected { host, .. } => write!(f, "{host}: connected"),
            Self::HostDisconnected { host, .. } => write!(f, "{host}: lost its connection"),
            Self::HostReported { host, step, answer, .. } => write!(f, "{host}: {step}: {answer}"),
            Self::HostFailed { host, failure, .. } => write!(f, "{host}: failed: {failure}"),
            Self::CutStarted { .. } => f.write_str("hosts cut"),
            Self::FinishStarted { .. } => f.write_str("hosts resume"),
            Self::Aborted { by, .. } => write!(f, "aborted by {by}"),
            Self::Closed { .. } => {
                f.write_str("hosts that have not said that they resumed had to by themselves by now")
            }
            Self::Finished { outcome, skew, .. } => write!(f, "{outcome}, cut within {skew:?}"),
        }
    }
}
