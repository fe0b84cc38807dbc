//! The way back: hosts go to their backups wave by wave, the last wave first.
//!
//! ```text
//!  RevertStarted ─▶ ┌─▶ lost hosts are asked ─▶ hosts of the last wave go back ─▶ none of it left ─┐
//!                   └────────────────────────── the wave before it ◀──────────────────────────────┘ ─▶ Finished
//! ```
//! Invariant: health is not looked at. What hosts go back to may be ill, and what is ill now is why they go back.

use rfs_model::{HostId, Reason, Timestamp};

use super::advance::Draft;
use super::budget::{Counting, Ledger};
use super::event::RollbackEvent;
use super::state::{Cause, Direction, HostPhase, HostRecord, Outcome, Phase, Rollback};
use crate::host::{Failure, StepKind};
use crate::plan::WaveIndex;
use crate::request::OnUnreachable;

/// What is said of hosts that go back as soon as they can. [`HostRecord::stays_behind`] compares these words, and kept states
/// hold them: whoever changes them raises [`Operation::STATE`](crate::Operation::STATE).
const GOES_ON: &str = "start rfs-agent there: the way back goes on by itself";
const GOES_BACK: &str = "it goes back while it is connected";

impl Draft<'_> {
    pub(super) fn back(&mut self, cause: &Cause) {
        self.ask_lost_hosts();
        let Some(turn) = self.state.turn_back() else {
            // One that was left behind may be there by now, and may have waited for a place in its budget.
            self.start_back(HostRecord::is_left_behind, usize::MAX);
            // Right after a restart it is not known yet whether others have that place.
            let is_there = |host: &HostRecord| host.is_left_behind() && host.connected;
            let unseen = self.outside.unknown && self.state.hosts.values().any(is_there);
            if self.state.at_work().is_none() && !unseen {
                self.finish_back(cause);
            }
            return;
        };
        self.leave_behind(turn);
        let at = self.now;
        let nothing_to_do =
            |host: &HostRecord| host.at_target() && host.wave == turn && host.backup.is_none();
        let nothing_to_do = self.state.hosts.iter().filter(|(_, host)| nothing_to_do(host));
        for host in nothing_to_do.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.emit(RollbackEvent::HostReverted { at, host });
        }
        // One that was left behind and is there again has had its turn.
        let may = |host: &HostRecord| (host.at_target() && host.wave == turn) || host.is_left_behind();
        self.start_back(may, usize::MAX);
    }

    /// Tells hosts to go back, as far as budgets allow, and at most so many.
    pub(super) fn start_back(&mut self, may: impl Fn(&HostRecord) -> bool, most: usize) {
        let at = self.now;
        let deadline = at.plus(self.state.request.policy.max_rollback_time);
        // Mostly none may, and then nothing is to be counted.
        let ready = |host: &HostRecord| may(host) && host.connected && host.backup.is_some();
        let ready: Vec<(&HostId, &HostRecord)> =
            self.state.hosts.iter().filter(|(_, host)| ready(host)).collect();
        if ready.is_empty() || most == 0 {
            return;
        }
        let mut ledger = Ledger::of(self.state, self.outside);
        let mut started = Vec::new();
        for (name, host) in ready {
            if started.len() < most && ledger.admit(name, host, Counting::AtWork) {
                started.push((name.clone(), StepKind::Revert.generation(host.generation)));
            }
        }
        for (host, generation) in started {
            self.emit(RollbackEvent::HostReverting { at, host, generation, deadline });
        }
    }

    /// Asks hosts that were lost on the way where they stand, once they are there to be asked.
    fn ask_lost_hosts(&mut self) {
        let at = self.now;
        let deadline = at.plus(self.state.request.policy.max_rollback_time);
        let asked = |host: &HostRecord| host.is_to_be_asked() && host.connected;
        let asked = self.state.hosts.iter().filter(|(_, host)| asked(host));
        let asked: Vec<_> = asked.map(|(name, host)| (name.clone(), host.generation)).collect();
        for (host, generation) in asked {
            let generation = StepKind::Cancel.generation(generation);
            self.emit(RollbackEvent::HostAsked { at, host, generation, deadline });
        }
    }

    /// Hosts without a connection do what the policy says: they are not waited for any more, for now or for good.
    fn leave_behind(&mut self, turn: WaveIndex) {
        let at = self.now;
        let skips = self.state.request.policy.on_unreachable == OnUnreachable::Skip;
        let late = self.state.absent(turn).filter(|(_, host)| self.state.back_by(host) <= at);
        let events: Vec<_> = late
            .map(|(name, host)| {
                let name = name.clone();
                match host.phase {
                    // Nobody knows whether it was changed at all.
                    HostPhase::Lost => {
                        let failure = self.state.not_asked(host);
                        RollbackEvent::HostFailed { at, host: name, failure }
                    }
                    _ if skips && host.contested.is_none() => {
                        RollbackEvent::HostSkipped { at, host: name, generation: host.generation }
                    }
                    _ => {
                        let failure = self.state.still_at_target(host);
                        RollbackEvent::HostFailed { at, host: name, failure }
                    }
                }
            })
            .collect();
        for event in events {
            self.emit(event);
        }
    }

    fn finish_back(&mut self, cause: &Cause) {
        // While two machines speak for a name, nobody knows where the one stands that was told.
        let stuck = |host: &&HostRecord| {
            let unknown = host.contested.is_some() && host.was_told();
            let behind = host.is_left_behind();
            unknown || behind || matches!(host.phase, HostPhase::RevertFailed | HostPhase::Lost)
        };
        let outcome = match self.state.hosts.values().find(stuck) {
            Some(_) => Outcome::RevertFailed,
            None => Outcome::Reverted,
        };
        self.finish(outcome, Some(cause.failure.clone()));
    }
}

