//! The plan: what a restore will do, as values that a person reads and the executor performs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rfs_model::ByteCount;
use serde::{Deserialize, Serialize};

use super::wanted::find;
use super::{pattern, work};
use crate::flags;
use crate::space::Demand;
use crate::text::ByteText;
use crate::tree::{Entry, EntryKind, Extent, Meta, Tree};

/// Everything that brings a live set of trees to a target. Empty: it is there already.
///
/// Steps touch paths that do not lie beneath one another, and so hold in any order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilesPlan {
    /// The roots, as absolute paths.
    pub(super) roots: Vec<ByteText>,
    /// Sorted by root, folder and name.
    pub(super) steps: Vec<Step>,
    /// Folders that stay, whose own times the steps disturb.
    pub(super) folders: Vec<FolderTime>,
    /// Target inodes with several names of which one is in place already: by link number.
    pub(super) donors: BTreeMap<u32, Donor>,
}

/// A file that stays and gets more names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Donor {
    pub(super) at: Place,
    /// By which it is known again.
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
}

/// A path beneath a root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(usize, ByteText)", into = "(usize, ByteText)")]
pub struct Place {
    /// Which root, by position.
    pub root: usize,
    /// The path beneath it; empty for the root itself.
    pub path: ByteText,
}

impl From<(usize, ByteText)> for Place {
    fn from((root, path): (usize, ByteText)) -> Self {
        Self { root, path }
    }
}

impl From<Place> for (usize, ByteText) {
    fn from(Place { root, path }: Place) -> Self {
        (root, path)
    }
}

/// One change of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The absolute path, for people.
    pub shown: ByteText,
    /// The path.
    pub at: Place,
    /// What happens to it.
    pub change: Change,
}

/// What happens to a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Nothing is there, and something comes.
    Create(New),
    /// Something else is there.
    Replace {
        /// What goes: the entry, and all beneath it.
        old: Vec<Entry>,
        /// What comes.
        new: New,
    },
    /// It goes.
    Delete {
        /// The entry, and all beneath it.
        old: Vec<Entry>,
    },
    /// Its content stays, its metadata changes in place.
    Adjust(Box<Adjustment>),
}

/// What comes to a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct New {
    /// The entry, then all beneath it, parents first. Never empty.
    pub entries: Vec<Entry>,
    /// It is one more name of the file at this absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_to: Option<ByteText>,
}

/// A change of metadata alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustment {
    /// What it has.
    pub old: Meta,
    /// The target's entry, whole: a file that has names outside the component is written anew instead.
    pub new: Entry,
    /// The names under which this inode stays, this one first.
    pub names: Vec<Place>,
    /// How many names of the component it has now. More on disk: it is also a file outside, which must not change.
    pub links: u32,
    /// A folder in which names that are none of the restore's come and go, so that its times say nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restless: bool,
}

/// A folder that stays and whose modification time is put right after the steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderTime {
    /// The folder.
    pub at: Place,
    /// Before the steps: seconds and nanoseconds.
    pub old: (i64, u32),
    /// After the steps.
    pub new: (i64, u32),
}

/// How much a plan does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Entries that come, those inside new folders included.
    pub created: u64,
    /// Paths that hold something else afterwards.
    pub replaced: u64,
    /// Entries that go, those inside deleted and replaced folders included.
    pub deleted: u64,
    /// Paths whose metadata alone changes.
    pub adjusted: u64,
    /// Content that is written.
    pub bytes: ByteCount,
}

