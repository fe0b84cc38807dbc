//! One host of a bed: its files, its web service, its agent, the machine's clock and the link to the coordinator.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::layout::{Layout, Timing};
use super::{Said, free_address, run};
use crate::machine_clock::MachineClock;
use crate::process::Running;
use crate::relay::Relay;
use crate::tools::program;
use crate::tree;

/// One host of a bed.
pub struct BedHost {
    /// Its name, `web-1` and so on.
    pub name: String,
    /// The running agent.
    pub agent: Option<Running>,
    /// The link to the coordinator, where the layout has one that can be cut.
    pub relay: Option<Relay>,
    /// The machine's clock, where the layout has one that can be set.
    pub clock: Option<MachineClock>,
    bed: PathBuf,
    folder: PathBuf,
    site: SocketAddr,
    coordinator: SocketAddr,
    timing: Timing,
    retention: String,
}

/// What a copy of a host has for a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOfCopy {
    /// None yet: the machine was set up from an image or by hand, with the same certificate.
    Fresh,
    /// The same, byte for byte: the whole disk was copied.
    Copied,
}

impl BedHost {
    pub(super) fn new(bed: &Path, number: usize, layout: &Layout, coordinator: SocketAddr) -> Self {
        let name = format!("web-{number}");
        let folder = bed.join(&name);
        fs::create_dir_all(folder.join("site")).expect("the bed can be written to");
        let relay = layout.relays.then(|| {
            let address = free_address();
            (address, Relay::start(address, coordinator))
        });
        let dialled = relay.as_ref().map_or(coordinator, |(address, _)| *address);
        let clock = layout.clocks.then(|| MachineClock::new(folder.join("clock"))).flatten();
        Self {
            name,
            agent: None,
            relay: relay.map(|(_, relay)| relay),
            clock,
            bed: bed.to_owned(),
            folder,
            site: free_address(),
            coordinator: dialled,
            timing: layout.timing,
            retention: layout.retention.to_owned(),
        }
    }

    /// Makes another machine with the same name and certificate, a site of its own, and no agent that runs yet.
    ///
    /// Its files are those of this host now. It must go before its bed does.
    pub fn copied(&self, store: StoreOfCopy) -> Self {
        let folder = self.bed.join(format!("{}-copy", self.name));
        fs::create_dir(&folder).expect("the bed can be written to");
        let copy = Self {
            name: self.name.clone(),
            agent: None,
            relay: None,
            clock: None,
            bed: self.bed.clone(),
            folder,
            site: free_address(),
            coordinator: self.coordinator,
            timing: self.timing,
            retention: self.retention.clone(),
        };
        tree::copy(&self.site_files(), &copy.site_files());
        if store == StoreOfCopy::Copied {
            tree::copy(&self.store(), &copy.store());
        }
        copy.write_config();
        assert_eq!(copy.site("start"), 0, "the copy's site starts");
        copy
    }

    /// Removes the agent's store, as a new installation of the machine does. The agent must not run.
    pub fn lose_store(&self) {
        assert!(self.agent.is_none(), "the agent runs");
        fs::remove_dir_all(self.store()).expect("the store can be removed");
    }

    /// Starts the agent.
    pub fn start_agent(&mut self) {
        let mut command = Command::new(program("rfs-agent"));
        command.arg("run").arg("--config").arg(self.folder.join("agent.toml"));
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        let log = self.folder.join("agent.log");
        self.agent = Some(Running::start(&format!("agent {}", self.name), command, &log));
    }

    /// Kills the agent with SIGKILL.
    pub fn kill_agent(&mut self) {
        self.agent.take().expect("the agent runs").kill_9();
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
        run(&mut self.rfs_agent_command(arguments))
    }

    /// The command `rfs-agent …` on this host, not started yet.
    pub fn rfs_agent_command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(program("rfs-agent"));
        command.args(arguments).arg("--config").arg(self.folder.join("agent.toml"));
        command
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

    /// Writes a release and restarts the site, as a deploy does. Files of the release before are gone.
    pub fn release(&self, version: &str, health: &str) {
        let _ = fs::remove_dir_all(self.site_files().join("assets"));
        self.deploy(version, health);
        assert_eq!((self.site("stop"), self.site("start")), (0, 0), "the site of {} restarts", self.name);
    }

    /// What the site itself answers: the status of `path`, and the body; none if it does not.
    pub fn ask(&self, path: &str) -> Option<(u16, String)> {
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&self.site, limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: site\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
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

    pub(super) fn write_config(&self) {
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
{timing}
[retention]
{retention}
"#,
            name = self.name,
            zone = if self.name.ends_with(['1', '3', '5', '7', '9']) { "a" } else { "b" },
            port = self.coordinator.port(),
            bed = self.bed.display(),
            store = self.store().display(),
            site = self.site_files().display(),
            start = command("start"),
            stop = command("stop"),
            status = command("status"),
            address = self.site,
            timing = self.timing.lines(),
            retention = self.retention,
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
