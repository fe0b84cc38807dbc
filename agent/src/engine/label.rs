//! What a snapshot was made for, as the store keeps it: `checkpoint: before release 7`, or, of a backup whose restore went to a
//! checkpoint, `backup: of ID: release 7 is bad`. The store knows a backup by the beginning.

use rfs_model::OperationId;

use crate::local::SnapshotKind;

/// What stands between a backup and the checkpoint that it belongs to.
const OF: &str = "of ";

/// The label of a snapshot.
pub(crate) fn write(kind: SnapshotKind, reason: &str) -> String {
    format!("{}: {reason}", kind.as_str())
}

/// The label of a backup that a restore makes on its way to `checkpoint`.
pub(crate) fn write_backup(checkpoint: Option<OperationId>, reason: &str) -> String {
    let reason = match checkpoint {
        Some(checkpoint) => &format!("{OF}{checkpoint}: {reason}"),
        None => reason,
    };
    write(SnapshotKind::Backup, reason)
}

/// The kind and the reason of a label. One that another program wrote is a local snapshot.
pub(crate) fn read(label: &str) -> (SnapshotKind, &str) {
    let (kind, _, reason) = parts(label);
    (kind, reason)
}

/// The checkpoint that a snapshot belongs to: its own, or of a backup the one that its restore went to.
pub(crate) fn checkpoint(label: &str, operation: Option<OperationId>) -> Option<OperationId> {
    match parts(label) {
        (SnapshotKind::Checkpoint, ..) => operation,
        (SnapshotKind::Backup, checkpoint, _) => checkpoint,
        (SnapshotKind::Local, ..) => None,
    }
}

fn parts(label: &str) -> (SnapshotKind, Option<OperationId>, &str) {
    let known = SnapshotKind::ALL.into_iter().find_map(|kind| {
        let reason = label.strip_prefix(kind.as_str())?.strip_prefix(':')?;
        Some((kind, reason.trim_start()))
    });
    let (kind, reason) = known.unwrap_or((SnapshotKind::Local, label));
    let of = reason.strip_prefix(OF).filter(|_| kind == SnapshotKind::Backup);
    let of = of.and_then(|of| of.split_once(": "));
    match of.and_then(|(id, reason)| Some((id.parse().ok()?, reason))) {
        Some((checkpoint, reason)) => (kind, Some(checkpoint), reason),
        None => (kind, None, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_says_what_for_why_and_for_which_checkpoint() {
        let id: OperationId = "0193b5a0-0000-7000-8000-000000000001".parse().expect("an id");
        let check = |label: &str, kind, reason, of: Option<OperationId>| {
            assert_eq!((read(label), checkpoint(label, Some(id))), ((kind, reason), of), "{label}");
        };
        check(&write(SnapshotKind::Checkpoint, "before 7"), SnapshotKind::Checkpoint, "before 7", Some(id));
        check(&write_backup(Some(id), "bad: 7"), SnapshotKind::Backup, "bad: 7", Some(id));
        check(&write_backup(None, "of my own"), SnapshotKind::Backup, "of my own", None);
        check(&write(SnapshotKind::Local, "by hand"), SnapshotKind::Local, "by hand", None);
        check("backup: of mine: x", SnapshotKind::Backup, "of mine: x", None);
        assert!(write_backup(Some(id), "").starts_with(rfs_store::BACKUP_LABEL));
        check(&write_backup(Some(id), ""), SnapshotKind::Backup, "", Some(id));
    }
}
