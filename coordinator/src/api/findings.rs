//! What a host's last change removed, kept, met and was told of, as the API shows it.

use rfs_link::plain::word;
use rfs_model::{InstanceId, SnapshotId};
use rfs_proto::v1;
use rfs_rollout::rollback::HostRecord;
use rfs_rollout::{Findings, Listed, Removed};

/// Adds to a host's progress what a person must know of its last change, and what went with those before.
pub(super) fn with_findings(shown: v1::HostProgress, record: &HostRecord) -> v1::HostProgress {
    let backup = record.receipt.as_ref().and_then(|receipt| receipt.backup);
    let before = record.removed.iter().filter(|removed| Some(removed.backup) != backup);
    let before = before.map(|one| removed(one, None));
    let elsewhere = record
        .elsewhere
        .iter()
        .flat_map(|(instance, elsewhere)| elsewhere.removed.iter().map(|one| removed(one, Some(*instance))));
    let shown = v1::HostProgress { removed_before: before.chain(elsewhere).collect(), ..shown };
    let Some(receipt) = &record.receipt else { return shown };
    let Some(Findings { lost, appeared, written, notes }) = receipt.findings.as_deref() else { return shown };
    let shown = v1::HostProgress { notes: notes.clone(), ..shown };
    // A host that stands as before has lost nothing.
    if receipt.lost().is_none() {
        return shown;
    }
    let backup = backup.filter(|_| !lost.is_empty());
    v1::HostProgress {
        lost: listed(lost),
        appeared: listed(appeared),
        written: listed(written),
        loss_backup: backup.map(|backup| backup.to_string()).unwrap_or_default(),
        bring_back: backup.map(|backup| bring_back(backup, lost)).unwrap_or_default(),
        ..shown
    }
}

/// What one change removed, on the machine that speaks for the host or on another one.
fn removed(removed: &Removed, elsewhere: Option<InstanceId>) -> v1::RemovedPaths {
    let Removed { lost, backup } = removed;
    v1::RemovedPaths {
        lost: listed(lost),
        backup: backup.to_string(),
        bring_back: bring_back(*backup, lost),
        instance: elsewhere.map(|instance| instance.to_string()).unwrap_or_default(),
    }
}

/// The command that brings the first of the paths back; empty if none is named.
fn bring_back(backup: SnapshotId, lost: &Listed) -> String {
    let first = lost.first.first();
    let command = |path| format!("rfs-agent restore {} --path {}", backup.0.short(), word(path));
    first.map(|path| command(path)).unwrap_or_default()
}

fn listed(listed: &Listed) -> Option<v1::ListedPaths> {
    let Listed { count, bytes, first } = listed;
    (!listed.is_empty()).then(|| v1::ListedPaths { count: *count, bytes: bytes.0, first: first.clone() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rfs_model::{Digest, Standing, Timestamp};
    use rfs_rollout::rollback::HostPhase;
    use rfs_rollout::{Operation, Restored};

    use super::*;
    use crate::play::{self, Play};

    /// A host that lost a photo at its target, and had lost a film before, at its phase.
    fn record(phase: HostPhase) -> HostRecord {
        let hosts = play::hosts(1, 8);
        let play = Play::rollback(&hosts, |_| {});
        let Operation::Rollback(rollback) = &*play.operation else { panic!("a rollback") };
        let backup = |byte| SnapshotId(Digest::from_bytes([byte; 32]));
        let lost = |path: &str| Listed { count: 1, first: vec![path.to_owned()], ..Listed::default() };
        let findings = Findings { lost: lost("/srv/photo"), ..Findings::default() };
        let receipt = Restored {
            standing: Standing::Target,
            backup: Some(backup(2)),
            downtime: Duration::ZERO,
            phases: Vec::new(),
            steps: 1,
            bytes: Default::default(),
            failure: None,
            restore: None,
            findings: Some(Box::new(findings)),
        };
        HostRecord {
            phase,
            receipt: Some(Box::new(receipt)),
            removed: vec![Removed { lost: lost("/srv/film"), backup: backup(1) }],
            ..rollback.hosts[&hosts[0]].clone()
        }
    }

    #[test]
    fn a_loss_is_shown_until_it_is_back_also_where_the_way_back_was_not_taken() {
        let at = Timestamp(1);
        for phase in [
            HostPhase::Applied { since: at },
            HostPhase::Unhealthy,
            HostPhase::Reverting { deadline: at },
            HostPhase::RevertFailed,
            HostPhase::Skipped,
            HostPhase::Lost,
        ] {
            let shown = with_findings(v1::HostProgress::default(), &record(phase.clone()));
            assert_eq!(shown.lost.expect("shown").first, ["/srv/photo"], "{phase:?}");
            assert_eq!(shown.bring_back, "rfs-agent restore 020202020202 --path /srv/photo");
            let before = &shown.removed_before[..];
            assert_eq!(before.len(), 1, "{phase:?}");
            assert_eq!(before[0].bring_back, "rfs-agent restore 010101010101 --path /srv/film");
        }
    }
}
