//! One task for what time alone brings to sessions: pings, agents that fall silent, and health that grows old.

use std::time::Duration;

use rfs_link::Failure;
use rfs_model::{Reason, Timestamp};
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::Hub;
use super::session::Session;
use crate::driver::fleet::FleetEvent;

/// How often the wheel turns by one place.
const TURN: Duration = Duration::from_secs(1);
/// How many places it has: each session stands at one. When the wheel comes there, one that is watched is pinged.
const PLACES: u64 = 4;
/// For so long after a driver has read a host's state, the host is watched.
const WATCHED_FOR: Duration = Duration::from_secs(60);
/// An agent that nobody watches is pinged after so much silence. It tells its health every 10 s, so that this is about one ping
/// for each of these, and a slow answer still comes before it counts as silent.
const PING_AFTER: Duration = Duration::from_secs(5);
/// One that was pinged for its silence is not pinged again before so much time has passed.
const PING_AGAIN_AFTER: Duration = Duration::from_secs(4);
/// How often an agent is asked for its time at least: its clock may be set.
const CLOCK: Duration = Duration::from_secs(60);
/// An agent that says nothing for so long, not even an answer to a ping, counts as not connected until it is heard again.
const SILENT: Duration = Duration::from_secs(8);
/// One that says nothing for so long is not there: its session is over.
const GONE: Duration = Duration::from_secs(90);
/// A turn that comes so late after the one before says that it was the coordinator that stood still, and not the agents.
pub(super) const LATE: Duration = Duration::from_secs(3);

