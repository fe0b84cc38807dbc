//! Checkpoints and rollbacks over the operator API, with real agents' links: from the call to the effect and back.

mod support;

use std::sync::Arc;

use rfs_model::Reason;
use rfs_proto::v1::{self, amount, checkpoint, host_progress, rollback, rollback_spec};
use rfs_proto::watch::{Held, InParts};
use support::{FakeAgent, Fleet, Operator, SetClock, until};
use tonic::Streaming;

/// Three web servers and a database, all of them connected and well.
async fn small_fleet() -> (Fleet, Operator, Vec<FakeAgent>) {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let mut agents = vec![fleet.agent("db-1", &["role=db"])];
    agents.extend((1..=3).map(|n| fleet.agent(&format!("web-{n}"), &["role=web"])));
    well(&operator, 4).await;
    (fleet, operator, agents)
}

/// Waits until so many hosts are connected and well.
async fn well(operator: &Operator, many: u32) {
    let good = async || {
        let health =
            operator.good(operator.hosts().get_fleet_health(v1::GetFleetHealthRequest::default()).await);
        health.fleet.is_some_and(|fleet| fleet.good == many).then_some(())
    };
    until("all hosts are well", good).await;
}

/// The last message of a stream.
async fn last<T>(mut stream: Streaming<T>) -> T {
    let mut last = None;
    while let Some(next) = stream.message().await.expect("an open stream") {
        last = Some(next);
    }
    last.expect("the present state comes first")
}

/// What the parts of a stream make, each time that they are whole.
async fn put_together<T: InParts + Clone>(mut stream: Streaming<T>) -> Vec<T> {
    let (mut held, mut wholes) = (Held::default(), Vec::new());
    while let Some(next) = stream.message().await.expect("an open stream") {
        wholes.extend(held.take(next).cloned());
    }
    wholes
}

/// Takes a checkpoint of every host and waits for its end.
async fn checkpoint(operator: &Operator) -> v1::Checkpoint {
    let started =
        operator.good(operator.checkpoints().create_checkpoint(v1::CreateCheckpointRequest::default()).await);
    let request = v1::WatchCheckpointRequest { name: started.name, ..Default::default() };
    last(operator.good(operator.checkpoints().watch_checkpoint(request).await)).await
}

/// A rollback that does not wait for long.
fn quick(checkpoint: &v1::Checkpoint) -> v1::RollbackSpec {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let gate =
        v1::GatePolicy { min_healthy_time: seconds(0), healthy_deadline: seconds(20), ..Default::default() };
    v1::RollbackSpec { checkpoint: checkpoint.name.clone(), gate: Some(gate), ..Default::default() }
}

async fn start(operator: &Operator, spec: v1::RollbackSpec) -> v1::Rollback {
    let request =
        v1::CreateRollbackRequest { spec: Some(spec), reason: "bad release".into(), ..Default::default() };
    operator.good(operator.rollbacks().create_rollback(request).await)
}

async fn ended(operator: &Operator, rollback: &v1::Rollback) -> v1::Rollback {
    let request = v1::WatchRollbackRequest { name: rollback.name.clone(), ..Default::default() };
    last(operator.good(operator.rollbacks().watch_rollback(request).await)).await
}

fn deploy_bad_release(agents: &[FakeAgent]) {
    for agent in agents {
        let mut state = agent.state();
        (state.value, state.sick) = (9, vec![9]);
    }
}

fn count(count: u32) -> v1::Amount {
    v1::Amount { amount: Some(amount::Amount::Count(count)) }
}

