//! Ten thousand hosts cost ten times what a thousand do, not a hundred times: a whole rollback, and each report of one.

mod racks;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs_model::{Health, HostId, Labels, RestoreNumber, Standing, Timestamp};
use rfs_rollout::outside::{FleetNow, Ill, Neighbours};
use rfs_rollout::rollback::Outcome;
use rfs_rollout::{Amount, Command, Connected, Event, Operation, Outside, Reading};

use self::racks::{AT, begin, id, rack, report, take};

/// So many hosts, and one more in a hundred that is not there.
struct Fleet {
    hosts: Vec<(HostId, Labels)>,
    ill: Vec<HostId>,
}

impl Fleet {
    fn of(count: usize, rack_of: impl Fn(usize) -> usize) -> Self {
        let mut hosts: Vec<_> = (0..count).map(|n| (racks::host(n), rack(rack_of(n)))).collect();
        hosts.sort_unstable();
        Self { hosts, ill: (0..count / 100).map(|n| racks::host(count + n)).collect() }
    }
}

impl FleetNow for Fleet {
    fn labels_version(&self) -> u64 {
        0
    }

    fn labels(&self, host: &HostId) -> Labels {
        let found = self.hosts.binary_search_by(|(is, _)| is.cmp(host));
        found.map(|place| self.hosts[place].1.clone()).unwrap_or_default()
    }

    fn unavailable(&self, tell: &mut dyn FnMut(&HostId, Ill)) {
        self.ill.iter().for_each(|host| tell(host, Ill::Absent));
    }
}

/// The reports of all hosts that are at work.
fn reports(operation: &Operation) -> Vec<Command> {
    let at_work = operation.in_flight();
    at_work.iter().filter_map(|(host, _)| report(operation, host, Standing::Target)).collect()
}

/// Rolls `count` hosts in 50 racks back at once, with all their answers in one batch, and says how long that took.
fn roll_back(count: usize) -> Duration {
    let (started, nobody) = (Instant::now(), Arc::new(Outside::default()));
    let created = begin(id(1), 0..count, |n| n % 50, Some(Amount::Percent(100)));
    let mut operation = Operation::begin(&created).expect("a creation");
    let mut history = vec![created];
    let mut take = |commands: Vec<Command>, seconds: u64, operation: Operation| {
        let (operation, events) = take(operation, &nobody, &commands, AT.plus(Duration::from_secs(seconds)));
        history.extend(events);
        operation
    };
    operation = take(vec![Command::Tick], 0, operation);
    let reports = reports(&operation);
    assert_eq!(reports.len(), count);
    operation = take(reports, 1, operation);
    operation = take(vec![Command::Tick], 11, operation);
    let Operation::Rollback(rollback) = &operation else { panic!("a rollback") };
    assert_eq!(rollback.outcome(), Some(Outcome::Succeeded));
    assert_eq!(Operation::replay(&history).as_ref(), Ok(&operation));
    started.elapsed()
}

/// One report as a driver takes it, from what it holds to what it sends: it asks what others take, decides, stores, and asks
/// what is waited for and what is to be sent. Gives the events, and how long it took.
fn turn(
    neighbours: &mut Neighbours,
    operation: &mut Arc<Operation>,
    fleet: &Fleet,
    report: Command,
    now: Timestamp,
) -> (Vec<Event>, Duration) {
    let started = Instant::now();
    let outside = neighbours.outside(operation, fleet, false);
    let (after, events) = take(operation.as_ref().clone(), &outside, &[report], now);
    let after = Arc::new(after);
    neighbours.drafts(after.id(), Some(after.clone()));
    neighbours.stands(&after);
    let (awaited, in_flight) = (after.awaited_beside(&outside), after.in_flight().len());
    let took = started.elapsed();
    assert!(awaited.wake_at.is_some() && in_flight <= fleet.hosts.len());
    *operation = after;
    (events, took)
}

