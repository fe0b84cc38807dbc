//! One rollback with everything around it: hosts, a network, a clock, people, and a coordinator that crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rfs_model::{Digest, Generation, Health, HostId, Labels, RollbackId, Selector, SnapshotId, Timestamp};
use rfs_rollout::fleet::Admission;
use rfs_rollout::rollback::{Created, Outcome, Phase, Rollback, RollbackEvent};
use rfs_rollout::{
    Amount, Budget, Canary, Command, Connected, Event, FleetView, GENERATIONS, GatePolicy, HostCommand,
    HostView, OnFailure, OnUnreachable, Operation, Order, Person, PersonAction, Policy, Presence, Reading,
    Report, RollbackRequest, Selection, Source, Strategy, Waves, plan,
};

use super::agent::Agent;
use super::dice::Dice;
use super::oracle::Oracle;

/// Something that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    HostTakesOlderGenerations,
    HostTakesNoBackup,
    HostLies,
    SendsBeforeStoring,
}

pub(crate) struct World {
    seed: u64,
    dice: Dice,
    now: Timestamp,
    /// What is stored.
    log: Vec<Event>,
    operation: Operation,
    agents: BTreeMap<HostId, Agent>,
    /// What was sent on each host's present session.
    sent: BTreeSet<(HostId, Generation)>,
    down: Vec<(HostId, HostCommand)>,
    up: Vec<Report>,
    oracle: Oracle,
    fault: Option<Fault>,
    pub(crate) steps: u64,
}

const OPERATION: RollbackId = RollbackId::from_uuid(uuid_of_the_walk());

const fn uuid_of_the_walk() -> uuid::Uuid {
    uuid::Uuid::from_u128(7)
}

