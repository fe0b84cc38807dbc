//! Plays a rollback from one line.
//!
//! A script begins with its hosts and policy and goes on with what happens, step by step, parted by `;`. Every host has a
//! connection and is healthy before the rollback, has 300 s for its change, and must be healthy for 10 s within 60 s.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rfs_model::{
    Digest, Generation, Health, HostId, InstanceId, Reason, RestoreNumber, RollbackId, Selector, SnapshotId,
    Standing, Timestamp,
};
use uuid::Uuid;

use super::super::*;
use crate::fleet::{Admission, FleetView, HostView, Presence, Reading};
use crate::host::{Answer, Failure, Findings, GENERATIONS, Listed, Report, Restored, Step, StepKind};
use crate::operation::{Event, Operation, Work};
use crate::plan::{WaveIndex, plan};
use crate::request::{
    Amount, Budget, Canary, Choices, GatePolicy, OnFailure, OnUnreachable, Order, Policy, RollbackRequest,
    Selection, Source, Strategy, Waves,
};
use crate::{Command, Connected, Person, PersonAction};

pub(super) struct Play {
    operation: Operation,
    events: Vec<Event>,
    now: Timestamp,
    refusal: Option<String>,
    /// How many restores each host has ended, and how it has been since the last one that said.
    restores: BTreeMap<HostId, u64>,
    health: BTreeMap<HostId, (Health, String)>,
    /// Hosts whose checks are not measured any more, and whose agents do not say anything: nobody has noticed yet.
    blind: BTreeSet<HostId>,
}

const FIRST: Generation = Generation(40);

fn id() -> RollbackId {
    RollbackId::from_uuid(Uuid::nil())
}

pub(super) fn snapshot(byte: u8) -> SnapshotId {
    SnapshotId(Digest::from_bytes([byte; 32]))
}

pub(super) fn host(name: &str) -> HostId {
    name.parse().expect("a valid name")
}

impl Play {
    pub(super) fn begin(setup: &str) -> Self {
        let mut view = FleetView::default();
        let mut waves = Waves { sizes: vec![Amount::Count(1)], ..Waves::default() };
        let gate = GatePolicy { healthy_deadline: Duration::from_secs(60), ..GatePolicy::default() };
        let mut policy = Policy { gate, ..Policy::default() };
        let mut absent = Vec::new();
        for word in setup.split_whitespace() {
            let amount = |text: &str| match text.strip_suffix('%') {
                Some(percent) => Amount::Percent(percent.parse().expect("a percentage")),
                None => Amount::Count(text.parse().expect("a count")),
            };
            match word.split_once('=') {
                Some(("sizes", value)) => waves.sizes = value.split(',').map(amount).collect(),
                Some(("canary", value)) => waves.canary = Canary::Amount(amount(value)),
                Some(("max-failed", value)) => policy.gate.max_failed = value.parse().expect("a count"),
                Some(("healthy", value)) => policy.gate.healthy = Some(amount(value)),
                Some(("budget", value)) => {
                    policy.budgets = vec![Budget { group_by: None, max_unavailable: amount(value) }];
                }
                Some(("order", value)) => {
                    waves.order = Order::list("r", &value.split('>').collect::<Vec<_>>())
                }
                Some(("bound", value)) => {
                    policy.max_duration = Duration::from_secs(value.parse().expect("seconds"));
                }
                Some(("failure", "continue")) => policy.on_failure = OnFailure::Continue,
                Some(("failure", "revert")) => policy.on_failure = OnFailure::Revert,
                Some(("unreachable", "skip")) => policy.on_unreachable = OnUnreachable::Skip,
                Some(("unreachable", "wait")) => policy.on_unreachable = OnUnreachable::Wait,
                None if word == "ignore-health" => policy.gate.ignore_health = true,
                None => {
                    let (name, role) = word.trim_end_matches('!').split_once(':').unwrap_or((word, ""));
                    let name = host(name.trim_end_matches('!'));
                    if word.ends_with('!') {
                        absent.push(name.clone());
                    }
                    let labels = [("r".to_owned(), role.to_owned())].into();
                    view.targets.insert(name.clone(), snapshot(1));
                    view.hosts.insert(name, HostView { labels, ..HostView::default() });
                }
                Some(_) => panic!("{word} is not understood"),
            }
        }
        let request = RollbackRequest {
            source: Source::Checkpoint(Uuid::nil().to_string().parse().expect("an id")),
            selector: Selector::default(),
            selection: Selection::default(),
            choices: Default::default(),
            strategy: Strategy::Gradual(waves),
            policy,
            reason: "bad release".into(),
            requester: "operator/alice".into(),
        };
        let now = Timestamp(1_000_000);
        let plan = plan(&request, &view).expect("a plan");
        let admission = |name: &HostId| {
            let connected = !absent.contains(name);
            let health = if connected { Health::Good } else { Health::Unknown };
            let presence = Presence { connected, health, ..Presence::absent(Timestamp(0)) };
            (name.clone(), Admission { generation: FIRST, presence })
        };
        let hosts = plan.targets.keys().map(admission).collect();
        let created = Box::new(Created { id: id(), request, plan, hosts });
        let event = Event::Rollback(RollbackEvent::Created { at: now, created });
        let operation = Operation::begin(&event).expect("a creation");
        let (restores, health, blind) = Default::default();
        let mut play = Self { operation, events: vec![event], now, refusal: None, restores, health, blind };
        play.take(&Command::Tick);
        play
    }

