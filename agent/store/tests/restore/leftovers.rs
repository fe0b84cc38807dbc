//! Nothing of a restore is left, whatever interrupted it.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;

use rfs_store::restore::{
    DiscardError, StageError, discard, discard_decided, flip, flip_watched, sweep, sync, unflip,
};

use crate::lab::{Lab, assert_equal, program, run, staged, staging};

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
    let (lab, target, staged) = staged();
    let mut left = 2;
    let _ = flip_watched(&staged, &mut |_| {
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

/// A service that writes to what was restored may make it look as if it stood between.
#[test]
fn what_is_decided_is_removed_whatever_stands_there_since() {
    let (lab, _, staged) = staged();
    let mut left = 2;
    let _ = flip_watched(&staged, &mut |_| {
        left -= 1;
        if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(discard(&staged), Err(DiscardError::StillNeeded { .. })));
    discard_decided(&staged).expect("discarded");
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

/// Whoever owns the folder that a staging folder stands in can rename that, and put another one in its place.
#[test]
fn what_stands_under_a_staging_name_and_is_not_ours_stays() {
    let (lab, target, staged) = staged();
    let roots = [lab.site("").to_string_lossy().into_owned().into_bytes()];
    let yard = lab.live().join(".rfs-test");
    fs::rename(&yard, lab.live().join("away")).expect("renamed");
    for name in [".rfs-test", ".rfs-test~"] {
        fs::create_dir_all(lab.live().join(name).join("deep")).expect("new");
        fs::write(lab.live().join(name).join("deep/dump"), "the only copy").expect("written");
    }
    let stay =
        || [".rfs-test", ".rfs-test~"].iter().all(|name| lab.live().join(name).join("deep/dump").exists());
    let _ = discard(&staged);
    assert!(stay(), "discarded");
    sweep(&roots.each_ref().map(Vec::as_slice), &staging()).expect("nothing of ours is there");
    assert!(stay(), "swept");
    assert!(matches!(lab.try_stage(&lab.plan(&target)), Err(StageError::System { .. })));
    assert!(stay(), "staged");
}

#[test]
fn a_name_that_somebody_takes_does_not_keep_a_staging_folder() {
    for taken in ["a file", "a folder"] {
        let (lab, target, staged) = staged();
        flip(&staged).expect("flipped");
        let going = lab.live().join(".rfs-test~");
        match taken {
            "a file" => fs::write(&going, "theirs").expect("written"),
            _ => fs::create_dir_all(going.join("theirs")).expect("new"),
        }
        discard(&staged).expect("discarded");
        assert!(going.exists(), "{taken} stays");
        assert!(!lab.live().join(".rfs-test").exists(), "{taken}");
        assert_equal(&lab.capture(), &target, "restored");
    }
}

#[test]
fn a_user_without_privileges_leaves_nothing_either() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("tests");
    fs::copy(std::env::current_exe().expect("these tests"), &copy).expect("copied");
    run(program("chmod").arg("0777").arg(folder.path()));
    let output = program("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(copy)
        .args(["--ignored", "--exact", "leftovers::restores_its_own_files"])
        .env("TMPDIR", folder.path())
        .current_dir(folder.path())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        }
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("setpriv") => {
            panic!("{}", String::from_utf8_lossy(&output.stdout));
        }
        _ => crate::common::skip("a user without privileges, whom setpriv cannot become here"),
    }
}

#[test]
#[ignore = "run as another user by a_user_without_privileges_leaves_nothing_either"]
fn restores_its_own_files() {
    let lab = Lab::with_files(&["a", "outer/closed/b", "outer/closed/deeper/c"]);
    let close = |mode| {
        for path in ["outer/closed/deeper", "outer/closed"] {
            fs::set_permissions(lab.site(path), fs::Permissions::from_mode(mode)).expect("a mode");
        }
    };
    close(0o555);
    let target = lab.capture();
    lab.write("a", "changed");
    fs::rename(lab.site("outer"), lab.site("moved")).expect("moved");
    lab.restore(&target);
    assert_equal(&lab.capture(), &target, "restored");
    close(0o755);
}
