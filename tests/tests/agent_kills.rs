//! The agent is killed at every journalled point of a restore, and the host is as it was or at its target, and says which.
//!
//! The points come from the phase enum, so that a new phase is covered by itself: each must be reached by one of the
//! scenarios, or the test fails.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rfs_agent::engine::Phase;
use rfs_tests::bed::{Bed, BedHost, Said};
use rfs_tests::process::Running;
use rfs_tests::tools::program;
use rfs_tests::wait::until;
use rfs_tests::{skip, tree};

/// How a restore comes by the phase in which it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// Nothing else happens.
    Plain,
    /// The service writes into its tree for as long as it runs.
    Busy,
    /// The verification fails, so the host goes back.
    Failing,
    /// And the way back fails too.
    FailingTwice,
    /// The agent was killed before, and is killed again while it recovers.
    Recovering,
    /// The power goes, and what the journal had not synced is forgotten.
    PowerCut,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario::Plain,
    Scenario::Busy,
    Scenario::Failing,
    Scenario::FailingTwice,
    Scenario::Recovering,
    Scenario::PowerCut,
];

struct Host {
    bed: Bed,
    snapshot: String,
    target: PathBuf,
    before: PathBuf,
}

impl Host {
    fn new() -> Self {
        let bed = Bed::new(1);
        let host = &bed.hosts[0];
        let said = host.rfs_agent(["capture", "--output", "json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let said = host.rfs_agent(["snapshots", "list", "--output", "json"]);
        let text = said.out;
        let at = text.find("\"id\"").expect("one snapshot is listed");
        let snapshot = text[at + 4..].split('"').nth(1).expect("the id is text").to_owned();
        let (target, before) = (host.path().join("target"), host.path().join("before"));
        tree::copy(&host.site_files(), &target);
        host.deploy("v2", "ok");
        fs::remove_file(host.site_files().join("assets/v1.css")).expect("it was there");
        tree::copy(&host.site_files(), &before);
        Self { bed, snapshot, target, before }
    }

    fn host(&self) -> &BedHost {
        &self.bed.hosts[0]
    }

    /// The state before a restore, with the service up.
    fn reset(&self) {
        let host = self.host();
        host.site("stop");
        fs::remove_dir_all(host.site_files()).expect("the tree can be removed");
        tree::copy(&self.before, &host.site_files());
        assert_eq!(host.site("start"), 0);
    }

    fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("rfs-agent"));
        command.args(arguments).arg("--config").arg(self.host().path().join("agent.toml"));
        command
    }

    /// Runs `command` until it pauses at `point` and kills it there; false if it ended before.
    fn kill_at(&self, point: &str, mut command: Command) -> bool {
        let pause = self.host().path().join("paused");
        let _ = fs::remove_file(&pause);
        command.env("RFS_PAUSE_AT", point).env("RFS_PAUSE_FILE", &pause);
        let log = self.host().path().join("killed.log");
        let _ = fs::remove_file(&log);
        let mut running = Running::start("the restore", command, &log);
        until("it pauses or ends", || (pause.exists() || !running.is_running()).then_some(()));
        let paused = pause.exists();
        running.kill_9();
        paused
    }

    /// Restores in a way that leads to `point`, and kills the agent there; false if it is not reached.
    fn restore_and_kill(&self, scenario: Scenario, point: &str) -> bool {
        let mut restore = self.agent(&["restore", &self.snapshot]);
        match scenario {
            Scenario::Plain => self.kill_at(point, restore),
            Scenario::Busy => {
                let writer = Writer::start(self.host());
                let reached = self.kill_at(point, restore);
                writer.stop();
                reached
            }
            Scenario::Failing => {
                restore.env("RFS_FAIL_AT", "verifying");
                self.kill_at(point, restore)
            }
            Scenario::FailingTwice => {
                restore.env("RFS_FAIL_AT", "verifying,flipping_back");
                self.kill_at(point, restore)
            }
            Scenario::Recovering => {
                assert!(self.kill_at("verifying", restore), "every restore verifies");
                self.kill_at(point, self.agent(&["status"]))
            }
            Scenario::PowerCut => {
                let reached = self.kill_at(point, restore);
                if reached {
                    self.forget_unsynced();
                }
                reached
            }
        }
    }

