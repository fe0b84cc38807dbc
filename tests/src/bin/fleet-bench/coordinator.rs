//! The real coordinator: its folder, its process, and what an operator asks of it over the API.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use rfs_link::pki::{self, Authority, Existing, Order};
use rfs_link::{Connection, Credentials, Identity, LiveCredentials, Patience, Target};
use rfs_model::time::SystemClock;
use rfs_proto::v1;
use rfs_proto::v1::checkpoint_service_client::CheckpointServiceClient;
use rfs_proto::v1::rollback_service_client::RollbackServiceClient;
use rfs_tests::bed::free_address;
use rfs_tests::tools::program;
use tempfile::TempDir;
use tonic::transport::Channel;

use super::child::Child;

const DOMAIN: &str = "bench.test";
const VALID: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often it is asked whether something is over.
const LOOK: Duration = Duration::from_millis(10);
/// Past this, what is waited for hangs.
pub(super) const HANG: Duration = Duration::from_secs(600);

/// A folder with everything that a coordinator needs.
pub(super) struct World {
    folder: TempDir,
    address: SocketAddr,
}

/// An operator's connection.
#[derive(Clone)]
pub(super) struct Operator {
    checkpoints: CheckpointServiceClient<Channel>,
    rollbacks: RollbackServiceClient<Channel>,
    connection: Connection,
}

