//! Who drives what: each operation's mailbox, and the operations of each host.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rfs_model::{HostId, OperationId};

use super::inbox::{Inbox, Mailbox, inbox};

/// The operations that are driven here.
#[derive(Default)]
pub(super) struct Directory(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    drivers: HashMap<OperationId, Mailbox>,
    of_host: HashMap<HostId, BTreeSet<OperationId>>,
}

impl Directory {
    /// The mailbox of an operation's driver, if one is at work.
    pub(super) fn find(&self, operation: OperationId) -> Option<Mailbox> {
        self.entries().drivers.get(&operation).filter(|mailbox| !mailbox.is_closed()).cloned()
    }

    /// The mailbox of an operation's driver, and its inbox if nobody drives it yet.
    pub(super) fn open(&self, operation: OperationId) -> (Mailbox, Option<Inbox>) {
        let mut entries = self.entries();
        if let Some(mailbox) = entries.drivers.get(&operation).filter(|mailbox| !mailbox.is_closed()) {
            return (mailbox.clone(), None);
        }
        let (mailbox, inbox) = inbox(operation);
        entries.drivers.insert(operation, mailbox.clone());
        (mailbox, Some(inbox))
    }

    /// From now on what concerns these hosts concerns the operation.
    pub(super) fn concerns(&self, operation: OperationId, hosts: &[HostId]) {
        let mut entries = self.entries();
        for host in hosts {
            entries.of_host.entry(host.clone()).or_default().insert(operation);
        }
    }

    /// The mailboxes of all operations.
    pub(super) fn all(&self) -> Vec<Mailbox> {
        self.entries().drivers.values().cloned().collect()
    }

    /// The mailboxes of the operations that a host concerns.
    pub(super) fn of_host(&self, host: &HostId) -> Vec<Mailbox> {
        let entries = self.entries();
        let operations = entries.of_host.get(host).into_iter().flatten();
        operations.filter_map(|id| entries.drivers.get(id).cloned()).collect()
    }

    /// Nobody drives the operation any more.
    pub(super) fn close(&self, operation: OperationId, hosts: &[HostId]) {
        let mut entries = self.entries();
        entries.drivers.remove(&operation);
        for host in hosts {
            if let Some(operations) = entries.of_host.get_mut(host) {
                operations.remove(&operation);
                if operations.is_empty() {
                    entries.of_host.remove(host);
                }
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
