//! Restores that fail: the host is as it was, or says loudly that it is not.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rfs_agent::commander::Refusal;
use rfs_agent::engine::{Engine, Order, Phase, Receipt};
use rfs_model::{Reason, SnapshotId, Standing};

use crate::bed::{Bed, capture, everything, operation, order, restore, try_restore};

/// Captures, deploys a change, and lets a restore fail: the host must be as it was, the service up, nothing left.
fn check(bed: &Bed, reason: Reason, message: &str) -> Receipt {
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let before = bed.state();
    let receipt = restore(&engine, good);
    let failure = receipt.failure.clone().expect("it fails");
    assert_eq!((receipt.standing, failure.reason), (Standing::Before, reason), "{receipt:?}");
    assert!(failure.message.contains(message), "{failure:?}");
    assert!(!failure.next.is_empty(), "{failure:?}");
    assert_eq!(bed.state(), before);
    assert_eq!(bed.leftovers(), Vec::<PathBuf>::new());
    assert_eq!(receipt.applied, 0, "{receipt:?}");
    assert!(engine.inconsistent().expect("readable").is_none());
    // The host is free again.
    let refusal =
        try_restore(&engine, order(SnapshotId(rfs_model::Digest::from_bytes([7; 32])), everything()));
    assert_eq!(refusal.expect_err("no such snapshot").reason, Reason::SnapshotNotFound);
    receipt
}

#[test]
fn a_service_that_does_not_start_on_the_old_release_turns_the_host_back() {
    let mut bed = Bed::new();
    bed.start =
        "echo start >> log; if grep -q v1 site/index.html; then echo cannot >&2; exit 9; fi; touch up".into();
    let receipt = check(&bed, Reason::CommandFailed, "ended with exit code 9: cannot");
    assert_eq!(bed.told(), ["stop", "start", "start"]);
    assert_eq!(receipt.failure.map(|failure| failure.phase), Some(Phase::Starting));
    assert_eq!(receipt.downtime.len(), 1, "it was down until it was back");
}

#[test]
fn a_service_that_says_it_started_and_does_not_run_turns_the_host_back() {
    let mut bed = Bed::new();
    bed.start = "grep -q v1 site/index.html || touch up".into();
    bed.start_timeout = "1s";
    let receipt = check(&bed, Reason::CommandFailed, "says that it is not running");
    assert_eq!(receipt.failure.map(|failure| failure.phase), Some(Phase::Starting));
}

#[test]
fn a_service_that_does_not_stop_is_left_running() {
    let mut bed = Bed::new();
    bed.stop = "exit 4".into();
    let receipt = check(&bed, Reason::CommandFailed, "ended with exit code 4");
    assert_eq!(receipt.failure.map(|failure| failure.phase), Some(Phase::Quiescing));
}

#[test]
fn a_restore_that_takes_too_long_goes_back_at_its_deadline() {
    let mut bed = Bed::new();
    bed.start = "if grep -q v1 site/index.html; then sleep 15; fi; touch up".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let before = bed.state();
    let until = Instant::now() + Duration::from_secs(1);
    let begun = Instant::now();
    let receipt = try_restore(&engine, Order { until, ..order(good, everything()) }).expect("begins");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(receipt.standing, Standing::Before, "{receipt:?}");
    assert_eq!(receipt.failure.map(|failure| failure.reason), Some(Reason::DeadlineExceeded));
    assert_eq!(bed.state(), before);

    let late = Order { until, ..order(good, everything()) };
    assert_eq!(try_restore(&engine, late).expect_err("past it").reason, Reason::DeadlineExceeded);
}

#[test]
fn a_cancelled_restore_goes_back_and_after_the_commit_there_is_nothing_to_cancel() {
    let mut bed = Bed::new();
    bed.start = "if grep -q v1 site/index.html; then sleep 15; fi; touch up".into();
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let before = bed.state();
    let cancelled = AtomicBool::new(false);
    let receipt = engine
        .restore(order(good, everything()), &|progress| {
            if progress.phase == Phase::Starting {
                cancelled.store(engine.cancel(operation(1)), Ordering::Relaxed);
            }
        })
        .expect("begins");
    assert!(cancelled.load(Ordering::Relaxed));
    assert_eq!(receipt.failure.map(|failure| failure.reason), Some(Reason::Cancelled));
    assert_eq!((receipt.standing, bed.state()), (Standing::Before, before));
    assert!(!engine.cancel(operation(1)));
}