impl World {
    /// Makes certificates and a configuration.
    pub(super) fn new(work: Option<&Path>) -> Result<Self> {
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("rfs-bench-");
        let folder = match work {
            Some(work) => folder.tempdir_in(work),
            None => folder.tempdir(),
        };
        let folder = folder.context("a folder for the run cannot be made")?;
        let domain = DOMAIN.parse()?;
        pki::init(folder.path(), &domain, VALID, Existing::Keep, &SystemClock)?;
        let authority = Authority::open(folder.path())?;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        for (identity, names) in [
            (Identity::Coordinator("main".parse()?), &names[..]),
            (Identity::Operator("alice".parse()?), &[]),
            (Identity::Agent("bare".parse()?), &[]),
        ] {
            let name = identity.name().to_owned();
            let order = Order { identity, names: names.to_vec(), validity: VALID };
            let file = |ending: &str| folder.path().join(format!("{name}.{ending}"));
            authority.issue(&order, &SystemClock)?.write(&file("pem"), &file("key"), Existing::Keep)?;
        }
        let address = free_address();
        let config = format!(
            "listen = \"{address}\"\ntrust_domain = \"{DOMAIN}\"\n\
             tls = {{ ca = \"ca.pem\", certificate = \"main.pem\", key = \"main.key\" }}\n\
             store = {{ path = \"coordinator.db\" }}\n[roles]\nalice = [\"operator\", \"approver\"]\n"
        );
        fs::write(folder.path().join("coordinator.toml"), config)?;
        Ok(Self { folder, address })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the coordinator is, as agents are told.
    pub(super) fn server(&self) -> String {
        format!("https://{}", self.address)
    }

    fn store(&self) -> PathBuf {
        self.path().join("coordinator.db")
    }

    /// Starts the coordinator; gives it once it serves.
    pub(super) fn serve(&self) -> Result<Child> {
        let ready = self.path().join("ready");
        let _ = fs::remove_file(&ready);
        let log = fs::File::options().append(true).create(true).open(self.path().join("log"))?;
        let mut command = Command::new(program("rfs"));
        command.arg("serve").arg("--config").arg(self.path().join("coordinator.toml"));
        let child =
            Child::start(command.arg("--ready-file").arg(&ready).env("RUST_LOG", "warn").stderr(log))?;
        let begun = Instant::now();
        while !ready.exists() {
            if begun.elapsed() > HANG {
                bail!("the coordinator is not ready: see {}", self.path().join("log").display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(child)
    }

    /// Connects as an operator.
    pub(super) async fn operator(&self) -> Result<Operator> {
        let file = |name: &str| self.path().join(name);
        let credentials =
            Credentials { ca: file("ca.pem"), certificate: file("alice.pem"), key: file("alice.key") };
        let credentials = LiveCredentials::open(credentials, Arc::new(SystemClock))?;
        let target = Target::parse(&self.server())?;
        let connection = Connection::open(&target, credentials, &Patience::default()).await?;
        let channel = connection.channel();
        Ok(Operator {
            checkpoints: CheckpointServiceClient::new(channel.clone()),
            rollbacks: RollbackServiceClient::new(channel).max_decoding_message_size(64 << 20),
            connection,
        })
    }

    /// How many events an operation has, and how many bytes they hold.
    pub(super) fn history(&self, name: &str) -> Result<(i64, i64)> {
        let id = name.rsplit('/').next().unwrap_or(name);
        let store =
            rusqlite::Connection::open_with_flags(self.store(), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let sql = "SELECT COUNT(*), COALESCE(SUM(LENGTH(body)), 0) FROM event WHERE operation = ?1";
        Ok(store.query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }
}

/// How a rollback is done.
pub(super) struct How {
    pub(super) strategy: v1::rollback_spec::Strategy,
    /// The size of its waves.
    pub(super) percent: u32,
    /// Whether its gates look at health.
    pub(super) watches: bool,
    pub(super) unreachable: v1::rollback_spec::UnreachableAction,
}

impl Operator {
    /// Ends the connection.
    pub(super) fn close(&self) {
        self.connection.close();
    }

    /// Takes a checkpoint; gives how long it took, by the coordinator's record, and its name.
    pub(super) async fn checkpoint(&mut self) -> Result<(f64, String)> {
        let name = self
            .checkpoints
            .create_checkpoint(v1::CreateCheckpointRequest::default())
            .await?
            .into_inner()
            .name;
        let begun = Instant::now();
        loop {
            // A list names its state alone, so that to ask costs the same whatever the number of hosts.
            let request = v1::ListCheckpointsRequest { page_size: 1, ..Default::default() };
            let mut list = self.checkpoints.list_checkpoints(request).await?.into_inner().checkpoints;
            let checkpoint =
                list.pop().filter(|checkpoint| checkpoint.name == name).context("it is the newest")?;
            match checkpoint.state() {
                v1::checkpoint::State::Complete => {
                    return Ok((between(checkpoint.create_time, checkpoint.complete_time), name));
                }
                v1::checkpoint::State::Incomplete => bail!("checkpoint {name} is incomplete"),
                _ if begun.elapsed() > HANG => bail!("checkpoint {name} does not end"),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Starts a rollback to a checkpoint.
    pub(super) async fn roll_back(&mut self, checkpoint: &str, how: &How) -> Result<String> {
        let percent = |percent| v1::Amount { amount: Some(v1::amount::Amount::Percent(percent)) };
        let gradual = how.strategy == v1::rollback_spec::Strategy::Gradual;
        let waves = v1::WavePolicy { sizes: vec![percent(how.percent)], ..Default::default() };
        let spec = v1::RollbackSpec {
            checkpoint: checkpoint.to_owned(),
            strategy: how.strategy.into(),
            waves: gradual.then_some(waves),
            gate: Some(v1::GatePolicy {
                min_healthy_time: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
                ignore_health: Some(!how.watches),
                ..Default::default()
            }),
            on_unreachable: how.unreachable.into(),
            ..Default::default()
        };
        let request = v1::CreateRollbackRequest { spec: Some(spec), ..Default::default() };
        Ok(self.rollbacks.create_rollback(request).await?.into_inner().name)
    }

    /// The rollback as lists show it.
    pub(super) async fn rollback(&mut self, name: &str) -> Result<v1::Rollback> {
        let request = v1::ListRollbacksRequest { page_size: 1, ..Default::default() };
        let mut list = self.rollbacks.list_rollbacks(request).await?.into_inner().rollbacks;
        list.pop().filter(|rollback| rollback.name == name).context("it is the newest")
    }

    /// Waits for the outcome; gives how long it took, by the coordinator's record.
    pub(super) async fn outcome(&mut self, name: &str, wanted: v1::rollback::Outcome) -> Result<f64> {
        let begun = Instant::now();
        loop {
            let rollback = self.rollback(name).await?;
            match (rollback.state(), rollback.outcome()) {
                (v1::rollback::State::Finished, outcome) if outcome == wanted => {
                    return Ok(between(rollback.create_time, rollback.finish_time));
                }
                (v1::rollback::State::Finished | v1::rollback::State::Paused, outcome) => {
                    bail!(
                        "rollback {name} is {} with {}: {:?}",
                        rollback.state().as_str_name(),
                        outcome.as_str_name(),
                        rollback.cause
                    )
                }
                _ if begun.elapsed() > HANG => bail!("rollback {name} does not end"),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Watches a rollback to its end; gives how many messages and bytes that took, and how large the largest was.
    pub(super) async fn watch(&mut self, name: &str) -> Result<(u64, u64, usize)> {
        let request = v1::WatchRollbackRequest { name: name.to_owned(), changes_only: true };
        let mut stream = self.rollbacks.watch_rollback(request).await?.into_inner();
        let (mut messages, mut bytes, mut largest) = (0, 0, 0);
        while let Some(message) = stream.message().await? {
            let length = message.encoded_len();
            (messages, bytes, largest) = (messages + 1, bytes + length as u64, largest.max(length));
        }
        Ok((messages, bytes, largest))
    }
}

fn between(from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>) -> f64 {
    let seconds = |time: prost_types::Timestamp| time.seconds as f64 + f64::from(time.nanos) / 1e9;
    match (from, to) {
        (Some(from), Some(to)) => seconds(to) - seconds(from),
        _ => f64::NAN,
    }
}
