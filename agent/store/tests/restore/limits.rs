//! Files in use, names outside, full disks, marks and lost content: what a restore respects, or names.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rfs_store::restore::{FlipError, Progress, StageError, Unmanaged, discard, flip, plan, stage, unflip};

use crate::lab::{Lab, assert_equal, deployed, program, rules, staged, staging};

#[test]
fn what_the_component_excludes_is_not_lost_with_its_folder() {
    let lab = Lab::with_files(&["a", "logs/app"]);
    let (current, target) = (lab.capture_without(&["logs/app"]), {
        let other = Lab::with_files(&["a"]);
        let mut tree = other.capture();
        tree.roots[0].path = lab.capture().roots[0].path.clone();
        tree
    });
    let plan = plan(&current, &target, &rules()).expect("a plan");
    match lab.try_stage(&plan) {
        Err(StageError::Unmanaged { path, folder }) => {
            assert!(path.0.ends_with(b"/logs/app") && folder.0.ends_with(b"/logs"), "{path} {folder}");
        }
        other => panic!("{other:?}"),
    }
    lab.assert_swept();
    let staged = stage(&plan, &lab.memory, &staging(), Unmanaged::Drop, &Progress::default());
    let staged = staged.expect("its loss is accepted");
    flip(&staged).expect("flipped");
    assert!(!lab.site("logs").exists());
    unflip(&staged).expect("flipped back");
    assert_eq!(fs::read_to_string(lab.site("logs/app")).expect("content"), "logs/app");
    discard(&staged).expect("discarded");
}

#[test]
fn files_in_use_are_replaced_under_their_users() {
    let lab = Lab::with_files(&["open"]);
    fs::copy("/bin/sleep", lab.site("program")).expect("a program");
    let target = lab.capture();
    lab.write("open", "a new release");
    fs::remove_file(lab.site("program")).expect("removed");
    fs::copy("/bin/cat", lab.site("program")).expect("a program");
    let mut open = fs::File::open(lab.site("open")).expect("open");
    let mut running = program(&lab.site("program").to_string_lossy())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    lab.restore(&target);
    let mut text = String::new();
    open.read_to_string(&mut text).expect("still readable");
    assert_eq!(text, "a new release");
    std::io::Write::write_all(&mut running.stdin.take().expect("a pipe"), b"alive").expect("written");
    let output = running.wait_with_output().expect("it ends");
    assert_eq!((output.stdout.as_slice(), output.status.success()), (&b"alive"[..], true));
    assert_equal(&lab.capture(), &target, "in use");
}

#[test]
fn a_name_outside_of_the_component_keeps_its_file() {
    let lab = Lab::with_files(&["a", "b"]);
    fs::remove_file(lab.site("b")).expect("removed");
    fs::hard_link(lab.site("a"), lab.site("b")).expect("linked");
    let target = lab.capture();
    let outside = lab.top.path().join("outside");
    fs::hard_link(lab.site("a"), &outside).expect("linked");
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o400)).expect("a mode");
    lab.restore(&target);
    assert_equal(&lab.capture(), &target, "restored");
    assert_eq!(fs::metadata(&outside).expect("still there").mode() & 0o777, 0o400);
    assert_eq!(fs::metadata(lab.site("a")).expect("restored").nlink(), 2);
}

#[test]
fn a_socket_stays_with_its_service() {
    let lab = Lab::with_files(&["a"]);
    let target = lab.capture();
    lab.write("a", "changed");
    let _listener = std::os::unix::net::UnixListener::bind(lab.site("s")).expect("a socket");
    lab.restore(&target);
    assert!(lab.site("s").exists());
    assert!(plan(&lab.capture(), &target, &rules()).expect("a plan").is_empty());
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let (lab, target) = deployed();
    let before = lab.capture();
    *lab.memory.full_after.lock().expect("no panic") = Some(2);
    match lab.try_stage(&lab.plan(&target)) {
        Err(StageError::NoSpace { path, needed, .. }) => {
            assert!(path.0.ends_with(b"/a/one") && needed.0 > 0, "{path} {needed}");
        }
        other => panic!("{other:?}"),
    }
    assert_equal(&lab.capture(), &before, "a full disk");
    lab.assert_swept();
}

#[test]
fn a_cancelled_stage_leaves_nothing() {
    let (lab, target) = deployed();
    let before = lab.capture();
    let progress = Progress::default();
    progress.cancel();
    let staged = stage(&lab.plan(&target), &lab.memory, &staging(), Unmanaged::Refuse, &progress);
    assert!(matches!(staged, Err(StageError::Cancelled)), "{staged:?}");
    assert_equal(&lab.capture(), &before, "cancelled");
    lab.assert_swept();
}

#[test]
fn content_that_the_store_lost_is_named_and_leaves_nothing() {
    let (lab, target) = deployed();
    let plan = lab.plan(&target);
    let empty = crate::capture::Memory::default();
    let staged = stage(&plan, &empty, &staging(), Unmanaged::Refuse, &Progress::default());
    assert!(
        matches!(&staged, Err(StageError::Content { path, .. }) if path.0.ends_with(b"/a/one")),
        "{staged:?}"
    );
    lab.assert_swept();
}

#[test]
fn what_is_marked_immutable_is_named() {
    let (lab, target, staged) = staged();
    let mark = |flag: &str, path: &Path| {
        program("chattr").arg(flag).arg(path).output().is_ok_and(|o| o.status.success())
    };
    if !mark("+i", &lab.site("a/one")) {
        crate::common::skip("immutable files, which can't be made here");
        return;
    }
    let late = flip(&staged);
    assert!(matches!(&late, Err(FlipError::Changed { path }) if path.0.ends_with(b"/a/one")), "{late:?}");
    unflip(&staged).expect("nothing to flip back");
    discard(&staged).expect("discarded");
    let early = lab.try_stage(&lab.plan(&target));
    assert!(
        matches!(&early, Err(StageError::Immutable { path }) if path.0.ends_with(b"/a/one")),
        "{early:?}"
    );
    assert!(mark("-i", &lab.site("a/one")) && mark("+i", &lab.site("c/d/five")));
    let beneath = lab.try_stage(&lab.plan(&target));
    assert!(
        matches!(&beneath, Err(StageError::Immutable { path }) if path.0.ends_with(b"/c/d/five")),
        "{beneath:?}"
    );
    assert!(mark("-i", &lab.site("c/d/five")));
    lab.assert_swept();
    lab.restore(&target);
}