impl FilesPlan {
    /// True when the live trees equal the target in everything that is selected and not protected.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps. Each is shown as one line.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The roots, as absolute paths.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(|root| root.0.as_slice())
    }

    /// How much it does.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { bytes: self.bytes_to_write(), ..Counts::default() };
        for step in &self.steps {
            match &step.change {
                Change::Create(new) => counts.created += new.entries.len() as u64,
                Change::Replace { old, new } => {
                    counts.replaced += 1;
                    counts.created += new.entries.len() as u64 - 1;
                    counts.deleted += old.len() as u64 - 1;
                }
                Change::Delete { old } => counts.deleted += old.len() as u64,
                Change::Adjust(_) => counts.adjusted += 1,
            }
        }
        counts
    }

    /// How many bytes of content it writes. Holes, and further names of one file, cost nothing.
    pub fn bytes_to_write(&self) -> ByteCount {
        let mut links: BTreeSet<u32> = self.donors.keys().copied().collect();
        ByteCount(
            self.steps
                .iter()
                .filter_map(|step| step.change.brings())
                .map(|new| data_bytes(&new.entries, &mut links))
                .sum(),
        )
    }

    /// How much room it takes beside the live trees, root by root.
    pub fn room(&self) -> Vec<Demand> {
        let mut links: BTreeSet<u32> = self.donors.keys().copied().collect();
        let mut rooms = vec![0u64; self.roots.len()];
        for step in &self.steps {
            if let Some(new) = step.change.brings() {
                rooms[step.at.root] += work::room_needed(new, &mut links).0;
            }
        }
        let path = |root: &[u8]| PathBuf::from(OsStr::from_bytes(root));
        self.roots()
            .zip(rooms)
            .map(|(root, bytes)| Demand { path: path(root), bytes: ByteCount(bytes) })
            .collect()
    }

    /// The absolute paths of all that goes: deleted, or beneath something that is deleted or replaced.
    pub fn deleted(&self) -> impl Iterator<Item = Vec<u8>> {
        self.lost().map(|(root, entry)| pattern::absolute(&self.roots[root].0, &entry.path))
    }

    /// The first live path that is immutable or append-only and in the way: itself, or the folder that holds it.
    pub fn bound(&self, current: &Tree) -> Option<Vec<u8>> {
        let is_bound = |entry: &Entry| flags::are_fixed(flags::among(&entry.meta.xattrs));
        self.steps.iter().find_map(|step| {
            let root = current.roots.iter().find(|root| root.path == self.roots[step.at.root].0)?;
            let live: Vec<&Entry> = match &step.change {
                Change::Replace { old, .. } | Change::Delete { old } => old.iter().collect(),
                Change::Adjust(_) => find(&root.entries, &step.at.path.0).into_iter().collect(),
                Change::Create(_) => Vec::new(),
            };
            let swaps = !matches!(step.change, Change::Adjust(_));
            let holder = pattern::parent(&step.at.path.0).filter(|_| swaps);
            let holder = holder.and_then(|folder| find(&root.entries, folder));
            let bound = live.into_iter().chain(holder).find(|entry| is_bound(entry))?;
            Some(pattern::absolute(&root.path, &bound.path))
        })
    }

    /// Every entry that goes, as [`FilesPlan::deleted`] names it.
    pub fn lost(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.steps.iter().flat_map(move |step| {
            let gone = match &step.change {
                Change::Delete { old } => &old[..],
                Change::Replace { old, .. } => &old[1..],
                Change::Create(_) | Change::Adjust(_) => &[],
            };
            gone.iter().map(move |entry| (step.at.root, entry))
        })
    }

    /// The absolute paths of what goes and no snapshot brings back: sockets, and device files where none may be made.
    pub fn unkept(&self, devices: bool) -> impl Iterator<Item = (usize, Vec<u8>)> {
        self.steps.iter().flat_map(move |step| {
            let gone = match &step.change {
                Change::Delete { old } | Change::Replace { old, .. } => &old[..],
                Change::Create(_) | Change::Adjust(_) => &[],
            };
            let gone = gone.iter().filter(move |&entry| is_unkept(entry, devices));
            gone.map(move |entry| (step.at.root, pattern::absolute(&self.roots[step.at.root].0, &entry.path)))
        })
    }

    /// The absolute paths whose present content or kind is overwritten.
    pub fn overwritten(&self) -> impl Iterator<Item = &[u8]> {
        self.steps
            .iter()
            .filter(|step| matches!(step.change, Change::Replace { .. }))
            .map(|step| step.shown.0.as_slice())
    }

    /// The absolute paths of all that comes.
    pub fn created(&self) -> impl Iterator<Item = Vec<u8>> {
        self.steps.iter().flat_map(move |step| {
            let new = match &step.change {
                Change::Create(new) => &new.entries[..],
                Change::Replace { new, .. } => &new.entries[1..],
                Change::Delete { .. } | Change::Adjust(_) => &[],
            };
            new.iter().map(move |entry| pattern::absolute(&self.roots[step.at.root].0, &entry.path))
        })
    }
}

impl Change {
    pub(super) fn brings(&self) -> Option<&New> {
        match self {
            Self::Create(new) | Self::Replace { new, .. } => Some(new),
            Self::Delete { .. } | Self::Adjust(_) => None,
        }
    }
}

/// The bytes of content in `entries`; a link number in `seen` is not counted, and those met are added to it.
pub(super) fn data_bytes(entries: &[Entry], seen: &mut BTreeSet<u32>) -> u64 {
    entries.iter().map(|entry| entry_bytes(entry, seen)).sum()
}

/// The same of one entry.
pub(super) fn entry_bytes(entry: &Entry, seen: &mut BTreeSet<u32>) -> u64 {
    match &entry.kind {
        EntryKind::File { link: Some(link), .. } if !seen.insert(*link) => 0,
        EntryKind::File { content, .. } => content.iter().map(stored_bytes).sum(),
        EntryKind::Directory
        | EntryKind::Symlink(_)
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharDevice { .. }
        | EntryKind::BlockDevice { .. } => 0,
    }
}

fn stored_bytes(extent: &Extent) -> u64 {
    match extent {
        Extent::Data { length, .. } => *length,
        Extent::Hole { .. } => 0,
    }
}

/// The modification time: seconds and nanoseconds.
pub(super) fn mtime(meta: &Meta) -> (i64, u32) {
    (meta.mtime_seconds, meta.mtime_nanos)
}

/// Whether no snapshot brings such an entry back: a socket, and a device file where none may be made.
pub fn is_unkept(entry: &Entry, devices: bool) -> bool {
    match entry.kind {
        EntryKind::Socket => true,
        EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => !devices,
        EntryKind::Directory | EntryKind::File { .. } | EntryKind::Symlink(_) | EntryKind::Fifo => false,
    }
}
