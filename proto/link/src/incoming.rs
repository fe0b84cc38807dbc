//! Connections as a server takes them in: each with a proven peer, or not at all.
//!
//! Handshakes run beside the accept loop, bounded in number, for each address, and in time, so that a peer that is slow or
//! hostile holds up nobody; what is refused is told in a few lines. On the unix socket the kernel says who connects; only root and the agent's own user may.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fs, io};

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::chain::Chain;
use crate::connections::{Guarded, Open, PeerRole};
use crate::crowd::{Crowd, Place, Quota};
use crate::identity::{CertificateFacts, Identity, IdentityError, Peer};
use crate::reload::LiveCredentials;
use crate::server::Limits;

/// A connection over mutual TLS.
pub type PeerStream = Guarded<TlsStream<TcpStream>, Peer>;

/// A connection over the unix socket.
pub type LocalStream = Guarded<UnixStream, LocalPeer>;

/// Who is at the other end of a unix socket, as the kernel says. A server finds it in `Request::extensions()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPeer {
    /// The user.
    pub uid: u32,
    /// The process, where the kernel tells it.
    pub pid: Option<i32>,
}

/// Connections with a proven peer. Dropping it stops the accept loop and closes the listener.
#[derive(Debug)]
pub struct Incoming<S>(mpsc::Receiver<io::Result<S>>);

impl<S> Stream for Incoming<S> {
    type Item = io::Result<S>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// Takes in mutual TLS connections on `listener`. All of them end when `close` is cancelled.
pub fn mutual_tls(
    listener: TcpListener,
    credentials: Arc<LiveCredentials>,
    limits: &Limits,
    close: CancellationToken,
) -> Incoming<PeerStream> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(accept_tls(listener, credentials, limits.clone(), close, sender));
    Incoming(receiver)
}

async fn accept_tls(
    listener: TcpListener,
    credentials: Arc<LiveCredentials>,
    limits: Limits,
    close: CancellationToken,
    sender: mpsc::Sender<io::Result<PeerStream>>,
) {
    let door = Arc::new(Door {
        crowd: Crowd::new(limits.unproven, limits.unproven_of_one_address),
        quota: Quota::new(),
        credentials,
        limits,
    });
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let (tcp, addr) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                door.pause_after(&error).await;
                continue;
            }
        };
        let Some(place) = door.crowd.admit(addr.ip()) else {
            door.refused(addr, &RefusedConnection::TooManyUnproven);
            continue;
        };
        let (door, close, sender) = (door.clone(), close.child_token(), sender.clone());
        tokio::spawn(async move {
            match door.take_in(tcp, addr, &place, close).await {
                Ok(stream) => {
                    drop(place);
                    drop(sender.send(Ok(stream)).await);
                }
                Err(error) => door.refused(addr, &error),
            }
        });
    }
}

/// What decides whether a connection comes in.
struct Door {
    crowd: Arc<Crowd>,
    quota: Quota,
    credentials: Arc<LiveCredentials>,
    limits: Limits,
}

impl Door {
    async fn take_in(
        &self,
        tcp: TcpStream,
        addr: SocketAddr,
        place: &Place,
        close: CancellationToken,
    ) -> Result<PeerStream, RefusedConnection> {
        let timeout = self.limits.handshake_timeout;
        let handshake = async {
            // Who has nothing to say costs a descriptor, and no longer than this.
            let mut byte = [0];
            let first = tokio::time::timeout(self.limits.first_byte, tcp.peek(&mut byte));
            first.await.map_err(|_| RefusedConnection::Silent)?.map_err(RefusedConnection::Handshake)?;
            place.spoke();
            handshake(tcp, addr, &self.credentials, &self.limits, close).await
        };
        tokio::select! {
            () = place.taken() => Err(RefusedConnection::TooManyUnproven),
            shaken = tokio::time::timeout(timeout, handshake) => shaken.unwrap_or(Err(RefusedConnection::Slow)),
        }
    }

    /// Says so, unless too much was said lately.
    fn refused(&self, addr: SocketAddr, error: &RefusedConnection) {
        if let Some(unsaid) = self.quota.line() {
            warn!(%addr, error = %Chain(error), unsaid, "connection refused");
        }
    }

