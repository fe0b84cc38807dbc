//! What every store must do. An implementation's tests call [`keeps_its_contract`] with a way to open a fresh store; each
//! case gets its own.

mod fleet;
mod hosts;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rfs_model::{
    CheckpointId, DeploymentId, Digest, Generation, HostId, InstanceId, OperationId, RequestId, SnapshotId,
    Timestamp,
};
use rfs_rollout::checkpoint::{CheckpointEvent, Outcome};
use rfs_rollout::{Event, GENERATIONS};
use uuid::Uuid;

use super::*;

/// An operation's id.
pub(crate) fn operation(n: u128) -> OperationId {
    CheckpointId::from_uuid(Uuid::from_u128(n)).into()
}

pub(crate) fn host(name: &str) -> HostId {
    name.parse().expect("a valid name")
}

pub(crate) fn hosts(names: &str) -> BTreeSet<HostId> {
    names.split_whitespace().map(host).collect()
}

/// Some event; which one makes no difference to a store.
pub(crate) fn event(at: i64) -> Event {
    Event::Checkpoint(CheckpointEvent::CutStarted { at: Timestamp(at) })
}

pub(crate) fn row(n: u128) -> OperationRow {
    OperationRow {
        id: operation(n),
        kind: OperationKind::Checkpoint,
        created_at: Timestamp(1000),
        open: true,
        finished: false,
        complete: false,
        deployment: None,
        target: None,
        proves: false,
        head: "{}".into(),
    }
}

pub(crate) fn new(n: u128, names: &str) -> NewOperation {
    NewOperation {
        row: row(n),
        request: None,
        hosts: hosts(names),
        generations: GENERATIONS,
        begin: Box::new(|_| vec![event(0)]),
        aside: None,
    }
}

pub(crate) fn append(n: u128, expected: u64, events: Vec<Event>) -> Append {
    Append {
        operation: operation(n),
        expected: Position(expected),
        events,
        row: None,
        claim: BTreeMap::new(),
        release: BTreeSet::new(),
        rests_on: BTreeMap::new(),
        state: None,
    }
}

fn seen(name: &str, generation: u64) -> HostSeen {
    HostSeen {
        host: host(name),
        at: Timestamp(5),
        labels: [("role".to_owned(), "web".to_owned())].into(),
        generation: Generation(generation),
        inconsistent: false,
        details: "{}".into(),
        machines: None,
    }
}

/// Begins an operation and gives back the first generation of each host.
async fn begin(store: &dyn Store, n: u128, names: &str) -> Result<Vec<u64>, CreateError> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let begin: Begin = Box::new(move |firsts| {
        sender.send(firsts.values().map(|first| first.0).collect()).expect("somebody listens");
        vec![event(0)]
    });
    store.create(NewOperation { begin, ..new(n, names) }).await?;
    Ok(receiver.recv().expect("the events were made"))
}

