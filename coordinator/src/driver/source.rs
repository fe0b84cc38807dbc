//! What a rollback's targets come from, read and found fit; and why a checkpoint must stay.

use std::collections::{BTreeMap, BTreeSet};

use rfs_model::{CheckpointId, HostId, OperationId, RollbackId, SnapshotId, Timestamp};
use rfs_rollout::checkpoint::{Checkpoint, Outcome};
use rfs_rollout::plan::{Impasse, impasse};
use rfs_rollout::{
    Command, Draft, FleetView, HostView, Operation, Plan, RollbackRequest, Source, plan, some_names,
};

use super::error::OperationError;
use super::later::Later;
use super::operations::Shared;
use super::{journal, kept, later, view};
use crate::store::{Aside, HostRow, OperationKind, Position, StoreError};

/// How many missing hosts are named.
const NAMED: usize = 3;

/// A rollback that is to be undone, as it was read.
pub(super) struct Undone {
    operation: Operation,
    position: Position,
    /// Those that the undo was asked for; none means all.
    hosts: Option<BTreeSet<HostId>>,
}

impl Undone {
    /// What it means to it that `by` undoes it. If it has moved on since it was read, that is for the store to find out.
    pub(super) fn aside(self, by: RollbackId, now: Timestamp) -> Aside {
        let Self { operation, position, hosts } = self;
        // What else is due is for its own driver to decide, which knows the hosts and what others hold.
        let mut draft = Draft::of(operation.clone());
        let _ = draft.handle(&Command::Undone { by, hosts }, now);
        let (after, events) = draft.into_parts();
        let (claim, release) = journal::handed_over(&operation, &after);
        Aside { operation: after.id(), expected: position, events, row: view::row(&after), claim, release }
    }

    /// Whether there is something to undo, and what can be brought back is known. Gives the chosen hosts that are not heard of
    /// since they were told to change, or ended between two states.
    ///
    /// After the store was put back to an older copy, a host may have been changed by what its history does not know: an undo
    /// that left it out without a word would succeed over a host that nobody brought back.
    fn check(
        &self,
        request: &RollbackRequest,
        fleet: &FleetView,
    ) -> Result<BTreeSet<HostId>, OperationError> {
        let Operation::Rollback(rollback) = &self.operation else { return Ok(BTreeSet::new()) };
        let chosen = |name: &HostId| {
            fleet.hosts.get(name).is_some_and(|view| request.selector.matches(name, &view.labels))
        };
        let hosts = || rollback.hosts.iter().filter(|(name, _)| chosen(name));
        let known = || fleet.targets.keys().filter(|name| chosen(name));
        let overtaken: Vec<&str> =
            hosts().filter(|(_, host)| host.overtaken).map(|(name, _)| name.as_str()).collect();
        if !overtaken.is_empty() {
            let known = known().map(HostId::to_string).collect();
            return Err(OperationError::WayUnknown {
                of: rollback.id,
                hosts: some_names(overtaken.into_iter()),
                known,
            });
        }
        let astray = hosts().filter(|(name, host)| host.is_astray() && !fleet.targets.contains_key(*name));
        let astray: BTreeSet<HostId> = astray.map(|(name, _)| name.clone()).collect();
        if known().next().is_none() && !astray.is_empty() {
            let hosts = some_names(astray.iter().map(HostId::as_str));
            return Err(OperationError::Astray { of: rollback.id, hosts });
        }
        if fleet.targets.is_empty() {
            return Err(OperationError::NothingToUndo(rollback.id));
        }
        Ok(astray)
    }

    /// It is not undone on these.
    fn leave(&mut self, hosts: &BTreeSet<HostId>) {
        let Operation::Rollback(rollback) = &self.operation else { return };
        let chosen = self.hosts.take().unwrap_or_else(|| rollback.hosts.keys().cloned().collect());
        self.hosts = Some(chosen.difference(hosts).cloned().collect());
    }
}

