//! What is known of the checks, and what follows for the host. Reads no clock.
//!
//! A restore that ends makes a new epoch: every verdict begins anew, and a measurement that was begun before is thrown away.
//! So whatever is known was measured after the last restore.

use std::time::{Duration, Instant};

use rfs_model::{Health, RestoreNumber};

use super::verdict::Verdict;
use crate::config::{HealthCheck, Probe};

/// For how long after a restore, and after the host has become good, checks are measured as often as while their verdict is open: whoever gates on this host waits
/// for measurements that come after it has been well for a while.
const SETTLING: Duration = Duration::from_secs(30);
/// By how much newer a measurement is than the one that was told of last, to be told of itself while the host settles.
const TOLD: Duration = Duration::from_millis(250);

/// How well the host is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostHealth {
    /// The worst of the required checks.
    pub health: Health,
    /// Since when it is what it is without a break; if that is good, since the measurement began that made it so.
    pub since: Instant,
    /// When the oldest of the measurements that it rests on began: the last of each required check, and of a host that is good
    /// the last good one. None while a required check was not measured since the last restore, and where none is required.
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
    /// Until when checks are measured often, and what is measured is told, since a restore ended.
    settles_until: Instant,
    /// What was told of when the host was measured.
    told: Option<Instant>,
}

pub(super) struct Check {
    shown: CheckHealth,
    verdict: Verdict,
    /// When the last good measurement began.
    good_at: Option<Instant>,
}

