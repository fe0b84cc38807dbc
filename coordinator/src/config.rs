//! The coordinator's configuration, `coordinator.toml`.
//!
//! ```toml
//! version = 1                              # of this file's format; may be left out
//! listen = "0.0.0.0:7443"                  # port 0 takes a free one; see --ready-file
//! trust_domain = "fleet.example.net"       # certificates of another one are refused
//! stale_after = "30d"                      # a checkpoint that waits for a host that was not seen for so long says how to
//!                                          # forget it; may be left out
//! quiesce_timeout = "30s"                  # how long a host holds still for a checkpoint without a further word, before it
//!                                          # resumes by itself; may be left out
//!
//! [tls]                                    # read again when they change; relative to this file
//! ca = "ca.pem"
//! certificate = "coordinator.pem"
//! key = "coordinator.key"
//!
//! [store]
//! path = "/var/lib/rfs/coordinator.db"
//!
//! [roles]                                  # an operator that is not named here has no role at all
//! alice = ["operator", "approver"]
//! deploy-bot = ["deployer"]
//! ```
//!
//! A key that is not known is an error, so that a typing mistake never passes for a setting. Every value is checked
//! while it is read; an error shows its line with a caret below it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rfs_link::{Credentials, TrustDomain};
use serde::Deserialize;

use crate::api::authz::Roles;
use crate::driver::Settings;
use crate::duration::{self, show_duration};

/// Everything that `rfs serve` is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default, rename = "version")]
    _version: FormatVersion,
    /// Where agents and operators connect to.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The fleet; certificates of another one are refused.
    pub trust_domain: TrustDomain,
    /// How long a host may not have been seen before a checkpoint that waits for it says how to forget it.
    #[serde(default = "default_stale_after", deserialize_with = "duration::deserialize")]
    pub stale_after: Duration,
    /// How long a host holds still for a checkpoint without a further word, where the request does not say.
    #[serde(default = "default_quiesce_timeout", deserialize_with = "duration::deserialize")]
    pub quiesce_timeout: Duration,
    /// Who the coordinator is, and whom it trusts.
    pub tls: Credentials,
    /// Where operations are kept.
    pub store: Store,
    /// Who may do what.
    #[serde(default)]
    pub roles: Roles,
}

/// Where operations are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// The SQLite database; made when it is not there.
    pub path: PathBuf,
}

/// The version of the file's format. There is one.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "i64")]
pub(crate) struct FormatVersion;

impl TryFrom<i64> for FormatVersion {
    type Error = String;

    fn try_from(version: i64) -> Result<Self, Self::Error> {
        if version == 1 {
            Ok(Self)
        } else {
            Err(format!("format {version} is not known; this version reads 1"))
        }
    }
}

fn default_stale_after() -> Duration {
    Settings::default().stale_after
}

/// For how long a host may be told to hold still.
const LONGEST_QUIET: Duration = Duration::from_secs(3600);

fn default_quiesce_timeout() -> Duration {
    Settings::default().quiesce_timeout
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7443))
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file's text is not valid; the message shows where.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, the caret and the problem.
        message: String,
    },
}

impl Config {
    /// Reads the file at `path`. Paths in it are taken relative to it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let mut config =
            Self::parse(&text).map_err(|message| ConfigError::Parse { path: path.into(), message })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let files =
            [&mut config.tls.ca, &mut config.tls.certificate, &mut config.tls.key, &mut config.store.path];
        for file in files {
            *file = folder.join(&file);
        }
        Ok(config)
    }

    /// What it says of operations.
    pub fn settings(&self) -> Settings {
        Settings { stale_after: self.stale_after, quiesce_timeout: self.quiesce_timeout }
    }

    /// Reads a configuration's text. The error shows the place and what is wrong there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let quiet = config.quiesce_timeout;
        if quiet.is_zero() || quiet > LONGEST_QUIET {
            let (is, most) = (show_duration(quiet), show_duration(LONGEST_QUIET));
            return Err(format!("quiesce_timeout is {is}; it must be longer than 0, and {most} at most"));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version = 1
trust_domain = "fleet.example.net"
tls = { ca = "ca.pem", certificate = "c.pem", key = "/keys/c.key" }
store = { path = "coordinator.db" }
[roles]
alice = ["operator", "approver"]
"#;

    fn check(text: &str, expected: &[&str]) {
        let error = Config::parse(text).expect_err("the text is not valid");
        for part in expected {
            assert!(error.contains(part), "{part:?} is not in:\n{error}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("coordinator.toml");
        fs::write(&path, GOOD).expect("written");
        let config = Config::read(&path).expect("a good file");
        assert_eq!(config.tls.ca, folder.path().join("ca.pem"));
        assert_eq!(config.tls.key, Path::new("/keys/c.key"));
        assert_eq!(config.listen.port(), 7443);
        assert_eq!(config.stale_after, Duration::from_secs(30 * 24 * 3600));
        let short = Config::parse(&format!("stale_after = \"7d\"\n{GOOD}")).expect("a good file");
        assert_eq!(short.stale_after, Duration::from_secs(7 * 24 * 3600));
    }

    #[test]
    fn an_error_shows_the_line_with_a_caret_and_what_is_allowed() {
        check(&GOOD.replace("store =", "stroe ="), &["line 5", "stroe", "^^^^^", "unknown field", "`store`"]);
        check(&GOOD.replace("= 1", "= 2"), &["line 2", "format 2 is not known; this version reads 1"]);
        check(&GOOD.replace("fleet.example", "Fleet.example"), &["line 3", "^", "is not a trust domain"]);
        check(
            &GOOD.replace("approver", "approvre"),
            &["line 7", "approvre", "`viewer`, `deployer`, `operator`"],
        );
        check(&GOOD.replace("alice", "\"al ice\""), &["line 7", "al ice", "is not valid"]);
        check(&format!("listen = \"somewhere\"\n{GOOD}"), &["line 1", "invalid socket address"]);
        check(&format!("stale_after = \"30\"\n{GOOD}"), &["line 1", "is not a duration", "such as 90s"]);
        check(&format!("stale_after = \"0\"\n{GOOD}"), &["line 1", "must be longer than 0"]);
        check("", &["missing field `trust_domain`"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::read(Path::new("/nowhere/coordinator.toml")).expect_err("no such file");
        assert_eq!(error.to_string(), "cannot read /nowhere/coordinator.toml");
    }
}
