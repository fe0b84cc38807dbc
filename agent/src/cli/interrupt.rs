//! An interrupted restore goes back, as one does whose time is up.

use std::sync::Arc;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::engine::Engine;

/// From now on the first SIGINT or SIGTERM lets a running restore go back; at the second the process ends, and the next
/// start recovers.
pub(super) fn goes_back(engine: Arc<Engine>) {
    let listen = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut interrupt, mut terminate) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            engine.cancel_any();
            next().await;
            std::process::exit(1)
        })
    };
    // Without it an interruption ends the process, and the next start recovers.
    let _ = thread::Builder::new().name("signals".into()).spawn(listen);
}