#[test]
fn a_host_that_cannot_be_put_back_says_so_holds_still_and_is_freed_by_force() {
    let mut bed = Bed::new();
    // Once it has been stopped, it starts no more until it is repaired.
    bed.start = "test -f repaired && cp site/index.html served && touch up".into();
    let (good, target) = {
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        let target = bed.state();
        bed.deploy("v2");
        let receipt = restore(&engine, good);
        assert_eq!(receipt.standing, Standing::Inconsistent, "{receipt:?}");
        let failure = receipt.failure.expect("it fails");
        assert_eq!(failure.reason, Reason::Inconsistent);
        assert!(failure.next.contains("--force"), "{failure:?}");
        (good, target)
    };
    // It is remembered, and nothing is tried again by itself.
    let opened = bed.open();
    assert!(opened.recovered.is_none());
    let engine = opened.engine;
    let held = engine.inconsistent().expect("readable").expect("still");
    assert!(held.message.contains("app could not be started"), "{held:?}");
    let refused =
        |engine: &Engine, order: Order| -> Refusal { try_restore(engine, order).expect_err("held") };
    assert_eq!(refused(&engine, order(good, everything())).reason, Reason::Inconsistent);
    let forced = || Order { force: true, ..order(good, everything()) };
    let still = try_restore(&engine, forced()).expect("is begun");
    assert_ne!(still.standing, Standing::Target, "it is not repaired: {still:?}");
    assert!(engine.inconsistent().expect("readable").is_some());

    bed.write("repaired", "");
    let receipt = try_restore(&engine, forced()).expect("is begun");
    assert_eq!(receipt.standing, Standing::Target, "{receipt:?}");
    assert_eq!((bed.state(), bed.read("served")), (target, "v1".into()));
    assert!(engine.inconsistent().expect("readable").is_none());
    assert_eq!(restore(&engine, good).standing, Standing::Target);
}

/// Flips a bit of the content of v1, which is in the pack of the first capture.
fn damage_v1(bed: &Bed) {
    for pack in std::fs::read_dir(bed.path("store/packs")).expect("readable").flatten() {
        let mut bytes = std::fs::read(pack.path()).expect("readable");
        let v1 = bytes.windows(2).position(|pair| pair == b"v1").expect("it is stored as it is");
        bytes[v1] ^= 1;
        std::fs::write(pack.path(), bytes).expect("writable");
    }
}

#[test]
fn a_snapshot_that_a_drill_finds_damaged_is_offered_to_nobody() {
    let bed = Bed::new();
    let good = capture(&bed.engine()).info.id;
    damage_v1(&bed);
    let engine = bed.engine();
    assert_eq!(engine.store().restorable().expect("lists").len(), 1, "nobody has looked");
    let refusal = engine.drill(good, None, &rfs_store::Cancel::new()).expect_err("it is damaged");
    assert_eq!(refusal.reason, Reason::StoreDamaged, "{refusal:?}");
    assert_eq!(engine.store().restorable().expect("lists"), []);
}

#[test]
fn a_snapshot_that_is_damaged_changes_nothing() {
    let bed = Bed::new();
    let good = {
        let engine = bed.engine();
        capture(&engine).info.id
    };
    bed.deploy("v2");
    let before = bed.state();
    damage_v1(&bed);
    let engine = bed.engine();
    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Before, "{receipt:?}");
    assert_eq!(receipt.failure.map(|failure| failure.reason), Some(Reason::StoreDamaged));
    assert_eq!((bed.state(), bed.told()), (before, Vec::<String>::new()));
    assert_eq!(bed.leftovers(), Vec::<PathBuf>::new());

    // From now on it is offered to nobody, until it is whole again.
    let offered =
        |engine: &Engine| engine.store().restorable().expect("lists").iter().any(|info| info.id == good);
    assert!(!offered(&engine));
    drop(engine);
    let engine = bed.engine();
    assert!(!offered(&engine), "that is remembered");
    let revision = engine.store().revision();
    bed.deploy("v1");
    let repaired = engine.repair(&rfs_store::Cancel::new()).expect("repairs");
    assert_eq!(repaired.remaining.damage, [], "the live files have what was lost");
    assert!(offered(&engine) && engine.store().revision() > revision);
}
