//! The campaign: workers start, say what they do, and are killed; then everything is compared.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rfs_agent::engine::Engine;
use rfs_model::Standing;
use rfs_store::restore::{Progress, Rules, StagingName, Unmanaged, discard, flip, plan, stage};
use rfs_store::{Cancel, FilesSpec, Share, SnapshotInfo, Store, Tree};
use rustix::fs::{XattrFlags, setxattr};

use crate::dice::Dice;
use crate::garden;
use crate::host::{Host, ROOTS, number_of};
use crate::ledger::{Ledger, Live};
use crate::listing::{difference, list};
use crate::tally::{Activity, OPENING, RESTORING, Tally};
use crate::worker::{POLICY, VARIABLES};

/// How many kills of the program that writes.
fn kills() -> u64 {
    let asked = std::env::var("RFS_KILLS").ok().and_then(|kills| kills.parse().ok());
    asked.unwrap_or(if std::env::var_os("RFS_LONG").is_some() { 500 } else { 25 })
}

#[test]
fn whatever_is_killed_the_store_is_whole_every_snapshot_restores_and_the_host_is_on_one_side() {
    let seed = std::env::var("RFS_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    println!("RFS_KILL_SEED={seed}");
    let folder = folder();
    let begun = Instant::now();
    let mut campaign = Campaign::new(folder.path(), seed);
    let last = kills();
    for kill in 1..=last {
        campaign.kill();
        // Now and then the next program finds what two have left.
        if !campaign.dice.once_in(4) || kill == last {
            let everything = kill % 5 == 0 || kill == last;
            campaign.compare(&format!("RFS_KILL_SEED={seed}, kill {kill}"), everything);
        }
        if kill % 50 == 0 {
            println!("{kill} kills in {:.0} s, all is whole", begun.elapsed().as_secs_f64());
        }
    }
    println!("{last} kills in {:.0} s; what they interrupted:", begun.elapsed().as_secs_f64());
    campaign.tally.print();
    println!("{:?}", campaign.counts);
}

/// A folder in memory where that can be, so that many kills take little time: what a program that was killed had written
/// is there on any file system. A long campaign is on the disk that `TMPDIR` names.
fn folder() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm").ok().filter(|_| std::env::var_os("RFS_LONG").is_none());
    let keeps_all =
        |folder: &tempfile::TempDir| setxattr(folder.path(), "user.x", b"", XattrFlags::empty()).is_ok();
    memory.filter(keeps_all).unwrap_or_else(|| tempfile::tempdir().expect("a folder"))
}

struct Campaign {
    host: Host,
    scratch: PathBuf,
    dice: Dice,
    ledger: Ledger,
    tally: Tally,
    counts: Counts,
    next: u64,
}

/// What was compared.
#[derive(Debug, Default)]
struct Counts {
    sides: BTreeMap<&'static str, u32>,
    restored_equal: u32,
    committed: u32,
    restored: u32,
    verified: u32,
    readers_killed: u32,
}

impl Campaign {
    fn new(folder: &Path, seed: u64) -> Self {
        let host = Host::at(&folder.join("host"));
        let scratch = folder.join("scratch");
        let mut dice = Dice(seed);
        garden::plant(&mut dice, &host.live());
        host.record(0);
        // A store for the reader to open.
        drop(host.open().expect("a new store"));
        let (ledger, tally, counts) = (Ledger::new(0), Tally::default(), Counts::default());
        Self { host, scratch, dice, ledger, tally, counts, next: 1 }
    }

    /// Starts the programs, and kills each at a random moment.
    fn kill(&mut self) {
        let all = ["capture", "restore", "collect"];
        let mut work: Vec<&str> = all.into_iter().filter(|_| self.dice.once_in(2)).collect();
        if self.dice.once_in(2) {
            work = all.to_vec();
        }
        let writer = Running::start(&self.host, &work.join(" "), self.dice.next(), self.next);
        self.next += 10_000;
        let reader = (!self.dice.once_in(4)).then(|| Running::start(&self.host, "read", self.dice.next(), 0));
        let opened = work.is_empty() || self.dice.once_in(12);
        let mut what = if opened { OPENING } else { begun_by(work[self.dice.below(work.len())]) };
        if what == RESTORING && self.dice.once_in(2) {
            what = PHASES[self.dice.below(PHASES.len())];
        }
        let moment = self.moment(what);
        let what = *self.dice.pick(&[OPENING, "verifying", "verifying", "reading"]);
        let readers = self.moment(what);
        thread::scope(|threads| {
            let reader = reader.map(|reader| threads.spawn(move || reader.kill(readers)));
            self.hear(&writer.kill(moment));
            if let Some(read) = reader.map(|reader| reader.join().expect("no panic")) {
                self.counts.readers_killed += 1;
                self.hear(&read);
            }
        });
    }

