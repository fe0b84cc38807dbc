//! What the coordinator keeps: the histories of operations, who owns which host, and the hosts that have been seen.
//!
//! [`Store`] is the contract; [`sqlite`] keeps it in one file. Any implementation must pass the contract suite of this
//! module's tests.
//!
//! Invariants
//! - An append names the position that it expects; of two that name the same one, one fails with a conflict and changes
//!   nothing. That alone makes two drivers of one operation safe.
//! - Events, ownership and the projection for lists change in one transaction, durable when the call returns.
//! - The history is the truth. The state that is kept of an operation spares reading all of it, and may be lost at any time.
//! - Which of two operations is newer is told by the order in which the store took them, never by an id or a time: clocks step.
//! - A checkpoint is a target only while every one of its hosts holds its snapshot, as the hosts last said.
//! - One operation owns a host at a time, and each one that takes a host gets generations above all that were given before.

mod contract;
mod machines;

pub mod sqlite;

pub use contract::{
    Anchor, Append, AppendError, Aside, Begin, CreateError, Created, ForgetError, HeldChanges, HeldSnapshots,
    HostRow, HostSeen, ListQuery, NewOperation, OperationKind, OperationRow, Page, PageToken, Position,
    RequestKey, Reserved, Store, StoreError, StoredEvent, Tail,
};
pub use machines::{Contest, Machine, Machines};
pub use sqlite::SqliteStore;

#[cfg(test)]
pub(crate) mod suite;
