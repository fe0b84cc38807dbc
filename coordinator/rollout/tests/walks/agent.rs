//! A machine as a rollout may rely on it: it journals before it acts, refuses older generations, answers repeats from its
//! journal, goes back at its deadline, comes back from a crash at one of two states, and measures its health.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rfs_model::{
    ByteCount, Generation, Health, HostId, InstanceId, Reason, RestoreNumber, SnapshotId, Standing, Timestamp,
};
use rfs_rollout::{Answer, Failure, HostCommand, Report, Restored, Step, StepKind};

use super::dice::Dice;
use super::fault::Fault;
use super::monitor::Monitor;

pub(crate) struct Agent {
    pub(crate) host: HostId,
    pub(crate) instance: InstanceId,
    pub(crate) up: bool,
    /// Stopped, as by `SIGSTOP`: it does nothing until it goes on.
    pub(crate) frozen: bool,
    /// Whether its network reaches the coordinator's machine.
    pub(crate) linked: bool,
    /// It is gone for good: another machine has its place.
    pub(crate) gone: bool,
    /// Whether the disturbances that come and go leave the health alone.
    pub(crate) weather: Health,
    pub(crate) monitor: Monitor,
    /// The verdict that was shown last, since when it is what it is, and after how many restores.
    pub(crate) published: (Health, Timestamp, u64),
    /// What the host is; none when it is at neither state.
    pub(crate) content: Option<SnapshotId>,
    pub(crate) before: SnapshotId,
    pub(crate) highest: Generation,
    /// Its newest session: what was sent in an older one and has not arrived never does.
    pub(crate) session: u64,
    /// How many restores have ended, and which was the last one that it was told to make.
    pub(crate) restores: u64,
    pub(crate) told_restore: u64,
    /// When anything last happened for which it may be blamed: it was ill, down, changed, or out of reach.
    pub(crate) disturbed_at: Timestamp,
    /// When it was last ill since the last restore that it was told to make.
    pub(crate) ill_at: Option<Timestamp>,
    /// Since when it says nothing, and when it last said nothing.
    pub(crate) quiet_since: Option<Timestamp>,
    pub(crate) quiet_last: Timestamp,
    /// Busy with its own work until then.
    pub(crate) busy_until: Timestamp,
    /// Every generation that took effect, in order, each with the highest that the host had seen by then.
    pub(crate) effects: Vec<(Generation, Generation)>,
    /// Whether each change was made after a durable backup.
    pub(crate) backed_up: bool,
    /// The backups that it has made, and whether it was told to go back to any other.
    made: BTreeSet<SnapshotId>,
    pub(crate) told_of_foreign: bool,
    work: Option<AtWork>,
    waiting: VecDeque<(HostCommand, Timestamp)>,
    /// Answers that are final, by generation.
    journal: BTreeMap<Generation, Report>,
    /// Answers that the coordinator has not acknowledged.
    pub(crate) outbox: BTreeSet<Generation>,
    fault: Option<Fault>,
}

struct AtWork {
    command: HostCommand,
    /// When it gives up, by its own clock.
    deadline: Timestamp,
    origin: SnapshotId,
    target: SnapshotId,
    flipped: bool,
    backup: Option<SnapshotId>,
}

/// Snapshots that make a host ill say so in themselves, for the walk's eyes only.
pub(crate) fn is_ill(snapshot: SnapshotId) -> bool {
    snapshot.0.as_bytes()[2] == 1
}

impl Agent {
    pub(crate) fn new(
        host: HostId,
        instance: InstanceId,
        before: SnapshotId,
        now: Timestamp,
        fault: Option<Fault>,
        dice: &mut Dice,
    ) -> Self {
        let weather = dice.pick(&[Health::Good, Health::Good, Health::Good, Health::Bad, Health::Unknown]);
        let health = if is_ill(before) { Health::Bad } else { weather };
        Self {
            host,
            instance,
            up: true,
            frozen: false,
            linked: true,
            gone: false,
            weather,
            monitor: Monitor::new(now, health, dice),
            published: (health, now, 0),
            content: Some(before),
            before,
            highest: Generation(0),
            session: 0,
            restores: 0,
            told_restore: 0,
            disturbed_at: now,
            ill_at: None,
            quiet_since: None,
            quiet_last: Timestamp(0),
            busy_until: now,
            effects: Vec::new(),
            backed_up: true,
            made: BTreeSet::new(),
            told_of_foreign: false,
            work: None,
            waiting: VecDeque::new(),
            journal: BTreeMap::new(),
            outbox: BTreeSet::new(),
            fault,
        }
    }

