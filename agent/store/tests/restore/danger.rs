//! What a restore must survive or refuse: others that change the trees meanwhile, links that lead away, full disks.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rfs_store::restore::{
    DiscardError, FilesStanding, FlipError, Progress, StageError, Staged, Unmanaged, discard, flip, plan,
    stage, standing, sweep, sync, unflip,
};
use rfs_store::tree::Tree;

use crate::lab::{Lab, assert_equal, program, rules, run, staging};

/// Files that a deploy changed, with the tree before as target.
fn deployed() -> (Lab, Tree) {
    let lab = Lab::with_files(&["a/one", "a/two", "b/three", "keep"]);
    let target = lab.capture();
    lab.write("a/one", "changed");
    lab.write("b/four", "new");
    lab.write("c/d/five", "new");
    fs::set_permissions(lab.site("keep"), fs::Permissions::from_mode(0o600)).expect("a mode");
    (lab, target)
}

fn staged() -> (Lab, Tree, Staged) {
    let (lab, target) = deployed();
    let staged = lab.stage(&lab.plan(&target));
    (lab, target, staged)
}

/// Something happens between stage and flip: the flip refuses and changes nothing, and all can be put away.
#[track_caller]
fn check_refused(happens: impl FnOnce(&Lab), expected: &str) {
    let (lab, _, staged) = staged();
    happens(&lab);
    let before = lab.capture();
    let error = flip(&staged).expect_err("the flip refuses").to_string();
    assert_eq!(error.replace(&*lab.live().to_string_lossy(), ""), expected);
    assert_equal(&lab.capture(), &before, expected);
    unflip(&staged).expect("nothing to flip back");
    assert_equal(&lab.capture(), &before, expected);
    discard(&staged).expect("discarded");
    lab.assert_swept();
}

#[test]
fn what_changed_after_staging_is_found_before_anything_is_touched() {
    let changed = |path: &str| format!("{path} was changed by someone else after it was staged");
    check_refused(|lab| lab.write("a/one", "CHANGED"), &changed("/site/a/one"));
    check_refused(|lab| fs::remove_file(lab.site("a/one")).expect("removed"), &changed("/site/a/one"));
    check_refused(
        |lab| fs::set_permissions(lab.site("a/one"), fs::Permissions::from_mode(0o777)).expect("a mode"),
        &changed("/site/a/one"),
    );
    check_refused(
        |lab| {
            let name = "user.x";
            rustix::fs::setxattr(lab.site("a/one"), name, b"1", rustix::fs::XattrFlags::empty())
                .expect("set");
        },
        &changed("/site/a/one"),
    );
    check_refused(|lab| lab.write("c/d/five", "NEW"), &changed("/site/c"));
    check_refused(|lab| lab.write("c/d/six", "more"), &changed("/site/c"));
    check_refused(
        |lab| fs::set_permissions(lab.site("keep"), fs::Permissions::from_mode(0o640)).expect("a mode"),
        &changed("/site/keep"),
    );
}

#[test]
fn something_new_in_the_way_is_found_before_anything_is_touched() {
    let lab = Lab::with_files(&["a", "b"]);
    let target = lab.capture();
    fs::remove_file(lab.site("b")).expect("removed");
    let staged = lab.stage(&lab.plan(&target));
    lab.write("b", "someone's");
    assert!(
        matches!(flip(&staged), Err(FlipError::Changed { path }) if path.to_string().ends_with("/site/b"))
    );
    assert_eq!(fs::read_to_string(lab.site("b")).expect("content"), "someone's");
    discard(&staged).expect("discarded");
    lab.assert_swept();
}

#[test]
fn a_folder_that_became_a_link_leads_nowhere() {
    for swapped in ["a", ""] {
        let (lab, _, staged) = staged();
        let outside = lab.top.path().join("outside");
        run(program("cp").arg("-a").arg(lab.site(swapped)).arg(&outside));
        let before = snapshot(&outside);
        fs::rename(lab.site(swapped), lab.top.path().join("aside")).expect("moved");
        symlink(&outside, lab.site(swapped)).expect("a link");
        let error = flip(&staged).expect_err("the flip refuses");
        assert!(
            matches!(&error, FlipError::NotAFolder { path } if path.0.ends_with(b"/site/a") || path.0.ends_with(b"/site")),
            "{error}"
        );
        assert_eq!(snapshot(&outside), before);
        // It is put right, and the restore goes on.
        fs::remove_file(lab.site(swapped)).expect("removed");
        fs::rename(lab.top.path().join("aside"), lab.site(swapped)).expect("moved back");
        discard(&staged).expect("discarded");
        lab.assert_swept();
    }
}

