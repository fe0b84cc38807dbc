//! Whom to talk to, and as whom.
//!
//! Each setting is taken from its option, else from its environment variable, else from the client's file:
//!
//! ```toml
//! # ~/.config/rfs/client.toml             paths are relative to this file
//! server = "https://rfs.example.net:7443"
//! ca = "ca.pem"
//! certificate = "alice.pem"
//! key = "alice.key"
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io};

use clap::Args;
use rfs_link::{Credentials, Failure, LiveCredentials, Patience, Target};
use rfs_model::Reason;
use rfs_model::time::SystemClock;
use rfs_proto::v1::checkpoint_service_client::CheckpointServiceClient;
use rfs_proto::v1::host_service_client::HostServiceClient;
use rfs_proto::v1::rollback_service_client::RollbackServiceClient;
use serde::Deserialize;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// How a coordinator is reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// The coordinator, such as https://rfs.example.net:7443.
    #[arg(long, global = true, value_name = "URL", env = "RFS_SERVER")]
    server: Option<String>,
    /// The fleet's root certificate.
    #[arg(long, global = true, value_name = "FILE", env = "RFS_CA")]
    ca: Option<PathBuf>,
    /// Your certificate.
    #[arg(long, global = true, value_name = "FILE", env = "RFS_CERTIFICATE")]
    certificate: Option<PathBuf>,
    /// Its private key.
    #[arg(long, global = true, value_name = "FILE", env = "RFS_KEY")]
    key: Option<PathBuf>,
    /// A file with these settings [default: ~/.config/rfs/client.toml].
    #[arg(long, global = true, value_name = "FILE", env = "RFS_CONFIG")]
    config: Option<PathBuf>,
}

/// The client's file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientFile {
    #[serde(default, rename = "version")]
    _version: crate::config::FormatVersion,
    server: Option<String>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

/// Where the client's file lies when nothing else is said.
fn default_file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("rfs/client.toml"))
}

