//! Budgets are the fleet's: rollbacks at the same time, and hosts that nobody rolls back.

use rfs_model::Health;
use rfs_rollout::{Amount, Budget, Strategy};

use super::agents::Manner;
use super::*;

/// At most so many of the group, which all hosts are in.
fn at_most(count: u32) -> Vec<Budget> {
    vec![Budget { group_by: Some("role".into()), max_unavailable: Amount::Count(count) }]
}

impl Bed {
    /// A rollback of these hosts, all at once as far as `budgets` allow.
    async fn rolls_back(
        &self,
        coordinator: &Coordinator,
        checkpoint: CheckpointId,
        hosts: &[&str],
        budgets: Vec<Budget>,
    ) -> RollbackId {
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        request.selector.hosts = hosts.iter().map(|name| host(name)).collect();
        request.strategy = Strategy::Immediate;
        request.policy.budgets = budgets;
        coordinator.operations.create_rollback(request, None).await.expect("it begins")
    }

    /// Lets a second pass for all of them.
    async fn pass_for(&self, coordinator: &Coordinator, of: &[RollbackId]) {
        self.pass(coordinator, of[0], 1).await;
        for _ in 0..2 {
            for id in of {
                self.settle(coordinator, (*id).into()).await;
            }
        }
    }
}

impl Coordinator {
    /// How many hosts of a rollback hold a place.
    async fn places(&self, id: RollbackId) -> usize {
        let view = self.view(id).await;
        let rollback = view.rollback().expect("a rollback");
        let takes =
            |name: &HostId, is: &machine::HostRecord| is.phase.at_work() || rollback.unproven(name, is);
        rollback.hosts.iter().filter(|(name, is)| takes(name, is)).count()
    }

    /// What a rollback says that it waits for.
    async fn waits_for(&self, id: RollbackId) -> String {
        let view = self.view(id).await;
        let held = view.rollback().expect("a rollback").held_up(&view.outside);
        held.first().map(ToString::to_string).unwrap_or_default()
    }
}

#[tokio::test]
async fn two_rollbacks_share_a_budget_and_each_says_who_has_its_place() {
    let bed = Bed::of(4).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    let one = bed.rolls_back(&coordinator, checkpoint, &["a", "b"], at_most(2)).await;
    bed.pass(&coordinator, one, 0).await;
    let other = bed.rolls_back(&coordinator, checkpoint, &["c", "d"], at_most(2)).await;
    bed.pass(&coordinator, other, 0).await;
    bed.check(&coordinator, one, "a1 applied | b1 applied | running").await;
    bed.check(&coordinator, other, "c2 untouched | d2 untouched | running").await;
    let why = |host: &str| format!("{host} was changed by {one} and is not proven healthy yet");
    let text =
        format!("a place in role=web, where at most 2 may be away at once: {}, {}", why("a"), why("b"));
    assert_eq!(coordinator.waits_for(other).await, text);
    for _ in 0..20 {
        bed.pass_for(&coordinator, &[one, other]).await;
        let places = coordinator.places(one).await + coordinator.places(other).await;
        assert!(places <= 2, "{places} places are taken");
    }
    bed.check(&coordinator, one, "a1 passed | b1 passed | SUCCEEDED").await;
    bed.check(&coordinator, other, "c1 passed | d1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn the_strictest_limit_binds_a_rollback_that_has_none_until_its_own_ends() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    let strict = bed.rolls_back(&coordinator, checkpoint, &["a"], at_most(1)).await;
    bed.pass(&coordinator, strict, 0).await;
    let free = bed.rolls_back(&coordinator, checkpoint, &["b", "c"], Vec::new()).await;
    bed.pass(&coordinator, free, 0).await;
    bed.check(&coordinator, free, "b2 untouched | c2 untouched | running").await;
    let text = format!(
        "a place in role=web, where at most 1 may be away at once (the limit of rollback {strict}): a is at work in {strict}"
    );
    assert_eq!(coordinator.waits_for(free).await, text);
    coordinator.person(strict, PersonAction::Abort).await.expect("it is aborted");
    bed.pass_for(&coordinator, &[strict, free]).await;
    bed.check(&coordinator, free, "b1 applied | c1 applied | running").await;
}

#[tokio::test]
async fn a_host_outside_that_is_not_there_takes_a_place_until_it_is_back() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    coordinator.link.disconnect(&host("b")).await;
    let id = bed.rolls_back(&coordinator, checkpoint, &["a"], at_most(1)).await;
    bed.pass(&coordinator, id, 30).await;
    bed.check(&coordinator, id, "a2 untouched | running").await;
    assert_eq!(
        coordinator.waits_for(id).await,
        "a place in role=web, where at most 1 may be away at once: b has no connection; if b is gone for good: rfs host forget b"
    );
    coordinator.link.connect(&host("b")).await;
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn a_host_outside_that_stays_ill_ends_the_wait_with_its_name() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.is(&host("b"), Health::Bad);
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.selector.hosts.insert(host("a"));
    (request.policy.budgets, request.policy.max_duration) = (at_most(1), Duration::from_secs(60));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 50).await;
    bed.check(&coordinator, id, "a2 untouched | running").await;
    bed.pass(&coordinator, id, 20).await;
    bed.check(&coordinator, id, "a2 unchanged | paused").await;
    let view = coordinator.view(id).await;
    let failure = view.rollback().expect("a rollback").hosts[&host("a")].failure.clone().expect("it failed");
    let text = "not started within 60s; it waited for a place in role=web, where at most 1 may be away at once: b is unhealthy";
    assert_eq!(failure.message, text);
}

#[tokio::test]
async fn after_a_restart_nobody_takes_a_place_that_another_rollback_has() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    let one = bed.rolls_back(&coordinator, checkpoint, &["a", "b"], at_most(1)).await;
    bed.pass(&coordinator, one, 0).await;
    let other = bed.rolls_back(&coordinator, checkpoint, &["c"], at_most(1)).await;
    bed.pass(&coordinator, other, 0).await;
    coordinator.stops().await;
    let after = bed.start().await;
    for _ in 0..10 {
        bed.pass_for(&after, &[one, other]).await;
        bed.check(&after, one, "a2 applying | b2 untouched | running").await;
        bed.check(&after, other, "c2 untouched | running").await;
    }
}
