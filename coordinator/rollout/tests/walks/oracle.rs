//! What must hold after every step. It looks at what the machines really are, at what was stored, and at what was sent; what
//! the rollback says of itself counts only as a claim.
//!
//! The coordinator cannot know what happened a moment ago: messages are on their way for up to [`LAG`], and a machine that
//! falls silent is noticed [`UNNOTICED`] later. What held at some moment within that time is taken as known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rfs_model::{Generation, Health, HostId, Reason, SnapshotId, Timestamp};
use rfs_rollout::plan::WaveIndex;
use rfs_rollout::rollback::{
    Direction, HostPhase, HostRecord, Outcome, Phase, RETURN, Rollback, RollbackEvent,
};
use rfs_rollout::{Event, Failure, HostCommand, Operation, Step, StepKind};

use super::agent::{Agent, is_ill};
use super::hub::Seat;
use super::others::Others;

/// How long what a machine says may be on its way to a decision.
const LAG: Duration = Duration::from_secs(5);
/// How long a machine that fell silent may count as connected, on top of that.
const UNNOTICED: Duration = Duration::from_secs(9);
/// By how much a deadline may move.
const TOLERANCE: Duration = Duration::from_secs(1);

pub(crate) struct Oracle {
    passed: BTreeSet<WaveIndex>,
    started: BTreeSet<WaveIndex>,
    undone: bool,
    promoted: bool,
    /// A host has obeyed what the history does not know, as was just stored.
    overtaken: bool,
    /// What each generation meant when it was first sent.
    meant: BTreeMap<(HostId, Generation), Step>,
    /// The highest generation that the history gives each host.
    told: BTreeMap<HostId, Generation>,
    /// Every generation with which the history has told a host to change.
    given: BTreeSet<(HostId, Generation)>,
    /// The hosts that the history has told to go back.
    sent_back: BTreeSet<HostId>,
    /// When each host's present phase began.
    since: BTreeMap<HostId, Timestamp>,
    /// The state after the events seen so far.
    replayed: Option<Operation>,
    /// When the coordinator was last back from where it heard nothing.
    back_at: Timestamp,
}

/// The truth at a moment.
#[derive(Clone, Copy)]
struct Truth<'w> {
    machines: &'w [Agent],
    seats: &'w BTreeMap<HostId, Seat>,
    now: Timestamp,
}

fn ago(now: Timestamp, duration: Duration) -> Timestamp {
    Timestamp(now.0 - i64::try_from(duration.as_millis()).expect("a walk is short"))
}

impl<'w> Truth<'w> {
    fn seat(&self, host: &HostId) -> &'w Seat {
        &self.seats[host]
    }

    /// The machine that the rollback was told of last.
    fn machine(&self, host: &HostId) -> &'w Agent {
        &self.machines[self.seat(host).told]
    }

    fn ago(&self, duration: Duration) -> Timestamp {
        ago(self.now, duration)
    }

    /// From when on what a machine said can be known.
    fn known_from(&self, agent: &Agent) -> Timestamp {
        let quiet = agent.quiet_until(self.now) >= self.ago(LAG);
        self.ago(if quiet { LAG + UNNOTICED } else { LAG })
    }

    /// Whether two machines spoke for the name for long enough that it can be known.
    fn contested(&self, host: &HostId) -> bool {
        let seat = self.seat(host);
        seat.contested.is_some() && seat.contested_at <= self.ago(LAG)
    }

    /// Whether the host was measured good after its last change, without a break for `long`, and was there to say so.
    fn good_for(&self, host: &HostId, long: Duration) -> bool {
        let agent = self.machine(host);
        let known = self.known_from(agent);
        let there = agent.quiet_since.is_none_or(|since| since >= known);
        there
            && !self.contested(host)
            && agent.monitor.was_good(long.saturating_sub(TOLERANCE), known, agent.told_restore)
    }

    /// Whether the host was measured good a moment ago, before or after whatever change.
    fn good_lately(&self, host: &HostId) -> bool {
        let agent = self.machine(host);
        let known = self.known_from(agent);
        let there = agent.quiet_since.is_none_or(|since| since >= known);
        there && !self.contested(host) && agent.monitor.was_good(Duration::ZERO, known, 0)
    }

    fn at(&self, host: &HostId, snapshot: SnapshotId) -> bool {
        self.machine(host).content == Some(snapshot)
    }
}

