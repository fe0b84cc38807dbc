//! Hosts that are tried again, and those that come back after the end.

use rfs_rollout::{OnFailure, PersonAction};

use super::agents::Manner;
use super::*;

impl Bed {
    async fn nobody_is_owned(&self) {
        let hosts = self.store.hosts().await.expect("the store answers");
        assert!(hosts.iter().all(|host| host.owner.is_none()), "{hosts:?}");
    }
}

fn every_host_that_failed() -> PersonAction {
    PersonAction::Retry { hosts: Default::default(), choices: Default::default() }
}

#[tokio::test]
async fn a_host_that_failed_is_tried_again_and_the_rollback_goes_on() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Fails);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 5).await;
    bed.check(&coordinator, id, "a2 unchanged | b2 untouched | c2 untouched | paused").await;
    bed.agents.behaves(&host("a"), Manner::Well);
    bed.agents.tries_again(&host("a"));
    coordinator.person(id, every_host_that_failed()).await.expect("a has failed");
    bed.pass(&coordinator, id, 8).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | SUCCEEDED").await;
    bed.nobody_is_owned().await;
}

#[tokio::test]
async fn a_host_is_tried_again_after_the_end_and_a_restart_in_between_loses_nothing() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("c"), Manner::Fails);
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.policy.on_failure = OnFailure::Continue;
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 12).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c2 unchanged | PARTIAL").await;
    bed.nobody_is_owned().await;
    bed.agents.behaves(&host("c"), Manner::Dawdles);
    bed.agents.tries_again(&host("c"));
    coordinator.person(id, every_host_that_failed()).await.expect("c has failed");
    bed.pass(&coordinator, id, 1).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c2 applying | PARTIAL").await;
    coordinator.stops().await;
    bed.agents.behaves(&host("c"), Manner::Well);
    let coordinator = bed.start().await;
    bed.pass(&coordinator, id, 5).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | PARTIAL").await;
    bed.nobody_is_owned().await;
}

#[tokio::test]
async fn a_checkpoint_does_not_keep_a_host_that_was_left_out_from_coming_in_line() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback_without_a(&coordinator).await;
    // It waits for `a`, which is away, and ends without it.
    let checkpoint = coordinator.operations.create_checkpoint(checkpoint_request(), None).await;
    let checkpoint = checkpoint.expect("nobody owns the hosts");
    for _ in 0..40 {
        bed.pass(&coordinator, checkpoint, 10).await;
    }
    assert!(coordinator.view(checkpoint).await.operation.finished());
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a2 skipped | b1 passed | PARTIAL").await;
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 8).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | PARTIAL").await;
    bed.nobody_is_owned().await;
}
