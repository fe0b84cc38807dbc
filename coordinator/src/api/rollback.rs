//! `rfs.v1.RollbackService`: fleet operations that bring hosts to a checkpoint.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use prost::Message as _;
use rfs_link::Failure;
use rfs_model::{HostId, Reason, RequestId, RollbackId};
use rfs_proto::convert::{self, FieldError, required};
use rfs_proto::v1::rollback_service_server::RollbackService;
use rfs_proto::v1::{self, Rollback};
use rfs_rollout::plan::WaveIndex;
use rfs_rollout::{Person, PersonAction, Plan, RollbackRequest, Source};
use tonic::{Request, Response, Status};

use super::page::{List, Size};
use super::watch::{Answers, Feeds, answers, changes};
use super::{invalid, page_after, read, show};
use crate::driver::{ENDING, Operations, PlannedRollback, Undoable, View};
use crate::hub::Hub;
use crate::store::{ListQuery, OperationKind, Position};

const PAGE: Size = Size { default: 50, most: 1000 };
const EVENTS: Size = Size { default: 500, most: 5000 };
/// How large a page of events may be: clients take no message of more than 4 MiB unless they are told to.
const EVENT_BYTES: usize = 2 << 20;

/// The target of who wants the newest complete checkpoint that has every chosen host.
const LATEST: &str = "checkpoints/latest";

/// How long a host may take to say what it would do.
const PLANNING: Duration = Duration::from_secs(30);
/// How many hosts are asked at once.
const ASKED: usize = 256;
/// How many steps and losses of one host are told; the counts are whole.
const TOLD: usize = 1000;

/// The service.
#[derive(Debug)]
pub struct Rollbacks {
    operations: Operations,
    hub: Hub,
    feeds: Feeds<Rollback>,
}

impl Rollbacks {
    /// Answers from `operations`, and asks hosts through `hub` what they would do.
    pub fn new(operations: Operations, hub: Hub) -> Self {
        Self { operations, hub, feeds: Feeds::default() }
    }

    async fn shown(&self, id: RollbackId) -> Result<Rollback, Failure> {
        let view = self.operations.get(id.into()).await?;
        view.as_ref().and_then(shown).ok_or_else(|| unknown(id))
    }

    async fn steer(
        &self,
        name: &str,
        who: String,
        action: PersonAction,
    ) -> Result<Response<Rollback>, Status> {
        let id = convert::rollback_id("name", name).map_err(invalid)?;
        self.shown(id).await?;
        self.operations.command(id.into(), Person { who, action }).await.map_err(|error| {
            let failure = Failure::from(error);
            match failure.reason {
                Reason::WrongState => {
                    failure.next(format!("look at its present state with: rfs rollback show {id}"))
                }
                _ => failure,
            }
        })?;
        Ok(Response::new(self.shown(id).await?))
    }

    /// The wave that is meant where none is named.
    async fn only_wave(&self, name: &str) -> Result<WaveIndex, Status> {
        let id = convert::rollback_id("name", name).map_err(invalid)?;
        match self.shown(id).await?.waves.len() {
            1 => Ok(WaveIndex(0)),
            waves => {
                let text = format!(
                    "is needed: the rollback has {waves} waves, and another one may be present by now"
                );
                Err(Failure::invalid("wave", text).into())
            }
        }
    }

    /// The spec with the checkpoint that it means.
    async fn resolved(&self, spec: Option<v1::RollbackSpec>) -> Result<v1::RollbackSpec, Failure> {
        let mut spec = required("spec", spec).map_err(invalid)?;
        if spec.checkpoint == LATEST {
            let selector = convert::selector("selector", spec.selector.clone())
                .map_err(|error| invalid(error.beneath("spec")))?;
            let latest = self.operations.latest_checkpoint_of(&selector).await;
            spec.checkpoint = convert::checkpoint_name(latest.map_err(|error| error.failure("spec"))?);
        }
        Ok(spec)
    }

