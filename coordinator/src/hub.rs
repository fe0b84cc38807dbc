//! The hub: the sessions of agents, and what is known of every host.
//!
//! ```text
//!  agent ═stream═▶ door ─Hello─▶ session ─▶ roster ◀─look─ drivers, API
//!                   │               │ reports, progress        (presence, health, labels, clock offset)
//!         paces; machines: one       └─▶ FleetEvent channel ─▶ drivers ─stored─▶ ReportAck ═▶ agent
//!         machine for each name    send(HostCommand) ◀─ drivers         questions ◀─ API
//!  needs: which checkpoints hosts must keep, told to every session after its welcome and when that changes
//!  holdings: which snapshots hosts hold, compared with what complete checkpoints rest on
//!  wheel: one task for all sessions; it pings a quarter of them each second, notices which agents have fallen silent, and
//!  lets old health go stale
//! ```
//!
//! Invariants
//! - A session speaks for the host in its certificate and for no other. A newer session of a host ends the older one.
//! - One machine speaks for a name. While two do, the name has no session, and is told nothing, until a person has accepted
//!   one of them; that is durable before anybody is refused for it.
//! - That the store was put back to an older copy is told to the drivers before they can see the host that shows it.
//! - Nothing here waits for an agent: queues to agents are bounded, and an agent that lets its queue fill is disconnected;
//!   it comes back, and is told again what holds.
//! - A report is acknowledged only after the drivers said that it is durable. A full coordinator slows the sessions that
//!   report, and loses nothing.
//! - Health without a session, without an observation, or older than [`STALE`] is unknown. An agent that is not heard counts
//!   as not connected, unless it is the coordinator that did not listen.
//! - An idle session costs a task, two small queues and no timer of its own.

#[cfg(test)]
mod bed;
mod convert;
mod door;
mod fleet;
mod health;
mod heard;
mod holdings;
mod machines;
mod names;
mod needs;
mod offset;
mod questions;
mod register;
mod roster;
mod session;
mod wheel;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rfs_model::HostId;
use rfs_model::time::SharedClock;
use rfs_proto::agentlink::v1::Checkpoints;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::driver::fleet::FleetEvent;
use crate::store::{Store, StoreError};

pub(crate) use convert::{wire_choices, wire_selection};
pub use door::Door;
pub use health::Grouping;
pub use roster::HostCard;

use names::Names;
use register::Register;
use roster::Roster;

/// How often an agent sends its health when nothing changes.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(15);
/// How old an observation may be before it counts for nothing.
pub const STALE: Duration = Duration::from_secs(45);

/// How many agents are let in at once; the others wait at the door, so that a fleet that comes back all at once is taken
/// in at the pace of the store.
const ENTERING: usize = 256;

/// The sessions of agents. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    roster: Roster,
    register: Register,
    /// What hosts were told of checkpoints.
    checkpoints: watch::Sender<Arc<Checkpoints>>,
    clock: SharedClock,
    events: mpsc::Sender<FleetEvent>,
    entering: Semaphore,
    /// Hosts that have shown that the store was put back to an older copy.
    rewound: Mutex<HashSet<HostId>>,
    /// Held while it is decided who speaks for a name, so that what is decided is stored in that order.
    names: Names,
    stop: CancellationToken,
}

impl Hub {
    /// Knows the hosts that the store knows, and turns its wheel until `stop` is cancelled; sessions end then, too.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: SharedClock,
        events: mpsc::Sender<FleetEvent>,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let mut known = store.hosts().await?;
        known.extend(store.forgotten_hosts().await?);
        let roster = Roster::new(known, clock.now());
        let checkpoints = watch::Sender::new(Arc::new(needs::read(&*store).await?));
        let (entering, register) = (Semaphore::new(ENTERING), Register::keep(store.clone()));
        let names = Names::default();
        let shared = Shared {
            store: store.clone(),
            roster,
            register,
            checkpoints,
            clock,
            events,
            entering,
            rewound: Mutex::default(),
            names,
            stop,
        };
        let hub = Self { shared: Arc::new(shared) };
        tokio::spawn(wheel::turn(hub.clone()));
        tokio::spawn(heard::keep(hub.clone(), store.clone()));
        tokio::spawn(needs::tell(hub.clone(), store));
        Ok(hub)
    }

    /// The service that agents connect to.
    pub fn door(&self) -> Door {
        Door::new(self.clone())
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}
