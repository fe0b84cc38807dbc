//! `rfs serve`: runs the coordinator until it is told to stop.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use rfs_link::plain::PlainWriter;
use rfs_link::{Chain, Exit, Failure};
use rfs_model::Reason;
use rfs_model::time::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use super::arguments::{Format, LogArguments, ServeArguments};
use super::error::CliError;
use super::output::Output;
use crate::config::{Config, ConfigError};
use crate::serve::{Serving, write_ready_file};

pub(super) fn run(arguments: ServeArguments, output: &mut Output) -> Result<Exit, CliError> {
    let config =
        Config::read(&arguments.config).map_err(|error| config_failure(&arguments.config, &error))?;
    if arguments.check {
        return check(&config, &arguments.config, output);
    }
    log(&arguments.log)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::runtime)?;
    let served = runtime.block_on(serve(config, &arguments, output));
    // What still blocks a thread must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    served
}

fn config_failure(path: &Path, error: &ConfigError) -> Failure {
    let next = match error {
        ConfigError::Read { .. } => "name the configuration with: rfs serve --config FILE".to_owned(),
        ConfigError::Parse { .. } => format!("correct {} and start again", path.display()),
    };
    Failure::new(Reason::InvalidArgument, Chain(error).to_string()).next(next)
}

/// Says whether a coordinator could be started with this configuration. Nothing is changed or listened on.
fn check(config: &Config, path: &Path, output: &mut Output) -> Result<Exit, CliError> {
    let own = crate::serve::check(config, Arc::new(SystemClock)).map_err(|error| error.failure())?;
    let (operators, folder) = (config.roles.operators(), config.store.path.display().to_string());
    if output.is_json() {
        output.document(&serde_json::json!({
            "config": path.display().to_string(),
            "id": own.id.to_string(),
            "certificate_expire_time": own.not_after.to_string(),
            "listen": config.listen.to_string(),
            "store": folder,
            "operators": operators,
        }))?;
        return Ok(Exit::Done);
    }
    output.line(format!("{} is good", path.display()))?;
    output.line(format!("  it is {}, with a certificate until {}", own.id, own.not_after))?;
    output.line(format!("  listens on {}, keeps its store in {folder}", config.listen))?;
    output.line(format!(
        "  {} a role",
        super::words::count(operators, "operator") + if operators == 1 { " has" } else { " have" }
    ))?;
    Ok(Exit::Done)
}

/// Logs to standard error; `--log-level`, else RUST_LOG, chooses what.
fn log(arguments: &LogArguments) -> Result<(), Failure> {
    let filter = match &arguments.log_level {
        Some(level) => EnvFilter::try_new(level).map_err(|error| {
            Failure::new(Reason::InvalidArgument, format!("--log-level {level:?}: {error}"))
                .next("give error, warn, info, debug or trace")
        })?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| PlainWriter(std::io::stderr()));
    match arguments.log_format {
        Format::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        Format::Json => log.json().flatten_event(true).with_current_span(false).init(),
    }
    Ok(())
}

async fn serve(config: Config, arguments: &ServeArguments, output: &mut Output) -> Result<Exit, CliError> {
    let mut signals = Signals::new().map_err(CliError::runtime)?;
    let mut serving = Serving::start(config, Arc::new(SystemClock)).await.map_err(|error| error.failure())?;
    output.line(format!("rfs listens on {}", serving.address()))?;
    if let Some(path) = &arguments.ready_file {
        write_ready_file(path, serving.address()).map_err(|error| {
            Failure::new(Reason::Io, format!("cannot write {}: {error}", path.display()))
                .next("give another --ready-file")
        })?;
    }
    loop {
        tokio::select! {
            ended = serving.ended() => {
                ended.map_err(|error| error.failure())?;
                return Ok(Exit::Done);
            }
            signal = signals.next() => match signal {
                Told::Stop(name) => {
                    info!(signal = name, "stopping");
                    serving.stop().await.map_err(|error| error.failure())?;
                    return Ok(Exit::Done);
                }
                Told::Reload => reload(&arguments.config, &serving),
            },
        }
    }
}

/// Takes the roles of the configuration as it is now. All else needs a restart; certificates are followed anyway.
fn reload(path: &Path, serving: &Serving) {
    match Config::read(path) {
        Ok(config) => {
            serving.set_roles(config.roles);
            info!(
                "SIGHUP: roles read again; certificates are followed by themselves, other settings need a restart"
            );
        }
        Err(error) => {
            warn!(error = %Chain(&error), "the configuration cannot be read; the roles stay as they were")
        }
    }
}

/// What the process is told from outside.
enum Told {
    Stop(&'static str),
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Told::Stop("SIGINT"),
            _ = self.hang_up.recv() => Told::Reload,
        }
    }
}
