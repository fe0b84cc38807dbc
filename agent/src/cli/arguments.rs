//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rfs_model::ComponentName;

use crate::config::{DEFAULT_PATH, parse_time};

/// Capture and restore this host's state
#[derive(Debug, Parser)]
#[command(name = "rfs-agent", version, propagate_version = true, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// Where the configuration is
    #[arg(long, global = true, value_name = "FILE", env = "RFS_AGENT_CONFIG", default_value = DEFAULT_PATH)]
    pub(super) config: PathBuf,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve the coordinator and this host's administrators
    Run,
    /// Show where the host stands; without a running agent, first end what was interrupted
    Status,
    /// Capture the present state into a snapshot
    Capture(Capture),
    /// Look at the snapshots of this host
    #[command(subcommand)]
    Snapshots(Snapshots),
    /// Bring the host to a snapshot, or leave it as it was
    Restore(Restore),
}

#[derive(Debug, Args)]
pub(super) struct Capture {
    /// Capture this component alone; may be repeated
    #[arg(long = "component", value_name = "NAME")]
    pub(super) components: Vec<ComponentName>,
    /// Why, for whoever lists the snapshots later
    #[arg(long, default_value = "by hand")]
    pub(super) reason: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Snapshots {
    /// List them, newest first
    List,
    /// Show what one holds
    Show {
        /// Its id, or the beginning of it
        snapshot: String,
        /// List every entry too
        #[arg(long)]
        entries: bool,
    },
    /// Show what differs between two, or between one and the live host
    Diff {
        /// The id of the first, or the beginning of it
        snapshot: String,
        /// The id of the second; the live host when it is left out
        other: Option<String>,
    },
    /// Read the whole store again and name what is damaged
    Verify {
        /// Read only so many of a hundred objects, another choice each time
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
        sample: Option<u8>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The snapshot's id, or the beginning of it
    pub(super) snapshot: String,
    /// Restore this component alone; may be repeated
    #[arg(long = "component", value_name = "NAME")]
    pub(super) components: Vec<ComponentName>,
    /// Restore this absolute path alone, with all beneath it; may be repeated
    #[arg(long = "path", value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Print what would be done, and touch nothing
    #[arg(long)]
    pub(super) plan: bool,
    /// Go back when it takes longer than this, such as 90s or 5m
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "plan")]
    pub(super) timeout: Option<Duration>,
    /// Also when the host is inconsistent: this is the way out of it
    #[arg(long, conflicts_with = "plan")]
    pub(super) force: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    parse_time(text).ok_or_else(|| "write a length of time, such as 90s, 5m or 1h".to_owned())
}
