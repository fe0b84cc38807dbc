//! What operations that run side by side are told of each other is what would be gathered anew, whatever happens; and who waits
//! for a place is told when it is given back.

mod racks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{Health, HostId, Labels, OperationId, RestoreNumber, Standing, Timestamp};
use rfs_rollout::outside::{FleetNow, Ill, Neighbours};
use rfs_rollout::{Amount, Command, Connected, Operation, Outside, Person, PersonAction, Reading};

use self::racks::{AT, begin, host, id, rack, report, take};

/// The hosts of each rollback, some of which two know, and one more range for hosts that none has.
const HOSTS: [std::ops::Range<usize>; 4] = [0..8, 6..16, 14..20, 20..24];
/// How many of a rack may be away; the third rollback limits nothing.
const MOST: [Option<u32>; 3] = [Some(1), Some(2), None];
const RACKS: usize = 3;

#[derive(Default)]
struct Fleet {
    labels: BTreeMap<HostId, Labels>,
    version: u64,
    ill: BTreeMap<HostId, Ill>,
}

impl FleetNow for Fleet {
    fn labels_version(&self) -> u64 {
        self.version
    }

    fn labels(&self, host: &HostId) -> Labels {
        self.labels.get(host).cloned().unwrap_or_default()
    }

    fn unavailable(&self, tell: &mut dyn FnMut(&HostId, Ill)) {
        self.ill.iter().for_each(|(host, ill)| tell(host, *ill));
    }
}

struct Runs {
    stored: Arc<Operation>,
    drafted: Option<Arc<Operation>>,
    /// What it was told last.
    told: Arc<Outside>,
}

struct World {
    dice: u64,
    now: Timestamp,
    fleet: Fleet,
    neighbours: Neighbours,
    runs: BTreeMap<OperationId, Runs>,
    /// Those that were woken, and have not decided since.
    woken: BTreeSet<OperationId>,
}