    /// Decides twice: a command that is repeated must bring about nothing more, except a person's.
    fn take(&mut self, command: &Command) {
        match self.operation.decide(command, self.now) {
            Err(refusal) => self.refusal = Some(refusal.to_string()),
            Ok(events) => {
                for event in events {
                    self.operation = self.operation.clone().evolve(&event);
                    self.events.push(event);
                }
                if !matches!(command, Command::Person(_)) {
                    let again = self.operation.decide(command, self.now);
                    assert_eq!(again, Ok(vec![]), "{command:?} is repeated");
                }
            }
        }
        let replayed = Operation::replay(&self.events).expect("a history");
        assert_eq!(replayed, self.operation, "the history adds up to the state");
        // As the driver does: generations are reserved for those that are to be tried again.
        if let Some(host) = self.operation.wanted().reserve.into_iter().next() {
            let generation = Generation(self.rollback().hosts[&host].generation.0 + 2 * GENERATIONS);
            self.take(&Command::Granted { host, generation });
        }
    }

    pub(super) fn rollback(&self) -> &Rollback {
        match &self.operation {
            Operation::Rollback(rollback) => rollback,
            Operation::Checkpoint(_) => panic!("a rollback"),
        }
    }

    fn wait(&mut self, seconds: i64) {
        let until = Timestamp(self.now.0 + seconds * 1000);
        loop {
            let Work { wake_at, hear, .. } = self.operation.wanted();
            // Hosts that are not blind are measured all the time.
            let heard = hear
                .into_iter()
                .filter(|(host, at)| *at <= until && !self.blind.contains(host))
                .min_by_key(|(_, at)| *at);
            if let Some((host, at)) = heard.filter(|(_, at)| wake_at.is_none_or(|due| *at <= due)) {
                self.now = self.now.max(at);
                self.measured(&host);
                continue;
            }
            let Some(due) = wake_at.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            let before = self.events.len();
            self.take(&Command::Tick);
            assert!(self.events.len() > before, "an alarm at {due} for nothing");
        }
        self.now = until;
    }

