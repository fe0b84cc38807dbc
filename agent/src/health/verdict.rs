//! From measurements to a verdict: a check changes its mind only after enough measurements in a row agree.

use rfs_model::Health;

/// A check's verdict and the run of measurements that may change it.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    health: Health,
    run_of: Health,
    run: u32,
    /// Whether enough measurements in a row agreed at least once.
    is_reached: bool,
    healthy_after: u32,
    unhealthy_after: u32,
}

impl Verdict {
    pub(super) fn new(healthy_after: u32, unhealthy_after: u32) -> Self {
        let (health, run_of) = (Health::Unknown, Health::Unknown);
        Self { health, run_of, run: 0, is_reached: false, healthy_after, unhealthy_after }
    }

    /// Begins anew: nothing is known.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.healthy_after, self.unhealthy_after);
    }

    /// What is known.
    pub(super) fn health(&self) -> Health {
        self.health
    }

    /// Whether the last measurement disagrees with the verdict, or there were never enough of them.
    pub(super) fn is_open(&self) -> bool {
        !self.is_reached || self.run_of != self.health
    }

    /// Takes a measurement in. That nothing could be measured counts like a bad one, towards unknown.
    pub(super) fn take(&mut self, measured: Health) {
        self.run = if measured == self.run_of { self.run.saturating_add(1) } else { 1 };
        self.run_of = measured;
        let enough = match measured {
            Health::Good => self.healthy_after,
            Health::Bad | Health::Unknown => self.unhealthy_after,
        };
        if self.run >= enough {
            self.health = measured;
            self.is_reached = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measurements `g`, `b`, `u` in order, and the verdict after each.
    fn check(healthy_after: u32, unhealthy_after: u32, measured: &str, expected: &str) {
        let mut verdict = Verdict::new(healthy_after, unhealthy_after);
        let verdicts: String = measured
            .chars()
            .map(|measured| {
                verdict.take(match measured {
                    'g' => Health::Good,
                    'b' => Health::Bad,
                    _ => Health::Unknown,
                });
                match verdict.health() {
                    Health::Good => 'g',
                    Health::Bad => 'b',
                    Health::Unknown => 'u',
                }
            })
            .collect();
        assert_eq!(verdicts, expected, "after {measured}");
    }

    #[test]
    fn a_verdict_needs_its_number_of_measurements_in_a_row() {
        check(2, 3, "ggbbgbbbgg", "uggggggbbg");
        check(1, 1, "gbg", "gbg");
        check(3, 3, "ggbggg", "uuuuug");
    }

    #[test]
    fn what_cannot_be_measured_becomes_unknown_and_interrupts_a_run() {
        check(1, 2, "guu", "ggu");
        check(2, 2, "gugg", "uuug");
        check(1, 3, "gbubb", "ggggg");
    }
}