impl World {
    fn new(seed: u64) -> Self {
        let labels = (0..HOSTS[3].end).map(|n| (host(n), rack(n % RACKS))).collect();
        let fleet = Fleet { labels, ..Fleet::default() };
        let mut world = Self {
            dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            now: AT,
            fleet,
            neighbours: Neighbours::default(),
            runs: BTreeMap::new(),
            woken: BTreeSet::new(),
        };
        for n in 0..MOST.len() {
            world.begins(n);
        }
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice % bound as u64) as usize
    }

    fn begins(&mut self, n: usize) {
        let created = begin(id(n as u128 + 1), HOSTS[n].clone(), |n| n % RACKS, MOST[n].map(Amount::Count));
        let stored = Arc::new(Operation::begin(&created).expect("a creation"));
        let runs = Runs { stored: stored.clone(), drafted: None, told: Arc::default() };
        self.runs.insert(stored.id(), runs);
        self.stands(&stored);
    }

    fn stands(&mut self, operation: &Arc<Operation>) {
        let woken = self.neighbours.stands(operation);
        self.woken.extend(woken);
        let runs = self.runs.get_mut(&operation.id()).expect("it runs");
        (runs.stored, runs.drafted) = (operation.clone(), None);
        self.who_waits_is_told(operation);
    }

    /// What is given back is known to those that were told of it.
    fn who_waits_is_told(&self, by: &Operation) {
        let anew = self.anew();
        for (id, runs) in self.runs.iter().filter(|(id, _)| **id != by.id()) {
            let is = anew.clone().outside(&runs.stored, &self.fleet, false);
            let places = |outside: &Outside| -> BTreeSet<(HostId, bool)> {
                let taken = outside.groups.values().flat_map(|group| &group.taken);
                let places = taken.filter_map(|(host, taken)| Some((host.clone(), taken.place?)));
                places
                    .filter(|(_, place)| place.operation == by.id())
                    .map(|(host, place)| (host, place.at_work))
                    .collect()
            };
            let (was, is) = (places(&runs.told), places(&is));
            let less = |(host, at_work): &&(HostId, bool)| {
                !is.contains(&(host.clone(), true)) && (*at_work || !is.contains(&(host.clone(), false)))
            };
            // Of one that two others know, either may have the place.
            let known = |host: &HostId| self.runs.values().filter(|runs| is_of(&runs.stored, host)).count();
            let alone =
                |(host, _): &&(HostId, bool)| known(host) - usize::from(is_of(&runs.stored, host)) == 1;
            if let Some((host, _)) = was.iter().filter(alone).find(less) {
                assert!(self.woken.contains(id), "{id} waits for {host}, which {} gave back", by.id());
            }
        }
    }

    /// The same operations, of which nothing was ever told.
    fn anew(&self) -> Neighbours {
        let mut anew = Neighbours::default();
        for runs in self.runs.values() {
            anew.stands(&runs.stored);
        }
        for (id, runs) in &self.runs {
            anew.drafts(*id, runs.drafted.clone());
        }
        anew
    }

    fn decides(&mut self, id: OperationId, commands: &[Command]) {
        let stored = self.runs[&id].stored.clone();
        let outside = self.neighbours.outside(&stored, &self.fleet, false);
        let (after, events) = take(stored.as_ref().clone(), &outside, commands, self.now);
        let drafted = (!events.is_empty()).then(|| Arc::new(after));
        self.neighbours.drafts(id, drafted.clone());
        let runs = self.runs.get_mut(&id).expect("it runs");
        (runs.told, runs.drafted) = (outside, drafted.clone());
        self.woken.remove(&id);
        // Some are still being stored when others decide, and some never are.
        if let Some(after) = drafted.filter(|_| self.below(3) > 0) {
            self.stands(&after);
        }
    }

    fn step(&mut self) {
        self.now = self.now.plus(Duration::from_millis(700 * self.below(4) as u64));
        let ids: Vec<OperationId> = self.runs.keys().copied().collect();
        let (dice, n) = (self.below(24), self.below(HOSTS[3].end));
        match dice {
            0 => {
                let to = rack(self.below(RACKS));
                self.fleet.labels.insert(host(n), to);
                self.fleet.version += 1;
                // Its own rollback looks at it, and others that waited for it are told.
                let owner =
                    self.runs.values().map(|runs| &runs.stored).find(|stored| is_of(stored, &host(n)));
                self.woken.extend(owner.map(|stored| stored.id()));
                return self.woken.extend(self.neighbours.changed(&host(n)));
            }
            1 | 2 => drop(self.fleet.ill.insert(host(n), Ill::Absent)),
            3 | 4 => drop(self.fleet.ill.insert(host(n), Ill::Health(Health::Bad))),
            5 | 6 => drop(self.fleet.ill.remove(&host(n))),
            7 if ids.len() > 1 => {
                let id = ids[self.below(ids.len())];
                self.runs.remove(&id);
                let woken = self.neighbours.leaves(id);
                assert_eq!(woken, self.runs.keys().copied().collect::<Vec<_>>());
                self.woken.extend(woken);
                return;
            }
            8 => {
                let gone = (0..MOST.len()).find(|n| !self.runs.contains_key(&id(*n as u128 + 1).into()));
                return gone.into_iter().for_each(|n| self.begins(n));
            }
            _ => {}
        }
        let id = ids[self.below(ids.len())];
        let stored = self.runs[&id].stored.clone();
        if self.runs[&id].drafted.is_some() && self.below(2) == 0 {
            // Somebody else appended something, and what was decided came to nothing.
            let (after, _) = take(stored.as_ref().clone(), &Arc::default(), &[Command::Tick], self.now);
            return self.stands(&Arc::new(after));
        }
        let Operation::Rollback(rollback) = stored.as_ref() else { panic!("a rollback") };
        let hosts: Vec<HostId> = rollback.hosts.keys().cloned().collect();
        let of = hosts[self.below(hosts.len())].clone();
        let person = |action| Command::Person(Person { who: "operator/alice".into(), action });
        let commands = match self.below(16) {
            0 => vec![Command::Disconnected(of)],
            1 => vec![Command::Connected(Connected::plain(of))],
            2 | 3 => {
                let health = [Health::Good, Health::Bad, Health::Unknown][self.below(3)];
                let (since, after) = (self.now, RestoreNumber(0));
                let measured_at = Some(self.now);
                let reading = Reading {
                    health,
                    since,
                    after,
                    measured_at,
                    heard_at: self.now,
                    evidence: String::new(),
                };
                vec![Command::Health { host: of, reading }]
            }
            4 if self.below(4) == 0 => vec![person(PersonAction::Pause)],
            5 => vec![person(PersonAction::Resume)],
            6 if self.below(8) == 0 => vec![person(PersonAction::Abort)],
            7 => vec![Command::Tick],
            dice => {
                let standing = if dice == 8 { Standing::Before } else { Standing::Target };
                let at_work = stored.in_flight();
                let reports = at_work.iter().take(2).filter_map(|(host, _)| report(&stored, host, standing));
                reports.collect()
            }
        };
        self.decides(id, &commands);
    }

    fn check(&self) {
        for (id, runs) in &self.runs {
            let told = self.neighbours.clone().outside(&runs.stored, &self.fleet, false);
            let anew = self.anew().outside(&runs.stored, &self.fleet, false);
            assert_eq!(told, anew, "{id}");
        }
    }
}

