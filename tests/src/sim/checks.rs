//! The one required check of a simulated host, measured, judged and told as a real agent does.
//!
//! A restore that ends makes everything that was measured before worthless. A verdict needs enough measurements in a row;
//! while it is open, and for a while after a restore, the check is measured often and each measurement is told.

use std::time::{Duration, Instant};

use rfs_proto::v1;

/// How often the check is measured while its verdict is open, if its interval is longer.
const OPEN: Duration = Duration::from_secs(1);
/// For how long after a restore it is measured that often.
const SETTLING: Duration = Duration::from_secs(30);
const HEALTHY_AFTER: u32 = 2;
const UNHEALTHY_AFTER: u32 = 3;

/// What is known of the check.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    interval: Duration,
    health: v1::Health,
    since: Instant,
    /// When the last measurement that the health rests on began.
    measured: Option<Instant>,
    run: (v1::Health, u32),
    settles_until: Instant,
    is_restored: bool,
    next: Instant,
    is_news: bool,
}

impl Checks {
    /// A check that was not measured yet; the first time is at `first`.
    pub(super) fn new(interval: Duration, now: Instant, first: Instant) -> Self {
        Self {
            interval,
            health: v1::Health::Unknown,
            since: now,
            measured: None,
            run: (v1::Health::Unknown, 0),
            settles_until: now,
            is_restored: false,
            next: first,
            is_news: true,
        }
    }

    /// When it is measured next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// What is known.
    pub(super) fn health(&self) -> v1::Health {
        self.health
    }

    /// For how long it has been known.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// How long ago the measurement began that it rests on; none before the first one after a restore.
    pub(super) fn measured_age(&self, now: Instant) -> Option<Duration> {
        self.measured.map(|measured| now.saturating_duration_since(measured))
    }

    /// Whether there is something to tell that was not taken for telling before.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// Measures if it is time.
    pub(super) fn measure(&mut self, now: Instant, found: v1::Health) {
        if now < self.next {
            return;
        }
        self.run = if self.run.0 == found { (found, self.run.1 + 1) } else { (found, 1) };
        let needed = if found == v1::Health::Good { HEALTHY_AFTER } else { UNHEALTHY_AFTER };
        if self.run.1 >= needed && self.health != found {
            (self.health, self.since, self.is_news) = (found, now, true);
            if found == v1::Health::Good && self.is_restored {
                self.settles_until = self.settles_until.max(now + SETTLING);
            }
        }
        if self.health != v1::Health::Good || found == v1::Health::Good {
            self.measured = Some(now);
        }
        let settles = now < self.settles_until;
        self.is_news |= settles;
        let is_open = settles || self.run.0 != self.health;
        self.next = now + if is_open { self.interval.min(OPEN) } else { self.interval };
    }

    /// A restore has ended: nothing is known.
    pub(super) fn restore_ended(&mut self, now: Instant) {
        let new = Self::new(self.interval, now, now);
        *self = Self { settles_until: now + SETTLING, is_restored: true, ..new };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_before_a_restore_counts_for_nothing_and_the_verdict_needs_two_measurements() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut checks = Checks::new(Duration::from_secs(10), begin, begin);
        checks.measure(at(0), v1::Health::Good);
        assert_eq!((checks.health(), checks.next()), (v1::Health::Unknown, at(1)), "an open verdict hurries");
        checks.measure(at(1), v1::Health::Good);
        assert_eq!((checks.health(), checks.age(at(3))), (v1::Health::Good, Duration::from_secs(2)));
        checks.restore_ended(at(60));
        assert_eq!((checks.health(), checks.measured_age(at(60))), (v1::Health::Unknown, None));
        for second in 60..63 {
            checks.measure(at(second), v1::Health::Bad);
        }
        assert_eq!(
            (checks.health(), checks.measured_age(at(63))),
            (v1::Health::Bad, Some(Duration::from_secs(1)))
        );
    }

    #[test]
    fn a_host_that_has_settled_is_measured_at_its_interval_and_tells_nothing_new() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut checks = Checks::new(Duration::from_secs(10), begin, begin);
        checks.restore_ended(begin);
        (0..40).for_each(|second| checks.measure(at(second), v1::Health::Good));
        assert!(
            checks.take_news() && checks.next() > at(40),
            "it was measured often and told after its restore"
        );
        checks.measure(at(60), v1::Health::Good);
        assert!(!checks.take_news());
    }
}
