//! The server as a whole: opened, serving, stopped.
//!
//! ```text
//! configuration ─▶ credentials, listener ─▶ store ─▶ hub ⇄ drivers ─▶ routes behind authz ─▶ serve
//!                                                                 stop ─▶ drain ─▶ cut ─▶ drivers end ─▶ store closed
//! ```
//!
//! Time is the [`timeline`](crate::timeline)'s, whatever is done to the machine's clock; certificates alone are judged by that.
//! One coordinator at a time has a store: a lock beside the file sees to that.
//! The listener is bound before anything is promised: once [`Serving::start`] returns, a connection is taken.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rfs_link::identity::CertificateFacts;
use rfs_link::server::{self, DescriptorError, Limits};
use rfs_link::{CredentialsError, Failure, Identity, LiveCredentials, SpiffeId, TrustDomain, incoming};
use rfs_model::Reason;
use rfs_model::time::SharedClock;
use rfs_proto::agentlink::v1::agent_link_server::AgentLinkServer;
use rfs_proto::v1::checkpoint_service_server::CheckpointServiceServer;
use rfs_proto::v1::host_service_server::HostServiceServer;
use rfs_proto::v1::rollback_service_server::RollbackServiceServer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{info, warn};

use crate::api::authz::{Authorize, CurrentRoles, Roles};
use crate::api::checkpoint::Checkpoints;
use crate::api::host::Hosts;
use crate::api::rollback::Rollbacks;
use crate::config::Config;
use crate::driver::{Operations, fleet};
use crate::hub::{Door, Hub};
use crate::store::{SqliteStore, Store, StoreError};
use crate::timeline::{self, Moment};

/// A coordinator that serves.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    roles: CurrentRoles,
    stop: CancellationToken,
    task: JoinHandle<Result<(), server::ServeError>>,
}

