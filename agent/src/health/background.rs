//! Health for a process without a runtime of its own, such as a restore without the daemon.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use rfs_model::RestoreNumber;
use tokio_util::sync::CancellationToken;

use super::monitor::Monitor;
use super::probe::Prober;
use super::program::RunsPrograms;
use crate::config::HealthCheck;
use crate::engine::{LocalHealth, Unhealthy};

/// Measures on a thread of its own until it is dropped.
pub struct Background {
    monitor: Monitor,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts to measure `checks`.
    pub fn start(checks: Vec<HealthCheck>, programs: Arc<dyn RunsPrograms>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, (sender, receiver)) = (CancellationToken::new(), mpsc::sync_channel(1));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(move || {
            runtime.block_on(async {
                let prober = Prober::new(&checks, programs);
                let monitor = Monitor::start(checks, &prober, &stopped);
                // The receiver waits for nothing else.
                let _ = sender.send(monitor);
                stopped.cancelled().await;
            });
        })?;
        let monitor = receiver.recv().map_err(|_| io::Error::other("the thread of the checks ended"))?;
        Ok(Self { monitor, stop, thread: Some(thread) })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was shown when it happened.
            let _ = thread.join();
        }
    }
}

impl LocalHealth for Background {
    fn wait_until_good(&self, until: Instant, cancelled: &dyn Fn() -> bool) -> Result<(), Unhealthy> {
        self.monitor.wait_until_good(until, cancelled)
    }

    fn restore_ended(&self, number: RestoreNumber) {
        self.monitor.restore_ended(number);
    }
}
