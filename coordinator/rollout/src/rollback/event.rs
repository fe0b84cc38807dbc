//! What happened in a rollback, as it is stored. An event keeps its name and its fields once released.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rfs_model::{Generation, Health, HostId, InstanceId, RestoreNumber, RollbackId, Timestamp};
use serde::{Deserialize, Serialize};

use super::state::{Cause, Outcome, PauseCause};
use crate::fleet::Admission;
use crate::host::{Answer, Failure, StepKind};
use crate::names::some_names;
use crate::plan::{Plan, WaveIndex};
use crate::request::{Choices, RollbackRequest};

/// How a rollback begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Its id.
    pub id: RollbackId,
    /// What was asked.
    pub request: RollbackRequest,
    /// What will be done.
    pub plan: Plan,
    /// What each host of the plan was admitted with.
    pub hosts: BTreeMap<HostId, Admission>,
}

/// One thing that happened in a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields repeat what the variants say: when, which host, which wave, who")]
pub enum RollbackEvent {
    /// It was asked for, planned, and owns its hosts.
    Created { at: Timestamp, created: Box<Created> },
    /// The coordinator hears hosts again after it did not. What was heard before `from` does not count any more.
    Listening { at: Timestamp, from: Timestamp },
    /// A host has a connection.
    HostConnected {
        at: Timestamp,
        host: HostId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
        /// The highest generation that it had obeyed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accepted: Option<Generation>,
    },
    /// Hosts that had a connection when the coordinator was last away have one again, each the same machine.
    HostsBack { at: Timestamp, hosts: Vec<HostId> },
    /// The health of hosts is what it was when the coordinator was last away.
    HealthUnchanged { at: Timestamp, hosts: Vec<HostId> },
    /// A host that has a connection is another machine than before.
    HostReplaced { at: Timestamp, host: HostId, instance: InstanceId },
    /// Two machines speak for a host's name.
    HostContested { at: Timestamp, host: HostId, text: String },
    /// A host has obeyed newer commands than this rollback's; where it stands is not known here.
    HostOvertaken { at: Timestamp, host: HostId, failure: Failure },
    /// A host lost its connection.
    HostDisconnected { at: Timestamp, host: HostId },
    /// A host's health is another than before.
    HealthChanged {
        at: Timestamp,
        host: HostId,
        health: Health,
        since: Timestamp,
        evidence: String,
        /// The last restore of the host that had ended before this was measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<RestoreNumber>,
        /// When the measurement began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        measured_at: Option<Timestamp>,
    },
    /// A wave's hosts may start.
    WaveStarted { at: Timestamp, wave: WaveIndex },
    /// A host is told to go to its target.
    HostStarted { at: Timestamp, host: HostId, generation: Generation, deadline: Timestamp },
    /// A host answered.
    HostReported { at: Timestamp, host: HostId, step: StepKind, answer: Answer },
    /// A host has been healthy long enough.
    HostPassed { at: Timestamp, host: HostId },
    /// A host counts as failed: not reachable, not healthy in time, or never started.
    HostFailed { at: Timestamp, host: HostId, failure: Failure },
    /// A host was not heard of past its deadline.
    HostLost { at: Timestamp, host: HostId },
    /// A host is left out for now; commands below `generation` cannot take effect on it any more.
    HostSkipped { at: Timestamp, host: HostId, generation: Generation },
    /// Hosts are to be tried again.
    Retried {
        at: Timestamp,
        by: String,
        hosts: Vec<HostId>,
        /// What holds for them beside what holds for the whole rollback.
        #[serde(default, skip_serializing_if = "Choices::is_empty")]
        choices: Choices,
    },
    /// A host that was left out is back, and it is its turn.
    HostReturned { at: Timestamp, host: HostId },
    /// Generations were reserved for another attempt on a host.
    HostGranted { at: Timestamp, host: HostId, generation: Generation },
    /// Hosts that were left out are not waited for any more.
    Withdrawn {
        at: Timestamp,
        by: String,
        /// Which of them; none means all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hosts: Option<BTreeSet<HostId>>,
    },
    /// Another operation owns a skipped host now.
    HostSuperseded { at: Timestamp, host: HostId },
    /// A person said that a skipped host is gone for good.
    HostForgotten { at: Timestamp, host: HostId },
    /// Another rollback undoes this one: hosts that were left out stay as they are.
    Undone {
        at: Timestamp,
        by: RollbackId,
        /// Of which hosts that is true; none means all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hosts: Option<BTreeSet<HostId>>,
    },
    /// A wave's gate is open.
    WavePassed {
        at: Timestamp,
        wave: WaveIndex,
        healthy: u32,
        failed: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        promoted_by: Option<String>,
    },
    /// A wave's gate is shut for these hosts' failures.
    WaveFailed { at: Timestamp, wave: WaveIndex, hosts: Vec<HostId>, failure: Failure },
    /// No further host starts until a person has decided.
    Paused { at: Timestamp, cause: PauseCause },
    /// A person goes on.
    Resumed { at: Timestamp, by: String },
    /// A person takes the gate as passed.
    Promoted { at: Timestamp, by: String },
    /// A person ended it; hosts at work are told to stop.
    Aborted { at: Timestamp, by: String },
    /// The changed hosts go back.
    RevertStarted { at: Timestamp, cause: Cause },
    /// A host that was lost is told to say where it stands, before the way back can go on there.
    HostAsked { at: Timestamp, host: HostId, generation: Generation, deadline: Timestamp },
    /// A host is told to go back to its backup.
    HostReverting { at: Timestamp, host: HostId, generation: Generation, deadline: Timestamp },
    /// A host needs no command to be back: nothing had been changed on it.
    HostReverted { at: Timestamp, host: HostId },
    /// It is over.
    Finished {
        at: Timestamp,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<Failure>,
    },
}

