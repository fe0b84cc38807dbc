//! An operation as a stream: as it stands, then each change, until it has an outcome.
//!
//! ```text
//! driver ─view─▶ ┬─▶ answers: the whole each time, for callers that ask for nothing else
//!                └─▶ feed (one for all watchers of an operation) ─what has changed─▶ changes ─parts─▶ caller
//! ```
//!
//! Either way a watcher that is slow is shown less often, and what it has missed is merged: nothing is kept for it but
//! what it is being sent.

mod feed;
mod parts;
mod shown;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{Stream, unfold};
use rfs_link::Failure;
use rfs_model::Reason;
use rfs_rollout::Operation;
use tokio::sync::watch;
use tonic::Status;

use super::checkpoint::lost_since;
use crate::driver::{Followed, PACE, View};
use crate::store::Store;
use feed::Feed;
use parts::Parts;

pub(super) use feed::Feeds;
pub(super) use shown::Shown;

/// What a server streams.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How much less often a watcher is told for each host that it is told of: a large fleet makes a large message.
const PACE_PER_HOST: Duration = Duration::from_micros(100);
/// How much less often a watcher of changes is told for each host: all of them are compared.
const PACE_PER_COMPARED: Duration = Duration::from_micros(10);

/// Streams what `show` makes of each view. A stream that ends before the outcome says that it is not over.
pub(super) fn answers<T: Send + 'static>(
    views: impl Stream<Item = View> + Send + 'static,
    show: fn(&View) -> Option<T>,
) -> Answers<T> {
    Box::pin(unfold(Some(Watched { views: Box::pin(views), show, rest: Duration::ZERO }), async |watched| {
        watched?.next().await
    }))
}

struct Watched<T> {
    views: Pin<Box<dyn Stream<Item = View> + Send>>,
    show: fn(&View) -> Option<T>,
    rest: Duration,
}

impl<T> Watched<T> {
    async fn next(mut self) -> Option<(Result<T, Status>, Option<Self>)> {
        tokio::time::sleep(self.rest).await;
        let Some(view) = self.views.next().await else {
            return Some((Err(stopping()), None));
        };
        self.rest = PACE_PER_HOST * hosts(&view.operation);
        let shown = (self.show)(&view)?;
        let over = view.operation.finished();
        Some((Ok(shown), (!over).then_some(self)))
    }
}

/// Streams the whole in parts, and then what changes. `store` is given for a checkpoint: once that is over, it is shown without
/// the snapshots that hosts have dropped since.
pub(super) fn changes<T: Shown>(
    followed: Followed,
    feeds: &Feeds<T>,
    store: Option<Arc<dyn Store>>,
) -> Answers<T> {
    let Followed { first, live } = followed;
    let (parts, source) = match live {
        Some(live) => (None, Some((feeds.of(first, &live), live))),
        None => (Some(Parts::whole(first)), None),
    };
    let changes = Changes { parts, seen: None, source, rest: Duration::ZERO, store };
    Box::pin(unfold(Some(changes), async |changes| changes?.next().await))
}

struct Changes<T: Shown> {
    /// What the watcher is being sent.
    parts: Option<Parts<T>>,
    /// The version that it has been sent.
    seen: Option<u64>,
    /// Where more comes from; none if it is over.
    source: Option<(Arc<Feed<T>>, watch::Receiver<Option<View>>)>,
    rest: Duration,
    /// Of a checkpoint: says which snapshots hosts have dropped.
    store: Option<Arc<dyn Store>>,
}

impl<T: Shown> Changes<T> {
    async fn next(mut self) -> Option<(Result<T, Status>, Option<Self>)> {
        loop {
            if let Err(failure) = self.correct().await {
                return Some((Err(failure.into()), None));
            }
            if let Some(message) = self.parts.as_mut().and_then(Parts::next) {
                return Some((Ok(message), Some(self)));
            }
            if self.parts.take().is_some_and(|parts| parts.is_last()) {
                return None;
            }
            let (feed, live) = self.source.as_mut()?;
            // The first look waits for nothing.
            if self.seen.is_some() {
                tokio::time::sleep(self.rest).await;
                if live.changed().await.is_err() {
                    return Some((Err(stopping()), None));
                }
            }
            self.parts = feed.since(&mut self.seen);
            if let Some(parts) = &self.parts {
                let compared = PACE_PER_COMPARED * hosts(parts.operation());
                self.rest = PACE + compared + PACE_PER_HOST * parts.hosts();
            }
        }
    }

    /// What was complete may not be any more.
    async fn correct(&mut self) -> Result<(), Failure> {
        let Some(store) = &self.store else { return Ok(()) };
        let Some(parts) = self.parts.as_mut().filter(|parts| parts.is_last() && !parts.is_corrected()) else {
            return Ok(());
        };
        let Operation::Checkpoint(checkpoint) = parts.operation() else { return Ok(()) };
        parts.correct(lost_since(&**store, checkpoint.id).await?);
        Ok(())
    }
}

fn stopping() -> Status {
    let failure = Failure::new(Reason::Unreachable, "the coordinator is stopping; the operation is not over");
    failure.next("watch it again in a moment").into()
}

fn hosts(operation: &Operation) -> u32 {
    let hosts = match operation {
        Operation::Checkpoint(checkpoint) => checkpoint.hosts.len(),
        Operation::Rollback(rollback) => rollback.hosts.len(),
    };
    u32::try_from(hosts).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
