//! Whose turn it is: one works on the host at a time.
//!
//! ```text
//! by hand:   taken ─▶ HOST_BUSY
//! commanded: taken ─▶ waits ─▶ its turn, or called off, or its time is up
//! ```
//!
//! What is commanded waits, because nothing has begun: a host that is at work on something short has not failed. While it
//! waits, nobody else gets a turn, so that work by hand, however often it is repeated, keeps no command from the host.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rfs_model::{OperationId, Reason};
use rfs_store::{Cancel, Stopped};

use super::cause::refuse;
use crate::commander::Refusal;

/// What to do about a host that is at work.
const LOOK: &str = "see what with: rfs-agent status";

/// Who works on the host, and who waits for it.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is at work, in words.
    taken: Option<&'static str>,
    /// Whether a command waits.
    awaited: bool,
    /// Operations that were told to stop, until the command that told it is answered.
    called_off: BTreeSet<OperationId>,
}

/// The host, for whoever holds this.
pub(super) struct Turn<'t>(&'t Turns);

impl Turns {
    /// Takes the host for `work`, or says at once what it is at work on.
    pub(super) fn take(&self, work: &'static str) -> Result<Turn<'_>, Refusal> {
        let mut state = self.state();
        let message = match state.taken {
            Some(taken) => format!("the host is at work on {taken}"),
            None if state.awaited => "the coordinator's command comes first".to_owned(),
            None => {
                state.taken = Some(work);
                return Ok(Turn(self));
            }
        };
        Err(refuse(Reason::HostBusy, message, LOOK))
    }

    /// Takes the host for `work` once it is free; `told` is called with what is waited for. Only one waits at a time.
    pub(super) fn wait(
        &self,
        work: &'static str,
        operation: OperationId,
        until: Instant,
        told: impl Fn(&'static str),
    ) -> Result<Turn<'_>, Refusal> {
        let time = Cancel::at(until);
        let mut known = None;
        let mut state = self.state();
        state.awaited = true;
        let turn = loop {
            let stopped = match state.called_off.contains(&operation) {
                true => Err(Stopped::Cancelled),
                false => time.check(),
            };
            match (state.taken, stopped) {
                (None, Ok(())) => {
                    state.taken = Some(work);
                    break Ok(Turn(self));
                }
                (taken, Err(stopped)) => break Err(unbegun(stopped, taken.or(known))),
                (Some(taken), Ok(())) if known != Some(taken) => {
                    known = Some(taken);
                    drop(state);
                    told(taken);
                    state = self.state();
                }
                (Some(_), Ok(())) => {
                    let left = until.saturating_duration_since(Instant::now());
                    let waited = self.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        };
        state.awaited = false;
        turn
    }

    /// The operation is to stop: what of it waits, or has not begun, does not begin.
    pub(super) fn call_off(&self, operation: OperationId) {
        self.state().called_off.insert(operation);
        self.changed.notify_all();
    }

    /// Whether the operation is to stop.
    pub(super) fn is_called_off(&self, operation: OperationId) -> bool {
        self.state().called_off.contains(&operation)
    }

    /// Whoever called the operation off is answered: what comes now is newer.
    pub(super) fn answered(&self, operation: OperationId) {
        self.state().called_off.remove(&operation);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().taken = None;
        self.0.changed.notify_all();
    }
}

fn unbegun(stopped: Stopped, waited_for: Option<&'static str>) -> Refusal {
    match (stopped, waited_for) {
        (Stopped::Cancelled, _) => {
            refuse(Reason::Cancelled, "it was cancelled before it was begun", "nothing is to be done")
        }
        (Stopped::DeadlinePassed, Some(work)) => {
            let message = format!("its time was up while the host was at work on {work}; nothing was begun");
            refuse(
                Reason::DeadlineExceeded,
                message,
                "see on the host, with rfs-agent status, whether that goes on; then try again",
            )
        }
        (Stopped::DeadlinePassed, None) => {
            refuse(Reason::DeadlineExceeded, "its time was up before it was begun", "try again")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn operation(number: u128) -> OperationId {
        OperationId::from_uuid(Uuid::from_u128(number))
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A turn that waits, on its own thread, and says what it waits for.
    fn waiting<'s, T: Send + 's>(
        scope: &'s thread::Scope<'s, '_>,
        turns: &'s Turns,
        until: Instant,
        then: impl FnOnce(Result<Turn<'_>, Refusal>) -> T + Send + 's,
    ) -> thread::ScopedJoinHandle<'s, T> {
        let (sender, receiver) = mpsc::channel();
        let waits = scope.spawn(move || {
            let told = |work| sender.send(work).expect("somebody listens");
            then(turns.wait("a restore", operation(1), until, told))
        });
        assert_eq!(receiver.recv(), Ok("a capture"));
        waits
    }

    #[test]
    fn who_asks_by_hand_is_told_what_the_host_is_at() {
        let turns = Turns::default();
        let turn = turns.take("a capture").expect("it is free");
        let refusal = turns.take("a repair").err().expect("it is taken");
        assert_eq!(refusal.reason, Reason::HostBusy);
        assert!(refusal.message.contains("a capture"), "{refusal:?}");
        drop(turn);
        turns.take("a repair").map(drop).expect("it is free again");
    }

    #[test]
    fn a_command_waits_for_its_turn_and_comes_before_the_next_by_hand() {
        let turns = Turns::default();
        let turn = turns.take("a capture").expect("it is free");
        thread::scope(|scope| {
            let (go, went) = mpsc::channel::<()>();
            let waits = waiting(scope, &turns, soon(), move |turn| {
                let held = turn.map(|_held| went.recv()).map_err(|refusal| refusal.reason);
                held.expect("its turn comes").expect("it is let go");
            });
            drop(turn);
            let refusal = turns.take("a capture").err().expect("the command comes first");
            assert_eq!(refusal.reason, Reason::HostBusy);
            go.send(()).expect("it waits");
            waits.join().expect("it ends");
        });
        turns.take("a capture").map(drop).expect("it is free");
    }

    #[test]
    fn a_command_that_waits_can_be_called_off_and_that_holds_until_it_is_answered() {
        let turns = Turns::default();
        let turn = turns.take("a capture").expect("it is free");
        thread::scope(|scope| {
            let reason = |turn: Result<Turn<'_>, Refusal>| turn.err().map(|refusal| refusal.reason);
            let waits = waiting(scope, &turns, soon(), reason);
            turns.call_off(operation(1));
            assert_eq!(waits.join().expect("it ends"), Some(Reason::Cancelled));
        });
        drop(turn);
        let again = || turns.wait("a restore", operation(1), soon(), |_| {}).map(drop);
        assert_eq!(again().expect_err("it is called off").reason, Reason::Cancelled);
        turns.answered(operation(1));
        again().expect("what comes after is newer");
    }

    #[test]
    fn a_command_whose_time_is_up_says_what_it_waited_for() {
        let turns = Turns::default();
        let _turn = turns.take("a capture").expect("it is free");
        let until = Instant::now() + Duration::from_millis(20);
        let refusal = turns.wait("a restore", operation(1), until, |_| {}).err().expect("its time is up");
        assert_eq!(refusal.reason, Reason::DeadlineExceeded);
        assert!(refusal.message.contains("a capture"), "{refusal:?}");
        assert_eq!(
            turns.take("a repair").err().map(|refusal| refusal.message),
            Some("the host is at work on a capture".into())
        );
    }
}