impl RollbackEvent {
    /// Says of the hosts of `other`, too, what it says of its own, if both say the same at one moment.
    pub(crate) fn join(&mut self, other: &Self) -> bool {
        match (self, other) {
            (Self::HostsBack { at, hosts }, Self::HostsBack { at: then, hosts: others })
            | (Self::HealthUnchanged { at, hosts }, Self::HealthUnchanged { at: then, hosts: others })
                if at == then =>
            {
                hosts.extend(others.iter().cloned());
                true
            }
            _ => false,
        }
    }

    /// Whether it tells of hosts that came back as they were.
    pub(crate) fn is_return(&self) -> bool {
        matches!(self, Self::HostsBack { .. } | Self::HealthUnchanged { .. })
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Created { at, .. }
            | Self::Listening { at, .. }
            | Self::HostConnected { at, .. }
            | Self::HostsBack { at, .. }
            | Self::HealthUnchanged { at, .. }
            | Self::HostReplaced { at, .. }
            | Self::HostContested { at, .. }
            | Self::HostOvertaken { at, .. }
            | Self::HostDisconnected { at, .. }
            | Self::HealthChanged { at, .. }
            | Self::WaveStarted { at, .. }
            | Self::HostStarted { at, .. }
            | Self::HostReported { at, .. }
            | Self::HostPassed { at, .. }
            | Self::HostFailed { at, .. }
            | Self::HostLost { at, .. }
            | Self::HostSkipped { at, .. }
            | Self::Retried { at, .. }
            | Self::HostReturned { at, .. }
            | Self::HostGranted { at, .. }
            | Self::Withdrawn { at, .. }
            | Self::HostSuperseded { at, .. }
            | Self::HostForgotten { at, .. }
            | Self::Undone { at, .. }
            | Self::WavePassed { at, .. }
            | Self::WaveFailed { at, .. }
            | Self::Paused { at, .. }
            | Self::Resumed { at, .. }
            | Self::Promoted { at, .. }
            | Self::Aborted { at, .. }
            | Self::RevertStarted { at, .. }
            | Self::HostAsked { at, .. }
            | Self::HostReverting { at, .. }
            | Self::HostReverted { at, .. }
            | Self::Finished { at, .. } => *at,
        }
    }
}