    pub(super) fn step(&mut self, step: &str) {
        let (verb, what) = step.trim().split_once(' ').unwrap_or((step.trim(), ""));
        let person = |action| Command::Person(Person { who: "bob".into(), action });
        let command = match verb {
            "" => return,
            "wait" => return self.wait(what.parse().expect("seconds")),
            "pause" => person(PersonAction::Pause),
            "resume" => person(PersonAction::Resume),
            "promote" => {
                let wave = what.parse().ok().map(|number: u32| WaveIndex(number - 1));
                person(PersonAction::Promote { wave })
            }
            "abort" => person(PersonAction::Abort),
            "retry" => person(PersonAction::Retry {
                hosts: what.split_whitespace().map(host).collect(),
                choices: Default::default(),
            }),
            // Tried again with the loss of `rows` accepted.
            "accept" => person(PersonAction::Retry {
                hosts: what.split_whitespace().map(host).collect(),
                choices: Choices { accept_loss: BTreeSet::from(["rows".to_owned()]), ..Choices::default() },
            }),
            // Tried again with `up` left in place.
            "keeps" => person(PersonAction::Retry {
                hosts: what.split_whitespace().map(host).collect(),
                choices: Choices { keep: BTreeSet::from(["up".to_owned()]), ..Choices::default() },
            }),
            "rewound" => Command::StoreRewound("the store was put back".into()),
            // The coordinator was started again: no host has a session.
            "restart" => Command::Listening { from: self.now },
            // The coordinator was away for so long: nobody decided anything, and no host was heard.
            "away" => {
                self.now = self.now.plus(Duration::from_secs(what.parse().expect("seconds")));
                let connected = self.rollback().hosts.iter().filter(|(_, host)| host.connected);
                let connected: Vec<HostId> = connected.map(|(name, _)| name.clone()).collect();
                self.take(&Command::Listening { from: self.now });
                // It stood still: the sessions are there, and nothing was heard on them.
                for host in connected {
                    self.take(&Command::Connected(Connected::plain(host)));
                }
                return;
            }
            "undo" => {
                let hosts: BTreeSet<HostId> = what.split_whitespace().map(host).collect();
                let hosts = (!hosts.is_empty()).then_some(hosts);
                Command::Undone { by: RollbackId::from_uuid(Uuid::from_u128(8)), hosts }
            }
            _ => {
                // `sound a 600`: healthy for so long already, as the agent measured it.
                if let ("sound", Some((name, seconds))) = (verb, what.split_once(' ')) {
                    return self.sound(&host(name), seconds.parse().expect("seconds"));
                }
                for name in what.split_whitespace().map(host) {
                    match verb {
                        "blind" => drop(self.blind.insert(name)),
                        "seen" => drop(self.blind.remove(&name)),
                        _ => self.tell(verb, &name),
                    }
                }
                return;
            }
        };
        self.take(&command);
    }

    /// A host does something. One that ends a restore is measured at once, and is as it was; `done` is not measured yet.
    fn tell(&mut self, verb: &str, host: &HostId) {
        let said = match verb {
            "good" => Some((Health::Good, "")),
            "bad" => Some((Health::Bad, "503")),
            "dim" => Some((Health::Unknown, "no answer")),
            _ => None,
        };
        if let Some((health, evidence)) = said {
            self.health.insert(host.clone(), (health, evidence.to_owned()));
        }
        let ends =
            ["ok", "done", "loses", "noop", "back", "declines", "torn", "undone", "stuck"].contains(&verb);
        *self.restores.entry(host.clone()).or_default() += u64::from(ends);
        let command = self.of_host(verb, host.clone());
        self.take(&command);
        if ends && verb != "done" && self.rollback().hosts.get(host).is_some_and(|host| host.connected) {
            let again = self.reading(host, 0);
            self.take(&again);
        }
    }

    /// The host's checks have found the same again.
    fn measured(&mut self, host: &HostId) {
        let mut command = self.reading(host, 0);
        if let (Command::Health { reading, .. }, Some(record)) =
            (&mut command, self.rollback().hosts.get(host))
        {
            reading.since = record.health.since;
        }
        self.take(&command);
    }

    fn sound(&mut self, host: &HostId, seconds: u64) {
        let mut command = self.reading(host, 0);
        if let Command::Health { reading, .. } = &mut command {
            reading.since = Timestamp(self.now.0 - i64::try_from(seconds * 1000).expect("not for ever"));
        }
        self.take(&command);
    }

    /// What the host says of its health now; `before` restores ago.
    fn reading(&self, host: &HostId, before: u64) -> Command {
        let (health, evidence) = self.health.get(host).cloned().unwrap_or((Health::Good, String::new()));
        let restores = self.restores.get(host).copied().unwrap_or_default();
        let after = RestoreNumber(restores.saturating_sub(before));
        let reading =
            Reading { health, after, measured_at: Some(self.now), ..Reading::unknown(self.now, evidence) };
        Command::Health { host: host.clone(), reading }
    }