    /// Reads how a rollback is to be undone.
    async fn undo(
        &self,
        of: RollbackId,
        spec: Option<v1::RollbackSpec>,
        requester: String,
    ) -> Result<RollbackRequest, Failure> {
        let undone = self.operations.get(of.into()).await?;
        let undone = undone.as_ref().and_then(View::rollback).ok_or_else(|| unknown(of))?;
        let changed = undone.backups().into_keys().collect();
        read::undo_request(of, &undone.request, &changed, spec, requester)
            .map_err(|error| invalid(error.beneath("spec")))
    }

    /// The target with the snapshots of the hosts that are concerned, if it is a checkpoint.
    async fn target(
        &self,
        request: &RollbackRequest,
        plan: &Plan,
    ) -> Result<Option<v1::Checkpoint>, Failure> {
        let Source::Checkpoint(id) = request.source else { return Ok(None) };
        let view = self.operations.get(id.into()).await?;
        let shown = |view: &View| view.checkpoint().map(|is| show::checkpoint(is, &view.progress));
        Ok(view.as_ref().and_then(shown).map(|mut checkpoint| {
            let concerned =
                |host: &str| host.parse::<HostId>().is_ok_and(|host| plan.targets.contains_key(&host));
            checkpoint.snapshots.retain(|snapshot| concerned(&snapshot.host));
            checkpoint
        }))
    }

    async fn create(&self, request: RollbackRequest, id: Option<RequestId>) -> Result<RollbackId, Failure> {
        self.operations.create_rollback(request, id).await.map_err(|error| error.failure("spec"))
    }

    /// Asks every host of a plan what it would do, many at once, each with a deadline of its own.
    async fn ask(&self, request: &RollbackRequest, plan: &Plan) -> Vec<v1::HostPlan> {
        let ask = |(host, target): (&HostId, &rfs_model::SnapshotId)| {
            let (hub, host, target) = (self.hub.clone(), host.clone(), *target);
            async move {
                let answer =
                    hub.plan_restore(&host, target, &request.selection, &request.choices, PLANNING).await;
                told(&host, answer)
            }
        };
        let mut plans: Vec<_> =
            stream::iter(plan.targets.iter().map(ask)).buffer_unordered(ASKED).collect().await;
        plans.sort_by(|a, b| a.host.cmp(&b.host));
        plans
    }
}

/// A host's plan within bounds, or why it has none.
fn told(host: &HostId, answer: Result<v1::HostPlan, Failure>) -> v1::HostPlan {
    match answer {
        Ok(mut plan) => {
            plan.steps.truncate(TOLD);
            plan.losses.truncate(TOLD);
            plan.notes.truncate(TOLD);
            plan
        }
        Err(failure) => v1::HostPlan {
            host: host.to_string(),
            failure: Some(convert::failure(failure.reason, &failure.message, failure.next_step())),
            ..Default::default()
        },
    }
}

fn unknown(id: RollbackId) -> Failure {
    Failure::new(Reason::RollbackNotFound, format!("there is no rollback {id}"))
}

/// The rollback that an operation is.
fn shown(view: &View) -> Option<Rollback> {
    view.rollback().map(|rollback| show::rollback(rollback, &view.progress, &view.outside))
}

/// Reads a spec; fields are named from the request's root.
fn spec(spec: v1::RollbackSpec, reason: String, requester: String) -> Result<RollbackRequest, Failure> {
    let beneath = |error: FieldError| invalid(error.beneath("spec"));
    read::rollback_request(spec, reason, requester).map_err(beneath)
}

