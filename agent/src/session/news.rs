//! What the host tells by itself: reports, which snapshots it can restore, how well it is, how far a command has come.
//!
//! One task sends it all, in this order: reports, then what is true now. So what a coordinator hears last of a snapshot or
//! of an inconsistent host is not older than the reports before it.

use std::time::Instant;

use rfs_link::{Chain, Failure};
use rfs_model::SnapshotId;
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use tokio::sync::watch;
use tracing::warn;

use super::conversation::{Conversation, blocking, journal};
use crate::commander::{Outcome, Report};
use crate::health::HostHealth;
use crate::wire;

/// The list of snapshots that was sent last.
#[derive(Default)]
pub(super) struct Listed {
    /// What it was at that time; none before the first.
    pub(super) revision: Option<u64>,
    ids: Vec<SnapshotId>,
}

/// A report that was sent in this session and is not acknowledged.
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) key: Option<link::CommandKey>,
}

impl Conversation<'_> {
    /// Sends the reports that were not sent yet, the snapshots if some were lost, health if the host became inconsistent or
    /// consistent, and how far the command at work is.
    pub(super) async fn tell_news(
        &mut self,
        health: &mut watch::Receiver<HostHealth>,
    ) -> Result<(), Failure> {
        let intake = self.host.intake.clone();
        // In this order: what the state says is not older than the reports.
        let (reports, state) = blocking(move || (intake.unacknowledged(), intake.state())).await?;
        let mut reports = reports.map_err(journal)?;
        reports.retain(|report| !self.sent.contains_key(&report.sequence));
        let inconsistent = state.inconsistent.is_some();
        // A report may be old, and say that the host is stuck or at a target: what is true now follows it.
        let mut is_due = std::mem::replace(&mut self.inconsistent, inconsistent) != inconsistent;
        for report in &reports {
            self.tell_report(report).await?;
            is_due |= matches!(report.outcome, Outcome::Restored(_) | Outcome::Cancelled { .. });
        }
        if is_due {
            self.tell_health(health).await?;
        }
        self.tell_snapshots(&reports).await?;
        let progress = state.activity.and_then(|activity| {
            Some(link::Progress {
                key: Some(wire::command_key(&activity)?),
                phase: activity.at(),
                steps_done: activity.steps_done,
                steps_total: activity.steps_total,
            })
        });
        if let Some(progress) = &progress
            && self.progress.as_ref() != Some(progress)
        {
            self.send(Up::Progress(progress.clone())).await?;
        }
        self.progress = progress;
        Ok(())
    }

    async fn tell_report(&mut self, report: &Report) -> Result<(), Failure> {
        let wire = wire::write_report(report, self.host.clock.now());
        let sent = Sent { at: Instant::now(), key: wire.key.clone() };
        self.send(Up::Report(wire)).await?;
        self.sent.insert(report.sequence, sent);
        Ok(())
    }

    /// Sends which snapshots can be restored, if that is not what was sent last. A new one alone is told by its report.
    ///
    /// What `reports` say was cut is in the list, for it is read after them, or was lost since.
    async fn tell_snapshots(&mut self, reports: &[Report]) -> Result<(), Failure> {
        let revision = self.host.intake.snapshots_revision();
        let is_named = |report: &Report| match report.outcome {
            Outcome::Cut { snapshot, .. } => self.snapshots.ids.contains(&snapshot),
            _ => true,
        };
        // One that was cut and is not named is new, or was lost before its report was told, perhaps again.
        let all_named = reports.iter().all(is_named);
        if self.snapshots.revision == Some(revision) && all_named {
            return Ok(());
        }
        let intake = self.host.intake.clone();
        match blocking(move || intake.snapshots()).await? {
            Ok(ids) if all_named && self.snapshots.revision.is_some() && ids == self.snapshots.ids => {
                self.snapshots.revision = Some(revision);
                Ok(())
            }
            Ok(ids) => {
                self.send(Up::Snapshots(wire::write_snapshots(&ids))).await?;
                self.snapshots = Listed { revision: Some(revision), ids };
                Ok(())
            }
            // It is tried again; what is not known is not told.
            Err(error) => {
                self.snapshots.revision = None;
                warn!(error = %Chain(&error), "the snapshots cannot be listed");
                Ok(())
            }
        }
    }

    pub(super) async fn tell_health(&self, health: &mut watch::Receiver<HostHealth>) -> Result<(), Failure> {
        let now = wire::Moment::now(self.host.clock.now());
        let report = wire::write_health(&health.borrow_and_update(), self.inconsistent, now);
        self.send(Up::Health(report)).await
    }
}
