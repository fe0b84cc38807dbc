//! Local health, as the engine asks for it after a restore.

use std::sync::Arc;
use std::time::Instant;

use rfs_model::RestoreNumber;

/// Who knows whether this host is well. The engine asks once, after services have started.
pub trait LocalHealth: Send + Sync {
    /// Waits until every required check has measured good at least once since the call, or until `until`.
    ///
    /// `cancelled` is asked now and then; when it answers yes, this returns an error at once.
    fn wait_until_good(&self, until: Instant, cancelled: &dyn Fn() -> bool) -> Result<(), Unhealthy>;

    /// Restore `number` changes the host no further: it has committed, gone back, or is stuck. What was measured before
    /// says nothing about the host any more; when this returns, nobody is told any of it.
    fn restore_ended(&self, number: RestoreNumber);
}

/// The host was not well in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{summary}")]
pub struct Unhealthy {
    /// Which checks, and what they saw, such as `http: 503 from http://127.0.0.1:8080/healthz`.
    pub summary: String,
}

/// A host without checks: it is taken to be well.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLocalHealth;

impl LocalHealth for NoLocalHealth {
    fn wait_until_good(&self, _until: Instant, _cancelled: &dyn Fn() -> bool) -> Result<(), Unhealthy> {
        Ok(())
    }

    fn restore_ended(&self, _number: RestoreNumber) {}
}

impl<T: LocalHealth + ?Sized> LocalHealth for Arc<T> {
    fn wait_until_good(&self, until: Instant, cancelled: &dyn Fn() -> bool) -> Result<(), Unhealthy> {
        (**self).wait_until_good(until, cancelled)
    }

    fn restore_ended(&self, number: RestoreNumber) {
        (**self).restore_ended(number);
    }
}
