//! One simulated host: its state is a number, its snapshots are the numbers that it remembers.
//!
//! What stands here survives a lost connection, as the store and the journal of a real agent do.

mod work;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rfs_model::{Clock as _, Digest, Reason, SnapshotId, time::SystemClock};
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::agentlink::v1::report::Outcome;
use rfs_proto::agentlink::v1::{Command, CommandKey, Report, Step};
use rfs_proto::convert::{failure, to_wire_duration, to_wire_time};
use rfs_proto::v1;
use uuid::Uuid;

use super::checks::Checks;
use super::script::{Health, Latencies, Script};
use crate::dice::Dice;
use work::{LastRestore, Work};

/// How many answered commands are remembered: more than one operation sends.
const ANSWERED: usize = 8;
/// How many snapshots are kept.
const HELD: usize = 64;
/// The version of the link that is spoken.
const PROTOCOL: u32 = 1;
/// How long a report may stay without acknowledgement before it is sent again in the same session.
const RESEND: Duration = Duration::from_secs(30);
/// A step that takes less than this is over before a real agent would tell how far it is.
const TOLD_PROGRESS: Duration = Duration::from_millis(100);

/// A simulated host.
#[derive(Debug)]
pub struct SimHost {
    name: String,
    number: u32,
    labels: Vec<(String, String)>,
    /// The machine: lives with the agent's store.
    instance: Uuid,
    /// The start of the agent's process.
    start: Uuid,
    pub(super) script: Script,
    latencies: Latencies,
    dice: Dice,
    checks: Checks,
    /// Since when a flapping host flaps.
    begun: Instant,
    health_interval: Duration,
    health_due: Instant,

    /// What the host is.
    content: u64,
    /// What it was last brought to.
    brought: Option<u64>,
    /// The contents of its snapshots, the newest last.
    held: Vec<u64>,
    /// What the coordinator was told last of them in this session.
    told_held: Option<Vec<u64>>,
    generation: u64,
    sequence: u64,
    restores: u64,
    last_restore: Option<LastRestore>,
    /// Restores that took effect, in order, such as `apply 1`; the last few.
    effects: VecDeque<String>,
    is_inconsistent: bool,

    /// The operation whose checkpoint it is prepared for, and until when.
    checkpoint: Option<(String, Instant)>,
    queue: VecDeque<(Command, Instant)>,
    work: Option<Work>,
    /// Reports that are not acknowledged, each with when it was sent in this session.
    reports: BTreeMap<u64, (Report, Option<Instant>)>,
    answered: VecDeque<(CommandKey, Report)>,
    /// What was said of the present step is told.
    is_progress_told: bool,
}

/// What makes a host the one that it is.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) number: u32,
    pub(super) labels: Vec<(String, String)>,
    pub(super) instance: Uuid,
    pub(super) script: Script,
    pub(super) latencies: Latencies,
    pub(super) check_interval: Duration,
    pub(super) seed: u64,
}

