//! What may be typed. Only what works today appears here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rfs_link::TrustDomain;

use super::checkpoint::CheckpointCommand;
use super::connect::Connection;
use super::host::HostCommand;
use super::rollback::RollbackCommand;
use crate::duration::parse_duration;

/// Checkpoint a fleet before a deploy, and bring it back host by host when the deploy turns out bad.
#[derive(Debug, Parser)]
#[command(name = "rfs", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    /// Print for people, or JSON for programs.
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub output: Format,
    #[command(subcommand)]
    pub command: Command,
}

/// The words of the command line, readable even where one is no text.
pub(super) fn typed() -> impl Iterator<Item = String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned())
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed, and the fleet is as it was or says how it stands; 2 usage; 3 refused;
4 not reachable; 5 a person is needed; 130 watching was interrupted, the operation goes on.";

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One document, or one per line for what is watched.
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the coordinator.
    Serve(ServeArguments),
    /// Make and look at certificates.
    #[command(subcommand)]
    Pki(PkiCommand),
    /// See the hosts and their health.
    Host(Grouped<HostCommand>),
    /// Take and see checkpoints.
    Checkpoint(Grouped<CheckpointCommand>),
    /// Bring hosts back to a checkpoint, and steer it.
    Rollback(Box<Grouped<RollbackCommand>>),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// A group of commands that all talk to a coordinator.
#[derive(Debug, Args)]
pub(super) struct Grouped<C: Subcommand> {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: C,
}

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// The configuration.
    #[arg(
        long,
        value_name = "FILE",
        env = "RFS_COORDINATOR_CONFIG",
        default_value = "/etc/rfs/coordinator.toml"
    )]
    pub config: PathBuf,
    /// Write the address that it listens on to FILE once it can be reached.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Check the configuration and the certificates it names, and end.
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    pub log: LogArguments,
}

/// How the log is written, to standard error.
#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// Lines for people, or a JSON document a line.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub log_format: Format,
    /// What is logged: error, warn, info, debug or trace, or as RUST_LOG says it [default: RUST_LOG, or info].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum PkiCommand {
    /// Make the root of a fleet: ca.pem and ca.key.
    Init {
        /// The name of the fleet in its certificates, such as fleet.example.net.
        #[arg(long, value_name = "NAME")]
        trust_domain: TrustDomain,
        /// Where to.
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        dir: PathBuf,
        #[command(flatten)]
        making: Making,
        /// How long it is valid.
        #[arg(long, value_name = "TIME", default_value = "3650d", value_parser = parse_duration)]
        validity: Duration,
    },
    /// Issue a certificate and its key: NAME.pem and NAME.key.
    Issue {
        /// For whom.
        #[arg(value_enum)]
        role: CertificateRole,
        /// The host, the operator or the coordinator.
        name: String,
        /// The host names and addresses that a coordinator is dialled by; may be given often.
        #[arg(long = "dns", value_name = "NAME", value_delimiter = ',')]
        names: Vec<String>,
        /// Where ca.pem and ca.key are.
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        ca_dir: PathBuf,
        /// Where to; beside the root if not given.
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
        #[command(flatten)]
        making: Making,
        /// How long it is valid.
        #[arg(long, value_name = "TIME", default_value = "397d", value_parser = parse_duration)]
        validity: Duration,
    },
    /// Show what a certificate says.
    Show {
        /// The certificates' file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Making {
    /// Replace files that exist.
    #[arg(long)]
    pub force: bool,
}

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CertificateRole {
    /// The agent of a host.
    Agent,
    /// A person or a tool.
    Operator,
    /// A coordinator.
    Coordinator,
}
