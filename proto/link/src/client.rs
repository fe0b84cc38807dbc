//! Dialling a coordinator, or an agent's unix socket, with a reason when it fails.
//!
//! A gRPC library hides why a connection failed behind "transport error". Here the connector and the byte stream
//! remember the first fault, and [`Connection::failure`] turns a status that only says "transport" into it.
//! With TLS 1.3 a server refuses a client's certificate after the client's handshake has ended, so that refusal,
//! too, arrives with the first call.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::chain::find;
use crate::connections::{Guarded, Open, PeerRole};
use crate::failure::Failure;
use crate::identity::{CertificateFacts, Identity};
use crate::link_error::LinkError;
use crate::reload::LiveCredentials;

/// Where a coordinator is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

/// Text that is no address of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address of a coordinator: {rule}")]
pub struct TargetError {
    text: String,
    rule: &'static str,
}

impl Target {
    /// Reads `https://HOST:PORT`; without a port, 7443 is meant.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let error = |rule| TargetError { text: text.chars().take(200).collect(), rule };
        let uri: Uri = text.parse().map_err(|_| error("write https://HOST:PORT"))?;
        if uri.scheme_str() != Some("https") {
            return Err(error("it starts with https://"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(error("nothing follows the port"));
        }
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| error("write https://HOST:PORT"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| error("the host is no valid name"))?;
        Ok(Self { port: uri.port_u16().unwrap_or(DEFAULT_PORT), name, host })
    }

    /// Has the certificate checked for `name` instead of the host in the address.
    pub fn with_server_name(mut self, name: &str) -> Result<Self, TargetError> {
        self.name = ServerName::try_from(name.to_owned())
            .map_err(|_| TargetError { text: name.to_owned(), rule: "the server name is no valid name" })?;
        Ok(self)
    }
}

/// The port of a coordinator.
pub const DEFAULT_PORT: u16 = 7443;

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ipv6 = self.host.contains(':');
        let (open, close) = if ipv6 { ("[", "]") } else { ("", "") };
        write!(f, "https://{open}{}{close}:{}", self.host, self.port)
    }
}

/// How a client waits.
#[derive(Debug, Clone)]
pub struct Patience {
    /// How long a connection may take, with its handshake.
    pub connect: Duration,
    /// How often an idle connection is asked for a sign of life.
    pub keepalive: Duration,
    /// How long the answer may take before the connection counts as dead.
    pub keepalive_timeout: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            keepalive: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

/// A connection to a coordinator. A channel of it connects again by itself, with the newest credentials.
#[derive(Debug, Clone)]
pub struct Connection {
    target: String,
    channel: Channel,
    faults: Faults,
    close: CancellationToken,
}

impl Connection {
    /// Connects to `target` and proves that a coordinator of this fleet is there.
    pub async fn open(
        target: &Target,
        credentials: Arc<LiveCredentials>,
        patience: &Patience,
    ) -> Result<Self, LinkError> {
        let (faults, close) = (Faults::default(), CancellationToken::new());
        let dial = Dial {
            target: target.clone(),
            credentials,
            timeout: patience.connect,
            faults: faults.clone(),
            close: close.clone(),
        };
        let connector = tower::service_fn(move |_: Uri| {
            let dial = dial.clone();
            async move { dial.connect().await.map(TokioIo::new) }
        });
        // The scheme is that of the inner protocol: the connector does the TLS.
        let endpoint = endpoint(&format!("http://{}", authority(target)), patience);
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| {
            find::<LinkError>(&error).cloned().unwrap_or_else(|| LinkError::other(target, &error))
        })?;
        Ok(Self { target: target.to_string(), channel, faults, close })
    }

    /// Connects to an agent's unix socket.
    pub async fn open_local(path: &Path, patience: &Patience) -> Result<Self, LinkError> {
        let (faults, close) = (Faults::default(), CancellationToken::new());
        let target = format!("unix:{}", path.display());
        let dial = DialLocal {
            path: path.to_owned(),
            timeout: patience.connect,
            faults: faults.clone(),
            close: close.clone(),
        };
        let connector = tower::service_fn(move |_: Uri| {
            let dial = dial.clone();
            async move { dial.connect().await.map(TokioIo::new) }
        });
        let channel = endpoint("http://localhost", patience).connect_with_connector(connector).await;
        let channel = channel.map_err(|error| {
            find::<LinkError>(&error).cloned().unwrap_or_else(|| LinkError::other(&target, &error))
        })?;
        Ok(Self { target, channel, faults, close })
    }

