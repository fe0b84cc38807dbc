//! Writes down which hosts have come in, many with one commit: a fleet that comes back all at once costs a few commits
//! instead of one for each host.

use std::sync::Arc;

use rfs_link::Failure;
use rfs_model::{OperationId, Reason};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::api::store_failure;
use crate::store::{HostSeen, Store};

/// How many hosts may wait to be written down.
const WAITING: usize = 1024;
/// How many are written down at once.
const TOGETHER: usize = 256;

/// Told which operation owns the host.
type Written = oneshot::Sender<Result<Option<OperationId>, Failure>>;
type Entry = (HostSeen, Written);

/// The register. It is kept until it is dropped.
#[derive(Debug)]
pub(super) struct Register(mpsc::Sender<Entry>);

impl Register {
    /// Begins to write into `store`.
    pub(super) fn keep(store: Arc<dyn Store>) -> Self {
        let (entries, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(store, waiting));
        Self(entries)
    }

    /// Writes a host down; it is durable when this returns. Gives the operation that owns the host.
    pub(super) async fn write(&self, seen: HostSeen) -> Result<Option<OperationId>, Failure> {
        let (written, answer) = oneshot::channel();
        let gone = || Failure::new(Reason::Internal, "the register of hosts is not kept any more");
        self.0.send((seen, written)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn write(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<Entry>) {
    let mut entries = Vec::with_capacity(TOGETHER);
    while waiting.recv_many(&mut entries, TOGETHER).await > 0 {
        let (seen, written): (Vec<_>, Vec<_>) = entries.drain(..).unzip();
        // Who came in may have left already.
        match store.hosts_seen(seen).await {
            Ok(owners) => written.into_iter().zip(owners).for_each(|(written, owner)| {
                let _ = written.send(Ok(owner));
            }),
            Err(error) => {
                let failure = store_failure(&error);
                error!(hosts = written.len(), %failure, "hosts that came in were not written down");
                written.into_iter().for_each(|written| {
                    let _ = written.send(Err(failure.clone()));
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use rfs_model::{Generation, HostId, Labels, Timestamp};

    use super::*;
    use crate::store::SqliteStore;

    #[tokio::test]
    async fn every_host_is_durable_when_it_is_told_so() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Arc::new(SqliteStore::open(&folder.path().join("c.db")).await.expect("a store"));
        let register = Register::keep(store.clone());
        let write = async |number: u32| {
            let host = HostId::new(&format!("web-{number}")).expect("a name");
            let seen = HostSeen {
                host: host.clone(),
                at: Timestamp(7),
                labels: Labels::new(),
                generation: Generation(u64::from(number)),
                inconsistent: false,
                details: String::new(),
                machines: None,
            };
            register.write(seen).await.expect("written");
            store.host(&host).await.expect("a read").expect("it is there")
        };
        let rows = join_all((0..300).map(write)).await;
        assert!(rows.iter().zip(0..).all(|(row, number)| row.generation == Generation(number)));
    }
}
