//! Random walks of whole checkpoints over simulated hosts, with crashes, lost, repeated and reordered messages, coordinators that
//! are away, names that two machines speak for, machines that are replaced, and stores that are put back.
//!
//! A failing walk prints its seed and its history; `RFS_WALK_SEED=n` replays that one alone.

#[path = "walks/dice.rs"]
mod dice;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::time::Duration;

use dice::Dice;
use rfs_model::{
    ByteCount, CheckpointId, Digest, Generation, HostId, InstanceId, Reason, Selector, SnapshotId, Timestamp,
};
use rfs_rollout::checkpoint::{
    CONNECT_TIME, Checkpoint, CheckpointEvent, Created, FINISH_TIME, HostPhase, Outcome,
};
use rfs_rollout::{
    Admission, Answer, Captured, CheckpointKind, CheckpointRequest, Command, Connected, Event, Failure,
    HostCommand, Operation, Person, PersonAction, Presence, Report, Step, StepKind,
};
use uuid::Uuid;

const WALKS: u64 = 5_000;
const START: Timestamp = Timestamp(1_000_000);

/// Something that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Another machine under a name is taken for the old one.
    ReplacedUnnoticed,
    /// A name that two machines speak for is only taken to be without a connection, and either may speak for it later.
    ContestUnnoticed,
    /// Nobody asks which generation a host has obeyed.
    RewoundUnnoticed,
    /// A coordinator that was away does not say so.
    ReturnsWithoutListening,
}

/// A machine: it journals, refuses older generations, answers repeats from its journal, and resumes by itself when it has heard
/// nothing for too long.
#[derive(Default)]
struct Agent {
    number: u128,
    connected: bool,
    /// Another machine speaks for its name, too.
    contested: bool,
    highest: Generation,
    /// Holds still until then.
    quiet_until: Option<Timestamp>,
    snapshot: Option<SnapshotId>,
    ready_at: Option<Timestamp>,
    cut_at: Option<Timestamp>,
    waiting: Vec<HostCommand>,
    journal: BTreeMap<Generation, Report>,
    outbox: Vec<Report>,
}

impl Agent {
    fn receive(&mut self, command: HostCommand) {
        if let Some(report) = self.journal.get(&command.generation) {
            let report = Report { newest: self.highest, ..report.clone() };
            self.outbox.push(report);
        } else if command.generation >= self.highest && !self.waiting.contains(&command) {
            self.highest = command.generation;
            self.waiting.push(command);
        }
    }

    /// Takes the newest command that waits; an older one that it overtook has no effect any more.
    fn work(&mut self, host: &HostId, now: Timestamp, dice: &mut Dice) {
        if self.quiet_until.is_some_and(|until| until <= now) {
            self.quiet_until = None;
        }
        let Some(command) = self.waiting.pop().filter(|command| command.generation >= self.highest) else {
            return;
        };
        let failure = || Failure::new(Reason::CommandFailed, "a hook failed");
        let step = command.step.kind();
        let quiet = match &command.step {
            Step::Prepare { quiesce_timeout, .. } | Step::Cut { quiesce_timeout, .. } => *quiesce_timeout,
            _ => Duration::ZERO,
        };
        let answer = match step {
            StepKind::Prepare | StepKind::Cut if dice.percent(6) => {
                self.quiet_until = None;
                Answer::Failed(failure())
            }
            StepKind::Prepare => {
                self.quiet_until = Some(now.plus(quiet));
                self.ready_at = Some(now);
                Answer::Prepared
            }
            StepKind::Cut if self.quiet_until.is_none() => Answer::Refused(failure()),
            StepKind::Cut => {
                self.quiet_until = Some(now.plus(quiet));
                let snapshot = SnapshotId(Digest::from_bytes([dice.below(250) as u8; 32]));
                (self.snapshot, self.cut_at) = (Some(snapshot), Some(now));
                let (bytes, new_bytes) = (ByteCount(1), ByteCount(1));
                Answer::Captured(Captured {
                    snapshot,
                    cut_at: now,
                    bytes,
                    new_bytes,
                    entries: 1,
                    notes: Vec::new(),
                })
            }
            StepKind::Finish | StepKind::Abandon => {
                self.quiet_until = None;
                Answer::Finished
            }
            StepKind::Apply | StepKind::Cancel | StepKind::Revert => panic!("a checkpoint sends no {step}"),
        };
        let (operation, generation) = (command.operation, command.generation);
        let report = Report {
            host: host.clone(),
            instance: None,
            operation,
            generation,
            step,
            answer,
            newest: generation,
        };
        self.journal.insert(generation, report.clone());
        self.outbox.push(report);
    }
}