    /// Whether it runs and reaches the coordinator's machine.
    pub(crate) fn reaches(&self) -> bool {
        self.up && !self.frozen && self.linked && !self.gone
    }

    /// Notes whether it can be heard, after something has changed that.
    pub(crate) fn note_quiet(&mut self, now: Timestamp) {
        if self.reaches() {
            if self.quiet_since.take().is_some() {
                self.quiet_last = now;
            }
        } else {
            self.quiet_since.get_or_insert(now);
        }
        self.disturbed_at = now;
    }

    /// Until when it was last not to be heard.
    pub(crate) fn quiet_until(&self, now: Timestamp) -> Timestamp {
        if self.quiet_since.is_some() { now } else { self.quiet_last }
    }

    /// How the host really is.
    pub(crate) fn truth(&self) -> Health {
        match self.content {
            None => Health::Bad,
            Some(snapshot) if is_ill(snapshot) => Health::Bad,
            Some(_) if self.work.as_ref().is_some_and(|work| work.flipped) => Health::Bad,
            Some(_) => self.weather,
        }
    }

    /// Makes the measurements that are due.
    pub(crate) fn measure(&mut self, now: Timestamp) {
        if !self.up || self.frozen || self.gone {
            return;
        }
        let truth = self.truth();
        if truth != Health::Good {
            self.disturbed_at = now;
            self.ill_at = Some(now);
        }
        self.monitor.measure(now, truth);
    }

    /// When a measurement may change the verdict.
    pub(crate) fn wakes(&self) -> Option<Timestamp> {
        if self.up && !self.frozen && !self.gone { self.monitor.wakes(self.truth()) } else { None }
    }

    /// What it has journalled, as it would say it now.
    pub(crate) fn report(&self, generation: Generation) -> Report {
        Report { newest: self.highest, ..self.journal[&generation].clone() }
    }

    /// A command has arrived; it has until `deadline`.
    pub(crate) fn receive(&mut self, command: HostCommand, deadline: Timestamp, now: Timestamp) {
        let generation = command.generation;
        if self.journal.contains_key(&generation) {
            self.outbox.insert(generation);
            return;
        }
        let is_known = |known: &HostCommand| known.generation == generation;
        if self.work.as_ref().is_some_and(|work| is_known(&work.command))
            || self.waiting.iter().any(|(waiting, _)| is_known(waiting))
        {
            return;
        }
        if generation < self.highest && self.fault != Some(Fault::HostTakesOlderGenerations) {
            let failure = Failure::new(Reason::StaleGeneration, "an older generation");
            return self.answer(&command, Answer::Refused(failure));
        }
        // It is in the journal from here on, whatever it has to wait for.
        self.highest = self.highest.max(generation);
        if command.step.kind() == StepKind::Cancel {
            self.overrule(Reason::Cancelled);
            return self.cancel(&command, now);
        }
        self.overrule(Reason::StaleGeneration);
        self.waiting.push_back((command, deadline));
        self.take_up(now);
    }

    /// What waits and is older than what has come does not begin.
    fn overrule(&mut self, reason: Reason) {
        while let Some((waiting, _)) = self.waiting.pop_front() {
            self.answer(&waiting, Answer::Refused(Failure::new(reason, "not begun")));
        }
    }

    /// Begins what waits, if the host is free for it.
    fn take_up(&mut self, now: Timestamp) {
        while self.busy_until <= now && self.work.is_none() {
            let Some((command, deadline)) = self.waiting.pop_front() else { return };
            match &command.step {
                _ if deadline <= now => {
                    let failure = Failure::new(Reason::DeadlineExceeded, "not begun by its deadline");
                    self.answer(&command, Answer::Refused(failure));
                }
                Step::Apply { snapshot, .. } => self.begin(*snapshot, command, deadline),
                Step::Revert { backup, .. } => self.begin(*backup, command, deadline),
                Step::Cancel | Step::Prepare { .. } | Step::Cut { .. } | Step::Finish | Step::Abandon => {
                    unreachable!("nobody waits for these, or a rollback sends none of them")
                }
            }
        }
    }

    fn begin(&mut self, target: SnapshotId, command: HostCommand, deadline: Timestamp) {
        self.told_of_foreign |= command.step.kind() == StepKind::Revert && !self.made.contains(&target);
        let Some(origin) = self.content else {
            let failure = Failure::new(Reason::Inconsistent, "the host is at neither state");
            return self.answer(&command, Answer::Refused(failure));
        };
        self.effects.push((command.generation, self.highest));
        self.work = Some(AtWork { origin, target, flipped: false, backup: None, command, deadline });
    }

