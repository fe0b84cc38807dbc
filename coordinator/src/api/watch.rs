//! An operation as a stream: as it stands, then each change, until it has an outcome.

use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{Stream, unfold};
use rfs_link::Failure;
use rfs_model::Reason;
use rfs_rollout::Operation;
use tonic::Status;

use crate::driver::View;

/// What a server streams.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How much less often a watcher is told for each host: a large fleet makes a large message.
const PACE_PER_HOST: Duration = Duration::from_micros(100);

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
            let stopping =
                Failure::new(Reason::Unreachable, "the coordinator is stopping; the operation is not over");
            return Some((Err(stopping.next("watch it again in a moment").into()), None));
        };
        self.rest = PACE_PER_HOST * hosts(&view.operation);
        let shown = (self.show)(&view)?;
        let over = view.operation.finished();
        Some((Ok(shown), (!over).then_some(self)))
    }
}

fn hosts(operation: &Operation) -> u32 {
    let hosts = match operation {
        Operation::Checkpoint(checkpoint) => checkpoint.hosts.len(),
        Operation::Rollback(rollback) => rollback.hosts.len(),
    };
    u32::try_from(hosts).unwrap_or(u32::MAX)
}
