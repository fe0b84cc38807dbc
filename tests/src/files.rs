//! Open files: how many this process may have, and what to do where that is too few.

use anyhow::{Result, bail};

/// What a process needs beside the connections that it counts.
const SPARE: u64 = 64;

/// Makes sure that `count` connections can be open at once, raising the limit as far as this process may.
pub fn need(count: u64) -> Result<()> {
    let needed = count + SPARE;
    match rfs_link::server::raise_file_limit_to(needed) {
        Some(limit) if limit < needed => bail!(
            "{count} connections need {needed} open files, and this process may have {limit}: \
             raise the limit first, as root: ulimit -n {needed}; under systemd: LimitNOFILE={needed}"
        ),
        Some(_) | None => Ok(()),
    }
}
