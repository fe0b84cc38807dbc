//! Lets a host resume by itself when it has been quiet for too long, whatever its worker is at.
//!
//! ```text
//! quiesce ─arm─▶ watcher waits ─ cut: armed anew ─ finish, abandon: disarmed
//!                    └─ the time is up ─▶ Engine::resume_by_itself, beside the worker
//! ```
//!
//! Invariant: the time is counted by the clock that never steps, and needs no connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;
use std::{io, thread};

use rfs_model::OperationId;

use super::Engine;

/// How long a host may stay quiet; ends its watcher when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Bound(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whose quiet ends when, or what did not resume is tried again.
    until: BTreeMap<OperationId, Instant>,
    closed: bool,
}

impl Bound {
    /// The host resumes by itself at `until`, unless it is told of another time.
    pub(super) fn arm(&self, operation: OperationId, until: Instant) {
        self.0.change(|state| {
            state.until.insert(operation, until);
        });
    }

    /// The same if something is quiet for the operation.
    pub(super) fn rearm(&self, operation: OperationId, until: Instant) {
        self.0.change(|state| {
            if let Some(armed) = state.until.get_mut(&operation) {
                *armed = until;
            }
        });
    }

    /// Nothing is quiet for the operation any more.
    pub(super) fn disarm(&self, operation: OperationId) {
        self.0.change(|state| {
            state.until.remove(&operation);
        });
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.0.change(|state| state.closed = true);
    }
}

impl Watched {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until the time of an operation is up; none once there is nobody whose time it could be.
    fn next(&self) -> Option<OperationId> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed {
                return None;
            }
            let next = state.until.iter().min_by_key(|(_, until)| **until);
            state = match next.map(|(operation, until)| (*operation, *until)) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some((operation, until)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.until.remove(&operation);
                        return Some(operation);
                    }
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Begins to watch over what the engine makes quiet, until the engine is gone.
pub(crate) fn watch(engine: &Arc<Engine>) -> io::Result<()> {
    let (watched, engine) = (engine.bound.0.clone(), Arc::downgrade(engine));
    let watch = move || {
        while let Some(operation) = watched.next() {
            let Some(engine) = engine.upgrade() else { return };
            engine.resume_by_itself(operation);
        }
    };
    thread::Builder::new().name("quiet".into()).spawn(watch).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_operation_has_a_time_of_its_own() {
        let [one, other] = [1, 2].map(|number| OperationId::from_uuid(Uuid::from_u128(number)));
        let (now, bound) = (Instant::now(), Bound::default());
        bound.arm(one, now);
        bound.arm(other, now + Duration::from_secs(3600));
        bound.rearm(one, now);
        bound.disarm(other);
        let armed = bound.0.state.lock().expect("nobody has panicked").until.clone();
        assert_eq!(armed, [(one, now)].into(), "what did not resume is tried again");
        assert_eq!(bound.0.next(), Some(one));
    }
}
