//! The handle through which everybody else begins, steers and watches operations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use rfs_model::time::SharedClock;
use rfs_model::{CheckpointId, Generation, HostId, OperationId, RequestId, RollbackId, Timestamp};
use rfs_rollout::fleet::Admission;
use rfs_rollout::{
    CheckpointRequest, Command, Event, GENERATIONS, Operation, Person, Plan, PlanError, Presence,
    RollbackRequest, checkpoint, rollback,
};
use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::directory::Directory;
use super::dispatch::dispatch;
use super::error::OperationError;
use super::fleet::{Fleet, FleetEvent};
use super::ids::Ids;
use super::inbox::{Asked, Mailbox};
use super::run::drive;
use super::view::{Head, Summary, View};
use super::{source, view};
use crate::store::{
    Begin, CreateError, Created, ListQuery, NewOperation, OperationRow, Page, Position, RequestKey, Store,
    StoreError, StoredEvent,
};

/// How long a decision may take to be stored before the person is told that it has not been yet.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The shortest time between two views that one watcher is shown.
const PACE: Duration = Duration::from_millis(50);

/// Fleet operations. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    shared: Arc<Shared>,
}

/// A part of a list of operations.
pub type Summaries = Page<Summary>;

/// What all drivers share.
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) fleet: Arc<dyn Fleet>,
    pub(super) clock: SharedClock,
    pub(super) directory: Directory,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    ids: Ids,
    /// Held while a rollback is begun or a checkpoint deleted, so that a target is not deleted under a rollback's hands.
    targets: Arc<Mutex<()>>,
}

impl Shared {
    /// The mailbox of an operation's driver; begins to drive it if nobody does.
    pub(super) fn drive(self: &Arc<Self>, operation: OperationId) -> Mailbox {
        self.drive_from(operation, None)
    }

    fn drive_from(self: &Arc<Self>, operation: OperationId, begun: Option<Vec<Event>>) -> Mailbox {
        let (mailbox, inbox) = self.directory.open(operation);
        if let Some(inbox) = inbox {
            self.tasks.spawn(drive(self.clone(), inbox, begun));
        }
        mailbox
    }
}