    fn of_host(&self, verb: &str, host: HostId) -> Command {
        let restores = self.restores.get(&host).copied().unwrap_or_default();
        let first = self.rollback().hosts.get(&host).map_or(FIRST, |host| host.generation);
        let report = |step: StepKind, answer| {
            Command::Report(Report {
                host: host.clone(),
                instance: None,
                operation: id().into(),
                generation: step.generation(first),
                step,
                answer,
                newest: step.generation(first),
            })
        };
        let restored = |standing, failure: Option<&str>| {
            Answer::Restored(Restored {
                standing,
                backup: Some(snapshot(2)),
                downtime: Duration::from_millis(300),
                phases: Vec::new(),
                steps: 3,
                bytes: Default::default(),
                failure: failure.map(|text| Failure::new(Reason::CommandFailed, text)),
                restore: Some(RestoreNumber(restores)),
                findings: None,
            })
        };
        match verb {
            "on" => Command::Connected(Connected::plain(host)),
            "off" => Command::Disconnected(host),
            "good" | "bad" | "dim" | "fresh" => self.reading(&host, 0),
            // It has ended its change and is measured good since, and its report is not heard yet.
            "early" => {
                let Command::Health { host, reading } = self.reading(&host, 0) else { panic!("a reading") };
                let (after, since) = (RestoreNumber(restores + 1), Timestamp(1_000_000));
                Command::Health { host, reading: Reading { after, since, ..reading } }
            }
            // Measured before its last change, and heard only now.
            "outdated" => self.reading(&host, 1),
            // Of a machine that has ended no restore yet.
            "anew" => self.reading(&host, restores),
            "twin" => Command::Contested { host, text: "two machines speak for it".into() },
            "other" => {
                let instance = Some(InstanceId::from_uuid(Uuid::from_u128(9)));
                Command::Connected(Connected { instance, ..Connected::plain(host) })
            }
            "known" => {
                let instance = Some(InstanceId::from_uuid(Uuid::from_u128(1)));
                Command::Connected(Connected { instance, ..Connected::plain(host) })
            }
            // It has obeyed what it was told.
            "obeyed" => Command::Connected(Connected { accepted: first, ..Connected::plain(host) }),
            // It has obeyed that it is to go back.
            "heard" => Command::Connected(Connected {
                accepted: StepKind::Revert.generation(first),
                ..Connected::plain(host)
            }),
            "ahead" => Command::Connected(Connected { accepted: Generation(57), ..Connected::plain(host) }),
            "history" => {
                let mut command = report(StepKind::Apply, restored(Standing::Target, None));
                if let Command::Report(report) = &mut command {
                    report.newest = Generation(57);
                }
                command
            }
            "ok" | "done" => report(StepKind::Apply, restored(Standing::Target, None)),
            // At its target, for which the rows went that were written before this restore. Each has a backup of its own.
            "loses" => {
                let Answer::Restored(restored) = restored(Standing::Target, None) else { panic!("restored") };
                let backup = Some(snapshot(u8::try_from(restores).expect("few") + 1));
                let lost = Listed { count: 1, first: vec![format!("rows-{restores}")], ..Listed::default() };
                let findings = Some(Box::new(Findings { lost, ..Findings::default() }));
                report(StepKind::Apply, Answer::Restored(Restored { backup, findings, ..restored }))
            }
            "noop" => {
                let Answer::Restored(restored) = restored(Standing::Target, None) else { panic!("restored") };
                report(StepKind::Apply, Answer::Restored(Restored { backup: None, ..restored }))
            }
            "back" => report(StepKind::Apply, restored(Standing::Before, Some("start failed"))),
            "declines" => {
                let Answer::Restored(restored) = restored(Standing::Before, None) else { panic!("restored") };
                let failure = Some(Failure::new(Reason::LossNotAccepted, "would lose rows"));
                report(StepKind::Apply, Answer::Restored(Restored { backup: None, failure, ..restored }))
            }
            "torn" => report(StepKind::Apply, restored(Standing::Inconsistent, Some("disk gone"))),
            "refuses" => {
                report(StepKind::Apply, Answer::Refused(Failure::new(Reason::StaleGeneration, "too old")))
            }
            "held" => {
                report(StepKind::Apply, Answer::Refused(Failure::new(Reason::Inconsistent, "holds still")))
            }
            "stopped" => report(StepKind::Cancel, Answer::Finished),
            "busy" => report(StepKind::Cancel, Answer::Refused(Failure::new(Reason::HostBusy, "busy"))),
            "undone" => report(StepKind::Revert, restored(Standing::Target, None)),
            "stuck" => report(StepKind::Revert, restored(Standing::Before, Some("no way back"))),
            "stale" => {
                let mut command = report(StepKind::Apply, restored(Standing::Target, None));
                if let Command::Report(report) = &mut command {
                    report.generation = Generation(first.0 - 1);
                }
                command
            }
            "taken" => Command::Superseded(host),
            "forgotten" => Command::Forgotten(host),
            _ => panic!("{verb} is not understood"),
        }
    }

