//! An undo in one act: of a rollback that runs, of one that changed no host, of one that is not the last.

use std::collections::BTreeSet;

use rfs_model::Reason;
use rfs_rollout::{OnFailure, OnUnreachable};

use super::agents::Manner;
use super::faults::Fault;
use super::*;
use crate::driver::{ENDING, Later, Undoable};

impl Coordinator {
    async fn end_for_undo(&self, id: RollbackId, hosts: &[&str]) -> Result<Undoable, OperationError> {
        let hosts: BTreeSet<HostId> = hosts.iter().map(|name| host(name)).collect();
        let selector = Selector { hosts, ..Selector::default() };
        self.operations.end_for_undo(id, &selector, "operator/alice", ENDING).await
    }

    async fn undo(&self, id: RollbackId, over_later: bool) -> Result<RollbackId, OperationError> {
        let request_id = Some("undo-7".parse().expect("a request id"));
        self.operations.create_undo(rollback_request(Source::Undo(id)), request_id, over_later).await
    }

    async fn later(&self, id: RollbackId) -> Vec<Later> {
        let request = rollback_request(Source::Undo(id));
        self.operations.plan_rollback(&request).await.expect("it can be planned").later
    }
}

impl Bed {
    /// Three hosts: one has passed, one says nothing, one is at its target.
    async fn in_the_middle(&self, coordinator: &Coordinator) -> RollbackId {
        let id = self.in_the_middle_of(coordinator, &[]).await;
        self.check(coordinator, id, "a1 passed | b2 applying | c1 applied | running").await;
        id
    }

    async fn in_the_middle_of(&self, coordinator: &Coordinator, hosts: &[&str]) -> RollbackId {
        let checkpoint = self.checkpoint(coordinator).await;
        self.agents.deploy(2);
        self.agents.behaves(&host("b"), Manner::Dawdles);
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        request.selector.hosts = hosts.iter().map(|name| host(name)).collect();
        let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
        self.pass(coordinator, id, 3).await;
        id
    }

    /// A rollback that left out every host.
    async fn of_nobody(&self, coordinator: &Coordinator) -> RollbackId {
        let checkpoint = self.checkpoint(coordinator).await;
        self.agents.deploy(2);
        for host in &self.hosts {
            coordinator.link.disconnect(host).await;
        }
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        request.policy.on_unreachable = OnUnreachable::Skip;
        without_canary(&mut request);
        let id = coordinator.operations.create_rollback(request, None).await.expect("a rollback begins");
        self.pass(coordinator, id, 20).await;
        self.check(coordinator, id, "a2 skipped | b2 skipped | PARTIAL").await;
        id
    }

    /// A checkpoint of what runs, then another release everywhere, then a rollback of the hosts to the checkpoint.
    async fn release_and_roll_back(
        &self,
        coordinator: &Coordinator,
        release: u8,
        hosts: &[&str],
        change: impl FnOnce(&mut RollbackRequest),
    ) -> RollbackId {
        let checkpoint = self.checkpoint(coordinator).await;
        self.agents.deploy(release);
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        request.selector.hosts = hosts.iter().map(|name| host(name)).collect();
        change(&mut request);
        let id = coordinator.operations.create_rollback(request, None).await.expect("a rollback begins");
        self.pass(coordinator, id, 12).await;
        let view = coordinator.view(id).await;
        let outcome = view.rollback().and_then(|rollback| rollback.outcome());
        assert_eq!(outcome, Some(machine::Outcome::Succeeded));
        id
    }
}

#[tokio::test]
async fn a_rollback_that_runs_is_ended_and_undone_in_one_act() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let id = bed.in_the_middle(&coordinator).await;
    assert_eq!(coordinator.end_for_undo(id, &[]).await.expect("it ends"), Undoable::Changed { ended: true });
    bed.check(&coordinator, id, "a1 passed | b2 unchanged | c1 applied | ABORTED").await;
    let undo = coordinator.undo(id, false).await.expect("two hosts are changed");
    // The answer was lost, and the same is asked again.
    assert_eq!(
        coordinator.end_for_undo(id, &[]).await.expect("it is over"),
        Undoable::Changed { ended: false }
    );
    assert_eq!(coordinator.undo(id, false).await.expect("it is the same"), undo);
    bed.pass(&coordinator, undo, 8).await;
    bed.check(&coordinator, undo, "a2 passed | c2 passed | SUCCEEDED").await;
    assert_eq!(
        coordinator.end_for_undo(id, &[]).await.expect("it is over"),
        Undoable::Changed { ended: false }
    );
    assert_eq!(coordinator.undo(id, false).await.expect("it is the same"), undo);
}

