//! `rfs.agent.v1.LocalService` on the unix socket, with health and reflection beside it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use rfs_link::server::{self, DescriptorError, Limits, ServeError};
use rfs_link::{Failure, LocalPeer, LocalSocket, incoming};
use rfs_model::Reason;
use rfs_model::time::SharedClock;
use rfs_proto::agent::v1 as local;
use rfs_proto::agent::v1::local_service_server::{LocalService, LocalServiceServer};
use rfs_proto::convert::{self, FieldError, parse};
use rfs_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use super::contract::{Administration, Progress, RestoreOrder};
use crate::commander::{Activity, Intake, Refusal};
use crate::health::HostHealth;
use crate::session::{About, LinkState};
use crate::wire;

/// How many snapshots a page has when the caller does not say, and at most.
const PAGE: usize = 100;
const PAGE_MOST: usize = 1000;
/// How many messages of a plan wait for a client that reads slowly.
const PLANS: usize = 2;

/// The host, as its own service shows it.
#[derive(Clone)]
pub struct LocalHost {
    /// Who the agent is.
    pub about: About,
    /// Does what is asked.
    pub administration: Arc<dyn Administration>,
    /// Says what is at work.
    pub intake: Arc<dyn Intake>,
    /// How well the host is.
    pub health: watch::Receiver<HostHealth>,
    /// Whether the coordinator is connected.
    pub link: watch::Receiver<LinkState>,
    /// The clock.
    pub clock: SharedClock,
}

/// Why the socket is not served.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The socket cannot be bound.
    #[error("cannot listen on {}", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A fault in the build.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// Serving ended by itself.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// A socket that is bound and not served yet.
#[derive(Debug)]
pub struct LocalServer {
    socket: LocalSocket,
}

impl LocalServer {
    /// Binds `path`, in a folder that may have to be made. The caller holds the lock of the store.
    pub fn bind(path: &Path) -> Result<Self, LocalError> {
        let bind = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            LocalSocket::bind(path)
        };
        // A full disk must not keep an agent from being asked: what the store keeps for that is given back.
        let gives_way = || path.parent().is_some_and(rfs_store::give_back);
        let is_full = |bound: &io::Result<LocalSocket>| {
            bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
        };
        let mut bound = bind();
        while is_full(&bound) && gives_way() {
            bound = bind();
        }
        let socket = bound.map_err(|source| LocalError::Bind { path: path.to_owned(), source })?;
        Ok(Self { socket })
    }

    /// Serves `host` until `stop` is cancelled.
    pub async fn serve(self, host: LocalHost, stop: CancellationToken) -> Result<(), LocalError> {
        let limits = Limits { connection_age: None, ..Limits::default() };
        let name = <LocalServiceServer<LocalHost> as tonic::server::NamedService>::NAME;
        let (routes, health) = server::standard_listing(&[rfs_proto::DESCRIPTORS], &[name])?;
        health.set_serving::<LocalServiceServer<LocalHost>>().await;
        let service = LocalServiceServer::new(host).max_decoding_message_size(limits.message_bytes());
        let router = server::builder(&limits).add_routes(routes.add_service(service));
        let close = CancellationToken::new();
        let incoming = incoming::local(self.socket, close.clone());
        Ok(server::serve(router, incoming, &limits, stop, close).await?)
    }
}

