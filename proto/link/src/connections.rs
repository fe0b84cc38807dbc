//! The connections that are open, so that one can be closed when its peer is no longer trusted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::{fmt, io};

use rfs_model::Timestamp;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::identity::Identity;

/// Every open connection of one end.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, Open>,
    /// How many each peer has that connected to us: asked at each handshake, and a whole fleet may come back at once.
    of_peer: HashMap<Identity, usize>,
}

impl Inner {
    fn remove(&mut self, id: u64) {
        let Some(Open { identity, role: PeerRole::Client, .. }) = self.open.remove(&id) else { return };
        if let Entry::Occupied(mut count) = self.of_peer.entry(identity) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// An open connection: what its peer showed, and the way to close it.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) identity: Identity,
    pub(crate) not_after: Timestamp,
    pub(crate) role: PeerRole,
    pub(crate) close: CancellationToken,
}

/// Which end the peer is.
#[derive(Debug, Clone)]
pub(crate) enum PeerRole {
    Client,
    Server(ServerName<'static>),
}

impl Connections {
    /// Remembers `open` for as long as the returned value lives.
    pub(crate) fn add(self: &Arc<Self>, open: Open) -> Registered {
        let mut inner = self.lock();
        let id = inner.next;
        inner.next += 1;
        if let PeerRole::Client = open.role {
            *inner.of_peer.entry(open.identity.clone()).or_default() += 1;
        }
        inner.open.insert(id, open);
        Registered { id, connections: self.clone() }
    }

    /// The connections that are open now.
    pub(crate) fn snapshot(&self) -> Vec<Open> {
        self.lock().open.values().cloned().collect()
    }

    /// How many a peer has that connected to us.
    pub(crate) fn of(&self, identity: &Identity) -> usize {
        self.lock().of_peer.get(identity).copied().unwrap_or(0)
    }

    /// How many are open now.
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Closes those whose peer's certificate has expired, and returns who they were.
    pub(crate) fn close_expired(&self, now: Timestamp) -> Vec<Identity> {
        let inner = self.lock();
        let expired = inner.open.values().filter(|open| open.not_after < now && !open.close.is_cancelled());
        expired.map(|open| (open.close.cancel(), open.identity.clone()).1).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection in the registry.
pub(crate) struct Registered {
    id: u64,
    connections: Arc<Connections>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

type Observer = Box<dyn FnMut(&io::Error) + Send>;

/// A byte stream that ends when its token is cancelled, whatever is under way on it.
pub struct Guarded<S, I> {
    io: S,
    info: I,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    token: CancellationToken,
    on_error: Option<Observer>,
    _registered: Option<Registered>,
}

impl<S, I> Guarded<S, I> {
    pub(crate) fn new(io: S, info: I, token: CancellationToken, registered: Option<Registered>) -> Self {
        let closed = Box::pin(token.clone().cancelled_owned());
        Self { io, info, closed, token, on_error: None, _registered: registered }
    }

    /// Has `observe` called with each error of the stream.
    pub(crate) fn on_error(mut self, observe: impl FnMut(&io::Error) + Send + 'static) -> Self {
        self.on_error = Some(Box::new(observe));
        self
    }

    fn check<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let (Poll::Ready(Err(error)), Some(observe)) = (&result, &mut self.on_error) {
            observe(error);
        }
        result
    }
}

impl<S, I> fmt::Debug for Guarded<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("closed", &self.token.is_cancelled()).finish_non_exhaustive()
    }
}

impl<S, I: Clone + Send + Sync + 'static> Connected for Guarded<S, I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.info.clone()
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "this end closed the connection")
}

impl<S: AsyncRead + Unpin, I: Unpin> AsyncRead for Guarded<S, I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Polled, not only asked: a reader that waits is woken by the closing.
        if this.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(closed()));
        }
        let result = Pin::new(&mut this.io).poll_read(cx, buf);
        this.check(result)
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Guarded<S, I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.token.is_cancelled() {
            return Poll::Ready(Err(closed()));
        }
        let result = Pin::new(&mut this.io).poll_write(cx, buf);
        this.check(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.token.is_cancelled() {
            return Poll::Ready(Err(closed()));
        }
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.check(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_flush(cx);
        this.check(result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_of_a_peer_are_counted_until_they_are_gone() {
        let connections = Arc::<Connections>::default();
        let identity = Identity::Agent("web-1".parse().expect("a name"));
        let open = |role: PeerRole| Open {
            chain: Vec::new(),
            identity: identity.clone(),
            not_after: Timestamp(0),
            role,
            close: CancellationToken::new(),
        };
        let server = ServerName::try_from("localhost").expect("a name");
        let held = [PeerRole::Client, PeerRole::Client, PeerRole::Server(server)]
            .map(|role| connections.add(open(role)));
        assert_eq!((connections.of(&identity), connections.len()), (2, 3), "those that connected to us");
        drop(held);
        assert_eq!((connections.of(&identity), connections.len()), (0, 0));
        assert!(connections.lock().of_peer.is_empty());
    }
}
