//! Where agents come in: who they are is proven, what they say is checked, and not all come in at once.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::stream::Stream;
use rfs_link::{Failure, Identity, Peer};
use rfs_model::{ComponentName, Generation, HostId, Reason, SnapshotId};
use rfs_proto::agentlink::v1::agent_link_server::{AgentLink, AgentLinkServer};
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use rfs_proto::agentlink::v1::{AgentMessage, CoordinatorMessage, Hello, Welcome};
use rfs_proto::bounds;
use rfs_proto::convert::{
    FieldError, from_wire_time, labels, optional_snapshot_id, parse, to_wire_duration, to_wire_time,
};
use rfs_proto::v1;
use tokio::sync::SemaphorePermit;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info, warn};

use super::machines::Claim;
use super::roster::{Admitted, Component, Details, Entering, Facts, Name};
use super::session::{Introduction, Queue, Session, downward, listen};
use super::{HEALTH_INTERVAL, Hub, fleet};
use crate::api::{fingerprint, store_failure};
use crate::driver::fleet::FleetEvent;
use crate::store::StoreError;

/// The version of the agent link that this coordinator speaks.
pub(super) const PROTOCOL: u32 = 1;

/// The newest generation that a host can have accepted: far more than any coordinator gives in its life, and far below what a
/// store can keep, so that there is always room above it.
const NEWEST: u64 = 1 << 53;

/// How long an agent waits at the door before it is sent away to try later.
const QUEUING: Duration = Duration::from_secs(5);
/// When a host comes again that has shown that the store was put back.
const REWOUND_AGAIN: Duration = Duration::from_secs(2);
/// How long an agent may take to say its hello.
const HELLO: Duration = Duration::from_secs(10);
/// How much of a start's id is kept.
const START_ID: usize = 64;
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
        let (mut facts, introduction) = check(&host, &hello, peer)?;
        let _locked = shared.names.lock(&host).await;
        let Name { machines, starts, recorded, .. } = self.hub.admit(&host, &introduction.claim).await?;
        // Nobody puts a store back while it is open, so what a host shows once is all that it can show: one that makes things up
        // must not hold the fleet up again and again.
        if let Some(text) = self.rewound(&host, &hello, introduction.snapshot, recorded).await?
            && shared.rewound.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone())
        {
            error!(%host, "{text}; every operation that runs is told");
            self.hub.tell(FleetEvent::StoreRewound(text.clone())).await;
            // What it has accepted is recorded when it comes again: had we ended before operations have stored that they
            // pause, nothing would show that they must.
            return Err(Failure::new(Reason::StoreRewound, text).retry_after(REWOUND_AGAIN));
        }
        // What a machine says that no person has accepted takes the host out of no selection.
        if machines.replaced_at.is_some()
            && let Some(before) = shared.roster.facts(&host)
        {
            facts.labels.extend(before.labels);
        }
        let (now, accepted) = (shared.clock.now(), introduction.accepted);
        let seen = fleet::seen(&host, &facts, accepted, Some(machines.clone()), now);
        let owner = shared.register.write(seen).await?;

        let number = shared.roster.next_number();
        let (session, queue) = Session::new(number, peer.addr, host.clone(), introduction, now);
        // Queued before anybody can find the session, so that it is the first message.
        let _ = session.send(Down::Welcome(Welcome {
            protocol: PROTOCOL,
            coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
            coordinator_time: Some(to_wire_time(now)),
            health_interval: Some(to_wire_duration(HEALTH_INTERVAL)),
            owner: owner.map(|owner| owner.to_string()).unwrap_or_default(),
        }));
        session.ping(0, shared.clock.now());
        let entering = Entering { facts, machines, starts, recorded: accepted };
        let Admitted { session, replaced } = shared.roster.enter(session, entering, now);
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

    /// Says how a hello shows that the store was put back to an older copy, if it does: what a host has accepted was given by
    /// this store, and so was what it is at work on. Must be asked before the host's generation is recorded.
    async fn rewound(
        &self,
        host: &HostId,
        hello: &Hello,
        snapshot: Option<SnapshotId>,
        recorded: Option<Generation>,
    ) -> Result<Option<String>, Failure> {
        // Of a host that is new here nothing was ever given.
        let Some(recorded) = recorded else { return Ok(None) };
        let (store, accepted) = (&self.hub.shared.store, Generation(hello.generation));
        let failed = |error: &StoreError| store_failure(error);
        let at = snapshot.map_or_else(
            || "was brought to no snapshot yet".to_owned(),
            |snapshot| format!("was last brought to snapshot {}", snapshot.0.short()),
        );
        // What is recorded only grows, so the store need not be asked for most hosts.
        if accepted > recorded {
            let given = store.host(host).await.map_err(|error| failed(&error))?.map(|row| row.generation);
            if let Some(given) = given.filter(|given| accepted > *given) {
                return Ok(Some(format!(
                    "{host} has accepted generation {accepted}, and the coordinator's store has given it none above {given}: \
                     the store was put back to an older copy; {host} {at}"
                )));
            }
        }
        let at_work = hello.in_flight.as_ref().and_then(|key| parse("in_flight", &key.operation_id).ok());
        let Some(operation) = at_work else { return Ok(None) };
        let is_known = store.knows(operation).await.map_err(|error| failed(&error))?;
        Ok((!is_known).then(|| {
            format!(
                "{host} is at work on operation {operation}, which the coordinator's store does not know: \
                 the store was put back to an older copy; {host} {at}"
            )
        }))
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
    if old.claim.instance == new.claim.instance {
        info!(%host, "the agent connected again before its old connection was known to be gone");
    } else {
        warn!(%host, old = %old.addr, new = %new.addr, "the connection of the machine that was replaced is ended");
    }
}

