//! The gate between a wave and the next: pass, hold or fail.

use std::fmt;

use rfs_model::{Health, HostId};

use super::state::{HostPhase, HostRecord, Rollback};
use crate::plan::WaveIndex;
use crate::request::GatePolicy;

/// What a gate looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// How many hosts the wave has, without those that were skipped.
    pub size: usize,
    /// Those that have been healthy for long enough and are known to be good now.
    pub healthy: usize,
    /// Those that are not started or at work.
    pub moving: usize,
    /// Those that are changed and not yet judged, or passed and not known to be good any more.
    pub watched: usize,
    /// Those whose failure a person or the policy has accepted.
    pub accepted: usize,
    /// Hosts of this wave and earlier ones that have failed, without the accepted ones.
    pub failed: Vec<HostId>,
    /// Hosts of earlier waves that passed and are not known to be good any more.
    pub doubtful_before: usize,
    /// Hosts of this order group that are not done; only counted where the next wave is of another group.
    pub group_open: usize,
    /// How many canaries were left out, where that leaves none of them to be looked at before the next wave.
    pub unseen: usize,
    /// A person takes the gate as passed.
    pub promoted: bool,
}

/// A gate's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// The next wave may start.
    Pass,
    /// Not yet.
    Hold(Hold),
    /// More hosts have failed than may.
    TooManyFailed {
        /// How many.
        failed: usize,
        /// How many may.
        allowed: u32,
    },
    /// So many have failed that too few can become healthy.
    TooFewHealthy {
        /// How many still can.
        possible: usize,
        /// How many must.
        needed: usize,
    },
}

/// What a gate waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Hosts that are not started or at work.
    Moving(usize),
    /// Hosts that have not been healthy for long enough.
    Watched(usize),
    /// Hosts of earlier waves that are not known to be good any more.
    Doubtful(usize),
    /// Hosts that must be done before the next order group.
    Group(usize),
    /// Canaries that were left out, all of them: nobody could be looked at.
    Unseen(usize),
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Moving(n) => write!(f, "{n} to change"),
            Self::Watched(n) => write!(f, "{n} to become healthy"),
            Self::Doubtful(n) => write!(f, "{n} of earlier waves to be healthy again"),
            Self::Group(n) => write!(f, "{n} of this order group to be done"),
            Self::Unseen(n) => {
                write!(f, "one of {n} canaries that were left out, or a promotion: nobody was looked at")
            }
        }
    }
}

/// Judges a wave.
pub fn gate(policy: &GatePolicy, evidence: &Evidence) -> Gate {
    let failed = evidence.failed.len();
    if failed > policy.max_failed as usize {
        return Gate::TooManyFailed { failed, allowed: policy.max_failed };
    }
    let Evidence { size, healthy, moving, watched, accepted, .. } = *evidence;
    let needed = policy.healthy.map(|healthy| healthy.round_up(size).min(size - accepted));
    let possible = healthy + moving + watched;
    if let Some(needed) = needed.filter(|needed| *needed > possible) {
        return Gate::TooFewHealthy { possible, needed };
    }
    if evidence.promoted {
        return if moving == 0 { Gate::Pass } else { Gate::Hold(Hold::Moving(moving)) };
    }
    if evidence.unseen > 0 {
        return Gate::Hold(Hold::Unseen(evidence.unseen));
    }
    let enough = needed.map_or(moving + watched == 0, |needed| healthy >= needed);
    match (enough, moving, evidence.doubtful_before, evidence.group_open) {
        (false, 0, ..) => Gate::Hold(Hold::Watched(watched)),
        (false, ..) => Gate::Hold(Hold::Moving(moving)),
        (true, _, 0, 0) => Gate::Pass,
        (true, _, 0, open) => Gate::Hold(Hold::Group(open)),
        (true, _, doubtful, _) => Gate::Hold(Hold::Doubtful(doubtful)),
    }
}