#[tokio::test]
async fn a_fleet_is_checkpointed_and_rolled_back_wave_by_wave_and_the_rollback_is_undone() {
    let (_fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    assert_eq!(taken.state(), checkpoint::State::Complete, "{taken:?}");
    assert_eq!(taken.health, Some(v1::HealthCount { good: 4, ..Default::default() }));
    assert_eq!(taken.requester, "operator/alice");
    assert_eq!(taken.snapshots.len(), 4);
    assert!(taken.skew.is_some_and(|skew| skew.seconds < 5));
    deploy_bad_release(&agents);

    let mut spec = quick(&taken);
    spec.waves = Some(v1::WavePolicy {
        canary_hosts: vec!["web-2".into()],
        sizes: vec![count(1)],
        order: vec![v1::Order { before: "role=web".into(), after: "role=db".into() }],
        ..Default::default()
    });
    let request = v1::PlanRollbackRequest { spec: Some(spec.clone()), ..Default::default() };
    let plan = operator.good(operator.rollbacks().plan_rollback(request).await);
    let waves: Vec<Vec<_>> =
        plan.waves.iter().map(|wave| wave.hosts.iter().map(|h| h.host.as_str()).collect()).collect();
    assert_eq!(waves, [vec!["web-2"], vec!["web-1"], vec!["web-3"], vec!["db-1"]]);
    assert_eq!(
        plan.hosts.iter().map(|host| host.steps[0].description.as_str()).collect::<Vec<_>>(),
        ["set 9 to 01"; 4]
    );
    assert!(agents.iter().all(|agent| agent.state().value == 9), "a plan changes nothing");

    let ended = ended(&operator, &start(&operator, spec).await).await;
    assert_eq!(ended.outcome(), rollback::Outcome::Succeeded, "{ended:?}");
    assert!(ended.waves[0].canary);
    for agent in &agents {
        assert_eq!(agent.state().effects, ["cut 1", "apply 1"], "{}", agent.host());
    }
    let request = v1::ListRollbackEventsRequest { name: ended.name.clone(), ..Default::default() };
    let events = operator.good(operator.rollbacks().list_rollback_events(request).await).events;
    let first = &events[0].description;
    assert!(first.starts_with("operator/alice ") && first.contains("4 hosts in 4 waves"), "{first}");
    assert!(events.iter().zip(0..).all(|(event, position)| event.position == position));

    let request = v1::UndoRollbackRequest { name: ended.name.clone(), ..Default::default() };
    // Back to a release that is not healthy: nobody looks at that.
    let gate = Some(v1::GatePolicy { ignore_health: Some(true), ..Default::default() });
    let spec = Some(v1::RollbackSpec { gate, ..Default::default() });
    let planning = v1::PlanRollbackRequest { spec: spec.clone(), undo: ended.name.clone() };
    let planned = operator.good(operator.rollbacks().plan_rollback(planning).await);
    assert_eq!((planned.undo_of.as_str(), planned.waves.len()), (ended.name.as_str(), 4), "as it was done");
    let undo =
        operator.good(operator.rollbacks().undo_rollback(v1::UndoRollbackRequest { spec, ..request }).await);
    assert_eq!(undo.waves.len(), 4, "one more careful field takes no wave away");
    assert_eq!(undo.undo_of, ended.name);
    let undone = self::ended(&operator, &undo).await;
    assert_eq!(undone.outcome(), rollback::Outcome::Succeeded, "{undone:?}");
    assert!(agents.iter().all(|agent| agent.state().value == 9));

    let list = operator.good(operator.rollbacks().list_rollbacks(v1::ListRollbacksRequest::default()).await);
    let listed: Vec<_> = list.rollbacks.iter().map(|r| (r.name.as_str(), r.outcome())).collect();
    let succeeded = rollback::Outcome::Succeeded;
    assert_eq!(listed, [(undone.name.as_str(), succeeded), (ended.name.as_str(), succeeded)]);
}

/// An undo that looks at no health: it goes back to a release that is not well.
fn undo_of(rollback: &v1::Rollback, request_id: &str) -> v1::UndoRollbackRequest {
    let gate = Some(v1::GatePolicy { ignore_health: Some(true), ..Default::default() });
    let spec = Some(v1::RollbackSpec { gate, ..Default::default() });
    let (name, request_id) = (rollback.name.clone(), request_id.to_owned());
    v1::UndoRollbackRequest { name, request_id, spec, ..Default::default() }
}

#[tokio::test]
async fn an_undo_of_a_rollback_that_runs_ends_it_first() {
    let (_fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    deploy_bad_release(&agents);
    agents[0].state().sick = vec![1, 9];
    let mut spec = quick(&taken);
    spec.waves = Some(v1::WavePolicy { sizes: vec![count(1)], ..Default::default() });
    let running = start(&operator, spec).await;
    let request = v1::GetRollbackRequest { name: running.name.clone() };
    let get = async || operator.good(operator.rollbacks().get_rollback(request.clone()).await);
    let is_applied = |now: &v1::Rollback| now.waves[0].hosts[0].state() == host_progress::State::Applied;
    until("its first host is at the target", async || Some(get().await).filter(is_applied)).await;
    let planning = v1::PlanRollbackRequest { undo: running.name.clone(), ..Default::default() };
    let planned = operator.good(operator.rollbacks().plan_rollback(planning).await);
    assert_eq!(planned.waves.len(), 1, "what is changed by now would be brought back: {planned:?}");
    assert_eq!(get().await.state(), rollback::State::Running, "a plan ends nothing");

    let undo = undo_of(&running, "undo-7");
    let begun = operator.good(operator.rollbacks().undo_rollback(undo.clone()).await);
    assert_eq!(begun.undo_of, running.name);
    assert_eq!(get().await.outcome(), rollback::Outcome::Aborted);
    // A caller that did not hear the answer may ask again.
    let again = operator.good(operator.rollbacks().undo_rollback(undo.clone()).await);
    assert_eq!(again.name, begun.name);
    assert_eq!(ended(&operator, &begun).await.outcome(), rollback::Outcome::Succeeded);
    let again = operator.good(operator.rollbacks().undo_rollback(undo).await);
    assert_eq!(again.name, begun.name);
    assert!(agents.iter().all(|agent| agent.state().value == 9));
}

#[tokio::test]
async fn an_undo_where_no_host_was_changed_answers_with_the_rollback_itself() {
    let (_fleet, operator, mut agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    agents.clear();
    well(&operator, 0).await;
    let mut spec = quick(&taken);
    spec.set_strategy(rollback_spec::Strategy::Immediate);
    spec.set_on_unreachable(rollback_spec::UnreachableAction::Skip);
    spec.unreachable_after = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let left_out = ended(&operator, &start(&operator, spec).await).await;
    assert_eq!(left_out.outcome(), rollback::Outcome::Partial, "{left_out:?}");
    for _ in 0..2 {
        let answer = operator.rollbacks().undo_rollback(undo_of(&left_out, "undo-8")).await;
        let answer = operator.good(answer);
        assert_eq!(answer.name, left_out.name);
        let mut hosts = answer.waves.iter().flat_map(|wave| &wave.hosts);
        assert!(hosts.all(|host| host.state() == host_progress::State::Superseded), "{answer:?}");
    }
}

#[tokio::test]
async fn an_undo_over_a_later_rollback_is_refused_unless_it_is_meant() {
    let (_fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    deploy_bad_release(&agents);
    let first = ended(&operator, &start(&operator, quick(&taken)).await).await;
    deploy_bad_release(&agents);
    let later = v1::RollbackSpec { selector: only(&["web-1", "web-2"]), ..quick(&taken) };
    let later = ended(&operator, &start(&operator, later).await).await;
    assert_eq!(later.outcome(), rollback::Outcome::Succeeded, "{later:?}");

    let planning = v1::PlanRollbackRequest { undo: first.name.clone(), ..Default::default() };
    let planned = operator.good(operator.rollbacks().plan_rollback(planning).await);
    let names = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
    let expected = v1::LaterRollback { rollback: later.name.clone(), hosts: names(&["web-1", "web-2"]) };
    assert_eq!(planned.later, [expected]);
    let undo = undo_of(&first, "undo-9");
    let failure = operator.refused(operator.rollbacks().undo_rollback(undo.clone()).await);
    assert_eq!(failure.reason, Reason::ChangedLater, "{failure:?}");
    assert!(failure.message.ends_with("changed web-1, web-2"), "{failure:?}");
    assert!(failure.next_step().contains("over_later"), "{failure:?}");
    let meant = v1::UndoRollbackRequest { over_later: true, ..undo };
    let begun = operator.good(operator.rollbacks().undo_rollback(meant).await);
    assert_eq!(begun.undo_of, first.name);
    assert_eq!(ended(&operator, &begun).await.outcome(), rollback::Outcome::Succeeded);
}

#[tokio::test]
async fn a_coordinator_that_restarts_in_the_middle_goes_on_and_repeats_nothing() {
    let (mut fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    deploy_bad_release(&agents);
    agents[2].state().holds_still = true;
    let mut spec = quick(&taken);
    spec.waves = Some(v1::WavePolicy { sizes: vec![count(1)], ..Default::default() });
    let rollback = start(&operator, spec).await;
    until("the third host has its command", async || {
        let request = v1::GetRollbackRequest { name: rollback.name.clone() };
        let now = operator.good(operator.rollbacks().get_rollback(request).await);
        let host = now.waves.iter().flat_map(|wave| &wave.hosts).find(|host| host.host == "web-2")?.clone();
        (host.state() == host_progress::State::Applying).then_some(())
    })
    .await;

    fleet.stop().await;
    agents[2].state().holds_still = false;
    fleet.resume().await;
    let operator = fleet.operator("alice").await;
    let ended = ended(&operator, &rollback).await;
    assert_eq!(ended.outcome(), rollback::Outcome::Succeeded, "{ended:?}");
    for agent in &agents {
        assert_eq!(agent.state().effects, ["cut 1", "apply 1"], "{}", agent.host());
    }
}

#[tokio::test]
async fn a_host_that_stays_sick_pauses_the_rollback_and_a_person_decides() {
    let (_fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    deploy_bad_release(&agents);
    agents[0].state().sick = vec![1, 9];
    let mut spec = quick(&taken);
    spec.waves = Some(v1::WavePolicy { sizes: vec![count(1)], ..Default::default() });
    spec.gate = Some(v1::GatePolicy {
        healthy_deadline: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
        min_healthy_time: Some(prost_types::Duration::default()),
        ..Default::default()
    });
    let rollback = start(&operator, spec).await;
    let request = v1::GetRollbackRequest { name: rollback.name.clone() };
    let get = async || operator.good(operator.rollbacks().get_rollback(request.clone()).await);
    let paused = until("it pauses", async || {
        let now = get().await;
        (now.state() == rollback::State::Paused).then_some(now)
    })
    .await;
    let cause = paused.cause.expect("a pause has a cause");
    assert_eq!(cause.reason, Reason::Unhealthy.as_str(), "{cause:?}");
    assert!(agents[1..].iter().all(|agent| agent.state().value == 9), "later waves are untouched");

    let name = rollback.name.clone();
    let promote = async |wave| {
        let request = v1::PromoteRollbackRequest { name: name.clone(), wave };
        operator.rollbacks().promote_rollback(request).await
    };
    let failure = operator.refused(promote(Some(0)).await);
    assert_eq!(failure.fields[0].field, "wave", "waves are counted from 1: {failure:?}");
    let failure = operator.refused(promote(Some(2)).await);
    assert_eq!(failure.reason, Reason::WrongState, "another wave is present: {failure:?}");
    operator.good(promote(Some(1)).await);
    // A caller that did not hear the answer may ask again.
    operator.good(promote(Some(1)).await);
    let ended = ended(&operator, &rollback).await;
    assert_eq!(ended.outcome(), rollback::Outcome::Partial, "{ended:?}");
    let failure =
        operator.refused(operator.rollbacks().abort_rollback(v1::AbortRollbackRequest { name }).await);
    assert_eq!(failure.reason, Reason::WrongState);
}

#[tokio::test]
async fn the_same_request_id_gives_the_same_checkpoint_and_another_request_with_it_is_refused() {
    let (_fleet, operator, _agents) = small_fleet().await;
    let request = |reason: &str| v1::CreateCheckpointRequest {
        request_id: "deploy-7".into(),
        reason: reason.into(),
        ..Default::default()
    };
    let first = operator.good(operator.checkpoints().create_checkpoint(request("before 7")).await);
    let again = operator.good(operator.checkpoints().create_checkpoint(request("before 7")).await);
    assert_eq!(first.name, again.name);
    let failure = operator.refused(operator.checkpoints().create_checkpoint(request("another")).await);
    assert_eq!(failure.reason, Reason::RequestIdReused);
}

#[tokio::test]
async fn an_incomplete_checkpoint_says_who_is_missing_and_is_no_target() {
    let (fleet, operator, mut agents) = small_fleet().await;
    drop(agents.remove(0));
    well(&operator, 3).await;
    let taken = checkpoint(&operator).await;
    assert_eq!(taken.state(), checkpoint::State::Incomplete, "{taken:?}");
    let missing = taken.snapshots.iter().find(|host| host.host == "db-1").expect("it was required");
    assert!(missing.failure.is_some(), "{missing:?}");
    let request = v1::CreateRollbackRequest { spec: Some(quick(&taken)), ..Default::default() };
    let failure = operator.refused(operator.rollbacks().create_rollback(request).await);
    assert_eq!(failure.reason, Reason::CheckpointIncomplete, "{failure:?}");
    assert!(failure.message.contains("db-1"), "{}", failure.message);
    drop(fleet);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_field_and_changes_nothing() {
    let (_fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    let check = async |change: &dyn Fn(&mut v1::RollbackSpec), reason: Reason, field: &str| {
        let mut spec = quick(&taken);
        change(&mut spec);
        for planning in [true, false] {
            let spec = Some(spec.clone());
            let failure = if planning {
                let request = v1::PlanRollbackRequest { spec, ..Default::default() };
                operator.refused(operator.rollbacks().plan_rollback(request).await)
            } else {
                let request = v1::CreateRollbackRequest { spec, ..Default::default() };
                operator.refused(operator.rollbacks().create_rollback(request).await)
            };
            assert_eq!(failure.reason, reason, "{failure:?}");
            assert!(failure.next_step().len() > 10, "{failure:?}");
            let fields: Vec<_> = failure.fields.iter().map(|violation| violation.field.as_str()).collect();
            assert_eq!(fields, [field], "{failure:?}");
        }
    };
    let unknown = "checkpoints/0193b5a0-0000-7000-8000-000000000001";
    check(&|spec| spec.checkpoint = unknown.into(), Reason::CheckpointNotFound, "spec.checkpoint").await;
    check(&|spec| spec.checkpoint = "x".into(), Reason::InvalidArgument, "spec.checkpoint").await;
    let waves = |waves: v1::WavePolicy| move |spec: &mut v1::RollbackSpec| spec.waves = Some(waves.clone());
    let percent = v1::Amount { amount: Some(amount::Amount::Percent(120)) };
    let sizes = v1::WavePolicy { sizes: vec![count(1), percent], ..Default::default() };
    check(&waves(sizes), Reason::InvalidArgument, "spec.waves.sizes[1].percent").await;
    let order = |before: &str, after: &str| v1::Order { before: before.into(), after: after.into() };
    let order = vec![order("role=db", "role=web"), order("role=web", "role=db")];
    check(&waves(v1::WavePolicy { order, ..Default::default() }), Reason::OrderCycle, "spec.waves.order")
        .await;
    let selector = |hosts: &[&str], label: &[(&str, &str)]| {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let labels = label.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Some(v1::Selector { hosts, labels })
    };
    check(&|spec| spec.selector = selector(&["web-9"], &[]), Reason::HostNotFound, "spec.selector.hosts[0]")
        .await;
    check(&|spec| spec.selector = selector(&[], &[("role", "mail")]), Reason::NoHostMatches, "spec.selector")
        .await;
    let none = v1::Budget { group_by: String::new(), max_unavailable: Some(count(0)) };
    check(
        &|spec| spec.budgets = vec![none.clone()],
        Reason::BudgetTooSmall,
        "spec.budgets[0].max_unavailable",
    )
    .await;
    check(&|spec| spec.on_failure = 77, Reason::InvalidArgument, "spec.on_failure").await;
    assert!(agents.iter().all(|agent| agent.state().effects == ["cut 1"]));
}

#[tokio::test]
async fn one_operation_owns_a_host_at_a_time_and_a_target_in_use_cannot_be_deleted() {
    let (_fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    deploy_bad_release(&agents);
    agents[0].state().holds_still = true;
    let spec = v1::RollbackSpec { strategy: rollback_spec::Strategy::Immediate.into(), ..quick(&taken) };
    let running = start(&operator, spec.clone()).await;
    let request = v1::CreateRollbackRequest { spec: Some(spec), ..Default::default() };
    let failure = operator.refused(operator.rollbacks().create_rollback(request).await);
    assert_eq!(failure.reason, Reason::HostBusy, "{failure:?}");
    let request = v1::DeleteCheckpointRequest { name: taken.name.clone() };
    let failure = operator.refused(operator.checkpoints().delete_checkpoint(request.clone()).await);
    assert_eq!(failure.reason, Reason::CheckpointInUse, "{failure:?}");
    let host = operator.good(operator.hosts().get_host(v1::GetHostRequest { name: "db-1".into() }).await);
    assert_eq!(host.owner, running.name);

    operator.good(
        operator.rollbacks().abort_rollback(v1::AbortRollbackRequest { name: running.name.clone() }).await,
    );
    agents[0].state().holds_still = false;
    let ended = ended(&operator, &running).await;
    assert_eq!(ended.outcome(), rollback::Outcome::Aborted, "{ended:?}");
    let newer = checkpoint(&operator).await;
    assert_eq!(newer.state(), checkpoint::State::Complete);
    operator.good(operator.checkpoints().delete_checkpoint(request.clone()).await);
    let failure = operator.refused(operator.checkpoints().delete_checkpoint(request).await);
    assert_eq!(failure.reason, Reason::CheckpointNotFound);
    // Its id leads nowhere, however it is asked for.
    let request = v1::GetCheckpointRequest { name: taken.name.clone() };
    let failure = operator.refused(operator.checkpoints().get_checkpoint(request).await);
    assert_eq!(failure.reason, Reason::CheckpointNotFound);
    let request = v1::WatchCheckpointRequest { name: taken.name.clone(), ..Default::default() };
    let failure = operator.refused(operator.checkpoints().watch_checkpoint(request).await);
    assert_eq!(failure.reason, Reason::CheckpointNotFound);
    let spec = Some(quick(&taken));
    let request = v1::CreateRollbackRequest { spec, ..Default::default() };
    let failure = operator.refused(operator.rollbacks().create_rollback(request).await);
    assert_eq!(failure.reason, Reason::CheckpointNotFound);
    let newest = v1::DeleteCheckpointRequest { name: newer.name };
    let failure = operator.refused(operator.checkpoints().delete_checkpoint(newest).await);
    assert_eq!(failure.reason, Reason::CheckpointInUse, "the newest complete one stays");
}

#[tokio::test]
async fn hosts_are_told_which_checkpoints_are_needed_and_which_were_deleted() {
    let (fleet, operator, agents) = small_fleet().await;
    let id = |checkpoint: &v1::Checkpoint| checkpoint.name.trim_start_matches("checkpoints/").to_owned();
    let told = async |agent: &FakeAgent, needed: &[String], deleted: &[String]| {
        until("the host is told", async || {
            let state = agent.state();
            let is_so = state.checkpoints.needed == needed && state.checkpoints.deleted == deleted;
            is_so.then_some(())
        })
        .await;
    };
    let first = checkpoint(&operator).await;
    told(&agents[0], &[id(&first)], &[]).await;
    let newer = checkpoint(&operator).await;
    let request = v1::DeleteCheckpointRequest { name: first.name.clone() };
    operator.good(operator.checkpoints().delete_checkpoint(request).await);
    told(&agents[0], &[id(&newer)], &[id(&first)]).await;
    // One that comes in later is told the same.
    let late = fleet.agent("web-4", &["role=web"]);
    told(&late, &[id(&newer)], &[id(&first)]).await;
}

/// A host that does not hold what it captured.
#[tokio::test]
async fn a_checkpoint_whose_host_has_dropped_its_snapshot_is_not_complete_until_it_is_back() {
    let (_fleet, operator, agents) = small_fleet().await;
    let older = checkpoint(&operator).await;
    deploy_bad_release(&agents);
    agents.iter().for_each(|agent| agent.state().sick.clear());
    let newer = checkpoint(&operator).await;
    for agent in &agents {
        agent.state().holds = Some(vec![1, 9]);
    }
    let list = async || {
        let request = v1::ListCheckpointsRequest::default();
        let page = operator.good(operator.checkpoints().list_checkpoints(request).await);
        page.checkpoints.iter().map(|c| (c.name.clone(), c.state())).collect::<Vec<_>>()
    };
    let states = |one, other| vec![(newer.name.clone(), one), (older.name.clone(), other)];
    use checkpoint::State::{Complete, Incomplete};
    assert_eq!(list().await, states(Complete, Complete));

    agents[0].state().holds = Some(vec![1]);
    until("it is no target any more", async || (list().await == states(Incomplete, Complete)).then_some(()))
        .await;
    let get = async |name: &str| {
        let request = v1::GetCheckpointRequest { name: name.into() };
        operator.good(operator.checkpoints().get_checkpoint(request).await)
    };
    let shown = get(&newer.name).await;
    assert_eq!(shown.state(), Incomplete);
    let lost = shown.snapshots.iter().find(|snapshot| snapshot.host == "db-1").expect("it was required");
    assert_eq!(lost.state(), v1::host_snapshot::State::Failed);
    let failure = lost.failure.clone().expect("a reason");
    assert_eq!(failure.reason, Reason::SnapshotNotFound.as_str());
    assert!(failure.message.starts_with("db-1 no longer has its snapshot since "), "{}", failure.message);
    assert_eq!(shown.snapshots.iter().filter(|s| s.failure.is_some()).count(), 1, "the others have theirs");
    let request = v1::WatchCheckpointRequest { name: newer.name.clone(), ..Default::default() };
    let watched = last(operator.good(operator.checkpoints().watch_checkpoint(request).await)).await;
    assert_eq!(watched, shown, "who watches sees the same");
    let request = v1::WatchCheckpointRequest { name: newer.name.clone(), changes_only: true };
    let watched = put_together(operator.good(operator.checkpoints().watch_checkpoint(request).await)).await;
    assert_eq!(watched, [shown], "also who is sent parts");

    for planning in [true, false] {
        let spec = Some(quick(&newer));
        let failure = if planning {
            operator.refused(
                operator
                    .rollbacks()
                    .plan_rollback(v1::PlanRollbackRequest { spec, ..Default::default() })
                    .await,
            )
        } else {
            let request = v1::CreateRollbackRequest { spec, ..Default::default() };
            operator.refused(operator.rollbacks().create_rollback(request).await)
        };
        assert_eq!(failure.reason, Reason::CheckpointIncomplete, "{failure:?}");
        assert!(failure.message.contains("db-1 no longer has its snapshot"), "{}", failure.message);
    }
    // The newest complete one is needed, which is the older one now; and the other hosts keep their part of the newer one.
    let both = [&older, &newer].map(|one| one.name.trim_start_matches("checkpoints/").to_owned());
    until("hosts are told", async || (agents[1].state().checkpoints.needed == both).then_some(())).await;

    agents[0].state().holds = Some(vec![9, 1]);
    until("it is back", async || (list().await == states(Complete, Complete)).then_some(())).await;
    assert_eq!(get(&newer.name).await, newer);
}

/// What the host said of its snapshots before the checkpoint was complete counts once it is.
#[tokio::test]
async fn a_snapshot_that_is_gone_before_its_checkpoint_is_complete_is_missed_all_the_same() {
    let (_fleet, operator, agents) = small_fleet().await;
    let holds = |agent: &FakeAgent, values: &[u8]| agent.state().holds = Some(values.to_vec());
    agents.iter().for_each(|agent| holds(agent, &[7]));
    agents[1].state().slow_finish = true;
    let request = v1::CreateCheckpointRequest::default();
    let started = operator.good(operator.checkpoints().create_checkpoint(request).await);
    until("all have cut", async || {
        agents.iter().all(|agent| agent.state().effects == ["cut 1"]).then_some(())
    })
    .await;
    agents[1..].iter().for_each(|agent| holds(agent, &[1, 7]));
    holds(&agents[0], &[]);
    let said = |agent: &FakeAgent| {
        let state = agent.state();
        state.told == state.holds
    };
    let told = async || agents.iter().all(said).then_some(());
    until("they have said so", told).await;
    agents[1].state().slow_finish = false;
    let state = async || {
        let request = v1::GetCheckpointRequest { name: started.name.clone() };
        operator.good(operator.checkpoints().get_checkpoint(request).await).state()
    };
    until("it has lost one", async || (state().await == checkpoint::State::Incomplete).then_some(())).await;
    holds(&agents[0], &[1]);
    until("it is complete", async || (state().await == checkpoint::State::Complete).then_some(())).await;
}

#[tokio::test]
async fn the_latest_checkpoint_stays_the_latest_when_the_clock_is_set_back_by_an_hour() {
    let (mut fleet, operator, agents) = small_fleet().await;
    let first = checkpoint(&operator).await;
    fleet.stop().await;
    fleet.resume_by(Arc::new(SetClock(-3_600_000))).await;
    let operator = fleet.operator("alice").await;
    well(&operator, 4).await;
    let second = checkpoint(&operator).await;
    assert!(second.name < first.name, "with nothing open, time began anew: ids went back");
    let mut request = v1::ListCheckpointsRequest { page_size: 1, ..Default::default() };
    let mut listed = Vec::new();
    loop {
        let page = operator.good(operator.checkpoints().list_checkpoints(request.clone()).await);
        listed.extend(page.checkpoints.into_iter().map(|checkpoint| checkpoint.name));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, [second.name.clone(), first.name.clone()]);
    let newest = second.name.trim_start_matches("checkpoints/").to_owned();
    until("hosts keep the latest", async || {
        (agents[0].state().checkpoints.needed == [newest.clone()]).then_some(())
    })
    .await;
    let delete = async |name: &str| {
        operator.checkpoints().delete_checkpoint(v1::DeleteCheckpointRequest { name: name.into() }).await
    };
    assert_eq!(operator.refused(delete(&second.name).await).reason, Reason::CheckpointInUse);
    operator.good(delete(&first.name).await);
}

#[tokio::test]
async fn while_an_operation_is_open_its_time_goes_on_whatever_the_clock_is_set_to() {
    let (mut fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    deploy_bad_release(&agents);
    agents.iter().for_each(|agent| agent.state().holds_still = true);
    let rollback = start(&operator, quick(&taken)).await;
    let seconds = |time: Option<prost_types::Timestamp>| time.expect("a time").seconds;
    let begun = seconds(rollback.create_time);
    for set in [-3_600_000, 3_600_000] {
        fleet.stop().await;
        fleet.resume_by(Arc::new(SetClock(set))).await;
    }
    agents.iter().for_each(|agent| agent.state().holds_still = false);
    let operator = fleet.operator("alice").await;
    let ended = ended(&operator, &rollback).await;
    assert_eq!(ended.outcome(), rollback::Outcome::Succeeded, "{ended:?}");
    let took = seconds(ended.finish_time) - begun;
    assert!((0..60).contains(&took), "{took} s by the operation's own time");
    let request = v1::ListRollbackEventsRequest { name: ended.name, ..Default::default() };
    let events = operator.good(operator.rollbacks().list_rollback_events(request).await).events;
    assert!(events.is_sorted_by_key(|event| event.time.map(|time| (time.seconds, time.nanos))));
}

/// A selector of hosts by name.
fn only(hosts: &[&str]) -> Option<v1::Selector> {
    let hosts = hosts.iter().map(ToString::to_string).collect();
    Some(v1::Selector { hosts, ..Default::default() })
}

async fn checkpoint_of(operator: &Operator, hosts: &[&str]) -> v1::Checkpoint {
    let request = v1::CreateCheckpointRequest { selector: only(hosts), ..Default::default() };
    let started = operator.good(operator.checkpoints().create_checkpoint(request).await);
    let request = v1::WatchCheckpointRequest { name: started.name, ..Default::default() };
    last(operator.good(operator.checkpoints().watch_checkpoint(request).await)).await
}

#[tokio::test]
async fn latest_is_the_newest_complete_checkpoint_that_has_every_chosen_host() {
    let (fleet, operator, _agents) = small_fleet().await;
    let latest = async |selector| {
        let checkpoint = "checkpoints/latest".to_owned();
        let spec = Some(v1::RollbackSpec { checkpoint, selector, ..Default::default() });
        operator.rollbacks().plan_rollback(v1::PlanRollbackRequest { spec, ..Default::default() }).await
    };
    let failure = operator.refused(latest(None).await);
    assert_eq!(failure.reason, Reason::CheckpointNotFound, "{failure:?}");

    let all = checkpoint(&operator).await;
    let one = checkpoint_of(&operator, &["web-1"]).await;
    let meant = |plan: v1::PlanRollbackResponse| plan.spec.expect("what was asked").checkpoint;
    assert_eq!(
        meant(operator.good(latest(None).await)),
        all.name,
        "one host's checkpoint is not the fleet's"
    );
    assert_eq!(meant(operator.good(latest(only(&["web-1"])).await)), one.name);
    assert_eq!(meant(operator.good(latest(only(&["web-1", "web-2"])).await)), all.name);

    let late = fleet.agent("web-4", &["role=web"]);
    well(&operator, 5).await;
    let failure = operator.refused(latest(None).await);
    assert_eq!(failure.reason, Reason::CheckpointIncomplete, "{failure:?}");
    assert!(failure.message.ends_with("lacks web-4"), "{failure:?}");
    let failure = operator.refused(latest(only(&["web-4"])).await);
    assert_eq!(
        failure.reason,
        Reason::CheckpointIncomplete,
        "there are checkpoints, but not of it: {failure:?}"
    );
    let failure = operator.refused(latest(only(&["wbe-4"])).await);
    assert!(failure.message.contains("did you mean web-4?"), "{failure:?}");
    drop(late);
}

#[tokio::test]
async fn a_checkpoint_keeps_how_well_its_hosts_were_and_a_plan_shows_it() {
    let (_fleet, operator, agents) = small_fleet().await;
    deploy_bad_release(&agents);
    well(&operator, 0).await;
    let taken = checkpoint(&operator).await;
    assert_eq!(taken.state(), checkpoint::State::Complete, "{taken:?}");
    let all_bad = Some(v1::HealthCount { bad: 4, ..Default::default() });
    assert_eq!(taken.health, all_bad, "{taken:?}");
    let list =
        operator.good(operator.checkpoints().list_checkpoints(v1::ListCheckpointsRequest::default()).await);
    assert_eq!((list.checkpoints[0].health, list.checkpoints[0].host_count), (all_bad, 4));
    let request = v1::PlanRollbackRequest { spec: Some(quick(&taken)), ..Default::default() };
    let target =
        operator.good(operator.rollbacks().plan_rollback(request).await).checkpoint.expect("a target");
    assert_eq!(target.snapshots.len(), 4);
    assert!(
        target.snapshots.iter().all(|host| host.health() == v1::Health::Bad && !host.evidence.is_empty())
    );
}

#[tokio::test]
async fn a_gate_that_cannot_pass_is_said_in_the_plan_and_refused_at_the_start() {
    let (_fleet, operator, agents) = small_fleet().await;
    let taken = checkpoint(&operator).await;
    agents[0].state().unchecked = true;
    let plan = async |spec| {
        let request = v1::PlanRollbackRequest { spec: Some(spec), ..Default::default() };
        operator.good(operator.rollbacks().plan_rollback(request).await)
    };
    let problem = until("the coordinator has heard that nothing is required", async || {
        plan(quick(&taken)).await.problems.pop()
    })
    .await;
    assert_eq!(problem.reason, Reason::GateCannotPass.as_str());
    assert!(problem.message.contains("db-1"), "{problem:?}");
    let create = async |spec| {
        let request = v1::CreateRollbackRequest { spec: Some(spec), ..Default::default() };
        operator.rollbacks().create_rollback(request).await
    };
    let failure = operator.refused(create(quick(&taken)).await);
    assert_eq!(failure.reason, Reason::GateCannotPass, "{failure:?}");
    let gate = Some(v1::GatePolicy { ignore_health: Some(true), ..Default::default() });
    let accepted = v1::RollbackSpec { gate, ..quick(&taken) };
    assert!(plan(accepted.clone()).await.problems.is_empty());
    operator.good(create(accepted).await);
}

#[tokio::test]
async fn who_asks_for_changes_sees_what_who_does_not_sees() {
    let (_fleet, operator, agents) = small_fleet().await;
    let request = v1::CreateCheckpointRequest::default();
    let name = operator.good(operator.checkpoints().create_checkpoint(request).await).name;
    let whole = v1::WatchCheckpointRequest { name: name.clone(), changes_only: false };
    let parts = v1::WatchCheckpointRequest { name, changes_only: true };
    let whole = operator.good(operator.checkpoints().watch_checkpoint(whole).await);
    let parts = operator.good(operator.checkpoints().watch_checkpoint(parts).await);
    let (whole, parts) = tokio::join!(last(whole), put_together(parts));
    assert_eq!((whole.part, whole.state()), (None, checkpoint::State::Complete));
    assert_eq!(parts.last(), Some(&whole));

    deploy_bad_release(&agents);
    let name = start(&operator, quick(&whole)).await.name;
    let whole = v1::WatchRollbackRequest { name: name.clone(), changes_only: false };
    let parts = v1::WatchRollbackRequest { name: name.clone(), changes_only: true };
    let whole = operator.good(operator.rollbacks().watch_rollback(whole).await);
    let stream = operator.good(operator.rollbacks().watch_rollback(parts.clone()).await);
    let (whole, wholes) = tokio::join!(last(whole), put_together(stream));
    assert_eq!((whole.part, whole.outcome()), (None, rollback::Outcome::Succeeded));
    assert_eq!(wholes.last(), Some(&whole));
    // Of one that is over there is the whole, and nothing more.
    let late = put_together(operator.good(operator.rollbacks().watch_rollback(parts).await)).await;
    assert_eq!(late, [whole]);
    let checkpoint = v1::WatchCheckpointRequest { name: name.replace("rollbacks/", ""), changes_only: true };
    let failure = operator.refused(operator.checkpoints().watch_checkpoint(checkpoint).await);
    assert_eq!(failure.reason, Reason::CheckpointNotFound);
}
