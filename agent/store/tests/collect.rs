//! What nothing needs goes, what anything needs stays, whoever runs beside.

mod common;

use std::fs;
use std::path::Path;

use common::{Stop, StopAtEnd, capture, contents, files_beneath, note, open, site, spec};
use rfs_store::{Cancel, KeepPolicy, Share, StoreError};

const LAST_ONE: KeepPolicy = KeepPolicy { last: 1, ..KeepPolicy::NOTHING };

fn size(path: &Path) -> u64 {
    files_beneath(path).iter().map(|file| fs::metadata(file).expect("is there").len()).sum()
}

/// Bytes that do not compress, another sequence for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn what_was_forgotten_is_freed_and_the_rest_reads_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    let store = open(&path);
    let mut last = None;
    for round in 0..8 {
        fs::write(live.join("changing"), noise(round, 300_000)).expect("writes");
        fs::write(live.join(format!("kept{round}")), noise(100 + round, 50_000)).expect("writes");
        last = Some(capture(&store, &live));
    }
    let (id, tree) = last.expect("eight rounds");
    let before = size(&path.join("packs"));
    let report = store.collect(&LAST_ONE, &Cancel::new()).expect("collects");
    assert_eq!(report.forgotten.len(), 7);
    let after = size(&path.join("packs"));
    assert_eq!(before - after, report.freed.0);
    assert!(after < 750_000, "{after}");
    drop(store);
    let store = open(&path);
    assert_eq!(store.snapshots().expect("lists").len(), 1);
    assert_eq!(store.snapshot(id).expect("opens").tree(&site()).expect("reads"), tree);
    assert_eq!(contents(&store, &tree).expect("reads").len(), 9);
    assert_eq!(store.verify(Share::Whole, &Cancel::new()).expect("verifies").damage, []);
}

#[test]
fn what_a_host_needs_cannot_be_forgotten() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    let store = open(&path);
    let ids: Vec<_> = (0..5)
        .map(|i| {
            fs::write(live.join("n"), format!("{i}")).expect("writes");
            capture(&store, &live).0
        })
        .collect();
    store.pin(ids[0], "the audit").expect("pins");
    store.protect(ids[1], "rollback-7", "its backup").expect("protects");
    store.prove(ids[2], rfs_model::Timestamp(9), std::time::Duration::from_secs(1)).expect("proves");
    let refused = |id| store.forget(id).expect_err("is refused").to_string();
    assert!(refused(ids[0]).ends_with("stays: it is pinned: the audit"), "{}", refused(ids[0]));
    assert!(refused(ids[1]).ends_with("stays: it is in use: its backup (rollback-7)"));
    assert!(refused(ids[2]).ends_with("stays: it is the last one proven to restore"));
    assert!(refused(ids[4]).ends_with("stays: it is the newest"));
    let report = store.collect(&LAST_ONE, &Cancel::new()).expect("collects");
    assert_eq!(report.forgotten, [ids[3]]);
    drop(store);

    let store = open(&path);
    assert!(matches!(store.forget(ids[1]), Err(StoreError::Undeletable { .. })));
    store.release(ids[1], "rollback-7").expect("releases");
    store.forget(ids[1]).expect("may go");
    assert!(matches!(store.forget(ids[1]), Err(StoreError::UnknownSnapshot { .. })));
    fs::write(path.join("marks").join(ids[0].to_string()), "nonsense").expect("damages");
    assert!(refused_with(&store, ids[0]).contains("its marks were damaged"));
}

fn refused_with(store: &rfs_store::Store, id: rfs_model::SnapshotId) -> String {
    store.forget(id).expect_err("is refused").to_string()
}

#[test]
fn the_newest_complete_checkpoint_stays_until_newer_ones_hold_all_of_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    let store = open(&path);
    let name = |text: &str| rfs_model::ComponentName::new(text).expect("a name");
    let wanted = [name("site"), name("app")].into();
    let checkpoint = |names: &[&str]| {
        let making = store.begin().expect("begins");
        for component in names {
            making.value(&name(component), rfs_model::ComponentKind::Services, b"up").expect("keeps");
        }
        let id = making.commit(note("checkpoint")).expect("commits").id;
        store.hold_checkpoint(id, &wanted).expect("holds");
        id
    };
    let held = || -> Vec<_> {
        let infos = store.snapshots().expect("lists");
        infos.iter().filter(|info| !info.marks.in_use.is_empty()).map(|info| info.id).collect()
    };
    let both = checkpoint(&["site", "app", "gone"]);
    assert_eq!(held(), [both]);
    let site = checkpoint(&["site"]);
    assert_eq!(held(), [both, site], "the older one has the newest of app");
    let app = checkpoint(&["app"]);
    assert_eq!(held(), [site, app], "nobody wants what is gone");
    capture(&store, &live);
    assert!(refused_with(&store, site).ends_with("stays: it is the newest complete checkpoint"));
    let report = store.collect(&KeepPolicy::NOTHING, &Cancel::new()).expect("collects");
    assert_eq!(report.forgotten, [both]);
}