#[tonic::async_trait]
impl RollbackService for Rollbacks {
    async fn plan_rollback(
        &self,
        request: Request<v1::PlanRollbackRequest>,
    ) -> Result<Response<v1::PlanRollbackResponse>, Status> {
        let requester = read::requester(&request)?;
        let wire = request.into_inner();
        let request = if wire.undo.is_empty() {
            spec(self.resolved(wire.spec).await?, String::new(), requester)?
        } else {
            let of = convert::rollback_id("undo", &wire.undo).map_err(invalid)?;
            self.undo(of, wire.spec, requester).await?
        };
        let planned = self.operations.plan_rollback(&request).await;
        let PlannedRollback { plan, problem, later } = planned.map_err(|error| error.failure("spec"))?;
        let problem = problem.map(|problem| problem.failure("spec"));
        Ok(Response::new(v1::PlanRollbackResponse {
            waves: show::planned_waves(&plan),
            hosts: self.ask(&request, &plan).await,
            left_out: show::left_out(&plan),
            checkpoint: self.target(&request, &plan).await?,
            problems: problem
                .iter()
                .map(|problem| convert::failure(problem.reason, &problem.message, problem.next_step()))
                .collect(),
            undo_of: match request.source {
                Source::Undo(of) => convert::rollback_name(of),
                Source::Checkpoint(_) => String::new(),
            },
            spec: Some(show::spec(&request)),
            later: later.iter().map(show::later).collect(),
        }))
    }

    async fn create_rollback(
        &self,
        request: Request<v1::CreateRollbackRequest>,
    ) -> Result<Response<Rollback>, Status> {
        let requester = read::requester(&request)?;
        let wire = request.into_inner();
        let request_id = read::request_id(&wire.request_id).map_err(invalid)?;
        let request = spec(self.resolved(wire.spec).await?, wire.reason, requester)?;
        let id = self.create(request, request_id).await?;
        Ok(Response::new(self.shown(id).await?))
    }

    async fn undo_rollback(
        &self,
        request: Request<v1::UndoRollbackRequest>,
    ) -> Result<Response<Rollback>, Status> {
        let requester = read::requester(&request)?;
        let wire = request.into_inner();
        let of = convert::rollback_id("name", &wire.name).map_err(invalid)?;
        let request_id = read::request_id(&wire.request_id).map_err(invalid)?;
        let selector = wire.spec.as_ref().and_then(|spec| spec.selector.clone());
        let selector =
            convert::selector("selector", selector).map_err(|error| invalid(error.beneath("spec")))?;
        // What will not be undone ends nothing.
        let asked = self.undo(of, wire.spec.clone(), requester.clone()).await?;
        let checked = self.operations.check_undo(&asked, request_id.clone(), wire.over_later).await;
        if let Some(before) = checked.map_err(|error| error.failure("spec"))? {
            return Ok(Response::new(self.shown(before).await?));
        }
        let undoable = self.operations.end_for_undo(of, &selector, &requester, ENDING).await;
        let ended = match undoable.map_err(|error| error.failure("spec"))? {
            Undoable::Unchanged => return Ok(Response::new(self.shown(of).await?)),
            Undoable::Changed { ended } => ended,
        };
        let request = self.undo(of, wire.spec, requester).await?;
        let id = self.operations.create_undo(request, request_id, wire.over_later).await;
        let id = id.map_err(|error| {
            let mut failure = error.failure("spec");
            if ended {
                failure.message =
                    format!("rollback {of} was ended, but it is not undone: {}", failure.message);
            }
            failure
        })?;
        Ok(Response::new(self.shown(id).await?))
    }

    async fn get_rollback(
        &self,
        request: Request<v1::GetRollbackRequest>,
    ) -> Result<Response<Rollback>, Status> {
        let id = convert::rollback_id("name", &request.get_ref().name).map_err(invalid)?;
        Ok(Response::new(self.shown(id).await?))
    }

    async fn list_rollbacks(
        &self,
        request: Request<v1::ListRollbacksRequest>,
    ) -> Result<Response<v1::ListRollbacksResponse>, Status> {
        let request = request.into_inner();
        let size = PAGE.of(request.page_size)?;
        let list = List::new("rollbacks", ());
        let after = page_after(&list, &request.page_token)?;
        let query = ListQuery { kind: OperationKind::Rollback, deployment: None, limit: size, after };
        let page = self.operations.list(query).await.map_err(Failure::from)?;
        Ok(Response::new(v1::ListRollbacksResponse {
            rollbacks: page.items.iter().filter_map(show::rollback_summary).collect(),
            next_page_token: page.next.map(|next| list.token(&next.0.to_string())).unwrap_or_default(),
        }))
    }

