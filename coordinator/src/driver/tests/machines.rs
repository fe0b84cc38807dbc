//! One name, one machine; a store that was put back to an older copy; and what a rollback proves.

use rfs_model::{Health, Reason};
use rfs_rollout::{Budget, OnFailure, Strategy};

use super::agents::Manner;
use super::*;
use crate::store::Store as _;

impl Bed {
    /// A copy of the store as it is now. Nobody may be writing.
    async fn copy_of_store(&self) -> TempDir {
        let copy = TempDir::new().expect("a folder");
        for name in ["rfs.db", "rfs.db-wal", "rfs.db-shm"] {
            let from = self.folder.path().join(name);
            if from.exists() {
                std::fs::copy(from, copy.path().join(name)).expect("a copy");
            }
        }
        copy
    }

    /// The store is put back to a copy.
    async fn put_back(&mut self, copy: TempDir) {
        let store = SqliteStore::open(&copy.path().join("rfs.db")).await.expect("the copy is a store");
        (self.store, self.folder) = (Arc::new(store), copy);
    }

    fn sent(&self) -> usize {
        self.diary.lines().iter().filter(|line| line.starts_with("sent ")).count()
    }
}

impl Coordinator {
    /// Why a host failed.
    async fn failure_of(&self, id: RollbackId, name: &str) -> (Reason, String) {
        let view = self.view(id).await;
        let record = &view.rollback().expect("a rollback").hosts[&host(name)];
        let failure = record.failure.clone().expect("it failed");
        (failure.reason, failure.message)
    }

    async fn proves(&self, id: RollbackId) -> Option<CheckpointId> {
        let row = self.store.operation(id.into()).await.expect("the store answers").expect("it is there");
        row.target.filter(|_| row.proves)
    }
}

#[tokio::test]
async fn a_name_that_two_machines_speak_for_is_told_nothing_and_fails_with_that_reason() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    coordinator.link.contest(&host("a")).await;
    let sent = bed.sent();
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a2 unchanged | b2 untouched | paused").await;
    assert_eq!(bed.sent(), sent);
    let why = (Reason::HostConflict, "two machines speak for a".to_owned());
    assert_eq!(coordinator.failure_of(id, "a").await, why);
}

#[tokio::test]
async fn a_name_that_becomes_contested_after_it_passed_is_not_counted_and_fails() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("b"), Manner::Dawdles);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | b2 applying | running").await;
    coordinator.link.contest(&host("a")).await;
    bed.pass(&coordinator, id, 20).await;
    bed.check(&coordinator, id, "a1 unhealthy | b2 applying | paused").await;
    assert_eq!(coordinator.failure_of(id, "a").await.0, Reason::HostConflict);
}

#[tokio::test]
async fn a_person_who_says_which_machine_it_is_in_time_lets_the_host_pass() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 1).await;
    coordinator.link.contest(&host("a")).await;
    bed.pass(&coordinator, id, 5).await;
    bed.check(&coordinator, id, "a1 applied | running").await;
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn another_machine_under_the_name_of_a_host_that_passed_is_taken_as_unknown() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("b"), Manner::Dawdles);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | b2 applying | running").await;
    bed.agents.replaces(&host("a"));
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a9 lost | b2 applying | paused").await;
    assert_eq!(coordinator.failure_of(id, "a").await.0, Reason::HostReplaced);
}

#[tokio::test]
async fn another_machine_is_noticed_by_a_coordinator_that_was_away_meanwhile() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 1).await;
    bed.check(&coordinator, id, "a1 applied | b2 untouched | running").await;
    coordinator.stops().await;
    bed.agents.replaces(&host("a"));
    let after = bed.start().await;
    bed.pass(&after, id, 20).await;
    bed.check(&after, id, "a9 lost | b2 untouched | paused").await;
}

#[tokio::test]
async fn a_store_that_was_put_back_pauses_every_rollback_and_gives_every_checkpoint_up() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    let of = |name: &str| {
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        request.selector.hosts.insert(host(name));
        request
    };
    for name in ["a", "b"] {
        bed.agents.behaves(&host(name), Manner::Dawdles);
    }
    let one = coordinator.operations.create_rollback(of("a"), None).await.expect("it begins");
    let other = coordinator.operations.create_rollback(of("b"), None).await.expect("it begins");
    bed.pass(&coordinator, one, 0).await;
    bed.pass(&coordinator, other, 0).await;
    let text = "c has obeyed generation 99, and the store never gave more than 9".to_owned();
    coordinator.events.send(FleetEvent::StoreRewound(text.clone())).await.expect("somebody listens");
    for id in [one, other] {
        bed.pass(&coordinator, id, 0).await;
        let view = coordinator.view(id).await;
        let machine::Phase::Paused { cause, .. } = &view.rollback().expect("a rollback").phase else {
            panic!("{:?}", view.rollback().map(|rollback| &rollback.phase))
        };
        assert_eq!(*cause, machine::PauseCause::Rewound(text.clone()));
    }
}

