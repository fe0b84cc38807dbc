//! Hosts with agents, in memory: each keeps a journal of what it has answered, refuses older generations, repeats what
//! was not acknowledged, measures its health anew after each restore, and says how it is on each session anew.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rfs_model::time::SharedClock;
use rfs_model::{
    ByteCount, Digest, Generation, Health, HostId, InstanceId, Labels, OperationId, Reason, RestoreNumber,
    SnapshotId, Standing, Timestamp,
};
use rfs_rollout::outside::Ill;
use rfs_rollout::{Answer, Captured, Failure, HostCommand, Reading, Report, Restored, Step, StepKind};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Diary;
use crate::driver::fleet::{Fleet, FleetEvent, SendError, SessionNumber, Sighting};

/// A release of what runs on a host, which is its whole state.
pub(super) fn version(number: u8) -> SnapshotId {
    SnapshotId(Digest::from_bytes([number; 32]))
}

/// The labels of every host.
pub(super) fn labels() -> Labels {
    Labels::from([("role".to_owned(), "web".to_owned())])
}

fn another_machine() -> InstanceId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    InstanceId::from_uuid(Uuid::from_u128(NEXT.fetch_add(1, Ordering::Relaxed).into()))
}

/// What a host does when it is told to go somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Manner {
    #[default]
    Well,
    /// It is unhealthy afterwards.
    Sickens,
    /// It cannot, and stays as it was.
    Fails,
    /// It says nothing, and does nothing before it is told to stop.
    Dawdles,
}

struct Agent {
    instance: InstanceId,
    session: Option<SessionNumber>,
    /// What it had obeyed, and where it was, when its session began.
    introduced: (Generation, SnapshotId),
    /// Whether it was given a command since.
    commanded: bool,
    /// Nothing is heard on its session.
    silent: bool,
    /// Which other machine speaks for its name.
    contested: Option<String>,
    manner: Manner,
    state: SnapshotId,
    /// What it measures, since when, and after how many restores.
    health: (Health, Timestamp),
    restores: u64,
    /// What the coordinator has heard of that on the present session; what it will have heard, and when.
    heard: Option<Reading>,
    said: Option<(Timestamp, Reading)>,
    /// How long what it says is on its way; none if it says nothing.
    lag: Option<Duration>,
    highest: Generation,
    journal: BTreeMap<Generation, Report>,
    unacked: BTreeMap<Generation, Report>,
    /// How often each step took effect.
    effects: BTreeMap<(OperationId, StepKind), u32>,
    /// What it was told and does not do.
    dawdled: Option<HostCommand>,
}

/// All hosts, whichever coordinator they talk to.
pub(super) struct Agents {
    agents: Mutex<BTreeMap<HostId, Agent>>,
    clock: SharedClock,
    diary: Diary,
    sessions: Mutex<u64>,
}

/// The hosts as one coordinator reaches them.
pub(super) struct Link {
    agents: Arc<Agents>,
    events: mpsc::Sender<FleetEvent>,
    /// The next look at a host is a fault in the code.
    faulty: AtomicBool,
    /// How often it was told that a checkpoint is complete.
    completed: AtomicUsize,
}

impl Agents {
    pub(super) fn new(hosts: &[HostId], clock: SharedClock, diary: Diary) -> Self {
        let agent = |host: &HostId| {
            let agent = Agent {
                instance: another_machine(),
                session: None,
                introduced: (Generation(0), version(1)),
                commanded: false,
                silent: false,
                contested: None,
                manner: Manner::Well,
                state: version(1),
                health: (Health::Good, clock.now()),
                restores: 0,
                heard: None,
                said: None,
                lag: Some(Duration::ZERO),
                highest: Generation(0),
                journal: BTreeMap::new(),
                unacked: BTreeMap::new(),
                effects: BTreeMap::new(),
                dawdled: None,
            };
            (host.clone(), agent)
        };
        let agents = Mutex::new(hosts.iter().map(agent).collect());
        Self { agents, clock, diary, sessions: Mutex::new(0) }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<HostId, Agent>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, host: &HostId, change: impl FnOnce(&mut Agent) -> T) -> T {
        change(self.all().get_mut(host).expect("a host of this fleet"))
    }

