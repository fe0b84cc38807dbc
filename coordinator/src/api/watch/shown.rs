//! What a watch shows of an operation, piece by piece: its head, its waves, its hosts.
//!
//! Each piece is a pure function of the view, so that what is equal in two views is shown alike, and need not be sent again.

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;
use rfs_model::HostId;
use rfs_proto::v1;
use rfs_proto::watch::InParts;
use rfs_rollout::Hosts;
use rfs_rollout::checkpoint::Checkpoint;
use rfs_rollout::plan::WaveIndex;
use rfs_rollout::rollback::Rollback;

use crate::api::show::{self, Lost};
use crate::driver::View;

/// A kind of operation. Views of another kind show nothing.
pub(in crate::api) trait Shown: InParts + Message + PartialEq + 'static {
    /// A wave without its hosts.
    type Wave: PartialEq + Send + 'static;

    /// It without waves and hosts.
    fn head(view: &View) -> Self;

    /// Its waves; none where its hosts stand side by side.
    fn waves(view: &View) -> Vec<Self::Wave>;

    /// Its hosts in order, each with the place of its wave.
    fn hosts(view: &View) -> Vec<(usize, HostId)>;

    /// The wave of a host, by its place.
    fn wave_of(view: &View, host: &HostId) -> usize;

    /// The hosts that are shown otherwise than before; none if there are others, or in other places.
    fn changed(before: &View, after: &View) -> Option<BTreeSet<HostId>>;

    /// Adds a wave, for its hosts to follow, and says how many bytes that takes.
    fn add_wave(&mut self, view: &View, wave: usize) -> usize;

    /// Adds a host to the last wave, and says how many bytes that takes.
    fn add_host(&mut self, view: &View, host: &HostId) -> usize;

    /// Says how it is to be taken in.
    fn set_part(&mut self, part: v1::WatchPart);

    /// Shows it without what was lost since it was complete.
    fn correct(&mut self, view: &View, lost: &Lost);
}

impl Shown for v1::Rollback {
    type Wave = v1::Wave;

    fn head(view: &View) -> Self {
        view.rollback().map(show::rollback_head).unwrap_or_default()
    }

    fn waves(view: &View) -> Vec<v1::Wave> {
        let Some(rollback) = view.rollback() else { return Vec::new() };
        let waves = rollback.plan.waves.iter().zip(0..);
        waves.map(|(_, index)| show::wave_head(rollback, WaveIndex(index), &view.outside)).collect()
    }

    fn hosts(view: &View) -> Vec<(usize, HostId)> {
        let Some(rollback) = view.rollback() else { return Vec::new() };
        let waves = rollback.plan.waves.iter().enumerate();
        waves
            .flat_map(|(place, wave)| wave.hosts.iter().map(move |host| (place, host.clone())))
            .filter(|(_, host)| rollback.hosts.contains_key(host))
            .collect()
    }

    fn wave_of(view: &View, host: &HostId) -> usize {
        view.rollback().and_then(|rollback| rollback.hosts.get(host)).map_or(0, |record| record.wave.get())
    }

    fn changed(before: &View, after: &View) -> Option<BTreeSet<HostId>> {
        let (was, is) = (before.rollback()?, after.rollback()?);
        let mut changed = BTreeSet::new();
        if !Arc::ptr_eq(&before.operation, &after.operation) {
            if was.plan.waves != is.plan.waves {
                return None;
            }
            differing(&was.hosts, &is.hosts, &mut changed)?;
        }
        progressed(before, after, &mut changed);
        // Much of what is kept of a host is not shown.
        let shown = |rollback: &Rollback, view: &View, host: &HostId| {
            let record = rollback.hosts.get(host)?;
            Some(show::progress(rollback.id, host, record, view.progress.get(host)))
        };
        changed.retain(|host| shown(was, before, host) != shown(is, after, host));
        Some(changed)
    }