/// Asserts the contract.
pub(crate) async fn keeps_its_contract<S, F>(open: impl Fn() -> F)
where
    S: Store,
    F: Future<Output = S>,
{
    a_history_is_read_as_it_was_appended(&open().await).await;
    of_two_appends_at_one_position_one_wins_and_the_other_changes_nothing(Arc::new(open().await)).await;
    states::the_state_that_was_kept_last_is_read_with_what_came_after_it(&open().await).await;
    a_refused_append_changes_nothing(&open().await).await;
    a_creation_and_what_it_writes_into_another_history_are_one(&open().await).await;
    a_request_that_is_repeated_begins_nothing(&open().await).await;
    of_many_creations_with_one_request_one_begins(Arc::new(open().await)).await;
    one_operation_owns_a_host_at_a_time(&open().await).await;
    of_many_creations_for_one_host_one_begins(Arc::new(open().await)).await;
    generations_only_grow(&open().await).await;
    a_host_is_taken_again_only_if_nobody_had_it_since(&open().await).await;
    another_attempt_is_given_to_the_last_that_meant_to_change_the_host(&open().await).await;
    lists_go_page_by_page_newest_first(&open().await).await;
    what_is_open_complete_or_aimed_at_is_found(&open().await).await;
    newer_is_what_was_begun_later_whatever_ids_and_times_say(&open().await).await;
    a_checkpoint_that_lost_a_snapshot_is_no_target_until_it_is_back(&open().await).await;
    what_a_checkpoint_rests_on_is_stored_with_its_end_or_not_at_all(&open().await).await;
    hosts::hosts_are_kept_as_they_say_they_are(&open().await).await;
    hosts::the_machines_of_a_host_are_kept_until_others_are_told(&open().await).await;
    hosts::a_host_that_is_forgotten_is_nobodys_until_it_is_accepted_again(&open().await).await;
    hosts::of_a_creation_and_a_forgetting_at_one_moment_one_is_refused(Arc::new(open().await)).await;
    hosts::a_host_that_is_seen_is_told_its_owner(&open().await).await;
    there_is_one_anchor_of_time(&open().await).await;
    fleet::another_attempt_on_many_hosts_is_given_for_each_as_if_it_were_alone(&open().await).await;
    hosts::a_host_that_claims_what_cannot_be_harms_itself_alone(&open().await).await;
    fleet::many_hosts_are_taken_and_let_go_at_once_or_not_at_all(&open().await).await;
    fleet::what_is_said_of_many_hosts_together_is_as_if_each_had_been_alone(&open().await).await;
    fleet::hosts_are_read_by_name_and_an_operation_is_known_without_its_history(&open().await).await;
}

async fn a_history_is_read_as_it_was_appended(store: &dyn Store) {
    assert_eq!(store.load(operation(1)).await.expect("a read"), vec![]);
    let first = Event::Checkpoint(CheckpointEvent::Finished {
        at: Timestamp(1),
        outcome: Outcome::Complete,
        skew: std::time::Duration::from_millis(3),
    });
    let begun = first.clone();
    let created = store.create(NewOperation { begin: Box::new(move |_| vec![begun]), ..new(1, "") }).await;
    assert_eq!(created.expect("a creation"), Created::New(vec![first.clone()]));
    // More than any one statement carries.
    let many: Vec<Event> = (0..1234).map(event).collect();
    let next = store.append(append(1, 1, many.clone())).await.expect("an append");
    assert_eq!(next, Position(1235));
    assert_eq!(store.append(append(1, 1235, vec![])).await.expect("an append"), next);
    let all: Vec<Event> = [first].into_iter().chain(many).collect();
    assert_eq!(store.load(operation(1)).await.expect("a read"), all);
    let part = store.events(operation(1), Position(1233), 5).await.expect("a read");
    let part: Vec<(u64, Event)> = part.into_iter().map(|stored| (stored.position.0, stored.event)).collect();
    assert_eq!(part, [(1233, event(1232)), (1234, event(1233))]);
}

