//! Two coordinators over one store: one wins each append, and nothing takes effect twice.

use super::agents::Manner;
use super::*;

#[tokio::test]
async fn of_two_drivers_one_goes_on_and_nothing_takes_effect_twice() {
    let bed = Bed::of(4).await;
    let one = bed.start().await;
    let id = bed.rollback(&one, |_| {}).await;
    // It finds the operation open, and every host in reach.
    let other = bed.start_alone().await;
    for _ in 0..40 {
        bed.clock.advance(Duration::from_secs(1));
        for host in bed.agents.arrives().iter().chain(&bed.hosts) {
            one.link.changed(host).await;
            other.link.changed(host).await;
        }
        bed.settle(&one, id.into()).await;
        bed.settle(&other, id.into()).await;
    }
    for coordinator in [&one, &other] {
        bed.check(coordinator, id, "a1 passed | b1 passed | c1 passed | d1 passed | SUCCEEDED").await;
    }
    let started =
        one.history(id).await.iter().filter(|line| line.contains("told to go to its target")).count();
    assert_eq!(started, 4);
}

#[tokio::test]
async fn a_person_is_answered_by_either_of_two_drivers() {
    let bed = Bed::of(2).await;
    let one = bed.start().await;
    let id = bed.rollback(&one, |_| {}).await;
    bed.settle(&one, id.into()).await;
    let other = bed.start_alone().await;
    bed.settle(&other, id.into()).await;
    one.person(id, PersonAction::Pause).await.expect("it runs");
    // What this one knows is older than the history; it decides on what is there.
    other.person(id, PersonAction::Resume).await.expect("it is paused");
    one.person(id, PersonAction::Abort).await.expect("it runs");
    let error = other.person(id, PersonAction::Promote { wave: None }).await.expect_err("it is over");
    assert_eq!(error.to_string(), "cannot promote: it is over (ABORTED)");
    let people: Vec<String> =
        one.history(id).await.into_iter().filter(|line| line.contains("alice")).collect();
    assert_eq!(
        people[1..4],
        ["paused: by operator/alice", "resumed by operator/alice", "aborted by operator/alice"]
    );
}

#[tokio::test]
async fn a_driver_that_stood_by_goes_on_once_the_other_one_rests() {
    let bed = Bed::of(3).await;
    let one = bed.start().await;
    let id = bed.rollback(&one, |_| {}).await;
    bed.settle(&one, id.into()).await;
    let other = bed.start_alone().await;
    bed.settle(&other, id.into()).await;
    one.person(id, PersonAction::Pause).await.expect("it runs");
    other.person(id, PersonAction::Resume).await.expect("it is paused");
    // The other one met this one's append, and stands by; then this one is gone.
    one.stops().await;
    for _ in 0..20 {
        bed.pass(&other, id, 2).await;
    }
    bed.check(&other, id, "a1 passed | b1 passed | c1 passed | SUCCEEDED").await;
}

#[tokio::test]
async fn each_of_two_coordinators_tells_its_hosts_of_a_checkpoint_that_either_completes() {
    let bed = Bed::of(2).await;
    let one = bed.start().await;
    bed.agents.behaves(&host("b"), Manner::Dawdles);
    let id = bed.checkpoint(&one).await;
    let other = bed.start_alone().await;
    bed.settle(&other, id.into()).await;
    one.link.report(bed.agents.does_it_late(&host("b")));
    for _ in 0..15 {
        bed.clock.advance(Duration::from_secs(1));
        for coordinator in [&one, &other] {
            bed.settle(coordinator, id.into()).await;
        }
    }
    assert!(one.history(id).await.iter().any(|line| line.contains("COMPLETE")));
    assert_eq!((one.link.completed(), other.link.completed()), (1, 1));
}