#[test]
fn a_folder_that_became_a_link_in_the_middle_of_a_flip_leads_nowhere() {
    use std::ops::ControlFlow;

    use rfs_store::restore::{Operation, flip_watched};

    // The swap of `a` happens after all was checked, before the first exchange.
    let (lab, _, staged) = staged();
    let outside = lab.top.path().join("outside");
    run(program("cp").arg("-a").arg(lab.site("a")).arg(&outside));
    let before = snapshot(&outside);
    let done = flip_watched(&staged, &mut |operation| {
        if operation == Operation::Mark {
            fs::rename(lab.site("a"), lab.top.path().join("aside")).expect("moved");
            symlink(&outside, lab.site("a")).expect("a link");
        }
        ControlFlow::Continue(())
    });
    drop(done);
    assert_eq!(snapshot(&outside), before, "something was written through the link");
}

#[test]
fn another_folder_above_a_root_is_not_taken_for_the_old_one() {
    let (lab, _, staged) = staged();
    let before = lab.capture();
    let aside = lab.top.path().join("aside");
    fs::rename(lab.live(), &aside).expect("moved");
    run(program("cp").arg("-a").arg(&aside).arg(lab.live()));
    assert!(matches!(flip(&staged), Err(FlipError::NotAFolder { .. })));
    assert!(matches!(unflip(&staged), Err(FlipError::NotAFolder { .. })));
    assert_equal(&lab.capture(), &before, "another folder");
}

/// Something that happens to a lab.
type Happens<'a> = &'a dyn Fn(&Lab);

