//! The machine's clock is set by an hour in the middle of everything, and nothing comes sooner or later for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use rfs_agent::commander::{Command, Commander, Intake as _, Outcome, QUIESCE_TIMEOUT, Selection, Step};
use rfs_agent::engine::{Engine, NoLocalHealth, Order, Phase};
use rfs_model::time::{SharedClock, SystemClock};
use rfs_model::{Clock, Generation, Reason, Standing, Timestamp};
use rfs_store::journal::{CommandKey, StoredCommand};

use crate::bed::{Bed, capture, everything, operation, order, try_restore, until};

/// The machine's clock, and how far it was set.
#[derive(Default)]
struct Settable(AtomicI64);

const HOUR: i64 = 3_600_000;

/// Both ways.
const STEPS: [i64; 2] = [HOUR, -HOUR];

impl Settable {
    fn set(&self, by: i64) {
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

impl Clock for Settable {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0.load(Ordering::SeqCst))
    }
}

fn open(bed: &Bed) -> (Arc<Engine>, Arc<Settable>) {
    let clock = Arc::new(Settable::default());
    let shared: SharedClock = clock.clone();
    let opened = Engine::open(bed.config(), shared, Arc::new(NoLocalHealth)).expect("opens");
    (Arc::new(opened.engine), clock)
}

/// Whether what took `took` ended when `expected` was over; the machine may be slow, and is never early.
fn is_due(expected: Duration, took: Duration) -> bool {
    took >= expected && took < expected + Duration::from_secs(5)
}

#[test]
fn a_restore_neither_ends_sooner_nor_later_than_it_may() {
    for step in STEPS {
        let mut bed = Bed::new();
        bed.start = "if grep -q v1 site/index.html; then sleep 30; fi; touch up".into();
        let (engine, clock) = open(&bed);
        let good = capture(&engine).info.id;
        bed.deploy("v2");
        let (begun, time) = (Instant::now(), Duration::from_millis(1500));
        let order = Order { until: begun + time, ..order(good, everything()) };
        let receipt = engine.restore(order, &|progress| {
            if progress.phase == Phase::Flipping {
                clock.set(step);
            }
        });
        let receipt = receipt.expect("begins");
        assert_eq!(receipt.failure.map(|failure| failure.reason), Some(Reason::DeadlineExceeded), "{step}");
        assert!(is_due(time, begun.elapsed()), "{step}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_restore_that_has_time_left_is_not_turned_back() {
    for step in STEPS {
        let bed = Bed::new();
        let (engine, clock) = open(&bed);
        let good = capture(&engine).info.id;
        bed.deploy("v2");
        let receipt = engine.restore(order(good, everything()), &|_| clock.set(step)).expect("begins");
        assert_eq!(receipt.standing, Standing::Target, "{step}: {receipt:?}");
        let proof = engine.store().snapshot(good).and_then(|good| good.info()).expect("reads").marks.proof;
        assert!(proof.is_some_and(|proof| proof.restore_time() < Duration::from_secs(60)), "{proof:?}");
    }
}

#[test]
fn a_checkpoint_is_over_when_its_time_is_up_by_no_clock_that_can_be_set() {
    for step in STEPS {
        let mut bed = Bed::new();
        bed.site_keys = "quiesce = \"echo quiet >> ROOT/log\"\nresume = \"echo resumed >> ROOT/log\"".into();
        let (engine, clock) = open(&bed);
        let commander = Commander::start(engine.clone()).expect("starts");
        let time = Duration::from_secs(3);
        let begun = Instant::now();
        let prepare = Command {
            operation: operation(1),
            generation: Generation(1),
            timeout: time,
            quiesce_timeout: QUIESCE_TIMEOUT,
            reason: "x".into(),
            step: Step::Prepare { selection: Selection::default() },
        };
        commander.receive(prepare).expect("takes it");
        until("it is prepared", || !commander.unacknowledged().expect("readable").is_empty());
        assert_eq!(bed.told(), ["quiet"], "{step}");
        clock.set(step);
        until("it resumes", || bed.told() == ["quiet", "resumed"]);
        assert!(is_due(time, begun.elapsed()), "{step}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_command_that_is_taken_up_after_a_restart_has_what_is_left_of_its_time_and_never_more_than_all() {
    // The clock was set back by an hour while the agent was down; and a second command had used up its time.
    for (set, left, expected) in [(-HOUR, 2_000, true), (0, -1, false)] {
        let mut bed = Bed::new();
        bed.start = "if grep -q v1 site/index.html; then sleep 30; fi; touch up".into();
        let (engine, clock) = open(&bed);
        let good = capture(&engine).info.id;
        let apply = Command {
            operation: operation(1),
            generation: Generation(1),
            timeout: Duration::from_secs(2),
            quiesce_timeout: QUIESCE_TIMEOUT,
            reason: "test".into(),
            step: Step::Apply {
                snapshot: good,
                selection: Selection::default(),
                choices: Default::default(),
            },
        };
        let now = clock.now();
        let stored = StoredCommand {
            key: CommandKey { operation: operation(1), generation: Generation(1), step: "apply".into() },
            arrived_at: now,
            deadline: Timestamp(now.0 + left),
            body: apply,
        };
        engine.journal().admit(&stored).expect("admits");
        drop(engine);
        bed.deploy("v2");

        let clock = Arc::new(Settable::default());
        clock.set(set);
        let opened =
            Engine::open(bed.config(), clock as SharedClock, Arc::new(NoLocalHealth)).expect("opens");
        let begun = Instant::now();
        let commander = Commander::start(Arc::new(opened.engine)).expect("starts");
        until("it is answered", || !commander.unacknowledged().expect("readable").is_empty());
        let outcome = commander.unacknowledged().expect("readable").remove(0).outcome;
        let reason = match outcome {
            Outcome::Restored(receipt) if expected => receipt.failure.expect("it takes too long").reason,
            Outcome::Refused(refusal) if !expected => refusal.reason,
            other => panic!("{set}: {other:?}"),
        };
        assert_eq!(reason, Reason::DeadlineExceeded);
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}

#[test]
fn what_has_no_time_left_is_not_begun() {
    let bed = Bed::new();
    let (engine, clock) = open(&bed);
    let good = capture(&engine).info.id;
    // By the clock on the wall it would have an hour.
    clock.set(-HOUR);
    let late = Order { until: Instant::now(), ..order(good, everything()) };
    assert_eq!(try_restore(&engine, late).expect_err("too late").reason, Reason::DeadlineExceeded);
}
