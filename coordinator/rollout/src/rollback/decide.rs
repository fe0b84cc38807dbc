//! What a command brings about, directly. What follows from it is in [`super::advance`].

use rfs_model::{Health, HostId, RollbackId, Timestamp};

use super::advance::Draft;
use super::event::RollbackEvent;
use super::state::{Direction, HostPhase, PauseCause, Phase};
use crate::command::{Command, Person, PersonAction, Refusal};
use crate::fleet::Reading;
use crate::host::Report;

impl Draft<'_> {
    pub(crate) fn handle(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Connected(connected) => self.connection(&connected.host, true),
            Command::Disconnected(host) => self.connection(host, false),
            Command::Report(report) => self.report(report),
            Command::Health { host, reading } => self.health(host, reading),
            Command::Listening | Command::Contested { .. } | Command::StoreRewound(_) => {}
            Command::Superseded(host) => self.superseded(host),
            Command::Undone(by) => self.undone(*by),
            Command::Person(person) => self.person(person)?,
            Command::Tick => {}
        }
        Ok(())
    }

    fn connection(&mut self, host: &HostId, connected: bool) {
        let at = self.now;
        if self.state.hosts.get(host).is_none_or(|record| record.connected == connected) {
            return;
        }
        let host = host.clone();
        self.emit(if connected {
            RollbackEvent::HostConnected { at, host }
        } else {
            RollbackEvent::HostDisconnected { at, host }
        });
    }

    fn health(&mut self, host: &HostId, reading: &Reading) {
        let at = self.now;
        let Reading { health, since, ref evidence, .. } = *reading;
        let Some(record) = self.state.hosts.get(host).filter(|record| record.connected) else { return };
        let known = &record.health;
        // A host that was seen to be bad was not good before that moment, whatever its clock says.
        let floor = known.last_bad.filter(|_| health == Health::Good).unwrap_or(Timestamp(i64::MIN));
        let since = since.max(floor).min(at);
        if known.health == health && since <= known.since {
            return;
        }
        let (host, evidence) = (host.clone(), evidence.to_owned());
        self.emit(RollbackEvent::HealthChanged { at, host, health, since, evidence });
    }

    fn report(&mut self, report: &Report) {
        let at = self.now;
        let Some(record) = self.state.hosts.get(&report.host) else { return };
        let mine = report.operation == self.state.id.into()
            && report.generation == report.step.generation(record.generation);
        if mine && record.after(at, report.step, &report.answer).is_some() {
            let (host, step, answer) = (report.host.clone(), report.step, report.answer.clone());
            self.emit(RollbackEvent::HostReported { at, host, step, answer });
        }
    }

    fn superseded(&mut self, host: &HostId) {
        let at = self.now;
        let over = self.state.outcome().is_some();
        let pending = |phase: &HostPhase| *phase == HostPhase::Skipped || phase.at_work();
        if over && self.state.hosts.get(host).is_some_and(|record| pending(&record.phase)) {
            self.emit(RollbackEvent::HostSuperseded { at, host: host.clone() });
        }
    }

    fn undone(&mut self, by: RollbackId) {
        let at = self.now;
        let known = self.state.undone_by == Some(by);
        if !known && self.state.outcome().is_some() && self.state.at_work().is_none() {
            self.emit(RollbackEvent::Undone { at, by });
        }
    }

    fn person(&mut self, person: &Person) -> Result<(), Refusal> {
        let at = self.now;
        let action = person.action;
        let by = person.who.clone();
        let wrong = |state| Err(Refusal::WrongState { action, state });
        if let PersonAction::Promote { wave: Some(meant) } = action {
            let paused = matches!(self.state.phase, Phase::Paused { .. });
            let present = self.state.wave;
            // A repetition. If the same wave is held up again, it is another decision.
            if self.state.promoted(meant) && !(paused && present == Some(meant)) {
                return Ok(());
            }
            if present != Some(meant) && self.state.outcome().is_none() {
                return Err(Refusal::OtherWave { meant, present });
            }
        }
        let event = match (&self.state.phase, action) {
            (Phase::Finished { outcome, .. }, _) => {
                return Err(Refusal::Finished { action, outcome: outcome.to_string() });
            }
            (Phase::Aborting { .. }, PersonAction::Abort) => return Ok(()),
            (
                Phase::Aborting { .. },
                PersonAction::Pause | PersonAction::Resume | PersonAction::Promote { .. },
            ) => {
                return wrong("it is being aborted");
            }
            (Phase::Running { .. }, PersonAction::Resume) => return Ok(()),
            (Phase::Paused { cause: PauseCause::Person(_), .. }, PersonAction::Pause) => return Ok(()),
            (Phase::Running { .. } | Phase::Paused { .. }, PersonAction::Abort) => {
                RollbackEvent::Aborted { at, by }
            }
            (Phase::Running { .. }, PersonAction::Pause) => {
                RollbackEvent::Paused { at, cause: PauseCause::Person(by) }
            }
            // It is paused for a failure; a person's pause on top of it would only hide that.
            (Phase::Paused { .. }, PersonAction::Pause) => return Ok(()),
            (Phase::Paused { .. }, PersonAction::Resume) => RollbackEvent::Resumed { at, by },
            (
                Phase::Running { direction } | Phase::Paused { direction, .. },
                PersonAction::Promote { .. },
            ) => match direction {
                Direction::Forward => RollbackEvent::Promoted { at, by },
                Direction::Back(_) => return wrong("hosts go back to their backups"),
            },
        };
        self.emit(event);
        Ok(())
    }
}
