//! Damage is named with what it harms, and repaired where it can be. That none is missed is shown by `damage`.

mod common;

use std::fs;

use common::{capture, contents, files_beneath, open, site, spec};
use rfs_store::{Cancel, DamagedThing, Share, Store, StoreError};

fn damage(store: &Store) -> Vec<String> {
    let report = store.verify(Share::Whole, &Cancel::new()).expect("verifies");
    report
        .damage
        .iter()
        .map(|damage| format!("{}: {} [{}]", damage.what, damage.reason, damage.harms.len()))
        .collect()
}

#[test]
fn damage_names_the_snapshots_that_it_harms() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    fs::write(live.join("old"), "only in the first").expect("writes");
    let store = open(&path);
    let (first, _) = capture(&store, &live);
    let pack = files_beneath(&path.join("packs")).remove(0);
    fs::remove_file(live.join("old")).expect("removes");
    let (second, _) = capture(&store, &live);

    let mut bytes = fs::read(&pack).expect("reads");
    let at = bytes.windows(17).position(|w| w == b"only in the first").expect("stored as it is");
    bytes[at] ^= 0x20;
    fs::write(&pack, bytes).expect("writes");
    let report = store.verify(Share::Whole, &Cancel::new()).expect("verifies");
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert_eq!(report.damage[0].harms, [first].into());
    assert_eq!(report.damage[0].path, pack);
    assert!(matches!(report.damage[0].what, DamagedThing::Object(_)));
    assert!(store.snapshot(second).expect("opens").tree(&site()).is_ok());

    fs::remove_file(&pack).expect("removes");
    let report =
        Store::open_read_only(&path).expect("opens").verify(Share::Whole, &Cancel::new()).expect("verifies");
    assert!(report.damage.iter().all(|d| matches!(d.what, DamagedThing::Missing(_))), "{:?}", report.damage);
    assert!(report.damage.iter().any(|d| d.harms == [first].into()));
}

#[test]
fn a_truncated_pack_keeps_what_is_left_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    for name in ["a", "b", "c"] {
        fs::write(live.join(name), name.repeat(30)).expect("writes");
    }
    let store = open(&path);
    let (id, tree) = capture(&store, &live);
    drop(store);
    let pack = files_beneath(&path.join("packs")).remove(0);
    let length = fs::metadata(&pack).expect("is there").len();
    let cut = fs::OpenOptions::new().write(true).open(&pack).expect("opens");
    cut.set_len(length - 60).expect("cuts");
    let store = open(&path);
    assert_eq!(damage(&store).len(), 1, "{:?}", damage(&store));
    assert_eq!(store.snapshot(id).expect("opens").tree(&site()).expect("reads"), tree);
    assert_eq!(contents(&store, &tree).expect("reads").len(), 3);
    cut.set_len(40).expect("cuts");
    drop(store);
    let store = open(&path);
    let error = store.snapshot(id).expect("opens").tree(&site()).expect_err("is lost");
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
}

#[test]
fn a_sample_reads_a_share_and_looks_at_every_snapshot() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    for i in 0..2_000 {
        fs::write(live.join(format!("f{i}")), format!("number {i}")).expect("writes");
    }
    let store = open(&path);
    capture(&store, &live);
    let report = store.verify(Share::PerMille { share: 100, seed: 7 }, &Cancel::new()).expect("verifies");
    assert!((100..400).contains(&report.objects) && report.objects_total > 2_000, "{report:?}");
    assert_eq!((report.snapshots, report.damage.len()), (1, 0));
}

#[test]
fn what_was_lost_is_taken_from_the_live_files_and_damage_is_set_aside() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    for name in ["still there", "gone since", "whole"] {
        fs::write(live.join(name), format!("content of {name}")).expect("writes");
    }
    let store = open(&path);
    let (id, tree) = capture(&store, &live);
    let pack = files_beneath(&path.join("packs")).remove(0);
    let mut bytes = fs::read(&pack).expect("reads");
    for wanted in ["of still", "of gone", "rfsS"] {
        let at = bytes.windows(wanted.len()).position(|w| w == wanted.as_bytes()).expect("stored as it is");
        bytes[at] ^= 1;
    }
    fs::write(&pack, bytes).expect("writes");
    fs::remove_file(live.join("gone since")).expect("removes");

    let report = store.repair(&[spec(&live)], &Cancel::new()).expect("repairs");
    assert_eq!(report.quarantined, [path.join("quarantine").join(pack.file_name().expect("a name"))]);
    assert_eq!(report.restored.len(), 1, "{report:?}"); // The segment is another one now, for a file is gone.
    assert!(!report.remaining.damage.is_empty());
    assert!(report.remaining.damage.iter().all(|damage| damage.harms == [id].into()));
    fs::write(live.join("gone since"), "content of gone since").expect("writes");
    let times =
        tree.roots[0].entries.iter().map(|e| (e.path.clone(), e.meta.mtime_seconds, e.meta.mtime_nanos));
    for (name, seconds, nanos) in times.filter(|(name, ..)| name.is_empty() || name.starts_with(b"gone")) {
        let file = fs::File::open(live.join(std::str::from_utf8(&name).expect("is text"))).expect("opens");
        let since = std::time::Duration::new(seconds as u64, nanos);
        file.set_modified(std::time::UNIX_EPOCH + since).expect("sets");
    }
    let report = store.repair(&[spec(&live)], &Cancel::new()).expect("repairs");
    assert_eq!(
        (report.restored.len(), report.quarantined.len(), report.remaining.damage.len()),
        (2, 0, 0),
        "{report:?}"
    );
    drop(store);
    let store = open(&path);
    assert_eq!(store.snapshot(id).expect("opens").tree(&site()).expect("reads"), tree);
    assert_eq!(contents(&store, &tree).expect("reads").len(), 3);
}

#[test]
fn an_index_that_is_damaged_missing_or_old_is_made_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    for i in 0..4_500 {
        fs::write(live.join(format!("f{i}")), format!("number {i}")).expect("writes");
    }
    let store = open(&path);
    let (id, tree) = capture(&store, &live);
    let index = path.join("index");
    let whole = fs::read(&index).expect("was written");
    assert_eq!(damage(&store), [""; 0]);
    fs::write(live.join("later"), "later").expect("writes");
    capture(&store, &live);
    drop(store);
    for at in (0..whole.len()).step_by(whole.len() / 40).chain([whole.len() - 1]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&index, bytes).expect("writes");
        let store = Store::open_read_only(&path).expect("opens");
        assert_eq!(damage(&store), ["the index: its checksum is wrong [0]"], "byte {at}");
        assert_eq!(store.snapshot(id).expect("opens").tree(&site()).expect("reads"), tree);
    }
    fs::remove_file(&index).expect("removes");
    let store = open(&path);
    assert_eq!(damage(&store), [""; 0]);
    assert_eq!(store.snapshot(id).expect("opens").tree(&site()).expect("reads"), tree);
    capture(&store, &live);
    store
        .collect(&rfs_store::KeepPolicy { last: 1, ..rfs_store::KeepPolicy::NOTHING }, &Cancel::new())
        .expect("collects");
    drop(store);
    fs::write(&index, &whole).expect("writes");
    let store = open(&path);
    assert_eq!(damage(&store), [""; 0]);
    let (_, tree) = capture(&store, &live);
    assert_eq!(contents(&store, &tree).expect("reads").len(), 4_501);
}