/// What a measurement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Whether that is to be told: the verdict changed, or the host settles.
    pub(super) is_news: bool,
    /// Whether it is measured again soon: the verdict is open, or the host settles.
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
            settles_until: now,
            told: None,
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
            check.good_at = Some(measured.began);
        }
        check.shown.evidence = evidence;
        check.shown.measured = Some(measured);
        let changed = check.show(measured.ended) != before;
        let settles = measured.ended < self.settles_until;
        let is_open = settles || check.verdict.is_open();
        self.judge(measured);
        let newer = |at: Instant| self.told.is_none_or(|told| at >= told + TOLD);
        let is_news = changed || (settles && self.measured().is_some_and(newer));
        if is_news {
            self.told = self.measured();
        }
        Some(Taken { is_news, is_open })
    }

    /// Restore `number` has ended: nothing that was measured before counts.
    pub(super) fn restore_ended(&mut self, number: RestoreNumber, now: Instant) {
        self.epoch.0 += 1;
        self.after = number;
        for check in &mut self.checks {
            check.verdict.restart();
            check.good_at = None;
            check.shown.measured = None;
            check.shown.evidence = format!("not measured since restore {number} ended");
            check.show(now);
        }
        (self.settles_until, self.told) = (now + SETTLING, None);
        self.judge(Measured { began: now, ended: now });
    }

    /// Brings the host's health up to date.
    fn judge(&mut self, last: Measured) {
        let required = self.checks.iter().filter(|check| check.shown.required);
        let health = Health::worst(required.map(|check| check.shown.health));
        if health != self.health {
            self.health = health;
            if health == Health::Good && self.after != RestoreNumber(0) {
                // Whoever waits for it to be well for a while waits from now on.
                self.settles_until = self.settles_until.max(last.began + SETTLING);
            }
            self.since = if health == Health::Good { last.began } else { last.ended };
        }
    }

    /// When the oldest of the measurements began that the host's health rests on.
    fn measured(&self) -> Option<Instant> {
        let required = self.checks.iter().filter(|check| check.shown.required);
        let began = |check: &Check| match self.health {
            // One that disagrees, and is not enough to change the verdict, says nothing for it.
            Health::Good => check.good_at,
            Health::Unknown | Health::Bad => check.shown.measured.map(|measured| measured.began),
        };
        let began: Option<Vec<Instant>> = required.map(began).collect();
        began.and_then(|began| began.into_iter().min())
    }

    pub(super) fn published(&self) -> HostHealth {
        HostHealth {
            health: self.health,
            since: self.since,
            measured: self.measured(),
            after: self.after,
            checks: self.checks.iter().map(|check| check.shown.clone()).collect(),
        }
    }

    /// The required checks that have not measured good since `asked`.
    pub(super) fn lacking(&self, asked: Instant) -> impl Iterator<Item = &Check> {
        let lacks = move |check: &&Check| check.shown.required && check.good_at.is_none_or(|at| at < asked);
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
        Self { shown, verdict, good_at: None }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Program;

    /// Two required checks and an advisory one, with thresholds of two; moments are seconds from the beginning.
    struct Play {
        known: Known,
        begun: Instant,
    }

    impl Play {
        fn new() -> Self {
            let check = |name: &str, required| HealthCheck {
                name: name.to_owned(),
                probe: Probe::Command { program: Program::from_shell("true") },
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(5),
                healthy_after: 2,
                unhealthy_after: 2,
                required,
            };
            let begun = Instant::now();
            Self { known: Known::new(&[check("a", true), check("b", true), check("c", false)], begun), begun }
        }

        fn at(&self, second: u64) -> Instant {
            self.begun + Duration::from_secs(second)
        }

        /// A measurement of one second that ends at `second`, begun in `epoch`.
        fn take_in(&mut self, epoch: Epoch, index: usize, second: u64, health: Health) -> Option<Taken> {
            let measured = Measured { began: self.at(second - 1), ended: self.at(second) };
            self.known.take(index, epoch, measured, health, format!("seen at {second}"))
        }

        fn take(&mut self, index: usize, second: u64, health: Health) {
            let epoch = self.known.epoch();
            self.take_in(epoch, index, second, health).expect("it is of this epoch");
        }

        fn restored(&mut self, number: u64, second: u64) {
            let now = self.at(second);
            self.known.restore_ended(RestoreNumber(number), now);
        }

        /// Health, since when, when the oldest measurement began, and after which restore.
        fn check(&self, health: Health, since: u64, measured: Option<u64>, after: u64) {
            let shown = self.known.published();
            let seen = (shown.health, shown.since, shown.measured, shown.after);
            let measured = measured.map(|second| self.at(second));
            assert_eq!(seen, (health, self.at(since), measured, RestoreNumber(after)));
        }
    }

    #[test]
    fn a_host_is_good_since_all_required_checks_have_been_good_together() {
        let mut play = Play::new();
        play.check(Health::Unknown, 0, None, 0);
        play.take(0, 2, Health::Good);
        play.take(0, 3, Health::Good);
        play.check(Health::Unknown, 0, None, 0);
        play.take(1, 4, Health::Good);
        play.check(Health::Unknown, 0, Some(2), 0);
        play.take(1, 9, Health::Good);
        play.check(Health::Good, 8, Some(2), 0);
        // It goes on without a break, and an advisory check changes nothing.
        play.take(0, 20, Health::Good);
        play.take(2, 21, Health::Bad);
        play.take(2, 22, Health::Bad);
        play.check(Health::Good, 8, Some(8), 0);
        // One bad measurement is no verdict, and nothing that a good one rests on; two are, and then it is good since later.
        play.take(1, 30, Health::Bad);
        play.check(Health::Good, 8, Some(8), 0);
        play.take(1, 31, Health::Bad);
        play.check(Health::Bad, 31, Some(19), 0);
        play.take(1, 32, Health::Good);
        play.take(1, 33, Health::Good);
        play.check(Health::Good, 32, Some(19), 0);
    }

    #[test]
    fn a_verdict_does_not_survive_a_restore() {
        for before in [Health::Good, Health::Bad] {
            let mut play = Play::new();
            for (index, second) in [(0, 1), (1, 2), (2, 3), (0, 4), (1, 5), (2, 6)] {
                play.take(index, second, before);
            }
            // The worst counts: bad since the first measurement that said so ended, good since the last one began.
            play.check(before, 4, Some(3), 0);
            play.restored(7, 10);
            play.check(Health::Unknown, 10, None, 7);
            let shown = play.known.published();
            for check in shown.checks {
                assert_eq!((check.health, check.measured), (Health::Unknown, None), "{}", check.name);
                assert_eq!(check.evidence, "not measured since restore 7 ended");
            }
            // What was measured before does not help to reach a threshold.
            play.take(0, 11, before);
            play.take(1, 11, before);
            play.check(Health::Unknown, 10, Some(10), 7);
            play.take(0, 12, before);
            play.take(1, 13, before);
            play.check(before, 12, Some(11), 7);
        }
    }

    #[test]
    fn a_measurement_that_was_begun_before_a_restore_ended_is_thrown_away() {
        let mut play = Play::new();
        let old = play.known.epoch();
        play.restored(1, 3);
        // It ended later, and saw the host as it was while the restore ran.
        assert_eq!(play.take_in(old, 0, 4, Health::Good), None);
        assert_eq!(play.known.lacking(play.at(0)).count(), 2);
        play.check(Health::Unknown, 0, None, 1);
        let new = play.known.epoch();
        let taken = play.take_in(new, 0, 5, Health::Good).expect("it was begun after");
        assert!(taken.is_open && !taken.is_news, "it is measured again soon: {taken:?}");
        play.restored(2, 6);
        assert_eq!(play.take_in(new, 0, 7, Health::Good), None, "the next restore has ended");
    }

    #[test]
    fn until_a_verdict_is_reached_it_is_open_also_where_nothing_can_be_measured() {
        let mut play = Play::new();
        play.restored(1, 1);
        let epoch = play.known.epoch();
        let open = |taken: Option<Taken>| taken.expect("it counts").is_open;
        assert!(open(play.take_in(epoch, 0, 32, Health::Unknown)));
        assert!(!open(play.take_in(epoch, 0, 33, Health::Unknown)));
    }

    /// Whoever waits for a measurement that comes after the host has been well for a while hears of it.
    #[test]
    fn while_a_host_settles_it_is_measured_often_and_each_measurement_is_told() {
        let mut play = Play::new();
        play.restored(1, 1);
        let epoch = play.known.epoch();
        let mut take = |index, second| play.take_in(epoch, index, second, Health::Good).expect("it counts");
        for second in [3, 4] {
            (0..2).for_each(|index| assert!(take(index, second).is_open));
        }
        let taken = [take(0, 5), take(1, 6)];
        assert!(taken.iter().all(|taken| taken.is_open));
        assert_eq!(
            taken.map(|taken| taken.is_news),
            [false, true],
            "the host is as newly measured as its last check"
        );
        let taken = [take(0, 34), take(1, 35)];
        assert!(taken.iter().all(|taken| !taken.is_open && !taken.is_news), "it has settled");
    }
}
