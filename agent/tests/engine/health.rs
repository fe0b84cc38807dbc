//! Whoever knows the host's health is told when a restore has ended, however it ended, and the host knows what it was
//! brought to.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rfs_agent::engine::{Clocks, Engine, LocalHealth, Order, Receipt, Unhealthy};
use rfs_model::{Digest, RestoreNumber, SnapshotId, Standing};

use crate::bed::{Bed, capture, clock, everything, operation, order, try_restore};

/// Notes each restore that ended, and what the host was like at that moment: its release, and whether its service ran.
struct Noted {
    root: PathBuf,
    ended: Mutex<Vec<(u64, String, bool)>>,
}

impl LocalHealth for Noted {
    fn wait_until_good(&self, _until: Instant, _cancelled: &dyn Fn() -> bool) -> Result<(), Unhealthy> {
        Ok(())
    }

    fn restore_ended(&self, number: RestoreNumber) {
        let release = fs::read_to_string(self.root.join("site/index.html")).unwrap_or_default();
        let state = (number.0, release, self.root.join("up").exists());
        self.ended.lock().expect("no panic").push(state);
    }
}

impl Noted {
    fn of(bed: &Bed) -> Arc<Self> {
        Arc::new(Self { root: bed.path(""), ended: Mutex::default() })
    }

    /// What was noted since this was asked last.
    fn take(&self) -> Vec<(u64, String, bool)> {
        std::mem::take(&mut self.ended.lock().expect("no panic"))
    }
}

fn open(bed: &Bed, noted: &Arc<Noted>) -> Engine {
    Engine::open(bed.config(), Clocks::from(clock()), noted.clone()).expect("opens").engine
}

fn restore(engine: &Engine, target: SnapshotId) -> Receipt {
    try_restore(engine, order(target, everything())).expect("begins")
}

fn ended(number: u64, release: &str, up: bool) -> Vec<(u64, String, bool)> {
    vec![(number, release.to_owned(), up)]
}

#[test]
fn health_begins_anew_when_a_restore_has_committed_or_gone_back() {
    let mut bed = Bed::new();
    bed.start = "grep -q v3 site/index.html && exit 1; echo start >> log; touch up".into();
    let noted = Noted::of(&bed);
    let engine = open(&bed, &noted);
    assert_eq!((noted.take(), engine.brought()), (vec![], None), "no restore was ever begun");
    let v1 = capture(&engine).info.id;
    bed.deploy("v3");
    let ill = capture(&engine).info.id;
    bed.deploy("v2");

    let receipt = restore(&engine, v1);
    assert_eq!((receipt.standing, receipt.restore), (Standing::Target, RestoreNumber(1)));
    assert_eq!((noted.take(), engine.brought()), (ended(1, "v1", true), Some(v1)));
    // Nothing is to be done, and yet it was asked for: what counts for it is measured after it.
    assert_eq!(restore(&engine, v1).restore, RestoreNumber(2));
    assert_eq!(noted.take(), ended(2, "v1", true));

    // The service does not start at the target, so the host goes back.
    let receipt = restore(&engine, ill);
    assert_eq!((receipt.standing, receipt.restore), (Standing::Before, RestoreNumber(3)));
    assert_eq!(noted.take(), ended(3, "v1", true));
    assert!(receipt.backup.is_some());
    assert_eq!(engine.brought(), receipt.backup, "it was put back to that");

    // What is not begun has no number and ends nothing.
    let unknown = SnapshotId(Digest::from_bytes([9; 32]));
    try_restore(&engine, order(unknown, everything())).expect_err("it is not there");
    assert_eq!((noted.take(), engine.brought()), (vec![], receipt.backup));
    drop(engine);
    let engine = open(&bed, &noted);
    assert_eq!(
        noted.take(),
        ended(3, "v1", true),
        "what is measured from now on is measured after all three"
    );
    assert_eq!(engine.brought(), receipt.backup, "that is remembered");
}

