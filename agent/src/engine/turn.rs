//! Whose turn it is: one works on the host at a time.
//!
//! ```text
//! by hand:   taken ─▶ HOST_BUSY
//! commanded: taken ─▶ waits ─▶ its turn, or overruled, or its time is up
//! ```
//!
//! What is commanded waits, because nothing has begun: a host that is at work on something short has not failed. While it
//! waits, nobody else gets a turn, so that work by hand, however often it is repeated, keeps no command from the host.
//!
//! The host is at work while somebody has a turn, and while a command that does not wait has no stored report.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rfs_model::{OperationId, Reason};
use rfs_store::Cancel;

use super::cause::refuse;
use crate::commander::Refusal;

/// What to do about a host that is at work.
const WAIT: &str = "wait until that has ended, and try again";

/// Who works on the host, and who waits for it.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What is at work.
    taken: Option<Work>,
    /// Whether a command is being taken: until its report is stored.
    commanded: bool,
    /// The operation whose command waits.
    awaited: Option<OperationId>,
    /// Whether its coordinator has said that the operation that waits is over.
    disowned: bool,
    /// Grows with each call of [`Turns::look_again`].
    news: u64,
    /// The agent stops: nothing begins any more.
    closed: bool,
}

struct Work {
    /// In words.
    name: &'static str,
    /// For which operation, and how it is stopped when it would hold up the agent's end; none where that must not be.
    stop: Option<(OperationId, Cancel)>,
}

/// The host, for whoever holds this.
pub(super) struct Turn<'t>(&'t Turns);

/// A command that is being taken, until this is dropped.
pub(crate) struct Commanded<'t>(&'t Turns);

impl Turns {
    /// Takes the host for `work`, or says at once what it is at work on. `stop` is for work that may be stopped and begun again.
    pub(super) fn take(
        &self,
        work: &'static str,
        stop: Option<(OperationId, Cancel)>,
    ) -> Result<Turn<'_>, Refusal> {
        let mut state = self.state();
        let (message, next) = match &state.taken {
            _ if state.closed => ("the agent is stopping".to_owned(), "try again once the agent runs again"),
            Some(taken) => (format!("the host is at work on {}", taken.name), WAIT),
            None if state.awaited.is_some() => ("the coordinator's command comes first".to_owned(), WAIT),
            None => {
                state.taken = Some(Work { name: work, stop });
                return Ok(Turn(self));
            }
        };
        Err(refuse(Reason::HostBusy, message, next))
    }

    /// A command is being taken, until the guard is dropped.
    pub(super) fn command(&self) -> Commanded<'_> {
        self.state().commanded = true;
        Commanded(self)
    }

    /// Takes the host for `work` once it is free, by `until`, and unless it is `overruled` before; `told` is called with what is
    /// waited for. Only one waits at a time. What overrules it is followed by [`Self::look_again`].
    ///
    /// Once the agent stops it does not return: what has not begun is in the journal, and the next start takes it up.
    pub(super) fn wait(
        &self,
        work: &'static str,
        operation: OperationId,
        until: Instant,
        overruled: impl Fn() -> Option<Refusal>,
        told: impl Fn(&'static str),
    ) -> Result<Turn<'_>, Refusal> {
        let mut known = None;
        let mut state = self.state();
        (state.awaited, state.disowned) = (Some(operation), false);
        self.changed.notify_all();
        let turn = loop {
            let news = state.news;
            drop(state);
            let overruled = overruled();
            state = self.state();
            if let Some(refusal) = overruled {
                break Err(refusal);
            }
            if state.disowned {
                break Err(refuse(Reason::Cancelled, "its operation is over, as its coordinator says", ""));
            }
            while state.closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let left = until.saturating_duration_since(Instant::now());
            match state.taken.as_ref().map(|taken| taken.name) {
                _ if state.news != news => {}
                // Whether its own time is up is for the work to say.
                None => {
                    state.taken = Some(Work { name: work, stop: None });
                    break Ok(Turn(self));
                }
                Some(taken) if left.is_zero() => break Err(late(taken)),
                Some(taken) if known != Some(taken) => {
                    known = Some(taken);
                    drop(state);
                    told(taken);
                    state = self.state();
                }
                Some(_) => {
                    let waited = self.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        };
        state.awaited = None;
        turn
    }

    /// Who waits looks again whether it is overruled.
    pub(super) fn look_again(&self) {
        self.state().news += 1;
        self.changed.notify_all();
    }

    /// The coordinator has said which operation owns the host: what waits for another does not begin.
    pub(super) fn disown_others(&self, owner: Option<OperationId>) {
        let mut state = self.state();
        state.disowned |= state.awaited.is_some_and(|waits| Some(waits) != owner);
        state.news += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Nothing begins any more.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.look_again();
    }

    /// Whether the agent stops.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Who has the turn.
    pub(super) fn work(&self) -> Option<&'static str> {
        self.state().taken.as_ref().map(|taken| taken.name)
    }

    /// Waits until nothing is at work, at most for so long; says what still is.
    pub(super) fn rest(&self, at_most: Duration) -> Option<&'static str> {
        let at_work = |state: &mut State| state.at_work().is_some();
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), at_most, at_work)
            .unwrap_or_else(PoisonError::into_inner);
        state.at_work()
    }

    /// Stops what is at work and may be stopped; false if there is no such thing.
    pub(super) fn stop(&self) -> bool {
        self.stop_with(|_| true, Cancel::cancel)
    }

    /// The time of what is at work for the operation is up.
    pub(super) fn expire(&self, operation: OperationId) {
        self.stop_with(|of| of == operation, Cancel::expire);
    }

    fn stop_with(&self, of: impl FnOnce(OperationId) -> bool, stop: impl FnOnce(&Cancel)) -> bool {
        let state = self.state();
        let stopped = state.taken.as_ref().and_then(|taken| taken.stop.as_ref()).filter(|(by, _)| of(*by));
        stopped.map(|(_, cancel)| stop(cancel)).is_some()
    }

    /// Whether a command waits.
    #[cfg(test)]
    fn is_awaited(&self) -> bool {
        self.state().awaited.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is at work. A command that waits is not.
    fn at_work(&self) -> Option<&'static str> {
        let command = || (self.commanded && self.awaited.is_none()).then_some("a command");
        self.taken.as_ref().map(|taken| taken.name).or_else(command)
    }
}

