//! Collects by itself: when a checkpoint or a restore has left something to remove, and at an interval.
//!
//! ```text
//! finish, end of a restore, deletion ─▶ wake ─┐
//! interval, in the configured hours ──────────┴▶ nothing is restored? ─▶ collect, at the lowest priority, for a bounded time
//! ```
//!
//! Invariant: whatever it is at, it is stopped when a restore or a checkpoint begins, and goes on when that has ended. It
//! may be killed at any instant.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rfs_link::Chain;
use rfs_store::Cancel;

use super::{Engine, after};

/// The first collection after a start; the agent may never run for a whole interval.
const FIRST: Duration = Duration::from_secs(60);
/// How often it is looked whether what is due may begin.
const LOOK: Duration = Duration::from_secs(60);
/// The lowest priority of a thread; the usual I/O schedulers derive theirs from it.
const LOWEST: i32 = 19;

/// How the collector is told that there is something for it.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_woken: bool,
    is_stopped: bool,
    /// Stops the collection that runs.
    running: Option<Cancel>,
}

/// Why the collector goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Up,
    ByTime,
    ToStop,
}

impl Wakes {
    /// There may be something to remove.
    pub(super) fn wake(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_woken = true;
        self.changed.notify_all();
    }

    fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_stopped = true;
        if let Some(cancel) = &state.running {
            cancel.cancel();
        }
        drop(state);
        self.changed.notify_all();
    }

    fn wait(&self, at_most: Duration) -> Woken {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut State| !state.is_woken && !state.is_stopped;
        let (mut state, _) =
            self.changed.wait_timeout_while(state, at_most, waiting).unwrap_or_else(PoisonError::into_inner);
        match (state.is_stopped, std::mem::take(&mut state.is_woken)) {
            (true, _) => Woken::ToStop,
            (false, true) => Woken::Up,
            (false, false) => Woken::ByTime,
        }
    }

    /// Notes how what runs is stopped; false if it need not begin.
    fn begin(&self, cancel: &Cancel) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = Some(cancel.clone());
        !state.is_stopped
    }
}

/// Collects for as long as it lives.
pub struct Collector {
    wakes: Arc<Wakes>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts collecting as the engine's configuration says.
    pub fn start(engine: &Arc<Engine>) -> io::Result<Self> {
        let wakes = engine.collector.clone();
        let (weak, waking) = (Arc::downgrade(engine), wakes.clone());
        let work = move || Work { engine: weak, wakes: waking, next: Instant::now(), is_due: false }.run();
        let thread = match engine.config.retention.automatic {
            true => Some(thread::Builder::new().name("collector".into()).spawn(work)?),
            false => None,
        };
        Ok(Self { wakes, thread })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.wakes.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed; it holds nothing that outlives it.
            let _ = thread.join();
        }
    }
}

struct Work {
    engine: Weak<Engine>,
    wakes: Arc<Wakes>,
    /// When the next collection is due by its interval.
    next: Instant,
    /// Whether one was due, and could not begin or did not come to its end.
    is_due: bool,
}

impl Work {
    fn run(mut self) {
        // Without it the collector is only less polite.
        if let Err(error) = rustix::process::setpriority_process(None, LOWEST) {
            tracing::debug!(%error, "the collector runs at the usual priority");
        }
        let Some(every) = self.engine.upgrade().map(|engine| engine.config.retention.every) else { return };
        self.next = Instant::now() + every.min(FIRST);
        loop {
            let left = self.next.saturating_duration_since(Instant::now());
            let woken = self.wakes.wait(if self.is_due { left.min(LOOK) } else { left });
            let Some(engine) = self.engine.upgrade().filter(|_| woken != Woken::ToStop) else { return };
            if Instant::now() >= self.next {
                (self.is_due, self.next) = (true, Instant::now() + every);
            }
            // Garbage alone can wait for the interval.
            if self.is_due || (woken == Woken::Up && engine.has_expired()) {
                self.is_due = !self.collect(&engine);
            }
        }
    }

    /// Collects; false if it could not begin, or was stopped before its end.
    fn collect(&self, engine: &Engine) -> bool {
        let retention = &engine.config.retention;
        if !retention.may_begin(engine.wall.now()) || engine.is_restoring() {
            return false;
        }
        let cancel = Cancel::at(after(retention.at_most));
        if !self.wakes.begin(&cancel) {
            return false;
        }
        let begun = Instant::now();
        match engine.collect(&cancel) {
            Ok(report) => {
                let forgotten = report.forgotten.len();
                if forgotten > 0 || report.freed.0 > 0 || report.clones > 0 {
                    tracing::info!(forgotten, clones = report.clones, freed = %report.freed, kept = report.kept.len(), took = ?begun.elapsed(), "collected");
                }
                true
            }
            Err(_) if cancel.check().is_err() => {
                tracing::debug!(took = ?begun.elapsed(), "the collection was stopped, and goes on later");
                false
            }
            Err(refusal) => {
                tracing::warn!(reason = %refusal.reason, error = %Chain(&refusal), next = refusal.next, "nothing was collected");
                true
            }
        }
    }
}
