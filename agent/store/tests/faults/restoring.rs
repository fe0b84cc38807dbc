//! Restores on disks that are full, become read-only or break, and in trees whose folders are swapped meanwhile: the live
//! tree is as before or at its target, and nothing outside of it is touched.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rfs_model::SnapshotId;
use rfs_store::restore::{
    self, FlipError, Progress, Rules, StageError, Staged, StagingName, Unmanaged, discard, flip,
    flip_watched, plan, stage, sync, unflip,
};
use rfs_store::{Cancel, FilesSpec, Store, Tree};
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};

use crate::common::{Stop, StopAtEnd, files_beneath, note, open, site};
use crate::disk::{Disk, Filler};
use crate::sample::{message, noise};

/// A live tree on a disk, and a store beside that holds an earlier state of it.
struct Host {
    live: PathBuf,
    store: Store,
    target: Tree,
    before: Tree,
}

impl Host {
    fn new(live: &Path, store: &Path) -> Self {
        fs::create_dir_all(live.join("a/b")).expect("folders");
        let store = open(store);
        let deploy = |release: u64| {
            for file in 0..12 {
                fs::write(live.join(format!("a/{file}")), noise(release * 50 + file, 9_000))
                    .expect("written");
                fs::write(live.join(format!("a/b/{release}-{file}")), release.to_string()).expect("written");
            }
        };
        deploy(1);
        let id = Self::capture(&store, live);
        let target = store.snapshot(id).and_then(|snapshot| snapshot.tree(&site())).expect("reads");
        deploy(2);
        let before = store.scan(&spec(live), &Cancel::new()).expect("scans");
        Self { live: live.to_owned(), store, target, before }
    }

    fn capture(store: &Store, live: &Path) -> SnapshotId {
        let making = store.begin().expect("begins");
        making.files(&site(), &spec(live), &Cancel::new()).expect("captures");
        making.commit(note("target")).expect("commits").id
    }

    fn stage(&self) -> Result<Staged, StageError> {
        let plan = plan(&self.before, &self.target, &Rules::default()).expect("a plan");
        let name = StagingName::new("faults").expect("a name");
        stage(&plan, &self.store, &name, Unmanaged::Refuse, &Progress::default())
    }

    #[track_caller]
    fn check(&self, wanted: &Tree, when: &str) {
        let now = self.store.scan(&spec(&self.live), &Cancel::new()).expect("scans");
        if now != *wanted {
            let diffs = rfs_store::diff_trees(wanted, &now);
            panic!("{when}: {} paths differ, the first: {:?}", diffs.len(), diffs.first());
        }
    }

    #[track_caller]
    fn check_swept(&self, when: &str) {
        let beside = self.live.parent().expect("a folder");
        let left: Vec<_> = fs::read_dir(beside)
            .expect("lists")
            .map(|entry| entry.expect("an entry").file_name())
            .filter(|name| name.to_string_lossy().starts_with(".rfs-"))
            .collect();
        assert!(left.is_empty(), "{when}: {left:?}");
    }
}

fn spec(live: &Path) -> FilesSpec {
    FilesSpec { paths: vec![live.to_owned()], exclude: Vec::new(), ..FilesSpec::default() }
}

/// What a journal gives back after a crash.
fn reread(staged: &Staged) -> Staged {
    serde_json::from_slice(&serde_json::to_vec(staged).expect("JSON")).expect("the same")
}

#[test]
fn staging_meets_a_full_disk_at_each_write_and_the_flip_on_a_full_disk_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Disk::memory(&folder.path().join("disk"), "size=2m,nr_inodes=150") else { return };
    let host = Host::new(&disk.path().join("live"), &folder.path().join("store"));
    let fills: [&dyn Fn(usize) -> Filler; 2] =
        [&|pages| disk.fill_but(pages as u64), &|names| disk.fill_names_but(names)];
    for fill in fills {
        let mut failures = 0;
        for room in 0..500 {
            let when = format!("room for {room}");
            let filler = fill(room);
            match host.stage() {
                Ok(staged) => {
                    drop(filler);
                    let _full = fill(0);
                    // What the flip itself needs is little, and is not there.
                    match flip(&staged) {
                        Ok(()) => host.check(&host.target, &when),
                        Err(error) => {
                            assert!(matches!(error, FlipError::System { .. }), "{when}: {error:?}");
                            host.check(&host.before, &when);
                        }
                    }
                    unflip(&staged).expect("the way back needs no room");
                    host.check(&host.before, &when);
                    discard(&staged).expect("discarded");
                    host.check_swept(&when);
                    break;
                }
                Err(error @ (StageError::NoSpace { .. } | StageError::NoInodes { .. })) => {
                    assert!(message(&error).contains(&*disk.path().to_string_lossy()), "{when}: {error}");
                    host.check(&host.before, &when);
                    host.check_swept(&when);
                    failures += 1;
                }
                Err(error) => panic!("{when}: {error:?}"),
            }
        }
        assert!(failures > 5, "{failures}");
    }
}

