//! Where agents come in: who they are is proven, what they say is checked, and not all come in at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::Stream;
use rfs_link::{Failure, Identity, Peer};
use rfs_model::{ComponentName, Generation, HostId, Reason};
use rfs_proto::agentlink::v1::agent_link_server::{AgentLink, AgentLinkServer};
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::agentlink::v1::{AgentMessage, CoordinatorMessage, Hello, Welcome};
use rfs_proto::convert::{FieldError, labels, parse, to_wire_duration, to_wire_time};
use rfs_proto::v1;
use rfs_rollout::GENERATIONS;
use tokio::sync::SemaphorePermit;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::roster::{Admitted, Component, Details, Facts};
use super::session::{Queue, Session, downward, listen};
use super::{HEALTH_INTERVAL, Hub};
use crate::api::fingerprint;
use crate::driver::fleet::FleetEvent;
use crate::store::HostSeen;

/// The version of the agent link that this coordinator speaks.
pub(super) const PROTOCOL: u32 = 1;

/// The newest generation that a host can have accepted: stores keep them as signed numbers, and the next operation needs its
/// own above it.
const NEWEST: u64 = i64::MAX as u64 - GENERATIONS;

/// How long an agent waits at the door before it is sent away to try later.
const QUEUING: Duration = Duration::from_secs(5);
/// How long an agent may take to say its hello.
const HELLO: Duration = Duration::from_secs(10);
/// Agents that are sent away come back spread over so many seconds.
const SPREAD: u64 = 10;

/// The service `rfs.agentlink.v1.AgentLink`.
#[derive(Debug, Clone)]
pub struct Door {
    hub: Hub,
}

impl Door {
    pub(super) fn new(hub: Hub) -> Self {
        Self { hub }
    }

    /// The service, for messages up to `largest` bytes.
    pub fn service(self, largest: usize) -> AgentLinkServer<Self> {
        AgentLinkServer::new(self).max_decoding_message_size(largest).max_encoding_message_size(largest)
    }
}

#[tonic::async_trait]
impl AgentLink for Door {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let Some((peer, host)) = peer.and_then(agent) else {
            return Err(
                Failure::new(Reason::PermissionDenied, "only the agent of a host connects here").into()
            );
        };
        let mut agent = request.into_inner();
        let hello = hello(&mut agent).await?;
        let entering = self.queue(&host).await?;
        let (session, queue) = self.enter(&peer, host, hello).await?;
        drop(entering);
        let down = downward(session.clone(), queue);
        tokio::spawn(listen(self.hub.clone(), session, agent));
        Ok(Response::new(Box::pin(down)))
    }
}

fn agent(peer: Peer) -> Option<(Peer, HostId)> {
    match peer.identity.clone() {
        Identity::Agent(host) => Some((peer, host)),
        Identity::Operator(_) | Identity::Coordinator(_) => None,
    }
}

/// The first message, which must be a hello.
async fn hello(agent: &mut Streaming<AgentMessage>) -> Result<Hello, Failure> {
    let first = tokio::time::timeout(HELLO, agent.message()).await.map_err(|_| {
        Failure::new(Reason::DeadlineExceeded, format!("no hello came within {} s", HELLO.as_secs()))
    })?;
    match first.map_err(|status| Failure::from_status(&status))?.and_then(|message| message.message) {
        Some(Up::Hello(hello)) => Ok(hello),
        Some(_) => Err(Failure::invalid("message", "the first message must be a hello")),
        None => Err(Failure::invalid("message", "the stream ended before a hello")),
    }
}

impl Door {
    /// Waits for a turn to come in.
    async fn queue(&self, host: &HostId) -> Result<SemaphorePermit<'_>, Failure> {
        match tokio::time::timeout(QUEUING, self.hub.shared.entering.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                let wait = 1 + spread(host) % SPREAD;
                Err(Failure::new(Reason::Overloaded, "too many agents come in at once")
                    .retry_after(Duration::from_secs(wait)))
            }
        }
    }

    async fn enter(&self, peer: &Peer, host: HostId, hello: Hello) -> Result<(Arc<Session>, Queue), Failure> {
        let shared = &self.hub.shared;
        let facts = check(&host, &hello)?;
        let now = shared.clock.now();
        let seen = HostSeen {
            host: host.clone(),
            at: now,
            labels: facts.labels.clone(),
            generation: Generation(hello.generation),
            inconsistent: facts.inconsistent,
            details: serde_json::to_string(&facts.details).unwrap_or_default(),
        };
        shared.register.write(seen).await?;

        let (session, queue) = Session::new(shared.roster.next_number(), peer, host.clone(), &hello, now);
        // Queued before anybody can find the session, so that it is the first message.
        let _ = session.send(Down::Welcome(Welcome {
            protocol: PROTOCOL,
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            coordinator_time: Some(to_wire_time(now)),
            health_interval: Some(to_wire_duration(HEALTH_INTERVAL)),
            owner: String::new(),
        }));
        session.ping(0, shared.clock.now());
        let Admitted { session, replaced } = shared.roster.enter(session, facts, now);
        // Read after everybody can find the session, so that it misses no change.
        let checkpoints = shared.checkpoints.borrow().clone();
        let _ = session.send(Down::Checkpoints((*checkpoints).clone()));
        if let Some(old) = replaced {
            end_replaced(&old, &session);
        }
        info!(%host, session = session.number.0, addr = %session.addr, version = hello.agent_version, "agent connected");
        self.hub.tell(FleetEvent::Changed(host)).await;
        Ok((session, queue))
    }
}

