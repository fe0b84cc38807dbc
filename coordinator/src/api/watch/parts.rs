//! Shows an operation in messages of bounded size: all of it, or the waves and hosts that have changed.
//!
//! Each message is made when it is asked for, so that a watcher costs one message, the names that are yet to be sent, and the
//! view that they are shown from.

use std::collections::{BTreeSet, VecDeque};
use std::marker::PhantomData;

use rfs_model::HostId;
use rfs_proto::v1::WatchPart;
use rfs_rollout::Operation;

use super::shown::Shown;
use crate::api::show::Lost;
use crate::driver::View;

/// A message ends once it is this long, with what stands above waves and hosts. It holds at least one host all the same: that
/// has a few KiB of text, so a message stays below the 4 MiB that clients take as long as what stands above does.
const LARGE: usize = 1 << 20;
/// What a host takes besides its fields.
const FRAME: usize = 8;

/// One moment of an operation, as far as it is yet to be sent.
pub(super) struct Parts<T> {
    view: View,
    /// The next message begins the whole.
    begins: bool,
    /// It is the whole that is sent.
    whole: bool,
    /// Waves by their places, and hosts of those waves, in order.
    rest: VecDeque<(usize, Option<HostId>)>,
    /// A message is yet to be sent.
    open: bool,
    /// How much one message takes before another one is begun.
    large: usize,
    /// What was lost since it was complete; none before that is asked.
    lost: Option<Lost>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Shown> Parts<T> {
    /// All of it.
    pub(super) fn whole(view: View) -> Self {
        let waves = (0..T::waves(&view).len()).map(|wave| (wave, None));
        let hosts = T::hosts(&view).into_iter().map(|(wave, host)| (wave, Some(host)));
        let mut rest: Vec<_> = waves.chain(hosts).collect();
        // A stable sort: each wave before its hosts, and those in the order in which they change.
        rest.sort_by_key(|(wave, host)| (*wave, host.is_some()));
        Self { begins: true, whole: true, ..Self::of(view, rest) }
    }

    /// These waves, by their places, and these hosts.
    pub(super) fn changed(
        view: View,
        waves: impl Iterator<Item = usize>,
        hosts: impl Iterator<Item = HostId>,
    ) -> Self {
        let hosts = hosts.map(|host| (T::wave_of(&view, &host), Some(host)));
        let rest: BTreeSet<_> = waves.map(|wave| (wave, None)).chain(hosts).collect();
        Self::of(view, rest)
    }

    fn of(view: View, rest: impl IntoIterator<Item = (usize, Option<HostId>)>) -> Self {
        let rest = rest.into_iter().collect();
        Self {
            view,
            begins: false,
            whole: false,
            rest,
            open: true,
            large: LARGE,
            lost: None,
            kind: PhantomData,
        }
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Option<T> {
        if !self.open {
            return None;
        }
        let mut message = T::head(&self.view);
        if !self.begins {
            message.leave_out_what_cannot_change();
        }
        let (mut bytes, mut wave) = (message.encoded_len(), None);
        // Each message brings something, however much stands above.
        while let Some((place, host)) = self.rest.pop_front() {
            if wave != Some(place) {
                bytes += message.add_wave(&self.view, place) + FRAME;
                wave = Some(place);
            }
            if let Some(host) = host {
                bytes += message.add_host(&self.view, &host) + FRAME;
            }
            if bytes >= self.large {
                break;
            }
        }
        if let Some(lost) = &self.lost {
            message.correct(&self.view, lost);
        }
        self.open = !self.rest.is_empty();
        message.set_part(WatchPart { begins: std::mem::take(&mut self.begins), continues: self.open });
        Some(message)
    }

    /// The same in smaller messages.
    #[cfg(test)]
    pub(super) fn in_messages_of(self, large: usize) -> Self {
        Self { large, ..self }
    }

    /// The operation that is shown.
    pub(super) fn operation(&self) -> &Operation {
        &self.view.operation
    }

    /// How many hosts are yet to be sent.
    pub(super) fn hosts(&self) -> u32 {
        let hosts = self.rest.iter().filter(|(_, host)| host.is_some()).count();
        u32::try_from(hosts).unwrap_or(u32::MAX)
    }

    /// Whether nothing follows it.
    pub(super) fn is_last(&self) -> bool {
        self.view.operation.finished()
    }

    /// Whether it is known what was lost since.
    pub(super) fn is_corrected(&self) -> bool {
        self.lost.is_some()
    }

    /// Shows it without what was lost since. Before the first message is made.
    pub(super) fn correct(&mut self, lost: Lost) {
        if !self.whole {
            let hosts = lost.hosts().map(|host| (T::wave_of(&self.view, host), Some(host.clone())));
            let rest: BTreeSet<_> = self.rest.drain(..).chain(hosts).collect();
            self.rest.extend(rest);
        }
        self.lost = Some(lost);
    }
}
