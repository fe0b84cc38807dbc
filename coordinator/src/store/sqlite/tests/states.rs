//! A state that is kept beside a history which did not lead to it counts for nothing.

use super::*;
use crate::store::contract::Tail;

/// What is read after two events, the state that they led to and one more event, of the operation `of`, once `change` happened.
async fn read_after(change: &'static str, of: u128) -> (Tail, Vec<Event>) {
    let folder = folder();
    let store = open(&folder).await;
    for (n, state) in [(1, "three"), (2, "another")] {
        store.create(new(n, "")).await.expect("a creation");
        let append_more = Append { state: Some(state.into()), ..append(n, 1, vec![event(1), event(2)]) };
        store.append(append_more).await.expect("an append");
        store.append(append(n, 3, vec![event(3)])).await.expect("an append");
    }
    sqlx::raw_sql(change).execute(&store.writer).await.expect("a change");
    let tail = store.tail(operation(of)).await.expect("a read");
    (tail, store.load(operation(of)).await.expect("a read"))
}

#[tokio::test]
async fn a_state_counts_only_as_it_was_written_and_after_the_events_that_led_to_it() {
    let (tail, history) = read_after("SELECT 1", 1).await;
    assert_eq!((tail.state.as_deref(), tail.known, history.len()), (Some("three"), Position(3), 4));
    assert_eq!(tail.events, [event(3)]);
    let id = |n| operation(n).to_string();
    let swapped = format!(
        "DELETE FROM operation_state WHERE operation = '{0}'; \
         UPDATE operation_state SET operation = '{0}' WHERE operation = '{1}'",
        id(1),
        id(2)
    );
    for (why, change) in [
        ("it was damaged", "UPDATE operation_state SET body = 'thref'"),
        ("it is no text", "UPDATE operation_state SET body = X'ff'"),
        ("its seal was damaged", "UPDATE operation_state SET seal = ''"),
        ("it is said to be older", "UPDATE operation_state SET position = 2"),
        ("it is said to be newer", "UPDATE operation_state SET position = 4"),
        ("it has no place", "UPDATE operation_state SET position = -1"),
        ("it is newer than the history", "DELETE FROM event WHERE position >= 2"),
        ("it is as new as nothing", "DELETE FROM event"),
        (
            "it is of another history",
            "UPDATE event SET body = (SELECT body FROM event WHERE position = 3) WHERE position = 2",
        ),
        ("it is another operation's", swapped.leak()),
    ] {
        let (tail, history) = read_after(change, 1).await;
        assert_eq!(tail, Tail { events: history, ..Tail::default() }, "{why}");
    }
}

#[tokio::test]
async fn nothing_is_kept_of_events_that_are_not_stored() {
    let folder = folder();
    let store = open(&folder).await;
    store.create(new(1, "")).await.expect("a creation");
    sqlx::raw_sql(
        "CREATE TRIGGER full BEFORE INSERT ON operation_state BEGIN SELECT RAISE(ABORT, 'full'); END",
    )
    .execute(&store.writer)
    .await
    .expect("a trigger");
    let kept = Append { state: Some("two".into()), ..append(1, 1, vec![event(1)]) };
    store.append(kept.clone()).await.expect_err("the disk is full");
    assert_eq!(store.load(operation(1)).await.expect("a read"), [event(0)], "both or none");
    sqlx::raw_sql("DROP TRIGGER full").execute(&store.writer).await.expect("a change");
    store.append(kept).await.expect("an append");
    let tail = store.tail(operation(1)).await.expect("a read");
    assert_eq!((tail.state.as_deref(), tail.known, tail.events.len()), (Some("two"), Position(2), 0));
}
