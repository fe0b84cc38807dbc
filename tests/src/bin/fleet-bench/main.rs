//! Measures how a real coordinator bears a fleet of simulated agents, beside a bare server of streams in the same run.
//!
//! ```text
//!  main ─▶ bare-server ═ mutual TLS ═ bare-clients       what streams alone cost here and now
//!     └──▶ rfs serve   ═ mutual TLS ═ fleet-sim          the same machine, the same number, every step durable
//! ```
//!
//! Each is a process of its own, so that memory and CPU are told apart. Figures of different runs or machines do not compare;
//! the ratios of one run do.

mod bare;
mod child;
mod coordinator;
mod fleet;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measure how a coordinator bears a fleet, beside a bare server of streams.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many agents, with commas
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,10000")]
    agents: Vec<usize>,
    /// Measures what grows or idles for ten minutes instead of one
    #[arg(long)]
    long: bool,
    /// Where the store of the coordinator lies; left out, in the folder for temporary files
    #[arg(long, value_name = "FOLDER")]
    work: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The processes that it starts.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Part {
    /// The bare server; it obeys standard input
    BareServer {
        /// The folder with the certificates
        folder: PathBuf,
    },
    /// The clients of the bare server
    BareClients {
        /// The folder with the certificates
        folder: PathBuf,
        /// Where the server is
        address: std::net::SocketAddr,
        /// How many
        count: usize,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.part {
        Some(Part::BareServer { folder }) => runtime.block_on(bare::serve(&folder)),
        Some(Part::BareClients { folder, address, count }) => {
            runtime.block_on(bare::connect(&folder, address, count))
        }
        None => {
            let span = Duration::from_secs(if arguments.long { 600 } else { 60 });
            println!(
                "Each row: the coordinator, the bare server in the same run, and the ratio of the two where there is one."
            );
            for count in arguments.agents {
                rfs_tests::files::need(count as u64)?;
                runtime.block_on(fleet::measure(count, span, arguments.work.as_deref()))?;
            }
            Ok(())
        }
    }
}
