//! What an event makes of a rollback.

mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rfs_model::{Generation, Health, HostId, Reason, Timestamp};

use super::event::{Created, RollbackEvent};
use super::gate::not_good;
use super::state::{
    Direction, HealthRecord, HostPhase, HostRecord, Outcome, PauseCause, Phase, Rollback, WaveRecord,
};
use crate::host::{Failure, StepKind};
use crate::plan::{WaveIndex, groups_of};
use crate::request::{OnFailure, OnUnreachable};

impl Rollback {
    /// The rollback right after its creation.
    pub(crate) fn begin(at: Timestamp, created: &Created) -> Self {
        let turn_of = created.plan.turn_of();
        let groups_of = groups_of(&created.plan.groups);
        let hosts = created.hosts.iter().filter_map(|(name, admission)| {
            let presence = &admission.presence;
            let (wave, place) = *turn_of.get(name)?;
            let record = HostRecord {
                wave,
                place,
                groups: groups_of.get(name).map_or_else(Default::default, |groups| groups.as_slice().into()),
                target: *created.plan.targets.get(name)?,
                generation: admission.generation,
                told: Generation(admission.generation.0.saturating_sub(1)),
                connected: presence.connected,
                connection_since: at,
                returns: false,
                health: HealthRecord {
                    health: if presence.connected { presence.health } else { Health::Unknown },
                    since: presence.since,
                    last_bad: (presence.health == Health::Bad).then_some(at),
                    evidence: presence.evidence.clone(),
                    after: presence.after.unwrap_or_default(),
                    measured_at: None,
                    before: None,
                },
                instance: presence.instance,
                contested: None,
                accepted: None,
                unanswered: None,
                again_at: at,
                overtaken: false,
                phase: HostPhase::Untouched,
                attempt: 1,
                granted: true,
                fallback: HostPhase::Unchanged,
                given_up: false,
                silent: false,
                late: false,
                restore: None,
                heard_late: None,
                started_at: None,
                finished_at: None,
                backup: None,
                elsewhere: BTreeMap::new(),
                receipt: None,
                removed: Vec::new(),
                failure: None,
                choices: None,
            };
            Some((name.clone(), record))
        });
        Self {
            id: created.id,
            request: Arc::new(created.request.clone()),
            plan: Arc::new(created.plan.clone()),
            created_at: at,
            last_at: at,
            listening_since: Timestamp(i64::MIN),
            heard_from: Timestamp(i64::MIN),
            bounded_from: at,
            progress_at: at,
            phase: Phase::Running { direction: Direction::Forward },
            wave: None,
            waves: vec![WaveRecord::default(); created.plan.waves.len()],
            hosts: hosts.collect(),
            acknowledged: Default::default(),
            cause: None,
            undone: Default::default(),
        }
    }

    /// This rollback after `event`.
    #[must_use]
    pub fn evolve(mut self, event: &RollbackEvent) -> Self {
        self.take(event);
        self
    }

