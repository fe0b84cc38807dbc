//! A fleet on this machine: one coordinator, some agents, a web service on each host.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Running;
use crate::tools::program;
use crate::wait::until;

/// The trust domain of every bed.
pub const TRUST_DOMAIN: &str = "bed.test";

/// A fleet on this machine. Dropping it ends every process and removes every file.
pub struct Bed {
    /// The running coordinator.
    pub coordinator: Option<Running>,
    /// The hosts, by index.
    pub hosts: Vec<BedHost>,
    address: SocketAddr,
    folder: TempDir,
}

/// One host of a bed.
pub struct BedHost {
    /// Its name, `web-1` and so on.
    pub name: String,
    /// The running agent.
    pub agent: Option<Running>,
    folder: PathBuf,
    site: SocketAddr,
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
        let folder = tempfile::Builder::new().prefix("rfs-bed-").tempdir().expect("a temporary folder");
        let address = free_address();
        let hosts = (1..=count).map(|number| BedHost::new(folder.path(), number)).collect();
        let bed = Self { coordinator: None, hosts, address, folder };
        bed.pki(&["init", "--trust-domain", TRUST_DOMAIN]);
        bed.pki(&["issue", "coordinator", "main", "--dns", "localhost,127.0.0.1"]);
        bed.pki(&["issue", "operator", "alice"]);
        bed.pki(&["issue", "operator", "viewer"]);
        bed.write_coordinator_config();
        for host in &bed.hosts {
            bed.pki(&["issue", "agent", &host.name]);
            host.write_config(bed.path(), bed.address);
            host.deploy("v1", "ok");
            host.site("start");
        }
        bed
    }

    /// A bed whose coordinator and agents run and are connected.
    pub fn started(count: usize) -> Self {
        let mut bed = Self::new(count);
        bed.start_coordinator();
        for index in 0..count {
            bed.start_agent(index);
        }
        bed.await_connected(count);
        bed
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
        let said = run(Command::new(program("rfs")).arg("pki").args(arguments).args(place));
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
        let mut running = Running::start("rfs serve", command, &self.path().join("coordinator.log"));
        until("the coordinator is ready", || {
            assert!(running.is_running(), "the coordinator ended: {}", running.log());
            ready.exists().then_some(())
        });
        self.coordinator = Some(running);
    }

    /// Starts the agent of a host.
    pub fn start_agent(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        let mut command = Command::new(program("rfs-agent"));
        command.arg("run").arg("--config").arg(host.folder.join("agent.toml"));
        host.agent =
            Some(Running::start(&format!("agent {}", host.name), command, &host.folder.join("agent.log")));
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
    pub fn await_rollback(&self, state: &str) -> Value {
        until(&format!("the rollback is {state}"), || {
            Some(self.rollback()).filter(|rollback| rollback["state"] == state)
        })
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

impl BedHost {
    fn new(bed: &Path, number: usize) -> Self {
        let name = format!("web-{number}");
        let folder = bed.join(&name);
        fs::create_dir_all(folder.join("site")).expect("the bed can be written to");
        Self { name, agent: None, folder, site: free_address() }
    }

    /// The folder of everything of this host.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The files that its site serves, and its agent keeps.
    pub fn site_files(&self) -> PathBuf {
        self.folder.join("site")
    }

    /// Where its site listens.
    pub fn site_address(&self) -> SocketAddr {
        self.site
    }

    /// The agent's own store.
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Types `rfs-agent …` on this host.
    pub fn rfs_agent<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Said {
        let mut command = Command::new(program("rfs-agent"));
        run(command.args(arguments).arg("--config").arg(self.folder.join("agent.toml")))
    }

    /// Writes a release: a version, and whether it is well. Other files come and go with it.
    pub fn deploy(&self, version: &str, health: &str) {
        let site = self.site_files();
        let write = |name: &str, text: &str| {
            let path = site.join(name);
            fs::create_dir_all(path.parent().expect("it is beneath the site")).expect("a folder");
            // A new inode, as every package manager and deploy tool makes one.
            let new = site.join(".new");
            fs::write(&new, text).and_then(|()| fs::rename(&new, path)).expect("the site can be written to");
        };
        write("index.html", &format!("<h1>{version} of {}</h1>\n", self.name));
        write("health.txt", health);
        write(&format!("assets/{version}.css"), &format!("/* {version} */\n"));
        for number in 0..20 {
            write(&format!("lib/module-{number}.txt"), &format!("module {number} of {version}\n"));
        }
    }

    /// Runs `site-server start|stop|status` and returns its exit code.
    pub fn site(&self, what: &str) -> i32 {
        let words = self.site_command(what);
        run(Command::new(&words[0]).args(&words[1..])).code
    }

    /// How often the site was started and stopped since it was last asked.
    pub fn count_starts_and_stops(&self) -> (usize, usize) {
        let log = self.folder.join("site.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let count = |what: &str| text.lines().filter(|line| *line == what).count();
        (count("start"), count("stop"))
    }

    fn site_command(&self, what: &str) -> [String; 8] {
        [
            program("site-server").display().to_string(),
            what.to_owned(),
            "--root".to_owned(),
            self.site_files().display().to_string(),
            "--listen".to_owned(),
            self.site.to_string(),
            "--pid-file".to_owned(),
            self.folder.join("site.pid").display().to_string(),
        ]
    }

    fn write_config(&self, bed: &Path, coordinator: SocketAddr) {
        let command = |what: &str| format!("{:?}", self.site_command(what));
        let text = format!(
            r#"[host]
name = "{name}"
labels = {{ role = "web", zone = "{zone}" }}
[coordinator]
endpoints = ["https://localhost:{port}"]
[tls]
ca = "{bed}/ca.pem"
certificate = "{bed}/{name}.pem"
key = "{bed}/{name}.key"
[store]
path = "{store}"
[[component]]
name = "site"
kind = "files"
paths = ["{site}"]
[[component]]
name = "app"
kind = "services"
[component.commands]
start = {start}
stop = {stop}
status = {status}
[[health]]
name = "http"
kind = "http"
url = "http://{address}/healthz"
interval = "200ms"
timeout = "2s"
healthy_after = 1
unhealthy_after = 1
"#,
            name = self.name,
            zone = if self.name.ends_with(['1', '3', '5', '7', '9']) { "a" } else { "b" },
            port = coordinator.port(),
            bed = bed.display(),
            store = self.store().display(),
            site = self.site_files().display(),
            start = command("start"),
            stop = command("stop"),
            status = command("status"),
            address = self.site,
        );
        fs::write(self.folder.join("agent.toml"), text).expect("the bed can be written to");
    }
}

impl Drop for BedHost {
    fn drop(&mut self) {
        // The agent first: it may be about to start the site again.
        drop(self.agent.take());
        self.site("stop");
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

/// Every host of a rollback in JSON, with the index of its wave.
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

/// An address on loopback that nobody listens on now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address")
}
