//! `rfs`: the coordinator and its command line.

fn main() -> std::process::ExitCode {
    rfs_coordinator::cli::main()
}
