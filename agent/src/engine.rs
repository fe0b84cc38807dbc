//! Brings the host to a snapshot, or leaves it as it was, and says which.

mod health;
mod phase;
mod receipt;

pub use health::{LocalHealth, NoLocalHealth, Unhealthy};
pub use phase::{Direction, Phase};
pub use receipt::{Downtime, Failure, Receipt, Span};
