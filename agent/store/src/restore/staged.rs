//! What was staged: everything that a flip and its inverse need, as a value that a journal keeps.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use rfs_model::Digest;
use serde::{Deserialize, Serialize};

use super::journalled::StagedFormat;
use super::look::Look;
use super::plan::{FolderTime, Place};
use crate::staging::STAGING_PREFIX;
use crate::text::ByteText;
use crate::tree::Meta;

/// The name of the staging folders of one component in one operation, such as `.rfs-<operation>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StagingName(String);

/// Text that can't name a staging folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name a staging folder: 1 to 160 letters, digits, '-', '_' and '.' are needed")]
pub struct StagingNameError(String);

impl StagingName {
    /// The folder name for `label`, which must be unique to the component and the operation.
    pub fn new(label: &str) -> Result<Self, StagingNameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if label.is_empty() || label.len() > 160 || !label.bytes().all(plain) {
            return Err(StagingNameError(label.chars().take(160).collect()));
        }
        Ok(Self(format!("{}{label}", prefix())))
    }

    /// The name as it stands on disk.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StagingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for StagingName {
    type Error = StagingNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text.strip_prefix(&*prefix()).unwrap_or(&text))
    }
}

impl From<StagingName> for String {
    fn from(name: StagingName) -> Self {
        name.0
    }
}

fn prefix() -> Cow<'static, str> {
    String::from_utf8_lossy(STAGING_PREFIX)
}

/// A plan whose new entries lie ready beside the live ones.
///
/// A journal must hold it before [`flip`](super::flip()) is called, because it is the only way back after a crash. What is
/// read from a journal refers to nothing outside of itself, or it is refused: see `journalled`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::journalled::Journalled")]
pub struct Staged {
    pub(super) format: StagedFormat,
    pub(super) name: StagingName,
    /// Those that have steps, by position in the plan.
    pub(super) roots: BTreeMap<usize, StagedRoot>,
    pub(super) yards: Vec<Yard>,
    pub(super) swaps: Vec<Swap>,
    pub(super) adjusts: Vec<Adjust>,
    pub(super) folders: Vec<FolderTime>,
    /// What is bound once all is done, what lies deeper first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) fixes: Vec<Fix>,
}

/// An entry that is immutable or append-only at the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fix {
    pub(super) at: Place,
    /// All its flags.
    pub(super) flags: ByteText,
}

/// A root, and the folder above it as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StagedRoot {
    pub(super) path: ByteText,
    /// The inode of the folder that holds the root.
    pub(super) above: u64,
    /// Folders that had to be made above it, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) made: Vec<ByteText>,
}

/// A staging folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Yard {
    pub(super) place: YardPlace,
    pub(super) inode: u64,
}

/// Where a staging folder stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum YardPlace {
    /// In the folder that holds this root.
    Beside(usize),
    /// In this folder of a root.
    Within(Place),
}

impl YardPlace {
    /// The folder of a root in which it stands, unless it stands beside one.
    pub(super) fn within(&self) -> Option<&Place> {
        match self {
            Self::Beside(_) => None,
            Self::Within(place) => Some(place),
        }
    }

    pub(super) fn root(&self) -> usize {
        match self {
            Self::Beside(root) | Self::Within(Place { root, .. }) => *root,
        }
    }
}

/// A further yard as its list names it: by the path of its root, which means the same to whoever reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FurtherYard {
    pub(super) root: ByteText,
    pub(super) path: ByteText,
}

/// One path and its slot in a staging folder, which change places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Swap {
    pub(super) at: Place,
    pub(super) slot: Slot,
    pub(super) kind: SwapKind,
}

/// A numbered place in a staging folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(usize, u32)", into = "(usize, u32)")]
pub(super) struct Slot {
    pub(super) yard: usize,
    pub(super) number: u32,
}

/// Which of the two sides hold something before the flip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SwapKind {
    /// Only the slot.
    Create {
        /// What lies ready in the slot.
        ready: Ready,
    },
    /// Both.
    Replace {
        /// What lies ready in the slot.
        ready: Ready,
        /// What is live.
        displaced: Evidence,
    },
    /// Only the path.
    Delete {
        /// What is live.
        displaced: Evidence,
    },
}

/// By what a staged entry is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ReadyRow", into = "ReadyRow")]
pub(super) struct Ready {
    pub(super) inode: u64,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    /// It has other names, perhaps live ones, by which it can be changed.
    pub(super) shared: bool,
}

impl Ready {
    pub(super) fn of(found: &Look) -> Self {
        let Look { inode, mode, size, mtime, .. } = *found;
        Self { inode, mode, size, mtime, shared: found.is_file() && found.links > 1 }
    }
}

/// By what a live entry is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "EvidenceRow", into = "EvidenceRow")]
pub(super) struct Evidence {
    pub(super) inode: u64,
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
    pub(super) ctime: (i64, u32),
    /// Of a folder: the digest of the same of all that lies beneath it.
    pub(super) beneath: Option<Digest>,
}

/// Metadata that changes in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Adjust {
    pub(super) at: Place,
    pub(super) inode: u64,
    pub(super) ctime: (i64, u32),
    pub(super) old: Meta,
    pub(super) new: Meta,
    /// Its times say nothing: see [`Adjustment`](super::plan::Adjustment).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) restless: bool,
}

/// Where the live trees stand between the two states that a [`Staged`] knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilesStanding {
    /// No step is done.
    Before,
    /// All steps are done.
    Target,
    /// Some are.
    Between,
}

/// What the inverse of a flip met.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unflipped {
    /// Paths that someone had changed since the flip. Their entries were moved out of the way and go with [`discard`](super::discard()).
    pub changed_since: Vec<ByteText>,
}

/// A journal holds one of these for every path, so they are written without names.
type ReadyRow = (u64, u32, u64, i64, u32, bool);
type EvidenceRow = (u64, u32, u64, (i64, u32), (i64, u32), Option<Digest>);

impl From<ReadyRow> for Ready {
    fn from((inode, mode, size, seconds, nanos, shared): ReadyRow) -> Self {
        Self { inode, mode, size, mtime: (seconds, nanos), shared }
    }
}

impl From<Ready> for ReadyRow {
    fn from(Ready { inode, mode, size, mtime: (seconds, nanos), shared }: Ready) -> Self {
        (inode, mode, size, seconds, nanos, shared)
    }
}

impl From<EvidenceRow> for Evidence {
    fn from((inode, mode, size, mtime, ctime, beneath): EvidenceRow) -> Self {
        Self { inode, mode, size, mtime, ctime, beneath }
    }
}

impl From<Evidence> for EvidenceRow {
    fn from(Evidence { inode, mode, size, mtime, ctime, beneath }: Evidence) -> Self {
        (inode, mode, size, mtime, ctime, beneath)
    }
}

impl From<(usize, u32)> for Slot {
    fn from((yard, number): (usize, u32)) -> Self {
        Self { yard, number }
    }
}

impl From<Slot> for (usize, u32) {
    fn from(Slot { yard, number }: Slot) -> Self {
        (yard, number)
    }
}
