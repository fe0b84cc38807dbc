//! Certificates for simulated agents, issued by the authority in a folder and kept in memory alone.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rfs_link::pki::{Authority, Order};
use rfs_link::{Credentials, Identity, LiveCredentials};
use rfs_model::HostId;
use rfs_model::time::SystemClock;

const VALID: Duration = Duration::from_secs(7 * 24 * 3600);

/// Issues one certificate for each host, in order. `folder` has the authority's `ca.pem` and `ca.key`.
pub(super) fn issue(folder: &Path, hosts: &[HostId]) -> Result<Vec<Arc<LiveCredentials>>> {
    let authority = Authority::open(folder).context("the authority cannot be opened")?;
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    let share = hosts.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let threads: Vec<_> = hosts
            .chunks(share)
            .map(|hosts| {
                let authority = &authority;
                scope.spawn(move || issue_some(authority, &folder.join("ca.pem"), hosts))
            })
            .collect();
        let mut issued = Vec::with_capacity(hosts.len());
        for thread in threads {
            let some =
                thread.join().map_err(|_| anyhow::anyhow!("a thread that issues certificates failed"))?;
            issued.extend(some?);
        }
        Ok(issued)
    })
}

fn issue_some(authority: &Authority, ca: &Path, hosts: &[HostId]) -> Result<Vec<Arc<LiveCredentials>>> {
    // The link reads credentials from files: two that are written again for each host, and gone at the end.
    let folder = tempfile::tempdir().context("a temporary folder cannot be made")?;
    let path = |name: &str| folder.path().join(name);
    let files = Credentials { ca: ca.to_owned(), certificate: path("agent.pem"), key: path("agent.key") };
    let one = |host: &HostId| -> Result<Arc<LiveCredentials>> {
        let order = Order { identity: Identity::Agent(host.clone()), names: Vec::new(), validity: VALID };
        let issued = authority.issue(&order, &SystemClock)?;
        fs::write(&files.certificate, issued.certificate)?;
        write_secret(&files.key, &issued.key)?;
        Ok(LiveCredentials::open(files.clone(), Arc::new(SystemClock))?)
    };
    hosts.iter().map(|host| one(host).with_context(|| format!("no certificate for {host}"))).collect()
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