    #[expect(clippy::too_many_lines, reason = "one arm per event reads best")]
    pub(crate) fn take(&mut self, event: &RollbackEvent) {
        let at = event.at();
        self.last_at = self.last_at.max(at);
        let watches_health = !self.request.policy.gate.ignore_health;
        match event {
            RollbackEvent::Created { .. } => {}
            RollbackEvent::Listening { from, .. } => {
                self.listening_since = at;
                self.heard_from = *from;
                let over = self.outcome().is_some();
                let watched = |host: &HostRecord| !over || host.is_watched_after_the_outcome();
                for host in self.hosts.values_mut().filter(|host| watched(host)) {
                    host.await_return(at);
                }
            }
            RollbackEvent::HostsBack { hosts, .. } => {
                for host in hosts {
                    if let Some(host) = self.hosts.get_mut(host) {
                        host.connect(at, watches_health);
                    }
                }
            }
            RollbackEvent::HealthUnchanged { hosts, .. } => {
                for name in hosts {
                    let Some(host) = self.hosts.get_mut(name) else { continue };
                    host.recall_health(at, watches_health);
                    if host.phase == (HostPhase::Passed { doubtful_since: None }) {
                        self.acknowledged.remove(name);
                    }
                }
            }
            RollbackEvent::HostConnected { host, instance, accepted, .. } => {
                let over = self.outcome().is_some();
                if let Some(host) = self.hosts.get_mut(host) {
                    host.connect(at, watches_health);
                    host.accepted = *accepted;
                    match host.unanswered.is_some() && host.never_obeyed() {
                        // While the way back goes on it is asked.
                        true if host.may_yet_go_back() && !over => {}
                        true if host.may_yet_go_back() => {
                            host.unanswered = None;
                            host.phase = host.fallback.clone();
                            if host.phase.at_target() {
                                host.leave_behind(host.found_at_target());
                            }
                        }
                        true => {
                            host.fallback = host.unanswered.take().unwrap_or(HostPhase::Unchanged);
                        }
                        false => {}
                    }
                    host.contested = None;
                    host.instance = instance.or(host.instance);
                }
            }
            RollbackEvent::HostDisconnected { host, .. } => {
                if let Some(host) = self.hosts.get_mut(host) {
                    (host.connected, host.returns) = (false, false);
                    host.connection_since = at;
                    host.forget_health(at, "no connection", watches_health);
                }
            }
            RollbackEvent::HostReplaced { host, instance, .. } => {
                self.host(at, host, |host| {
                    host.forget_health(at, "another machine speaks for it", watches_health);
                    host.replace(at, *instance);
                });
            }
            RollbackEvent::HostContested { host, text, .. } => {
                if let Some(host) = self.hosts.get_mut(host) {
                    host.contested = Some(text.clone());
                    // Even where health is not looked at: nobody knows which machine passed.
                    host.forget_health(at, text, true);
                }
            }
            RollbackEvent::HostOvertaken { host, failure, .. } => {
                self.host(at, host, |host| {
                    host.overtaken = true;
                    host.take_as_lost(at, failure.clone());
                });
            }
            RollbackEvent::HealthChanged { host, health, since, evidence, after, measured_at, .. } => {
                let deadline = self.request.policy.gate.healthy_deadline;
                if let Some(record) = self.hosts.get_mut(host) {
                    record.observe(at, *health, *since, evidence, watches_health);
                    record.health.after = after.unwrap_or_default();
                    record.health.measured_at = *measured_at;
                    if let HostPhase::Applied { since } = record.phase
                        && *health != Health::Unknown
                        && after.is_some()
                        && at > since.plus(deadline)
                    {
                        record.heard_late.get_or_insert(at);
                    }
                    // Only a promotion can have accepted it; from now on it counts again.
                    if record.phase == (HostPhase::Passed { doubtful_since: None }) {
                        self.acknowledged.remove(host);
                    }
                }
            }
            RollbackEvent::WaveStarted { wave, .. } => {
                self.wave = Some(*wave);
                self.waves[wave.get()].started_at = Some(at);
                self.progress_at = at;
            }
            RollbackEvent::HostStarted { host, deadline, .. } => {
                self.host(at, host, |host| {
                    host.told = StepKind::Apply.generation(host.generation);
                    host.phase = HostPhase::Applying { deadline: *deadline };
                    host.started_at = Some(at);
                    host.failure = None;
                });
            }
            RollbackEvent::HostReported { host, step, answer, .. } => {
                let over = self.outcome().is_some();
                self.host(at, host, |host| {
                    let goes_back = over && host.may_yet_go_back();
                    host.report(at, *step, answer, watches_health);
                    if goes_back && host.phase.at_target() {
                        host.leave_behind(host.found_at_target());
                    }
                });
            }
            RollbackEvent::HostPassed { host, .. } => {
                self.acknowledged.remove(host);
                self.host(at, host, |host| host.phase = HostPhase::Passed { doubtful_since: None });
            }
            RollbackEvent::HostFailed { host, failure, .. } => {
                let goes_back = self.goes_back();
                let leaves_out = self.request.policy.on_unreachable == OnUnreachable::Skip;
                self.host(at, host, |host| {
                    // It is not waited for any more, and may still be asked.
                    if goes_back && host.phase == HostPhase::Lost {
                        host.given_up = true;
                        host.unanswered = (leaves_out && host.was_told()).then(|| host.stood_before());
                    }
                    match &host.phase {
                        phase if phase.at_target() && goes_back => host.phase = HostPhase::RevertFailed,
                        phase if phase.at_target() => host.phase = HostPhase::Unhealthy,
                        HostPhase::Lost => {}
                        _ => host.stay(),
                    }
                    host.failure = Some(failure.clone());
                });
            }
            RollbackEvent::HostLost { host, .. } => {
                // One that comes and goes is not asked for longer than hosts are waited for.
                let for_good = at >= self.start_by();
                let told_again =
                    self.goes_back() && self.request.policy.on_unreachable != OnUnreachable::Fail;
                self.host(at, host, |host| host.lose(at, for_good, told_again));
            }
            RollbackEvent::HostSkipped { host, .. } => {
                let goes_back = self.goes_back();
                self.host(at, host, |host| {
                    if host.phase.at_target() && goes_back {
                        host.fallback = HostPhase::RevertFailed;
                        host.failure = Some(host.left_at_target());
                    }
                    host.phase = HostPhase::Skipped;
                });
            }
            RollbackEvent::Retried { hosts, choices, .. } => {
                self.resume(at);
                self.bounded_from = at;
                for host in hosts {
                    self.acknowledged.remove(host);
                    if let Some(host) = self.hosts.get(host) {
                        // Its verdict is open again.
                        self.waves[host.wave.get()].failed_at = None;
                    }
                    let late = self.outcome().is_some();
                    self.host(at, host, |host| {
                        host.try_again(at, late);
                        host.decide(choices);
                    });
                }
            }
            RollbackEvent::HostReturned { host, .. } => {
                let late = self.outcome().is_some();
                self.host(at, host, |host| host.try_again(at, late));
            }
            RollbackEvent::HostGranted { host, generation, .. } => {
                self.host(at, host, |host| {
                    host.generation = *generation;
                    host.granted = true;
                    host.told = Generation(generation.0.saturating_sub(1));
                    host.phase = HostPhase::Untouched;
                });
            }
            RollbackEvent::Withdrawn { hosts, .. } => {
                let concerned = |name: &HostId| hosts.as_ref().is_none_or(|hosts| hosts.contains(name));
                let undo = self.undo_there();
                let hosts = self.hosts.iter_mut().filter(|(name, host)| host.pending() && concerned(name));
                hosts.for_each(|(_, host)| host.withdraw(&undo));
            }
            RollbackEvent::HostSuperseded { host, .. } => {
                let undo = self.undo_there();
                self.host(at, host, |host| host.give_up(&undo));
            }
            RollbackEvent::HostForgotten { host, .. } => {
                self.host(at, host, |host| {
                    host.give_up("");
                    host.failure.get_or_insert(Failure::new(Reason::HostForgotten, "the host was forgotten"));
                });
            }
            RollbackEvent::Undone { by, hosts, .. } => {
                let concerned = |name: &HostId| hosts.as_ref().is_none_or(|hosts| hosts.contains(name));
                for (name, host) in self.hosts.iter_mut().filter(|(name, _)| concerned(name)) {
                    self.undone.insert(name.clone(), *by);
                    if host.pending() {
                        host.withdraw("");
                    }
                }
            }
            RollbackEvent::HostAsked { host, deadline, .. } => {
                self.host(at, host, |host| host.stop(*deadline));
            }
            RollbackEvent::HostReverting { host, deadline, .. } => {
                self.host(at, host, |host| {
                    if host.is_left_behind() {
                        host.failure = None;
                    }
                    host.told = StepKind::Revert.generation(host.generation);
                    host.phase = HostPhase::Reverting { deadline: *deadline };
                });
            }
            RollbackEvent::HostReverted { host, .. } => {
                self.host(at, host, |host| host.phase = HostPhase::Reverted);
            }
            RollbackEvent::WavePassed { wave, .. } => self.waves[wave.get()].passed_at = Some(at),
            RollbackEvent::WaveFailed { wave, hosts, failure, .. } => {
                // One that was tried again has opened the verdict of its own wave again.
                let again = |host: &HostId| self.hosts.get(host).filter(|host| host.attempt > 1);
                let of = |host: &HostId| again(host).map_or(*wave, |host| host.wave);
                let waves: BTreeSet<WaveIndex> = hosts.iter().map(of).collect();
                let waves = if waves.is_empty() { [*wave].into() } else { waves };
                for wave in waves {
                    self.waves[wave.get()].failed_at.get_or_insert(at);
                }
                self.cause = Some(failure.clone());
                if self.request.policy.on_failure == OnFailure::Continue {
                    self.acknowledged.extend(hosts.iter().cloned());
                }
            }
            RollbackEvent::Paused { cause, .. } => {
                if let Phase::Running { direction } | Phase::Paused { direction, .. } = &self.phase {
                    let (direction, cause) = (direction.clone(), cause.clone());
                    self.phase = Phase::Paused { direction, cause, since: at };
                }
            }
            RollbackEvent::Resumed { .. } => {
                let failed = matches!(&self.phase, Phase::Paused { cause: PauseCause::Failed(_), .. });
                self.resume(at);
                if failed {
                    self.acknowledge();
                }
            }
            RollbackEvent::Promoted { by, .. } => {
                self.resume(at);
                self.acknowledge();
                self.accept_ill();
                if let Some(wave) = self.wave {
                    self.waves[wave.get()].promoted_by = Some(by.clone());
                }
            }
            RollbackEvent::Aborted { by, .. } => {
                self.phase = Phase::Aborting { by: by.clone() };
                self.call_back();
            }
            RollbackEvent::RevertStarted { cause, .. } => {
                self.phase = Phase::Running { direction: Direction::Back(cause.clone()) };
                self.progress_at = at;
                // Hosts that are out of reach are waited for as long as the policy says from now on.
                self.bounded_from = at;
                self.call_back();
            }
            RollbackEvent::Finished { outcome, cause, .. } => {
                self.phase = Phase::Finished { outcome: *outcome, cause: cause.clone(), at };
                if !matches!(outcome, Outcome::Partial | Outcome::RevertFailed) {
                    self.leave_skipped();
                    self.leave_retried();
                }
            }
        }
    }