/// The disk gives way before one of the flip's operations after another; what it is mounted as again goes either way.
fn gives_way(how: impl Fn(&Disk) -> bool, advice: &str) {
    for (stop, onward) in
        [(1, false), (2, true), (7, false), (14, true), (23, false), (30, true), (200, false)]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        let Some(disk) = Disk::journalled(&folder.path().join("disk"), &image, 24 << 20) else { return };
        let host = Host::new(&disk.path().join("live"), &folder.path().join("store"));
        // What the service wrote is its own to make durable, and has been.
        syncfs(fs::File::open(disk.path()).expect("opens")).expect("synced");
        let staged = host.stage().expect("staged");
        let when = format!("before operation {stop}");
        let (mut operations, mut gave_way) = (0, true);
        let flipped = flip_watched(&staged, &mut |_| {
            operations += 1;
            if operations == stop {
                gave_way = how(&disk);
            }
            ControlFlow::Continue(())
        });
        if !gave_way {
            return crate::common::skip("the program that makes a disk fail is not here");
        }
        match flipped {
            Ok(()) => assert!(operations < stop, "{when}: it went on without its disk"),
            Err(error) => {
                let text = message(&error);
                assert!(text.starts_with("cannot ") && text.contains(advice), "{when}: {text}");
                assert!(text.contains(&*disk.path().to_string_lossy()), "{when}: {text}");
                let back = unflip(&staged);
                assert_eq!(
                    back.is_err(),
                    stop > 1,
                    "{when}: no way back without a disk, once one is needed: {back:?}"
                );
            }
        }
        disk.again();
        let staged = reread(&staged);
        if onward {
            flip(&staged).expect("flipped onward");
            host.check(&host.target, &when);
        } else {
            unflip(&staged).expect("flipped back");
            host.check(&host.before, &when);
        }
        sync(&staged).expect("durable");
        discard(&staged).expect("discarded");
        host.check_swept(&when);
    }
}

#[test]
fn a_disk_that_breaks_in_the_middle_of_a_flip_leaves_both_ways_open() {
    gives_way(Disk::shut_down, "; the disk reports a fault: see `dmesg`: ");
}

#[test]
fn a_file_system_that_becomes_read_only_in_the_middle_of_a_flip_leaves_both_ways_open() {
    let read_only = |disk: &Disk| {
        disk.remount("abort");
        true
    };
    gives_way(read_only, "; the file system is read-only: see why with `dmesg`, and remount it: ");
}

#[test]
fn a_folder_that_is_swapped_for_a_link_all_the_while_leads_no_restore_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let host = Host::new(&folder.path().join("live"), &folder.path().join("store"));
    let outside = folder.path().join("outside");
    fs::create_dir_all(outside.join("b")).expect("folders");
    for path in files_beneath(&host.live) {
        let beneath = path.strip_prefix(host.live.join("a")).expect("beneath");
        fs::write(outside.join(beneath), "not ours").expect("written");
    }
    let listed = |folder: &Path| -> Vec<_> {
        let content = |path: PathBuf| (fs::read(&path).expect("reads"), path);
        files_beneath(folder).into_iter().map(content).collect()
    };
    let untouched = listed(&outside);
    let link = folder.path().join("link");
    symlink(&outside, &link).expect("a link");
    let (mut refused, mut staged_well) = (0, 0);
    let stop = Stop::default();
    std::thread::scope(|threads| {
        let _at_end = StopAtEnd(&stop);
        threads.spawn(|| {
            let swap = || {
                renameat_with(CWD, &link, CWD, host.live.join("a"), RenameFlags::EXCHANGE).expect("swapped");
            };
            while !stop.is_set() {
                swap();
                std::thread::yield_now();
                swap();
                std::thread::sleep(std::time::Duration::from_millis(4));
            }
        });
        for round in 0..150 {
            let staged = match host.stage() {
                Ok(staged) => staged,
                Err(error) => {
                    assert!(
                        matches!(error, StageError::NotAFolder { .. } | StageError::Changed { .. }),
                        "round {round}: {error:?}"
                    );
                    refused += 1;
                    continue;
                }
            };
            staged_well += 1;
            match flip(&staged) {
                Ok(()) => {}
                Err(error) => assert!(
                    matches!(error, FlipError::NotAFolder { .. } | FlipError::Changed { .. }),
                    "round {round}: {error:?}"
                ),
            }
            // The way back is refused for as long as the folder is not what it was.
            while let Err(error) = unflip(&staged) {
                // A folder that is moved while it is opened is refused by the kernel itself.
                let crosses = |source: &std::io::Error| source.kind() == std::io::ErrorKind::CrossesDevices;
                let refused = match &error {
                    FlipError::NotAFolder { .. } => true,
                    FlipError::System { source, .. } => crosses(source),
                    _ => false,
                };
                assert!(refused, "round {round}: {error:?}");
            }
            while let Err(error) = restore::discard(&staged) {
                assert!(error.to_string().contains("cannot be looked at"), "round {round}: {error:?}");
            }
        }
    });
    assert_eq!(listed(&outside), untouched, "something outside was touched");
    // The swapping has touched the folder in which it was done.
    let meta = &host.before.roots[0].entries[0].meta;
    let time = std::time::Duration::new(meta.mtime_seconds.unsigned_abs(), meta.mtime_nanos);
    fs::File::open(&host.live).and_then(|live| live.set_modified(std::time::UNIX_EPOCH + time)).expect("set");
    host.check(&host.before, "in the end");
    host.check_swept("in the end");
    println!("{refused} were refused, {staged_well} were staged");
}
