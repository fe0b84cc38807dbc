//! The operations that run side by side: what each is told of the others, and which of them may go on when something changes.
//!
//! Invariants
//! - After a start of the coordinator nobody is given a place before every operation that runs has been read.
//! - What is being stored counts together with what is stored, until it is known which of them holds.
//! - A limit binds while its operation runs; hosts that are at work, or not proven healthy, keep their place as long as that is
//!   so, whatever became of their operation.
//! - What an operation is told is what would be gathered anew. It is only cheaper: what changed in another operation, and who is
//!   not available, is all that is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rfs_model::{HostId, OperationId};

use super::around::{Around, Other};
use super::{FleetNow, Outside, Place};
use crate::operation::Operation;
use crate::rollback::Rollback;

/// The operations that run.
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    running: BTreeMap<OperationId, Neighbour>,
    /// Operations that ran when the coordinator started, and were not read yet.
    unread: BTreeSet<OperationId>,
}

#[derive(Debug, Clone)]
struct Neighbour {
    stored: Arc<Operation>,
    /// As it stands with what is being stored.
    drafted: Option<Arc<Operation>>,
    /// Hosts that had another place in a draft that came to nothing: whoever was told of it may go on once that is sure.
    undone: BTreeSet<HostId>,
    around: Around,
    /// It was told that nothing is known yet, or that another operation limits its groups.
    is_bound: bool,
}

impl Neighbours {
    /// These operations run; nobody is given a place before they are read.
    pub fn expect(&mut self, operations: impl IntoIterator<Item = OperationId>) {
        self.unread.extend(operations);
    }

    /// An operation stands so by what is stored. Gives the operations that may go on for it.
    pub fn stands(&mut self, operation: &Arc<Operation>) -> Vec<OperationId> {
        let id = operation.id();
        let mut wake = self.read(id);
        let Some(rollback) = rollback(operation) else { return wake };
        let Some(neighbour) = self.running.get_mut(&id) else {
            self.others(id).for_each(|(_, other)| other.around.forget());
            let (drafted, undone, around, is_bound) = Default::default();
            let neighbour = Neighbour { stored: operation.clone(), drafted, undone, around, is_bound };
            self.running.insert(id, neighbour);
            return wake;
        };
        let drafted = neighbour.drafted.take();
        let stored = std::mem::replace(&mut neighbour.stored, operation.clone());
        let mut moved = Moved { hosts: std::mem::take(&mut neighbour.undone), all: false };
        for was in [Some(&stored), drafted.as_ref()].into_iter().flatten() {
            moved.add(was, operation);
        }
        let before =
            [Some(&stored), drafted.as_ref()].into_iter().flatten().filter_map(|was| self::rollback(was));
        let before: Vec<&Rollback> = before.collect();
        // It is given back, or counts for less: a way back waits for hosts at work alone.
        let frees = |host: &HostId| {
            let is = place(rollback, host);
            let was_at_work = || before.iter().any(|was| place(was, host).is_some_and(|place| place.at_work));
            is.is_none_or(|is| !is.at_work && was_at_work())
        };
        let unbinds = before.iter().any(|was| was.binds()) && !rollback.binds();
        for (other, neighbour) in self.others(id) {
            let may_go_on = |host: &&HostId| neighbour.around.awaits(host) && frees(host);
            let goes_on = match moved.all {
                true => rollback.hosts.keys().any(|host| may_go_on(&host)),
                false => moved.hosts.iter().any(|host| may_go_on(&host)),
            };
            if goes_on || (unbinds && neighbour.is_bound) {
                wake.push(other);
            }
            moved.tell(&mut neighbour.around);
        }
        wake
    }

    /// Nobody drives the operation any more. Gives the operations that may go on for it.
    pub fn leaves(&mut self, id: OperationId) -> Vec<OperationId> {
        let mut wake = self.read(id);
        if self.running.remove(&id).is_some() {
            wake.extend(self.running.keys().copied());
            self.running.values_mut().for_each(|other| other.around.forget());
        }
        wake
    }

    /// A host is another than it was. Gives the operations that wait for it.
    pub fn changed(&self, host: &HostId) -> Vec<OperationId> {
        let waits = self.running.iter().filter(|(_, running)| running.around.names(host));
        waits.map(|(id, _)| *id).collect()
    }