fn snapshot(kind: u8, host: usize) -> SnapshotId {
    let mut bytes = [kind; 32];
    bytes[1] = host as u8;
    SnapshotId(Digest::from_bytes(bytes))
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl World {
    /// Walks to the end, asserting after every step.
    pub(crate) fn walk(seed: u64, fault: Option<Fault>) -> Self {
        let mut world = Self::new(seed, fault);
        let length = 40 + world.dice.below(120);
        for _ in 0..length {
            world.step();
            world.check();
        }
        world.settle();
        world.check();
        world.oracle.at_the_end(world.rollback(), &world.agents);
        world
    }

    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut dice = Dice::new(seed);
        let now = Timestamp(1_000_000);
        let count = 1 + dice.below(7);
        let mut fleet = FleetView::default();
        let mut agents = BTreeMap::new();
        let mut hosts = BTreeMap::new();
        for number in 0..count {
            let name = HostId::new(&format!("h-{number}")).expect("a valid name");
            let labels = Labels::from([
                ("zone".to_owned(), dice.pick(&["a", "b"]).to_owned()),
                ("role".to_owned(), dice.pick(&["db", "web"]).to_owned()),
            ]);
            fleet.hosts.insert(name.clone(), HostView { labels });
            fleet.targets.insert(name.clone(), snapshot(2, number));
            let mut agent = Agent::new(name.clone(), snapshot(1, number), fault);
            agent.connected = !dice.percent(10);
            agent.health = dice.pick(&[Health::Good, Health::Good, Health::Bad, Health::Unknown]);
            let health = if agent.connected { agent.health } else { Health::Unknown };
            let presence = Presence { connected: agent.connected, health, ..Presence::absent(now) };
            let generation = Generation(1 + dice.below(50) as u64 * GENERATIONS);
            hosts.insert(name.clone(), Admission { generation, presence });
            agents.insert(name, agent);
        }
        let request = request(&mut dice, count);
        let plan = plan(&request, &fleet).expect("the walk asks for what can be planned");
        let created = Box::new(Created { id: OPERATION, request, plan, hosts });
        let first = Event::Rollback(RollbackEvent::Created { at: now, created });
        let operation = Operation::begin(&first).expect("a creation begins");
        let mut world = Self {
            seed,
            dice,
            now,
            log: vec![first],
            operation,
            agents,
            sent: BTreeSet::new(),
            down: Vec::new(),
            up: Vec::new(),
            oracle: Oracle::default(),
            fault,
            steps: 0,
        };
        world.decide(Command::Tick);
        world
    }

    pub(crate) fn rollback(&self) -> &Rollback {
        match &self.operation {
            Operation::Rollback(rollback) => rollback,
            Operation::Checkpoint(_) => unreachable!("the walk is of a rollback"),
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.rollback().outcome().expect("a walk ends")
    }

    pub(crate) fn history(&self) -> String {
        let line = |event: &Event| format!("{:>8}  {event}\n", event.at().0 - 1_000_000);
        self.log.iter().map(line).collect()
    }

    fn check(&mut self) {
        self.steps += 1;
        let broken = self.oracle.look(&self.log, &self.operation, &self.agents);
        if let Some(broken) = broken {
            panic!("seed {}: {broken}\n{}", self.seed, self.history());
        }
    }

    /// What the shell does: decide, store, evolve, send what is wanted.
    fn decide(&mut self, command: Command) {
        let Ok(events) = self.operation.decide(&command, self.now) else { return };
        if self.fault == Some(Fault::SendsBeforeStoring) && self.dice.percent(50) {
            let ahead = events.iter().fold(self.operation.clone(), |state, event| state.evolve(event));
            for (host, command) in ahead.wanted().commands {
                self.oracle.sends(&self.log, &host, &command);
                self.down.push((host, command));
            }
            // And the coordinator dies before it stores.
            return;
        }
        for event in events {
            self.operation = self.operation.clone().evolve(&event);
            self.log.push(event);
        }
        self.send();
    }

    fn send(&mut self) {
        for (host, command) in self.operation.wanted().commands {
            let key = (host.clone(), command.generation);
            if self.agents[&host].connected && self.sent.insert(key) {
                self.oracle.sends(&self.log, &host, &command);
                self.down.push((host, command));
            }
        }
    }

    fn some_host(&mut self) -> HostId {
        let number = self.dice.below(self.agents.len());
        self.agents.keys().nth(number).expect("the number is below the length").clone()
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..24 => self.deliver_down(),
            24..48 => self.deliver_up(),
            48..64 => {
                let host = self.some_host();
                self.work(&host);
            }
            64..70 => {
                let host = self.some_host();
                if self.agents[&host].connected { self.disconnect(&host) } else { self.connect(&host) }
            }
            70..78 => {
                let host = self.some_host();
                let health = self.dice.pick(&[Health::Good, Health::Good, Health::Bad, Health::Unknown]);
                self.agents.get_mut(&host).expect("it is there").health = health;
                self.observe(&host);
            }
            78..90 => {
                let pause = self.dice.pick(&[0, 1, 3, 5, 12, 40]);
                self.now = self.now.plus(seconds(pause));
                self.decide(Command::Tick);
            }
            90..93 => self.crash_coordinator(),
            93..96 => {
                let host = self.some_host();
                self.crash_agent(&host);
            }
            _ if self.rollback().outcome().is_some() => {
                if self.dice.percent(30) {
                    self.decide(Command::Undone(RollbackId::from_uuid(uuid::Uuid::from_u128(8))));
                }
            }
            _ => {
                let action = self.dice.pick(&[
                    PersonAction::Pause,
                    PersonAction::Resume,
                    PersonAction::Resume,
                    PersonAction::Promote { wave: None },
                    PersonAction::Abort,
                ]);
                if action != PersonAction::Abort || self.dice.percent(30) {
                    self.decide(Command::Person(Person { who: "operator/alice".into(), action }));
                }
            }
        }
    }

    fn deliver_down(&mut self) {
        if self.down.is_empty() {
            return;
        }
        let at = self.dice.below(self.down.len());
        let (host, command) =
            if self.dice.percent(15) { self.down[at].clone() } else { self.down.swap_remove(at) };
        let agent = self.agents.get_mut(&host).expect("it is there");
        if agent.up && agent.connected {
            agent.receive(command);
        }
    }

    fn deliver_up(&mut self) {
        for agent in self.agents.values_mut().filter(|agent| agent.up && agent.connected) {
            for report in &agent.outbox {
                if !self.up.contains(report) {
                    self.up.push(report.clone());
                }
            }
        }
        if self.up.is_empty() {
            return;
        }
        let at = self.dice.below(self.up.len());
        let report = if self.dice.percent(15) { self.up[at].clone() } else { self.up.swap_remove(at) };
        if self.dice.percent(10) {
            // Lost: the host has not been acknowledged, and says it again.
            return;
        }
        self.decide(Command::Report(report.clone()));
        if let Some(agent) = self.agents.get_mut(&report.host) {
            agent.outbox.retain(|said| *said != report);
        }
    }

    fn work(&mut self, host: &HostId) {
        let agent = self.agents.get_mut(host).expect("it is there");
        if agent.up {
            agent.advance(self.now, &mut self.dice);
        }
    }

    fn observe(&mut self, host: &HostId) {
        let agent = &self.agents[host];
        if agent.connected && agent.up {
            let (health, since) = (agent.health, self.now);
            self.oracle.observes(host, health, self.now);
            let reading = Reading { health, ..Reading::unknown(since, "the walk's") };
            self.decide(Command::Health { host: host.clone(), reading });
        }
    }

    fn disconnect(&mut self, host: &HostId) {
        self.agents.get_mut(host).expect("it is there").connected = false;
        // What was on its way either way is lost, or some of it is: a stale session may deliver late.
        if self.dice.percent(70) {
            self.down.retain(|(to, _)| to != host);
        }
        self.sent.retain(|(to, _)| to != host);
        self.oracle.observes(host, Health::Unknown, self.now);
        self.decide(Command::Disconnected(host.clone()));
    }

    fn connect(&mut self, host: &HostId) {
        let agent = self.agents.get_mut(host).expect("it is there");
        if !agent.up {
            return;
        }
        agent.connected = true;
        self.decide(Command::Connected(Connected::plain(host.clone())));
        self.observe(host);
        self.send();
    }

    fn crash_agent(&mut self, host: &HostId) {
        if self.agents[host].up {
            self.disconnect(host);
            self.agents.get_mut(host).expect("it is there").up = false;
        } else {
            self.agents.get_mut(host).expect("it is there").recover();
            self.connect(host);
        }
    }

    /// The process dies: what is not stored is forgotten, every session is gone.
    fn crash_coordinator(&mut self) {
        self.operation = Operation::replay(&self.log).expect("what was stored is a history");
        let hosts: Vec<HostId> = self.agents.keys().cloned().collect();
        for host in hosts {
            self.disconnect(&host);
            if self.dice.percent(80) {
                self.connect(&host);
            }
        }
    }

    /// It has an outcome, and the hosts that were left out cannot come in line while others are not healthy.
    fn waits_for_a_budget(&self, round: usize) -> bool {
        let quiet = self.rollback().hosts.values().all(|host| !host.phase.at_work());
        round > 200 && quiet && self.rollback().outcome().is_some()
    }

    /// Faults stop, people decide what waits for them: the rollback must end within its bound.
    fn settle(&mut self) {
        let hosts: Vec<HostId> = self.agents.keys().cloned().collect();
        for round in 0..4_000 {
            if !self.operation.open() || self.waits_for_a_budget(round) {
                return;
            }
            for host in &hosts {
                if !self.agents[host].up {
                    self.agents.get_mut(host).expect("it is there").recover();
                }
                if !self.agents[host].connected {
                    self.connect(host);
                }
                self.work(host);
            }
            while let Some((host, command)) = self.down.pop() {
                self.agents.get_mut(&host).expect("it is there").receive(command);
            }
            let reports: Vec<Report> =
                self.agents.values_mut().flat_map(|agent| std::mem::take(&mut agent.outbox)).collect();
            for report in reports.into_iter().chain(std::mem::take(&mut self.up)) {
                self.decide(Command::Report(report));
            }
            if matches!(self.rollback().phase, Phase::Paused { .. }) {
                let action = self.dice.pick(&[PersonAction::Resume, PersonAction::Abort]);
                self.decide(Command::Person(Person { who: "operator/bob".into(), action }));
            }
            // Time goes on as the operation asks, as the shell's timer does.
            let wake = self.operation.wanted().wake_at.unwrap_or(self.now);
            self.now =
                if round % 3 == 2 { self.now.plus(seconds(1)).max(wake) } else { self.now.plus(seconds(1)) };
            self.decide(Command::Tick);
            self.check();
        }
        panic!("seed {}: I7: it does not end\n{}", self.seed, self.history());
    }
}

