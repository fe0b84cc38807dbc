//! The agent's side of the link, over real mutual TLS and a real unix socket, with a host that is played or real.

mod coordinator;
mod host;

mod local;
mod losses;
mod real;
mod run;
mod session;
mod truth;
