//! Remembers what the plans that were shown would remove, so that a restore names what came since.
//!
//! Whatever came is in the backup; this only tells which of it nobody had seen. Kept in memory, of the last few plans, each of so
//! many losses at most: after a restart of the agent, or of a larger plan, all losses are told and none as new.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use rfs_model::SnapshotId;

use super::choice::Plan;
use super::receipt::Listed;
use crate::commander::Selection;
use crate::component::choices::Choices;

/// How many plans are remembered.
const PLANS: usize = 8;
/// How many losses of one; each takes 8 bytes.
const LOSSES: usize = 250_000;

/// The plans that were shown last.
#[derive(Default)]
pub(super) struct ShownPlans {
    plans: Mutex<VecDeque<Shown>>,
    hasher: RandomState,
}

/// What is planned: the same again is the same plan, made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) target: SnapshotId,
    pub(super) selection: Selection,
    pub(super) choices: Choices,
}

struct Shown {
    key: Key,
    /// The paths that it would remove, hashed and sorted.
    losses: Vec<u64>,
}

impl ShownPlans {
    /// A plan is shown to somebody.
    pub(super) fn remember(&self, key: Key, plan: &Plan<'_>) {
        let mut losses = Vec::new();
        plan.each_loss(&mut |path, _| {
            if losses.len() <= LOSSES {
                losses.push(self.hasher.hash_one(path));
            }
        });
        losses.sort_unstable();
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|shown| shown.key != key);
        if losses.len() > LOSSES {
            return;
        }
        plans.push_back(Shown { key, losses });
        if plans.len() > PLANS {
            plans.pop_front();
        }
    }

    /// What a plan would remove that the last one which was shown of the same did not; none if none was shown.
    pub(super) fn since(&self, key: &Key, plan: &Plan<'_>) -> Listed {
        let mut appeared = Listed::default();
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(shown) = plans.iter().find(|shown| shown.key == *key) else { return appeared };
        plan.each_loss(&mut |path, bytes| {
            if shown.losses.binary_search(&self.hasher.hash_one(path)).is_err() {
                appeared.count += 1;
                appeared.bytes.0 += bytes;
                if appeared.first.len() < Listed::NAMED {
                    appeared.first.push(path.to_owned());
                }
            }
        });
        appeared
    }
}
