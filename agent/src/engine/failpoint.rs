//! Places where a test may stop the process or make a step fail. Nothing of it is in a binary without the feature.
//!
//! `RFS_PAUSE_AT=flipping` parks the process when that phase is in the journal and its effect has not begun;
//! `RFS_PAUSE_AT=flipping.done` when its effect has ended. Before it parks it creates the file `RFS_PAUSE_FILE`, so that
//! a test knows when to kill it. `RFS_FAIL_AT=flipping` makes the effect fail instead of being tried; several phases are
//! separated by commas.

use super::cause::Cause;
use super::phase::Phase;

/// Which side of a phase's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// The phase is in the journal, and its effect has not begun.
    Before,
    /// Its effect has ended, well or not.
    After,
}

/// Parks the process for good if the environment asks for it here.
#[cfg(feature = "failpoints")]
pub(super) fn pause(phase: Phase, edge: Edge) {
    let here = match edge {
        Edge::Before => phase.to_string(),
        Edge::After => format!("{phase}.done"),
    };
    if std::env::var("RFS_PAUSE_AT").is_ok_and(|wanted| wanted == here) {
        if let Some(file) = std::env::var_os("RFS_PAUSE_FILE") {
            std::fs::File::create(file).expect("a test names a file that can be created");
        }
        loop {
            std::thread::park();
        }
    }
}

/// Fails if the environment asks for it here.
#[cfg(feature = "failpoints")]
pub(super) fn fail(phase: Phase) -> Result<(), Cause> {
    let asked = std::env::var("RFS_FAIL_AT").unwrap_or_default();
    if asked.split(',').any(|wanted| wanted == phase.as_str()) {
        return Err(Cause::Injected(phase));
    }
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
pub(super) fn pause(_phase: Phase, _edge: Edge) {}

#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "the other one fails")]
pub(super) fn fail(_phase: Phase) -> Result<(), Cause> {
    Ok(())
}
