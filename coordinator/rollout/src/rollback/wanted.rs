//! What should be in flight for a rollback.

use rfs_model::{Generation, HostId, Timestamp};

use super::state::{HostPhase, HostRecord, Rollback};
use crate::host::{HostCommand, Step, StepKind};
use crate::operation::Work;
use crate::outside::Outside;

impl Rollback {
    /// What should be in flight, and when something is next due.
    pub fn wanted(&self, outside: &Outside) -> Work {
        // Made of what drivers ask for, so that a test of this one is a test of what is sent.
        let commands = self.in_flight().filter_map(|(host, _)| Some((host.clone(), self.command(host)?)));
        Work { commands: commands.collect(), ..self.awaited(outside) }
    }

    /// The same without the commands.
    pub(crate) fn awaited(&self, outside: &Outside) -> Work {
        let mut work = Work::default();
        let (mut due, mut waits, mut unheard): (Option<Timestamp>, _, _) = (None, false, false);
        for (name, host) in &self.hosts {
            waits |= host.phase.waits();
            unheard |= host.is_unheard();
            work.hear.extend(self.unconfirmed(host).map(|from| (name.clone(), from)));
            let unanswered = host.waits_for_answer() || host.may_have_gone_back();
            if host.phase == HostPhase::Again && host.connected && !unanswered {
                work.reserve.insert(name.clone());
            }
            if let Some((time, _)) = self.due(host) {
                due = Some(due.map_or(time, |due| due.min(time)));
            }
        }
        work.wake_at = self.wake_at(due, waits, unheard, outside);
        work
    }

    /// The hosts that should be at a command, each with that command's generation.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (&HostId, Generation)> {
        let hosts = self.hosts.iter();
        hosts.filter_map(|(name, host)| Some((name, step_of(host)?.0.generation(host.generation))))
    }

    /// The command that a host should be at.
    pub(crate) fn command(&self, host: &HostId) -> Option<HostCommand> {
        let host = self.hosts.get(host)?;
        let (kind, deadline) = step_of(host)?;
        let (selection, choices) =
            (|| self.request.selection.clone(), || self.request.choices.with(host.choices.as_deref()));
        let step = match kind {
            StepKind::Apply => {
                Step::Apply { snapshot: host.target, selection: selection(), choices: choices() }
            }
            StepKind::Cancel => Step::Cancel,
            StepKind::Revert => {
                Step::Revert { backup: host.backup?, selection: selection(), choices: choices() }
            }
            StepKind::Prepare | StepKind::Cut | StepKind::Finish | StepKind::Abandon => return None,
        };
        Some(HostCommand {
            operation: self.id.into(),
            generation: kind.generation(host.generation),
            deadline,
            reason: self.request.reason.clone(),
            step,
        })
    }
}

/// The step that a host should be at, and until when.
fn step_of(host: &HostRecord) -> Option<(StepKind, Timestamp)> {
    match host.phase {
        HostPhase::Applying { deadline } => Some((StepKind::Apply, deadline)),
        HostPhase::Cancelling { deadline } => Some((StepKind::Cancel, deadline)),
        HostPhase::Reverting { deadline } => host.backup.map(|_| (StepKind::Revert, deadline)),
        HostPhase::Untouched
        | HostPhase::Skipped
        | HostPhase::Superseded
        | HostPhase::Again
        | HostPhase::Applied { .. }
        | HostPhase::Passed { .. }
        | HostPhase::Unhealthy
        | HostPhase::Unchanged
        | HostPhase::Lost
        | HostPhase::Reverted
        | HostPhase::RevertFailed
        | HostPhase::Inconsistent => None,
    }
}
