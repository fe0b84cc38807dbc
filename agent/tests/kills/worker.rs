//! The programs that are killed: one that writes to the store and changes the host, one that reads beside it.
//!
//! A worker works until it is killed, and says each thing that it is about to do, and each that is durable.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rfs_agent::engine::{Engine, Order};
use rfs_model::{OperationId, Reason, SnapshotId, Standing};
use rfs_store::{Cancel, EntryKind, KeepPolicy, Share, SnapshotInfo, Store};
use rustix::process::{Signal, set_parent_process_death_signal};
use uuid::Uuid;

use crate::dice::Dice;
use crate::garden;
use crate::host::{Host, Number, number_of};

/// What retention keeps in this campaign.
pub(crate) const POLICY: KeepPolicy = KeepPolicy { last: 4, ..KeepPolicy::NOTHING };
const MOST_PINS: usize = 2;

/// What a worker is told: by whom, in which folder, and with which choices.
pub(crate) const VARIABLES: [&str; 4] = ["KILLS_HOST", "KILLS_WORK", "KILLS_SEED", "KILLS_FIRST"];

#[test]
#[ignore = "the campaign runs it, and kills it"]
fn works() {
    let [host, work, seed, first] = VARIABLES.map(|name| std::env::var(name).unwrap_or_default());
    assert!(!host.is_empty(), "the campaign says where");
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a plain signal");
    let (seed, first) = (seed.parse().expect("a number"), first.parse().expect("a number"));
    let host = Host::at(Path::new(&host));
    match work.as_str() {
        "read" => read(&host, seed),
        work => Writer { host, seed, next: AtomicU64::new(first) }.work(work),
    }
}

