//! The same promises on other file systems, and mounts and limits in the way of a restore.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use rfs_store::restore::{FlipError, StageError, discard, flip, sync, unflip};

use crate::clones::clones_come_back;
use crate::crash::{flip_stops_anywhere, inverse_stops_anywhere};
use crate::fidelity::{leaves_no_trace, restores};
use crate::lab::{Lab, assert_equal, has_rsync, program, run};
use crate::large::large_files_come_back;
use crate::random::seeds;
use crate::stored::Stored;

/// A file system that is mounted until it is dropped.
pub(crate) struct Mounted {
    pub(crate) at: PathBuf,
    image: Option<tempfile::NamedTempFile>,
}

impl Mounted {
    /// Mounts a small memory file system, or says that this is skipped.
    fn memory(at: &Path, size: &str) -> Option<Self> {
        let options = format!("size={size},mode=755");
        mount(&["-t", "tmpfs", "-o", &options, "none"], at).then(|| Self { at: at.to_owned(), image: None })
    }

    /// Makes and mounts a file system in an image, or says that this is skipped.
    pub(crate) fn image(kind: &str, at: &Path) -> Option<Self> {
        let image = tempfile::NamedTempFile::new().expect("an image");
        image.as_file().set_len(400 << 20).expect("a size");
        let made = program(&format!("mkfs.{kind}")).arg("-q").arg(image.path()).output();
        if !made.is_ok_and(|output| output.status.success()) {
            crate::common::skip(&format!("{kind}, because mkfs.{kind} is not here or failed"));
            return None;
        }
        let source = image.path().to_string_lossy().into_owned();
        mount(&["-o", "loop", &source], at).then(|| Self { at: at.to_owned(), image: Some(image) })
    }

    /// A layer above another folder.
    fn overlay(at: &Path) -> Option<Self> {
        let folder = |name: &str| {
            let path = at.join(name);
            fs::create_dir_all(&path).expect("a folder");
            path.to_string_lossy().into_owned()
        };
        let (lower, upper, work) = (folder("lower"), folder("upper"), folder("work"));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let at = at.join("merged");
        mount(&["-t", "overlay", "-o", &options, "none"], &at).then(|| Self { at, image: None })
    }

    /// Goes on with what is on the disk at this moment, as after a power cut.
    pub(crate) fn cut(&mut self) {
        let image = self.image.as_ref().expect("an image");
        let copy = tempfile::NamedTempFile::new().expect("an image");
        run(program("cp").arg("--sparse=always").arg(image.path()).arg(copy.path()));
        run(program("umount").arg(&self.at));
        let source = copy.path().to_string_lossy().into_owned();
        assert!(mount(&["-o", "loop", &source], &self.at), "the copy cannot be mounted");
        self.image = Some(copy);
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}"), "none"], &self.at));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = program("umount").arg("-l").arg(&self.at).output();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    if !at.exists() {
        fs::create_dir_all(at).expect("a folder");
    }
    match program("mount").args(arguments).arg(at).output() {
        Ok(Output { status, .. }) if status.success() => true,
        _ => {
            crate::common::skip(&format!("{arguments:?}, which cannot be mounted here"));
            false
        }
    }
}

#[track_caller]
fn check(kind: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let mounted = match kind {
        "tmpfs" => Mounted::memory(folder.path(), "400m"),
        "overlay" => Mounted::overlay(folder.path()),
        image => Mounted::image(image, folder.path()),
    };
    let Some(mounted) = mounted else { return };
    let clones = matches!(kind, "xfs" | "btrfs");
    large_files_come_back(&mounted.at, clones);
    if clones {
        clones_come_back(&mounted.at);
    }
    for seed in seeds(15) {
        if has_rsync() {
            restores(&mounted.at, seed);
            leaves_no_trace(&mounted.at, seed);
        }
    }
    for seed in seeds(3) {
        flip_stops_anywhere(&mounted.at, seed);
        inverse_stops_anywhere(&mounted.at, seed);
    }
}

#[test]
fn all_holds_on_ext4() {
    check("ext4");
}

#[test]
fn all_holds_on_xfs() {
    check("xfs");
}

#[test]
fn all_holds_on_btrfs() {
    check("btrfs");
}

#[test]
fn all_holds_on_tmpfs() {
    check("tmpfs");
}

#[test]
fn all_holds_on_a_layer() {
    check("overlay");
}