    type WatchRollbackStream = Answers<Rollback>;

    async fn watch_rollback(
        &self,
        request: Request<v1::WatchRollbackRequest>,
    ) -> Result<Response<Self::WatchRollbackStream>, Status> {
        let request = request.into_inner();
        let id = convert::rollback_id("name", &request.name).map_err(invalid)?;
        let followed = self.operations.follow(id.into()).await.map_err(Failure::from)?;
        let followed = followed.filter(|followed| followed.first.rollback().is_some());
        let followed = followed.ok_or_else(|| unknown(id))?;
        Ok(Response::new(match request.changes_only {
            true => changes(followed, &self.feeds, None),
            false => answers(followed.views(), shown),
        }))
    }

    async fn list_rollback_events(
        &self,
        request: Request<v1::ListRollbackEventsRequest>,
    ) -> Result<Response<v1::ListRollbackEventsResponse>, Status> {
        let request = request.into_inner();
        let id = convert::rollback_id("name", &request.name).map_err(invalid)?;
        let size = EVENTS.of(request.page_size)?;
        let list = List::new("rollback events", id);
        let from =
            list.after(&request.page_token)?.and_then(|from| from.parse().ok()).map_or(Position(0), Position);
        // One more than asked for says whether there is a next page.
        let events = self.operations.rollback_events(id, from, size + 1).await.map_err(Failure::from)?;
        let mut events = events.iter().map(show::event).peekable();
        let mut page = v1::ListRollbackEventsResponse::default();
        let mut bytes = 0;
        while let Some(event) = events.peek() {
            bytes += event.encoded_len();
            let full = page.events.len() == size as usize || bytes > EVENT_BYTES;
            // One that is larger than a page has a page of its own.
            if full && !page.events.is_empty() {
                page.next_page_token = list.token(&event.position.to_string());
                break;
            }
            page.events.extend(events.next());
        }
        Ok(Response::new(page))
    }

    async fn pause_rollback(
        &self,
        request: Request<v1::PauseRollbackRequest>,
    ) -> Result<Response<Rollback>, Status> {
        let who = read::requester(&request)?;
        self.steer(&request.get_ref().name, who, PersonAction::Pause).await
    }

    async fn resume_rollback(
        &self,
        request: Request<v1::ResumeRollbackRequest>,
    ) -> Result<Response<Rollback>, Status> {
        let who = read::requester(&request)?;
        self.steer(&request.get_ref().name, who, PersonAction::Resume).await
    }

    async fn retry_rollback(
        &self,
        request: Request<v1::RetryRollbackRequest>,
    ) -> Result<Response<Rollback>, Status> {
        let who = read::requester(&request)?;
        let request = request.into_inner();
        let hosts = convert::hosts("hosts", &request.hosts).map_err(invalid)?;
        let choices = read::choices(request.choices).map_err(invalid)?;
        self.steer(&request.name, who, PersonAction::Retry { hosts, choices }).await
    }

    async fn promote_rollback(
        &self,
        request: Request<v1::PromoteRollbackRequest>,
    ) -> Result<Response<Rollback>, Status> {
        let who = read::requester(&request)?;
        let request = request.into_inner();
        let wave = match request.wave {
            Some(0) => return Err(Failure::invalid("wave", "is counted from 1").into()),
            None => self.only_wave(&request.name).await?,
            Some(number) => WaveIndex(number - 1),
        };
        let action = PersonAction::Promote { wave: Some(wave) };
        self.steer(&request.name, who, action).await
    }

    async fn abort_rollback(
        &self,
        request: Request<v1::AbortRollbackRequest>,
    ) -> Result<Response<Rollback>, Status> {
        let who = read::requester(&request)?;
        self.steer(&request.get_ref().name, who, PersonAction::Abort).await
    }
}