/// Rolls `count` hosts in racks of five back, one of each rack at a time, in so many rollbacks that run side by side, and says
/// how long one report takes while all other hosts wait for their racks.
fn report_in_racks(count: usize, rollbacks: usize) -> Duration {
    let (racks, each) = (count / 5, count / rollbacks);
    // Of each half of the racks one rollback has four hosts in each, and the other one the fifth.
    let rack_of = |n: usize| match rollbacks {
        1 => n % racks,
        _ => {
            let (half, own) = (racks / 2, n % each < each / 5 * 4);
            n % half + if (n / each == 0) == own { 0 } else { half }
        }
    };
    let fleet = Fleet::of(count, rack_of);
    let mut neighbours = Neighbours::default();
    let mut operations = Vec::new();
    for (n, number) in (0..rollbacks).zip(1..) {
        let created = begin(id(number), n * each..(n + 1) * each, rack_of, Some(Amount::Count(1)));
        operations.push(Arc::new(Operation::begin(&created).expect("a creation")));
        neighbours.stands(&operations[n]);
    }
    for operation in &mut operations {
        turn(&mut neighbours, operation, &fleet, Command::Tick, AT);
    }
    let at_work: usize = operations.iter().map(|operation| operation.in_flight().len()).sum();
    assert_eq!(at_work, racks, "one of each rack");
    let mut times = Vec::new();
    for second in 1..=40 {
        for operation in &mut operations {
            // One in whose racks the other one is at work looks whether it may begin.
            let at_work = operation.in_flight();
            let host =
                at_work.get(97 * second as usize % at_work.len().max(1)).map(|(host, _)| (*host).clone());
            let report = host.and_then(|host| report(operation, &host, Standing::Target));
            let (is_report, command) = (report.is_some(), report.unwrap_or(Command::Tick));
            let now = AT.plus(Duration::from_secs(second));
            let (events, took) = turn(&mut neighbours, operation, &fleet, command, now);
            assert!(!events.is_empty() || !is_report);
            times.push(took);
        }
    }
    let begun: Vec<usize> = operations.iter().map(begun).collect();
    assert!(begun.iter().sum::<usize>() > racks, "each that has passed makes room in its rack");
    assert!(begun.iter().all(|begun| *begun > 0), "also for the other rollback: {begun:?}");
    times.sort_unstable();
    times[times.len() / 2]
}

fn begun(operation: &Arc<Operation>) -> usize {
    let Operation::Rollback(rollback) = operation.as_ref() else { panic!("a rollback") };
    rollback.hosts.values().filter(|host| host.started_at.is_some()).count()
}

#[test]
fn the_cost_of_a_rollback_grows_with_the_fleet_and_not_with_its_square() {
    let small = (0..3).map(|_| roll_back(1_000)).min().expect("three runs");
    let large = (0..3).map(|_| roll_back(10_000)).min().expect("three runs");
    println!("1,000 hosts: {small:?}; 10,000 hosts: {large:?}");
    assert!(large < small * 40, "1,000 hosts took {small:?}, 10,000 took {large:?}");
}

#[test]
fn the_cost_of_a_report_grows_with_the_hosts_and_not_with_hosts_times_racks() {
    for rollbacks in [1, 2] {
        let best = |count| (0..3).map(|_| report_in_racks(count, rollbacks)).min().expect("three runs");
        let (small, large) = (best(1_000), best(10_000));
        println!(
            "a report, {rollbacks} at a time: 1,000 hosts in 200 racks: {small:?}; 10,000 hosts in 2,000 racks: {large:?}"
        );
        // What fits into a cache is dearer by less; hosts times racks would be dearer a hundred times.
        assert!(large < small * 70, "1,000 hosts took {small:?}, 10,000 took {large:?}");
    }
}

#[test]
fn a_restart_costs_events_only_for_hosts_that_are_not_as_they_were() {
    const COUNT: usize = 10_000;
    let nobody = Arc::new(Outside::default());
    let created = begin(id(1), 0..COUNT, |n| n % 2_000, Some(Amount::Count(1)));
    let operation = Operation::begin(&created).expect("a creation");
    let at = |seconds| AT.plus(Duration::from_secs(seconds));
    let (operation, _) = take(operation, &nobody, &[Command::Tick], AT);
    let is = |n: usize, seconds: u64, health: Health| {
        let measured_at = Some(at(seconds));
        let (after, evidence) = (RestoreNumber(0), String::new());
        let reading =
            Reading { health, since: Timestamp(0), after, measured_at, heard_at: at(seconds), evidence };
        let host = racks::host(n);
        [Command::Connected(Connected::plain(host.clone())), Command::Health { host, reading }]
    };
    let all = |seconds| (0..COUNT).flat_map(|n| is(n, seconds, Health::Good)).collect::<Vec<_>>();
    let (operation, _) = take(operation, &nobody, &all(1), at(1));

    let started = Instant::now();
    let (operation, events) = take(operation, &nobody, &[Command::Listening { from: at(20) }], at(20));
    let listening = started.elapsed();
    assert_eq!(events.len(), 1, "{events:?}");
    // They come back a thousand at a time; one in a thousand is ill, and ten do not come.
    let (mut operation, mut stored, mut took) = (operation, 1, Duration::ZERO);
    for (n, second) in (0..COUNT - 10).step_by(1_000).zip(21..) {
        let back = (n..(n + 1_000).min(COUNT - 10)).flat_map(|n| {
            let health = if n % 1_000 == 7 { Health::Bad } else { Health::Good };
            is(n, second, health)
        });
        let back: Vec<Command> = back.collect();
        let started = Instant::now();
        let (after, events) = take(operation, &nobody, &back, at(second));
        took += started.elapsed();
        (operation, stored) = (after, stored + events.len());
    }
    println!("a restart: {stored} events for {COUNT} hosts, decided in {listening:?} and {took:?}");
    assert!(
        stored <= 1 + 10 * 5,
        "one that all are away, few for each batch, and one for each that is ill: {stored}"
    );
}