/// Checks what an agent says of itself. The name in its certificate is the one that counts.
fn check(host: &HostId, hello: &Hello, peer: &Peer) -> Result<(Facts, Introduction), Failure> {
    bounds::hello(hello).map_err(|error| Failure::invalid(error.path, error.problem))?;
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
        let problem = format!("{} is more than any coordinator gives", hello.generation);
        let next = "stop its agent, put a copy of its store aside, remove journal.sqlite* from the store, and start it \
                    again";
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
    let facts = Facts {
        labels: labels("hello.labels", hello.labels.clone()).map_err(invalid)?,
        details: Details { agent_version: hello.agent_version.clone(), components },
        inconsistent: hello.inconsistent,
    };
    if hello.start_id.is_empty() {
        return Err(Failure::invalid(
            "hello.start_id",
            "it is empty; two machines with one store are told apart by it",
        ));
    }
    let claim = Claim {
        instance: parse("hello.instance_id", &hello.instance_id).map_err(invalid)?,
        start: hello.start_id.chars().take(START_ID).collect(),
        address: peer.addr.ip().to_string(),
    };
    let introduction = Introduction {
        claim,
        accepted: Generation(hello.generation),
        snapshot: optional_snapshot_id("hello.snapshot", &hello.snapshot).map_err(invalid)?,
        agent_time: hello.agent_time.map(from_wire_time),
        certificate_end: peer.not_after,
    };
    Ok((facts, introduction))
}

/// A number that differs between hosts and stays the same for each.
fn spread(host: &HostId) -> u64 {
    fingerprint(host.as_str().bytes())
}

#[cfg(test)]
mod tests {
    use rfs_model::{Clock as _, OperationId, Timestamp};
    use rfs_proto::agentlink::v1::CommandKey;
    use rfs_rollout::GENERATIONS;

    use super::super::bed::{Opened, open};
    use super::super::wheel::Wheel;
    use super::*;
    use crate::store::suite::{append, event, hosts, new, operation};
    use crate::store::{Append, Store as _};