struct World {
    dice: Dice,
    now: Timestamp,
    log: Vec<Event>,
    operation: Operation,
    agents: BTreeMap<HostId, Agent>,
    sent: BTreeSet<(HostId, Generation)>,
    down: Vec<(HostId, HostCommand)>,
    /// How many machines there were.
    machines: u128,
    /// When the coordinator was last back.
    back_at: Timestamp,
    was_put_back: bool,
    /// There is an outcome, and hosts may still be told to resume.
    is_over: bool,
    fault: Option<Fault>,
}

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut dice = Dice::new(seed);
        let mut agents = BTreeMap::new();
        let mut hosts = BTreeMap::new();
        let count = 1 + dice.below(6);
        for n in 0..count {
            let name: HostId = format!("h-{n}").parse().expect("a valid name");
            let connected = !dice.percent(10);
            let number = n as u128 + 1;
            let instance = connected.then(|| instance(number));
            let presence = Presence { connected, instance, ..Presence::absent(START) };
            let generation = Generation(1 + dice.below(40) as u64);
            hosts.insert(name.clone(), Admission { generation, presence });
            agents.insert(name, Agent { number, connected, ..Agent::default() });
        }
        let request = CheckpointRequest {
            kind: CheckpointKind::Manual,
            selector: Selector::default(),
            quiesce_timeout: None,
            allow_missing: None,
            components: BTreeSet::new(),
            deployment: None,
            labels: Default::default(),
            reason: String::new(),
            requester: "operator/alice".into(),
            timeout: Duration::from_secs(60),
        };
        let created = Box::new(Created { id: CheckpointId::from_uuid(Uuid::nil()), request, hosts });
        let first = Event::Checkpoint(CheckpointEvent::Created { at: START, created });
        let operation = Operation::begin(&first).expect("a creation");
        let (sent, down) = Default::default();
        let (now, log, machines) = (START, vec![first], count as u128);
        Self {
            dice,
            now,
            log,
            operation,
            agents,
            sent,
            down,
            machines,
            back_at: START,
            was_put_back: false,
            is_over: false,
            fault,
        }
    }

    fn checkpoint(&self) -> &Checkpoint {
        match &self.operation {
            Operation::Checkpoint(checkpoint) => checkpoint,
            Operation::Rollback(_) => panic!("a checkpoint"),
        }
    }

    fn decide(&mut self, command: &Command) {
        let Ok(events) = self.operation.decide(command, self.now) else { return };
        for event in events {
            if matches!(event, Event::Checkpoint(CheckpointEvent::CutStarted { .. })) {
                let open = |agent: &HostPhase| *agent == HostPhase::Preparing;
                assert!(
                    !self.checkpoint().hosts.values().any(|host| open(&host.phase)),
                    "a cut before all are ready"
                );
            }
            if let Event::Checkpoint(event) = &event
                && let Some(broken) = self.is_blamed(event)
            {
                panic!("{broken}");
            }
            self.operation = self.operation.clone().evolve(&event);
            self.log.push(event);
        }
        for (host, command) in self.operation.wanted().commands {
            if self.agents[&host].connected && self.sent.insert((host.clone(), command.generation)) {
                self.down.push((host, command));
            }
        }
    }

    fn connect(&mut self, host: &HostId, connected: bool) {
        let agent = self.agents.get_mut(host).expect("it is there");
        if connected && agent.contested {
            return;
        }
        agent.connected = connected;
        let (number, accepted) = (agent.number, agent.highest);
        if !connected {
            self.sent.retain(|(to, _)| to != host);
            return self.decide(&Command::Disconnected(host.clone()));
        }
        let unnoticed = matches!(self.fault, Some(Fault::ReplacedUnnoticed | Fault::ContestUnnoticed));
        let instance = (!unnoticed).then(|| instance(number));
        let unasked = self.fault == Some(Fault::RewoundUnnoticed);
        let accepted = if unasked { Generation(0) } else { accepted };
        let given = if self.was_put_back { self.given(host) } else { Generation(u64::MAX) };
        self.decide(&Command::Connected(Connected { instance, accepted, ..Connected::plain(host.clone()) }));
        let highest = self.agents[host].highest;
        if highest > given && self.fault.is_none() && !self.is_over {
            let missing = |phase| matches!(phase, HostPhase::Abandoning | HostPhase::Failed);
            // One that is missing anyway need not be compared.
            let hosts = &self.checkpoint().hosts;
            let given_up = hosts.values().all(|host| missing(host.phase));
            assert!(
                given_up || missing(hosts[host].phase),
                "O12: the store was put back, and the checkpoint goes on"
            );
        }
    }

    /// The highest generation that the history gives a host.
    fn given(&self, host: &HostId) -> Generation {
        let states = (1..=self.log.len()).filter_map(|n| Operation::replay(&self.log[..n]).ok());
        let given = states.filter_map(|state| Some(state.wanted().commands.get(host)?.generation));
        given.max().unwrap_or_default()
    }

    fn reconnect(&mut self) {
        let hosts: Vec<HostId> = self.agents.keys().cloned().collect();
        for host in hosts {
            self.connect(&host, false);
            if self.dice.percent(80) {
                self.connect(&host, true);
            }
        }
    }

    /// What the history leads to, from a state that was kept somewhere along the way.
    fn resumed(&self) -> Operation {
        let known = 1 + usize::try_from(self.now.0).expect("a walk begins after 1970") % self.log.len();
        let kept = Operation::replay(&self.log[..known]).expect("a history");
        let kept = Operation::from_kept(&kept.to_kept()).expect("what was kept is a state");
        let resumed = kept.resume(known, &self.log[known..]).expect("the rest is its history");
        assert_eq!(Operation::replay(&self.log).as_ref(), Ok(&resumed), "the state after {known} events");
        resumed
    }

    /// The coordinator hears nothing for a while; it may die, and its store may be put back to an older copy.
    fn is_away(&mut self) {
        let waits_for_it = self.fault == Some(Fault::RewoundUnnoticed);
        let pause = if waits_for_it { 0 } else { self.dice.pick(&[0, 0, 7, 30, 100]) };
        self.now = self.now.plus(Duration::from_secs(pause));
        let puts_back = !self.is_over && (waits_for_it || self.dice.percent(20));
        let dies = puts_back || self.dice.percent(60);
        if puts_back {
            let keep = 1 + self.dice.below(self.log.len());
            self.log.truncate(keep);
            self.was_put_back = true;
            self.down.clear();
        }
        if dies {
            self.operation = self.resumed();
            self.sent.clear();
        }
        self.back_at = self.now;
        if self.fault != Some(Fault::ReturnsWithoutListening) {
            self.decide(&Command::Listening { from: self.now });
        }
        if dies {
            self.reconnect();
        }
    }

    /// Another machine gets the name; the old one is gone, or speaks for it, too.
    fn replace(&mut self, host: &HostId) {
        self.machines += 1;
        let contested = self.dice.percent(50);
        self.connect(host, false);
        let another = Agent { number: self.machines, contested, ..Agent::default() };
        let agent = self.agents.get_mut(host).expect("it is there");
        if !contested || self.fault == Some(Fault::ContestUnnoticed) {
            *agent = Agent { contested: false, ..another };
            return self.connect(host, true);
        }
        agent.contested = true;
        self.decide(&Command::Contested { host: host.clone(), text: "two machines speak for it".into() });
        // A person says that it is the new one, or that it is the old one, at once or later.
        if self.dice.percent(30) {
            self.agents.insert(host.clone(), another);
        }
    }

    fn step(&mut self) {
        // What few walks come to by chance is brought about where a fault waits for it.
        if self.fault == Some(Fault::RewoundUnnoticed) && self.dice.percent(3) {
            return self.is_away();
        }
        let nth = self.dice.below(self.agents.len());
        let host = self.agents.keys().nth(nth).expect("below the length").clone();
        match self.dice.below(100) {
            0..30 if !self.down.is_empty() => {
                let at = self.dice.below(self.down.len());
                let (to, command) =
                    if self.dice.percent(15) { self.down[at].clone() } else { self.down.swap_remove(at) };
                self.agents.get_mut(&to).expect("it is there").receive(command);
            }
            30..60 => {
                let agent = self.agents.get_mut(&host).expect("it is there");
                if agent.connected && !agent.outbox.is_empty() {
                    let at = self.dice.below(agent.outbox.len());
                    let report = if self.dice.percent(20) {
                        agent.outbox[at].clone()
                    } else {
                        agent.outbox.swap_remove(at)
                    };
                    let unasked = self.fault == Some(Fault::RewoundUnnoticed);
                    let newest = if unasked { report.generation } else { report.newest };
                    self.decide(&Command::Report(Report { newest, ..report }));
                }
            }
            60..85 => {
                let now = self.now;
                self.agents.get_mut(&host).expect("it is there").work(&host, now, &mut self.dice);
            }
            85..90 => {
                let connected = self.agents[&host].connected;
                self.connect(&host, !connected);
            }
            90..92 => self.is_away(),
            93 if self.dice.percent(15) => self.replace(&host),
            94 if self.agents[&host].contested => {
                self.agents.get_mut(&host).expect("it is there").contested = false;
                self.connect(&host, true);
            }
            92 if self.dice.percent(15) => {
                self.decide(&Command::Person(Person { who: "bob".into(), action: PersonAction::Abort }));
            }
            _ => {
                let pause = self.dice.pick(&[0, 1, 1, 2, 7]);
                self.now = self.now.plus(Duration::from_secs(pause));
                self.decide(&Command::Tick);
            }
        }
    }

    fn walk(seed: u64, fault: Option<Fault>) -> (Outcome, Self) {
        let mut world = Self::new(seed, fault);
        world.decide(&Command::Tick);
        loop {
            let heard = world.back_at.plus(CONNECT_TIME);
            let bound = START.plus(Duration::from_secs(60)).max(heard).plus(FINISH_TIME);
            if let Some(outcome) = world.checkpoint().outcome() {
                world.at_the_end(outcome);
                world.walk_on();
                return (outcome, world);
            }
            assert!(world.now <= bound.plus(Duration::from_secs(10)), "it does not end within its bound");
            world.step();
            assert_eq!(Operation::replay(&world.log).as_ref(), Ok(&world.operation));
        }
    }

    /// Beyond the outcome, which stands, until every host has resumed or has had to.
    fn walk_on(&mut self) {
        self.is_over = true;
        let (phase, snapshots) = (self.checkpoint().phase.clone(), self.checkpoint().snapshots());
        let bound = self.checkpoint().durable_by().max(self.now).plus(self.checkpoint().quiesce_timeout());
        while self.operation.open() {
            // A coordinator may be away for 100 s.
            assert!(self.now <= bound.plus(Duration::from_secs(110)), "it does not close within its bound");
            for command in self.operation.wanted().commands.values() {
                assert!(
                    matches!(command.step, Step::Finish | Step::Abandon),
                    "hosts only resume: {command:?}"
                );
            }
            self.step();
            assert_eq!(Operation::replay(&self.log).as_ref(), Ok(&self.operation));
            assert_eq!(
                (&self.checkpoint().phase, self.checkpoint().snapshots()),
                (&phase, snapshots.clone())
            );
        }
        assert_eq!(self.operation.wanted(), Default::default(), "nothing is in flight");
    }

    /// A host that was ready, or would have been, is not missing for what the coordinator did not hear.
    fn is_blamed(&self, event: &CheckpointEvent) -> Option<String> {
        let CheckpointEvent::HostFailed { host, failure, .. } = event else { return None };
        let waits = matches!(failure.reason, Reason::DeadlineExceeded | Reason::HostUnreachable);
        (waits && self.now < self.back_at.plus(CONNECT_TIME) && self.back_at > START).then(|| {
            format!("O12: {host} is missing, and the coordinator is back only since {}", self.back_at)
        })
    }

    fn at_the_end(&self, outcome: Outcome) {
        let checkpoint = self.checkpoint();
        for (name, snapshot) in checkpoint.snapshots() {
            let agent = &self.agents[&name];
            assert_eq!(agent.snapshot, Some(snapshot), "C1: {name}'s snapshot is durable on its machine");
            assert!(!agent.contested, "O12: two machines speak for {name}, and its snapshot counts");
        }
        let missing = checkpoint.missing();
        assert_eq!(outcome == Outcome::Complete, missing.is_empty());
        if outcome == Outcome::Aborted {
            assert_eq!(checkpoint.snapshots(), BTreeMap::new(), "what was aborted counts for nothing");
        }
        assert!(missing.values().all(Option::is_some), "each that is missing says why: {missing:?}");
        if outcome == Outcome::Complete {
            let cuts: Vec<Timestamp> = self.agents.values().filter_map(|agent| agent.cut_at).collect();
            let (first, last) = (cuts.iter().min().expect("a cut"), cuts.iter().max().expect("a cut"));
            assert_eq!(checkpoint.skew(), last.since(*first), "C1: the skew is true");
            let ready =
                self.agents.values().filter_map(|agent| agent.ready_at).max().expect("they were ready");
            assert!(ready <= *first, "C1: a host has cut before all were ready");
        }
        // Whatever was lost, no host holds still for longer than without a word.
        let until = self.now.plus(checkpoint.quiesce_timeout());
        assert!(self.agents.values().all(|agent| agent.quiet_until.is_none_or(|quiet| quiet <= until)));
    }
}

