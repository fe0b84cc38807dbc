//! One operation, followed by one watcher.

use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::watch;

use super::view::View;

/// The shortest time between two views that one watcher is shown.
pub(crate) const PACE: Duration = Duration::from_millis(50);

/// An operation that somebody follows.
pub(crate) struct Followed {
    /// As it stands.
    pub(crate) first: View,
    /// Where its driver shows it; none if it has an outcome. It may show nothing yet, and ends with the driver.
    pub(crate) live: Option<watch::Receiver<Option<View>>>,
}

impl Followed {
    /// How it stands, then each change that its driver shows, until there is an outcome. Views that a slow watcher misses are
    /// not kept.
    pub(crate) fn views(self) -> impl Stream<Item = View> + Send + use<> {
        let watching = Watching { next: Some(self.first), live: self.live };
        unfold(watching, async |mut watching| Some((watching.next().await?, watching)))
    }
}

/// What one watcher has yet to be shown.
struct Watching {
    next: Option<View>,
    live: Option<watch::Receiver<Option<View>>>,
}

impl Watching {
    async fn next(&mut self) -> Option<View> {
        if let Some(first) = self.next.take() {
            if let Some(live) = &mut self.live {
                // What it stands at is what is shown now, unless the driver is further already.
                let shown = live.borrow_and_update().as_ref().map(|view| view.position);
                if shown.is_some_and(|position| position > first.position) {
                    live.mark_changed();
                }
            }
            return Some(first);
        }
        let live = self.live.as_mut()?;
        tokio::time::sleep(PACE).await;
        loop {
            live.changed().await.ok()?;
            let view = live.borrow_and_update().clone();
            if let Some(view) = view {
                if view.operation.finished() {
                    self.live = None;
                }
                return Some(view);
            }
        }
    }
}
