//! Puts together what a watch with `changes_only` sends, into what a watch without it would show.
//!
//! ```text
//! part begins ─▶ part … ─▶ part that does not continue: whole ─▶ changes … ─▶ whole ─▶ …
//! ```
//!
//! A message without a part is the whole: so a coordinator that sends no parts is followed by the same code.

use std::collections::HashMap;

use crate::v1::{Checkpoint, FleetHealth, HostProgress, HostSnapshot, Rollback, WatchPart, Wave};

/// What was sent so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Held<T>(T);

impl<T: InParts> Held<T> {
    /// Takes a message in, and gives the whole if it is whole with that.
    pub fn take(&mut self, mut message: T) -> Option<&T> {
        let Some(part) = message.part() else {
            self.0 = message;
            return Some(&self.0);
        };
        if part.begins {
            self.0 = T::default();
        }
        self.0.take(message, part.begins);
        (!part.continues).then_some(&self.0)
    }
}

/// What is watched, and may be sent in parts.
pub trait InParts: Default {
    /// Takes out how this message is to be taken in, if it is a part.
    fn part(&mut self) -> Option<WatchPart>;

    /// Takes a later message in. Only one that begins has what cannot change.
    fn take(&mut self, later: Self, begins: bool);

    /// Leaves out what cannot change: a message that does not begin goes without it.
    fn leave_out_what_cannot_change(&mut self);
}

impl InParts for Rollback {
    fn part(&mut self) -> Option<WatchPart> {
        self.part.take()
    }

    fn take(&mut self, mut later: Self, begins: bool) {
        let waves = std::mem::take(&mut later.waves);
        let held = std::mem::replace(self, later);
        self.waves = held.waves;
        if !begins {
            (self.spec, self.create_time) = (held.spec, held.create_time);
            (self.reason, self.requester, self.undo_of) = (held.reason, held.requester, held.undo_of);
            self.left_out = held.left_out;
        }
        for wave in waves {
            take_wave(&mut self.waves, wave);
        }
    }

    fn leave_out_what_cannot_change(&mut self) {
        (self.spec, self.create_time) = (None, None);
        self.left_out.clear();
        for text in [&mut self.reason, &mut self.requester, &mut self.undo_of] {
            text.clear();
        }
    }
}

fn take_wave(waves: &mut Vec<Wave>, mut later: Wave) {
    let place = usize::try_from(later.index).unwrap_or(0).wrapping_sub(1);
    let Some(held) = waves.get_mut(place) else { return waves.push(later) };
    let hosts = std::mem::take(&mut later.hosts);
    later.hosts = std::mem::take(&mut held.hosts);
    *held = later;
    take_hosts(&mut held.hosts, hosts, |host: &HostProgress| &host.host);
}

impl InParts for Checkpoint {
    fn part(&mut self) -> Option<WatchPart> {
        self.part.take()
    }

    fn take(&mut self, mut later: Self, begins: bool) {
        let snapshots = std::mem::take(&mut later.snapshots);
        let held = std::mem::replace(self, later);
        self.snapshots = held.snapshots;
        if !begins {
            (self.kind, self.selector, self.components) = (held.kind, held.selector, held.components);
            (self.deployment_id, self.labels, self.reason) = (held.deployment_id, held.labels, held.reason);
            (self.requester, self.create_time) = (held.requester, held.create_time);
            (self.allow_missing, self.quiesce_timeout) = (held.allow_missing, held.quiesce_timeout);
        }
        take_hosts(&mut self.snapshots, snapshots, |host: &HostSnapshot| &host.host);
    }

    fn leave_out_what_cannot_change(&mut self) {
        (self.kind, self.selector, self.create_time) = (0, None, None);
        (self.allow_missing, self.quiesce_timeout) = (None, None);
        self.components.clear();
        self.labels.clear();
        for text in [&mut self.deployment_id, &mut self.reason, &mut self.requester] {
            text.clear();
        }
    }
}

/// It has no hosts, and so is small, and sent whole each time.
impl InParts for FleetHealth {
    fn part(&mut self) -> Option<WatchPart> {
        None
    }

    fn take(&mut self, later: Self, _: bool) {
        *self = later;
    }

    fn leave_out_what_cannot_change(&mut self) {}
}

fn take_hosts<H>(held: &mut Vec<H>, later: Vec<H>, name: impl Fn(&H) -> &str) {
    if held.is_empty() {
        *held = later;
        return;
    }
    let places: Vec<Option<usize>> = {
        let by_name: HashMap<&str, usize> =
            held.iter().enumerate().map(|(n, host)| (name(host), n)).collect();
        later.iter().map(|host| by_name.get(name(host)).copied()).collect()
    };
    for (host, place) in later.into_iter().zip(places) {
        match place {
            Some(place) => held[place] = host,
            None => held.push(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollback(reason: &str, waves: &[(u32, &[(&str, u64)])], part: Option<(bool, bool)>) -> Rollback {
        let wave = |&(index, hosts): &(u32, &[(&str, u64)])| Wave {
            index,
            hosts: hosts
                .iter()
                .map(|&(host, steps)| HostProgress { host: host.into(), steps, ..Default::default() })
                .collect(),
            ..Default::default()
        };
        Rollback {
            reason: reason.into(),
            waves: waves.iter().map(wave).collect(),
            part: part.map(|(begins, continues)| WatchPart { begins, continues }),
            ..Default::default()
        }
    }

    #[test]
    fn parts_and_changes_make_the_whole_at_each_moment() {
        let mut held = Held::default();
        let begins = rollback("bad", &[(1, &[("a", 0)]), (2, &[("b", 0)])], Some((true, true)));
        assert_eq!(held.take(begins), None, "not whole yet");
        let rest = rollback("", &[(2, &[("c", 0)]), (3, &[("d", 0)])], Some((false, false)));
        let waves: &[(u32, &[(&str, u64)])] =
            &[(1, &[("a", 0)]), (2, &[("b", 0), ("c", 0)]), (3, &[("d", 0)])];
        assert_eq!(held.take(rest), Some(&rollback("bad", waves, None)));
        let change = rollback("", &[(2, &[("c", 7)])], Some((false, false)));
        let waves: &[(u32, &[(&str, u64)])] =
            &[(1, &[("a", 0)]), (2, &[("b", 0), ("c", 7)]), (3, &[("d", 0)])];
        assert_eq!(held.take(change), Some(&rollback("bad", waves, None)));
        let anew = rollback("bad", &[(1, &[("z", 1)])], Some((true, false)));
        assert_eq!(held.take(anew), Some(&rollback("bad", &[(1, &[("z", 1)])], None)));
    }

    #[test]
    fn a_coordinator_that_sends_no_parts_is_followed_all_the_same() {
        let mut held = Held::default();
        for steps in [1, 2] {
            let whole = rollback("bad", &[(1, &[("a", steps)])], None);
            assert_eq!(held.take(whole.clone()), Some(&whole));
        }
    }
}