    /// A moment within the time that something usually takes, or as soon as a number of things are said.
    fn moment(&mut self, what: &'static str) -> Moment {
        let unknown = Duration::from_millis(100);
        let known = what.replace("phase", "restoring:");
        let after = self.tally.length(&known).unwrap_or(unknown).mul_f64(self.dice.share() * 1.1);
        match what {
            // How long things take is not known yet.
            _ if self.tally.length(&known).is_none() => Moment::Said(60),
            OPENING => Moment::Within { what, number: 0, after },
            _ if self.dice.once_in(3) => Moment::Said(self.dice.below(40)),
            _ => Moment::Within { what, number: self.dice.below(3) + 1, after },
        }
    }

    fn hear(&mut self, said: &Said) {
        let mut activity = Activity::start(said.started);
        for (line, at) in &said.lines {
            self.counts.committed += u32::from(line.starts_with("captured "));
            self.counts.restored += u32::from(line.starts_with("restored "));
            self.counts.verified += u32::from(line.starts_with("verified "));
            activity.hear(line, *at, &mut self.tally);
            self.ledger.hear(line);
        }
        if said.ended {
            self.ledger
                .failures
                .push(format!("a worker has ended by itself, after: {:?}", said.lines.last()));
        }
        activity.killed(said.killed, &mut self.tally);
    }

    /// Recovers the host, and compares all that must hold.
    fn compare(&mut self, when: &str, everything: bool) {
        let opened = self.host.open().unwrap_or_else(|refusal| panic!("{when}: {refusal:?}"));
        let standing = opened.recovered.map(|(_, receipt)| receipt.standing);
        self.ledger.recovered(match standing {
            Some(Standing::Before) => Some("before"),
            Some(Standing::Target) => Some("target"),
            Some(Standing::Inconsistent) => Some("stuck"),
            None => None,
        });
        assert!(self.ledger.failures.is_empty(), "{when}: {:?}", self.ledger.failures);
        self.compare_live(when);
        self.compare_snapshots(&opened.engine, when);
        let store = opened.engine.store();
        let report = store.verify(Share::Whole, &Cancel::new()).expect("verifies");
        assert!(report.damage.is_empty(), "{when}: {:?}", report.damage);
        assert_eq!(leftovers(self.host.root()), [""; 0].map(PathBuf::from), "{when}");
        if everything {
            for info in store.snapshots().expect("lists") {
                self.compare_restored(store, &info, when);
            }
        }
    }

    fn compare_live(&mut self, when: &str) {
        let found = self.host.list();
        let side = match self.ledger.live {
            Live::At(number) => {
                let wanted = self.host.recorded(number).expect("it was recorded");
                assert!(
                    found == wanted,
                    "{when}: the live tree is not {number}:\n{}",
                    difference(&found, &wanted)
                );
                "as the last word said"
            }
            Live::Either { before, target } => {
                let is = |number| self.host.recorded(number).is_some_and(|wanted| wanted == found);
                match (is(before), is(target)) {
                    (true, _) => "before, and the restore had not begun",
                    (false, true) => "at the target, and the restore had ended",
                    (false, false) => {
                        let wanted = self.host.recorded(before).expect("it was recorded");
                        panic!("{when}: between {before} and {target}:\n{}", difference(&found, &wanted))
                    }
                }
            }
            Live::Deploying => "a deploy was interrupted",
        };
        *self.counts.sides.entry(side).or_default() += 1;
        self.host.record(self.next);
        self.ledger.live = Live::At(self.next);
        self.next += 1;
    }

    /// What was said to be committed is there, unless retention may have forgotten it.
    fn compare_snapshots(&mut self, engine: &Engine, when: &str) {
        let snapshots = engine.store().snapshots().expect("lists");
        let there: BTreeMap<String, &SnapshotInfo> =
            snapshots.iter().map(|info| (info.id.to_string(), info)).collect();
        for (id, number) in &self.ledger.committed {
            match there.get(id) {
                Some(info) => assert_eq!(number_of(&info.label), *number, "{when}: {id}"),
                None => {
                    assert!(self.ledger.collecting, "{when}: {id} is gone, and nothing was collected");
                    assert!(!self.ledger.pinned.contains(id), "{when}: {id} is gone, and was pinned");
                    // Those that were kept instead are newer.
                    assert!(
                        snapshots.len() >= POLICY.last as usize,
                        "{when}: {id} is gone, and few are left"
                    );
                }
            }
        }
        assert!(snapshots.is_sorted_by(|a, b| a.sequence < b.sequence), "{when}: {snapshots:?}");
        self.ledger.committed = there.iter().map(|(id, info)| (id.clone(), number_of(&info.label))).collect();
        // One that was set or taken in the moment of the kill counts as the store has it.
        self.ledger.pinned =
            there.iter().filter(|(_, info)| info.marks.pinned.is_some()).map(|(id, _)| id.clone()).collect();
        self.ledger.collecting = false;
    }

