//! A captured tree: what a `files` component was, entry by entry, as values.
//!
//! Invariants
//! - `roots` are sorted by path; a root's `entries` are sorted by path in byte order, parents before children, the root itself first.
//! - Entry paths are relative to their root, never contain `.` or `..`, and the root itself is the empty path.
//! - Nothing here says where a host keeps its live files now (inode, ctime): that belongs to the stat cache, so that
//!   equal states have equal digests.

use rfs_model::Digest;
use serde::{Deserialize, Serialize};

/// All roots of one `files` component.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// One per configured path.
    pub roots: Vec<Root>,
}

/// One configured path, with everything that was beneath it. No entries: nothing was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The absolute path, as bytes.
    pub path: Vec<u8>,
    /// What was there.
    pub entries: Vec<Entry>,
}

/// One file, directory, link or node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The path beneath the root, as bytes; empty for the root itself.
    #[serde(with = "crate::text")]
    pub path: Vec<u8>,
    /// Owner, mode, times, attributes.
    pub meta: Meta,
    /// What it is.
    pub kind: EntryKind,
}

/// What every entry has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: `mode & 0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Modification time: seconds since the epoch.
    pub mtime_seconds: i64,
    /// Modification time: nanoseconds within the second.
    pub mtime_nanos: u32,
    /// Extended attributes sorted by name: user, trusted, security (capabilities, labels) and the raw POSIX ACLs.
    #[serde(with = "crate::text::pairs", default, skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A directory, perhaps empty.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes, holes included.
        size: u64,
        /// Its content in order; holes are explicit; lengths sum to `size`.
        content: Vec<Extent>,
        /// Files of one component with the same number are one inode with several names.
        link: Option<u32>,
    },
    /// A symbolic link and where it points, as bytes.
    Symlink(#[serde(with = "crate::text")] Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket's name; sockets are recreated by their services, so it is recorded and not restored.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Bytes that are an object of the store.
    Data {
        /// The BLAKE3 digest of these bytes, which names the object.
        digest: Digest,
        /// How many bytes.
        length: u64,
    },
    /// A hole: reads as zeros, takes no space.
    Hole {
        /// How many bytes.
        length: u64,
    },
}

impl Extent {
    /// How many bytes.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Data { length, .. } | Self::Hole { length } => *length,
        }
    }

    /// Each extent of a file, with where it begins.
    pub(crate) fn placed(content: &[Self]) -> impl Iterator<Item = (u64, &Self)> {
        let mut end = 0;
        content.iter().map(move |extent| {
            end += extent.length();
            (end - extent.length(), extent)
        })
    }
}