/// Ends the session of a host that a newer one has taken the place of.
fn end_replaced(old: &Session, new: &Session) {
    let host = &old.host;
    let next = format!(
        "if this host is a clone of another, give it a name and a certificate of its own: rfs pki issue agent NAME; \
         the newer connection comes from {}",
        new.addr
    );
    old.close(Failure::new(Reason::HostBusy, format!("a newer connection speaks for {host}")).next(next));
    if old.instance == new.instance {
        info!(%host, "the agent connected again before its old connection was known to be gone");
    } else {
        warn!(%host, old = %old.addr, new = %new.addr,
            "another agent with the same certificate has connected: a restart, or two machines with one name");
    }
}

/// Checks what an agent says of itself. The name in its certificate is the one that counts.
fn check(host: &HostId, hello: &Hello) -> Result<Facts, Failure> {
    if hello.protocol != PROTOCOL {
        let message =
            format!("the agent speaks version {} of the link; version {PROTOCOL} is needed", hello.protocol);
        return Err(Failure::new(Reason::Unsupported, message));
    }
    if hello.host != host.as_str() {
        let message =
            format!("the certificate is that of {host}; the agent says that it is {:?}", hello.host);
        let next = format!(
            "set name = \"{host}\" under [host] in the agent's configuration, or issue another certificate"
        );
        return Err(Failure::new(Reason::PermissionDenied, message).next(next));
    }
    if hello.generation > NEWEST {
        let problem = format!("{} is above {NEWEST}, so no command could come after it", hello.generation);
        let next = format!(
            "no coordinator gave {host} that number: stop its agent, put a copy of its store aside, remove \
             journal.sqlite* from the store, and start it again"
        );
        return Err(Failure::invalid("hello.generation", problem).next(next));
    }
    let component = |(place, component): (usize, &v1::Component)| {
        let name: ComponentName = parse(&format!("hello.components[{place}].name"), &component.name)?;
        // A kind that only the agent knows is shown as it is.
        Ok(Component { name: name.to_string(), kind: component.kind.clone() })
    };
    let invalid = |error: FieldError| Failure::invalid(error.path, error.problem);
    let components =
        hello.components.iter().enumerate().map(component).collect::<Result<_, _>>().map_err(invalid)?;
    Ok(Facts {
        labels: labels("hello.labels", hello.labels.clone()).map_err(invalid)?,
        details: Details { agent_version: hello.agent_version.clone(), components },
        inconsistent: hello.inconsistent,
    })
}

/// A number that differs between hosts and stays the same for each.
fn spread(host: &HostId) -> u64 {
    fingerprint(host.as_str().bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(change: impl FnOnce(&mut Hello)) -> Result<Facts, String> {
        let mut hello = Hello { protocol: PROTOCOL, host: "web-1".into(), ..Default::default() };
        change(&mut hello);
        check(&HostId::new("web-1").expect("a name"), &hello).map_err(|failure| failure.message)
    }

    #[test]
    fn an_agent_speaks_for_the_host_in_its_certificate_alone() {
        assert!(hello(|_| {}).is_ok());
        let error = hello(|hello| hello.host = "web-2".into()).expect_err("another host");
        assert_eq!(error, "the certificate is that of web-1; the agent says that it is \"web-2\"");
    }

    #[test]
    fn what_an_agent_says_of_itself_is_checked() {
        let error = hello(|hello| hello.protocol = 2).expect_err("another version");
        assert_eq!(error, "the agent speaks version 2 of the link; version 1 is needed");
        let error =
            hello(|hello| drop(hello.labels.insert("role".into(), String::new()))).expect_err("no value");
        assert_eq!(error, "hello.labels[\"role\"]: keys and values must not be empty");
        hello(|hello| hello.generation = NEWEST).expect("there is room above it");
        for generation in [NEWEST + 1, i64::MAX as u64, u64::MAX] {
            let error = hello(|hello| hello.generation = generation).expect_err("no room");
            assert_eq!(
                error,
                format!(
                    "hello.generation: {generation} is above {NEWEST}, so no command could come after it"
                )
            );
        }
        let bad = v1::Component { name: "../x".into(), kind: "files".into() };
        let error = hello(|hello| hello.components.push(bad)).expect_err("no name");
        assert!(
            error.starts_with("hello.components[0].name: component name \"../x\" is not valid"),
            "{error}"
        );
    }

    #[test]
    fn agents_that_are_sent_away_come_back_spread_over_time() {
        let hosts = (0..100).filter_map(|n| HostId::new(&format!("web-{n}")).ok());
        let mut waits = [0; SPREAD as usize];
        hosts.for_each(|host| waits[(spread(&host) % SPREAD) as usize] += 1);
        assert!(waits.iter().all(|many| (3..=25).contains(many)), "{waits:?}");
    }
}