impl Oracle {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            passed: BTreeSet::new(),
            started: BTreeSet::new(),
            undone: false,
            promoted: false,
            overtaken: false,
            meant: BTreeMap::new(),
            told: BTreeMap::new(),
            given: BTreeSet::new(),
            sent_back: BTreeSet::new(),
            since: BTreeMap::new(),
            replayed: None,
            back_at: now,
        }
    }

    /// The coordinator is back from where it heard nothing.
    pub(crate) fn is_back(&mut self, now: Timestamp) {
        self.back_at = now;
    }

    /// The highest generation that the history gives the host.
    pub(crate) fn told(&self, host: &HostId) -> Generation {
        self.told.get(host).copied().unwrap_or_default()
    }

    /// The history is an older one. What was sent from the one that is lost, and has not arrived, never does: the sessions on
    /// which it was sent are over, and a host says what it has obeyed when it begins another, before generations are reserved
    /// for it anew. So a generation that no machine has seen may be given again, and mean something else.
    pub(crate) fn put_back(&mut self, log: &[Event], machines: &[Agent]) {
        let arrived = |(host, generation): &(HostId, Generation)| {
            machines.iter().any(|agent| agent.host == *host && agent.highest >= *generation)
        };
        self.meant.retain(|of, _| arrived(of));
        *self = Self { meant: std::mem::take(&mut self.meant), ..Self::new(self.back_at) };
        for event in log {
            self.take(event, event.at());
        }
        self.overtaken = false;
    }

    /// A command leaves the coordinator, whose stored history is `log`.
    pub(crate) fn sends(&mut self, log: &[Event], host: &HostId, command: &HostCommand) -> Option<String> {
        let meant = self.meant.entry((host.clone(), command.generation)).or_insert(command.step.clone());
        if *meant != command.step {
            return Some(format!("I4: generation {} of {host} names two commands", command.generation));
        }
        let stored = log.iter().any(|event| match event {
            Event::Rollback(RollbackEvent::HostStarted { host: of, .. }) => of == host,
            _ => false,
        });
        (command.step.kind() == StepKind::Apply && !stored)
            .then(|| format!("I3: {host} is told to start before that is stored"))
    }

    /// Hosts that the rollback was told of, against its history: one that knows more says that the store was put back.
    pub(crate) fn compares(&mut self, rollback: &Rollback, seats: &BTreeMap<HostId, Seat>) -> Option<String> {
        let overtaken = std::mem::take(&mut self.overtaken);
        if rollback.outcome().is_some() {
            return None;
        }
        if overtaken && matches!(rollback.phase, Phase::Running { .. }) {
            return Some("O12: the store was put back, and the rollback goes on".to_owned());
        }
        let ahead = |(host, seat): &(&HostId, &Seat)| {
            seat.told_accepted.is_some_and(|accepted| accepted > self.told(host)) && seat.contested.is_none()
        };
        let may_start = |host: &HostRecord| host.phase == HostPhase::Untouched || host.phase.at_work();
        let is_noticed = |host: &HostRecord| host.overtaken && !may_start(host);
        let (host, _) = seats.iter().filter(ahead).find(|(host, _)| !is_noticed(&rollback.hosts[*host]))?;
        let phase = &rollback.hosts[host].phase;
        let told = self.told(host);
        Some(format!(
            "O12: the store was put back ({host} has obeyed more than {told}), and {host} is {phase:?}"
        ))
    }

    /// Whether the stored history is the state.
    pub(crate) fn adds_up(&self, rollback: &Rollback) -> Option<String> {
        let is_same =
            matches!(&self.replayed, Some(Operation::Rollback(replayed)) if **replayed == *rollback);
        (!is_same).then(|| "O7: the stored history is not the state".to_owned())
    }

    /// Looks at everything; the first invariant that does not hold, in words.
    pub(crate) fn look(
        &mut self,
        rollback: &Rollback,
        machines: &[Agent],
        seats: &BTreeMap<HostId, Seat>,
        now: Timestamp,
    ) -> Option<String> {
        let truth = Truth { machines, seats, now };
        for agent in machines {
            if agent.effects.iter().any(|(generation, highest)| generation < highest) {
                let (name, effects) = (&agent.host, &agent.effects);
                return Some(format!("I4: an older generation took effect on {name}: {effects:?}"));
            }
            if !agent.backed_up {
                return Some(format!("I5: {} was changed without a durable backup", agent.host));
            }
            if agent.told_of_foreign {
                return Some(format!("I5: {} is told to go back to a backup that it never made", agent.host));
            }
        }
        if let Phase::Paused { since, .. } = rollback.phase {
            let policy = &rollback.request.policy;
            let work = policy.max_rollback_time + policy.report_grace + policy.unreachable_after.max(RETURN);
            if now > since.max(self.back_at).plus(policy.max_pause + work + LAG) {
                return Some(format!("I7: it is paused since {since}, and nothing ends that"));
            }
        }
        rollback.hosts.iter().find_map(|(name, host)| {
            self.claim(name, host, truth).or_else(|| self.bound(rollback, name, host, now))
        })
    }

    /// What the coordinator says of a host, against what the host is.
    fn claim(&self, name: &HostId, host: &HostRecord, truth: Truth<'_>) -> Option<String> {
        let agent = truth.machine(name);
        // It was not compared with an older history yet, or nobody knows which machine it is.
        if agent.highest > self.told(name) || truth.seat(name).contested.is_some() {
            return None;
        }
        // One that waits for another attempt stands where the last one has put it.
        let waits = matches!(host.phase, HostPhase::Untouched | HostPhase::Again | HostPhase::Skipped);
        let stands =
            if waits && (host.attempt > 1 || host.is_left_behind()) { &host.fallback } else { &host.phase };
        let wrong = match *stands {
            HostPhase::Applied { .. } | HostPhase::Passed { .. } | HostPhase::Unhealthy => {
                !truth.at(name, host.target)
            }
            HostPhase::Untouched | HostPhase::Skipped | HostPhase::Superseded | HostPhase::Unchanged => {
                // What it was before another attempt may have come from a history that is lost.
                let is_foreign =
                    |(of, _): &(Generation, Generation)| !self.given.contains(&(name.clone(), *of));
                let foreign = host.attempt > 1 && agent.effects.iter().any(is_foreign);
                !foreign && !truth.at(name, agent.before)
            }
            HostPhase::Reverted => !truth.at(name, agent.before) && !is_at_backup(host, agent),
            // It was not told to go back yet.
            HostPhase::RevertFailed if host.is_left_behind() && !self.sent_back.contains(name) => {
                !truth.at(name, host.target)
            }
            HostPhase::Inconsistent => agent.content.is_some(),
            HostPhase::Again
            | HostPhase::Applying { .. }
            | HostPhase::Cancelling { .. }
            | HostPhase::Reverting { .. }
            | HostPhase::Lost
            | HostPhase::RevertFailed => false,
        };
        if wrong {
            return Some(format!("I6: {name} is said to be {:?} and is {:?}", host.phase, agent.content));
        }
        (*stands == HostPhase::Untouched && !agent.effects.is_empty())
            .then(|| format!("I3: {name} is said to be untouched and was at work"))
    }

    /// Nothing waits for longer than its bound, however often the host comes and goes.
    fn bound(&self, rollback: &Rollback, name: &HostId, host: &HostRecord, now: Timestamp) -> Option<String> {
        let policy = &rollback.request.policy;
        let judged = match &rollback.phase {
            Phase::Running { direction } | Phase::Paused { direction, .. } => {
                *direction == Direction::Forward
            }
            Phase::Aborting { .. } => false,
            Phase::Finished { .. } => host.late,
        };
        let since = *self.since.get(name)?;
        let limit = match host.phase {
            HostPhase::Applied { .. } if judged => {
                policy.gate.healthy_deadline + policy.gate.min_healthy_time
            }
            HostPhase::Applying { .. } | HostPhase::Cancelling { .. } | HostPhase::Reverting { .. } => {
                policy.max_rollback_time + policy.report_grace
            }
            _ => return None,
        };
        // After it was away the coordinator waits again, once, for hosts to be heard.
        let again = self.back_at.plus(policy.gate.min_healthy_time);
        // One that is good at its deadline is given the time to be measured again.
        let measured = matches!(host.phase, HostPhase::Applied { .. });
        let measured_by = if measured { policy.gate.healthy_deadline.max(RETURN) } else { Duration::ZERO };
        let patience = policy.unreachable_after.max(RETURN) + measured_by;
        let by = since.plus(limit).max(again).plus(patience + LAG);
        (now > by).then(|| format!("I7: {name} is {:?} since {since} and not judged", host.phase))
    }

    fn take(&mut self, event: &Event, now: Timestamp) {
        let stops = |event: &RollbackEvent| {
            matches!(event, RollbackEvent::Aborted { .. } | RollbackEvent::RevertStarted { .. })
        };
        let stops = matches!(event, Event::Rollback(event) if stops(event));
        let at_work: BTreeSet<HostId> = match &self.replayed {
            Some(Operation::Rollback(before)) if stops => {
                let at_work = before.hosts.iter().filter(|(_, host)| host.phase.at_work());
                at_work.map(|(name, _)| name.clone()).collect()
            }
            _ => BTreeSet::new(),
        };
        self.replayed = match self.replayed.take() {
            None => Operation::begin(event),
            Some(state) => Some(state.evolve(event)),
        };
        let Event::Rollback(event) = event else { return };
        match event {
            RollbackEvent::Created { created, .. } => {
                let before = |generation: Generation| Generation(generation.0 - 1);
                self.told =
                    created.hosts.iter().map(|(host, is)| (host.clone(), before(is.generation))).collect();
            }
            RollbackEvent::WaveStarted { wave, .. } => drop(self.started.insert(*wave)),
            RollbackEvent::WavePassed { wave, .. } => drop(self.passed.insert(*wave)),
            RollbackEvent::Undone { .. } => self.undone = true,
            RollbackEvent::Promoted { .. } => self.promoted = true,
            RollbackEvent::HostOvertaken { .. } => self.overtaken = true,
            RollbackEvent::HostStarted { host, generation, .. }
            | RollbackEvent::HostReverting { host, generation, .. } => {
                if let RollbackEvent::HostReverting { .. } = event {
                    self.sent_back.insert(host.clone());
                }
                self.told.insert(host.clone(), *generation);
                self.given.insert((host.clone(), *generation));
                self.since.insert(host.clone(), now);
            }
            RollbackEvent::HostAsked { host, generation, .. } => {
                self.told.insert(host.clone(), *generation);
                self.since.insert(host.clone(), now);
            }
            RollbackEvent::HostGranted { host, generation, .. } => {
                self.told.insert(host.clone(), Generation(generation.0 - 1));
            }
            RollbackEvent::Aborted { .. } | RollbackEvent::RevertStarted { .. } => {
                let Some(Operation::Rollback(rollback)) = &self.replayed else { return };
                let stopped = |host: &HostRecord| matches!(host.phase, HostPhase::Cancelling { .. });
                for (name, host) in rollback.hosts.iter().filter(|(_, host)| stopped(host)) {
                    self.told.insert(name.clone(), StepKind::Cancel.generation(host.generation));
                    // One that is stopped has as long as it had before.
                    if !at_work.contains(name) {
                        self.since.insert(name.clone(), now);
                    }
                }
            }
            RollbackEvent::HostReported { host, .. } => drop(self.since.insert(host.clone(), now)),
            _ => {}
        }
    }

    /// An event is stored that led to `rollback`; what it claims, against the truth.
    pub(crate) fn event(
        &mut self,
        event: &Event,
        rollback: &Rollback,
        machines: &[Agent],
        seats: &BTreeMap<HostId, Seat>,
        others: &Others,
        now: Timestamp,
    ) -> Option<String> {
        let truth = Truth { machines, seats, now };
        let before = match event {
            Event::Rollback(
                RollbackEvent::HostFailed { host, .. }
                | RollbackEvent::HostLost { host, .. }
                | RollbackEvent::HostReverting { host, .. },
            ) => self.host(host),
            _ => None,
        };
        self.take(event, now);
        if event.at().since(now).max(now.since(event.at())) > TOLERANCE {
            return Some(format!("O12: {event} is said to be at {}, and it is {now}", event.at()));
        }
        let Event::Rollback(event) = event else { return None };
        let gate = &rollback.request.policy.gate;
        match event {
            RollbackEvent::WaveStarted { wave, .. } => {
                let earlier = wave.0.checked_sub(1).map(WaveIndex);
                let shut = earlier.is_some_and(|earlier| !self.passed.contains(&earlier));
                shut.then(|| format!("I3: wave {wave} starts before the verdict on the one before is stored"))
            }
            RollbackEvent::WavePassed { wave, promoted_by: None, .. } => {
                let hosts = rollback.plan.waves[wave.get()].hosts.iter();
                passed(hosts, rollback, truth).map(|text| format!("{text}, and wave {wave} passes"))
            }
            RollbackEvent::HostStarted { host, .. } if self.undone => {
                Some(format!("I6: {host} is brought in line with what is undone"))
            }
            RollbackEvent::HostStarted { host, .. } => {
                let wave = rollback.hosts[host].wave;
                if !self.started.contains(&wave) && rollback.outcome().is_none() {
                    return Some(format!("I3: {host} of wave {wave} starts before its wave"));
                }
                budgets(rollback, host, self.back_at, others, truth)
            }
            RollbackEvent::HostReverting { host, .. } if self.undone => {
                Some(format!("I6: {host} goes back, and what it does is undone"))
            }
            RollbackEvent::HostReverting { host, .. } if !before.as_ref()?.is_left_behind() => {
                let wave = rollback.hosts[host].wave;
                let later =
                    |host: &HostRecord| host.wave > wave && (host.phase.at_work() || host.phase.at_target());
                let (name, _) = rollback.hosts.iter().find(|(_, host)| later(host))?;
                Some(format!("I3: {host} of wave {wave} goes back before {name} of a later one has"))
            }
            RollbackEvent::HostPassed { host, .. } => {
                let well = gate.ignore_health || truth.good_for(host, gate.min_healthy_time);
                (!well).then(|| {
                    let monitor = &truth.machine(host).monitor;
                    let (is, since) = (monitor.health, monitor.since);
                    format!(
                        "I8: {host} passes though it was not good for long enough (it is {is} since {since})"
                    )
                })
            }
            RollbackEvent::HostFailed { host, failure, .. } => {
                self.blames(rollback, before?, (host, failure), truth)
            }
            // After the outcome it waits for its turn again, for whatever reason.
            RollbackEvent::HostSkipped { host, .. } if rollback.outcome().is_none() => {
                self.unreachable(rollback, host, truth)
            }
            RollbackEvent::HostLost { host, .. } => {
                let policy = &rollback.request.policy;
                let limit = policy.max_rollback_time + policy.report_grace;
                self.too_soon(host, limit, truth).or_else(|| self.just_back(rollback, host, truth))
            }
            RollbackEvent::Finished { outcome, .. } => self.outcome(*outcome, rollback, others, truth),
            _ => None,
        }
    }

    fn host(&self, host: &HostId) -> Option<HostRecord> {
        let Some(Operation::Rollback(rollback)) = &self.replayed else { return None };
        rollback.hosts.get(host).cloned()
    }

    /// A host that was well and there all along is never blamed for what the coordinator missed. It was as `before` says.
    fn blames(
        &self,
        rollback: &Rollback,
        before: HostRecord,
        (host, failure): (&HostId, &Failure),
        truth: Truth<'_>,
    ) -> Option<String> {
        let waited = matches!(failure.reason, Reason::BudgetTooSmall | Reason::DeadlineExceeded);
        if truth.contested(host) && !waited && failure.reason != Reason::HostConflict {
            return Some(format!("O12: two machines speak for {host}, and it fails as {}", failure.reason));
        }
        let unheard = before.health.health == Health::Unknown;
        let goes_back = matches!(rollback.phase, Phase::Running { direction: Direction::Back(_) });
        let just_back = || if unheard { self.just_back(rollback, host, truth) } else { None };
        match before.phase {
            _ if failure.reason == Reason::HostUnreachable => self.unreachable(rollback, host, truth),
            HostPhase::Applied { .. } if !goes_back => {
                let limit = rollback.request.policy.gate.healthy_deadline;
                let too_soon = self.too_soon(host, limit, truth);
                too_soon.or_else(just_back).or_else(|| self.blameless(host, truth))
            }
            HostPhase::Applied { .. } | HostPhase::Passed { .. } => {
                just_back().or_else(|| self.blameless(host, truth))
            }
            _ => None,
        }
    }

    /// A host that was well, and in reach, ever since it answered.
    fn blameless(&self, host: &HostId, truth: Truth<'_>) -> Option<String> {
        let agent = truth.machine(host);
        let there = agent.quiet_since.is_none() && truth.seat(host).contested.is_none();
        let since = *self.since.get(host)?;
        let forgotten = agent.ill_at.is_none_or(|at| at.plus(LAG) <= since);
        let well = there && forgotten && agent.disturbed_at <= since;
        well.then(|| format!("O12: {host} was well and in reach all along, and fails"))
    }

    fn too_soon(&self, host: &HostId, limit: Duration, truth: Truth<'_>) -> Option<String> {
        let since = *self.since.get(host)?;
        let early = truth.now.plus(TOLERANCE) < since.plus(limit);
        early.then(|| format!("O12: {host} is given up after {:?} of {limit:?}", truth.now.since(since)))
    }

    /// Right after it was away the coordinator has not had the time to hear anybody.
    fn just_back(&self, rollback: &Rollback, host: &HostId, truth: Truth<'_>) -> Option<String> {
        let patience = rollback.request.policy.unreachable_after;
        let early = truth.now.plus(TOLERANCE) < self.back_at.plus(patience);
        let back = self.back_at;
        early.then(|| format!("O12: {host} is given up, and the coordinator is back only since {back}"))
    }

    fn unreachable(&self, rollback: &Rollback, host: &HostId, truth: Truth<'_>) -> Option<String> {
        let patience = rollback.request.policy.unreachable_after;
        let seat = truth.seat(host);
        let absent = truth.now.plus(TOLERANCE) >= seat.absent_since.plus(patience);
        let long = seat.session.as_ref().is_some_and(|session| session.since <= truth.ago(LAG));
        let there = long && truth.machine(host).quiet_until(truth.now) < truth.ago(LAG);
        (there || !absent)
            .then(|| format!("O12: {host} counts as not reachable, and was there at {}", seat.absent_since))
            .or_else(|| self.just_back(rollback, host, truth))
    }

    fn outcome(
        &self,
        outcome: Outcome,
        rollback: &Rollback,
        others: &Others,
        truth: Truth<'_>,
    ) -> Option<String> {
        let hosts = &rollback.hosts;
        let watched = !rollback.request.policy.gate.ignore_health;
        if outcome == Outcome::Succeeded {
            for (name, host) in hosts {
                if !truth.at(name, host.target) {
                    return Some(format!("I6: {name} is not at its target, and the rollback has SUCCEEDED"));
                }
                if truth.contested(name) {
                    return Some(format!(
                        "O12: two machines speak for {name}, and the rollback has SUCCEEDED"
                    ));
                }
                if watched && !truth.good_for(name, Duration::ZERO) {
                    return Some(format!(
                        "I8: {name} is not known to be good, and the rollback has SUCCEEDED"
                    ));
                }
            }
        }
        if outcome == Outcome::Reverted {
            for name in hosts.keys() {
                let agent = truth.machine(name);
                // One that was out of reach all along cannot say that the history is an older one.
                let before = truth.at(name, agent.before) || is_at_backup(&hosts[name], agent);
                if !before && agent.highest <= self.told(name) {
                    return Some(format!("I9: {name} is not as before, and the rollback is REVERTED"));
                }
                if truth.contested(name) && hosts[name].started_at.is_some() {
                    return Some(format!("O12: two machines speak for {name}, and the rollback is REVERTED"));
                }
            }
        }
        if outcome == Outcome::RevertFailed {
            // Where nobody outside takes a place, nothing holds it up: nobody of its own is at work.
            let free = |name: &&HostId| others.places(others.zone_of(name).0) == 0;
            let waits =
                |host: &HostRecord| host.is_left_behind() && host.connected && host.contested.is_none();
            let waiting = hosts.iter().filter(|(_, host)| waits(host)).map(|(name, _)| name);
            if let Some(name) = waiting.into_iter().find(free) {
                return Some(format!("I9: {name} is there to go back, and the rollback is REVERT_FAILED"));
            }
        }
        let stuck = |host: &HostRecord| host.phase == HostPhase::Inconsistent;
        let paused = matches!(&rollback.phase, Phase::Finished { cause: Some(cause), .. } if cause.message.starts_with("paused for"));
        if outcome == Outcome::NeedsOperator && !paused && !hosts.values().any(stuck) {
            return Some("I1: nobody is needed".to_owned());
        }
        let whole = rollback.request.selection == Default::default() && rollback.plan.offered == hosts.len();
        let ill = hosts.values().any(|host| is_ill(host.target));
        let unproven = self.promoted || !watched || !whole || ill || outcome != Outcome::Succeeded;
        (unproven && rollback.proves().is_some())
            .then(|| "I8: the rollback is taken as a proof of its checkpoint, and is none".to_owned())
    }
}