#[test]
fn what_a_collection_would_do_is_what_it_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    let store = open(&path);
    for round in 0..4 {
        fs::write(live.join("changing"), noise(round, 200_000)).expect("writes");
        fs::write(live.join(format!("kept{round}")), noise(100 + round, 60_000)).expect("writes");
        capture(&store, &live);
    }
    let usage = store.usage(&Cancel::new()).expect("looks");
    assert_eq!(usage.packs.0, size(&path.join("packs")));
    assert!(usage.unneeded.0 < 4096, "{usage:?}");
    let alone: Vec<u64> = usage.alone.iter().map(|(_, bytes)| bytes.0 / 100_000).collect();
    assert_eq!(alone, [2, 2, 2, 2], "what changed, and for the last also what came last: {usage:?}");
    let reader = rfs_store::Store::open_read_only(&path).expect("opens");
    let expiry = reader.expiry(&LAST_ONE).expect("judges");
    let staying: Vec<_> = expiry.staying.iter().map(|(info, _)| info.id).collect();
    let going: Vec<_> = expiry.going.iter().map(|info| info.id).collect();
    let would = reader.would_free(&staying, &Cancel::new()).expect("reckons");
    let report = store.collect(&LAST_ONE, &Cancel::new()).expect("collects");
    assert_eq!((report.forgotten, report.kept.into_keys().collect::<Vec<_>>()), (going, staying));
    // New packs have a header and a footer of their own.
    assert!(would.0.abs_diff(report.freed.0) < 4096, "{would} and {}", report.freed);
    assert!(would.0 > 600_000, "{would}");
}

#[test]
fn a_damaged_snapshot_stops_the_collector_and_can_be_forgotten() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    let store = open(&path);
    let (first, _) = capture(&store, &live);
    fs::write(live.join("n"), "2").expect("writes");
    capture(&store, &live);
    fs::write(path.join("snapshots").join(first.to_string()), "nonsense").expect("damages");
    let before = files_beneath(&path.join("packs"));
    assert!(matches!(store.collect(&LAST_ONE, &Cancel::new()), Err(StoreError::Damaged { .. })));
    assert_eq!(files_beneath(&path.join("packs")), before);
    store.forget(first).expect("may go");
    store.collect(&LAST_ONE, &Cancel::new()).expect("collects");
}

#[test]
fn captures_and_the_collector_run_side_by_side() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    let store = open(&path);
    capture(&store, &live);
    let stop = Stop::default();
    std::thread::scope(|threads| {
        let collector = threads.spawn(|| {
            let mut rounds = 0;
            while !stop.is_set() {
                store.collect(&LAST_ONE, &Cancel::new()).expect("collects");
                rounds += 1;
            }
            rounds
        });
        let reader = threads.spawn(|| {
            let mut rounds = 0;
            while !stop.is_set() {
                read_all(&rfs_store::Store::open_read_only(&path).expect("opens"));
                rounds += 1;
            }
            rounds
        });
        let at_end = StopAtEnd(&stop);
        // The same few contents come and go, so that captures count on objects that are about to be collected.
        for round in 0..150u64 {
            for file in 0..6 {
                fs::write(live.join(format!("f{file}")), noise((round * 7 + file) % 11, 20_000))
                    .expect("writes");
            }
            let making = store.begin().expect("begins");
            let (tree, _) = making.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
            making.commit(note("round")).expect("commits");
            assert_eq!(contents(&store, &tree).expect("all is there").len(), 6, "round {round}");
        }
        drop(at_end);
        assert!(collector.join().expect("ends") > 3);
        assert!(reader.join().expect("ends") > 3);
    });
    assert_eq!(store.verify(Share::Whole, &Cancel::new()).expect("verifies").damage, []);
}