#[tonic::async_trait]
impl LocalService for LocalHost {
    async fn get_status(
        &self,
        _: Request<local::GetStatusRequest>,
    ) -> Result<Response<local::Status>, Status> {
        let (intake, administration) = (self.intake.clone(), self.administration.clone());
        let (state, last_restore) =
            blocking(move || Ok((intake.state(), administration.last_restore()))).await?;
        let (health, link) = (self.health.borrow().clone(), self.link.borrow().clone());
        let operation = state.activity.as_ref().map(|activity| match activity.operation {
            Some(operation) => format!("{} of {operation}", activity.step),
            None => format!("{} by an administrator", activity.step),
        });
        let operation = operation.or(state.work);
        Ok(Response::new(local::Status {
            host: self.about.host.to_string(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            connected: link.is_connected(),
            link: link.to_string(),
            generation: state.generation.0,
            operation: operation.unwrap_or_default(),
            phase: state.activity.as_ref().map(Activity::at).unwrap_or_default(),
            inconsistent: state.inconsistent.is_some(),
            last_restore: match state.inconsistent {
                Some(stuck) => format!("INCONSISTENT since {}: {}", stuck.since, stuck.message),
                None => last_restore.unwrap_or_default(),
            },
            health: v1::Health::from(health.health).into(),
            checks: wire::write_checks(&health, wire::Moment::now(self.clock.now())),
            components: self.about.components.clone(),
        }))
    }

    async fn list_snapshots(
        &self,
        request: Request<local::ListSnapshotsRequest>,
    ) -> Result<Response<local::ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE_MOST),
            Err(_) => return Err(Failure::invalid("page_size", "must not be negative").into()),
        };
        let administration = self.administration.clone();
        let snapshots = blocking(move || administration.snapshots()).await?;
        let start = match request.page_token.as_str() {
            "" => 0,
            token => match snapshots.iter().position(|snapshot| snapshot.id.to_string() == token) {
                Some(last) => last + 1,
                None => return Err(Failure::invalid("page_token", "is not from a previous response").into()),
            },
        };
        let page = &snapshots[start..snapshots.len().min(start + size)];
        let more = start + page.len() < snapshots.len();
        let last = page.last().filter(|_| more).map(|snapshot| snapshot.id.to_string());
        Ok(Response::new(local::ListSnapshotsResponse {
            snapshots: page.iter().map(wire::write_snapshot).collect(),
            next_page_token: last.unwrap_or_default(),
        }))
    }

    async fn capture(
        &self,
        request: Request<local::CaptureRequest>,
    ) -> Result<Response<local::Snapshot>, Status> {
        log(&request, "capture");
        let request = request.into_inner();
        let component = |(i, name): (usize, &String)| parse(&format!("components[{i}]"), name);
        let components = request.components.iter().enumerate().map(component).collect::<Result<_, _>>();
        let components = components.map_err(invalid)?;
        let administration = self.administration.clone();
        let snapshot = blocking(move || administration.capture(&components, &request.reason)).await?;
        Ok(Response::new(wire::write_snapshot(&snapshot)))
    }

    type PlanRestoreStream = Pin<Box<dyn Stream<Item = Result<v1::HostPlan, Status>> + Send>>;

    async fn plan_restore(
        &self,
        request: Request<local::PlanRestoreRequest>,
    ) -> Result<Response<Self::PlanRestoreStream>, Status> {
        let request = request.into_inner();
        let selection = wire::read_selection("selection", request.selection.as_ref()).map_err(invalid)?;
        let administration = self.administration.clone();
        let choices = wire::read_choices("choices", request.choices).map_err(invalid)?;
        if request.all {
            let host = self.about.host.to_string();
            let (sender, receiver) = mpsc::channel(PLANS);
            tokio::task::spawn_blocking(move || {
                let mut messages = wire::PlanMessages::new(host);
                // A client that has gone is told nothing more; the plan ends by itself.
                let mut see = |part| {
                    if let Some(message) = messages.take(part) {
                        let _ = sender.blocking_send(Ok(message));
                    }
                };
                let planned = administration.plan_all(&request.snapshot, &selection, &choices, &mut see);
                let last = match planned {
                    Ok(()) => Ok(messages.last()),
                    Err(refusal) => Err(Failure::from(refusal).into()),
                };
                let _ = sender.blocking_send(last);
            });
            return Ok(Response::new(Box::pin(ReceiverStream::new(receiver))));
        }
        let plan =
            blocking(move || administration.plan_with(&request.snapshot, &selection, &choices)).await?;
        let messages = wire::split_plan(wire::write_whole_plan(self.about.host.as_str(), &plan));
        Ok(Response::new(Box::pin(tokio_stream::iter(messages.into_iter().map(Ok)))))
    }

    type RestoreStream = Pin<Box<dyn Stream<Item = Result<local::RestoreProgress, Status>> + Send>>;

    async fn restore(
        &self,
        request: Request<local::RestoreRequest>,
    ) -> Result<Response<Self::RestoreStream>, Status> {
        log(&request, "restore");
        let order = read_order(request.into_inner()).map_err(invalid)?;
        let administration = self.administration.clone();
        let (sender, receiver) = mpsc::channel(16);
        // Not awaited: the restore goes on when its client goes away, and its end is then in the log and in status.
        tokio::task::spawn_blocking(move || {
            let progress = |progress: Progress| {
                // A client that reads slowly misses some; the last message is never dropped.
                let _ = sender.try_send(Ok(write_progress(progress)));
            };
            let last = match administration.restore(&order, &progress) {
                Ok(view) => {
                    info!(snapshot = order.snapshot, standing = %view.standing, "restore ended");
                    let result = Some(wire::write_restore(&view));
                    Ok(local::RestoreProgress { result, ..local::RestoreProgress::default() })
                }
                Err(refusal) => {
                    warn!(snapshot = order.snapshot, error = %refusal, "restore refused");
                    Err(Failure::from(refusal).into())
                }
            };
            let _ = sender.blocking_send(last);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn pin_snapshot(
        &self,
        request: Request<local::PinSnapshotRequest>,
    ) -> Result<Response<local::Snapshot>, Status> {
        log(&request, "pin");
        let local::PinSnapshotRequest { snapshot, reason } = request.into_inner();
        let snapshot = named(snapshot)?;
        let pinned = self.blocking(move |host| host.pin(&snapshot, &reason)).await?;
        Ok(Response::new(wire::write_snapshot(&pinned)))
    }

    async fn unpin_snapshot(
        &self,
        request: Request<local::UnpinSnapshotRequest>,
    ) -> Result<Response<local::Snapshot>, Status> {
        log(&request, "unpin");
        let snapshot = named(request.into_inner().snapshot)?;
        let unpinned = self.blocking(move |host| host.unpin(&snapshot)).await?;
        Ok(Response::new(wire::write_snapshot(&unpinned)))
    }

    async fn delete_snapshot(
        &self,
        request: Request<local::DeleteSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        log(&request, "delete");
        let snapshot = named(request.into_inner().snapshot)?;
        self.blocking(move |host| host.delete(&snapshot)).await?;
        Ok(Response::new(()))
    }

    async fn drill_snapshot(
        &self,
        request: Request<local::DrillSnapshotRequest>,
    ) -> Result<Response<local::DrillResult>, Status> {
        log(&request, "drill");
        let local::DrillSnapshotRequest { snapshot, scratch } = request.into_inner();
        let snapshot = named(snapshot)?;
        let scratch = Some(PathBuf::from(scratch)).filter(|path| path != Path::new(""));
        if scratch.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(Failure::invalid("scratch", "must be absolute").into());
        }
        let drilled = self.blocking(move |host| host.drill(&snapshot, scratch.as_deref())).await?;
        Ok(Response::new(wire::write_drilled(&drilled)))
    }

    async fn collect_snapshots(
        &self,
        request: Request<local::CollectSnapshotsRequest>,
    ) -> Result<Response<local::CollectResult>, Status> {
        log(&request, "collect");
        let collected = self.blocking(|host| host.collect()).await?;
        Ok(Response::new(wire::write_collected(&collected)))
    }

    async fn repair_store(
        &self,
        request: Request<local::RepairStoreRequest>,
    ) -> Result<Response<local::RepairResult>, Status> {
        log(&request, "repair");
        let repaired = self.blocking(|host| host.repair()).await?;
        Ok(Response::new(wire::write_repaired(&repaired)))
    }
}

impl LocalHost {
    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Administration) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Status> {
        let administration = self.administration.clone();
        blocking(move || ask(&*administration)).await
    }
}

