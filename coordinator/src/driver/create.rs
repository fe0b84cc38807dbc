//! How operations begin: the request is checked against the fleet, and the creation is durable before anybody hears of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rfs_model::{CheckpointId, Generation, HostId, OperationId, RequestId, RollbackId, Timestamp};
use rfs_rollout::fleet::Admission;
use rfs_rollout::{
    CheckpointRequest, Event, FleetView, GENERATIONS, Operation, PlanError, Presence, RollbackRequest,
    Source, checkpoint, rollback,
};
use serde::Serialize;
use tokio::sync::OwnedMutexGuard;

use super::error::OperationError;
use super::operations::{Operations, Shared};
use super::source::{Planned, Stands};
use super::{log, source, view};
use crate::store::{Aside, Begin, CreateError, Created, NewOperation, RequestKey};

/// How often a rollback that is to be undone is read again because it has moved on meanwhile.
const READINGS: usize = 8;

impl Operations {
    /// Begins a checkpoint. The same request id and request again give the first one.
    pub async fn create_checkpoint(
        &self,
        mut request: CheckpointRequest,
        request_id: Option<RequestId>,
    ) -> Result<CheckpointId, OperationError> {
        if request.timeout.is_zero() {
            let problem = "must be longer than 0".to_owned();
            return Err(OperationError::Invalid { field: "timeout", problem });
        }
        let key = request_key(request_id, &request);
        if let Some(before) = self.before(key.as_ref()).await? {
            return Ok(before.into());
        }
        // A repetition is known by what was asked, whatever the configuration says by then.
        request.quiesce_timeout.get_or_insert(self.shared.settings.quiesce_timeout);
        let hosts = self.chosen(&request).await?;
        let now = self.shared.clock.now();
        let id: CheckpointId = self.shared.ids.next(now).into();
        let begin = move |hosts| {
            let created = Box::new(checkpoint::Created { id, request, hosts });
            Event::Checkpoint(checkpoint::CheckpointEvent::Created { at: now, created })
        };
        let new = Beginning { hosts, request: key, targets: None, aside: None };
        Ok(self.begin(now, new, begin).await?.into())
    }

    /// The hosts that a checkpoint requires.
    async fn chosen(&self, request: &CheckpointRequest) -> Result<BTreeSet<HostId>, OperationError> {
        let known = self.shared.store.hosts().await?;
        for (place, host) in request.selector.hosts.iter().enumerate() {
            if !known.iter().any(|row| row.host == *host) {
                let field = format!("selector.hosts[{place}]");
                return Err(PlanError::unknown_host(field, host, known.iter().map(|row| &row.host)).into());
            }
        }
        let offered = known.len();
        let chosen: BTreeSet<HostId> = known
            .into_iter()
            .filter(|row| request.selector.matches(&row.host, &row.labels))
            .map(|row| row.host)
            .collect();
        if chosen.is_empty() {
            let fleet = FleetView { hosts: source::views(&self.shared).await?, ..FleetView::default() };
            return Err(PlanError::no_host_matches(&request.selector, offered, "the fleet", &fleet).into());
        }
        Ok(chosen)
    }

    /// Begins a rollback, be it to a checkpoint or an undo. The same request id and request again give the first one.
    ///
    /// An undo that would take away what later rollbacks did is refused; see [`Operations::create_undo`].
    pub async fn create_rollback(
        &self,
        request: RollbackRequest,
        request_id: Option<RequestId>,
    ) -> Result<RollbackId, OperationError> {
        self.create_undo(request, request_id, false).await
    }

    /// Begins an undo, also over what later rollbacks did if `over_later` says that it is meant.
    ///
    /// That a rollback is undone stands in its own history once the undo is begun: no host comes in line with it any more.
    pub async fn create_undo(
        &self,
        request: RollbackRequest,
        request_id: Option<RequestId>,
        over_later: bool,
    ) -> Result<RollbackId, OperationError> {
        let key = request_key(request_id, &request);
        for _ in 1..READINGS {
            match self.begin_rollback(request.clone(), key.clone(), over_later).await {
                Err(OperationError::MovedOn(_)) => {}
                other => return other,
            }
        }
        self.begin_rollback(request, key, over_later).await
    }

    async fn begin_rollback(
        &self,
        request: RollbackRequest,
        key: Option<RequestKey>,
        over_later: bool,
    ) -> Result<RollbackId, OperationError> {
        let targets = self.shared.targets.clone().lock_owned().await;
        if let Some(before) = self.before(key.as_ref()).await? {
            return Ok(before.into());
        }
        let planned = source::planned(&self.shared, &request, Stands::Over).await?;
        let Planned { plan, undone, impasse, later } = planned;
        if let Some(impasse) = impasse {
            return Err(impasse.into());
        }
        if let Source::Undo(of) = request.source
            && !later.is_empty()
            && !over_later
        {
            return Err(OperationError::ChangedLater { of, later });
        }
        let now = self.shared.clock.now();
        let id: RollbackId = self.shared.ids.next(now).into();
        let hosts = plan.targets.keys().cloned().collect();
        let aside = undone.map(|undone| undone.aside(id, now));
        let new = Beginning { hosts, request: key, targets: Some(targets), aside };
        let begin = move |hosts| {
            let created = Box::new(rollback::Created { id, request, plan, hosts });
            Event::Rollback(rollback::RollbackEvent::Created { at: now, created })
        };
        Ok(self.begin(now, new, begin).await?.into())
    }

