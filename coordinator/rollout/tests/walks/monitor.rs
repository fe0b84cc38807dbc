//! A host's health as its agent measures it: at an interval, with thresholds, anew after each restore.

use std::time::Duration;

use rfs_model::{Health, Timestamp};

use super::dice::Dice;

/// How often a check is measured while its verdict is open.
const OPEN: Duration = Duration::from_secs(1);
/// For how long after a restore checks are measured as often as while their verdict is open.
const SETTLING: Duration = Duration::from_secs(30);
/// How many stretches are remembered.
const REMEMBERED: usize = 8;

pub(crate) struct Monitor {
    interval: Duration,
    good_after: u32,
    bad_after: u32,
    /// The verdict.
    pub(crate) health: Health,
    /// Since when.
    pub(crate) since: Timestamp,
    /// When the last measurement was made that agrees with the verdict.
    pub(crate) measured_at: Option<Timestamp>,
    /// How many restores had ended before the measurements that the verdict rests on.
    pub(crate) after: u64,
    run_of: Health,
    run: u32,
    is_reached: bool,
    next: Timestamp,
    settled_at: Timestamp,
    good: Vec<Stretch>,
}

/// A stretch of time in which the verdict was good.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: Timestamp,
    until: Option<Timestamp>,
    /// When it was last measured good.
    measured_at: Timestamp,
    after: u64,
}

impl Monitor {
    /// One that has measured all along and found `health`.
    pub(crate) fn new(now: Timestamp, health: Health, dice: &mut Dice) -> Self {
        let interval = Duration::from_secs(dice.pick(&[1, 10, 10]));
        let mut monitor = Self {
            interval,
            good_after: dice.pick(&[1, 2]),
            bad_after: dice.pick(&[1, 3]),
            health: Health::Unknown,
            since: now,
            measured_at: None,
            after: 0,
            run_of: health,
            run: 3,
            is_reached: true,
            next: now.plus(interval),
            settled_at: now,
            good: Vec::new(),
        };
        monitor.becomes(health, now);
        monitor
    }

    /// Everything is measured anew, after so many restores.
    pub(crate) fn restart(&mut self, now: Timestamp, after: u64) {
        self.becomes(Health::Unknown, now);
        (self.run, self.is_reached, self.measured_at, self.after) = (0, false, None, after);
        (self.next, self.settled_at) = (now, now.plus(SETTLING));
    }

    /// It stood still: what was due is made up for now.
    pub(crate) fn go_on(&mut self, now: Timestamp) {
        self.next = self.next.max(now);
    }

    /// Makes the measurements that are due, all of which find `found`.
    pub(crate) fn measure(&mut self, now: Timestamp, found: Health) {
        while self.next <= now {
            let began = self.next;
            self.run = if found == self.run_of { self.run.saturating_add(1) } else { 1 };
            self.run_of = found;
            let enough = if found == Health::Good { self.good_after } else { self.bad_after };
            if self.run >= enough {
                self.is_reached = true;
                self.becomes(found, began);
            }
            self.agrees(found, began);
            let settles = began < self.settled_at;
            let pause = if self.is_open() || settles { self.interval.min(OPEN) } else { self.interval };
            self.next = began.plus(pause);
            if !self.is_open() && !settles && self.next <= now {
                // The others find the same: only the last one matters.
                let left = now.since(self.next).as_millis() / pause.as_millis();
                self.next = self.next.plus(pause * u32::try_from(left).expect("a walk is short"));
            }
        }
    }

    /// The next measurement.
    pub(crate) fn next(&self) -> Timestamp {
        self.next
    }

    fn agrees(&mut self, found: Health, began: Timestamp) {
        if found != self.health && self.health == Health::Good {
            return;
        }
        self.measured_at = Some(began);
        if let Some(last) = self.good.last_mut().filter(|last| last.until.is_none()) {
            last.measured_at = began;
        }
    }

    /// When a measurement may change the verdict, if the host stays `found`.
    pub(crate) fn wakes(&self, found: Health) -> Option<Timestamp> {
        (self.is_open() || self.health != found).then_some(self.next)
    }

    fn is_open(&self) -> bool {
        !self.is_reached || self.run_of != self.health
    }

    fn becomes(&mut self, health: Health, at: Timestamp) {
        if health == self.health {
            return;
        }
        if let Some(last) = self.good.last_mut().filter(|last| last.until.is_none()) {
            last.until = Some(at);
        }
        if health == Health::Good {
            if self.good.len() == REMEMBERED {
                self.good.remove(0);
            }
            self.good.push(Stretch { from: at, until: None, measured_at: at, after: self.after });
        }
        (self.health, self.since) = (health, at);
    }

    /// Whether it has been good since `from` or earlier, as measured after so many restores.
    pub(crate) fn was_good_since(&self, from: Timestamp, after: u64) -> bool {
        self.good.iter().any(|good| good.after >= after && good.from <= from && good.until.is_none())
    }

    /// Whether it was good at some moment from `until` on, without a break for `long`, from the first to the last good
    /// measurement of that, and all of it was measured after so many restores.
    pub(crate) fn was_good(&self, long: Duration, until: Timestamp, after: u64) -> bool {
        let long = |good: &Stretch| {
            good.from.plus(long) <= good.measured_at && good.until.is_none_or(|end| end >= until)
        };
        self.good.iter().any(|good| good.after >= after && long(good))
    }
}
