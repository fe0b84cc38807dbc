//! A plain capture by paths, independent of the store's, with all content in memory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rfs_model::Digest;
use rfs_store::STAGING_PREFIX;
use rfs_store::restore::Contents;
use rfs_store::tree::{Entry, EntryKind, Extent, Meta, Root, Tree};

/// The bytes of all files captured so far, by digest.
#[derive(Default)]
pub(crate) struct Memory {
    objects: Mutex<HashMap<Digest, Vec<u8>>>,
    /// After this many bytes, writing fails as on a full disk.
    pub(crate) full_after: Mutex<Option<u64>>,
}

impl Memory {
    /// Captures roots, leaving out paths beneath them that `excluded` holds.
    pub(crate) fn capture(&self, roots: &[PathBuf], excluded: &[&str]) -> Tree {
        let mut links = Links::default();
        let mut roots: Vec<Root> = roots
            .iter()
            .map(|root| {
                let mut entries = Vec::new();
                self.walk(root, Path::new(""), excluded, &mut links, &mut entries);
                entries.sort_by(|a, b| a.path.cmp(&b.path));
                Root { path: root.as_os_str().as_bytes().to_vec(), entries }
            })
            .collect();
        roots.sort_by(|a, b| a.path.cmp(&b.path));
        let mut tree = Tree { roots };
        links.number(&mut tree);
        tree
    }

    fn walk(&self, root: &Path, path: &Path, excluded: &[&str], links: &mut Links, entries: &mut Vec<Entry>) {
        let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
        let Ok(found) = fs::symlink_metadata(&full) else { return };
        let kind = found.file_type();
        let device = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        let kind = if kind.is_dir() {
            EntryKind::Directory
        } else if kind.is_file() {
            let link = (found.nlink() > 1).then(|| links.meet((found.dev(), found.ino())));
            EntryKind::File { size: found.len(), content: self.read(&full, found.len()), link }
        } else if kind.is_symlink() {
            EntryKind::Symlink(fs::read_link(&full).expect("a link").as_os_str().as_bytes().to_vec())
        } else if kind.is_fifo() {
            EntryKind::Fifo
        } else if kind.is_socket() {
            EntryKind::Socket
        } else if kind.is_char_device() {
            EntryKind::CharDevice { major: device.0, minor: device.1 }
        } else {
            EntryKind::BlockDevice { major: device.0, minor: device.1 }
        };
        let folder = kind == EntryKind::Directory;
        let meta = Meta {
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            mtime_seconds: found.mtime(),
            mtime_nanos: found.mtime_nsec() as u32,
            xattrs: attributes(&full),
        };
        entries.push(Entry { path: path.as_os_str().as_bytes().to_vec(), meta, kind });
        if !folder {
            return;
        }
        for name in fs::read_dir(&full).expect("a folder").map(|entry| entry.expect("an entry").file_name()) {
            let path = path.join(&name);
            let left_out =
                name.as_bytes().starts_with(STAGING_PREFIX) || excluded.iter().any(|e| Path::new(e) == path);
            if !left_out {
                self.walk(root, &path, excluded, links, entries);
            }
        }
    }

    fn read(&self, path: &Path, size: u64) -> Vec<Extent> {
        let mut file = File::open(path).expect("a file");
        let mut extents = Vec::new();
        let mut at = 0;
        while at < size {
            let data = match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(_) => size,
            };
            if data > at {
                extents.push(Extent::Hole { length: data - at });
            }
            if data == size {
                break;
            }
            let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).expect("an end");
            file.seek(SeekFrom::Start(data)).expect("a place");
            let mut bytes = vec![0; (end - data) as usize];
            file.read_exact(&mut bytes).expect("content");
            let digest = Digest::from_bytes(*blake3::hash(&bytes).as_bytes());
            extents.push(Extent::Data { digest, length: bytes.len() as u64 });
            self.objects.lock().expect("no panic").insert(digest, bytes);
            at = end;
        }
        extents
    }
}

impl Contents for Memory {
    fn read(
        &self,
        digest: &Digest,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *into = self.objects.lock().expect("no panic").get(digest).cloned().ok_or("no such object")?;
        if let Some(left) = self.full_after.lock().expect("no panic").as_mut() {
            *left = left.checked_sub(length).ok_or(std::io::Error::from_raw_os_error(28))?;
        }
        Ok(())
    }
}

/// Numbers inodes with several names in the captured trees by their first name, so that equal trees have equal numbers.
#[derive(Default)]
struct Links {
    seen: HashMap<(u64, u64), u32>,
}

impl Links {
    fn meet(&mut self, inode: (u64, u64)) -> u32 {
        let next = self.seen.len() as u32;
        *self.seen.entry(inode).or_insert(next)
    }

    fn number(&self, tree: &mut Tree) {
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        let each = |tree: &mut Tree, work: &mut dyn FnMut(&mut Option<u32>)| {
            for entry in tree.roots.iter_mut().flat_map(|root| &mut root.entries) {
                if let EntryKind::File { link, .. } = &mut entry.kind {
                    work(link);
                }
            }
        };
        each(tree, &mut |link| {
            if let Some(link) = link {
                *counts.entry(*link).or_default() += 1;
            }
        });
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        each(tree, &mut |link| {
            *link = link.filter(|link| counts[link] > 1).map(|link| {
                let next = numbers.len() as u32;
                *numbers.entry(link).or_insert(next)
            });
        });
    }
}

fn attributes(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    let mut names = Vec::with_capacity(65_536);
    rustix::fs::llistxattr(&path, rustix::buffer::spare_capacity(&mut names)).expect("attribute names");
    let mut pairs: Vec<_> = names
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = Vec::with_capacity(65_536);
            rustix::fs::lgetxattr(&path, name, rustix::buffer::spare_capacity(&mut value)).expect("a value");
            (name.to_vec(), value)
        })
        .collect();
    pairs.sort();
    pairs
}
