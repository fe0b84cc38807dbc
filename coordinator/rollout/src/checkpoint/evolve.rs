//! What an event makes of a checkpoint.

use std::sync::Arc;

use rfs_model::{HostId, Reason, Timestamp};

use super::event::{CheckpointEvent, Created};
use super::state::{Checkpoint, HostPhase, HostRecord, Phase};
use crate::host::{Answer, Failure, StepKind};

impl Checkpoint {
    /// The checkpoint right after its creation.
    pub(crate) fn begin(at: Timestamp, created: &Created) -> Self {
        let hosts = created.hosts.iter().map(|(name, admission)| {
            let record = HostRecord {
                generation: admission.generation,
                connected: admission.presence.connected,
                connection_since: at,
                instance: admission.presence.instance,
                health: admission.presence.health,
                evidence: admission.presence.evidence.clone(),
                unseen_for: admission.presence.unseen_for,
                told: admission.presence.connected,
                phase: HostPhase::Preparing,
                was_ready: false,
                captured: None,
                settled_at: None,
                failure: None,
            };
            (name.clone(), record)
        });
        Self {
            id: created.id,
            request: Arc::new(created.request.clone()),
            created_at: at,
            last_at: at,
            listening_since: Timestamp(i64::MIN),
            phase: Phase::Preparing,
            aborted_by: None,
            closed: false,
            hosts: hosts.collect(),
        }
    }

    /// This checkpoint after `event`.
    #[must_use]
    pub fn evolve(mut self, event: &CheckpointEvent) -> Self {
        self.take(event);
        self
    }

    pub(crate) fn take(&mut self, event: &CheckpointEvent) {
        self.last_at = self.last_at.max(event.at());
        match event {
            CheckpointEvent::Created { .. } => {}
            CheckpointEvent::Listening { at, .. } => self.listening_since = *at,
            CheckpointEvent::HostConnected { at, host, instance } => {
                self.connection(host, true, *at);
                if let Some(host) = self.hosts.get_mut(host) {
                    host.instance = instance.or(host.instance);
                }
            }
            CheckpointEvent::HostDisconnected { at, host } => self.connection(host, false, *at),
            CheckpointEvent::HostReported { at, host, step, answer } => {
                if let Some(host) = self.hosts.get_mut(host) {
                    host.report(*at, *step, answer);
                }
            }
            CheckpointEvent::HostFailed { at, host, failure } => {
                if let Some(host) = self.hosts.get_mut(host) {
                    // What was captured under this name may be another machine's.
                    host.captured = None;
                    host.abandon(*at, failure.clone());
                }
            }
            CheckpointEvent::CutStarted { .. } => {
                self.phase = Phase::Cutting;
                self.move_all(HostPhase::Prepared, HostPhase::Cutting);
            }
            CheckpointEvent::FinishStarted { deadline, .. } => {
                self.phase = Phase::Finishing { deadline: *deadline };
                self.move_all(HostPhase::Cut, HostPhase::Finishing);
            }
            CheckpointEvent::Aborted { at, by } => {
                self.aborted_by = Some(by.clone());
                // Once hosts resume, nothing is missing that could still come.
                if let Phase::Finishing { deadline } = &mut self.phase {
                    *deadline = *at;
                    return;
                }
                for host in self.hosts.values_mut() {
                    host.captured = None;
                    host.abandon(*at, Failure::new(Reason::Cancelled, format!("aborted by {by}")));
                }
            }
            CheckpointEvent::Closed { .. } => self.closed = true,
            CheckpointEvent::GivenUp { at, failure } => {
                for host in self.hosts.values_mut() {
                    host.captured = None;
                    host.abandon(*at, failure.clone());
                }
            }
            CheckpointEvent::Finished { at, outcome, skew } => {
                self.phase = Phase::Finished { outcome: *outcome, skew: *skew, at: *at };
            }
        }
    }

    fn connection(&mut self, host: &HostId, connected: bool, at: Timestamp) {
        if let Some(host) = self.hosts.get_mut(host) {
            host.connected = connected;
            host.connection_since = at;
            if connected {
                host.unseen_for = None;
            }
            host.told |= connected && host.phase == HostPhase::Preparing;
        }
    }

    fn move_all(&mut self, from: HostPhase, to: HostPhase) {
        for host in self.hosts.values_mut().filter(|host| host.phase == from) {
            host.phase = to;
        }
    }
}

impl HostRecord {
    fn report(&mut self, at: Timestamp, step: StepKind, answer: &Answer) {
        match (self.phase, answer) {
            (HostPhase::Preparing, Answer::Prepared) => {
                self.was_ready = true;
                self.phase = HostPhase::Prepared;
            }
            (HostPhase::Cutting, Answer::Captured(captured)) => {
                self.captured = Some(captured.clone());
                self.settled_at = Some(at);
                self.phase = HostPhase::Cut;
            }
            (HostPhase::Finishing, Answer::Finished) => self.phase = HostPhase::Done,
            // It obeys something newer, for which it has resumed.
            (HostPhase::Finishing, Answer::Refused(failure)) if failure.reason == Reason::StaleGeneration => {
                self.phase = HostPhase::Done;
            }
            (HostPhase::Finishing, Answer::Refused(failure) | Answer::Failed(failure)) => {
                self.failure = Some(failure.clone());
                self.phase = HostPhase::Done;
            }
            (HostPhase::Abandoning, answer) => {
                // That it could not resume outweighs why it had to.
                if let Answer::Refused(failure) | Answer::Failed(failure) = answer
                    && failure.reason != Reason::StaleGeneration
                {
                    self.failure = Some(failure.clone());
                }
                self.phase = HostPhase::Failed;
            }
            // It is still ready for a cut that it did not take.
            (HostPhase::Cutting, Answer::Refused(failure)) => self.abandon(at, failure.clone()),
            (_, Answer::Refused(failure) | Answer::Failed(failure)) => self.fail(at, failure.clone()),
            (_, Answer::Prepared | Answer::Captured(_) | Answer::Finished | Answer::Restored(_)) => {
                let text = format!("the host answered {answer} to {step}, which makes no sense");
                self.fail(at, Failure::new(Reason::Internal, text));
            }
        }
    }

    /// The host has told that it is at rest.
    fn fail(&mut self, at: Timestamp, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.settled_at.get_or_insert(at);
        self.phase = HostPhase::Failed;
    }

    /// The host must be told to resume.
    fn abandon(&mut self, at: Timestamp, failure: Failure) {
        if self.phase != HostPhase::Failed {
            self.failure.get_or_insert(failure);
            self.settled_at.get_or_insert(at);
            self.phase = HostPhase::Abandoning;
        }
    }
}
