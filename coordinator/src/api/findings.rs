//! What a host's last change removed, kept, met and was told of, as the API shows it.

use rfs_proto::v1;
use rfs_rollout::rollback::{HostPhase, HostRecord};
use rfs_rollout::{Findings, Listed};

/// Adds to a host's progress what a person must know of its last change.
pub(super) fn with_findings(shown: v1::HostProgress, record: &HostRecord) -> v1::HostProgress {
    let Some(receipt) = &record.receipt else { return shown };
    let Some(Findings { lost, appeared, written, notes }) = receipt.findings.as_deref() else { return shown };
    let shown = v1::HostProgress { notes: notes.clone(), ..shown };
    // What is to be tried again, or is at work, stands in the report of the attempt before.
    let is_there = record.at_target() || record.phase == HostPhase::Reverted;
    if !is_there || receipt.lost().is_none() {
        return shown;
    }
    let backup = receipt.backup.filter(|_| !lost.is_empty());
    let bring_back = backup.zip(lost.first.first());
    v1::HostProgress {
        lost: listed(lost),
        appeared: listed(appeared),
        written: listed(written),
        loss_backup: backup.map(|backup| backup.to_string()).unwrap_or_default(),
        bring_back: bring_back
            .map(|(backup, path)| format!("rfs-agent restore {} --path {}", backup.0.short(), quoted(path)))
            .unwrap_or_default(),
        ..shown
    }
}

fn listed(listed: &Listed) -> Option<v1::ListedPaths> {
    let Listed { count, bytes, first } = listed;
    (!listed.is_empty()).then(|| v1::ListedPaths { count: *count, bytes: bytes.0, first: first.clone() })
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+%@:,=".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, word) in [
            ("/srv/a%20b", "/srv/a%20b"),
            ("/srv/a b", "'/srv/a b'"),
            ("/it's", r"'/it'\''s'"),
            ("/$(x)", "'/$(x)'"),
        ] {
            assert_eq!(quoted(path), word);
        }
    }
}
