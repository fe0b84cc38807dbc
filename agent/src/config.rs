//! What an administrator writes in `/etc/rfs/agent.toml`.
//!
//! Reading, parsing and judging are three steps: [`load`] reads, `raw` says which keys exist, `judge` turns them into
//! the values below or says what is wrong, with the line and a caret.
//!
//! Invariants
//! - A [`Config`] that exists is consistent: names are unique, paths are absolute and normal, no two components share
//!   a path, none contains the store or lies in it, and every glob compiles.
//! - The agent's own files (configuration, certificates, key) are always among what is never restored.
//!
//! Every key there is:
//!
//! ```toml
#![doc = include_str!("config/example.toml")]
//! ```

mod judge;
mod program;
mod raw;
mod retention;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rfs_model::{ComponentKind, ComponentName, HostId, Labels};
use rfs_store::ReserveRule;

pub use program::Program;
pub(crate) use raw::parse_time;
pub use retention::{DayTime, RetentionConfig};
pub use source::Complaint;

/// Where the configuration is when no other place is named.
pub const DEFAULT_PATH: &str = "/etc/rfs/agent.toml";

/// The whole configuration of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it was read from.
    pub path: PathBuf,
    /// The name of the host; must equal the certificate's.
    pub host: HostId,
    /// The labels by which selectors find the host.
    pub labels: Labels,
    /// The folder of snapshots and journal.
    pub store: PathBuf,
    /// How much of a file system is never used, the store's and the components'.
    pub reserve: ReserveRule,
    /// Whether the store clones large files, where the file system can.
    pub clones: bool,
    /// How to reach the coordinator; none on a host that is used locally alone.
    pub link: Option<Link>,
    /// What is captured and restored, in the order in which it is written.
    pub components: Vec<ComponentConfig>,
    /// What tells whether the host is well.
    pub health: Vec<HealthCheck>,
    /// How long a restore may take before the host reverts, when the command does not say.
    pub max_restore_time: Duration,
    /// What is kept in the store, and when what is not kept is removed.
    pub retention: RetentionConfig,
}

/// How to reach the coordinator, and who the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// URLs, tried in turn.
    pub endpoints: Vec<String>,
    /// The certificates that are trusted.
    pub ca: PathBuf,
    /// The agent's certificate.
    pub certificate: PathBuf,
    /// The agent's private key.
    pub key: PathBuf,
}

/// One component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentConfig {
    /// Its name, unique on the host.
    pub name: ComponentName,
    /// What it is.
    pub spec: ComponentSpec,
}

/// What a component is, with what only its kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComponentSpec {
    /// Trees of files.
    Files(FilesConfig),
    /// One service.
    Services(ServicesConfig),
}

/// Trees of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesConfig {
    /// The roots.
    pub paths: Vec<PathBuf>,
    /// Globs of what is neither captured nor changed.
    pub exclude: Vec<String>,
    /// Absolute globs of what may be captured and is never changed by a restore.
    pub never_restore: BTreeSet<String>,
    /// What happens to what exists now and not in the snapshot, by pattern; removed where none holds it.
    pub extras: Vec<ExtrasRule>,
    /// Device files are made where the snapshot has them.
    pub devices: bool,
    /// What is mounted beneath a path is left out.
    pub one_file_system: bool,
    /// Whether what is behind a path that is a link is captured too; none: such a path is refused.
    pub follow_roots: Option<bool>,
    /// Run before a checkpoint's cut.
    pub quiesce: Option<Hook>,
    /// Run after a checkpoint's cut, however it went.
    pub resume: Option<Hook>,
}

/// What happens to extras that a pattern holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtrasRule {
    /// The pattern, as `exclude` has them.
    pub pattern: String,
    /// What happens to them.
    pub extras: Extras,
}

/// What a restore does with what exists now and not in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Extras {
    /// It goes, and the backup keeps it.
    Remove,
    /// It stays where it is.
    Keep,
    /// The restore is refused, unless a person accepts its loss.
    Refuse,
}

/// A service that is started and stopped by commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesConfig {
    /// Starts it; returns when it has been started.
    pub start: Hook,
    /// Stops it; returns when it has stopped.
    pub stop: Hook,
    /// Exits with 0 when it runs, with 1, 2 or 3 when it does not.
    pub status: Hook,
    /// The components whose change stops it; none means all `files` components.
    pub uses: Option<BTreeSet<ComponentName>>,
}

/// A program with its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// What is run.
    pub program: Program,
    /// Past it, the program and its children are killed.
    pub timeout: Duration,
}

/// One check of this host's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Its name, unique on the host.
    pub name: String,
    /// What is measured.
    pub probe: Probe,
    /// The time between two measurements; at most a second for a while after a restore.
    pub interval: Duration,
    /// Past it, one measurement counts as not answered.
    pub timeout: Duration,
    /// Good measurements in a row that make it good.
    pub healthy_after: u32,
    /// Bad measurements in a row that make it bad.
    pub unhealthy_after: u32,
    /// Whether it counts towards the host's health, or is only shown.
    pub required: bool,
}

/// What a check measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP or HTTPS answer.
    Http {
        /// The address.
        url: String,
        /// The status codes that are good; none means 200 to 399.
        status: Option<BTreeSet<u16>>,
    },
    /// A TCP connection.
    Tcp {
        /// Host and port.
        address: String,
    },
    /// The exit code of a program: 0 is good.
    Command {
        /// The program.
        program: Program,
    },
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something that is wrong.
    #[error("{} is not valid\n{complaint}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        complaint: Complaint,
    },
}

/// Reads and judges the configuration at `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    parse(&text, path).map_err(|complaint| ConfigError::Invalid { path: path.into(), complaint })
}

/// Judges `text`, which stands at `path`.
pub fn parse(text: &str, path: &Path) -> Result<Config, Complaint> {
    judge::judge(text, path)
}

impl Config {
    /// The component of that name.
    pub fn component(&self, name: &ComponentName) -> Option<&ComponentConfig> {
        self.components.iter().find(|component| component.name == *name)
    }

    /// The agent's own folders and files.
    pub(crate) fn own_files(&self) -> Vec<PathBuf> {
        let tls = self.link.iter().flat_map(|link| [&link.ca, &link.certificate, &link.key]);
        tls.chain([&self.store, &self.path]).cloned().collect()
    }

    /// The paths of the files that a service uses.
    pub(crate) fn roots_used_by(&self, service: &ServicesConfig) -> Vec<PathBuf> {
        let used = |name: &ComponentName| service.uses.as_ref().is_none_or(|uses| uses.contains(name));
        let files = self.components.iter().filter_map(|component| match &component.spec {
            ComponentSpec::Files(files) if used(&component.name) => Some(&files.paths),
            ComponentSpec::Files(_) | ComponentSpec::Services(_) => None,
        });
        files.flatten().cloned().collect()
    }
}

impl ComponentConfig {
    /// Its kind.
    pub fn kind(&self) -> ComponentKind {
        match self.spec {
            ComponentSpec::Files(_) => ComponentKind::Files,
            ComponentSpec::Services(_) => ComponentKind::Services,
        }
    }
}

#[cfg(test)]
mod tests;