    /// A change of one host that counts as progress.
    fn host(&mut self, at: Timestamp, host: &HostId, change: impl FnOnce(&mut HostRecord)) {
        self.progress_at = at;
        if let Some(host) = self.hosts.get_mut(host) {
            change(host);
        }
    }

    fn resume(&mut self, at: Timestamp) {
        let Phase::Paused { direction, .. } = &self.phase else { return };
        self.phase = Phase::Running { direction: direction.clone() };
        self.bounded_from = at;
        self.progress_at = at;
    }

    fn acknowledge(&mut self) {
        let failed = self.hosts.iter().filter(|(_, host)| host.phase.failed());
        self.acknowledged.extend(failed.map(|(name, _)| name.clone()));
    }

    /// Whoever takes a gate as passed has seen which changed hosts are not known to be good.
    fn accept_ill(&mut self) {
        if self.request.policy.gate.ignore_health {
            return;
        }
        let ill = |host: &HostRecord| host.phase.at_target() && not_good(host.health.health);
        let ill = self.hosts.iter().filter(|(_, host)| ill(host));
        self.acknowledged.extend(ill.map(|(name, _)| name.clone()));
    }

    /// Hosts on their way to the target are told to stop; those that were to follow later are not touched any more.
    fn call_back(&mut self) {
        for host in self.hosts.values_mut() {
            if let HostPhase::Applying { deadline } = host.phase {
                host.stop(deadline);
            }
        }
        self.leave_skipped();
        self.leave_retried();
    }

    /// Hosts that were to be tried again stay as they are.
    fn leave_retried(&mut self) {
        let retried = self.hosts.values_mut().filter(|host| host.phase.waits() && host.attempt > 1);
        retried.for_each(HostRecord::stay);
    }

    fn leave_skipped(&mut self) {
        let undo = self.undo_there();
        for host in self.hosts.values_mut().filter(|host| host.phase == HostPhase::Skipped) {
            host.phase = if host.is_left_behind() { HostPhase::RevertFailed } else { HostPhase::Untouched };
            host.stays_behind(&undo);
        }
        for host in self.hosts.values_mut().filter(|host| host.may_yet_go_back()) {
            host.unanswered = None;
        }
    }
}