    async fn pause_after(&self, error: &io::Error) {
        if let Some(unsaid) = self.quota.line() {
            warn!(%error, unsaid, "cannot accept a connection");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why a connection was not taken in.
#[derive(Debug, thiserror::Error)]
enum RefusedConnection {
    #[error("too many connections have not proven who they are")]
    TooManyUnproven,
    #[error("it says nothing")]
    Silent,
    #[error("the handshake took too long")]
    Slow,
    #[error("{0} connections are open, and this process may have no more open files for others")]
    Full(usize),
    #[error("{0} has too many connections already")]
    TooManyOfOne(Identity),
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the certificate cannot be used")]
    Identity(#[source] IdentityError),
    #[error("{0} is no longer trusted")]
    NoLongerTrusted(Identity),
}

async fn handshake(
    tcp: TcpStream,
    addr: SocketAddr,
    credentials: &LiveCredentials,
    limits: &Limits,
    close: CancellationToken,
) -> Result<PeerStream, RefusedConnection> {
    let material = credentials.material();
    tcp.set_nodelay(true).map_err(RefusedConnection::Handshake)?;
    let tls = TlsAcceptor::from(material.server.clone());
    let tls = tls.accept(tcp).await.map_err(RefusedConnection::Handshake)?;

    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let leaf = chain.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
    let facts = CertificateFacts::from_der(leaf).map_err(RefusedConnection::Identity)?;
    let peer = Peer { identity: facts.id.identity, serial: facts.serial, not_after: facts.not_after, addr };
    let most = match peer.identity {
        Identity::Agent(_) => limits.agents(),
        Identity::Operator(_) | Identity::Coordinator(_) => limits.connections,
    };
    if credentials.connections.len() >= most {
        return Err(RefusedConnection::Full(most));
    }
    if credentials.connections.of(&peer.identity) >= limits.connections_of_one_identity {
        return Err(RefusedConnection::TooManyOfOne(peer.identity));
    }
    let open = Open {
        chain,
        identity: peer.identity.clone(),
        not_after: peer.not_after,
        role: PeerRole::Client,
        close: close.clone(),
    };
    let Some(registered) = credentials.register(open, &material) else {
        return Err(RefusedConnection::NoLongerTrusted(peer.identity));
    };
    debug!(peer = %peer.identity, %addr, "connected");
    Ok(Guarded::new(tls, peer, close, Some(registered)))
}

/// A unix socket that is bound: its file is made anew, closed to others, and removed at the end.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nothing is lost if it stays: the next start replaces it.
        let _ = fs::remove_file(&self.0);
    }
}

impl LocalSocket {
    /// Binds `path`. A file that an earlier process left there is replaced; the caller holds a lock that shows that
    /// no other process serves it.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if !is_socket(&found) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "a file that is no socket is there",
                ));
            }
            Ok(_) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, file })
    }
}

fn is_socket(found: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    found.file_type().is_socket()
}

/// Takes in connections of root and of this process's own user. All of them end when `close` is cancelled.
pub fn local(socket: LocalSocket, close: CancellationToken) -> Incoming<LocalStream> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(accept_local(socket, close, sender));
    Incoming(receiver)
}

async fn accept_local(
    socket: LocalSocket,
    close: CancellationToken,
    sender: mpsc::Sender<io::Result<LocalStream>>,
) {
    let LocalSocket { listener, file: _file } = socket;
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a local connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == own_uid() => {
                let peer = LocalPeer { uid: peer.uid(), pid: peer.pid() };
                if sender.send(Ok(Guarded::new(stream, peer, close.child_token(), None))).await.is_err() {
                    return;
                }
            }
            Ok(peer) => {
                warn!(uid = peer.uid(), "local connection refused: only root and the agent's user may")
            }
            Err(error) => warn!(%error, "local connection refused: the kernel does not say who it is"),
        }
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Out of file descriptors, most likely: to try again at once would spin.
const PAUSE: Duration = Duration::from_millis(100);