#[test]
fn files_of_a_lower_layer_are_replaced_and_its_folders_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let lower = folder.path().join("lower/live/site");
    fs::create_dir_all(lower.join("a/b")).expect("folders");
    for path in ["a/one", "a/b/two", "three"] {
        fs::write(lower.join(path), path).expect("written");
    }
    let Some(mounted) = Mounted::overlay(folder.path()) else { return };
    let lab = Lab::at(&mounted.at, &["site"]);
    let target = lab.capture();
    lab.write("a/one", "changed");
    fs::remove_file(lab.site("a/b/two")).expect("removed");
    lab.restore(&target);
    assert_equal(&lab.capture(), &target, "restored");

    let mut without = target.clone();
    without.roots[0].entries.retain(|entry| !entry.path.starts_with(b"a") && entry.path != b"three");
    let before = lab.capture();
    let staged = lab.stage(&lab.plan(&without));
    let refused = flip(&staged);
    assert!(
        matches!(&refused, Err(FlipError::OtherMount { path }) if path.0.ends_with(b"/a")),
        "{refused:?}"
    );
    unflip(&staged).expect("flipped back");
    assert_equal(&lab.capture(), &before, "flipped back");
    discard(&staged).expect("discarded");
    lab.assert_swept();
}

#[test]
fn a_root_that_is_a_mount_of_its_own_is_staged_within() {
    let lab = Lab::with_files(&[]);
    let Some(_mounted) = Mounted::memory(&lab.site(""), "10m") else { return };
    for path in ["a/one", "b"] {
        lab.write(path, path);
    }
    let target = lab.capture();
    lab.write("a/one", "changed");
    lab.write("new/x", "new");
    let before = lab.capture();
    let staged = lab.stage(&lab.plan(&target));
    assert!(lab.site(".rfs-test").exists());
    assert_equal(&lab.capture(), &before, "staging changed something");
    flip(&staged).expect("flipped");
    assert_equal(&lab.capture(), &target, "flipped");
    unflip(&staged).expect("flipped back");
    assert_equal(&lab.capture(), &before, "flipped back");
    discard(&staged).expect("discarded");
    lab.restore(&target);
    assert_equal(&lab.capture(), &target, "restored");
}

#[test]
fn a_mount_in_the_way_is_named() {
    for (mounted, gone) in [("extra", "extra"), ("extra/deep", "extra")] {
        let lab = Lab::with_files(&["a"]);
        let target = lab.capture();
        fs::create_dir_all(lab.site(mounted)).expect("folders");
        let before = lab.capture();
        let plan = lab.plan(&target);
        assert!(plan.steps()[0].shown.0.ends_with(gone.as_bytes()));
        let Some(_mounted) = Mounted::memory(&lab.site(mounted), "1m") else { return };
        match lab.try_stage(&plan) {
            Err(StageError::MountPoint { path }) => assert!(path.0.ends_with(mounted.as_bytes()), "{path}"),
            // The root of what is mounted is not the folder that was planned for.
            Err(StageError::Changed { path }) => assert!(path.0.ends_with(mounted.as_bytes()), "{path}"),
            other => panic!("{other:?}"),
        }
        drop(_mounted);
        assert_equal(&lab.capture(), &before, mounted);
        lab.assert_swept();
    }
}

#[test]
fn what_is_mounted_beneath_a_root_is_its_content_where_it_is_taken_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stored = Stored::within(folder.path(), &["site"]);
    stored.spec.mounts = true;
    let site = |path: &str| stored.lab.site(path);
    for path in ["data", "data/deep"] {
        fs::create_dir_all(site(path)).expect("a folder");
    }
    let Some(_outer) = Mounted::memory(&site("data"), "4m") else { return };
    let Some(_inner) = Mounted::memory(&site("data/deep"), "4m") else { return };
    let files = ["own", "data/a", "data/sub/b", "data/deep/c", "data/deep/sub/d"];
    for file in files {
        stored.lab.write(file, file);
    }
    fs::hard_link(site("data/a"), site("data/second")).expect("linked");
    // What is mounted over one file is no content of it.
    fs::write(site("over"), "").expect("writable");
    let is_over = mount(&["--bind", &site("own").to_string_lossy()], &site("over"));
    let (id, tree) = stored.capture();
    let paths: Vec<_> =
        tree.roots[0].entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
    for file in files.iter().chain(&["data/second"]) {
        assert!(paths.iter().any(|path| path == file), "{file} is missing of {paths:?}");
    }
    if is_over {
        assert!(!paths.iter().any(|path| path == "over"), "{paths:?}");
        run(program("umount").arg(site("over")));
        fs::remove_file(site("over")).expect("ours");
    }
    for file in files {
        stored.lab.write(file, "changed");
    }
    fs::remove_dir_all(site("data/deep/sub")).expect("ours");
    stored.lab.write("data/deep/new/x", "new");
    stored.restore(id);
    for file in files {
        assert_eq!(fs::read_to_string(site(file)).expect("it is back"), file);
    }
    assert!(!site("data/deep/new").exists());
    let inode = |path: &str| fs::metadata(site(path)).expect("there").ino();
    assert_eq!(inode("data/a"), inode("data/second"));
}

