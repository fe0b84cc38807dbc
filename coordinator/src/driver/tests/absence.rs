//! What the coordinator did not hear: health from before a change, deadlines that passed while it was away, hosts that it was
//! not compared with yet.

use std::thread;

use rfs_model::Health;
use rfs_rollout::rollback::COMPARING;
use rfs_rollout::{Amount, Budget, OnFailure, Strategy};

use super::agents::Manner;
use super::*;
use crate::driver::run::{LOOK_AT_CLOCK, STOOD_STILL};
use crate::timeline::{self, Moment};

impl Bed {
    /// The coordinator's process is stopped for so long, and goes on.
    async fn stands_still(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        // Every task of this test runs on this thread: nothing goes on.
        thread::sleep(LOOK_AT_CLOCK + STOOD_STILL + Duration::from_secs(1));
    }

    /// A rollback whose canary has just said that it is at its target.
    async fn canary_is_applied(&self, coordinator: &Coordinator) -> RollbackId {
        let id = self.rollback(coordinator, |request| request.policy.gate.healthy_deadline = TEN).await;
        self.pass(coordinator, id, 0).await;
        self.check(coordinator, id, "a1 applied | b2 untouched | running").await;
        id
    }
}

impl Bed {
    /// The same with waves of all others.
    async fn canary_of_many_is_applied(&self, coordinator: &Coordinator) -> RollbackId {
        let id = self.rollback(coordinator, |request| {
            request.policy.gate.healthy_deadline = TEN;
            request.policy.gate.min_healthy_time = Duration::from_secs(8);
        });
        let id = id.await;
        self.pass(coordinator, id, 3).await;
        id
    }
}

const TEN: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_canary_over_an_ill_target_never_opens_its_gate_however_late_that_is_heard() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("a"), Manner::Sickens);
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    // What it said before its change is still there, and what it finds after it is on its way for longer than a host must be
    // healthy.
    bed.agents.lags(&host("a"), Some(Duration::from_secs(6)));
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 5).await;
    bed.check(&coordinator, id, "a1 applied | b2 untouched | running").await;
    bed.pass(&coordinator, id, 20).await;
    bed.check(&coordinator, id, "a1 unhealthy | b2 untouched | paused").await;
}

#[tokio::test]
async fn a_budget_of_one_over_an_ill_target_changes_one_host() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    for host in &bed.hosts {
        bed.agents.behaves(host, Manner::Sickens);
        bed.agents.lags(host, Some(Duration::from_secs(4)));
    }
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.strategy = Strategy::Immediate;
    request.policy.budgets = vec![Budget { group_by: None, max_unavailable: Amount::Count(1) }];
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 60).await;
    bed.check(&coordinator, id, "a1 unhealthy | b2 untouched | c2 untouched | paused").await;
}

#[tokio::test]
async fn a_coordinator_that_was_down_past_a_deadline_fails_no_host_that_was_well_all_along() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.canary_is_applied(&coordinator).await;
    coordinator.stops().await;
    bed.agents.all_leave();
    bed.clock.advance(Duration::from_secs(600));
    let after = bed.start_alone().await;
    bed.pass(&after, id, 2).await;
    bed.check(&after, id, "a1 applied | b2 untouched | running").await;
    for host in &bed.hosts {
        after.link.connect(host).await;
    }
    // It says since when it is well: it measured all along.
    bed.pass(&after, id, 0).await;
    bed.check(&after, id, "a1 passed | b1 applied | running").await;
    bed.pass(&after, id, 3).await;
    bed.check(&after, id, "a1 passed | b1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn a_coordinator_that_stood_still_past_a_deadline_judges_by_what_it_hears_then() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.canary_is_applied(&coordinator).await;
    bed.stands_still(600).await;
    bed.pass(&coordinator, id, 0).await;
    // What it heard before is not what holds now.
    bed.check(&coordinator, id, "a1 applied | b2 untouched | running").await;
    assert!(coordinator.history(id).await.contains(&"the coordinator hears hosts again".to_owned()));
    bed.agents.says_health(&host("a"));
    coordinator.link.changed(&host("a")).await;
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a1 passed | b1 applied | running").await;
}

#[tokio::test]
async fn a_host_that_turned_ill_while_the_coordinator_stood_still_does_not_pass() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.canary_is_applied(&coordinator).await;
    bed.agents.lags(&host("a"), None);
    bed.agents.is(&host("a"), Health::Bad);
    bed.stands_still(600).await;
    // So long may an agent take to be back.
    bed.pass(&coordinator, id, 19).await;
    bed.check(&coordinator, id, "a1 applied | b2 untouched | running").await;
    bed.pass(&coordinator, id, 2).await;
    bed.check(&coordinator, id, "a1 unhealthy | b2 untouched | paused").await;
    assert!(
        coordinator
            .history(id)
            .await
            .iter()
            .any(|line| line.contains("not heard since the coordinator was away"))
    );
}

#[tokio::test]
async fn a_host_that_comes_and_goes_is_judged_within_its_bound() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.canary_is_applied(&coordinator).await;
    bed.agents.is(&host("a"), Health::Unknown);
    // 10 s, and 5 s more for one that is not reachable.
    for _ in 0..5 {
        coordinator.link.disconnect(&host("a")).await;
        bed.pass(&coordinator, id, 2).await;
        coordinator.link.connect(&host("a")).await;
        bed.pass(&coordinator, id, 2).await;
    }
    bed.check(&coordinator, id, "a1 unhealthy | b2 untouched | paused").await;
}

