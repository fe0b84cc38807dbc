//! Further ways to ask and to stop a service, for a release that broke its own commands.
//!
//! own command ─▶ the command as it was captured, from the snapshot that is restored ─▶ its processes, if a person says so
//!
//! A command is captured when it lies in a tree of files that the snapshot has: its files are written into a private folder
//! of the store, and the command is run from there. What it needs beside these files is as the release left it.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rfs_model::ComponentKind;
use rfs_store::{EntryKind, Extent, Root, Snapshot, Store, Tree};

use crate::config::{Hook, Program};

/// How a service is asked and stopped when its own commands do not work.
pub struct Ways<'a> {
    store: &'a Store,
    target: Option<&'a Snapshot>,
    /// Its processes may be ended.
    pub(super) force: bool,
    lent: RefCell<Lent>,
}

/// Files that were written for a command. Removed when it is dropped.
#[derive(Default)]
struct Lent {
    folder: Option<PathBuf>,
    count: usize,
    trees: Option<Vec<Tree>>,
}

impl<'a> Ways<'a> {
    /// Ways that go by the snapshot that is restored.
    pub fn new(store: &'a Store, target: Option<&'a Snapshot>, force: bool) -> Self {
        Self { store, target, force, lent: RefCell::default() }
    }

    /// The command as the snapshot has it; none where the snapshot has none of its files, or has them as they are.
    pub(super) fn as_captured(&self, hook: &Hook) -> Option<Hook> {
        let mut lent = self.lent.borrow_mut();
        let mut changed = false;
        let argv = hook.program.argv().iter().map(|argument| {
            let mut argument = argument.clone();
            for path in paths_in(&argument.clone()) {
                if let Some((copy, differs)) = self.lend(&mut lent, Path::new(&path)) {
                    changed |= differs;
                    argument = argument.replace(&path, &copy.to_string_lossy());
                }
            }
            argument
        });
        let program = Program::from_argv(argv.collect())?;
        changed.then_some(Hook { program, timeout: hook.timeout })
    }

    /// Writes the file of that path as the snapshot has it, and says whether it differs from the live one.
    fn lend(&self, lent: &mut Lent, path: &Path) -> Option<(PathBuf, bool)> {
        // Without double slashes, as trees have their paths.
        let path = &path.components().collect::<PathBuf>();
        let target = self.target?;
        let trees = lent.trees.get_or_insert_with(|| {
            let files = target.components().filter(|(_, kind)| *kind == ComponentKind::Files);
            files.filter_map(|(name, _)| target.tree(name).ok()).collect()
        });
        let (mode, content) = found(trees, path)?;
        let written = lent.write(self.store, path, mode, &content);
        let written = written.map_err(|error| {
            tracing::warn!(path = %path.display(), %error, "a command as it was captured cannot be written");
        });
        let copy = written.ok()?;
        let differs = !matches!((fs::read(path), fs::read(&copy)), (Ok(live), Ok(copy)) if live == copy);
        Some((copy, differs))
    }
}

impl Lent {
    fn write(&mut self, store: &Store, path: &Path, mode: u32, content: &[Extent]) -> io::Result<PathBuf> {
        let folder = self.folder.get_or_insert_with(|| store.path().join("lent"));
        if self.count == 0 {
            // What a crash left.
            let _ = fs::remove_dir_all(&*folder);
            DirBuilder::new().mode(0o700).create(&*folder)?;
        }
        self.count += 1;
        let place = folder.join(self.count.to_string());
        DirBuilder::new().mode(0o700).create(&place)?;
        let copy = place.join(path.file_name().unwrap_or_default());
        let file = File::create(&copy)?;
        store.write_content(content, &file).map_err(io::Error::other)?;
        file.set_permissions(Permissions::from_mode(mode & 0o700 | 0o400))?;
        Ok(copy)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // What stays is removed by the next that writes there.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// How many links may stand in one path, as the kernel has it.
const LINKS: usize = 40;

/// The mode and the content of the file of that path, through the links that the trees have on the way, such as `current`.
fn found(trees: &[Tree], path: &Path) -> Option<(u32, Vec<Extent>)> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match trees.iter().flat_map(|tree| &tree.roots).find_map(|root| met(root, &path))? {
            Met::File { mode, content } => return Some((mode, content.to_vec())),
            Met::Link(leads_to) => path = leads_to,
        }
    }
    None
}

/// What a path comes upon first.
enum Met<'t> {
    File {
        mode: u32,
        content: &'t [Extent],
    },
    /// A link, and the path with the link followed.
    Link(PathBuf),
}

fn met<'t>(root: &'t Root, path: &Path) -> Option<Met<'t>> {
    let top = Path::new(OsStr::from_bytes(&root.path));
    let beneath = path.strip_prefix(top).ok()?;
    // From the root down, so that the first link counts.
    let mut names = beneath.components();
    let mut reached = PathBuf::new();
    loop {
        let name = reached.as_os_str().as_bytes();
        let at = root.entries.binary_search_by(|entry| entry.path.as_slice().cmp(name)).ok()?;
        match &root.entries[at].kind {
            EntryKind::Symlink(to) => {
                let to = Path::new(OsStr::from_bytes(to));
                let link = top.join(&reached);
                return Some(Met::Link(without_dots(&link.parent()?.join(to).join(names.as_path()))));
            }
            EntryKind::File { content, .. } if names.as_path().as_os_str().is_empty() => {
                return Some(Met::File { mode: root.entries[at].meta.mode, content });
            }
            _ => reached.push(names.next()?),
        }
    }
}

/// The same path without `.` and `..`. No link is left before a `..`: they are followed from the root down.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            component => plain.push(component),
        }
    }
    plain
}

/// The absolute paths that stand in an argument, or in a line for a shell.
fn paths_in(argument: &str) -> Vec<String> {
    if argument.starts_with('/') && !argument.contains(char::is_whitespace) {
        return vec![argument.to_owned()];
    }
    let ends = |c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '=')
    };
    let mut paths: Vec<String> = argument
        .split(ends)
        .filter(|word| word.starts_with('/') && word.len() > 1)
        .map(str::to_owned)
        .collect();
    // The longest first, so that none is replaced within another.
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_a_command_are_found() {
        assert_eq!(paths_in("/srv/site/bin/ctl"), ["/srv/site/bin/ctl"]);
        assert_eq!(paths_in("stop"), Vec::<String>::new());
        let line = "cd /srv && exec \"/srv/site/bin/ctl\" stop --pid=/run/app.pid";
        assert_eq!(paths_in(line), ["/srv/site/bin/ctl", "/run/app.pid", "/srv"]);
    }
}
