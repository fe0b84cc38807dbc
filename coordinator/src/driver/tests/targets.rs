//! Requests that do not fit the fleet, repeated requests, and checkpoints that must stay.

use rfs_model::{Reason, RequestId};

use super::*;

fn refused<T: std::fmt::Debug>(result: Result<T, OperationError>) -> String {
    let error = result.expect_err("it is refused");
    let reason = error.reason();
    let field = error.field().map(ToOwned::to_owned);
    match field {
        Some(field) => format!("{reason} at {field}: {error}"),
        None => format!("{reason}: {error}"),
    }
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_refused_with_the_field_and_changes_nothing() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let operations = &coordinator.operations;

    let mut request = checkpoint_request();
    request.selector.labels.insert("role".into(), "db".into());
    assert_eq!(
        refused(operations.create_checkpoint(request, None).await),
        "NO_HOST_MATCHES at selector: selector: role=db matches none of the 2 hosts of the fleet; did you mean role=web?; `rfs host list` shows \
         names and labels"
    );
    let mut request = checkpoint_request();
    request.selector.hosts.insert(host("z"));
    assert_eq!(
        refused(operations.create_checkpoint(request, None).await),
        "HOST_NOT_FOUND at selector.hosts[0]: selector.hosts[0]: no host z is known; `rfs host list` shows those that are"
    );
    let mut request = checkpoint_request();
    request.timeout = Duration::ZERO;
    assert_eq!(
        refused(operations.create_checkpoint(request, None).await),
        "INVALID_ARGUMENT at timeout: timeout: must be longer than 0"
    );
    let unknown: CheckpointId = "0193b5a0-0000-7000-8000-000000000009".parse().expect("an id");
    assert_eq!(
        refused(operations.plan_rollback(&rollback_request(Source::Checkpoint(unknown))).await),
        format!("CHECKPOINT_NOT_FOUND at checkpoint: there is no checkpoint {unknown}")
    );
    let unknown: RollbackId = "0193b5a0-0000-7000-8000-000000000009".parse().expect("an id");
    assert_eq!(
        refused(operations.plan_rollback(&rollback_request(Source::Undo(unknown))).await),
        format!("ROLLBACK_NOT_FOUND: there is no rollback {unknown}")
    );
    assert_eq!(bed.store.open_operations().await.expect("the store answers"), []);
    assert!(bed.store.hosts().await.expect("the store answers").iter().all(|row| row.generation.0 == 0));
}

#[tokio::test]
async fn a_failure_names_the_field_from_the_root_of_the_request() {
    let unknown: CheckpointId = "0193b5a0-0000-7000-8000-000000000009".parse().expect("an id");
    let failure = OperationError::NoCheckpoint(unknown).failure("spec");
    assert_eq!(
        (failure.reason, failure.fields[0].field.as_str()),
        (Reason::CheckpointNotFound, "spec.checkpoint")
    );
}

#[tokio::test]
async fn one_operation_owns_a_host_at_a_time() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let id = bed.rollback(&coordinator, |_| {}).await;
    let busy = coordinator.operations.create_checkpoint(checkpoint_request(), None).await;
    let busy = busy.expect_err("the host is owned").failure("");
    assert_eq!(busy.message, format!("host a is owned by rollback {id}"));
    assert_eq!(busy.next_step(), format!("wait for it, or end it: rfs rollback abort {id}"));
}

#[tokio::test]
async fn a_repeated_request_gives_the_first_operation_and_another_one_under_its_id_is_refused() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let key = RequestId::new("deploy-7").expect("an id");
    let first = coordinator.operations.create_checkpoint(checkpoint_request(), Some(key.clone())).await;
    let first = first.expect("it begins");
    // While it runs and owns the host, and after.
    for _ in 0..2 {
        let again = coordinator.operations.create_checkpoint(checkpoint_request(), Some(key.clone())).await;
        assert_eq!(again.expect("the first one"), first);
        bed.pass(&coordinator, first, 0).await;
    }
    let mut other = checkpoint_request();
    other.reason = "another".into();
    let reused = coordinator.operations.create_checkpoint(other, Some(key)).await;
    assert_eq!(
        refused(reused),
        "REQUEST_ID_REUSED at request_id: request id deploy-7 was used before, for another request"
    );
}

#[tokio::test]
async fn a_checkpoint_that_something_needs_is_not_deleted() {
    let bed = Bed::of(2).await;
    let coordinator = bed.start().await;
    let operations = &coordinator.operations;
    let first = bed.checkpoint(&coordinator).await;
    assert_eq!(
        refused(operations.delete_checkpoint(first).await),
        format!("CHECKPOINT_IN_USE: checkpoint {first} stays: it is the newest complete one")
    );
    let request = rollback_request(Source::Checkpoint(first));
    let rollback = operations.create_rollback(request, None).await.expect("it begins");
    assert_eq!(
        refused(operations.delete_checkpoint(first).await),
        format!("CHECKPOINT_IN_USE: checkpoint {first} stays: rollback {rollback} is on its way to it")
    );
    bed.pass(&coordinator, rollback, 6).await;
    let second = bed.checkpoint(&coordinator).await;
    assert_eq!(
        refused(operations.delete_checkpoint(first).await),
        format!(
            "CHECKPOINT_IN_USE: checkpoint {first} stays: it is the last one that a rollback has reached and found healthy"
        )
    );
    let request = rollback_request(Source::Checkpoint(second));
    let rollback = operations.create_rollback(request, None).await.expect("it begins");
    bed.pass(&coordinator, rollback, 6).await;
    operations.delete_checkpoint(first).await.expect("nothing needs it");
    assert!(operations.get(first.into()).await.expect("the store answers").is_none());
    assert_eq!(
        refused(operations.delete_checkpoint(first).await),
        format!("CHECKPOINT_NOT_FOUND at checkpoint: there is no checkpoint {first}")
    );
    let gone = operations.plan_rollback(&rollback_request(Source::Checkpoint(first))).await;
    assert_eq!(refused(gone), format!("CHECKPOINT_NOT_FOUND at checkpoint: there is no checkpoint {first}"));
}

#[tokio::test]
async fn a_repeated_request_is_answered_even_if_it_would_not_fit_any_more() {
    let bed = Bed::of(1).await;
    let coordinator = bed.start().await;
    let operations = &coordinator.operations;
    let first = bed.checkpoint(&coordinator).await;
    let key = RequestId::new("rollback-7").expect("an id");
    let request = rollback_request(Source::Checkpoint(first));
    let begun = operations.create_rollback(request.clone(), Some(key.clone())).await.expect("it begins");
    bed.pass(&coordinator, begun, 4).await;
    let second = bed.checkpoint(&coordinator).await;
    let other = operations.create_rollback(rollback_request(Source::Checkpoint(second)), None).await;
    bed.pass(&coordinator, other.expect("it begins"), 4).await;
    operations.delete_checkpoint(first).await.expect("nothing needs it");
    let again = operations.create_rollback(request, Some(key)).await;
    assert_eq!(again.expect("the first one"), begun);
}
