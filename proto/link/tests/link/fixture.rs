//! A small fleet on loopback: an authority, a server that notes its peers, and clients.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs_link::pki::{self, Authority, Existing, Order};
use rfs_link::server::{self, Limits};
use rfs_link::{
    Connection, Credentials, Identity, LinkError, LiveCredentials, Patience, Peer, Target, incoming,
};
use rfs_model::time::{SharedClock, SystemClock};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The bound within which a change of credentials is in use.
pub(crate) const IN_USE: Duration = Duration::from_secs(5);

/// An authority in a folder of its own.
pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
}

impl Fleet {
    pub(crate) fn new(trust_domain: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let domain = trust_domain.parse().expect("a valid domain");
        pki::init(dir.path(), &domain, 10 * DAY, Existing::Keep, &SystemClock).expect("a new root");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Issues a certificate into `NAME.pem` and `NAME.key`, replacing what is there.
    pub(crate) fn issue(&self, name: &str, identity: &Identity) -> Credentials {
        let names = match identity {
            Identity::Coordinator(_) => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            Identity::Agent(_) | Identity::Operator(_) => Vec::new(),
        };
        let order = Order { identity: identity.clone(), names, validity: DAY };
        let authority = Authority::open(self.dir.path()).expect("the authority");
        let credentials = self.credentials(name);
        let issued = authority.issue(&order, &SystemClock).expect("a certificate");
        issued.write(&credentials.certificate, &credentials.key, Existing::Replace).expect("both files");
        credentials
    }

    /// Where `issue` puts the files of `name`, with roots of its own that a test may change.
    pub(crate) fn credentials(&self, name: &str) -> Credentials {
        let ca = self.path(&format!("{name}.ca"));
        if !ca.exists() {
            std::fs::copy(self.ca(), &ca).expect("a copy of the root");
        }
        Credentials {
            ca,
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        }
    }

    /// Has the root sign what RFS itself would never issue.
    pub(crate) fn forge(&self, name: &str, edit: impl FnOnce(&mut rcgen::CertificateParams)) -> Credentials {
        let read = |name: &str| std::fs::read_to_string(self.path(name)).expect("the root's file");
        let key = rcgen::KeyPair::from_pem(&read("ca.key")).expect("the root's key");
        let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), key).expect("the root");
        let mut params = rcgen::CertificateParams::default();
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth, rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        edit(&mut params);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let credentials = self.credentials(name);
        std::fs::write(&credentials.certificate, certificate.pem()).expect("a file");
        write_key(&credentials.key, &key.serialize_pem());
        credentials
    }
}

/// Writes a key as it must be: closed to others.
pub(crate) fn write_key(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

pub(crate) fn agent(name: &str) -> Identity {
    Identity::Agent(name.parse().expect("a valid name"))
}

pub(crate) fn operator(name: &str) -> Identity {
    Identity::Operator(name.parse().expect("a valid name"))
}

pub(crate) fn coordinator() -> Identity {
    Identity::Coordinator("main".parse().expect("a valid name"))
}

pub(crate) fn uri(text: &str) -> rcgen::SanType {
    rcgen::SanType::URI(text.try_into().expect("ASCII"))
}

pub(crate) fn dns(text: &str) -> rcgen::SanType {
    rcgen::SanType::DnsName(text.try_into().expect("ASCII"))
}

pub(crate) fn open(credentials: Credentials) -> Arc<LiveCredentials> {
    open_at(credentials, Arc::new(SystemClock))
}

pub(crate) fn open_at(credentials: Credentials, clock: SharedClock) -> Arc<LiveCredentials> {
    let live = LiveCredentials::open(credentials, clock).expect("usable credentials");
    live.follow(CancellationToken::new());
    live
}

/// A coordinator's server that notes the peer of each call.
pub(crate) struct Serving {
    pub(crate) addr: SocketAddr,
    pub(crate) peers: mpsc::UnboundedReceiver<Peer>,
    pub(crate) stop: CancellationToken,
    pub(crate) credentials: Arc<LiveCredentials>,
    pub(crate) ended: tokio::task::JoinHandle<Result<(), server::ServeError>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn serve(credentials: Arc<LiveCredentials>, limits: Limits) -> Serving {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let addr = listener.local_addr().expect("a bound port");
    let (sender, peers) = mpsc::unbounded_channel();
    let note = tower::util::MapRequestLayer::new(move |request: http::Request<tonic::body::Body>| {
        let peer = request.extensions().get::<Peer>().expect("every request has a peer");
        // A test that does not look at its peers has dropped the receiver.
        let _ = sender.send(peer.clone());
        request
    });
    let (routes, _health) = server::standard(&[]).expect("valid descriptors");
    let router = server::builder(&limits).layer(note).add_routes(routes);
    let (stop, close) = (CancellationToken::new(), CancellationToken::new());
    let incoming = incoming::mutual_tls(listener, credentials.clone(), &limits, close.clone());
    let ended = tokio::spawn({
        let stop = stop.clone();
        async move { server::serve(router, incoming, &limits, stop, close).await }
    });
    Serving { addr, peers, stop, credentials, ended }
}

impl Serving {
    pub(crate) fn target(&self) -> Target {
        Target::parse(&format!("https://{}", self.addr)).expect("a valid address")
    }

    /// The peer of the next call.
    pub(crate) async fn peer(&mut self) -> Peer {
        let peer = tokio::time::timeout(IN_USE, self.peers.recv()).await;
        peer.expect("a call arrives in time").expect("the server runs")
    }
}

pub(crate) fn patience() -> Patience {
    Patience { connect: Duration::from_secs(5), ..Patience::default() }
}

/// Connects and makes one call, and returns why it failed as a person would read it.
pub(crate) async fn call(target: &Target, credentials: Arc<LiveCredentials>) -> Result<Connection, String> {
    let connection = Connection::open(target, credentials, &patience()).await;
    let connection = connection.map_err(|error| shown(&error))?;
    match check(&connection).await {
        Ok(_) => Ok(connection),
        Err(status) => Err(connection.failure(&status).to_string()),
    }
}

pub(crate) async fn check(connection: &Connection) -> Result<(), tonic::Status> {
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(connection.channel()).check(request).await.map(drop)
}

pub(crate) fn shown(error: &LinkError) -> String {
    error.failure().to_string()
}

/// Waits until `condition` holds, within `bound`.
pub(crate) async fn within<F: Future<Output = bool>>(
    bound: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn append(path: &Path, other: &Path) {
    let mut text = std::fs::read(path).expect("a file");
    text.extend(std::fs::read(other).expect("a file"));
    std::fs::write(path, text).expect("a file");
}
