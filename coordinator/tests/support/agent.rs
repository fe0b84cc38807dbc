//! An agent whose host is a number: capturing remembers it, restoring sets it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rfs_link::{Connection, Credentials, LiveCredentials, Patience, Target};
use rfs_model::time::SystemClock;
use rfs_model::{Clock as _, Digest, Reason};
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_link_client::AgentLinkClient;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::agentlink::v1::report::Outcome;
use rfs_proto::agentlink::v1::{AgentMessage, Command, Report, Step};
use rfs_proto::convert::{failure, to_wire_duration, to_wire_time};
use rfs_proto::v1;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often the agent looks whether there is something new to say.
const LOOK: Duration = Duration::from_millis(20);

/// The agent; it connects again by itself until it is dropped.
pub struct FakeAgent {
    shared: Arc<Shared>,
    stop: tokio_util::sync::DropGuard,
}

struct Shared {
    host: String,
    labels: Vec<(String, String)>,
    state: Mutex<State>,
    news: Notify,
}

/// The host. What stands here survives a lost connection, as a journal would.
pub struct State {
    /// What the host is.
    pub value: u8,
    /// Values with which the host is not well.
    pub sick: Vec<u8>,
    /// No check of the host is required.
    pub unchecked: bool,
    /// Commands are taken, but not carried out until this is false again.
    pub holds_still: bool,
    /// Every effect that a command had, in order, such as `apply 1`.
    pub effects: Vec<String>,
    /// How often the agent was welcomed.
    pub welcomes: usize,
    /// What it was told last of the fleet's checkpoints.
    pub checkpoints: link::Checkpoints,
    /// Why its last connection ended, if the coordinator said so.
    pub farewell: Option<tonic::Status>,
    /// The machine: the id that lives with the agent's store.
    pub instance: Uuid,
    /// The start of the agent's process.
    pub start: Uuid,
    /// It holds its connection, and neither reads nor says anything, as a process that was stopped.
    pub frozen: bool,
    /// It does not connect.
    pub offline: bool,
    /// Values whose snapshots the host holds; it says so when they are others. None while it says nothing of them.
    pub holds: Option<Vec<u8>>,
    /// What it has said last of them.
    pub told: Option<Vec<u8>>,
    /// It does not finish a checkpoint until this is false again.
    pub slow_finish: bool,
    /// What the last welcome named as the host's owner.
    pub owner: String,
    /// The highest generation that it has accepted.
    pub generation: u64,
    /// The operation that it says it is at work on.
    pub in_flight: Option<String>,
    /// Paths that no snapshot of the host has.
    pub extras: Vec<String>,
    /// It refuses to lose them, unless that is accepted by name.
    pub refuses_loss: bool,
    /// What a person decided for each restore that it was told.
    pub decided: Vec<v1::RestoreChoices>,
    /// How often the host was restored.
    pub restores: u64,
    /// How well it was when that was looked at last, and since when.
    well: (v1::Health, Instant),
    taken: Vec<Command>,
    reports: BTreeMap<u64, Report>,
    answered: BTreeMap<(String, i32, u64), u64>,
    backups: BTreeMap<String, u8>,
}

impl FakeAgent {
    pub fn start(target: Target, credentials: Credentials, host: &str, labels: &[&str]) -> Self {
        let label =
            |text: &&str| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).expect("key=value");
        let state = State {
            value: 1,
            sick: Vec::new(),
            unchecked: false,
            holds_still: false,
            effects: Vec::new(),
            welcomes: 0,
            checkpoints: link::Checkpoints::default(),
            farewell: None,
            instance: Uuid::now_v7(),
            start: Uuid::now_v7(),
            frozen: false,
            offline: false,
            holds: None,
            told: None,
            slow_finish: false,
            owner: String::new(),
            generation: 0,
            in_flight: None,
            extras: Vec::new(),
            refuses_loss: false,
            decided: Vec::new(),
            restores: 0,
            well: (v1::Health::Unknown, Instant::now()),
            taken: Vec::new(),
            reports: BTreeMap::new(),
            answered: BTreeMap::new(),
            backups: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            host: host.to_owned(),
            labels: labels.iter().map(label).collect(),
            state: Mutex::new(state),
            news: Notify::new(),
        });
        let stop = CancellationToken::new();
        let (running, stopped) = (shared.clone(), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(running.run(target, credentials)).await });
        Self { shared, stop: stop.drop_guard() }
    }

    pub fn host(&self) -> &str {
        &self.shared.host
    }

    /// The host's state, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.news.notify_one();
        self.shared.lock()
    }
}