    fn add_wave(&mut self, view: &View, wave: usize) -> usize {
        let (Some(rollback), Ok(index)) = (view.rollback(), u32::try_from(wave)) else { return 0 };
        let wave = show::wave_head(rollback, WaveIndex(index), &view.outside);
        let bytes = wave.encoded_len();
        self.waves.push(wave);
        bytes
    }

    fn add_host(&mut self, view: &View, host: &HostId) -> usize {
        let (Some(rollback), Some(wave)) = (view.rollback(), self.waves.last_mut()) else { return 0 };
        let Some(record) = rollback.hosts.get(host) else { return 0 };
        let shown = show::progress(rollback.id, host, record, view.progress.get(host));
        let bytes = shown.encoded_len();
        wave.hosts.push(shown);
        bytes
    }

    fn set_part(&mut self, part: v1::WatchPart) {
        self.part = Some(part);
    }

    fn correct(&mut self, _: &View, _: &Lost) {}
}

impl Shown for v1::Checkpoint {
    type Wave = ();

    fn head(view: &View) -> Self {
        view.checkpoint().map(show::checkpoint_head).unwrap_or_default()
    }

    fn waves(_: &View) -> Vec<()> {
        Vec::new()
    }

    fn hosts(view: &View) -> Vec<(usize, HostId)> {
        let hosts = view.checkpoint().into_iter().flat_map(|checkpoint| checkpoint.hosts.keys());
        hosts.map(|host| (0, host.clone())).collect()
    }

    fn wave_of(_: &View, _: &HostId) -> usize {
        0
    }

    fn changed(before: &View, after: &View) -> Option<BTreeSet<HostId>> {
        let (was, is) = (before.checkpoint()?, after.checkpoint()?);
        let mut changed = BTreeSet::new();
        if !Arc::ptr_eq(&before.operation, &after.operation) {
            differing(&was.hosts, &is.hosts, &mut changed)?;
        }
        progressed(before, after, &mut changed);
        let shown = |checkpoint: &Checkpoint, view: &View, host: &HostId| {
            let record = checkpoint.hosts.get(host)?;
            Some(show::snapshot(checkpoint.created_at, host, record, view.progress.get(host)))
        };
        changed.retain(|host| shown(was, before, host) != shown(is, after, host));
        Some(changed)
    }

    fn add_wave(&mut self, _: &View, _: usize) -> usize {
        0
    }

    fn add_host(&mut self, view: &View, host: &HostId) -> usize {
        let Some(checkpoint) = view.checkpoint() else { return 0 };
        let Some(record) = checkpoint.hosts.get(host) else { return 0 };
        let shown = show::snapshot(checkpoint.created_at, host, record, view.progress.get(host));
        let bytes = shown.encoded_len();
        self.snapshots.push(shown);
        bytes
    }

    fn set_part(&mut self, part: v1::WatchPart) {
        self.part = Some(part);
    }

    fn correct(&mut self, view: &View, lost: &Lost) {
        let Some(checkpoint) = view.checkpoint().filter(|_| self.state() == v1::checkpoint::State::Complete)
        else {
            return;
        };
        // Each message says how many are missing from all of it.
        let missing = self.missing_count + lost.count(checkpoint);
        lost.correct(self);
        self.missing_count = missing;
    }
}

/// Adds the hosts that have said how far they are, or are said to be no longer.
fn progressed(before: &View, after: &View, into: &mut BTreeSet<HostId>) {
    if !Arc::ptr_eq(&before.progress, &after.progress) {
        let (was, is) = (&before.progress, &after.progress);
        into.extend(is.keys().chain(was.keys()).filter(|host| was.get(*host) != is.get(*host)).cloned());
    }
}

/// Adds the names under which two maps differ; none if they have not the same names.
fn differing<T: PartialEq>(was: &Hosts<T>, is: &Hosts<T>, into: &mut BTreeSet<HostId>) -> Option<()> {
    into.extend(is.changed_since(was)?.cloned());
    Some(())
}
