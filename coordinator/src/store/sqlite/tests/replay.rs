//! What it takes to find out from the store where a rollback of a large fleet stands.

use std::time::{Duration, Instant};

use rfs_rollout::rollback::Outcome;
use rfs_rollout::{Event, Operation};

use super::*;
use crate::play::{Play, hosts, to_the_end};
use crate::store::NewOperation;

/// How many events a driver appends at once, more or less.
const APPENDED: usize = 1024;

/// Stores a history as a driver does.
async fn keep(store: &SqliteStore, play: &Play) {
    let id = play.operation.id();
    let (first, rest) = play.history.split_first().expect("a creation");
    let begun = first.clone();
    let new = NewOperation {
        row: crate::store::OperationRow { id, ..crate::store::suite::row(1) },
        begin: Box::new(move |_| vec![begun]),
        ..new(1, "")
    };
    store.create(new).await.expect("a creation");
    let mut expected = 1;
    for events in rest.chunks(APPENDED) {
        let append = Append { operation: id, ..append(1, expected, events.to_vec()) };
        Position(expected) = store.append(append).await.expect("an append");
    }
}

#[tokio::test]
async fn a_rollback_of_ten_thousand_hosts_is_read_and_replayed() {
    let play = to_the_end(&hosts(10_000, 12), |_| {});
    let Operation::Rollback(rollback) = play.operation.as_ref() else { panic!("a rollback") };
    assert_eq!(rollback.outcome(), Some(Outcome::Succeeded));
    let folder = folder();
    let store = open(&folder).await;
    keep(&store, &play).await;
    let started = Instant::now();
    let history: Vec<Event> = store.load(play.operation.id()).await.expect("a read");
    let read = started.elapsed();
    let replayed = Operation::replay(&history).expect("a history");
    let all = started.elapsed();
    assert_eq!(&replayed, play.operation.as_ref());
    let bytes = std::fs::metadata(folder.path().join("rfs.db")).expect("the store").len();
    println!("{} events, {bytes} bytes: read in {read:?}, replayed after {all:?}", history.len());
    assert!(all < Duration::from_secs(20), "{all:?}");
}
