//! What is due for a host, and when: the one place that both acts on time and sets the alarm for it.

use std::collections::BTreeSet;
use std::time::Duration;

use rfs_model::{Health, HostId, Reason, Timestamp};

use super::budget::{Counting, Ledger};
use super::state::{Direction, HostPhase, HostRecord, Phase, Rollback};
use crate::host::Failure;
use crate::outside::Outside;
use crate::plan::GroupIndex;
use crate::request::OnUnreachable;

/// How long an agent that lost its connection may take to be back: it waits for up to 10 s between two attempts, and up to 10 s
/// more where it is told to.
pub const RETURN: Duration = Duration::from_secs(20);

/// For how long a coordinator that goes on with a rollback tells no host anything while hosts that were there are not back:
/// what they say shows whether its store was put back to an older copy. After that those that were told something before are
/// told it again; no further host is started before all are back, or had [`RETURN`] for it.
pub const COMPARING: Duration = Duration::from_secs(1);

/// What is due for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Due {
    /// It has been healthy for long enough.
    Pass,
    /// It counts as failed.
    Fail(Lapse),
    /// It was not heard of past its deadline.
    Lost,
    /// It is left out.
    Skip,
    /// It was left out, and is not waited for any more.
    GiveUp,
}

/// Why a host is due to fail. Put in words when it does: what is due is asked of every host at every turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lapse {
    /// It is changed, and two machines speak for it.
    NotOneMachine,
    /// It is changed, and was not healthy for long enough in time.
    TooShort,
    /// It is changed and good, and was not measured after it had been so for long enough.
    Unmeasured(Timestamp),
    /// It is changed and unhealthy.
    Unhealthy,
    /// It is changed, and its health is not known.
    Unknown,
    /// It had passed, and its health is not known since.
    UnknownSince(Timestamp),
    /// It had passed, and two machines speak for it since.
    NotOneMachineSince(Timestamp),
    /// It had passed, and is unhealthy again.
    UnhealthyAgain,
    /// It is there, and does not say what became of its last attempt.
    Unanswered,
    /// It is to start, and two machines speak for it.
    Contested,
    /// It is to start, and has no connection.
    Unreachable,
}

impl Rollback {
    /// What is due for `host`, and when.
    pub(super) fn due(&self, host: &HostRecord) -> Option<(Timestamp, Due)> {
        let policy = &self.request.policy;
        match &host.phase {
            // One that is there and says nothing is not asked again. Its connection may have died unnoticed a moment ago.
            HostPhase::Cancelling { deadline } if self.goes_back() && host.connected => {
                let patience = policy.unreachable_after.max(RETURN);
                let by = deadline.plus(policy.report_grace).plus(patience);
                Some((by.max(self.all_back_by()), Due::Lost))
            }
            HostPhase::Applying { deadline }
            | HostPhase::Cancelling { deadline }
            | HostPhase::Reverting { deadline } => {
                Some((self.heard_by(host, deadline.plus(policy.report_grace)), Due::Lost))
            }
            HostPhase::Applied { since } if self.judges(host) => Some(self.due_of_applied(host, *since)),
            HostPhase::Passed { doubtful_since: Some(since) } if self.judges(host) => {
                Some(self.due_of_doubtful(host, *since))
            }
            HostPhase::Again if host.connected && (host.waits_for_answer() || host.may_have_gone_back()) => {
                Some(self.due_of_unanswered(host))
            }
            HostPhase::Skipped | HostPhase::Again | HostPhase::Untouched | HostPhase::Lost
                if self.outcome().is_some() =>
            {
                host.pending().then_some((self.waited_for_until()?, Due::GiveUp))
            }
            HostPhase::Untouched | HostPhase::Again if !host.connected => self.due_of_absent(host),
            HostPhase::Applied { .. }
            | HostPhase::Passed { .. }
            | HostPhase::Untouched
            | HostPhase::Again
            | HostPhase::Skipped
            | HostPhase::Superseded
            | HostPhase::Unhealthy
            | HostPhase::Unchanged
            | HostPhase::Lost
            | HostPhase::Reverted
            | HostPhase::RevertFailed
            | HostPhase::Inconsistent => None,
        }
    }

