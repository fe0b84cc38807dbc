//! What should be in flight for a checkpoint.

use rfs_model::{HostId, Timestamp};

use super::FINISH_TIME;
use super::state::{Checkpoint, HostPhase, HostRecord, Phase};
use crate::host::{HostCommand, Step};
use crate::operation::Work;
use crate::request::Selection;

impl Checkpoint {
    /// What should be in flight, and when something is next due.
    pub fn wanted(&self) -> Work {
        if !self.open() {
            return Work::default();
        }
        let commands = self.hosts.iter().filter_map(|(name, host)| self.command(name, host));
        Work { commands: commands.collect(), wake_at: self.wake_at(), ..Work::default() }
    }

    fn command(&self, name: &HostId, host: &HostRecord) -> Option<(HostId, HostCommand)> {
        let selection = || Selection { components: self.request.components.clone(), ..Selection::default() };
        let quiesce_timeout = self.quiesce_timeout();
        let (deadline, step) = match host.phase {
            HostPhase::Preparing => {
                (self.durable_by(), Step::Prepare { selection: selection(), quiesce_timeout })
            }
            HostPhase::Cutting => (self.durable_by(), Step::Cut { selection: selection(), quiesce_timeout }),
            // One that never heard of the checkpoint has nothing to resume.
            HostPhase::Abandoning if self.outcome().is_some() && !host.told => return None,
            HostPhase::Finishing => (self.resumed_by(), Step::Finish),
            HostPhase::Abandoning => (self.resumed_by(), Step::Abandon),
            HostPhase::Prepared | HostPhase::Cut | HostPhase::Done | HostPhase::Failed => return None,
        };
        let command = HostCommand {
            operation: self.id.into(),
            generation: step.kind().generation(host.generation),
            deadline,
            reason: self.request.reason.clone(),
            step,
        };
        Some((name.clone(), command))
    }

    fn resumed_by(&self) -> Timestamp {
        match self.phase {
            Phase::Finishing { deadline } => deadline,
            Phase::Preparing | Phase::Cutting | Phase::Finished { .. } => self.durable_by().plus(FINISH_TIME),
        }
    }
}
