//! A place with live roots, their copies, and an independent comparison.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rfs_store::restore::{
    FilesPlan, Progress, Rules, StageError, Staged, StagingName, Unmanaged, discard, flip, plan, stage, sync,
};
use rfs_store::tree::Tree;

use crate::capture::Memory;

/// The names of the roots in a lab's holder.
pub(crate) const ROOTS: [&str; 4] = ["conf", "link", "site", "sub/late"];

pub(crate) struct Lab {
    pub(crate) top: Top,
    pub(crate) memory: Memory,
    roots: Vec<PathBuf>,
}

/// The folder that a lab works in.
pub(crate) enum Top {
    Temporary(tempfile::TempDir),
    Given(PathBuf),
}

impl Top {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Given(path) => path,
        }
    }
}

impl Lab {
    /// A lab with several roots, in the machine's temporary folder.
    pub(crate) fn new() -> Self {
        Self::within(&std::env::temp_dir(), &ROOTS)
    }

    /// A lab in a folder of one's choice, perhaps on another file system.
    pub(crate) fn within(folder: &Path, roots: &[&str]) -> Self {
        let top = tempfile::Builder::new().prefix("restore-").tempdir_in(folder).expect("a temporary folder");
        fs::create_dir_all(top.path().join("live/sub")).expect("a folder");
        Self::of(Top::Temporary(top), roots)
    }

    /// A lab of what is in a folder already.
    pub(crate) fn at(folder: &Path, roots: &[&str]) -> Self {
        Self::of(Top::Given(folder.to_owned()), roots)
    }

    fn of(top: Top, roots: &[&str]) -> Self {
        let live = top.path().join("live");
        Self { roots: roots.iter().map(|name| live.join(name)).collect(), top, memory: Memory::default() }
    }

    /// A lab with one root, a folder, in which these files hold their own names.
    pub(crate) fn with_files(files: &[&str]) -> Self {
        let lab = Self::within(&std::env::temp_dir(), &["site"]);
        fs::create_dir(lab.site("")).expect("a folder");
        for file in files {
            lab.write(file, file);
        }
        lab
    }

    /// A path in the one root.
    pub(crate) fn site(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.live().join("site") } else { self.live().join("site").join(path) }
    }

    /// Writes a file of the one root, with its folder.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.site(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    /// The folder that holds the live roots.
    pub(crate) fn live(&self) -> PathBuf {
        self.top.path().join("live")
    }

    pub(crate) fn capture(&self) -> Tree {
        self.memory.capture(&self.roots, &[])
    }

    pub(crate) fn capture_without(&self, excluded: &[&str]) -> Tree {
        self.memory.capture(&self.roots, excluded)
    }

    /// Copies the live folder, with everything, under another name.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let to = self.top.path().join(name);
        let _ = fs::remove_dir_all(&to);
        run(program("cp").arg("-a").arg(self.live()).arg(&to));
        to
    }

    /// Makes the live folder a copy of `from` again.
    pub(crate) fn reset(&self, from: &Path) {
        fs::remove_dir_all(self.live()).expect("the live folder goes");
        run(program("cp").arg("-a").arg(from).arg(self.live()));
    }

    pub(crate) fn plan(&self, target: &Tree) -> FilesPlan {
        plan(&self.capture(), target, &rules()).expect("a plan")
    }

    pub(crate) fn stage(&self, plan: &FilesPlan) -> Staged {
        self.try_stage(plan).expect("staged")
    }

    pub(crate) fn try_stage(&self, plan: &FilesPlan) -> Result<Staged, StageError> {
        stage(plan, &self.memory, &staging(), Unmanaged::Refuse, &Progress::default())
    }

    /// Brings the live roots to `target`.
    pub(crate) fn restore(&self, target: &Tree) {
        let staged = self.stage(&self.plan(target));
        flip(&staged).expect("flipped");
        sync(&staged).expect("durable");
        discard(&staged).expect("discarded");
        self.assert_swept();
    }

    /// Nothing of a restore is left.
    pub(crate) fn assert_swept(&self) {
        let mut pending = vec![self.live()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let entry = entry.expect("an entry");
                assert!(
                    !entry.file_name().to_string_lossy().starts_with(".rfs-"),
                    "{:?} is left",
                    entry.path()
                );
                if entry.file_type().expect("a type").is_dir() {
                    pending.push(entry.path());
                }
            }
        }
    }

    /// rsync finds no difference between the live folder and `copy`, in either direction.
    pub(crate) fn assert_same(&self, copy: &Path, what: &str) {
        // The holders themselves are not part of any root.
        for holder in ["", "sub"] {
            let time = fs::metadata(copy.join(holder)).expect("a folder").modified().expect("a time");
            let open = fs::File::open(self.live().join(holder)).expect("a folder");
            open.set_modified(time).expect("the time is set");
        }
        assert_same_folders(copy, &self.live(), what);
    }
}

/// rsync finds no difference between two folders, in either direction.
pub(crate) fn assert_same_folders(one: &Path, other: &Path, what: &str) {
    for (from, to) in [(one, other), (other, one)] {
        let output = program("rsync")
            .args(["-aHAXnc", "--modify-window=-1", "--delete", "--itemize-changes"])
            // XFS shows its access lists twice, under a name that other file systems do not have.
            .arg("--filter=-x trusted.SGI_ACL_*")
            .arg(from.join(""))
            .arg(to.join(""))
            .output()
            .expect("rsync is installed");
        let found =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && found.is_empty(), "{what}: rsync finds differences:\n{found}");
    }
}

/// Files that a deploy changed, with the tree before as target.
pub(crate) fn deployed() -> (Lab, Tree) {
    let lab = Lab::with_files(&["a/one", "a/two", "b/three", "keep"]);
    let target = lab.capture();
    lab.write("a/one", "changed");
    lab.write("b/four", "new");
    lab.write("c/d/five", "new");
    fs::set_permissions(lab.site("keep"), fs::Permissions::from_mode(0o600)).expect("a mode");
    (lab, target)
}

pub(crate) fn staged() -> (Lab, Tree, Staged) {
    let (lab, target) = deployed();
    let staged = lab.stage(&lab.plan(&target));
    (lab, target, staged)
}

/// Two trees are equal; if not, the differences are shown as the steps between them.
#[track_caller]
pub(crate) fn assert_equal(now: &Tree, wanted: &Tree, what: &str) {
    if now != wanted {
        let plan = plan(now, wanted, &rules()).expect("a plan");
        let steps: Vec<String> = plan.steps().iter().map(ToString::to_string).collect();
        panic!("{what}: the trees differ by\n{}", steps.join("\n"));
    }
}

pub(crate) fn rules() -> Rules {
    Rules { devices: true, ..Rules::default() }
}

pub(crate) fn staging() -> StagingName {
    StagingName::new("test").expect("a name")
}

/// True when rsync is here; says so when it is not.
pub(crate) fn has_rsync() -> bool {
    let found = program("rsync").arg("--version").output().is_ok();
    if !found {
        crate::common::skip("the comparison with rsync, which is not installed");
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "a test may run what it needs")]
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
