//! `rfs.v1.CheckpointService`: a fleet's snapshots under one id.

use std::sync::Arc;

use futures_util::StreamExt as _;
use rfs_link::Failure;
use rfs_model::{CheckpointId, DeploymentId, Reason};
use rfs_proto::convert;
use rfs_proto::v1::checkpoint_service_server::CheckpointService;
use rfs_proto::v1::{self, Checkpoint};
use rfs_rollout::{Person, PersonAction};
use tonic::{Request, Response, Status};

use super::page::{List, Size};
use super::show::Lost;
use super::watch::{Answers, Feeds, answers, changes};
use super::{invalid, page_after, read, show, store_failure};
use crate::driver::{OperationError, Operations, View};
use crate::store::{ListQuery, OperationKind, Store};

const PAGE: Size = Size { default: 50, most: 1000 };

/// The service.
pub struct Checkpoints {
    operations: Operations,
    store: Arc<dyn Store>,
    feeds: Feeds<Checkpoint>,
}

impl Checkpoints {
    /// Answers from `operations`, and from what the store keeps of the hosts' snapshots.
    pub fn new(operations: Operations, store: Arc<dyn Store>) -> Self {
        Self { operations, store, feeds: Feeds::default() }
    }

    async fn shown(&self, id: CheckpointId) -> Result<Checkpoint, Failure> {
        let view = self.operations.get(id.into()).await?;
        let shown = view.as_ref().and_then(shown).ok_or_else(|| unknown(id))?;
        as_it_is_now(&*self.store, id, shown).await
    }
}

/// What was complete is not any more when a host has dropped its snapshot; a host that was forgotten since is missing from it.
async fn as_it_is_now(
    store: &dyn Store,
    id: CheckpointId,
    mut shown: Checkpoint,
) -> Result<Checkpoint, Failure> {
    if shown.state() == v1::checkpoint::State::Complete {
        lost_since(store, id).await?.correct(&mut shown);
    }
    Ok(shown)
}

/// What a complete checkpoint has lost since.
pub(super) async fn lost_since(store: &dyn Store, id: CheckpointId) -> Result<Lost, Failure> {
    let dropped = store.dropped_snapshots(id).await.map_err(|error| store_failure(&error))?;
    let forgotten = store.forgotten_hosts().await.map_err(|error| store_failure(&error))?;
    let forgotten = forgotten.into_iter().filter_map(|row| Some((row.host, row.machines.forgotten_at?)));
    Ok(Lost { dropped, forgotten: forgotten.collect() })
}

fn unknown(id: CheckpointId) -> Failure {
    Failure::new(Reason::CheckpointNotFound, format!("there is no checkpoint {id}"))
}

/// The checkpoint that an operation is.
fn shown(view: &View) -> Option<Checkpoint> {
    view.checkpoint().map(|checkpoint| show::checkpoint(checkpoint, &view.progress))
}

#[tonic::async_trait]
impl CheckpointService for Checkpoints {
    async fn create_checkpoint(
        &self,
        request: Request<v1::CreateCheckpointRequest>,
    ) -> Result<Response<Checkpoint>, Status> {
        let requester = read::requester(&request)?;
        let wire = request.into_inner();
        let request_id = read::request_id(&wire.request_id).map_err(invalid)?;
        let request = read::checkpoint_request(wire, requester).map_err(invalid)?;
        let id = self.operations.create_checkpoint(request, request_id).await.map_err(Failure::from)?;
        Ok(Response::new(self.shown(id).await?))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<Checkpoint>, Status> {
        let id = match request.get_ref().name.as_str() {
            "checkpoints/latest" => {
                let latest = self.operations.latest_checkpoint().await.map_err(Failure::from)?;
                latest.ok_or_else(|| Failure::from(OperationError::NoneComplete))?
            }
            name => convert::checkpoint_id("name", name).map_err(invalid)?,
        };
        Ok(Response::new(self.shown(id).await?))
    }

    async fn list_checkpoints(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
        let request = request.into_inner();
        let size = PAGE.of(request.page_size)?;
        let deployment: Option<DeploymentId> = match request.deployment_id.as_str() {
            "" => None,
            id => Some(convert::parse("deployment_id", id).map_err(invalid)?),
        };
        let list = List::new("checkpoints", &deployment);
        let after = page_after(&list, &request.page_token)?;
        let query = ListQuery { kind: OperationKind::Checkpoint, deployment, limit: size, after };
        let page = self.operations.list(query).await.map_err(Failure::from)?;
        Ok(Response::new(v1::ListCheckpointsResponse {
            checkpoints: page.items.iter().filter_map(show::checkpoint_summary).collect(),
            next_page_token: page.next.map(|next| list.token(&next.0.to_string())).unwrap_or_default(),
        }))
    }

    async fn abort_checkpoint(
        &self,
        request: Request<v1::AbortCheckpointRequest>,
    ) -> Result<Response<Checkpoint>, Status> {
        let who = read::requester(&request)?;
        let id = convert::checkpoint_id("name", &request.get_ref().name).map_err(invalid)?;
        // Of another kind, or deleted.
        self.shown(id).await?;
        let person = Person { who, action: PersonAction::Abort };
        self.operations.command(id.into(), person).await.map_err(|error| match error {
            OperationError::Refused(_) => {
                Failure::from(error).next(format!("look at it with: rfs checkpoint show {id}"))
            }
            error => error.into(),
        })?;
        Ok(Response::new(self.shown(id).await?))
    }

    async fn delete_checkpoint(
        &self,
        request: Request<v1::DeleteCheckpointRequest>,
    ) -> Result<Response<()>, Status> {
        let id = convert::checkpoint_id("name", &request.get_ref().name).map_err(invalid)?;
        match self.operations.delete_checkpoint(id).await {
            Ok(()) => Ok(Response::new(())),
            Err(OperationError::NoCheckpoint(id)) => Err(unknown(id).into()),
            Err(error) => Err(Failure::from(error).into()),
        }
    }

    type WatchCheckpointStream = Answers<Checkpoint>;

    async fn watch_checkpoint(
        &self,
        request: Request<v1::WatchCheckpointRequest>,
    ) -> Result<Response<Self::WatchCheckpointStream>, Status> {
        let request = request.into_inner();
        let id = convert::checkpoint_id("name", &request.name).map_err(invalid)?;
        let followed = self.operations.follow(id.into()).await.map_err(Failure::from)?;
        let followed = followed.filter(|followed| followed.first.checkpoint().is_some());
        let followed = followed.ok_or_else(|| unknown(id))?;
        let store = self.store.clone();
        if request.changes_only {
            return Ok(Response::new(changes(followed, &self.feeds, Some(store))));
        }
        let views = answers(followed.views(), shown);
        let shown = views.then(move |answer| {
            let store = store.clone();
            async move { Ok(as_it_is_now(&*store, id, answer?).await?) }
        });
        Ok(Response::new(Box::pin(shown)))
    }
}
