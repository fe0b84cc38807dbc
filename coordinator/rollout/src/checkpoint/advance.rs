//! What follows: deadlines, the cut once all are ready, the end.

use rfs_model::{HostId, Reason, Timestamp};

use super::decide::Draft;
use super::event::CheckpointEvent;
use super::state::{Checkpoint, HostPhase, HostRecord, Outcome, Phase};
use super::{CONNECT_TIME, FINISH_TIME};
use crate::host::Failure;
use crate::millis;

impl Draft<'_> {
    /// Decides until nothing more follows.
    pub(crate) fn settle(&mut self) {
        loop {
            let before = self.events.len();
            self.deadlines();
            match self.state.phase {
                Phase::Preparing | Phase::Cutting if self.state.aborted_by.is_some() => {
                    self.end(Outcome::Aborted);
                }
                Phase::Preparing => self.cut_if_ready(),
                Phase::Cutting => self.finish_if_cut(),
                Phase::Finishing { deadline } => self.end_if_resumed(deadline),
                Phase::Finished { .. } => self.close_if_all_must_have_resumed(),
            }
            if self.events.len() == before {
                return;
            }
        }
    }

    fn deadlines(&mut self) {
        let at = self.now;
        let due = |(name, host): (&HostId, &HostRecord)| {
            let (by, failure) = self.state.due(name, host)?;
            (by <= at).then(|| (name.clone(), failure))
        };
        let due: Vec<(HostId, Failure)> = self.state.hosts.iter().filter_map(due).collect();
        for (host, failure) in due {
            self.emit(CheckpointEvent::HostFailed { at, host, failure });
        }
    }

    fn any(&self, phase: HostPhase) -> bool {
        self.state.hosts.values().any(|host| host.phase == phase)
    }

    fn cut_if_ready(&mut self) {
        let at = self.now;
        if self.any(HostPhase::Preparing) {
            return;
        }
        if self.any(HostPhase::Prepared) {
            self.emit(CheckpointEvent::CutStarted { at });
        } else {
            self.emit(CheckpointEvent::FinishStarted { at, deadline: at.plus(FINISH_TIME) });
        }
    }

    fn finish_if_cut(&mut self) {
        let at = self.now;
        if !self.any(HostPhase::Cutting) {
            self.emit(CheckpointEvent::FinishStarted { at, deadline: at.plus(FINISH_TIME) });
        }
    }

    fn end_if_resumed(&mut self, deadline: Timestamp) {
        let at = self.now;
        // A host that may hold still is waited for even without a connection: it resumes as soon as it is back.
        if deadline > at && self.state.hosts.values().any(HostRecord::may_hold_still) {
            return;
        }
        let outcome = if self.state.has_enough() { Outcome::Complete } else { Outcome::Incomplete };
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        let (at, skew) = (self.now, self.state.skew());
        self.emit(CheckpointEvent::Finished { at, outcome, skew });
    }

    /// Hosts are told to resume beyond the end, for as long as they may not have done so by themselves.
    fn close_if_all_must_have_resumed(&mut self) {
        let at = self.now;
        if self.state.open() && self.state.all_quiet_by().is_none_or(|by| by <= at) {
            self.emit(CheckpointEvent::Closed { at });
        }
    }
}

impl Checkpoint {
    /// By when every host has resumed that may hold still beyond the end.
    fn all_quiet_by(&self) -> Option<Timestamp> {
        let hosts = self.hosts.values().filter(|host| host.may_hold_still());
        hosts.map(|host| self.quiet_by(host)).max()
    }

    /// Until when the host's answer is waited for, and what it is missing for then.
    fn due(&self, name: &HostId, host: &HostRecord) -> Option<(Timestamp, Failure)> {
        let late = |by: Timestamp, what: &str| {
            let text = format!("not {what} within {:?}", by.since(self.created_at));
            (by, Failure::new(Reason::DeadlineExceeded, text).next("give it more time with --timeout"))
        };
        match host.phase {
            HostPhase::Preparing if !host.connected => {
                let failure = match host.unseen_for {
                    None => {
                        Failure::new(Reason::HostUnreachable, format!("no connection for {CONNECT_TIME:?}"))
                            .next("start rfs-agent there, or allow missing hosts: --allow-missing N")
                    }
                    Some(unseen) => Failure::new(
                        Reason::HostUnreachable,
                        format!("not seen for {}", millis::in_words(unseen)),
                    )
                    .next(format!("if it is gone for good: rfs host forget {name}")),
                };
                let by = host.connection_since.plus(CONNECT_TIME).min(self.ready_by());
                Some((self.heard_by(by), failure))
            }
            HostPhase::Preparing => Some(late(self.heard_by(self.ready_by()), "ready")),
            HostPhase::Cutting => Some(late(self.heard_by(self.durable_by()), "durable")),
            HostPhase::Prepared
            | HostPhase::Cut
            | HostPhase::Finishing
            | HostPhase::Done
            | HostPhase::Abandoning
            | HostPhase::Failed => None,
        }
    }

    /// `time`, but not before hosts had the chance to be heard since the coordinator hears them again.
    fn heard_by(&self, time: Timestamp) -> Timestamp {
        time.max(self.listening_since.plus(CONNECT_TIME))
    }

    /// When something is next due.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let hosts = self.hosts.iter().filter_map(|(name, host)| self.due(name, host)).map(|(by, _)| by);
        match self.phase {
            Phase::Preparing | Phase::Cutting => hosts.min(),
            Phase::Finishing { deadline } => Some(deadline),
            Phase::Finished { .. } => self.all_quiet_by(),
        }
    }
}
