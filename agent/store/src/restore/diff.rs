//! Compares a live tree with a target and makes the plan.

use super::error::PlanError;
use super::pattern::{PathSet, Selection};
use super::plan::FilesPlan;
use crate::tree::Tree;

/// What a plan must respect.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Which paths are brought to the target.
    pub selection: Selection,
    /// Paths that no restore touches, even where the selection holds them.
    pub protect: PathSet,
    /// Device files may be created.
    pub devices: bool,
}

/// Plans what brings `current`, a scan of the live trees, to `target`. Pure: touches nothing.
pub fn plan(_current: &Tree, _target: &Tree, _rules: &Rules) -> Result<FilesPlan, PlanError> {
    Ok(FilesPlan::default())
}
