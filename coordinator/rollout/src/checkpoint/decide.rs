//! What a command brings about, directly. What follows from it is in [`super::advance`].

use rfs_model::{HostId, Timestamp};

use super::event::CheckpointEvent;
use super::state::{Checkpoint, HostPhase, Phase};
use crate::command::{Command, Person, PersonAction, Refusal};
use crate::host::{Report, StepKind};

/// A checkpoint with the events that are being decided, already taken into account.
pub(crate) struct Draft<'d> {
    pub(super) state: &'d mut Checkpoint,
    pub(super) events: &'d mut Vec<CheckpointEvent>,
    pub(super) now: Timestamp,
}

impl<'d> Draft<'d> {
    pub(crate) fn new(
        state: &'d mut Checkpoint,
        events: &'d mut Vec<CheckpointEvent>,
        now: Timestamp,
    ) -> Self {
        let now = now.max(state.last_at);
        Self { state, events, now }
    }

    pub(super) fn emit(&mut self, event: CheckpointEvent) {
        self.state.take(&event);
        self.events.push(event);
    }

    pub(crate) fn handle(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Connected(connected) => self.connection(&connected.host, true),
            Command::Disconnected(host) => self.connection(host, false),
            Command::Report(report) => self.report(report),
            Command::Person(person) => self.person(person)?,
            Command::Listening | Command::Contested { .. } | Command::StoreRewound(_) => {}
            Command::Health { .. } | Command::Superseded(_) | Command::Undone(_) | Command::Tick => {}
        }
        Ok(())
    }

    fn connection(&mut self, host: &HostId, connected: bool) {
        let at = self.now;
        let over = self.state.outcome().is_some();
        if over || self.state.hosts.get(host).is_none_or(|record| record.connected == connected) {
            return;
        }
        let host = host.clone();
        self.emit(if connected {
            CheckpointEvent::HostConnected { at, host }
        } else {
            CheckpointEvent::HostDisconnected { at, host }
        });
    }

    fn report(&mut self, report: &Report) {
        let at = self.now;
        let Some(record) = self.state.hosts.get(&report.host) else { return };
        let mine = report.operation == self.state.id.into()
            && report.generation == report.step.generation(record.generation);
        if mine && self.state.outcome().is_none() && record.phase.awaits() == Some(report.step) {
            let (host, step, answer) = (report.host.clone(), report.step, report.answer.clone());
            self.emit(CheckpointEvent::HostReported { at, host, step, answer });
        }
    }

    fn person(&mut self, person: &Person) -> Result<(), Refusal> {
        let at = self.now;
        let action = person.action;
        match (&self.state.phase, action) {
            (Phase::Finished { outcome, .. }, _) => {
                Err(Refusal::Finished { action, outcome: outcome.to_string() })
            }
            (Phase::Preparing | Phase::Cutting, PersonAction::Abort) => {
                self.emit(CheckpointEvent::Aborted { at, by: person.who.clone() });
                Ok(())
            }
            (Phase::Finishing { .. }, PersonAction::Abort) => {
                Err(Refusal::WrongState { action, state: "hosts resume already" })
            }
            (_, PersonAction::Pause | PersonAction::Resume | PersonAction::Promote { .. }) => {
                Err(Refusal::WrongState { action, state: "a checkpoint is taken; it can only be aborted" })
            }
        }
    }
}

impl HostPhase {
    /// The step whose answer is waited for.
    pub(super) fn awaits(self) -> Option<StepKind> {
        match self {
            Self::Preparing => Some(StepKind::Prepare),
            Self::Cutting => Some(StepKind::Cut),
            Self::Finishing => Some(StepKind::Finish),
            Self::Abandoning => Some(StepKind::Abandon),
            Self::Prepared | Self::Cut | Self::Done | Self::Failed => None,
        }
    }
}