fn is_of(operation: &Operation, host: &HostId) -> bool {
    matches!(operation, Operation::Rollback(rollback) if rollback.hosts.contains_key(host))
}

#[test]
fn what_is_told_is_what_would_be_gathered_anew() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.step();
            if world.below(3) == 0 {
                world.check();
            }
        }
    }
}

#[test]
fn nobody_is_given_a_place_before_all_that_run_are_read() {
    let mut world = World::new(1);
    let (id, runs) = world.runs.iter().next().expect("it runs");
    let unread = OperationId::from(racks::id(9));
    world.neighbours.expect([unread]);
    assert!(world.neighbours.outside(&runs.stored, &world.fleet, false).unknown);
    let created = begin(racks::id(9), HOSTS[3].clone(), |n| n % RACKS, None);
    let woken = world.neighbours.stands(&Arc::new(Operation::begin(&created).expect("a creation")));
    assert!(woken.contains(id), "{woken:?}");
    assert!(!world.neighbours.outside(&runs.stored, &world.fleet, false).unknown);
    assert!(world.neighbours.outside(&runs.stored, &world.fleet, true).unknown, "it is compared first");
}

#[test]
fn a_host_that_another_operation_changes_takes_its_place_also_where_both_know_it() {
    let fleet = Fleet { labels: (0..2).map(|n| (host(n), rack(0))).collect(), ..Fleet::default() };
    let one = begin(id(1), 0..2, |_| 0, Some(Amount::Count(1)));
    let one = Arc::new(Operation::begin(&one).expect("a creation"));
    let other = begin(id(2), 0..1, |_| 0, None);
    let other = Operation::begin(&other).expect("a creation");
    let (other, _) = take(other, &Arc::default(), &[Command::Tick], AT);
    let mut neighbours = Neighbours::default();
    neighbours.stands(&one);
    let outside = neighbours.outside(&one, &fleet, false);
    let (_, events) = take(one.as_ref().clone(), &outside, &[Command::Tick], AT);
    assert!(events.iter().any(|event| event.to_string().contains("told to go to its target")), "{events:?}");

    let other = Arc::new(other);
    neighbours.stands(&other);
    let outside = neighbours.outside(&one, &fleet, false);
    let (_, events) = take(one.as_ref().clone(), &outside, &[Command::Tick], AT);
    assert!(!events.iter().any(|event| event.to_string().contains("told to go to its target")), "{events:?}");
    let report = report(&other, &host(0), Standing::Before).expect("it is at work");
    let (other, _) = take(other.as_ref().clone(), &Arc::default(), &[report], AT);
    assert_eq!(neighbours.stands(&Arc::new(other)), [one.id()], "the place is given back");
}
