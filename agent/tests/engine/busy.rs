//! A host on which others go on working while it is captured and restored.

use std::fs::{self, File};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rfs_model::Standing;
use rfs_store::Cancel;

use crate::bed::{Bed, capture, operation, restore};
use crate::taken::reached;

/// Does `work` again and again while `meanwhile` runs.
fn beside<T>(work: impl Fn(u64) + Sync, meanwhile: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| (0..).take_while(|_| !stop.load(Ordering::Relaxed)).for_each(&work));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn beside_a_log_that_grows_all_the_time_a_restore_succeeds_or_names_the_log() {
    let bed = Bed::new();
    bed.write("site/busy.log", "");
    let log = File::options().append(true).open(bed.path("site/busy.log")).expect("there");
    let grow = |_| {
        (&log).write_all(b"a line of a log\n").expect("writable");
        thread::sleep(std::time::Duration::from_micros(500));
    };
    beside(grow, || {
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        bed.deploy("v2");
        let receipt = restore(&engine, good);
        // Right is either: the rest is restored, or the file is named with what to do about it.
        match receipt.standing {
            Standing::Target => assert_eq!(bed.read("site/index.html"), "v1"),
            standing => {
                assert_eq!((standing, bed.read("site/index.html").as_str()), (Standing::Before, "v2"));
                let failure = receipt.failure.expect("a reason");
                assert!(failure.message.contains("busy.log"), "{failure:?}");
                assert!(format!("{failure:?}").contains("exclude"), "{failure:?}");
            }
        }
    });
}

#[test]
fn a_deploy_that_swaps_folders_all_the_time_breaks_no_capture_and_leaves_a_host_at_one_side() {
    let bed = Bed::new();
    let release = |folder: &str, version: u64| {
        fs::create_dir(bed.path(folder)).expect("writable");
        for file in 0..30 {
            bed.write(&format!("{folder}/{file}"), &format!("{version}"));
        }
    };
    release("site/app", 0);
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let swap = |version| {
        // A restore may put its own in between; then this deploy fails, as a real one would.
        let _ = fs::remove_dir_all(bed.path("site/next"));
        let _ = fs::remove_dir_all(bed.path("site/old"));
        if fs::create_dir(bed.path("site/next")).is_ok() {
            for file in 0..30 {
                let _ = fs::write(bed.path(&format!("site/next/{file}")), format!("{version}"));
            }
            let _ = fs::rename(bed.path("site/app"), bed.path("site/old"));
            let _ = fs::rename(bed.path("site/next"), bed.path("site/app"));
        }
        // The next deploy comes a while later.
        thread::sleep(std::time::Duration::from_millis(30));
    };
    let failed = beside(swap, || {
        let again = |number: u128| {
            engine.capture(&Default::default(), "test", operation(2000 + number), &Cancel::new()).is_err()
        };
        let failed = (0..6).filter(|number| again(*number)).count();
        for _ in 0..3 {
            let receipt = restore(&engine, good);
            assert_ne!(receipt.standing, Standing::Inconsistent, "{receipt:#?}");
        }
        failed
    });
    assert!(failed <= 3, "{failed} of 6 captures failed beside a deploy");
    assert_eq!(bed.leftovers(), Vec::<std::path::PathBuf>::new());
    reached(&restore(&engine, good));
    assert_eq!((bed.read("site/app/29"), bed.path("site/next").exists()), ("0".into(), false));
}
