//! The handle through which everybody else begins, steers and watches operations.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use rfs_model::time::SharedClock;
use rfs_model::{CheckpointId, OperationId, RollbackId, Timestamp};
use rfs_rollout::{Command, Event, Operation, Person, Plan, RollbackRequest};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::directory::Directory;
use super::dispatch::dispatch;
use super::error::OperationError;
use super::fleet::{Fleet, FleetEvent};
use super::ids::Ids;
use super::inbox::{Asked, Mailbox};
use super::later::Later;
use super::places::Places;
use super::run::drive;
use super::settings::Settings;
use super::source::{Planned, Stands};
use super::view::{Head, Summary, View};
use super::watch::Followed;
use super::{kept, log, source};
use crate::store::{ListQuery, OperationKind, OperationRow, Page, Position, Store, StoreError, StoredEvent};

/// How long a decision may take to be stored before the person is told that it has not been yet.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long after a fault another driver starts.
const START_AGAIN: Duration = Duration::from_secs(1);

/// Fleet operations. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    pub(super) shared: Arc<Shared>,
}

/// What a rollback would do.
#[derive(Debug)]
pub struct PlannedRollback {
    /// Wave by wave.
    pub plan: Plan,
    /// Why it would be refused.
    pub problem: Option<OperationError>,
    /// Later rollbacks whose changes it would take away.
    pub later: Vec<Later>,
}

/// A part of a list of operations.
pub type Summaries = Page<Summary>;

/// What all drivers share.
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) fleet: Arc<dyn Fleet>,
    pub(super) clock: SharedClock,
    pub(super) directory: Directory,
    pub(super) places: Places,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) ids: Ids,
    pub(super) settings: Settings,
    /// Since when hosts are heard by this process.
    pub(super) opened_at: Timestamp,
    /// Held while a rollback is begun or a checkpoint deleted, so that a target is not deleted under a rollback's hands.
    pub(super) targets: Arc<Mutex<()>>,
}

impl Shared {
    /// The mailbox of an operation's driver; begins to drive it if nobody does.
    pub(super) fn drive(self: &Arc<Self>, operation: OperationId) -> Mailbox {
        self.drive_from(operation, None)
    }

    /// Begins to drive an operation whose whole history is `begun`.
    pub(super) fn drive_new(self: &Arc<Self>, operation: OperationId, begun: Vec<Event>) {
        self.drive_from(operation, Some(begun));
    }

    /// An operation stands so by what is stored.
    pub(super) fn stands(&self, operation: &Arc<Operation>) {
        self.make_room(self.places.stands(operation));
    }

    /// Nobody drives an operation any more.
    pub(super) fn leaves(&self, operation: OperationId) {
        self.make_room(self.places.leaves(operation));
    }

    /// Tells operations that others take less of the budgets than they did.
    pub(super) fn make_room(&self, operations: Vec<OperationId>) {
        for mailbox in operations.into_iter().filter_map(|id| self.directory.find(id)) {
            mailbox.room();
        }
    }

