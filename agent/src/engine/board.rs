//! What the host is at, for everyone who watches.

use std::sync::{Arc, Mutex, PoisonError};

use crate::commander::Activity;

/// Called whenever something has changed; must not wait.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// The present activity, and who is told when it changes.
#[derive(Default)]
pub struct Board {
    activity: Mutex<Option<Activity>>,
    wakers: Mutex<Vec<Wake>>,
}

impl Board {
    /// What is being done.
    pub fn activity(&self) -> Option<Activity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows what is being done from now on.
    pub fn show(&self, activity: Option<Activity>) {
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity;
        self.wake();
    }

    /// Has `wake` called at each change.
    pub fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(wake.into());
    }

    /// Tells everyone that something has changed.
    pub fn wake(&self) {
        // Cloned, so that nobody is called while the list is held.
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wakers.iter().for_each(|wake| wake());
    }
}
