//! What the workers said is durable, and what must therefore be so.

use std::collections::{BTreeMap, BTreeSet};

use crate::host::Number;

/// Where the live tree may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Live {
    /// At this listing.
    At(Number),
    /// A restore was begun: as before it, or at its target.
    Either { before: Number, target: Number },
    /// A deploy was at work: anything that a deploy leaves.
    Deploying,
}

/// What was said so far.
pub(crate) struct Ledger {
    pub(crate) live: Live,
    /// Committed snapshots and the listings of their states, until they may have been forgotten.
    pub(crate) committed: BTreeMap<String, Number>,
    pub(crate) pinned: BTreeSet<String>,
    /// A collector has been at work since the snapshots were compared last.
    pub(crate) collecting: bool,
    /// What the workers reported as wrong.
    pub(crate) failures: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(live: Number) -> Self {
        Self {
            live: Live::At(live),
            committed: BTreeMap::new(),
            pinned: BTreeSet::new(),
            collecting: false,
            failures: Vec::new(),
        }
    }

    /// Takes a line of a worker.
    pub(crate) fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).expect("a number was said");
        let id = |at: usize| words.get(at).map(|word| (*word).to_owned()).expect("an id was said");
        match words[0] {
            "opened" => self.recovered(words.get(1).copied()),
            "deploying" => self.live = Live::Deploying,
            "deployed" => self.live = Live::At(number(1)),
            "captured" => drop(self.committed.insert(id(2), number(1))),
            "pinned" => drop(self.pinned.insert(id(1))),
            "unpinned" => drop(self.pinned.remove(&id(1))),
            "restoring" => self.live = Live::Either { before: number(1), target: number(2) },
            "restored" => {
                self.live = Live::At(number(1));
                // A restore that had nothing to change has a backup too.
                if let Some(backup) = words.get(3).filter(|backup| !backup.is_empty()) {
                    self.committed.insert((*backup).to_owned(), number(2));
                }
            }
            "refused" => self.recovered(Some("before")),
            "collecting" => self.collecting = true,
            "collected" => self.committed.retain(|id, _| !words[3..].contains(&id.as_str())),
            "failed" => self.failures.push(line.to_owned()),
            "capturing" | "phase" | "verifying" | "verified" | "reading" | "read" => {}
            other => panic!("a worker said {other}"),
        }
    }

    /// What a recovery said of the restore that it brought to an end.
    pub(crate) fn recovered(&mut self, standing: Option<&str>) {
        match (&self.live, standing) {
            (Live::Either { before, .. }, Some("before")) => self.live = Live::At(*before),
            (Live::Either { target, .. }, Some("target")) => self.live = Live::At(*target),
            (_, Some("stuck")) => self.failures.push("the host is stuck".to_owned()),
            // Nothing was open: the restore had not been accepted yet, or had ended already.
            (_, _) => {}
        }
    }
}
