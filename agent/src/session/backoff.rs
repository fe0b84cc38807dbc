//! How long to wait before the next try, so that a fleet that lost its coordinator does not come back all at once.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

const BASE: Duration = Duration::from_millis(500);
/// Ten thousand hosts that come back within it are a thousand handshakes a second: under half a core.
const CAP: Duration = Duration::from_secs(10);

/// Exponential, with full jitter: anything from nothing to the present bound.
#[derive(Debug)]
pub(super) struct Backoff {
    endpoints: usize,
    attempt: usize,
    random: u64,
}

impl Backoff {
    /// The bound grows once all `endpoints` have failed.
    pub(super) fn new(endpoints: usize) -> Self {
        // The keys of a hasher are the one randomness in the standard library; jitter asks for no more.
        Self::seeded(endpoints, RandomState::new().build_hasher().finish())
    }

    fn seeded(endpoints: usize, seed: u64) -> Self {
        Self { endpoints: endpoints.max(1), attempt: 0, random: seed }
    }

    /// How many tries have failed in a row.
    pub(super) fn attempt(&self) -> usize {
        self.attempt
    }

    /// A session was steady: waiting begins anew, with the endpoint that comes after the one that served.
    pub(super) fn reset(&mut self) {
        self.attempt %= self.endpoints;
    }

    /// A try failed: how long to wait. `asked` is what the coordinator asked for; never less is waited.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let rounds = u32::try_from(self.attempt / self.endpoints).unwrap_or(u32::MAX).min(16);
        self.attempt += 1;
        let bound = BASE.saturating_mul(1 << rounds).min(CAP);
        asked.unwrap_or_default() + bound.mul_f64(self.fraction())
    }

    /// From 0 up to 1, evenly (SplitMix64).
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_are_spread_over_their_whole_range() {
        let bounds = [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000];
        let mut sums = [0.0; 8];
        for seed in 0..1000 {
            let mut backoff = Backoff::seeded(1, seed);
            for (sum, bound) in sums.iter_mut().zip(bounds) {
                let wait = backoff.next(None);
                assert!(wait <= Duration::from_millis(bound), "{wait:?} of {bound} ms");
                *sum += wait.as_secs_f64();
            }
        }
        for (sum, bound) in sums.iter().zip(bounds) {
            let mean = sum / 1000.0 / (bound as f64 / 1000.0);
            assert!((0.45..0.55).contains(&mean), "the mean is {mean} of {bound} ms");
        }
    }

    #[test]
    fn the_bound_grows_once_every_endpoint_has_failed_and_begins_anew_after_a_steady_session() {
        let longest = |attempts: usize, reset: bool| {
            let waits = (0..200).map(|seed| {
                let mut backoff = Backoff::seeded(3, seed);
                for _ in 0..attempts {
                    backoff.next(None);
                }
                if reset {
                    backoff.reset();
                    assert_eq!(backoff.attempt(), attempts % 3);
                }
                backoff.next(None)
            });
            waits.max().unwrap_or_default()
        };
        assert!(longest(2, false) <= Duration::from_millis(500));
        assert!(longest(3, false) > Duration::from_millis(500));
        assert!(longest(20, false) > Duration::from_secs(8));
        assert!(longest(20, true) <= Duration::from_millis(500));
    }

    #[test]
    fn never_less_is_waited_than_the_coordinator_asked_for() {
        let mut backoff = Backoff::seeded(1, 1);
        let asked = Duration::from_secs(20);
        let wait = backoff.next(Some(asked));
        assert!(asked <= wait && wait <= asked + BASE, "{wait:?}");
    }
}
