//! What would be lost, over the operator API: planned, refused, decided about, and told once it went.

mod support;

use rfs_model::Reason;
use rfs_proto::v1::{self, host_progress, rollback};
use support::{FakeAgent, Fleet, Operator, until};

/// A host with a checkpoint, and a bad release that has brought two files.
async fn broken_host() -> (Fleet, Operator, FakeAgent, v1::RollbackSpec) {
    let fleet = Fleet::start().await;
    let operator = fleet.operator("alice").await;
    let agent = fleet.agent("web-1", &[]);
    until("it is connected", async || (agent.state().welcomes > 0).then_some(())).await;
    let request = v1::CreateCheckpointRequest::default();
    let begun = operator.good(operator.checkpoints().create_checkpoint(request).await);
    let request = v1::GetCheckpointRequest { name: begun.name.clone() };
    until("the checkpoint is complete", async || {
        let now = operator.good(operator.checkpoints().get_checkpoint(request.clone()).await);
        (now.state() == v1::checkpoint::State::Complete).then_some(())
    })
    .await;
    {
        let mut state = agent.state();
        (state.value, state.extras) = (9, vec!["/srv/up/a".into(), "/srv/up/b".into()]);
    }
    let gate = v1::GatePolicy { ignore_health: Some(true), ..Default::default() };
    let spec = v1::RollbackSpec { checkpoint: begun.name, gate: Some(gate), ..Default::default() };
    (fleet, operator, agent, spec)
}

fn choices(keep: &[&str], accept_loss: &[&str]) -> Option<v1::RestoreChoices> {
    let texts = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    Some(v1::RestoreChoices { keep: texts(keep), accept_loss: texts(accept_loss), force_stop: false })
}

async fn start(operator: &Operator, spec: v1::RollbackSpec, id: &str) -> v1::Rollback {
    let request = v1::CreateRollbackRequest { spec: Some(spec), request_id: id.into(), ..Default::default() };
    operator.good(operator.rollbacks().create_rollback(request).await)
}

/// The rollback once it is in that state.
async fn becomes(operator: &Operator, rollback: &v1::Rollback, state: rollback::State) -> v1::Rollback {
    let request = v1::GetRollbackRequest { name: rollback.name.clone() };
    until("it gets there", async || {
        let now = operator.good(operator.rollbacks().get_rollback(request.clone()).await);
        (now.state() == state).then_some(now)
    })
    .await
}

fn host(rollback: &v1::Rollback) -> &v1::HostProgress {
    &rollback.waves[0].hosts[0]
}

#[tokio::test]
async fn a_host_that_refuses_a_loss_is_refused_and_goes_on_once_that_is_accepted_for_it() {
    let (_fleet, operator, agent, spec) = broken_host().await;
    agent.state().refuses_loss = true;
    let request = v1::PlanRollbackRequest { spec: Some(spec.clone()), ..Default::default() };
    let plan = operator.good(operator.rollbacks().plan_rollback(request).await);
    let failure = plan.hosts[0].failure.as_ref().expect("it cannot comply");
    assert_eq!(failure.reason, Reason::LossNotAccepted.as_str());

    let rollback = start(&operator, spec, "").await;
    let paused = becomes(&operator, &rollback, rollback::State::Paused).await;
    assert_eq!(host(&paused).state(), host_progress::State::Refused, "{paused:?}");
    let failure = host(&paused).failure.as_ref().expect("it says why");
    assert_eq!((failure.reason.as_str(), agent.state().value), (Reason::LossNotAccepted.as_str(), 9));
    let id = paused.name.strip_prefix("rollbacks/").expect("a name");
    assert_eq!(failure.next, format!("keep it: rfs rollback retry {id} --host web-1 --keep PATTERN"));
    let cause = paused.cause.as_ref().expect("a pause has a cause");
    assert_eq!(cause.reason, Reason::LossNotAccepted.as_str());
    assert!(cause.message.starts_with("1 host refused a loss that was not accepted"), "{cause:?}");

    let retry = async |choices| {
        let request = v1::RetryRollbackRequest { name: paused.name.clone(), choices, ..Default::default() };
        operator.rollbacks().retry_rollback(request).await
    };
    let failure = operator.refused(retry(choices(&[""], &[])).await);
    assert_eq!(failure.fields[0].field, "choices.keep[0]", "{failure:?}");
    operator.good(retry(choices(&["/srv/up/b"], &["/srv/up/a"])).await);
    let ended = becomes(&operator, &rollback, rollback::State::Finished).await;
    assert_eq!(ended.outcome(), rollback::Outcome::Succeeded, "{ended:?}");
    let told = host(&ended);
    let lost = told.lost.as_ref().expect("something went");
    assert_eq!((lost.count, lost.bytes, lost.first.as_slice()), (1, 7, &["/srv/up/a".to_owned()][..]));
    assert_eq!(told.loss_backup, told.backup);
    assert_eq!(told.bring_back, format!("rfs-agent restore {} --path /srv/up/a", &told.backup[..12]));
    assert_eq!(told.notes, ["/srv/up/b is not in the snapshot and is kept"]);
    assert_eq!(agent.state().extras, ["/srv/up/b"]);
    let request = v1::ListRollbackEventsRequest { name: ended.name.clone(), ..Default::default() };
    let events = operator.good(operator.rollbacks().list_rollback_events(request).await).events;
    let says = |text: &str| events.iter().any(|event| event.description.contains(text));
    assert!(says("removed 1 entry (7 B): /srv/up/a"), "{events:?}");
    assert!(events.iter().any(|event| event.json.contains("\"accept_loss\":[\"/srv/up/a\"]")), "{events:?}");
}

#[tokio::test]
async fn what_was_decided_is_part_of_the_request_and_of_the_command_and_not_of_an_undo() {
    let (_fleet, operator, agent, spec) = broken_host().await;
    let kept = v1::RollbackSpec { choices: choices(&["/srv/up/a"], &[]), ..spec.clone() };
    let request = v1::PlanRollbackRequest { spec: Some(kept.clone()), ..Default::default() };
    let plan = operator.good(operator.rollbacks().plan_rollback(request).await);
    assert_eq!((plan.hosts[0].loss_count, &plan.hosts[0].losses), (1, &vec!["/srv/up/b".to_owned()]));
    assert_eq!(plan.spec.and_then(|spec| spec.choices), choices(&["/srv/up/a"], &[]));

    let rollback = start(&operator, kept.clone(), "one").await;
    let ended = becomes(&operator, &rollback, rollback::State::Finished).await;
    assert_eq!(agent.state().decided, choices(&["/srv/up/a"], &[]).into_iter().collect::<Vec<_>>());
    assert_eq!(ended.spec.as_ref().and_then(|spec| spec.choices.clone()), choices(&["/srv/up/a"], &[]));
    assert_eq!(start(&operator, kept, "one").await.name, ended.name, "the same request");
    let create =
        v1::CreateRollbackRequest { spec: Some(spec), request_id: "one".into(), ..Default::default() };
    let failure = operator.refused(operator.rollbacks().create_rollback(create).await);
    assert_eq!(failure.reason, Reason::RequestIdReused, "other flags are another request: {failure:?}");

    let request = v1::UndoRollbackRequest { name: ended.name.clone(), ..Default::default() };
    let undo = operator.good(operator.rollbacks().undo_rollback(request).await);
    let undone = becomes(&operator, &undo, rollback::State::Finished).await;
    assert_eq!(undone.spec.and_then(|spec| spec.choices), None, "it was decided for one rollback");
    assert_eq!(agent.state().decided[1], v1::RestoreChoices::default());
}
