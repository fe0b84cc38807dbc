//! What must hold after every step. It looks at the stored history, at what was sent, and at what the hosts really are.

use std::collections::BTreeMap;

use rfs_model::{Generation, Health, HostId, SnapshotId, Timestamp};
use rfs_rollout::plan::WaveIndex;
use rfs_rollout::rollback::{HostPhase, Outcome, Rollback, RollbackEvent};
use rfs_rollout::{Event, HostCommand, Operation, Step, StepKind};

use super::agent::Agent;

#[derive(Default)]
pub(crate) struct Oracle {
    seen: usize,
    passed: Vec<WaveIndex>,
    started: Vec<WaveIndex>,
    undone: bool,
    /// What each generation meant when it was first sent.
    meant: BTreeMap<(HostId, Generation), Step>,
    /// What was last observed of each host.
    health: BTreeMap<HostId, (Health, Timestamp)>,
    /// The state after the events seen so far.
    replayed: Option<Operation>,
    broken: Option<String>,
}

impl Oracle {
    /// A command leaves the coordinator, whose stored history is `log`.
    pub(crate) fn sends(&mut self, log: &[Event], host: &HostId, command: &HostCommand) {
        let meant = self.meant.entry((host.clone(), command.generation)).or_insert(command.step.clone());
        if *meant != command.step {
            self.broken = Some(format!("I4: generation {} of {host} names two commands", command.generation));
        }
        let stored = log.iter().any(|event| match event {
            Event::Rollback(RollbackEvent::HostStarted { host: of, .. }) => of == host,
            _ => false,
        });
        if command.step.kind() == StepKind::Apply && !stored {
            self.broken = Some(format!("I3: {host} is told to start before that is stored"));
        }
    }

    pub(crate) fn observes(&mut self, host: &HostId, health: Health, at: Timestamp) {
        let last = self.health.entry(host.clone()).or_insert((health, at));
        if last.0 != health {
            *last = (health, at);
        }
    }

    /// Looks at everything; the first invariant that does not hold, in words.
    pub(crate) fn look(
        &mut self,
        log: &[Event],
        operation: &Operation,
        agents: &BTreeMap<HostId, Agent>,
    ) -> Option<String> {
        let Operation::Rollback(rollback) = operation else { return None };
        while self.seen < log.len() && self.broken.is_none() {
            let Event::Rollback(event) = &log[self.seen] else { return None };
            self.replayed = match self.replayed.take() {
                None => Operation::begin(&log[self.seen]),
                Some(state) => Some(state.evolve(&log[self.seen])),
            };
            self.seen += 1;
            self.broken = self.event(event);
        }
        if self.broken.is_none() && self.replayed.as_ref() != Some(operation) {
            self.broken = Some("O7: the stored history is not the state".to_owned());
        }
        self.broken = self.broken.take().or_else(|| hosts(rollback, agents));
        self.broken.clone()
    }

    fn event(&mut self, event: &RollbackEvent) -> Option<String> {
        let Some(Operation::Rollback(rollback)) = &self.replayed else { return None };
        match event {
            RollbackEvent::WaveStarted { wave, .. } => {
                let before = wave.0.checked_sub(1).map(WaveIndex);
                if before.is_some_and(|before| !self.passed.contains(&before)) {
                    return Some(format!(
                        "I3: wave {wave} starts before the verdict on the one before is stored"
                    ));
                }
                self.started.push(*wave);
            }
            RollbackEvent::WavePassed { wave, .. } => self.passed.push(*wave),
            RollbackEvent::Undone { .. } => self.undone = true,
            RollbackEvent::HostStarted { host, .. } if self.undone => {
                return Some(format!("I6: {host} is brought in line with what is undone"));
            }
            RollbackEvent::HostStarted { host, .. } => {
                let wave = rollback.hosts[host].wave;
                if !self.started.contains(&wave) && rollback.outcome().is_none() {
                    return Some(format!("I3: {host} of wave {wave} starts before its wave"));
                }
                return budgets(rollback, host);
            }
            RollbackEvent::HostPassed { host, at } => {
                let gate = &rollback.request.policy.gate;
                if gate.ignore_health {
                    return None;
                }
                let started = rollback.hosts[host].finished_at.unwrap_or(*at);
                // Before anything was observed, what the creation said holds.
                let (health, since) =
                    self.health.get(host).copied().unwrap_or((Health::Good, rollback.created_at));
                let long = at.since(since.max(started.min(since))) >= gate.min_healthy_time;
                if health != Health::Good || !long {
                    return Some(format!("I8: {host} passes though it is {health} since {since}"));
                }
            }
            _ => {}
        }
        None
    }

