//! What is watched: a picture that changes in place on a terminal, and lines that tell each change elsewhere.
//!
//! Both are pure functions of what the coordinator last said, so that a test reads what a person would.

mod checkpoint;
mod health;
mod losses;
mod outcome;
mod remedy;
mod rollback;
mod standing;
mod waves;

mod screen;

use rfs_link::Exit;
use rfs_model::Timestamp;
use rfs_proto::convert::from_wire_time;
use rfs_proto::watch::InParts;

use crate::duration::show_duration;

pub(super) use checkpoint::{checkpoint_state, note_lines, remedy_lines};
pub(super) use health::counts;
pub(super) use losses::entries;
pub(super) use outcome::{After, fate_of_absent, outcome_lines};
pub(super) use screen::Screen;
pub(super) use standing::{Standing, names, standing_lines};

/// Something that the coordinator streams until it is over.
pub(super) trait Watched: prost::Name + InParts + Clone + 'static {
    /// The whole of it as it is `now`, in at most `height` lines where that can be, most important first.
    fn picture(&self, height: usize, now: Timestamp) -> Vec<String>;

    /// What is different from `before`, a line each with when it happened; all of it that matters when there is no before.
    fn changes(&self, before: Option<&Self>) -> Vec<Told>;

    /// How a command that waits for it ends, once there is nothing to wait for.
    fn verdict(&self) -> Option<Exit>;

    /// What a person reads once it is over, after the picture or the changes.
    fn closing(&self) -> Vec<String>;
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// When, by the coordinator's clock; none for now.
    pub at: Option<prost_types::Timestamp>,
    /// What.
    pub text: String,
}

impl Told {
    fn at(at: Option<prost_types::Timestamp>, text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }

    /// The same, at `time` if it has an earlier time.
    fn not_before(self, time: Option<prost_types::Timestamp>) -> Self {
        let key = |at: prost_types::Timestamp| (at.seconds, at.nanos);
        let at = self.at.map(|at| time.filter(|time| key(*time) > key(at)).unwrap_or(at));
        Self { at, ..self }
    }
}

/// Puts what happened into the order in which it did; what has no time comes last.
fn in_order(mut told: Vec<Told>) -> Vec<Told> {
    told.sort_by_key(|told| told.at.map_or((true, 0, 0), |at| (false, at.seconds, at.nanos)));
    told
}

/// How long it has been since it began, or was when it ended; the clock here may be another than the coordinator's.
fn elapsed(
    from: Option<prost_types::Timestamp>,
    to: Option<prost_types::Timestamp>,
    now: Timestamp,
) -> String {
    let Some(from) = from.map(from_wire_time) else { return String::new() };
    format!("  {}", show_duration(to.map_or(now, from_wire_time).since(from)))
}