    /// Takes the arrows out of the journal that nothing synced came after.
    fn forget_unsynced(&self) {
        let journal = self.host().store().join("journal.sqlite");
        let journal = rusqlite::Connection::open(journal).expect("the journal opens");
        let unsynced = "DELETE FROM arrow WHERE run = (SELECT max(run) FROM run) AND position > (SELECT max(position) \
                        FROM arrow WHERE run = (SELECT max(run) FROM run) AND phase NOT IN ('flipping', 'starting'))";
        journal.execute(unsynced, ()).expect("the journal can be written");
    }

    /// Lets the agent recover, and compares what it says with what is there.
    fn check(&self, scenario: Scenario, point: &str) {
        let host = self.host();
        let case = format!("killed at {point} ({scenario:?})");
        let said = host.rfs_agent(["status", "--output", "json"]);
        let status = said.json().unwrap_or_else(|| panic!("{case}: {said:?}"));
        if !status["inconsistent"].is_null() {
            assert_eq!(said.code, 5, "{case}: {said:?}");
            assert_eq!(
                scenario,
                Scenario::FailingTwice,
                "{case}: only a way back that fails ends so: {said:?}"
            );
            let said = self.restore_by_force();
            assert_eq!(said.code, 0, "{case}: the way out works: {said:?}");
            return self.compare(&case, &self.target);
        }
        assert_eq!(said.code, 0, "{case}: {said:?}");
        let standing = match status["recovered"]["standing"].as_str() {
            Some(standing) => standing.to_owned(),
            // It had ended before it was killed.
            None => status["last_restore"].as_str().unwrap_or_default().to_owned(),
        };
        let side = match standing.as_str() {
            "BEFORE" => &self.before,
            "TARGET" => &self.target,
            text if text.contains(": as before, not at target") => &self.before,
            text if text.contains(": at target") => &self.target,
            _ => panic!("{case}: it does not say where it stands: {said:?}"),
        };
        self.compare(&case, side);
        assert_eq!(host.site("status"), 0, "{case}: the service runs");
    }

    fn restore_by_force(&self) -> Said {
        rfs_tests::bed::run(&mut self.agent(&["restore", &self.snapshot, "--force"]))
    }

    fn compare(&self, case: &str, side: &Path) {
        let files = self.host().site_files();
        // What the busy service wrote is its own; all else must be equal.
        let _ = fs::remove_file(files.join("busy.txt"));
        match tree::difference(side, &files) {
            Some(difference) => {
                let difference: Vec<_> = difference.lines().filter(|line| !line.ends_with(" ./")).collect();
                assert!(difference.is_empty(), "{case}: between the two: {difference:?}");
            }
            None => assert_eq!(tree::listing(side), tree::listing(&files), "{case}"),
        }
        let left: Vec<_> = fs::read_dir(self.host().path())
            .into_iter()
            .chain(fs::read_dir(&files))
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(".rfs-"))
            .collect();
        assert!(left.is_empty(), "{case}: {left:?} is left behind");
    }
}

/// Writes into the site for as long as its service runs.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    fn start(host: &BedHost) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, file) = (stop.clone(), host.site_files().join("busy.txt"));
        let pid = host.path().join("site.pid");
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) && pid.exists() {
                if let Ok(mut file) = File::options().append(true).create(true).open(&file) {
                    let _ = writeln!(file, "busy");
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a writer does not panic");
    }
}

#[test]
fn an_agent_that_is_killed_at_any_journalled_point_leaves_the_host_on_one_side_and_says_which() {
    if tree::difference(Path::new("/nonexistent-a"), Path::new("/nonexistent-b")).is_none() {
        skip("agent_kills: metadata", "rsync is not installed, so only names and contents are compared");
    }
    let host = Host::new();
    let mut reached = 0;
    for phase in Phase::ALL {
        let mut cases = Vec::new();
        for point in [phase.to_string(), format!("{phase}.done")] {
            for scenario in SCENARIOS {
                host.reset();
                if host.restore_and_kill(scenario, &point) {
                    cases.push(format!("{point} ({scenario:?})"));
                }
                host.check(scenario, &point);
            }
        }
        assert!(
            !cases.is_empty(),
            "no scenario comes by {phase}: add one, or build with --features rfs-agent/failpoints"
        );
        reached += cases.len();
        println!("{phase}: killed at {}", cases.join(", "));
    }
    println!("{reached} points of {} phases", Phase::ALL.len());
}
