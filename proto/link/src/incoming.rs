//! Connections as a server takes them in: each with a proven peer, or not at all.
//!
//! Handshakes run beside the accept loop, bounded in number and in time, so that a peer that is slow or hostile
//! holds up nobody. On the unix socket the kernel says who connects; only root and the agent's own user may.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fs, io};

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::chain::Chain;
use crate::connections::{Guarded, Open, PeerRole};
use crate::identity::{CertificateFacts, IdentityError, Peer};
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
    let slots = Arc::new(Semaphore::new(limits.handshakes));
    loop {
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (listener.accept().await, slot)
            } => accepted,
        };
        let (tcp, addr) = match accepted.0 {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let (credentials, close, sender) = (credentials.clone(), close.child_token(), sender.clone());
        let (slot, timeout) = (accepted.1, limits.handshake_timeout);
        tokio::spawn(async move {
            let _slot = slot;
            match tokio::time::timeout(timeout, handshake(tcp, addr, &credentials, close)).await {
                Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                Ok(Err(error)) => warn!(%addr, error = %Chain(&error), "connection refused"),
                Err(_) => warn!(%addr, ?timeout, "connection refused: the handshake took too long"),
            }
        });
    }
}

/// Why a connection was not taken in.
#[derive(Debug, thiserror::Error)]
enum RefusedConnection {
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the certificate cannot be used")]
    Identity(#[source] IdentityError),
    #[error("{0} is no longer trusted")]
    NoLongerTrusted(crate::identity::Identity),
}

async fn handshake(
    tcp: TcpStream,
    addr: SocketAddr,
    credentials: &LiveCredentials,
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
                pause_after(&error).await;
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

async fn pause_after(error: &io::Error) {
    // Out of file descriptors, most likely: to try again at once would spin.
    warn!(%error, "cannot accept a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