/// A rollback as it would begin now.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// What it undoes, if it is an undo.
    pub(super) undone: Option<Undone>,
    /// Why it would come to a stop for certain.
    pub(super) impasse: Option<Impasse>,
    /// Later rollbacks whose changes it would take away, if it is an undo.
    pub(super) later: Vec<Later>,
}

/// How a rollback that is to be undone must stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// It is over.
    Over,
    /// As it happens to: the undo is not begun, only planned.
    Anyhow,
}

/// Plans a rollback over the hosts that are known.
pub(super) async fn planned(
    shared: &Shared,
    request: &RollbackRequest,
    stands: Stands,
) -> Result<Planned, OperationError> {
    let (targets, mut undone, lacking) = match request.source {
        Source::Checkpoint(id) => {
            let checkpoint = complete(shared, id).await?;
            (checkpoint.snapshots(), None, checkpoint.missing())
        }
        Source::Undo(of) => {
            let (backups, undone) = backups(shared, of, stands).await?;
            (backups, Some(undone), BTreeMap::new())
        }
    };
    let fleet = FleetView { hosts: views(shared).await?, targets };
    if let Some(undone) = undone.as_mut().filter(|_| request.selector != Default::default()) {
        let chosen = fleet.hosts.iter().filter(|(name, view)| request.selector.matches(name, &view.labels));
        undone.hosts = Some(chosen.map(|(name, _)| name.clone()).collect());
    }
    // Where it will stand is not known, so neither is whether it is to be brought back.
    if let Some(Undone { operation: Operation::Rollback(rollback), hosts, .. }) = &undone
        && let Some(host) = rollback.at_work_among(hosts.as_ref()).filter(|_| stands == Stands::Over)
    {
        return Err(OperationError::StillAtWork { of: rollback.id, host: host.clone() });
    }
    let astray = match &undone {
        Some(undone) => undone.check(request, &fleet)?,
        None => BTreeSet::new(),
    };
    let mut plan = plan(request, &fleet)?;
    if let (Source::Undo(of), Some(undone)) = (request.source, undone.as_mut())
        && !astray.is_empty()
    {
        // Once they are heard of it can be undone there, too.
        let text = |host: &HostId| {
            format!(
                "rollback {of} told it to change, and it is not known where that has led; once it has said where it stands: \
                 rfs rollback undo {of} --host {host}"
            )
        };
        plan.left_out.extend(astray.iter().map(|host| (host.clone(), text(host))));
        undone.leave(&astray);
    }
    for (host, why) in &mut plan.left_out {
        if let Some(Some(failure)) = lacking.get(host) {
            *why = format!("{} lacks it: {failure}", request.source);
        }
    }
    if let Source::Checkpoint(id) = request.source {
        all_are_held(shared, id, &plan).await?;
    }
    let impasse = impasse(&plan, &request.policy.gate, &fleet);
    let later = match &undone {
        Some(Undone { operation: Operation::Rollback(rollback), .. }) => {
            later::later(shared, rollback, plan.targets.keys().cloned().collect()).await?
        }
        Some(_) | None => Vec::new(),
    };
    Ok(Planned { plan, undone, impasse, later })
}

/// The hosts that are known, as a plan sees them.
pub(super) async fn views(shared: &Shared) -> Result<BTreeMap<HostId, HostView>, StoreError> {
    let rows = shared.store.hosts().await?.into_iter();
    let view = |row: HostRow| {
        let unchecked = shared.fleet.unchecked(&row.host);
        (row.host, HostView { labels: row.labels, unchecked })
    };
    Ok(rows.map(view).collect())
}

/// A checkpoint that has lost the snapshot of a host stays a target for the others.
async fn all_are_held(shared: &Shared, id: CheckpointId, plan: &Plan) -> Result<(), OperationError> {
    let mut dropped = shared.store.dropped_snapshots(id).await?;
    dropped.retain(|host, _| plan.targets.contains_key(host));
    if dropped.is_empty() {
        return Ok(());
    }
    let held = plan.targets.keys().filter(|host| !dropped.contains_key(*host)).map(HostId::to_string);
    let texts = dropped.iter().map(|(host, since)| dropped_snapshot(host, *since));
    Err(OperationError::Dropped { id, dropped: named(texts), held: held.collect() })
}

