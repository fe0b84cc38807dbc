//! A disk that is full at any write of the store: each write is struck in turn, for the room runs out one page later, or
//! one file later, each time.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rfs_store::{Cancel, CaptureError, KeepPolicy, Store, StoreError};

use crate::common::{files_beneath, open, spec};
use crate::disk::{Disk, Filler};
use crate::sample::{Sample, message};

const LAST_ONE: KeepPolicy = KeepPolicy { last: 1, ..KeepPolicy::NOTHING };
const LAST_TWO: KeepPolicy = KeepPolicy { last: 2, ..LAST_ONE };

/// What a disk runs out of.
#[derive(Debug, Clone, Copy)]
enum Lack {
    Pages { step: usize },
    Names,
}

const LACKS: [Lack; 2] = [Lack::Pages { step: 1 }, Lack::Names];

impl Lack {
    fn fill(self, disk: &Disk, room: usize) -> Filler {
        match self {
            Self::Pages { step } => disk.fill_but((room * step) as u64),
            Self::Names => disk.fill_names_but(room),
        }
    }
}

/// A store on a small disk.
fn sample() -> Option<(Sample, Disk)> {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::memory(&folder.path().join("disk"), "size=4m,nr_inodes=120")?;
    Some((Sample::new(folder, Path::new("disk/store")), disk))
}

/// Leaves one page, or one file, more each time until `work` succeeds; `check` looks after each time, on the full disk
/// still. Returns the parts of the store in which writes were struck.
fn strike<W, C>(sample: &mut Sample, disk: &Disk, lack: Lack, mut work: W, check: C) -> BTreeSet<String>
where
    W: FnMut(&Sample) -> Result<(), CaptureError>,
    C: Fn(&Sample, &str),
{
    let mut struck = BTreeSet::new();
    for room in 0..1_000 {
        let filler = lack.fill(disk, room);
        let worked = work(sample);
        let when = format!("{lack:?}, room for {room}");
        check(sample, &when);
        let Err(error) = worked else {
            assert!(room > 0, "{when}: it wrote nothing");
            return struck;
        };
        let text = message(&error);
        let (path, wanted, next) = match (&error, lack) {
            (CaptureError::Store(StoreError::NoSpace { path, .. }), Lack::Pages { .. }) => {
                (path, format!("not enough space at {}: ", path.display()), "; free some")
            }
            (CaptureError::Store(StoreError::NoInodes { path }), Lack::Names) => {
                (path, format!("the file system of {} has no free inodes: ", path.display()), "; remove some")
            }
            (_, _) => panic!("{when}: {error:?}"),
        };
        assert!(text.starts_with(&wanted), "{when}: {text}");
        assert!(text.ends_with(&format!("{next}, or forget snapshots and collect")), "{when}: {text}");
        let inside = path.strip_prefix(sample.path()).expect("it is the store's").components().next();
        struck.extend(inside.map(|part| part.as_os_str().to_string_lossy().into_owned()));
        drop(filler);
    }
    panic!("{lack:?}: it never succeeds")
}

#[test]
fn a_capture_meets_a_full_disk_at_each_write() {
    for lack in LACKS {
        let Some((mut sample, disk)) = sample() else { return };
        sample.deploy(7);
        let work = |sample: &Sample| {
            // What an attempt before had made durable is garbage, and goes first.
            sample.store().collect(&LAST_TWO, &Cancel::new())?;
            sample.try_capture().map(drop)
        };
        let struck = strike(&mut sample, &disk, lack, work, |sample, when| sample.check(when));
        assert_eq!(struck, ["packs", "snapshots"].map(str::to_owned).into(), "{lack:?}");
        sample.check("in the end");
    }
}

#[test]
fn the_collector_meets_a_full_disk_at_each_write() {
    for lack in LACKS {
        let Some((mut sample, disk)) = sample() else { return };
        // Nothing goes whole, which would make room; half of the first pack is needed by the second snapshot.
        let ids: Vec<_> = sample.store().snapshots().expect("lists").iter().map(|info| info.id).collect();
        sample.store().forget(ids[0]).expect("forgets");
        sample.keep_only(ids[1]);
        let work = |sample: &Sample| {
            let report = sample.store().collect(&LAST_ONE, &Cancel::new())?;
            assert!(report.rewritten.0 > 0, "half of a pack is needed still: {report:?}");
            Ok(())
        };
        let struck = strike(&mut sample, &disk, lack, work, |sample, when| sample.check(when));
        assert_eq!(struck, ["packs".to_owned()].into(), "{lack:?}");
        sample.close();
        sample.open();
        sample.check("opened again");
    }
}

