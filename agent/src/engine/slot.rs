//! Runs one collection, or one drill, at a time beside other work, and lets others stop it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rfs_store::Cancel;

/// Room for one.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// How what is at work is stopped.
    running: Option<Cancel>,
    /// The agent stops: what begins is stopped at once.
    closed: bool,
}

/// The one that is at work, until this is dropped.
pub(super) struct Running<'s>(&'s Slot);

impl Slot {
    /// Begins work that `cancel` stops; none while another is at work.
    pub(super) fn take(&self, cancel: &Cancel) -> Option<Running<'_>> {
        let mut state = self.state();
        if state.running.is_some() {
            return None;
        }
        if state.closed {
            cancel.cancel();
        }
        state.running = Some(cancel.clone());
        Some(Running(self))
    }

    /// Stops what is at work.
    pub(super) fn stop(&self) {
        if let Some(cancel) = &self.state().running {
            cancel.cancel();
        }
    }

    /// Stops what is at work, and all that begins from now on.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.stop();
    }

    /// Waits until nothing is at work, at most for so long; whether that has come.
    pub(super) fn rest(&self, at_most: Duration) -> bool {
        let is_running = |state: &mut State| state.running.is_some();
        let waited = self.ended.wait_timeout_while(self.state(), at_most, is_running);
        waited.unwrap_or_else(PoisonError::into_inner).0.running.is_none()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running = None;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_at_work_at_a_time_and_is_waited_for() {
        let slot = Slot::default();
        let running = slot.take(&Cancel::new()).expect("it is free");
        assert!(slot.take(&Cancel::new()).is_none());
        assert!(!slot.rest(Duration::ZERO));
        std::thread::scope(|scope| {
            let rests = scope.spawn(|| slot.rest(Duration::from_secs(3600)));
            drop(running);
            assert!(rests.join().expect("it ends"));
        });
        assert!(slot.take(&Cancel::new()).is_some());
    }

    #[test]
    fn what_is_at_work_when_the_agent_stops_and_what_begins_then_is_stopped() {
        let slot = Slot::default();
        let (first, second) = (Cancel::new(), Cancel::new());
        let running = slot.take(&first).expect("it is free");
        slot.close();
        assert!(first.check().is_err());
        drop(running);
        let _running = slot.take(&second).expect("it is free");
        assert!(second.check().is_err());
    }
}
