//! `rfs-agent run`: the daemon.

use std::io::IsTerminal;
use std::sync::Arc;

use rfs_link::Exit;
use rfs_link::plain::PlainWriter;
use rfs_model::Reason;
use tracing::Level;
use tracing_subscriber::EnvFilter;

use super::Ended;
use super::arguments::{Format, Run};
use crate::administration::Administrator;
use crate::commander::{Commander, Refusal};
use crate::config::Config;
use crate::engine::cause::refuse;
use crate::engine::{self, Clocks, Collector, Engine};
use crate::run;

/// Logs to standard error, from `level` on, or as `RUST_LOG` says.
pub(super) fn log(level: Level) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level.to_string()));
    // Only the first of several counts, which is this process's own.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| PlainWriter(std::io::stderr()))
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

/// Logs as the daemon is told to.
fn log_as_told(arguments: &Run) -> Result<(), Refusal> {
    let filter = match &arguments.log_level {
        Some(level) => EnvFilter::try_new(level).map_err(|error| {
            let next = "give error, warn, info, debug or trace";
            refuse(Reason::InvalidArgument, format!("--log-level {level:?}: {error}"), next)
        })?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| PlainWriter(std::io::stderr()));
    // Only the first of several counts, which is this process's own.
    let _ = match arguments.log_format {
        Format::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => log.json().flatten_event(true).with_current_span(false).try_init(),
    };
    Ok(())
}

pub(super) fn run(config: &Config, arguments: &Run) -> Ended {
    log_as_told(arguments)?;
    rfs_link::server::raise_file_limit();
    let clocks = Clocks::of_this_machine();
    let (opened_config, clock) = (config.clone(), clocks.steady.clone());
    let open = move |health| -> Result<run::Opened, rfs_link::Failure> {
        let engine::Opened { engine, recovered } = Engine::open(opened_config, clocks, health)?;
        if let Some((operation, receipt)) = recovered {
            tracing::warn!(%operation, standing = %receipt.standing, "the interrupted restore was brought to an end");
        }
        let instance = engine.instance()?;
        engine.check_components()?;
        let engine = Arc::new(engine);
        let commander = Commander::start(engine.clone())
            .map_err(|error| rfs_link::Failure::new(Reason::Io, rfs_link::Chain(&error).to_string()))?;
        let collector = Collector::start(&engine)
            .map_err(|error| rfs_link::Failure::new(Reason::Internal, format!("cannot start: {error}")))?;
        Ok(run::Opened {
            instance,
            intake: commander,
            administration: Arc::new(Administrator::new(engine)),
            collector: Some(Arc::new(collector)),
        })
    };
    run::run(config, clock, open)?;
    Ok(Exit::Done)
}
