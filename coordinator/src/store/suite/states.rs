//! The states that are kept beside histories.

use super::*;

pub(super) async fn the_state_that_was_kept_last_is_read_with_what_came_after_it(store: &dyn Store) {
    let tail = async || store.tail(operation(1)).await.expect("a read");
    assert_eq!(tail().await, Tail::default(), "there is no such operation");
    store.create(new(1, "")).await.expect("a creation");
    let is = |state: Option<&str>, known, events: &[i64]| {
        let events = events.iter().map(|n| event(*n)).collect();
        Tail { state: state.map(str::to_owned), known: Position(known), events }
    };
    assert_eq!(tail().await, is(None, 0, &[0]));
    let with = |expected, events: &[i64], state: &str| Append {
        state: Some(state.into()),
        ..append(1, expected, events.iter().map(|n| event(*n)).collect())
    };
    store.append(with(1, &[1, 2], "three")).await.expect("an append");
    assert_eq!(tail().await, is(Some("three"), 3, &[]));
    store.append(append(1, 3, vec![event(3)])).await.expect("an append");
    store.append(with(2, &[4], "refused")).await.expect_err("another position");
    assert_eq!(tail().await, is(Some("three"), 3, &[3]), "what is refused keeps nothing");
    store.append(with(4, &[4], "five")).await.expect("an append");
    assert_eq!(tail().await, is(Some("five"), 5, &[]));
    assert_eq!(store.load(operation(1)).await.expect("a read").len(), 5, "the history is whole");
    store.delete(operation(1), Timestamp(1)).await.expect("a write");
    assert_eq!(tail().await, is(None, 0, &[0, 1, 2, 3, 4]), "its history stays, and no more");
}