    fn hello(change: impl FnOnce(&mut Hello)) -> Result<Facts, String> {
        let host = HostId::new("web-1").expect("a name");
        let mut hello = Hello {
            protocol: PROTOCOL,
            host: "web-1".into(),
            start_id: "1".into(),
            instance_id: "0193b5a0-0000-7000-8000-000000000001".into(),
            ..Default::default()
        };
        change(&mut hello);
        let identity = Identity::Agent(host.clone());
        let peer =
            Peer { identity, serial: "1".into(), not_after: Timestamp(0), addr: ([127, 0, 0, 1], 1).into() };
        check(&host, &hello, &peer).map(|(facts, _)| facts).map_err(|failure| failure.message)
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
        let error = hello(|hello| hello.start_id.clear()).expect_err("no start");
        assert_eq!(error, "hello.start_id: it is empty; two machines with one store are told apart by it");
        hello(|hello| hello.generation = NEWEST).expect("there is room above it");
        for generation in [NEWEST + 1, i64::MAX as u64] {
            let error = hello(|hello| hello.generation = generation).expect_err("no room");
            assert_eq!(error, format!("hello.generation: {generation} is more than any coordinator gives"));
        }
        let error = hello(|hello| hello.instance_id = "web".into()).expect_err("no id");
        assert_eq!(error, "hello.instance_id: \"web\" is not an instance id: a UUID is needed");
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

    /// A store's file, which can be put back to a copy, and hubs that open it one after the other.
    struct Bed {
        folder: tempfile::TempDir,
    }

    /// One hub, and the sessions that it holds.
    struct Hall {
        opened: Opened,
        sessions: Vec<(Arc<Session>, Queue)>,
    }

    impl Bed {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a temporary folder") }
        }

        async fn open(&self) -> Hall {
            Hall { opened: open(&self.folder).await, sessions: Vec::new() }
        }
    }

    impl Hall {
        async fn says_hello(&mut self, generation: u64, in_flight: Option<OperationId>) -> Vec<String> {
            let key = |id: OperationId| CommandKey { operation_id: id.to_string(), ..Default::default() };
            self.says(|hello| {
                (hello.generation, hello.in_flight) = (generation, in_flight.map(key));
                hello.snapshot = "ab".repeat(32);
            })
            .await
        }

        async fn says(&mut self, change: impl FnOnce(&mut Hello)) -> Vec<String> {
            let host = HostId::new("web-1").expect("a name");
            let identity = Identity::Agent(host.clone());
            let addr = ([127, 0, 0, 1], 1).into();
            let peer = Peer { identity, serial: "1".into(), not_after: Timestamp(0), addr };
            let mut hello = Hello {
                protocol: PROTOCOL,
                host: "web-1".into(),
                instance_id: "0193b5a0-0000-7000-8000-000000000001".into(),
                start_id: "1".into(),
                ..Default::default()
            };
            change(&mut hello);
            let refused = match self.opened.hub.door().enter(&peer, host, hello).await {
                // A session without an end is one that goes on.
                Ok(entered) => {
                    self.sessions.push(entered);
                    None
                }
                Err(failure) => Some(failure.reason.to_string()),
            };
            let mut told = Vec::new();
            while let Ok(event) = self.opened.events.try_recv() {
                told.push(match event {
                    FleetEvent::StoreRewound(text) => text,
                    FleetEvent::Changed(host) => format!("look at {host}"),
                    FleetEvent::Report { .. } | FleetEvent::Progress(_) => "something else".to_owned(),
                });
            }
            told.extend(refused);
            told
        }

        async fn begins(&self, n: u128) {
            self.opened.store.create(new(n, "web-1")).await.expect("a creation");
        }

        async fn closes(self) {
            self.opened.store.close().await;
        }
    }

