//! Checkpoints that do not get what they wait for, over the operator API: ended by a person, and complete without some hosts.

mod support;

use rfs_model::Reason;
use rfs_proto::v1::{self, amount, checkpoint, host_snapshot};
use support::{FakeAgent, Fleet, Operator, until};

/// Two hosts that are connected.
async fn pair(fleet: &Fleet, operator: &Operator) -> [FakeAgent; 2] {
    let agents = ["web-1", "web-2"].map(|name| fleet.agent(name, &["role=web"]));
    until("both are connected", async || {
        let request = v1::ListHostsRequest::default();
        let listed = operator.good(operator.hosts().list_hosts(request).await).hosts;
        (listed.iter().filter(|host| host.connected).count() == 2).then_some(())
    })
    .await;
    agents
}

async fn create(operator: &Operator, request: v1::CreateCheckpointRequest) -> v1::Checkpoint {
    operator.good(operator.checkpoints().create_checkpoint(request).await)
}

async fn get(operator: &Operator, name: &str) -> v1::Checkpoint {
    let request = v1::GetCheckpointRequest { name: name.to_owned() };
    operator.good(operator.checkpoints().get_checkpoint(request).await)
}

async fn abort(operator: &Operator, name: &str) -> Result<tonic::Response<v1::Checkpoint>, tonic::Status> {
    operator.checkpoints().abort_checkpoint(v1::AbortCheckpointRequest { name: name.to_owned() }).await
}

async fn ended(operator: &Operator, begun: &v1::Checkpoint) -> v1::Checkpoint {
    let has_ended = async || {
        let now = get(operator, &begun.name).await;
        (now.state() != checkpoint::State::Creating).then_some(now)
    };
    until("the checkpoint ends", has_ended).await
}

async fn owner(operator: &Operator, name: &str) -> String {
    let request = v1::GetHostRequest { name: name.to_owned() };
    operator.good(operator.hosts().get_host(request).await).owner
}

#[tokio::test]
async fn an_abort_frees_every_host_at_once_and_what_was_aborted_stays_so() {
    let mut fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let agents = pair(&fleet, &operator).await;
    agents[1].state().holds_still = true;
    let timeout = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let begun = create(&operator, v1::CreateCheckpointRequest { timeout, ..Default::default() }).await;
    for host in ["web-1", "web-2"] {
        assert_eq!(owner(&operator, host).await, begun.name);
    }
    let vera = fleet.operator("vera").await;
    assert_eq!(vera.refused(abort(&vera, &begun.name).await).reason, Reason::PermissionDenied);

    let aborted = operator.good(abort(&operator, &begun.name).await);
    assert_eq!(aborted.state(), checkpoint::State::Aborted, "{aborted:?}");
    for part in &aborted.snapshots {
        assert_eq!(part.state(), host_snapshot::State::Failed);
        assert_eq!(part.failure.as_ref().map(|f| f.message.as_str()), Some("aborted by operator/alice"));
    }
    // Also the one that has not said a word.
    for host in ["web-1", "web-2"] {
        assert_eq!(owner(&operator, host).await, "");
    }
    let again = operator.good(abort(&operator, &begun.name).await);
    assert_eq!(again.complete_time, aborted.complete_time, "once more is nothing");
    fleet.stop().await;
    fleet.resume().await;
    let operator = fleet.operator("alice").await;
    assert_eq!(get(&operator, &begun.name).await.state(), checkpoint::State::Aborted);
    assert_eq!(operator.good(abort(&operator, &begun.name).await).state(), checkpoint::State::Aborted);
    let spec = v1::RollbackSpec { checkpoint: begun.name.clone(), ..Default::default() };
    let request = v1::PlanRollbackRequest { spec: Some(spec), ..Default::default() };
    let failure = operator.refused(operator.rollbacks().plan_rollback(request).await);
    assert_eq!(failure.reason, Reason::CheckpointIncomplete);
    assert!(failure.message.contains("was aborted"), "{failure:?}");

    agents[1].state().holds_still = false;
    let whole = ended(&operator, &create(&operator, v1::CreateCheckpointRequest::default()).await).await;
    assert_eq!(whole.state(), checkpoint::State::Complete, "{whole:?}");
    let failure = operator.refused(abort(&operator, &whole.name).await);
    assert_eq!(failure.reason, Reason::WrongState);
    assert!(failure.next_step().contains("rfs checkpoint show"), "{failure:?}");
    let nothing = abort(&operator, "checkpoints/0193b5a0-0000-7000-8000-000000000001").await;
    assert_eq!(operator.refused(nothing).reason, Reason::CheckpointNotFound);
}

#[tokio::test]
async fn a_checkpoint_without_a_host_that_may_be_missing_is_one_of_the_others() {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let [_here, gone] = pair(&fleet, &operator).await;
    gone.state().offline = true;
    until("it is gone", async || {
        let request = v1::GetHostRequest { name: "web-2".into() };
        (!operator.good(operator.hosts().get_host(request).await).connected).then_some(())
    })
    .await;
    let allow = |amount| v1::CreateCheckpointRequest {
        allow_missing: Some(v1::Amount { amount: Some(amount) }),
        ..Default::default()
    };
    let begun = create(&operator, allow(amount::Amount::Percent(50))).await;
    let taken = ended(&operator, &begun).await;
    assert_eq!((taken.state(), taken.missing_count, taken.host_count), (checkpoint::State::Complete, 1, 2));
    assert_eq!(taken.snapshots[1].failure.as_ref().map(|f| f.reason.as_str()), Some("HOST_UNREACHABLE"));
    let listed =
        operator.good(operator.checkpoints().list_checkpoints(v1::ListCheckpointsRequest::default()).await);
    assert_eq!(listed.checkpoints[0].missing_count, 1);
    let failure =
        operator.refused(operator.checkpoints().create_checkpoint(allow(amount::Amount::Percent(100))).await);
    assert_eq!(failure.fields[0].field, "allow_missing.percent", "{failure:?}");

    let spec = v1::RollbackSpec { checkpoint: taken.name.clone(), ..Default::default() };
    let request = v1::PlanRollbackRequest { spec: Some(spec), ..Default::default() };
    let plan = operator.good(operator.rollbacks().plan_rollback(request.clone()).await);
    assert!(plan.left_out["web-2"].contains("lacks it: no connection for 10s"), "{:?}", plan.left_out);
    let create = v1::CreateRollbackRequest { spec: request.spec, ..Default::default() };
    let begun = operator.good(operator.rollbacks().create_rollback(create).await);
    assert_eq!(begun.left_out, plan.left_out, "it is in the record");
    // What nobody has of it is asked of nobody: the host that comes back has nothing to be compared with.
    gone.state().offline = false;
    until("it is back", async || {
        let request = v1::GetHostRequest { name: "web-2".into() };
        operator.good(operator.hosts().get_host(request).await).connected.then_some(())
    })
    .await;
    assert_eq!(get(&operator, &taken.name).await.state(), checkpoint::State::Complete);
}
