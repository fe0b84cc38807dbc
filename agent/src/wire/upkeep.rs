//! What was done for the store itself: drills, collections, repairs.

use std::path::PathBuf;

use rfs_model::ByteCount;
use rfs_proto::agent::v1 as local;
use rfs_proto::convert::{self, FieldError, required};

use crate::local::{CollectView, DrillView, RepairView};

/// Writes the result of a drill.
pub(crate) fn write_drilled(view: &DrillView) -> local::DrillResult {
    local::DrillResult {
        snapshot: view.snapshot.to_string(),
        verify_time: Some(convert::to_wire_time(view.verified_at)),
        restore_duration: Some(convert::to_wire_duration(view.restore_time)),
        entries: view.entries,
        bytes: view.bytes.0,
    }
}

/// Reads the result of a drill.
pub(crate) fn read_drilled(wire: local::DrillResult) -> Result<DrillView, FieldError> {
    let restore_time = required("restore_duration", wire.restore_duration)?;
    Ok(DrillView {
        snapshot: convert::snapshot_id("snapshot", &wire.snapshot)?,
        verified_at: convert::from_wire_time(required("verify_time", wire.verify_time)?),
        restore_time: convert::from_wire_duration("restore_duration", restore_time)?,
        entries: wire.entries,
        bytes: ByteCount(wire.bytes),
    })
}

/// Writes the result of a collection.
pub(crate) fn write_collected(view: &CollectView) -> local::CollectResult {
    let kept = view
        .kept
        .iter()
        .map(|(id, reason)| local::KeptSnapshot { snapshot: id.to_string(), reason: reason.clone() });
    local::CollectResult {
        forgotten: view.forgotten.iter().map(ToString::to_string).collect(),
        kept: kept.collect(),
        freed_bytes: view.freed.0,
    }
}

/// Reads the result of a collection.
pub(crate) fn read_collected(wire: local::CollectResult) -> Result<CollectView, FieldError> {
    let forgotten = |(i, id): (usize, &String)| convert::snapshot_id(&format!("forgotten[{i}]"), id);
    let kept = |(i, kept): (usize, local::KeptSnapshot)| {
        Ok((convert::snapshot_id(&format!("kept[{i}].snapshot"), &kept.snapshot)?, kept.reason))
    };
    Ok(CollectView {
        forgotten: wire.forgotten.iter().enumerate().map(forgotten).collect::<Result<_, _>>()?,
        kept: wire.kept.into_iter().enumerate().map(kept).collect::<Result<_, FieldError>>()?,
        freed: ByteCount(wire.freed_bytes),
    })
}

/// Writes the result of a repair.
pub(crate) fn write_repaired(view: &RepairView) -> local::RepairResult {
    local::RepairResult {
        quarantined: view.quarantined.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        restored_objects: view.restored,
        damage: view.damage.clone(),
        harmed: view.harmed.iter().map(ToString::to_string).collect(),
    }
}

/// Reads the result of a repair.
pub(crate) fn read_repaired(wire: local::RepairResult) -> Result<RepairView, FieldError> {
    let harmed = |(i, id): (usize, &String)| convert::snapshot_id(&format!("harmed[{i}]"), id);
    Ok(RepairView {
        quarantined: wire.quarantined.iter().map(PathBuf::from).collect(),
        restored: wire.restored_objects,
        damage: wire.damage,
        harmed: wire.harmed.iter().enumerate().map(harmed).collect::<Result<_, _>>()?,
    })
}