impl Operations {
    /// Goes on with every operation that has something left to do, and brings `events` to them from now on.
    ///
    /// Everything ends when `stop` is cancelled; [`Operations::ended`] waits for it.
    pub async fn open(
        store: Arc<dyn Store>,
        fleet: Arc<dyn Fleet>,
        clock: SharedClock,
        events: mpsc::Receiver<FleetEvent>,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            store,
            fleet,
            clock,
            directory: Directory::default(),
            tasks: TaskTracker::new(),
            stop,
            ids: Ids::new(),
            targets: Arc::default(),
        });
        let operations = Self { shared: shared.clone() };
        operations.resume_all().await?;
        shared.tasks.spawn(dispatch(shared.clone(), events));
        Ok(operations)
    }

    /// Goes on with every operation that has something left to do and that nobody here drives.
    pub async fn resume_all(&self) -> Result<(), StoreError> {
        for id in self.shared.store.open_operations().await? {
            self.shared.drive(id);
        }
        Ok(())
    }

    /// Waits until everything has ended, after the token that it was opened with was cancelled. What was being stored is
    /// stored; what was not is done again after the next start.
    pub async fn ended(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Begins a checkpoint. The same request id and request again give the first one.
    pub async fn create_checkpoint(
        &self,
        request: CheckpointRequest,
        request_id: Option<RequestId>,
    ) -> Result<CheckpointId, OperationError> {
        if request.timeout.is_zero() {
            let problem = "must be longer than 0".to_owned();
            return Err(OperationError::Invalid { field: "timeout", problem });
        }
        let hosts = self.chosen(&request).await?;
        let now = self.shared.clock.now();
        let id: CheckpointId = self.shared.ids.next(now).into();
        let key = request_key(request_id, &request);
        let begin = move |hosts| {
            let created = Box::new(checkpoint::Created { id, request, hosts });
            Event::Checkpoint(checkpoint::CheckpointEvent::Created { at: now, created })
        };
        Ok(self.begin(now, hosts, key, None, begin).await?.into())
    }

    /// The hosts that a checkpoint requires.
    async fn chosen(&self, request: &CheckpointRequest) -> Result<BTreeSet<HostId>, OperationError> {
        let known = self.shared.store.hosts().await?;
        for (place, host) in request.selector.hosts.iter().enumerate() {
            if !known.iter().any(|row| row.host == *host) {
                let field = format!("selector.hosts[{place}]");
                return Err(PlanError::UnknownHost { field, host: host.clone() }.into());
            }
        }
        let offered = known.len();
        let chosen: BTreeSet<HostId> = known
            .into_iter()
            .filter(|row| request.selector.matches(&row.host, &row.labels))
            .map(|row| row.host)
            .collect();
        if chosen.is_empty() {
            let (selector, origin) = (request.selector.to_string(), "the fleet".to_owned());
            return Err(PlanError::NoHostMatches { field: "selector", selector, offered, origin }.into());
        }
        Ok(chosen)
    }

    /// What a rollback would do, wave by wave. Nothing is changed.
    pub async fn plan_rollback(&self, request: &RollbackRequest) -> Result<Plan, OperationError> {
        source::planned(&self.shared, request).await
    }

    /// Begins a rollback, be it to a checkpoint or an undo. The same request id and request again give the first one.
    pub async fn create_rollback(
        &self,
        request: RollbackRequest,
        request_id: Option<RequestId>,
    ) -> Result<RollbackId, OperationError> {
        let targets = self.shared.targets.clone().lock_owned().await;
        let plan = source::planned(&self.shared, &request).await?;
        let now = self.shared.clock.now();
        let id: RollbackId = self.shared.ids.next(now).into();
        let (hosts, key) = (plan.targets.keys().cloned().collect(), request_key(request_id, &request));
        let begin = move |hosts| {
            let created = Box::new(rollback::Created { id, request, plan, hosts });
            Event::Rollback(rollback::RollbackEvent::Created { at: now, created })
        };
        Ok(self.begin(now, hosts, key, Some(targets), begin).await?.into())
    }

    /// Makes the creation durable and drives what was created. Goes on to its end even if the caller does not wait for it.
    async fn begin(
        &self,
        now: Timestamp,
        hosts: BTreeSet<HostId>,
        request: Option<RequestKey>,
        targets: Option<OwnedMutexGuard<()>>,
        event: impl FnOnce(BTreeMap<HostId, Admission>) -> Event + Clone + Send + 'static,
    ) -> Result<OperationId, OperationError> {
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
        let new = NewOperation { row, request, hosts: hosts.clone(), generations: GENERATIONS, begin };
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
            health: seen.health,
            since: seen.since,
            evidence: seen.evidence,
        }
    }

    /// Lets a person steer an operation; returns once the decision is stored.
    pub async fn command(&self, operation: OperationId, person: Person) -> Result<(), OperationError> {
        let mailbox = match self.shared.directory.find(operation) {
            Some(mailbox) => mailbox,
            None => {
                let stored = source::stored(&self.shared, operation).await?;
                let stored = stored.ok_or(OperationError::NoOperation(operation))?;
                if !stored.open() {
                    stored.decide(&Command::Person(person), self.shared.clock.now())?;
                    return Ok(());
                }
                self.shared.drive(operation)
            }
        };
        let (reply, answer) = oneshot::channel();
        match mailbox.decide(Asked { person, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(OperationError::Overloaded),
            // The operation ended a moment ago.
            Err(TrySendError::Closed(asked)) if !self.shared.stop.is_cancelled() => {
                return Box::pin(self.command(operation, asked.person)).await;
            }
            Err(TrySendError::Closed(_)) => return Err(OperationError::Stopping),
        }
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(OperationError::Stopping),
            Err(_) => Err(OperationError::NotStoredYet),
        }
    }

    /// An operation as it stands.
    pub async fn get(&self, operation: OperationId) -> Result<Option<View>, OperationError> {
        let shown = self.shared.directory.find(operation).and_then(|mailbox| mailbox.view().borrow().clone());
        if let Some(view) = shown {
            return Ok(Some(view));
        }
        if self.shared.store.operation(operation).await?.is_none() {
            return Ok(None);
        }
        let history = self.shared.store.load(operation).await?;
        let position = Position(history.len() as u64);
        let damaged = |source| StoreError::Damaged { what: format!("operation {operation}"), source };
        let replayed = Operation::replay(&history).map_err(|error| damaged(error.into()))?;
        Ok(Some(View::stored(Arc::new(replayed), position)))
    }

    /// Operations of a kind, newest first.
    pub async fn list(&self, query: ListQuery) -> Result<Summaries, OperationError> {
        let Page { items, next } = self.shared.store.list(query).await?;
        let mut summaries = Vec::with_capacity(items.len());
        for row in items {
            let head = read_head(&self.shared, &row).await?;
            summaries.push(Summary { id: row.id, created_at: row.created_at, head });
        }
        Ok(Page { items: summaries, next })
    }

    /// Shows an operation as it stands and then each change, until it has an outcome; none if there is no such operation.
    ///
    /// A watcher that is slow misses views, never the last one. The stream ends without an outcome when the coordinator
    /// stops.
    pub async fn watch(
        &self,
        operation: OperationId,
    ) -> Result<Option<impl Stream<Item = View> + Send + use<>>, OperationError> {
        let Some(view) = self.get(operation).await? else { return Ok(None) };
        let live = match self.shared.directory.find(operation) {
            _ if view.operation.finished() => None,
            Some(mailbox) => Some(mailbox.view()),
            None => Some(self.shared.drive(operation).view()),
        };
        let first = Watching { next: Some(view), live };
        Ok(Some(unfold(first, async |mut watching| Some((watching.next().await?, watching)))))
    }

    /// A part of an operation's history.
    pub async fn events(
        &self,
        operation: OperationId,
        from: Position,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, OperationError> {
        Ok(self.shared.store.events(operation, from, limit).await?)
    }

    /// Takes a checkpoint out of the lists, unless something needs it. Its history stays.
    pub async fn delete_checkpoint(&self, id: CheckpointId) -> Result<(), OperationError> {
        let _targets = self.shared.targets.lock().await;
        source::deletable(&self.shared, id).await?;
        if self.shared.store.delete(id.into(), self.shared.clock.now()).await? {
            Ok(())
        } else {
            Err(OperationError::NoCheckpoint(id))
        }
    }

    /// The newest checkpoint that is complete.
    pub async fn latest_checkpoint(&self) -> Result<Option<CheckpointId>, OperationError> {
        Ok(self.shared.store.newest_complete_checkpoint().await?)
    }
}

