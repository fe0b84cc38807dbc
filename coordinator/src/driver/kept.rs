//! Where an operation stands, by the state that was kept of it last and the events since.
//!
//! The history is the truth. A state is kept after so many events that to write it costs each of them little, and once the
//! operation has an outcome, since that is what people look at later. One that this version cannot read is as good as none.

use std::sync::Arc;

use rfs_model::OperationId;
use rfs_rollout::Operation;

use super::view;
use crate::store::{Position, Store, StoreError, Tail};

/// A history that is shorter is read as fast as a state.
const LEAST: u64 = 1000;

/// An operation, and how much of its history is known.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) operation: Operation,
    /// How many events it has.
    pub(super) position: Position,
    /// How many of them had led to the state that is kept; 0 if none is.
    pub(super) kept: Position,
}

/// Reads an operation; none if there is none of that id.
pub(super) async fn read(store: &dyn Store, id: OperationId) -> Result<Option<Known>, StoreError> {
    let Tail { state, known, events } = store.tail(id).await?;
    let shortcut =
        state.and_then(|state| Operation::from_kept(&state)).filter(|operation| operation.id() == id);
    let damaged = |source| StoreError::Damaged { what: format!("the history of operation {id}"), source };
    if let Some(operation) = shortcut {
        let position = Position(known.0 + events.len() as u64);
        let skipped = usize::try_from(known.0).unwrap_or(usize::MAX);
        let operation = operation.resume(skipped, &events).map_err(|error| damaged(error.into()))?;
        return Ok(Some(Known { operation, position, kept: known }));
    }
    let history = if known == Position(0) { events } else { store.load(id).await? };
    if history.is_empty() {
        return Ok(None);
    }
    let operation = Operation::replay(&history).map_err(|error| damaged(error.into()))?;
    Ok(Some(Known { operation, position: Position(history.len() as u64), kept: Position(0) }))
}

