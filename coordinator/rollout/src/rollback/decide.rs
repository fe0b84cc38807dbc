//! What a command brings about, directly. What follows from it is in [`super::advance`].

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{Generation, Health, HostId, Reason, RollbackId, SnapshotId, Timestamp};

use super::advance::Draft;
use super::event::RollbackEvent;
use super::state::{Direction, Earlier, HostPhase, HostRecord, Outcome, PauseCause, Phase};
use super::timers::is_confirmed;
use crate::command::{Command, Connected, Person, PersonAction, Refusal};
use crate::fleet::Reading;
use crate::host::{Failure, Report};
use crate::request::Choices;

/// By how much "since when" may differ between two readings of one stretch of health: the ways of messages differ.
const SAME_STRETCH: Duration = Duration::from_secs(1);

/// What is decided of a host that is tried again holds for the whole attempt.
const OTHER_CHOICES: &str =
    "it is already being tried again, by what was decided then; decide anew once that has ended, or abort it";

impl HostRecord {
    /// Whether nothing depends on what it says of itself when it comes back: it was not lost, is not to go back, and is one
    /// machine.
    fn is_at_peace(&self) -> bool {
        let is_lost = self.unanswered.is_some() || self.phase == HostPhase::Lost;
        !is_lost && !self.is_left_behind() && self.contested.is_none()
    }

    /// Whether its health is what it was before the coordinator was away. One that is waited for is heard in full.
    fn is_as_before(&self, reading: &Reading) -> bool {
        let same = |before: &Earlier| {
            let one_stretch = reading.since <= before.since.plus(SAME_STRETCH);
            before.health == reading.health && self.health.after == reading.after && one_stretch
        };
        let waited_for = matches!(self.phase, HostPhase::Applied { .. });
        !waited_for && self.health.before.as_deref().is_some_and(same)
    }
}

