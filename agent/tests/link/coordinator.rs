//! A coordinator that is played: real mutual TLS, and a session at a time in the hands of the test.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rfs_link::pki::{self, Authority, Existing, Order};
use rfs_link::server::{self, Limits};
use rfs_link::{Credentials, Failure, Identity, LiveCredentials, Peer, Target, incoming};
use rfs_model::time::SystemClock;
use rfs_proto::agentlink::v1 as link;
use rfs_proto::agentlink::v1::agent_link_server::{AgentLink, AgentLinkServer};
use rfs_proto::agentlink::v1::agent_message::Message as Up;
use rfs_proto::agentlink::v1::coordinator_message::Message as Down;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The bound for everything that a test waits for: past it, it hangs.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// An authority with a coordinator's and an agent's certificate.
pub(crate) struct Fleet {
    dir: tempfile::TempDir,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let domain = "fleet.test".parse().expect("a domain");
        pki::init(dir.path(), &domain, 10 * DAY, Existing::Keep, &SystemClock).expect("a root");
        Self { dir }
    }

    /// Issues a certificate, replacing the one that was there.
    pub(crate) fn issue(&self, identity: &Identity) -> Credentials {
        self.issue_for(identity, DAY)
    }

    /// The same, valid for so long.
    pub(crate) fn issue_for(&self, identity: &Identity, validity: Duration) -> Credentials {
        let names = match identity {
            Identity::Coordinator(_) => vec!["127.0.0.1".to_owned()],
            Identity::Agent(_) | Identity::Operator(_) => Vec::new(),
        };
        let file = |ending: &str| self.dir.path().join(format!("{}.{ending}", identity.name()));
        let credentials =
            Credentials { ca: self.dir.path().join("ca.pem"), certificate: file("pem"), key: file("key") };
        let order = Order { identity: identity.clone(), names, validity };
        let issued = Authority::open(self.dir.path()).expect("the root").issue(&order, &SystemClock);
        let issued = issued.expect("a certificate");
        issued.write(&credentials.certificate, &credentials.key, Existing::Replace).expect("both files");
        credentials
    }

    pub(crate) fn open(&self, identity: &Identity) -> Arc<LiveCredentials> {
        follow(self.issue(identity))
    }
}

/// Credentials as an agent has them while it runs.
pub(crate) fn follow(credentials: Credentials) -> Arc<LiveCredentials> {
    let live = LiveCredentials::open(credentials, Arc::new(SystemClock)).expect("usable");
    live.follow(CancellationToken::new());
    live
}

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn agent(name: &str) -> Identity {
    Identity::Agent(name.parse().expect("a valid name"))
}

/// The played coordinator.
pub(crate) struct Coordinator {
    pub(crate) addr: SocketAddr,
    sessions: mpsc::UnboundedReceiver<Session>,
    stop: CancellationToken,
    close: CancellationToken,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop.cancel();
        self.close.cancel();
    }
}

/// One session with an agent.
pub(crate) struct Session {
    pub(crate) peer: Peer,
    pub(crate) hello: link::Hello,
    pub(crate) up: Streaming<link::AgentMessage>,
    pub(crate) down: mpsc::Sender<Result<link::CoordinatorMessage, Status>>,
}

/// What the coordinator does with agents that connect.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// Refuses this many sessions first, with this failure.
    pub(crate) refuse: Arc<Mutex<Vec<Failure>>>,
    /// How often health is wanted.
    pub(crate) health_interval: Option<Duration>,
    /// The operation that owns the host, as it is told.
    pub(crate) owner: Arc<Mutex<String>>,
}

struct Service {
    sessions: mpsc::UnboundedSender<Session>,
    manner: Manner,
}

