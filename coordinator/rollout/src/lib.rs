//! A fleet operation, a checkpoint or a rollback, as pure functions over its own history.
//!
//! ```text
//!  request ─plan──▶ Plan ─created─▶ Operation ◀──evolve── Event ◀──decide── Command (a host, a person, a tick)
//!                                      └──wanted──▶ what should be in flight now, and when to look again
//! ```
//!
//! The shell around it is short: replay the stored events; then loop *send what is wanted, take commands, decide,
//! append the events, evolve*. Everything that matters is in the events, so a restart at any moment changes nothing.
//!
//! Invariants
//! - No input, no output, no clock, no randomness, no task: time comes in with each command.
//! - Duplicated, reordered and outdated commands yield no events.
//! - A host is told to start only by an event; whoever sends commands sends what [`Operation::wanted`] says, after the
//!   events are stored.
//! - Time never runs backwards in a history: a `now` before the last event counts as that event's time.
//! - Unknown health is never counted as good, nor as bad: it holds a gate until that gate's deadline.
//! - One generation names one command: an operation reserves [`GENERATIONS`] for each host, one per step, so that a host
//!   that has seen a later step refuses an earlier one that was late.
//!
//! Reading order: what is asked ([`request`]), what is known ([`fleet`]), what will be done ([`plan`]), what hosts are told
//! and answer ([`host`]), what happens ([`command`]), what others take ([`outside`]), then the two machines ([`rollback`], [`checkpoint`]) behind one face
//! ([`operation`]).

pub mod request;

pub mod fleet;

pub mod plan;

pub mod host;

pub mod command;

pub mod outside;

pub mod rollback;

pub mod checkpoint;

pub mod operation;

mod hosts;
mod kept;
mod millis;
mod names;
mod shared;

pub use command::{Command, Connected, Person, PersonAction, Refusal};
pub use fleet::{Admission, FleetView, HostView, Presence, Reading};
pub use host::{
    Answer, Captured, Failure, Findings, GENERATIONS, HostCommand, Listed, PhaseTime, Removed, Report,
    Restored, Step, StepKind,
};
pub use hosts::Hosts;
pub use names::some_names;
pub use operation::{Draft, Envelope, Event, Operation, ReplayError, Work};
pub use outside::Outside;
pub use plan::{Plan, PlanError, plan};
pub use request::{
    Amount, Budget, Canary, CheckpointKind, CheckpointRequest, Choices, GatePolicy, Label, OnFailure,
    OnUnreachable, Order, Policy, RollbackRequest, Selection, Source, Strategy, Waves,
};