/// The checkpoint, if it is a target.
async fn complete(shared: &Shared, id: CheckpointId) -> Result<Checkpoint, OperationError> {
    let checkpoint = checkpoint(shared, id).await?;
    match checkpoint.outcome() {
        Some(Outcome::Complete) => Ok(checkpoint),
        Some(Outcome::Aborted) => Err(OperationError::Aborted(id)),
        Some(Outcome::Incomplete) => Err(OperationError::Incomplete { id, missing: missing(&checkpoint) }),
        None => Err(OperationError::NotYetTaken(id)),
    }
}

/// The checkpoint, unless it is deleted.
pub(super) async fn checkpoint(shared: &Shared, id: CheckpointId) -> Result<Checkpoint, OperationError> {
    let row = shared.store.operation(id.into()).await?;
    if row.is_none_or(|row| row.kind != OperationKind::Checkpoint) {
        return Err(OperationError::NoCheckpoint(id));
    }
    match stored(shared, id.into()).await? {
        Some(Operation::Checkpoint(checkpoint)) => Ok(*checkpoint),
        Some(Operation::Rollback(_)) | None => Err(OperationError::NoCheckpoint(id)),
    }
}

fn missing(checkpoint: &Checkpoint) -> String {
    let missing = checkpoint.missing();
    named(missing.iter().map(|(host, failure)| match failure {
        Some(failure) => format!("{host}: {failure}"),
        None => host.to_string(),
    }))
}

/// Why a host's snapshot of a complete checkpoint is missing.
pub(crate) fn dropped_snapshot(host: &HostId, since: Timestamp) -> String {
    format!(
        "{host} no longer has its snapshot since {since}: its rules forgot it, it was deleted, or its store was made anew"
    )
}

/// The first few texts, and how many more there are.
fn named(texts: impl ExactSizeIterator<Item = String>) -> String {
    let more = texts.len().saturating_sub(NAMED);
    let mut named: Vec<String> = texts.take(NAMED).collect();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join("; ")
}

async fn backups(
    shared: &Shared,
    of: RollbackId,
    stands: Stands,
) -> Result<(BTreeMap<HostId, SnapshotId>, Undone), OperationError> {
    let Some((operation, position)) = read(shared, of.into()).await? else {
        return Err(OperationError::NoRollback(of));
    };
    let Operation::Rollback(rollback) = &operation else { return Err(OperationError::NoRollback(of)) };
    if rollback.outcome().is_none() && stands == Stands::Over {
        return Err(OperationError::StillRuns(of));
    }
    let backups = rollback.backups();
    Ok((backups, Undone { operation, position, hosts: None }))
}

/// An operation as it is stored.
pub(super) async fn stored(shared: &Shared, id: OperationId) -> Result<Option<Operation>, StoreError> {
    Ok(read(shared, id).await?.map(|(operation, _)| operation))
}

/// An operation as it is stored, and how many events its history has.
async fn read(shared: &Shared, id: OperationId) -> Result<Option<(Operation, Position)>, StoreError> {
    let known = kept::read(&*shared.store, id).await?;
    Ok(known.map(|known| (known.operation, known.position)))
}

/// Whether nothing needs the checkpoint.
pub(super) async fn deletable(shared: &Shared, id: CheckpointId) -> Result<(), OperationError> {
    let checkpoint = checkpoint(shared, id).await?;
    if checkpoint.outcome().is_none() {
        return Err(OperationError::NotYetTaken(id));
    }
    let why = if let Some(rollback) = shared.store.rollback_to(id).await? {
        format!("rollback {rollback} is on its way to it")
    } else if shared.store.last_proven_checkpoint().await? == Some(id) {
        "it is the last one that a rollback has reached and found healthy".to_owned()
    } else if shared.store.needed_checkpoints().await?.contains(&id) {
        "it is the newest complete one".to_owned()
    } else {
        return Ok(());
    };
    Err(OperationError::InUse { id, why })
}
