//! How far an agent's clock is from ours, from pings.
//!
//! A ping's answer was written at some moment between its sending and its arrival; half the way is the best guess, and
//! half the way there and back the largest error. So the quickest of the last answers is believed.

use std::collections::VecDeque;
use std::time::Duration;

use rfs_model::Timestamp;

/// How many answers are remembered: a clock that is set, or drifts, is followed within as many pings.
const REMEMBERED: usize = 8;

/// What the answers to pings say of an agent's clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Offset {
    samples: VecDeque<Sample>,
    asked: Option<(u64, Timestamp)>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The agent's clock less ours.
    ms: i64,
    round_trip: Duration,
}

impl Offset {
    /// A first guess from a message whose way is not known.
    pub(super) fn from_hello(agent: Timestamp, arrived: Timestamp) -> Self {
        // Believed only until a ping is answered.
        let sample = Sample { ms: agent.0 - arrived.0, round_trip: Duration::MAX };
        Self { samples: VecDeque::from([sample]), asked: None }
    }

    /// A ping with this number goes out.
    pub(super) fn asked(&mut self, nonce: u64, now: Timestamp) {
        self.asked = Some((nonce, now));
    }

    /// A ping is answered; gives when it went out. An answer to another than the last one says nothing.
    pub(super) fn answered(&mut self, nonce: u64, agent: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let (_, sent) = self.asked.take_if(|(asked, _)| *asked == nonce)?;
        let round_trip = now.since(sent);
        let middle = sent.0 + (now.0 - sent.0) / 2;
        if self.samples.len() == REMEMBERED {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { ms: agent.0 - middle, round_trip });
        Some(sent)
    }

    /// A point of the agent's clock by ours, as well as it can be told.
    pub(super) fn to_ours(&self, agent: Timestamp) -> Timestamp {
        // Of equally quick answers the newest counts.
        let best = self.samples.iter().rev().min_by_key(|sample| sample.round_trip);
        Timestamp(agent.0 - best.map_or(0, |sample| sample.ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_answer_is_believed() {
        // The agent's clock is 5000 ms ahead.
        let mut offset = Offset::from_hello(Timestamp(5_900), Timestamp(1_000));
        assert_eq!(
            offset.to_ours(Timestamp(6_000)),
            Timestamp(1_100),
            "the way of the hello counts as error"
        );
        offset.asked(1, Timestamp(2_000));
        offset.answered(1, Timestamp(7_190), Timestamp(2_200));
        offset.asked(2, Timestamp(3_000));
        offset.answered(2, Timestamp(8_001), Timestamp(3_002));
        offset.asked(3, Timestamp(4_000));
        offset.answered(3, Timestamp(9_900), Timestamp(5_000));
        assert_eq!(offset.to_ours(Timestamp(9_000)), Timestamp(4_000));
    }

    #[test]
    fn a_late_answer_to_an_older_ping_says_nothing() {
        let mut offset = Offset::default();
        offset.asked(1, Timestamp(1_000));
        offset.asked(2, Timestamp(2_000));
        offset.answered(1, Timestamp(99_000), Timestamp(2_001));
        assert_eq!(offset.to_ours(Timestamp(3_000)), Timestamp(3_000));
        offset.answered(2, Timestamp(2_001), Timestamp(2_002));
        offset.answered(2, Timestamp(99_000), Timestamp(2_003));
        assert_eq!(offset.to_ours(Timestamp(3_000)), Timestamp(3_000));
    }

    #[test]
    fn a_clock_that_is_set_is_followed() {
        let mut offset = Offset::default();
        let mut ping = |nonce, agent: i64, sent: i64, took: i64| {
            offset.asked(nonce, Timestamp(sent));
            offset.answered(nonce, Timestamp(agent), Timestamp(sent + took));
        };
        ping(0, 100, 100, 0);
        for (nonce, sent) in (1..=8).zip((1000..).step_by(1000)) {
            ping(nonce, sent + 60_001, sent, 2);
        }
        assert_eq!(offset.to_ours(Timestamp(80_000)), Timestamp(20_000));
    }
}