impl fmt::Display for RollbackEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { created, .. } => {
                let (hosts, waves) = (created.plan.targets.len(), created.plan.waves.len());
                let Created { request, .. } = created.as_ref();
                write!(
                    f,
                    "{} asked for a rollback of {hosts} host{} in {waves} wave{} to {}",
                    request.requester,
                    plural(hosts),
                    plural(waves),
                    request.source
                )
            }
            Self::Listening { .. } => f.write_str("the coordinator hears hosts again"),
            Self::HostConnected { host, .. } => write!(f, "{host}: connected"),
            Self::HostsBack { hosts, .. } => {
                write!(f, "{}: back after the coordinator was away", names(hosts))
            }
            Self::HealthUnchanged { hosts, .. } => write!(f, "{}: health is what it was", names(hosts)),
            Self::HostReplaced { host, instance, .. } => {
                write!(f, "{host}: another machine speaks for it (instance {instance})")
            }
            Self::HostContested { host, text, .. } => write!(f, "{host}: {text}"),
            Self::HostOvertaken { host, failure, .. } => write!(f, "{host}: {failure}"),
            Self::HostDisconnected { host, .. } => write!(f, "{host}: lost its connection"),
            Self::HealthChanged { host, health, evidence, .. } if evidence.is_empty() => {
                write!(f, "{host}: health is {health}")
            }
            Self::HealthChanged { host, health, evidence, .. } => {
                write!(f, "{host}: health is {health}: {evidence}")
            }
            Self::WaveStarted { wave, .. } => write!(f, "wave {wave}: started"),
            Self::HostStarted { host, generation, deadline, .. } => {
                write!(f, "{host}: told to go to its target by {deadline} (generation {generation})")
            }
            Self::HostReported { host, step, answer, .. } => write!(f, "{host}: {step}: {answer}"),
            Self::HostPassed { host, .. } => write!(f, "{host}: healthy for long enough"),
            Self::HostFailed { host, failure, .. } => write!(f, "{host}: failed: {failure}"),
            Self::HostLost { host, .. } => write!(f, "{host}: not heard of past its deadline"),
            Self::HostSkipped { host, generation, .. } => {
                write!(f, "{host}: not reachable, left out (fenced below generation {generation})")
            }
            Self::Retried { by, hosts, choices, .. } => {
                write!(f, "{by} tries {} host{} again{choices}", hosts.len(), plural(hosts.len()))
            }
            Self::HostReturned { host, .. } => write!(f, "{host}: is back, and is brought in line"),
            Self::HostGranted { host, generation, .. } => {
                write!(f, "{host}: another attempt, from generation {generation} on")
            }
            Self::Withdrawn { by, hosts: None, .. } => {
                write!(f, "hosts that were left out are not waited for any more: {by}")
            }
            Self::Withdrawn { by, hosts: Some(hosts), .. } => {
                let hosts = some_names(hosts.iter().map(HostId::as_str));
                write!(f, "not waited for any more: {hosts}: {by}")
            }
            Self::HostSuperseded { host, .. } => write!(f, "{host}: is not brought in line any more"),
            Self::HostForgotten { host, .. } => {
                write!(f, "{host}: forgotten; it is not brought in line any more")
            }
            Self::Undone { by, .. } => write!(f, "undone by rollback {by}"),
            Self::WavePassed { wave, healthy, failed, promoted_by: None, .. } => {
                write!(f, "wave {wave}: passed with {healthy} healthy and {failed} failed")
            }
            Self::WavePassed { wave, promoted_by: Some(who), .. } => {
                write!(f, "wave {wave}: promoted by {who}")
            }
            Self::WaveFailed { wave, failure, .. } => write!(f, "wave {wave}: failed: {failure}"),
            Self::Paused { cause, .. } => write!(f, "paused: {cause}"),
            Self::Resumed { by, .. } => write!(f, "resumed by {by}"),
            Self::Promoted { by, .. } => write!(f, "promoted by {by}"),
            Self::Aborted { by, .. } => write!(f, "aborted by {by}"),
            Self::RevertStarted { cause, .. } => write!(f, "going back: {cause}"),
            Self::HostAsked { host, deadline, generation, .. } => {
                write!(f, "{host}: told to say where it stands by {deadline} (generation {generation})")
            }
            Self::HostReverting { host, deadline, generation, .. } => {
                write!(f, "{host}: told to go back to its backup by {deadline} (generation {generation})")
            }
            Self::HostReverted { host, .. } => write!(f, "{host}: had not been changed"),
            Self::Finished { outcome, cause: Some(cause), .. } => write!(f, "{outcome}: {cause}"),
            Self::Finished { outcome, cause: None, .. } => write!(f, "{outcome}"),
        }
    }
}

fn names(hosts: &[HostId]) -> String {
    some_names(hosts.iter().map(HostId::as_str))
}

/// The ending of a word for so many.
fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
