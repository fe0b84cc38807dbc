//! Says what did not run, and why.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Records that `test` did not run and why, on the screen and in the file that `RFS_SKIPS` names.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped: {test}: {reason}");
    let Some(path) = std::env::var_os("RFS_SKIPS") else { return };
    let line = format!("{test}: {reason}\n");
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut f| f.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("cannot record the skip in {}: {error}", path.display());
    }
}
