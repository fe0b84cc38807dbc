//! Clocks that jump: snapshots keep their order, retention keeps the newest, and no file is trusted that may have changed.

use std::fs::{self, File};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rfs_model::time::ManualClock;
use rfs_model::{SnapshotId, Timestamp};
use rfs_store::{Cancel, KeepPolicy, Store};

use crate::common::{capture, contents, note, site, spec};

const DAY: i64 = 24 * 3_600_000;

#[test]
fn snapshots_keep_their_order_and_the_newest_stays_whatever_the_clock_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, path) = (dir.path().join("live"), dir.path().join("store"));
    fs::create_dir(&live).expect("a folder");
    // Forward by years, and back, and before the epoch.
    let days = [20_000, 20_001, 29_000, 20_002, 3, -40, 20_003, 20_003];
    let mut ids: Vec<SnapshotId> = Vec::new();
    for (number, day) in days.into_iter().enumerate() {
        let store = Store::open(&path, Arc::new(ManualClock::at(Timestamp(day * DAY)))).expect("opens");
        fs::write(live.join("number"), number.to_string()).expect("written");
        ids.push(capture(&store, &live).0);
        let infos = store.snapshots().expect("lists");
        assert_eq!(
            infos.iter().map(|info| info.id).collect::<Vec<_>>(),
            ids,
            "in the order of their commits"
        );
        assert_eq!(
            infos.iter().map(|info| info.sequence).collect::<Vec<_>>(),
            (1..=ids.len() as u64).collect::<Vec<_>>()
        );
        let newest = *ids.last().expect("one was made");
        assert!(store.forget(newest).expect_err("it stays").to_string().ends_with("it is the newest"));
        for policy in [
            KeepPolicy { last: 1, ..KeepPolicy::NOTHING },
            KeepPolicy { daily: 1, ..KeepPolicy::NOTHING },
            KeepPolicy { weekly: 2, ..KeepPolicy::NOTHING },
            KeepPolicy::NOTHING,
        ] {
            let expiry = store.expiry(&policy).expect("says");
            assert!(expiry.going.iter().all(|info| info.id != newest), "{policy:?} at {day}");
        }
    }
    // At a time before most of them, with the fewest rules, only what is newest by order stays.
    let store = Store::open(&path, Arc::new(ManualClock::at(Timestamp(0)))).expect("opens");
    let report = store.collect(&KeepPolicy::NOTHING, &Cancel::new()).expect("collects");
    assert_eq!((report.forgotten.len(), store.snapshots().expect("lists")[0].id), (7, ids[7]));
    let tree = store.snapshot(ids[7]).and_then(|snapshot| snapshot.tree(&site())).expect("reads");
    assert_eq!(contents(&store, &tree).expect("reads")[0].1, b"7");
}

/// Captures, and says how many files were read.
fn files_read(store: &Store, live: &std::path::Path) -> u64 {
    let making = store.begin().expect("begins");
    let (_, stats) = making.files(&site(), &spec(live), &Cancel::new()).expect("captures");
    making.commit(note("clock")).expect("commits");
    stats.files_read
}

#[test]
fn a_time_that_is_still_to_come_is_not_trusted_and_one_that_was_set_back_tells_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let live = dir.path().join("live");
    fs::create_dir(&live).expect("a folder");
    for name in ["past", "future"] {
        fs::write(live.join(name), "first").expect("written");
    }
    let now = File::open(&live).and_then(|folder| folder.metadata()?.modified()).expect("a time");
    let set = |name: &str, to: SystemTime| {
        File::options()
            .append(true)
            .open(live.join(name))
            .and_then(|file| file.set_modified(to))
            .expect("set");
    };
    // As it looks after the clock was set back by an hour.
    set("future", now + Duration::from_secs(3_600));
    set("past", now - Duration::from_secs(3_600));
    let store = crate::common::open(&dir.path().join("store"));
    assert_eq!(files_read(&store, &live), 2);
    // What has just changed is read again until it has rested; then only the one from the future still is.
    let begun = std::time::Instant::now();
    while files_read(&store, &live) != 1 {
        assert!(begun.elapsed() < Duration::from_secs(30), "a file from the past is trusted in the end");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(files_read(&store, &live), 1, "a time that has not come is never trusted");

    // The same length, and the old time put back: only the time of change tells, which nobody can set.
    fs::write(live.join("past"), "other").expect("written");
    set("past", now - Duration::from_secs(3_600));
    assert_eq!(files_read(&store, &live), 2);
    let newest = store.snapshots().expect("lists").pop().expect("some");
    let tree = store.snapshot(newest.id).and_then(|snapshot| snapshot.tree(&site())).expect("reads");
    let read = contents(&store, &tree).expect("reads");
    assert!(read.iter().any(|(path, content)| path == b"past" && content == b"other"), "{read:?}");
}
