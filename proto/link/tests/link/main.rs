//! The link over real sockets: handshakes, changing credentials, servers and the authority.

mod fixture;

mod handshake;
mod reload;
mod server;

mod pki;