/// The state to be kept with the events that lead from `before` to `after` and make `position` of them, if it is time.
pub(super) fn due(
    before: &Operation,
    after: &Operation,
    kept: Position,
    position: Position,
) -> Option<Arc<str>> {
    let since = position.0.saturating_sub(kept.0);
    let ends = !before.finished() && after.finished() && position.0 >= LEAST;
    // A state is as long as half as many events as it has hosts, more or less.
    let many = since >= LEAST.max(view::host_count(after) as u64 / 2);
    (ends || many).then(|| after.to_kept().into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rfs_rollout::Event;
    use rfs_rollout::rollback::Outcome;

    use super::*;
    use crate::play::{Play, hosts, to_the_end};
    use crate::store::{Append, NewOperation, SqliteStore, suite};

    /// How many events a driver appends at once, more or less.
    const APPENDED: usize = 1024;

    struct Bed {
        store: SqliteStore,
        id: OperationId,
        folder: tempfile::TempDir,
    }

    impl Bed {
        /// Stores a history as a driver does, with what `kept` keeps of the states.
        async fn of(
            play: &Play,
            kept: impl Fn(&Operation, &Operation, Position, Position) -> Option<Arc<str>>,
        ) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let store = SqliteStore::open(&folder.path().join("rfs.db")).await.expect("a store");
            let id = play.operation.id();
            let (first, rest) = play.history.split_first().expect("a creation");
            let begun = first.clone();
            let row = crate::store::OperationRow { id, ..suite::row(1) };
            let new = NewOperation { row, begin: Box::new(move |_| vec![begun]), ..suite::new(1, "") };
            store.create(new).await.expect("a creation");
            let mut before = Operation::begin(first).expect("a creation");
            let (mut position, mut at) = (Position(1), Position(0));
            for events in rest.chunks(APPENDED) {
                let after = before.clone().resume(1, events).expect("a history");
                let next = Position(position.0 + events.len() as u64);
                let state = kept(&before, &after, at, next);
                at = if state.is_some() { next } else { at };
                let append = Append { operation: id, state, ..suite::append(1, position.0, events.to_vec()) };
                position = store.append(append).await.expect("an append");
                before = after;
            }
            Self { store, id, folder }
        }

        async fn known(&self) -> Known {
            read(&self.store, self.id).await.expect("the store answers").expect("it is there")
        }
    }

    #[tokio::test]
    async fn a_rollback_of_ten_thousand_hosts_is_known_without_its_history() {
        let play = to_the_end(&hosts(10_000, 12), |_| {});
        let Operation::Rollback(rollback) = play.operation.as_ref() else { panic!("a rollback") };
        assert_eq!(rollback.outcome(), Some(Outcome::Succeeded));
        let bed = Bed::of(&play, due).await;
        let mut times = Vec::new();
        let known = loop {
            let started = Instant::now();
            let known = bed.known().await;
            times.push(started.elapsed());
            assert_eq!(&known.operation, play.operation.as_ref());
            // The first one opens a connection to the store.
            if times.len() == 6 {
                break known;
            }
        };
        times.sort_unstable();
        let (shortcut, best) = (times[2], times[0]);
        assert_eq!(known.position.0, play.history.len() as u64);
        assert_eq!(known.kept, known.position, "the outcome is kept");

        let started = Instant::now();
        let history: Vec<Event> = bed.store.load(bed.id).await.expect("a read");
        let read = started.elapsed();
        assert_eq!(&Operation::replay(&history).expect("a history"), play.operation.as_ref());
        let whole = started.elapsed();
        let started = Instant::now();
        let tail = bed.store.tail(bed.id).await.expect("a read");
        let fetched = started.elapsed();
        assert_eq!(tail.known, known.position);
        let started = Instant::now();
        let state = play.operation.to_kept();
        let written = started.elapsed();
        let started = Instant::now();
        let parsed = Operation::from_kept(&state);
        let parsing = started.elapsed();
        assert_eq!(parsed.as_ref(), Some(play.operation.as_ref()));
        let state = state.len();
        let bytes = std::fs::metadata(bed.folder.path().join("rfs.db")).expect("the store").len();
        println!(
            "{} events in a store of {bytes} bytes are read in {read:?} and replayed after {whole:?}; the state of {state} \
             bytes is made in {written:?}, fetched in {fetched:?}, parsed in {parsing:?}, and known in {shortcut:?}, {best:?} at best",
            history.len()
        );
        assert!(
            shortcut < Duration::from_secs(5) && whole < Duration::from_secs(20),
            "{shortcut:?} {whole:?}"
        );
    }

    #[tokio::test]
    async fn from_whatever_state_that_was_kept_the_rest_of_the_history_leads_to_the_same() {
        let play = to_the_end(&hosts(40, 4), |_| {});
        for every in [1, 7, 60, u64::MAX] {
            let kept = |_: &Operation, after: &Operation, kept: Position, next: Position| {
                (next.0 - kept.0 >= every).then(|| after.to_kept().into())
            };
            let known = Bed::of(&play, kept).await.known().await;
            assert_eq!(
                (&known.operation, known.position.0),
                (play.operation.as_ref(), play.history.len() as u64)
            );
            assert_eq!(known.kept == Position(0), every == u64::MAX);
        }
    }

    #[tokio::test]
    async fn a_state_that_this_version_cannot_read_is_as_good_as_none() {
        let play = to_the_end(&hosts(40, 4), |_| {});
        let other = Play::rollback(&hosts(2, 4), |request| request.reason = "another".into());
        let newer = play.operation.to_kept().replacen(&Operation::STATE.to_string(), "9999", 1);
        let torn = play.operation.to_kept().split_at(200).0.to_owned();
        let strange = other.operation.to_kept().replace(&other.operation.id().to_string(), &"0".repeat(36));
        for state in [newer, torn, strange, String::new(), "1".into(), "x {}".into()] {
            let kept = |_: &Operation, _: &Operation, _: Position, _: Position| Some(state.as_str().into());
            let known = Bed::of(&play, kept).await.known().await;
            assert_eq!(&known.operation, play.operation.as_ref());
            assert_eq!((known.position.0, known.kept), (play.history.len() as u64, Position(0)));
        }
    }

    #[test]
    fn states_are_kept_so_seldom_that_they_cost_each_event_little() {
        let large = Play::rollback(&hosts(10_000, 12), |_| {}).operation;
        let small = Play::rollback(&hosts(2, 4), |_| {}).operation;
        let is_due = |operation: &Operation, kept, position| {
            due(operation, operation, Position(kept), Position(position)).is_some()
        };
        assert!(!is_due(&small, 0, 999) && is_due(&small, 0, 1000) && !is_due(&small, 1000, 1999));
        assert!(!is_due(&large, 0, 4999) && is_due(&large, 0, 5000) && !is_due(&large, 5000, 9999));
        let ended = to_the_end(&hosts(400, 6), |_| {}).operation;
        let running = Play::rollback(&hosts(400, 6), |_| {}).operation;
        assert!(due(&running, &ended, Position(1000), Position(1001)).is_some());
        assert!(due(&running, &ended, Position(0), Position(900)).is_none(), "a short history");
    }
}