    pub(super) fn behaves(&self, host: &HostId, manner: Manner) {
        self.with(host, |agent| agent.manner = manner);
    }

    /// A release goes to every host; all are healthy with it.
    pub(super) fn deploy(&self, number: u8) {
        let now = self.clock.now();
        for agent in self.all().values_mut() {
            agent.state = version(number);
            agent.becomes(Health::Good, now);
        }
    }

    /// What the host's checks find from now on.
    pub(super) fn is(&self, host: &HostId, health: Health) {
        let now = self.clock.now();
        self.with(host, |agent| agent.becomes(health, now));
    }

    /// How long what the host says of its health is on its way; none if it says nothing.
    pub(super) fn lags(&self, host: &HostId, lag: Option<Duration>) {
        self.with(host, |agent| agent.lag = lag);
    }

    /// The host says again how it is.
    pub(super) fn says_health(&self, host: &HostId) {
        let now = self.clock.now();
        self.with(host, |agent| agent.say(now));
    }

    /// What was on its way and has arrived by now; the hosts that it is about.
    pub(super) fn arrives(&self) -> Vec<HostId> {
        let now = self.clock.now();
        let mut hosts = Vec::new();
        for (host, agent) in self.all().iter_mut() {
            if let Some((_, reading)) = agent.said.take_if(|(due, _)| *due <= now) {
                agent.heard = Some(Reading { heard_at: now, ..reading });
                hosts.push(host.clone());
            }
        }
        hosts
    }

    /// All sessions are over, and nobody is told.
    pub(super) fn all_leave(&self) {
        for agent in self.all().values_mut() {
            agent.session = None;
        }
    }

    /// Another machine gets the host's name: it has obeyed nothing, and has release 9.
    pub(super) fn replaces(&self, host: &HostId) {
        let now = self.clock.now();
        self.with(host, |agent| {
            agent.instance = another_machine();
            (agent.session, agent.state, agent.highest, agent.restores) =
                (None, version(9), Generation(0), 0);
            agent.journal.clear();
            agent.unacked.clear();
            agent.becomes(Health::Good, now);
        });
    }

    /// Which release the host has.
    pub(super) fn version(&self, host: &HostId) -> u8 {
        self.with(host, |agent| agent.state.0.as_bytes()[0])
    }

    /// The host does at last what it was told and has dawdled over, and gives its report.
    pub(super) fn does_it_late(&self, host: &HostId) -> Report {
        let now = self.clock.now();
        self.with(host, |agent| {
            let command = agent.dawdled.take().expect("it was told something");
            agent.manner = Manner::Well;
            agent.take(host, command, now).expect("it does what it is told")
        })
    }

    /// What was reported and not acknowledged by those that are connected.
    pub(super) fn unacked(&self) -> usize {
        self.all().values().filter(|agent| agent.session.is_some()).map(|agent| agent.unacked.len()).sum()
    }

    /// A person asked for another attempt on the host: there, each step may take effect once more.
    pub(super) fn tries_again(&self, host: &HostId) {
        self.with(host, |agent| agent.effects.clear());
    }

    /// Steps that took effect more than once.
    pub(super) fn repeated(&self) -> Vec<String> {
        let agents = self.all();
        let effects = agents.iter().flat_map(|(host, agent)| agent.effects.iter().map(move |e| (host, e)));
        let twice = effects.filter(|(_, (_, times))| **times > 1);
        twice.map(|(host, ((_, step), times))| format!("{host}: {step} {times} times")).collect()
    }
}

impl Link {
    pub(super) fn new(agents: Arc<Agents>, events: mpsc::Sender<FleetEvent>) -> Self {
        Self { agents, events, faulty: AtomicBool::new(false), completed: AtomicUsize::new(0) }
    }

    /// The next time that a driver looks at a host, it panics.
    pub(super) fn fails_once(&self) {
        self.faulty.store(true, Ordering::SeqCst);
    }

    /// How often this coordinator's hosts were compared with a checkpoint that has become complete.
    pub(super) fn completed(&self) -> usize {
        self.completed.load(Ordering::SeqCst)
    }