/// Says a line at once and whole.
fn say(line: &str) {
    let line = format!("@{line}\n");
    // The campaign is gone: nobody listens any more.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

fn failed(what: &str, error: &dyn std::fmt::Debug) -> ! {
    say(&format!("failed {what}: {error:?}").replace('\n', " "));
    std::process::exit(1);
}

/// Holds the store's lock: what it does at the same time is what one agent may do at the same time.
struct Writer {
    host: Host,
    seed: u64,
    next: AtomicU64,
}

impl Writer {
    fn work(&self, work: &str) {
        let opened = self.host.open().unwrap_or_else(|refusal| failed("open", &refusal));
        let standing = opened.recovered.map(|(_, receipt)| receipt.standing);
        say(match standing {
            Some(Standing::Before) => "opened before",
            Some(Standing::Target) => "opened target",
            Some(Standing::Inconsistent) => "opened stuck",
            None => "opened",
        });
        let engine = &opened.engine;
        // Pins and the collector's choice are the parent's to check, so each is told in one piece with what it does.
        let told = &Mutex::new(());
        thread::scope(|threads| {
            if work.contains("collect") {
                threads.spawn(move || collect(engine, told));
            }
            let does = |what| work.contains(what);
            if does("capture") || does("restore") {
                threads.spawn(move || self.change_host(engine, does("capture"), does("restore")));
            }
        });
        // With nothing to do it is killed while it recovers, or waits here.
        loop {
            thread::park();
        }
    }

    /// Deploys, captures and restores in turn, as one agent does.
    fn change_host(&self, engine: &Engine, captures: bool, restores: bool) {
        let mut dice = Dice(self.seed);
        let mut here = self.deploy(&mut dice);
        loop {
            if captures && (!restores || dice.once_in(2)) {
                if !dice.once_in(5) {
                    here = self.deploy(&mut dice);
                }
                capture(engine, here, &mut dice);
            } else {
                here = self.restore(engine, here, &mut dice);
            }
        }
    }

    fn deploy(&self, dice: &mut Dice) -> Number {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        say("deploying");
        garden::change(dice, &self.host.live());
        self.host.record(number);
        say(&format!("deployed {number}"));
        number
    }

    fn restore(&self, engine: &Engine, here: Number, dice: &mut Dice) -> Number {
        let snapshots = engine.store().snapshots().unwrap_or_else(|error| failed("list", &error));
        if snapshots.is_empty() {
            capture(engine, here, dice);
            return here;
        }
        let target: &SnapshotInfo = dice.pick(&snapshots);
        let there = number_of(&target.label);
        say(&format!("restoring {here} {there}"));
        let order = Order {
            operation: self.operation(dice),
            target: target.id,
            selection: Default::default(),
            until: Instant::now() + Duration::from_secs(120),
            reason: here.to_string(),
            command: None,
            force: false,
            choices: Default::default(),
        };
        let receipt =
            match engine.restore(order, &|progress| say(&format!("phase {}", progress.phase.as_str()))) {
                Ok(receipt) => receipt,
                Err(refusal) if refusal.reason == Reason::SnapshotNotFound => {
                    say("refused");
                    return here;
                }
                Err(refusal) => failed("restore", &refusal),
            };
        match (&receipt.failure, receipt.standing) {
            (None, Standing::Target) => {
                let backup = receipt.backup.map(|backup| backup.to_string()).unwrap_or_default();
                say(&format!("restored {there} {here} {backup}"));
                there
            }
            // The collector was faster than the choice.
            (Some(failure), Standing::Before) if failure.reason == Reason::SnapshotNotFound => {
                say("refused");
                here
            }
            _ => failed("restore", &receipt),
        }
    }

    fn operation(&self, dice: &mut Dice) -> OperationId {
        let number = u128::from(self.next.load(Ordering::Relaxed)) << 64 | u128::from(dice.next());
        OperationId::from_uuid(Uuid::from_u128(number))
    }
}

fn capture(engine: &Engine, here: Number, dice: &mut Dice) {
    say(&format!("capturing {here}"));
    let operation = OperationId::from_uuid(Uuid::from_u128(u128::from(dice.next())));
    let captured = engine.capture(&Default::default(), &here.to_string(), operation, &Cancel::new());
    let id = captured.unwrap_or_else(|refusal| failed("capture", &refusal)).info.id;
    say(&format!("captured {here} {id}"));
    if dice.once_in(4) {
        pin(engine, id);
    }
}

/// Pins a snapshot, and takes the pin from the oldest of too many.
fn pin(engine: &Engine, id: SnapshotId) {
    // The newest cannot have been forgotten.
    engine.store().pin(id, "the campaign").unwrap_or_else(|error| failed("pin", &error));
    say(&format!("pinned {id}"));
    let snapshots = engine.store().snapshots().unwrap_or_else(|error| failed("list", &error));
    let pinned: Vec<_> = snapshots.iter().filter(|snapshot| snapshot.marks.pinned.is_some()).collect();
    for old in pinned.iter().take(pinned.len().saturating_sub(MOST_PINS)) {
        say(&format!("unpinned {}", old.id));
        engine.store().unpin(old.id).unwrap_or_else(|error| failed("unpin", &error));
    }
}

fn collect(engine: &Engine, told: &Mutex<()>) {
    loop {
        let _told = told.lock().expect("no panic");
        say("collecting");
        let report = engine.store().collect(&POLICY, &Cancel::new());
        let report = report.unwrap_or_else(|error| failed("collect", &error));
        let forgotten: Vec<String> = report.forgotten.iter().map(ToString::to_string).collect();
        say(&format!("collected {} {} {}", report.freed.0, report.rewritten.0, forgotten.join(" ")));
        // Leaves the other threads a turn.
        thread::sleep(Duration::from_millis(5));
    }
}

/// Verifies, and reads snapshots back, beside whoever writes.
fn read(host: &Host, seed: u64) {
    let mut dice = Dice(seed);
    loop {
        let store = match Store::open_read_only(&host.store()) {
            Ok(store) => store,
            Err(error) => failed("open for reading", &error),
        };
        for _ in 0..=dice.below(3) {
            say("verifying");
            match store.verify(Share::Whole, &Cancel::new()) {
                Ok(report) if report.damage.is_empty() => {
                    say(&format!("verified {} {}", report.objects, report.snapshots));
                }
                Ok(report) => failed("verify", &report.damage),
                Err(error) => failed("verify", &error),
            }
            let snapshots = store.snapshots().unwrap_or_else(|error| failed("list", &error));
            if snapshots.is_empty() {
                continue;
            }
            let chosen: &SnapshotInfo = dice.pick(&snapshots);
            say("reading");
            if let Err(error) = read_back(host, &store, chosen) {
                let listed = store.snapshots().unwrap_or_else(|error| failed("list", &error));
                if listed.iter().any(|listed| listed.id == chosen.id) {
                    failed("read back", &error);
                }
            }
            say("read");
        }
    }
}

fn read_back(host: &Host, store: &Store, info: &SnapshotInfo) -> Result<(), Box<dyn std::error::Error>> {
    let listing = host.recorded(number_of(&info.label)).ok_or("no listing")?;
    let tree = store.snapshot(info.id)?.tree(&Host::component())?;
    let scratch = host.root().join("read back");
    for root in &tree.roots {
        let name = root.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        for entry in &root.entries {
            let EntryKind::File { size, content, .. } = &entry.kind else { continue };
            let file = File::create(&scratch)?;
            store.write_content(content, &file)?;
            let digest = blake3::hash(&std::fs::read(&scratch)?);
            let path = if entry.path.is_empty() { name.to_vec() } else { [name, b"/", &entry.path].concat() };
            let wanted = format!("{} {size} {digest}", String::from_utf8(path)?);
            if !listing.lines().any(|line| line.starts_with(&wanted)) {
                return Err(format!("{wanted} is not what was there").into());
            }
        }
    }
    Ok(())
}