    fn cancel(&mut self, command: &HostCommand, now: Timestamp) {
        if self.work.is_some() {
            self.go_back("cancelled", now);
        }
        let answer = self.journal.values().rev().find_map(|report| match &report.answer {
            Answer::Restored(restored)
                if report.step == StepKind::Apply && report.operation == command.operation =>
            {
                Some(Answer::Restored(restored.clone()))
            }
            _ => None,
        });
        self.answer(command, answer.unwrap_or(Answer::Finished));
    }

    /// One stretch of work.
    pub(crate) fn advance(&mut self, now: Timestamp, dice: &mut Dice) {
        if !self.up || self.frozen || self.gone || self.busy_until > now {
            return;
        }
        self.take_up(now);
        self.measure(now);
        let Some(work) = &mut self.work else { return };
        if work.deadline <= now || dice.percent(6) {
            if work.flipped && dice.percent(4) {
                return self.stuck(now);
            }
            return self.go_back("past its deadline, or a step failed", now);
        }
        if work.backup.is_none() && self.fault != Some(Fault::HostTakesNoBackup) {
            work.backup = Some(work.origin);
            self.made.insert(work.origin);
        } else if !work.flipped {
            work.flipped = true;
            self.backed_up &= work.backup.is_some();
            if self.fault != Some(Fault::HostLies) || work.command.step.kind() == StepKind::Revert {
                self.content = Some(work.target);
            }
            self.disturbed_at = now;
        } else {
            self.end(Standing::Target, None, now);
        }
    }

    /// The process dies.
    pub(crate) fn crash(&mut self, now: Timestamp) {
        self.measure(now);
        self.up = false;
        self.note_quiet(now);
        // What it was busy with dies with it; what waits is in the journal.
        self.busy_until = now;
        self.monitor.restart(now, self.restores);
    }

    /// It is up again: what was not committed is taken back.
    pub(crate) fn recover(&mut self, now: Timestamp) {
        self.up = true;
        self.note_quiet(now);
        self.monitor.restart(now, self.restores);
        if self.work.is_some() {
            self.go_back("the agent was killed", now);
        }
        // What was not acknowledged is said again, and more.
        self.outbox.extend(self.journal.keys());
    }

    /// A person on the host brings it to where it is: nothing changes but the number of its restores.
    pub(crate) fn restore_locally(&mut self, now: Timestamp) {
        if self.up && !self.frozen && self.work.is_none() && self.content.is_some() {
            self.measure(now);
            self.ends_restore(now);
        }
    }

    fn go_back(&mut self, why: &str, now: Timestamp) {
        if let Some(work) = &self.work {
            self.content = Some(work.origin);
        }
        self.end(Standing::Before, Some(Failure::new(Reason::DeadlineExceeded, why)), now);
    }

    fn stuck(&mut self, now: Timestamp) {
        self.content = None;
        self.end(Standing::Inconsistent, Some(Failure::new(Reason::Inconsistent, "neither way")), now);
    }

    fn ends_restore(&mut self, now: Timestamp) {
        self.restores += 1;
        self.disturbed_at = now;
        if self.fault == Some(Fault::HostKeepsItsVerdict) {
            self.monitor.after = self.restores;
        } else {
            self.monitor.restart(now, self.restores);
        }
    }

    fn end(&mut self, standing: Standing, failure: Option<Failure>, now: Timestamp) {
        let Some(work) = self.work.take() else { return };
        // The verdicts begin anew before anybody can hear of it.
        self.ends_restore(now);
        self.told_restore = self.restores;
        self.ill_at = None;
        let restored = Restored {
            standing,
            backup: work.backup,
            downtime: Duration::ZERO,
            phases: Vec::new(),
            steps: 1,
            bytes: ByteCount(1),
            failure,
            restore: Some(RestoreNumber(self.restores)),
            findings: None,
        };
        self.answer(&work.command, Answer::Restored(restored));
    }

    fn answer(&mut self, command: &HostCommand, answer: Answer) {
        let report = Report {
            host: self.host.clone(),
            instance: Some(self.instance),
            operation: command.operation,
            generation: command.generation,
            step: command.step.kind(),
            answer,
            newest: self.highest,
        };
        self.journal.insert(command.generation, report);
        self.outbox.insert(command.generation);
    }
}
