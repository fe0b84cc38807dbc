//! What a snapshot was made for, as the store keeps it: `backup: before release 7`.

use crate::local::SnapshotKind;

/// The label of a snapshot.
pub(crate) fn write(kind: SnapshotKind, reason: &str) -> String {
    format!("{}: {reason}", kind.as_str())
}

/// The kind and the reason of a label. One that another program wrote is a local snapshot.
pub(crate) fn read(label: &str) -> (SnapshotKind, &str) {
    let known = SnapshotKind::ALL.into_iter().find_map(|kind| {
        let reason = label.strip_prefix(kind.as_str())?.strip_prefix(':')?;
        Some((kind, reason.trim_start()))
    });
    known.unwrap_or((SnapshotKind::Local, label))
}
