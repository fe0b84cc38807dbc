//! Keeps the host connected to its coordinator, for as long as the agent runs.
//!
//! ```text
//! dial an endpoint ─▶ Hello ─▶ Welcome ─▶ conversation ─▶ lost ─▶ back off (full jitter) ─▶ dial the next
//!                                            │  commands ─▶ Intake (journal, engine)
//!                                            │  reports  ◀─ Intake, again until acknowledged
//!                                            ├─ which snapshots can be restored, after the reports that made them
//!                                            └─ health, progress, answers to queries
//! ```
//!
//! Invariants
//! - A session that is lost stops nothing on the host: what was commanded goes on, and its report waits in the journal.
//! - A report leaves the journal only when the coordinator says that it stored it.
//! - A certificate that changes is used: the session is opened again with it.
//! - Nothing here decides anything about the host; commands pass through unread.

mod backoff;
mod conversation;
mod link_state;
mod news;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs_link::{Connection, Failure, Identity, LiveCredentials, Patience, Target};
use rfs_model::time::SharedClock;
use rfs_model::{HostId, InstanceId, Labels, Reason};
use rfs_proto::v1;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use link_state::LinkState;

use crate::commander::Intake;
use crate::config::Config;
use crate::health::HostHealth;
use crate::local::Administration;
use crate::wire;
use backoff::Backoff;
use conversation::{Conversation, Ended};

/// The version of the protocol that this agent speaks.
pub const PROTOCOL: u32 = 1;

/// A session that lasted this long shows that the coordinator takes hosts: waiting begins anew, so that a restart in the
/// middle of a rollback costs a second and not the bound that an earlier outage had led to. A coordinator that is pressed
/// paces its hosts itself.
const STEADY: Duration = Duration::from_secs(1);

/// Who the agent is, as it introduces itself.
#[derive(Debug, Clone)]
pub struct About {
    /// The host.
    pub host: HostId,
    /// The labels by which selectors find it.
    pub labels: Labels,
    /// What it keeps.
    pub components: Vec<v1::Component>,
    /// The machine: lives with the agent's store.
    pub instance: InstanceId,
    /// Differs after each start of the agent.
    pub start_id: String,
}

impl About {
    /// The agent that `config` describes, in this process and on this machine.
    pub fn new(config: &Config, instance: InstanceId) -> Self {
        let components = config.components.iter().map(|component| (&component.name, component.kind()));
        Self {
            host: config.host.clone(),
            labels: config.labels.clone(),
            components: wire::write_components(components),
            instance,
            start_id: uuid::Uuid::now_v7().to_string(),
        }
    }
}

/// What the session speaks for.
#[derive(Clone)]
pub struct Host {
    /// Who the agent is.
    pub about: About,
    /// Takes commands and keeps reports.
    pub intake: Arc<dyn Intake>,
    /// Answers queries.
    pub administration: Arc<dyn Administration>,
    /// How well the host is.
    pub health: watch::Receiver<HostHealth>,
    /// The clock.
    pub clock: SharedClock,
}

/// The agent's end of the link.
pub struct Session {
    host: Host,
    credentials: Arc<LiveCredentials>,
    targets: Vec<Target>,
    patience: Patience,
    state: watch::Sender<LinkState>,
    changed: Arc<Notify>,
}

impl Session {
    /// A session of `host` with the coordinator at `targets`, which are tried in turn. It begins with [`run`](Self::run).
    pub fn new(host: Host, credentials: Arc<LiveCredentials>, targets: Vec<Target>) -> Result<Self, Failure> {
        if targets.is_empty() {
            return Err(Failure::new(Reason::InvalidArgument, "no endpoint of a coordinator is configured")
                .next("write endpoints = [\"https://HOST:7443\"] under [coordinator]"));
        }
        is_of_host(&credentials, &host.about.host)?;
        let changed = Arc::new(Notify::new());
        let wake = changed.clone();
        host.intake.on_change(Box::new(move || wake.notify_one()));
        let state = watch::Sender::new(LinkState::connecting(host.clock.now()));
        Ok(Self { host, credentials, targets, patience: Patience::default(), state, changed })
    }

    /// Whether the coordinator is connected, and a notice of each change.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Connects, again and again, until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(self.targets.len());
        let mut own = self.credentials.own();
        loop {
            own.mark_unchanged();
            let target = &self.targets[backoff.attempt() % self.targets.len()];
            let begun = Instant::now();
            let ended = tokio::select! {
                () = stop.cancelled() => Ended::Stopped,
                ended = self.connect(target, &stop) => ended,
            };
            let now = self.host.clock.now();
            let failure = match ended {
                Ended::Stopped => break,
                Ended::NewCertificate => {
                    info!("the certificate has changed; connecting with the new one");
                    self.state.send_modify(|state| state.lost(now, None));
                    continue;
                }
                Ended::Failed(failure) => failure,
            };
            if begun.elapsed() >= STEADY {
                backoff.reset();
            }
            let delay = backoff.next(failure.retry_after);
            warn!(%target, reason = %failure.reason, error = %failure, next = failure.next_step(), retry_in = ?delay, "no session");
            self.state.send_modify(|state| state.lost(now, Some(failure)));
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(delay) => {}
                // What was refused with the old certificate may pass with the new one.
                Ok(()) = own.changed() => {}
            }
        }
        self.state.send_replace(LinkState::Stopped);
    }

    async fn connect(&self, target: &Target, stop: &CancellationToken) -> Ended {
        if let Err(failure) = is_of_host(&self.credentials, &self.host.about.host) {
            return Ended::Failed(failure);
        }
        let mut own = self.credentials.own();
        own.mark_unchanged();
        let connection = match Connection::open(target, self.credentials.clone(), &self.patience).await {
            Ok(connection) => connection,
            Err(error) => return Ended::Failed(error.failure()),
        };
        let ended = match Conversation::begin(&self.host, &connection, &self.patience, &self.changed).await {
            Ok(conversation) => {
                info!(%target, coordinator = conversation.coordinator(), "connected");
                let now = self.host.clock.now();
                self.state.send_replace(LinkState::connected(target, conversation.coordinator(), now));
                conversation.run(own, stop).await
            }
            Err(failure) => Ended::Failed(failure),
        };
        connection.close();
        ended
    }
}

/// An agent speaks for the host in its certificate and for no other.
fn is_of_host(credentials: &LiveCredentials, host: &HostId) -> Result<(), Failure> {
    match credentials.id().identity {
        Identity::Agent(name) if name == *host => Ok(()),
        other => {
            let message = format!("the certificate is of {other}, but the configured host is {host}");
            Err(Failure::new(Reason::Unauthenticated, message).next(format!(
                "issue its certificate with: rfs pki issue agent {host}; or correct [host] name"
            )))
        }
    }
}