    #[tokio::test]
    async fn a_machine_that_nobody_has_accepted_takes_the_host_out_of_no_selection() {
        let bed = Bed::new();
        let mut hall = bed.open().await;
        let label = |hello: &mut Hello, key: &str, value: &str| {
            hello.labels.insert(key.into(), value.into());
        };
        assert_eq!(hall.says(|hello| label(hello, "role", "web")).await, ["look at web-1"]);
        let (session, _) = hall.sessions.pop().expect("it is let in");
        assert!(hall.opened.hub.shared.roster.leave(&session, hall.opened.clock.now()));
        let labels = |hall: &Hall| {
            let host = HostId::new("web-1").expect("a name");
            hall.opened.hub.shared.roster.facts(&host).expect("it was seen").labels
        };
        let other = |hello: &mut Hello| {
            hello.instance_id = "0193b5a0-0000-7000-8000-000000000002".into();
            hello.labels = [("role".into(), "db".into()), ("zone".into(), "a".into())].into();
        };
        assert_eq!(hall.says(other).await, ["HOST_BUSY"], "the first may be back in a moment");
        hall.opened.clock.advance(Duration::from_secs(11));
        assert_eq!(hall.says(other).await, ["HOST_BUSY"], "nobody was heard meanwhile");
        let mut wheel = Wheel::new(hall.opened.clock.now());
        for _ in 0..11 {
            hall.opened.clock.advance(Duration::from_secs(1));
            wheel.turn(&hall.opened.hub).await;
        }
        assert_eq!(hall.says(other).await, ["look at web-1"]);
        assert_eq!(labels(&hall), [("role".into(), "web".into()), ("zone".into(), "a".into())].into());

        let host = HostId::new("web-1").expect("a name");
        let instance = "0193b5a0-0000-7000-8000-000000000002".parse().expect("an id");
        hall.opened.hub.accept(&host, instance, "operator/alice").await.expect("it has spoken");
        hall.says(other).await;
        assert_eq!(labels(&hall)["role"], "db", "a person has said that it speaks for the host");
    }

    #[tokio::test]
    async fn a_store_that_was_put_back_is_found_out_before_the_host_that_shows_it_is_seen() {
        let bed = Bed::new();
        let file = bed.folder.path().join("c.db");
        let mut hall = bed.open().await;
        assert_eq!(hall.says_hello(90, None).await, ["look at web-1"], "a host that is new here");
        hall.begins(1).await;
        assert_eq!(hall.says_hello(90 + GENERATIONS, None).await, ["look at web-1"], "as it was given");
        hall.closes().await;
        let copy = std::fs::read(&file).expect("the store");

        let mut hall = bed.open().await;
        hall.opened
            .store
            .append(Append { release: hosts("web-1"), ..append(1, 1, vec![event(1)]) })
            .await
            .expect("over");
        hall.begins(2).await;
        assert_eq!(
            hall.says_hello(90 + 2 * GENERATIONS, Some(operation(2))).await,
            ["look at web-1"],
            "what this store gave is nothing strange, whenever it is heard of"
        );
        hall.closes().await;
        for log in ["c.db-wal", "c.db-shm"] {
            let _ = std::fs::remove_file(bed.folder.path().join(log));
        }
        std::fs::write(&file, copy).expect("put back");

        let mut hall = bed.open().await;
        let told = hall.says_hello(90 + 2 * GENERATIONS, Some(operation(2))).await;
        let expected = "web-1 has accepted generation 98, and the coordinator's store has given it none above 94: \
                        the store was put back to an older copy; web-1 was last brought to snapshot abababababab";
        assert_eq!(told, [expected, "STORE_REWOUND"], "told before it is recorded");
        let told = hall.says_hello(90 + 2 * GENERATIONS, Some(operation(2))).await;
        assert_eq!(told, ["look at web-1"], "it comes again");
        assert_eq!(hall.says_hello(98, Some(operation(2))).await, ["look at web-1"], "it has been heard");
        assert_eq!(hall.says_hello(98, Some(operation(1))).await, ["look at web-1"], "that one is known");
        hall.opened.store.delete(operation(1), Timestamp(1)).await.expect("a write");
        assert_eq!(hall.says_hello(98, Some(operation(1))).await, ["look at web-1"], "deleted, but known");
    }
}