    /// The host gets a session with this coordinator, and repeats what was not acknowledged.
    pub(super) async fn connect(&self, host: &HostId) {
        let number = {
            let mut sessions = self.agents.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            *sessions += 1;
            SessionNumber(*sessions)
        };
        let now = self.agents.clock.now();
        let unacked: Vec<Report> = self.agents.with(host, |agent| {
            agent.session = Some(number);
            agent.introduced = (agent.highest, agent.state);
            agent.commanded = false;
            agent.contested = None;
            // What was heard on another session is forgotten until it is said again.
            (agent.heard, agent.said) = (None, None);
            agent.say(now);
            agent.unacked.values().map(|report| Report { newest: agent.highest, ..report.clone() }).collect()
        });
        self.changed(host).await;
        for report in unacked {
            self.report(report);
        }
    }

    pub(super) async fn disconnect(&self, host: &HostId) {
        self.agents.with(host, |agent| agent.session = None);
        self.changed(host).await;
    }

    /// Another machine speaks for the host's name, too: neither has a session.
    pub(super) async fn contest(&self, host: &HostId) {
        self.agents.with(host, |agent| {
            agent.session = None;
            agent.contested = Some(format!("two machines speak for {host}"));
        });
        self.changed(host).await;
    }

    /// The host's agent is stopped, or goes on.
    pub(super) async fn silent(&self, host: &HostId, silent: bool) {
        self.agents.with(host, |agent| agent.silent = silent);
        self.changed(host).await;
    }

    pub(super) async fn changed(&self, host: &HostId) {
        let _ = self.events.send(FleetEvent::Changed(host.clone())).await;
    }

    fn sighting(&self, host: &HostId, now: Timestamp) -> Sighting {
        self.agents.with(host, |agent| {
            let absent = Sighting { contested: agent.contested.clone(), ..Sighting::absent(now) };
            let Some(session) = agent.session.filter(|_| !agent.silent) else { return absent };
            let (accepted, snapshot) = agent.introduced;
            let mut reading = agent.heard.clone().unwrap_or_else(|| Reading::unknown(now, "not heard yet"));
            // One that says everything at once is measured all the time.
            if agent.lag.is_some_and(|lag| lag.is_zero()) {
                reading.measured_at = reading.measured_at.map(|_| now);
            }
            Sighting {
                session: Some(session),
                instance: Some(agent.instance),
                accepted,
                commanded: agent.commanded,
                snapshot: Some(snapshot),
                reading,
                ..absent
            }
        })
    }

    pub(super) fn report(&self, report: Report) {
        let (events, agents) = (self.events.clone(), self.agents.clone());
        let (stored, told) = oneshot::channel();
        tokio::spawn(async move {
            let (host, generation) = (report.host.clone(), report.generation);
            // What it did may have changed its health.
            let _ = events.send(FleetEvent::Changed(host.clone())).await;
            if events.send(FleetEvent::Report { report, stored }).await.is_ok() && told.await.is_ok() {
                agents.with(&host, |agent| agent.unacked.remove(&generation));
            }
        });
    }
}

impl Fleet for Link {
    fn send(&self, host: &HostId, command: HostCommand) -> Result<(), SendError> {
        let now = self.agents.clock.now();
        self.agents.diary.write(format!("sent {host} {}", command.step.kind()));
        let report = self.agents.with(host, |agent| {
            agent.session.ok_or(SendError::NotConnected)?;
            agent.commanded = true;
            Ok(agent.take(host, command, now))
        })?;
        if let Some(report) = report {
            self.report(report);
        }
        Ok(())
    }

    fn look(&self, host: &HostId, now: Timestamp) -> Sighting {
        assert!(!self.faulty.swap(false, Ordering::SeqCst), "the fault that the test asked for");
        self.sighting(host, now)
    }

    fn completed(&self, snapshots: &BTreeMap<HostId, SnapshotId>) {
        assert!(!snapshots.is_empty());
        self.completed.fetch_add(1, Ordering::SeqCst);
    }

    fn unavailable(&self, now: Timestamp, _: Duration, tell: &mut dyn FnMut(&HostId, Ill)) {
        let hosts: Vec<HostId> = self.agents.all().keys().cloned().collect();
        for host in hosts {
            let sighting = self.sighting(&host, now);
            match (sighting.session, sighting.reading.health) {
                (None, _) => tell(&host, Ill::Absent),
                (Some(_), Health::Good) => {}
                (Some(_), health) => tell(&host, Ill::Health(health)),
            }
        }
    }