    /// What an operation is told of everybody else. While `is_comparing`, or as long as not all that run are known, no host may
    /// start.
    pub fn outside(&mut self, of: &Operation, fleet: &dyn FleetNow, is_comparing: bool) -> Arc<Outside> {
        let Some(rollback) = rollback(of) else { return Arc::default() };
        let id = of.id();
        let unknown = is_comparing || !self.unread.is_empty();
        let neighbour = self.running.get_mut(&id);
        if unknown {
            neighbour.into_iter().for_each(|neighbour| neighbour.is_bound = true);
            return Arc::new(Outside { unknown, ..Outside::default() });
        }
        let mut around = neighbour.map(|neighbour| std::mem::take(&mut neighbour.around)).unwrap_or_default();
        let others = self.running.iter().filter(|(other, _)| **other != id);
        let others: Vec<Other<'_>> = others
            .filter_map(|(_, other)| {
                let stored = self::rollback(&other.stored)?;
                Some(Other { stored, drafted: other.drafted.as_deref().and_then(self::rollback) })
            })
            .collect();
        let outside = around.look(rollback, &others, fleet);
        if let Some(neighbour) = self.running.get_mut(&id) {
            (neighbour.around, neighbour.is_bound) = (around, outside.of.is_some());
        }
        outside
    }

    /// What an operation has decided, and is to be stored, counts from now on.
    pub fn drafts(&mut self, id: OperationId, drafted: Option<Arc<Operation>>) {
        let Some(neighbour) = self.running.get_mut(&id) else { return };
        let mut moved = Moved::default();
        let before = std::mem::replace(&mut neighbour.drafted, drafted);
        if let Some(before) = before {
            moved.add(&before, &neighbour.stored);
            match moved.all {
                true => neighbour.undone.extend(hosts(&before)),
                false => neighbour.undone.extend(moved.hosts.iter().cloned()),
            }
        }
        if let Some(drafted) = &neighbour.drafted {
            moved.add(&neighbour.stored, drafted);
        }
        self.others(id).for_each(|(_, other)| moved.tell(&mut other.around));
    }

    fn others(&mut self, id: OperationId) -> impl Iterator<Item = (OperationId, &mut Neighbour)> {
        self.running
            .iter_mut()
            .map(|(other, neighbour)| (*other, neighbour))
            .filter(move |(other, _)| *other != id)
    }

    /// The operation was read. Once all were, everybody may go on.
    fn read(&mut self, id: OperationId) -> Vec<OperationId> {
        let last = self.unread.remove(&id) && self.unread.is_empty();
        if last { self.running.keys().copied().collect() } else { Vec::new() }
    }
}

/// What one state of an operation means to others that another one does not.
#[derive(Debug, Default)]
struct Moved {
    /// Hosts that take something else.
    hosts: BTreeSet<HostId>,
    /// Its limits may bind where they did not, or any host may take something else.
    all: bool,
}

impl Moved {
    /// Takes in what became otherwise from one state to another.
    fn add(&mut self, was: &Arc<Operation>, is: &Arc<Operation>) {
        if self.all || Arc::ptr_eq(was, is) {
            return;
        }
        let (Some(was), Some(is)) = (rollback(was), rollback(is)) else { return };
        let alike = was.phase == is.phase && was.acknowledged == is.acknowledged && was.binds() == is.binds();
        match is.hosts.changed_since(&was.hosts).filter(|_| alike) {
            Some(hosts) => {
                let moved = hosts.filter(|host| place(was, host) != place(is, host));
                self.hosts.extend(moved.cloned());
            }
            None => self.all = true,
        }
    }

    fn tell(&self, around: &mut Around) {
        match self.all {
            true => around.forget(),
            false => around.touch(&self.hosts),
        }
    }
}

fn rollback(operation: &Operation) -> Option<&Rollback> {
    match operation {
        Operation::Rollback(rollback) => Some(rollback),
        Operation::Checkpoint(_) => None,
    }
}

fn hosts(operation: &Operation) -> impl Iterator<Item = HostId> {
    rollback(operation).into_iter().flat_map(|rollback| rollback.hosts.keys().cloned())
}

fn place(rollback: &Rollback, host: &HostId) -> Option<Place> {
    rollback.place(host, rollback.hosts.get(host)?)
}
