//! What can be typed.

use std::fmt;
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
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Text)]
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
    Run(Run),
    /// Check the configuration and the certificates it names, and change nothing
    Check,
    /// Show where the host stands; without a running agent, first end what was interrupted
    Status,
    /// Capture the present state into a snapshot
    Capture(Capture),
    /// Look at the snapshots of this host
    #[command(subcommand)]
    Snapshots(Snapshots),
    /// Bring the host to a snapshot, or leave it as it was
    Restore(Restore),
    /// Forget the snapshots that the configuration does not keep, and free their room
    Collect {
        /// Say what would go and why the rest stays, and touch nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Show where the store's room goes, and how much is free
    Space,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The log's form: lines for people, or a JSON document a line
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(super) log_format: Format,
    /// What is logged: error, warn, info, debug or trace, or as RUST_LOG says it [default: RUST_LOG, or info]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
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
        /// Its id, the beginning of it, or latest
        snapshot: String,
        /// List every entry too
        #[arg(long)]
        entries: bool,
    },
    /// Show what differs between two, or between one and the live host
    Diff {
        /// The id of the first, the beginning of it, or latest
        snapshot: String,
        /// The id of the second; the live host when it is left out
        other: Option<String>,
    },
    /// Read the whole store again and name what is damaged
    Verify {
        /// Read only this share of the objects, such as 5%, another choice each time
        #[arg(long, value_name = "SHARE", value_parser = sample)]
        sample: Option<Sample>,
    },
    /// Set damage aside, and take back what was lost from the live files, where they still have it
    Repair,
    /// Prove that one restores: into a scratch folder, compared with what was captured
    Drill {
        /// Its id, the beginning of it, or latest
        snapshot: String,
        /// An empty folder, or one that is not there; the store's own when it is left out
        #[arg(long, value_name = "FOLDER")]
        scratch: Option<PathBuf>,
    },
    /// Keep one, whatever the keep rules say
    Pin {
        /// Its id, the beginning of it, or latest
        snapshot: String,
        /// Why, for whoever wonders later
        #[arg(long, default_value = "by hand")]
        reason: String,
    },
    /// Take a pin away
    Unpin {
        /// Its id, the beginning of it, or latest
        snapshot: String,
    },
    /// Delete one, unless the host needs it
    Delete {
        /// Its id, the beginning of it, or latest
        snapshot: String,
    },
}

/// How many of a thousand objects are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample(pub(super) u16);

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, tenth) => write!(f, "{whole}.{tenth}%"),
        }
    }
}

fn sample(text: &str) -> Result<Sample, String> {
    let wrong = || "write a share from 0.1% to 100%, such as 5%".to_owned();
    let number = text.strip_suffix('%').unwrap_or(text);
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() != 1 {
        return Err(wrong());
    }
    let share = whole.parse::<u16>().ok().and_then(|n| n.checked_mul(10)?.checked_add(tenth.parse().ok()?));
    share.filter(|share| (1..=1000).contains(share)).map(Sample).ok_or_else(wrong)
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The snapshot's id, the beginning of it, or latest: the newest that is no backup
    pub(super) snapshot: String,
    /// Restore this component alone; may be repeated
    #[arg(long = "component", value_name = "NAME")]
    pub(super) components: Vec<ComponentName>,
    /// Restore this absolute path alone, with all beneath it; may be repeated
    #[arg(long = "path", value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// With --plan: print every step and loss, however many there are
    #[arg(long, requires = "plan")]
    pub(super) all: bool,
    /// Of what the snapshot does not have, leave in place what matches; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(super) keep: Vec<String>,
    /// Accept the loss of what matches, where the component refuses it; or a path on another file system; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(super) accept_loss: Vec<String>,
    /// End a service's processes where its own command does not stop it
    #[arg(long)]
    pub(super) force_stop: bool,
    /// Do not ask before something is removed
    #[arg(long, short = 'y')]
    pub(super) yes: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_with_and_without_its_sign() {
        let read = |text: &str| sample(text).map(|share| share.to_string());
        let texts = ["5%", "5", "0.1%", "100%", "12.5"].map(|text| read(text).expect(text));
        assert_eq!(texts, ["5%", "5%", "0.1%", "100%", "12.5%"]);
        for text in ["0", "0%", "101%", "5.25%", "-1", "five", "", "%", "1e2", "99999999"] {
            read(text).expect_err(text);
        }
    }
}
