//! A fleet on this machine: one coordinator, some agents, a web service on each host.

mod host;
mod layout;

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::machine_clock::{HOUR, MachineClock};
use crate::process::Running;
use crate::tools::program;
use crate::wait::{HANG, until};

pub use host::{BedHost, StoreOfCopy};
pub use layout::{Layout, Timing};

/// The trust domain of every bed.
pub const TRUST_DOMAIN: &str = "bed.test";

/// A fleet on this machine. Dropping it ends every process and removes every file.
pub struct Bed {
    /// The running coordinator.
    pub coordinator: Option<Running>,
    /// The hosts, by index.
    pub hosts: Vec<BedHost>,
    /// The clock of the coordinator's machine, where the layout has one that can be set.
    pub clock: Option<MachineClock>,
    address: SocketAddr,
    folder: TempDir,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Bed {
    /// Makes certificates, configurations and a running site for each of `count` hosts; starts no coordinator and no agent.
    pub fn new(count: usize) -> Self {
        Self::laid_out(&Layout { hosts: count, ..Layout::default() })
    }

    /// Makes certificates, configurations and running sites; starts no coordinator and no agent.
    pub fn laid_out(layout: &Layout) -> Self {
        let folder = tempfile::Builder::new().prefix("rfs-bed-").tempdir().expect("a temporary folder");
        let address = free_address();
        let clock = layout.clocks.then(|| MachineClock::new(folder.path().join("clock"))).flatten();
        let hosts =
            (1..=layout.hosts).map(|number| BedHost::new(folder.path(), number, layout, address)).collect();
        let bed = Self { coordinator: None, hosts, clock, address, folder };
        // Certificates are older than the steps of the clocks are long.
        bed.set_clock(-100 * HOUR);
        bed.pki(&["init", "--trust-domain", TRUST_DOMAIN]);
        bed.pki(&["issue", "coordinator", "main", "--dns", "localhost,127.0.0.1"]);
        bed.pki(&["issue", "operator", "alice"]);
        bed.pki(&["issue", "operator", "viewer"]);
        bed.write_coordinator_config();
        for host in &bed.hosts {
            bed.pki(&["issue", "agent", &host.name]);
            host.write_config();
            host.deploy("v1", "ok");
            host.site("start");
        }
        bed.set_clock(0);
        bed
    }

    /// A bed whose coordinator and agents run and are connected.
    pub fn started(count: usize) -> Self {
        let mut bed = Self::new(count);
        bed.start();
        bed.await_connected(count);
        bed
    }

    /// Starts the coordinator and every agent.
    pub fn start(&mut self) {
        self.start_coordinator();
        self.hosts.iter_mut().for_each(BedHost::start_agent);
    }

    /// Sets the clock of the coordinator's machine to so many seconds after the true time, where the layout has one.
    pub fn set_clock(&self, seconds: i64) {
        if let Some(clock) = &self.clock {
            clock.set(seconds);
        }
    }

    /// The folder of everything.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the coordinator listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Types `rfs pki …` with the bed's own folder of certificates.
    pub fn pki(&self, arguments: &[&str]) {
        let folder = self.path().display().to_string();
        let place: &[&str] =
            if arguments[0] == "init" { &["--dir", &folder] } else { &["--ca-dir", &folder] };
        let mut command = Command::new(program("rfs"));
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        let said = run(command.arg("pki").args(arguments).args(place));
        assert_eq!(said.code, 0, "rfs pki {arguments:?}: {said:?}");
    }

    fn write_coordinator_config(&self) {
        let text = format!(
            r#"listen = "{address}"
trust_domain = "{TRUST_DOMAIN}"
[tls]
ca = "ca.pem"
certificate = "main.pem"
key = "main.key"
[store]
path = "coordinator.db"
[roles]
alice = ["operator", "approver"]
viewer = ["viewer"]
"#,
            address = self.address,
        );
        fs::write(self.path().join("coordinator.toml"), text).expect("the bed can be written to");
    }

    /// Starts the coordinator and waits until it can be reached.
    pub fn start_coordinator(&mut self) {
        let ready = self.path().join("ready");
        let _ = fs::remove_file(&ready);
        let mut command = Command::new(program("rfs"));
        command.arg("serve").arg("--config").arg(self.path().join("coordinator.toml"));
        command.arg("--ready-file").arg(&ready);
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        let mut running = Running::start("rfs serve", command, &self.path().join("coordinator.log"));
        until("the coordinator is ready", || {
            assert!(running.is_running(), "the coordinator ended: {}", running.log());
            ready.exists().then_some(())
        });
        self.coordinator = Some(running);
    }

    /// Kills the coordinator with SIGKILL.
    pub fn kill_coordinator(&mut self) {
        self.coordinator.take().expect("the coordinator runs").kill_9();
    }

    /// Starts the agent of a host.
    pub fn start_agent(&mut self, index: usize) {
        self.hosts[index].start_agent();
    }

    /// Keeps a copy of the coordinator's store, which nobody may have open.
    pub fn copy_store(&self, to: &Path) {
        assert!(self.coordinator.is_none(), "the coordinator runs");
        fs::create_dir(to).expect("the bed can be written to");
        for file in self.store_files() {
            fs::copy(&file, to.join(file.file_name().expect("it has a name")))
                .expect("the store can be copied");
        }
    }

    /// Puts a copy of the coordinator's store in the place of the present one.
    pub fn put_store_back(&self, from: &Path) {
        assert!(self.coordinator.is_none(), "the coordinator runs");
        for file in self.store_files() {
            fs::remove_file(file).expect("the store can be removed");
        }
        for file in fs::read_dir(from).expect("there is a copy").flatten() {
            fs::copy(file.path(), self.path().join(file.file_name())).expect("the store can be put back");
        }
    }

    /// The database with what SQLite keeps beside it.
    fn store_files(&self) -> Vec<PathBuf> {
        let names = ["coordinator.db", "coordinator.db-wal", "coordinator.db-shm"];
        names.iter().map(|name| self.path().join(name)).filter(|path| path.exists()).collect()
    }

    /// Waits until so many hosts are connected and their health is good.
    pub fn await_connected(&self, count: usize) {
        let well = |host: &Value| host["connected"] == true && host["health"] == "GOOD";
        self.await_hosts("connected and healthy", count, &well);
    }

    /// Waits until so many hosts are connected.
    pub fn await_connected_in_any_health(&self, count: usize) {
        self.await_hosts("connected", count, &|host| host["connected"] == true);
    }

    fn await_hosts(&self, what: &str, count: usize, is: &dyn Fn(&Value) -> bool) {
        until(&format!("{count} hosts are {what}"), || {
            let listed = self.rfs(["host", "list", "--output", "json"]).json()?;
            let hosts = listed.get("hosts")?.as_array()?;
            (hosts.iter().filter(|host| is(host)).count() == count).then_some(())
        });
    }

    /// Types `rfs …` as the operator alice.
    pub fn rfs<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Said {
        run(&mut self.rfs_as("alice", arguments))
    }

    /// The command `rfs …` as an operator, not started yet.
    pub fn rfs_as<A: AsRef<OsStr>>(&self, who: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(program("rfs"));
        command
            .args(arguments)
            .env("RFS_SERVER", format!("https://localhost:{}", self.address.port()))
            .env("RFS_CA", self.path().join("ca.pem"))
            .env("RFS_CERTIFICATE", self.path().join(format!("{who}.pem")))
            .env("RFS_KEY", self.path().join(format!("{who}.key")))
            .env("RFS_CONFIG", self.path().join("client.toml"));
        command
    }

    /// The newest rollback as JSON, with its whole record.
    pub fn rollback(&self) -> Value {
        let said = self.rfs(["rollback", "show", "latest", "--output", "json"]);
        said.json().unwrap_or_else(|| panic!("rfs rollback show: {said:?}"))
    }

    /// Waits until the newest rollback is in a state, such as `PAUSED`.
    #[track_caller]
    pub fn await_rollback(&self, state: &str) -> Value {
        self.await_rollback_within(HANG, state)
    }

    /// Waits until the newest rollback is in a state, and fails with where it stands when it is not after `limit`, or is over
    /// with another outcome before.
    #[track_caller]
    pub fn await_rollback_within(&self, limit: Duration, state: &str) -> Value {
        let start = Instant::now();
        loop {
            let rollback = self.rollback();
            if rollback["state"] == state {
                return rollback;
            }
            let over = rollback["state"] == "FINISHED" || start.elapsed() > limit;
            assert!(!over, "not {state} after {:?}: {}", start.elapsed(), brief(&rollback));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a host is in one of some states in the newest rollback, such as `APPLIED`.
    #[track_caller]
    pub fn await_host_in_rollback(&self, host: &str, states: &[&str]) -> Value {
        let start = Instant::now();
        loop {
            let rollback = self.rollback();
            let state = state_of(&rollback, host);
            if states.contains(&state.as_str()) {
                return rollback;
            }
            let over = rollback["state"] == "FINISHED" || start.elapsed() > Duration::from_secs(60);
            assert!(!over, "{host} is {state}, not {states:?}: {}", brief(&rollback));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A host as JSON.
    pub fn host(&self, name: &str) -> Value {
        let said = self.rfs(["host", "show", name, "--output", "json"]);
        said.json().unwrap_or_else(|| panic!("rfs host show {name}: {said:?}"))
    }

    /// Waits until a host is shown in such a way, within a time.
    #[track_caller]
    pub fn await_host(&self, name: &str, limit: Duration, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let start = Instant::now();
        while start.elapsed() < limit {
            last = self.host(name);
            if is(&last) {
                return last;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{name} is not {what} after {limit:?}: {last}");
    }

    /// A checkpoint as JSON, with its snapshots.
    pub fn show_checkpoint(&self, name: &str) -> Value {
        let said = self.rfs(["checkpoint", "show", name, "--output", "json"]);
        said.json().unwrap_or_else(|| panic!("rfs checkpoint show {name}: {said:?}"))
    }

    /// Takes a checkpoint of everything and returns its id.
    pub fn checkpoint(&self) -> String {
        let said = self.rfs(["checkpoint", "create", "--output", "json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let last = said.json().unwrap_or_else(|| panic!("{said:?}"));
        assert_eq!(last["state"], "COMPLETE", "{last}");
        last["name"].as_str().expect("a checkpoint has a name").to_owned()
    }
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The output as one JSON document.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.out).ok()
    }
}

/// Every host of a rollback in JSON, with the number of its wave, from 1.
pub fn hosts_of(rollback: &Value) -> Vec<(u64, &Value)> {
    let waves = rollback["waves"].as_array().map(Vec::as_slice).unwrap_or_default();
    let hosts = |wave: &'_ Value| wave["hosts"].as_array().map(Vec::as_slice).unwrap_or_default().len();
    let index = |wave: &Value| wave["index"].as_u64().unwrap_or_default();
    waves.iter().flat_map(|wave| (0..hosts(wave)).map(move |i| (index(wave), &wave["hosts"][i]))).collect()
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Said {
    Said::of(&command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")))
}

/// The state of a host in a rollback; empty if it is not in it.
pub fn state_of(rollback: &Value, host: &str) -> String {
    let found = hosts_of(rollback).into_iter().find(|(_, shown)| shown["host"] == host);
    found.and_then(|(_, shown)| shown["state"].as_str()).unwrap_or_default().to_owned()
}

/// A rollback in one line that a person reads in a failed test.
pub fn brief(rollback: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut line = format!("rollback {} {}", text(&rollback["state"]), text(&rollback["outcome"]));
    if !rollback["cause"].is_null() {
        line +=
            &format!(" ({}: {})", text(&rollback["cause"]["reason"]), text(&rollback["cause"]["message"]));
    }
    for (wave, host) in hosts_of(rollback) {
        let failure = match &host["failure"] {
            Value::Null => String::new(),
            failure => format!(" {}: {}", text(&failure["reason"]), text(&failure["message"])),
        };
        let (name, state) = (text(&host["host"]), text(&host["state"]));
        line += &format!("; wave {wave} {name} {state} {}{failure}", text(&host["health"]));
    }
    line
}

/// An address on loopback that nobody listens on now, and that no connection takes for its own end while nobody does: the
/// ports that systems give to those are higher.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        // Suites of other processes begin elsewhere.
        let number = std::process::id() as usize * 97 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(number % 20_000).expect("it is below 20,000");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().expect("a bound socket has an address");
        }
    }
}