fn request(dice: &mut Dice, count: usize) -> RollbackRequest {
    let amount = |dice: &mut Dice| match dice.below(2) {
        0 => Amount::Count(1 + dice.below(3) as u32),
        _ => Amount::Percent(dice.pick(&[10, 34, 50, 100])),
    };
    let canary = match dice.below(3) {
        0 => Canary::None,
        1 => Canary::Amount(Amount::Count(1)),
        _ => Canary::Hosts(BTreeSet::from([
            HostId::new(&format!("h-{}", dice.below(count))).expect("a valid name")
        ])),
    };
    let sizes = (0..dice.below(3)).map(|_| amount(dice)).collect();
    let order = if dice.percent(40) { Order::list("role", &["db", "web"]) } else { Vec::new() };
    let budgets = match dice.below(3) {
        0 => Vec::new(),
        1 => vec![Budget { group_by: Some("zone".into()), max_unavailable: amount(dice) }],
        _ => vec![Budget { group_by: None, max_unavailable: amount(dice) }],
    };
    let waves = Waves { canary, sizes, order };
    RollbackRequest {
        source: Source::Undo(OPERATION),
        selector: Selector::default(),
        selection: Selection::default(),
        strategy: if dice.percent(20) { Strategy::Immediate } else { Strategy::Gradual(waves) },
        policy: Policy {
            gate: GatePolicy {
                min_healthy_time: seconds(dice.pick(&[0, 5, 10])),
                healthy_deadline: seconds(dice.pick(&[20, 60])),
                healthy: dice.percent(30).then(|| amount(dice)),
                max_failed: dice.pick(&[0, 0, 1, 3]),
                ignore_health: dice.percent(15),
            },
            on_failure: dice.pick(&[OnFailure::Pause, OnFailure::Continue, OnFailure::Revert]),
            on_unreachable: dice.pick(&[OnUnreachable::Fail, OnUnreachable::Wait, OnUnreachable::Skip]),
            budgets,
            max_rollback_time: seconds(60),
            report_grace: seconds(20),
            unreachable_after: seconds(10),
            max_duration: seconds(3600),
        },
        reason: "the walk's".into(),
        requester: "operator/alice".into(),
    }
}
