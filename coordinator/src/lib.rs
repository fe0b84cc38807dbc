//! The coordinator: it drives checkpoints and rollbacks over a fleet, and is the command line that asks for them.
//!
//! ```text
//!  people, deploy tools, grpcurl ──mTLS──▶ api (authz: the one table of roles)
//!                                           │ create, steer, watch          ▲ what is seen
//!                                           ▼                               │
//!              store ◀─append, then─ driver ─commands─▶ hub ──mTLS streams──┴─▶ agents
//!         (histories, owners, hosts)   ▲                 │
//!                                      └─reports, health─┘        rfs-rollout decides; nothing else here does
//! ```
//!
//! Invariants
//! - What should happen is decided by the pure functions of `rfs-rollout` alone; what is stored is what happened.
//! - A command is sent only after the event that wants it is durable; a report is acknowledged, and a caller answered, only
//!   after what it brought about is.
//! - Every method names the role that it needs in one table; a method that is not in it is answered to nobody.
//! - Nothing waits for an agent: queues are bounded, calls have deadlines, and one slow host holds up no other.
//! - Time comes from a [`rfs_model::Clock`]; the command line is the one that takes the machine's. While it serves, time never
//!   steps, and it goes on across a restart ([`timeline`]).
//!
//! Reading order: what it is told ([`config`]), what it keeps ([`store`]), where its time begins ([`timeline`]), how operations
//! run ([`driver`]), how hosts are reached ([`hub`]), how it is asked ([`api`]), how all of it is put together ([`serve`]), and
//! the command line ([`cli`]).

pub mod config;

pub mod store;

pub mod timeline;

pub mod driver;

pub mod hub;

pub mod api;

pub mod serve;

pub mod cli;

mod duration;
#[cfg(test)]
mod play;
