//! What has changed in an operation since when, for all who watch it: found once for each view, whoever asks first.
//!
//! ```text
//! view ─▶ compared with the one before ─▶ version + 1: these hosts, these waves
//! watcher that has seen version v ─▶ all that changed after v, as it stands now
//! ```
//!
//! A feed keeps the present view, and for each host the version in which it changed last. So a watcher that comes late
//! gets many changes as one, and nothing is kept for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rfs_model::{HostId, OperationId};
use tokio::sync::watch;

use super::parts::Parts;
use super::shown::Shown;
use crate::driver::View;

/// The feeds of the operations that are watched. Cheap to clone.
#[derive(Clone)]
pub(in crate::api) struct Feeds<T: Shown>(Arc<Mutex<HashMap<OperationId, Weak<Feed<T>>>>>);

impl<T: Shown> Default for Feeds<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Shown> std::fmt::Debug for Feeds<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeds").finish_non_exhaustive()
    }
}

impl<T: Shown> Feeds<T> {
    /// The feed of what `live` shows; `first` is how it stands if that shows nothing yet.
    pub(super) fn of(&self, first: View, live: &watch::Receiver<Option<View>>) -> Arc<Feed<T>> {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|_, feed| feed.strong_count() > 0);
        let id = first.operation.id();
        // A driver that has taken the place of another one shows its views elsewhere.
        let known = feeds.get(&id).and_then(Weak::upgrade).filter(|feed| feed.follows(live));
        known.unwrap_or_else(|| {
            let feed = Arc::new(Feed::new(first, live.clone()));
            feeds.insert(id, Arc::downgrade(&feed));
            feed
        })
    }
}

/// What has changed in one operation since when.
pub(super) struct Feed<T: Shown>(Mutex<Now<T>>);

struct Now<T: Shown> {
    live: watch::Receiver<Option<View>>,
    view: View,
    head: T,
    waves: Vec<T::Wave>,
    /// Counts the views that show something else than the one before.
    version: u64,
    /// From a version before this one, changes alone do not lead here.
    whole_since: u64,
    /// In which version each wave changed last, apart from its hosts; 0 if it never did.
    waves_at: Vec<u64>,
    /// In which version each host changed last that ever did, and the hosts of each version.
    hosts_at: HashMap<HostId, u64>,
    hosts_of: BTreeMap<u64, BTreeSet<HostId>>,
}

impl<T: Shown> Feed<T> {
    /// What has changed since `view`, as `live` shows it.
    pub(super) fn new(view: View, live: watch::Receiver<Option<View>>) -> Self {
        let waves = T::waves(&view);
        Self(Mutex::new(Now {
            head: T::head(&view),
            waves_at: vec![0; waves.len()],
            waves,
            live,
            view,
            version: 0,
            whole_since: 0,
            hosts_at: HashMap::new(),
            hosts_of: BTreeMap::new(),
        }))
    }

    fn follows(&self, live: &watch::Receiver<Option<View>>) -> bool {
        self.now().live.same_channel(live)
    }

    /// What a watcher is to be sent that has seen the version `seen`, or nothing yet; none if it has seen all.
    pub(super) fn since(&self, seen: &mut Option<u64>) -> Option<Parts<T>> {
        let mut now = self.now();
        now.catch_up();
        let before = seen.replace(now.version);
        match before {
            Some(version) if version == now.version => None,
            Some(version) if version >= now.whole_since => Some(now.changes(version)),
            Some(_) | None => Some(Parts::whole(now.view.clone())),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Shown> Now<T> {
    fn catch_up(&mut self) {
        let Some(view) = self.live.borrow_and_update().clone() else { return };
        let same = Arc::ptr_eq(&view.operation, &self.view.operation)
            && Arc::ptr_eq(&view.progress, &self.view.progress)
            && Arc::ptr_eq(&view.outside, &self.view.outside);
        // What was read from the store may be newer than what the driver shows yet.
        if same || view.position < self.view.position {
            return;
        }
        let (head, waves) = (T::head(&view), T::waves(&view));
        match T::changed(&self.view, &view).filter(|_| waves.len() == self.waves.len()) {
            Some(hosts) => self.note(hosts, &head, &waves),
            None => self.begin_anew(waves.len()),
        }
        (self.view, self.head, self.waves) = (view, head, waves);
    }

    fn note(&mut self, hosts: BTreeSet<HostId>, head: &T, waves: &[T::Wave]) {
        let next = self.version + 1;
        let pairs = self.waves.iter().zip(waves).enumerate();
        let changed: Vec<usize> = pairs.filter(|(_, (was, is))| was != is).map(|(place, _)| place).collect();
        if hosts.is_empty() && changed.is_empty() && self.head == *head {
            return;
        }
        self.version = next;
        for place in changed {
            self.waves_at[place] = next;
        }
        for host in &hosts {
            let Some(last) = self.hosts_at.insert(host.clone(), next) else { continue };
            if let Some(others) = self.hosts_of.get_mut(&last) {
                others.remove(host);
                if others.is_empty() {
                    self.hosts_of.remove(&last);
                }
            }
        }
        if !hosts.is_empty() {
            self.hosts_of.insert(next, hosts);
        }
    }

    fn begin_anew(&mut self, waves: usize) {
        self.version += 1;
        self.whole_since = self.version;
        self.waves_at = vec![0; waves];
        self.hosts_at.clear();
        self.hosts_of.clear();
    }

    /// All that changed after `version`.
    fn changes(&self, version: u64) -> Parts<T> {
        let waves = self.waves_at.iter().enumerate().filter(|(_, at)| **at > version);
        let hosts = self.hosts_of.range(version + 1..).flat_map(|(_, hosts)| hosts.iter().cloned());
        Parts::changed(self.view.clone(), waves.map(|(place, _)| place), hosts)
    }
}