    /// What generated clients are made of.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Ends the connection at once, with all calls on it.
    pub fn close(&self) {
        self.close.cancel();
    }

    /// What `status` means. If it only says that the transport failed, the reason for that is found.
    pub fn failure(&self, status: &tonic::Status) -> Failure {
        use tonic_types::StatusExt as _;
        let answered = !status.details().is_empty() && status.get_details_error_info().is_some();
        let transport = std::error::Error::source(status).is_some();
        if answered || !transport {
            return Failure::from_status(status);
        }
        match self.faults.last() {
            Some(fault) => fault.failure(),
            None => LinkError::other(&self.target, status).failure(),
        }
    }
}

fn authority(target: &Target) -> String {
    target.to_string().trim_start_matches("https://").to_owned()
}

fn endpoint(uri: &str, patience: &Patience) -> Endpoint {
    Endpoint::from_shared(uri.to_owned())
        .unwrap_or_else(|_| Endpoint::from_static("http://localhost"))
        .http2_keep_alive_interval(patience.keepalive)
        .keep_alive_timeout(patience.keepalive_timeout)
        .keep_alive_while_idle(true)
}

/// The newest fault of a connection, shared with its connector and its streams.
#[derive(Debug, Clone, Default)]
struct Faults(Arc<Mutex<Option<LinkError>>>);

impl Faults {
    fn last(&self) -> Option<LinkError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, fault: LinkError) -> LinkError {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.clone());
        fault
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[derive(Clone)]
struct Dial {
    target: Target,
    credentials: Arc<LiveCredentials>,
    timeout: Duration,
    faults: Faults,
    close: CancellationToken,
}

impl Dial {
    async fn connect(
        self,
    ) -> Result<Guarded<tokio_rustls::client::TlsStream<TcpStream>, Identity>, LinkError> {
        let faults = self.faults.clone();
        let timeout = self.timeout;
        let late = LinkError::Timeout { target: self.target.to_string(), after: timeout };
        match tokio::time::timeout(timeout, self.handshake()).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(faults.set(error)),
            Err(_) => Err(faults.set(late)),
        }
    }

    async fn handshake(
        self,
    ) -> Result<Guarded<tokio_rustls::client::TlsStream<TcpStream>, Identity>, LinkError> {
        let target = self.target.to_string();
        let unreachable = |error| LinkError::from_io(&target, error);
        let tcp =
            TcpStream::connect((self.target.host.as_str(), self.target.port)).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let material = self.credentials.material();
        let tls = TlsConnector::from(material.client.clone());
        let tls = tls.connect(self.target.name.clone(), tcp).await.map_err(unreachable)?;

        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let leaf = chain.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
        let facts = CertificateFacts::from_der(leaf)
            .map_err(|source| LinkError::Untrusted { target: target.clone(), source: Arc::new(source) })?;
        let close = self.close.child_token();
        let open = Open {
            chain,
            identity: facts.id.identity.clone(),
            not_after: facts.not_after,
            role: PeerRole::Server(self.target.name.clone()),
            close: close.clone(),
        };
        let Some(registered) = self.credentials.register(open, &material) else {
            return Err(LinkError::Closed { target });
        };
        self.faults.clear();
        let faults = self.faults.clone();
        let stream = Guarded::new(tls, facts.id.identity, close, Some(registered));
        Ok(stream.on_error(move |error| drop(faults.set(LinkError::from_shared_io(&target, error)))))
    }
}

#[derive(Clone)]
struct DialLocal {
    path: PathBuf,
    timeout: Duration,
    faults: Faults,
    close: CancellationToken,
}

impl DialLocal {
    async fn connect(self) -> Result<Guarded<UnixStream, ()>, LinkError> {
        let target = format!("unix:{}", self.path.display());
        let late = LinkError::Timeout { target: target.clone(), after: self.timeout };
        match tokio::time::timeout(self.timeout, UnixStream::connect(&self.path)).await {
            Ok(Ok(stream)) => Ok(Guarded::new(stream, (), self.close.child_token(), None)),
            Ok(Err(error)) => Err(self.faults.set(LinkError::from_io(&target, error))),
            Err(_) => Err(self.faults.set(late)),
        }
    }
}