    /// Restores a snapshot into an empty place, and compares that with the listing of its state.
    fn compare_restored(&mut self, store: &Store, info: &SnapshotInfo, when: &str) {
        let number = number_of(&info.label);
        fs::create_dir(&self.scratch).expect("an empty place");
        let mut target = store.snapshot(info.id).and_then(|snapshot| snapshot.tree(&Host::component()));
        let roots = target.as_mut().map(|tree| moved(tree, &self.scratch)).unwrap_or_default();
        let target = target.unwrap_or_else(|error| panic!("{when}: {}: {error}", info.id));
        let spec = FilesSpec { paths: roots, exclude: Vec::new(), ..FilesSpec::default() };
        let present = store.scan(&spec, &Cancel::new()).expect("scans");
        let plan = plan(&present, &target, &Rules::default()).expect("a plan");
        let name = StagingName::new("compare").expect("a name");
        let staged = stage(&plan, store, &name, Unmanaged::Refuse, &Progress::default());
        let staged = staged.unwrap_or_else(|error| panic!("{when}: {} is lost: {error:?}", info.id));
        flip(&staged).expect("flipped");
        discard(&staged).expect("discarded");
        let (found, wanted) = (list(&self.scratch, &ROOTS), self.host.recorded(number).expect("recorded"));
        assert!(found == wanted, "{when}: {} is not {number}:\n{}", info.id, difference(&found, &wanted));
        fs::remove_dir_all(&self.scratch).expect("removed");
        self.counts.restored_equal += 1;
    }
}

/// Moves a tree's roots into a folder, and says where they are then.
fn moved(tree: &mut Tree, folder: &Path) -> Vec<PathBuf> {
    let place = |root: &mut rfs_store::Root| {
        let name = root.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let path = folder.join(Path::new(std::ffi::OsStr::from_bytes(&name)));
        root.path = path.as_os_str().as_bytes().to_vec();
        path
    };
    tree.roots.iter_mut().map(place).collect()
}

/// What a crash leaves and a recovery removes: staging folders, and files in the making.
fn leftovers(root: &Path) -> Vec<PathBuf> {
    let mut pending: Vec<PathBuf> = ["live", "store"].iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".rfs-") || name.ends_with(".part") {
                found.push(entry.path());
            }
            if entry.file_type().expect("a type").is_dir() {
                pending.push(entry.path());
            }
        }
    }
    found
}

/// A program of ours that runs.
struct Running {
    child: Child,
    lines: Receiver<(String, Instant)>,
    started: Instant,
}

/// What a program said until it was killed.
struct Said {
    started: Instant,
    lines: Vec<(String, Instant)>,
    killed: Instant,
    /// It was not killed, but had ended.
    ended: bool,
}

/// When a program is killed.
enum Moment {
    /// When it has said so many lines.
    Said(usize),
    /// So long after it began something for so many times.
    Within { what: &'static str, number: usize, after: Duration },
}

/// The line that something begins with.
fn begun_by(work: &str) -> &'static str {
    match work {
        "capture" => "capturing",
        "restore" => RESTORING,
        _ => "collecting",
    }
}

/// The lines that short phases of a restore begin with, each a moment of its own.
const PHASES: [&str; 5] =
    ["phase staging", "phase flipping", "phase flipping", "phase committed", "phase discarding"];

/// A program that waits longer is killed whatever it is at.
const PATIENCE: Duration = Duration::from_secs(4);

impl Running {
    #[expect(clippy::disallowed_methods, reason = "a test runs the program that it kills")]
    fn start(host: &Host, work: &str, seed: u64, first: u64) -> Self {
        let values =
            [host.root().display().to_string(), work.to_owned(), seed.to_string(), first.to_string()];
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "worker::works", "--nocapture"])
            .envs(VARIABLES.into_iter().zip(values))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let (send, lines) = channel();
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                // Other lines are the test harness's own; the first of ours may follow one of them.
                if let Some((_, line)) = line.split_once('@') {
                    let _ = send.send((line.to_owned(), Instant::now()));
                }
            }
        });
        Self { child, lines, started: Instant::now() }
    }

    /// Kills it at the moment, and returns all that it said.
    fn kill(mut self, moment: Moment) -> Said {
        let mut lines: Vec<(String, Instant)> = Vec::new();
        let mut until = self.started + PATIENCE;
        let mut begun = 0;
        if let Moment::Within { number: 0, after, .. } = moment {
            until = self.started + after;
        }
        while !matches!(moment, Moment::Said(most) if lines.len() >= most) {
            let left = until.saturating_duration_since(Instant::now());
            // It ends by itself only when it has said why.
            let Ok((line, at)) = self.lines.recv_timeout(left) else { break };
            if let Moment::Within { what, number, after } = moment
                && line.starts_with(what)
            {
                begun += 1;
                until = if begun == number { at + after } else { until };
            }
            lines.push((line, at));
        }
        let ended = self.child.try_wait().expect("it is ours").is_some();
        self.child.kill().expect("it is ours");
        let killed = Instant::now();
        self.child.wait().expect("it is ours");
        lines.extend(self.lines);
        Said { started: self.started, lines, killed, ended }
    }
}
