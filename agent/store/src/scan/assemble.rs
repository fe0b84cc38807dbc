//! Puts what was found in the order of the paths.

use std::collections::HashMap;

use super::Walked;
use crate::flags;
use crate::tree::{Entry, EntryKind, Meta};
use crate::walk::{self, Child, Found, Listing, Live, Xattrs};

/// The inodes that have several names in the component.
#[derive(Debug, Default)]
pub(super) struct Links {
    names: HashMap<(u64, u64), u32>,
    numbers: HashMap<(u64, u64), u32>,
}

impl Links {
    pub(super) fn count(&mut self, walked: &Walked) {
        let children = walked.listings.iter().flatten().flat_map(|listing| &listing.children);
        let lives = children.filter(|child| child.is_there()).map(|child| &child.live).chain([&walked.top]);
        for live in lives.filter(|live| live.links > 1 && live.found == Found::File) {
            *self.names.entry((live.mount, live.ino)).or_default() += 1;
        }
    }

    /// The number of the inode, given in the order of the tree, if it has several names.
    fn number(&mut self, live: &Live) -> Option<u32> {
        let key = (live.mount, live.ino);
        if live.links < 2 || self.names.get(&key).is_none_or(|names| *names < 2) {
            return None;
        }
        let next = self.numbers.len() as u32;
        Some(*self.numbers.entry(key).or_insert(next))
    }
}

/// All entries of a root.
pub(super) fn assemble(walked: Walked, links: &mut Links) -> Vec<Entry> {
    let Walked { top, itself, mut listings, .. } = walked;
    if let Some(itself) = itself {
        return vec![entry(Vec::new(), &top, itself, links)];
    }
    let count = listings.iter().flatten().map(|listing| listing.children.len()).sum::<usize>() + 1;
    let mut entries = Vec::with_capacity(count);
    let Some(Some(first)) = listings.first_mut() else { return entries };
    entries.push(folder(Vec::new(), &top, std::mem::take(&mut first.xattrs)));
    let mut order = Vec::new();
    steps(0, first, &mut order);
    while let Some(step) = order.pop() {
        match step {
            Step::Below(number) => {
                if let Some(listing) = &listings[number] {
                    steps(number, listing, &mut order);
                }
            }
            Step::Child(parent, child) => {
                let Some(listing) = &mut listings[parent] else { continue };
                let path = walk::join(&listing.path, listing.name(&listing.children[child]));
                let Child { live, resolved, below, .. } = &mut listing.children[child];
                let live = *live;
                if let Some(resolved) = resolved.take() {
                    entries.push(entry(path, &live, resolved, links));
                } else if let Some(below) = below.map(|below| below.listing as usize)
                    && let Some(own) = &mut listings[below]
                {
                    // A folder that vanished has no listing.
                    entries.push(folder(path, &live, std::mem::take(&mut own.xattrs)));
                }
                // The last child by name is also the last to come.
                if listings[parent].as_ref().is_some_and(|listing| listing.children.len() == child + 1) {
                    listings[parent] = None;
                }
            }
        }
    }
    entries
}

/// What is put in order: a child itself, and, at its own place, all that is beneath it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Child(usize, usize),
    Below(usize),
}

/// Adds the steps of a listing, the last first.
///
/// By the order of whole paths `a-b` stands between `a` and `a/c`, so what is beneath a folder has a place of its own.
fn steps(number: usize, listing: &Listing, order: &mut Vec<Step>) {
    if listing.children.iter().all(|child| child.below.is_none()) {
        order.extend((0..listing.children.len()).rev().map(|i| Step::Child(number, i)));
        return;
    }
    let mut keys: Vec<(&[u8], &[u8], Step)> = Vec::with_capacity(listing.children.len() * 2);
    for (i, child) in listing.children.iter().enumerate() {
        let name = listing.name(child);
        keys.push((name, b"", Step::Child(number, i)));
        if let Some(below) = child.below {
            keys.push((name, b"/", Step::Below(below.listing as usize)));
        }
    }
    keys.sort_unstable_by(|a, b| b.0.iter().chain(b.1).cmp(a.0.iter().chain(a.1)));
    order.extend(keys.into_iter().map(|(.., step)| step));
}

fn folder(path: Vec<u8>, live: &Live, xattrs: Xattrs) -> Entry {
    Entry { path, meta: meta(live, xattrs), kind: EntryKind::Directory }
}

fn entry(path: Vec<u8>, live: &Live, (xattrs, mut kind): (Xattrs, EntryKind), links: &mut Links) -> Entry {
    if let EntryKind::File { link, .. } = &mut kind {
        *link = links.number(live);
    }
    Entry { path, meta: meta(live, xattrs), kind }
}

fn meta(live: &Live, mut xattrs: Xattrs) -> Meta {
    // What cannot be kept was told, and is no part of the state.
    xattrs.retain(|(name, _)| name != flags::NOT_KEPT_NAME);
    let (mtime_seconds, mtime_nanos) = live.mtime;
    Meta { mode: live.mode, uid: live.uid, gid: live.gid, mtime_seconds, mtime_nanos, xattrs }
}
