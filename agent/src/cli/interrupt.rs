//! Work that is interrupted ends as if its time were up: a restore goes back, and what was made quiet resumes.

use std::sync::{Arc, mpsc};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::engine::Engine;

/// From now on the first SIGINT or SIGTERM ends what runs, a restore by going back; at the second the process ends, and the
/// next start recovers.
pub(super) fn ends_work(engine: Arc<Engine>) {
    let (in_place, is_in_place) = mpsc::channel::<()>();
    let listen = move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut interrupt, mut terminate) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            // The handlers are in place: the caller may begin the work.
            drop(in_place);
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            engine.interrupt();
            next().await;
            std::process::exit(1)
        })
    };
    // Without it an interruption ends the process, and the next start recovers.
    let _ = thread::Builder::new().name("signals".into()).spawn(listen);
    // Fails at once, too, if the thread or its handlers could not be set up: then the work begins without them.
    let _ = is_in_place.recv();
}
