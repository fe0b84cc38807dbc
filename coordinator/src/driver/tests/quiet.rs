//! What means nothing is not stored.

use rfs_model::Health;

use super::*;

#[tokio::test]
async fn after_the_outcome_only_what_concerns_hosts_that_are_waited_for_is_stored() {
    let bed = Bed::of(4).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    coordinator.link.disconnect(&host("d")).await;
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.strategy = Strategy::Immediate;
    request.policy.on_unreachable = OnUnreachable::Skip;
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 30).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | d2 skipped | PARTIAL").await;

    let before = coordinator.history(id).await;
    for health in [Health::Bad, Health::Good, Health::Bad] {
        coordinator.link.disconnect(&host("a")).await;
        bed.agents.is(&host("b"), health);
        bed.agents.says_health(&host("b"));
        coordinator.link.changed(&host("b")).await;
        bed.pass(&coordinator, id, 30).await;
        coordinator.link.connect(&host("a")).await;
        bed.pass(&coordinator, id, 30).await;
    }
    assert_eq!(coordinator.history(id).await, before);

    coordinator.link.connect(&host("d")).await;
    bed.pass(&coordinator, id, 10).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | d1 passed | PARTIAL").await;
}

#[tokio::test]
async fn a_host_that_is_tried_again_after_the_outcome_is_known_as_it_is_now() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    for name in ["a", "b"] {
        bed.agents.behaves(&host(name), agents::Manner::Fails);
    }
    coordinator.link.disconnect(&host("c")).await;
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.strategy = Strategy::Immediate;
    request.policy.on_unreachable = OnUnreachable::Skip;
    request.policy.on_failure = OnFailure::Continue;
    request.policy.gate.max_failed = 9;
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 30).await;
    bed.check(&coordinator, id, "a2 unchanged | b2 unchanged | c2 skipped | PARTIAL").await;

    // One goes, and nobody asks; the other one goes and comes back as another session.
    coordinator.link.disconnect(&host("a")).await;
    coordinator.link.disconnect(&host("b")).await;
    coordinator.link.connect(&host("b")).await;
    bed.pass(&coordinator, id, 5).await;
    for name in ["a", "b"] {
        bed.agents.behaves(&host(name), agents::Manner::Well);
        bed.agents.tries_again(&host(name));
    }
    coordinator
        .person(id, PersonAction::Retry { hosts: Default::default(), choices: Default::default() })
        .await
        .expect("they failed");
    bed.pass(&coordinator, id, 10).await;
    bed.check(&coordinator, id, "a2 skipped | b1 passed | c2 skipped | PARTIAL").await;
}
