//! Commands, as the journal and the one worker of a real agent take them: fenced, one after the other, each with one report.

use std::time::{Duration, Instant};

use rfs_model::Reason;
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::report::Outcome;
use rfs_proto::agentlink::v1::restored::Standing;
use rfs_proto::agentlink::v1::{Command, CommandKey, Report, Step};
use rfs_proto::convert::{failure, to_wire_duration};
use rfs_proto::v1;

use super::{ANSWERED, SimHost, agent_time, step_name, unknown_snapshot};

/// How many restores that took effect are remembered.
const EFFECTS: usize = 16;
/// How long a command may take whose coordinator does not say.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A command at work.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) command: Command,
    begun: Instant,
    /// When it would be done.
    due: Instant,
    /// When its time is up.
    until: Instant,
    is_cancelled: bool,
}

/// The restore that ended last.
#[derive(Debug, Clone)]
pub(super) struct LastRestore {
    operation: String,
    step: Step,
    standing: Standing,
    backup: String,
    number: u64,
}

impl LastRestore {
    /// Whether it left the host at what a rollback wants.
    pub(super) fn is_at_target(&self) -> bool {
        self.step == Step::Apply && self.standing == Standing::Target
    }
}

impl Work {
    pub(super) fn ends_at(&self) -> Instant {
        self.due.min(self.until)
    }

    pub(super) fn takes(&self) -> Duration {
        self.due.duration_since(self.begun)
    }

    pub(super) fn progress(&self) -> link::Progress {
        let phase = match self.command.key.as_ref().map(CommandKey::step) {
            Some(Step::Apply | Step::Revert) => "stage",
            _ => "",
        };
        link::Progress {
            key: self.command.key.clone(),
            phase: phase.to_owned(),
            steps_done: 0,
            steps_total: 1,
        }
    }
}

impl SimHost {
    /// Takes a command: it is answered once, however often it comes.
    pub(super) fn receive(&mut self, command: Command, now: Instant) {
        let Some(key) = command.key.clone() else { return };
        if let Some((_, report)) = self.answered.iter().find(|(known, _)| *known == key) {
            // What was acknowledged is said again, too.
            self.reports.insert(report.sequence, (report.clone(), None));
            return;
        }
        let is_pending = |other: &Command| other.key.as_ref() == Some(&key);
        if self.work.as_ref().is_some_and(|work| is_pending(&work.command))
            || self.queue.iter().any(|(other, _)| is_pending(other))
        {
            return;
        }
        if key.generation < self.generation {
            let message = format!("generation {} is older than {}", key.generation, self.generation);
            return self.report(key, Outcome::Refused(failure(Reason::StaleGeneration, message, "")));
        }
        self.generation = key.generation;
        let step = key.step();
        self.script.silent |= self.script.silent_at.has(step);
        self.script.gone |= self.script.gone_at.has(step);
        if matches!(step, Step::Cancel | Step::Abandon) {
            self.stop(&key, now);
        }
        let timeout = command.timeout.and_then(|timeout| Duration::try_from(timeout).ok()).unwrap_or(TIMEOUT);
        self.queue.push_back((command, now + timeout));
        self.proceed(now);
    }

    /// What stops a step acts at once, beside it.
    fn stop(&mut self, key: &CommandKey, now: Instant) {
        let is_its = |work: &&mut Work| {
            work.command.key.as_ref().is_some_and(|at_work| {
                at_work.operation_id == key.operation_id && at_work.generation <= key.generation
            })
        };
        if let Some(work) = self.work.as_mut().filter(is_its) {
            (work.is_cancelled, work.due) = (true, now);
        }
    }

    /// Ends what is due, and begins what comes next.
    pub(super) fn proceed(&mut self, now: Instant) {
        loop {
            match self.work.take() {
                Some(work) if work.ends_at() > now => {
                    self.work = Some(work);
                    return;
                }
                Some(work) => self.end(work, now),
                None if self.script.silent => return,
                None => {}
            }
            let Some((command, until)) = self.queue.pop_front() else { return };
            let due = now + self.latency(&command);
            self.is_progress_told = false;
            self.work = Some(Work { command, begun: now, due, until, is_cancelled: false });
        }
    }

    fn latency(&mut self, command: &Command) -> Duration {
        let step = command.key.as_ref().map_or(Step::Unspecified, CommandKey::step);
        let (least, most) = self.latencies.of(step);
        let spread = u64::try_from((most - least).as_micros()).unwrap_or(u64::MAX - 1);
        let latency = least + Duration::from_micros(self.dice.below(spread + 1));
        latency * self.script.slow.max(1)
    }

