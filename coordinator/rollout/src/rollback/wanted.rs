//! What should be in flight for a rollback.

use rfs_model::{HostId, Timestamp};

use super::state::{HostPhase, HostRecord, Rollback};
use crate::host::{HostCommand, Step};
use crate::operation::Work;
use crate::outside::Outside;

impl Rollback {
    /// What should be in flight, and when something is next due.
    pub fn wanted(&self, outside: &Outside) -> Work {
        let mut work = Work::default();
        let mut due: Option<Timestamp> = None;
        for (name, host) in &self.hosts {
            work.commands.extend(self.command(name, host));
            work.hear.extend(self.unconfirmed(host).map(|from| (name.clone(), from)));
            if host.phase == HostPhase::Again && host.connected && !host.waits_for_answer() {
                work.reserve.insert(name.clone());
            }
            if let Some((time, _)) = self.due(host) {
                due = Some(due.map_or(time, |due| due.min(time)));
            }
        }
        work.wake_at = self.wake_at(due, outside);
        work
    }

    fn command(&self, name: &HostId, host: &HostRecord) -> Option<(HostId, HostCommand)> {
        let selection = || self.request.selection.clone();
        let (deadline, step) = match &host.phase {
            HostPhase::Applying { deadline } => {
                (deadline, Step::Apply { snapshot: host.target, selection: selection() })
            }
            HostPhase::Cancelling { deadline } => (deadline, Step::Cancel),
            HostPhase::Reverting { deadline } => {
                (deadline, Step::Revert { backup: host.backup?, selection: selection() })
            }
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
            | HostPhase::Inconsistent => return None,
        };
        let command = HostCommand {
            operation: self.id.into(),
            generation: step.kind().generation(host.generation),
            deadline: *deadline,
            reason: self.request.reason.clone(),
            step,
        };
        Some((name.clone(), command))
    }
}