/// Why a coordinator cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The files of `[tls]` cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate is another's than a coordinator's of this fleet.
    #[error("the certificate in {file} names {found}; a coordinator of {expected} is needed")]
    NotACoordinator {
        /// The certificate's file.
        file: String,
        /// Whom it names.
        found: SpiffeId,
        /// The fleet that is configured.
        expected: TrustDomain,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another coordinator has the store.
    #[error("another coordinator has the store {}", .0.display())]
    StoreInUse(PathBuf),
    /// The store's lock cannot be taken.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The file that is locked.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be opened, or does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reflection service cannot be made.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// Serving ended by itself.
    #[error(transparent)]
    Server(#[from] server::ServeError),
    /// The task that serves died.
    #[error("the server's task failed")]
    Task(#[from] tokio::task::JoinError),
}

impl ServeError {
    /// The error as a failure, with what to do next.
    pub fn failure(&self) -> Failure {
        let text = rfs_link::Chain(self).to_string();
        match self {
            Self::Credentials(error) => error.failure(),
            Self::NotACoordinator { .. } => Failure::new(Reason::InvalidArgument, text)
                .next("issue one with: rfs pki issue coordinator NAME --dns HOST; or correct trust_domain"),
            Self::Listen { address, .. } => Failure::new(Reason::InvalidArgument, text).next(format!(
                "see who listens there: ss -ltnp 'sport = :{}'; or change listen",
                address.port()
            )),
            Self::StoreInUse(_) => Failure::new(Reason::StoreLocked, text)
                .next("stop the other one first; two would each call the other's hosts unreachable"),
            Self::Lock { path, .. } => Failure::new(Reason::Io, text)
                .next(format!("see that this user may make and write the folder of {}", path.display())),
            Self::Store(StoreError::Open { path, .. }) => Failure::new(Reason::Io, text).next(format!(
                "see that the folder of {path} exists and can be written to; then start again"
            )),
            Self::Store(StoreError::Database(_) | StoreError::Damaged { .. })
            | Self::Descriptors(_)
            | Self::Server(_)
            | Self::Task(_) => Failure::new(Reason::Internal, text),
        }
    }
}

impl Serving {
    /// Opens everything that `config` names and begins to serve. `clock` is the machine's: certificates are judged by it, and
    /// the coordinator's own time, which never steps, begins by it.
    pub async fn start(config: Config, clock: SharedClock) -> Result<Self, ServeError> {
        let moment = Moment::now(&*clock);
        Self::start_at(config, clock, moment).await
    }

    /// The same at a given moment of a machine's life.
    pub async fn start_at(config: Config, clock: SharedClock, moment: Moment) -> Result<Self, ServeError> {
        let limits = limits();
        let machine = clock;
        let credentials = open_credentials(&config, machine.clone())?;
        let listener = bind(config.listen).await?;
        let address =
            listener.local_addr().map_err(|source| ServeError::Listen { address: config.listen, source })?;
        let settings = config.settings();
        let roles = CurrentRoles::new(config.roles);
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());

        let lock = lock(&config.store.path)?;
        let store = Arc::new(SqliteStore::open(&config.store.path).await?);
        let clock: SharedClock = Arc::new(timeline::begin(&*store, moment).await?);
        let (events, told) = fleet::channel();
        let hub = Hub::open(store.clone(), clock.clone(), events, stop.clone()).await?;
        let operations = Operations::open(
            store.clone(),
            Arc::new(hub.clone()),
            clock.clone(),
            told,
            stop.clone(),
            settings,
        )
        .await?;
        let routes = routes(&hub, &operations, store.clone(), limits.message_bytes()).await?;
        let router = server::builder(&limits).layer(Authorize(roles.clone())).add_routes(routes);
        credentials.follow(stop.clone());
        tokio::spawn(timeline::compare(clock.clone(), machine, stop.clone()));
        let incoming = incoming::mutual_tls(listener, credentials, &limits, close.clone());
        let serving = {
            let stop = stop.clone();
            async move {
                let served = server::serve(router, incoming, &limits, stop.clone(), close).await;
                // Whatever ended it, what is being stored is stored.
                stop.cancel();
                operations.ended().await;
                store.close().await;
                drop(lock);
                served
            }
        };
        info!(%address, "serving");
        Ok(Self { address, roles, stop, task: tokio::spawn(serving) })
    }

    /// Where it listens; with port 0 configured, the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts other roles in force, without a restart.
    pub fn set_roles(&self, roles: Roles) {
        self.roles.set(roles);
    }

    /// Tells it to stop, once for all who hold the token.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Serves until it is told to stop, or fails.
    pub async fn ended(&mut self) -> Result<(), ServeError> {
        (&mut self.task).await??;
        Ok(())
    }

    /// Stops it: open calls are given a moment to end.
    pub async fn stop(mut self) -> Result<(), ServeError> {
        self.stop.cancel();
        self.ended().await
    }
}

/// For how many hosts a coordinator is made.
const FLEET: usize = 10_000;

/// What this process bears, with as many open files as the system allows it.
fn limits() -> Limits {
    let files = server::raise_file_limit();
    let limits = Limits::default().within(files);
    if let Some(files) = files.filter(|_| limits.agents() < FLEET) {
        warn!(
            files,
            agents = limits.agents(),
            "this process may have few open files, so that no more agents than this can connect; for a larger fleet set \
             LimitNOFILE=65536 in its unit, or ulimit -n 65536 before its start"
        );
    }
    limits
}

/// Every service that the table of roles names.
async fn routes(
    hub: &Hub,
    operations: &Operations,
    store: Arc<dyn Store>,
    largest: usize,
) -> Result<Routes, ServeError> {
    let (routes, health) = server::standard(&[crate::api::descriptors()])?;
    let hosts =
        HostServiceServer::new(Hosts::new(hub.clone(), store.clone())).max_decoding_message_size(largest);
    let checkpoints = CheckpointServiceServer::new(Checkpoints::new(operations.clone(), store))
        .max_decoding_message_size(largest);
    let rollbacks = RollbackServiceServer::new(Rollbacks::new(operations.clone(), hub.clone()))
        .max_decoding_message_size(largest);
    // Once it answers, it serves; when it stops, it does not answer.
    health.set_serving::<HostServiceServer<Hosts>>().await;
    health.set_serving::<CheckpointServiceServer<Checkpoints>>().await;
    health.set_serving::<RollbackServiceServer<Rollbacks>>().await;
    health.set_serving::<AgentLinkServer<Door>>().await;
    Ok(routes
        .add_service(hub.door().service(largest))
        .add_service(hosts)
        .add_service(checkpoints)
        .add_service(rollbacks))
}

/// Whether the certificates that `config` names are whole and a coordinator's of its fleet: what they say.
pub fn check(config: &Config, clock: SharedClock) -> Result<CertificateFacts, ServeError> {
    let credentials = open_credentials(config, clock)?;
    let facts = credentials.own().borrow().clone();
    Ok(facts)
}

fn open_credentials(config: &Config, clock: SharedClock) -> Result<Arc<LiveCredentials>, ServeError> {
    let credentials = LiveCredentials::open(config.tls.clone(), clock)?;
    let found = credentials.id();
    let ours =
        found.trust_domain == config.trust_domain && matches!(found.identity, Identity::Coordinator(_));
    if !ours {
        let file = config.tls.certificate.display().to_string();
        return Err(ServeError::NotACoordinator { file, found, expected: config.trust_domain.clone() });
    }
    Ok(credentials)
}

/// Keeps a second coordinator from the store for as long as the file is held; the kernel lets go of it after any end.
fn lock(store: &Path) -> Result<File, ServeError> {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |source| ServeError::Lock { path: path.clone(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // For its owner alone: the store names every host, and who did what.
        let mut folders = std::fs::DirBuilder::new();
        folders.recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let file = File::options().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
    close_to_others(store).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServeError::StoreInUse(store.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The store and what lies beside it are for their owner alone, whatever they were when they were put there.
fn close_to_others(store: &Path) -> io::Result<()> {
    for end in ["", ".lock", "-wal", "-shm"] {
        let mut path = store.as_os_str().to_owned();
        path.push(end);
        match std::fs::metadata(&path) {
            Ok(found) if found.mode() & 0o077 != 0 => {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// Writes the address to `path`, whole or not at all, so that who waits for the file reads it when it is there.
pub fn write_ready_file(path: &Path, address: SocketAddr) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    std::fs::write(&new, format!("{address}\n"))?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_folders_are_made_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("var/lib/rfs/coordinator.db");
        let held = lock(&store).expect("the first coordinator");
        let mode =
            std::fs::metadata(folder.path().join("var/lib/rfs")).expect("it was made").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(matches!(lock(&store), Err(ServeError::StoreInUse(_))));
        drop(held);
    }
}
