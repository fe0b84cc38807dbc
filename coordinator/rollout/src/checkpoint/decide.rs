//! What a command brings about, directly. What follows from it is in [`super::advance`].

use rfs_model::{Generation, HostId, Reason, SnapshotId, Timestamp};

use super::event::CheckpointEvent;
use super::state::{Checkpoint, HostPhase, Phase};
use crate::command::{Command, Connected, Person, PersonAction, Refusal};
use crate::host::{Failure, Report, StepKind};

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
            Command::Report(report) if self.state.outcome().is_some() => self.report_after_the_end(report),
            _ if self.state.outcome().is_some() && !matches!(command, Command::Person(_)) => {}
            Command::Listening { from } => self.listening(*from),
            Command::Connected(connected) => self.connected(connected),
            Command::Disconnected(host) => self.disconnected(host),
            Command::Contested { host, text } => self.contested(host, text),
            Command::StoreRewound(text) => self.give_up(Failure::new(Reason::StoreRewound, text.clone())),
            Command::Report(report) => self.report(report),
            Command::Person(person) => self.person(person)?,
            // A host that it owns is not forgotten.
            Command::Health { .. }
            | Command::Granted { .. }
            | Command::Superseded(_)
            | Command::Forgotten(_)
            | Command::Undone { .. }
            | Command::Tick => {}
        }
        Ok(())
    }

    fn listening(&mut self, from: Timestamp) {
        let at = self.now;
        if self.state.listening_since < from {
            self.emit(CheckpointEvent::Listening { at, from });
        }
    }

    fn connected(&mut self, connected: &Connected) {
        let at = self.now;
        let Connected { host, instance, accepted, snapshot, .. } = connected;
        let Some(record) = self.state.hosts.get(host) else { return };
        let changed = instance.filter(|instance| record.instance.is_some_and(|known| known != *instance));
        if !record.connected || changed.is_some() || (record.instance.is_none() && instance.is_some()) {
            self.emit(CheckpointEvent::HostConnected { at, host: host.clone(), instance: *instance });
        }
        if let Some(instance) = changed {
            let text = format!("another machine speaks for it now (instance {instance})");
            self.fail(host, Failure::new(Reason::HostReplaced, text).next("take the checkpoint again"));
        }
        self.overtaken(host, *accepted, *snapshot);
    }

    fn disconnected(&mut self, host: &HostId) {
        let at = self.now;
        if self.state.hosts.get(host).is_some_and(|record| record.connected) {
            self.emit(CheckpointEvent::HostDisconnected { at, host: host.clone() });
        }
    }

    fn contested(&mut self, host: &HostId, text: &str) {
        self.disconnected(host);
        self.fail(host, Failure::new(Reason::HostConflict, text));
    }

    /// The host will be missing, whatever it has captured. Nothing if it is missing already.
    fn fail(&mut self, host: &HostId, failure: Failure) {
        let at = self.now;
        let missing = |phase| matches!(phase, HostPhase::Abandoning | HostPhase::Failed);
        if self.state.hosts.get(host).is_some_and(|record| !missing(record.phase)) {
            self.emit(CheckpointEvent::HostFailed { at, host: host.clone(), failure });
        }
    }

    /// While this checkpoint owns a host, nobody else gives it commands: if it has obeyed newer ones than this history gives,
    /// they were given by a store that knew more than this one. They may have been this checkpoint's own.
    fn overtaken(&mut self, host: &HostId, accepted: Generation, snapshot: Option<SnapshotId>) {
        let Some(record) = self.state.hosts.get(host) else { return };
        let last = record.phase.last_step().generation(record.generation);
        if accepted > last {
            let is_at = snapshot.map(|snapshot| format!("; it is at snapshot {}", snapshot.0.short()));
            let text = format!(
                "{host} has obeyed generation {accepted}, and the last one that this checkpoint gave is {last}: the coordinator's \
                 store was put back to an older copy{}",
                is_at.unwrap_or_default()
            );
            self.give_up(Failure::new(Reason::StoreRewound, text).next("take the checkpoint again"));
        }
    }

    fn give_up(&mut self, failure: Failure) {
        let at = self.now;
        let missing = |phase| matches!(phase, HostPhase::Abandoning | HostPhase::Failed);
        if !self.state.hosts.values().all(|host| missing(host.phase)) {
            self.emit(CheckpointEvent::GivenUp { at, failure });
        }
    }

    fn report(&mut self, report: &Report) {
        let at = self.now;
        let Some(record) = self.state.hosts.get(&report.host) else { return };
        let mine = report.operation == self.state.id.into()
            && report.generation == report.step.generation(record.generation);
        if mine {
            self.overtaken(&report.host, report.newest, None);
        }
        let Some(record) = self.state.hosts.get(&report.host) else { return };
        if mine && self.state.outcome().is_none() && record.phase.awaits() == Some(report.step) {
            let (host, step, answer) = (report.host.clone(), report.step, report.answer.clone());
            self.emit(CheckpointEvent::HostReported { at, host, step, answer });
        }
    }

    /// The outcome stands; that a host has resumed is still worth to know.
    fn report_after_the_end(&mut self, report: &Report) {
        let at = self.now;
        let Some(record) = self.state.hosts.get(&report.host) else { return };
        let mine = report.operation == self.state.id.into()
            && report.generation == report.step.generation(record.generation);
        if mine && !self.state.closed && record.may_hold_still() && record.phase.awaits() == Some(report.step)
        {
            let (host, step, answer) = (report.host.clone(), report.step, report.answer.clone());
            self.emit(CheckpointEvent::HostReported { at, host, step, answer });
        }
    }

    fn person(&mut self, person: &Person) -> Result<(), Refusal> {
        let at = self.now;
        let action = person.action.clone();
        match (&self.state.phase, &person.action) {
            (Phase::Finished { .. }, PersonAction::Abort) if self.state.aborted_by.is_some() => Ok(()),
            (Phase::Finished { outcome, .. }, _) => {
                Err(Refusal::Finished { action, outcome: outcome.to_string() })
            }
            (Phase::Preparing | Phase::Cutting | Phase::Finishing { .. }, PersonAction::Abort) => {
                if self.state.aborted_by.is_none() {
                    self.emit(CheckpointEvent::Aborted { at, by: person.who.clone() });
                }
                Ok(())
            }
            (
                _,
                PersonAction::Pause
                | PersonAction::Resume
                | PersonAction::Retry { .. }
                | PersonAction::Withdraw { .. }
                | PersonAction::Promote { .. },
            ) => Err(Refusal::WrongState { action, state: "a checkpoint is taken; it can only be aborted" }),
        }
    }
}

impl HostPhase {
    /// The last step that a host in this phase can have been told.
    fn last_step(self) -> StepKind {
        match self {
            Self::Preparing | Self::Prepared => StepKind::Prepare,
            Self::Cutting | Self::Cut => StepKind::Cut,
            Self::Finishing | Self::Done => StepKind::Finish,
            Self::Abandoning | Self::Failed => StepKind::Abandon,
        }
    }

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
