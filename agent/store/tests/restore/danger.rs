//! What others change meanwhile, and links that lead away: refused before anything is touched, or survived.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rfs_store::restore::{
    FilesStanding, FlipError, Operation, StageError, discard, flip, flip_watched, standing, unflip,
};

use crate::lab::{Lab, assert_equal, deployed, program, run, staged};

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

/// All that stands beneath a folder, as text.
fn snapshot(folder: &Path) -> String {
    let output =
        program("find").arg(folder).args(["-printf", "%p %i %m %T@ %s\\n"]).output().expect("find runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
