//! What waits for a driver.
//!
//! Reports and decisions are queued, each with who waits for it. Nobody who brings something waits for room: an operation
//! whose driver is behind would hold up all others. Reports are bounded where they come from: a host's session reads no more
//! from its agent while a few of its reports are not stored. That a host is to be looked at again, belongs to another
//! operation, or is further than before, and that the history has grown, is only noted: any number of such notes takes the
//! place of one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rfs_model::{HostId, OperationId};
use rfs_rollout::{Person, Report};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::error::OperationError;
use super::fleet::Progress;
use super::view::View;

/// How many decisions may wait for one operation.
const DECISIONS: usize = 64;
/// How much is taken at once.
const BATCH: usize = 1024;

/// A report, and who is told once it is stored.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) report: Report,
    pub(super) stored: oneshot::Sender<()>,
}

/// A person's decision, and who is told what came of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) person: Person,
    pub(super) reply: oneshot::Sender<Result<(), OperationError>>,
}

/// The driver's end.
pub(super) struct Inbox {
    pub(super) operation: OperationId,
    reports: mpsc::UnboundedReceiver<Told>,
    decisions: mpsc::Receiver<Asked>,
    notes: Arc<Notes>,
    view: watch::Sender<Option<View>>,
}

/// The end of those who have something for the driver. Cheap to clone.
#[derive(Clone)]
pub(super) struct Mailbox {
    reports: mpsc::UnboundedSender<Told>,
    decisions: mpsc::Sender<Asked>,
    notes: Arc<Notes>,
    view: watch::Receiver<Option<View>>,
}

#[derive(Default)]
struct Notes {
    kept: Mutex<Kept>,
    bell: Notify,
}

#[derive(Default)]
struct Kept {
    look: BTreeSet<HostId>,
    superseded: BTreeSet<HostId>,
    grown: bool,
    room: bool,
    rewound: Option<String>,
    progress: BTreeMap<HostId, Progress>,
}

/// What a driver takes on at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) reports: Vec<Told>,
    pub(super) decisions: Vec<Asked>,
    pub(super) look: BTreeSet<HostId>,
    pub(super) superseded: BTreeSet<HostId>,
    /// Something that came after it was written into the history.
    pub(super) grown: bool,
    /// What others take of the budgets is less than it was.
    pub(super) room: bool,
    /// The store was put back to an older copy, as this text tells.
    pub(super) rewound: Option<String>,
    pub(super) progress: BTreeMap<HostId, Progress>,
}

/// Both ends.
pub(super) fn inbox(operation: OperationId) -> (Mailbox, Inbox) {
    let (reports_in, reports) = mpsc::unbounded_channel();
    let (decisions_in, decisions) = mpsc::channel(DECISIONS);
    let (view_in, view) = watch::channel(None);
    let notes = Arc::new(Notes::default());
    let mailbox = Mailbox { reports: reports_in, decisions: decisions_in, notes: notes.clone(), view };
    (mailbox, Inbox { operation, reports, decisions, notes, view: view_in })
}

impl Mailbox {
    /// Whether the driver has ended, be it as it should or not.
    pub(super) fn is_closed(&self) -> bool {
        self.reports.is_closed()
    }

    /// Does not wait. Gives the report back if the driver has ended.
    pub(super) fn report(&self, told: Told) -> Option<Told> {
        self.reports.send(told).err().map(|error| error.0)
    }

    /// Does not wait. Gives the decision back if the driver has ended, or has too many of them.
    pub(super) fn decide(&self, asked: Asked) -> Result<(), mpsc::error::TrySendError<Asked>> {
        self.decisions.try_send(asked)
    }

    pub(super) fn look(&self, host: HostId) {
        self.notes.take().look.insert(host);
        self.notes.bell.notify_one();
    }

    pub(super) fn superseded(&self, host: HostId) {
        self.notes.take().superseded.insert(host);
        self.notes.bell.notify_one();
    }

    pub(super) fn grown(&self) {
        self.notes.take().grown = true;
        self.notes.bell.notify_one();
    }

    pub(super) fn room(&self) {
        self.notes.take().room = true;
        self.notes.bell.notify_one();
    }

    pub(super) fn rewound(&self, text: String) {
        self.notes.take().rewound.get_or_insert(text);
        self.notes.bell.notify_one();
    }

    pub(super) fn progress(&self, progress: Progress) {
        self.notes.take().progress.insert(progress.host.clone(), progress);
        self.notes.bell.notify_one();
    }

    /// What the driver shows; nothing before it has read the history.
    pub(super) fn view(&self) -> watch::Receiver<Option<View>> {
        self.view.clone()
    }
}

impl Notes {
    fn take(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Waits until there is something, and takes what there is. May be dropped at any moment without a loss.
    pub(super) async fn wait(&mut self) -> Batch {
        let mut batch = Batch::default();
        tokio::select! {
            biased;
            Some(asked) = self.decisions.recv() => batch.decisions.push(asked),
            Some(told) = self.reports.recv() => batch.reports.push(told),
            () = self.notes.bell.notified() => {}
        }
        self.drain(&mut batch);
        batch
    }

    fn drain(&mut self, batch: &mut Batch) {
        while batch.decisions.len() < DECISIONS
            && let Ok(asked) = self.decisions.try_recv()
        {
            batch.decisions.push(asked);
        }
        while batch.reports.len() < BATCH
            && let Ok(told) = self.reports.try_recv()
        {
            batch.reports.push(told);
        }
        let Kept { look, superseded, grown, room, rewound, progress } =
            std::mem::take(&mut *self.notes.take());
        batch.look.extend(look);
        batch.superseded.extend(superseded);
        batch.grown |= grown;
        batch.room |= room;
        batch.rewound = batch.rewound.take().or(rewound);
        batch.progress.extend(progress);
    }

    /// Whether nobody waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.reports.is_empty() && self.decisions.is_empty()
    }

    /// Shows the operation to those who watch it.
    pub(super) fn show(&self, view: View) {
        self.view.send_replace(Some(view));
    }

    /// Takes nothing more, and gives what was left.
    pub(super) fn close(mut self) -> Batch {
        self.reports.close();
        self.decisions.close();
        let mut batch = Batch::default();
        self.drain(&mut batch);
        while let Ok(told) = self.reports.try_recv() {
            batch.reports.push(told);
        }
        batch
    }
}
