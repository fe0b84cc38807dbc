//! Whatever fails beneath the store or moves beside it: nothing that was committed is lost, nothing outside of the
//! component's paths is touched, and the message says what failed, where, and what to do.

#[path = "../common/mod.rs"]
mod common;

mod disk;
mod sample;

mod broken;
mod full;
mod readonly;
mod restoring;

mod clock;
mod many;
mod moving;
mod strange;
