//! The coordinator dies, the store fails: nothing is lost, and nothing takes effect twice.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use rfs_rollout::OnFailure;
use rfs_rollout::checkpoint::Outcome;

use super::agents::Manner;
use super::faults::Fault;
use super::*;

/// Lets the coordinator die at each append of a whole story, one after the other, until the story ends before the next
/// death. After each death another coordinator starts on the same store, and every agent connects to it.
async fn check_deaths(fault: Fault, expected: &str, story: fn(&mut RollbackRequest), sick: Option<&str>) {
    let mut deaths = 0;
    loop {
        let bed = Bed::of(4).await;
        let coordinator = bed.start().await;
        let checkpoint = bed.checkpoint(&coordinator).await;
        bed.agents.deploy(2);
        if let Some(sick) = sick {
            bed.agents.behaves(&host(sick), Manner::Sickens);
        }
        let mut request = rollback_request(Source::Checkpoint(checkpoint));
        story(&mut request);
        coordinator.store.after(deaths, fault);
        let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
        bed.pass(&coordinator, id, 30).await;
        let died = !coordinator.store.armed();
        let after = if died {
            // What it was doing stands still for ever.
            coordinator.stop.cancel();
            let after = bed.start().await;
            bed.pass(&after, id, 40).await;
            after
        } else {
            coordinator
        };
        bed.check(&after, id, expected).await;
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths >= 6, "only {deaths} appends were there to die at");
}

#[tokio::test]
async fn a_coordinator_that_dies_before_any_append_is_followed_by_one_that_finishes() {
    let expected = "a1 passed | b1 passed | c1 passed | d1 passed | SUCCEEDED";
    check_deaths(Fault::DiesBefore, expected, |_| {}, None).await;
}

#[tokio::test]
async fn a_coordinator_that_dies_after_any_append_is_followed_by_one_that_finishes() {
    let expected = "a1 passed | b1 passed | c1 passed | d1 passed | SUCCEEDED";
    check_deaths(Fault::DiesAfter, expected, |_| {}, None).await;
}

#[tokio::test]
async fn a_coordinator_that_dies_on_the_way_back_is_followed_by_one_that_goes_all_the_way() {
    let expected = "a2 reverted | b2 reverted | c2 reverted | d2 untouched | REVERTED";
    let back = |request: &mut RollbackRequest| request.policy.on_failure = OnFailure::Revert;
    check_deaths(Fault::DiesAfter, expected, back, Some("c")).await;
}

#[tokio::test]
async fn a_checkpoint_survives_the_death_of_its_coordinator() {
    for deaths in 0..3 {
        let bed = Bed::of(3).await;
        let coordinator = bed.start().await;
        coordinator.store.after(deaths, Fault::DiesAfter);
        let id = coordinator.operations.create_checkpoint(checkpoint_request(), None).await;
        let id = id.expect("it begins");
        bed.pass(&coordinator, id, 0).await;
        assert!(!coordinator.store.armed(), "it died");
        coordinator.stop.cancel();
        let after = bed.start().await;
        bed.pass(&after, id, 0).await;
        let view = after.view(id).await;
        assert_eq!(view.checkpoint().and_then(|checkpoint| checkpoint.outcome()), Some(Outcome::Complete));
        assert_eq!(bed.agents.repeated(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn deadlines_run_while_no_coordinator_does() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("a"), Manner::Sickens);
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 1).await;
    bed.check(&coordinator, id, "a1 applied | b2 untouched | running").await;
    coordinator.stops().await;
    bed.clock.advance(Duration::from_secs(60));
    let after = bed.start().await;
    // The host is given the time to be heard, no new deadline.
    bed.pass(&after, id, 5).await;
    bed.check(&after, id, "a1 unhealthy | b2 untouched | paused").await;
}

#[tokio::test]
async fn a_store_that_fails_holds_the_operation_still_and_loses_nothing() {
    for fault in [Fault::Fails, Fault::AnswerLost] {
        let bed = Bed::of(3).await;
        let coordinator = bed.start().await;
        let checkpoint = bed.checkpoint(&coordinator).await;
        bed.agents.deploy(2);
        for _ in 0..12 {
            coordinator.store.after(0, fault);
            coordinator.store.after(1, fault);
        }
        let request = rollback_request(Source::Checkpoint(checkpoint));
        let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
        bed.pass(&coordinator, id, 8).await;
        bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | SUCCEEDED").await;
        // Each with its time. A host may be well more than once, also at one moment if nobody listened in between.
        let stored = coordinator.store.events(id.into(), Position(0), 10_000).await.expect("a read");
        let history: Vec<&str> = stored
            .iter()
            .map(|stored| stored.json.as_str())
            .filter(|event| !event.contains("health_changed"))
            .collect();
        let once: BTreeSet<&str> = history.iter().copied().collect();
        assert_eq!(once.len(), history.len(), "no event is there twice: {history:#?}");
    }
}

#[tokio::test]
async fn a_report_of_an_operation_that_is_over_or_unknown_is_acknowledged() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    let unknown: OperationId = "0193b5a0-0000-7000-8000-000000000009".parse().expect("an id");
    assert!(coordinator.probe(checkpoint.into()).await);
    assert!(coordinator.probe(unknown).await);
}

