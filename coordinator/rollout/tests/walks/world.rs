//! One rollback with everything around it: machines, a network, a clock, people, and a coordinator that crashes, stands still,
//! and whose store is put back.
//!
//! Time goes from one thing that happens by itself to the next: a measurement, a message that arrives, a session that falls
//! silent, an alarm. Between them the dice decide what else happens.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{
    Digest, Generation, Health, HostId, InstanceId, Labels, RestoreNumber, SnapshotId, Timestamp,
};
use rfs_rollout::fleet::Admission;
use rfs_rollout::rollback::{Created, Outcome, Phase, Rollback, RollbackEvent};
use rfs_rollout::{
    Choices, Command, Event, FleetView, GENERATIONS, HostCommand, HostView, Operation, Outside, Person,
    PersonAction, Presence, Report, plan,
};
use uuid::Uuid;

use super::agent::Agent;
use super::dice::Dice;
use super::fault::Fault;
use super::hub::Seat;
use super::oracle::Oracle;
use super::others::Others;
use super::request::{OPERATION, request};

pub(crate) const START: Timestamp = Timestamp(1_000_000_000);
/// How long a message may be on its way, and how long a driver may take to look: what the oracle allows for.
const ON_THE_WAY: Duration = Duration::from_secs(2);
/// A session of which nothing is heard for so long counts as lost.
pub(crate) const SILENT: Duration = Duration::from_secs(8);
/// How soon an agent says its health again to a coordinator that stood still.
const SAID_AGAIN: Duration = Duration::from_secs(4);

pub(crate) struct World {
    pub(super) seed: u64,
    pub(super) dice: Dice,
    pub(super) now: Timestamp,
    /// What is stored.
    pub(super) log: Vec<Event>,
    /// How long the log was after each append: all of one is there, or nothing.
    pub(super) appended: Vec<usize>,
    pub(super) operation: Operation,
    pub(super) machines: Vec<Agent>,
    pub(super) seats: BTreeMap<HostId, Seat>,
    pub(super) coordinator: Coordinator,
    pub(super) down: Vec<Down>,
    pub(super) up: Vec<(usize, Report)>,
    /// Readings on their way, in order.
    pub(super) air: VecDeque<Said>,
    /// When each machine says hello next, and which ones say their health again.
    tries: BTreeMap<usize, Timestamp>,
    pub(super) says_again: BTreeMap<usize, Timestamp>,
    /// When the last measurement was made that each machine has told of.
    said: BTreeMap<usize, Option<Timestamp>>,
    flaps: BTreeMap<usize, Timestamp>,
    pub(super) others: Others,
    pub(super) oracle: Oracle,
    pub(super) fault: Option<Fault>,
    pub(crate) steps: u64,
}

/// What the coordinator's process knows, and loses when it dies.
#[derive(Default)]
pub(super) struct Coordinator {
    /// It is down, or stands still.
    pub(super) is_away: bool,
    pub(super) sessions: u64,
    /// The session of each host when it was last looked at.
    pub(super) seen: BTreeMap<HostId, Option<u64>>,
    /// Hosts to look at again, and until when.
    pub(super) look: BTreeMap<HostId, Timestamp>,
    /// What was sent on each session.
    pub(super) sent: BTreeSet<(HostId, u64, Generation)>,
    /// Nothing is sent before hosts were compared: which ones, and until when.
    pub(super) comparing: Option<(BTreeSet<HostId>, Timestamp)>,
    /// No further host is started before these are back, and until when.
    pub(super) returning: Option<(BTreeSet<HostId>, Timestamp)>,
    /// Since when it listens.
    pub(super) listens_from: Timestamp,
    /// What should be in flight.
    pub(super) commands: BTreeMap<HostId, HostCommand>,
    /// Hosts whose health must be measured again before they pass, each from when on.
    pub(super) hear: BTreeMap<HostId, Timestamp>,
    /// Hosts for which generations are to be reserved, for another attempt.
    pub(super) reserve: BTreeSet<HostId>,
    /// When something is due, and not before when a deadline is looked at again that brought nothing about.
    pub(super) wake: Option<Timestamp>,
    pub(super) not_before: Option<Timestamp>,
    /// What others take, as it was last told.
    pub(super) outside: Arc<Outside>,
    /// Until when the other operations are not read.
    pub(super) unread_until: Option<Timestamp>,
    /// By how much the machine's clock is off.
    pub(super) offset: i64,
    /// What was sent before this waited while the coordinator stood still.
    pub(super) stood_until: Timestamp,
}

