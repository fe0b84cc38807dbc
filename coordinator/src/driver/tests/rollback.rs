//! Checkpoints and rollbacks from their beginning to their end.

use rfs_rollout::checkpoint::Outcome;
use rfs_rollout::{Amount, Budget, OnFailure, OnUnreachable, Strategy};

use super::agents::{Manner, version};
use super::*;

#[tokio::test]
async fn a_checkpoint_is_complete_once_every_host_has_its_snapshot() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let id = bed.checkpoint(&coordinator).await;
    let view = coordinator.view(id).await;
    let checkpoint = view.checkpoint().expect("a checkpoint");
    assert_eq!(checkpoint.outcome(), Some(Outcome::Complete));
    assert!(checkpoint.snapshots().values().all(|snapshot| *snapshot == version(1)));
    assert_eq!(coordinator.operations.latest_checkpoint().await.expect("the store answers"), Some(id));
    assert!(bed.store.hosts().await.expect("the store answers").iter().all(|host| host.owner.is_none()));
    assert_eq!(bed.agents.repeated(), Vec::<String>::new());
}

#[tokio::test]
async fn a_checkpoint_without_a_host_says_which_one_and_is_no_target() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("b"), Manner::Fails);
    let id = bed.checkpoint(&coordinator).await;
    let view = coordinator.view(id).await;
    assert_eq!(view.checkpoint().and_then(|checkpoint| checkpoint.outcome()), Some(Outcome::Incomplete));
    let request = rollback_request(Source::Checkpoint(id));
    let error = coordinator.operations.create_rollback(request, None).await.expect_err("no target");
    assert_eq!(
        error.to_string(),
        format!("checkpoint {id} is incomplete, so it is no target: b: no space is left on the device")
    );
}

#[tokio::test]
async fn a_gradual_rollback_goes_wave_by_wave_and_each_waits_for_health() {
    let bed = Bed::of(4).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a1 applied | b2 untouched | c2 untouched | d2 untouched | running").await;
    bed.pass(&coordinator, id, 2).await;
    bed.check(&coordinator, id, "a1 applied | b2 untouched | c2 untouched | d2 untouched | running").await;
    bed.pass(&coordinator, id, 1).await;
    bed.check(&coordinator, id, "a1 passed | b1 applied | c1 applied | d2 untouched | running").await;
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | d1 applied | running").await;
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | d1 passed | SUCCEEDED").await;
    assert!(bed.store.hosts().await.expect("the store answers").iter().all(|host| host.owner.is_none()));
}

#[tokio::test]
async fn an_immediate_rollback_starts_every_host_at_once() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |request| request.strategy = Strategy::Immediate).await;
    bed.pass(&coordinator, id, 0).await;
    bed.check(&coordinator, id, "a1 applied | b1 applied | c1 applied | running").await;
    bed.pass(&coordinator, id, 3).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | SUCCEEDED").await;
}

async fn check_unhealthy(on_failure: OnFailure, seconds: u64, expected: &str) {
    let bed = Bed::of(4).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("b"), Manner::Sickens);
    let id = bed.rollback(&coordinator, |request| request.policy.on_failure = on_failure).await;
    bed.pass(&coordinator, id, seconds).await;
    bed.check(&coordinator, id, expected).await;
}

#[tokio::test]
async fn an_unhealthy_wave_pauses_goes_on_or_goes_back_as_the_policy_says() {
    // The canary passes after 3 s; b has 10 s more.
    let paused = "a1 passed | b1 unhealthy | c1 passed | d2 untouched | paused";
    check_unhealthy(OnFailure::Pause, 60, paused).await;
    let reverted = "a2 reverted | b2 reverted | c2 reverted | d2 untouched | REVERTED";
    check_unhealthy(OnFailure::Revert, 14, reverted).await;
    let partial = "a1 passed | b1 unhealthy | c1 passed | d1 passed | PARTIAL";
    check_unhealthy(OnFailure::Continue, 20, partial).await;
}

#[tokio::test]
async fn a_host_that_fails_stays_as_it_was_and_later_waves_are_not_touched() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    bed.agents.behaves(&host("a"), Manner::Fails);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 30).await;
    bed.check(&coordinator, id, "a2 unchanged | b2 untouched | c2 untouched | paused").await;
}

async fn check_unreachable(on_unreachable: OnUnreachable, seconds: u64, expected: &str, back: &str) {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    coordinator.link.disconnect(&host("a")).await;
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.policy.on_unreachable = on_unreachable;
    without_canary(&mut request);
    let id = coordinator.operations.create_rollback(request, None).await.expect("a rollback begins");
    bed.pass(&coordinator, id, seconds).await;
    bed.check(&coordinator, id, expected).await;
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 8).await;
    bed.check(&coordinator, id, back).await;
}

#[tokio::test]
async fn a_host_out_of_reach_fails_is_waited_for_or_is_left_out_as_the_policy_says() {
    let paused = "a2 unchanged | b2 untouched | c2 untouched | paused";
    check_unreachable(OnUnreachable::Fail, 5, paused, paused).await;
    let waits = "a2 untouched | b2 untouched | c2 untouched | running";
    let done = "a1 passed | b1 passed | c1 passed | SUCCEEDED";
    check_unreachable(OnUnreachable::Wait, 60, waits, done).await;
    // It is brought in line when it is back, and the outcome stays as it was told.
    let skipped = "a2 skipped | b1 passed | c1 passed | PARTIAL";
    let in_line = "a1 passed | b1 passed | c1 passed | PARTIAL";
    check_unreachable(OnUnreachable::Skip, 9, skipped, in_line).await;
}