#[tonic::async_trait]
impl AgentLink for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<link::CoordinatorMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<link::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if let Some(failure) = self.manner.refuse.lock().expect("no panic").pop() {
            return Err(failure.into());
        }
        let peer = request.extensions().get::<Peer>().expect("a peer").clone();
        let mut up = request.into_inner();
        let first = up.message().await?.and_then(|message| message.message);
        let Some(Up::Hello(hello)) = first else {
            return Err(Status::invalid_argument("the first message is Hello"));
        };
        let (down, queue) = mpsc::channel(16);
        let interval = self.manner.health_interval.unwrap_or(Duration::from_secs(3600));
        let welcome = link::Welcome {
            protocol: 1,
            coordinator_version: "1.2.3".to_owned(),
            coordinator_time: None,
            health_interval: Some(rfs_proto::convert::to_wire_duration(interval)),
            owner: self.manner.owner.lock().expect("no panic").clone(),
        };
        down.send(Ok(message(Down::Welcome(welcome)))).await.expect("the queue is open");
        // A test that has ended waits for no session.
        let _ = self.sessions.send(Session { peer, hello, up, down });
        Ok(Response::new(Box::pin(ReceiverStream::new(queue).map(|message| message))))
    }
}

fn message(message: Down) -> link::CoordinatorMessage {
    link::CoordinatorMessage { message: Some(message) }
}

impl Coordinator {
    pub(crate) async fn start(fleet: &Fleet, manner: Manner) -> Self {
        Self::start_at(fleet, manner, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn start_at(fleet: &Fleet, manner: Manner, addr: SocketAddr) -> Self {
        let credentials = fleet.open(&Identity::Coordinator("main".parse().expect("a valid name")));
        let listener = TcpListener::bind(addr).await.expect("the port is free");
        let addr = listener.local_addr().expect("a bound port");
        let (sender, sessions) = mpsc::unbounded_channel();
        let limits = Limits::default();
        let (routes, _health) = server::standard(&[]).expect("valid descriptors");
        let service = AgentLinkServer::new(Service { sessions: sender, manner });
        let router = server::builder(&limits).add_routes(routes.add_service(service));
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let incoming = incoming::mutual_tls(listener, credentials, &limits, close.clone());
        let (stopped, closed) = (stop.clone(), close.clone());
        tokio::spawn(async move { server::serve(router, incoming, &limits, stopped, closed).await });
        Self { addr, sessions, stop, close }
    }

    pub(crate) fn target(&self) -> Target {
        Target::parse(&format!("https://{}", self.addr)).expect("a valid address")
    }

    /// Waits for an agent.
    pub(crate) async fn session(&mut self) -> Session {
        let session = tokio::time::timeout(SOON, self.sessions.recv()).await;
        session.expect("an agent connects in time").expect("the coordinator serves")
    }

    /// Whether an agent connects within `time`.
    pub(crate) async fn session_within(&mut self, time: Duration) -> Option<Session> {
        tokio::time::timeout(time, self.sessions.recv()).await.ok().flatten()
    }
}

impl Session {
    /// Says `message`.
    pub(crate) async fn say(&self, what: Down) {
        self.down.send(Ok(message(what))).await.expect("the session is open");
    }

    /// Waits for the next message that `pick` wants; others pass by.
    pub(crate) async fn next<T>(&mut self, pick: impl Fn(Up) -> Option<T>) -> T {
        let wanted = async {
            loop {
                let message =
                    self.up.message().await.expect("the session stands").expect("the session stands");
                if let Some(found) = message.message.and_then(&pick) {
                    return found;
                }
            }
        };
        tokio::time::timeout(SOON, wanted).await.expect("the message comes in time")
    }

    pub(crate) async fn report(&mut self) -> link::Report {
        self.next(|message| if let Up::Report(report) = message { Some(report) } else { None }).await
    }

    pub(crate) async fn health(&mut self) -> link::HealthReport {
        self.next(|message| if let Up::Health(health) = message { Some(health) } else { None }).await
    }

    /// Waits until the agent has heard everything that was said before.
    pub(crate) async fn heard(&mut self) {
        self.say(Down::Ping(link::Ping { nonce: 99 })).await;
        self.next(|message| if let Up::Pong(pong) = message { Some(pong.nonce) } else { None }).await;
    }
}
