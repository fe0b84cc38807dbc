//! `rfs-agent run`: everything that one agent does, from its start to its end.
//!
//! ```text
//! checks ─▶ engine opens the store and recovers ─▶ socket ─▶ session ─▶ … ─▶ SIGTERM ─▶ session and socket end
//!                                                                            └─▶ what is at work is let end, or stopped
//! ```
//!
//! Invariants
//! - What a crash left is recovered before anybody can command anything, and also when the link cannot be set up.
//! - Idle, its threads sleep: the certificates are looked at once a second, checks run at their intervals, and the
//!   collector wakes at its own.
//! - To stop is never to break off: what is at work has [`LET_END`] to end. After that a restore is left to the next start,
//!   as after a crash: it brings the host to the target or to what it was before. All else is stopped without effect.
//! - A stop ends in bounded time, and leaves nothing quiet.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rfs_link::{Chain, Credentials, Failure, LiveCredentials, Target};
use rfs_model::time::{SharedClock, SystemClock};
use rfs_model::{InstanceId, Reason};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::commander::Intake;
use crate::config::{Config, Link};
use crate::engine::{Collector, LocalHealth};
use crate::health::{HostPrograms, Monitor, Prober};
use crate::local::{Administration, LocalError, LocalHost, LocalServer};
use crate::session::{About, Host, LinkState, Session};

/// How long what is at work may take to end once the agent is told to stop.
pub const LET_END: Duration = Duration::from_secs(60);

/// The name of the unix socket in the store's folder.
pub const SOCKET: &str = "agent.sock";

/// Threads that may wait for the disk or for programs at once.
const BLOCKING_THREADS: usize = 64;

/// The engine, with its store opened and what a crash left recovered.
#[derive(Clone)]
pub struct Opened {
    /// The machine: lives with the store.
    pub instance: InstanceId,
    /// Takes the coordinator's commands.
    pub intake: Arc<dyn Intake>,
    /// Does what administrators ask.
    pub administration: Arc<dyn Administration>,
    /// Removes what is kept no longer, for as long as it lives.
    pub collector: Option<Arc<Collector>>,
}

/// Runs the agent until it is told to stop by SIGTERM or SIGINT.
///
/// `open` opens the engine and recovers; it is called once, on a thread that may wait, and holds the store's lock for as
/// long as what it returns lives.
pub fn run(
    config: &Config,
    clock: SharedClock,
    open: impl FnOnce(Arc<dyn LocalHealth>) -> Result<Opened, Failure> + Send + 'static,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| Failure::new(Reason::Io, format!("cannot start: {error}")))?;
    let stop = CancellationToken::new();
    let ended = runtime.block_on(async {
        stop_on_signals(&stop)?;
        run_until(config, clock, open, stop.clone()).await
    });
    // A thread that still waits for a program or for the disk holds nothing up.
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

/// Runs the agent until `stop` is cancelled.
pub async fn run_until(
    config: &Config,
    clock: SharedClock,
    open: impl FnOnce(Arc<dyn LocalHealth>) -> Result<Opened, Failure> + Send + 'static,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let _stopped = stop.clone().drop_guard();
    let programs = HostPrograms::default();
    let prober = Prober::new(&config.health, Arc::new(programs.clone()));
    let monitor = Monitor::start(config.health.clone(), &prober, &stop);
    let local_health = Arc::new(monitor.clone());
    let opened = tokio::task::spawn_blocking(move || open(local_health)).await;
    let opened =
        opened.map_err(|error| Failure::new(Reason::Internal, format!("recovery failed: {error}")))??;

    // Only now: what a crash left is recovered whether or not the link can be set up.
    let about = About::new(config, opened.instance);
    let link = config.link.as_ref().map(open_link).transpose()?;
    let host = Host {
        about: about.clone(),
        intake: opened.intake.clone(),
        administration: opened.administration.clone(),
        health: monitor.health(),
        clock: clock.clone(),
    };
    let session = link.map(|(credentials, targets)| {
        credentials.follow(stop.clone());
        Session::new(host, credentials, targets)
    });
    let session = session.transpose()?;
    let link_state = match &session {
        Some(session) => session.state(),
        None => watch::channel(LinkState::NotConfigured).1,
    };
    let socket = LocalServer::bind(&config.store.join(SOCKET)).map_err(socket_failure)?;
    let local = LocalHost {
        about,
        administration: opened.administration.clone(),
        intake: opened.intake.clone(),
        health: monitor.health(),
        link: link_state,
        clock,
    };
    info!(host = %config.host, store = %config.store.display(), "running");

    let session = async {
        match session {
            Some(session) => session.run(stop.clone()).await,
            None => stop.cancelled().await,
        }
    };
    let socket = async {
        let served = socket.serve(local, stop.clone()).await;
        // An agent that administrators cannot reach is not left running.
        stop.cancel();
        served.map_err(socket_failure)
    };
    // At once: while the socket still answers who has asked, nothing begins any more.
    let closed = async {
        stop.cancelled().await;
        let intake = opened.intake.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || intake.close(LET_END)).await {
            error!(%error, "the next start ends what was at work");
        }
    };
    let ((), served, ()) = tokio::join!(session, socket, closed);
    programs.stop();
    info!("stopped");
    served
}

/// Reads the credentials and the addresses that `link` names.
fn open_link(link: &Link) -> Result<(Arc<LiveCredentials>, Vec<Target>), Failure> {
    let target = |(i, text): (usize, &String)| {
        Target::parse(text).map_err(|error| {
            Failure::new(Reason::InvalidArgument, format!("[coordinator] endpoints[{i}]: {error}"))
                .next("write endpoints = [\"https://HOST:7443\"] under [coordinator]")
        })
    };
    let targets = link.endpoints.iter().enumerate().map(target).collect::<Result<_, _>>()?;
    let credentials =
        Credentials { ca: link.ca.clone(), certificate: link.certificate.clone(), key: link.key.clone() };
    // Whether a certificate is valid is asked of the machine's clock: one that was wrong at boot may have been set right.
    let credentials =
        LiveCredentials::open(credentials, Arc::new(SystemClock)).map_err(|error| error.failure())?;
    Ok((credentials, targets))
}

fn socket_failure(error: LocalError) -> Failure {
    let next = match &error {
        LocalError::Bind { path, .. } => {
            format!("check that this user may write to {}", path.parent().unwrap_or(Path::new("/")).display())
        }
        LocalError::Descriptors(_) | LocalError::Serve(_) => "report this with the agent's log".to_owned(),
    };
    Failure::new(Reason::Io, Chain(&error).to_string()).next(next)
}

/// Cancels `stop` at the first SIGTERM or SIGINT. At the second the process ends as it would without us.
fn stop_on_signals(stop: &CancellationToken) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::new(Reason::Io, format!("cannot listen for signals: {error}")))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let signal = next().await;
        info!(signal, "stopping");
        stop.cancel();
        let signal = next().await;
        warn!(signal, "ended at the second signal; the next start recovers what was at work");
        std::process::exit(1);
    });
    Ok(())
}