fn instance(number: u128) -> InstanceId {
    InstanceId::from_uuid(Uuid::from_u128(number))
}

/// Walks in which something is broken on purpose: one of them must be caught as the invariant says.
#[track_caller]
fn catches(fault: Fault, invariant: &str) {
    let mut others = BTreeSet::new();
    for seed in 0..2_000 {
        let Err(panic) = std::panic::catch_unwind(|| World::walk(seed, Some(fault))) else { continue };
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        if text.contains(invariant) {
            println!("{fault:?}: seed {seed}: {text}");
            return;
        }
        others.insert(text);
    }
    panic!("{fault:?} is not caught as {invariant} in 2,000 walks, but as {others:#?}");
}

#[test]
fn another_machine_that_is_taken_for_the_old_one_is_caught() {
    catches(Fault::ReplacedUnnoticed, "C1: ");
}

#[test]
fn a_name_of_two_machines_that_counts_is_caught() {
    catches(Fault::ContestUnnoticed, "C1: ");
}

#[test]
fn a_store_that_was_put_back_unnoticed_is_caught() {
    catches(Fault::RewoundUnnoticed, "C1: ");
}

#[test]
fn a_coordinator_that_is_back_and_does_not_say_so_is_caught() {
    catches(Fault::ReturnsWithoutListening, "O12: ");
}

#[test]
fn no_walk_cuts_early_nor_calls_a_checkpoint_complete_that_is_not() {
    let alone = env::var("RFS_WALK_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = alone.map_or(0..WALKS, |seed| seed..seed + 1);
    let mut complete = 0;
    let total = seeds.end - seeds.start;
    for seed in seeds {
        let walk = std::panic::catch_unwind(|| World::walk(seed, None));
        let Ok((outcome, world)) = walk else { panic!("seed {seed}: replay it with RFS_WALK_SEED={seed}") };
        complete += u64::from(outcome == Outcome::Complete);
        if alone.is_some() {
            world.log.iter().for_each(|event| println!("{:>8}  {event}", event.at().0 - START.0));
        }
    }
    println!("{complete} of {total} are complete");
    assert!(
        alone.is_some() || (complete > WALKS / 20 && complete < WALKS),
        "the walks reach both ends: {complete}"
    );
}
