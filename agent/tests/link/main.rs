//! The agent's side of the link, over real mutual TLS and a real unix socket, with a host that is played.

mod coordinator;
mod host;

mod local;
mod run;
mod session;
