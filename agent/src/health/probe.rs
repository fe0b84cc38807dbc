//! One measurement: what is asked, and what the answer means.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rfs_link::Chain;
use rfs_model::Health;
use tokio::net::TcpStream;

use super::program::{Ended, RunsPrograms};
use crate::config::{HealthCheck, Probe, Program};

/// How much evidence is kept of what a program wrote.
const OUTPUT_SHOWN: usize = 200;

/// How long a program may take past its deadline to be killed before it counts as lost.
const KILL_MARGIN: Duration = Duration::from_secs(5);

/// What one measurement saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// Good, bad, or unknown where nothing could be measured.
    pub health: Health,
    /// What was seen, in words.
    pub evidence: String,
}

impl Measurement {
    fn new(health: Health, evidence: impl Into<String>) -> Self {
        Self { health, evidence: evidence.into() }
    }
}

/// Makes measurements.
#[derive(Clone)]
pub struct Prober {
    http: Result<reqwest::Client, String>,
    programs: Arc<dyn RunsPrograms>,
}

impl Prober {
    /// A prober for `checks`. What none of them needs is not set up.
    pub fn new(checks: &[HealthCheck], programs: Arc<dyn RunsPrograms>) -> Self {
        let needs_http = checks.iter().any(|check| matches!(check.probe, Probe::Http { .. }));
        let http = if needs_http { http_client() } else { Err("no check asked for HTTP".to_owned()) };
        Self { http, programs }
    }

    /// Measures once.
    pub async fn measure(&self, check: &HealthCheck) -> Measurement {
        match &check.probe {
            Probe::Http { url, status } => self.http(url, status.as_ref(), check.timeout).await,
            Probe::Tcp { address } => tcp(address, check.timeout).await,
            Probe::Command { program } => self.command(program, check.timeout).await,
        }
    }

    async fn http(&self, url: &str, good: Option<&BTreeSet<u16>>, timeout: Duration) -> Measurement {
        let client = match &self.http {
            Ok(client) => client,
            Err(reason) => return Measurement::new(Health::Unknown, format!("GET {url}: {reason}")),
        };
        let start = Instant::now();
        match client.get(url).timeout(timeout).send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                let is_good = good.map_or((200..400).contains(&status), |good| good.contains(&status));
                let health = if is_good { Health::Good } else { Health::Bad };
                Measurement::new(health, format!("GET {url} answered {status} in {}", Took(start.elapsed())))
            }
            Err(error) if error.is_timeout() => {
                Measurement::new(Health::Bad, format!("GET {url} did not answer within {}", Took(timeout)))
            }
            Err(error) if error.is_builder() => {
                Measurement::new(Health::Unknown, format!("GET {url} cannot be sent: {}", Chain(&error)))
            }
            Err(error) => Measurement::new(Health::Bad, format!("GET {url} failed: {}", innermost(&error))),
        }
    }

    async fn command(&self, program: &Program, timeout: Duration) -> Measurement {
        let (programs, run) = (self.programs.clone(), program.clone());
        let start = Instant::now();
        let running = tokio::task::spawn_blocking(move || programs.run(&run, timeout));
        let ended = match tokio::time::timeout(timeout + KILL_MARGIN, running).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => Ended::NotRun(error.to_string()),
            Err(_) => Ended::NotRun("it could not be killed".to_owned()),
        };
        match ended {
            Ended::Exit { code: 0, .. } => Measurement::new(
                Health::Good,
                format!("{program} exited with 0 in {}", Took(start.elapsed())),
            ),
            Ended::Exit { code, output } => {
                Measurement::new(Health::Bad, format!("{program} exited with {code}{}", shown(&output)))
            }
            Ended::Killed { output, by } => {
                Measurement::new(Health::Bad, format!("{program} was ended by {by}{}", shown(&output)))
            }
            Ended::TimedOut => {
                let text = format!("{program} did not end within {} and was killed", Took(timeout));
                Measurement::new(Health::Bad, text)
            }
            Ended::NotRun(reason) => {
                Measurement::new(Health::Unknown, format!("{program} could not be run: {reason}"))
            }
        }
    }
}

async fn tcp(address: &str, timeout: Duration) -> Measurement {
    let start = Instant::now();
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(_)) => {
            Measurement::new(Health::Good, format!("{address} accepted in {}", Took(start.elapsed())))
        }
        Ok(Err(error)) => Measurement::new(Health::Bad, format!("{address}: {error}")),
        Err(_) => Measurement::new(Health::Bad, format!("{address} did not accept within {}", Took(timeout))),
    }
}

/// A client that measures: no proxy, no redirects, and a new connection each time, as a new user would make.
fn http_client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("rfs-agent/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Chain(&error).to_string())
}

/// The last cause: "connection refused" says more than the layers above it.
fn innermost(error: &reqwest::Error) -> String {
    let mut shown = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        shown = error.to_string();
        cause = error.source();
    }
    shown
}

/// The last line of an output, cut.
fn shown(output: &str) -> String {
    match output.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!(": {}", line.chars().take(OUTPUT_SHOWN).collect::<String>()),
        None => String::new(),
    }
}

/// A duration as evidence shows it.
struct Took(Duration);

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_millis() {
            ms @ 0..1000 => write!(f, "{ms} ms"),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}