#[tokio::test]
async fn an_undo_that_would_be_refused_ends_nothing() {
    let bed = Bed::of(4).await;
    let coordinator = bed.start().await;
    let elsewhere = bed.release_and_roll_back(&coordinator, 2, &["d"], without_canary).await;
    let id = bed.in_the_middle_of(&coordinator, &["a", "b", "c"]).await;
    let check = async |change: &dyn Fn(&mut RollbackRequest)| {
        let mut request = rollback_request(Source::Undo(id));
        change(&mut request);
        coordinator.operations.check_undo(&request, None, false).await
    };
    for wrong in ["e", "d"] {
        let names = |request: &mut RollbackRequest| request.selector.hosts = [host(wrong)].into();
        let refused = check(&names).await;
        assert!(matches!(refused, Err(OperationError::Plan(_))), "{wrong} is no host of it: {refused:?}");
    }
    let label = |request: &mut RollbackRequest| {
        request.selector.labels.insert("zonee".to_owned(), "north".to_owned());
    };
    assert!(check(&label).await.is_err(), "no host of it has that label");
    // b is not changed yet, which is for the end of it to say.
    for fine in [&["a"][..], &["b"], &["a", "b"], &[]] {
        let names = |request: &mut RollbackRequest| {
            request.selector.hosts = fine.iter().map(|name| host(name)).collect();
        };
        assert_eq!(check(&names).await.expect("it can be undone"), None, "{fine:?}");
    }
    bed.check(&coordinator, id, "a2 passed | b2 applying | c2 applied | running").await;

    // A later rollback changed the same host, and nobody said that this is meant.
    let source = coordinator.view(elsewhere).await.rollback().expect("a rollback").request.source;
    let mut request = rollback_request(source);
    without_canary(&mut request);
    request.selector.hosts = [host("d")].into();
    let over = coordinator.operations.create_rollback(request, None).await.expect("d is free");
    bed.pass(&coordinator, over, 12).await;
    let request = rollback_request(Source::Undo(elsewhere));
    let refused = coordinator.operations.check_undo(&request, None, false).await;
    assert!(matches!(refused, Err(OperationError::ChangedLater { .. })), "{refused:?}");
    assert_eq!(coordinator.operations.check_undo(&request, None, true).await.expect("it is meant"), None);
}

#[tokio::test]
async fn a_coordinator_that_dies_within_an_undo_leaves_a_rollback_that_was_aborted() {
    for fault in [Fault::DiesBefore, Fault::DiesAfter] {
        let bed = Bed::of(3).await;
        let coordinator = bed.start().await;
        let id = bed.in_the_middle(&coordinator).await;
        coordinator.store.after(0, fault);
        tokio::select! {
            ended = coordinator.end_for_undo(id, &[]) => panic!("it is dead: {ended:?}"),
            () = coordinator.store.dead() => {}
        }
        coordinator.stop.cancel();
        let coordinator = bed.start().await;
        bed.pass(&coordinator, id, 0).await;
        if fault == Fault::DiesAfter {
            bed.check(&coordinator, id, "a1 passed | b2 unchanged | c1 applied | ABORTED").await;
        }
        assert!(matches!(coordinator.end_for_undo(id, &[]).await, Ok(Undoable::Changed { .. })), "{fault:?}");
        bed.check(&coordinator, id, "a1 passed | b2 unchanged | c1 applied | ABORTED").await;
        let undo = coordinator.undo(id, false).await.expect("two hosts are changed");
        bed.pass(&coordinator, undo, 8).await;
        bed.check(&coordinator, undo, "a2 passed | c2 passed | SUCCEEDED").await;
    }
}

