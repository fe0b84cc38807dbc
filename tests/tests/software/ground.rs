//! The file systems on which a story is told: the machine's own, and ext4, XFS and btrfs where they can be mounted.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rfs_tests::bed::run;
use rfs_tests::{skip, tools};
use tempfile::TempDir;

/// The smallest size that every file system is made with.
const SIZE: u64 = 400 << 20;

/// A folder on one file system. It is unmounted and removed when dropped.
pub(crate) struct Ground {
    /// The file system's name.
    pub(crate) name: &'static str,
    folder: TempDir,
    is_mounted: bool,
}

impl Ground {
    /// Where a story has its files.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("ground")
    }

    fn of_the_machine() -> Self {
        let ground = Self { name: "the machine's own file system", folder: folder(), is_mounted: false };
        std::fs::create_dir(ground.path()).expect("a folder can be made");
        ground
    }

    /// `Err`: why it cannot be had here.
    fn mounted(name: &'static str) -> Result<Self, String> {
        let mut ground = Self { name, folder: folder(), is_mounted: false };
        std::fs::create_dir(ground.path()).expect("a folder can be made");
        let image = ground.folder.path().join("image");
        File::create(&image).and_then(|file| file.set_len(SIZE)).expect("an image can be made");
        let mkfs = tools::judge(&format!("mkfs.{name}")).ok_or(format!("mkfs.{name} is not installed"))?;
        succeeds(Command::new(mkfs).arg("-q").arg(&image))?;
        succeeds(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(ground.path()))?;
        ground.is_mounted = true;
        Ok(ground)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = run(Command::new("umount").arg("-l").arg(self.path()));
        }
    }
}

fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("rfs-software-").tempdir().expect("a temporary folder");
    // Users that are not root reach what is theirs in it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).expect("the folder is ours");
    folder
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let said = run(command);
    match said.code {
        0 => Ok(()),
        code => Err(format!("{:?} exits with {code}: {}", command.get_program(), said.err.trim())),
    }
}

/// Tells a story on the machine's own file system; with `RFS_LONG` on ext4, XFS and btrfs, too. Says what is left out, and why.
pub(crate) fn on_each(what: &str, programs: &[&str], story: fn(&Ground) -> Told) {
    if let Some(missing) = programs.iter().find(|program| tools::judge(program).is_none()) {
        return skip(what, &format!("{missing} is not installed"));
    }
    let others: &[&str] =
        if std::env::var_os("RFS_LONG").is_some() { &["ext4", "xfs", "btrfs"] } else { &[] };
    let mounted = others.iter().map(|kind| Ground::mounted(kind));
    for ground in std::iter::once(Ok(Ground::of_the_machine())).chain(mounted) {
        let ground = match ground {
            Ok(ground) => ground,
            Err(reason) => {
                skip(what, &reason);
                continue;
            }
        };
        let begun = Instant::now();
        match story(&ground) {
            Told::Whole => println!("{what} on {}: {:.1?}", ground.name, begun.elapsed()),
            Told::Cannot(reason) => return skip(what, &reason),
        }
    }
}

/// How far a story could be told.
pub(crate) enum Told {
    /// To its end.
    Whole,
    /// Not at all, for this reason.
    Cannot(String),
}

/// The path of a program that [`on_each`] has found.
pub(crate) fn installed(program: &str) -> PathBuf {
    tools::judge(program).unwrap_or_else(|| panic!("{program} is installed"))
}

/// A path as text for a configuration or a script.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("our paths are text").to_owned()
}