    fn show(&self) -> String {
        let rollback = self.rollback();
        let wanted = self.operation.wanted();
        let mut words: Vec<String> = Vec::new();
        for (name, host) in &rollback.hosts {
            let word = match &host.phase {
                HostPhase::Untouched => "untouched",
                HostPhase::Skipped => "skipped",
                HostPhase::Superseded => "superseded",
                HostPhase::Again => "again",
                HostPhase::Applying { .. } => "applying",
                HostPhase::Cancelling { .. } => "cancelling",
                HostPhase::Applied { .. } => "applied",
                HostPhase::Passed { doubtful_since: None } => "passed",
                HostPhase::Passed { doubtful_since: Some(_) } => "doubtful",
                HostPhase::Unhealthy => "unhealthy",
                HostPhase::Unchanged => "unchanged",
                HostPhase::Lost => "lost",
                HostPhase::Reverting { .. } => "reverting",
                HostPhase::Reverted => "reverted",
                HostPhase::RevertFailed => "stuck",
                HostPhase::Inconsistent => "INCONSISTENT",
            };
            let expected = match &host.phase {
                HostPhase::Applying { .. } => Some(StepKind::Apply),
                HostPhase::Cancelling { .. } => Some(StepKind::Cancel),
                HostPhase::Reverting { .. } => Some(StepKind::Revert),
                _ => None,
            };
            let command = wanted.commands.get(name);
            assert_eq!(command.map(|command| command.step.kind()), expected, "{name}");
            if let Some(Step::Revert { backup, .. }) = command.map(|command| &command.step) {
                assert_eq!(*backup, snapshot(2), "{name} goes back to its backup");
            }
            words.push(format!("{name} {word}"));
        }
        let whole = match &rollback.phase {
            Phase::Running { direction: Direction::Forward } => "running".to_owned(),
            Phase::Running { direction: Direction::Back(cause) } => format!("going back: {cause}"),
            Phase::Paused { cause, .. } => format!("paused: {cause}"),
            Phase::Aborting { .. } => "aborting".to_owned(),
            Phase::Finished { outcome, cause: None, .. } => outcome.to_string(),
            Phase::Finished { outcome, cause: Some(cause), .. } => format!("{outcome}: {cause}"),
        };
        let refusal = self.refusal.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
        format!("{} | {whole}{refusal}", words.join(", "))
    }
}

impl Play {
    /// What was decided for the command that a host should be at.
    pub(super) fn decided(&self, name: &str) -> Option<Choices> {
        match self.operation.wanted().commands.remove(&host(name))?.step {
            Step::Apply { choices, .. } | Step::Revert { choices, .. } => Some(choices),
            _ => None,
        }
    }

    pub(super) fn run(script: &str) -> Self {
        let (setup, steps) = script.split_once(';').unwrap_or((script, ""));
        let mut play = Self::begin(setup);
        for step in steps.split(';') {
            play.step(step);
        }
        play
    }
}

#[track_caller]
pub(super) fn check(script: &str, expected: &str) {
    let play = Play::run(script);
    let events: Vec<String> = play.events.iter().map(ToString::to_string).collect();
    assert_eq!(play.show(), expected, "{script}\n{}", events.join("\n"));
}
