//! What a driver knows of its hosts from one turn to the next. None of it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rfs_model::{Generation, HostId, Timestamp};
use rfs_rollout::Operation;

use crate::driver::fleet::{Progress, SessionNumber, Sighting};
use crate::driver::inbox::Told;

/// What is known here of one host.
#[derive(Debug, Clone, Default)]
pub(super) struct Seat {
    /// How it was last looked at; what came of it is in the history.
    pub(super) seen: Option<Sighting>,
    /// The last command that its session was handed.
    pub(super) sent: Option<(SessionNumber, Generation)>,
}

impl Seat {
    pub(super) fn session(&self) -> Option<SessionNumber> {
        self.seen.as_ref().and_then(|seen| seen.session)
    }
}

/// How far hosts are.
#[derive(Debug, Default)]
pub(super) struct KnownProgress {
    pub(super) known: BTreeMap<HostId, Progress>,
    /// What is known is not what is shown.
    pub(super) changed: bool,
    pub(super) shown: Arc<BTreeMap<HostId, Progress>>,
}

impl KnownProgress {
    /// Hosts have answered, and are at work no more.
    pub(super) fn end(&mut self, reports: &[Told]) {
        for told in reports {
            self.changed |= self.known.remove(&told.report.host).is_some();
        }
    }

    /// Of hosts that are at work no more nothing is shown.
    pub(super) fn show(&mut self, operation: &Operation) {
        if std::mem::take(&mut self.changed) {
            let at_work: BTreeSet<&HostId> =
                operation.in_flight().into_iter().map(|(host, _)| host).collect();
            self.known.retain(|host, _| at_work.contains(host));
            self.shown = Arc::new(self.known.clone());
        }
    }
}

/// Hosts of which only what was heard from `from` on counts, and that were not heard since.
#[derive(Debug, Default)]
pub(super) struct Unheard {
    pub(super) from: Timestamp,
    pub(super) hosts: BTreeSet<HostId>,
    /// When all of them are looked at next. That a host comes back, or is another than it was, is told.
    pub(super) look_at: Timestamp,
}

/// Hosts that were there by the history, and are waited for.
#[derive(Debug)]
pub(super) struct Comparing {
    /// No command is sent before.
    pub(super) send_from: Timestamp,
    /// No further host is started before. A host can only show what it has itself obeyed: one that this history has not
    /// started yet does not know that the history is an older copy, and another one may.
    pub(super) start_from: Timestamp,
    pub(super) hosts: BTreeSet<HostId>,
}