#[tokio::test]
async fn a_host_that_another_operation_has_had_since_is_not_brought_in_line() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.deploy(2);
    coordinator.link.disconnect(&host("a")).await;
    let mut request = rollback_request(Source::Checkpoint(checkpoint));
    request.policy.on_unreachable = OnUnreachable::Skip;
    without_canary(&mut request);
    let first = coordinator.operations.create_rollback(request.clone(), None).await.expect("it begins");
    bed.pass(&coordinator, first, 9).await;
    bed.check(&coordinator, first, "a2 skipped | b1 passed | PARTIAL").await;

    request.selector.hosts.insert(host("a"));
    request.policy.on_unreachable = OnUnreachable::Fail;
    let second = coordinator.operations.create_rollback(request, None).await.expect("the host is free");
    bed.pass(&coordinator, second, 0).await;
    bed.pass(&coordinator, first, 0).await;
    bed.check(&coordinator, first, "a2 superseded | b1 passed | PARTIAL").await;
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, second, 4).await;
    bed.check(&coordinator, second, "a1 passed | SUCCEEDED").await;
    bed.check(&coordinator, first, "a1 superseded | b1 passed | PARTIAL").await;
}

#[tokio::test]
async fn a_host_is_told_again_with_each_new_session_and_not_twice_with_one() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let checkpoint = bed.checkpoint(&coordinator).await;
    bed.agents.behaves(&host("a"), Manner::Dawdles);
    let request = rollback_request(Source::Checkpoint(checkpoint));
    let id = coordinator.operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, id, 3).await;
    let told = || bed.diary.lines().iter().filter(|line| *line == "sent a apply").count();
    assert_eq!(told(), 1);
    coordinator.link.connect(&host("a")).await;
    bed.pass(&coordinator, id, 3).await;
    assert_eq!(told(), 2);
}

#[tokio::test]
async fn nothing_is_sent_before_the_event_that_wants_it_is_stored() {
    let bed = Bed::of(3).await;
    let coordinator = bed.start().await;
    bed.agents.behaves(&host("b"), Manner::Sickens);
    let id = bed.rollback(&coordinator, |request| request.policy.on_failure = OnFailure::Revert).await;
    bed.pass(&coordinator, id, 14).await;
    bed.check(&coordinator, id, "a2 reverted | b2 reverted | c2 reverted | REVERTED").await;

    let lines = bed.diary.lines();
    let mut sent = 0;
    for (place, line) in lines.iter().enumerate() {
        let Some((host, step)) = line.strip_prefix("sent ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let wants = match step {
            // The creation wants it, and that is stored before there is a driver.
            "prepare" => continue,
            "cut" => "stored hosts cut".to_owned(),
            "finish" => "stored hosts resume".to_owned(),
            "apply" => format!("stored {host}: told to go to its target"),
            "revert" => format!("stored {host}: told to go back to its backup"),
            other => panic!("{other} was not expected"),
        };
        let before = lines[..place].iter().any(|line| line.starts_with(&wants));
        assert!(before, "{line} came before: {wants}\n{lines:#?}");
        sent += 1;
    }
    assert_eq!(sent, 12, "3 cuts, 3 finishes, 3 applies, 3 reverts");
}

#[tokio::test]
async fn a_budget_holds_at_every_moment() {
    let bed = Bed::of(5).await;
    let coordinator = bed.start().await;
    let id = bed
        .rollback(&coordinator, |request| {
            request.strategy = Strategy::Immediate;
            request.policy.budgets = vec![Budget { group_by: None, max_unavailable: Amount::Count(2) }];
        })
        .await;
    // Two at a time, and each keeps its place until it has been healthy for 3 s.
    bed.pass(&coordinator, id, 9).await;
    bed.check(&coordinator, id, "a1 passed | b1 passed | c1 passed | d1 passed | e1 passed | SUCCEEDED")
        .await;
    let (mut at_work, mut most) = (0_i32, 0);
    for line in coordinator.history(id).await {
        at_work += i32::from(line.contains("told to go to its target"))
            - i32::from(line.contains("apply: at target"));
        most = most.max(at_work);
    }
    assert_eq!(most, 2);
}

#[tokio::test]
async fn a_thousand_hosts_cost_a_few_appends() {
    let bed = Bed::over((0..1000).map(|n| host(&format!("web-{n}"))).collect()).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |request| request.strategy = Strategy::Immediate).await;
    bed.pass(&coordinator, id, 3).await;
    let view = coordinator.view(id).await;
    assert_eq!(view.rollback().and_then(|rollback| rollback.outcome()), Some(machine::Outcome::Succeeded));
    assert_eq!(bed.agents.repeated(), Vec::<String>::new());
    let appends = coordinator.store.appends();
    assert!(appends < 60, "{appends} appends");
}