/// A command on its way.
#[derive(Clone)]
pub(super) struct Down {
    pub(super) machine: usize,
    pub(super) session: u64,
    pub(super) command: HostCommand,
    /// How long the host has, from when it gets it.
    pub(super) timeout: Duration,
}

/// A reading on its way. Ages, not times.
pub(super) struct Said {
    pub(super) machine: usize,
    pub(super) session: u64,
    pub(super) sent: Timestamp,
    pub(super) due: Timestamp,
    pub(super) health: Health,
    pub(super) age: Duration,
    pub(super) measured: Option<Duration>,
    pub(super) after: RestoreNumber,
}

fn snapshot(kind: u8, host: usize, ill: bool) -> SnapshotId {
    let mut bytes = [kind; 32];
    (bytes[1], bytes[2]) = (host as u8, u8::from(ill));
    SnapshotId(Digest::from_bytes(bytes))
}

fn instance(number: usize) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(100 + number as u128))
}

pub(super) fn seconds(n: u64) -> Duration {
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
        let broken = world.oracle.adds_up(world.rollback());
        world.fail_if(broken);
        world
    }

    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut dice = Dice::new(seed);
        let now = START;
        let count = 1 + dice.below(7);
        let mut fleet = FleetView::default();
        let (mut machines, mut seats, mut hosts) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let release_is_ill = dice.percent(15);
        for number in 0..count {
            let name = HostId::new(&format!("h-{number}")).expect("a valid name");
            let labels = Labels::from([
                ("zone".to_owned(), dice.pick(&["a", "b"]).to_owned()),
                ("role".to_owned(), dice.pick(&["db", "web"]).to_owned()),
            ]);
            fleet.hosts.insert(name.clone(), HostView { labels, ..HostView::default() });
            let ill = release_is_ill || dice.percent(8);
            fleet.targets.insert(name.clone(), snapshot(2, number, ill));
            let before = snapshot(1, number, dice.percent(20));
            let mut agent = Agent::new(name.clone(), instance(number), before, now, fault, &mut dice);
            let generation = Generation(1 + dice.below(50) as u64 * GENERATIONS);
            agent.highest = Generation(generation.0 - 1);
            // The store was put back before this rollback began: the host has obeyed what nobody remembers.
            if dice.percent(2) {
                agent.highest = Generation(generation.0 + GENERATIONS + dice.below(9) as u64);
            }
            agent.linked = !dice.percent(10);
            agent.note_quiet(now);
            let mut presence = Presence::absent(now);
            if agent.linked {
                let (health, instance) = (agent.monitor.health, Some(agent.instance));
                presence = Presence { connected: true, health, instance, ..presence };
            }
            hosts.insert(name.clone(), Admission { generation, presence });
            seats.insert(name, Seat::new(number, agent.instance, now));
            machines.push(agent);
        }
        // One that is offered a target and is not known any more.
        if dice.percent(10) {
            fleet.targets.insert(HostId::new("h-9").expect("a valid name"), snapshot(2, 9, false));
        }
        let others = Others::new(&fleet, &mut dice);
        let request = request(&mut dice, &fleet);
        let plan = plan(&request, &fleet).expect("the walk asks for what can be planned");
        let created = Box::new(Created { id: OPERATION, request, plan, hosts });
        let first = Event::Rollback(RollbackEvent::Created { at: now, created });
        let operation = Operation::begin(&first).expect("a creation begins");
        let mut world = Self {
            seed,
            dice,
            now,
            log: vec![first],
            appended: vec![1],
            operation,
            machines,
            seats,
            coordinator: Coordinator::default(),
            down: Vec::new(),
            up: Vec::new(),
            air: VecDeque::new(),
            tries: BTreeMap::new(),
            says_again: BTreeMap::new(),
            said: BTreeMap::new(),
            flaps: BTreeMap::new(),
            others,
            oracle: Oracle::new(now),
            fault,
            steps: 0,
        };
        world.oracle.put_back(&world.log, &world.machines);
        for machine in 0..count {
            world.hello(machine);
        }
        world.hear_all();
        world.look_at_all();
        world.decide(vec![Command::Tick]);
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
        let line = |event: &Event| format!("{:>8}  {event}\n", event.at().0 - START.0);
        self.log.iter().map(line).collect()
    }

    pub(super) fn fail_if(&self, broken: Option<String>) {
        if let Some(broken) = broken {
            let at = self.now.0 - START.0;
            panic!("seed {}: {broken} (at {at})\n{}", self.seed, self.history());
        }
    }

    fn check(&mut self) {
        self.steps += 1;
        let Operation::Rollback(rollback) = &self.operation else { return };
        let broken = self.oracle.look(rollback, &self.machines, &self.seats, self.now);
        let broken = broken
            .or_else(|| if self.steps.is_multiple_of(8) { self.oracle.adds_up(rollback) } else { None });
        self.fail_if(broken);
    }

    fn some_host(&mut self) -> HostId {
        let number = self.dice.below(self.seats.len());
        self.seats.keys().nth(number).expect("the number is below the length").clone()
    }

    pub(super) fn present(&self, host: &HostId) -> usize {
        *self.seats[host].machines.last().expect("a name has a machine")
    }

    fn some_machine(&mut self) -> usize {
        let host = self.some_host();
        let count = self.seats[&host].machines.len();
        let nth = self.dice.below(count);
        self.seats[&host].machines[nth]
    }

    fn step(&mut self) {
        // What few walks come to by chance is brought about where a fault waits for it.
        match self.fault {
            Some(Fault::BufferedReadingsCount) if self.dice.percent(6) => return self.stand_still(),
            Some(Fault::OldMachineCounts) if self.dice.percent(6) => return self.clone_or_replace(),
            _ => {}
        }
        match self.dice.below(200) {
            0..48 => self.deliver_down(),
            48..96 => self.deliver_up(),
            96..128 => {
                let machine = self.some_machine();
                self.work(machine);
            }
            128..138 => self.disturb_link(),
            138..148 => {
                let machine = self.some_machine();
                self.change_weather(machine);
            }
            148..150 => {
                let machine = self.some_machine();
                self.machines[machine].restore_locally(self.now);
            }
            150..152 => {
                let machine = self.some_machine();
                self.machines[machine].busy_until = self.now.plus(seconds(self.dice.below(40) as u64));
            }
            152..176 => {
                let pause = self.dice.pick(&[0, 1, 3, 5, 12, 40]);
                self.pass(seconds(pause));
            }
            176..179 => self.crash_coordinator(),
            179..182 => self.stand_still(),
            182..185 => {
                let machine = self.some_machine();
                self.crash_agent(machine);
            }
            185..187 if self.dice.percent(50) => self.clone_or_replace(),
            187 if self.dice.percent(50) => self.put_back_store(),
            192..196 => self.others_move(),
            188 if self.dice.percent(50) => self.accept_someone(),
            189..192 => {
                let machine = self.some_machine();
                self.freeze(machine);
            }
            _ => self.person(),
        }
    }

    pub(super) fn change_weather(&mut self, machine: usize) {
        let agent = &mut self.machines[machine];
        agent.measure(self.now);
        agent.weather = self.dice.pick(&[Health::Good, Health::Good, Health::Bad, Health::Unknown]);
        self.say_if_changed(machine);
    }

    fn person(&mut self) {
        if self.rollback().outcome().is_some() {
            if self.dice.percent(30) {
                let action = PersonAction::Retry { hosts: BTreeSet::new(), choices: Choices::default() };
                self.decide(vec![Command::Person(Person { who: "operator/alice".into(), action })]);
            } else if self.dice.percent(30) {
                let by = rfs_model::RollbackId::from_uuid(Uuid::from_u128(8));
                self.decide(vec![Command::Undone { by, hosts: None }]);
            }
            return;
        }
        let action = self.dice.pick(&[
            PersonAction::Pause,
            PersonAction::Resume,
            PersonAction::Resume,
            PersonAction::Retry { hosts: BTreeSet::new(), choices: Choices::default() },
            PersonAction::Promote { wave: None },
            PersonAction::Abort,
        ]);
        if action != PersonAction::Abort || self.dice.percent(30) {
            self.decide(vec![Command::Person(Person { who: "operator/alice".into(), action })]);
        }
    }

    fn deliver_down(&mut self) {
        if self.down.is_empty() {
            return;
        }
        let at = self.dice.below(self.down.len());
        let down = if self.dice.percent(15) { self.down[at].clone() } else { self.down.swap_remove(at) };
        self.arrive(down);
    }

    fn arrive(&mut self, down: Down) {
        let (now, agent) = (self.now, &mut self.machines[down.machine]);
        if agent.reaches() && agent.session == down.session {
            agent.receive(down.command, now.plus(down.timeout), now);
        }
    }

    fn deliver_up(&mut self) {
        self.collect_reports();
        if self.up.is_empty() || self.coordinator.is_away {
            return;
        }
        let at = self.dice.below(self.up.len());
        if self.machines[self.up[at].0].gone && self.dice.percent(80) {
            // What a machine said last may be read long after it.
            return;
        }
        let (machine, report) =
            if self.dice.percent(15) { self.up[at].clone() } else { self.up.swap_remove(at) };
        if self.dice.percent(10) {
            // Lost: the host has not been acknowledged, and says it again.
            return;
        }
        self.hear_report(machine, report);
    }

    /// Reports go out on the sessions that there are.
    pub(super) fn collect_reports(&mut self) {
        for seat in self.seats.values() {
            let Some(session) = &seat.session else { continue };
            let agent = &self.machines[session.machine];
            if !agent.reaches() {
                continue;
            }
            for generation in &agent.outbox {
                let report = agent.report(*generation);
                if !self.up.iter().any(|(from, said)| *from == session.machine && *said == report) {
                    self.up.push((session.machine, report));
                }
            }
        }
    }

    fn work(&mut self, machine: usize) {
        let now = self.now;
        self.machines[machine].advance(now, &mut self.dice);
        self.say_if_changed(machine);
    }

    fn disturb_link(&mut self) {
        let machine = self.some_machine();
        let now = self.now;
        if self.dice.percent(25) {
            // It comes and goes from now on, or is left in peace.
            if self.flaps.remove(&machine).is_none() {
                self.flaps.insert(machine, now);
            }
            return;
        }
        let noticed = self.dice.percent(60);
        self.link(machine, !self.machines[machine].linked, noticed);
    }

    pub(super) fn link(&mut self, machine: usize, linked: bool, noticed: bool) {
        let now = self.now;
        let agent = &mut self.machines[machine];
        agent.linked = linked;
        agent.note_quiet(now);
        if linked {
            self.tries.insert(machine, now);
        } else if noticed {
            self.lose_session(machine);
        }
    }

    fn freeze(&mut self, machine: usize) {
        let now = self.now;
        let agent = &mut self.machines[machine];
        agent.measure(now);
        agent.frozen = !agent.frozen;
        agent.note_quiet(now);
        if !agent.frozen {
            agent.monitor.go_on(now);
            self.tries.insert(machine, now);
        }
    }

    fn crash_agent(&mut self, machine: usize) {
        let now = self.now;
        if self.machines[machine].up {
            self.machines[machine].crash(now);
            if self.dice.percent(70) {
                self.lose_session(machine);
            }
        } else {
            self.machines[machine].recover(now);
            self.tries.insert(machine, now);
        }
    }

    /// A second machine gets the certificate of a name; the first one goes on, or is gone.
    fn clone_or_replace(&mut self) {
        // Best while an answer is on its way.
        self.collect_reports();
        let answering = self.up.last().map(|(machine, _)| self.machines[*machine].host.clone());
        let host = match answering {
            Some(host) if self.dice.percent(70) => host,
            _ => self.some_host(),
        };
        if self.seats[&host].machines.len() > 2 {
            return;
        }
        let (number, now) = (self.machines.len(), self.now);
        let old = self.present(&host);
        let replaces = self.dice.percent(50);
        let before = match self.machines[old].content {
            Some(content) if !replaces => content,
            _ => snapshot(3, number, false),
        };
        let mut agent = Agent::new(host.clone(), instance(number), before, now, self.fault, &mut self.dice);
        if replaces {
            self.machines[old].measure(now);
            self.machines[old].gone = true;
            self.machines[old].note_quiet(now);
            self.lose_session(old);
        } else {
            // A copy of the whole disk but for the instance knows which commands it has obeyed.
            agent.highest = self.machines[old].highest;
        }
        self.machines.push(agent);
        self.seats.get_mut(&host).expect("it is there").machines.push(number);
        self.tries.insert(number, now.plus(seconds(self.dice.below(8) as u64)));
    }

    fn accept_someone(&mut self) {
        let contested = |seat: &&Seat| seat.contested.is_some();
        let Some(host) =
            self.seats.values().find(contested).map(|seat| self.machines[seat.machines[0]].host.clone())
        else {
            return;
        };
        let alive: Vec<usize> = self.seats[&host]
            .machines
            .iter()
            .copied()
            .filter(|machine| !self.machines[*machine].gone)
            .collect();
        if alive.is_empty() {
            return;
        }
        let machine = self.dice.pick(&alive);
        let instance = self.machines[machine].instance;
        self.seats.get_mut(&host).expect("it is there").accept(machine, instance);
        for machine in self.seats[&host].machines.clone() {
            self.machines[machine].disturbed_at = self.now;
        }
        self.tries.insert(machine, self.now);
    }

    /// Time goes on, and what happens by itself happens.
    pub(super) fn pass(&mut self, duration: Duration) {
        let until = self.now.plus(duration);
        let mut rounds = 0;
        while let Some(next) = self.next().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.happen();
            rounds += 1;
            assert!(rounds < 100_000, "seed {}: time stands still at {}", self.seed, self.now.0 - START.0);
        }
        self.now = until;
        self.happen();
    }

    /// When something happens next by itself.
    fn next(&self) -> Option<Timestamp> {
        let measured = self.machines.iter().filter_map(Agent::wakes);
        let mine = measured
            .chain(self.tries.values().copied())
            .chain(self.flaps.values().copied())
            .chain(self.says_again.values().copied());
        let coordinator = &self.coordinator;
        if coordinator.is_away {
            return mine.min();
        }
        let alarm = coordinator.wake.map(|wake| wake.max(coordinator.not_before.unwrap_or(wake)));
        let alarm = alarm.map(|alarm| Timestamp(alarm.0 - coordinator.offset));
        let compared = coordinator.comparing.iter().chain(&coordinator.returning).map(|(_, until)| *until);
        let silent = self.seats.values().filter_map(|seat| {
            let session = seat.session.as_ref()?;
            let falls = session.heard_at.plus(SILENT);
            (falls > self.now && !self.machines[session.machine].reaches()).then_some(falls)
        });
        let heard = self.air.iter().map(|said| said.due);
        let measured = self.awaited().map(|(_, at)| at);
        let looks = coordinator.look.values().copied().chain(coordinator.unread_until);
        mine.chain(alarm).chain(compared).chain(silent).chain(heard).chain(looks).chain(measured).min()
    }

    fn happen(&mut self) {
        let now = self.now;
        let due: Vec<usize> =
            self.flaps.iter().filter(|(_, at)| **at <= now).map(|(machine, _)| *machine).collect();
        for machine in due {
            let linked = self.machines[machine].linked;
            self.flaps.insert(machine, now.plus(seconds(if linked { 10 } else { 9 })));
            self.link(machine, !linked, true);
        }
        for machine in 0..self.machines.len() {
            self.say_if_changed(machine);
        }
        let due: Vec<usize> =
            self.says_again.iter().filter(|(_, at)| **at <= now).map(|(machine, _)| *machine).collect();
        for machine in due {
            self.says_again.remove(&machine);
            self.say(machine);
        }
        let due: Vec<usize> =
            self.tries.iter().filter(|(_, at)| **at <= now).map(|(machine, _)| *machine).collect();
        for machine in due {
            self.tries.remove(&machine);
            self.hello(machine);
        }
        // Agents say what they measure; it matters where a host waits for it.
        let awaited: Vec<usize> = self.awaited().map(|(machine, _)| machine).collect();
        for machine in awaited {
            self.machines[machine].measure(now);
            if self.said.get(&machine) != Some(&self.machines[machine].monitor.measured_at) {
                self.say(machine);
            }
        }
        if !self.coordinator.is_away {
            self.coordinate();
        }
    }

    /// The machines of hosts that pass once they were measured again, and when they are.
    fn awaited(&self) -> impl Iterator<Item = (usize, Timestamp)> {
        let coordinator = &self.coordinator;
        let awaited = coordinator.hear.iter().filter(|_| !coordinator.is_away);
        awaited.filter_map(|(host, from)| {
            let machine = self.seats[host].session.as_ref()?.machine;
            let agent = &self.machines[machine];
            let from = Timestamp(from.0 - coordinator.offset);
            agent.reaches().then(|| (machine, agent.monitor.next().max(from)))
        })
    }

    /// An agent says at once when its verdict is another.
    fn say_if_changed(&mut self, machine: usize) {
        let (now, agent) = (self.now, &mut self.machines[machine]);
        agent.measure(now);
        let is = (agent.monitor.health, agent.monitor.since, agent.monitor.after);
        if std::mem::replace(&mut agent.published, is) != is {
            self.say(machine);
        }
    }

    /// A machine says how it is, on the session that it has.
    pub(super) fn say(&mut self, machine: usize) {
        let (now, agent) = (self.now, &self.machines[machine]);
        let Some(session) = self.seats[&agent.host].session.as_ref() else { return };
        if session.machine != machine || !agent.reaches() {
            return;
        }
        let monitor = &agent.monitor;
        // Messages of a session do not overtake each other.
        let last = self.air.iter().filter(|said| said.session == session.number).map(|said| said.due).max();
        let due = now.plus(Duration::from_millis(self.dice.below(ON_THE_WAY.as_millis() as usize) as u64));
        let said = Said {
            machine,
            session: session.number,
            sent: now,
            due: due.max(last.unwrap_or(due)),
            health: monitor.health,
            age: now.since(monitor.since),
            measured: monitor.measured_at.map(|at| now.since(at)),
            after: RestoreNumber(monitor.after),
        };
        self.said.insert(machine, monitor.measured_at);
        self.air.push_back(said);
    }

    /// Agents try again soon when they were refused, or the coordinator was not there.
    pub(super) fn try_again(&mut self, machine: usize, after: Duration) {
        let at = self.now.plus(after);
        self.tries.insert(machine, at);
    }

    /// Every agent that has its connection is to say how it is, soon.
    pub(super) fn ask_again(&mut self) {
        for machine in 0..self.machines.len() {
            let wait = self.dice.below(SAID_AGAIN.as_millis() as usize) as u64;
            self.says_again.insert(machine, self.now.plus(Duration::from_millis(wait)));
        }
    }

    /// It has an outcome, and the hosts that were left out cannot come in line while others are not healthy.
    fn waits_for_a_budget(&self, round: usize) -> bool {
        let quiet = self.rollback().hosts.values().all(|host| !host.phase.at_work());
        // The way back looks at no health, so nothing holds it up for good.
        let health_counts = self.rollback().outcome().is_some_and(|outcome| outcome != Outcome::RevertFailed);
        round > 200 && quiet && health_counts
    }

    /// Faults stop, people decide what waits for them: the rollback must end within its bound.
    fn settle(&mut self) {
        self.flaps.clear();
        self.others.rest();
        for machine in 0..self.machines.len() {
            let now = self.now;
            if self.machines[machine].frozen {
                self.freeze(machine);
            }
            if !self.machines[machine].up {
                self.machines[machine].recover(now);
            }
            if !self.machines[machine].linked {
                self.link(machine, true, true);
            }
            self.machines[machine].busy_until = now;
            self.tries.insert(machine, now);
        }
        let accepts = self.dice.percent(50);
        for round in 0..4_000 {
            if !self.operation.open() || self.waits_for_a_budget(round) {
                return;
            }
            for machine in 0..self.machines.len() {
                self.work(machine);
            }
            while let Some(down) = self.down.pop() {
                self.arrive(down);
            }
            self.collect_reports();
            for (machine, report) in std::mem::take(&mut self.up) {
                self.hear_report(machine, report);
            }
            if accepts {
                self.accept_someone();
            }
            if matches!(self.rollback().phase, Phase::Paused { .. }) {
                let action = self.dice.pick(&[PersonAction::Resume, PersonAction::Abort]);
                self.decide(vec![Command::Person(Person { who: "operator/bob".into(), action })]);
            }
            let mut pause = seconds(1);
            if round % 3 == 2
                && let Some(wake) = self.coordinator.wake
            {
                pause = pause.max(wake.since(self.now));
            }
            self.pass(pause);
            self.check();
        }
        self.fail_if(Some("I7: it does not end".to_owned()));
    }
}