    /// What an outcome promises about every host.
    pub(crate) fn at_the_end(&self, rollback: &Rollback, agents: &BTreeMap<HostId, Agent>) {
        let outcome = rollback.outcome().expect("I7: it has ended");
        let target = |name: &HostId| Some(rollback.hosts[name].target);
        let all = |is: &dyn Fn(&HostId, &Agent) -> bool| agents.iter().all(|(name, agent)| is(name, agent));
        match outcome {
            Outcome::Succeeded => {
                assert!(
                    all(&|name, agent| agent.content == target(name)),
                    "I6: not all are at their targets"
                );
            }
            Outcome::Reverted => {
                assert!(all(&|_, agent| agent.content == Some(agent.before)), "I9: not all are as before");
            }
            Outcome::NeedsOperator => {
                let stuck = |host: &rfs_rollout::rollback::HostRecord| host.phase == HostPhase::Inconsistent;
                assert!(rollback.hosts.values().any(stuck), "I1: nobody is needed");
            }
            Outcome::Partial | Outcome::Aborted | Outcome::RevertFailed => {}
        }
    }
}

/// The budget of each group of the host that has just been started.
fn budgets(rollback: &Rollback, started: &HostId) -> Option<String> {
    let policy = &rollback.request.policy;
    for group in rollback.plan.groups.iter().filter(|group| group.hosts.contains(started)) {
        let record = |name: &&HostId| &rollback.hosts[*name];
        let at_work = group.hosts.iter().filter(|name| record(name).phase.at_work()).count();
        let ill = |name: &&HostId| {
            let host = record(name);
            !host.connected || (host.health.health != Health::Good && !policy.gate.ignore_health)
        };
        let unavailable = group.hosts.iter().filter(|name| record(name).phase.at_work() || ill(name)).count();
        let limit = group.limit as usize;
        if at_work > limit || (!ill(&started) && unavailable > limit) {
            return Some(format!(
                "I2: {started} starts: {at_work} at work and {unavailable} unavailable of {} in {}",
                group.limit, group.name
            ));
        }
    }
    None
}

/// What the coordinator says of each host, against what the host is.
fn hosts(rollback: &Rollback, agents: &BTreeMap<HostId, Agent>) -> Option<String> {
    for (name, host) in &rollback.hosts {
        let agent = &agents[name];
        if agent.effects.iter().any(|(generation, highest)| generation < highest) {
            return Some(format!("I4: an older generation took effect on {name}: {:?}", agent.effects));
        }
        if !agent.backed_up {
            return Some(format!("I5: {name} was changed without a durable backup"));
        }
        let at = |snapshot: SnapshotId| agent.content == Some(snapshot);
        let wrong = match host.phase {
            HostPhase::Applied { .. } | HostPhase::Passed { .. } | HostPhase::Unhealthy => !at(host.target),
            HostPhase::Untouched
            | HostPhase::Skipped
            | HostPhase::Superseded
            | HostPhase::Unchanged
            | HostPhase::Reverted => !at(agent.before),
            HostPhase::Inconsistent => agent.content.is_some(),
            HostPhase::Applying { .. }
            | HostPhase::Cancelling { .. }
            | HostPhase::Reverting { .. }
            | HostPhase::Lost
            | HostPhase::RevertFailed => false,
        };
        if wrong {
            return Some(format!("I6: {name} is said to be {:?} and is {:?}", host.phase, agent.content));
        }
        if host.phase == HostPhase::Untouched && !agent.effects.is_empty() {
            return Some(format!("I3: {name} is said to be untouched and was at work"));
        }
    }
    None
}
