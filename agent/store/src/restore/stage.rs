//! Writes new entries beside the live ones.

use super::contents::{Contents, Progress, Unmanaged};
use super::error::StageError;
use super::plan::FilesPlan;
use super::staged::{Staged, StagingName};

/// Writes everything that `plan` brings into staging folders named `name`, durably, and changes nothing live.
pub fn stage(
    _plan: &FilesPlan,
    _contents: &dyn Contents,
    _name: &StagingName,
    _unmanaged: Unmanaged,
    _progress: &Progress,
) -> Result<Staged, StageError> {
    Err(StageError::Cancelled)
}
