//! Holds the streams of thousands of simulated agents to a real coordinator, in one process.

mod control;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use rfs_link::Target;
use rfs_tests::sim::{Latencies, Rule, Settings, SimFleet, duration};
use rfs_tests::{files, lines};

/// Hold the streams of many simulated agents to a real coordinator.
///
/// Each agent has its own certificate, its own connection with mutual TLS, and a host that is made up: its whole state is a
/// number. It keeps its word as a real agent does, so that checkpoints and rollbacks of the coordinator mean what they say.
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
struct Arguments {
    /// Where the coordinator is, such as https://127.0.0.1:7443
    #[arg(long)]
    server: String,
    /// The folder with ca.pem and ca.key, as rfs pki init made it; certificates are issued from there and not written down
    #[arg(long, value_name = "FOLDER")]
    ca_dir: PathBuf,
    /// How many hosts
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// What the names of hosts begin with; five digits follow
    #[arg(long, default_value = "h-")]
    prefix: String,
    /// The number of the first host
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// A label that divides the fleet into so many groups, such as zone=4; may be repeated
    #[arg(long, value_name = "KEY=GROUPS", value_parser = label)]
    label: Vec<(String, usize)>,
    /// What hosts do, as WHO:WHAT[,WHAT]; may be repeated, and later ones change what earlier ones said
    #[arg(long, value_name = "RULE", value_parser = Rule::parse)]
    rule: Vec<Rule>,
    /// Hosts that have a second machine under their name: all, a name, a number or a percentage
    #[arg(long, value_name = "WHO", value_parser = |who: &str| Rule::parse(&format!("{who}:good")))]
    clone: Vec<Rule>,
    /// How long a step takes, as STEP=TIME or STEP=TIME..TIME; may be repeated
    #[arg(long, value_name = "STEP=TIME")]
    latency: Vec<String>,
    /// How often a host measures its health
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    check_interval: Duration,
    /// How many agents dial at once
    #[arg(long, default_value_t = 256)]
    dialling: usize,
    /// What chance follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const HELP: &str = "\
Rules:
  WHO   all, a host's name, a number of hosts, or a percentage; numbers and percentages are spread evenly
  WHAT  good             well, and does what it is told; takes back every earlier rule
        ill              its check fails
        ill-at-target    its check fails once a rollback has brought it to its target
        flapping=TIME    its check fails and passes in turns of that length
        unchecked        none of its checks is required
        fails=STEP       the step fails and leaves it as it is
        breaks           a restore leaves it at neither state
        silent[=STEP]    holds its connection and says nothing any more, at once or when it is told the step
        gone[=STEP]      has no connection, at once or when it is told the step
        drops=TIME       its connection is lost that often
        slow=TIMES       its steps take so many times longer
  STEP  prepare, cut, finish, abandon, apply, revert, cancel
  TIME  such as 200ms, 4s, 10m

Commands on standard input, one a line, each answered by one line of JSON:
  status         how many agents are connected, and how many hosts are what
  hosts          every host: what it is, and the restores that took effect
  deploy         makes every host something new, so that a rollback has something to do
  rule RULE      changes what hosts do
  cut            loses every connection at once; the agents come back by themselves
  quit           ends, as does SIGINT

Open files: each agent needs one. The limit is raised as far as the system allows; what is missing is said at the start.
Memory: an agent costs about 60 KiB here, and about as much in the coordinator.

Example:
  rfs serve --config coordinator.toml &
  fleet-sim --server https://127.0.0.1:7443 --ca-dir pki --agents 10000 --label zone=4 --rule 1%:ill-at-target \\
            --latency apply=200ms..2s";

fn label(text: &str) -> Result<(String, usize), String> {
    let found = text.split_once('=').and_then(|(key, groups)| Some((key.to_owned(), groups.parse().ok()?)));
    found.ok_or_else(|| "write KEY=GROUPS, such as zone=4".to_owned())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let settings = settings(arguments)?;
    files::need(settings.agents as u64)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let fleet = SimFleet::start(settings).await?;
        let commands = lines::read(io::stdin());
        tokio::select! {
            ended = control::obey(&fleet, commands) => ended,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("signals cannot be heard"),
        }
    })?;
    runtime.shutdown_background();
    Ok(())
}

fn settings(arguments: Arguments) -> Result<Settings> {
    let mut latencies = Latencies::default();
    for latency in &arguments.latency {
        latencies.set(latency)?;
    }
    if arguments.agents > 99_999 - arguments.first.min(99_999) {
        bail!("names have five digits: --first and --agents are together at most 99999");
    }
    let target = Target::parse(&arguments.server)?;
    Ok(Settings {
        prefix: arguments.prefix,
        first: arguments.first,
        labels: arguments.label,
        rules: arguments.rule,
        clones: arguments.clone,
        latencies,
        check_interval: arguments.check_interval,
        dialling: arguments.dialling,
        seed: arguments.seed,
        ..Settings::new(target, arguments.ca_dir, arguments.agents)
    })
}
