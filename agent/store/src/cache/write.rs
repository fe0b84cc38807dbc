//! Writing the cache anew after a scan.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{MAGIC, YOUNG, state};
use crate::bytes::Writer;
use crate::segment;
use crate::tree::EntryKind;
use crate::walk::{Found, Live};

/// A cache in the making.
#[derive(Debug)]
pub(crate) struct CacheWriter {
    writer: Writer,
    offsets: usize,
    group: usize,
}

impl CacheWriter {
    /// Begins the cache of a root with so many groups, which must be written in order.
    pub(crate) fn new(root: &Path, file_system: u64, groups: usize) -> Self {
        let mut writer = Writer(MAGIC.to_vec());
        writer.bytes(root.as_os_str().as_encoded_bytes());
        writer.0.extend_from_slice(&file_system.to_le_bytes());
        writer.0.extend_from_slice(&0u64.to_le_bytes());
        writer.0.extend_from_slice(&(groups as u64).to_le_bytes());
        let offsets = writer.0.len();
        writer.0.resize(offsets + groups * 8, 0);
        Self { writer, offsets, group: 0 }
    }

    /// Writes the root itself.
    pub(crate) fn top(&mut self) {
        let here = self.writer.0.len() as u64;
        self.writer.0[self.offsets - 16..self.offsets - 8].copy_from_slice(&here.to_le_bytes());
    }

    /// Begins the next group.
    pub(crate) fn group(&mut self, xattrs: &[(Vec<u8>, Vec<u8>)], children: usize) {
        let here = self.writer.0.len() as u64;
        let at = self.offsets + self.group * 8;
        self.writer.0[at..at + 8].copy_from_slice(&here.to_le_bytes());
        self.group += 1;
        self.xattrs(xattrs);
        self.writer.number(children as u64);
    }

    /// Writes a child that is a folder.
    pub(crate) fn folder(&mut self, name: &[u8], live: &Live, young: bool, group: u32) {
        self.child(name, live, young);
        self.writer.0.extend_from_slice(&group.to_le_bytes());
    }

    /// Writes a child that is no folder.
    pub(crate) fn entry(
        &mut self,
        name: &[u8],
        live: &Live,
        young: bool,
        xattrs: &[(Vec<u8>, Vec<u8>)],
        kind: &EntryKind,
    ) {
        debug_assert_ne!(live.found, Found::Directory);
        self.child(name, live, young);
        let at = self.writer.0.len();
        self.writer.0.extend_from_slice(&[0; 4]);
        self.xattrs(xattrs);
        match kind {
            EntryKind::File { content, .. } => segment::encode_content(content, &mut self.writer),
            EntryKind::Symlink(target) => self.writer.bytes(target),
            EntryKind::Directory
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharDevice { .. }
            | EntryKind::BlockDevice { .. } => {}
        }
        let length = (self.writer.0.len() - at - 4) as u32;
        self.writer.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// Puts the cache in place. It need not be durable: one that a crash cut short is as good as none.
    pub(crate) fn finish(mut self, path: &Path) -> std::io::Result<()> {
        let sum = blake3::hash(&self.writer.0);
        self.writer.0.extend_from_slice(sum.as_bytes());
        let temporary = path.with_extension(format!("{:?}.part", std::thread::current().id()));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let written = file.write_all(&self.writer.0).and_then(|()| std::fs::rename(&temporary, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    fn child(&mut self, name: &[u8], live: &Live, young: bool) {
        self.writer.bytes(name);
        self.writer.byte(if young { YOUNG } else { 0 });
        state::encode(live, &mut self.writer.0);
    }

    fn xattrs(&mut self, xattrs: &[(Vec<u8>, Vec<u8>)]) {
        self.writer.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.writer.bytes(name);
            self.writer.bytes(value);
        }
    }
}