    fn drive_from(self: &Arc<Self>, operation: OperationId, begun: Option<Vec<Event>>) -> Mailbox {
        let (mailbox, inbox) = self.directory.open(operation);
        if let Some(inbox) = inbox {
            let driver = self.tasks.spawn(drive(self.clone(), inbox, begun));
            self.tasks.spawn(start_again_if_it_fails(self.clone(), operation, driver));
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
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            opened_at: clock.now(),
            store,
            fleet,
            clock,
            directory: Directory::default(),
            places: Places::default(),
            tasks: TaskTracker::new(),
            stop,
            ids: Ids::new(),
            settings,
            targets: Arc::default(),
        });
        shared.store.release_from_closed().await?;
        let operations = Self { shared: shared.clone() };
        operations.resume_all().await?;
        shared.tasks.spawn(dispatch(shared.clone(), events));
        Ok(operations)
    }

    /// Goes on with every operation that has something left to do and that nobody here drives.
    pub async fn resume_all(&self) -> Result<(), StoreError> {
        let open = self.shared.store.open_operations().await?.into_iter();
        let undriven: Vec<_> = open.filter(|id| self.shared.directory.find(*id).is_none()).collect();
        self.shared.places.expect(undriven.iter().copied());
        for id in undriven {
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

    /// What a rollback would do, wave by wave, and why it would be refused if it were begun. Nothing is changed. An undo of
    /// one that runs is planned from where that stands.
    pub async fn plan_rollback(&self, request: &RollbackRequest) -> Result<PlannedRollback, OperationError> {
        let planned = source::planned(&self.shared, request, Stands::Anyhow).await?;
        let Planned { plan, impasse, later, .. } = planned;
        Ok(PlannedRollback { plan, problem: impasse.map(Into::into), later })
    }

    /// Lets a person steer an operation; returns once the decision is stored.
    pub async fn command(&self, operation: OperationId, person: Person) -> Result<(), OperationError> {
        let mailbox = match self.shared.directory.find(operation) {
            Some(mailbox) => mailbox,
            None => {
                let stored = source::stored(&self.shared, operation).await?;
                let stored = stored.ok_or(OperationError::NoOperation(operation))?;
                let decide = || stored.decide(&Command::Person(person.clone()), self.shared.clock.now());
                if !stored.open() && decide()?.is_empty() {
                    return Ok(());
                }
                self.shared.drive(operation)
            }
        };
        let (reply, answer) = oneshot::channel();
        let asked = person.clone();
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
            Ok(Ok(answer)) => {
                if answer.is_ok() {
                    log::steered(operation, &asked);
                }
                answer
            }
            Ok(Err(_)) => Err(OperationError::Stopping),
            Err(_) => Err(OperationError::NotStoredYet),
        }
    }

    /// An operation as it stands.
    pub async fn get(&self, operation: OperationId) -> Result<Option<View>, OperationError> {
        let shown = self.shared.directory.find(operation).and_then(|mailbox| mailbox.view().borrow().clone());
        let shown = shown.filter(|view| view.operation.open());
        // Nobody tells a driver that its operation was deleted, but what is deleted has an outcome.
        if let Some(view) = shown.as_ref().filter(|view| !view.operation.finished()) {
            return Ok(Some(view.clone()));
        }
        if self.shared.store.operation(operation).await?.is_none() {
            return Ok(None);
        }
        if let Some(view) = shown {
            return Ok(Some(view));
        }
        let known = kept::read(&*self.shared.store, operation).await?;
        Ok(known.map(|known| View::stored(Arc::new(known.operation), known.position)))
    }

    /// Operations of a kind, newest first.
    pub async fn list(&self, query: ListQuery) -> Result<Summaries, OperationError> {
        let Page { items, next } = self.shared.store.list(query).await?;
        let mut summaries = Vec::with_capacity(items.len());
        for row in items {
            let head = read_head(&self.shared, &row).await?;
            summaries.push(Summary { id: row.id, created_at: row.created_at, complete: row.complete, head });
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
        Ok(self.follow(operation).await?.map(Followed::views))
    }

    /// An operation as it stands, and what shows its changes; none if there is no such operation.
    pub(crate) async fn follow(&self, operation: OperationId) -> Result<Option<Followed>, OperationError> {
        let Some(first) = self.get(operation).await? else { return Ok(None) };
        let live = match self.shared.directory.find(operation) {
            _ if first.operation.finished() => None,
            Some(mailbox) => Some(mailbox.view()),
            None => Some(self.shared.drive(operation).view()),
        };
        Ok(Some(Followed { first, live }))
    }

    /// A part of a rollback's history. Reads no more of it than that.
    pub async fn rollback_events(
        &self,
        id: RollbackId,
        from: Position,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, OperationError> {
        let row = self.shared.store.operation(id.into()).await?;
        if row.is_none_or(|row| row.kind != OperationKind::Rollback) {
            return Err(OperationError::NoRollback(id));
        }
        Ok(self.shared.store.events(id.into(), from, limit).await?)
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

/// A fault in a driver must not leave its operation without one: everything is in the store, so it is read again.
async fn start_again_if_it_fails(shared: Arc<Shared>, operation: OperationId, driver: JoinHandle<()>) {
    let Err(failure) = driver.await else { return };
    error!(%operation, error = %failure, "the driver failed; another one starts from the history");
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = tokio::time::sleep(START_AGAIN) => drop(shared.drive(operation)),
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

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").finish_non_exhaustive()
    }
}
