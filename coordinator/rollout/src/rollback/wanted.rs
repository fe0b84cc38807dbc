//! What should be in flight for a rollback.

use rfs_model::HostId;

use super::state::{HostPhase, HostRecord, Rollback};
use crate::host::{HostCommand, Step};
use crate::operation::Work;

impl Rollback {
    /// What should be in flight, and when something is next due.
    pub fn wanted(&self) -> Work {
        let commands = self.hosts.iter().filter_map(|(name, host)| self.command(name, host));
        let hear = self.hosts.iter().filter_map(|(name, host)| Some((name.clone(), self.unconfirmed(host)?)));
        let again = self
            .hosts
            .iter()
            .filter(|(_, host)| host.phase == HostPhase::Again && host.connected && !host.waits_for_answer());
        let reserve = again.map(|(name, _)| name.clone()).collect();
        Work { commands: commands.collect(), hear: hear.collect(), reserve, wake_at: self.wake_at() }
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
