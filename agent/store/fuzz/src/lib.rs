//! Drives a reader of `rfs_store::fuzzing` with what libFuzzer makes up, and counts the memory that it holds.
//!
//! Each input is read twice, as it is and with its checksums made right, so that mutation reaches what stands behind
//! them. A panic, or more memory than the target's bound, ends the run and keeps the input.

use peak_alloc::PeakAlloc;
use rfs_store::fuzzing::Target;

#[doc(hidden)]
pub use libfuzzer_sys;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs `work` and says how much memory it held at most.
pub fn peak(work: &mut dyn FnMut()) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    work();
    MEMORY.peak_usage().saturating_sub(before)
}

/// Drives the target of that name.
pub fn drive(name: &str, bytes: &[u8]) {
    let target = Target::named(name).expect("a target of the store");
    target.drive(bytes, peak);
}

/// The fuzz target of that name.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::drive($name, bytes));
    };
}