fn read_file(path: &Path) -> Result<Option<ClientFile>, Failure> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            return Err(
                Failure::new(Reason::InvalidArgument, message).next("give another file with --config")
            );
        }
    };
    let mut file: ClientFile = toml::from_str(&text).map_err(|error| {
        let message = format!("{}: {}", path.display(), error.to_string().trim_end());
        Failure::new(Reason::InvalidArgument, message).next(format!("correct {}", path.display()))
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for path in [&mut file.ca, &mut file.certificate, &mut file.key].into_iter().flatten() {
        *path = folder.join(&path);
    }
    Ok(Some(file))
}

impl Connection {
    fn settle(&self) -> Result<(Target, Credentials), Failure> {
        let path = self.config.clone().or_else(default_file);
        let file = path.as_deref().map(read_file).transpose()?.flatten();
        let from = From { missing: file.is_none(), path };
        let file = file.unwrap_or_default();
        let server = from.setting("server", &self.server, file.server)?;
        let target = Target::parse(&server).map_err(|error| {
            Failure::new(Reason::InvalidArgument, error.to_string())
                .next("such as --server https://rfs.example.net:7443")
        })?;
        let credentials = Credentials {
            ca: from.setting("ca", &self.ca, file.ca)?,
            certificate: from.setting("certificate", &self.certificate, file.certificate)?,
            key: from.setting("key", &self.key, file.key)?,
        };
        Ok((target, credentials))
    }

    /// Connects.
    pub(super) async fn open(&self) -> Result<Client, Failure> {
        let (target, credentials) = self.settle()?;
        let credentials =
            LiveCredentials::open(credentials, Arc::new(SystemClock)).map_err(|error| error.failure())?;
        let patience = Patience { connect: Duration::from_secs(10), ..Patience::default() };
        let link = rfs_link::Connection::open(&target, credentials, &patience).await;
        Ok(Client { link: link.map_err(|error| error.failure())? })
    }
}

/// The file in which a setting may stand. That it is not there matters only to who misses a setting.
struct From {
    path: Option<PathBuf>,
    missing: bool,
}

impl From {
    fn setting<T: Clone>(&self, name: &str, given: &Option<T>, filed: Option<T>) -> Result<T, Failure> {
        given.clone().or(filed).ok_or_else(|| {
            let path = self.path.as_ref().map(|path| path.display().to_string());
            let missing = match &path {
                Some(path) if self.missing => format!(", and {path} does not exist"),
                _ => String::new(),
            };
            let file = path.unwrap_or_else(|| "a file for --config".to_owned());
            let variable = name.to_uppercase();
            Failure::new(Reason::InvalidArgument, format!("no {name} is named{missing}"))
                .next(format!("give --{name}, set RFS_{variable}, or write {name} = \"…\" into {file}"))
        })
    }
}

/// A connection to a coordinator.
#[derive(Debug, Clone)]
pub(super) struct Client {
    link: rfs_link::Connection,
}

/// How long a call that answers at once may take.
const CALL: Duration = Duration::from_secs(30);

impl Client {
    /// The fleet's hosts.
    pub(super) fn hosts(&self) -> HostServiceClient<Channel> {
        HostServiceClient::new(self.link.channel()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// Checkpoints.
    pub(super) fn checkpoints(&self) -> CheckpointServiceClient<Channel> {
        CheckpointServiceClient::new(self.link.channel()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// Rollbacks.
    pub(super) fn rollbacks(&self) -> RollbackServiceClient<Channel> {
        RollbackServiceClient::new(self.link.channel()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// What `status` means, with the reason that a broken connection gave.
    pub(super) fn failure(&self, status: &Status) -> Failure {
        self.link.failure(status)
    }

    /// The message of an answer, or why there is none.
    pub(super) fn answer<T>(&self, answer: Result<tonic::Response<T>, Status>) -> Result<T, Failure> {
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }
}

/// A fleet of ten thousand hosts in one answer.
const LARGEST_ANSWER: usize = 64 << 20;

/// A request that must be answered soon.
pub(super) fn soon<T>(message: T) -> Request<T> {
    within(CALL, message)
}

/// A request that must be answered within `time`.
pub(super) fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(config: Option<&Path>) -> Connection {
        let config = config.map(Path::to_owned);
        Connection { server: None, ca: None, certificate: None, key: None, config }
    }

    #[test]
    fn an_option_wins_over_the_file_and_the_files_paths_are_relative_to_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("client.toml");
        let text =
            "server = \"https://a:1\"\nca = \"ca.pem\"\ncertificate = \"/etc/me.pem\"\nkey = \"me.key\"\n";
        fs::write(&path, text).expect("written");
        let given = Connection { server: Some("https://b:2".into()), ..connection(Some(&path)) };
        let (target, credentials) = given.settle().expect("all is named");
        assert_eq!(target.to_string(), "https://b:2");
        assert_eq!(credentials.ca, folder.path().join("ca.pem"));
        assert_eq!(credentials.certificate, Path::new("/etc/me.pem"));
    }

    #[test]
    fn what_is_missing_is_named_with_the_three_ways_to_say_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("client.toml");
        fs::write(&path, "server = \"https://a:1\"\n").expect("written");
        let failure = connection(Some(&path)).settle().expect_err("there is no ca");
        assert_eq!(failure.message, "no ca is named");
        assert!(
            failure.next_step().starts_with("give --ca, set RFS_CA, or write ca ="),
            "{}",
            failure.next_step()
        );

        fs::write(&path, "sevrer = \"https://a:1\"\n").expect("written");
        let failure = connection(Some(&path)).settle().expect_err("a typing mistake");
        assert!(
            failure.message.contains("line 1") && failure.message.contains("^^^^^^"),
            "{}",
            failure.message
        );

        let failure = connection(Some(&folder.path().join("no.toml"))).settle().expect_err("no such file");
        assert!(
            failure.message.ends_with("no.toml does not exist")
                && failure.message.starts_with("no server is named"),
            "{}",
            failure.message
        );
    }
}