#[tokio::test]
async fn an_undo_does_not_wait_for_ever_for_a_host_that_is_at_work() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let id = bed.in_the_middle(&coordinator).await;
    coordinator.link.disconnect(&host("b")).await;
    let everybody = Selector::default();
    let ended = coordinator.operations.end_for_undo(id, &everybody, "operator/alice", Duration::ZERO).await;
    let failure = ended.expect_err("b is away").failure("");
    assert_eq!(
        (failure.reason, failure.message.as_str(), failure.next_step()),
        (
            Reason::HostBusy,
            format!("rollback {id} is being ended, and b has not answered yet; it is not undone").as_str(),
            format!("watch it end: rfs rollback watch {id}; then undo it again: rfs rollback undo {id}")
                .as_str(),
        )
    );
    bed.pass(&coordinator, id, 60).await;
    bed.check(&coordinator, id, "a1 passed | b2 lost | c1 applied | ABORTED").await;
    let undo = coordinator.undo(id, false).await.expect("two hosts are changed");
    bed.pass(&coordinator, undo, 8).await;
    bed.check(&coordinator, undo, "a2 passed | c2 passed | SUCCEEDED").await;

    // Nobody knows where b stands: that is said, and nothing is told of it that is not so.
    let view = coordinator.view(undo).await;
    let left_out = &view.rollback().expect("a rollback").plan.left_out;
    assert!(left_out[&host("b")].contains("it is not known where that has led"), "{left_out:?}");
    let ended = coordinator.end_for_undo(id, &["b"]).await.expect("it is over");
    assert_eq!(ended, Undoable::Changed { ended: false });
    let mut request = rollback_request(Source::Undo(id));
    request.selector.hosts = [host("b")].into();
    let refused = coordinator.operations.create_undo(request.clone(), None, false).await;
    assert!(matches!(refused, Err(OperationError::Astray { .. })), "{refused:?}");
    let refused = coordinator.operations.check_undo(&request, None, false).await;
    assert!(matches!(refused, Err(OperationError::Astray { .. })), "{refused:?}");
    let undone = &coordinator.view(id).await;
    assert!(!undone.rollback().expect("a rollback").undone.contains_key(&host("b")));
}

#[tokio::test]
async fn an_undo_where_no_host_was_changed_withdraws_those_that_wait() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.of_nobody(&coordinator).await;
    for _ in 0..2 {
        assert_eq!(coordinator.end_for_undo(id, &["a"]).await.expect("a waits"), Undoable::Unchanged);
        bed.check(&coordinator, id, "a2 superseded | b2 skipped | PARTIAL").await;
    }
    let history = coordinator.history(id).await;
    let withdrawn = "not waited for any more: a: operator/alice";
    assert_eq!(history.iter().filter(|event| *event == withdrawn).count(), 1, "{history:?}");
    for _ in 0..2 {
        assert_eq!(coordinator.end_for_undo(id, &[]).await.expect("b waits"), Undoable::Unchanged);
        bed.check(&coordinator, id, "a2 superseded | b2 superseded | PARTIAL").await;
    }
    coordinator.link.connect(&host("a")).await;
    coordinator.link.connect(&host("b")).await;
    bed.pass(&coordinator, id, 5).await;
    bed.check(&coordinator, id, "a2 superseded | b2 superseded | PARTIAL").await;
}

#[tokio::test]
async fn an_undo_of_a_rollback_that_had_no_time_to_change_a_host_ends_it() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 1).await;
    for _ in 0..2 {
        assert_eq!(coordinator.end_for_undo(id, &[]).await.expect("it ends"), Undoable::Unchanged);
        bed.check(&coordinator, id, "a2 unchanged | ABORTED").await;
    }
}

#[tokio::test]
async fn where_nothing_was_changed_and_nobody_waits_there_is_nothing_to_undo() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Fails);
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.policy.on_failure = OnFailure::Continue;
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a2 unchanged | PARTIAL").await;
    let error = coordinator.end_for_undo(id, &[]).await.expect_err("nothing was changed");
    assert_eq!(
        error.to_string(),
        format!("rollback {id} has left no host changed, so there is nothing to undo")
    );
}

#[tokio::test]
async fn a_host_that_comes_in_line_after_the_end_is_stopped_by_an_undo() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback_without_a(&coordinator).await;
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a2 applying | b1 passed | PARTIAL").await;
    assert_eq!(coordinator.end_for_undo(id, &[]).await.expect("it ends"), Undoable::Changed { ended: true });
    bed.check(&coordinator, id, "a2 unchanged | b1 passed | PARTIAL").await;
    let undo = coordinator.undo(id, false).await.expect("b is changed");
    bed.pass(&coordinator, undo, 4).await;
    bed.check(&coordinator, undo, "b2 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn an_undo_of_some_hosts_does_not_wait_for_another_one_that_comes_in_line() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback_without_a(&coordinator).await;
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 0).await;
    let ended = coordinator.end_for_undo(id, &["b"]).await.expect("b is not at work");
    assert_eq!(ended, Undoable::Changed { ended: false });
    bed.check(&coordinator, id, "a2 applying | b1 passed | PARTIAL").await;
    let mut request = rollback_request(Source::Undo(id));
    request.selector.hosts = [host("b")].into();
    let undo = coordinator.operations.create_undo(request, None, false).await.expect("b is changed");
    bed.pass(&coordinator, undo, 4).await;
    bed.check(&coordinator, undo, "b2 passed | SUCCEEDED").await;
    assert_eq!(coordinator.view(id).await.rollback().expect("one").undone, [(host("b"), undo)].into());

    let error = coordinator.undo(id, false).await.expect_err("a is at work");
    assert!(matches!(error, OperationError::StillAtWork { .. }), "{error}");
}