impl Rollback {
    /// Whether hosts that are still to be told something are to go back, not to their targets.
    pub(super) fn goes_back(&self) -> bool {
        match &self.phase {
            Phase::Running { direction } | Phase::Paused { direction, .. } => {
                matches!(direction, Direction::Back(_))
            }
            Phase::Aborting { .. } => false,
            Phase::Finished { outcome, .. } => *outcome == Outcome::RevertFailed,
        }
    }

    /// The wave that goes back now: the last one with hosts that are at work, are to go back, or are to be asked where they
    /// stand.
    pub(super) fn turn_back(&self) -> Option<WaveIndex> {
        self.hosts.values().filter(|host| self.is_left(host)).map(|host| host.wave).max()
    }

    /// Whether the way back has something to do, or to wait for, on this host.
    fn is_left(&self, host: &HostRecord) -> bool {
        host.phase.at_work() || host.at_target() || host.is_to_be_asked() || self.waits_to_tell_again(host)
    }

    /// Whether this wave goes back now. That is asked of every wave that is shown, so it looks at no more hosts than it must:
    /// a wave that is over has none left, and the next one after a wave that waits has some.
    fn is_turn(&self, wave: WaveIndex) -> bool {
        let mut waves = self.plan.waves.iter().skip(wave.get());
        let has_left = |hosts: &[HostId]| {
            hosts.iter().filter_map(|host| self.hosts.get(host)).any(|host| self.is_left(host))
        };
        waves.next().is_some_and(|own| has_left(&own.hosts)) && !waves.any(|later| has_left(&later.hosts))
    }

    /// The hosts that the way back waits for because they have no connection.
    fn absent(&self, turn: WaveIndex) -> impl Iterator<Item = (&HostId, &HostRecord)> {
        self.hosts.iter().filter(move |(_, host)| {
            let at_target = host.at_target() || self.waits_to_tell_again(host);
            let its_turn = at_target && host.wave == turn && host.backup.is_some();
            !host.connected && (its_turn || host.is_to_be_asked())
        })
    }

    /// Whether the host keeps its turn because it was out of reach past its deadline: it may never have heard that it was to go
    /// back.
    fn waits_to_tell_again(&self, host: &HostRecord) -> bool {
        self.request.policy.on_unreachable == OnUnreachable::Wait && host.is_left_behind()
    }

    /// Until when a host without a connection is waited for on the way back. One whose name two machines speak for is not
    /// waited for as long as a policy waits: somebody has to say which of them it is.
    fn back_by(&self, host: &HostRecord) -> Timestamp {
        let policy = &self.request.policy;
        let absent_since = host.connection_since.max(self.bounded_from);
        let by = absent_since.plus(policy.unreachable_after).max(self.all_back_by());
        let waits = policy.on_unreachable == OnUnreachable::Wait && host.contested.is_none();
        if waits { by.max(self.start_by()) } else { by }
    }

