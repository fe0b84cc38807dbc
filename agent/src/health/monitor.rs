//! Measures every check at its interval, keeps what was seen, and wakes whoever waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rfs_model::time::SharedClock;
use rfs_model::{Health, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::probe::Prober;
use super::verdict::Verdict;
use crate::config::{HealthCheck, Probe};
use crate::engine::{LocalHealth, Unhealthy};

/// How often a check is measured while its verdict is open, if its interval is longer.
const OPEN: Duration = Duration::from_secs(1);

/// How often a check is measured while somebody waits for it, if its interval is longer.
const AWAITED: Duration = Duration::from_millis(200);

/// How often a waiter asks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// How well the host is, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostHealth {
    /// The worst of the required checks.
    pub health: Health,
    /// Every check, in the order of the configuration.
    pub checks: Vec<CheckHealth>,
}

/// What is known of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckHealth {
    /// Its name.
    pub name: String,
    /// Its kind, such as `http`.
    pub kind: &'static str,
    /// What is known.
    pub health: Health,
    /// Whether the host's health depends on it.
    pub required: bool,
    /// What the last measurement saw.
    pub evidence: String,
    /// Since when the health is what it is.
    pub since: Timestamp,
    /// When it was last measured; none before the first time.
    pub measured_at: Option<Timestamp>,
}

/// Measures in the background for as long as the runtime that it was started on lives.
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
}

struct Shared {
    known: Mutex<Known>,
    /// Rung after each measurement.
    measured: Condvar,
    /// Marked as changed when a verdict changes; always has the newest evidence.
    published: watch::Sender<HostHealth>,
    /// How many wait for a good measurement: the checks hurry while it is not zero.
    waiting: watch::Sender<usize>,
    clock: SharedClock,
}

struct Known {
    checks: Vec<Check>,
}

struct Check {
    shown: CheckHealth,
    verdict: Verdict,
    /// When the last good measurement began.
    good_since: Option<Instant>,
}

impl Monitor {
    /// Starts to measure `checks` on the present runtime, until `stop` is cancelled.
    pub fn start(
        checks: Vec<HealthCheck>,
        prober: &Prober,
        clock: SharedClock,
        stop: &CancellationToken,
    ) -> Self {
        let now = clock.now();
        let known = Known { checks: checks.iter().map(|check| Check::new(check, now)).collect() };
        let published = watch::Sender::new(known.published());
        let shared = Arc::new(Shared {
            known: Mutex::new(known),
            measured: Condvar::new(),
            published,
            waiting: watch::Sender::new(0),
            clock,
        });
        for (index, check) in checks.into_iter().enumerate() {
            let (shared, prober, stop) = (shared.clone(), prober.clone(), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = shared.watch(index, &check, &prober) => {}
                }
            });
        }
        Self { shared }
    }

    /// How well the host is, and a notice of each change of a verdict.
    pub fn health(&self) -> watch::Receiver<HostHealth> {
        self.shared.published.subscribe()
    }
}

impl Shared {
    /// Measures one check for ever.
    async fn watch(&self, index: usize, check: &HealthCheck, prober: &Prober) {
        let mut waiting = self.waiting.subscribe();
        loop {
            let begun = Instant::now();
            let measurement = prober.measure(check).await;
            let is_open = self.take(index, begun, measurement.health, measurement.evidence);
            // Somebody began to wait meanwhile: what was measured before does not count for them.
            let just_asked = waiting.has_changed().unwrap_or(false);
            let interval = match (*waiting.borrow_and_update(), is_open) {
                (1.., _) if just_asked => continue,
                (1.., _) => check.interval.min(AWAITED),
                (0, true) => check.interval.min(OPEN),
                (0, false) => check.interval,
            };
            let pause = tokio::time::sleep_until((begun + interval).into());
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    changed = waiting.changed() => match changed {
                        Ok(()) if *waiting.borrow() > 0 => break,
                        Ok(()) => {}
                        Err(_) => return,
                    },
                }
            }
        }
    }

    /// Takes a measurement in, and returns whether the check's verdict is open.
    fn take(&self, index: usize, begun: Instant, measured: Health, evidence: String) -> bool {
        let now = self.clock.now();
        let mut known = self.lock();
        let check = &mut known.checks[index];
        let before = check.verdict.health();
        check.verdict.take(measured);
        let changed = check.verdict.health() != before;
        if measured == Health::Good {
            check.good_since = Some(begun);
        }
        check.shown.health = check.verdict.health();
        check.shown.evidence = evidence;
        check.shown.measured_at = Some(now);
        if changed {
            check.shown.since = now;
        }
        let is_open = check.verdict.is_open();
        let published = known.published();
        drop(known);
        self.measured.notify_all();
        self.published.send_if_modified(|current| {
            *current = published;
            changed
        });
        is_open
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalHealth for Monitor {
    fn wait_until_good(&self, until: Instant, cancelled: &dyn Fn() -> bool) -> Result<(), Unhealthy> {
        let asked = Instant::now();
        let mut known = self.shared.lock();
        if known.lacking(asked).next().is_none() {
            return Ok(());
        }
        let _waiting = Waiting::begin(&self.shared.waiting);
        loop {
            if known.lacking(asked).next().is_none() {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || cancelled() {
                let summary: Vec<_> = known.lacking(asked).map(|check| check.summary()).collect();
                return Err(Unhealthy { summary: summary.join("; ") });
            }
            let waited = self.shared.measured.wait_timeout(known, left.min(LOOK));
            known = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Has the checks hurry for as long as it lives.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|count| *count += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Known {
    fn published(&self) -> HostHealth {
        let checks: Vec<_> = self.checks.iter().map(|check| check.shown.clone()).collect();
        let required = checks.iter().filter(|check| check.required).map(|check| check.health);
        HostHealth { health: Health::worst(required), checks }
    }

    /// The required checks that have not measured good since `asked`.
    fn lacking(&self, asked: Instant) -> impl Iterator<Item = &Check> {
        let lacks =
            move |check: &&Check| check.shown.required && check.good_since.is_none_or(|at| at < asked);
        self.checks.iter().filter(lacks)
    }
}

impl Check {
    fn new(check: &HealthCheck, now: Timestamp) -> Self {
        let shown = CheckHealth {
            name: check.name.clone(),
            kind: match check.probe {
                Probe::Http { .. } => "http",
                Probe::Tcp { .. } => "tcp",
                Probe::Command { .. } => "command",
            },
            health: Health::Unknown,
            required: check.required,
            evidence: "not measured yet".to_owned(),
            since: now,
            measured_at: None,
        };
        let verdict = Verdict::new(check.healthy_after, check.unhealthy_after);
        Self { shown, verdict, good_since: None }
    }

    fn summary(&self) -> String {
        format!("{}: {}", self.shown.name, self.shown.evidence)
    }
}
