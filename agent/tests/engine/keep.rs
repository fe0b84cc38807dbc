//! What stays in a host's store, and that it does not only grow.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rfs_agent::commander::Selection;
use rfs_agent::engine::{Captured, Collector, Engine, Order};
use rfs_model::{Reason, SnapshotId, Standing};
use rfs_store::{Cancel, Share};

use crate::bed::{Bed, capture, everything, operation, order, restore, try_restore, until};

const KEEP_ONE: &str = "[retention]\nkeep_last = 1\nkeep_hourly = 0\nkeep_daily = 0\nkeep_weekly = 0\nkeep_backups = 0\nautomatic = false\n";

fn bed(retention: &str) -> Bed {
    let mut bed = Bed::new();
    bed.more = retention.into();
    bed
}

fn checkpoint(engine: &Engine, number: u128) -> Captured {
    let until = Instant::now() + Duration::from_secs(60);
    engine.prepare(operation(number), &Selection::default(), until).expect("prepares");
    let cut = engine.cut_checkpoint(operation(number), "nightly", until).expect("cuts");
    engine.finish(operation(number)).expect("finishes");
    cut
}

fn collect(engine: &Engine) {
    engine.collect(&Cancel::new()).unwrap_or_else(|refusal| panic!("collects: {refusal:?}"));
}

fn ids(engine: &Engine) -> BTreeSet<SnapshotId> {
    engine.store().snapshots().expect("lists").into_iter().map(|info| info.id).collect()
}

