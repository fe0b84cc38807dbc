//! Three hundred simulated agents and one real coordinator: a checkpoint, and a rollback in waves that goes on after a kill.
//!
//! `tests/bench fleet` does the same with ten thousand, and measures it.

use std::time::Duration;

use rfs_link::Target;
use rfs_tests::bed::{Bed, brief, hosts_of};
use rfs_tests::sim::{Latencies, Rule, Settings, SimFleet};
use rfs_tests::wait::until;
use tokio::runtime::Runtime;

const HOSTS: usize = 300;
/// Past this, a rollback of so few simulated hosts hangs, even in a debug build on a machine that is busy with other suites.
const LIMIT: Duration = Duration::from_secs(240);

/// A coordinator with a fleet whose hosts are all connected and well.
struct Play {
    bed: Bed,
    fleet: SimFleet,
    _runtime: Runtime,
}

impl Play {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut bed = Bed::new(0);
        bed.start_coordinator();
        let target = Target::parse(&format!("https://{}", bed.address())).expect("an address");
        let mut settings = Settings::new(target, bed.path().to_owned(), HOSTS);
        settings.labels = vec![("zone".to_owned(), 3)];
        change(&mut settings);
        let runtime = Runtime::new().expect("a runtime");
        let fleet = runtime.block_on(SimFleet::start(settings)).expect("a fleet");
        bed.await_connected(HOSTS);
        Self { bed, fleet, _runtime: runtime }
    }

    fn rule(&self, text: &str) {
        assert_ne!(self.fleet.obey(&Rule::parse(text).expect("a rule")), 0);
    }

    /// How many hosts are what they were before the deploy, and were restored once.
    fn restored(&self) -> usize {
        let is_restored = |index: &usize| {
            self.fleet.look(*index, |host| host.content() == 1 && host.effects() == ["apply 1"])
        };
        (0..HOSTS).filter(is_restored).count()
    }

    /// How many hosts the newest rollback says are at its target.
    fn said_to_be_at_target(&self) -> usize {
        let rollback = self.bed.rollback();
        let states = ["APPLIED", "PASSED", "UNHEALTHY"];
        hosts_of(&rollback)
            .iter()
            .filter(|(_, host)| states.iter().any(|state| host["state"] == *state))
            .count()
    }
}

#[test]
fn three_hundred_hosts_are_rolled_back_in_waves_although_the_coordinator_is_killed_in_between() {
    let mut play = Play::new(|settings| {
        let mut latencies = Latencies::default();
        latencies.set("apply=50ms..500ms").expect("bounds");
        settings.latencies = latencies;
    });
    let checkpoint = play.bed.checkpoint();
    let quiet = play.fleet.status().quiet;
    assert_eq!(quiet, 0, "every application runs again after the checkpoint");
    play.fleet.deploy();
    let start = [
        "rollback",
        "start",
        "--checkpoint",
        &checkpoint,
        "--canary",
        "1",
        "--wave",
        "25%",
        "--min-healthy",
        "1s",
        "--yes",
        "--no-wait",
    ];
    let said = play.bed.rfs(start);
    assert_eq!(said.code, 0, "{said:?}");

    until("a third of the hosts is restored", || (play.restored() > HOSTS / 3).then_some(()));
    play.bed.kill_coordinator();
    let before = play.restored();
    assert!(before < HOSTS, "it was killed in the middle");
    play.bed.start_coordinator();

    let rollback = play.bed.await_rollback_within(LIMIT, "FINISHED");
    assert_eq!(rollback["outcome"], "SUCCEEDED", "{}", brief(&rollback));
    assert_eq!(play.restored(), HOSTS, "each host is at its target, and was restored once");
}

#[test]
fn what_is_said_of_hosts_that_fail_fall_silent_and_are_ill_is_true() {
    let play = Play::new(|_| {});
    let checkpoint = play.bed.checkpoint();
    play.fleet.deploy();
    play.rule("5:fails=apply");
    play.rule("h-00001:silent=apply");
    play.rule("h-00002:gone");
    until("one is not connected", || (play.bed.host("h-00002")["connected"] == false).then_some(()));
    let start = [
        "rollback",
        "start",
        "--checkpoint",
        &checkpoint,
        "--strategy",
        "immediate",
        "--ignore-health",
        "--on-failure",
        "continue",
        "--on-unreachable",
        "skip",
        "--max-time",
        "10s",
        "--max-failed",
        "10",
        "--yes",
        "--no-wait",
    ];
    let said = play.bed.rfs(start);
    assert_eq!(said.code, 0, "{said:?}");
    let rollback = play.bed.await_rollback_within(LIMIT, "FINISHED");
    assert_eq!(rollback["outcome"], "PARTIAL", "{}", brief(&rollback));
    assert_eq!(play.restored(), HOSTS - 7, "five failed, one is silent, one is gone");
    assert_eq!(play.said_to_be_at_target(), play.restored(), "{}", brief(&rollback));

    play.rule("h-00002:good");
    until("the host that was left out is brought in line", || (play.restored() == HOSTS - 6).then_some(()));
}
