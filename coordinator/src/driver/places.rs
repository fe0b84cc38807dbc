//! The places that running operations hold in the budgets of label groups, which are the fleet's: who takes what, who limits
//! what, and who waits.
//!
//! ```text
//!  driver ──decide──▶ Places: what others take ─▶ its own decision ─▶ noted as a draft ─┐ one lock
//!         ◀─────────────────────────────────────────────────────────────────────────────┘
//!  driver ──append──▶ store, then ──stands──▶ Places ──room──▶ operations that wait for what was given back
//! ```
//!
//! Invariants
//! - Between the moment an operation is told what others take and the moment its own starts count, no other one decides.
//! - Those of [`Neighbours`], which knows what each of them takes.
//! - No operation waits while it is told, so none waits for another in a circle: each place is given back by a deadline of its
//!   own.
//!
//! Hosts count as not available that are known, not forgotten, and have no connection, are not known to be healthy, or are
//! INCONSISTENT. One that was not seen for as long as the configuration's `stale_after` is no part of what anybody relies on,
//! and one that has no required check says nothing of its health: neither counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rfs_model::{HostId, Labels, OperationId, Timestamp};
use rfs_rollout::outside::{FleetNow, Ill, Neighbours};
use rfs_rollout::{Operation, Outside};

use super::fleet::Fleet;
use super::hand::Decided;

/// What running operations hold.
#[derive(Default)]
pub(super) struct Places(Mutex<Neighbours>);

/// The hosts of the fleet at a moment.
pub(super) struct Seen<'f> {
    pub(super) fleet: &'f dyn Fleet,
    pub(super) now: Timestamp,
    /// One that was not seen for so long is no part of any group any more.
    pub(super) gone_after: Duration,
    /// Hosts are not compared yet with the history of the one that decides: it is given no place before that.
    pub(super) is_comparing: bool,
}

impl FleetNow for Seen<'_> {
    fn labels_version(&self) -> u64 {
        self.fleet.labels_version()
    }

    fn labels(&self, host: &HostId) -> Labels {
        self.fleet.labels(host)
    }

    fn unavailable(&self, tell: &mut dyn FnMut(&HostId, Ill)) {
        self.fleet.unavailable(self.now, self.gone_after, tell);
    }
}

impl Places {
    /// These operations run; nobody is given a place before they are read.
    pub(super) fn expect(&self, operations: impl IntoIterator<Item = OperationId>) {
        self.neighbours().expect(operations);
    }

    /// An operation stands so by what is stored. Gives the operations that may go on for it.
    pub(super) fn stands(&self, operation: &Arc<Operation>) -> Vec<OperationId> {
        self.neighbours().stands(operation)
    }

    /// Nobody drives the operation any more. Gives the operations that may go on for it.
    pub(super) fn leaves(&self, id: OperationId) -> Vec<OperationId> {
        self.neighbours().leaves(id)
    }

    /// A host is another than it was. Gives the operations that wait for it.
    pub(super) fn changed(&self, host: &HostId) -> Vec<OperationId> {
        self.neighbours().changed(host)
    }

    /// Lets an operation decide beside what others take. What it decides counts from then on.
    pub(super) fn decide(
        &self,
        operation: &Operation,
        seen: &Seen<'_>,
        decide: impl FnOnce(&Arc<Outside>) -> Decided,
    ) -> (Decided, Arc<Outside>) {
        let Operation::Rollback(_) = operation else {
            let nobody = Arc::default();
            return (decide(&nobody), nobody);
        };
        let mut neighbours = self.neighbours();
        let outside = neighbours.outside(operation, seen, seen.is_comparing);
        let decided = decide(&outside);
        let drafted = (!decided.events.is_empty()).then(|| decided.after.clone());
        neighbours.drafts(operation.id(), drafted);
        (decided, outside)
    }

    fn neighbours(&self) -> MutexGuard<'_, Neighbours> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