#[test]
fn a_repair_meets_a_full_disk_at_each_write() {
    for lack in LACKS {
        let Some((mut sample, disk)) = sample() else { return };
        sample.deploy(21);
        let last = sample.capture();
        // Of the pack that was written last, one asset is damaged, which the live files still have.
        let pack = files_beneath(&sample.path().join("packs")).pop().expect("a pack");
        let mut bytes = fs::read(&pack).expect("reads");
        bytes[20_000] ^= 1;
        fs::write(&pack, bytes).expect("writes");
        sample.close();
        sample.open();
        let live = spec(&sample.live());
        let work = |sample: &Sample| {
            let report = sample.store().repair(std::slice::from_ref(&live), &Cancel::new())?;
            assert_eq!(report.remaining.damage, [], "it found all that was lost");
            Ok(())
        };
        let whole = sample.without(last);
        strike(&mut sample, &disk, lack, work, |sample, when| whole.check(sample.store(), when));
        sample.check("repaired");
        assert_eq!(files_beneath(&sample.path().join("quarantine")).len(), 1);
    }
}

#[test]
fn marks_meet_a_full_disk_and_stay_what_they_were() {
    for lack in LACKS {
        let Some((mut sample, disk)) = sample() else { return };
        let id = sample.store().snapshots().expect("lists")[0].id;
        sample.store().pin(id, "the first reason").expect("pins");
        let work = |sample: &Sample| Ok(sample.store().pin(id, "the second reason")?);
        let pinned = |sample: &Sample| sample.store().snapshots().expect("lists")[0].marks.pinned.clone();
        let struck = strike(&mut sample, &disk, lack, work, |sample, when| {
            sample.check(when);
            assert!(pinned(sample).is_some_and(|why| why.ends_with("reason")), "{when}");
        });
        assert_eq!(struck, ["marks".to_owned()].into());
        assert_eq!(pinned(&sample).as_deref(), Some("the second reason"));
        // What frees room needs none.
        let _full = disk.fill_but(0);
        sample.store().unpin(id).expect("unpins on a full disk");
        sample.store().forget(id).expect("forgets on a full disk");
        sample
            .store()
            .collect(&LAST_ONE, &Cancel::new())
            .expect_err("what is half needed cannot be written anew");
    }
}

#[test]
fn an_index_that_does_not_fit_keeps_no_snapshot_from_being_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = Disk::memory(&folder.path().join("disk"), "size=4m,nr_inodes=120") else { return };
    let mut sample = Sample::new(folder, Path::new("disk/store"));
    for number in 0..5_000 {
        fs::write(sample.live().join(format!("small{number}")), format!("number {number}")).expect("written");
    }
    let index = sample.path().join("index");
    assert!(!index.exists());
    let work = |sample: &Sample| {
        sample.store().collect(&LAST_TWO, &Cancel::new())?;
        sample.try_capture().map(drop)
    };
    strike(&mut sample, &disk, Lack::Pages { step: 8 }, work, |sample, when| sample.check(when));
    sample.close();
    sample.open();
    sample.check("opened again");
    sample.deploy(9);
    sample.capture();
    assert!(index.exists(), "there is room for it now");
}

#[test]
fn a_store_cannot_be_made_on_a_full_disk_and_can_be_when_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    for lack in LACKS {
        let Some(disk) = Disk::memory(&folder.path().join("disk"), "size=1m,nr_inodes=60") else { return };
        let path = folder.path().join("disk/store");
        let mut failures = 0;
        for room in 0.. {
            let _filler = lack.fill(&disk, room);
            match Store::open(&path, std::sync::Arc::new(rfs_model::time::SystemClock)) {
                Ok(_) => break,
                Err(StoreError::NoSpace { .. } | StoreError::NoInodes { .. }) => {}
                Err(error) => panic!("{lack:?}, room for {room}: {error:?}"),
            }
            failures += 1;
        }
        assert!(failures > 0, "{lack:?}");
        assert_eq!(open(&path).snapshots().expect("lists"), []);
    }
}