/// Stores a creation and drives what came of it.
async fn created(
    shared: Arc<Shared>,
    id: OperationId,
    hosts: &BTreeSet<HostId>,
    new: NewOperation,
) -> Result<OperationId, OperationError> {
    match shared.store.create(new).await {
        Ok(Created::New(events)) => {
            // Operations that are over may still wait for hosts that they left out; those are this one's now.
            for host in hosts {
                shared.directory.of_host(host).iter().for_each(|mailbox| mailbox.superseded(host.clone()));
            }
            shared.drive_from(id, Some(events));
            Ok(id)
        }
        Ok(Created::Before(id)) => {
            if shared.store.operation(id).await?.is_some_and(|row| row.open) {
                shared.drive(id);
            }
            Ok(id)
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

/// What a list shows of an operation.
pub(super) async fn read_head(shared: &Shared, row: &OperationRow) -> Result<Head, StoreError> {
    if let Ok(head) = serde_json::from_str(&row.head) {
        return Ok(head);
    }
    let missing = || StoreError::Damaged {
        what: format!("operation {}", row.id),
        source: "a row without a history".into(),
    };
    Ok(Head::of(&source::stored(shared, row.id).await?.ok_or_else(missing)?))
}

/// The key under which a repeated request finds what the first one began.
fn request_key(id: Option<RequestId>, request: &impl Serialize) -> Option<RequestKey> {
    let request = || serde_json::to_string(request).expect("a request has no map with other keys than text");
    id.map(|id| RequestKey { id, request: request() })
}

/// What one watcher has yet to be shown.
struct Watching {
    next: Option<View>,
    live: Option<watch::Receiver<Option<View>>>,
}

impl Watching {
    async fn next(&mut self) -> Option<View> {
        if let Some(first) = self.next.take() {
            if let Some(live) = &mut self.live {
                // What it stands at is what is shown now, unless the driver is further already.
                let shown = live.borrow_and_update().as_ref().map(|view| view.position);
                if shown.is_some_and(|position| position > first.position) {
                    live.mark_changed();
                }
            }
            return Some(first);
        }
        let live = self.live.as_mut()?;
        tokio::time::sleep(PACE).await;
        loop {
            live.changed().await.ok()?;
            let view = live.borrow_and_update().clone();
            if let Some(view) = view {
                if view.operation.finished() {
                    self.live = None;
                }
                return Some(view);
            }
        }
    }
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").finish_non_exhaustive()
    }
}