#[test]
fn a_host_that_is_stuck_is_at_no_snapshot_and_its_health_begins_anew() {
    let mut bed = Bed::new();
    bed.start = "test -f repaired && touch up".into();
    let noted = Noted::of(&bed);
    let engine = open(&bed, &noted);
    let v1 = capture(&engine).info.id;
    bed.deploy("v2");
    assert_eq!(restore(&engine, v1).standing, Standing::Inconsistent);
    assert_eq!((noted.take(), engine.brought()), (ended(1, "v2", false), None));
    bed.write("repaired", "");
    let forced = Order { force: true, ..order(v1, everything()) };
    assert_eq!(try_restore(&engine, forced).expect("begins").standing, Standing::Target);
    assert_eq!((noted.take(), engine.brought()), (ended(2, "v1", true), Some(v1)));
}

#[test]
fn a_restore_that_is_ended_at_the_start_makes_health_begin_anew() {
    let bed = Bed::new();
    let noted = Noted::of(&bed);
    let engine = open(&bed, &noted);
    let v1 = capture(&engine).info.id;
    // The process ended right after it had begun.
    let goal = serde_json::json!({
        "target": v1, "selection": {}, "reason": "test", "staging": "0193b5a0-0000-7000-8000-000000000001",
    });
    let now = engine.clock().now();
    let new =
        rfs_store::journal::NewRun { operation: operation(1), started_at: now, deadline: now, body: goal };
    engine.journal().begin(&new, "accepted").expect("begins");
    drop(engine);
    let opened = Engine::open(bed.config(), Clocks::from(clock()), noted.clone()).expect("opens");
    let (_, receipt) = opened.recovered.expect("it was interrupted");
    assert_eq!((receipt.standing, receipt.restore), (Standing::Before, RestoreNumber(1)));
    let all = noted.take();
    assert!(!all.is_empty() && all.iter().all(|(number, ..)| *number == 1), "{all:?}");
    assert_eq!(opened.engine.brought(), None, "nothing was changed");
}

#[test]
fn a_machine_keeps_its_id_with_its_store() {
    let bed = Bed::new();
    let first = bed.open().engine.instance().expect("is made");
    let engine = bed.open().engine;
    assert_eq!(engine.instance().expect("is read"), first);
    let other = Bed::new().open().engine.instance().expect("is made");
    assert_ne!(other, first, "another store is another machine");
    drop(engine);
    // What is damaged is not believed; the machine is another one then, and says so from now on.
    let journal = rusqlite::Connection::open(bed.path("store/journal.sqlite")).expect("opens");
    journal.execute_batch("DROP TRIGGER instance_now").expect("dropped");
    journal.execute("UPDATE instance SET id = ?1", [other.to_string()]).expect("written");
    drop(journal);
    let engine = bed.open().engine;
    let new = engine.instance().expect("is made");
    assert!(new != first && new != other);
    let mode = fs::metadata(bed.path("store/journal.sqlite")).expect("is there").permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
}

/// Checks that never come out well.
struct Ill;

impl LocalHealth for Ill {
    fn wait_until_good(&self, _until: Instant, _cancelled: &dyn Fn() -> bool) -> Result<(), Unhealthy> {
        Err(Unhealthy { summary: "http: answered 503".to_owned() })
    }

    fn restore_ended(&self, _number: RestoreNumber) {}
}

#[test]
fn an_administrator_is_told_that_a_restored_host_is_not_well() {
    let bed = Bed::new();
    let engine = Engine::open(bed.config(), Clocks::from(clock()), Arc::new(Ill)).expect("opens").engine;
    let good = capture(&engine).info.id;
    bed.deploy("v2");
    let receipt = restore(&engine, good);
    assert_eq!(receipt.standing, Standing::Target, "a host that is not well is no reason to go back");
    let told = receipt.notes.iter().any(|note| note.contains("not well: http: answered 503"));
    assert!(told, "{:?}", receipt.notes);
}
