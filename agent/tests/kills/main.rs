//! Captures, restores, retention and verification are killed at random moments, all of them together, again and again:
//! the store verifies clean, every committed snapshot restores equal, the live tree is as before or at its target.
//!
//! ```text
//! campaign ─▶ worker (one program that writes: captures and restores in turn, the collector beside them)  ◀─ SIGKILL
//!          └▶ worker (another that reads: verifies, and reads back what is there)                         ◀─ SIGKILL
//!          ◀─ what each says, line by line: what it is about to do, what it has done
//! after a kill: recovery ─▶ live tree, store and every snapshot compared with listings that no code of ours made
//! ```
//!
//! `RFS_KILL_SEED` repeats the choices of a campaign, `RFS_LONG` makes it long, `RFS_KILLS` says how long.

mod dice;
mod garden;
mod host;
mod listing;

mod campaign;
mod ledger;
mod tally;

mod worker;
