//! The history of one operation in the store: read once, appended to at the position that is known, and tried again while
//! the store fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rfs_link::Chain;
use rfs_model::{Generation, HostId, OperationId, SnapshotId};
use rfs_rollout::checkpoint::Outcome;
use rfs_rollout::{Event, Operation};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{kept, log, view};
use crate::store::{Append, AppendError, Position, Store, StoreError};

/// How long the first pause is while the store fails; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// How long a pause is at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much news is read at once.
const NEWS: u32 = 1000;

/// The history of one operation.
pub(super) struct Journal {
    store: Arc<dyn Store>,
    stop: CancellationToken,
    operation: OperationId,
    position: Position,
    /// Whether what lists show is what was last stored from here.
    listed: bool,
    /// How many events had led to the state that is kept, as far as is known here.
    kept: Position,
}

/// What came of an append.
#[derive(Debug)]
pub(super) enum Appended {
    /// The events are durable.
    Stored,
    /// Another driver appended these.
    Rival(Vec<Event>),
    /// Another operation has had a host that was to be taken again. Nothing was stored.
    Taken(HostId),
}

/// The coordinator stops; nothing is known of what was being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is stopping")]
pub(super) struct Stopping;

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Stopping(#[from] Stopping),
    #[error(transparent)]
    Store(StoreError),
}

impl Journal {
    /// The history of an operation, of which `known` events are known.
    pub(super) fn new(
        store: Arc<dyn Store>,
        stop: CancellationToken,
        operation: OperationId,
        known: usize,
    ) -> Self {
        Self { store, stop, operation, position: position(known), listed: false, kept: Position(0) }
    }

    /// How many events are known.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Reads where the operation stands; none if there is no such operation.
    pub(super) async fn read(&mut self) -> Result<Option<Operation>, ReadError> {
        let mut trouble = Trouble::new(self.operation, "read");
        let known = loop {
            let answer = tokio::select! {
                () = self.stop.cancelled() => return Err(Stopping.into()),
                answer = kept::read(&*self.store, self.operation) => answer,
            };
            match answer {
                Ok(known) => break known,
                Err(error @ StoreError::Damaged { .. }) => return Err(ReadError::Store(error)),
                Err(error) => trouble.pause(&error, &self.stop).await?,
            }
        };
        trouble.over();
        Ok(known.map(|known| {
            (self.position, self.kept) = (known.position, known.kept);
            known.operation
        }))
    }

    /// The events that were appended by others since.
    pub(super) async fn news(&mut self) -> Result<Vec<Event>, Stopping> {
        let mut trouble = Trouble::new(self.operation, "read");
        let stored = loop {
            match self.store.events(self.operation, self.position, NEWS).await {
                Ok(stored) => break stored,
                Err(error) => trouble.pause(&error, &self.stop).await?,
            }
        };
        trouble.over();
        if !stored.is_empty() {
            self.position = Position(self.position.0 + stored.len() as u64);
            self.listed = false;
        }
        Ok(stored.into_iter().map(|stored| stored.event).collect())
    }

    /// Makes `events`, which lead from `before` to `after`, durable.
    pub(super) async fn append(
        &mut self,
        before: &Operation,
        after: &Operation,
        events: &[Event],
    ) -> Result<Appended, Stopping> {
        let listed = self.listed && view::is_listed_alike(before, after);
        let (claim, release) = handed_over(before, after);
        let next = Position(self.position.0 + events.len() as u64);
        let state = kept::due(before, after, self.kept, next);
        let append = Append {
            operation: self.operation,
            expected: self.position,
            events: events.to_vec(),
            row: (!listed).then(|| view::row(after)),
            claim,
            release,
            rests_on: completed(before, after),
            state,
        };
        let mut trouble = Trouble::new(self.operation, "append to");
        loop {
            // Not abandoned when the coordinator stops: whether it is stored would not be known.
            match self.store.append(append.clone()).await {
                Ok(position) => {
                    trouble.over();
                    if !before.finished() && after.finished() {
                        log::ended(after);
                    }
                    self.position = position;
                    self.listed = true;
                    if append.state.is_some() {
                        self.kept = position;
                    }
                    return Ok(Appended::Stored);
                }
                Err(AppendError::NotOwner { host }) => return Ok(Appended::Taken(host)),
                Err(AppendError::Conflict { .. }) => break,
                Err(AppendError::Store(error)) => trouble.pause(&error, &self.stop).await?,
            }
        }
        trouble.over();
        let mut since = Vec::new();
        loop {
            let news = self.news().await?;
            if news.is_empty() {
                break;
            }
            since.extend(news);
        }
        // A commit whose answer was lost is ours.
        Ok(if since == events { Appended::Stored } else { Appended::Rival(since) })
    }
}

fn position(known: usize) -> Position {
    Position(known as u64)
}

/// What a checkpoint rests on that has just become complete; nothing for everything else.
pub(super) fn completed(before: &Operation, after: &Operation) -> BTreeMap<HostId, SnapshotId> {
    match after {
        Operation::Checkpoint(checkpoint)
            if !before.finished() && checkpoint.outcome() == Some(Outcome::Complete) =>
        {
            checkpoint.snapshots()
        }
        Operation::Checkpoint(_) | Operation::Rollback(_) => BTreeMap::new(),
    }
}

/// The hosts that an operation takes again, and those that it owns no more.
pub(super) fn handed_over(
    before: &Operation,
    after: &Operation,
) -> (BTreeMap<HostId, Generation>, BTreeSet<HostId>) {
    if !after.finished() {
        return Default::default();
    }
    let (given, still) = (view::to_be_granted(before), view::to_be_granted(after));
    let (before, after) = (view::owned(before), view::owned(after));
    let release =
        before.keys().chain(&given).filter(|host| !after.contains_key(*host) && !still.contains(*host));
    let release = release.cloned().collect();
    let claim = after.into_iter().filter(|(host, _)| !before.contains_key(host)).collect();
    (claim, release)
}

/// A stretch in which the store fails: told once when it begins and once when it is over.
struct Trouble {
    operation: OperationId,
    what: &'static str,
    pause: Option<Duration>,
}

impl Trouble {
    fn new(operation: OperationId, what: &'static str) -> Self {
        Self { operation, what, pause: None }
    }

    async fn pause(&mut self, error: &StoreError, stop: &CancellationToken) -> Result<(), Stopping> {
        let pause = match self.pause {
            Some(last) => (last * 2).min(LONGEST_PAUSE),
            None => {
                warn!(operation = %self.operation, error = %Chain(error),
                    "cannot {} the history; the operation holds still and this is tried again", self.what);
                FIRST_PAUSE
            }
        };
        self.pause = Some(pause);
        tokio::select! {
            () = stop.cancelled() => Err(Stopping),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    fn over(&mut self) {
        if self.pause.take().is_some() {
            info!(operation = %self.operation, "the history is stored again; the operation goes on");
        }
    }
}