    fn labels(&self, _: &HostId) -> Labels {
        labels()
    }

    fn unchecked(&self, _: &HostId) -> bool {
        false
    }
}

impl Agent {
    /// Its checks find this from now on.
    fn becomes(&mut self, health: Health, now: Timestamp) {
        self.health = (health, now);
        self.say(now);
    }

    /// Says how it is.
    fn say(&mut self, now: Timestamp) {
        let Some(lag) = self.lag else { return };
        let (health, since) = self.health;
        let reading = Reading {
            health,
            since,
            after: RestoreNumber(self.restores),
            measured_at: Some(now),
            heard_at: now,
            evidence: format!("http: {health}"),
        };
        if lag.is_zero() {
            self.heard = Some(reading);
        } else {
            self.said = Some((now.plus(lag), reading));
        }
    }

    /// A restore ends: everything is measured anew.
    fn restores(&mut self, health: Health, now: Timestamp) -> RestoreNumber {
        self.restores += 1;
        self.becomes(health, now);
        RestoreNumber(self.restores)
    }

    /// Takes a command; an answer is journalled before it is given.
    fn take(&mut self, host: &HostId, command: HostCommand, now: Timestamp) -> Option<Report> {
        if self.manner == Manner::Dawdles && matches!(command.step, Step::Apply { .. } | Step::Cut { .. }) {
            self.dawdled = Some(command);
            return None;
        }
        let HostCommand { operation, generation, ref step, .. } = command;
        let report = match self.journal.get(&generation) {
            Some(known) => Report { newest: self.highest, ..known.clone() },
            None => {
                let answer = if generation < self.highest {
                    Answer::Refused(Failure::new(Reason::StaleGeneration, "an older command"))
                } else {
                    self.act(operation, step, now)
                };
                self.highest = self.highest.max(generation);
                let (host, step, newest) = (host.clone(), step.kind(), self.highest);
                let report = Report { host, instance: None, operation, generation, step, answer, newest };
                self.journal.insert(generation, report.clone());
                report
            }
        };
        self.unacked.insert(generation, report.clone());
        Some(report)
    }

    fn act(&mut self, operation: OperationId, step: &Step, now: Timestamp) -> Answer {
        *self.effects.entry((operation, step.kind())).or_default() += 1;
        match step {
            Step::Prepare { .. } => Answer::Prepared,
            Step::Cut { .. } if self.manner == Manner::Fails => {
                Answer::Failed(Failure::new(Reason::NoSpace, "no space is left on the device"))
            }
            Step::Cut { .. } => Answer::Captured(Captured {
                snapshot: self.state,
                cut_at: now,
                bytes: ByteCount(10),
                new_bytes: ByteCount(1),
                entries: 1,
                notes: Vec::new(),
            }),
            Step::Finish | Step::Abandon => Answer::Finished,
            Step::Apply { .. } if self.manner == Manner::Fails => {
                let failure = Failure::new(Reason::CommandFailed, "the service does not start");
                let restore = self.restores(self.health.0, now);
                Answer::Restored(restored(Standing::Before, None, Some(failure), restore))
            }
            Step::Apply { snapshot, .. } => {
                let backup = std::mem::replace(&mut self.state, *snapshot);
                let sick = self.manner == Manner::Sickens;
                let restore = self.restores(if sick { Health::Bad } else { Health::Good }, now);
                Answer::Restored(restored(Standing::Target, Some(backup), None, restore))
            }
            Step::Cancel => Answer::Finished,
            Step::Revert { backup, .. } => {
                self.state = *backup;
                let restore = self.restores(Health::Good, now);
                Answer::Restored(restored(Standing::Target, None, None, restore))
            }
        }
    }
}

fn restored(
    standing: Standing,
    backup: Option<SnapshotId>,
    failure: Option<Failure>,
    restore: RestoreNumber,
) -> Restored {
    Restored {
        standing,
        backup,
        downtime: Duration::from_millis(20),
        phases: Vec::new(),
        steps: 1,
        bytes: ByteCount(1),
        failure,
        restore: Some(restore),
        findings: None,
    }
}