/// What it was before it was changed may have come from a history that is lost.
fn is_at_backup(host: &HostRecord, agent: &Agent) -> bool {
    host.backup.is_some() && host.backup == agent.content
}

/// The hosts of a wave that count as healthy are.
fn passed<'h>(
    mut hosts: impl Iterator<Item = &'h HostId>,
    rollback: &Rollback,
    truth: Truth<'_>,
) -> Option<String> {
    let watched = !rollback.request.policy.gate.ignore_health;
    hosts.find_map(|name| {
        let host = &rollback.hosts[name];
        if host.phase != (HostPhase::Passed { doubtful_since: None }) {
            return None;
        }
        if !truth.at(name, host.target) {
            return Some(format!("I6: {name} is not at its target"));
        }
        (watched && !truth.good_for(name, Duration::ZERO))
            .then(|| format!("I8: {name} is not known to be good"))
    })
}

/// The budget of each group of the host that has just been started.
fn budgets(
    rollback: &Rollback,
    started: &HostId,
    back_at: Timestamp,
    others: &Others,
    truth: Truth<'_>,
) -> Option<String> {
    let watched = !rollback.request.policy.gate.ignore_health;
    let there = |name: &HostId| {
        let agent = truth.machine(name);
        let known = truth.known_from(agent);
        let lost = truth.seat(name).session.is_none() && truth.seat(name).left_at < truth.ago(LAG);
        // The silence of those that fell silent while the coordinator heard nothing has begun anew.
        let unnoticed = back_at >= truth.ago(LAG + UNNOTICED);
        !lost && agent.quiet_since.is_none_or(|since| unnoticed || since >= known)
    };
    // Of one that has not reported its change, what was measured before it may be the newest that is known.
    let good = |name: &HostId| match rollback.hosts[name].phase.at_target() {
        true => truth.good_for(name, Duration::ZERO),
        false => truth.good_lately(name),
    };
    let ill = |name: &HostId| !there(name) || (watched && !good(name));
    // One that was ill a moment ago may be taken for one that is down anyway.
    let agent = truth.machine(started);
    let was_good = agent.monitor.was_good_since(truth.ago(LAG), agent.told_restore);
    let heard = agent.quiet_until(truth.now) < truth.ago(LAG);
    let well = there(started) && (!watched || (was_good && heard && !truth.contested(started)));
    let unproven = |name: &HostId| {
        let applied = matches!(rollback.hosts[name].phase, HostPhase::Applied { .. });
        let judged = rollback.outcome().is_none() || rollback.hosts[name].late;
        let held = applied && watched && !rollback.acknowledged.contains(name);
        held && (judged || !truth.good_for(name, Duration::ZERO))
    };
    let at_work = |name: &HostId| rollback.hosts[name].phase.at_work();
    // A zone is the fleet's: what others take counts, and so does what they allow.
    let (zone, hosts) = others.zone_of(started);
    if let Some(limit) = others.strictest(zone, rollback) {
        let of_own = |takes: &dyn Fn(&HostId) -> bool| hosts.iter().filter(|name| takes(name)).count();
        let places = of_own(&|name| at_work(name) || unproven(name)) + others.places(zone);
        let unavailable = of_own(&|name| at_work(name) || ill(name)) + others.away(zone, watched);
        if places > limit || (well && unavailable > limit) {
            return Some(format!(
                "I2: {started} starts: {places} places of {limit} in {zone} are taken by all, and {unavailable} hosts are not available"
            ));
        }
    }
    for group in rollback.plan.groups.iter().filter(|group| group.hosts.contains(started)) {
        let places = group.hosts.iter().filter(|name| at_work(name) || unproven(name)).count();
        let unavailable = group.hosts.iter().filter(|name| at_work(name) || ill(name)).count();
        let limit = group.limit as usize;
        if places > limit || (well && unavailable > limit) {
            return Some(format!(
                "I2: {started} starts: {places} places of {} in {} are taken, and {unavailable} hosts are not available",
                group.limit, group.name
            ));
        }
    }
    None
}