    fn end(&mut self, work: Work, now: Instant) {
        let Some(key) = work.command.key.clone() else { return };
        let obstacle = if work.is_cancelled {
            Some(failure(Reason::Cancelled, "it was stopped", ""))
        } else if work.until <= work.due && work.until <= now {
            Some(failure(Reason::DeadlineExceeded, "its time is up", ""))
        } else if self.script.fails.has(key.step()) {
            let message = format!("this simulated host fails to {}", step_name(key.step()));
            Some(failure(Reason::CommandFailed, message, "change its script"))
        } else {
            None
        };
        let outcome = match key.step() {
            Step::Prepare => self.prepare(&key, &work, obstacle),
            Step::Cut => self.cut(&key, &work, obstacle),
            Step::Finish | Step::Abandon => {
                self.checkpoint.take_if(|(operation, _)| *operation == key.operation_id);
                obstacle.map_or(Outcome::Finished(link::Finished {}), Outcome::Failed)
            }
            Step::Apply | Step::Revert => self.restore(&key, &work, obstacle, now),
            Step::Cancel => self.cancelled(&key.operation_id),
            Step::Unspecified => Outcome::Refused(failure(Reason::Unsupported, "the step is not known", "")),
        };
        self.report(key, outcome);
    }

    fn prepare(&mut self, key: &CommandKey, work: &Work, obstacle: Option<v1::Failure>) -> Outcome {
        if let Some(failure) = obstacle {
            self.checkpoint = None;
            return Outcome::Failed(failure);
        }
        self.checkpoint = Some((key.operation_id.clone(), work.until));
        Outcome::Prepared(link::Prepared { duration: Some(to_wire_duration(work.takes())) })
    }

    fn cut(&mut self, key: &CommandKey, work: &Work, obstacle: Option<v1::Failure>) -> Outcome {
        if let Some(failure) = obstacle {
            self.checkpoint = None;
            return Outcome::Failed(failure);
        }
        match &mut self.checkpoint {
            Some((operation, until)) if *operation == key.operation_id => *until = work.until.max(*until),
            _ => {
                let message = "the host is not prepared for this checkpoint";
                return Outcome::Failed(failure(Reason::WrongState, message, "take the checkpoint again"));
            }
        }
        let snapshot = self.hold();
        // A list that does not name what was cut is older than the report.
        let content = self.content;
        self.told_held.take_if(|told| !told.contains(&content));
        Outcome::Captured(link::Captured {
            snapshot: snapshot.to_string(),
            cut_time: agent_time(),
            agent_time: agent_time(),
            bytes: 1,
            new_bytes: 1,
            entries: 1,
            duration: Some(to_wire_duration(work.takes())),
            notes: Vec::new(),
        })
    }

    fn restore(
        &mut self,
        key: &CommandKey,
        work: &Work,
        obstacle: Option<v1::Failure>,
        now: Instant,
    ) -> Outcome {
        // A newer command has come, so the coordinator has moved on from any checkpoint.
        self.checkpoint = None;
        if self.is_inconsistent {
            return Outcome::Refused(failure(Reason::Inconsistent, "the host is at neither state", ""));
        }
        let Some(target) = self.content_of(&work.command.snapshot) else {
            return Outcome::Refused(unknown_snapshot());
        };
        let step = key.step();
        let backup = self.hold().to_string();
        let standing = match (&obstacle, self.script.breaks) {
            (Some(_), _) => Standing::Before,
            (None, true) => Standing::Inconsistent,
            (None, false) => Standing::Target,
        };
        self.restores += 1;
        match standing {
            Standing::Target => {
                (self.content, self.brought) = (target, Some(target));
                self.effects.push_back(format!("{} {target}", step_name(step)));
                self.effects.drain(..self.effects.len().saturating_sub(EFFECTS));
            }
            Standing::Inconsistent => (self.is_inconsistent, self.brought) = (true, None),
            Standing::Before | Standing::Unspecified => {}
        }
        let last = LastRestore {
            operation: key.operation_id.clone(),
            step,
            standing,
            backup: backup.clone(),
            number: self.restores,
        };
        self.last_restore = Some(last);
        self.checks.restore_ended(now);
        let broken =
            || failure(Reason::Inconsistent, "this simulated host broke in its restore", "look at it");
        let failure = obstacle.or_else(|| (standing == Standing::Inconsistent).then(broken));
        let downtime = (standing == Standing::Target).then(|| to_wire_duration(work.takes() / 10));
        Outcome::Restored(link::Restored {
            standing: standing.into(),
            backup,
            downtime,
            phases: vec![v1::PhaseTime {
                phase: "stage".into(),
                duration: Some(to_wire_duration(work.takes())),
            }],
            steps: u64::from(standing == Standing::Target),
            bytes: 1,
            failure,
            restore: self.restores,
            ..Default::default()
        })
    }

    /// Nothing of the operation runs now.
    fn cancelled(&self, operation: &str) -> Outcome {
        let last = self.last_restore.as_ref().filter(|last| last.operation == operation);
        Outcome::Restored(link::Restored {
            standing: last.map_or(Standing::Before, |last| last.standing).into(),
            backup: last.map(|last| last.backup.clone()).unwrap_or_default(),
            restore: last.map_or(0, |last| last.number),
            ..Default::default()
        })
    }

    fn report(&mut self, key: CommandKey, outcome: Outcome) {
        self.sequence += 1;
        let (sequence, newest_generation) = (self.sequence, self.generation);
        let report = Report { key: Some(key.clone()), sequence, outcome: Some(outcome), newest_generation };
        self.answered.push_back((key, report.clone()));
        if self.answered.len() > ANSWERED {
            self.answered.pop_front();
        }
        self.reports.insert(sequence, (report, None));
    }
}