impl Rollback {
    /// What the gate of `wave` looks at.
    pub fn evidence(&self, wave: WaveIndex) -> Evidence {
        let group = |wave: WaveIndex| self.plan.waves.get(wave.get()).map(|wave| wave.order_group);
        let last_of_group = group(wave.next()).is_some_and(|next| Some(next) != group(wave));
        let mut evidence =
            Evidence { promoted: self.waves[wave.get()].promoted_by.is_some(), ..Evidence::default() };
        let (mut left_out, mut looked_at) = (0, false);
        for (name, host) in self.hosts.iter().filter(|(_, host)| host.wave <= wave) {
            let here = usize::from(host.wave == wave);
            let accepted = self.acknowledged.contains(name);
            let moving = host.phase.at_work() || host.phase.waits();
            let unjudged = matches!(host.phase, HostPhase::Applied { .. }) && !accepted;
            if last_of_group && (moving || unjudged) {
                evidence.group_open += 1;
            }
            if host.phase.failed() && !accepted {
                evidence.failed.push(name.clone());
            }
            match host.phase {
                HostPhase::Skipped | HostPhase::Superseded => {
                    left_out += here;
                    continue;
                }
                HostPhase::Applied { .. } => evidence.watched += here,
                HostPhase::Passed { doubtful_since: Some(_) } => {
                    evidence.watched += here;
                    evidence.doubtful_before += usize::from(here == 0 && !accepted);
                }
                HostPhase::Passed { doubtful_since: None } => evidence.healthy += here,
                HostPhase::Untouched
                | HostPhase::Again
                | HostPhase::Applying { .. }
                | HostPhase::Cancelling { .. }
                | HostPhase::Reverting { .. } => evidence.moving += here,
                HostPhase::Unhealthy
                | HostPhase::Unchanged
                | HostPhase::Lost
                | HostPhase::RevertFailed
                | HostPhase::Inconsistent => evidence.accepted += here * usize::from(accepted),
                HostPhase::Reverted => {}
            }
            looked_at |= group(host.wave) == group(wave);
            evidence.size += here;
        }
        let canary = self.plan.waves.get(wave.get()).is_some_and(|wave| wave.canary);
        if canary && !looked_at && group(wave.next()).is_some() {
            evidence.unseen = left_out;
        }
        evidence
    }

    /// The canaries of the present wave, if all of them were left out and the next wave waits for one of them.
    pub(super) fn unseen(&self) -> Option<impl Iterator<Item = &HostId>> {
        let wave = self.wave.filter(|wave| self.plan.waves[wave.get()].canary)?;
        let left_out =
            |name: &&HostId| self.hosts.get(name).is_some_and(|host| host.phase == HostPhase::Skipped);
        let waits = self.waves[wave.get()].passed_at.is_none() && self.evidence(wave).unseen > 0;
        waits.then(|| self.plan.waves[wave.get()].hosts.iter().filter(left_out))
    }

    /// What the present wave's gate says.
    pub fn present_gate(&self) -> Option<Gate> {
        self.wave.map(|wave| gate(&self.request.policy.gate, &self.evidence(wave)))
    }

    /// The hosts without a connection that a wave waits for, if it waits for nothing else.
    pub fn waits_for_absent(&self, wave: WaveIndex, hold: Hold) -> Option<String> {
        let Hold::Moving(moving) = hold else { return None };
        let absent = |host: &&HostRecord| host.wave == wave && host.phase.waits() && !host.connected;
        let by = |host: &HostRecord| self.due(host).map_or_else(|| self.start_by(), |(by, _)| by);
        let absent: Vec<_> = (self.hosts.iter())
            .filter(|(_, host)| absent(host))
            .map(|(name, host)| (by(host), name))
            .collect();
        let (until, name) = absent.iter().min().filter(|_| absent.len() == moving)?;
        let others = absent.len() - 1;
        let others = if others == 0 { String::new() } else { format!(" and {others} more") };
        Some(format!("{name}{others}, without a connection, until {until}"))
    }

    /// Why these hosts have failed, or are not what a success promises, in one line.
    pub(super) fn why(&self, hosts: &[HostId]) -> String {
        let text = |name: &HostId| match self.hosts.get(name) {
            Some(HostRecord { failure: Some(failure), .. }) => format!("{name}: {failure}"),
            Some(HostRecord { health, phase, .. }) if phase.at_target() => {
                let evidence = Some(&health.evidence).filter(|evidence| !evidence.is_empty());
                let evidence = evidence.map(|evidence| format!(": {evidence}")).unwrap_or_default();
                format!("{name}: at its target, health {}{evidence}", health.health)
            }
            Some(HostRecord { phase: HostPhase::Skipped, .. }) => format!("{name}: left out"),
            Some(_) | None => name.to_string(),
        };
        let mut texts: Vec<String> = hosts.iter().take(3).map(text).collect();
        if hosts.len() > 3 {
            texts.push(format!("and {} more", hosts.len() - 3));
        }
        texts.join("; ")
    }
}

/// Whether a health can hold a budget or a gate up.
pub(super) fn not_good(health: Health) -> bool {
    match health {
        Health::Good => false,
        Health::Unknown | Health::Bad => true,
    }
}
