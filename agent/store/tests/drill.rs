//! A drill proves a snapshot, or says what would not come back.

mod common;

use std::fs;
use std::os::unix::fs::symlink;

use common::{capture, files_beneath, open, site};
use rfs_model::{ComponentKind, ComponentName};
use rfs_store::{Cancel, DrillError, FilesSpec};

#[test]
fn a_drill_restores_compares_and_records_the_proof() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, scratch) = (dir.path().join("live"), dir.path().join("scratch"));
    fs::create_dir_all(live.join("a/b")).expect("makes");
    fs::write(live.join("a/b/c"), "content").expect("writes");
    fs::hard_link(live.join("a/b/c"), live.join("again")).expect("links");
    symlink("nowhere", live.join("link")).expect("links");
    let _socket = std::os::unix::net::UnixListener::bind(live.join("socket")).expect("binds");
    fs::write(dir.path().join("single"), "a file as a root").expect("writes");
    let store = open(&dir.path().join("store"));
    let making = store.begin().expect("begins");
    let paths = vec![live.clone(), dir.path().join("single"), dir.path().join("absent")];
    making
        .files(&site(), &FilesSpec { paths, exclude: Vec::new(), ..FilesSpec::default() }, &Cancel::new())
        .expect("captures");
    let services = ComponentName::new("app").expect("a name");
    making.value(&services, ComponentKind::Services, b"running").expect("keeps");
    let id = making.commit(common::note("test")).expect("commits").id;

    let report = store.drill(id, &scratch, &Cancel::new()).expect("is proven");
    assert_eq!((report.entries, report.size.0), (8, 7 + 16 + 7));
    assert!(files_beneath(&scratch).is_empty());
    let proof = store.snapshot(id).expect("opens").info().expect("reads").marks.proof.expect("is proven");
    assert_eq!((proof.verified_at, proof.restore_time()), (report.verified_at, report.restore_time));
}

#[test]
fn a_drill_of_a_damaged_snapshot_proves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    fs::write(live.join("file"), "kept as it is, for it is short").expect("writes");
    let store = open(&path);
    let (id, _) = capture(&store, &live);
    let pack = files_beneath(&path.join("packs")).remove(0);
    let mut bytes = fs::read(&pack).expect("reads");
    let at = bytes.windows(6).position(|w| w == b"kept a").expect("stored as it is");
    bytes[at] ^= 1;
    fs::write(&pack, bytes).expect("writes");
    let error = store.drill(id, &dir.path().join("scratch"), &Cancel::new()).expect_err("fails");
    assert!(matches!(error, DrillError::Stage(_)), "{error}");
    assert_eq!(store.snapshot(id).expect("opens").info().expect("reads").marks.proof, None);
    assert!(matches!(store.drill(id, &live, &Cancel::new()), Err(DrillError::NotEmpty { .. })));
}
