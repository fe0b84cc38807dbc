//! What is known of the checks, and what follows for the host. Reads no clock.
//!
//! A restore that ends makes a new epoch: every verdict begins anew, and a measurement that was begun before is thrown away.
//! So whatever is known was measured after the last restore.

use std::time::Instant;

use rfs_model::{Health, RestoreNumber};

use super::verdict::Verdict;
use crate::config::{HealthCheck, Probe};

/// How well the host is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostHealth {
    /// The worst of the required checks.
    pub health: Health,
    /// Since when it is what it is without a break.
    pub since: Instant,
    /// When the oldest of the measurements that it rests on began: the last of each required check. None while a required
    /// check was not measured since the last restore, and where none is required.
    pub measured: Option<Instant>,
    /// The last restore on this host that had ended before any of these measurements began; 0 when there was none.
    pub after: RestoreNumber,
    /// Every check, in the order of the configuration.
    pub checks: Vec<CheckHealth>,
}

/// What is known of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckHealth {
    /// Its name.
    pub name: String,
    /// Its kind, such as `http`.
    pub kind: &'static str,
    /// What is known.
    pub health: Health,
    /// Whether the host's health depends on it.
    pub required: bool,
    /// What the last measurement saw.
    pub evidence: String,
    /// Since when the health is what it is.
    pub since: Instant,
    /// The last measurement; none before the first, and before the first after a restore.
    pub measured: Option<Measured>,
}

/// When a measurement was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
}

/// Which measurements count: those that were begun in the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Epoch(u64);

pub(super) struct Known {
    epoch: Epoch,
    after: RestoreNumber,
    health: Health,
    since: Instant,
    checks: Vec<Check>,
}

pub(super) struct Check {
    shown: CheckHealth,
    verdict: Verdict,
    /// When the last good measurement began.
    good_since: Option<Instant>,
}

/// What a measurement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whether the verdict changed.
    pub(super) changed: bool,
    /// Whether the verdict is open: it is measured again soon.
    pub(super) is_open: bool,
}

impl Known {
    pub(super) fn new(checks: &[HealthCheck], now: Instant) -> Self {
        Self {
            epoch: Epoch::default(),
            after: RestoreNumber(0),
            health: Health::Unknown,
            since: now,
            checks: checks.iter().map(|check| Check::new(check, now)).collect(),
        }
    }

    /// The present epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes a measurement in that was begun in `epoch`; none if that has passed.
    pub(super) fn take(
        &mut self,
        index: usize,
        epoch: Epoch,
        measured: Measured,
        health: Health,
        evidence: String,
    ) -> Option<Taken> {
        if epoch != self.epoch {
            return None;
        }
        let check = &mut self.checks[index];
        let before = check.verdict.health();
        check.verdict.take(health);
        if health == Health::Good {
            check.good_since = Some(measured.began);
        }
        check.shown.evidence = evidence;
        check.shown.measured = Some(measured);
        let changed = check.show(measured.ended) != before;
        let is_open = check.verdict.is_open();
        self.judge(measured.ended);
        Some(Taken { changed, is_open })
    }

    /// Restore `number` has ended: nothing that was measured before counts.
    pub(super) fn restore_ended(&mut self, number: RestoreNumber, now: Instant) {
        self.epoch.0 += 1;
        self.after = number;
        for check in &mut self.checks {
            check.verdict.restart();
            check.good_since = None;
            check.shown.measured = None;
            check.shown.evidence = format!("not measured since restore {number} ended");
            check.show(now);
        }
        self.judge(now);
    }

    /// Brings the host's health up to date.
    fn judge(&mut self, now: Instant) {
        let required = self.checks.iter().filter(|check| check.shown.required);
        let health = Health::worst(required.map(|check| check.shown.health));
        if health != self.health {
            (self.health, self.since) = (health, now);
        }
    }

    pub(super) fn published(&self) -> HostHealth {
        let required = || self.checks.iter().filter(|check| check.shown.required);
        let began: Option<Vec<Instant>> =
            required().map(|check| check.shown.measured.map(|measured| measured.began)).collect();
        HostHealth {
            health: self.health,
            since: self.since,
            measured: began.and_then(|began| began.into_iter().min()),
            after: self.after,
            checks: self.checks.iter().map(|check| check.shown.clone()).collect(),
        }
    }

    /// The required checks that have not measured good since `asked`.
    pub(super) fn lacking(&self, asked: Instant) -> impl Iterator<Item = &Check> {
        let lacks =
            move |check: &&Check| check.shown.required && check.good_since.is_none_or(|at| at < asked);
        self.checks.iter().filter(lacks)
    }
}

impl Check {
    fn new(check: &HealthCheck, now: Instant) -> Self {
        let shown = CheckHealth {
            name: check.name.clone(),
            kind: match check.probe {
                Probe::Http { .. } => "http",
                Probe::Tcp { .. } => "tcp",
                Probe::Command { .. } => "command",
            },
            health: Health::Unknown,
            required: check.required,
            evidence: "not measured yet".to_owned(),
            since: now,
            measured: None,
        };
        let verdict = Verdict::new(check.healthy_after, check.unhealthy_after);
        Self { shown, verdict, good_since: None }
    }

    /// Shows what the verdict is now, and returns it.
    fn show(&mut self, now: Instant) -> Health {
        let health = self.verdict.health();
        if health != self.shown.health {
            (self.shown.health, self.shown.since) = (health, now);
        }
        health
    }

    pub(super) fn summary(&self) -> String {
        format!("{}: {}", self.shown.name, self.shown.evidence)
    }
}
