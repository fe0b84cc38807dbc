//! The agent stops: in bounded time, and nothing stays quiet.
//!
//! ```text
//! nothing begins any more ─▶ what is at work is let end ─▶ what can be begun again is stopped ─▶ everything resumes
//!   a collection, a drill, a prepare:                        a capture, a repair, a cut
//!   stopped at once
//! ```
//!
//! Invariants
//! - A restore is never broken off: one that does not end in time is left to the next start, which brings it to its end.
//! - What waits has not begun: it is left to the next start, and holds nothing up.
//! - Nothing resumes under a snapshot that may still be taken for whole.

use std::time::Duration;

use rfs_model::Reason;

use super::Engine;
use super::cause::refuse;
use super::turn::Commanded;
use crate::commander::Refusal;

/// How long what was told to stop may take to do so.
const STOPS: Duration = Duration::from_secs(5);

impl Engine {
    /// The agent stops. What is at work has so long to end.
    pub fn close(&self, let_end: Duration) {
        self.turns.close();
        self.collecting.close();
        self.drilling.close();
        // Of a checkpoint only a cut that is at work can come to anything.
        if !self.is_cutting() {
            self.stop_checkpoint();
        }
        if let Some(work) = self.turns.rest(Duration::ZERO) {
            tracing::info!(work, at_most = ?let_end, "waiting for what is at work to end");
        }
        if let Some(work) = self.turns.rest(let_end) {
            tracing::warn!(work, waited = ?let_end, "what is at work did not end in time");
            let (checkpoint, by_hand) = (self.stop_checkpoint(), self.turns.stop());
            if checkpoint || by_hand {
                self.turns.rest(STOPS);
            }
        }
        self.stop_checkpoint();
        self.resume_all();
        // Both may be killed at any instant; one that ends in time tidies up.
        let rests = self.collecting.rest(STOPS) & self.drilling.rest(STOPS);
        if let Some(work) = self.turns.work() {
            tracing::warn!(work, "the next start brings it to its end");
        } else if !rests {
            tracing::warn!("a collection or a drill is broken off");
        }
    }

    /// An administrator interrupts what was begun by hand: a restore goes back, and all else ends without effect.
    pub fn interrupt(&self) {
        self.cancel_any();
        self.turns.stop();
        self.collecting.stop();
        self.drilling.stop();
    }

    /// A command is being taken, until the guard is dropped: the agent does not end before its report is stored.
    pub(crate) fn take_command(&self) -> Commanded<'_> {
        self.turns.command()
    }
}

/// What is said of work that ended because the agent stops; `left` is what has become of it.
pub(super) fn stopping(work: &str, left: &str) -> Refusal {
    let message = format!("the agent stopped before {work} had ended; {left}");
    refuse(Reason::Interrupted, message, "once the agent runs again, begin it again")
}
