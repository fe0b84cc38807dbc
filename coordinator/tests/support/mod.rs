//! A fleet in one process: a real coordinator, and agents that speak the real link over real mutual TLS, but keep
//! nothing on disk: a host's state is a number.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each suite uses its part of it")]

pub mod agent;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rfs_coordinator::config::Config;
use rfs_coordinator::serve::Serving;
use rfs_link::pki::{self, Authority, Existing, Order};
use rfs_link::{Connection, Credentials, Failure, Identity, LiveCredentials, Patience, Target};
use rfs_model::time::{SharedClock, SystemClock};
use rfs_model::{Clock, Timestamp};
use rfs_proto::v1::checkpoint_service_client::CheckpointServiceClient;
use rfs_proto::v1::host_service_client::HostServiceClient;
use rfs_proto::v1::rollback_service_client::RollbackServiceClient;
use tempfile::TempDir;
use tonic::transport::Channel;

pub use agent::FakeAgent;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const DOMAIN: &str = "fleet.test";

/// A folder with an authority, a configuration and a store, and the coordinator that serves from it.
pub struct Fleet {
    folder: TempDir,
    authority: Authority,
    serving: Option<Serving>,
    address: SocketAddr,
}

impl Fleet {
    /// Starts a coordinator; alice may do everything, vera only look.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let domain = DOMAIN.parse().expect("a domain");
        pki::init(folder.path(), &domain, YEAR, Existing::Keep, &SystemClock).expect("an authority");
        let authority = Authority::open(folder.path()).expect("the authority that was made");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut fleet = Self { folder, authority, serving: None, address };
        fleet.issue("coordinator/main", &["127.0.0.1"]);
        fleet.resume().await;
        fleet
    }

    /// Tries to serve from the same store, on another address.
    pub async fn second(&self) -> Result<(), Failure> {
        let mut config = Config::read(&self.path("coordinator.toml")).expect("a good configuration");
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Serving::start(config, Arc::new(SystemClock)).await.map(drop).map_err(|error| error.failure())
    }

    /// Serves on the same address and from the same store as before.
    pub async fn resume(&mut self) {
        self.resume_by(Arc::new(SystemClock)).await;
    }

    /// The same on a machine whose clock shows another time than before.
    pub async fn resume_by(&mut self, clock: SharedClock) {
        assert!(self.serving.is_none(), "it serves already");
        let config = self.folder.path().join("coordinator.toml");
        let text = format!(
            r#"
listen = "{}"
trust_domain = "{DOMAIN}"
tls = {{ ca = "ca.pem", certificate = "main.pem", key = "main.key" }}
store = {{ path = "coordinator.db" }}
[roles]
alice = ["operator", "approver"]
vera = ["viewer"]
"#,
            self.address
        );
        fs::write(&config, text).expect("written");
        let config = Config::read(&config).expect("a good configuration");
        let serving = Serving::start(config, clock).await.expect("a coordinator that serves");
        self.address = serving.address();
        self.serving = Some(serving);
    }

    /// Stops the coordinator; agents and operators notice.
    pub async fn stop(&mut self) {
        let serving = self.serving.take().expect("it serves");
        serving.stop().await.expect("a clean end");
    }

    /// A copy of the store's file. The coordinator must not serve.
    pub fn copy_store(&self) -> Vec<u8> {
        assert!(self.serving.is_none(), "it serves");
        fs::read(self.path("coordinator.db")).expect("the store")
    }

    /// Puts the store back to a copy.
    pub fn put_store_back(&self, copy: &[u8]) {
        assert!(self.serving.is_none(), "it serves");
        for log in ["coordinator.db-wal", "coordinator.db-shm"] {
            let _ = fs::remove_file(self.path(log));
        }
        fs::write(self.path("coordinator.db"), copy).expect("written");
    }

    /// Where the coordinator is reached.
    pub fn target(&self) -> Target {
        Target::parse(&format!("https://{}", self.address)).expect("an address")
    }

    /// Issues a certificate, such as for `operator/alice`.
    pub fn issue(&self, identity: &str, names: &[&str]) -> Credentials {
        let id: rfs_link::SpiffeId = format!("spiffe://{DOMAIN}/{identity}").parse().expect("an identity");
        let order = Order {
            identity: id.identity,
            names: names.iter().map(ToString::to_string).collect(),
            validity: YEAR,
        };
        let issued = self.authority.issue(&order, &SystemClock).expect("a certificate");
        let file = |ending: &str| self.path(&format!("{}.{ending}", order.identity.name()));
        issued.write(&file("pem"), &file("key"), Existing::Replace).expect("written");
        Credentials { ca: self.path("ca.pem"), certificate: file("pem"), key: file("key") }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    /// A connection as `identity`.
    pub async fn connect(&self, identity: &str) -> Connection {
        let credentials =
            LiveCredentials::open(self.issue(identity, &[]), Arc::new(SystemClock)).expect("credentials");
        Connection::open(&self.target(), credentials, &Patience::default()).await.expect("a connection")
    }

    /// An operator's clients.
    pub async fn operator(&self, name: &str) -> Operator {
        Operator { link: self.connect(&format!("operator/{name}")).await }
    }

    /// Starts the agent of a host, with labels such as `role=web`.
    pub fn agent(&self, host: &str, labels: &[&str]) -> FakeAgent {
        let credentials = self.issue(&format!("agent/{host}"), &[]);
        FakeAgent::start(self.target(), credentials, host, labels)
    }
}

/// A machine's clock that was set: so many milliseconds later than it should be.
pub struct SetClock(pub i64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.0)
    }
}

/// The identity of a host's agent.
pub fn agent_identity(host: &str) -> Identity {
    Identity::Agent(host.parse().expect("a host name"))
}

/// An operator's connection.
pub struct Operator {
    pub link: Connection,
}

impl Operator {
    pub fn hosts(&self) -> HostServiceClient<Channel> {
        HostServiceClient::new(self.link.channel())
    }

    pub fn checkpoints(&self) -> CheckpointServiceClient<Channel> {
        CheckpointServiceClient::new(self.link.channel())
    }

    pub fn rollbacks(&self) -> RollbackServiceClient<Channel> {
        RollbackServiceClient::new(self.link.channel())
    }

    /// The answer of a call that must succeed.
    pub fn good<T>(&self, answer: Result<tonic::Response<T>, tonic::Status>) -> T {
        match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => panic!("the call failed: {:?}", self.link.failure(&status)),
        }
    }

    /// The failure of a call that must be refused.
    pub fn refused<T>(&self, answer: Result<tonic::Response<T>, tonic::Status>) -> Failure {
        match answer {
            Ok(_) => panic!("the call was not refused"),
            Err(status) => self.link.failure(&status),
        }
    }
}

/// Waits until `holds` gives something; a test that would wait for ever fails with `what`.
pub async fn until<T>(what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), waiting).await {
        Ok(found) => found,
        Err(_) => panic!("did not come to pass within 20 s: {what}"),
    }
}