fn held(engine: &Engine, id: SnapshotId) -> Vec<String> {
    let snapshot = engine.store().snapshot(id).expect("is there").info().expect("reads");
    snapshot.marks.in_use.into_values().collect()
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

/// The packs of a store: how many, and how long all together.
fn packs(bed: &Bed) -> (usize, u64) {
    let packs = fs::read_dir(bed.path("store/packs")).expect("readable").flatten();
    packs.fold((0, 0), |(n, size), pack| (n + 1, size + pack.metadata().expect("is there").len()))
}

#[test]
fn a_store_stays_bounded_while_checkpoints_and_rollbacks_go_on() {
    const LARGE: usize = 400_000;
    const ROUNDS: u64 = 30;
    let bed = bed(&KEEP_ONE.replace("keep_last = 1", "keep_last = 3"));
    let engine = bed.engine();
    let (mut pinned, mut last_good) = (None, None);
    let (mut most, mut stored) = ((0, 0, 0), 0);
    let mut before_rollback = Vec::new();
    for round in 1..=ROUNDS {
        bed.deploy(&format!("v{round}"));
        fs::write(bed.path("site/large"), noise(round, LARGE)).expect("writes");
        let cut = checkpoint(&engine, u128::from(round));
        stored += LARGE as u64;
        if round == 4 {
            engine.store().pin(cut.info.id, "the audit").expect("pins");
            pinned = Some((cut.info.id, bed.state()));
        }
        if round % 5 == 0 {
            // A bad release, and the way back from it.
            bed.deploy("bad");
            fs::write(bed.path("site/large"), noise(1000 + round, LARGE)).expect("writes");
            stored += LARGE as u64;
            before_rollback = bed.state();
            let rollback =
                Order { operation: operation(100 + u128::from(round)), ..order(cut.info.id, everything()) };
            let receipt = try_restore(&engine, rollback).expect("begins");
            assert_eq!(receipt.standing, Standing::Target, "{receipt:?}");
            last_good = receipt.backup;
        }
        collect(&engine);
        let (count, size) = packs(&bed);
        most = (most.0.max(ids(&engine).len()), most.1.max(count), most.2.max(size));
    }
    // Three by the rule, and: the pinned one, the backup, the newest checkpoint, the last one proven.
    assert!(most.0 <= 7, "{most:?}");
    assert!(most.1 <= 40, "{most:?}");
    // A pack is written anew when less than two thirds of it are needed.
    assert!(most.2 < 7 * LARGE as u64 * 3 / 2, "{most:?}");
    assert!(stored > 3 * most.2, "{stored} were stored, and {most:?} is not much less");

    let backup = last_good.expect("there was a rollback");
    let undone = Order { operation: operation(900), ..order(backup, everything()) };
    assert_eq!(try_restore(&engine, undone).expect("begins").standing, Standing::Target);
    assert_eq!(bed.state(), before_rollback, "the last rollback is undone after all those collections");
    collect(&engine);
    let (pinned, then) = pinned.expect("one was pinned");
    assert_eq!(restore(&engine, pinned).standing, Standing::Target);
    assert_eq!(bed.state(), then);
    assert_eq!(engine.store().verify(Share::Whole, &Cancel::new()).expect("verifies").damage, []);
}

#[test]
fn the_way_back_of_the_last_restore_stays_and_that_of_an_earlier_one_goes() {
    let bed = bed(KEEP_ONE);
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let rollback =
        |number: u128, target| Order { operation: operation(number), ..order(target, everything()) };
    let first = try_restore(&engine, rollback(1, good)).expect("begins").backup.expect("a backup");
    assert_eq!(held(&engine, first), ["the way back of a restore"]);
    for round in 0..3 {
        fs::write(bed.path("site/n"), round.to_string()).expect("writes");
        capture(&engine);
    }
    collect(&engine);
    assert!(ids(&engine).contains(&first), "it is the way back of the last restore");
    assert_eq!(engine.delete(first).expect_err("stays").reason, Reason::CheckpointInUse);

    let second = try_restore(&engine, rollback(2, good)).expect("begins").backup.expect("a backup");
    assert_eq!((held(&engine, first), held(&engine, second).len()), (vec![], 1));
    collect(&engine);
    assert!(!ids(&engine).contains(&first));
    // What leads back is not what led there.
    let undone = try_restore(&engine, rollback(3, second)).expect("begins");
    assert_eq!(held(&engine, undone.backup.expect("a backup")).len(), 1);
    assert_eq!(held(&engine, second), Vec::<String>::new());
}

#[test]
fn an_operation_that_is_tried_again_keeps_its_first_way_back_until_another_one_changes_the_host() {
    let bed = bed(KEEP_ONE);
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    let restored = |number: u128, text: &str| {
        bed.write("site/n", text);
        let order = Order { operation: operation(number), ..order(good, everything()) };
        try_restore(&engine, order).expect("begins").backup.expect("a backup")
    };
    let (first, again) = (restored(1, "bad"), restored(1, "written since"));
    collect(&engine);
    assert_eq!((held(&engine, first).len(), held(&engine, again).len()), (1, 1));
    let other = restored(2, "another");
    assert_eq!([first, again, other].map(|backup| held(&engine, backup).len()), [0, 0, 1]);
}

#[test]
fn a_restore_of_one_component_leaves_the_way_back_of_another() {
    let mut bed = Bed::new();
    bed.more =
        format!("[[component]]\nname = \"more\"\nkind = \"files\"\npaths = [\"ROOT/more\"]\n{KEEP_ONE}");
    fs::create_dir(bed.path("more")).expect("writable");
    bed.write("more/file", "1");
    let engine = bed.engine();
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    bed.write("more/file", "2");
    let only = |number: u128, component: &str| {
        let components = BTreeSet::from([component.parse().expect("a name")]);
        let selection = Selection { components, ..Selection::default() };
        let order = Order { operation: operation(number), ..order(good, selection) };
        try_restore(&engine, order).expect("begins").backup.expect("a backup")
    };
    let (site, more) = (only(1, "site"), only(2, "more"));
    assert_eq!((held(&engine, site).len(), held(&engine, more).len()), (1, 1));
    let again = only(3, "more");
    assert_eq!((held(&engine, site).len(), held(&engine, more).len(), held(&engine, again).len()), (1, 0, 1));
}

#[test]
fn what_a_crash_left_held_is_released_at_the_next_start() {
    let bed = bed(KEEP_ONE);
    let (good, backup) = {
        let engine = bed.engine();
        let good = capture(&engine).info.id;
        bed.deploy("v2");
        let backup = restore(&engine, good).backup.expect("a backup");
        // As if the end of a restore had not come to the marks.
        let holder = format!("{} target", operation(5));
        engine.store().protect(good, &holder, "the target of a restore").expect("protects");
        (good, backup)
    };
    let engine = bed.engine();
    assert_eq!(held(&engine, good), Vec::<String>::new());
    assert_eq!(held(&engine, backup), ["the way back of a restore"]);
}

#[test]
fn a_finished_checkpoint_stays_and_an_abandoned_one_is_like_any_other() {
    let bed = bed(KEEP_ONE);
    let engine = bed.engine();
    let soon = || Instant::now() + Duration::from_secs(60);
    let finished = checkpoint(&engine, 1).info.id;
    bed.deploy("v2");
    engine.prepare(operation(2), &Selection::default(), soon()).expect("prepares");
    let abandoned = engine.cut_checkpoint(operation(2), "nightly", soon()).expect("cuts").info.id;
    engine.abandon(operation(2)).expect("abandons");
    bed.deploy("v3");
    let newest = capture(&engine).info.id;
    collect(&engine);
    assert_eq!(ids(&engine), BTreeSet::from([finished, newest]), "not {abandoned}");
    let refusal = engine.delete(finished).expect_err("stays");
    assert!(refusal.message.contains("it is the newest complete checkpoint"), "{refusal:?}");
}

#[test]
fn what_the_fleet_needs_stays_and_what_it_deleted_goes() {
    let bed = bed(KEEP_ONE);
    let engine = bed.engine();
    let cuts: Vec<SnapshotId> = (1..=4)
        .map(|number| {
            bed.deploy(&format!("v{number}"));
            checkpoint(&engine, number).info.id
        })
        .collect();
    let operations = |numbers: &[u128]| numbers.iter().map(|number| operation(*number)).collect();
    // The third was finished here, and is not complete in the fleet; the second is a rollback's target.
    engine.heed(&operations(&[1, 2, 77]), &operations(&[3, 88]));
    assert_eq!(ids(&engine), BTreeSet::from([cuts[0], cuts[1], cuts[3]]));
    bed.deploy("v5");
    let newest = capture(&engine).info.id;
    collect(&engine);
    assert_eq!(ids(&engine), BTreeSet::from([cuts[0], cuts[1], cuts[3], newest]));
    engine.heed(&operations(&[1]), &operations(&[4, 1]));
    collect(&engine);
    assert_eq!(ids(&engine), BTreeSet::from([cuts[0], newest]), "what is needed is not deleted");
    engine.store().pin(cuts[0], "the audit").expect("pins");
    engine.heed(&operations(&[]), &operations(&[1]));
    assert!(ids(&engine).contains(&cuts[0]), "a person's pin is a person's");
}

#[test]
fn the_agent_collects_by_itself_when_a_checkpoint_has_left_something() {
    let bed = bed(&KEEP_ONE.replace("automatic = false", "automatic = true"));
    let engine = bed.engine();
    let collector = Collector::start(&engine).expect("starts");
    for number in 1..=4 {
        bed.deploy(&format!("v{number}"));
        checkpoint(&engine, number);
    }
    until("only the last checkpoint is left", || ids(&engine).len() == 1);
    drop(collector);
    let weak = Arc::downgrade(&engine);
    drop(engine);
    assert!(weak.upgrade().is_none(), "the collector holds nothing when it has ended");
}

#[test]
fn the_configuration_pins_and_unpins() {
    let mut bed = bed(KEEP_ONE);
    let pinned = {
        let engine = bed.engine();
        let pinned = capture(&engine).info.id;
        engine.store().pin(pinned, "by hand").expect("pins");
        pinned
    };
    bed.deploy("v2");
    let also = capture(&bed.engine()).info.id;
    bed.deploy("v3");
    bed.more = format!("{KEEP_ONE}pinned = [\"{pinned}\", \"{also}\"]\n");
    let engine = bed.engine();
    capture(&engine);
    collect(&engine);
    assert_eq!(ids(&engine).len(), 3);
    drop(engine);
    bed.more = KEEP_ONE.into();
    let engine = bed.engine();
    collect(&engine);
    assert_eq!(ids(&engine).len(), 2, "what a person pinned stays");
    assert!(ids(&engine).contains(&pinned));
}

#[test]
fn a_collection_gives_way_to_a_restore() {
    let bed = bed(KEEP_ONE);
    let engine = bed.engine();
    for round in 0..20 {
        fs::write(bed.path("site/large"), noise(round, 100_000)).expect("writes");
        let id = capture(&engine).info.id;
        engine.store().pin(id, "so that there is something to read").expect("pins");
    }
    let good = capture(&engine).info.id;
    let gave_way = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            until("a collection is stopped", || match engine.collect(&Cancel::new()) {
                Ok(_) => false,
                Err(refusal) => {
                    assert_eq!(refusal.reason, Reason::Cancelled, "{refusal:?}");
                    gave_way.store(true, Ordering::SeqCst);
                    true
                }
            });
        });
        let mut number = 10;
        until("a restore begins beside one", || {
            number += 1;
            bed.deploy(&format!("v{number}"));
            let rollback = Order { operation: operation(number), ..order(good, everything()) };
            assert_eq!(try_restore(&engine, rollback).expect("begins").standing, Standing::Target);
            gave_way.load(Ordering::SeqCst)
        });
    });
}