impl Drop for Commanded<'_> {
    fn drop(&mut self) {
        self.0.state().commanded = false;
        self.0.changed.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().taken = None;
        self.0.changed.notify_all();
    }
}

fn late(work: &str) -> Refusal {
    let message = format!("the host was at work on {work} for as long as this could wait; nothing was begun");
    refuse(Reason::HostBusy, message, "end that on the host, or wait until it has ended; then try again")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
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

    fn nothing() -> Option<Refusal> {
        None
    }

    /// A command on its own thread, which is known to wait.
    fn waiting<'s, T: Send + 's>(
        scope: &'s thread::Scope<'s, '_>,
        turns: &'s Turns,
        overruled: impl Fn() -> Option<Refusal> + Send + 's,
        then: impl FnOnce(Result<Turn<'_>, Refusal>) -> T + Send + 's,
    ) -> thread::ScopedJoinHandle<'s, T> {
        let (sender, receiver) = mpsc::channel();
        let waits = scope.spawn(move || {
            let told = |work| sender.send(work).expect("somebody listens");
            then(turns.wait("a restore", operation(1), soon(), overruled, told))
        });
        assert_eq!(receiver.recv(), Ok("a capture"));
        waits
    }

    #[test]
    fn who_asks_by_hand_is_told_what_the_host_is_at() {
        let turns = Turns::default();
        let turn = turns.take("a capture", None).expect("it is free");
        let refusal = turns.take("a repair", None).err().expect("it is taken");
        assert_eq!(refusal.reason, Reason::HostBusy);
        assert!(refusal.message.contains("a capture"), "{refusal:?}");
        drop(turn);
        turns.take("a repair", None).map(drop).expect("it is free again");
    }

    #[test]
    fn a_command_waits_for_its_turn_and_comes_before_the_next_by_hand() {
        let turns = Turns::default();
        let turn = turns.take("a capture", None).expect("it is free");
        thread::scope(|scope| {
            let (go, went) = mpsc::channel::<()>();
            let waits = waiting(scope, &turns, nothing, move |turn| {
                let held = turn.map(|_held| went.recv()).map_err(|refusal| refusal.reason);
                held.expect("its turn comes").expect("it is let go");
            });
            drop(turn);
            let refusal = turns.take("a capture", None).err().expect("the command comes first");
            assert_eq!(refusal.reason, Reason::HostBusy);
            go.send(()).expect("it waits");
            waits.join().expect("it ends");
        });
        turns.take("a capture", None).map(drop).expect("it is free");
    }

    #[test]
    fn a_command_that_is_overruled_waits_no_longer_and_one_that_was_before_does_not_begin() {
        let turns = Turns::default();
        let turn = turns.take("a capture", None).expect("it is free");
        let is_over = AtomicBool::new(false);
        let overruled = || {
            let refusal = || refuse(Reason::Cancelled, "somebody has called it off", "");
            is_over.load(Ordering::SeqCst).then(refusal)
        };
        thread::scope(|scope| {
            let reason = |turn: Result<Turn<'_>, Refusal>| turn.err().map(|refusal| refusal.reason);
            let waits = waiting(scope, &turns, overruled, reason);
            is_over.store(true, Ordering::SeqCst);
            turns.look_again();
            assert_eq!(waits.join().expect("it ends"), Some(Reason::Cancelled));
        });
        drop(turn);
        let again = turns.wait("a restore", operation(1), soon(), overruled, |_| {}).map(drop);
        assert_eq!(again.expect_err("it is called off").reason, Reason::Cancelled);
    }

    #[test]
    fn a_command_whose_operation_is_over_waits_no_longer() {
        let turns = Turns::default();
        let _turn = turns.take("a capture", None).expect("it is free");
        thread::scope(|scope| {
            let reason = |turn: Result<Turn<'_>, Refusal>| turn.err().map(|refusal| refusal.reason);
            let waits = waiting(scope, &turns, nothing, reason);
            turns.disown_others(Some(operation(1)));
            assert!(turns.is_awaited(), "it is the owner's");
            turns.disown_others(None);
            assert_eq!(waits.join().expect("it ends"), Some(Reason::Cancelled));
        });
    }

    #[test]
    fn nothing_begins_once_the_agent_stops() {
        let turns = Arc::new(Turns::default());
        let (sender, receiver) = mpsc::channel();
        let waits = turns.clone();
        let turn = turns.take("a capture", None).expect("it is free");
        // It is never let go, as at the end of the process.
        thread::spawn(move || {
            let told = |work| sender.send(work).expect("somebody listens");
            let _turn = waits.wait("a restore", operation(1), soon(), nothing, told);
            sender.send("it has begun").expect("somebody listens");
        });
        assert_eq!(receiver.recv(), Ok("a capture"));
        turns.close();
        drop(turn);
        let refusal = turns.take("a repair", None).err().expect("the agent stops");
        assert!(refusal.message.contains("stopping"), "{refusal:?}");
        assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err(), "what waited has begun");
    }

    #[test]
    fn a_command_whose_time_is_up_says_what_it_waited_for() {
        let turns = Turns::default();
        let _turn = turns.take("a capture", None).expect("it is free");
        let until = Instant::now() + Duration::from_millis(20);
        let refusal =
            turns.wait("a restore", operation(1), until, nothing, |_| {}).err().expect("its time is up");
        assert_eq!(refusal.reason, Reason::HostBusy);
        assert!(refusal.message.contains("a capture"), "{refusal:?}");
        let next = turns.take("a repair", None).err().map(|refusal| refusal.message);
        assert_eq!(next, Some("the host is at work on a capture".into()), "nobody waits any more");
    }

    #[test]
    fn a_host_is_at_rest_while_a_command_only_waits_and_at_work_until_its_report_is_stored() {
        const LONG: Duration = Duration::from_secs(3600);
        let turns = Turns::default();
        assert_eq!(turns.rest(LONG), None, "nothing is at work");
        let turn = turns.take("a capture", None).expect("it is free");
        assert_eq!(turns.rest(Duration::ZERO), Some("a capture"));
        thread::scope(|scope| {
            let (go, went) = mpsc::channel::<()>();
            let (begun, begins) = mpsc::channel();
            let (turns, sender) = (&turns, begun);
            let obeys = scope.spawn(move || {
                let _command = turns.command();
                let told = |_| sender.send("waits").expect("somebody listens");
                let turn = turns.wait("a restore", operation(1), soon(), nothing, told);
                sender.send("begins").expect("somebody listens");
                drop(turn.map_err(|refusal| refusal.reason).expect("its turn comes"));
                sender.send("has ended").expect("somebody listens");
                // Its report is not stored yet.
                went.recv().expect("it is let go");
            });
            assert_eq!(begins.recv(), Ok("waits"));
            drop(turn);
            assert_eq!((begins.recv(), begins.recv()), (Ok("begins"), Ok("has ended")));
            assert_eq!(turns.rest(Duration::ZERO), Some("a command"));
            go.send(()).expect("it waits");
            assert_eq!(turns.rest(LONG), None);
            obeys.join().expect("it ends");
        });
    }

    #[test]
    fn a_command_that_waits_holds_up_no_end_of_the_agent() {
        const LONG: Duration = Duration::from_secs(3600);
        let turns = Arc::new(Turns::default());
        let (sender, receiver) = mpsc::channel();
        let turn = turns.take("a capture", None).expect("it is free");
        let waits = turns.clone();
        // It is never let go, as at the end of the process.
        thread::spawn(move || {
            let _command = waits.command();
            let told = |work| sender.send(work).expect("somebody listens");
            let _turn = waits.wait("a restore", operation(1), soon(), nothing, told);
        });
        assert_eq!(receiver.recv(), Ok("a capture"));
        turns.close();
        drop(turn);
        assert_eq!(turns.rest(LONG), None);
    }

    #[test]
    fn only_what_may_be_stopped_is_and_only_for_whom_it_works() {
        let turns = Turns::default();
        let turn = turns.take("a restore", None).expect("it is free");
        assert!(!turns.stop());
        drop(turn);
        let cancel = Cancel::new();
        let _turn = turns.take("a capture", Some((operation(1), cancel.clone()))).expect("it is free");
        turns.expire(operation(2));
        assert_eq!(cancel.check(), Ok(()));
        turns.expire(operation(1));
        assert_eq!(cancel.check(), Err(rfs_store::Stopped::DeadlinePassed));
        assert!(turns.stop());
    }
}
