//! Marks: what is known of a snapshot beside its manifest: pins, uses, the proof that it restores, and what it has lost.
//!
//! A snapshot's marks are one small file, replaced as a whole:
//!
//! ```text
//! rfs-marks 1 SNAPSHOT
//! {"pinned":…,"in_use":{…},"proof":{…}}
//! BLAKE3 of both lines
//! ```
//! An older form has no first line, and the digest of the second without its end; it is read, and never written. As it
//! does not say whose marks they are, the new form came to be.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use rfs_model::{SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::files;
use crate::layout::Layout;

/// What is known of a snapshot beside its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// Why a person pinned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// Who needs it, and why: a running rollback's target or backup.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub in_use: BTreeMap<String, String>,
    /// When a drill or a restore proved it, and how long that took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// What it has lost, as a verification or a restore found it: it cannot be restored wholly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harmed: Option<String>,
}

/// Proof that a snapshot restores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// When it was proven.
    pub verified_at: Timestamp,
    /// How long the restore took, in milliseconds.
    pub restore_millis: u64,
}

const HEAD: &str = "rfs-marks ";
const VERSION: &str = "1";

/// Who uses a snapshot whose marks were damaged.
const DAMAGED: &str = "damaged-marks";

impl Proof {
    /// How long the restore took.
    pub fn restore_time(&self) -> Duration {
        Duration::from_millis(self.restore_millis)
    }
}

impl Marks {
    /// Reads the marks of a snapshot; none if it has none.
    pub(crate) fn read(layout: &Layout, id: SnapshotId) -> Result<Self, StoreError> {
        let path = layout.marks.join(id.to_string());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(StoreError::damaged("marks", &path, "they are not text"));
            }
            Err(source) => return Err(StoreError::unread("marks", "read", &path)(source)),
        };
        parse(id, &text).map_err(|reason| StoreError::damaged("marks", &path, reason))
    }

    /// Reads the marks of a snapshot; where they are damaged, it counts as in use, for it may have been.
    pub(crate) fn read_guarded(layout: &Layout, id: SnapshotId) -> Result<Self, StoreError> {
        match Self::read(layout, id) {
            Err(StoreError::Damaged { .. }) => {
                let in_use = BTreeMap::from([(DAMAGED.to_owned(), "its marks were damaged".to_owned())]);
                Ok(Self { in_use, ..Self::default() })
            }
            other => other,
        }
    }

    pub(crate) fn write(&self, layout: &Layout, id: SnapshotId) -> Result<(), StoreError> {
        let path = layout.marks.join(id.to_string());
        if *self == Self::default() {
            files::remove(&path)?;
            return files::sync_folder(&layout.marks);
        }
        files::replace(&path, print(id, self).as_bytes())
    }
}

fn print(id: SnapshotId, marks: &Marks) -> String {
    let line = serde_json::to_string(marks).expect("marks have only text keys");
    let lines = format!("{HEAD}{VERSION} {id}\n{line}\n");
    let sum = blake3::hash(lines.as_bytes());
    format!("{lines}{sum}\n")
}

/// Reads the marks of this snapshot.
pub(crate) fn parse(id: SnapshotId, text: &str) -> Result<Marks, String> {
    let Some(rest) = text.strip_prefix(HEAD) else { return parse_old(text) };
    let (head, rest) = rest.split_once('\n').ok_or("they are cut short")?;
    let (version, whose) = head.split_once(' ').ok_or("they are cut short")?;
    let (line, sum) = rest.split_once('\n').ok_or("they are cut short")?;
    let summed = &text[..text.len() - sum.len()];
    if sum != format!("{}\n", blake3::hash(summed.as_bytes())) {
        return Err("their checksum is wrong".to_owned());
    }
    if version != VERSION {
        return Err(format!("they have version {version}; this version reads {VERSION}"));
    }
    if whose != id.to_string() {
        return Err("they are another snapshot's".to_owned());
    }
    serde_json::from_str(line).map_err(|error| error.to_string())
}

fn parse_old(text: &str) -> Result<Marks, String> {
    let (line, rest) = text.split_once('\n').ok_or("they are cut short")?;
    if rest != format!("{}\n", blake3::hash(line.as_bytes())) {
        return Err("their checksum is wrong".to_owned());
    }
    serde_json::from_str(line).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rfs_model::Digest;

    fn marks() -> Marks {
        let proof = Proof { verified_at: Timestamp(5), restore_millis: 70 };
        let in_use = BTreeMap::from([("rollback-1".to_owned(), "its backup".to_owned())]);
        Marks {
            pinned: Some("before the audit".to_owned()),
            in_use,
            proof: Some(proof),
            harmed: Some("missing object".to_owned()),
        }
    }

    fn id(number: u8) -> SnapshotId {
        SnapshotId(Digest::from_bytes([number; 32]))
    }

    #[test]
    fn marks_read_back_and_every_flipped_bit_shows() {
        let text = print(id(1), &marks());
        assert_eq!(parse(id(1), &text), Ok(marks()));
        for i in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[i / 8] ^= 1 << (i % 8);
            assert!(String::from_utf8(bytes).map_or(true, |text| parse(id(1), &text).is_err()), "bit {i}");
        }
    }

    #[test]
    fn the_marks_of_another_snapshot_are_not_believed() {
        let error = parse(id(2), &print(id(1), &marks())).expect_err("not its own");
        assert_eq!(error, "they are another snapshot's");
    }

    #[test]
    fn marks_of_the_form_before_versions_are_read() {
        let line = serde_json::to_string(&marks()).expect("is JSON");
        let text = format!("{line}\n{}\n", blake3::hash(line.as_bytes()));
        assert_eq!(parse(id(1), &text), Ok(marks()));
    }

    #[test]
    fn marks_of_a_newer_version_are_named_and_not_guessed_at() {
        let lines = format!("rfs-marks 2 {}\nwho knows\n", id(1));
        let text = format!("{lines}{}\n", blake3::hash(lines.as_bytes()));
        let error = parse(id(1), &text).expect_err("newer");
        assert_eq!(error, "they have version 2; this version reads 1");
    }
}