    /// When the next host is not waited for any more on the way back.
    pub(super) fn next_left_behind(&self) -> Option<Timestamp> {
        let Phase::Running { direction: Direction::Back(_) } = self.phase else { return None };
        self.absent(self.turn_back()?).map(|(_, host)| self.back_by(host)).min()
    }

    fn still_at_target(&self, host: &HostRecord) -> Failure {
        match &host.contested {
            Some(text) => Failure::new(Reason::HostConflict, text.clone()),
            None => host.left_at_target().next(self.undo_there()),
        }
    }

    /// What a person does about a host that was to go back, and does not any more.
    pub(super) fn undo_there(&self) -> String {
        format!("start rfs-agent there, then: rfs rollback undo {}", self.id)
    }

    fn not_asked(&self, host: &HostRecord) -> Failure {
        let text = format!(
            "not heard of past its deadline, and no connection since {}: whether it was changed is not known",
            host.connection_since
        );
        Failure::new(Reason::HostUnreachable, text)
            .next(format!("start rfs-agent there, then look at it: rfs rollback show {}", self.id))
    }

    /// What a wave that goes back waits for; nothing if it is not its turn.
    pub fn waits_on_the_way_back(&self, wave: WaveIndex) -> Option<String> {
        let Phase::Running { direction: Direction::Back(_) } = self.phase else { return None };
        let turn = self.is_turn(wave).then_some(wave)?;
        let at_work = self.hosts.values().filter(|host| host.wave == turn && host.phase.at_work()).count();
        if at_work > 0 {
            return Some(format!("{at_work} of its hosts to be back as they were"));
        }
        let (name, host) = self.absent(turn).min_by_key(|(_, host)| self.back_by(host))?;
        let others = self.absent(turn).count() - 1;
        let others = if others == 0 { String::new() } else { format!(" and {others} more") };
        Some(format!("{name}{others}, without a connection, until {}", self.back_by(host)))
    }
}

impl HostRecord {
    /// Whether it is at its target, as far as anybody knows, because it was out of reach when it was to go back; it goes back
    /// when it is back.
    pub fn is_left_behind(&self) -> bool {
        let waits = self.phase.waits() || self.phase == HostPhase::Skipped;
        waits && self.fallback == HostPhase::RevertFailed
    }

    /// Why one that was left behind is where it is.
    pub(super) fn left_at_target(&self) -> Failure {
        let since = self.connection_since;
        let text = match self.was_told_to_go_back() {
            false => format!("no connection since {since}, so it is still at the target"),
            true => {
                format!("told to go back, and no connection since {since}: whether it is back is not known")
            }
        };
        Failure::new(Reason::HostUnreachable, text).next(GOES_ON)
    }

    /// It is at its target, and stays there: its way back is called off.
    pub(super) fn stays_behind(&mut self, next: &str) {
        if self.phase == HostPhase::RevertFailed
            && let Some(failure) = &mut self.failure
            && matches!(failure.next.as_str(), GOES_ON | GOES_BACK)
        {
            next.clone_into(&mut failure.next);
        }
    }

    /// Why one that was lost is where it says that it is, after the way back had ended.
    pub(super) fn found_at_target(&self) -> Failure {
        let text = "it was out of reach when it was to go back, so it is still at the target";
        Failure::new(Reason::HostUnreachable, text).next(GOES_BACK)
    }

    /// Whether it may be at its target and was left out of the way back for now: it goes back once it says that it is there.
    pub fn may_yet_go_back(&self) -> bool {
        self.phase == HostPhase::Lost && self.given_up && self.unanswered.is_some()
    }

    /// Whether the way back must hear first where it stands: it was lost, and has not been asked while it was there. What was
    /// sent to one that was out of reach may never have arrived. Another machine under its name would answer for something
    /// else.
    fn is_to_be_asked(&self) -> bool {
        // One that the way back did not wait for any more, and that is there all the same.
        let is_back = || {
            let unreachable = |failure: &Failure| failure.reason == Reason::HostUnreachable;
            let given_up = self.phase == HostPhase::Lost && self.given_up;
            given_up && !self.overtaken && self.connected && self.failure.as_ref().is_some_and(unreachable)
        };
        self.contested.is_none() && !self.silent && (self.may_be_asked() || is_back())
    }
}
