//! What follows: deadlines, starts, verdicts, the next wave, the end. The way back is in [`super::back`].

use rfs_model::{HostId, Reason, Timestamp};

use super::budget::{Counting, Ledger};
use super::event::RollbackEvent;
use super::gate::{Gate, gate, not_good};
use super::state::{Cause, Direction, HostPhase, HostRecord, Outcome, PauseCause, Phase, Rollback};
use super::timers::Due;
use crate::host::{Failure, StepKind};
use crate::outside::Outside;
use crate::plan::WaveIndex;
use crate::request::{OnFailure, Strategy};

/// A rollback with the events that are being decided, already taken into account.
pub(crate) struct Draft<'d> {
    pub(super) state: &'d mut Rollback,
    pub(super) outside: &'d Outside,
    pub(super) events: &'d mut Vec<RollbackEvent>,
    pub(super) now: Timestamp,
}

impl<'d> Draft<'d> {
    pub(crate) fn new(state: &'d mut Rollback, events: &'d mut Vec<RollbackEvent>, now: Timestamp) -> Self {
        let now = now.max(state.last_at);
        Self { state, outside: Outside::NOBODY, events, now }
    }

    pub(crate) fn beside(self, outside: &'d Outside) -> Self {
        Self { outside, ..self }
    }

    pub(super) fn emit(&mut self, event: RollbackEvent) {
        self.state.take(&event);
        self.events.push(event);
    }

    /// Decides until nothing more follows.
    pub(crate) fn settle(&mut self) {
        loop {
            let before = self.events.len();
            self.deadlines();
            match self.state.phase.clone() {
                Phase::Running { direction: Direction::Forward } => self.forward(),
                Phase::Running { direction: Direction::Back(cause) } => self.back(&cause),
                Phase::Paused { cause, .. } => self.end_long_pause(&cause),
                Phase::Aborting { by } => self.aborting(&by),
                Phase::Finished { .. } => self.converge(),
            }
            if self.events.len() == before {
                return;
            }
        }
    }

    fn deadlines(&mut self) {
        let at = self.now;
        let due = |(name, host): (&HostId, &HostRecord)| {
            let (time, due) = self.state.due(host)?;
            let name = (time <= at).then(|| name.clone())?;
            Some(match due {
                Due::Pass => RollbackEvent::HostPassed { at, host: name },
                Due::Fail(lapse) => {
                    RollbackEvent::HostFailed { at, host: name, failure: self.state.failure(host, lapse) }
                }
                Due::Lost => RollbackEvent::HostLost { at, host: name },
                Due::Skip => RollbackEvent::HostSkipped { at, host: name, generation: host.generation },
                Due::GiveUp => RollbackEvent::HostSuperseded { at, host: name },
            })
        };
        let due: Vec<RollbackEvent> = self.state.hosts.iter().filter_map(due).collect();
        for event in due {
            self.emit(event);
        }
    }

