//! The state that is kept of an operation: another shape of it has another version.
//!
//! `golden/state.jsonl` has the version, and then the states to which the histories of the first version lead, as this version
//! keeps them. If this test fails, states that were kept before would be read as something else, or not at all: raise
//! `Operation::STATE`, and write the file anew with `RFS_WRITE_GOLDEN=1`.

use std::path::Path;

use rfs_rollout::{Envelope, Event, Operation};

const GOLDEN: &str = include_str!("golden/state.jsonl");

/// Histories that never change.
const HISTORIES: [&str; 6] = [
    include_str!("golden/history-succeeded.jsonl"),
    include_str!("golden/history-resumed.jsonl"),
    include_str!("golden/history-skipped.jsonl"),
    include_str!("golden/history-reverted.jsonl"),
    include_str!("golden/history-promoted.jsonl"),
    include_str!("golden/history-running.jsonl"),
];
/// Events of both kinds of operation, one after the other.
const FIRST: &str = include_str!("golden/v1.jsonl");

fn events(text: &str) -> Vec<Event> {
    let event = |line| serde_json::from_str::<Envelope>(line).expect("an event").event;
    text.lines().map(event).collect()
}

fn states() -> Vec<Operation> {
    let mut histories: Vec<Vec<Event>> = HISTORIES.into_iter().map(events).collect();
    let of = |checkpoint: bool| {
        let mut events = events(FIRST);
        events.retain(|event| matches!(event, Event::Checkpoint(_)) == checkpoint);
        events
    };
    histories.extend([of(true), of(false)]);
    histories.iter().map(|history| Operation::replay(history).expect("a history")).collect()
}

#[test]
fn another_shape_of_the_state_has_another_version() {
    let states = states();
    let lines = states.iter().map(|state| serde_json::to_string(state).expect("it can be kept"));
    let text: String =
        [Operation::STATE.to_string()].into_iter().chain(lines).map(|line| line + "\n").collect();
    if std::env::var_os("RFS_WRITE_GOLDEN").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/state.jsonl");
        std::fs::write(path, text).expect("it can be written");
        return;
    }
    assert!(text == GOLDEN, "raise Operation::STATE, and write golden/state.jsonl anew: RFS_WRITE_GOLDEN=1");
    for (state, line) in states.iter().zip(GOLDEN.lines().skip(1)) {
        assert_eq!(&serde_json::from_str::<Operation>(line).expect("a state"), state);
    }
}

#[test]
fn what_lacks_something_or_has_more_is_no_state() {
    let line = GOLDEN.lines().nth(1).expect("a state");
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let part = |value: &mut serde_json::Value, of: &str| value.pointer_mut(of).map(std::mem::take).expect(of);
    let with = |of: &str, part: serde_json::Value| {
        let mut value = value.clone();
        *value.pointer_mut(of).expect(of) = part;
        serde_json::from_value::<Operation>(value)
    };
    for of in ["/rollback/hosts/a", "/rollback/hosts/a/13"] {
        let is = part(&mut value.clone(), of);
        let is = is.as_array().expect("the values of a record");
        let (less, more) = (is[1..].to_vec(), [&is[..], &[1.into()]].concat());
        assert!(with(of, less.into()).is_err() && with(of, more.into()).is_err(), "{of}");
        with(of, is.clone().into()).expect("a state");
    }
    let is = part(&mut value.clone(), "/rollback");
    let is = is.as_object().expect("a rollback");
    let (mut less, mut more) = (is.clone(), is.clone());
    less.remove("plan").expect("a plan");
    more.insert("x".into(), 1.into());
    assert!(with("/rollback", less.into()).is_err() && with("/rollback", more.into()).is_err());
    serde_json::from_value::<Operation>(value).expect("a state");
}
