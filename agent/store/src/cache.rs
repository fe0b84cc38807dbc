//! The stat cache: what each file was when it was scanned last, so that an unchanged file is not read again.
//!
//! ```text
//! "rfsC" version  root path  file system  top  groups  (offset)*  group*  BLAKE3 of all before
//! group   xattrs of the folder  children  child*
//! child   name  flags  state (fixed)  group of the folder | length  xattrs  content…
//! ```
//! A file counts as unchanged if its inode, size, modification and change time, mode and owner are what they were, and
//! it was not too young to trust: a file that is written twice within one step of the file system's clock looks the
//! same after both writes.
//!
//! Invariants
//! - The cache belongs to no snapshot and is never needed: one that is missing, damaged, of another version or of
//!   another file system is as good as none.
//! - It names content and keeps none. Whether the store has that content is asked of the index each time.

mod read;
mod state;
mod write;

pub(crate) use read::{Cache, Group};
pub(crate) use state::{Grain, Trust};
pub(crate) use write::CacheWriter;

use std::path::{Path, PathBuf};

const MAGIC: &[u8; 5] = b"rfsC\x01";
const SUM: usize = 32;

/// Flags of a child.
const YOUNG: u8 = 1;

/// The cache file of a root.
pub(crate) fn path(folder: &Path, root: &Path) -> PathBuf {
    let name = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
    folder.join(&name[..32])
}
