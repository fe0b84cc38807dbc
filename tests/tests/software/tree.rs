//! Files of a story: written as deploys write them, set aside, and compared.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rfs_tests::tree;

/// Writes a file with the folders above it, and a new inode, as deploy tools do.
pub(crate) fn put(path: &Path, text: &str) {
    let folder = path.parent().expect("it is in a folder");
    fs::create_dir_all(folder).expect("a folder can be made");
    let new = folder.join(".new");
    fs::write(&new, text).and_then(|()| fs::rename(&new, path)).unwrap_or_else(|e| panic!("{path:?}: {e}"));
}

/// Writes a program.
pub(crate) fn put_program(path: &Path, text: &str) {
    put(path, text);
    chmod(path, 0o755);
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap_or_else(|e| panic!("{path:?}: {e}"));
}

/// Folders as they were at one moment, set aside.
pub(crate) struct Aside {
    folder: PathBuf,
    paths: Vec<PathBuf>,
}

impl Aside {
    /// Sets copies of `paths` aside in `folder`, which is made.
    pub(crate) fn of(folder: PathBuf, paths: &[PathBuf]) -> Self {
        fs::create_dir_all(&folder).expect("a folder can be made");
        for (number, path) in paths.iter().enumerate() {
            tree::copy(path, &folder.join(number.to_string()));
        }
        Self { folder, paths: paths.to_vec() }
    }

    /// The live folders are as they were, by all that `rsync` compares, or without it by names, modes and contents.
    #[track_caller]
    pub(crate) fn assert_same(&self, what: &str) {
        for (number, path) in self.paths.iter().enumerate() {
            let aside = self.folder.join(number.to_string());
            match tree::difference(&aside, path) {
                Some(difference) => assert_eq!(difference, "", "{what}: {} differs", path.display()),
                None => assert_eq!(tree::digest(&aside), tree::digest(path), "{what}: {}", path.display()),
            }
        }
    }
}
