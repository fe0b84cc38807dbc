//! A day in the life of a fleet, by the command line alone: a server that is gone, a clone, an ill target, a dead host, one that
//! flaps and one that is busy. Nobody waits for ever, nobody is told a lie, and each message says what to type next.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rfs_tests::bed::{Bed, BedHost, Said, StoreOfCopy, brief, state_of};
use rfs_tests::process::Running;
use rfs_tests::tools::program;
use rfs_tests::tree::digest;
use rfs_tests::wait::{RaiseAtEnd, within};

/// How long anything of this day may take that nobody has to wait for.
const SOON: Duration = Duration::from_secs(60);

/// The fleet of five, web-6 that was taken away, and whatever was read on the terminal.
struct Day {
    bed: Bed,
    read: RefCell<String>,
}

#[test]
fn a_day_in_the_life() {
    let mut day = Day::begin();
    let morning = day.a_server_is_gone();
    day.a_clone_appears();
    day.the_target_is_ill();
    day.bad_release(&morning);
    day.evening();
}

impl Day {
    /// Six hosts that are well. Making web-4 quiet waits for the file `go`, so that it can be kept busy.
    fn begin() -> Self {
        let mut bed = Bed::new(6);
        let config = bed.path().join("coordinator.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        fs::write(&config, format!("stale_after = \"2s\"\n{text}")).expect("written");
        let (config, go) = (bed.hosts[3].path().join("agent.toml"), bed.hosts[3].path().join("go"));
        let text = fs::read_to_string(&config).expect("a configuration");
        let hooks = format!(
            "kind = \"files\"\nquiesce_timeout = \"2m\"\nquiesce = \"touch {}; until test -e {}; do sleep 0.05; done\"\nresume = \"true\"\n",
            bed.hosts[3].path().join("held").display(),
            go.display()
        );
        fs::write(&config, text.replacen("kind = \"files\"\n", &hooks, 1)).expect("written");
        fs::write(go, "").expect("written");
        bed.start();
        bed.await_connected(6);
        Self { bed, read: RefCell::default() }
    }

    /// Types `rfs …`, and reads what it says.
    fn types<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Said {
        let said = self.bed.rfs(arguments);
        self.read.borrow_mut().push_str(&format!("{}\n{}\n", said.out, said.err));
        said
    }

    /// Types `rfs …`, which ends with `code` and says all of `texts`.
    #[track_caller]
    fn hears(&self, line: &str, code: i32, texts: &[&str]) -> Said {
        let said = self.types(line.split(' '));
        assert_eq!(said.code, code, "rfs {line}: {said:?}");
        let all = format!("{}\n{}", said.out, said.err);
        for text in texts {
            assert!(all.contains(text), "rfs {line}: {text:?} is not said: {said:?}");
        }
        said
    }

    /// Takes a checkpoint of every host, and returns its name.
    #[track_caller]
    fn checkpoint(&self) -> String {
        self.hears("checkpoint create", 0, &["is complete"]);
        self.bed.show_checkpoint("latest")["name"].as_str().expect("a name").to_owned()
    }

    fn a_server_is_gone(&mut self) -> String {
        self.bed.hosts[5].kill_agent();
        self.bed.await_host("web-6", SOON, "gone", |host| host["connected"] == false);
        // A checkpoint without it is not whole, and says what to do about a server that is gone for good.
        within(SOON, "it is named as one that may be gone for good", || {
            let said = self.types(["checkpoint", "create", "--timeout", "60s"]);
            assert_eq!(said.code, 1, "{said:?}");
            format!("{}{}", said.out, said.err).contains("rfs host forget web-6").then_some(())
        });
        self.hears("host forget web-6 --yes", 0, &["rfs host accept web-6"]);
        self.a_checkpoint_waits_for_a_busy_host();
        self.checkpoint()
    }

    fn a_checkpoint_waits_for_a_busy_host(&self) {
        let mut busy = self.keep_busy();
        let create = self.bed.rfs_as("alice", ["checkpoint", "create"]);
        let log = self.bed.path().join("create.log");
        let mut create = Running::start("rfs checkpoint create", create, &log);
        within(SOON, "web-4 is shown to wait", || {
            // It is not the latest until it is complete.
            let listed = self.bed.rfs(["checkpoint", "list", "--output", "json"]).json()?;
            let newest = listed["checkpoints"][0]["name"].as_str()?.to_owned();
            let shown = self.hears(&format!("checkpoint show {newest}"), 0, &[]).out;
            let row = shown.lines().find(|line| line.contains("web-4"))?;
            row.contains("waiting for a capture").then_some(())
        });
        fs::write(self.bed.hosts[3].path().join("go"), "").expect("written");
        assert!(busy.wait().success() && create.wait().success(), "both captures end well");
        let told = fs::read_to_string(log).expect("what was printed");
        assert!(told.contains("web-4 preparing, waiting for a capture"), "{told}");
    }

    fn a_clone_appears(&self) {
        let original = self.bed.host("web-5")["instance"].as_str().expect("an instance").to_owned();
        let mut copy = self.bed.hosts[4].copied(StoreOfCopy::Fresh);
        copy.start_agent();
        self.bed.await_host("web-5", SOON, "contested", |host| host["contested"] == true);
        self.hears(
            "checkpoint create --timeout 60s",
            1,
            &["is incomplete", "web-5", "rfs host accept web-5"],
        );
        self.hears("host show web-5", 0, &[&original, "rfs host accept web-5"]);
        self.hears(&format!("host accept web-5 --instance {original}"), 0, &["web-5 is the machine"]);
        self.bed.await_connected(5);
        self.checkpoint();
        copy.kill_agent();
    }

    /// Somebody takes a checkpoint of a release that is ill on web-1, and rolls back to it.
    fn the_target_is_ill(&self) {
        let well = digest(&self.bed.hosts[0].site_files());
        self.bed.hosts[0].release("v2", "broken");
        self.bed.await_host("web-1", SOON, "ill", |host| host["health"] == "BAD");
        self.checkpoint();
        self.bed.hosts[0].release("v3", "ok");
        self.bed.await_connected(5);
        let at_work = digest(&self.bed.hosts[0].site_files());
        assert_ne!(at_work, well);
        let start =
            "rollback start --checkpoint latest --wave 1 --min-healthy 300ms --healthy-deadline 5s --yes";
        self.hears(start, 5, &["is paused", "web-1", "rfs rollback", "abort"]);
        assert_eq!(state_of(&self.bed.rollback(), "web-2"), "UNTOUCHED", "{}", brief(&self.bed.rollback()));
        self.hears("rollback abort latest", 0, &["leaves web-1 changed", "ABORTED", "rfs rollback undo"]);
        self.hears("rollback undo latest --yes", 0, &["SUCCEEDED"]);
        assert_eq!(digest(&self.bed.hosts[0].site_files()), at_work, "it is as it was before the rollback");
    }

    /// A release that is bad everywhere, while web-2 is dead, web-3 flaps and somebody works on web-4.
    fn bad_release(&mut self, morning: &str) {
        let bed = &mut self.bed;
        bed.hosts[..5].iter().for_each(|host| host.release("v4", "broken"));
        bed.hosts[1].kill_agent();
        bed.await_host("web-2", SOON, "gone", |host| host["connected"] == false);
        let start = format!(
            "rollback start --checkpoint {morning} --wave 1 --min-healthy 2s --healthy-deadline 10s --unreachable-after 2s --yes"
        );
        self.hears(&start, 5, &["is paused", "web-2", "rfs rollback retry"]);
        self.bed.start_agent(1);
        self.bed.await_host("web-2", SOON, "back", |host| host["connected"] == true);

        // It goes on with web-2, and stops at the host that is well for moments only.
        let (may_stay, flapper) = (AtomicBool::new(false), &self.bed.hosts[2]);
        thread::scope(|scope| {
            let _end = RaiseAtEnd(&may_stay);
            scope.spawn(|| flap(flapper, &may_stay));
            self.hears("rollback retry latest", 0, &["tries web-2 again", "rfs rollback watch"]);
            self.hears("rollback watch latest", 5, &["is paused", "web-3", "rfs rollback retry"]);
            let rollback = self.bed.rollback();
            assert_eq!(state_of(&rollback, "web-2"), "PASSED", "{}", brief(&rollback));
            assert_eq!(state_of(&rollback, "web-4"), "UNTOUCHED", "{}", brief(&rollback));
        });

        // Somebody captures web-4 by hand. The rollback says so, waits, and goes on.
        let mut busy = self.keep_busy();
        self.hears("rollback retry latest", 0, &["tries web-3 again"]);
        within(SOON, "web-4 is shown to wait", || {
            self.hears("rollback show latest", 0, &[]).out.contains("waiting for a capture").then_some(())
        });
        fs::write(self.bed.hosts[3].path().join("go"), "").expect("written");
        assert!(busy.wait().success(), "the capture ends well");
        self.hears("rollback watch latest", 0, &["SUCCEEDED"]);
    }

    /// Begins `rfs-agent capture` on web-4, which goes on until the file `go` is there.
    fn keep_busy(&self) -> Running {
        let host = &self.bed.hosts[3];
        for file in ["go", "held"] {
            fs::remove_file(host.path().join(file)).expect("it was there");
        }
        let capture = host.rfs_agent_command(["capture", "--reason", "before I try something"]);
        let running = Running::start("rfs-agent capture", capture, &host.path().join("capture.log"));
        within(SOON, "the capture is at work", || host.path().join("held").exists().then_some(()));
        // A second one is told so.
        let said = host.rfs_agent(["capture", "--reason", "me too"]);
        assert!(said.code != 0 && said.err.contains("at work on a capture"), "{said:?}");
        running
    }

    /// Everybody is free and where it was said to be, and whatever was said to be typed can be typed.
    fn evening(&self) {
        for (number, host) in self.bed.hosts[..5].iter().enumerate() {
            let (name, body) = (format!("web-{}", number + 1), host.ask("/").map(|(_, body)| body));
            assert_eq!(
                body,
                Some(format!("<h1>v1 of {name}</h1>\n")),
                "{name} serves what was rolled back to"
            );
            self.bed.await_host(&name, SOON, "free and well", |host| {
                host["owner"].as_str().unwrap_or_default().is_empty() && host["health"] == "GOOD"
            });
        }
        let listed = self.bed.rfs(["rollback", "list", "--output", "json"]).json().expect("JSON");
        let rollbacks = listed["rollbacks"].as_array().expect("a list");
        assert!(rollbacks.len() == 3 && rollbacks.iter().all(|one| one["state"] == "FINISHED"), "{listed}");
        let listed = self.hears("checkpoint list", 0, &[]).out;
        assert!(!listed.contains("creating"), "{listed}");

        let read = self.read.borrow();
        let commands = commands_in(&read);
        assert!(commands.len() >= 6, "much was said to be typed: {commands:?}");
        for command in commands {
            let help = Command::new(program("rfs")).args(command.split(' ')).arg("--help").output();
            assert!(help.expect("rfs runs").status.success(), "there is no command: rfs {command}");
        }
    }
}

/// The site comes and goes, until it may stay.
fn flap(host: &BedHost, may_stay: &AtomicBool) {
    while !may_stay.load(Ordering::Acquire) {
        for what in ["stop", "start"] {
            // The agent starts and stops it too: whoever comes second finds it done.
            let _ = host.site(what);
            thread::sleep(Duration::from_millis(500));
        }
    }
}

/// The commands `rfs GROUP COMMAND` that a text names.
fn commands_in(text: &str) -> BTreeSet<String> {
    let is_word = |word: &&str| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase());
    let after = text.split("rfs ").skip(1);
    let words = after.map(|rest| rest.split_whitespace().take(2).collect::<Vec<_>>());
    words.filter(|words| words.len() == 2 && words.iter().all(is_word)).map(|words| words.join(" ")).collect()
}