    fn due_of_applied(&self, host: &HostRecord, since: Timestamp) -> (Timestamp, Due) {
        let gate = &self.request.policy.gate;
        let deadline = since.plus(gate.healthy_deadline);
        if gate.ignore_health {
            return match &host.contested {
                None => (since, Due::Pass),
                // Nobody knows which machine would pass.
                Some(_) => (self.heard_by(host, deadline), Due::Fail(Lapse::NotOneMachine)),
            };
        }
        // Nobody listened when it passed: the host has until it could have been healthy for long enough since it was heard.
        let extended = host.heard_late.map_or(deadline, |heard| heard.plus(gate.min_healthy_time));
        match host.health.health {
            Health::Good => {
                let pass = self.passes_at(host, since, host.health.since);
                if pass > extended {
                    (extended, Due::Fail(Lapse::TooShort))
                } else if is_confirmed(host, pass, host.health.measured_at) {
                    (pass, Due::Pass)
                } else {
                    // It is good, and is there: its checks may be far apart.
                    let measured_by = extended.plus(gate.healthy_deadline.max(RETURN));
                    (measured_by, Due::Fail(Lapse::Unmeasured(pass)))
                }
            }
            Health::Bad => (deadline, Due::Fail(Lapse::Unhealthy)),
            Health::Unknown => (self.heard_by(host, deadline), Due::Fail(Lapse::Unknown)),
        }
    }

    /// When a host that reached its target at `applied`, and has been good since `since`, has been good for long enough.
    pub(super) fn passes_at(&self, host: &HostRecord, applied: Timestamp, since: Timestamp) -> Timestamp {
        // Without the number of the change there is only the time of its report to tell what came after it.
        let good_since = if host.restore.is_some() { since } else { since.max(applied) };
        good_since.plus(self.request.policy.gate.min_healthy_time)
    }

    /// When a host that is good has been so for long enough, if it was not measured good after that yet.
    pub(super) fn unconfirmed(&self, host: &HostRecord) -> Option<Timestamp> {
        let HostPhase::Applied { since } = host.phase else { return None };
        let watched = self.judges(host) && !self.request.policy.gate.ignore_health;
        let is_good = watched && host.health.health == Health::Good;
        let pass = is_good.then(|| self.passes_at(host, since, host.health.since))?;
        (!is_confirmed(host, pass, host.health.measured_at)).then_some(pass)
    }

    fn due_of_doubtful(&self, host: &HostRecord, since: Timestamp) -> (Timestamp, Due) {
        let gate = &self.request.policy.gate;
        let by = || self.heard_by(host, since.plus(gate.healthy_deadline));
        match host.health.health {
            // Nobody asked how it is, and it said that it is there: it is only given the time to say that it has obeyed newer
            // commands since.
            _ if gate.ignore_health && host.contested.is_none() => (self.all_back_by(), Due::Pass),
            _ if gate.ignore_health => (by(), Due::Fail(Lapse::NotOneMachineSince(since))),
            Health::Unknown | Health::Good => (by(), Due::Fail(Lapse::UnknownSince(since))),
            Health::Bad => (since, Due::Fail(Lapse::UnhealthyAgain)),
        }
    }

    /// It is back, and does not say what became of its last attempt.
    fn due_of_unanswered(&self, host: &HostRecord) -> (Timestamp, Due) {
        let asked = host.connection_since.max(host.again_at);
        let by = asked.plus(self.request.policy.report_grace).max(self.all_back_by());
        (by, Due::Fail(Lapse::Unanswered))
    }

    fn due_of_absent(&self, host: &HostRecord) -> Option<(Timestamp, Due)> {
        let policy = &self.request.policy;
        let turn = self.turn(host)?;
        if host.contested.is_some() {
            return Some((turn, Due::Fail(Lapse::Contested)));
        }
        let due = match policy.on_unreachable {
            OnUnreachable::Fail => Due::Fail(Lapse::Unreachable),
            OnUnreachable::Skip => Due::Skip,
            OnUnreachable::Wait => return None,
        };
        let absent = host.connection_since.max(turn).plus(policy.unreachable_after);
        Some((absent.max(self.all_back_by()), due))
    }

    /// Why the host fails, in words.
    pub(super) fn failure(&self, host: &HostRecord, lapse: Lapse) -> Failure {
        let after = |what: &str| {
            host.ill(&format!("{what} {:?} after its change", self.request.policy.gate.healthy_deadline))
        };
        match lapse {
            Lapse::NotOneMachine => host.ill("not one machine"),
            Lapse::TooShort => after("not healthy for long enough"),
            Lapse::Unmeasured(pass) => host.ill(&format!(
                "not measured for long after {pass}, when it had been healthy for long enough"
            )),
            Lapse::Unhealthy => after("unhealthy"),
            Lapse::Unknown => after("health unknown"),
            Lapse::UnknownSince(since) => host.ill(&format!("health unknown since {since}")),
            Lapse::NotOneMachineSince(since) => host.ill(&format!("not one machine since {since}")),
            Lapse::UnhealthyAgain => host.ill("unhealthy again after it had passed"),
            Lapse::Unanswered => {
                let text = if host.may_have_gone_back() {
                    "it is connected, and does not say whether it has gone back"
                } else {
                    "it is connected, and does not say what became of its last attempt"
                };
                Failure::new(Reason::DeadlineExceeded, text).next("look at the host's rfs-agent")
            }
            Lapse::Contested => {
                Failure::new(Reason::HostConflict, host.contested.clone().unwrap_or_default())
            }
            Lapse::Unreachable => {
                let text = format!("no connection since {}", host.connection_since);
                Failure::new(Reason::HostUnreachable, text)
                    .next(format!("start rfs-agent there, then: rfs rollback retry {}", self.id))
            }
        }
    }