/// Reads all that another process keeps, as it collects: nothing that is listed may be missing.
fn read_all(store: &rfs_store::Store) {
    for _ in 0..5 {
        assert_eq!(store.verify(Share::Whole, &Cancel::new()).expect("verifies").damage, []);
        for info in store.snapshots().expect("lists") {
            let read = store.snapshot(info.id).and_then(|snapshot| contents(store, &snapshot.tree(&site())?));
            if let Err(error) = read {
                let listed = store.snapshots().expect("lists");
                assert!(listed.iter().all(|listed| listed.id != info.id), "{} is lost: {error}", info.id);
            }
        }
    }
}

#[test]
fn a_damaged_copy_harms_nobody_while_there_is_another_and_the_collector_keeps_that() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    fs::write(live.join("shared"), noise(1, 40_000)).expect("writes");
    let store = open(&path);
    // Two captures at once keep the same content; the first has much else, which goes with it.
    let (first, second) = (store.begin().expect("begins"), store.begin().expect("begins"));
    fs::write(live.join("other"), noise(2, 300_000)).expect("writes");
    first.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
    fs::remove_file(live.join("other")).expect("removes");
    let (tree, _) = second.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
    first.commit(note("first")).expect("commits");
    second.commit(note("second")).expect("commits");
    let packs = files_beneath(&path.join("packs"));
    let later = packs.last().expect("two packs");
    let mut bytes = fs::read(later).expect("reads");
    bytes[20_000] ^= 1;
    fs::write(later, bytes).expect("damages");
    drop(store);

    let store = open(&path);
    let is_whole = |store: &rfs_store::Store| {
        let read = contents(store, &tree).expect("the other copy is there");
        assert_eq!(read, [(b"shared".to_vec(), noise(1, 40_000))]);
        let damage = store.verify(Share::Whole, &Cancel::new()).expect("verifies").damage;
        assert!(damage.len() == 1 && damage[0].harms.is_empty(), "{damage:?}");
        assert_eq!(damage[0].path, *later);
    };
    is_whole(&store);
    let report = store.collect(&LAST_ONE, &Cancel::new()).expect("collects");
    assert!(report.forgotten.len() == 1 && report.freed.0 > 290_000, "{report:?}");
    is_whole(&store);
    let repaired = store.repair(&[], &Cancel::new()).expect("repairs");
    assert_eq!((repaired.quarantined.len(), repaired.remaining.damage), (1, Vec::new()));
    assert_eq!(contents(&store, &tree).expect("reads").len(), 1);
}

#[test]
fn what_a_repair_sets_aside_is_no_last_copy() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    fs::write(live.join("a shared file"), noise(1, 40_000)).expect("writes");
    let store = open(&path);
    let (first, second) = (store.begin().expect("begins"), store.begin().expect("begins"));
    fs::write(live.join("b other file"), noise(2, 300_000)).expect("writes");
    first.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
    fs::remove_file(live.join("b other file")).expect("removes");
    let (tree, _) = second.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
    let (harmed, unharmed) =
        (first.commit(note("first")).expect("commits").id, second.commit(note("second")));
    // In one pack the shared file is damaged, in the other what lies beside it.
    let packs = files_beneath(&path.join("packs"));
    for pack in &packs {
        let mut bytes = fs::read(pack).expect("reads");
        let at = if bytes.len() > 200_000 { bytes.len() - 150_000 } else { 20_000 };
        let shared = noise(1, 40_000);
        let lies_at =
            bytes.windows(64).position(|window| window == &shared[..64]).expect("it is kept as it is");
        assert_eq!((lies_at..lies_at + 40_000).contains(&at), bytes.len() < 200_000);
        bytes[at] ^= 1;
        fs::write(pack, bytes).expect("damages");
    }
    let repaired = store.repair(&[], &Cancel::new()).expect("repairs");
    assert_eq!(repaired.quarantined.len(), packs.len());
    let harms: Vec<_> = repaired.remaining.damage.iter().flat_map(|damage| &damage.harms).collect();
    assert_eq!(harms, [&harmed], "{:?}", repaired.remaining);
    assert!(unharmed.is_ok());
    assert_eq!(contents(&store, &tree).expect("the whole copy was kept").len(), 1);
}

#[test]
fn a_capture_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("makes");
    fs::write(live.join("large"), noise(1, 3 << 20)).expect("writes");
    let store = open(&path);
    let making = store.begin().expect("begins");
    making.files(&site(), &spec(&live), &Cancel::new()).expect("captures");
    assert!(!files_beneath(&path.join("packs")).is_empty());
    drop(making);
    assert_eq!(files_beneath(&path.join("packs")), [""; 0].map(std::path::PathBuf::from));
}