/// The snapshot of a host that is `value`.
fn digest(value: u8) -> String {
    Digest::from_bytes([value; 32]).to_string()
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test thread has panicked")
    }

    async fn run(self: Arc<Self>, target: Target, credentials: Credentials) {
        let credentials = LiveCredentials::open(credentials, Arc::new(SystemClock)).expect("credentials");
        loop {
            if !self.lock().offline
                && let Ok(connection) =
                    Connection::open(&target, credentials.clone(), &Patience::default()).await
            {
                self.converse(&connection).await;
                connection.close();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn converse(&self, connection: &Connection) {
        let (up, queue) = mpsc::channel(64);
        let say = async |message: Up| up.send(AgentMessage { message: Some(message) }).await.is_ok();
        say(Up::Hello(self.hello())).await;
        let answer = AgentLinkClient::new(connection.channel()).connect(ReceiverStream::new(queue)).await;
        let mut down = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return self.lock().farewell = Some(status),
        };
        let mut said = None;
        let mut told = None;
        let mut sent = Vec::new();
        loop {
            if self.lock().frozen {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            if self.lock().offline {
                return;
            }
            let holds = self.lock().holds.clone();
            if told != holds && self.lock().welcomes > 0 {
                let ids = holds.iter().flatten().map(|value| vec![*value; 32]).collect();
                told = holds.clone();
                say(Up::Snapshots(link::Snapshots { ids, cut: false })).await;
                self.lock().told = holds;
            }
            let measured = self.measured();
            if said != Some(measured) && self.lock().welcomes > 0 {
                said = Some(measured);
                say(Up::Health(report_of(measured))).await;
            }
            let new: Vec<_> = {
                let state = self.lock();
                state
                    .reports
                    .iter()
                    .filter(|(number, _)| !sent.contains(*number))
                    .map(|(_, r)| r.clone())
                    .collect()
            };
            for report in new {
                sent.push(report.sequence);
                say(Up::Report(report)).await;
            }
            let message = tokio::select! {
                message = down.message() => message,
                () = self.news.notified() => { self.work(); continue }
                () = tokio::time::sleep(LOOK) => { self.work(); continue }
            };
            match message {
                Ok(Some(message)) => {
                    if let Some(answer) = self.take(message.message) {
                        say(answer).await;
                    }
                    self.work();
                }
                Ok(None) => return,
                Err(status) => return self.lock().farewell = Some(status),
            }
        }
    }

    fn hello(&self) -> link::Hello {
        let state = self.lock();
        let key =
            |operation: &String| link::CommandKey { operation_id: operation.clone(), ..Default::default() };
        link::Hello {
            protocol: 1,
            host: self.host.clone(),
            agent_version: "0.0.0-test".into(),
            labels: self.labels.iter().cloned().collect(),
            components: vec![v1::Component { name: "value".into(), kind: "files".into() }],
            instance_id: state.instance.to_string(),
            start_id: state.start.to_string(),
            generation: state.generation,
            in_flight: state.in_flight.as_ref().map(key),
            snapshot: digest(state.value),
            agent_time: Some(to_wire_time(SystemClock.now())),
            ..Default::default()
        }
    }

    /// How well the host is, since when, and after how many restores.
    fn measured(&self) -> Measured {
        let mut state = self.lock();
        let health = if state.unchecked {
            v1::Health::Unknown
        } else if state.sick.contains(&state.value) {
            v1::Health::Bad
        } else {
            v1::Health::Good
        };
        if state.well.0 != health {
            state.well = (health, Instant::now());
        }
        Measured { health, since: state.well.1, restores: state.restores }
    }

    fn take(&self, message: Option<Down>) -> Option<Up> {
        let agent_time = Some(to_wire_time(SystemClock.now()));
        match message? {
            Down::Welcome(welcome) => {
                let mut state = self.lock();
                (state.welcomes, state.owner) = (state.welcomes + 1, welcome.owner);
            }
            Down::Command(command) => self.lock().taken.push(command),
            Down::ReportAck(ack) => drop(self.lock().reports.remove(&ack.sequence)),
            Down::Checkpoints(checkpoints) => self.lock().checkpoints = checkpoints,
            Down::Query(query) => return Some(Up::QueryResult(self.answer(query))),
            Down::Ping(ping) => return Some(Up::Pong(link::Pong { nonce: ping.nonce, agent_time })),
        }
        None
    }

    fn answer(&self, query: link::Query) -> link::QueryResult {
        let Some(link::query::Question::PlanRestore(question)) = query.question else {
            panic!("an unknown question")
        };
        let value = self.lock().value;
        let mut plan = v1::HostPlan { host: self.host.clone(), ..Default::default() };
        if digest(value) != question.snapshot {
            let description = format!("set {value} to {}", &question.snapshot[..2]);
            plan.steps.push(v1::PlanStep {
                component: "value".into(),
                action: "write".into(),
                description,
                bytes: 1,
            });
            (plan.step_count, plan.bytes_to_write) = (1, 1);
        }
        match self.lock().losses(&question.choices.unwrap_or_default()) {
            Ok(lost) => (plan.loss_count, plan.losses) = (lost.len() as u64, lost),
            Err(failure) => plan = v1::HostPlan { failure: Some(failure), ..Default::default() },
        }
        link::QueryResult { query_id: query.query_id, answer: Some(link::query_result::Answer::Plan(plan)) }
    }

    /// Carries out what was taken, unless the host holds still.
    fn work(&self) {
        let mut state = self.lock();
        if state.holds_still {
            return;
        }
        for command in std::mem::take(&mut state.taken) {
            let finishes = command.key.as_ref().is_some_and(|key| key.step() == Step::Finish);
            if finishes && state.slow_finish {
                state.taken.push(command);
            } else {
                state.carry_out(command);
            }
        }
    }
}

/// A health as it is measured, always at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Measured {
    health: v1::Health,
    since: Instant,
    restores: u64,
}

fn report_of(measured: Measured) -> link::HealthReport {
    let Measured { health, since, restores } = measured;
    let check = v1::Check {
        name: "http".into(),
        kind: "http".into(),
        health: health.into(),
        // Nothing that is required is ever unknown to a fake agent.
        required: health != v1::Health::Unknown,
        evidence: format!("GET / answered {}", if health == v1::Health::Good { 200 } else { 503 }),
        ..Default::default()
    };
    link::HealthReport {
        health: health.into(),
        checks: vec![check],
        agent_time: Some(to_wire_time(SystemClock.now())),
        health_age: Some(to_wire_duration(since.elapsed())),
        measured_age: Some(to_wire_duration(Duration::ZERO)),
        after_restore: restores,
        inconsistent: false,
    }
}

impl State {
    /// What a restore would remove, or why it would not.
    fn losses(&self, choices: &v1::RestoreChoices) -> Result<Vec<String>, v1::Failure> {
        let lost = self.extras.iter().filter(|path| !choices.keep.contains(path));
        let lost: Vec<String> = lost.cloned().collect();
        match lost.iter().find(|path| self.refuses_loss && !choices.accept_loss.contains(path)) {
            None => Ok(lost),
            Some(path) => {
                let next = "keep it: rfs rollback retry ID --host NAME --keep PATTERN";
                Err(failure(Reason::LossNotAccepted, format!("value refuses the loss of {path}"), next))
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        let key = command.key.clone().expect("a command has a key");
        let known = (key.operation_id.clone(), key.step, key.generation);
        if let Some(sequence) = self.answered.get(&known).copied() {
            // A repetition is answered from the journal; what is acknowledged is said again.
            if let Some(report) = self.reports.get(&sequence).cloned() {
                self.reports.insert(sequence, report);
            }
            return;
        }
        let outcome = if key.generation < self.generation {
            Outcome::Refused(failure(Reason::StaleGeneration, "an older generation", ""))
        } else {
            self.generation = key.generation;
            self.effect(&command, &key.operation_id, key.step())
        };
        let sequence = self.answered.len() as u64 + 1;
        self.answered.insert(known, sequence);
        let newest_generation = key.generation;
        self.reports
            .insert(sequence, Report { key: Some(key), sequence, outcome: Some(outcome), newest_generation });
    }

    fn effect(&mut self, command: &Command, operation: &str, step: Step) -> Outcome {
        let now = Some(to_wire_time(SystemClock.now()));
        match step {
            Step::Prepare => Outcome::Prepared(link::Prepared::default()),
            Step::Cut => {
                self.effects.push(format!("cut {}", self.value));
                Outcome::Captured(link::Captured {
                    snapshot: digest(self.value),
                    cut_time: now,
                    agent_time: now,
                    bytes: 1,
                    new_bytes: 1,
                    entries: 1,
                    duration: None,
                    notes: Vec::new(),
                })
            }
            Step::Finish | Step::Abandon | Step::Cancel => Outcome::Finished(link::Finished {}),
            Step::Apply | Step::Revert => {
                let target = u8::from_str_radix(&command.snapshot[..2], 16).expect("a digest");
                let backup = self.value;
                self.restores += 1;
                let choices = command.choices.clone().unwrap_or_default();
                self.decided.push(choices.clone());
                let lost = match self.losses(&choices) {
                    Ok(lost) => lost,
                    Err(failure) => {
                        return Outcome::Restored(link::Restored {
                            standing: link::restored::Standing::Before.into(),
                            failure: Some(failure),
                            restore: self.restores,
                            ..Default::default()
                        });
                    }
                };
                self.extras.retain(|path| !lost.contains(path));
                let kept = |path: &String| format!("{path} is not in the snapshot and is kept");
                // What was measured before says nothing of what is there now.
                self.well.1 = Instant::now();
                self.backups.insert(operation.to_owned(), backup);
                self.effects.push(format!("{} {target}", step.as_str_name().to_lowercase()));
                self.value = target;
                Outcome::Restored(link::Restored {
                    standing: link::restored::Standing::Target.into(),
                    backup: digest(backup),
                    downtime: Some(prost_types::Duration { seconds: 0, nanos: 5_000_000 }),
                    steps: 1,
                    bytes: 1,
                    restore: self.restores,
                    lost: rfs_proto::notes::listed(lost.len() as u64, 7, &lost),
                    notes: self.extras.iter().map(kept).collect(),
                    ..Default::default()
                })
            }
            Step::Unspecified => panic!("a command without a step"),
        }
    }
}
