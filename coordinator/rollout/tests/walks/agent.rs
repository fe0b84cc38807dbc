//! A host as a rollout may rely on it: it journals before it acts, refuses older generations, answers repeats from its
//! journal, goes back at its deadline, and comes back from a crash at one of two states.

use std::collections::BTreeMap;
use std::time::Duration;

use rfs_model::{ByteCount, Generation, Health, Reason, SnapshotId, Standing, Timestamp};
use rfs_rollout::{Answer, Failure, HostCommand, Report, Restored, Step, StepKind};

use super::dice::Dice;
use super::world::Fault;

pub(crate) struct Agent {
    pub(crate) host: rfs_model::HostId,
    pub(crate) up: bool,
    pub(crate) connected: bool,
    pub(crate) health: Health,
    /// What the host is; none when it is at neither state.
    pub(crate) content: Option<SnapshotId>,
    pub(crate) before: SnapshotId,
    pub(crate) highest: Generation,
    /// Every generation that took effect, in order, each with the highest that the host had seen by then.
    pub(crate) effects: Vec<(Generation, Generation)>,
    /// Whether each change was made after a durable backup.
    pub(crate) backed_up: bool,
    pub(crate) work: Option<AtWork>,
    /// Answers that are final, by generation.
    journal: BTreeMap<Generation, Report>,
    /// Answers that the coordinator has not acknowledged.
    pub(crate) outbox: Vec<Report>,
    fault: Option<Fault>,
}

pub(crate) struct AtWork {
    command: HostCommand,
    origin: Option<SnapshotId>,
    target: SnapshotId,
    flipped: bool,
    backup: Option<SnapshotId>,
}

impl Agent {
    pub(crate) fn new(host: rfs_model::HostId, before: SnapshotId, fault: Option<Fault>) -> Self {
        Self {
            host,
            up: true,
            connected: true,
            health: Health::Good,
            content: Some(before),
            before,
            highest: Generation(0),
            effects: Vec::new(),
            backed_up: true,
            work: None,
            journal: BTreeMap::new(),
            outbox: Vec::new(),
            fault,
        }
    }

    /// A command has arrived.
    pub(crate) fn receive(&mut self, command: HostCommand) {
        let generation = command.generation;
        if let Some(report) = self.journal.get(&generation) {
            let report = report.clone();
            return self.say(report);
        }
        if self.work.as_ref().is_some_and(|work| work.command.generation == generation) {
            return;
        }
        if generation < self.highest && self.fault != Some(Fault::HostTakesOlderGenerations) {
            let failure = Failure::new(Reason::StaleGeneration, "an older generation");
            return self.answer(&command, Answer::Refused(failure));
        }
        self.highest = self.highest.max(generation);
        match &command.step {
            Step::Apply { snapshot, .. } => self.begin(*snapshot, command),
            Step::Revert { backup, .. } => self.begin(*backup, command),
            Step::Cancel => self.cancel(&command),
            Step::Prepare { .. } | Step::Cut { .. } | Step::Finish | Step::Abandon => {
                unreachable!("a rollback sends none of these")
            }
        }
    }

    fn begin(&mut self, target: SnapshotId, command: HostCommand) {
        if self.content.is_none() {
            let failure = Failure::new(Reason::Inconsistent, "the host is at neither state");
            return self.answer(&command, Answer::Refused(failure));
        }
        self.effects.push((command.generation, self.highest));
        self.work = Some(AtWork { origin: self.content, target, flipped: false, backup: None, command });
    }

    fn cancel(&mut self, command: &HostCommand) {
        if self.work.is_some() {
            self.go_back("cancelled");
        }
        let answer = self.journal.values().rev().find_map(|report| match &report.answer {
            Answer::Restored(restored) if report.step == StepKind::Apply => {
                Some(Answer::Restored(restored.clone()))
            }
            _ => None,
        });
        self.answer(command, answer.unwrap_or(Answer::Finished));
    }

    /// One stretch of work.
    pub(crate) fn advance(&mut self, now: Timestamp, dice: &mut Dice) {
        let Some(work) = &mut self.work else { return };
        if work.command.deadline <= now || dice.percent(6) {
            if work.flipped && dice.percent(4) {
                return self.stuck();
            }
            return self.go_back("past its deadline, or a step failed");
        }
        if work.backup.is_none() && self.fault != Some(Fault::HostTakesNoBackup) {
            work.backup = work.origin;
        } else if !work.flipped {
            work.flipped = true;
            self.backed_up &= work.backup.is_some();
            if self.fault != Some(Fault::HostLies) || work.command.step.kind() == StepKind::Revert {
                self.content = Some(work.target);
            }
        } else {
            self.end(Standing::Target, None);
        }
    }

    /// The process died and is up again: what was not committed is taken back.
    pub(crate) fn recover(&mut self) {
        self.up = true;
        if self.work.is_some() {
            self.go_back("the agent was killed");
        }
        // What was not acknowledged is said again.
        for report in self.journal.values() {
            if !self.outbox.contains(report) {
                self.outbox.push(report.clone());
            }
        }
    }

    fn go_back(&mut self, why: &str) {
        if let Some(work) = &self.work {
            self.content = work.origin;
        }
        self.end(Standing::Before, Some(Failure::new(Reason::DeadlineExceeded, why)));
    }

    fn stuck(&mut self) {
        self.content = None;
        self.end(Standing::Inconsistent, Some(Failure::new(Reason::Inconsistent, "neither way")));
    }

    fn end(&mut self, standing: Standing, failure: Option<Failure>) {
        let Some(work) = self.work.take() else { return };
        let restored = Restored {
            standing,
            backup: work.backup,
            downtime: Duration::ZERO,
            phases: Vec::new(),
            steps: 1,
            bytes: ByteCount(1),
            failure,
            restore: None,
        };
        self.answer(&work.command, Answer::Restored(restored));
    }

    fn answer(&mut self, command: &HostCommand, answer: Answer) {
        let report = Report {
            host: self.host.clone(),
            operation: command.operation,
            generation: command.generation,
            step: command.step.kind(),
            answer,
            newest: self.highest,
        };
        self.journal.insert(command.generation, report.clone());
        self.say(report);
    }

    fn say(&mut self, report: Report) {
        if !self.outbox.contains(&report) {
            self.outbox.push(report);
        }
    }
}
