//! What people do: pause, resume, promote, abort, undo; and what they see.

use futures_util::StreamExt as _;
use rfs_model::Reason;
use rfs_rollout::{OnFailure, OnUnreachable};

use super::agents::Manner;
use super::*;
use crate::driver::Head;
use crate::driver::fleet::Progress;
use crate::store::{ListQuery, OperationKind};

#[tokio::test]
async fn a_paused_rollback_starts_no_host_until_it_is_resumed() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 1).await;
    coordinator.person(id, PersonAction::Pause).await.expect("it runs");
    // The answer comes after the decision is stored.
    bed.check(&coordinator, id, "a1 applied | b2 untouched | paused").await;
    assert!(coordinator.history(id).await.iter().any(|line| line == "paused: by operator/alice"));
    bed.pass(&coordinator, id, 20).await;
    bed.check(&coordinator, id, "a1 passed | b2 untouched | paused").await;
    coordinator.person(id, PersonAction::Resume).await.expect("it is paused");
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn a_promoted_wave_does_not_wait_for_its_health() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("a"), Manner::Sickens);
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 11).await;
    bed.check(&coordinator, id, "a1 unhealthy | b2 untouched | paused").await;
    coordinator.person(id, PersonAction::Promote { wave: None }).await.expect("it is paused");
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 unhealthy | b1 passed | PARTIAL").await;
}

#[tokio::test]
async fn an_aborted_rollback_stops_hosts_at_work_and_touches_no_other() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("b"), Manner::Dawdles);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | b2 applying | c1 applied | running").await;
    coordinator.person(id, PersonAction::Abort).await.expect("it runs");
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a1 passed | b2 unchanged | c1 applied | ABORTED").await;
    let error = coordinator.person(id, PersonAction::Pause).await.expect_err("it is over");
    assert_eq!(error.to_string(), "cannot pause: it is over (ABORTED)");
}

#[tokio::test]
async fn an_undo_brings_the_changed_hosts_back_to_what_they_were_before() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("c"), Manner::Fails);
    let id = bed.rollback_over_failure(&coordinator).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c2 unchanged | PARTIAL").await;
    let undo = rollback_request(Source::Undo(id));
    let undo = coordinator.operations.create_rollback(undo, None).await.expect("it has backups");
    bed.pass(&coordinator, undo, 8).await;
    bed.check(&coordinator, undo, "a2 passed | b2 passed | SUCCEEDED").await;
    // The undo can be undone, too.
    let again = rollback_request(Source::Undo(undo));
    let again = coordinator.operations.create_rollback(again, None).await.expect("it has backups");
    bed.pass(&coordinator, again, 8).await;
    bed.check(&coordinator, again, "a1 passed | b1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn an_undo_leaves_no_host_on_its_way_to_what_is_undone() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback_without_a(&coordinator).await;
    let undo = rollback_request(Source::Undo(id));
    let undo = coordinator.operations.create_rollback(undo, None).await.expect("it has a backup");
    assert_eq!(coordinator.history(id).await.last(), Some(&format!("undone by rollback {undo}")));
    bed.pass(&coordinator, undo, 4).await;
    bed.check(&coordinator, undo, "b2 passed | SUCCEEDED").await;
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 8).await;
    bed.check(&coordinator, id, "a2 superseded | b2 passed | PARTIAL").await;
    // Nor does it begin again when the coordinator does.
    coordinator.stops().await;
    let coordinator = bed.start().await;
    bed.pass(&coordinator, id, 8).await;
    bed.check(&coordinator, id, "a2 superseded | b2 passed | PARTIAL").await;
}

#[tokio::test]
async fn a_rollback_is_not_undone_while_a_host_that_was_left_out_comes_in_line() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback_without_a(&coordinator).await;
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a2 applying | b1 passed | PARTIAL").await;
    let before = coordinator.history(id).await;
    let undo = || coordinator.operations.create_rollback(rollback_request(Source::Undo(id)), None);
    let failure = undo().await.expect_err("a is at work").failure("");
    assert_eq!(
        (failure.reason, failure.message.as_str(), failure.next_step()),
        (
            Reason::HostBusy,
            format!("rollback {id} is over, but it is bringing a in line, which it had left out").as_str(),
            format!("wait until the host has answered, then undo again: rfs rollback show {id}").as_str(),
        )
    );
    assert_eq!(coordinator.history(id).await, before);
    // Its deadline passes; it is heard no more, and the others can be brought back.
    coordinator.link.disconnect(&host("a")).await;
    for _ in 0..40 {
        bed.pass(&coordinator, id, 10).await;
    }
    bed.check(&coordinator, id, "a2 lost | b1 passed | PARTIAL").await;
    let undo = undo().await.expect("nothing is at work");
    bed.pass(&coordinator, undo, 4).await;
    bed.check(&coordinator, undo, "b2 passed | SUCCEEDED").await;
}

impl Bed {
    /// A rollback that left `a` out, and is over.
    pub(super) async fn rollback_without_a(&self, coordinator: &Coordinator) -> RollbackId {
        let checkpoint = self.checkpoint(coordinator).await;
        self.agents.deploy(2);
        coordinator.link.disconnect(&host("a")).await;
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        request.policy.on_unreachable = OnUnreachable::Skip;
        without_canary(&mut request);
        let id = coordinator.operations.create_rollback(request, None).await.expect("a rollback begins");
        self.pass(coordinator, id, 9).await;
        self.check(coordinator, id, "a2 skipped | b1 passed | PARTIAL").await;
        id
    }