#[test]
fn too_little_room_is_found_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mounted) = Mounted::memory(folder.path(), "1m") else { return };
    let lab = Lab::within(&mounted.at, &["site"]);
    fs::create_dir(lab.site("")).expect("a folder");
    lab.write("big", &"x".repeat(800_000));
    let target = lab.capture();
    lab.write("big", &"y".repeat(700_000));
    let before = lab.capture();
    match lab.try_stage(&lab.plan(&target)) {
        Err(StageError::NoSpace { needed, available, .. }) => {
            assert!(needed.0 >= 800_000 && available.0 < 400_000, "{needed} {available}");
        }
        other => panic!("{other:?}"),
    }
    assert_equal(&lab.capture(), &before, "no room");
    lab.assert_swept();
}

#[test]
fn too_few_inodes_are_found_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mounted) = Mounted::memory(folder.path(), "4m,nr_inodes=40") else { return };
    let lab = Lab::within(&mounted.at, &["site"]);
    fs::create_dir(lab.site("")).expect("a folder");
    for number in 0..25 {
        lab.write(&number.to_string(), "x");
    }
    let target = lab.capture();
    for number in 0..25 {
        lab.write(&number.to_string(), "changed");
    }
    let before = lab.capture();
    let staged = lab.try_stage(&lab.plan(&target));
    assert!(matches!(staged, Err(StageError::NoInodes { needed: 25, .. })), "{staged:?}");
    assert_equal(&lab.capture(), &before, "no inodes");
    lab.assert_swept();
}

#[test]
fn a_read_only_file_system_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mounted) = Mounted::memory(folder.path(), "1m") else { return };
    let lab = Lab::within(&mounted.at, &["site"]);
    fs::create_dir(lab.site("")).expect("a folder");
    lab.write("a", "a");
    let target = lab.capture();
    lab.write("a", "changed");
    let plan = lab.plan(&target);
    mounted.remount("ro");
    let staged = lab.try_stage(&plan);
    assert!(matches!(staged, Err(StageError::ReadOnly { .. })), "{staged:?}");
    mounted.remount("rw");
    lab.restore(&target);
}

#[test]
fn a_volume_within_a_root_is_staged_within() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mounted) = Mounted::image("btrfs", folder.path()) else { return };
    let lab = Lab::within(&mounted.at, &["site"]);
    fs::create_dir(lab.site("")).expect("a folder");
    let made = program("btrfs").args(["subvolume", "create"]).arg(lab.site("volume")).output();
    if !made.is_ok_and(|output| output.status.success()) {
        crate::common::skip("volumes, because the program btrfs is not here");
        return;
    }
    for path in ["a", "volume/x/b"] {
        lab.write(path, path);
    }
    let target = lab.capture();
    lab.write("a", "changed");
    lab.write("volume/x/b", "changed");
    lab.write("volume/c", "new");
    let before = lab.capture();
    let staged = lab.stage(&lab.plan(&target));
    assert!(lab.site("volume/.rfs-test").exists());
    assert_equal(&lab.capture(), &before, "staging changed something");
    // Left behind by a crash, it is found again.
    let root = lab.site("").to_string_lossy().into_owned().into_bytes();
    rfs_store::restore::sweep(&[&root], &crate::lab::staging()).expect("swept");
    lab.assert_swept();
    drop(staged);
    let staged = lab.stage(&lab.plan(&target));
    flip(&staged).expect("flipped");
    assert_equal(&lab.capture(), &target, "flipped");
    sync(&staged).expect("durable");
    discard(&staged).expect("discarded");
    lab.assert_swept();
    assert_ne!(
        fs::metadata(lab.site("volume")).expect("a volume").dev(),
        fs::metadata(lab.site("")).expect("a folder").dev()
    );
}