    /// What the same request has begun before. It is found even if the request would not fit the fleet any more.
    pub(super) async fn before(
        &self,
        key: Option<&RequestKey>,
    ) -> Result<Option<OperationId>, OperationError> {
        match key {
            Some(key) => Ok(self.shared.store.begun_before(key).await?),
            None => Ok(None),
        }
    }

    /// Makes the creation durable and drives what was created. Goes on to its end even if the caller does not wait for it.
    async fn begin(
        &self,
        now: Timestamp,
        beginning: Beginning,
        event: impl FnOnce(BTreeMap<HostId, Admission>) -> Event + Clone + Send + 'static,
    ) -> Result<OperationId, OperationError> {
        let Beginning { hosts, request, targets, aside } = beginning;
        let presence = hosts.iter().map(|host| (host.clone(), self.presence(host, now)));
        let presence: BTreeMap<HostId, Presence> = presence.collect();
        let admit = move |generations: &BTreeMap<HostId, Generation>| {
            let admit = |(host, presence): (HostId, Presence)| {
                let generation = generations.get(&host).copied().unwrap_or_default();
                (host, Admission { generation, presence })
            };
            event(presence.into_iter().map(admit).collect())
        };
        // The row does not depend on the generations.
        let draft = Operation::begin(&admit.clone()(&BTreeMap::new())).expect("the event is a creation");
        let begin: Begin = Box::new(move |generations| vec![admit(generations)]);
        let row = view::row(&draft);
        let new = NewOperation { row, request, hosts: hosts.clone(), generations: GENERATIONS, begin, aside };
        if self.shared.stop.is_cancelled() {
            return Err(OperationError::Stopping);
        }
        let (shared, id) = (self.shared.clone(), draft.id());
        let created = self.shared.tasks.spawn(async move {
            let _targets = targets;
            created(shared, id, &hosts, new).await
        });
        created.await.map_err(|_| OperationError::Stopping)?
    }

    fn presence(&self, host: &HostId, now: Timestamp) -> Presence {
        let seen = self.shared.fleet.look(host, now);
        Presence {
            connected: seen.session.is_some(),
            health: seen.reading.health,
            since: seen.reading.since,
            evidence: seen.reading.evidence,
            after: Some(seen.reading.after),
            instance: seen.instance,
            unseen_for: seen
                .last_seen
                .map(|last_seen| now.since(last_seen))
                .filter(|unseen| *unseen >= self.shared.settings.stale_after),
        }
    }
}

/// What an operation begins with, besides its first event.
struct Beginning {
    hosts: BTreeSet<HostId>,
    request: Option<RequestKey>,
    /// Held until the creation is stored.
    targets: Option<OwnedMutexGuard<()>>,
    aside: Option<Aside>,
}

/// Stores a creation and drives what came of it.
async fn created(
    shared: Arc<Shared>,
    id: OperationId,
    hosts: &BTreeSet<HostId>,
    new: NewOperation,
) -> Result<OperationId, OperationError> {
    let undone = new.aside.as_ref().map(|aside| aside.operation);
    match shared.store.create(new).await {
        Ok(Created::New(events)) => {
            if let Some(begun) = events.first().and_then(Operation::begin) {
                log::begun(&begun);
            }
            // Operations that are over may still wait for hosts that they left out; those are this one's now, if it changes
            // them.
            let changed = matches!(events.first(), Some(Event::Rollback(_))).then_some(hosts);
            for host in changed.into_iter().flatten() {
                shared.directory.of_host(host).iter().for_each(|mailbox| mailbox.superseded(host.clone()));
            }
            if let Some(mailbox) = undone.and_then(|undone| shared.directory.find(undone)) {
                mailbox.grown();
            }
            shared.drive_new(id, events);
            Ok(id)
        }
        Ok(Created::Before(id)) => {
            if shared.store.operation(id).await?.is_some_and(|row| row.open) {
                shared.drive(id);
            }
            Ok(id)
        }
        Err(CreateError::HostBusy { host, owner }) => {
            let kind = shared.store.operation(owner).await?.map(|row| row.kind);
            Err(OperationError::HostBusy { host, owner, kind })
        }
        Err(error) => {
            // Whether it was stored although the store failed is not known; if so, nobody else would drive it.
            if let CreateError::Store(_) = &error
                && let Ok(Some(_)) = shared.store.operation(id).await
            {
                shared.drive(id);
                return Ok(id);
            }
            Err(error.into())
        }
    }
}

/// The key under which a repeated request finds what the first one began.
pub(super) fn request_key(id: Option<RequestId>, request: &impl Serialize) -> Option<RequestKey> {
    let request = || serde_json::to_string(request).expect("a request has no map with other keys than text");
    id.map(|id| RequestKey { id, request: request() })
}