    /// Since when the host may start; none if it may not.
    pub(super) fn turn(&self, host: &HostRecord) -> Option<Timestamp> {
        let forward = matches!(self.phase, Phase::Running { direction: Direction::Forward });
        self.waves[host.wave.get()].started_at.filter(|_| forward)
    }

    /// Until when hosts that were left out are waited for, once there is an outcome.
    fn waited_for_until(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Finished { at, .. } => {
                let by = (*at).max(self.bounded_from).plus(self.request.policy.max_duration);
                Some(by.max(self.all_back_by()))
            }
            Phase::Running { .. } | Phase::Paused { .. } | Phase::Aborting { .. } => None,
        }
    }

    /// When a pause has lasted for too long.
    pub(super) fn paused_until(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Paused { since, .. } => {
                Some(since.plus(self.request.policy.max_pause).max(self.all_back_by()))
            }
            Phase::Running { .. } | Phase::Aborting { .. } | Phase::Finished { .. } => None,
        }
    }

    /// Whether a host at the target is judged: not once hosts are to go back. Once the rollback is over, only those that were
    /// changed after it are.
    pub(super) fn judges(&self, host: &HostRecord) -> bool {
        match &self.phase {
            Phase::Running { direction } | Phase::Paused { direction, .. } => {
                *direction == Direction::Forward
            }
            Phase::Aborting { .. } => false,
            Phase::Finished { .. } => host.late,
        }
    }

    /// `time`, or a moment later where the host had no chance to be heard by then: it has just come back or gone, or the
    /// coordinator itself did not listen. A host that comes and goes gains that moment once.
    fn heard_by(&self, host: &HostRecord, time: Timestamp) -> Timestamp {
        let patience = self.request.policy.unreachable_after;
        let heard = host.connection_since.plus(patience).clamp(time, time.plus(patience));
        heard.max(self.all_back_by())
    }

    /// By when every host is back that can be, since the coordinator listens: as long as a policy takes to give one up, and
    /// never less than agents may wait between two attempts to connect.
    pub(super) fn all_back_by(&self) -> Timestamp {
        self.listening_since.plus(self.request.policy.unreachable_after.max(RETURN))
    }

    /// Until when a host that could start waits for its health to be heard: nobody has said how it is since it, or the
    /// coordinator, came back. It may be well, and a budget must not take it for one that is down anyway.
    pub(super) fn unheard_until(
        &self,
        name: &HostId,
        host: &HostRecord,
        outside: &Outside,
    ) -> Option<Timestamp> {
        let watched = !self.request.policy.gate.ignore_health;
        let waits = matches!(host.phase, HostPhase::Untouched | HostPhase::Skipped) && !self.goes_back();
        let by = || host.connection_since.plus(self.request.policy.unreachable_after).max(self.all_back_by());
        let in_budget = || host.is_in_budget() || outside.limits(name);
        (waits && watched && host.is_unheard() && in_budget()).then(by)
    }

    /// When hosts that have not started may wait no longer.
    pub(super) fn start_by(&self) -> Timestamp {
        let policy = &self.request.policy;
        let by = self.bounded_from.plus(policy.max_duration);
        by.max(self.all_back_by())
    }

    /// Hosts that could start if a budget did not hold them. One that shares its budget with a host that the policy waits
    /// for is not held for good, nor is one that would have its place if nobody outside took it.
    pub(super) fn held(&self, outside: &Outside) -> Vec<&HostId> {
        if outside.unknown {
            return Vec::new();
        }
        let may_start = |host: &HostRecord| host.phase.waits() && self.turn(host).is_some();
        let awaits = self.request.policy.on_unreachable == OnUnreachable::Wait;
        let awaited = self.hosts.values().filter(|host| awaits && !host.connected && may_start(host));
        let awaiting: BTreeSet<GroupIndex> = awaited.flat_map(|host| host.groups.iter().copied()).collect();
        let held = self.hosts.iter().filter(move |(_, host)| {
            let shares = || host.groups.iter().any(|group| awaiting.contains(group));
            host.connected && may_start(host) && !shares()
        });
        if outside.groups.is_empty() {
            return held.map(|(name, _)| name).collect();
        }
        let alone = Ledger::of(self, Outside::NOBODY);
        let held = held.filter(|(name, host)| !alone.admits(name, host, Counting::Unavailable));
        held.map(|(name, _)| name).collect()
    }

    /// When hosts that only a budget holds may wait no longer; none while anything else is going on.
    pub(super) fn budget_by(&self, outside: &Outside) -> Option<Timestamp> {
        for host in self.hosts.values().filter(|host| self.turn(host).is_some()) {
            match host.phase {
                HostPhase::Applying { .. }
                | HostPhase::Cancelling { .. }
                | HostPhase::Reverting { .. }
                | HostPhase::Applied { .. }
                | HostPhase::Passed { doubtful_since: Some(_) } => return None,
                HostPhase::Untouched
                | HostPhase::Skipped
                | HostPhase::Superseded
                | HostPhase::Again
                | HostPhase::Passed { doubtful_since: None }
                | HostPhase::Unhealthy
                | HostPhase::Unchanged
                | HostPhase::Lost
                | HostPhase::Reverted
                | HostPhase::RevertFailed
                | HostPhase::Inconsistent => {}
            }
        }
        let since = self.progress_at.max(self.listening_since);
        let by = since.plus(self.request.policy.gate.healthy_deadline);
        let heard_by = |name: &HostId| self.unheard_until(name, self.hosts.get(name)?, outside);
        self.held(outside).into_iter().map(|name| heard_by(name).unwrap_or(by).max(by)).max()
    }

    /// When the next host starts although nobody has heard how it is.
    fn unheard_by(&self, outside: &Outside) -> Option<Timestamp> {
        let forward = matches!(self.phase, Phase::Running { direction: Direction::Forward });
        let over = self.outcome().is_some();
        let begun = |host: &HostRecord| self.waves[host.wave.get()].started_at.is_some();
        let may_start = |host: &HostRecord| match host.phase {
            HostPhase::Untouched => (forward || host.late) && begun(host),
            HostPhase::Skipped => (forward || over) && begun(host),
            _ => false,
        };
        let mut unheard = self
            .hosts
            .iter()
            .filter(|(_, host)| may_start(host))
            .filter_map(|(name, host)| Some((name, host, self.unheard_until(name, host, outside)?)))
            .peekable();
        unheard.peek()?;
        let ledger = Ledger::of(self, outside);
        let admits = |name, host| ledger.admits(name, host, Counting::Unavailable);
        unheard.filter(|(name, host, _)| admits(name, host)).map(|(.., until)| until).min()
    }

    /// When something is next due: for a host, at `hosts`. Whether any host waits, and any is unheard, is known already.
    pub(super) fn wake_at(
        &self,
        hosts: Option<Timestamp>,
        waits: bool,
        unheard: bool,
        outside: &Outside,
    ) -> Option<Timestamp> {
        let forward = matches!(self.phase, Phase::Running { direction: Direction::Forward });
        let waiting = forward && (waits || self.unseen().is_some());
        let start_by = waiting.then(|| self.start_by());
        let pause = self.paused_until();
        let behind = self.next_left_behind();
        let unheard_by = if unheard { self.unheard_by(outside) } else { None };
        let budget_by = self.budget_by(outside);
        [hosts, start_by, budget_by, unheard_by, pause, behind].into_iter().flatten().min()
    }
}

/// Whether the host was measured good at or after `pass`: that it was good before, and nobody has looked since, is not enough.
/// A host that does not number its restores does not say when it measures either.
pub(super) fn is_confirmed(host: &HostRecord, pass: Timestamp, measured_at: Option<Timestamp>) -> bool {
    host.restore.is_none() || measured_at.is_some_and(|at| at >= pass)
}

impl HostRecord {
    /// It is there, and nobody has said how it is since it, or the coordinator, came back.
    pub(super) fn is_unheard(&self) -> bool {
        self.connected && self.health.health == Health::Unknown && self.health.measured_at.is_none()
    }

    /// It is not known to be well, as `what` says, with what was seen.
    fn ill(&self, what: &str) -> Failure {
        match &self.contested {
            Some(text) => Failure::new(Reason::HostConflict, text.clone()),
            None if self.health.evidence.is_empty() => Failure::new(Reason::Unhealthy, what),
            None => Failure::new(Reason::Unhealthy, format!("{what}: {}", self.health.evidence)),
        }
    }
}