/// The snapshot that a request names.
fn named(snapshot: String) -> Result<String, Status> {
    match snapshot.is_empty() {
        true => Err(Failure::invalid("snapshot", "is required").into()),
        false => Ok(snapshot),
    }
}

fn read_order(request: local::RestoreRequest) -> Result<RestoreOrder, FieldError> {
    let timeout =
        request.timeout.map(|timeout| convert::from_wire_duration("timeout", timeout)).transpose()?;
    if request.snapshot.is_empty() {
        return Err(FieldError::new("snapshot", "is required"));
    }
    Ok(RestoreOrder {
        snapshot: request.snapshot,
        selection: wire::read_selection("selection", request.selection.as_ref())?,
        timeout: timeout.filter(|timeout| !timeout.is_zero()),
        force: request.force,
        choices: wire::read_choices("choices", request.choices)?,
    })
}

fn write_progress(progress: Progress) -> local::RestoreProgress {
    local::RestoreProgress {
        phase: progress.phase.to_string(),
        steps_done: progress.steps_done,
        steps_total: progress.steps_total,
        result: None,
    }
}

fn invalid(error: FieldError) -> Status {
    Failure::from(Refusal::from(error)).into()
}

fn log<T>(request: &Request<T>, call: &str) {
    if let Some(peer) = request.extensions().get::<LocalPeer>() {
        info!(call, uid = peer.uid, pid = peer.pid, "asked through the local socket");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(refusal)) => Err(Failure::from(refusal).into()),
        Err(error) => Err(Failure::new(Reason::Internal, format!("a fault in the agent: {error}")).into()),
    }
}
