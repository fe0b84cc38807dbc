//! Keeps when hosts were last heard, so that after a restart nobody takes a host for gone that was there until then.

use std::sync::Arc;
use std::time::Duration;

use rfs_link::Chain;
use rfs_model::HostId;
use tokio::time::MissedTickBehavior;
use tracing::warn;

use super::Hub;
use crate::store::Store;

/// How often it is written down. A host counts as gone after days, so that an hour makes no difference.
const EVERY: Duration = Duration::from_secs(3600);

/// Writes down, until the hub stops, which hosts are heard.
pub(super) async fn keep(hub: Hub, store: Arc<dyn Store>) {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = hub.shared.stop.cancelled() => return,
            _ = turns.tick() => write(&hub, &*store).await,
        }
    }
}

async fn write(hub: &Hub, store: &dyn Store) {
    let sessions = hub.shared.roster.sessions(|session| !session.is_silent());
    let hosts: Vec<HostId> = sessions.iter().map(|session| session.host.clone()).collect();
    if hosts.is_empty() {
        return;
    }
    if let Err(error) = store.hosts_heard(&hosts, hub.shared.clock.now()).await {
        warn!(error = %Chain(&error), "when hosts were last heard is not written down; this is tried again in an hour");
    }
}

#[cfg(test)]
mod tests {
    use rfs_model::{Clock as _, Timestamp};

    use super::super::bed::{Opened, enter, open};
    use super::*;
    use crate::driver::fleet::Fleet as _;
    use crate::store::HostSeen;

    #[tokio::test]
    async fn a_host_that_was_heard_until_a_restart_was_seen_until_then() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Opened { hub, store, clock, .. } = open(&folder).await;
        let web: HostId = "web-1".parse().expect("a name");
        let begun = clock.now();
        let seen = |host: &HostId, at| HostSeen {
            host: host.clone(),
            at,
            labels: Default::default(),
            generation: Default::default(),
            inconsistent: false,
            details: String::new(),
            machines: None,
        };
        let gone: HostId = "web-2".parse().expect("a name");
        store.host_seen(seen(&web, begun)).await.expect("a write");
        store.host_seen(seen(&gone, Timestamp(0))).await.expect("a write");
        let _held = enter(&hub, web.clone(), begun);
        clock.advance(Duration::from_secs(45 * 24 * 3600));
        write(&hub, &*store).await;
        store.close().await;

        let Opened { hub, clock, .. } = open(&folder).await;
        assert_eq!(hub.look(&gone, clock.now()).last_seen, None, "it may come back in a moment");
        clock.advance(Duration::from_secs(60));
        assert_eq!(hub.look(&gone, clock.now()).last_seen, Some(Timestamp(0)));
        clock.advance(Duration::from_secs(46 * 24 * 3600));
        assert_eq!(
            hub.look(&web, clock.now()).last_seen,
            Some(begun.plus(Duration::from_secs(45 * 24 * 3600)))
        );
    }
}
