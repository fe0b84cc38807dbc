//! The binary `rfs-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    rfs_agent::cli::main()
}