#[test]
fn what_changed_before_staging_is_refused_and_leaves_nothing() {
    let happens: [(&str, Happens<'_>); 5] = [
        ("a/one", &|lab| lab.write("a/one", "again, and longer")),
        ("c", &|lab| lab.write("c/new", "x")),
        ("c/d", &|lab| fs::remove_file(lab.site("c/d/five")).expect("removed")),
        ("keep", &|lab| {
            fs::set_permissions(lab.site("keep"), fs::Permissions::from_mode(0o444)).expect("a mode")
        }),
        ("a", &|lab| {
            fs::remove_dir_all(lab.site("a")).expect("removed");
            symlink("/etc", lab.site("a")).expect("a link");
        }),
    ];
    for (path, happens) in happens {
        let (lab, target) = deployed();
        let plan = lab.plan(&target);
        happens(&lab);
        let before = lab.capture();
        match lab.try_stage(&plan) {
            Err(StageError::Changed { path: found } | StageError::NotAFolder { path: found }) => {
                assert!(found.0.ends_with(path.as_bytes()), "{found} is not {path}");
            }
            other => panic!("{path}: {other:?}"),
        }
        assert_equal(&lab.capture(), &before, path);
        lab.assert_swept();
    }
}

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
fn a_service_that_writes_after_the_flip_does_not_stop_the_way_back() {
    let (lab, _, staged) = staged();
    let before = lab.capture();
    flip(&staged).expect("flipped");
    // As programs save: written beside, renamed over.
    lab.write("a/.one", "saved");
    fs::rename(lab.site("a/.one"), lab.site("a/one")).expect("renamed");
    lab.write("b/four", "in the place of what was deleted");
    lab.write("c/d/five", "in the place of what was deleted");
    let back = unflip(&staged).expect("flipped back");
    let mut met: Vec<_> =
        back.changed_since.iter().map(|path| path.0.rsplit(|b| *b == b'/').next().expect("a name")).collect();
    met.sort();
    assert_eq!(met, [&b"c"[..], b"four", b"one"]);
    assert_equal(&lab.capture(), &before, "flipped back");
    assert_eq!(standing(&staged).expect("a standing"), FilesStanding::Before);
    discard(&staged).expect("discarded");
}

#[test]
fn what_a_service_removed_after_the_flip_comes_back() {
    let lab = Lab::with_files(&["a", "b", "c"]);
    let target = lab.capture();
    lab.write("a", "changed");
    fs::remove_file(lab.site("b")).expect("removed");
    let before = lab.capture();
    let staged = lab.stage(&lab.plan(&target));
    flip(&staged).expect("flipped");
    fs::remove_file(lab.site("a")).expect("removed");
    fs::remove_file(lab.site("b")).expect("removed");
    unflip(&staged).expect("flipped back");
    assert_equal(&lab.capture(), &before, "flipped back");
    unflip(&staged).expect("once more");
    assert_equal(&lab.capture(), &before, "flipped back twice");
    discard(&staged).expect("discarded");
    lab.assert_swept();
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
fn missing_folders_above_a_root_are_made_and_go_with_the_way_back() {
    let lab = Lab::within(&std::env::temp_dir(), &["x/y/site"]);
    let empty = lab.capture();
    fs::create_dir_all(lab.live().join("x/y/site")).expect("folders");
    fs::write(lab.live().join("x/y/site/f"), "x").expect("written");
    let target = lab.capture();
    fs::remove_dir_all(lab.live().join("x")).expect("removed");
    let staged = lab.stage(&lab.plan(&target));
    flip(&staged).expect("flipped");
    assert_equal(&lab.capture(), &target, "restored");
    unflip(&staged).expect("flipped back");
    assert_equal(&lab.capture(), &empty, "flipped back");
    discard(&staged).expect("discarded");
    assert!(!lab.live().join("x").exists());
    lab.restore(&target);
    assert_equal(&lab.capture(), &target, "restored again");
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
        eprintln!("SKIPPED: immutable files, which can't be made here");
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

#[test]
fn what_a_crash_during_staging_left_is_swept() {
    let (lab, target, first) = staged();
    let before = lab.capture();
    drop(first);
    let roots = [b"/nowhere/at/all".to_vec(), lab.site("").to_string_lossy().into_owned().into_bytes()];
    sweep(&roots.each_ref().map(Vec::as_slice), &staging()).expect("swept");
    assert_equal(&lab.capture(), &before, "swept");
    lab.assert_swept();
    sweep(&roots.each_ref().map(Vec::as_slice), &staging()).expect("nothing is left to sweep");

    // Another stage under the same name sweeps by itself.
    drop(lab.stage(&lab.plan(&target)));
    let staged = lab.stage(&lab.plan(&target));
    flip(&staged).expect("flipped");
    let swept = sweep(&roots.each_ref().map(Vec::as_slice), &staging());
    assert!(matches!(swept, Err(DiscardError::StillNeeded { .. })), "{swept:?}");
    lab.write("a/one", "changed");
    let again = lab.try_stage(&lab.plan(&target));
    assert!(matches!(again, Err(StageError::InUse { .. })), "{again:?}");
    unflip(&staged).expect("flipped back");
    discard(&staged).expect("discarded");
}

#[test]
fn what_is_staged_is_kept_between_the_two_states() {
    use std::ops::ControlFlow;

    let (lab, target, staged) = staged();
    let mut left = 2;
    let _ = rfs_store::restore::flip_watched(&staged, &mut |_| {
        left -= 1;
        if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(discard(&staged), Err(DiscardError::StillNeeded { .. })));
    flip(&staged).expect("flipped");
    sync(&staged).expect("durable");
    discard(&staged).expect("discarded");
    discard(&staged).expect("nothing is left to discard");
    assert_equal(&lab.capture(), &target, "restored");
    lab.assert_swept();
}

#[test]
fn a_discard_that_was_interrupted_goes_on() {
    let (lab, target, staged) = staged();
    flip(&staged).expect("flipped");
    // Where a crash can leave it: renamed, and half removed.
    let (yard, going) = (lab.live().join(".rfs-test"), lab.live().join(".rfs-test~"));
    fs::rename(yard, &going).expect("renamed");
    fs::remove_file(going.join("flipping")).expect("removed");
    discard(&staged).expect("discarded");
    assert_equal(&lab.capture(), &target, "restored");
    lab.assert_swept();
}

/// All that stands beneath a folder, as text.
fn snapshot(folder: &Path) -> String {
    let output =
        program("find").arg(folder).args(["-printf", "%p %i %m %T@ %s\\n"]).output().expect("find runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