#[tokio::test]
async fn an_undo_of_a_host_that_another_operation_owns_ends_nothing() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback_without_a(&coordinator).await;
    bed.agents.behaves(&host("b"), Manner::Dawdles);
    let mut request = checkpoint_request();
    request.selector.hosts = [host("b")].into();
    coordinator.operations.create_checkpoint(request, None).await.expect("b is free");
    let request = rollback_request(Source::Undo(id));
    let refused = coordinator.operations.check_undo(&request, None, false).await;
    assert!(matches!(refused, Err(OperationError::HostBusy { .. })), "{refused:?}");
    bed.check(&coordinator, id, "a2 skipped | b1 passed | PARTIAL").await;
}

#[tokio::test]
async fn an_undo_over_a_later_rollback_names_it_and_must_be_meant() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let first = bed.release_and_roll_back(&coordinator, 2, &[], |_| {}).await;
    assert_eq!(coordinator.later(first).await, []);
    let second = bed.release_and_roll_back(&coordinator, 3, &["a", "c"], |_| {}).await;
    let hosts = BTreeSet::from([host("a"), host("c")]);
    assert_eq!(coordinator.later(first).await, [Later { rollback: second, hosts }]);
    let failure = coordinator.undo(first, false).await.expect_err("it is not the last").failure("");
    assert_eq!(
        (failure.reason, failure.message.as_str(), failure.next_step()),
        (
            Reason::ChangedLater,
            format!("an undo of rollback {first} takes away what was done after it: rollback {second} changed a, c").as_str(),
            format!(
                "undo the newest first: rfs rollback undo {second}; or take all of it away (over_later): rfs rollback \
                 undo {first} --yes"
            )
            .as_str(),
        )
    );
    let undo = coordinator.undo(first, true).await.expect("it is meant");
    // The same request finds the same undo, although that changed the same hosts later.
    assert_eq!(coordinator.undo(first, false).await.expect("it is the same"), undo);
    bed.pass(&coordinator, undo, 12).await;
    bed.check(&coordinator, undo, "a2 passed | b2 passed | c2 passed | SUCCEEDED").await;
    // What is undone already is undone again without a question.
    assert_eq!(coordinator.later(first).await, []);
}

#[tokio::test]
async fn rollbacks_that_are_undone_newest_first_ask_nothing() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let first = bed.release_and_roll_back(&coordinator, 2, &[], |_| {}).await;
    let second = bed.release_and_roll_back(&coordinator, 3, &[], |_| {}).await;
    let third = bed.release_and_roll_back(&coordinator, 4, &["b"], |_| {}).await;
    let undo = async |id| {
        let undo = coordinator.operations.create_undo(rollback_request(Source::Undo(id)), None, false).await;
        let undo = undo.expect("it is the last one that counts");
        bed.pass(&coordinator, undo, 12).await;
        undo
    };
    let of = |later: Vec<Later>| later.into_iter().map(|later| later.rollback).collect::<Vec<_>>();
    assert_eq!(of(coordinator.later(first).await), [third, second]);
    let back = undo(third).await;
    assert_eq!(of(coordinator.later(first).await), [second]);
    // The undo of an undo: what that had taken away counts again.
    undo(back).await;
    assert_eq!(of(coordinator.later(first).await), [third, second]);
    undo(third).await;
    undo(second).await;
    assert_eq!(of(coordinator.later(first).await), []);
    assert_eq!(of(coordinator.later(third).await).len(), 1, "the undo of an older one counts");
}

#[tokio::test]
async fn a_later_rollback_of_other_components_does_not_count() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let only = |name: &'static str| {
        move |request: &mut RollbackRequest| {
            request.selection.components = BTreeSet::from([name.parse().expect("a name")]);
        }
    };
    let first = bed.release_and_roll_back(&coordinator, 2, &[], only("site")).await;
    bed.release_and_roll_back(&coordinator, 3, &[], only("database")).await;
    assert_eq!(coordinator.later(first).await, []);
    let last = bed.release_and_roll_back(&coordinator, 4, &[], only("site")).await;
    assert_eq!(
        coordinator.later(first).await,
        [Later { rollback: last, hosts: BTreeSet::from([host("a")]) }]
    );
}
