//! A relay between an agent and the coordinator that can be held, cut and slowed down, as a network can.
//!
//! The agent dials the relay's port instead of the coordinator's. TLS goes through untouched, so both ends still see each
//! other's certificates, and the name on them is the same.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// They pass.
    Open,
    /// They pass, this much later.
    Slow(Duration),
    /// Connections stay, and nothing passes: a cable that was pulled. What was sent meanwhile passes when the link is open again.
    Held,
    /// Connections end, and new ones end at once.
    Cut,
}

/// A relay. Dropping it ends its connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    link: Link,
    open: Vec<TcpStream>,
    over: bool,
}

impl Relay {
    /// Relays from `address` to `to`.
    pub fn start(address: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the relay's port is free");
        let state = State { link: Link::Open, open: Vec::new(), over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if of_thread.with(|state| state.over) {
                    return;
                }
                of_thread.relay(client, to);
            }
        });
        Self { address, shared }
    }

    /// Makes the link so, from this moment on.
    pub fn set(&self, link: Link) {
        self.shared.with(|state| {
            state.link = link;
            if link == Link::Cut {
                state.end_all();
            }
        });
        self.shared.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.over = true;
            state.end_all();
        });
        self.shared.changed.notify_all();
        // Wakes the thread that accepts, so that it sees the end.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn end_all(&mut self) {
        for stream in self.open.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until bytes may pass, and says how much later; none when they never will.
    fn may_pass(&self) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match state.link {
                _ if state.over => return None,
                Link::Cut => return None,
                Link::Open => return Some(Duration::ZERO),
                Link::Slow(by) => return Some(by),
                Link::Held => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn relay(self: &Arc<Self>, client: TcpStream, to: SocketAddr) {
        if self.with(|state| state.link == Link::Cut) {
            return;
        }
        // Nobody listens there while the coordinator is down: the client's connection ends, as a refused one does.
        let Ok(server) = TcpStream::connect(to) else { return };
        let copies = || -> io::Result<_> {
            // Small messages at once, as on the direct way.
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            Ok((client.try_clone()?, server.try_clone()?, client.try_clone()?, server.try_clone()?))
        };
        let Ok((kept_client, kept_server, from_client, from_server)) = copies() else { return };
        self.with(|state| state.open.extend([kept_client, kept_server]));
        self.one_way(from_client, server);
        self.one_way(from_server, client);
    }

    /// Takes bytes from one end and gives them to the other, in two threads, so that what is on its way does not hold up
    /// what comes after it.
    fn one_way(self: &Arc<Self>, from: TcpStream, to: TcpStream) {
        let (sender, receiver) = channel();
        thread::spawn(move || take(from, &sender));
        let shared = self.clone();
        thread::spawn(move || shared.give(&receiver, to));
    }

    fn give(&self, chunks: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
        for (taken, chunk) in chunks {
            let Some(by) = self.may_pass() else { break };
            thread::sleep((taken + by).saturating_duration_since(Instant::now()));
            if to.write_all(&chunk).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}

fn take(mut from: TcpStream, chunks: &Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if chunks.send((Instant::now(), buffer[..read].to_vec())).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
}
