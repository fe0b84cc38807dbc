//! What the host is at, for everyone who watches.

use std::sync::{Arc, Mutex, PoisonError};

use crate::commander::Activity;

/// Called whenever something has changed; must not wait.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// The present activities, and who is told when it changes.
#[derive(Default)]
pub struct Board {
    /// What was commanded, and waits for its turn or has it.
    activity: Mutex<Option<Activity>>,
    /// What an administrator began.
    by_hand: Mutex<Option<Activity>>,
    wakers: Mutex<Vec<Wake>>,
}

impl Board {
    /// What is being done; what was commanded comes first, also while it waits for the other.
    pub fn activity(&self) -> Option<Activity> {
        let commanded = self.activity.lock().unwrap_or_else(PoisonError::into_inner).clone();
        commanded.or_else(|| self.by_hand.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Shows what is being done by command from now on.
    pub fn show(&self, activity: Option<Activity>) {
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity;
        self.wake();
    }

    /// Shows what is being done for an administrator from now on.
    pub fn show_by_hand(&self, activity: Option<Activity>) {
        *self.by_hand.lock().unwrap_or_else(PoisonError::into_inner) = activity;
        self.wake();
    }

    /// Shows what the command waits for.
    pub fn wait_for(&self, work: Option<&str>) {
        if let Some(activity) = &mut *self.activity.lock().unwrap_or_else(PoisonError::into_inner) {
            activity.waits_for = work.map(str::to_owned);
        }
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
