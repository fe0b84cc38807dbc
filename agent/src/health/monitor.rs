//! Measures every check at its interval, keeps what was seen, and wakes whoever waits for it.
//!
//! When a restore ends, every check is measured at once, and then at the interval of an open verdict for a while, and until it
//! has one again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rfs_model::RestoreNumber;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::known::{Epoch, HostHealth, Known, Measured, Taken};
use super::probe::{Measurement, Prober};
use crate::config::{HealthCheck, Probe};
use crate::engine::{LocalHealth, Unhealthy};

/// How often a check is measured while its verdict is open, if its interval is longer.
const OPEN: Duration = Duration::from_secs(1);

/// How often a check is measured while somebody waits for it, if its interval is longer.
const AWAITED: Duration = Duration::from_millis(200);

/// How often a waiter asks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Measures in the background for as long as the runtime that it was started on lives.
#[derive(Clone)]
pub struct Monitor {
    shared: Arc<Shared>,
}

struct Shared {
    known: Mutex<Known>,
    /// Rung after each measurement.
    measured: Condvar,
    /// Marked as changed when there is news; always has the newest evidence.
    published: watch::Sender<HostHealth>,
    /// The epoch: changes when a restore ends.
    epoch: watch::Sender<Epoch>,
    /// How many wait for a good measurement: the checks hurry while it is not zero.
    waiting: watch::Sender<usize>,
}

impl Monitor {
    /// Starts to measure `checks` on the present runtime, until `stop` is cancelled.
    pub fn start(checks: Vec<HealthCheck>, prober: &Prober, stop: &CancellationToken) -> Self {
        let known = Known::new(&checks, Instant::now());
        let published = watch::Sender::new(known.published());
        let shared = Arc::new(Shared {
            epoch: watch::Sender::new(known.epoch()),
            known: Mutex::new(known),
            measured: Condvar::new(),
            published,
            waiting: watch::Sender::new(0),
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

    /// How well the host is, and a notice of each change of a verdict, and of measurements while the host settles.
    pub fn health(&self) -> watch::Receiver<HostHealth> {
        self.shared.published.subscribe()
    }
}

impl Shared {
    /// Measures one check for ever.
    async fn watch(&self, index: usize, check: &HealthCheck, prober: &Prober) {
        let mut waiting = self.waiting.subscribe();
        let mut epochs = self.epoch.subscribe();
        loop {
            let epoch = *epochs.borrow_and_update();
            let began = Instant::now();
            let Some(measurement) = measure(check, prober, &mut epochs).await else { continue };
            let measured = Measured { began, ended: Instant::now() };
            let Some(Taken { is_open, .. }) = self.take(index, epoch, measured, measurement) else {
                continue;
            };
            // Somebody began to wait meanwhile: what was measured before does not count for them.
            let just_asked = waiting.has_changed().unwrap_or(false);
            let interval = match (*waiting.borrow_and_update(), is_open) {
                (1.., _) if just_asked => continue,
                (1.., _) => check.interval.min(AWAITED),
                (0, true) => check.interval.min(OPEN),
                (0, false) => check.interval,
            };
            let pause = tokio::time::sleep_until((began + interval).into());
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    changed = epochs.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    changed = waiting.changed() => match changed {
                        Ok(()) if *waiting.borrow() > 0 => break,
                        Ok(()) => {}
                        Err(_) => return,
                    },
                }
            }
        }
    }

    /// Takes a measurement in; none if it does not count any more.
    fn take(&self, index: usize, epoch: Epoch, measured: Measured, found: Measurement) -> Option<Taken> {
        let mut known = self.lock();
        let taken = known.take(index, epoch, measured, found.health, found.evidence)?;
        self.publish(known, taken.is_news);
        self.measured.notify_all();
        Some(taken)
    }

    /// Shows what is known. In the order in which it became known: the lock is given back after it.
    fn publish(&self, known: MutexGuard<'_, Known>, is_news: bool) {
        let published = known.published();
        self.published.send_if_modified(|current| {
            *current = published;
            is_news
        });
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures once; none if a restore ended meanwhile. A program is let end then, so that it never runs twice at once.
async fn measure(
    check: &HealthCheck,
    prober: &Prober,
    epochs: &mut watch::Receiver<Epoch>,
) -> Option<Measurement> {
    let measuring = prober.measure(check);
    tokio::pin!(measuring);
    tokio::select! {
        measurement = &mut measuring => Some(measurement),
        Ok(()) = epochs.changed() => {
            if matches!(check.probe, Probe::Command { .. }) {
                measuring.await;
            }
            None
        }
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

    fn restore_ended(&self, number: RestoreNumber) {
        let mut known = self.shared.lock();
        known.restore_ended(number, Instant::now());
        let epoch = known.epoch();
        self.shared.publish(known, true);
        self.shared.epoch.send_replace(epoch);
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