    async fn rollback_over_failure(&self, coordinator: &Coordinator) -> RollbackId {
        self.agents.behaves(&host("c"), Manner::Well);
        let checkpoint = self.checkpoint(coordinator).await;
        self.agents.deploy(2);
        self.agents.behaves(&host("c"), Manner::Fails);
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        request.policy.on_failure = OnFailure::Continue;
        let id = coordinator.operations.create_rollback(request, None).await.expect("a rollback begins");
        self.pass(coordinator, id, 8).await;
        id
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 0).await;
    let undo = coordinator.operations.create_rollback(rollback_request(Source::Undo(id)), None).await;
    assert_eq!(undo.expect_err("it runs").to_string(), format!("rollback {id} still runs"));
    coordinator.person(id, PersonAction::Abort).await.expect("it runs");
    let before = coordinator.history(id).await.len();
    let error = coordinator.person(id, PersonAction::Resume).await.expect_err("it is over");
    assert_eq!(error.to_string(), "cannot resume: it is over (ABORTED)");
    assert_eq!(coordinator.history(id).await.len(), before);
    let unknown: OperationId = "0193b5a0-0000-7000-8000-000000000009".parse().expect("an id");
    let error = coordinator.person(unknown, PersonAction::Pause).await.expect_err("unknown");
    assert_eq!(error.to_string(), format!("there is no operation {unknown}"));
}

#[tokio::test]
async fn a_watcher_sees_the_present_first_then_changes_and_last_the_outcome() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 0).await;
    let watching = coordinator.operations.watch(id.into()).await.expect("the store answers");
    let mut watching = Box::pin(watching.expect("there is such a rollback"));
    let first = watching.next().await.expect("the present");
    assert!(!first.operation.finished());
    // The watcher is slow: everything happens before it looks again.
    bed.pass(&coordinator, id, 6).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | SUCCEEDED").await;
    let rest: Vec<View> = watching.collect().await;
    assert_eq!(rest.len(), 1, "views that were missed are not kept");
    assert!(rest[0].operation.finished());

    let over = coordinator.operations.watch(id.into()).await.expect("the store answers");
    let views: Vec<View> = Box::pin(over.expect("there is such a rollback")).collect().await;
    assert_eq!(views.len(), 1, "an operation that is over is shown once");
}

#[tokio::test]
async fn how_far_a_host_is_is_shown_while_it_is_at_work() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 0).await;
    let watching = coordinator.operations.watch(id.into()).await.expect("the store answers");
    let mut watching = Box::pin(watching.expect("there is such a rollback"));
    watching.next().await.expect("the present");
    let progress = Progress {
        host: host("a"),
        operation: id.into(),
        phase: "stage".into(),
        steps_done: 3,
        steps_total: 9,
    };
    coordinator.events.send(FleetEvent::Progress(progress)).await.expect("somebody listens");
    let shown = watching.next().await.expect("the progress").progress;
    assert_eq!(shown.get(&host("a")).map(|progress| progress.phase.as_str()), Some("stage"));
    coordinator.person(id, PersonAction::Abort).await.expect("it runs");
    bed.pass(&coordinator, id, 0).await;
    assert!(coordinator.view(id).await.progress.is_empty(), "it is at work no more");
}

#[tokio::test]
async fn lists_show_the_newest_first_with_where_each_stands() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 3).await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    let of = |kind| ListQuery { kind, deployment: None, limit: 10, after: None };
    let list = coordinator.operations.list(of(OperationKind::Checkpoint)).await.expect("the store answers");
    assert_eq!((list.items.len(), list.items[0].id), (2, checkpoint.into()));
    let list = coordinator.operations.list(of(OperationKind::Rollback)).await.expect("the store answers");
    let Head::Rollback(head) = &list.items[0].head else { panic!("a rollback has the head of one") };
    let machine::Phase::Finished { outcome, .. } = &head.phase else { panic!("it is over") };
    assert_eq!((*outcome, head.hosts), (machine::Outcome::Succeeded, 1));
    assert_eq!(head.request.reason, "release 2 is bad");
}

#[tokio::test]
async fn a_page_of_events_costs_its_own_length_however_long_the_history_is() {
    let bed = Bed::of(8).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 60).await;
    let history = coordinator.history(id).await;
    assert!(history.len() > 40 && history.iter().any(|line| line == "SUCCEEDED"), "{history:#?}");
    let before = coordinator.store.events_read();
    let mut pages = Vec::new();
    for from in (0..history.len() as u64).step_by(10) {
        let page = coordinator.operations.rollback_events(id, Position(from), 10).await.expect("a page");
        pages.extend(page.into_iter().map(|stored| stored.event.to_string()));
    }
    assert_eq!(pages, history);
    assert_eq!(coordinator.store.events_read() - before, history.len(), "each event is read once");

    let checkpoint = bed.checkpoint(&coordinator).await;
    let error =
        coordinator.operations.rollback_events(RollbackId::from_uuid(checkpoint.as_uuid()), Position(0), 10);
    let error = error.await.expect_err("a checkpoint's history is none of a rollback");
    assert_eq!(error.to_string(), format!("there is no rollback {checkpoint}"));
}