impl Draft<'_> {
    pub(crate) fn handle(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Listening { from } => self.listening(*from),
            Command::Connected(connected) => self.connected(connected),
            Command::Disconnected(host) => self.disconnected(host),
            Command::Contested { host, text } => self.contested(host, text),
            Command::StoreRewound(text) => self.rewound(text),
            Command::Report(report) => self.report(report),
            Command::Health { host, reading } => self.health(host, reading),
            Command::Granted { host, generation } => self.granted(host, *generation),
            Command::Superseded(host) => self.superseded(host),
            Command::Forgotten(host) => self.forgotten(host),
            Command::Undone { by, hosts } => self.undone(*by, hosts.as_ref()),
            Command::Person(person) => self.person(person)?,
            Command::Tick => {}
        }
        Ok(())
    }

    fn listening(&mut self, from: Timestamp) {
        let at = self.now;
        // Of one that is over, nothing depends on what was heard.
        if self.state.heard_from < from && self.state.open() {
            self.emit(RollbackEvent::Listening { at, from });
        }
    }

    fn connected(&mut self, connected: &Connected) {
        let at = self.now;
        let Connected { host, instance, accepted, told_since, snapshot } = connected;
        let Some(record) = self.state.hosts.get(host) else { return };
        let changed = instance.filter(|instance| record.instance.is_some_and(|known| known != *instance));
        // Where health is not looked at, that it is there is all that is asked of a host that has passed.
        let doubted = self.state.request.policy.gate.ignore_health
            && matches!(record.phase, HostPhase::Passed { doubtful_since: Some(_) });
        let is_back = record.returns && record.is_at_peace() && record.instance == *instance;
        let is_news = !record.connected
            || doubted
            || record.contested.is_some()
            || (record.instance.is_none() && instance.is_some());
        let watched = self.state.watches(record);
        if watched && is_back {
            self.emit(RollbackEvent::HostsBack { at, hosts: vec![host.clone()] });
        } else if watched && is_news {
            // One that is another machine is told of next.
            let instance = instance.filter(|_| changed.is_none());
            // A session that fell silent and is heard again was not introduced anew.
            let accepted = (!told_since).then_some(*accepted);
            self.emit(RollbackEvent::HostConnected { at, host: host.clone(), instance, accepted });
        }
        // This is told in any case: what is there now is not what was.
        if let Some(instance) = changed {
            self.emit(RollbackEvent::HostReplaced { at, host: host.clone(), instance });
        }
        self.overtaken(host, *accepted, *snapshot);
    }

    fn disconnected(&mut self, host: &HostId) {
        let at = self.now;
        if self.state.hosts.get(host).is_some_and(|record| record.connected && self.state.watches(record)) {
            self.emit(RollbackEvent::HostDisconnected { at, host: host.clone() });
        }
    }

    fn contested(&mut self, host: &HostId, text: &str) {
        let at = self.now;
        self.disconnected(host);
        let is_news =
            |record: &HostRecord| record.contested.as_deref() != Some(text) && self.state.watches(record);
        if self.state.hosts.get(host).is_some_and(is_news) {
            self.emit(RollbackEvent::HostContested { at, host: host.clone(), text: text.to_owned() });
        }
    }

    /// While this rollback owns a host, nobody else gives it commands: if it has obeyed newer ones than this history gives, they
    /// were given by a store that knew more than this one. They may have been this rollback's own.
    fn overtaken(&mut self, host: &HostId, accepted: Generation, snapshot: Option<SnapshotId>) -> bool {
        let at = self.now;
        let Some(record) = self.state.hosts.get(host) else { return false };
        let told = record.told;
        if accepted <= told || self.state.outcome().is_some() {
            return false;
        }
        let is_at = snapshot.map(|snapshot| format!("; it is at snapshot {}", snapshot.0.short()));
        let text = format!(
            "{host} has obeyed generation {accepted}, and the last one that this rollback gave is {told}: the coordinator's \
             store was put back to an older copy{}",
            is_at.unwrap_or_default()
        );
        // One that waits to start has generations that were new when it got them.
        let known = record.overtaken && !record.phase.at_work() && record.phase != HostPhase::Untouched;
        if !known {
            let failure = Failure::new(Reason::StoreRewound, text.clone());
            self.emit(RollbackEvent::HostOvertaken { at, host: host.clone(), failure });
            self.rewound(&text);
        }
        true
    }

    fn rewound(&mut self, text: &str) {
        let at = self.now;
        // It outweighs every other cause of a pause: whoever goes on must have read it.
        let pauses = match &self.state.phase {
            Phase::Running { .. } => true,
            Phase::Paused { cause, .. } => !matches!(cause, PauseCause::Rewound(_)),
            Phase::Aborting { .. } | Phase::Finished { .. } => false,
        };
        if pauses {
            self.emit(RollbackEvent::Paused { at, cause: PauseCause::Rewound(text.to_owned()) });
        }
    }

    fn health(&mut self, host: &HostId, reading: &Reading) {
        let at = self.now;
        let Reading { health, since, after, measured_at, heard_at, ref evidence } = *reading;
        let Some(record) = self.state.hosts.get(host).filter(|record| record.connected) else { return };
        if !self.state.watches(record) {
            return;
        }
        // It was measured before the host's last change, or heard before the coordinator was away.
        if record.restore.is_some_and(|restore| after < restore) || heard_at < self.state.heard_from {
            return;
        }
        if record.is_as_before(reading) {
            return self.emit(RollbackEvent::HealthUnchanged { at, hosts: vec![host.clone()] });
        }
        let known = &record.health;
        // A host that was seen to be bad was not good before that moment, whatever its clock says.
        let floor = known.last_bad.filter(|_| health == Health::Good).unwrap_or(Timestamp(i64::MIN));
        let since = since.max(floor).min(at);
        // After another restore it is another stretch, even if that took no time: the report may come later.
        let same = since <= known.since.plus(SAME_STRETCH) && after == known.after;
        let mut since = since;
        if known.health == health && (same || health == Health::Unknown) {
            // Messages take their time, and differ in it: of two beginnings of one stretch the later is the safe one.
            since = since.max(known.since);
            let confirms = self.state.unconfirmed(record).is_some()
                && match record.phase {
                    HostPhase::Applied { since: applied } => {
                        is_confirmed(record, self.state.passes_at(record, applied, since), measured_at)
                    }
                    _ => false,
                };
            if !confirms {
                return;
            }
        }
        let (host, evidence, after) = (host.clone(), evidence.to_owned(), Some(after));
        self.emit(RollbackEvent::HealthChanged { at, host, health, since, evidence, after, measured_at });
    }

    fn report(&mut self, report: &Report) {
        let at = self.now;
        let Some(record) = self.state.hosts.get(&report.host) else { return };
        // The answer of a machine that was replaced since came late.
        if report.instance.is_some_and(|is| record.instance.is_some_and(|known| known != is)) {
            return;
        }
        let mine = report.operation == self.state.id.into()
            && report.generation == report.step.generation(record.generation);
        if mine && self.overtaken(&report.host, report.newest, None) {
            return;
        }
        let Some(record) = self.state.hosts.get(&report.host) else { return };
        // Of an operation that is over: what the host answered is history, once something newer has happened there.
        let history = report.newest > record.told;
        if mine && !history && record.after(at, report.step, &report.answer).is_some() {
            let (host, step, answer) = (report.host.clone(), report.step, report.answer.clone());
            self.emit(RollbackEvent::HostReported { at, host, step, answer });
        }
    }

    fn granted(&mut self, host: &HostId, generation: Generation) {
        let at = self.now;
        let waits = |record: &HostRecord| record.phase == HostPhase::Again && record.generation < generation;
        if self.state.hosts.get(host).is_some_and(waits) {
            self.emit(RollbackEvent::HostGranted { at, host: host.clone(), generation });
        }
    }

    /// The hosts that are to be tried again.
    fn to_be_retried(&self, named: &BTreeSet<HostId>, choices: &Choices) -> Result<Vec<HostId>, Refusal> {
        // Whoever repeats a retry without a word changes nothing of what was decided.
        let is_other = |host: &HostRecord| {
            !choices.is_empty()
                && *host.choices.as_deref().unwrap_or(&Choices::default()) != host.decided(choices)
        };
        if named.is_empty() {
            let failed = |name: &HostId, host: &HostRecord| {
                let undone = self.state.undone.contains_key(name);
                host.phase.failed() && host.phase != HostPhase::Inconsistent && !undone
            };
            let failed = self.state.hosts.iter().filter(|(name, host)| failed(name, host));
            let hosts: Vec<HostId> = failed.map(|(name, _)| name.clone()).collect();
            let mut repeated = self.state.hosts.iter().filter(|(_, host)| host.is_tried_again()).peekable();
            if !hosts.is_empty() {
                return Ok(hosts);
            }
            if repeated.peek().is_none() {
                return Err(Refusal::NothingToRetry);
            }
            return match repeated.find(|(_, host)| is_other(host)) {
                Some((name, _)) => Err(Refusal::NotToBeRetried { host: name.clone(), why: OTHER_CHOICES }),
                None => Ok(hosts),
            };
        }
        let check = |name: &HostId| {
            let refuse = |why| Err(Refusal::NotToBeRetried { host: name.clone(), why });
            match self.state.hosts.get(name) {
                None => refuse("it is not part of this rollback"),
                Some(_) if self.state.undone.contains_key(name) => {
                    refuse("another rollback undoes this one there")
                }
                Some(host) if host.phase.failed() || host.phase == HostPhase::Superseded => Ok(name.clone()),
                Some(host) if host.is_tried_again() && is_other(host) => refuse(OTHER_CHOICES),
                // A repetition.
                Some(host) if host.is_tried_again() => Ok(name.clone()),
                Some(_) => refuse("it has not failed"),
            }
        };
        let hosts: Vec<HostId> = named.iter().map(check).collect::<Result<_, _>>()?;
        let again = |name: &HostId| self.state.hosts.get(name).is_some_and(HostRecord::is_tried_again);
        Ok(hosts.into_iter().filter(|name| !again(name)).collect())
    }

    fn superseded(&mut self, host: &HostId) {
        let at = self.now;
        let over = self.state.outcome().is_some();
        if over && self.state.hosts.get(host).is_some_and(HostRecord::pending) {
            self.emit(RollbackEvent::HostSuperseded { at, host: host.clone() });
        }
    }

    /// A host that is owned is not forgotten, so it can only be one that an operation that is over waits for.
    fn forgotten(&mut self, host: &HostId) {
        let at = self.now;
        let over = self.state.outcome().is_some();
        if over && self.state.hosts.get(host).is_some_and(HostRecord::pending) {
            self.emit(RollbackEvent::HostForgotten { at, host: host.clone() });
        }
    }

    fn undone(&mut self, by: RollbackId, hosts: Option<&BTreeSet<HostId>>) {
        let at = self.now;
        let concerned = |name: &&HostId| hosts.is_none_or(|hosts| hosts.contains(*name));
        let known = |name: &HostId| self.state.undone.get(name) == Some(&by);
        let news = !self.state.hosts.keys().filter(concerned).all(known);
        if news && self.state.outcome().is_some() && self.state.at_work_among(hosts).is_none() {
            self.emit(RollbackEvent::Undone { at, by, hosts: hosts.cloned() });
        }
    }

    fn person(&mut self, person: &Person) -> Result<(), Refusal> {
        let at = self.now;
        let action = &person.action;
        let by = person.who.clone();
        let wrong = |state| Err(Refusal::WrongState { action: action.clone(), state });
        if let PersonAction::Promote { wave: Some(meant) } = *action {
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
            (Phase::Finished { .. }, PersonAction::Abort) if self.state.open() => {
                RollbackEvent::Withdrawn { at, by, hosts: None }
            }
            (Phase::Finished { .. }, PersonAction::Withdraw { hosts }) => {
                let concerned = |name: &HostId| hosts.as_ref().is_none_or(|hosts| hosts.contains(name));
                let mut records = self.state.hosts.iter();
                if !records.any(|(name, host)| host.pending() && concerned(name)) {
                    return Ok(());
                }
                RollbackEvent::Withdrawn { at, by, hosts: hosts.clone() }
            }
            (Phase::Finished { outcome: Outcome::Partial, .. }, PersonAction::Retry { hosts, choices }) => {
                match self.to_be_retried(hosts, choices)? {
                    none if none.is_empty() => return Ok(()),
                    hosts => RollbackEvent::Retried { at, by, hosts, choices: choices.clone() },
                }
            }
            (Phase::Finished { outcome, .. }, _) => {
                return Err(Refusal::Finished { action: action.clone(), outcome: outcome.to_string() });
            }
            (Phase::Aborting { .. }, PersonAction::Abort) => return Ok(()),
            (
                Phase::Aborting { .. },
                PersonAction::Pause
                | PersonAction::Resume
                | PersonAction::Retry { .. }
                | PersonAction::Withdraw { .. }
                | PersonAction::Promote { .. },
            ) => {
                return wrong("it is being aborted");
            }
            (
                Phase::Running { direction } | Phase::Paused { direction, .. },
                PersonAction::Retry { hosts, choices },
            ) => match direction {
                Direction::Forward => match self.to_be_retried(hosts, choices)? {
                    none if none.is_empty() => return Ok(()),
                    hosts => RollbackEvent::Retried { at, by, hosts, choices: choices.clone() },
                },
                Direction::Back(_) => return wrong("hosts go back to their backups"),
            },
            (Phase::Running { .. } | Phase::Paused { .. }, PersonAction::Withdraw { .. }) => {
                return wrong("it is not over");
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