#[tokio::test]
async fn a_host_that_was_given_up_is_taken_as_it_stands_when_it_is_heard_after_the_end() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.policy.on_failure = OnFailure::Continue;
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 40).await;
    bed.check(&coordinator, id, "a2 lost | b1 passed | PARTIAL").await;
    let report = bed.agents.does_it_late(&host("a"));
    let (stored, told) = oneshot::channel();
    let late = FleetEvent::Report { report, stored };
    coordinator.events.send(late).await.expect("somebody listens");
    told.await.expect("it is acknowledged");
    bed.check(&coordinator, id, "a1 applied | b1 passed | PARTIAL").await;
}

#[tokio::test]
async fn a_stop_waits_for_what_is_being_stored_and_the_next_start_goes_on() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    let operations = coordinator.operations.clone();
    coordinator.stops().await;
    let refused = operations.create_checkpoint(checkpoint_request(), None).await;
    assert_eq!(refused.expect_err("it has stopped").to_string(), "the coordinator is stopping");
    let after = bed.start().await;
    bed.pass(&after, id, 6).await;
    bed.check(&after, id, "a1 passed | b1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn a_driver_that_fails_is_followed_by_one_that_goes_on() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 1).await;
    coordinator.link.fails_once();
    coordinator.link.changed(&host("a")).await;
    // What was said while it failed is not acknowledged; what is said to the one that follows is.
    while !coordinator.probe(id.into()).await {}
    bed.pass(&coordinator, id, 5).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn a_deadline_far_off_is_met_by_a_clock_that_jumps() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("a"), Manner::Sickens);
    let id = bed.rollback(&coordinator, |request| {
        request.policy.gate.healthy_deadline = Duration::from_secs(3600);
        request.policy.on_failure = OnFailure::Continue;
    });
    let id = id.await;
    bed.pass(&coordinator, id, 0).await;
    let watching = coordinator.operations.watch(id.into()).await.expect("the store answers");
    bed.clock.advance(Duration::from_secs(3601));
    // Nobody tells the driver; it sees it by itself.
    let last = watching.expect("there is such a rollback").collect::<Vec<View>>().await.pop();
    assert!(last.is_some_and(|view| view.operation.finished()));
    bed.check(&coordinator, id, "a1 unhealthy | PARTIAL").await;
}

#[tokio::test]
async fn nobody_is_answered_before_it_is_stored() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 0).await;

    coordinator.store.after(0, Fault::DiesBefore);
    let report = bed.agents.does_it_late(&host("a"));
    let (stored, mut told) = oneshot::channel();
    coordinator.events.send(FleetEvent::Report { report, stored }).await.expect("somebody listens");
    coordinator.store.dead().await;
    assert!(told.try_recv().is_err(), "the report is not stored");
    coordinator.stop.cancel();

    let after = bed.start().await;
    bed.settle(&after, id.into()).await;
    after.store.after(0, Fault::DiesBefore);
    tokio::select! {
        biased;
        answer = after.person(id, PersonAction::Pause) => panic!("answered {answer:?}, and nothing is stored"),
        () = after.store.dead() => {}
    }
    assert!(!after.history(id).await.iter().any(|line| line.starts_with("paused")));
}
