//! Brings what the fleet says to the drivers that it concerns.

use std::sync::Arc;
use std::time::Duration;

use rfs_link::Chain;
use tokio::sync::mpsc;
use tracing::warn;

use super::fleet::FleetEvent;
use super::inbox::Told;
use super::operations::Shared;

/// How long to wait before the store is asked again whether there is an operation.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the one channel of the fleet until the coordinator stops.
///
/// It waits for no driver, so that one that is behind, with thousands of reports, holds up neither the others nor the agents'
/// sessions.
pub(super) async fn dispatch(shared: Arc<Shared>, mut events: mpsc::Receiver<FleetEvent>) {
    loop {
        let event = tokio::select! {
            () = shared.stop.cancelled() => return,
            event = events.recv() => event,
        };
        match event {
            Some(FleetEvent::Changed(host)) => {
                for mailbox in shared.directory.of_host(&host) {
                    mailbox.look(host.clone());
                }
                shared.make_room(shared.places.changed(&host));
            }
            Some(FleetEvent::Report { report, stored }) => {
                report_to_driver(&shared, Told { report, stored });
            }
            Some(FleetEvent::Progress(progress)) => {
                if let Some(mailbox) = shared.directory.find(progress.operation) {
                    mailbox.progress(progress);
                }
            }
            Some(FleetEvent::StoreRewound(text)) => {
                for mailbox in shared.directory.all() {
                    mailbox.rewound(text.clone());
                }
            }
            None => return,
        }
    }
}

/// Hands a report to its operation's driver, without waiting. Whether there is an operation that nobody drives is looked up
/// apart.
pub(super) fn report_to_driver(shared: &Arc<Shared>, mut told: Told) {
    while let Some(mailbox) = shared.directory.find(told.report.operation) {
        match mailbox.report(told) {
            None => return,
            // The driver ended a moment ago.
            Some(back) => told = back,
        }
    }
    let late = late(shared.clone(), told);
    shared.tasks.spawn(late);
}

/// A report of an operation that nobody drives: one that is over takes it into its record; of one that is not known there
/// is nothing to keep. Either way the agent may forget it.
async fn late(shared: Arc<Shared>, mut told: Told) {
    let operation = told.report.operation;
    while !shared.stop.is_cancelled() {
        match shared.store.operation(operation).await {
            Ok(None) => {
                // Nobody may wait for it any more.
                let _ = told.stored.send(());
                return;
            }
            Ok(Some(_)) => match shared.drive(operation).report(told) {
                None => return,
                Some(back) => told = back,
            },
            Err(error) => {
                warn!(%operation, error = %Chain(&error), "cannot tell whether a report's operation is known");
                tokio::select! {
                    () = shared.stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }
}