/// Turns until the hub stops.
pub(super) async fn turn(hub: Hub) {
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wheel = Wheel::new(hub.shared.clock.now());
    loop {
        tokio::select! {
            () = hub.shared.stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        wheel.turn(&hub).await;
    }
}

/// Where the wheel stands.
#[derive(Debug)]
pub(super) struct Wheel {
    /// The number of the turn. The first ping of a session has the number 0 and is sent when it comes in.
    number: u64,
    /// When it turned last.
    turned: Timestamp,
    /// Since when agents are heard without a break.
    listening: Timestamp,
}

impl Wheel {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { number: 0, turned: now, listening: now }
    }

    pub(super) async fn turn(&mut self, hub: &Hub) {
        let (now, roster) = (hub.shared.clock.now(), &hub.shared.roster);
        let stood_still = now.since(self.turned);
        if stood_still > LATE {
            warn!(
                milliseconds = stood_still.as_millis(),
                "the coordinator stood still; agents have time to be heard"
            );
            self.listening = now;
        }
        (self.turned, self.number) = (now, self.number + 1);
        roster.listens(self.listening, now);
        let silent = roster.let_go_silent(now, self.listening, SILENT);
        for host in silent {
            warn!(%host, "nothing was heard from the agent for {} s; it counts as not connected", SILENT.as_secs());
            hub.tell(FleetEvent::Changed(host)).await;
        }
        for host in roster.let_go_stale(now, self.listening) {
            hub.tell(FleetEvent::Changed(host)).await;
        }
        let number = self.number;
        for session in roster.sessions(|session| self.is_due(session, now)) {
            if session.silence(now, self.listening) > GONE {
                let why = format!("nothing was heard for {} s", GONE.as_secs());
                session.close(Failure::new(Reason::Unreachable, why).next("connect again"));
            } else {
                session.ping(number, now);
            }
        }
    }

    /// Whether a session is to be pinged at this turn.
    fn is_due(&self, session: &Session, now: Timestamp) -> bool {
        let is_in_place = session.number.0 % PLACES == self.number % PLACES;
        (is_in_place && (session.unwatched_for(now) < WATCHED_FOR || session.since_ping(now) >= CLOCK))
            || (session.silence(now, self.listening) >= PING_AFTER
                && session.since_ping(now) >= PING_AGAIN_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rfs_model::time::ManualClock;
    use rfs_model::{Clock as _, HostId};
    use tempfile::TempDir;
    use tokio::sync::mpsc;

    use super::super::bed::{Opened, enter, open};
    use super::super::session::{Queue, Session};
    use super::*;
    use crate::driver::fleet::Fleet as _;

    /// A hub with one session, and a wheel that the test turns by hand.
    struct Bed {
        hub: Hub,
        clock: Arc<ManualClock>,
        wheel: Wheel,
        session: Arc<Session>,
        queue: Queue,
        events: mpsc::Receiver<FleetEvent>,
        _folder: TempDir,
    }

    fn host() -> HostId {
        HostId::new("web-1").expect("a name")
    }

    impl Bed {
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let Opened { hub, clock, events, .. } = open(&folder).await;
            let now = clock.now();
            let (session, queue) = enter(&hub, host(), now);
            Self { hub, wheel: Wheel::new(now), clock, session, queue, events, _folder: folder }
        }

        fn now(&self) -> Timestamp {
            self.clock.now()
        }

        /// Seconds pass, each with a turn.
        async fn pass(&mut self, seconds: u64) {
            for _ in 0..seconds {
                self.clock.advance(TURN);
                self.wheel.turn(&self.hub).await;
                while self.queue.try_recv().is_ok() {}
            }
        }

        fn is_connected(&self) -> bool {
            let seen = self.hub.look(&host(), self.now()).session.is_some();
            let shown = self.hub.host(&host()).expect("it was seen").wire.connected;
            assert_eq!(seen, shown, "the drivers and the API see the same");
            seen
        }
    }

    #[tokio::test]
    async fn an_agent_that_is_frozen_counts_as_not_connected_within_ten_seconds_until_it_is_heard_again() {
        let mut bed = Bed::new().await;
        bed.pass(8).await;
        assert!(bed.is_connected());
        bed.pass(2).await;
        assert!(!bed.is_connected());
        assert!(matches!(bed.events.try_recv(), Ok(FleetEvent::Changed(changed)) if changed == host()));
        assert!(bed.events.try_recv().is_err(), "told once");
        let reading = bed.hub.look(&host(), bed.now()).reading;
        assert_eq!(reading.evidence, "nothing was heard for 8 s");
        assert!(bed.session.heard(bed.now()), "its session is open");
        assert!(bed.is_connected());
    }

    /// Counts the pings of some seconds to an agent that tells its health every ten.
    async fn pings(bed: &mut Bed, seconds: u64, looks: bool) -> u32 {
        let mut pings = 0;
        for second in 1..=seconds {
            bed.clock.advance(TURN);
            if looks {
                bed.hub.look(&host(), bed.now());
            }
            if second % 10 == 0 {
                bed.session.heard(bed.now());
            }
            bed.wheel.turn(&bed.hub).await;
            while bed.queue.try_recv().is_ok() {
                bed.session.heard(bed.now());
                pings += 1;
            }
        }
        pings
    }

    #[tokio::test]
    async fn an_agent_that_is_watched_is_pinged_every_four_seconds_and_another_when_it_is_quiet() {
        let mut bed = Bed::new().await;
        assert!(pings(&mut bed, 120, true).await >= 30);
        assert!(pings(&mut bed, 56, false).await >= 14, "its rollback may look at it at any moment");
        pings(&mut bed, 4, false).await;
        let quiet = pings(&mut bed, 120, false).await;
        assert!((12..=13).contains(&quiet), "{quiet}");
        assert!(bed.is_connected());
        assert!(pings(&mut bed, 12, true).await >= 3, "at once when somebody looks");
    }

    /// What an agent says by itself tells nothing of its clock, nor how long it waited in the socket.
    #[tokio::test]
    async fn an_agent_that_says_much_is_asked_for_its_time_once_a_minute() {
        let mut bed = Bed::new().await;
        pings(&mut bed, 70, false).await;
        let mut pings = 0;
        for _ in 0..240 {
            bed.clock.advance(TURN);
            bed.session.heard(bed.now());
            bed.wheel.turn(&bed.hub).await;
            while bed.queue.try_recv().is_ok() {
                pings += 1;
            }
        }
        assert_eq!(pings, 4);
    }

    /// Not a measurement, but a guard: a turn must stay small beside the second until the next one.
    #[tokio::test]
    async fn a_turn_over_ten_thousand_sessions_is_short() {
        let mut bed = Bed::new().await;
        let mut queues = Vec::new();
        for number in 0..10_000 {
            let host = HostId::new(&format!("web-{number}")).expect("a name");
            queues.push(enter(&bed.hub, host.clone(), bed.now()).1);
            bed.hub.look(&host, bed.now());
        }
        let begun = std::time::Instant::now();
        for _ in 0..8 {
            bed.clock.advance(TURN);
            bed.wheel.turn(&bed.hub).await;
        }
        let turn = begun.elapsed() / 8;
        println!("a turn over 10,000 sessions took {turn:?}");
        assert!(turn < Duration::from_millis(250), "{turn:?}");
        assert!(queues.iter_mut().all(|queue| queue.len() >= 2), "each was pinged every four seconds");
    }

    #[tokio::test]
    async fn when_the_coordinator_stood_still_agents_have_time_to_be_heard() {
        let mut bed = Bed::new().await;
        bed.clock.advance(Duration::from_secs(60));
        bed.pass(8).await;
        assert!(bed.is_connected(), "it was the coordinator that did not listen");
        bed.pass(2).await;
        assert!(!bed.is_connected());
    }

    #[tokio::test]
    async fn an_agent_that_stays_silent_loses_its_session() {
        let mut bed = Bed::new().await;
        bed.pass(89).await;
        let ended = async |bed: &Bed| {
            tokio::time::timeout(Duration::from_millis(1), bed.session.ended()).await.is_ok()
        };
        assert!(!ended(&bed).await);
        bed.pass(6).await;
        assert!(ended(&bed).await);
    }
}