    fn forward(&mut self) {
        let at = self.now;
        let Some(wave) = self.state.wave else {
            return self.emit(RollbackEvent::WaveStarted { at, wave: WaveIndex(0) });
        };
        let back = |host: &HostRecord| host.connected && !host.granted && host.phase == HostPhase::Skipped;
        let back = self.state.hosts.iter().filter(|(_, host)| back(host));
        for host in back.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.emit(RollbackEvent::HostReturned { at, host });
        }
        let may_start = |host: &HostRecord| match host.phase {
            HostPhase::Untouched => true,
            HostPhase::Skipped => host.granted,
            _ => false,
        };
        self.start(may_start, usize::MAX);
        self.give_up_waiting();
        let verdict = gate(&self.state.request.policy.gate, &self.state.evidence(wave));
        let over = self.state.waves[wave.get()].passed_at.is_some();
        match verdict {
            Gate::TooManyFailed { failed, allowed } => {
                let hosts = if failed == 1 { "host" } else { "hosts" };
                let are = if allowed == 1 { "is" } else { "are" };
                let refuse = |host: &HostId| self.state.hosts.get(host).is_some_and(HostRecord::refuses);
                let what = match self.state.evidence(wave).failed.iter().all(refuse) {
                    true => {
                        format!(
                            "{failed} {hosts} refused a loss that was not accepted, and {allowed} may fail"
                        )
                    }
                    false => format!("{failed} {hosts} failed, {allowed} {are} allowed to"),
                };
                self.fail(wave, &what);
            }
            Gate::TooFewHealthy { possible, needed } => {
                self.fail(wave, &format!("{possible} can become healthy and {needed} must"));
            }
            Gate::Pass if !over => self.pass(wave),
            Gate::Pass | Gate::Hold(_) if over => self.finish_if_done(wave),
            Gate::Pass | Gate::Hold(_) => {}
        }
    }

    /// Starts hosts whose turn has come, as far as budgets allow, and at most so many.
    fn start(&mut self, may: impl Fn(&HostRecord) -> bool, most: usize) {
        let at = self.now;
        let deadline = at.plus(self.state.request.policy.max_rollback_time);
        let may = |name: &HostId, host: &HostRecord| {
            let begun = || self.state.waves[host.wave.get()].started_at.is_some();
            let unheard =
                || self.state.unheard_until(name, host, self.outside).is_some_and(|until| until > at);
            may(host) && host.connected && begun() && !unheard()
        };
        // Mostly none may, and then nothing is to be counted.
        let ready: Vec<(&HostId, &HostRecord)> =
            self.state.hosts.iter().filter(|(name, host)| may(name, host)).collect();
        if ready.is_empty() || most == 0 {
            return;
        }
        let mut ledger = Ledger::of(self.state, self.outside);
        let admits = |(name, host): &(&HostId, &HostRecord)| ledger.admits(name, host, Counting::Unavailable);
        let mut ready: Vec<(&HostId, &HostRecord)> = ready.into_iter().filter(admits).collect();
        ready.sort_by_key(|(_, host)| (host.wave, host.place));
        let mut started = Vec::new();
        for (name, host) in ready {
            if started.len() < most && ledger.admit(name, host, Counting::Unavailable) {
                started.push((name.clone(), StepKind::Apply.generation(host.generation)));
            }
        }
        for (host, generation) in started {
            self.emit(RollbackEvent::HostStarted { at, host, generation, deadline });
        }
    }

    /// Fails hosts that have waited for their start for too long.
    fn give_up_waiting(&mut self) {
        let at = self.now;
        let budget = self.state.budget_by(self.outside).is_some_and(|by| by <= at);
        let all = self.state.start_by() <= at;
        if !budget && !all {
            return;
        }
        let untouched = |(name, host): (&HostId, &HostRecord)| host.phase.waits().then(|| name.clone());
        let waiting: Vec<HostId> = match all {
            true => {
                let untouched = self.state.hosts.iter().filter_map(untouched);
                untouched.chain(self.state.unseen().into_iter().flatten().cloned()).collect()
            }
            false => self.state.held(self.outside).into_iter().cloned().collect(),
        };
        let held_up = self.state.held_up(self.outside);
        let held_up = held_up.first().map(|held| format!("; it waited for {held}")).unwrap_or_default();
        for host in waiting {
            let failure = if all {
                let max_duration = self.state.request.policy.max_duration;
                Failure::new(
                    Reason::DeadlineExceeded,
                    format!("not started within {max_duration:?}{held_up}"),
                )
            } else {
                let text = "held by its budget: too many hosts of its group are unavailable";
                Failure::new(Reason::BudgetTooSmall, text)
            };
            self.emit(RollbackEvent::HostFailed { at, host, failure });
        }
    }

    fn fail(&mut self, wave: WaveIndex, what: &str) {
        let at = self.now;
        let hosts = self.state.evidence(wave).failed;
        let why = self.state.why(&hosts);
        let reason = hosts.first().and_then(|host| self.state.hosts[host].failure.as_ref()).map(|f| f.reason);
        let failure = Failure::new(reason.unwrap_or(Reason::Unhealthy), format!("{what}: {why}"));
        let cause = Cause { wave, failure: failure.clone() };
        self.emit(RollbackEvent::WaveFailed { at, wave, hosts, failure });
        match self.state.request.policy.on_failure {
            OnFailure::Pause => self.emit(RollbackEvent::Paused { at, cause: PauseCause::Failed(cause) }),
            OnFailure::Revert => self.emit(RollbackEvent::RevertStarted { at, cause }),
            OnFailure::Continue => {}
        }
    }

    fn pass(&mut self, wave: WaveIndex) {
        let at = self.now;
        let evidence = self.state.evidence(wave);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let hosts = &self.state.plan.waves[wave.get()].hosts;
        let failed = hosts.iter().filter(|host| self.state.hosts[*host].phase.failed()).count();
        let promoted_by = self.state.waves[wave.get()].promoted_by.clone();
        let (healthy, failed) = (count(evidence.healthy), count(failed));
        self.emit(RollbackEvent::WavePassed { at, wave, healthy, failed, promoted_by });
        if wave.next().get() < self.state.plan.waves.len() {
            self.emit(RollbackEvent::WaveStarted { at, wave: wave.next() });
        }
    }

    /// Ends the rollback after its last wave, once no host is at work or waits for a verdict that nobody waived.
    fn finish_if_done(&mut self, last: WaveIndex) {
        let waived = self.state.waves[last.get()].promoted_by.is_some();
        let undecided = |host: &HostRecord| match host.phase {
            HostPhase::Untouched
            | HostPhase::Again
            | HostPhase::Applying { .. }
            | HostPhase::Cancelling { .. }
            | HostPhase::Reverting { .. } => true,
            HostPhase::Applied { .. } | HostPhase::Passed { doubtful_since: Some(_) } => !waived,
            HostPhase::Passed { doubtful_since: None }
            | HostPhase::Skipped
            | HostPhase::Superseded
            | HostPhase::Unhealthy
            | HostPhase::Unchanged
            | HostPhase::Lost
            | HostPhase::Reverted
            | HostPhase::RevertFailed
            | HostPhase::Inconsistent => false,
        };
        if self.state.hosts.values().any(undecided) {
            return;
        }
        let watched = !self.state.request.policy.gate.ignore_health;
        // A person may have passed the gate over hosts that are not known to be healthy; the outcome says so.
        let well =
            |host: &HostRecord| host.contested.is_none() && (!watched || !not_good(host.health.health));
        let there = |host: &HostRecord| match host.phase {
            HostPhase::Passed { doubtful_since: None } => true,
            HostPhase::Passed { doubtful_since: Some(_) } | HostPhase::Applied { .. } => well(host),
            HostPhase::Untouched
            | HostPhase::Skipped
            | HostPhase::Superseded
            | HostPhase::Again
            | HostPhase::Applying { .. }
            | HostPhase::Cancelling { .. }
            | HostPhase::Unhealthy
            | HostPhase::Unchanged
            | HostPhase::Lost
            | HostPhase::Reverting { .. }
            | HostPhase::Reverted
            | HostPhase::RevertFailed
            | HostPhase::Inconsistent => false,
        };
        if self.state.hosts.values().all(there) {
            return self.finish(Outcome::Succeeded, None);
        }
        let failed: Vec<HostId> =
            self.state.hosts.iter().filter(|(_, host)| !there(host)).map(|(name, _)| name.clone()).collect();
        let reason = failed.iter().find_map(|host| self.state.hosts[host].failure.as_ref()).map(|f| f.reason);
        let text =
            format!("{} of {} hosts: {}", failed.len(), self.state.hosts.len(), self.state.why(&failed));
        let ill = failed.iter().any(|host| self.state.hosts[host].phase.at_target());
        let otherwise = if ill { Reason::Unhealthy } else { Reason::HostUnreachable };
        self.finish(Outcome::Partial, Some(Failure::new(reason.unwrap_or(otherwise), text)));
    }

    fn aborting(&mut self, by: &str) {
        if self.state.at_work().is_none() {
            self.finish(Outcome::Aborted, Some(Failure::new(Reason::Cancelled, format!("aborted by {by}"))));
        }
    }

    /// A host at neither state outweighs every other outcome.
    pub(super) fn finish(&mut self, outcome: Outcome, cause: Option<Failure>) {
        let at = self.now;
        let inconsistent: Vec<HostId> = self
            .state
            .hosts
            .iter()
            .filter(|(_, host)| host.phase == HostPhase::Inconsistent)
            .map(|(name, _)| name.clone())
            .collect();
        if inconsistent.is_empty() {
            return self.emit(RollbackEvent::Finished { at, outcome, cause });
        }
        let failure = Failure::new(Reason::Inconsistent, self.state.why(&inconsistent))
            .next("look at these hosts: they hold still until a person has put them right");
        self.emit(RollbackEvent::Finished { at, outcome: Outcome::NeedsOperator, cause: Some(failure) });
    }

    /// A pause has a bound: past it the rollback is a person's task, and its hosts are free.
    fn end_long_pause(&mut self, cause: &PauseCause) {
        let over = self.state.paused_until().is_some_and(|until| until <= self.now);
        if !over || self.state.at_work().is_some() {
            return;
        }
        let max_pause = crate::millis::in_words(self.state.request.policy.max_pause);
        let id = self.state.id;
        let failure = Failure::new(Reason::DeadlineExceeded, format!("paused for {max_pause}: {cause}"))
            .next(format!(
                "look at where each host stands: rfs rollback show {id}; then roll back again, or undo it"
            ));
        self.finish(Outcome::NeedsOperator, Some(failure));
    }

    /// Hosts that were left out, or are tried again after the outcome, are brought in line: the first of them alone, then
    /// never more at once that are not known to be healthy than the last waves had, within the budgets. One that cannot start
    /// now is left to others meanwhile. Hosts that were left behind go back in the same way, and no health is looked at.
    fn converge(&mut self) {
        let late = || self.state.hosts.values().filter(|host| host.late);
        let failed = late().filter(|host| host.phase.failed()).count();
        if failed > self.state.request.policy.gate.max_failed as usize {
            return self.leave_out(|_, _| true);
        }
        let left_out = self.state.hosts.values().filter(|host| host.phase == HostPhase::Skipped).count();
        let waiting = late().filter(|host| host.phase.waits()).count();
        let at_it =
            |host: &&HostRecord| host.pending() && !host.phase.waits() && host.phase != HostPhase::Skipped;
        let unproven = late().filter(at_it).count();
        let proven = late().any(|host| matches!(host.phase, HostPhase::Passed { .. } | HostPhase::Reverted));
        let width = if proven { self.state.batch(unproven + waiting + left_out) } else { 1 };
        let counting = if self.state.goes_back() {
            self.start_back(HostRecord::is_granted, width.saturating_sub(unproven));
            Counting::AtWork
        } else {
            self.start(HostRecord::is_granted, width.saturating_sub(unproven));
            Counting::Unavailable
        };
        let at = self.now;
        self.leave_out(|draft, (name, host)| {
            let unheard =
                draft.state.unheard_until(name, host, draft.outside).is_some_and(|until| until > at);
            !host.connected || (host.is_granted() && !unheard)
        });
        let is_back = |name: &HostId, host: &HostRecord| {
            let heard = || self.state.unheard_until(name, host, self.outside).is_none_or(|until| until <= at);
            host.phase == HostPhase::Skipped && host.connected && heard()
        };
        if !self.state.hosts.iter().any(|(name, host)| is_back(name, host)) {
            return;
        }
        let mut ledger = Ledger::of(self.state, self.outside);
        let back = self
            .state
            .hosts
            .iter()
            .filter(|(name, host)| is_back(name, host) && ledger.admit(name, host, counting));
        let most = width.saturating_sub(unproven + waiting);
        let back: Vec<HostId> = back.take(most).map(|(name, _)| name.clone()).collect();
        for host in back {
            self.emit(RollbackEvent::HostReturned { at, host });
        }
    }

    /// Hosts that wait for their turn after the outcome, and do not get it, wait without being owned.
    fn leave_out(&mut self, which: impl Fn(&Self, (&HostId, &HostRecord)) -> bool) {
        let at = self.now;
        let waits = |(_, host): &(&HostId, &HostRecord)| host.late && host.phase.waits();
        let left: Vec<_> = (self.state.hosts.iter())
            .filter(waits)
            .filter(|host| which(self, *host))
            .map(|(name, host)| (name.clone(), host.generation))
            .collect();
        for (host, generation) in left {
            self.emit(RollbackEvent::HostSkipped { at, host, generation });
        }
    }
}

impl Rollback {
    /// How many of so many hosts that were left out are changed at once: as many as in the last wave that was asked for.
    fn batch(&self, hosts: usize) -> usize {
        match &self.request.strategy {
            Strategy::Immediate => hosts,
            Strategy::Gradual(waves) => waves.sizes.last().map_or(hosts, |size| size.round_up(hosts).max(1)),
        }
    }
}
