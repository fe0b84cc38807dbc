//! What should be in flight for a checkpoint.

use rfs_model::{Generation, HostId, Timestamp};

use super::FINISH_TIME;
use super::state::{Checkpoint, HostPhase, HostRecord, Phase};
use crate::host::{HostCommand, Step, StepKind};
use crate::operation::Work;
use crate::request::Selection;

impl Checkpoint {
    /// What should be in flight, and when something is next due.
    pub fn wanted(&self) -> Work {
        // Made of what drivers ask for, so that a test of this one is a test of what is sent.
        let commands = self.in_flight().filter_map(|(host, _)| Some((host.clone(), self.command(host)?)));
        Work { commands: commands.collect(), ..self.awaited() }
    }

    /// The same without the commands.
    pub(crate) fn awaited(&self) -> Work {
        let wake_at = if self.open() { self.wake_at() } else { None };
        Work { wake_at, ..Work::default() }
    }

    /// The hosts that should be at a command, each with that command's generation.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (&HostId, Generation)> {
        let hosts = self.hosts.iter().filter(|_| self.open());
        hosts.filter_map(|(name, host)| Some((name, self.step_of(host)?.generation(host.generation))))
    }

    /// The command that a host should be at.
    pub(crate) fn command(&self, host: &HostId) -> Option<HostCommand> {
        let host = self.hosts.get(host).filter(|_| self.open())?;
        self.command_of(host)
    }

    /// The step that a host should be at.
    fn step_of(&self, host: &HostRecord) -> Option<StepKind> {
        match host.phase {
            HostPhase::Preparing => Some(StepKind::Prepare),
            HostPhase::Cutting => Some(StepKind::Cut),
            // One that never heard of the checkpoint has nothing to resume.
            HostPhase::Abandoning if self.outcome().is_some() && !host.told => None,
            HostPhase::Finishing => Some(StepKind::Finish),
            HostPhase::Abandoning => Some(StepKind::Abandon),
            HostPhase::Prepared | HostPhase::Cut | HostPhase::Done | HostPhase::Failed => None,
        }
    }

    fn command_of(&self, host: &HostRecord) -> Option<HostCommand> {
        let selection = || Selection { components: self.request.components.clone(), ..Selection::default() };
        let quiesce_timeout = self.quiesce_timeout();
        let (deadline, step) = match self.step_of(host)? {
            StepKind::Prepare => {
                (self.durable_by(), Step::Prepare { selection: selection(), quiesce_timeout })
            }
            StepKind::Cut => (self.durable_by(), Step::Cut { selection: selection(), quiesce_timeout }),
            StepKind::Finish => (self.resumed_by(), Step::Finish),
            StepKind::Abandon => (self.resumed_by(), Step::Abandon),
            StepKind::Apply | StepKind::Cancel | StepKind::Revert => return None,
        };
        Some(HostCommand {
            operation: self.id.into(),
            generation: step.kind().generation(host.generation),
            deadline,
            reason: self.request.reason.clone(),
            step,
        })
    }

    fn resumed_by(&self) -> Timestamp {
        match self.phase {
            Phase::Finishing { deadline } => deadline,
            Phase::Preparing | Phase::Cutting | Phase::Finished { .. } => self.durable_by().plus(FINISH_TIME),
        }
    }
}