impl SimHost {
    pub(super) fn new(made: Made, now: Instant) -> Self {
        let Made { name, number, labels, instance, script, latencies, check_interval, seed } = made;
        let mut dice = Dice(seed.wrapping_add(u64::from(number)));
        // The checks of a fleet are not measured all at the same moment.
        let first =
            now + check_interval.mul_f64(dice.below(1000) as f64 / 1000.0).min(Duration::from_secs(1));
        Self {
            name,
            number,
            labels,
            instance,
            start: Uuid::now_v7(),
            script,
            latencies,
            checks: Checks::new(check_interval, now, first),
            begun: now,
            dice,
            health_interval: Duration::from_secs(10),
            health_due: now,
            content: 1,
            brought: None,
            held: Vec::new(),
            told_held: None,
            generation: 0,
            sequence: 0,
            restores: 0,
            last_restore: None,
            effects: VecDeque::new(),
            is_inconsistent: false,
            checkpoint: None,
            queue: VecDeque::new(),
            work: None,
            reports: BTreeMap::new(),
            answered: VecDeque::new(),
            is_progress_told: false,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn content(&self) -> u64 {
        self.content
    }

    /// The last restores that took effect, in order, such as `apply 1`.
    pub fn effects(&self) -> Vec<String> {
        self.effects.iter().cloned().collect()
    }

    /// It stands at neither state.
    pub fn is_inconsistent(&self) -> bool {
        self.is_inconsistent
    }

    /// Whether it is told to hold still for a checkpoint, as an application would notice.
    pub fn is_quiet(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Makes it something else, as a deploy does.
    pub(super) fn deploy(&mut self, content: u64) {
        self.content = content;
    }

    /// A session has begun: what was sent in an earlier one may be lost.
    pub(super) fn begin_session(&mut self, welcome: &link::Welcome, now: Instant) {
        let told = welcome.health_interval.and_then(|interval| Duration::try_from(interval).ok());
        self.health_interval = told.unwrap_or(self.health_interval).max(Duration::from_millis(100));
        self.health_due = now;
        self.told_held = None;
        self.is_progress_told = false;
        self.reports.values_mut().for_each(|(_, sent)| *sent = None);
        // A checkpoint of another operation than the host's owner is over: what it made quiet resumes.
        self.checkpoint.take_if(|(operation, _)| *operation != welcome.owner);
    }

    pub(super) fn hello(&self) -> link::Hello {
        let key = self.work.as_ref().and_then(|work| work.command.key.clone());
        link::Hello {
            protocol: PROTOCOL,
            host: self.name.clone(),
            agent_version: concat!(env!("CARGO_PKG_VERSION"), "-simulated").to_owned(),
            labels: self.labels.iter().cloned().collect(),
            components: vec![v1::Component { name: "content".into(), kind: "files".into() }],
            instance_id: self.instance.to_string(),
            start_id: self.start.to_string(),
            generation: self.generation,
            in_flight: key,
            agent_time: agent_time(),
            inconsistent: self.is_inconsistent,
            snapshot: self.brought.map(|content| self.snapshot(content).to_string()).unwrap_or_default(),
        }
    }

    /// Takes what the coordinator says; gives what is answered at once.
    pub(super) fn take(&mut self, message: Down, now: Instant) -> Option<Up> {
        match message {
            Down::Command(command) => self.receive(command, now),
            Down::ReportAck(ack) => drop(self.reports.remove(&ack.sequence)),
            Down::Query(query) => return Some(Up::QueryResult(self.answer(query))),
            Down::Ping(ping) => {
                return Some(Up::Pong(link::Pong { nonce: ping.nonce, agent_time: agent_time() }));
            }
            Down::Checkpoints(_) | Down::Welcome(_) => {}
        }
        None
    }

    /// When there is something to do although nothing comes in.
    pub(super) fn wake_at(&self) -> Instant {
        let work = self.work.as_ref().map(Work::ends_at);
        let checkpoint = self.checkpoint.as_ref().filter(|_| self.work.is_none()).map(|(_, until)| *until);
        let times = [Some(self.checks.next()), Some(self.health_due), work, checkpoint];
        times.into_iter().flatten().min().unwrap_or(self.health_due)
    }

    /// Does what is due, and says what there is to say: reports first, then what is true now.
    pub(super) fn act(&mut self, now: Instant, say: &mut Vec<Up>) {
        self.checkpoint.take_if(|(_, until)| *until <= now);
        self.proceed(now);
        self.checks.measure(now, self.found(now));
        let mut is_due = self.checks.take_news() || self.health_due <= now;
        for (report, sent) in self.reports.values_mut() {
            if sent.is_none_or(|sent| now.duration_since(sent) >= RESEND) {
                *sent = Some(now);
                is_due |= matches!(report.outcome, Some(Outcome::Restored(_)));
                say.push(Up::Report(report.clone()));
            }
        }
        if is_due {
            self.health_due = now + self.health_interval;
            say.push(Up::Health(self.health_report(now)));
        }
        if self.told_held.is_none() {
            self.told_held = Some(self.held.clone());
            let ids = self.held.iter().rev().map(|content| self.snapshot(*content).0.as_bytes().to_vec());
            say.push(Up::Snapshots(link::Snapshots { ids: ids.collect(), cut: false }));
        }
        if let Some(work) = self.work.as_ref().filter(|work| work.takes() >= TOLD_PROGRESS)
            && !std::mem::replace(&mut self.is_progress_told, true)
        {
            say.push(Up::Progress(work.progress()));
        }
    }

    /// What a measurement would find now.
    fn found(&self, now: Instant) -> v1::Health {
        let at_target = self.last_restore.as_ref().is_some_and(LastRestore::is_at_target);
        let is_good = match self.script.health {
            Health::Good => true,
            Health::Ill => false,
            Health::IllAtTarget => !at_target,
            Health::Flapping(period) => {
                let turns = now.duration_since(self.begun).as_millis() / period.as_millis().max(1);
                turns.is_multiple_of(2)
            }
            Health::Unchecked => return v1::Health::Unknown,
        };
        if is_good { v1::Health::Good } else { v1::Health::Bad }
    }

    fn health_report(&self, now: Instant) -> link::HealthReport {
        let health = self.checks.health();
        let evidence = match health {
            v1::Health::Good => "GET /healthz answered 200",
            v1::Health::Bad => "GET /healthz answered 503",
            v1::Health::Unknown | v1::Health::Unspecified => "not measured yet",
        };
        let check = v1::Check {
            name: "http".into(),
            kind: "http".into(),
            health: health.into(),
            required: self.script.health != Health::Unchecked,
            evidence: evidence.into(),
            ..Default::default()
        };
        link::HealthReport {
            health: health.into(),
            checks: vec![check],
            agent_time: agent_time(),
            health_age: Some(to_wire_duration(self.checks.age(now))),
            measured_age: self.checks.measured_age(now).map(to_wire_duration),
            after_restore: self.restores,
            inconsistent: self.is_inconsistent,
        }
    }

    fn answer(&self, query: link::Query) -> link::QueryResult {
        use link::query_result::Answer;
        let answer = match query.question {
            Some(link::query::Question::PlanRestore(question)) => match self.content_of(&question.snapshot) {
                Some(content) => Answer::Plan(self.plan(content)),
                None => Answer::Failure(unknown_snapshot()),
            },
            None => Answer::Failure(failure(Reason::Unsupported, "the question is not known", "")),
        };
        link::QueryResult { query_id: query.query_id, answer: Some(answer) }
    }

    fn plan(&self, content: u64) -> v1::HostPlan {
        let mut plan = v1::HostPlan { host: self.name.clone(), ..Default::default() };
        if content != self.content {
            plan.steps.push(v1::PlanStep {
                component: "content".into(),
                action: "write".into(),
                description: format!("write {content} over {}", self.content),
                bytes: 1,
            });
            (plan.step_count, plan.bytes_to_write) = (1, 1);
        }
        plan
    }

    /// The id of its snapshot of a content.
    fn snapshot(&self, content: u64) -> SnapshotId {
        let mut bytes = [0x5a; 32];
        bytes[..8].copy_from_slice(&content.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.number.to_be_bytes());
        SnapshotId(Digest::from_bytes(bytes))
    }

    /// The content of a snapshot that it holds.
    fn content_of(&self, snapshot: &str) -> Option<u64> {
        let wanted: SnapshotId = snapshot.parse().ok()?;
        self.held.iter().copied().find(|content| self.snapshot(*content) == wanted)
    }

    /// Makes a snapshot of what it is.
    fn hold(&mut self) -> SnapshotId {
        self.held.retain(|content| *content != self.content);
        self.held.push(self.content);
        if self.held.len() > HELD {
            self.held.remove(0);
            // What is lost is told.
            self.told_held = None;
        }
        self.snapshot(self.content)
    }
}

fn unknown_snapshot() -> v1::Failure {
    failure(Reason::SnapshotNotFound, "no such snapshot is in the store of this simulated host", "")
}

fn agent_time() -> Option<prost_types::Timestamp> {
    Some(to_wire_time(SystemClock.now()))
}

/// A step's name, as people write it.
fn step_name(step: Step) -> String {
    step.as_str_name().to_lowercase()
}

#[cfg(test)]
mod tests;