#[tokio::test]
async fn an_agent_that_is_stopped_holds_the_gate() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.canary_is_applied(&coordinator).await;
    coordinator.link.silent(&host("a"), true).await;
    bed.pass(&coordinator, id, 8).await;
    bed.check(&coordinator, id, "a1 applied | b2 untouched | running").await;
    coordinator.link.silent(&host("a"), false).await;
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a1 passed | b1 applied | running").await;
}

#[tokio::test]
async fn nothing_is_sent_after_a_restart_before_the_hosts_are_back_that_were_there() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    bed.agents.behaves(&host("b"), Manner::Dawdles);
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.strategy = Strategy::Immediate;
    request.policy.on_failure = OnFailure::Continue;
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 1).await;
    coordinator.stops().await;
    bed.agents.all_leave();

    let told = || {
        bed.diary.lines().iter().filter(|line| line.starts_with("sent ") && line.ends_with("apply")).count()
    };
    assert_eq!(told(), 3);
    let after = bed.start_alone().await;
    for name in ["a", "c"] {
        after.link.connect(&host(name)).await;
        bed.pass(&after, id, 0).await;
    }
    assert_eq!(told(), 3, "b is not back");
    after.link.connect(&host("b")).await;
    bed.pass(&after, id, 0).await;
    assert_eq!(told(), 5, "a and b are told again");
    after.stops().await;
    bed.agents.all_leave();

    // One that does not come back delays nobody for long, and others that come later are told at once.
    let after = bed.start_alone().await;
    after.link.connect(&host("a")).await;
    bed.pass(&after, id, 0).await;
    assert_eq!(told(), 5);
    bed.clock.advance(COMPARING);
    bed.pass(&after, id, 0).await;
    assert_eq!(told(), 6, "a is told again, and c was never back");
    after.link.connect(&host("b")).await;
    bed.pass(&after, id, 0).await;
    assert_eq!(told(), 7, "b is told again");
}

#[tokio::test]
async fn a_restart_costs_history_only_for_hosts_that_are_not_as_they_were() {
    let bed = Bed::of(12).await;
    let coordinator = bed.start().await;
    let id = bed.canary_of_many_is_applied(&coordinator).await;
    let before = coordinator.history(id).await.len();
    coordinator.stops().await;
    bed.agents.all_leave();
    bed.agents.is(&host("f"), Health::Bad);
    let after = bed.start_alone().await;
    // One is gone.
    for host in bed.hosts.iter().filter(|name| **name != host("g")) {
        after.link.connect(host).await;
    }
    bed.pass(&after, id, 1).await;
    let history = after.history(id).await.split_off(before);
    let own = |name: &str| history.iter().filter(|line| line.starts_with(&format!("{name}: "))).count();
    let quiet: usize = ["b", "c", "d", "e", "g", "h", "i", "j", "k", "l"].into_iter().map(own).sum();
    assert_eq!(quiet, 0, "{history:#?}");
    assert_eq!(own("f"), 1, "{history:#?}");
    let named = |what: &str| {
        history
            .iter()
            .filter(|line| line.ends_with(what))
            .map(|line| 1 + line.matches(", ").count())
            .sum::<usize>()
    };
    assert!(history.len() < 12 && named("after the coordinator was away") > 0, "{history:#?}");
    let view = after.view(id).await;
    let rollback = view.rollback().expect("a rollback");
    let is = |name: &str| {
        let record = &rollback.hosts[&host(name)];
        (record.connected, record.health.health)
    };
    assert_eq!((is("b"), is("f"), is("g").0), ((true, Health::Good), (true, Health::Bad), false));
}

#[tokio::test]
async fn a_clock_that_is_set_while_the_coordinator_is_down_changes_no_deadline() {
    for step in [-3_600_000, 3_600_000] {
        let bed = Bed::of(1).await;
        let begins = async |up: u64, wall: Timestamp| {
            let moment = Moment { boot: Some("b".into()), uptime: Duration::from_secs(up), wall };
            timeline::begin(&*bed.store, moment).await.expect("the store answers")
        };
        let wall = bed.clock.now();
        let before = begins(100, wall).await;
        let coordinator = bed.start().await;
        let checkpoint = bed.checkpoint(&coordinator).await;
        bed.agents.behaves(&host("a"), Manner::Dawdles);
        let request = rollback_request(Source::Checkpoint(checkpoint));
        let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
        bed.pass(&coordinator, id, 1).await;
        coordinator.stops().await;

        let after = begins(102, Timestamp(wall.0 + step)).await;
        let went_on = after.now().since(before.now());
        assert!(went_on <= Duration::from_secs(3), "{went_on:?} after a step of {step} ms");
        assert!(after.now() >= bed.clock.now(), "time does not go back before what is stored");
        // With that time the host is at work for 2 s of 30, and not lost.
        let after = bed.start_by(Arc::new(after)).await;
        bed.settle(&after, id.into()).await;
        bed.check(&after, id, "a1 applying | running").await;
    }
}