async fn of_two_appends_at_one_position_one_wins_and_the_other_changes_nothing(store: Arc<impl Store>) {
    store.create(new(1, "")).await.expect("a creation");
    let racers = (0..16).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.append(append(1, 1, vec![event(n)])).await })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.expect("no panic") {
            Ok(position) => {
                assert_eq!(position, Position(2));
                won += 1;
            }
            Err(AppendError::Conflict { at, expected, .. }) => {
                assert_eq!((at, expected), (Position(2), Position(1)))
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(store.load(operation(1)).await.expect("a read").len(), 2);
}

async fn a_refused_append_changes_nothing(store: &dyn Store) {
    begin(store, 1, "a b").await.expect("a creation");
    let changed = OperationRow { open: false, head: "changed".into(), ..row(1) };
    let refused = store
        .append(Append { release: hosts("a b"), row: Some(changed), ..append(1, 7, vec![event(1)]) })
        .await;
    assert!(matches!(refused, Err(AppendError::Conflict { at: Position(1), .. })), "{refused:?}");
    let unknown = store.append(append(9, 0, vec![event(1)])).await;
    assert!(matches!(unknown, Err(AppendError::Conflict { .. })), "{unknown:?}");
    assert_eq!(store.load(operation(1)).await.expect("a read").len(), 1);
    assert_eq!(store.operation(operation(1)).await.expect("a read"), Some(row(1)));
    let busy = store.create(new(2, "b c")).await;
    assert!(matches!(busy, Err(CreateError::HostBusy { .. })), "{busy:?}");
    assert_eq!(store.operation(operation(2)).await.expect("a read"), None, "all or nothing");
    begin(store, 3, "c").await.expect("c was not taken by the operation that could not begin");
}

async fn a_creation_and_what_it_writes_into_another_history_are_one(store: &dyn Store) {
    begin(store, 1, "a").await.expect("a creation");
    let noted = OperationRow { open: false, head: "noted".into(), ..row(1) };
    let aside = |expected| {
        let row = noted.clone();
        let (claim, release) = (BTreeMap::new(), BTreeSet::new());
        let events = vec![event(7)];
        Some(Aside { operation: operation(1), expected: Position(expected), events, row, claim, release })
    };
    let late = store.create(NewOperation { aside: aside(0), ..new(2, "b") }).await;
    assert!(matches!(late, Err(CreateError::MovedOn { .. })), "{late:?}");
    let busy = store.create(NewOperation { aside: aside(1), ..new(2, "a") }).await;
    assert!(matches!(busy, Err(CreateError::HostBusy { .. })), "{busy:?}");
    assert_eq!(store.operation(operation(2)).await.expect("a read"), None);
    assert_eq!(store.operation(operation(1)).await.expect("a read"), Some(row(1)));
    assert_eq!(store.load(operation(1)).await.expect("a read").len(), 1);

    store.create(NewOperation { aside: aside(1), ..new(2, "b") }).await.expect("b was not taken before");
    assert_eq!(store.load(operation(1)).await.expect("a read"), [event(0), event(7)]);
    assert_eq!(store.operation(operation(1)).await.expect("a read"), Some(noted.clone()));
    store.append(append(1, 2, vec![event(8)])).await.expect("it goes on from there");
}

async fn a_request_that_is_repeated_begins_nothing(store: &dyn Store) {
    let request = |text: &str| {
        Some(RequestKey { id: RequestId::new("deploy-7").expect("a valid id"), request: text.to_owned() })
    };
    let key = |text| request(text).expect("a key");
    assert_eq!(store.begun_before(&key("all")).await.expect("a read"), None);
    let first = store.create(NewOperation { request: request("all"), ..new(1, "a") }).await;
    assert!(matches!(first, Ok(Created::New(_))), "{first:?}");
    let again = store.create(NewOperation { request: request("all"), ..new(2, "a") }).await;
    assert_eq!(again.expect("no second creation"), Created::Before(operation(1)));
    let other = store.create(NewOperation { request: request("some"), ..new(3, "b") }).await;
    assert!(matches!(other, Err(CreateError::RequestIdReused { .. })), "{other:?}");
    assert_eq!(store.begun_before(&key("all")).await.expect("a read"), Some(operation(1)));
    let other = store.begun_before(&key("some")).await;
    assert!(matches!(other, Err(CreateError::RequestIdReused { .. })), "{other:?}");
    assert_eq!(store.open_operations().await.expect("a read"), [operation(1)]);
}

async fn race(
    store: &Arc<impl Store>,
    new: impl Fn(u128) -> NewOperation,
) -> Vec<(u128, Result<Created, CreateError>)> {
    let racers: Vec<_> = (1..=16)
        .map(|n| {
            let (store, new) = (Arc::clone(store), new(n));
            tokio::spawn(async move { (n, store.create(new).await) })
        })
        .collect();
    let mut results = Vec::new();
    for racer in racers {
        results.push(racer.await.expect("no panic"));
    }
    results
}

fn winner(results: &[(u128, Result<Created, CreateError>)]) -> OperationId {
    let mut won = results.iter().filter(|(_, result)| matches!(result, Ok(Created::New(_))));
    let (n, _) = won.next().expect("one begins");
    assert_eq!(won.count(), 0, "{results:?}");
    operation(*n)
}

async fn of_many_creations_with_one_request_one_begins(store: Arc<impl Store>) {
    let key = RequestKey { id: RequestId::new("deploy-7").expect("a valid id"), request: "all".into() };
    let results = race(&store, |n| NewOperation { request: Some(key.clone()), ..new(n, "a") }).await;
    let winner = winner(&results);
    for (_, result) in results {
        let created = result.expect("the same request is no error");
        assert!(matches!(created, Created::New(_)) || created == Created::Before(winner), "{created:?}");
    }
    assert_eq!(store.open_operations().await.expect("a read"), [winner]);
}

async fn of_many_creations_for_one_host_one_begins(store: Arc<impl Store>) {
    let results = race(&store, |n| new(n, "a")).await;
    let winner = winner(&results);
    for (_, result) in results {
        match result {
            Ok(_) => {}
            Err(CreateError::HostBusy { owner, .. }) => assert_eq!(owner, winner),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(store.open_operations().await.expect("a read"), [winner]);
}

async fn one_operation_owns_a_host_at_a_time(store: &dyn Store) {
    begin(store, 1, "a b").await.expect("a creation");
    match begin(store, 2, "b c").await {
        Err(CreateError::HostBusy { host: busy, owner }) => {
            assert_eq!((busy, owner), (host("b"), operation(1)));
        }
        other => panic!("{other:?}"),
    }
    // Only the owner can let go.
    begin(store, 3, "c").await.expect("a creation");
    store.append(Append { release: hosts("a"), ..append(3, 1, vec![event(1)]) }).await.expect("an append");
    assert!(begin(store, 4, "a").await.is_err());
    store.append(Append { release: hosts("a"), ..append(1, 1, vec![event(1)]) }).await.expect("an append");
    begin(store, 5, "a").await.expect("a is free");
    assert!(begin(store, 6, "b").await.is_err(), "b is not");
}

async fn generations_only_grow(store: &dyn Store) {
    assert_eq!(begin(store, 1, "a b").await.expect("a creation"), [1, 1]);
    store.append(Append { release: hosts("a"), ..append(1, 1, vec![event(1)]) }).await.expect("an append");
    assert_eq!(begin(store, 2, "a").await.expect("a creation"), [1 + GENERATIONS]);
    store.append(Append { release: hosts("a"), ..append(2, 1, vec![event(1)]) }).await.expect("an append");
    // The host knows of more than this store does: it was restored from an old backup, say.
    store.host_seen(seen("a", 100)).await.expect("a write");
    store.host_seen(seen("a", 3)).await.expect("a write");
    assert_eq!(begin(store, 3, "a").await.expect("a creation"), [101]);
    let row = store.host(&host("a")).await.expect("a read").expect("a was seen");
    assert_eq!((row.generation, row.owner), (Generation(100 + GENERATIONS), Some(operation(3))));
}

async fn a_host_is_taken_again_only_if_nobody_had_it_since(store: &dyn Store) {
    let claim = |n, expected, first| Append {
        claim: [(host("a"), Generation(first))].into(),
        ..append(n, expected, vec![event(1)])
    };
    let release = |n, expected| Append { release: hosts("a"), ..append(n, expected, vec![event(1)]) };
    let begin = async |n| {
        let row = OperationRow { kind: OperationKind::Rollback, ..row(n) };
        store.create(NewOperation { row, ..new(n, "a") }).await
    };
    begin(1).await.expect("a creation");
    store.append(claim(1, 1, 1)).await.expect("its own host");
    store.append(release(1, 2)).await.expect("an append");
    store.append(claim(1, 3, 1)).await.expect("a free host that it had last");
    assert!(begin(2).await.is_err(), "it is taken");
    store.append(release(1, 4)).await.expect("an append");
    begin(3).await.expect("a creation");
    let refused = store.append(claim(1, 5, 1)).await;
    assert!(matches!(refused, Err(AppendError::NotOwner { .. })), "{refused:?}");
    store.append(release(3, 1)).await.expect("an append");
    let refused = store.append(claim(1, 5, 1)).await;
    assert!(matches!(refused, Err(AppendError::NotOwner { .. })), "somebody had it since: {refused:?}");
    assert_eq!(store.load(operation(1)).await.expect("a read").len(), 5, "a refused claim appends nothing");
    // Nobody here had it, but the host has accepted a command of a later generation.
    store.host_seen(seen("a", 500)).await.expect("a write");
    let refused = store.append(claim(3, 2, 1 + GENERATIONS)).await;
    assert!(matches!(refused, Err(AppendError::NotOwner { .. })), "{refused:?}");
}

async fn another_attempt_is_given_to_the_last_that_meant_to_change_the_host(store: &dyn Store) {
    let rollback = async |n| {
        let row = OperationRow { kind: OperationKind::Rollback, ..row(n) };
        store.create(NewOperation { row, ..new(n, "a") }).await.expect("a creation");
    };
    let reserve = async |n| {
        let reserved = store.reserve(operation(n), &hosts("a"), GENERATIONS).await.expect("a write");
        reserved[&host("a")]
    };
    let release = async |n, expected| {
        let release = Append { release: hosts("a"), ..append(n, expected, vec![event(1)]) };
        store.append(release).await.expect("an append");
    };
    store.host_seen(seen("a", 0)).await.expect("a write");
    let first = |attempt| Reserved::First(Generation(1 + attempt * GENERATIONS));
    rollback(1).await;
    assert_eq!(reserve(1).await, first(1), "it owns the host");
    release(1, 1).await;
    // A checkpoint does not change the host: the rollback waits for its end.
    begin(store, 2, "a").await.expect("a creation");
    assert_eq!(reserve(1).await, Reserved::Busy(operation(2)));
    release(2, 1).await;
    assert_eq!(reserve(1).await, first(3), "above what the checkpoint was given");
    let held = store.host(&host("a")).await.expect("a read");
    assert_eq!(held.map(|row| row.owner), Some(Some(operation(1))), "nobody else takes it from now on");
    release(1, 2).await;
    rollback(3).await;
    assert_eq!(reserve(1).await, Reserved::Superseded);
    release(3, 1).await;
    assert_eq!(reserve(1).await, Reserved::Superseded, "also once that is over");
    // What was given for nothing is given back, and what a dead coordinator had reserved is free with its operation's end.
    let owner = async || store.host(&host("a")).await.expect("a read").and_then(|row| row.owner);
    rollback(4).await;
    store.release(operation(3), &hosts("a")).await.expect("a write");
    assert_eq!(owner().await, Some(operation(4)), "another one's host is not given free");
    store.release(operation(4), &hosts("a")).await.expect("a write");
    assert_eq!(owner().await, None);
    reserve(4).await;
    store.release_from_closed().await.expect("a write");
    assert_eq!(owner().await, Some(operation(4)), "it is open");
    let row = OperationRow { kind: OperationKind::Rollback, open: false, ..row(4) };
    store.append(Append { row: Some(row), ..append(4, 1, vec![event(1)]) }).await.expect("an append");
    store.release_from_closed().await.expect("a write");
    assert_eq!(owner().await, None);
}

async fn lists_go_page_by_page_newest_first(store: &dyn Store) {
    let deployment = DeploymentId::new("release-7").expect("a valid id");
    for n in 1..=5 {
        let deployment = (n % 2 == 0).then(|| deployment.clone());
        store
            .create(NewOperation { row: OperationRow { deployment, ..row(n) }, ..new(n, "") })
            .await
            .expect("new");
    }
    let rollback = OperationRow { kind: OperationKind::Rollback, ..row(6) };
    store.create(NewOperation { row: rollback.clone(), ..new(6, "") }).await.expect("a creation");
    let query = |limit, after| ListQuery { kind: OperationKind::Checkpoint, deployment: None, limit, after };
    let ids = |page: &Page<OperationRow>| page.items.iter().map(|row| row.id).collect::<Vec<_>>();
    let first = store.list(query(2, None)).await.expect("a read");
    assert_eq!(ids(&first), [operation(5), operation(4)]);
    // A new one does not shift the pages that follow.
    store.create(new(7, "")).await.expect("a creation");
    let second = store.list(query(2, first.next)).await.expect("a read");
    assert_eq!(ids(&second), [operation(3), operation(2)]);
    let last = store.list(query(2, second.next)).await.expect("a read");
    assert_eq!((ids(&last), last.next), (vec![operation(1)], None));
    let of = ListQuery { deployment: Some(deployment), ..query(9, None) };
    assert_eq!(ids(&store.list(of).await.expect("a read")), [operation(4), operation(2)]);
    let rollbacks = ListQuery { kind: OperationKind::Rollback, ..query(9, None) };
    assert_eq!(store.list(rollbacks).await.expect("a read").items, [rollback]);
    assert!(store.delete(operation(4), Timestamp(1)).await.expect("a write"));
    assert!(!store.delete(operation(4), Timestamp(2)).await.expect("a write"), "it is deleted already");
    assert!(!store.delete(operation(99), Timestamp(2)).await.expect("a write"), "there is none");
    assert_eq!(ids(&store.list(query(2, None)).await.expect("a read")), [operation(7), operation(5)]);
    assert_eq!(store.load(operation(4)).await.expect("a read").len(), 1, "its history stays");
}

async fn what_is_open_complete_or_aimed_at_is_found(store: &dyn Store) {
    let target = CheckpointId::from(operation(1));
    for n in [1, 2, 3] {
        store.create(new(n, "")).await.expect("a creation");
    }
    assert_eq!(store.newest_complete_checkpoint().await.expect("a read"), None);
    for n in [1, 2] {
        let done =
            OperationRow { open: false, finished: true, complete: true, head: "done".into(), ..row(n) };
        store
            .append(Append { row: Some(done.clone()), ..append(n, 1, vec![event(1)]) })
            .await
            .expect("an append");
        assert_eq!(store.operation(operation(n)).await.expect("a read"), Some(done));
    }
    assert_eq!(store.newest_complete_checkpoint().await.expect("a read"), Some(operation(2).into()));
    store.delete(operation(2), Timestamp(1)).await.expect("a write");
    assert_eq!(store.newest_complete_checkpoint().await.expect("a read"), Some(target));
    assert_eq!(store.open_operations().await.expect("a read"), [operation(3)]);

    assert_eq!(store.rollback_to(target).await.expect("a read"), None);
    let rollback = OperationRow { kind: OperationKind::Rollback, target: Some(target), ..row(4) };
    store.create(NewOperation { row: rollback.clone(), ..new(4, "") }).await.expect("a creation");
    assert_eq!(store.rollback_to(target).await.expect("a read"), Some(operation(4)));
    let deleted: [CheckpointId; 1] = [operation(2).into()];
    assert_eq!(store.deleted_checkpoints(9).await.expect("a read"), deleted);
    let done = OperationRow { open: true, finished: true, complete: true, head: "done".into(), ..row(3) };
    store.append(Append { row: Some(done), ..append(3, 1, vec![event(1)]) }).await.expect("an append");
    let needed = store.needed_checkpoints().await.expect("a read");
    assert_eq!(
        needed,
        BTreeSet::from([target, operation(3).into()]),
        "a target, and the newest complete one"
    );
    // It has an outcome, and hosts that are still to come in line.
    assert_eq!(store.last_proven_checkpoint().await.expect("a read"), None);
    let over = OperationRow { finished: true, proves: true, ..rollback };
    store.append(Append { row: Some(over), ..append(4, 1, vec![event(1)]) }).await.expect("an append");
    assert_eq!(store.rollback_to(target).await.expect("a read"), None);
    assert_eq!(store.last_proven_checkpoint().await.expect("a read"), Some(target));
    assert_eq!(store.open_operations().await.expect("a read"), [operation(3), operation(4)]);
}

/// A clock that was set back makes ids and times go back, too.
async fn newer_is_what_was_begun_later_whatever_ids_and_times_say(store: &dyn Store) {
    for (n, at) in [(50, 9_000), (20, 5_000), (30, 2_000)] {
        let row = OperationRow { created_at: Timestamp(at), ..row(n) };
        store.create(NewOperation { row, ..new(n, "") }).await.expect("a creation");
    }
    assert_eq!(store.open_operations().await.expect("a read"), [50, 20, 30].map(operation));
    let query = |limit, after| ListQuery { kind: OperationKind::Checkpoint, deployment: None, limit, after };
    let ids = |page: &Page<OperationRow>| page.items.iter().map(|row| row.id).collect::<Vec<_>>();
    let first = store.list(query(1, None)).await.expect("a read");
    assert_eq!(ids(&first), [operation(30)]);
    // A page goes on after an operation that was deleted meanwhile.
    store.delete(operation(30), Timestamp(8_000)).await.expect("a write");
    let second = store.list(query(1, first.next)).await.expect("a read");
    assert_eq!(ids(&second), [operation(20)]);
    let last = store.list(query(1, second.next)).await.expect("a read");
    assert_eq!((ids(&last), last.next), (vec![operation(50)], None));

    for n in [20, 50] {
        let done = OperationRow { open: false, finished: true, complete: true, ..row(n) };
        store.append(Append { row: Some(done), ..append(n, 1, vec![event(1)]) }).await.expect("an append");
    }
    let newest = store.newest_complete_checkpoint().await.expect("a read");
    assert_eq!(
        newest,
        Some(operation(20).into()),
        "not the one with the highest id, nor the one that ended last"
    );
    store.delete(operation(50), Timestamp(1_000)).await.expect("a write");
    let deleted: Vec<CheckpointId> = [50, 30].map(|n| operation(n).into()).into();
    assert_eq!(store.deleted_checkpoints(9).await.expect("a read"), deleted);
    assert_eq!(store.deleted_checkpoints(1).await.expect("a read"), deleted[..1]);
}

fn snapshot(number: u8) -> SnapshotId {
    SnapshotId(Digest::from_bytes([number; 32]))
}

fn holds(name: &str, at: i64, numbers: &[u8]) -> HeldSnapshots {
    let snapshots = numbers.iter().copied().map(snapshot).collect();
    HeldSnapshots { host: host(name), at: Timestamp(at), snapshots, whole: true }
}

/// Ends a checkpoint that rests on these snapshots.
fn complete(n: u128, expected: u64, rests_on: &[(&str, u8)]) -> Append {
    let done = OperationRow { open: false, finished: true, complete: true, ..row(n) };
    let rests_on = rests_on.iter().map(|(name, number)| (host(name), snapshot(*number)));
    Append { row: Some(done), rests_on: rests_on.collect(), ..append(n, expected, vec![event(1)]) }
}

async fn a_checkpoint_that_lost_a_snapshot_is_no_target_until_it_is_back(store: &dyn Store) {
    let id = |n| CheckpointId::from(operation(n));
    let newest = async || store.newest_complete_checkpoint().await.expect("a read");
    for n in [1, 2] {
        store.create(new(n, "")).await.expect("a creation");
    }
    store.append(complete(1, 1, &[("a", 1), ("b", 1)])).await.expect("an append");
    store.append(complete(2, 1, &[("a", 2), ("b", 1)])).await.expect("an append");
    let unchanged = HeldChanges::default();
    let says = async |held| store.host_holds(held).await.expect("a write");
    assert_eq!(says(holds("a", 10, &[1, 2, 77])).await, unchanged, "all is there");
    assert_eq!(newest().await, Some(id(2)));

    let changes = says(holds("a", 20, &[1])).await;
    assert_eq!(changes, HeldChanges { dropped: [id(2)].into(), lacks: true, ..unchanged.clone() });
    assert_eq!(
        says(holds("a", 30, &[1])).await,
        HeldChanges { lacks: true, ..unchanged.clone() },
        "told once"
    );
    assert_eq!(newest().await, Some(id(1)));
    let needed = store.needed_checkpoints().await.expect("a read");
    assert_eq!(needed, [id(1), id(2)].into(), "the other host still has its part of the newest one");
    let dropped = async |n| store.dropped_snapshots(id(n)).await.expect("a read");
    assert_eq!(dropped(2).await, [(host("a"), Timestamp(20))].into(), "since it was said first");
    assert_eq!(dropped(1).await, BTreeMap::new());
    let row = store.operation(operation(2)).await.expect("a read").expect("it is listed");
    assert!(!row.complete && row.finished);

    // One of two comes back; the checkpoint needs both.
    says(holds("b", 40, &[])).await;
    assert_eq!((newest().await, dropped(2).await.len()), (None, 2));
    let changes = says(holds("a", 50, &[1, 2])).await;
    assert_eq!(changes, HeldChanges { back: [id(2)].into(), ..unchanged.clone() });
    assert_eq!(newest().await, None);
    assert_eq!(says(holds("b", 60, &[1])).await.back, [id(1), id(2)].into());
    assert_eq!((newest().await, dropped(2).await), (Some(id(2)), BTreeMap::new()));

    // What is not named in a list that is cut may be there; what is named is.
    let cut = |numbers: &[u8]| HeldSnapshots { whole: false, ..holds("a", 70, numbers) };
    assert_eq!(says(cut(&[])).await, unchanged);
    says(holds("a", 80, &[1])).await;
    assert_eq!(says(cut(&[2])).await.back, [id(2)].into());

    // A deleted checkpoint rests on nothing, and what the driver writes into a row does not undo a loss.
    store.delete(operation(1), Timestamp(90)).await.expect("a write");
    assert_eq!(says(holds("a", 91, &[])).await.dropped, [id(2)].into());
    let again = OperationRow { head: "again".into(), ..complete(2, 2, &[]).row.expect("a row") };
    store.append(Append { row: Some(again), ..append(2, 2, vec![event(2)]) }).await.expect("an append");
    assert_eq!(newest().await, None);
}

async fn what_a_checkpoint_rests_on_is_stored_with_its_end_or_not_at_all(store: &dyn Store) {
    store.create(new(1, "")).await.expect("a creation");
    let names: Vec<String> = (0..500).map(|n| format!("h-{n}")).collect();
    let all: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 3)).collect();
    let refused = store.append(complete(1, 7, &all)).await;
    assert!(matches!(refused, Err(AppendError::Conflict { .. })), "{refused:?}");
    assert_eq!(store.host_holds(holds("h-0", 1, &[])).await.expect("a read"), HeldChanges::default());
    store.append(complete(1, 1, &all)).await.expect("an append");
    for name in ["h-0", "h-250", "h-499"] {
        let changes = store.host_holds(holds(name, 1, &[])).await.expect("a write");
        assert_eq!(changes.dropped.len(), 1, "{name}");
    }
}

async fn there_is_one_anchor_of_time(store: &dyn Store) {
    assert_eq!(store.timeline().await.expect("a read"), None);
    let anchor = |boot: &str, time| Anchor {
        boot: boot.to_owned(),
        uptime: Duration::from_millis(1_234),
        time: Timestamp(time),
    };
    for anchor in [anchor("b1", 5), anchor("b2", 3)] {
        store.anchor_timeline(anchor.clone()).await.expect("a write");
        assert_eq!(store.timeline().await.expect("a read"), Some(anchor));
    }
    assert_eq!(store.newest_open_time().await.expect("a read"), None);
    for n in [1, 2, 3] {
        store.create(new(n, "")).await.expect("a creation");
    }
    store.append(append(1, 1, vec![event(40), event(70)])).await.expect("an append");
    store.append(append(2, 1, vec![event(60)])).await.expect("an append");
    assert_eq!(store.newest_open_time().await.expect("a read"), Some(Timestamp(70)));
    let over = OperationRow { open: false, finished: true, ..row(1) };
    store.append(Append { row: Some(over), ..append(1, 3, vec![event(99)]) }).await.expect("an append");
    assert_eq!(store.newest_open_time().await.expect("a read"), Some(Timestamp(60)), "of what is open");
}