#[tokio::test]
async fn a_rollback_in_a_store_that_was_put_back_is_compared_before_anything_is_sent() {
    let mut bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 1).await;
    bed.check(&coordinator, id, "a1 applied | b2 untouched | running").await;
    coordinator.stops().await;
    let copy = bed.copy_of_store().await;
    // The rollback goes on, and is over.
    let coordinator = bed.start().await;
    bed.pass(&coordinator, id, 8).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | SUCCEEDED").await;
    coordinator.stops().await;
    bed.agents.all_leave();
    bed.put_back(copy).await;

    let sent = bed.sent();
    let after = bed.start().await;
    bed.pass(&after, id, 20).await;
    // b has obeyed what this history does not know of.
    bed.check(&after, id, "a1 passed | b1 lost | paused").await;
    assert_eq!(after.failure_of(id, "b").await.0, Reason::StoreRewound);
    assert_eq!(bed.sent(), sent, "nothing is sent");

    // The way back of b is in no history any more, so an undo of everything would succeed and leave it where it is.
    after.person(id, PersonAction::Abort).await.expect("it is paused");
    bed.pass(&after, id, 0).await;
    let mut undo = rollback_request(Source::Undo(id));
    let refused = after.operations.create_rollback(undo.clone(), None).await.expect_err("b is left out");
    let failure = refused.failure("spec");
    assert_eq!(failure.reason, Reason::StoreRewound);
    assert!(failure.message.ends_with("does not know the way back of: b"), "{}", failure.message);
    let next = format!("look at where they are; undo it for the others: rfs rollback undo {id} --host a");
    assert_eq!(failure.next_step(), next);
    undo.selector.hosts.insert(host("a"));
    after.operations.create_rollback(undo, None).await.expect("b is left out on purpose");
}

#[tokio::test]
async fn after_a_restart_no_further_host_is_started_before_all_are_back_that_were_there() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let sizes = vec![Amount::Count(1)];
    let one_by_one = |request: &mut RollbackRequest| {
        request.strategy = Strategy::Gradual(Waves { sizes, ..Waves::default() })
    };
    let id = bed.rollback(&coordinator, one_by_one).await;
    bed.pass(&coordinator, id, 4).await;
    bed.check(&coordinator, id, "a1 passed | b1 applied | c2 untouched | running").await;
    coordinator.stops().await;
    bed.agents.all_leave();

    // What a says may show that this history is an older one, in which c was not changed yet.
    let after = bed.start_alone().await;
    for back in ["b", "c"] {
        after.link.connect(&host(back)).await;
    }
    bed.pass(&after, id, 15).await;
    bed.check(&after, id, "a1 passed | b1 passed | c2 untouched | running").await;
    after.link.connect(&host("a")).await;
    bed.pass(&after, id, 0).await;
    bed.check(&after, id, "a1 passed | b1 passed | c1 applied | running").await;
}

#[tokio::test]
async fn what_a_host_answered_before_it_went_back_does_not_count_in_a_store_that_was_put_back() {
    let mut bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    bed.agents.behaves(&host("b"), Manner::Fails);
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.strategy = Strategy::Immediate;
    request.policy.on_failure = OnFailure::Revert;
    request.policy.gate.max_failed = 1;
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 1).await;
    bed.check(&coordinator, id, "a2 applying | b2 unchanged | running").await;
    coordinator.stops().await;
    let copy = bed.copy_of_store().await;
    // It is at its target, is ill there, and goes back.
    let coordinator = bed.start().await;
    bed.agents.does_it_late(&host("a"));
    bed.agents.is(&host("a"), Health::Bad);
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 20).await;
    bed.check(&coordinator, id, "a2 reverted | b2 unchanged | REVERTED").await;
    coordinator.stops().await;
    bed.agents.all_leave();
    bed.put_back(copy).await;
    let after = bed.start().await;
    bed.pass(&after, id, 20).await;
    bed.check(&after, id, "a2 lost | b2 unchanged | paused").await;
}

#[tokio::test]
async fn only_a_whole_rollback_whose_gates_were_watched_proves_its_checkpoint() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    let run = async |change: fn(&mut RollbackRequest), promote: bool| {
        bed.agents.deploy(2);
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        change(&mut request);
        let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
        bed.pass(&coordinator, id, 0).await;
        if promote {
            let promotion = coordinator.person(id, PersonAction::Promote { wave: None }).await;
            promotion.expect("it runs");
        }
        bed.pass(&coordinator, id, 8).await;
        let view = coordinator.view(id).await;
        let outcome = view.rollback().and_then(|rollback| rollback.outcome());
        assert_eq!(outcome, Some(machine::Outcome::Succeeded));
        coordinator.proves(id).await
    };
    assert_eq!(run(|_| {}, true).await, None, "promoted");
    assert_eq!(run(|request| request.policy.gate.ignore_health = true, false).await, None, "nobody looked");
    let one = |request: &mut RollbackRequest| {
        request.selector.hosts.insert(host("a"));
    };
    assert_eq!(run(one, false).await, None, "not every host");
    assert_eq!(run(|_| {}, false).await, Some(checkpoint));
}

#[tokio::test]
async fn an_ill_host_that_was_promoted_is_said_in_the_outcome() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("a"), Manner::Sickens);
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 1).await;
    coordinator.person(id, PersonAction::Promote { wave: None }).await.expect("it runs");
    bed.pass(&coordinator, id, 1).await;
    bed.check(&coordinator, id, "a1 applied | PARTIAL").await;
    assert_eq!(coordinator.proves(id).await, None);
}

#[tokio::test]
async fn what_is_said_later_of_a_rollback_that_is_over_proves_no_less() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let role = Budget { group_by: Some("role".into()), max_unavailable: Amount::Count(2) };
    let id = bed.rollback(&coordinator, |request| request.policy.budgets = vec![role]).await;
    bed.pass(&coordinator, id, 12).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | SUCCEEDED").await;
    let proven = coordinator.proves(id).await;
    assert!(proven.is_some());
    // A host dies long after, and something repeats an old report.
    coordinator.link.disconnect(&host("a")).await;
    for _ in 0..2 {
        assert!(coordinator.probe(id.into()).await);
        bed.settle(&coordinator, id.into()).await;
    }
    bed.check(&coordinator, id, "a1 passed | b1 passed | SUCCEEDED").await;
    assert_eq!(coordinator.proves(id).await, proven);
    let view = coordinator.view(id).await;
    assert_eq!(view.rollback().and_then(|rollback| rollback.proves()), proven);
}
