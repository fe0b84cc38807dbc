//! One task for what time alone brings to sessions: pings, and health that grows old.

use std::time::Duration;

use rfs_link::Failure;
use rfs_model::Reason;
use tokio::time::MissedTickBehavior;

use super::Hub;
use crate::driver::fleet::FleetEvent;

/// How often the wheel turns by one place.
const TURN: Duration = Duration::from_secs(1);
/// How many places it has: each session stands at one, and is pinged when the wheel comes there.
const PLACES: u64 = 30;
/// An agent that says nothing for so long, not even an answer to a ping, is not there.
const SILENCE: Duration = Duration::from_secs(90);

/// Turns until the hub stops.
pub(super) async fn turn(hub: Hub) {
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first ping of a session has the number 0 and is sent when it comes in.
    for number in 1_u64.. {
        tokio::select! {
            () = hub.shared.stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        let now = hub.shared.clock.now();
        for host in hub.shared.roster.let_go_stale(now) {
            hub.tell(FleetEvent::Changed(host)).await;
        }
        for session in hub.shared.roster.sessions(|session| session.number.0 % PLACES == number % PLACES) {
            if now.since(session.last_heard()) > SILENCE {
                let why = format!("nothing was heard for {} s", SILENCE.as_secs());
                session.close(Failure::new(Reason::Unreachable, why).next("connect again"));
            } else {
                session.ping(number, now);
            }
        }
    }
}
